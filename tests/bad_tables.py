"""Files of metadata gone wrong in the ways that files go wrong: named, seeded variants of a good one."""

import io
import json
import os
import re
import signal
import unicodedata
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from layouts import Layout
from musicmtl.core import CorpusError, generator

TEXT = (".csv", ".tsv", ".txt", ".cls", ".json", ".xml")
# A letter, a digit or a name that has changed into another good one cannot be told from what was meant.
UNDECIDABLE = ("letter", "digit", "punctuation", "cell: ", "flip", "hole", "row gone", "mojibake", "cut", "spaces")
UNDECIDABLE += ("inputs: minus one", "inputs: beyond")


def _any(text: str, changed: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    "Variants in UTF-8 that differ from the text."
    for name, variant in changed.items():
        if variant != text:
            yield name, variant.encode("utf-8", "surrogatepass")


# --- bytes ------------------------------------------------------------------------------------------------------------


def damaged(content: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    "What disks, networks and wrong names do to any file."
    n = len(content)
    yield "empty", b""
    for share in (0.1, 0.5, 0.9):
        yield f"cut at {share}", content[: int(share * n)]
    yield "cut by a byte", content[:-1]
    at = int(rng.integers(n))
    yield "cut anywhere", content[:at]
    yield "flip", content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]
    yield "hole", content[:at] + bytes(len(content[at : at + 40])) + content[at + 40 :]
    yield "noise", rng.bytes(500)
    yield "a page of HTML", b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"
    yield "a pointer of git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    yield "a pickle", b"\x80\x04\x95\x08\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e."
    yield "an image", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00"
    yield "zeros", bytes(1000)
    yield "twice", content + content


# --- text -------------------------------------------------------------------------------------------------------------


def encoded(text: str) -> Iterator[tuple[str, bytes]]:
    "Other encodings and line ends."
    yield "byte-order mark", b"\xef\xbb\xbf" + text.encode()
    yield "two byte-order marks", 2 * b"\xef\xbb\xbf" + text.encode()
    for name in ("latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "cp500"):
        yield name, text.encode(name, "replace")
    marked = b"\xfe\xff" + text.encode("utf-16-be")
    yield "utf-16-be with its mark", marked
    yield "utf-16 cut in a character", marked[:-1]
    yield "half in latin-1", text[: len(text) // 2].encode() + text[len(text) // 2 :].encode("latin-1") + b"\xe9"
    yield from _any(
        text,
        {
            "NFD": unicodedata.normalize("NFD", text),
            "CRLF": text.replace("\n", "\r\n"),
            "CR": text.replace("\n", "\r"),
            "no end of line": text.rstrip("\n"),
            "blank lines": text.replace("\n", "\n\n"),
            "NUL": text[: len(text) // 3] + "\0" + text[len(text) // 3 :],
            "half a character": text[: len(text) // 3] + "\ud800" + text[len(text) // 3 :],
            "mojibake": text.encode().decode("latin-1"),
        },
    )


def _changed(text: str, rng: np.random.Generator, pattern: str, replace) -> str:
    "The text with one match of a pattern replaced."
    matches = list(re.finditer(pattern, text))
    if not matches:
        return text
    match = matches[int(rng.integers(len(matches)))]
    return text[: match.start()] + replace(match[0]) + text[match.end() :]


CELLS = ("", "NA", "None", "nan", "null", "007", "1e5", "inf", "-1", "1,5", "1_0", "१२", "TRUE", "1e400", "[1", "=1+1")
CELLS += (" ", "b'x'", "{}", "[" * 5000, "a" * 20_000, "9" * 5000, "$x$", "../x", "\u202ex", "a\nb", "x\ty", '"', "'")


def rows_gone_wrong(text: str, rng: np.random.Generator, sep: str) -> Iterator[tuple[str, bytes]]:
    "A table whose rows are not as its header says."
    lines = text.splitlines()
    k = int(rng.integers(len(lines) // 2, len(lines)))
    row = lines[k]

    def joined(*rows):
        return "\n".join([*lines[:k], *rows, *lines[k + 1 :]]) + "\n"

    other = {",": ";", "\t": ","}.get(sep, ",")
    yield from _any(
        text,
        {
            "delimiter at every end": text.replace("\n", sep + "\n"),
            "delimiter at a row's end": joined(row + sep),
            "cell too many": joined(row + sep + "more"),
            "cell too few": joined(row.rpartition(sep)[0] or ""),
            "another separator": text.replace(sep, other),
            "bars": text.replace(sep, "|"),
            "one row with another separator": joined(row.replace(sep, other)),
            "quote": joined('"' + row),
            "quote inside": joined(row.replace(sep, sep + '"', 1)),
            "row twice": joined(row, row),
            "row gone": joined(),
            "two rows in one": joined(row + sep + lines[k - 1]),
            "header alone": lines[0] + "\n",
            "no header": "\n".join(lines[1:]) + "\n",
            "header again": joined(row, lines[0]),
            "a column twice": text.replace(lines[0], lines[0] + sep + lines[0].split(sep)[-1], 1),
            "a column of another name": text.replace(lines[0], lines[0].replace("e", "ee", 1), 1),
            "upper case header": text.replace(lines[0], lines[0].upper(), 1),
            "spaces around cells": text.replace(sep, f"{sep}  "),
            "comment": joined("# a remark", row),
            "empty cells": joined(row, sep * row.count(sep)),
            "two thousand cells": joined(row, sep.join(["x"] * 2000)),
            "a cell of three million letters": joined(row + sep + "a" * 3_000_000),
            "row that contradicts": joined(row, _changed(row, rng, r"[^\W\d_]{3,}(?=\W*$)", str.upper)),
        },
    )


def cells_gone_wrong(text: str, rng: np.random.Generator, sep: str) -> Iterator[tuple[str, bytes]]:
    "A table with one cell of another kind, and one letter or digit changed."
    lines = text.splitlines()
    for cell in CELLS:
        k = int(rng.integers(len(lines) // 2, len(lines)))
        cells = lines[k].split(sep)
        cells[int(rng.integers(len(cells)))] = cell
        yield from _any(text, {f"cell: {cell[:8]!r}": "\n".join([*lines[:k], sep.join(cells), *lines[k + 1 :]]) + "\n"})
    yield from _any(
        text,
        {
            "letter": _changed(text, rng, r"[^\W\d_]", lambda letter: "q"),
            "digit": _changed(text, rng, r"\d", lambda digit: str((int(digit) + 1) % 10)),
            "letter gone": _changed(text, rng, r"\w", lambda letter: ""),
            "punctuation": _changed(text, rng, r"[^\w\s]", lambda mark: "~"),
        },
    )


def json_gone_wrong(text: str) -> Iterator[tuple[str, bytes]]:
    "An object of numbers that is something else."
    found = json.loads(text)
    first, second, *_ = found
    other = {
        "numbers as text": {name: str(number) for name, number in found.items()},
        "numbers with a point": {name: float(number) for name, number in found.items()},
        "padded numbers": {name: f"{number:03d}" for name, number in found.items()},
        "value: null": found | {first: None},
        "value: true": found | {second: True},
        "value: list": found | {first: [0]},
        "value: minus": found | {first: -1},
        "value: too large": found | {first: 10**30},
        "value: twice": found | {first: found[second]},
        "value: NaN": found | {first: float("nan")},
        "one gone": {name: number for name, number in found.items() if name != first},
        "last gone": {name: number for name, number in list(found.items())[:-1]},
        "list": list(found),
        "number": 5,
        "null": None,
        "empty object": {},
        "empty name": {"" if name == first else name: number for name, number in found.items()},
        "half a character": {"\ud800" if name == first else name: number for name, number in found.items()},
        "inside out": {str(number): name for name, number in found.items()},
    }
    for name, value in other.items():
        yield name, json.dumps(value).encode()
    yield "trailing comma", text.replace("}", ",}").encode()
    yield "a key twice", text.replace("{", '{"' + first + '": 5, ', 1).encode()
    yield "single quotes", text.replace('"', "'").encode()
    yield "deep", b"[" * 100_000
    yield "digits without end", b'{"a": ' + b"9" * 10_000 + b"}"
    yield "two objects", (text + text).encode()
    yield "indented", json.dumps(found, indent=2).encode()


def xml_gone_wrong(text: str) -> Iterator[tuple[str, bytes]]:
    "Songs that are not as they should be."
    songs = re.findall("<song.*?/>", text)
    entities = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))
    bomb = f'<!DOCTYPE b [<!ENTITY l0 "lol">{entities}]>'
    yield from _any(
        text,
        {
            "no id": text.replace(songs[0], re.sub('id=".*?"', "", songs[0])),
            "empty id": text.replace(songs[0], re.sub('id=".*?"', 'id=""', songs[0])),
            "id twice": text.replace(songs[1], re.sub('id=".*?"', re.search('id=".*?"', songs[0])[0], songs[1])),
            "song that contradicts": text.replace(songs[0], songs[0] + songs[0].replace("NA", "Other")),
            "no songs": re.sub("<song.*?/>", "", text),
            "other ids": text.replace('id="', 'id="9'),
            "no quotes": text.replace('id="', "id="),
            "unknown encoding": text.replace("?>", ' encoding="klingon"?>'),
            "false encoding": text.replace("?>", ' encoding="utf-16"?>'),
            "entities without end": text.replace("<ballroom>", bomb + "<ballroom>").replace("NA", "&l11;"),
            "a file from elsewhere": text.replace(
                "<ballroom>", '<!DOCTYPE b [<!ENTITY x SYSTEM "file:///etc/hostname">]><ballroom>'
            ).replace("NA", "&x;"),
            "deep": text.replace("<ballroom>", "<ballroom>" + "<a>" * 100_000),
        },
    )


# --- arrays -----------------------------------------------------------------------------------------------------------


def _npz(arrays: dict) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _with_member(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def _promise(shape: tuple, dtype: str = "<f8") -> bytes:
    "An .npy file with a header and little else."
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(64)


def npz_gone_wrong(content: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    "Each array missing or of another kind, and archives that promise what they do not hold."
    arrays = dict(np.load(io.BytesIO(content)))
    for name, array in arrays.items():
        others = {key: value for key, value in arrays.items() if key != name}
        yield f"no {name}", _npz(others)
        kinds = {"objects": array.astype(object), "one row less": array[:-1], "one row": array[:1], "none": array[:0]}
        kinds |= {"one dimension more": array[None], "a number": np.array(3), "text": array.astype(str)}
        kinds |= {"upside down": array.T if array.ndim > 1 else np.stack([array, array])}
        kinds |= {"structured": np.zeros(len(array), [("a", "i4"), ("b", "f4")]), "dates": np.zeros(3, "M8[s]")}
        if array.dtype.kind == "U":
            kinds |= {"bytes": np.char.encode(array, "utf-8"), "no UTF-8": np.array([b"\xe9"] * len(array))}
            kinds |= {"shown bytes": np.array([f"b'{text}'" for text in array]), "all the same": array[:1].repeat(9)}
            kinds |= {"NFD": np.array([unicodedata.normalize("NFD", text) for text in array])}
            kinds |= {"empty names": np.zeros(len(array), "U3")}
        else:
            kinds |= {"NaN": np.full(array.shape, np.nan), "infinity": np.full(array.shape, np.inf)}
            kinds |= {"huge": np.full(array.shape, 1e300), "minus one": np.full(array.shape, -1)}
            kinds |= {"complex": array.astype(complex), "beyond": array.astype(np.int64) + 1000}
        for kind, changed in kinds.items():
            yield f"{name}: {kind}", _npz({**others, name: changed})
        yield f"{name}: a promise", _with_member(f"{name}.npy", _promise((10**12,)))
        yield f"{name}: a larger promise", _with_member(f"{name}.npy", _promise((10**9, 10**9, 10**9)))
        yield f"{name}: minus a promise", _with_member(f"{name}.npy", _promise((-1, 5)))
        yield f"{name}: no header", _with_member(f"{name}.npy", b"\x93NUMPY\x01\x00\xff\xff{{{{")
        yield f"{name}: text in the archive", _with_member(f"{name}.npy", b"hello")
        yield f"{name}: eight million zeros", _with_member(f"{name}.npy", _promise((10**6,)) + bytes(8 * 10**6))
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    yield "a single array", file.getvalue()
    at = content.index(b"PK\x01\x02")
    yield "a password", content[: at + 8] + b"\x01\x00" + content[at + 10 :]
    yield "another compression", content[: at + 10] + b"\x63\x00" + content[at + 12 :]


def h5_gone_wrong(content: bytes, folder: Path) -> Iterator[tuple[str, bytes]]:
    "A song's file whose tables and arrays are missing or of another kind."
    import h5py

    n, wide = 125, "analysis/segments_timbre"
    kinds = {"none": np.zeros((0, 12)), "wide": np.zeros((n, 13)), "flat": np.zeros(n), "number": np.float64(3)}
    kinds |= {"NaN": np.full((n, 12), np.nan), "huge": np.full((n, 12), 1e300), "text": np.full((n, 12), b"a")}
    kinds |= {"short": np.zeros((100, 12)), "bool": np.ones((n, 12), bool)}
    changes = {f"{wide}: {kind}": (wide, value) for kind, value in kinds.items()}
    for name in (wide, "analysis/segments_loudness_start", "analysis/songs", "metadata/songs"):
        changes[f"no {name}"] = (name, None)
    id_type = [("track_id", "S32")]
    changes |= {
        "no songs": ("analysis/songs", np.zeros(0, id_type)),
        "two songs": ("analysis/songs", np.zeros(2, id_type)),
        "another song": ("analysis/songs", np.array([(b"TRXXX",)], id_type)),
        "song without an id": ("analysis/songs", np.array([(b"",)], id_type)),
        "an id that is a number": ("analysis/songs", np.array([(3,)], [("track_id", "i4")])),
        "no column": ("analysis/songs", np.array([(3,)], [("id", "i4")])),
        "not a table": ("analysis/songs", np.zeros(1)),
        "artist in latin-1": (
            "metadata/songs",
            np.array([(b"\xe9", b"x")], [("artist_id", "S9"), ("artist_name", "S9")]),
        ),
    }
    for label, (name, value) in changes.items():
        path = folder / "changed.h5"
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            del file[name]
            if value is not None:
                file[name] = value
        yield label, path.read_bytes()
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        del file[wide]
        file.create_dataset(wide, shape=(10**11, 12), chunks=(1000, 12), dtype="f8")
    yield "a promise", path.read_bytes()
    path.unlink()


# --- all of it --------------------------------------------------------------------------------------------------------


def variants(
    path: Path,  # A good file
    seed: int = 0,  # Another seed, other places
) -> Iterator[tuple[str, bytes]]:  # What was done; the content
    "Everything that can be wrong with a file of this kind."
    content, rng = path.read_bytes(), generator("bad table", path.name, seed)
    yield from damaged(content, rng)
    if path.suffix in TEXT:
        text = content.decode()
        yield from encoded(text)
    if path.suffix in (".csv", ".tsv", ".cls"):
        sep = "\t" if "\t" in text else ","
        yield from rows_gone_wrong(text, rng, sep)
        yield from cells_gone_wrong(text, rng, sep)
    elif path.suffix == ".json":
        yield from json_gone_wrong(text)
    elif path.suffix == ".xml":
        yield from xml_gone_wrong(text)
    elif path.suffix == ".npz":
        yield from npz_gone_wrong(content, rng)
    elif path.suffix == ".h5":
        yield from h5_gone_wrong(content, path.parent)


def places(path: Path) -> Iterator[str]:
    "Put other things where the file was, one after another; the file is back in the end."
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    yield "a folder"
    path.rmdir()
    path.symlink_to(path.with_name("nowhere"))
    yield "a link to nothing"
    path.unlink()
    path.symlink_to(path)
    yield "a link to itself"
    path.unlink()
    os.mkfifo(path)
    yield "a pipe"
    path.unlink()
    path.symlink_to("/dev/zero")
    yield "a device"
    path.unlink()
    path.write_bytes(content)


def what(corpus) -> tuple:
    "What is read, and what is said of it."
    if hasattr(corpus, "table"):
        return corpus.fingerprint, corpus.notes
    artists = None if corpus.artist is None else corpus.artist.tolist()
    return (corpus.x.tobytes(), corpus.y.tolist(), corpus.classes, artists), tuple(sorted(corpus.left_out.items()))


class _Hung(BaseException):
    pass


def _stop(*_):
    raise _Hung


def outcome(
    layout: Layout,
    good: tuple,  # `what` of the corpus before
    limit_s: float = 10,
) -> tuple[str, str]:  # "same", "refused", "said", "silent", "unnamed", "raw" or "hung"; the message
    "What reading a damaged corpus comes to."
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found, notes = what(layout.load())
    except CorpusError as error:
        named = any(Path(other).name in str(error) for other in layout.files)  # two files may not fit each other
        return ("refused" if named else "unnamed"), str(error)
    except _Hung:
        return "hung", ""
    except Exception as error:
        return "raw", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if found == good[0]:
        return "same", ""
    return ("said" if said or notes != good[1] else "silent"), "; ".join(map(str, notes))


def outcomes(
    layout: Layout,
    seed: int = 0,
    every: int = 1,  # Take each variant whose number is a multiple of it, counted over all
) -> Iterator[tuple[str, str, str, str]]:  # File, what was done, what came of it, message
    "Damage each file of a layout in every way; the files are as before in the end."
    good, number = what(layout.load()), seed
    for file in layout.files:
        path = layout.root / file
        content = path.read_bytes()
        for name, changed in variants(path, seed):
            number += 1
            if changed == content or number % every:
                continue
            path.write_bytes(changed)
            yield file, name, *outcome(layout, good)
            path.write_bytes(content)
        for name in places(path):
            number += 1
            if not number % every:
                yield file, name, *outcome(layout, good)


def is_undecidable(name: str) -> bool:
    "Is it damage after which the file may still say something good?"
    return name.startswith(UNDECIDABLE)

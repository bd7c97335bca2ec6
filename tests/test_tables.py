"Tables are read as they were meant or refused by line; nothing that a file holds gets past the checks without a word."

import csv
import io
import os
import unicodedata

import h5py
import numpy as np
import pandas as pd
import pytest
from bad_tables import is_undecidable, outcome, outcomes, variants, what
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from layouts import layouts

from musicmtl.core import CorpusError
from musicmtl.tables import (
    CELL,
    files_below,
    hdf5_array,
    is_litter,
    names_of,
    numbers,
    once,
    open_hdf5,
    read_json,
    read_lines,
    read_npz,
    read_table,
    read_xml,
    there,
    unique,
)

CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
CELLS = st.text(CHARACTERS, max_size=8) | st.sampled_from(["NA", "None", "nan", "007", "1e5", 'a"b', "é", "a,b", "\n"])


def plain(text: str) -> str:
    "A cell as it is read: csv keeps it, NFC and stripping change it."
    return unicodedata.normalize("NFC", text.strip())


# --- tables: as meant -------------------------------------------------------------------------------------------------


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5),
    sep=st.sampled_from([",", "\t", ";"]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_whatever_is_written_is_read_again(tmp_path, rows, sep, end, encoding):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=sep, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b", "c"), *rows])
    (tmp_path / "t.csv").write_bytes(text.getvalue().encode(encoding))
    kept = [row for row in rows if any(cell.strip() for cell in row)]
    assume(kept)
    table = read_table(tmp_path / "t.csv", sep=sep)
    assert table.to_numpy().tolist() == [[plain(cell) for cell in row] for row in kept]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\nNA,007\n",
        "\ufeffa,b\nNA,007\n",
        "a,b\r\nNA,007\r\n",
        "a,b\rNA,007\r",
        "a,b\nNA,007",
        "\n\na,b\n\n,\nNA,007\n\n",
        "a,b,\nNA,007,\n",
        "a,b\nNA,007,\n",
        "a,b,,,\nNA,007\n",
        '"a","b"\n"NA","007"\n',
        " a , b\n NA, 007 \n",
        'a, "b"\nNA, "007"\n',
    ],
)
def test_ways_to_write_one_table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, newline="")
    assert read_table(tmp_path / "t.csv").to_dict("list") == {"a": ["NA"], "b": ["007"]}


def test_a_row_is_where_an_editor_shows_it(tmp_path):
    (tmp_path / "t.csv").write_text('a,b\n\n"two\nlines",1\n# no comment,2\n\nx,3\n')
    assert read_table(tmp_path / "t.csv").index.tolist() == [3, 5, 7]
    assert read_table(tmp_path / "t.csv", comment="#").index.tolist() == [3, 7]
    with pytest.raises(CorpusError, match="t.csv: line 7, column 'b': expected a number from 0 to 2, found '3'"):
        numbers(read_table(tmp_path / "t.csv"), "b", "t.csv", 0, 2)


def test_spaces_several_headers_and_none(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("a   b\n1 2\n3    4\n")
    assert read_table(path, sep=" ")["b"].tolist() == ["2", "4"]
    path.write_text(",x,x\n,p,q\nid,,\n7,8,9\n")
    assert read_table(path, header=3).to_dict("list") == {"id": ["7"], "x.p": ["8"], "x.q": ["9"]}
    path.write_text("7,8\n")
    assert read_table(path, names=("p", "q"), columns=("q",)).to_dict("list") == {"q": ["8"]}
    path.write_text(",artist\n0,Ada\n")  # as pandas writes it
    assert read_table(path).to_dict("list") == {"artist": ["Ada"]}


def test_text_has_one_form_but_for_names_of_files(tmp_path):
    (tmp_path / "t.csv").write_text("path,artist\ne\u0301.wav,Be\u0301la\n")
    row = read_table(tmp_path / "t.csv", exact=("path",)).iloc[0]
    assert row["artist"] == "B\u00e9la" and row["path"] == "e\u0301.wav"


# --- tables: refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, error",
    [
        (b"", "t.csv: empty"),
        (b"\n \n", "expected a header of 1 line, found 0"),
        (b"\xef\xbb\xbf", "expected a header of 1 line, found 0"),
        (b"a,b\n", "no rows under the header"),
        (b"a,b\n1,2,3\n", "line 2: expected 2 cells, as there are columns, found 3"),
        (b"a,b\n1,2\n1\n", "line 3: expected 2 cells, as there are columns, found 1"),
        (b'a,b\n1,2\n"1,2\n3,4\n', r"line 3: expected a row divided by commas, found otherwise \(unexpected end"),
        (b'a,b\n"1"2,3\n', "line 2: expected a row divided by commas"),
        (b"a,b,a\n1,2,3\n", "expected each column once, found 'a' again in column 3"),
        (b"a,a\xcc\x81,\xc3\xa1\n1,2,3\n", "expected each column once"),
        (b"a;b\n1;2\n", "expected a column 'a' in a table divided by commas, found a;b"),
        (b"A,b\n1,2\n", "expected a column 'a' .*, found A, b"),
        (b"a,b\nBj\xf6rk,2\n", "line 2: expected text in UTF-8, byte 6 is f6"),
        (b"\xff\xfea\x00\n\x00b", "line 2: expected text in UTF-16, byte 6 is 62"),
        (b"a\0,\0b\0\n\0", "line 1: expected text, found a NUL character"),
        (b"a,b\n1,2\n3,\x00\n", "line 3: expected text, found a NUL character"),
        (b"a,b\n1,2\n" + b"x" * (CELL + 1) + b",2\n", "line 3, column 'a': expected at most 10000, found 10001"),
        (b"a,b\n1," + b"x" * 2_000_000 + b"\n", r"line 2: .*field larger than field limit"),
    ],
)
def test_a_wrong_table_is_refused_by_line(tmp_path, content, error):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=error) as caught:
        read_table(tmp_path / "t.csv", columns=("a",))
    assert "t.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_only_a_file_is_opened(tmp_path):
    path = tmp_path / "t.csv"
    with pytest.raises(CorpusError, match="t.csv: missing"):
        read_table(path)
    path.symlink_to(tmp_path / "nowhere")
    assert there(path)
    with pytest.raises(CorpusError, match="t.csv: cannot be read"):
        read_table(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorpusError, match="expected a file, found a pipe"):
        read_json(path)
    path.unlink()
    path.mkdir()
    for read in (read_table, read_json, read_xml, lambda path: read_npz(path, ["a"]), lambda path: [*read_lines(path)]):
        with pytest.raises(CorpusError, match="t.csv: expected a file, found a folder"):
            read(path)


# --- columns ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.text(max_size=6) | st.floats().map(str) | st.sampled_from(["1_0", "१", "0x1", "1,5", "inf", "1e999", "+.5"]))
def test_a_number_is_finite_or_refused(text):
    table = pd.DataFrame({"a": [text]}, index=[2])
    try:
        (found,) = numbers(table, "a", "t.csv")
    except CorpusError as error:
        assert str(error).startswith("t.csv: line 2, column 'a': expected a number, found")
    else:
        assert found == float(text) and np.isfinite(found) and text.isascii() and "_" not in text


def test_one_key_says_one_thing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("k,v\n1,a\n2,b\n1,a\n")
    assert once(read_table(path), ["k"], path)["k"].tolist() == ["1", "2"]
    with pytest.raises(CorpusError, match="line 4, column 'k': expected each once, found '1' of line 2 again"):
        unique(read_table(path), ["k"], path)
    path.write_text("k,v\n1,a\n2,b\n1,c\n")
    with pytest.raises(CorpusError, match="line 4, column 'k': expected each once, found '1' of line 2 again"):
        once(read_table(path), ["k"], path)


def test_names_come_as_text_or_bytes():
    assert names_of(["a", b"a", np.bytes_(b"a"), "b'a'", 'b"a"', " a "], "k") == ["a"] * 6
    assert names_of([b"e\xcc\x81"], "k") == ["\u00e9"]
    for value, found in ((b"\xe9", "UTF-8"), (3, "found 3"), (None, "found None")):
        with pytest.raises(CorpusError, match=f"k, row 1: .*{found}"):
            names_of(["a", value], "k")


# --- other kinds of files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, found",
    [
        ('{"a": 1', "damaged or cut short"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ('{"\u00e9": 1, "e\u0301": 2}', "the key '\u00e9' twice"),
        ('{"a": NaN}', "NaN, which is no JSON"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_wrong_json(tmp_path, text, found):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CorpusError, match=f"a.json: expected JSON, found .*{found}"):
        read_json(tmp_path / "a.json")


def test_archives_and_songs_promise_no_more_than_they_hold(tmp_path):
    for path in layouts(tmp_path)["msd_songs"].root.rglob("*0.h5"):
        with h5py.File(path, "r+") as file:
            file.create_dataset("large", shape=(10**12,), chunks=(1000,), dtype="f8")
        with open_hdf5(path) as file, pytest.raises(CorpusError, match="TRAAA0.h5: large: expected an array that fits"):
            hdf5_array(path, file, "large")
    np.savez(tmp_path / "a.npz", key=np.array(["a"], object), x=np.zeros(3))
    assert read_npz(tmp_path / "a.npz", ["x"])["x"].tolist() == [0, 0, 0]
    with pytest.raises(CorpusError, match="array 'key': expected numbers or text, found pickled objects"):
        read_npz(tmp_path / "a.npz", ["key"])


def test_litter(tmp_path):
    for name in ("a/x.h5", "a/._x.h5", "__MACOSX/a/x.h5", ".hidden/y.h5", "Thumbs.db", "a/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files_below(tmp_path, ".h5") == ([tmp_path / "a" / "x.h5"], 3)
    assert is_litter("Thumbs.db") and is_litter("a/.DS_Store") and not is_litter("a/MACOSX.h5")


# --- every loader -----------------------------------------------------------------------------------------------------

MEANT = ("byte-order mark", "utf-16", "utf-16-be with its mark", "NFD", "CRLF", "CR", "no end of line", "blank lines")
MEANT += ("delimiter at every end", "delimiter at a row's end", "numbers as text", "padded numbers", "indented")
MEANT += ("sample_key: bytes", "sample_key: shown bytes", "label_map: bytes", "label_map: NFD", "empty cells")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return layouts(tmp_path_factory.mktemp("layouts"))


@pytest.mark.parametrize("name", ["fma", "openmic", "openmic_arrays", "audioset", "magnatagatune", "msd_songs"])
def test_what_can_be_read_as_meant_is(corpora, name):
    layout = corpora[name]
    good, tried = what(layout.load()), set()
    files = [file for file in layout.files if not file.endswith(".h5")]
    for path in (layout.root / file for file in files if name != "openmic_arrays" or file.endswith(".npz")):
        content = path.read_bytes()
        for kind, changed in variants(path):
            if kind in MEANT and not (path.suffix == ".cls" and kind == "empty cells"):
                path.write_bytes(changed)
                assert outcome(layout, good) == ("same", ""), (path.name, kind)
                tried.add(kind)
        path.write_bytes(content)
    assert len(tried) >= (2 if name == "openmic_arrays" else 7)


@pytest.mark.parametrize(
    "name", ["fma", "openmic", "openmic_arrays", "ballroom", "audioset", "magnatagatune", "msd_arrays", "msd_songs"]
)
def test_no_damage_is_a_traceback_or_silent(corpora, name):
    "Every eleventh of some 1,600 variants; the whole is in the notebook of reliability."
    found = list(outcomes(corpora[name], every=11))
    wrong = [case for case in found if case[2] in ("raw", "hung", "unnamed")]
    silent = [case for case in found if case[2] == "silent" and not is_undecidable(case[1])]
    assert not wrong and not silent and len(found) >= 3

"""Small corpora in their published layouts, one folder each, to be read, damaged and read again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from musicmtl.core import generator
from musicmtl.loaders import BALLROOM, load_corpus
from musicmtl.magnatagatune import TAGS
from musicmtl.papers.lstm_ensemble.data import load_msd

ARTISTS = ("NA", "Björk", "None", "007", 'Ada "A." Lee, jr.', "Éliane")  # names that careless readers change


@dataclass(frozen=True)
class Layout:
    "A corpus on disk."

    root: Path
    files: tuple[str, ...]  # What may be damaged, relative to `root`
    load: Callable  # () -> `Corpus` or `SegmentData`


def _quoted(cell) -> str:
    return '"' + str(cell).replace('"', '""') + '"'


def write_table(path: Path, rows: list, sep: str = ",", head: str = ""):
    "Rows of cells as text, those with a comma or a quote in quotes."
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [[_quoted(cell) if set(str(cell)) & set('",\n') else str(cell) for cell in row] for row in rows]
    path.write_text(head + "".join(sep.join(row) + "\n" for row in cells), encoding="utf-8")


def fma(root: Path) -> Layout:
    "Twelve tracks with three header rows, and their genres."
    groups = ("", "album", "artist", "set", "set", "track", "track", "track", "track", "track", "artist")
    names = ("", "title", "name", "split", "subset", "genre_top", "genres_all", "language_code", "tags", "title", "bio")
    rows = [groups, names, ("track_id", *[""] * 10)]
    for k in range(12):
        part, subset = ("training", "validation", "test")[k % 3], ("small", "medium")[k % 2]
        genres, tags = ("[12]", "[12, 25]", "[]")[k % 3], ("[]", "['loud', 'née']")[k % 2]
        about = f"<p>Lives,\nand plays: {k}</p>"
        rows.append((k + 2, "Días", ARTISTS[k % 6], part, subset, "Rock", genres, "en", tags, f"Song {k}", about))
    write_table(root / "fma_metadata" / "tracks.csv", rows)
    genres = [("genre_id", "#tracks", "parent", "title", "top_level"), (12, 1, 0, "Rock", 12), (25, 1, 12, "Punk", 12)]
    write_table(root / "fma_metadata" / "genres.csv", genres)
    files = ("fma_metadata/tracks.csv", "fma_metadata/genres.csv")
    return Layout(root, files, lambda: load_corpus("fma", root, check_files=False))


NAMES = ("accordion", "banjo", "bass", "cello", *(f"organ {k}" for k in range(8)))


def openmic(root: Path, arrays: bool) -> Layout:
    "Ten clips, labelled in a table or in arrays."
    keys = [f"{k:06d}_{3840 * k}" for k in range(10)]
    (root / "audio").mkdir(parents=True)
    for part, chosen in (("train", keys[:7]), ("test", keys[7:])):
        write_table(root / "partitions" / f"split01_{part}.csv", [[key] for key in chosen])
    numbers = ", ".join(f'"{name}": {k}' for k, name in enumerate(NAMES))
    (root / "class-map.json").write_text("{" + numbers + "}")
    rng = generator("layout")
    relevance, mask = rng.random((10, len(NAMES))).round(2), rng.random((10, len(NAMES))) < 0.3
    mask[:, 0] = True
    if arrays:
        np.savez(root / "openmic-2018.npz", Y_true=relevance, Y_mask=mask, sample_key=np.array(keys))
        labels = "openmic-2018.npz"
    else:
        labels = "openmic-2018-aggregated-labels.csv"
        rows = [(keys[row], NAMES[k], relevance[row, k], 3) for row, k in np.argwhere(mask)]
        write_table(root / labels, [("sample_key", "instrument", "relevance", "num_responses"), *rows])
    metadata = [("sample_key", "artist_name", "album_title", "track_title")]
    metadata += [(key, ARTISTS[k % 6], "Días", f"Song {k}") for k, key in enumerate(keys)]
    write_table(root / "openmic-2018-metadata.csv", metadata)
    parts = ("partitions/split01_train.csv", "partitions/split01_test.csv")
    files = ("class-map.json", *parts, labels, "openmic-2018-metadata.csv")
    return Layout(root, files, lambda: load_corpus("openmic", root, valid=0))


def ballroom(root: Path) -> Layout:
    "Two songs of each dance."
    lines = ['<?xml version="1.0"?>\n<ballroom>']
    for number, dance in enumerate(BALLROOM):
        (root / dance).mkdir(parents=True)
        lines.append(f"<{dance}>")
        for k in (100 + 2 * number, 101 + 2 * number):
            (root / dance / f"{k}.mp3").touch()
            lines.append(f'<song id="{k}" artist="Éliane {k % 5}" album="NA" title="None" bpm="128"/>')
        lines.append(f"</{dance}>")
    (root / "extendedballroom_v1.1.xml").write_text("\n".join([*lines, "</ballroom>\n"]), encoding="utf-8")
    return Layout(root, ("extendedballroom_v1.1.xml",), lambda: load_corpus("ballroom", root))


def audioset(root: Path) -> Layout:
    "Eight clips, of which six are music."
    rows = []
    root.mkdir(parents=True)
    for k in range(8):
        label = "/m/04rlf,/m/0342h" if k < 6 else "/m/09x0r"
        rows.append(f'-vid_{k}, {10 * k}.000, {10 * k + 10}.000, "{label}"\n')
        (root / f"-vid_{k}_{10 * k}.wav").touch()
    head = "# made\n# YTID, start_seconds, end_seconds, positive_labels\n"
    (root / "balanced_train_segments.csv").write_text(head + "".join(rows))
    return Layout(root, ("balanced_train_segments.csv",), lambda: load_corpus("audioset", root))


def magnatagatune(root: Path) -> Layout:
    "A clip in each of eight folders."
    rows = [("clip_id", "foreign", *TAGS, "mp3_path")]
    for k, folder in enumerate("012abcd0"):
        path = f"{folder}/ann_lee-day-0{k + 1}-song-{29 * k}-{29 * k + 29}.mp3"
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / path).touch()
        rows.append((k + 10, 0, *(int((j + k) % 7 == 0) for j in range(len(TAGS))), path))
    text = "".join("\t".join(_quoted(cell) for cell in row) + "\n" for row in rows)
    (root / "annotations_final.csv").write_text(text)
    return Layout(root, ("annotations_final.csv",), lambda: load_corpus("magnatagatune", root))


def msd_arrays(root: Path) -> Layout:
    "Thirty songs as the coursework gave them out."
    root.mkdir(parents=True)
    rng, names = generator("layout msd"), np.array([f"stylé {k}" for k in range(10)])
    for part in ("train", "valid"):
        x = rng.normal(size=(10, 3000)).astype(np.float32)
        np.savez(root / f"msd-10-genre-{part}.npz", inputs=x, targets=np.arange(10), label_map=names)
    np.savez(root / "msd-10-genre-test-inputs.npz", inputs=x)
    np.savez(root / "msd-10-genre-test-targets.npz", targets=np.arange(10))
    files = tuple(f"msd-10-genre-{part}.npz" for part in ("train", "valid", "test-inputs", "test-targets"))
    return Layout(root, files, lambda: load_msd(root))


def write_song(path: Path, track: str, artist: str, n: int):
    "One song of the Million Song Dataset, with `n` segments."
    rng = generator("song", track)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["analysis/songs"] = np.array([(track.encode(),)], dtype=[("track_id", "S32")])
        names = [("artist_id", "S32"), ("artist_name", "S1024")]
        file["metadata/songs"] = np.array([(artist.encode(), b"name")], dtype=names)
        for name, shape in {"timbre": (n, 12), "pitches": (n, 12), "loudness_start": (n,)}.items():
            file.create_dataset(f"analysis/segments_{name}", data=rng.normal(size=shape), maxshape=(None, *shape[1:]))


def msd_songs(root: Path) -> Layout:
    "Four songs in files of their own, and their styles."
    for k in range(4):
        write_song(root / "A" / f"TRAAA{k}.h5", f"TRAAA{k}", f"AR{k // 2}", 125)
    rows = "".join(f"TRAAA{k}\t{'Rock' if k % 2 else 'Música'}\n" for k in range(4))
    (root / "styles.cls").write_text("# styles\n" + rows, encoding="utf-8")
    return Layout(root, ("styles.cls", "A/TRAAA0.h5"), lambda: load_msd(root))


def layouts(root: Path) -> dict[str, Layout]:
    "All of them, each in a folder of its own below `root`."
    return {
        "fma": fma(root / "fma"),
        "openmic": openmic(root / "openmic", arrays=False),
        "openmic_arrays": openmic(root / "openmic_arrays", arrays=True),
        "ballroom": ballroom(root / "ballroom"),
        "audioset": audioset(root / "audioset"),
        "magnatagatune": magnatagatune(root / "magnatagatune"),
        "msd_arrays": msd_arrays(root / "msd_arrays"),
        "msd_songs": msd_songs(root / "msd_songs"),
    }

"MagnaTagATune's tags, tracks and splits are those that were published, and owe nothing to Miniature."

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from musicmtl.core import CorpusError, ParamsError
from musicmtl.corpus import Corpus
from musicmtl.loaders import load_corpus
from musicmtl.magnatagatune import SPLITS, TAGS, by_folder, parts_by_folder, tag_matrix, track_numbers


def clips(paths, tags, **columns):
    table = pd.DataFrame({"track_id": [str(k) for k in range(len(paths))], "path": paths, "tags": tags, **columns})
    return Corpus(table, "nowhere", name="clips")


def test_tags_have_the_published_order():
    assert len(TAGS) == len(set(TAGS)) == 50
    assert TAGS[:5] == ("guitar", "classical", "slow", "techno", "strings")
    assert TAGS[-4:] == ("country", "metal", "female voice", "choral")


def test_tags_become_a_matrix():
    corpus = clips(["0/a.mp3", "1/b.mp3", "c/c.mp3"], [["choral", "guitar"], None, ["metal"]])
    y = tag_matrix(corpus)
    assert y.shape == (3, 50) and y.dtype == np.float32
    assert [np.flatnonzero(row).tolist() for row in y] == [[0, 49], [], [47]]
    with pytest.raises(CorpusError, match="'clips': row 0, column 'tags': expected some of the 50 tags, found 'kazoo'"):
        tag_matrix(clips(["0/a.mp3"], [["kazoo"]]))


@pytest.mark.parametrize(
    "split, expected",
    [
        ("homework", ["train", None, "train", "valid", "test", None, None]),
        ("folder", ["train", "train", "train", "valid", "test", "test", "test"]),
        ("clean", ["train", "train", "train", "valid", "test", "test", None]),
    ],
)
def test_splits_go_by_folder(split, expected):
    folders, tagged = "03bcdee", [True] * 6 + [False]
    assert parts_by_folder(folders, tagged, split) == expected
    corpus = clips([f"{f}/{k}.mp3" for k, f in enumerate(folders)], [["harp"] if t else [] for t in tagged])
    parts = {part: [k for k, x in enumerate(expected) if x == part] for part in SPLITS[split]}
    assert {part: rows.tolist() for part, rows in by_folder(corpus, split).parts.items()} == parts


def test_every_folder_is_in_the_usual_splits_once():
    for split in ("folder", "clean"):
        assert sorted("".join(SPLITS[split].values())) == list("0123456789abcdef")


def test_what_does_not_fit_is_named():
    with pytest.raises(ParamsError, match="split: expected one of homework, folder, clean, found 'album'"):
        parts_by_folder("0", [True], "album")
    with pytest.raises(CorpusError, match="row 1, column 'path': expected a folder 0 to f, found 'g/b.mp3'"):
        by_folder(clips(["0/a.mp3", "g/b.mp3"], [["harp"], ["harp"]]))
    with pytest.raises(CorpusError, match="row 1: expected an artist and a title, found .'Ada', 'Day', None"):
        track_numbers(clips(["0/a", "0/b"], [[], []], artist=["Ada", "Ada"], album="Day", title=["Song", None]))


def test_a_track_is_told_by_artist_album_and_title():
    columns = dict(artist=["Ada", "Ada", "Ada", "Ben"], album=["Day", "Day", None, "Day"], title=["Song"] * 4)
    corpus = clips(["0/a", "0/b", "0/c", "0/d"], [[]] * 4, **columns)
    assert track_numbers(corpus).tolist() == [0, 0, 1, 2]


def test_the_corpus_and_its_loaders_do_without_the_synthesiser():
    code = (
        "import sys, musicmtl.magnatagatune, musicmtl.loaders; "
        "print([name for name in sys.modules if name.startswith('musicmtl.miniature')])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "split, counts",
    [("homework", (6206, 1529, 1339)), ("folder", (18_706, 1825, 5329)), ("clean", (15_247, 1529, 4332))],
)
def test_counts_of_the_real_annotations(data, split, counts):
    root = data / "magnatagatune"
    if not (root / "annotations_final.csv").is_file():
        pytest.skip(f"no {root}/annotations_final.csv: MagnaTagATune's annotations cannot be checked")
    corpus = load_corpus("magnatagatune", root, split=split, check_files=False)
    assert tuple(len(corpus.official[part]) for part in ("train", "valid", "test")) == counts

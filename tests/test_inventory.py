"A folder says what became of each of its files, before a study and after it."

import os
import shutil
import sys

import mutagen
import numpy as np
import pandas as pd
import pytest
import soundfile

from musicmtl.core import CorpusError
from musicmtl.folder import load_folder
from musicmtl.inventory import inventory, main, save_inventory, with_inventory
from musicmtl.study.preparation import Data, frequent
from musicmtl.study.settings import CommonSettings

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="names are bytes, and links links, on Linux"),
    pytest.mark.filterwarnings("ignore::musicmtl.folder.FolderWarning"),
]


@pytest.fixture
def music(tmp_path):
    "Ada has three files and a copy of one, Ben two, Cleo one; one nobody; five cannot be used."
    root = tmp_path / "music"
    names = [f"ada {n}.ogg" for n in range(3)] + [f"ben {n}.ogg" for n in range(2)] + ["cleo.ogg", "nobody.ogg"]
    root.mkdir()
    for number, name in enumerate(names):
        soundfile.write(root / name, np.sin(np.arange(16_000) / (10 + number)), 16_000)
        if name != "nobody.ogg":
            file = mutagen.File(root / name, easy=True)
            file.update(artist=name.split(".")[0].split()[0].title())
            file.save()
    shutil.copy(root / "ada 0.ogg", root / "copy.ogg")
    (root / "half.ogg").write_bytes((root / "ada 1.ogg").read_bytes()[:3000])
    (root / "gone.ogg").symlink_to("nowhere.ogg")
    for name in ("empty.mp3", "a.m4a", "b.wma", "cover.jpg", ".DS_Store"):
        (root / name).write_bytes(b"")
    return root


def statuses(found):
    return {status: sorted(files.file) for status, files in found.files.groupby("status")}


def test_every_file_of_sound_is_in_the_list_once_with_what_became_of_it(music):
    corpus = load_folder(music)
    kept, notes = frequent(corpus, "artist", 2)
    rows = [row for row, track in enumerate(kept.table.track_id) if track != "half.ogg"]
    found = inventory(corpus, kept.subset(rows), (*notes, "half.ogg is left out: truncated: no end-of-stream page"))
    assert statuses(found) == {
        "used": ["ada 0.ogg", "ada 1.ogg", "ada 2.ogg", "ben 0.ogg", "ben 1.ogg"],
        "duplicate": ["copy.ogg"],
        "rare artist": ["cleo.ogg"],
        "without artist": ["nobody.ogg"],
        "unreadable": ["empty.mp3", "gone.ogg", "half.ogg"],
        "format": ["a.m4a", "b.wma"],
    }
    assert found.files.file.is_unique and found.beside["not sound"] == 1 and found.beside["hidden"] == 1
    assert found.sentence.startswith("13 files: 5 used, 1 duplicate by content (copy.ogg as ada 0.ogg), 3 unreadable (")
    assert "1 without artist (nobody.ogg)" in found.sentence
    assert "half.ogg (truncated: no end-of-stream page)" in found.sentence


def test_the_sum_of_the_sentence_is_the_number_of_files_and_long_lists_are_cut(music):
    for number in range(20):
        (music / f"{number:02d}.wma").write_bytes(b"")
    found = inventory(load_folder(music))
    assert sum(len(files) for _, files in found.groups()) == len(found.files) == 33
    assert "22 in a format that cannot be decoded here (00.wma, 01.wma, 02.wma, and 19 more)" in found.sentence


def test_a_file_beside_a_table_has_no_row(music):
    (music / "tracks.csv").write_text("path,artist\nada 0.ogg,Ada\nempty.mp3,Ada\n")
    found = statuses(inventory(load_folder(music)))
    assert found["readable"] == ["ada 0.ogg"] and "ada 1.ogg" in found["no row"]
    assert found["unreadable"] == ["empty.mp3", "gone.ogg"]


def test_what_a_study_prepares_begins_with_the_sentence_and_leaves_the_list(music, tmp_path):
    def prepare(settings):
        return Data(*frequent(load_folder(settings.root), "artist", 2))

    settings = CommonSettings(corpus="folder", root=str(music))
    data = with_inventory(prepare, settings)
    assert data.notes[0] == data.inventory.sentence and data.notes[1:] == prepare(settings).notes
    save_inventory(data, tmp_path)
    files = pd.read_csv(tmp_path / "files.csv")
    assert files.set_index("file").status["cleo.ogg"] == "rare artist" and len(files) == 13


def test_a_refusal_names_the_command_that_lists_every_file(music):
    def prepare(settings):
        raise CorpusError("too few")

    with pytest.raises(CorpusError, match="too few; `python -m musicmtl.inventory .*music` lists every file"):
        with_inventory(prepare, CommonSettings(corpus="folder", root=str(music)))


def test_the_command_says_what_there_is(music, tmp_path, capsys):
    assert main([str(music), "--csv", str(tmp_path / "list.csv")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "13 files of sound in music:" and said[1] == "  7 readable"
    assert any(line.startswith("known: artist of 7 (3 in all, 1 with three files or more)") for line in said)
    assert len(pd.read_csv(tmp_path / "list.csv")) == 13
    assert main([str(tmp_path / "nowhere")]) == 2 and "expected a folder" in capsys.readouterr().err


def test_a_name_that_is_not_utf_8_is_listed(tmp_path, capsys):
    name = os.fsencode(tmp_path) + b"/lat\xe4in.ogg"
    try:
        open(name, "wb").close()
    except OSError:
        pytest.skip("this disk takes no such name")
    assert main([str(tmp_path)]) == 0
    assert "lat\\xe4in.ogg" in capsys.readouterr().out


def test_no_song_is_replaced_by_the_list(tmp_path, capsys):
    song = tmp_path / "song.ogg"
    song.write_bytes(b"OggS and more")
    assert main([str(tmp_path), "--csv", str(song)]) == 2
    assert "found another file, which stays as it is" in capsys.readouterr().err
    assert song.read_bytes() == b"OggS and more"

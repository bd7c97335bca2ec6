"A library becomes one table, however often the tagger is stopped."

import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from musicmtl.core import ParamsError, generator
from musicmtl.musicnn import Musicnn
from musicmtl.papers.tagging.library import main, tag_library
from musicmtl.papers.tagging.model import LinearEmbedding
from musicmtl.papers.tagging.tagger import Tagger, save_net


@pytest.fixture
def library(tmp_path):
    "Three songs, in folders; one file too short, one no sound, one in a format of phones."
    root = tmp_path / "music"
    for number, path in enumerate(("b/one.ogg", "a/two.wav", "three.flac")):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, 0.1 * generator("library", number).normal(size=64_000), 16_000)
    soundfile.write(root / "short.wav", np.zeros(16_000), 16_000)
    (root / "words.mp3").write_text("no music")
    (root / "phone.m4a").write_bytes(b"")
    return root


class Counting(Tagger):
    "Remembers what it has heard, and stops where it is told to."

    def __init__(self, *args, stop_after=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.heard, self.stop_after = [], stop_after

    def tag(self, path, **options):
        self.heard.append(path.name)
        if len(self.heard) == self.stop_after:
            raise KeyboardInterrupt
        return super().tag(path, **options)


def counting(**options):
    return Counting(Tagger.load().net, Tagger.load().classes, **options)


def test_the_table_has_a_row_per_file_with_tags_or_a_reason(library, tmp_path):
    table = tag_library(library, tmp_path / "tags.csv").set_index("file")
    assert list(table.index) == ["a/two.wav", "b/one.ogg", "phone.m4a", "short.wav", "three.flac", "words.mp3"]
    assert table.status.tolist() == ["tagged", "tagged", "left out", "left out", "tagged", "left out"]
    assert table.reason["short.wav"] == "shorter than one window of 3 s" and "text" in table.reason["words.mp3"]
    direct = Tagger.load().tag(library / "a" / "two.wav")
    assert table.top["a/two.wav"] == "|".join(direct.top(5).index)
    assert float(table["tag: rock"]["a/two.wav"]) == round(float(direct.top(50)["rock"]), 4)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("tags")] == ["tags.csv"]


@pytest.mark.parametrize("files", [1, 2, 3, 4])
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(library, tmp_path, files):
    tag_library(library, tmp_path / "whole.csv")
    with pytest.raises(KeyboardInterrupt):
        tag_library(library, tmp_path / "tags.csv", first := counting(stop_after=files))
    assert not (tmp_path / "tags.csv").exists()
    tag_library(library, tmp_path / "tags.csv", second := counting())
    assert (tmp_path / "tags.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert second.heard == "two.wav one.ogg short.wav three.flac words.mp3".split()[files - 1 :]
    assert first.heard[-1] == second.heard[0]


def test_a_line_cut_off_a_changed_file_and_other_weights_are_heard_again(library, tmp_path):
    def stopped(out):
        with pytest.raises(KeyboardInterrupt):
            tag_library(library, tmp_path / out, counting(stop_after=4))
        return tmp_path / f"{out}.journal"

    journal = stopped("cut.csv")
    journal.write_text(journal.read_text()[:-30])
    tag_library(library, tmp_path / "cut.csv", again := counting())
    assert again.heard[0] == "short.wav"

    stopped("changed.csv")
    soundfile.write(library / "b" / "one.ogg", 0.2 * generator("another").normal(size=80_000), 16_000)
    tag_library(library, tmp_path / "changed.csv", again := counting())
    assert again.heard == ["one.ogg", "three.flac", "words.mp3"]


def test_what_was_stopped_is_not_lost_to_another_question(library, tmp_path):
    "Nor to an option that cannot be."
    with pytest.raises(KeyboardInterrupt):
        tag_library(library, tmp_path / "tags.csv", counting(stop_after=4))
    before = (journal := tmp_path / "tags.csv.journal").read_bytes()
    other = Tagger(Musicnn(width_divisor=32), Tagger.load().classes)
    for options in ({"tagger": other}, {"embeddings": True}, {"hop_s": 1.0}):
        with pytest.raises(ParamsError, match="expected the same --weights.* after 3 files, found others; remove it"):
            tag_library(library, tmp_path / "tags.csv", **options)
    for hop_s in (5.0, float("nan"), "1"):
        with pytest.raises(ParamsError, match="hop_s: expected seconds above 0 and up to 3"):
            tag_library(library, tmp_path / "tags.csv", hop_s=hop_s)
    assert journal.read_bytes() == before
    tag_library(library, tmp_path / "tags.csv", again := counting())
    assert again.heard[0] == "three.flac"


def test_no_file_but_an_earlier_table_is_replaced(library, tmp_path, capsys):
    song, before = str(library / "three.flac"), (library / "three.flac").read_bytes()
    for out, words in ((song, "found another file, which stays as it is"), (str(tmp_path), "found a folder")):
        assert main([str(library), "--out", out]) == 2
        assert words in capsys.readouterr().err
    assert (library / "three.flac").read_bytes() == before and not list(tmp_path.glob("*.journal"))
    assert len(tag_library(library, tmp_path / "tags.csv")) == len(tag_library(library, tmp_path / "tags.csv")) == 6


@pytest.mark.parametrize(
    "option, words",
    [
        (("--device", "toaster"), "--device toaster: expected a device that torch has here"),
        (("--classes", "three.flac"), "three.flac: expected names of tags, one a line, found no text"),
        (("--classes", "many.txt"), "expected the names of the network's 50 outputs, found 1001 names"),
        (("--hop", "nan"), "hop_s: expected seconds above 0 and up to 3, found nan"),
    ],
)
def test_an_impossible_option_is_one_sentence(option, words, library, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(library)
    (library / "many.txt").write_text("\n".join(map(str, range(1001))))
    assert main([str(library), "--out", str(tmp_path / "tags.csv"), *option]) == 2
    assert words in capsys.readouterr().err


def test_a_journal_of_something_else_is_no_obstacle(library, tmp_path):
    (tmp_path / "tags.csv.journal").write_text(json.dumps(["what"]) + "\nis this\n")
    assert len(tag_library(library, tmp_path / "tags.csv")) == 6


def test_embeddings_are_those_of_the_tagger(library, tmp_path):
    table = tag_library(library, tmp_path / "both.csv", embeddings=True).set_index("file")
    direct = Tagger.load().embed(library / "three.flac").overall
    columns = [column for column in table if column.startswith("embedding ")]
    np.testing.assert_allclose(table.loc["three.flac", columns].astype(float), direct, rtol=1e-4, atol=1e-5)
    assert table.top["three.flac"] == "|".join(Tagger.load().tag(library / "three.flac").top(5).index)
    alone = tag_library(library, tmp_path / "alone.csv", Tagger(LinearEmbedding(8)))
    assert [column for column in alone if "tag:" in column] == [] and "embedding 7" in alone


def test_a_silent_file_is_tagged_and_the_row_says_so(tmp_path):
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "silence.wav", np.zeros(64_000), 16_000)
    row = tag_library(tmp_path / "music", tmp_path / "tags.csv").iloc[0]
    assert row.status == "tagged" and "silence" in row.reason and row.windows == 1


def test_what_cannot_be_tagged_is_said(tmp_path):
    with pytest.raises(ParamsError, match="root: expected a folder, found"):
        tag_library(tmp_path / "nowhere", tmp_path / "tags.csv")
    with pytest.raises(ParamsError, match="expected a folder with music, found no file of sound"):
        tag_library(tmp_path, tmp_path / "tags.csv")


def test_the_command_takes_weights_and_names(library, tmp_path, capsys):
    net, out = Musicnn(3, width_divisor=32), tmp_path / "tags.csv"
    save_net(net, tmp_path / "net.pt")
    (tmp_path / "names.txt").write_text("sea\nwind\nrain\n")
    assert main([str(library), "--out", str(out), "--weights", str(tmp_path / "net.pt")]) == 0
    assert "tag: 2" in pd.read_csv(out)
    assert capsys.readouterr().out.startswith(f"6 files: 3 tagged, 3 left out; {out}\n  phone.m4a: in a format")
    names = ["--classes", str(tmp_path / "names.txt")]
    assert main([str(library), "--out", str(out), "--weights", str(tmp_path / "net.pt"), *names]) == 0
    assert "tag: rain" in pd.read_csv(out)
    assert main([str(library), "--out", str(out), "--weights", str(library / "words.mp3")]) == 2
    assert main([str(library), "--out", str(out), *names]) == 2
    assert "expected the names of the network's 50 outputs" in capsys.readouterr().err

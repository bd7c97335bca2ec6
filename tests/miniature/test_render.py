"The audio: the same in any order and process, complete after an interruption, and as the world says."

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from hearing import assert_sounds, tempo_near

from musicmtl.core import MADE_UP, ParamsError, atomic, made_up
from musicmtl.loaders import load_corpus
from musicmtl.miniature import GENRES, SR, miniature, render, render_track, world
from musicmtl.miniature.render import main, remove
from musicmtl.miniature.world import MODES

SMALL = {"base": "smoke", "duration_s": 3.0}


@pytest.fixture(scope="module")
def mini():
    return world("mini")


def test_rendering_is_deterministic_in_any_order_and_process(tmp_path):
    corpus = miniature(size=SMALL, root=tmp_path / "a", n_jobs=1)
    paths = [corpus.path(i) for i in range(len(corpus))]
    small = world(SMALL)
    for i in (17, 3):  # alone, in another order
        with atomic(tmp_path / f"{i}.wav") as tmp:
            sf.write(tmp, render_track(small, i), SR, subtype="PCM_16", format="WAV")
        assert (tmp_path / f"{i}.wav").read_bytes() == paths[i].read_bytes()
    code = (
        "import sys, pathlib; from musicmtl.miniature import render, world; "
        "render.write_tracks(world({'base': 'smoke', 'duration_s': 3.0}), [20, 5], pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "b"], check=True)
    for i in (20, 5):
        assert (tmp_path / "b" / corpus.table["path"][i]).read_bytes() == paths[i].read_bytes()


def test_an_interrupted_rendering_goes_on(tmp_path, monkeypatch):
    first = miniature(size=SMALL, root=tmp_path, n_jobs=1)
    bytes_of = {i: first.path(i).read_bytes() for i in range(len(first))}
    (tmp_path / "complete.json").unlink()
    for i in (4, 30):
        first.path(i).unlink()
    rendered = []
    monkeypatch.setattr(render, "render_track", lambda world, i: rendered.append(i) or render_track(world, i))
    again = miniature(size=SMALL, root=tmp_path, n_jobs=1)
    assert rendered == [4, 30] and all(again.path(i).read_bytes() == x for i, x in bytes_of.items())
    assert json.loads((tmp_path / "complete.json").read_text())["n_tracks"] == 36
    miniature(size=SMALL, root=tmp_path, n_jobs=1, label_noise=0.3)  # other labels, same audio
    assert rendered == [4, 30]
    with pytest.raises(ParamsError, match="another Miniature"):
        miniature(size=SMALL, seed=1, root=tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("view, n_files", [("openmic", 60), ("ballroom", 36), ("tagatune", 42)])
def test_every_kind_of_world_is_rendered_by_workers(tmp_path, view, n_files):
    size = {"base": "smoke", "duration_s": 1.0}
    corpus = miniature(view, size, root=tmp_path, n_jobs=2)
    assert sum(corpus.path(k).is_file() for k in range(len(corpus))) == n_files
    for i in (n_files - 1, 3):
        x, sr = sf.read(corpus.path(i), dtype="float32")
        np.testing.assert_allclose(x, render_track(world(size, view=view), i), atol=2**-15)
        assert sr == SR and x.shape == (SR,)


@pytest.mark.parametrize("genre", GENRES)
def test_every_genre_sounds(mini, genre):
    i = int(np.flatnonzero(mini.tracks["style"] == genre)[0])
    assert_sounds(render_track(mini, i), 15, -32, -6)


def test_label_noise_and_neighbours_are_not_heard():
    "A track depends on the size, the seed and its number; the label of another cannot reach it."
    before = render_track(world(SMALL), 9)
    world(SMALL).labels(0.3)
    render_track(world(SMALL), 8)
    assert (render_track(world(SMALL), 9) == before).all()


@pytest.mark.parametrize("drums", ["four", "rock", "hiphop", "train"])
def test_the_drums_keep_the_tempo(mini, drums):
    tracks = mini.tracks
    fitting = (tracks["drums"] == drums) & (tracks["metre"] == 4) & (tracks["style"] != "Experimental")
    for i in np.flatnonzero(fitting)[:3]:
        expected = tracks["tempo_bpm"][i]
        found = tempo_near(render_track(mini, int(i)), expected)
        assert abs(found / expected - 1) < 0.01, (i, found, expected)


def test_the_key_is_heard(mini):
    tracks = mini.tracks
    pure = tracks["genre"].isin(["Classical", "Folk"]) & (tracks["style"] == tracks["genre"])
    quiet = np.flatnonzero(pure & (tracks["drums"] == "none"))[:4]
    assert len(quiet) == 4
    hz = np.arange(1, 15 * SR // 2 + 1) / 15
    pitch = np.rint(12 * np.log2(hz / 440) + 69).astype(int) % 12
    for i in quiet:
        power = np.abs(np.fft.rfft(render_track(mini, int(i)))[1:]) ** 2
        heard = np.bincount(pitch, power * ((hz > 60) & (hz < 1000)), minlength=12)
        scale = [(tracks["key"][i] + semitones) % 12 for semitones in MODES[tracks["mode"][i]]]
        assert heard[scale].sum() > 0.85 * heard.sum(), (i, heard)


TINY = {"base": "smoke", "duration_s": 1.0}


def listing(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["song.mp3", ".hidden", "complete.json", "audio/000/000000.wav", "folder/"])
def test_nothing_is_rendered_into_a_folder_of_somebodys(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.mkdir() if name.endswith("/") else file.write_text('{"key": "mine"}')
    before = listing(tmp_path)
    with pytest.raises(ParamsError, match="Miniature is rendered into a new folder, an empty one, or one that"):
        load_corpus("miniature", tmp_path, size=TINY, n_jobs=1)
    assert listing(tmp_path) == before and not made_up(tmp_path)


def test_the_marker_is_there_before_the_first_sound(tmp_path, monkeypatch):
    def stop(world, i):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(render, "render_track", stop)
        miniature(size=TINY, root=tmp_path / "new", n_jobs=1)
    assert [*listing(tmp_path)] == [f"new/{MADE_UP}"] and made_up(tmp_path / "new")
    corpus = miniature(size=TINY, root=tmp_path / "new", n_jobs=1)
    files = json.loads((tmp_path / "new" / MADE_UP).read_text())["files"]
    assert set(files) == set(corpus.table["path"]) and set(listing(tmp_path / "new")) == {
        *files,
        MADE_UP,
        "complete.json",
    }


@pytest.mark.parametrize("view", ["fma", "tagatune"])
@pytest.mark.parametrize("old", [True, False], ids=["without a marker", "with its marker"])
def test_what_was_rendered_is_removed_and_nothing_else(tmp_path, view, old, capsys):
    "Also where an earlier version has rendered between somebody's songs, and left no marker."
    corpus = miniature(view, TINY, root=tmp_path, n_jobs=1)
    if old:
        (tmp_path / MADE_UP).unlink()
    assert made_up(tmp_path)
    own = {"song.mp3": b"x", "audio/other.wav": b"y", corpus.table["path"][3]: b"a song of the same name"}
    for name, text in own.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    outside = tmp_path.parent / f"{tmp_path.name}-outside.wav"
    corpus.path(5).rename(outside)
    corpus.path(5).symlink_to(outside)
    kept = {corpus.table["path"][3], corpus.table["path"][5]}
    assert main(["--remove", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert all(f"{name} is something else, and stays" in said for name in kept) and outside.exists()
    assert set(listing(tmp_path)) == set(own) | kept and not made_up(tmp_path)
    assert (tmp_path / "song.mp3").read_bytes() == b"x"


def test_a_folder_that_is_not_known_to_be_made_up_is_left_alone(tmp_path, capsys):
    (tmp_path / "song.wav").write_text("x")
    assert main(["--remove", str(tmp_path)]) == 2 and "nothing in it is known to be made up" in capsys.readouterr().err
    (tmp_path / MADE_UP).write_text('{"files": ["../other.wav", "song.wav"], "size": {"duration_s": 1.0}}')
    assert remove(tmp_path) == (0, ["../other.wav", "song.wav"]) and (tmp_path / "song.wav").exists()

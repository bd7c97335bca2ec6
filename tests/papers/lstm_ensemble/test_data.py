"Segments cut from sound, and the Million Song Dataset's files in their three forms."

import math
import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.audio import load_audio
from musicmtl.core import CorpusError, ParamsError, generator
from musicmtl.loaders import load_corpus
from musicmtl.miniature import miniature
from musicmtl.papers.lstm_ensemble.data import (
    TERMS,
    SegmentBank,
    SegmentData,
    Standardiser,
    central,
    load_msd,
    segment_data,
    segments,
)
from musicmtl.store import extract

SR, HOP = 22050, 512
CHROMA = [f"chroma_{i}" for i in range(12)]


# --- segments ------------------------------------------------------------------------------------------------------


def tone(hz, seconds=0.5, level=0.3, decay=3.0):
    t = np.arange(int(seconds * SR)) / SR
    return (level * np.sin(2 * np.pi * hz * t) * np.exp(-decay * t)).astype(np.float32)


@pytest.mark.parametrize("offset", [0, 130, 256, 400])
@pytest.mark.parametrize("length", [1, 40])
def test_clicks_start_segments_where_they_are(offset, length):
    wave = np.zeros(6 * SR, np.float32)
    onsets = np.arange(20 * HOP, 5.5 * SR, 11 * HOP).astype(int) + offset
    for onset in onsets:
        wave[onset : onset + length] = 0.8
    table = segments(wave)
    assert len(table) == len(onsets) + 1
    assert np.abs(table.start_s.to_numpy()[1:] - onsets / SR).max() <= HOP / SR
    np.testing.assert_allclose(table.start_s + table.duration_s, [*table.start_s[1:], 6.0], atol=1e-9)


def test_tones_have_their_pitch_class_and_its_octave_does_not_matter():
    semitones = (0, 4, 7, 9, 11)
    for octave in (3, 4, 5):
        tones = [tone(2 ** (octave - 4) * 261.6256 * 2 ** (k / 12)) for k in semitones]
        chroma = segments(np.concatenate(tones))[CHROMA].to_numpy()
        assert tuple(chroma.argmax(1)) == semitones
        assert np.allclose(chroma.max(1), 1)


def test_level_is_in_db_of_full_scale():
    bank, sine = SegmentBank(), tone(440, 2, 1.0, 0)
    middle = bank._level(bank.spectrum(torch.from_numpy(sine)[None])[0])[20]
    assert middle.item() == pytest.approx(20 * math.log10(1 / math.sqrt(2)), abs=0.05)  # RMS of a sine
    loud, soft = (segments(tone(440, 2, level, 0)) for level in (1.0, 0.1))
    assert loud.loudness_db[0] - soft.loudness_db[0] == pytest.approx(20, abs=0.1)
    assert loud.timbre_0[0] > soft.timbre_0[0]  # first coefficient: mean level
    np.testing.assert_allclose(loud[CHROMA], soft[CHROMA], atol=1e-3)


def test_louder_events_in_one_clip():
    table = segments(np.concatenate([tone(330, level=level) for level in (0.01, 0.1, 0.5)]))
    assert len(table) == 3 and (np.diff(table.timbre_0) > 0).all()


def test_second_coefficient_tells_dark_from_bright():
    table = segments(np.concatenate([tone(110), tone(3520)]))
    assert table.timbre_1[0] > table.timbre_1[1]


def test_silence_is_one_segment():
    table = segments(np.zeros(2 * SR, np.float32))
    assert len(table) == 1 and table.loudness_db[0] == -60 and (table[CHROMA] == 0).all(axis=None)


def test_ordinary_music_has_three_to_six_a_second(data):
    corpus = load_corpus("folder", data / "albums")
    rows = range(0, len(corpus), len(corpus) // 6)
    waves = [load_audio(corpus.path(row), SR, start_s=5, duration_s=20) for row in rows]
    rates = [len(segments(wave)) / 20 for wave in waves]
    assert 3 <= np.median(rates) <= 5 and min(rates) > 1.5 and max(rates) < 8


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    "The smallest Miniature, and its segments from a feature store."
    corpus = miniature("fma", "smoke")
    return corpus, extract(corpus, SegmentBank(), tmp_path_factory.mktemp("segments"))


def test_bank_goes_through_the_store_and_through_pickle(stored):
    corpus, store = stored
    bank, wave = SegmentBank(), torch.from_numpy(load_audio(corpus.path(3), SR))[None]
    np.testing.assert_array_equal(store.read("segments", 3), bank(wave)["segments"][0])
    again = pickle.loads(pickle.dumps(bank))
    assert torch.equal(again(wave)["segments"], bank(wave)["segments"]) and again.config == bank.config


def test_songs_of_a_store_are_the_corpus_own(stored):
    corpus, store = stored
    songs = segment_data(corpus, store, n=16)
    assert songs.x.shape == (len(songs), 16, 25) and songs.x.dtype == np.float32
    assert set(songs.parts) == {"train", "valid", "test"}
    row = int(np.flatnonzero(corpus.table.track_id == songs.track_id[5])[0])
    np.testing.assert_array_equal(songs.x[5], central(store.read("segments", row).T, 16))
    assert songs.artist[5] == corpus.table.artist[row] and songs.classes[songs.y[5]] == corpus.table.genre[row]
    longer = segment_data(corpus, store, n=30)
    assert len(longer) + sum(longer.left_out.values()) == len(corpus) > len(longer)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SegmentBank()(torch.zeros(2, SR)), "one clip"),
        (lambda: SegmentBank()(torch.zeros(1, 100)), "n_fft=2048"),
        (lambda: SegmentBank()(torch.full((1, SR), math.nan)), "finite samples"),
        (lambda: segments(np.zeros((2, SR), np.float32)), r"one clip \[T\]"),
        (lambda: SegmentBank(n_mels=8), "n_mels"),
        (lambda: SegmentBank(rise_db=0), "rise_db"),
        (lambda: SegmentBank(least_s=9), "least_s"),
        (lambda: central(np.zeros((119, 25))), "at least 120 segments, found 119"),
        (lambda: Standardiser(np.zeros((1, 120, 25))), "at least 2"),
        (lambda: Standardiser(np.zeros((5, 120, 25)))(np.zeros((5, 60, 25))), r"\[120, 25\], found \[60, 25\]"),
    ],
)
def test_errors_name_what_is_wrong(make, message):
    with pytest.raises(ParamsError, match=message):
        make()


@given(st.integers(1, 40), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_central_is_in_the_middle(n, more):
    kept = central(np.arange(n + more)[:, None], n)[:, 0]
    assert len(kept) == n and 0 <= (more - kept[0]) - kept[0] <= 1 and (np.diff(kept) == 1).all()


def test_standardiser_knows_the_training_songs_only():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, (50, 6, 4)).astype(np.float32)
    x[:, 2, 1] = 7.0  # never changes
    z = Standardiser(x[:40])
    train, other = z(x[:40]), z(x[40:])
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(train.std(0).ravel(), 9), 1, atol=1e-4)
    assert (train[:, 2, 1] == 0).all() and abs(other.mean(0)).max() > 0.1 and other.dtype == np.float32


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(x=np.zeros((4, 120, 25))), "x: expected float32"),
        (dict(y=np.array([0, 1, 2, 0])), "codes from 0 to 1, found 0 to 2"),
        (dict(y=np.zeros(3, int)), r"y: expected int64 \[4\]"),
        (dict(artist=np.array(["a"])), "artist: expected 4 entries"),
        (dict(parts={"test": np.array([4])}), "part 'test': expected rows from 0 to 3"),
    ],
)
def test_songs_that_do_not_fit_together(change, message):
    good = dict(x=np.zeros((4, 120, 25), np.float32), y=np.array([0, 1, 1, 0]), classes=("a", "b"))
    assert len(SegmentData(**good)) == 4
    with pytest.raises(CorpusError, match=message):
        SegmentData(**good | change)


# --- the coursework's files ----------------------------------------------------------------------------------------

STYLES = np.array([f"style {i}" for i in range(10)])
VALID = "msd-10-genre-valid.npz"


def arrays(n, seed=0, **changes):
    rng = np.random.default_rng(seed)
    return {"inputs": rng.normal(size=(n, 3000)), "targets": np.arange(n) % 10, "label_map": STYLES} | changes


@pytest.fixture
def coursework(tmp_path):
    "A folder with a training and a validation file."
    for part, n in (("train", 30), ("valid", 20)):
        np.savez(tmp_path / f"msd-10-genre-{part}.npz", **arrays(n, n))
    return tmp_path


def test_coursework_files(coursework):
    songs = load_msd(coursework)
    assert songs.x.shape == (50, 120, 25) and songs.x.dtype == np.float32
    assert songs.classes == tuple(STYLES) and songs.name == "msd10"
    np.testing.assert_allclose(songs.x[3, 2, 5], arrays(30, 30)["inputs"][3, 2 * 25 + 5], rtol=1e-6)  # time-major
    assert set(songs.parts) == {"train", "valid"} and songs.parts["valid"].tolist() == list(range(30, 50))


def test_test_songs_are_a_part_where_their_labels_are_there(coursework):
    x = arrays(10)["inputs"].reshape(10, 120, 25)  # not flat: the same
    np.savez(coursework / "msd-10-genre-test-inputs.npz", inputs=x)
    assert set(load_msd(coursework).parts) == {"train", "valid"}
    np.savez(coursework / "msd-10-genre-test-targets.npz", targets=np.arange(10))
    songs = load_msd(coursework)
    np.testing.assert_allclose(songs.x[songs.parts["test"]], x.astype(np.float32))
    assert repr(songs) == "SegmentData('msd10', 60 songs of 10 classes, 120 segments, train 30, valid 20, test 10)"


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(targets=None), "array 'targets': expected to be there, found only inputs, label_map"),
        (
            dict(inputs=np.zeros((20, 2999))),
            r"'inputs': expected numbers \[N, 3000\] or \[N, 120, 25\], found float64 \[20, 2999\]",
        ),
        (dict(inputs=np.full((20, 3000), np.inf)), "'inputs', row 0: expected finite"),
        (dict(inputs=np.full((20, 3000), "a")), "'inputs': expected numbers"),
        (dict(inputs=np.zeros((20, 3000), object)), "'inputs': expected numbers or text, found pickled objects"),
        (dict(targets=np.arange(20)), "'targets', row 10: expected a code from 0 to 9, found 10"),
        (dict(targets=np.arange(20) - 1), "'targets', row 0: expected a code from 0 to 9, found -1"),
        (dict(targets=np.zeros(19, int)), r"'targets': expected whole numbers \[20\], found int64 \[19\]"),
        (dict(targets=np.zeros(20)), r"'targets': expected whole numbers \[20\], found float64"),
        (dict(label_map=STYLES.astype(object)), "'label_map': expected numbers or text, found pickled objects"),
        (dict(label_map=STYLES[:9], targets=np.arange(20) % 9), "'label_map': expected 10 names, found 9"),
        (dict(label_map=STYLES[::-1]), "'label_map': expected the names of the training file"),
        (dict(label_map=np.arange(10)), "'label_map': expected a list of names, found int64"),
        (dict(label_map=STYLES[[0, 0, *range(2, 10)]]), "'label_map': expected names that differ"),
        (dict(label_map=np.array([b"\xe9"] * 10)), "'label_map', row 0: expected a name in UTF-8"),
        (dict(inputs=np.full((20, 3000), 1e300)), "'inputs', row 0: expected finite"),
        (dict(inputs=np.zeros((0, 3000)), targets=np.arange(0)), "'inputs': expected at least one song, found none"),
        (dict(inputs_250=np.zeros((2, 250 * 25))), "variable length"),
    ],
)
def test_each_fault_of_a_coursework_file_is_one_sentence(coursework, change, message):
    kept = {name: array for name, array in arrays(20, **change).items() if array is not None}
    np.savez(coursework / VALID, **kept)
    with pytest.raises(CorpusError, match=message) as error:
        load_msd(coursework)
    assert VALID in str(error.value) and "\n" not in str(error.value)


def test_the_first_row_that_is_not_finite_is_named(coursework):
    x = np.zeros((20, 3000))
    x[7, 5], x[9, 0] = np.nan, np.inf
    np.savez(coursework / VALID, **arrays(20, inputs=x))
    with pytest.raises(CorpusError, match="'inputs', row 7: expected finite"):
        load_msd(coursework)


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-3000])


def with_a_hole(file):
    content = file.read_bytes()
    file.write_bytes(content[:20000] + bytes(100) + content[20100:])


def with_one_array(file):
    np.save(file.with_suffix(".npy"), np.zeros(3))
    file.with_suffix(".npy").rename(file)


@pytest.mark.parametrize(
    "damage, message",
    [
        (cut_short, "damaged or cut short"),
        (with_a_hole, "damaged or cut short"),
        (lambda file: file.write_text("not an archive"), "something else"),
        (lambda file: file.write_bytes(pickle.dumps([1])), "something else"),
        (lambda file: file.write_bytes(b""), "empty"),
        (with_one_array, "single array"),
        (lambda file: file.unlink(), "missing"),
    ],
)
def test_files_that_are_no_archives(coursework, damage, message):
    damage(coursework / VALID)
    with pytest.raises(CorpusError, match=f"{VALID}: .*{message}"):
        load_msd(coursework)


# --- the data set's own files --------------------------------------------------------------------------------------


def song(path, track, artist, n, **changes):
    "Write one song's file; its three arrays."
    rng = np.random.default_rng(n)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {
        "segments_timbre": rng.normal(size=(n, 12)),
        "segments_pitches": rng.random((n, 12)),
        "segments_loudness_start": rng.normal(size=n) - 20,
    } | changes
    ids = np.array([(track.encode(),)], dtype=[("track_id", "S32")])
    names = np.array([(artist.encode(), b"name")], dtype=[("artist_id", "S32"), ("artist_name", "S1024")])
    with h5py.File(path, "w") as file:
        file["analysis/songs"], file["metadata/songs"] = ids, names
        for name, array in written.items():
            if array is not None:
                file[f"analysis/{name}"] = array
    return written


@pytest.fixture
def published(tmp_path):
    "Four songs as published, of which one is short and one has no style."
    ids, lengths = [f"TRAAAA{i}" for i in range(4)], (150, 300, 119, 200)
    written = [
        song(tmp_path / "A" / "B" / f"{track}.h5", track, f"AR{i // 2}", n)
        for i, (track, n) in enumerate(zip(ids, lengths, strict=True))
    ]
    lines = [f"{track}\t{style}\n" for track, style in zip(ids[:3], ("Rock", "Blues", "Rock"), strict=True)]
    (tmp_path / "cd2c.cls").write_text("# a comment\n" + "".join(lines))
    return tmp_path, written


def test_published_songs(published):
    root, written = published
    songs = load_msd(root)
    assert songs.classes == ("Blues", "Rock") and songs.y.tolist() == [1, 0] and songs.parts == {}
    assert songs.track_id.tolist() == ["TRAAAA0", "TRAAAA1"] and songs.artist.tolist() == ["AR0", "AR0"]
    assert songs.left_out == {"fewer than 120 segments": 1, "no style": 1}
    first, middle = written[0], slice(15, 135)
    np.testing.assert_allclose(songs.x[0, :, :12], first["segments_timbre"][middle], rtol=1e-6)
    np.testing.assert_allclose(songs.x[0, :, 12:24], first["segments_pitches"][middle], rtol=1e-6)
    np.testing.assert_allclose(songs.x[0, :, 24], first["segments_loudness_start"][middle], rtol=1e-6)


def without_its_end(root):
    file = root / "A/B/TRAAAA0.h5"
    file.write_bytes(file.read_bytes()[:5000])


def with_changes(**changes):
    "A first song with other arrays."

    def damage(root):
        song(root / "A/B/TRAAAA0.h5", "TRAAAA0", "a", 150, **changes)

    return damage


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            with_changes(segments_timbre=np.zeros((150, 11))),
            r"segments_timbre: expected numbers \[150, 12\]",
        ),
        (
            with_changes(segments_pitches=np.full((150, 12), np.nan)),
            "segments_pitches: expected finite",
        ),
        (with_changes(segments_loudness_start=None), "segments_loudness_start: expected to be there"),
        (without_its_end, "damaged or cut short"),
    ],
)
def test_faults_of_a_published_song(published, damage, message):
    root, _ = published
    damage(root)
    with pytest.raises(CorpusError, match=f"TRAAAA0.h5: .*{message}"):
        load_msd(root)


def summary(path, n):
    "A table of `n` songs as the data set has it in AdditionalFiles."
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for group in ("analysis", "metadata", "musicbrainz"):
            file[f"{group}/songs"] = np.zeros(n, dtype=[("track_id", "S32")])


def with_litter(root):
    (root / "__MACOSX" / "A").mkdir(parents=True)
    for name in ("A/B/._TRAAAA0.h5", "__MACOSX/A/._TRAAAA1.h5", "._cd2c.cls", ".DS_Store", "Thumbs.db"):
        (root / name).write_bytes(b"\0\5\x16\7")


def with_a_copy(root):
    (root / "copy").mkdir()
    (root / "copy" / "TRAAAA0.h5").write_bytes((root / "A/B/TRAAAA0.h5").read_bytes())


@pytest.mark.parametrize(
    "add, said",
    [
        (lambda root: summary(root / "AdditionalFiles" / "subset_msd_summary_file.h5", 6), {"not one song's file": 1}),
        (lambda root: summary(root / "msd_summary_file.h5", 1), {"not one song's file": 1}),
        (lambda root: summary(root / "empty_summary.h5", 0), {"not one song's file": 1}),
        (lambda root: song(root / "A/B/TRAAAA2.h5", "TRAAAA2", "a", 0), {"no segments": 1}),
        (with_litter, {"hidden files": 2}),
        (with_a_copy, {"the same song again": 1}),
    ],
)
def test_what_comes_with_the_songs_is_passed_over_and_counted(published, add, said):
    root, _ = published
    good = load_msd(root)
    add(root)
    songs = load_msd(root)
    np.testing.assert_array_equal(songs.x, good.x)
    others = {reason: n for reason, n in songs.left_out.items() if n != good.left_out.get(reason)}
    assert songs.track_id.tolist() == good.track_id.tolist() and others == said


def test_files_that_contradict_each_other(published):
    root, _ = published
    song(root / "copy" / "TRAAAA0.h5", "TRAAAA0", "a", 151)
    with pytest.raises(CorpusError, match="copy/TRAAAA0.h5: track_id: expected a song of its own, found 'TRAAAA0' aga"):
        load_msd(root)
    song(root / "copy" / "TRAAAA0.h5", "TRAAAA1", "a", 151)
    with pytest.raises(CorpusError, match="TRAAAA0.h5: track_id: expected the name of the file, TRAAAA0, found 'TRAA"):
        load_msd(root)


@pytest.mark.parametrize(
    "content, error",
    [
        (b"TRAAAA0\tRock\nTRAAAA0\tBlues\n", "line 2: expected one style for TRAAAA0, found 'Blues', and 'Rock' in li"),
        (b"TRAAAA0\tR\xf6ck\n", "line 1: expected text in UTF-8"),
        (b'TRAAAA0\t"Rock\n', "line 1: expected an id, a tab and a style"),
        (b"TRAAAA0\t" + b"x" * 20_000, "line 1: expected at most 10000 characters"),
        (b"", "cd2c.cls: empty"),
        (b"# nothing\n", "no styles in it"),
        (b"TRAAAA0\t\0", "line 1: expected text, found a NUL"),
    ],
)
def test_lists_of_styles_gone_wrong(published, content, error):
    root, _ = published
    (root / "cd2c.cls").write_bytes(content)
    with pytest.raises(CorpusError, match=f"cd2c.cls.*{error}|{error}"):
        load_msd(root)


def test_a_style_may_be_listed_twice_and_be_called_none(published):
    root, _ = published
    (root / "cd2c.cls").write_bytes("\ufeffTRAAAA0\tNone\r\nTRAAAA0\tNone\r\n\r\nTRAAAA1\tNA\tPop\t\r\n".encode())
    assert load_msd(root).classes == ("NA", "None")


def test_faults_of_styles(published):
    root, _ = published
    (root / "cd2c.cls").write_text("TRAAAA0 Rock\n")
    with pytest.raises(CorpusError, match="cd2c.cls: line 1: expected an id, a tab and a style"):
        load_msd(root)
    (root / "masd.cls").write_text("TRX\tRock\n")
    with pytest.raises(CorpusError, match="expected one .cls file .* found 2"):
        load_msd(root)
    with pytest.raises(CorpusError, match="no song with 120 segments and a style"):
        load_msd(root, cls=root / "masd.cls")
    with pytest.raises(CorpusError, match="missing|not readable"):
        load_msd(root, cls=root / "none.cls")


def test_faults_of_folders(published, tmp_path):
    root, _ = published
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="neither msd-25-genre-train.npz nor segments_all.npz nor any .h5"):
        load_msd(tmp_path / "empty", n_classes=25)
    with pytest.raises(CorpusError, match="does not exist"):
        load_msd(tmp_path / "nowhere")
    with pytest.raises(ParamsError, match="n_classes: expected at least 2, found 1"):
        load_msd(root, n_classes=1)


# --- classes, balance, cuts ----------------------------------------------------------------------------------------


@pytest.fixture
def styled(tmp_path):
    "Nine songs of three styles: five of Rock, three of Pop, one of Jazz; the second is long enough for two cuts."
    styles = ["Rock", "Pop", "Rock", "Rock", "Jazz", "Pop", "Rock", "Pop", "Rock"]
    for i in range(len(styles)):
        song(tmp_path / f"TRAAAA{i}.h5", f"TRAAAA{i}", f"AR{i}", 250 if i == 1 else 130)
    (tmp_path / "any.cls").write_text("".join(f"TRAAAA{i}\t{style}\n" for i, style in enumerate(styles)))
    return tmp_path


@pytest.mark.parametrize(
    "asked, classes, left_out",
    [
        (dict(n_classes=None), ("Jazz", "Pop", "Rock"), {}),
        (dict(n_classes=2), ("Pop", "Rock"), {"another style": 1}),
        (dict(class_names=("Rock", "Jazz")), ("Jazz", "Rock"), {"another style": 3}),
        (dict(n_classes=2, per_class="rarest"), ("Pop", "Rock"), {"another style": 1, "more than 3 of a class": 2}),
        (dict(n_classes=None, per_class=2), ("Jazz", "Pop", "Rock"), {"more than 2 of a class": 4}),
    ],
)
def test_classes_are_chosen_and_balanced(styled, asked, classes, left_out):
    songs = load_msd(styled, **asked)
    assert songs.classes == classes and songs.left_out == left_out
    assert len(songs) == 9 - sum(left_out.values())
    if asked.get("per_class") == "rarest":
        assert np.bincount(songs.y).tolist() == [3, 3]
    again = load_msd(styled, **asked)
    assert songs.track_id.tolist() == again.track_id.tolist()


def test_a_class_that_is_no_style_is_refused_with_those_that_are(styled):
    with pytest.raises(ParamsError, match="class_names: expected some of Jazz, Pop, Rock, found 'Folk'"):
        load_msd(styled, class_names=("Rock", "Folk"))


def test_a_long_song_gives_several_cuts(styled):
    once, twice = (load_msd(styled, n_classes=None, cuts=cuts) for cuts in (1, 2))
    assert len(once) == 9 and len(twice) == 10
    rows = np.flatnonzero(twice.track_id == "TRAAAA1")
    assert len(rows) == 2 and (twice.y[rows] == twice.classes.index("Pop")).all()
    middle = once.x[once.track_id == "TRAAAA1"][0]
    np.testing.assert_array_equal(np.concatenate(twice.x[rows])[60:180], middle)


# --- one archive ---------------------------------------------------------------------------------------------------


def archive(root, **changes):
    "Four songs in one archive: the third is short, the fourth has no term that is a class."
    lengths = (150, 130, 100, 140)
    n, rng = sum(lengths), generator("archive")
    arrays = {
        "ids": np.array([f"TRB{i}" for i in range(4)]),
        "offsets": np.r_[0, np.cumsum(lengths)],
        "timbre": rng.normal(size=(n, 12)).astype(np.float16),
        "pitches": rng.uniform(size=(n, 12)).astype(np.float16),
        "loudness": np.stack([np.zeros(n), np.arange(n) / n], 1).astype(np.float16),
    }
    np.savez(root / "segments_all.npz", **{**arrays, **changes})
    terms = ["pop|hip hop|jazz", "jazz|rock", "jazz", "polka"]
    table = pd.DataFrame({"track_id": arrays["ids"], "artist": list("abcd"), "artist_terms": terms})
    table.to_csv(root / "tracks.csv", index=False)
    return arrays


def test_songs_of_an_archive_have_the_first_of_their_artists_terms(tmp_path):
    arrays = archive(tmp_path)
    songs = load_msd(tmp_path, n_classes=None)
    assert songs.classes == ("hip hop", "jazz") and songs.y.tolist() == [0, 1]
    assert songs.artist.tolist() == ["a", "b"] and songs.left_out == {"fewer than 120 segments": 1, "no style": 1}
    np.testing.assert_array_equal(songs.x[0, :, :12], arrays["timbre"][15:135].astype(np.float32))
    np.testing.assert_array_equal(songs.x[0, :, 24], arrays["loudness"][15:135, 1].astype(np.float32))  # at its start
    assert load_msd(tmp_path, class_names=("pop", "polka", "rock")).classes == ("polka", "pop", "rock")


def test_a_list_of_styles_comes_before_terms(tmp_path):
    archive(tmp_path)
    (tmp_path / "any.cls").write_text("TRB3\tPolka\nTRB0\tRap\n")
    assert load_msd(tmp_path).classes == ("Polka", "Rap")


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(offsets=np.array([0, 150, 120, 380, 520])), "array 'offsets': expected 5 rising from 0 to 520"),
        (dict(timbre=np.zeros((520, 11))), r"array 'timbre': expected finite numbers \[520, 12\]|'timbre'"),
        (dict(pitches=np.full((520, 12), np.nan)), "array 'pitches': expected finite numbers"),
    ],
)
def test_faults_of_an_archive(tmp_path, changes, message):
    archive(tmp_path, **changes)
    with pytest.raises(CorpusError, match=message):
        load_msd(tmp_path)


def test_real_songs_are_the_same_from_their_files_and_from_the_archive(data, tmp_path):
    root = data / "msd"
    every = load_msd(root, n_classes=None)
    assert every.classes == TERMS and len(every) > 200
    lines = [f"{track}\t{every.classes[y]}\n" for track, y in zip(every.track_id, every.y, strict=True)]
    (tmp_path / "terms.cls").write_text("".join(lines))
    files = load_msd(root / "h5", n_classes=None, cls=tmp_path / "terms.cls")
    assert len(files) > 10 and files.left_out == {"no style": 28 - len(files)}
    place = {track: row for row, track in enumerate(every.track_id)}
    same = [place[track] for track in files.track_id]
    np.testing.assert_allclose(every.x[same], files.x, rtol=1e-2, atol=0.1)  # the archive has half precision
    assert [every.classes[y] for y in every.y[same]] == [files.classes[y] for y in files.y]

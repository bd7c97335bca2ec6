"What is written: keys, chords, patterns."

from dataclasses import replace

import numpy as np
import pytest

from musicmtl.miniature import score, world
from musicmtl.miniature.score import COMP_STYLES, DRUMS, Grid, bass, comp, drums
from musicmtl.miniature.world import MODES

BAR = Grid(0.125, 16, 1, 0.0)


@pytest.fixture(scope="module")
def mini():
    return world("mini")


def test_the_notes_are_in_the_key(mini):
    for i in range(0, 480, 7):
        track, notes = mini.tracks.iloc[i], score(mini, i)
        scale = {(track["key"] + semitones) % 12 for semitones in MODES[track["mode"]]}
        sung = () if track["melody"] in ("rap", "speech") else ("lead",)
        for part in {"comp", *sung} & set(notes):
            assert {pitch % 12 for pitch in notes[part][:, 2]} <= scale, (i, part)


def test_notes_have_time_and_force(mini):
    for i in range(0, 480, 7):
        notes = score(mini, i)
        for part in set(notes) - {"drums"}:
            onset, duration, _, velocity, _ = notes[part].T
            assert (onset >= 0).all() and (duration > 0).all() and (0 < velocity).all() and (velocity <= 1).all()


def test_each_part_has_dice_of_its_own(mini):
    i = int(np.flatnonzero(mini.tracks["drums"] == "rock")[0])
    tracks = mini.tracks.copy()
    tracks.loc[i, "drums"] = "none"
    before = score(mini, i)
    after = score(replace(mini, tracks=tracks), i)
    assert before["drums"] and not after["drums"]
    for part in set(before) - {"drums"}:
        np.testing.assert_array_equal(before[part], after[part])


@pytest.mark.parametrize("style", set(COMP_STYLES) - {"none"})
def test_chords_are_played_within_reach(style):
    notes = comp(np.random.default_rng(0), BAR, [[0, 4, 7]], 0, style, 60)
    assert {pitch % 12 for _, _, pitch, *_ in notes} <= {0, 4, 7}
    assert all(0 <= step < 16 and 40 <= pitch <= 67 for step, _, pitch, *_ in notes)


def test_the_ballrooms_bass_marks_the_beats():
    steps = {pattern: [step for step, *_ in bass(None, BAR, [[0, 4, 7]], 0, pattern)] for pattern in ("march", "down")}
    assert steps == {"march": [0, 4, 8, 12], "down": [0]}


def test_certain_hits_are_hit_and_silence_is_silent():
    for pattern, lines in DRUMS.items():
        hits = drums(np.random.default_rng(0), Grid(0.125, 16, 8, 0.0), pattern)
        for piece, line in lines.items():
            line = (line * 2)[:16]
            struck = np.bincount(hits[piece][:, 0].astype(int) % 16, minlength=16)
            assert all(n == 8 for n, mark in zip(struck, line, strict=True) if mark == "x"), (pattern, piece)
            assert all(n == 0 for n, mark in zip(struck, line, strict=True) if mark == "."), (pattern, piece)

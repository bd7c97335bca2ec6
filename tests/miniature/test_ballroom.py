"The `ballroom` view: dances differ in tempo, metre and rhythm, and can be heard to."

from dataclasses import replace

import numpy as np
import pytest
from hearing import assert_sounds, tempo_near

from musicmtl.miniature import DANCES, miniature, render_track, world

PAIRS = (("Foxtrot", "Quickstep"), ("Waltz", "Viennese waltz"))


LARGE = [pytest.param(size, each, 9, marks=pytest.mark.long) for size, each in (("claims", 100), ("paper", 450))]


@pytest.mark.parametrize("size, each, n_dances", [("smoke", 9, 4), ("mini", 48, 9), *LARGE])
def test_dances_are_balanced(size, each, n_dances):
    corpus = miniature("ballroom", size, render=False)
    labels, table = corpus.labels("genre"), corpus.table
    assert len(labels) == n_dances and set(labels.counts) == {each} and set(labels.classes) <= set(DANCES)
    assert table.groupby("genre")["artist"].nunique().min() >= 3
    assert table.groupby("artist")["genre"].nunique().mean() > 1.5
    split = corpus.split(by="artist", fractions=(0.7, 0.15, 0.15), stratify="genre")
    for rows in split.parts.values():
        assert table["genre"][rows].nunique() == n_dances


def test_dances_differ_as_dances_do():
    mini = world("mini", view="ballroom")
    tracks = mini.tracks
    assert set(tracks.groupby("genre")["metre"].nunique()) == {1}
    assert set(tracks.loc[tracks["metre"] == 3, "genre"]) == {"Waltz", "Viennese waltz"}
    for name, dance in DANCES.items():
        assert tracks.loc[tracks["genre"] == name, "tempo_bpm"].between(*dance.tempo).all(), name
    assert (tracks["style"] == tracks["genre"]).all()
    np.testing.assert_allclose(mini.factors["subgenre"].sum(1), 1, rtol=1e-9)


def test_pairs_are_alike_but_for_the_tempo():
    tracks = world("mini", view="ballroom").tracks
    pattern = {dance: frozenset(tracks.loc[tracks["genre"] == dance, "drums"]) for dance in DANCES}
    for slow, fast in PAIRS:
        assert pattern[slow] == pattern[fast]
        same = replace(DANCES[slow], name=fast, tempo=DANCES[fast].tempo)
        assert same == DANCES[fast]  # the same bands play the same music
        by_dance = tracks.groupby("genre")["tempo_bpm"]
        assert by_dance.max()[slow] < by_dance.min()[fast]
    others = [pattern[dance] for dance in DANCES if dance not in ("Quickstep", "Viennese waltz")]
    assert len(set().union(*others)) == sum(map(len, others))  # and no two others share a drum pattern


@pytest.mark.parametrize("dance", ["Foxtrot", "Quickstep", "Samba", "Tango"])
def test_a_dance_is_heard_at_its_tempo(dance):
    mini = world("mini", view="ballroom")
    for i in np.flatnonzero(mini.tracks["genre"] == dance)[:3]:
        expected = mini.tracks["tempo_bpm"][i]
        found = tempo_near(render_track(mini, int(i)), expected)
        assert abs(found / expected - 1) < 0.01, (i, found, expected)


@pytest.mark.parametrize("dance", DANCES)
def test_every_dance_sounds(dance):
    mini = world("mini", view="ballroom")
    i = int(np.flatnonzero(mini.tracks["genre"] == dance)[0])
    assert_sounds(render_track(mini, i), 12, -25, -10)

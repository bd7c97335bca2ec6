"""Claims of the self-supervised study and what its table holds beside scores, on readings whose answers are known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from musicmtl.papers.pase import claims
from musicmtl.papers.pase.claims import (
    BOTH,
    CLAIMS,
    CURVES,
    PRINTED,
    TUNED,
    comparisons,
    crossing,
    crossing_ends,
    mean_counts,
    pairs_of_sets,
    share_named,
)
from musicmtl.papers.pase.experiment import ALL, BEST, SETS, SMALL, Protocol, Reading, Settings, Trial, scores
from musicmtl.papers.pase.model import WORKERS
from musicmtl.study import (
    DRAWS,
    Board,
    NotTestable,
    Sample,
    claim_rows,
    claims_of,
    judged,
    margins_of,
    on_paper,
    switch_effects,
)

TASKS = ("openmic", "fma", "ballroom")
DANCES = ["Cha cha", "Foxtrot", "Jive", "Quickstep", "Rumba", "Samba", "Tango", "Viennese waltz", "Waltz"]
SUPERVISED = "paseplus_supervised"


def data_of(*tasks, **classes):
    "A corpus with these tasks, and the names of their classes; chance is one in as many, or in twenty."
    targets = {}
    for task in tasks:
        names = classes.get(task, [f"class {i}" for i in range(20)])
        clips = np.arange(len(names))
        parts = {"train": clips, "test": clips}
        targets[task] = SimpleNamespace(classes=names, answers=clips, several=False, parts=lambda *how, p=parts: p)
    return SimpleNamespace(targets=targets, name="made up", pool_of=lambda protocol: "train")


def learnt(**r2):
    "Losses of a pre-training in which workers explain three quarters of their targets, or what is given."
    constant = np.array([1 / (1 - r2.get(worker, 0.75)) for worker in WORKERS])
    ones = np.ones((3, len(WORKERS)))
    return {"workers": np.array(list(WORKERS)), "constant": constant, "valid": ones, "weight": ones}


def margins(claim, board, protocol="corrected"):
    "Effects by margin and place."
    return {key: sample.effect for key, sample in CLAIMS[claim](board, protocol).items()}


def verdict(claim, board):
    "By its rule."
    found = margins_of(claims_of("pase")[claim], CLAIMS[claim](board, "corrected"))
    return judged([margin for _, _, margin in found])["verdict"]


MINI = Settings(preset="mini")


# Claims about scores: effects that can be worked out by hand

ADDS = {
    "M": {"openmic": 4, "fma": 4, "ballroom": -2},
    "C": {"openmic": -8, "fma": 1, "ballroom": 1},
    "T": {"openmic": 6, "fma": 5, "ballroom": 20},
}
WLP = {"openmic": 50, "fma": 40, "ballroom": 30}
# What PASE lacks, supervised training lacks, fine-tuning adds, and supervised PASE lacks.
OTHERS = {"openmic": (2, 5, 2, -10), "fma": (3, 6, -1, 1.5), "ballroom": (4, 7, 3, 2)}
FEW = {"openmic": (40, 38, 20), "ballroom": (35, 30, 10)}  # With 20 clips: frozen, fine-tuned, supervised


def holding():
    "Macro F1 in per cent by (variant, task, clips), with which every claim holds."
    found = {}
    for workers in SETS:
        for task in TASKS:
            equal = WLP[task] + sum(ADDS[worker][task] for worker in workers[4:])
            rhythm = 5 if "T" in workers and task == "ballroom" else 0
            found[f"paseplus_equal_{workers}", task, None] = equal
            found[f"paseplus_reweighted_{workers}", task, None] = equal + 1 + rhythm
    for task, (pase, supervised, tuned, other) in OTHERS.items():
        equal = found[f"paseplus_equal_{ALL}", task, None]
        found[f"pase_equal_{ALL}", task, None] = equal - pase
        found[SUPERVISED, task, None] = equal - supervised
        found["pase_supervised", task, None] = equal - pase - other
        found[TUNED, task, None] = found[BEST, task, None] + tuned
    for task, few in FEW.items():
        for variant, percent in zip(CURVES.values(), few, strict=True):
            found[variant, task, 20], found[variant, task, 80] = percent, percent + 10
    return found


def scored(percent, tasks=TASKS, seeds=(0, 1), more=(), losses=None, curves=()):
    "A board of these scores, the same in all draws and seeds; `more` are further (scores, seeds)."
    readings = []
    for found, of_seeds in ((percent, seeds), *more):
        for (variant, task, n), value in found.items():
            for seed in of_seeds:
                trial = Trial(Protocol.corrected, variant, task, n, seed)
                reading = Reading(trial, None, None, None, None, losses or learnt(), curves)
                reading.value = value / 100
                readings.append(reading)

    def same(reading):
        return {"macro_f1": np.full(1 + DRAWS, reading.value), "n_groups": 5}

    return Board(readings, same, metric="macro_f1", data=data_of(*tasks), settings=MINI)


def relative_gain(percent, worker, task):
    "Mean relative gain of a worker over pairs."
    gains = []
    for before, after in pairs_of_sets(worker):
        old, new = (percent[f"paseplus_reweighted_{workers}", task, None] for workers in (before, after))
        gains.append(100 * (new / old - 1))
    return np.mean(gains)


def every_set(gain, of_rhythm):
    "P3's margins."
    places = [(workers, words) for workers in SETS for words in ("instruments", "genres", "dances")]
    rhythm = {(workers, "dances") for workers in SETS if "T" in workers}
    return {("gain", ", ".join(place)): of_rhythm if place in rhythm else gain for place in places}


EFFECTS = {
    "P1": {("gain", "instruments"): 2, ("gain", "genres"): 3, ("gain", "dances"): 4},
    "P2": {
        ("gain", "PASE, genres"): 1.5,
        ("gain", "PASE, dances"): 2,
        ("gain", "PASE+, instruments"): 5,
        ("gain", "PASE+, genres"): 6,
        ("gain", "PASE+, dances"): 7,
    },
    "P3": every_set(1, 6),
    "P4": {("more", f"{after} and {before}"): 5 for before, after in pairs_of_sets("T")},
    "P7": {("helps", "instruments"): 4, ("helps", "genres"): 4, "hurts": -2},
    "P8": {
        ("behind", "instruments"): 13,
        ("behind", "genres"): 3.5,
        ("behind", "dances"): 10.5,
        ("most", "genres"): 9.5,
        ("most", "dances"): 2.5,
    },
    "P9": {
        ("gain", "instruments"): 100 * (53 / 51 - 1),
        ("gain", "genres"): 100 * (51 / 41 - 1),
        ("gain", "dances"): 100 * (55 / 31 - 1),
    },
    "P11": {("pays", "dances"): 3, ("pays", "instruments"): 2, "costs": -1},
    "P12": {("ahead", "instruments"): 2, ("ahead", "dances"): 5},
    "P13": {("more", "instruments"): 14, ("more", "dances"): 12},
}


@pytest.mark.parametrize("claim, expected", EFFECTS.items())
def test_effects_that_can_be_worked_out(claim, expected):
    assert margins(claim, scored(holding())) == pytest.approx(expected)


def test_the_relative_gain_of_the_tempogram_is_compared_with_each_of_the_others_on_each_task():
    percent, expected = holding(), {}
    for task, words in zip(TASKS, ("instruments", "genres", "dances"), strict=True):
        for worker, rival in (("M", "MFCC"), ("C", "chroma")):
            ahead = relative_gain(percent, "T", task) - relative_gain(percent, worker, task)
            expected["ahead", f"{words}, {rival}"] = ahead
    assert margins("P6", scored(percent)) == pytest.approx(expected)


def test_nothing_is_relative_to_nothing():
    percent = holding()
    percent["paseplus_reweighted_WLP", "fma", None] = 0.0
    with pytest.raises(NotTestable, match="paseplus_reweighted_WLP_fma: 0 ± 0 is not three standard errors above"):
        CLAIMS["P9"](scored(percent), "corrected")
    found = claims.relative(Sample([[2.0], [2.0], [2.0]]), Sample([[1.0], [0.0], [4.0]])).values[:, 0]
    assert found.tolist()[::2] == [100.0, -50.0] and np.isnan(found[1])


# Points added to a claim's scores, after which it does not hold: (variant, task, clips) -> points.
CHANGES = {
    "P1": {(f"pase_equal_{ALL}", "fma", None): 5},
    "P2": {("pase_supervised", "ballroom", None): 5},
    "P3": {(f"paseplus_reweighted_{workers}", task, None): -3 for workers in SETS for task in TASKS},
    "P4": {(f"paseplus_reweighted_{workers}", "ballroom", None): -6 for workers in SETS if "T" in workers},
    "P6": {(f"paseplus_reweighted_{workers}", "ballroom", None): 60 for workers in SETS if "M" in workers},
    "P7": {(f"paseplus_reweighted_{workers}", "ballroom", None): 4 for workers in SETS if "M" in workers},
    "P8": {(f"paseplus_reweighted_{workers}", "openmic", None): 3 for workers in SETS if "C" in workers},
    "P9": {(BEST, "fma", None): -12},
    "P11": {(TUNED, "fma", None): 2},
    "P12": {(TUNED, "ballroom", 20): 6},
    "P13": {(SUPERVISED, "openmic", 20): 30},
}


@pytest.mark.parametrize("claim", CHANGES)
def test_a_claim_holds_or_does_not(claim):
    changed = holding()
    for case, points in CHANGES[claim].items():
        changed[case] += points
    assert [verdict(claim, scored(percent)) for percent in (holding(), changed)] == ["holds", "does not hold"]


def test_rules_hold_on_what_the_paper_prints():
    table = on_paper("pase", PRINTED)
    assert table.paper.tolist() == [1.9, 4.5, 14.0] and table.place.tolist() == ["instruments", "genres", "dances"]
    assert ((table.distance >= 0) | (table.why != "")).all()


# What is not judged


@pytest.mark.parametrize("claim", ["P1", "P2", "P3", "P4", "P6", "P7", "P8", "P9", "P11", "P12", "P13"])
def test_networks_at_chance_are_not_compared(claim):
    assert CLAIMS[claim](scored(holding()), "corrected")
    with pytest.raises(NotTestable, match="not three standard errors above chance"):
        CLAIMS[claim](scored(dict.fromkeys(holding(), 4.9)), "corrected")


def test_encoders_that_were_still_learning_are_not_compared():
    losses = learnt()
    losses["valid"] = np.outer(np.linspace(2, 1, 11), np.ones(len(WORKERS)))
    losses["weight"], losses["constant"] = np.ones_like(losses["valid"]), np.full(len(WORKERS), 2.0)
    falling = np.linspace(2, 1, 11)
    tuned = scored(holding(), curves=(("encoder and layer", falling, falling),))
    for claim, percent in (("P1", scored(holding(), losses=losses)), ("P2", tuned)):
        with pytest.raises(NotTestable, match="still falling"):
            CLAIMS[claim](percent, "corrected")


@pytest.mark.parametrize(
    "claim, workers",
    [
        ("P4", ["tempogram"]),
        ("P6", ["mfcc", "chroma", "tempogram"]),
        ("P7", ["mfcc"]),
        ("P8", ["mfcc", "chroma", "tempogram"]),
    ],
)
def test_a_worker_that_has_learnt_nothing_teaches_nothing(claim, workers):
    for worker in ("mfcc", "chroma", "tempogram", "lps"):
        board = scored(holding(), losses=learnt(**{worker: 0.19}))
        if worker in workers:
            with pytest.raises(NotTestable, match=f"{worker} of .* R² of 0.19"):
                CLAIMS[claim](board, "corrected")
        else:
            assert CLAIMS[claim](board, "corrected")


def test_pase_on_instruments_is_the_exception_whichever_way_it_goes():
    percent = holding()
    percent["pase_supervised", "openmic", None] = 0.0
    assert margins("P2", scored(percent)) == margins("P2", scored(holding()))


def test_a_worker_has_four_pairs_of_sets():
    for worker in "MCT":
        pairs = pairs_of_sets(worker)
        assert len(pairs) == 4 and sorted(sum(pairs, ())) == sorted(SETS)
        assert all(sorted(after[4:]) == sorted(before[4:] + worker) for before, after in pairs)


# Confusions


def answers(classes, variant, task, moves, trials=1, protocol=Protocol.corrected, clips=10, losses=None):
    "Ten clips per class, all named rightly but for `moves`: (true, named) -> clips."
    y = np.repeat(np.arange(len(classes)), clips)
    named = y.copy()
    for (true, given), n in moves.items():
        at = np.flatnonzero((y == classes.index(true)) & (named == y))[:n]
        named[at] = classes.index(given)
    trial, group = Trial(protocol, variant, task, None, 0), np.array([f"artist {i}" for i in range(len(y))])
    return Reading(trial, np.eye(len(classes))[[named] * trials], y, group, np.arange(9), losses or learnt())


def confused(task, classes, moves, **how):
    "A board of re-weighted sets of workers with these moves."
    readings = [answers(classes, f"paseplus_reweighted_{workers}", task, of, **how) for workers, of in moves.items()]
    return board_of(readings, data_of(task, **{task: classes}))


def board_of(readings, data):
    return Board(readings, lambda reading: scores(data, None, reading), metric="macro_f1", data=data, settings=MINI)


BEFORE = {
    ("Foxtrot", "Quickstep"): 4,
    ("Quickstep", "Foxtrot"): 2,
    ("Waltz", "Viennese waltz"): 2,
    ("Cha cha", "Jive"): 4,
    ("Samba", "Cha cha"): 2,
}


def test_confusions_of_dances():
    after = {("Foxtrot", "Rumba"): 6, ("Viennese waltz", "Foxtrot"): 4}
    board = confused("ballroom", DANCES, {"WLP": BEFORE, "WLP+T": after, ALL: {}})
    assert margins("P10", board) == pytest.approx(  # Per cent of the twenty clips of both
        {
            ("tempo", "Foxtrot and Quickstep"): 30,
            ("tempo", "Waltz and Viennese waltz"): 10,
            ("rhythm", "Cha cha and Jive"): 20,
            ("rhythm", "Cha cha and Samba"): 10,
        }
    )
    expected = {("apart", "Foxtrot and Rumba"): 30, ("apart", "Foxtrot and Viennese waltz"): 20}
    assert margins("P14", board) == pytest.approx(expected)
    value, low, high = CLAIMS["P10"](board, "corrected")["tempo", "Foxtrot and Quickstep"].estimate().ends()
    assert low < value < high
    back = confused("ballroom", DANCES, {"WLP": {}, "WLP+T": BEFORE, ALL: {("Rumba", "Foxtrot"): 10}})
    assert margins("P10", back)["tempo", "Foxtrot and Quickstep"] == pytest.approx(-30)
    assert margins("P14", back)["apart", "Foxtrot and Rumba"] == pytest.approx(-50)


MFCC = {("Electronic", "Hip-Hop"): 2, ("Electronic", "International"): 1, ("Pop", "Rock"): 5}
MENDED = {("International", "Folk"): 3, ("Pop", "Rock"): 1}


def test_confusions_of_genres():
    board = confused("fma", list(SMALL), {"WLP": {}, "WLP+M": MFCC, "WLP+T": MENDED})
    assert margins("P15", board) == pytest.approx(
        {
            ("confuses", "Electronic"): 30,
            ("confuses", "Pop"): 50,
            ("mends", "Electronic"): 30,
            ("mends", "Pop"): 40,
            ("brings", "International"): 30,
        }
    )


def test_confusions_on_a_floor_say_nothing():
    kept = confused("fma", list(SMALL), {"WLP": {}, "WLP+M": MFCC, "WLP+T": MFCC})
    with pytest.raises(NotTestable, match="no clip of International is named Folk or Instrumental, neither with WLP"):
        CLAIMS["P15"](kept, "corrected")


def test_classes_of_few_clips_are_not_asked_about():
    dances = confused("ballroom", DANCES, {"WLP": {}, "WLP+T": {}, ALL: {}}, clips=9)
    genres = confused("fma", list(SMALL), {"WLP": {}, "WLP+M": MFCC, "WLP+T": MENDED}, clips=9)
    for claim, board in (("P10", dances), ("P14", dances), ("P15", genres)):
        with pytest.raises(NotTestable, match="fewer than 10 test items in a class"):
            CLAIMS[claim](board, "corrected")


@pytest.mark.parametrize(
    "claim, workers", [("P10", ["tempogram"]), ("P14", ["mfcc", "chroma"]), ("P15", ["mfcc", "tempogram"])]
)
def test_confusions_need_workers_that_have_learnt(claim, workers):
    task, classes, sets = (
        ("fma", list(SMALL), ("WLP", "WLP+M", "WLP+T"))
        if claim == "P15"
        else ("ballroom", DANCES, ("WLP", "WLP+T", ALL))
    )
    moves = dict(zip(sets, ({}, MFCC, MENDED) if claim == "P15" else ({},) * 3, strict=True))
    for worker in ("mfcc", "chroma", "tempogram"):
        board = confused(task, classes, moves, losses=learnt(**{worker: 0.1}))
        if worker in workers:
            with pytest.raises(NotTestable, match=f"{worker} of"):
                CLAIMS[claim](board, "corrected")
        else:
            assert CLAIMS[claim](board, "corrected")


def test_shares_are_those_of_the_true_classes_and_draws_are_the_scores_own():
    reading = answers(list("abc"), BEST, "fma", {("a", "b"): 3}, trials=2)
    right, wrong = (share_named(reading, list("abc"), [("a", given)]) for given in "ab")
    assert wrong[0] == pytest.approx(0.3) and share_named(reading, list("abc"), [("b", "b")])[0] == 1.0
    np.testing.assert_allclose(right + wrong, 1.0)
    with pytest.raises(LookupError, match="this corpus has no Tango, Waltz"):
        share_named(reading, list("abc"), [("a", "Waltz"), ("Tango", "a")])


def test_counts_are_means_over_trials_and_seeds():
    one = answers(list("abc"), "paseplus_reweighted_WLP", "fma", {("a", "b"): 3}, trials=2)
    other = answers(list("abc"), "paseplus_reweighted_WLP", "fma", {})
    board = board_of([one, replace(other, trial=replace(other.trial, seed=1))], data_of("fma", fma=list("abc")))
    counts = mean_counts(board, "corrected", "fma", "WLP")
    np.testing.assert_allclose(counts, [[8, 2, 0], [0, 10, 0], [0, 0, 10]])  # Two trials of the one, one of the other


# Losses


def losing(equal, weighted, seeds=(0,), epochs=20):
    "A board of two runs with these losses per worker: the equal one, and weighted in the re-weighted one."
    one = np.ones(len(WORKERS))
    readings = []
    for seed in seeds:
        for variant, valid, weight in ((f"paseplus_equal_{ALL}", equal, one), (BEST, one, weighted)):
            losses = {
                "workers": np.array(list(WORKERS)),
                "valid": np.tile(valid, (epochs, 1)),
                "weight": np.tile(weight, (epochs, 1)),
            }
            trial = Trial(Protocol.corrected, variant, "artist", None, seed)
            readings.append(SimpleNamespace(trial=trial, losses=losses))
    return Board(readings, None, data=data_of("artist"))


def test_losses_by_worker():
    assert list(WORKERS) == ["waveform", "lps", "prosody", "mfcc", "chroma", "tempogram"]
    falling, even = [0.1, 100, 0.2, 10, 0.1, 0.1], [1, 2, 1, 1, 1, 1]
    two = np.log10(2)
    expected = {"lps": 1, "tempogram": 3, "contributions": two}
    assert margins("P5", losing(falling, even)) == pytest.approx(expected)
    assert margins("P5", losing([0.1, 100, 0.2, 10, 0.1, 1], even))["tempogram"] == pytest.approx(2)
    other = losing([0.1, 100, 0.2, 1000, 0.1, 0.1], even, seeds=(0, 1))
    assert margins("P5", other)["lps"] == pytest.approx(-1) and verdict("P5", other) == "does not hold"
    assert margins("P5", losing(falling, [1, 100, 1, 1, 1, 1]))["contributions"] == pytest.approx(2)


def test_losses_are_compared_by_training_and_over_the_first_twenty_epochs():
    falling, even = [0.1, 100, 0.2, 10, 0.1, 0.1], [1, 2, 1, 1, 1, 1]
    board = losing(falling, even, seeds=(0, 1, 2), epochs=30)
    for reading in board.readings(f"paseplus_equal_{ALL}_artist"):
        reading.losses["valid"][20:] = 1.0
    found = CLAIMS["P5"](board, "corrected")
    assert {sample.values.shape for sample in found.values()} == {(3, 1)}
    assert found["lps"].effect == pytest.approx(1) and verdict("P5", board) == "holds"


# What cannot be asked


def test_every_claim_has_a_rule_and_a_function_and_says_what_it_needs():
    assert list(claims_of("pase")) == list(CLAIMS) == [f"P{i}" for i in range(1, 16)] and set(BOTH) < set(CLAIMS)
    rows = claim_rows("pase", "nothing", scored({}), CLAIMS, BOTH)
    assert len(rows) == 15 + len(BOTH) and {row["verdict"] for row in rows} == {"not testable here"}
    assert all(row["reason"] and "KeyError" not in row["reason"] and "\n" not in row["reason"] for row in rows)


def test_a_folder_is_asked_what_it_can_be_asked():
    percent = {(variant, "artist", n): x for (variant, task, n), x in holding().items() if task == "ballroom"}
    rows = pd.DataFrame(claim_rows("pase", "folder", scored(percent, ["artist"]), CLAIMS))
    assert rows.claim[rows.effect.notna()].tolist() == ["P1", "P2", "P3", "P5", "P6", "P12", "P13"]
    assert rows.reason[rows.effect.isna()].str.startswith("this corpus has no labels of").all()


def test_a_corpus_without_a_dance_says_which():
    classes = ["Foxtrot", "Quickstep", "Waltz", "Viennese waltz"]
    board = confused("ballroom", classes, {"WLP": {}, "WLP+T": {}, ALL: {}})
    with pytest.raises(LookupError, match="this corpus has no Cha cha, Jive"):
        CLAIMS["P10"](board, "corrected")
    with pytest.raises(LookupError, match="this corpus has no Rumba"):
        CLAIMS["P14"](board, "corrected")


def test_seeds_that_only_some_have_are_not_compared():
    percent = holding()
    pase = {case: x for case, x in percent.items() if case[0].startswith("pase_")}
    plus = {case: x for case, x in percent.items() if case not in pase}
    with pytest.raises(LookupError, match="no seed has all of"):
        CLAIMS["P1"](scored(plus, seeds=(0,), more=[(pase, (2,))]), "corrected")
    for board, n in ((scored(plus, seeds=(0, 1), more=[(pase, (1, 2))]), 1), (scored(percent, seeds=(0, 1)), 2)):
        assert {sample.n for sample in CLAIMS["P1"](board, "corrected").values()} == {n}


# Crossings


@pytest.mark.parametrize(
    "gain, expected",
    [
        ([-2, -1, 1], 200 * 2**0.5),
        ([-1, 1, 1], 100 * 2**0.5),
        ([1, 1, 1], 0),
        ([-1, -1, -1], np.inf),
        ([1, 1, -1], np.inf),
        ([-1, 1, -3], np.inf),
        ([1, -1, 3], 200 * 2**0.25),
        ([-1, 0, 1], 200),
    ],
)
def test_crossings(gain, expected):
    assert crossing([100, 200, 400], np.array(gain, float)) == pytest.approx(expected)


def test_what_is_known_of_a_crossing():
    n = [100, 200, 400]

    def ends(*curves):
        return crossing_ends(n, [Sample(np.array(values, float)[:, None]) for values in zip(*curves, strict=True)])

    below, above = ends([1, 2, 3], [1, 1, 1]), ends([-1, -2, -3], [-1, -1, -1])
    assert below["high"] == 100 and np.isnan([below["value"], below["low"]]).all()
    assert above["low"] == 400 and np.isnan([above["value"], above["high"]]).all()
    near = ends(*[[-10 + noise, 10 + noise, 10 + noise] for noise in (-1, 0, 1)])
    assert near["value"] == pytest.approx(100 * 2**0.5)
    half = 4.303 / 3**0.5  # Of the interval of three trainings, whose standard deviation is one
    ideal = [100 * 2 ** ((10 + side * half) / 20) for side in (-1, 1)]
    assert [near["low"], near["high"]] == pytest.approx(ideal, rel=0.02)
    wide = ends([-10, 1, 1], [5, 1, -20], [-10, 3, 30])
    assert np.isfinite(wide["value"]) and np.isnan([wide["low"], wide["high"]]).all()


# Protocols


def test_protocols_are_compared_where_they_differ():
    "All workers or none, other answers, and paired where they are about the same clips."
    moves, label = {("a", "b"): 3}, f"{BEST}_fma"
    data, published = data_of("fma", fma=list("abc")), Protocol.published
    right, same = answers(list("abc"), BEST, "fma", {}), answers(list("abc"), BEST, "fma", {}, protocol=published)
    worse = answers(list("abc"), BEST, "fma", moves, protocol=published)
    assert comparisons(board_of([right, same], data)) == []
    (paired,) = comparisons(board_of([right, worse], data))
    assert paired.paired and paired.keys == (("published", label), ("corrected", label))
    effects = switch_effects(board_of([right, worse], data), [paired]).iloc[0]
    assert effects.low <= effects.effect <= effects.high and effects.effect < 0
    (other,) = comparisons(
        board_of([right, replace(worse, group=np.array([f"artist {i // 2}" for i in range(30)]))], data)
    )
    assert not other.paired
    subset = [
        replace(reading, trial=replace(reading.trial, variant="paseplus_equal_WLP+T")) for reading in (right, worse)
    ]
    assert comparisons(board_of(subset, data)) == []


def test_a_trial_without_repetitions_has_no_spread():
    trial, data = Trial(Protocol.corrected, BEST, "fma", None, 0), data_of("fma")
    for trials, metrics in ((1, ["macro_f1"]), (2, ["macro_f1", "macro_f1_spread"])):
        reading = answers(list("abc"), BEST, "fma", {("a", "b"): 3}, trials=trials)
        outcome = SimpleNamespace(board=board_of([reading], data), settings=Settings())
        found = list(claims.rows(outcome, reading))
        assert [metric for _, metric, _ in found] == metrics and {label for label, _, _ in found} == {trial.label}

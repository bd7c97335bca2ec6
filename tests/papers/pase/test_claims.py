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
    Margin,
    NotTestable,
    Sample,
    claim_rows,
    claims_of,
    judged,
    margins_of,
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


def margins(claim, board, protocol="corrected") -> list[Margin]:
    return [margin for _, _, margin in margins_of(claims_of("pase")[claim], CLAIMS[claim](board, protocol))]


def least(claim, board):
    "How far beyond its bound the margin is that is nearest to it."
    return min(margin.distance(margin.sample.effect) for margin in margins(claim, board))


def effects(claim, board):
    "Effect of each margin, by its name."
    return {margin.name: margin.sample.effect for margin in margins(claim, board)}


# Claims about scores: effects that can be worked out by hand

ADDS = {
    "M": {"openmic": 4, "fma": 4, "ballroom": -2},
    "C": {"openmic": -4, "fma": 1, "ballroom": 1},
    "T": {"openmic": 3, "fma": 3, "ballroom": 10},
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
    ones = np.ones((3, len(WORKERS)))
    losses = {"workers": list(WORKERS), "constant": 2 * ones[0], "valid": ones, "weight": ones}
    readings = []
    for found, of_seeds in ((percent, seeds), *more):
        for (variant, task, n), value in found.items():
            for seed in of_seeds:
                trial = Trial(Protocol.corrected, variant, task, n, seed)
                readings.append(SimpleNamespace(trial=trial, value=value / 100, losses=losses, chance=0.05))
    return Board(
        readings,
        lambda reading: {"macro_f1": np.full(1 + DRAWS, reading.value), "n_groups": 9},
        metric="macro_f1",
        data=data_of(*tasks),
    )


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
    "P1": 2,
    "P2": 1.5,
    "P3": 1,
    "P4": 5,
    "P7": 2,
    "P8": 2,
    "P9": 100 * (54 / 51 - 1),
    "P11": 1,
    "P12": 2,
    "P13": 12,
}


@pytest.mark.parametrize("claim, expected", EFFECTS.items())
def test_effects_that_can_be_worked_out(claim, expected):
    assert least(claim, scored(holding())) == pytest.approx(expected)


def test_the_relative_gain_of_the_tempogram_is_compared_with_each_of_the_others():
    percent = holding()
    assert relative_gain(percent, "M") > relative_gain(percent, "C")
    expected = {rival: relative_gain(percent, "T") - relative_gain(percent, rival) for rival in "MC"}
    found = effects("P6", scored(percent))
    assert found == pytest.approx({"ahead, against mfcc": expected["M"], "ahead, against chroma": expected["C"]})


def test_nothing_is_relative_to_nothing():
    percent = holding()
    percent["paseplus_reweighted_WLP", "fma", None] = 0.0
    with pytest.raises(LookupError, match="a score of 0 has no relative gain"):
        claims.relative_gain(scored(percent), "corrected", ALL, "fma", gated=False)
    after, before = (Sample(np.array(values)[:, None]) for values in ([2.0, 2.0, 2.0], [1.0, 0.0, 4.0]))
    values = claims.relative(after, before).values[:, 0]
    assert values.tolist()[::2] == [100.0, -50.0] and np.isnan(values[1])


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
    verdicts = [judged(margins(claim, scored(percent)))["verdict"] for percent in (holding(), changed)]
    assert verdicts == ["holds", "does not hold"]


@pytest.mark.parametrize("claim", ["P1", "P2", "P3", "P9", "P12"])
def test_encoders_at_chance_are_not_compared(claim):
    percent = {case: 4.0 for case in holding()}
    with pytest.raises(NotTestable, match="macro F1 of .* above chance"):
        CLAIMS[claim](scored(percent), "corrected")


def test_a_pre_training_that_still_falls_is_not_judged():
    board = scored(holding())
    for label in board.labels("corrected"):
        for reading in board.readings(label):
            reading.losses = {**reading.losses, "valid": np.linspace(2, 1, 11)[:, None] * np.ones(len(WORKERS))}
    with pytest.raises(NotTestable, match="still falling"):
        CLAIMS["P1"](board, "corrected")


@pytest.mark.parametrize("claim", ["P4", "P6", "P7", "P8"])
def test_what_a_worker_teaches_is_judged_where_it_has_learnt_its_target(claim):
    board = scored(holding())
    for label in board.labels("corrected"):
        for reading in board.readings(label):
            reading.losses = {**reading.losses, "constant": 1.1 * np.ones(len(WORKERS))}
    with pytest.raises(NotTestable, match="worker: R² of 0.09"):
        CLAIMS[claim](board, "corrected")


def test_pase_on_instruments_is_the_exception_whichever_way_it_goes():
    percent = holding()
    percent["pase_supervised", "openmic", None] = 0.0
    assert effects("P2", scored(percent)) == effects("P2", scored(holding()))


def test_a_worker_has_four_pairs_of_sets():
    for worker in "MCT":
        pairs = pairs_of_sets(worker)
        assert len(pairs) == 4 and sorted(sum(pairs, ())) == sorted(SETS)
        assert all(sorted(after[4:]) == sorted(before[4:] + worker) for before, after in pairs)


# Confusions


def answers(classes, variant, task, moves, trials=1, protocol=Protocol.corrected, seed=0):
    "Ten clips per class, all named rightly but for `moves`: (true, named) -> clips."
    y = np.repeat(np.arange(len(classes)), clips)
    named = y.copy()
    for (true, given), n in moves.items():
        at = np.flatnonzero((y == classes.index(true)) & (named == y))[:n]
        named[at] = classes.index(given)
    trial = Trial(protocol, variant, task, None, seed)
    return Reading(trial, np.eye(len(classes))[[named] * trials], y, np.arange(len(y)), np.arange(9), None)


def confused(task, classes, moves, **how):
    "A board of re-weighted sets of workers with these moves."
    readings = [
        answers(classes, f"paseplus_reweighted_{workers}", task, of, seed=seed)
        for workers, of in moves.items()
        for seed in (0, 1, 2)
    ]
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
    after = {("Foxtrot", "Rumba"): 6, ("Viennese waltz", "Foxtrot"): 4, ("Samba", "Cha cha"): 1}
    board = confused("ballroom", DANCES, {"WLP": BEFORE, "WLP+T": after, ALL: {}})
    found = effects("P10", board)
    assert found == pytest.approx(
        {
            "tempo, Foxtrot and Quickstep": 30.0,
            "tempo, Waltz and Viennese waltz": 10.0,
            "rhythm, Cha cha and Jive": 20.0,
            "rhythm, Cha cha and Samba": 5.0,
        }
    )
    pairs = {"apart, Foxtrot and Rumba": 30.0, "apart, Foxtrot and Viennese waltz": 20.0}
    assert effects("P14", board) == pytest.approx(pairs)
    back = confused("ballroom", DANCES, {"WLP": {}, "WLP+T": BEFORE, ALL: {("Rumba", "Foxtrot"): 10}})
    with pytest.raises(NotTestable, match="no clip is confused with WLP\\+T or with WLP\\+MCT"):
        CLAIMS["P14"](back, "corrected")
    assert effects("P10", back)["tempo, Foxtrot and Quickstep"] == pytest.approx(-30.0)
    assert judged(margins("P10", back))["verdict"] == "does not hold"


def test_confusions_of_genres():
    mfcc = {("Electronic", "Hip-Hop"): 2, ("Electronic", "International"): 1, ("Pop", "Rock"): 5}
    mended = {("International", "Folk"): 3, ("Pop", "Rock"): 1}
    board = confused("fma", list(SMALL), {"WLP": {}, "WLP+M": mfcc, "WLP+T": mended})
    assert effects("P15", board) == pytest.approx(
        {
            "confuses, Electronic": 30.0,
            "confuses, Pop": 50.0,
            "mends, Electronic": 30.0,
            "mends, Pop": 40.0,
            "brings": 30.0,
        }
    )
    floor = confused("fma", list(SMALL), {"WLP": {}, "WLP+M": {("Pop", "Rock"): 5}, "WLP+T": mended})
    with pytest.raises(NotTestable, match="Electronic named Hip-Hop"):
        CLAIMS["P15"](floor, "corrected")


def test_a_class_with_too_few_clips_is_not_asked_about():
    board = confused("ballroom", DANCES, {"WLP": BEFORE, "WLP+T": {}, ALL: {}})
    for label in board.labels("corrected"):
        for reading in board.readings(label):
            reading.y = np.where(np.arange(len(reading.y)) == 15, 0, reading.y)  # a Foxtrot is a Cha cha now
    with pytest.raises(NotTestable, match="Foxtrot 9"):
        CLAIMS["P10"](board, "corrected")


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
    found = effects("P5", losing(falling, even))
    assert found == pytest.approx({"lps": 1, "tempogram": 3, "contributions": np.log10(2)})
    assert effects("P5", losing([0.1, 100, 0.2, 10, 0.1, 1], even))["tempogram"] == pytest.approx(2)
    assert effects("P5", losing([0.1, 100, 0.2, 1000, 0.1, 0.1], even, seeds=(0, 1)))["lps"] == pytest.approx(-1)
    assert effects("P5", losing(falling, [1, 100, 1, 1, 1, 1]))["contributions"] == pytest.approx(2)
    one, two = (margins("P5", losing(falling, even, seeds=seeds)) for seeds in ((0,), (0, 1)))
    assert judged(one)["verdict"] == "one training" and judged(two)["verdict"] == "holds"


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
    one = CLAIMS["P1"](scored(plus, seeds=(0, 1), more=[(pase, (1, 2))]), "corrected")
    both = CLAIMS["P1"](scored(percent, seeds=(0, 1)), "corrected")
    assert {sample.n for sample in one.values()} == {1} and {sample.n for sample in both.values()} == {2}


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

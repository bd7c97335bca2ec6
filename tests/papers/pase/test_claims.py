"Claims, tables and figures of the self-supervised study, on made-up readings whose answers are known."

from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from musicmtl import viz
from musicmtl.core import generator
from musicmtl.study.experiment import DRAWS, Board, claim_rows, interval
from musicmtl.papers import pase_claims as module
from musicmtl.papers.pase.model import WORKERS
from musicmtl.papers.pase.claims import (
    BOTH,
    CLAIMS,
    SCENARIOS,
    TUNED,
    board_of,
    confusion_figures,
    counts_of,
    crossing,
    crossing_bounds,
    named,
    pairs,
    paper_values,
    protocol_gains,
    result_figures,
    save_tables,
    split_label,
    summary,
)
from musicmtl.papers.pase.experiment import (
    ALL,
    BEST,
    SETS,
    SMALL,
    Protocol,
    Reading,
    Settings,
    Trial,
    label_of,
    scenario_of,
)
from musicmtl.study.runs import claims_of, published, verdict

TASKS = ("openmic", "fma", "ballroom")
DANCES = ["Cha cha", "Foxtrot", "Jive", "Quickstep", "Rumba", "Samba", "Tango", "Viennese waltz", "Waltz"]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def prepared(*tasks, **classes):
    return SimpleNamespace(
        targets={t: SimpleNamespace(classes=classes.get(t)) for t in tasks},
        name="made up",
        pool=lambda protocol: "train",
    )


# Claims about scores: effects that can be worked out by hand

ADDS = dict(
    M=dict(openmic=4, fma=4, ballroom=-2), C=dict(openmic=-4, fma=1, ballroom=1), T=dict(openmic=3, fma=3, ballroom=20)
)


def holding():
    "Macro F1 in per cent of (variant, task, clips), in which every claim holds."
    f, wlp = {}, dict(openmic=50, fma=40, ballroom=30)
    for s in SETS:
        for t in TASKS:
            equal = wlp[t] + sum(ADDS[w][t] for w in s[4:])
            f[f"paseplus_equal_{s}", t, None] = equal
            f[f"paseplus_reweighted_{s}", t, None] = equal + 1 + 5 * ("T" in s and t == "ballroom")
    for t, (less, scratch, tuned, other) in dict(
        openmic=(2, 5, 2, -10), fma=(3, 6, -1, 1.5), ballroom=(4, 7, 3, 2)
    ).items():
        equal = f[f"paseplus_equal_{ALL}", t, None]
        f |= {
            (f"pase_equal_{ALL}", t, None): equal - less,
            ("paseplus_supervised", t, None): equal - scratch,
            ("pase_supervised", t, None): equal - less - other,
            (TUNED, t, None): f[BEST, t, None] + tuned,
        }
    for t, few in dict(openmic=(40, 38, 20), ballroom=(35, 30, 10)).items():
        f |= {
            (v, t, n): x + more for v, x in zip(SCENARIOS.values(), few, strict=True) for n, more in ((20, 0), (80, 10))
        }
    return f


def scored(f, tasks=TASKS, protocol=Protocol.corrected, seeds=(0, 1)):
    "A board of these scores, the same in all draws and seeds."
    losses = dict(workers=list(WORKERS), valid=np.ones((3, len(WORKERS))), weight=np.ones((3, len(WORKERS))))
    results = [
        SimpleNamespace(job=Trial(protocol, v, t, n, s), value=x / 100, losses=losses)
        for (v, t, n), x in f.items()
        for s in seeds
    ]
    return Board(results, lambda r: {"macro_f1": np.full(1 + DRAWS, r.value)}, metric="macro_f1", prep=prepared(*tasks))


def effect(id, board, protocol="corrected"):
    return interval(CLAIMS[id](board, protocol)[0])


def _relative(f, worker):
    def of(s, t):
        return f[f"paseplus_reweighted_{s}", t, None]

    return np.mean([100 * (of(b, t) / of(a, t) - 1) for a, b in pairs(worker) for t in TASKS])


@pytest.mark.parametrize(
    "id,expected",
    dict(P1=2, P2=1.5, P3=1 + 5 * 4 / 24, P4=5, P7=2, P8=1, P9=100 * (54 / 51 - 1), P11=1, P12=2, P13=13).items(),
)
def test_effects_that_can_be_worked_out(id, expected):
    np.testing.assert_allclose(effect(id, scored(holding())), expected)


def test_the_relative_gain_of_the_tempogram_is_compared_with_the_larger_of_the_others():
    f = holding()
    assert _relative(f, "M") > _relative(f, "C")
    np.testing.assert_allclose(effect("P6", scored(f))[0], _relative(f, "T") - _relative(f, "M"))


def test_nothing_is_relative_to_nothing():
    f = holding()
    f["paseplus_reweighted_WLP", "fma", None] = 0.0
    with pytest.raises(LookupError, match="a score of 0 has no relative gain"):
        CLAIMS["P9"](scored(f), "corrected")
    values = module.relative(np.array([2.0, 2.0, 2.0]), np.array([1.0, 0.0, 4.0]))
    assert values.tolist()[::2] == [100.0, -50.0] and np.isnan(values[1])


def changed(id):
    "Scores in which the claim does not hold."
    f = holding()

    def add(points, *tasks, has):
        for v, t, n in f:
            if t in tasks and has(v):
                f[v, t, n] += points

    def sets(letter):
        return lambda v: v.startswith("paseplus_reweighted_WLP") and letter in v[len("paseplus_reweighted_WLP") :]

    if id == "P1":
        f[f"pase_equal_{ALL}", "fma", None] += 5
    if id == "P2":
        f["pase_supervised", "ballroom", None] += 5
    if id == "P3":
        add(-3, *TASKS, has=lambda v: "reweighted" in v)
    if id == "P4":
        add(-6, "ballroom", has=sets("T"))
    if id == "P6":
        add(60, "ballroom", has=sets("M"))
    if id == "P7":
        add(4, "ballroom", has=sets("M"))
    if id == "P8":
        add(3, "openmic", has=sets("C"))
    if id == "P9":
        f[BEST, "fma", None] = 40.0
    if id == "P11":
        f[TUNED, "fma", None] += 2
    if id == "P12":
        f[TUNED, "ballroom", 20] += 6
    if id == "P13":
        f["paseplus_supervised", "openmic", 20] += 30
    return f


@pytest.mark.parametrize("id", ["P1", "P2", "P3", "P4", "P6", "P7", "P8", "P9", "P11", "P12", "P13"])
def test_a_claim_holds_or_does_not(id):
    test = claims_of("pase")[id]["test"]
    said = [verdict(*effect(id, scored(f))[1:], test) for f in (holding(), changed(id))]
    assert said == ["holds", "does not hold"]


def test_pase_on_instruments_is_the_exception_whichever_way_it_goes():
    f = holding()
    f["pase_supervised", "openmic", None] = 0.0
    assert effect("P2", scored(f)) == effect("P2", scored(holding()))


def test_a_worker_has_four_pairs_of_sets():
    for w in "MCT":
        assert len(pairs(w)) == 4 and all(sorted(b[4:]) == sorted(a[4:] + w) for a, b in pairs(w))
        assert sorted(sum(pairs(w), ())) == sorted(SETS)


# Confusions


def answers(classes, variant, task, moves, trials=1, seed=0):
    "Ten clips a class, all named rightly but for `moves`: (true, said) -> clips."
    y = np.repeat(np.arange(len(classes)), 10)
    said = y.copy()
    for (a, b), k in moves.items():
        at = np.flatnonzero((y == classes.index(a)) & (said == y))[:k]
        said[at] = classes.index(b)
    job = Trial(Protocol.corrected, variant, task, None, seed)
    return Reading(job, np.eye(len(classes))[[said] * trials], y, np.arange(len(y)), np.arange(9), None)


def confused(task, classes, **moves):
    def name(s):
        return "paseplus_reweighted_" + s.replace("_", "+")

    return board_of([answers(classes, name(s), task, m) for s, m in moves.items()], prepared(task, **{task: classes}))


BEFORE = {
    ("Foxtrot", "Quickstep"): 4,
    ("Quickstep", "Foxtrot"): 2,
    ("Waltz", "Viennese waltz"): 2,
    ("Cha cha", "Jive"): 4,
    ("Samba", "Cha cha"): 2,
}


def test_confusions_of_dances():
    b = confused(
        "ballroom", DANCES, WLP=BEFORE, WLP_T={("Foxtrot", "Rumba"): 6, ("Viennese waltz", "Tango"): 4}, WLP_MCT={}
    )
    value, low, high = effect("P10", b)
    assert value == pytest.approx(15.0) and low < value < high  # tempo: (30 + 10)/2, rhythm: (20 + 10)/2
    assert effect("P14", b)[0] == pytest.approx(30.0)  # of 20 clips six less, ten of ten instead of six
    back = confused("ballroom", DANCES, WLP={}, WLP_T=BEFORE, WLP_MCT={("Rumba", "Foxtrot"): 10})
    assert effect("P10", back)[0] == pytest.approx(-20.0)
    assert effect("P14", back)[0] == pytest.approx(-50.0)  # of 20 clips ten more
    assert [verdict(*effect(id, back)[1:], {"above": 0}) for id in ("P10", "P14")] == ["does not hold"] * 2


def test_confusions_of_genres():
    mfcc = {("Electronic", "Hip-Hop"): 2, ("Electronic", "International"): 1, ("Pop", "Rock"): 5}
    b = confused("fma", list(SMALL), WLP={}, WLP_M=mfcc, WLP_T={("International", "Folk"): 3, ("Pop", "Rock"): 1})
    assert effect("P15", b)[0] == pytest.approx(30.0)  # rise (30 + 50)/2, fall to (0 + 10)/2, astray 30
    kept = confused("fma", list(SMALL), WLP={}, WLP_M=mfcc, WLP_T=mfcc)
    assert (
        effect("P15", kept)[0] == pytest.approx(0.0)
        and verdict(*effect("P15", kept)[1:], {"above": 0}) == "does not hold"
    )


def test_shares_are_those_of_the_true_classes_and_draws_are_the_scores_own():
    r = answers(list("abc"), BEST, "fma", {("a", "b"): 3}, trials=2)
    assert (
        named(r, list("abc"), [("a", "b")])[0] == pytest.approx(0.3) and named(r, list("abc"), [("b", "b")])[0] == 1.0
    )
    np.testing.assert_allclose(named(r, list("abc"), [("a", "a")]) + named(r, list("abc"), [("a", "b")]), 1.0)
    with pytest.raises(LookupError, match="this corpus has no Tango, Waltz"):
        named(r, list("abc"), [("a", "Waltz"), ("Tango", "a")])


# Losses


def losing(equal, weighted, seeds=(0,), epochs=20):
    "A board of two runs whose workers' losses are these."

    def of(variant, valid, weight, s):
        losses = dict(
            workers=np.array(list(WORKERS)),
            valid=np.tile(valid, (epochs, 1)),
            train=None,
            weight=np.tile(weight, (epochs, 1)),
        )
        return SimpleNamespace(job=Trial(Protocol.corrected, variant, "artist", None, s), losses=losses)

    one = np.ones(len(WORKERS))
    results = [
        of(v, *w, s) for s in seeds for v, w in ((f"paseplus_equal_{ALL}", (equal, one)), (BEST, (one, weighted)))
    ]
    return Board(results, None, prep=prepared("artist"))


def test_losses_by_worker():
    assert list(WORKERS) == ["waveform", "lps", "prosody", "mfcc", "chroma", "tempogram"]
    falling, even = [0.1, 100, 0.2, 10, 0.1, 0.1], [1, 2, 1, 1, 1, 1]
    assert effect("P5", losing(falling, even)) == pytest.approx([1 - np.log10(2)] * 3)
    assert effect("P5", losing([0.1, 100, 0.2, 10, 0.1, 1], even)) == pytest.approx(
        [0.5] * 3
    )  # two decades less one and a half
    assert effect("P5", losing([0.1, 100, 0.2, 1000, 0.1, 0.1], even, seeds=(0, 1))) == pytest.approx([-1] * 3)
    assert effect("P5", losing(falling, [1, 100, 1, 1, 1, 1])) == pytest.approx([-1] * 3)


# What cannot be asked


def test_every_claim_has_a_rule_and_a_function_and_says_what_it_needs():
    assert list(claims_of("pase")) == list(CLAIMS) == [f"P{i}" for i in range(1, 16)] and set(BOTH) < set(CLAIMS)
    rows = claim_rows("pase", "nothing", scored({}), CLAIMS, BOTH)
    assert (
        len(rows) == 15 + len(BOTH)
        and {r["verdict"] for r in rows} == {"not testable here"}
        and all(r["rule"] for r in rows)
    )
    assert not any("KeyError" in r["rule"] or "\n" in r["rule"] for r in rows)


def test_a_folder_is_asked_what_it_can_be_asked():
    f = {(v, "artist", n): x for (v, t, n), x in holding().items() if t == "ballroom"}
    rows = pd.DataFrame(claim_rows("pase", "folder", scored(f, ["artist"]), CLAIMS))
    asked = rows.claim[rows.effect.notna()].tolist()
    assert asked == ["P1", "P2", "P3", "P5", "P6", "P12", "P13"]
    assert rows.rule[rows.effect.isna()].str.startswith("this corpus has no labels of").all()


def test_a_corpus_without_a_dance_says_which():
    b = confused("ballroom", ["Foxtrot", "Quickstep", "Waltz", "Viennese waltz"], WLP={}, WLP_T={}, WLP_MCT={})
    with pytest.raises(LookupError, match="this corpus has no Cha cha, Jive"):
        CLAIMS["P10"](b, "corrected")
    with pytest.raises(LookupError, match="this corpus has no Rumba"):
        CLAIMS["P14"](b, "corrected")


def test_seeds_that_only_some_have_are_not_compared():
    f = holding()
    one, two = scored(f, seeds=(0, 1)), scored({k: v for k, v in f.items() if k[0].startswith("pase_")}, seeds=(2,))
    with pytest.raises(LookupError, match="no seed has all of"):
        b = scored({k: v for k, v in f.items() if not k[0].startswith("pase_")}, seeds=(0,))
        b.by |= two.by
        CLAIMS["P1"](b, "corrected")
    assert CLAIMS["P1"](one, "corrected")[1] == 2


# Crossings


@pytest.mark.parametrize(
    "more,expected",
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
def test_crossings(more, expected):
    assert crossing([100, 200, 400], np.array([more], float))[0] == pytest.approx(expected)


def test_what_is_known_of_a_crossing():
    n = [100, 400]
    below, above = crossing_bounds(n, np.zeros(11)), crossing_bounds(n, np.full(11, np.inf))
    assert below["high"] == 100 and np.isnan([below["value"], below["low"]]).all()
    assert above["low"] == 400 and np.isnan([above["value"], above["high"]]).all()
    some = crossing_bounds(n, np.array([200.0, *[150.0] * 500, *[300.0] * 400, *[np.inf] * 100]))
    assert some["value"] == 200 and some["low"] == 150 and np.isnan(some["high"])


# Tables and figures


def made_up(tasks=TASKS, protocols=(Protocol.corrected, Protocol.published), n=60):
    "Readings of noisy answers, frozen ones under all of `protocols`, and the corpus that they are about."
    classes = dict(
        openmic=["piano", "flute", "voice"], fma=list(SMALL), ballroom=DANCES, artist=["one", "two", "three"]
    )
    y = {t: generator("truth", t).integers(0, len(classes[t]), n) for t in tasks}
    if "openmic" in y:
        y["openmic"] = np.where(generator("known").random((n, 3)) < 0.7, np.eye(3)[y["openmic"]], np.nan)

    def halves(split, seed):
        return dict(train=np.arange(0, n, 2), test=np.arange(n))

    targets = {t: SimpleNamespace(classes=classes[t], y=y[t], several=t == "openmic", parts=halves) for t in tasks}
    frozen = [f"paseplus_{w}_{s}" for s in SETS for w in ("equal", "reweighted")] + [
        f"pase_equal_{ALL}",
        "paseplus_random",
        "features",
    ]
    jobs = [Trial(p, v, t, None, 0) for p in protocols for v in frozen for t in tasks]
    jobs += [
        Trial(Protocol.corrected, v, t, None, 0)
        for v in (TUNED, "pase_supervised", "paseplus_supervised")
        for t in tasks
    ]
    jobs += [
        Trial(Protocol.corrected, v, t, k, 0) for v in SCENARIOS.values() for t in tasks if t != "fma" for k in (10, 40)
    ]
    prep = SimpleNamespace(targets=targets, name="made up", pool=lambda protocol: "train")
    return [_reading(j, y[j.task], len(classes[j.task])) for j in jobs], prep


def _reading(job, y, C):
    rng = generator(job.label, job.protocol.split)
    z = 2 * (np.nan_to_num(y - 0.5) if y.ndim == 2 else np.eye(C)[y]) + rng.normal(size=(2, len(y), C))
    frozen, names = scenario_of(job.variant), np.array(list(WORKERS))
    losses = dict(workers=names, weight=np.ones((25, 6))) | {
        p: np.exp(rng.normal(size=(25, 6))) for p in ("valid", "train")
    }
    return Reading(
        job,
        1 / (1 + np.exp(-z)),
        y,
        np.arange(len(y)) // 4,
        np.arange(job.n or 90),
        losses if frozen[1].trained else None,
    )


FIGURES = {"fig02_encoders", "fig03_weighting", "fig04_losses", "fig05_gains", "fig08_budgets"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    readings, prep = made_up()
    board, out = board_of(readings, prep), tmp_path_factory.mktemp("tables")
    return Settings(), prep, board, save_tables(Settings(), prep, board, "abc", out), out


def test_tables_hold_the_papers_numbers_beside_ours(saved):
    P, prep, board, tables, out = saved
    t = tables["scores"]
    assert sorted(p.name for p in out.iterdir()) == ["pase.csv", "pase_confusions.csv", "pase_losses.csv"]
    said = t[(t.protocol == "corrected") & t.paper_value.notna()].set_index("variant")
    assert said.paper_value.to_dict() == {k: v["paper_value"] for k, v in paper_values().items()}
    assert len(said) == len(published("pase")) and set(said.metric) == {
        "relative_gain_percent",
        "training_samples",
        "parameters",
    }
    assert said.value[["PASE", "PASE+"]].tolist() == [6_029_376, 8_324_672]
    gain = t[(t.variant == f"gain_{ALL}_fma") & (t.protocol == "corrected")].iloc[0]
    scores = t[(t.protocol == "corrected") & (t.metric == "macro_f1")].set_index("variant").value
    f = [scores[label_of(v, "fma")] for v in (BEST, "paseplus_reweighted_WLP")]
    assert gain.value == pytest.approx(100 * (f[0] / f[1] - 1)) and gain.low < gain.value < gain.high
    assert set(t.variant.map(split_label).str[1].dropna()) == set(TASKS)


def test_tables_are_the_same_when_saved_again(saved, tmp_path):
    P, prep, board, _, out = saved
    save_tables(P, prep, board, "abc", tmp_path)
    for f in out.iterdir():
        assert f.read_bytes() == (tmp_path / f.name).read_bytes()
    before = (tmp_path / "pase.csv").read_bytes()
    save_tables(P, prep, board, "abc", tmp_path)
    assert (tmp_path / "pase.csv").read_bytes() == before


def test_confusions_in_the_table_are_mean_counts(saved):
    _, prep, board, tables, _ = saved
    t = tables["confusions"]
    assert set(t.variant) == {
        label_of(f"paseplus_reweighted_{s}", k) for k, v in module.STEPS.items() for s in sum(v, ())
    }
    counts = counts_of(board, "corrected", "ballroom", "WLP")
    assert counts.sum() == pytest.approx(60)
    one = t[t.variant == label_of("paseplus_reweighted_WLP", "ballroom")].set_index(["true", "said"]).value
    assert one["Jive", "Waltz"] == pytest.approx(counts[DANCES.index("Jive"), DANCES.index("Waltz")])


def test_summary_has_a_row_a_variant_and_a_column_a_task(saved):
    P, prep, _, tables, _ = saved
    s = summary(P, prep, tables["scores"])
    assert set(s.columns) == {f"{viz.label(t)}, {p}" for t in TASKS for p in ("corrected", "published")}
    assert (
        s.loc[(BEST, "10"), "OpenMIC, corrected"] > 0
        and np.isnan(s.loc[(BEST, "10"), "FMA, corrected"])
        and (s.max(axis=None) <= 100)
    )


def test_all_figures_are_drawn(saved):
    P, prep, board, tables, _ = saved
    made = result_figures(P, prep, tables)
    assert set(made) == FIGURES | {"fig06_ballroom", "fig07_fma"} | {f"baselines_{t}" for t in TASKS}
    assert [ax.get_title(loc="left") for ax in made["fig03_weighting"]] == ["OpenMIC", "FMA", "Ballroom"]
    assert [len(made[k]) for k in ("fig06_ballroom", "fig07_fma", "fig04_losses", "fig08_budgets")] == [3, 4, 2, 2]
    equal, other = made["fig04_losses"]
    assert (
        equal.get_yscale() == other.get_yscale() == "log"
        and max(line.get_xdata().max() for line in equal.lines if len(line.get_xdata())) == 20
    )
    diamonds = [c for ax in made["fig05_gains"] for c in ax.collections if c.get_label() == "Paper"]
    said = published("pase").set_index("metric").paper_value
    assert sorted(c.get_offsets()[0, 1] for c in diamonds) == sorted(said["relative_gain_percent"].astype(float))
    legend = [h.get_text() for h in made["fig08_budgets"][0].figure.legends[0].get_texts()]
    assert sorted(v.split(": ")[1] for v in legend if "Paper" in v) == sorted(
        f"{float(v):,.0f}" for v in said["training_samples"]
    )


def test_figures_of_a_folder():
    readings, prep = made_up(("artist",), (Protocol.corrected,))
    board, P = board_of(readings, prep), Settings(protocol="corrected")
    made = result_figures(P, prep, _tables(P, prep, board))
    assert set(made) == FIGURES | {"baselines_artist"} and module.protocol_figure(board) == {}


def _tables(P, prep, board):
    import tempfile

    with tempfile.TemporaryDirectory() as d:
        return save_tables(P, prep, board, "abc", d)


def test_figures_of_few_networks_come_from_the_committed_rows(saved):
    _, prep, _, tables, _ = saved
    P = Settings(preset="mini")
    theirs = {k: t.assign(preset="claims") for k, t in tables.items()}
    made = result_figures(P, prep, theirs)
    assert set(made) == FIGURES | {"fig06_ballroom", "fig07_fma"}  # baselines are the run's own
    assert all("(preset claims)" in np.ravel(a)[0].figure.get_suptitle() for a in made.values())
    assert (
        result_figures(P, prep, {k: t[:0] for k, t in theirs.items()})
        == {}
        == confusion_figures(P, prep, theirs["confusions"][:5])
    )


def test_protocols_are_compared_where_they_differ(saved):
    _, _, board, _, _ = saved
    e = protocol_gains(board)
    assert (
        set(e.metric) == set(TASKS) and e.switch.nunique() == 5
    )  # all workers, two weightings and two encoders, or none
    assert (e.low <= e.effect).all() and (e.effect <= e.high).all()
    readings, prep = made_up(("fma",))
    same = [
        Reading(
            Trial(p, BEST, "fma", None, 0), readings[0].said, readings[0].y, readings[0].group, readings[0].train, None
        )
        for p in (Protocol.corrected, Protocol.published)
    ]
    assert protocol_gains(board_of(same, prep)).empty

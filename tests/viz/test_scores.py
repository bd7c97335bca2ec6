"Scores beside the paper's: the table's numbers, the right intervals, one unit an axis."

import numpy as np
import pandas as pd
import pytest
from drawings import assert_axes_named, assert_drawn_alike

from musicmtl import viz
from musicmtl.core import ParamsError


def results(seeds=1, corpus="miniature", metric="micro_f1"):
    rng = np.random.default_rng(0)
    rows = [
        (v, p, s, 0.5 + 0.1 * (p == "published") + rng.normal(0, 0.02))
        for v in ("single_task", "equal")
        for p in ("published", "corrected")
        for s in range(seeds)
    ]
    rows += [("majority", "published", 0, 0.3), ("majority", "corrected", 0, 0.25)]
    df = pd.DataFrame(rows, columns=["variant", "protocol", "seed", "value"])
    return df.assign(
        low=df.value - 0.03, high=df.value + 0.03, metric=metric, corpus=corpus, paper_value=87.99, paper_ref="§5"
    )


def points_of(*x):
    return pd.DataFrame([dict(x=v, group=g, value=0.5, low=0.4, high=0.6) for v in x for g in ("equal", "reweighted")])


EFFECTS = pd.DataFrame(dict(switch=["a", "b"], effect=[1.0, 2.0], low=[0.0, 1.0], high=[2.0, 3.0]))
CLAIMS = pd.DataFrame(
    dict(
        claim=["A1", "A2"],
        effect=[1.0, None],
        low=[0.0, None],
        high=[2.0, None],
        unit=["points", "ratio"],
        verdict=["holds", "not testable here"],
    )
)
SWEEP = pd.DataFrame(
    [
        dict(setting=alpha, task=task, value=value, low=value - 0.02, high=value + 0.02)
        for task, value in (("artist", 0.5), ("language", 0.6))
        for alpha in (0.25, 4, None)
    ]
)
GAINS = pd.DataFrame(
    [
        ("agf", "genre", "upgrad", "equal", 2.0, 1.0, 3.0),
        ("agf", "genre", "upgrad", "single task", 1.0, -1.0, 3.0),
        ("agf", "genre", "equal", "single task", -4.0, -5.0, -3.0),
        ("pase", "dances", "reciprocal", "equal", 0.0, -9.0, 9.0),
    ],
    columns="study task balancer against effect low high".split(),
)
FIGURES = dict(
    bars=lambda: viz.score_bars(results()),
    panels=lambda: viz.score_panels(
        {"FMA": points_of("WLP", "WLP+T")}, metric="macro_f1", xlabel="Workers", looks={"equal": "open"}
    ),
    sweep=lambda: viz.setting_sweep(SWEEP, metric="roc_auc"),
    effects=lambda: viz.protocol_effects(EFFECTS),
    claims=lambda: viz.claim_forest(CLAIMS),
    margins=lambda: viz.claim_forest(CLAIMS, margins=MARGINS),
    gains=lambda: viz.balancer_gains(GAINS)[:1],  # the others share its rows
)


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_file_every_time_and_its_style_does_not_leak(name, tmp_path):
    assert_drawn_alike(FIGURES[name], tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_says_what_it_shows(name):
    assert_axes_named(FIGURES[name]())


@pytest.mark.parametrize("seeds", [1, 5])
def test_scores_stand_beside_the_paper_and_the_majority(seeds):
    df = results(seeds)
    ax = viz.score_bars(df)
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "Paper, 87.99 (§5)" in names and names.count("Majority class") == 1
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["Paper, 87.99 (§5)"].get_xdata()[0] == 87.99
    majority = lines["Majority class"].get_xydata()
    steps = majority[np.isfinite(majority).all(1)].reshape(-1, 2, 2)  # a row's published half, then its corrected one
    np.testing.assert_allclose(steps[:, :, 0], [[30, 30], [25, 25]] * 2)
    np.testing.assert_allclose(steps[:, :, 1], [[-0.5, 0], [0, 0.5], [0.5, 1], [1, 1.5]])
    mean = df[(df.variant == "equal") & (df.protocol == "corrected")].value.mean() * 100
    assert any(np.isclose(np.asarray(line.get_xdata(), float), mean).any() for line in ax.lines)
    assert ("Student's t" in ax.get_xlabel()) == (seeds == 5)
    assert "over test groups" in ax.get_xlabel() if seeds == 1 else "and test groups" in ax.get_xlabel()


def test_chance_runs_through_the_rows_of_its_own_task():
    rows = [("artist", 0.8), ("multi_artist", 0.7), ("language", 0.9), ("chance_artist", 0.1), ("chance_language", 0.2)]
    table = pd.DataFrame(rows, columns=["variant", "value"]).assign(protocol="corrected", metric="pr_auc")
    ax = viz.score_bars(table.assign(low=table.value, high=table.value))
    (chance,) = [line for line in ax.lines if line.get_label() == "Chance"]
    points = chance.get_xydata()
    np.testing.assert_allclose(points[np.isfinite(points).all(1)], [[10, -0.5], [10, 1.5], [20, 1.5], [20, 2.5]])


def test_a_figure_without_a_title_is_called_after_its_metric():
    assert viz.score_bars(results(1)).get_title("left") == "Micro F1"
    assert viz.score_bars(results(1), title="Genres").get_title("left") == "Genres"


def test_what_lies_beyond_an_axis_is_said_in_words():
    (ax,) = viz.score_panels({"FMA": points_of(50, 400)}, metric="macro_f1", upright={"FMA": {"The paper's": 8000.0}})
    assert ax.get_xlim()[1] < 8000 and [text.get_text() for text in ax.texts] == ["The paper's →"]
    assert not any(np.allclose(line.get_xdata(), 8000.0) for line in ax.lines)


def test_seed_summary_is_what_it_is_group_by_group():
    "Where a value or an end is missing, too, and rows of a group lie apart."
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {"variant": rng.choice(list("abcd"), 60), "protocol": rng.choice(["published", "corrected"], 60)}
    )
    table["value"] = rng.random(60)
    table["low"], table["high"] = table.value - rng.random(60), table.value + rng.random(60)
    for column in ("value", "low", "high"):
        table.loc[rng.choice(60, 9, replace=False), column] = np.nan
    table = pd.concat([table, table[:1].assign(variant="alone"), table[:2].assign(variant="two", protocol="corrected")])
    rows = []
    for (variant, protocol), group in table.groupby(["variant", "protocol"], sort=False):
        mean, n = group.value.mean(), len(group)
        sides = (group.value - group.low, group.high - group.value)
        below, above = (viz.half_width(group.value, side) if n > 2 else side.mean() for side in sides)
        rows.append((variant, protocol, mean, mean - below, mean + above, n))
    plain = pd.DataFrame(rows, columns=["variant", "protocol", "value", "low", "high", "n"])
    pd.testing.assert_frame_equal(viz.seed_summary(table), plain)
    assert viz.seed_summary(table[:0]).empty


def test_seed_summary_matches_students_interval_where_nothing_is_known_of_groups():
    d = pd.DataFrame(dict(variant="a", protocol="p", value=[1.0, 2.0, 3.0, 4.0], low=np.nan, high=np.nan))
    s = viz.seed_summary(d).iloc[0]
    half = 3.182446305284263 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert s.value == 2.5 and (s.low, s.high) == pytest.approx((2.5 - half, 2.5 + half))
    assert np.isnan(viz.seed_summary(d[:1]).iloc[0].low)


def test_an_interval_has_the_noise_of_groups_and_from_three_trainings_on_that_of_trainings():
    d = pd.DataFrame(dict(variant="a", protocol="p", value=[1.0, 2.0, 3.0, 4.0]))
    d = d.assign(low=d.value - 1, high=d.value + 3)
    s = viz.seed_summary(d).iloc[0]
    half = 3.182446305284263 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert (s.low, s.high) == pytest.approx((2.5 - np.hypot(half, 1), 2.5 + np.hypot(half, 3)))
    assert viz.seed_summary(d[:1]).iloc[0][["low", "high"]].tolist() == [0.0, 4.0]
    assert viz.seed_summary(d[:2]).iloc[0][["low", "high"]].tolist() == [0.5, 4.5]


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_every_score_has_a_bar_and_several_trainings_are_thin_ticks(seeds):
    ax = viz.score_bars(results(seeds))
    bars = [np.ptp(np.asarray(end, float)[:, 0]) for c in ax.containers for end in c.lines[2][0].get_segments()]
    assert len(bars) == 4 and min(bars) > 0
    ticks = [len(c.get_offsets()) for c in ax.collections if c.get_label().startswith("_child")]
    assert sum(ticks) == (4 * seeds if seeds > 1 else 0)
    assert ("two trainings" in ax.get_xlabel()) == (seeds == 2)


def test_one_metric_and_one_corpus_per_figure():
    with pytest.raises(ParamsError, match="one metric"):
        viz.score_bars(pd.concat([results(), results(metric="macro_f1")]))
    with pytest.raises(ParamsError, match="one corpus"):
        viz.score_bars(pd.concat([results(), results(corpus="albums")]))


def test_auc_axes_leave_out_what_is_empty_and_nothing_else():
    def rows(*values):
        return pd.DataFrame(
            [
                dict(variant="a", protocol="corrected", metric="roc_auc", value=v, low=v - 0.1, high=v + 0.1)
                for v in values
            ]
        )

    def left(*values):
        return viz.score_bars(rows(*values)).get_xlim()[0]

    assert left(0.8) == 40 and left(0.3) == pytest.approx(20)
    assert left(0.3, 0.32) == pytest.approx(21)  # two trainings have the bar of their test groups


def test_panels_of_scores_show_the_tables_numbers():
    a, b = viz.score_panels(
        {"FMA": points_of("WLP", "WLP+T"), "OpenMIC": points_of("WLP+T")},
        metric="macro_f1",
        looks={"equal": "open"},
        paper={"FMA": {"WLP+T": 55.0}, "OpenMIC": {"other": 1.0}},
        across={"FMA": {"pase_supervised": 0.45}},
    )
    equal, other = a.containers
    np.testing.assert_allclose(equal.lines[0].get_ydata(), 50.0)
    assert equal.lines[0].get_markerfacecolor() == "white" != other.lines[0].get_markerfacecolor()
    assert (equal.lines[0].get_xdata() < other.lines[0].get_xdata()).all()  # side by side
    assert [t.get_text() for t in b.get_xticklabels()] == ["WLP", "WLP+T"] and b.containers[0].lines[0].get_xdata()[
        0
    ] > 0.5
    assert a.collections[-1].get_offsets().tolist() == [[1.0, 55.0]] and not any(
        c.get_label() == "Paper" for c in b.collections
    )
    assert any(np.allclose(line.get_ydata(), 45.0) for line in a.lines)
    curve = points_of(50, 400)
    (ax,) = viz.score_panels({"FMA": curve}, metric="macro_f1", upright={"FMA": {"Crossing": 100.0}})
    assert ax.get_xscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == ["50", "400"]
    assert any(np.allclose(line.get_xdata(), 100.0) for line in ax.lines)


def test_a_paper_with_a_number_for_each_variant_has_it_in_the_variants_row():
    table = results()
    table = table.assign(paper_value=table.variant.map({"single_task": 55.0, "equal": 0.61}))
    ax = viz.score_bars(table)
    marks = next(points for points in ax.collections if points.get_label() == "Paper")
    assert marks.get_offsets().tolist() == [[61.0, 1.0], [55.0, 0.0]]
    assert not any(line.get_label().startswith("Paper") for line in ax.lines)


def test_a_sweep_has_its_settings_on_the_axis_and_what_has_none_as_a_line():
    ax = viz.setting_sweep(SWEEP, metric="roc_auc", setting="Weight α", marked=4)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.25", "4"] and ax.get_xlabel() == "Weight α"
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert {"Artist", "Language", "Single task, artist", "Single task, language"} == set(labels)
    assert any(np.allclose(line.get_ydata(), 60.0) for line in ax.lines)


def test_effects_of_several_metrics_stand_side_by_side():
    both = pd.concat([EFFECTS.assign(metric="micro_f1"), EFFECTS[:1].assign(metric="macro_f1", effect=5.0)])
    ax = viz.protocol_effects(both)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["Micro F1", "Macro F1"]
    micro, macro = (container.lines[0] for container in ax.containers)
    assert micro.get_xdata().tolist() == [1.0, 2.0] and macro.get_xdata().tolist() == [5.0]
    assert micro.get_ydata()[0] < 0 < macro.get_ydata()[0] < 0.5


def test_claims_of_different_units_get_panels_and_unknown_verdicts_an_error():
    df = pd.DataFrame(
        dict(
            claim=["A1", "A2", "A3"],
            effect=[1.0, -1.0, 2.0],
            low=[0.5, -2, 1],
            high=[2.0, 0, 3],
            unit=["a", "b", "a"],
            verdict=["holds", "does not hold", "not resolved"],
        )
    )
    axes = viz.claim_forest(df)
    assert len(axes) == 2 and [t.get_text() for t in axes[0].get_yticklabels()] == ["A1", "A3"]
    with pytest.raises(ParamsError, match="maybe"):
        viz.claim_forest(df.assign(verdict="maybe"))


MARGINS = pd.DataFrame(
    dict(
        claim=["A1", "A1"],
        margin=["micro_f1", "gain"],
        place=["α = 1", ""],
        effect=[1.0, 3.0],
        low=[0.0, 2.0],
        high=[2.0, 4.0],
        unit="points",
        test=["above", "within"],
        bound=[0.5, 5.0],
        paper=[1.7, np.nan],
    )
)


def test_margins_have_a_row_each_with_bound_and_paper_under_their_claims_verdict():
    axes = viz.claim_forest(CLAIMS, margins=MARGINS)
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["A1, Micro F1, α = 1", "A1, Gain"]
    bounds = [line.get_xdata().tolist() for line in axes[0].lines if line.get_marker() == "|"][-2:]
    assert bounds == [[0.5], [5.0, -5.0]]
    papers = [line.get_xdata()[0] for line in axes[0].lines if line.get_marker() == "D"]
    assert papers[0] == 1.7 and np.isnan(papers[1])
    assert [t.get_text() for t in axes[0].get_legend().get_texts()] == ["holds", "bound", "paper"]
    assert [t.get_text() for t in axes[-1].texts] == ["not testable here"]  # the claim without margins
    with pytest.raises(ParamsError, match="claim_forest: margins: the table lacks bound"):
        viz.claim_forest(CLAIMS, margins=MARGINS.drop(columns="bound"))


def test_one_training_has_an_open_marker():
    (ax,) = viz.claim_forest(CLAIMS[:1].assign(verdict="one training"))
    (marker,) = [line for line in ax.lines if line.get_marker() == "^"]
    assert marker.get_markerfacecolor() == "white"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one training"]


def test_figures_show_the_names_that_they_are_given():
    names = viz.NAMES | viz.Names(
        forms={r"as_(\d+)_(\d+)": ("AS, β = {}, {} units", "as_{}")}, colours=dict(as_100="#0560C2", equal="#123456")
    )
    ax = viz.score_bars(results().replace({"variant": {"equal": "as_100_200"}}), names=names)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Single task", "AS, β = 100, 200 units"]
    (ax,) = viz.score_panels({"FMA": points_of("a")}, metric="macro_f1", names=names)
    assert ax.containers[0].lines[0].get_color() == "#123456"


@pytest.mark.parametrize(
    "trainings, words",
    [([1, 1], "one training, intervals over test groups alone"), ([2, 2], "2 trainings"), ([1, 5], "1 to 5 trainings")],
)
def test_effects_say_on_how_many_trainings_they_rest(trainings, words):
    table = pd.DataFrame({"switch": ["a", "b"], "effect": 1.0, "low": 0.0, "high": 2.0, "trainings": trainings})
    assert viz.protocol_effects(table).get_xlabel().endswith(words)
    assert viz.protocol_effects(table.drop(columns="trainings")).get_xlabel().endswith("95 % intervals")


def test_trainings_are_counted_as_whole_numbers_where_the_papers_row_has_none():
    assert viz.in_trainings(pd.Series([3.0, 5.0, None])) == "3 to 5 trainings"
    assert viz.in_trainings(pd.Series([3, 3])) == "3 trainings"


def test_tasks_with_the_same_one_balancer_are_rows_below_its_name():
    row = {"against": "single_task", "low": -1.0, "high": 2.0}
    asked = [
        ("agf", "genre", "equal"),
        ("agf", "artist", "upgrad"),
        ("agf", "mood", "upgrad"),
        ("pase", "mood", "upgrad"),
    ]
    table = pd.DataFrame(
        [{"study": s, "task": t, "balancer": b, "effect": k, **row} for k, (s, t, b) in enumerate(asked)],
        index=[3, 1, 1, 0],
    )
    (ax,) = viz.balancer_gains(table)
    assert [t.get_text() for t in ax.texts] == ["Agf: genre", "Agf: UPGrad", "Pase: mood"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Equal weights", "Artist", "Mood", "UPGrad"]
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [x for line in points for x in line.get_xdata()] == [0, 1, 2, 3]


def test_gains_of_all_studies_share_a_scale_and_a_point_is_full_where_zero_is_left_out():
    axes = viz.balancer_gains(GAINS)
    assert [ax.get_xlabel() for ax in axes] == [
        f"Gain over {words} [points]" for words in ("equal weights", "single task")
    ]
    assert len({ax.get_xlim() for ax in axes}) == 1 and axes[0].get_xlim()[1] > 9
    rows = [t.get_text() for t in axes[0].get_yticklabels()]
    assert rows == ["UPGrad", "Equal weights", "Reciprocal of the loss"]
    assert [t.get_text() for t in axes[0].texts] == ["Agf: genre", "Pase: dances"]
    for ax, values in zip(axes, ({2.0: True, 0.0: False}, {1.0: False, -4.0: True}), strict=True):
        points = [line for line in ax.lines if line.get_marker() == "o"]
        found = {x: line.get_markerfacecolor() != "white" for line in points for x in line.get_xdata()}
        assert found == values

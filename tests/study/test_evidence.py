"Draws know whom they draw; intervals cover as often as they say; verdicts are wrong as rarely as they say."

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicmtl.core import ParamsError, generator
from musicmtl.study import (
    DRAWS,
    LEVEL,
    Margin,
    NotTestable,
    Sample,
    against_all,
    as_row,
    average,
    coverage,
    draws,
    estimated,
    false_verdicts,
    holm,
    interval,
    judged,
    last_fifth,
    magnitude,
    need_explained,
    need_items,
    need_learnt,
    need_settled,
    need_skill,
    need_trainings,
    pseudo_values,
    q_values,
    resolvable,
    simulated,
    trainings_needed,
    two_sided,
    verdict,
)

# ---- draws


@given(n=st.integers(1, 40), kind=st.sampled_from(["songs", "artists"]))
def test_draws_weigh_every_group_and_first_the_sample_itself(n, kind):
    weights = draws(n, kind)
    assert weights.shape == (1 + DRAWS, n) and (weights[0] == 1).all() and weights.min() > 0
    np.testing.assert_allclose(weights.mean(1), 1)
    np.testing.assert_array_equal(weights, draws(n, kind))


def test_a_group_has_the_same_weight_in_every_test_that_has_it():
    one, other = draws(["Ada", "Bo", "Cy"]), draws(["Cy", "Di", "Bo"])
    np.testing.assert_allclose(one[:, 1] / one[:, 2], other[:, 2] / other[:, 0])
    assert (draws(["Ada", "Bo"], "songs") != draws(["Ada", "Bo"], "artists")).any()


@pytest.mark.parametrize("groups", [[], ["Ada", "Ada"], 0])
def test_groups_without_names_of_their_own_are_refused(groups):
    with pytest.raises(ParamsError, match="different names"):
        draws(groups)


def test_an_interval_of_one_training_is_of_its_draws():
    values = np.concatenate([[7.0], np.arange(DRAWS)])
    assert interval(values) == (7.0, pytest.approx(0.025 * (DRAWS - 1)), pytest.approx(0.975 * (DRAWS - 1)))
    values[1::2] = np.nan  # draws in which nothing could be computed
    assert np.isfinite(interval(values)).all()
    assert as_row((1.0, 0.5, 2.0)) == {"effect": 1.0, "low": 0.5, "high": 2.0}


# ---- samples and estimates


def sample(trainings=5, groups=16, seed=0, effect=0.0, spread=0.5):
    rng = generator("sample", seed)
    values = (
        spread * rng.normal(size=(trainings, 1)) + rng.normal(size=groups) + 0.5 * rng.normal(size=(trainings, groups))
    )
    return Sample(effect + values @ draws(groups).T / groups, groups)


def test_arithmetic_is_by_training_and_draw():
    one, other = sample(seed=1), sample(seed=2)
    np.testing.assert_allclose((2 * (one - other) + 1).values, 2 * (one.values - other.values) + 1)
    np.testing.assert_allclose((1 - one).values, 1 - one.values)
    np.testing.assert_allclose((-one).values, -one.values)
    np.testing.assert_allclose((one / other).values, one.values / other.values)
    np.testing.assert_allclose(average([one, other]).values, (one + other).values / 2)
    assert (one - other).n_groups == 16 and np.isnan((one / 0).effect)


def test_samples_of_other_trainings_are_not_mixed():
    with pytest.raises(ParamsError, match="not of the same trainings"):
        sample(5) - sample(4)
    with pytest.raises(ParamsError, match="Sample: expected"):
        Sample(np.zeros((3, 7)), 4)
    with pytest.raises(ParamsError, match="Sample: expected"):
        Sample(np.zeros((3, 1 + DRAWS)))


def test_what_both_share_falls_out_of_a_paired_difference():
    one = sample(seed=1)
    shared = Sample(one.values + 0.3, 16) - one
    assert shared.estimate().error == pytest.approx(0, abs=1e-12) and shared.effect == pytest.approx(0.3)
    apart = (Sample(one.values + 0.3, 16) - one.unpaired()).estimate()
    assert apart.of_groups > one.estimate().of_groups


def test_the_variance_of_a_mean_over_groups_is_that_of_the_textbook():
    x = generator("x").normal(size=12)
    found = Sample(draws(12) @ x / 12, 12).estimate()
    assert found.of_groups == pytest.approx(x.std(ddof=1) / np.sqrt(12), rel=0.1)  # a thousand draws


def test_without_groups_it_is_students_t():
    from scipy.stats import ttest_1samp

    values = generator("t").normal(1, 1, 6)
    test = ttest_1samp(values, 0)
    found = Sample(values[:, None]).estimate()
    np.testing.assert_allclose(found.ends()[1:], test.confidence_interval(), rtol=1e-4)
    assert 2 * found.p_above(0) == pytest.approx(test.pvalue, rel=1e-3)


def test_the_interval_has_each_parts_own_t():
    from scipy.stats import t

    found = sample(3, 8).estimate()
    half = np.hypot(t.ppf(0.975, 2) * found.of_trainings, t.ppf(0.975, 7) * found.of_groups)
    assert found.ends()[2] - found.effect == pytest.approx(half, rel=1e-4)
    assert found.p_above(found.ends()[1]) == pytest.approx(0.025, rel=1e-3)


def test_many_estimates_are_each_as_one():
    many = np.stack([sample(4, 9, seed).values for seed in range(5)])
    batch = estimated(many, 9)
    for i in range(5):
        alone = sample(4, 9, i).estimate()
        assert batch.effect[i] == pytest.approx(alone.effect) and batch.error[i] == pytest.approx(alone.error)
        assert batch.df[i] == pytest.approx(alone.df) and batch.p_above(0)[i] == pytest.approx(alone.p_above(0))


def test_a_statistic_of_trainings_is_a_sample_of_pseudo_values():
    x = generator("jackknife").normal(size=(3, 2000)) * [[1], [2], [1]]
    found = pseudo_values(lambda a, b: np.log(a.std(ddof=1) / b.std(ddof=1)), x[1], x[0]).estimate()
    assert found.effect == pytest.approx(np.log(2), abs=0.1)
    assert found.error == pytest.approx(np.sqrt(1 / 2000), rel=0.15)  # of the logarithm of a ratio of deviations
    with pytest.raises(ParamsError, match="three trainings"):
        pseudo_values(np.mean, [1.0, 2.0])


# ---- verdicts

UP, DOWN, NOTHING = (sample(effect=effect, seed=3) for effect in (4.0, -4.0, 0.0))


def test_a_claim_holds_where_all_margins_do_and_fails_where_one_is_on_the_wrong_side():
    margins = [Margin(UP, {"above": 0}), Margin(DOWN, {"below": 0}), Margin(0.01 * UP, {"within": 1})]
    assert judged(margins)["verdict"] == "holds"
    assert judged([*margins, Margin(NOTHING, {"above": 0})])["verdict"] == "not resolved"
    found = judged([*margins, Margin(NOTHING, {"above": 0}), Margin(DOWN, {"above": 0})])
    assert found["verdict"] == "does not hold" and found["deciding"] == 4
    assert judged([Margin(UP, {"within": 1})])["verdict"] == "does not hold"


def test_below_is_above_turned_round():
    for one in (UP, DOWN, NOTHING):
        above, below = judged([Margin(one, {"above": 1})]), judged([Margin(-one, {"below": -1})])
        assert above["verdict"] == below["verdict"] and above["p_for"] == pytest.approx(below["p_for"])


@given(bound=st.floats(0.1, 20))
def test_within_a_band_is_two_one_sided_tests(bound):
    _, low, high = UP.estimate().ends()
    found = judged([Margin(UP, {"within": bound})])
    assert (found["verdict"] == "holds") == (high <= bound and low >= -bound)


def test_one_training_is_no_verdict():
    one = Sample(UP.values[:1], 16)
    found = judged([Margin(UP, {"above": 0}), Margin(one, {"above": 0})])
    assert found["verdict"] == "one training" and np.isnan(found["p_for"])
    assert np.isnan(one.estimate().of_trainings) and one.estimate().error == one.estimate().of_groups > 0


def test_nothing_at_all_is_not_a_failure():
    "All values exactly at the bound, as on a floor."
    floor = Sample(np.zeros((4, 1 + DRAWS)), 9)
    assert judged([Margin(floor, {"above": 0})])["verdict"] == "not resolved"
    assert judged([Margin(floor, {"within": 0})])["verdict"] == "holds"
    assert judged([Margin(floor + 1e-9, {"within": 0})])["verdict"] == "does not hold"


def test_what_is_not_defined_is_not_judged():
    with pytest.raises(NotTestable, match="gain: not defined"):
        judged([Margin(Sample(np.full((3, 1), np.nan)), {"above": 0}, "gain")])
    with pytest.raises(NotTestable, match="gain: tested on a single group"):
        judged([Margin(Sample(np.ones((3, 1 + DRAWS)), 1), {"above": 0}, "gain")])
    with pytest.raises(ParamsError, match="at least one margin"):
        judged([])
    with pytest.raises(ParamsError, match="above, below and within"):
        Margin(UP, {"over": 0})


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_never_below_the_probability_itself_nor_above_bonferroni(p):
    corrected = holm(p)
    assert (corrected >= p).all() and (corrected <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()


def test_more_margins_make_failing_harder_and_holding_too():
    wrong = [Margin(sample(effect=-1.6, seed=5), {"above": 0})]
    assert against_all(wrong + 8 * [Margin(UP, {"above": 0})])[0] == pytest.approx(min(1, 9 * against_all(wrong)[0]))
    assert (
        verdict(LEVEL, 1) == "holds" and verdict(0.5, LEVEL) == "does not hold" and verdict(0.03, 0.9) == "not resolved"
    )


def test_false_discoveries_are_corrected():
    "Benjamini and Hochberg's own example (1995, section 4.1): four of fifteen at 5 %."
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.324,
        0.4262,
        0.5719,
        0.6528,
        0.759,
        1,
    ]
    assert (q_values(p) <= 0.05).sum() == 4
    q = q_values([0.1, np.nan])
    assert np.isnan(q[1]) and q[0] == 0.1 and np.isnan(q_values([np.nan, np.nan])).all()
    assert two_sided(0.01, 1) == 0.02 and two_sided(0.8, 0.6) == 1


# ---- what could have been seen


def test_an_effect_that_is_resolvable_is_found_in_four_of_five_runs():
    found = np.array([m.effect for m in simulated(2000, 5, 16, 0.5)])[0]
    one = simulated(2000, 5, 16, 0.5)[0]
    true = float(
        np.mean(
            [
                resolvable(replace(one, effect=0.0, of_trainings=a, of_groups=b))
                for a, b in zip(one.of_trainings[:200], one.of_groups[:200], strict=True)
            ]
        )
    )
    p = replace(one, effect=found + true).p_above(0)
    assert 0.7 < (p <= LEVEL).mean() < 0.9


def test_more_trainings_resolve_more_until_the_groups_are_too_few():
    found = sample(4, 16).estimate()
    assert trainings_needed(found, resolvable(found)) == 4
    needed = trainings_needed(found, 0.9 * resolvable(found))
    assert 4 < needed and np.isinf(trainings_needed(found, 0.1 * found.of_groups))
    one = Sample(UP.values[:1], 16).estimate()
    assert np.isnan(resolvable(one)) and np.isnan(trainings_needed(one, 1)) and np.isnan(trainings_needed(found, -1))


def test_a_margins_row_says_what_it_saw_and_could_have_seen():
    row = Margin(UP, {"above": 0}, "gain", paper=5.0).row()
    assert row["low"] < row["effect"] < row["high"] and (row["trainings"], row["groups"]) == (5, 16)
    assert row["resolvable"] > 0 and row["paper"] == 5 and row["needed"] >= 2
    assert np.isnan(Margin(UP, {"above": 0}).row()["needed"])
    timed = Margin(Sample(np.ones((7, 1)), timed=True) - 0.5, {"above": 0}).row()  # rounds of a bench
    assert (timed["trainings"], timed["rounds"]) == (0, 7)
    alone = Margin(Sample(np.array([[3.0]])), {"above": 0}).row()  # a number of one training: nothing varies
    assert alone["effect"] == 3 and np.isnan(alone["low"]) and np.isnan(alone["high"])


def test_our_effect_is_set_beside_the_papers():
    def beside(*papers, test=None):
        return magnitude([Margin(UP, test or {"above": 0}, paper=paper) for paper in papers])

    assert beside(UP.effect + 9) == "smaller" and beside(UP.effect - 9) == "larger" and beside(UP.effect) == "as large"
    assert (
        beside(UP.effect, UP.effect + 9) == "smaller" and beside(np.nan) == "" and beside(0.5, test={"within": 1}) == ""
    )
    assert magnitude([Margin(-UP, {"below": 0}, paper=-UP.effect - 9)]) == "smaller"
    assert magnitude([Margin(Sample(UP.values[:1], 16), {"above": 0}, paper=1.0)]) == ""


# ---- gates


def test_gates_close_with_their_reason():
    need_skill("net", UP, chance=0)
    with pytest.raises(NotTestable, match="net: .* three standard errors above chance"):
        need_skill("net", UP, chance=UP.effect - 2 * UP.estimate().error)
    with pytest.raises(NotTestable, match="trivial rival"):
        need_skill("net", UP, 0, trivial=UP.effect + 1)
    for gate, arguments, words in (
        (need_learnt, ("net", 1.0, 1.0), "constant answer"),
        (need_learnt, ("net", np.nan, 1.0), "constant answer"),
        (need_explained, ("MFCC", 0.19), "R²"),
        (need_explained, ("MFCC", np.nan), "R²"),
        (need_items, ({"Folk": 9, "Rock": 10},), "Folk 9"),
        (need_trainings, (2, 3), "needs 3 trainings, found 2"),
        (need_settled, ("net", [np.linspace(2, 1, 11)]), "20 %"),
    ):
        with pytest.raises(NotTestable, match=words):
            gate(*arguments)
    need_learnt("net", 0.9, 1.0), need_explained("MFCC", 0.2), need_items({"Rock": 10}), need_trainings(UP, 5)
    need_settled("net", [0.5 ** np.arange(20)]), need_settled("net", [])


def test_a_curve_that_rises_at_its_end_has_settled():
    assert last_fifth([2, 1, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1, 1, 1]) == 0
    assert np.isnan(last_fifth([1, 2, 3, 4, 5, 6])) and np.isnan(last_fifth([2, 1]))


# ---- calibration, on experiments whose truth is known


@pytest.mark.parametrize("trainings", [3, 5, 10])
@pytest.mark.parametrize("groups", [8, 16, 32])
def test_intervals_cover_as_often_as_they_say(trainings, groups):
    for spread in (0, 0.5, 1, 2):
        assert 0.93 <= coverage(2000, trainings, groups, spread) <= 0.99, spread


@pytest.mark.long
@pytest.mark.parametrize("margins", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_verdicts_are_false_as_rarely_as_they_say(margins, correlation):
    for spread in (0, 0.5, 2):
        found = false_verdicts(2000, 5, 16, margins, correlation, spread)
        assert max(found.values()) <= 0.03, (spread, found)


def test_what_is_simulated_is_what_is_judged():
    "The shares of the simulation are those of `judged` on the same experiments."
    found = simulated(60, 4, 12, 0.5, margins=3)
    p_for = np.max([one.p_above(0) for one in found], axis=0)
    p_against = 3 * np.min([replace(one, effect=-one.effect).p_above(0) for one in found], axis=0)

    class Of(Margin):
        def probabilities(self):
            return self.sample.p_above(0), [replace(self.sample, effect=-self.sample.effect).p_above(0)]

    for i in range(60):
        kept = [
            replace(one, effect=one.effect[i], of_trainings=one.of_trainings[i], of_groups=one.of_groups[i])
            for one in found
        ]
        margins = [Of(one, {"above": 0}) for one in kept]
        assert max(margin.probabilities()[0] for margin in margins) == pytest.approx(p_for[i])
        assert min(against_all(margins)) == pytest.approx(min(1, p_against[i]))

"Metrics against scikit-learn and loops; intervals against plain resampling and a known distribution."

from functools import partial

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.core import ParamsError, generator
from musicmtl.metrics import (
    Interval,
    accuracy,
    average_precision,
    bootstrap_interval,
    confusion,
    fold_ranks,
    kl_divergence,
    log_loss,
    macro_f1,
    mae,
    micro_f1,
    mse,
    multilabel_recall,
    nearest,
    paired_interval,
    pooled,
    ranks,
    roc_auc,
    multilabel_f1,
    replicates,
)

quick = settings(max_examples=40, deadline=None)


@st.composite
def problems(draw):
    "Codes and probabilities, with ties and with classes that do not occur."
    n_items, n_classes, seed = draw(st.integers(1, 30)), draw(st.integers(2, 6)), draw(st.integers(0, 10**6))
    rng = generator(seed)
    y = rng.integers(0, draw(st.integers(1, n_classes)), n_items)
    p = rng.integers(1, 4 if draw(st.booleans()) else 1000, (n_items, n_classes)).astype(float)
    return y, p / p.sum(1, keepdims=True)


@quick
@given(problems())
def test_scores_of_classes_equal_scikit_learn(problem):
    y, p = problem
    labels, pred = range(p.shape[1]), p.argmax(1)
    assert log_loss(y, p) == pytest.approx(sk.log_loss(y, p, labels=labels))
    assert accuracy(y, pred) == sk.accuracy_score(y, pred)
    assert micro_f1(y, pred) == pytest.approx(sk.f1_score(y, pred, average="micro"))
    theirs = sk.f1_score(y, pred, average="macro", labels=np.unique(y), zero_division=0)
    assert macro_f1(y, pred) == pytest.approx(theirs)
    np.testing.assert_array_equal(confusion(y, pred, p.shape[1]), sk.confusion_matrix(y, pred, labels=labels))


@quick
@given(problems())
def test_folds_are_ranked_apart(problem):
    y, p = problem
    fold = np.arange(len(y)) % 3
    found = fold_ranks(y, p, fold)
    for one in np.unique(fold):
        np.testing.assert_array_equal(found[:, fold == one], ranks(y[fold == one], p[fold == one]))
    np.testing.assert_array_equal(fold_ranks(y, p), ranks(y, p))
    with pytest.raises(ParamsError, match=f"fold: expected one per item, {len(y)} of them, found {len(y) + 1}"):
        fold_ranks(y, p, np.arange(len(y) + 1))


@quick
@given(problems())
def test_scores_of_ranks_equal_scikit_learn(problem):
    y, p = problem
    Y = np.eye(p.shape[1])[y]
    both = Y.any(0) & (1 - Y).any(0)
    if not both.any():
        assert np.isnan(roc_auc(y, p)) and np.isnan(average_precision(y, p))
        return
    for ours, theirs in ((roc_auc, sk.roc_auc_score), (average_precision, sk.average_precision_score)):
        expected = np.mean([theirs(Y[:, c], p[:, c]) for c in np.flatnonzero(both)])
        assert ours(y, p) == pytest.approx(expected) == ours(Y, p)


def test_errors_leave_out_what_is_missing():
    y, z = [[1.0, np.nan], [3.0, -2.0]], [[0.0, 5.0], [3.0, 1.0]]
    assert mse(y, z) == pytest.approx((1 + 0 + 9) / 3) and mae(y, z) == pytest.approx((1 + 0 + 3) / 3)


def test_binary_scores_may_be_vectors():
    y, s = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.9, 0.4, 0.4, 0.8])
    assert roc_auc(y, s) == pytest.approx(sk.roc_auc_score(y, s))
    assert average_precision(y, s) == pytest.approx(sk.average_precision_score(y, s))


def test_unknown_entries_are_left_out():
    rng = generator(2)
    Y, S = (rng.random((40, 3)) < 0.4).astype(float), rng.random((40, 3))
    Y[rng.random((40, 3)) < 0.3] = np.nan
    known = ~np.isnan(Y)
    for ours, theirs in ((roc_auc, sk.roc_auc_score), (average_precision, sk.average_precision_score)):
        expected = [theirs(Y[known[:, c], c], S[known[:, c], c]) for c in range(3)]
        assert ours(Y, S) == pytest.approx(np.mean(expected))


def test_what_is_undefined_is_nan_without_a_warning():
    unlabelled, unknown = np.zeros((3, 2)), np.full((3, 2), np.nan)
    assert np.isnan(multilabel_recall(unlabelled, np.eye(3), 1))
    assert np.isnan(multilabel_f1(unlabelled, unlabelled))
    assert np.isnan(mse(unknown, unlabelled)) and np.isnan(roc_auc(unknown, unlabelled))


def test_a_class_that_is_only_predicted_does_not_count():
    assert macro_f1([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx((1 + 2 / 3) / 2)
    assert macro_f1([0, 0, 1, 1], [0, 0, 1, 2]) == macro_f1([0, 0, 1, 1], [0, 0, 1, 7])


def test_loss_of_distributions():
    rng = generator(1)
    q, p = rng.dirichlet(np.ones(5), 20), rng.dirichlet(np.ones(5), 20)
    assert log_loss(q, p) == pytest.approx(-(q * np.log(p)).sum(1).mean())
    assert kl_divergence(q, p) == pytest.approx((q * np.log(q / p)).sum(1).mean())
    assert kl_divergence(np.eye(5), np.eye(5)) == pytest.approx(0, abs=1e-12)
    finite = -np.log(np.finfo(float).eps)  # as in scikit-learn
    assert log_loss([0], np.array([[0.0, 1.0]])) == pytest.approx(finite)


@quick
@given(st.integers(0, 10**6), st.integers(4, 12), st.integers(1, 3))
def test_recall_is_the_formula(seed, n, k):
    rng = generator(seed)
    Y, similarity = rng.random((n, 5)) < 0.4, rng.random((n, n))  # a query need not be nearest to itself
    recalls = []
    for query in range(n):
        if not Y[query].any():
            continue
        others = [item for item in np.argsort(-similarity[query]) if item != query]
        union = Y[others[:k]].any(0)
        recalls.append((union & Y[query]).sum() / Y[query].sum())
    if recalls:
        assert multilabel_recall(Y, similarity, k) == pytest.approx(np.mean(recalls))


def test_a_duplicate_does_not_push_the_query_out():
    Y = np.array([[1, 0], [1, 0], [0, 1]])
    similarity = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert multilabel_recall(Y, similarity, 1) == pytest.approx(2 / 3)


# Intervals


def windows(seed=0):
    "Six windows in each of 25 groups: groups, codes and probabilities of four classes."
    rng = generator(seed)
    groups = np.repeat(np.arange(25), 6)
    y = rng.choice(4, p=[0.55, 0.25, 0.15, 0.05], size=25)[groups]
    p = rng.dirichlet(np.ones(4), len(y)) + 0.5 * np.eye(4)[y]
    return groups, y, p / p.sum(1, keepdims=True)


@pytest.mark.parametrize("metric", [log_loss, macro_f1, micro_f1, accuracy, roc_auc, average_precision])
@pytest.mark.parametrize("grouped", [False, True])
def test_all_replicates_at_once_equal_a_loop(metric, grouped):
    groups, y, p = windows()
    groups = groups if grouped else None
    arrays = (y, p if metric in (log_loss, roc_auc, average_precision) else p.argmax(1))
    fast = bootstrap_interval(metric, *arrays, groups=groups, n=60)

    def unknown(*resampled):  # one replicate after another
        return metric(*resampled)

    slow = bootstrap_interval(unknown, *arrays, groups=groups, n=60)
    np.testing.assert_allclose(fast, slow)
    assert fast.low < fast.value < fast.high
    pair = (y, arrays[1], np.roll(arrays[1], 1, 0))
    fast, slow = (paired_interval(function, *pair, groups=groups, n=40) for function in (metric, unknown))
    np.testing.assert_allclose(fast, slow)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 6), st.floats(0.1, 0.9))
def test_f1_of_labels_that_are_known_equals_scikit_learn(seed, n_items, n_labels, threshold):
    rng = generator("labels", seed)
    Y, P = rng.choice([0.0, 1.0, np.nan], (n_items, n_labels)), rng.random((n_items, n_labels))
    scores = []
    for y, p in zip(Y.T, P.T, strict=True):
        if (y == 1).any():
            known = ~np.isnan(y)
            scores.append(sk.f1_score(y[known] == 1, p[known] >= threshold, zero_division=0))
    if not scores:
        return
    assert multilabel_f1(Y, P, threshold) == pytest.approx(np.mean(scores))
    counts = rng.integers(0, 3, n_items)
    drawn = np.repeat(np.arange(n_items), counts)
    if (Y[drawn] == 1).any():
        (score,) = replicates(multilabel_f1, Y, P, weights=counts[None])
        assert score == pytest.approx(multilabel_f1(Y[drawn], P[drawn]))


def test_recall_resamples_queries_and_keeps_the_collection():
    rng = generator(3)
    Y, similarity = rng.random((40, 6)) < 0.3, rng.random((40, 40))
    interval = bootstrap_interval(partial(multilabel_recall, k=4), Y, similarity, n=200)
    assert interval.value == multilabel_recall(Y, similarity, 4)
    assert interval.low < interval.value < interval.high


def test_interval_covers_a_binomial():
    rng, truth = generator(5), 0.3
    hits = 0
    for trial in range(300):
        right = (rng.random(120) < truth).astype(int)
        interval = bootstrap_interval(accuracy, np.ones(120, int), right, n=200, seed=trial)
        hits += interval.low <= truth <= interval.high
    assert 0.90 <= hits / 300 <= 0.99  # nominal .95; standard error of this estimate .013


def test_only_the_grouped_interval_covers_grouped_data():
    rng, hits = generator(6), dict(items=0, groups=0)
    groups = np.repeat(np.arange(40), 10)
    for trial in range(150):
        right = (rng.random(40) < 0.6).astype(int)[groups]  # all windows of a track agree
        for name, belongs in (("items", None), ("groups", groups)):
            interval = bootstrap_interval(accuracy, np.ones(400, int), right, groups=belongs, n=200, seed=trial)
            hits[name] += interval.low <= 0.6 <= interval.high
    assert hits["groups"] / 150 > 0.88 and hits["items"] / 150 < 0.7


def test_a_gain_for_sure_and_no_gain():
    groups, y, p = windows(seed=2)
    sure = paired_interval(accuracy, y, p.argmax(1), y, groups=groups)
    assert sure.low > 0 and sure.value == pytest.approx(1 - accuracy(y, p.argmax(1)))
    assert paired_interval(log_loss, y, p, p) == (0, 0, 0)


def test_seed_and_level():
    groups, y, p = windows()
    wide, again, other = (bootstrap_interval(log_loss, y, p, seed=seed) for seed in (0, 0, 1))
    assert wide == again != other
    narrow = bootstrap_interval(log_loss, y, p, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def test_a_replicate_without_a_score_is_left_out():
    interval = bootstrap_interval(roc_auc, np.array([0, 0, 1]), np.array([0.1, 0.3, 0.2]), n=100)
    assert interval.value == 0.5 and 0 <= interval.low <= interval.high <= 1


def test_many_replicates_of_a_large_set_come_in_pieces():
    item = np.arange(9000)
    y = item % 3
    half_right = np.where(item % 2, np.roll(y, 1), y)
    interval = bootstrap_interval(macro_f1, y, half_right, n=900)
    assert interval.value == pytest.approx(0.5, abs=0.02) and 0.01 < interval.high - interval.low < 0.05


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: log_loss([0, 1], [[0.5, 0.5]]), "y: expected 1 items"),
        (lambda: log_loss([2], [[0.5, 0.5]]), "y: expected codes below 2"),
        (lambda: log_loss([0], [[3.0, -1.0]]), "are these logits"),
        (lambda: macro_f1([0.0, 1.0], [0, 1]), "y: expected class codes"),
        (lambda: accuracy([-1, 0], [0, 0]), "least -1"),
        (lambda: accuracy([0, 0], [0]), "pred: expected 2 items"),
        (lambda: accuracy(np.zeros(0, int), np.zeros(0, int)), "at least one"),
        (lambda: confusion([5], [0], 3), "n_classes: expected at least 6"),
        (lambda: roc_auc([[0, 2]], [[0.1, 0.2]]), "zeros, ones"),
        (lambda: roc_auc([0, 1], [np.nan, 1.0]), "S: expected finite"),
        (lambda: multilabel_recall(np.eye(3), np.eye(3), 3), "k: expected 1 to 2"),
        (lambda: multilabel_recall(np.eye(3), np.eye(2), 1), "similarity"),
        (lambda: mse([1, 2], [1]), "z: expected"),
        (lambda: mae([1, 2], [1]), "z: expected"),
        (lambda: bootstrap_interval(accuracy, np.zeros(3, int), np.zeros(2, int)), "equal lengths"),
        (lambda: bootstrap_interval(accuracy, np.zeros(3, int), np.zeros(3, int), groups=[1]), "groups: expected 3"),
        (lambda: bootstrap_interval(accuracy, np.zeros(3, int), np.zeros(3, int), level=95), "level"),
        (lambda: pooled(np.zeros(3), [1, 2]), "groups: expected 3"),
    ],
)
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(ParamsError, match=message):
        call()


def test_pooled_by_name():
    names, means = pooled(np.array([[1.0, 2], [3, 4], [10, 10]]), ["b", "b", "a"])
    assert names.tolist() == ["a", "b"] and means.tolist() == [[10, 10], [2, 3]]


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_the_nearest_are_the_first_of_a_stable_sort(levels, itself):
    similarity = generator("nearest").integers(0, levels, (150, 150)).astype(float)
    distance = -similarity
    if not itself:
        np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    for k in (1, 8, 149):
        np.testing.assert_array_equal(nearest(similarity, k, itself=itself), order[:, :k])

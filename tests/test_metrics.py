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
    kl_divergence,
    log_loss,
    macro_f1,
    mae,
    micro_f1,
    mse,
    multilabel_recall,
    paired_interval,
    pooled,
    roc_auc,
    multilabel_f1,
    replicates,
)

quick = settings(max_examples=40, deadline=None)


@st.composite
def problems(draw):
    "Codes and probabilities, with ties and with classes that do not occur."
    n, c, seed = draw(st.integers(1, 30)), draw(st.integers(2, 6)), draw(st.integers(0, 10**6))
    rng = generator(seed)
    y = rng.integers(0, draw(st.integers(1, c)), n)
    p = rng.integers(1, 4 if draw(st.booleans()) else 1000, (n, c)).astype(float)
    return y, p / p.sum(1, keepdims=True)


@quick
@given(problems())
def test_scores_of_classes_equal_scikit_learn(problem):
    y, p = problem
    labels, pred = range(p.shape[1]), p.argmax(1)
    assert log_loss(y, p) == pytest.approx(sk.log_loss(y, p, labels=labels))
    assert accuracy(y, pred) == sk.accuracy_score(y, pred)
    assert micro_f1(y, pred) == pytest.approx(sk.f1_score(y, pred, average="micro"))
    assert macro_f1(y, pred) == pytest.approx(
        sk.f1_score(y, pred, average="macro", labels=np.unique(y), zero_division=0)
    )
    np.testing.assert_array_equal(confusion(y, pred, p.shape[1]), sk.confusion_matrix(y, pred, labels=labels))


@quick
@given(problems())
def test_scores_of_ranks_equal_scikit_learn(problem):
    y, p = problem
    Y = np.eye(p.shape[1])[y]
    both = (Y.any(0)) & (1 - Y).any(0)
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
    known = [~np.isnan(Y[:, c]) for c in range(3)]
    for ours, theirs in ((roc_auc, sk.roc_auc_score), (average_precision, sk.average_precision_score)):
        assert ours(Y, S) == pytest.approx(np.mean([theirs(Y[k, c], S[k, c]) for c, k in enumerate(known)]))


def test_a_class_that_is_only_predicted_does_not_count():
    assert macro_f1([0, 0, 1, 1], [0, 0, 1, 2]) == pytest.approx((1 + 2 / 3) / 2)
    assert macro_f1([0, 0, 1, 1], [0, 0, 1, 2]) == macro_f1([0, 0, 1, 1], [0, 0, 1, 7])


def test_loss_of_distributions():
    rng = generator(1)
    q, p = rng.dirichlet(np.ones(5), 20), rng.dirichlet(np.ones(5), 20)
    assert log_loss(q, p) == pytest.approx(-(q * np.log(p)).sum(1).mean())
    assert kl_divergence(q, p) == pytest.approx(sum((a * np.log(a / b)).sum() for a, b in zip(q, p, strict=True)) / 20)
    assert kl_divergence(np.eye(5), np.eye(5)) == pytest.approx(0, abs=1e-12)
    assert log_loss([0], np.array([[0.0, 1.0]])) == pytest.approx(
        -np.log(np.finfo(float).eps)
    )  # finite, as in scikit-learn


@quick
@given(st.integers(0, 10**6), st.integers(4, 12), st.integers(1, 3))
def test_recall_is_the_formula(seed, n, k):
    rng = generator(seed)
    Y, s = rng.random((n, 5)) < 0.4, rng.random((n, n))  # a query need not be nearest to itself
    recalls = []
    for q in range(n):
        if not Y[q].any():
            continue
        nearest = sorted((i for i in range(n) if i != q), key=lambda i: -s[q, i])[:k]
        union = {c for i in nearest for c in np.flatnonzero(Y[i])}
        recalls.append(len(union & set(np.flatnonzero(Y[q]))) / Y[q].sum())
    if recalls:
        assert multilabel_recall(Y, s, k) == pytest.approx(np.mean(recalls))


def test_a_duplicate_does_not_push_the_query_out():
    Y = np.array([[1, 0], [1, 0], [0, 1]])
    s = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert multilabel_recall(Y, s, 1) == pytest.approx(2 / 3)


# --- intervals -----------------------------------------------------------------------------------------------------


def windows(n_groups=25, each=6, c=4, seed=0):
    rng = generator(seed)
    groups = np.repeat(np.arange(n_groups), each)
    y = rng.choice(c, p=[0.55, 0.25, 0.15, 0.05], size=n_groups)[groups]
    a = rng.dirichlet(np.ones(c), len(y)) + 0.5 * np.eye(c)[y]
    return groups, y, a / a.sum(1, keepdims=True)


@pytest.mark.parametrize("metric", [log_loss, macro_f1, micro_f1, accuracy, roc_auc, average_precision])
@pytest.mark.parametrize("grouped", [False, True])
def test_all_replicates_at_once_equal_a_loop(metric, grouped):
    groups, y, p = windows()
    groups = groups if grouped else None
    arrays = (y, p if metric in (log_loss, roc_auc, average_precision) else p.argmax(1))
    fast = bootstrap_interval(metric, *arrays, groups=groups, n=60)

    def unknown(*a):
        return metric(*a)  # resampled items, one replicate after another

    slow = bootstrap_interval(unknown, *arrays, groups=groups, n=60)
    np.testing.assert_allclose(fast, slow)
    assert fast.low < fast.value < fast.high
    pair = (y, arrays[1], np.roll(arrays[1], 1, 0))
    fast, slow = (paired_interval(m, *pair, groups=groups, n=40) for m in (metric, unknown))
    np.testing.assert_allclose(fast, slow)


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 6), st.floats(0.1, 0.9))
def test_f1_of_labels_that_are_known_equals_scikit_learn(seed, n, c, threshold):
    rng = generator("labels", seed)
    Y, P = rng.choice([0.0, 1.0, np.nan], (n, c)), rng.random((n, c))

    def one(y, p, known):
        return sk.f1_score(y[known] == 1, p[known] >= threshold, zero_division=0)

    found = [one(Y[:, k], P[:, k], ~np.isnan(Y[:, k])) for k in range(c) if (Y[:, k] == 1).any()]
    if not found:
        return
    assert multilabel_f1(Y, P, threshold) == pytest.approx(np.mean(found))
    w = rng.integers(0, 3, n)
    drawn = np.repeat(np.arange(n), w)
    if (Y[drawn] == 1).any():
        assert replicates(multilabel_f1, Y, P, weights=w[None])[0] == pytest.approx(multilabel_f1(Y[drawn], P[drawn]))


def test_recall_resamples_queries_and_keeps_the_collection():
    rng = generator(3)
    Y, s = rng.random((40, 6)) < 0.3, rng.random((40, 40))
    got = bootstrap_interval(partial(multilabel_recall, k=4), Y, s, n=200)
    assert got.value == multilabel_recall(Y, s, 4) and got.low < got.value < got.high


def test_interval_covers_a_binomial():
    rng, truth = generator(5), 0.3
    hits = 0
    for trial in range(300):
        wrong = (rng.random(120) < truth).astype(int)
        got = bootstrap_interval(accuracy, np.ones(120, int), wrong, n=200, seed=trial)
        hits += got.low <= truth <= got.high
    assert 0.90 <= hits / 300 <= 0.99  # nominal .95; standard error of this estimate .013


def test_only_the_grouped_interval_covers_grouped_data():
    rng, hits = generator(6), dict(items=0, groups=0)
    groups = np.repeat(np.arange(40), 10)
    for trial in range(150):
        right = (rng.random(40) < 0.6).astype(int)[groups]  # all windows of a track agree
        for name, g in (("items", None), ("groups", groups)):
            got = bootstrap_interval(accuracy, np.ones(400, int), right, groups=g, n=200, seed=trial)
            hits[name] += got.low <= 0.6 <= got.high
    assert hits["groups"] / 150 > 0.88 and hits["items"] / 150 < 0.7


def test_a_gain_for_sure_and_no_gain():
    groups, y, p = windows(seed=2)
    sure = paired_interval(accuracy, y, p.argmax(1), y, groups=groups)
    assert sure.low > 0 and sure.value == pytest.approx(1 - accuracy(y, p.argmax(1)))
    assert paired_interval(log_loss, y, p, p) == (0, 0, 0)


def test_seed_and_level():
    groups, y, p = windows()
    a, b, c = (bootstrap_interval(log_loss, y, p, seed=s) for s in (0, 0, 1))
    assert a == b != c
    narrow = bootstrap_interval(log_loss, y, p, level=0.5)
    assert a.low < narrow.low < narrow.high < a.high
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def test_a_replicate_without_a_score_is_left_out():
    got = bootstrap_interval(roc_auc, np.array([0, 0, 1]), np.array([0.1, 0.3, 0.2]), n=100)
    assert got.value == 0.5 and 0 <= got.low <= got.high <= 1


def test_many_replicates_of_a_large_set_come_in_pieces():
    y = np.arange(9000) % 3
    got = bootstrap_interval(macro_f1, y, np.roll(y, 1) * (np.arange(9000) % 2) + y * (1 - np.arange(9000) % 2), n=900)
    assert got.value == pytest.approx(0.5, abs=0.02) and 0.01 < got.high - got.low < 0.05


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

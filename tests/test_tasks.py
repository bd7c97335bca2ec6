"Losses of tasks against plain loops, and what they do with missing answers."

import itertools
import math
import pickle

import pytest
import torch
import torch.nn.functional as F

from musicmtl.core import ParamsError
from musicmtl.tasks import Task, class_weights, classification, distribution, multilabel, regression

B, C = 9, 5
KINDS = [
    classification("a", C, [1.0] * C),
    distribution("a", C),
    multilabel("a", C),
    regression("a", C),
    regression("a", C, error="absolute"),
]


def codes(missing=(2, 5)):
    y = torch.randint(0, C, (B,))
    y[list(missing)] = -1
    return y


@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 2.0, 0.1, 3.0)])
def test_classification_is_a_loop_over_labelled_items(weights):
    logits, y = torch.randn(B, C, dtype=torch.float64), codes()
    above = below = 0.0
    for row, label in zip(logits.tolist(), y.tolist(), strict=True):
        if label < 0:
            continue
        weight = 1.0 if weights is None else weights[label]
        above += weight * (math.log(sum(math.exp(logit) for logit in row)) - row[label])
        below += weight
    loss = classification("genre", C, weights).loss(logits, y)
    assert loss.item() == pytest.approx(above / below, rel=1e-6)


def test_weighted_loss_is_pytorchs_weighted_mean():
    logits, y = torch.randn(B, C), codes(())
    weights = class_weights([7103, 21, 154, 2251, 1])
    theirs = F.cross_entropy(logits, y, torch.tensor(weights))
    torch.testing.assert_close(classification("genre", C, weights).loss(logits, y), theirs)


def test_distribution_is_a_loop():
    logits, p = torch.randn(B, C, dtype=torch.float64), torch.rand(B, C, dtype=torch.float64).softmax(-1)
    p[3] = math.nan
    p[4, 1] = math.nan  # half a distribution is none
    losses = []
    for row in range(B):
        if row not in (3, 4):
            losses.append(-sum(p[row, c] * F.log_softmax(logits[row], 0)[c] for c in range(C)))
    torch.testing.assert_close(distribution("mfcc", C).loss(logits, p), sum(losses) / len(losses))


def test_multilabel_and_regression_leave_out_single_entries():
    logits, y = torch.randn(B, C, dtype=torch.float64), torch.randint(0, 2, (B, C)).double()
    y[0, 0] = y[4, 3] = math.nan
    known = [place for place in itertools.product(range(B), range(C)) if not y[place].isnan()]
    bce = mse = mae = 0
    for place in known:
        x, t = logits[place], y[place]
        bce -= t * F.logsigmoid(x) + (1 - t) * F.logsigmoid(-x)
        mse += (x - t) ** 2
        mae += (x - t).abs()
    torch.testing.assert_close(multilabel("tags", C).loss(logits, y), bce / len(known))
    torch.testing.assert_close(regression("lps", C).loss(logits, y), mse / len(known))
    torch.testing.assert_close(regression("waveform", C, error="absolute").loss(logits, y), mae / len(known))


@pytest.mark.parametrize("task", [classification("a", C), *KINDS])
def test_nothing_labelled_is_zero_with_a_gradient_of_zero(task):
    logits = torch.randn(B, C, requires_grad=True)
    y = torch.full((B,), -1) if task.kind == "classification" else torch.full((B, C), math.nan)
    loss = task.loss(logits, y)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("task", KINDS)
def test_missing_items_get_no_gradient_and_change_nothing(task):
    logits = torch.randn(B, C, requires_grad=True)
    y = codes() if task.kind == "classification" else torch.rand(B, C)
    if task.kind != "classification":
        y[[2, 5]] = math.nan
    loss = task.loss(logits, y)
    loss.backward()
    kept = [i for i in range(B) if i not in (2, 5)]
    assert logits.grad.isfinite().all()
    assert (logits.grad[[2, 5]] == 0).all() and (logits.grad[kept].abs().sum(1) > 0).all()
    torch.testing.assert_close(loss, task.loss(logits[kept], y[kept]))


def test_a_regression_may_have_frames():
    y = torch.randn(2, 20, 100)
    assert regression("mfcc", 20).loss(y + 2, y).item() == pytest.approx(4)


def test_class_weights():
    assert class_weights([2, 0, 4]) == (0.5, 0.0, 0.25)
    for bad in ([], [[1, 2]], [0, 0], [-1, 3], [math.nan, 1]):
        with pytest.raises(ParamsError, match="counts"):
            class_weights(bad)


def test_tasks_are_values():
    task, same = classification("genre", 3, [1, 2, 3]), classification("genre", 3, torch.tensor([1.0, 2, 3]))
    assert task == same and hash(task) == hash(same) and pickle.loads(pickle.dumps(task)) == task
    assert repr(task) == "classification('genre', 3, weighted)"
    with pytest.raises(AttributeError):
        task.name = "x"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Task("a", "ranking", 3, "a", ()), "kind"),
        (lambda: multilabel("a", 0), "n_out of 'a'"),
        (lambda: regression("a", 1, error="cubed"), "error of 'a'.*found 'cubed'"),
        (lambda: classification("a", 2, [1.0, math.inf]), "finite"),
        (lambda: Task("a", "regression", 2, "a", (), (1.0, 1.0)), "only for classification"),
        (lambda: classification("a", 3).loss(torch.zeros(4, 2), torch.zeros(4).long()), r"logits of 'a'.*\[4, 2\]"),
        (lambda: classification("a", 2).loss(torch.zeros(4, 2), torch.zeros(4, 2)), "target of 'a'"),
    ],
)
def test_errors_name_what_is_wrong(make, message):
    with pytest.raises(ParamsError, match=message):
        make()


def test_predict_gives_probabilities():
    logits = torch.randn(B, C)
    softmax = logits.exp() / logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(distribution("a", C).predict(logits), softmax)
    torch.testing.assert_close(multilabel("a", C).predict(logits), 1 / (1 + (-logits).exp()))
    assert regression("a", C).predict(logits) is logits


@pytest.mark.parametrize("task", [classification("a", C), *KINDS])
def test_scores_leave_out_what_is_missing(task):
    output = task.predict(torch.randn(B, C))
    y = codes() if task.kind == "classification" else torch.rand(B, C)
    if task.kind == "distribution":
        y = y.softmax(-1)
    if task.kind == "multilabel":  # a chessboard: every label is present somewhere and absent somewhere
        y = (torch.arange(B)[:, None] + torch.arange(C)) % 2.0
    if task.kind != "classification":
        y[[2, 5]] = math.nan
    kept = [i for i in range(B) if i not in (2, 5)]
    assert task.known(y).tolist() == [i in kept for i in range(B)]
    scores = task.scores(y, output)
    assert scores == task.scores(y[kept], output[kept])
    assert set(scores) == set(task.metrics) and all(math.isfinite(value) for value in scores.values())
    if task.kind in ("distribution", "regression", "absolute_regression"):
        loss = task.loss(output.log() if task.kind == "distribution" else output, y).item()
        assert scores[task.metrics[0]] == pytest.approx(loss, rel=1e-5)
    assert task.scores(y[[2, 5]], output[[2, 5]]) == {}


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 1.0, 3.0)])
def test_several_answers_add_their_losses(weights):
    one, many = classification("a", C, weights), classification("a", C, weights, answers=4)
    logits, y = torch.randn(B, 4, C, requires_grad=True), torch.randint(-1, C, (B, 4))
    y[:, 3] = -1  # the last answer is always missing
    loss = many.loss(logits, y)
    torch.testing.assert_close(loss, sum(one.loss(logits[:, i], y[:, i]) for i in range(4)))
    loss.backward()
    assert logits.grad[:, 3].abs().max() == 0 and ((logits.grad.abs().sum(-1) > 0) == (y != -1)).all()
    assert many.known(y).tolist() == (y != -1).any(1).tolist()
    assert many.scores(y, many.predict(logits)) == one.scores(y.flatten(), one.predict(logits).flatten(0, 1))
    assert "answers=4" in repr(many) and many != one
    with pytest.raises(ParamsError, match=r"expected \[B, 4, 5\]"):
        many.loss(logits[:, :2], y)
    with pytest.raises(ParamsError, match="answers of 'b'"):
        Task("b", "regression", 2, "b", (), None, 3)

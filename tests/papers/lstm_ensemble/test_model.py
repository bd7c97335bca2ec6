"LSTM networks, snippet ensembles and secondary tasks: each equal to its definition, written out."

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import Callback
from torch.func import functional_call, stack_module_state, vmap

from musicmtl.balance import GradNorm, Static
from musicmtl.core import ParamsError
from musicmtl.learn import EpochOutputs, Items, MultiTask, fit
from musicmtl.papers.lstm_ensemble.model import (
    FeedForward,
    OneBiasLSTM,
    SegmentLSTM,
    SnippetEnsemble,
    Stabilization,
    WeightedCombination,
    WeightedEnsemble,
    WeightedTraining,
    activation_stabilization,
    autoencoder_target,
    autoencoder_task,
    binary_target,
    binary_task,
    combine,
    double_softmax_error,
    ensemble_log_loss,
    genre_target,
    genre_task,
    log_posteriors,
    matched_width,
    published_pool,
    weighted_tasks,
)
from musicmtl.viz import n_parameters

# --- networks --------------------------------------------------------------------------------------------------------

B, T, C, H = 6, 24, 4, 8


def songs(b=B, t=T, seed=0):
    return torch.randn(b, t, 25, generator=torch.Generator().manual_seed(seed))


def genres(b=B):
    return torch.arange(b) % C


def by_hand(lstm, x, forget):
    "The cell, gate by gate."
    h = c = x.new_zeros(len(x), lstm.weight_hh.shape[1])
    outputs = []
    for x_t in x.unbind(1):
        gates = x_t @ lstm.weight_ih.T + h @ lstm.weight_hh.T + lstm.bias
        into, forgetting, cell, out = gates.chunk(4, 1)
        c = torch.sigmoid(forgetting + forget) * c + torch.sigmoid(into) * torch.tanh(cell)
        h = torch.sigmoid(out) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("forget", [1.0, 0.0, 2.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lstm_equals_its_cell(forget, dtype):
    "Outputs and all gradients; in float32 the kernel is another (oneDNN's)."
    lstm = OneBiasLSTM(25, H, forget).to(dtype)
    with torch.no_grad():
        lstm.bias.normal_()
    x = songs().to(dtype).requires_grad_()
    close = dict(rtol=1e-9, atol=1e-9) if dtype == torch.float64 else dict(rtol=1e-4, atol=1e-5)

    def with_gradients(out):
        weights = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
        return out, *torch.autograd.grad((out * weights).sum(), [x, *lstm.parameters()])

    for found, expected in zip(with_gradients(lstm(x)), with_gradients(by_hand(lstm, x, forget)), strict=True):
        torch.testing.assert_close(found, expected, **close)


def test_parameter_counts():
    assert n_parameters(OneBiasLSTM(25, 100)) == 50_400
    counts = {
        (10, None): 61_510,
        (25, None): 63_025,
        (10, "autoencoder"): 61_510 + 303_000,
        (10, "binary"): 61_510 + 2_020,
        (25, "binary"): 63_025 + 5_050,
    }
    for (n, second), expected in counts.items():
        assert n_parameters(SegmentLSTM(n, 100, second)) == expected
    assert n_parameters(SegmentLSTM(10, 100, variant="text")) == 50_400 + 1_010
    assert n_parameters(SnippetEnsemble(25, 50, 4)) == 4 * n_parameters(SegmentLSTM(25, 50))
    assert n_parameters(FeedForward(25, 100)) == 300_100 + 2_525


def test_initial_weights():
    "Dense layers: normal cut at two deviations (which leaves 0.88 of the deviation); the LSTM: uniform; all biases 0."
    net = SegmentLSTM(10, 200)
    std = 2 / math.sqrt(400)
    dense = net.dense.weight
    assert dense.abs().max() <= 2 * std and dense.std().item() == pytest.approx(0.8796 * std, rel=0.02)
    edge = math.sqrt(3 / 225)
    lstm = torch.cat([net.lstm.weight_ih, net.lstm.weight_hh], 1)
    assert lstm.abs().max() <= edge and lstm.std().item() == pytest.approx(edge / math.sqrt(3), rel=0.01)
    assert all((p == 0).all() for n, p in net.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize("variant", ["code", "text"])
@pytest.mark.parametrize("secondary, shape", [(None, None), ("autoencoder", (B, T * 25)), ("binary", (B, C, 2))])
def test_network_shapes_and_copies(variant, secondary, shape):
    net = SegmentLSTM(C, H, secondary, variant=variant, segments=T)
    out = net(songs())
    assert (out if secondary is None else out[0]).shape == (B, C)
    if secondary:
        assert out[1].shape == shape
    assert net.outputs.shape == (B, T, H)
    twin = copy.deepcopy(net)  # a network that keeps outputs with a graph could not be copied
    assert twin.outputs is None and net.outputs is not None
    torch.testing.assert_close(log_posteriors(twin, songs()), log_posteriors(net, songs()))
    hidden = net.shared(songs())
    assert (hidden >= 0).all() if variant == "code" else torch.equal(hidden, net.outputs[:, -1])


@pytest.mark.parametrize("variant", ["code", "text"])
def test_any_balancer_runs_at_the_shared_weight(variant, tmp_path):
    "The norms that GradNorm sees are those of plain gradients."
    torch.manual_seed(0)
    net = SegmentLSTM(C, H, "binary", variant=variant)
    x, y = songs(), genres()
    tasks = [genre_task(C), binary_task(C)]
    shared, targets = net.shared_weight, (y, binary_target(y, C))
    shared = shared if isinstance(shared, tuple) else (shared,)

    def norm(task, output, target):
        gradients = torch.autograd.grad(task.loss(output, target), shared, retain_graph=True)
        return torch.cat([gradient.flatten() for gradient in gradients]).norm()

    expected = torch.stack([norm(*triple) for triple in zip(tasks, net(x), targets, strict=True)])
    module = MultiTask(net, tasks, GradNorm(2), lr=1e-3)
    fit(module, Items(x, targets), epochs=1, batch_size=B, root=tmp_path, device="cpu")
    np.testing.assert_allclose(module.history.norm, expected, rtol=1e-4)


# --- penalties -------------------------------------------------------------------------------------------------------


def test_activation_stabilization_equals_its_sum():
    h = torch.randn(3, 7, 5, dtype=torch.float64)
    total = 0
    for song in h:
        lengths = [math.sqrt(sum(activation**2)) for activation in song]
        total += sum((after - before) ** 2 for before, after in zip(lengths, lengths[1:], strict=False))
    assert activation_stabilization(h, 50.0).item() == pytest.approx(50 / 7 * total / 3, rel=1e-12)
    assert activation_stabilization(h, 0.0).item() == 0


def test_activation_stabilization_sees_length_only():
    h = torch.randn(2, 9, 4, dtype=torch.float64)
    turned = F.normalize(torch.randn_like(h), dim=-1) * h.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(activation_stabilization(h), activation_stabilization(turned))
    assert activation_stabilization(F.normalize(h, dim=-1)).item() < 1e-20
    assert torch.autograd.gradcheck(activation_stabilization, h.clone().requires_grad_())


def test_activation_stabilization_at_zero():
    h = torch.randn(2, 6, 3)
    h[:, 2:4] = 0
    h.requires_grad_()
    activation_stabilization(h).backward()
    assert h.grad.isfinite().all() and h.grad.abs().max() > 0
    net = SegmentLSTM(C, H)  # from a song of zeros, and biases of zero, every output is 0
    net(torch.zeros(B, T, 25))
    Stabilization()(net).backward()
    assert net.outputs.abs().max() == 0 and all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_penalty_of_an_ensemble_divides_by_its_own_length():
    ensemble = SnippetEnsemble(C, H, 4)
    ensemble(songs())
    parts = [activation_stabilization(net.outputs, 100.0) for net in ensemble.nets]
    assert ensemble.nets[0].outputs.shape[1] == T // 4
    torch.testing.assert_close(Stabilization(100)(ensemble), sum(parts))
    with pytest.raises(ParamsError, match="beta"):
        Stabilization(-1)
    assert repr(Stabilization(100)) == "Stabilization(100)"


def state(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_l2_of_all_variables_is_weight_decay(tmp_path):
    x, y, decay = songs().double(), genres(), 1e-2
    torch.manual_seed(0)
    plain = SegmentLSTM(C, H).double()
    with torch.no_grad():
        plain.dense.bias.fill_(0.3)  # so that it matters whether biases count
    m = MultiTask(copy.deepcopy(plain), [genre_task(C)], lr=1e-3, weight_decay=decay)
    fit(m, Items(x, (y,)), epochs=4, batch_size=B, root=tmp_path, device="cpu", precision="64-true")
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3)
    for _ in range(4):
        loss = F.cross_entropy(plain(x), y) + decay * sum(0.5 * (p**2).sum() for p in plain.parameters())
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(state(m.net), state(plain), rtol=1e-9, atol=1e-12)


# --- ensembles -------------------------------------------------------------------------------------------------------


def train_alone(ensemble, x, y, steps, beta, decay=0.0):
    "Each network by itself with its own Adam, as the paper's code does."
    part = x.shape[1] // len(ensemble.nets)
    for m, net in enumerate(ensemble.nets):
        adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=decay)
        for _ in range(steps):
            loss = F.cross_entropy(net(x[:, m * part : (m + 1) * part]), y)
            loss = loss + activation_stabilization(net.outputs, beta)
            adam.zero_grad()
            loss.backward()
            adam.step()


@pytest.mark.parametrize("snippets, variant", [(2, "code"), (4, "text")])
def test_ensemble_trains_like_separate_networks(snippets, variant, tmp_path):
    x, y = songs().double(), genres()
    torch.manual_seed(0)
    together = SnippetEnsemble(C, H, snippets, variant=variant).double()
    alone = copy.deepcopy(together)
    m = MultiTask(together, [genre_task(C, snippets)], lr=1e-3, penalty=Stabilization(50))
    fit(
        m,
        Items(x, (genre_target(y, snippets),)),
        epochs=5,
        batch_size=B,
        root=tmp_path,
        device="cpu",
        precision="64-true",
    )
    train_alone(alone, x, y, 5, 50.0)
    torch.testing.assert_close(state(together), state(alone), rtol=1e-8, atol=1e-10)


def test_ensemble_equals_a_batched_one():
    "Parameters stacked and mapped over, each network a row: the arrangement that was slower, and is not the library's."
    ensemble = SnippetEnsemble(C, H, 4).double()
    parameters, _ = stack_module_state(list(ensemble.nets))
    first, x = ensemble.nets[0], songs().double()

    def one(parameters, x):
        def of(layer):
            return {n.removeprefix(f"{layer}."): p for n, p in parameters.items() if n.startswith(f"{layer}.")}

        h = by_hand(SimpleNamespace(**of("lstm")), x, 1.0)[:, -1]
        h = F.relu(functional_call(first.dense, of("dense"), h))
        return functional_call(first.tops["genre"], of("tops.genre"), h)

    batched = vmap(one)(parameters, x.unflatten(1, (4, -1)).transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(ensemble(x), batched)


@given(st.integers(1, 6), st.integers(2, 8), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_combinations_are_probabilities_in_the_order_of_sum_and_product(m, c, seed):
    p = torch.randn(5, m, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)
    mean, product = combine(p.log(), "m0"), combine(p.log(), "m1")
    torch.testing.assert_close(mean.exp(), p.mean(1))
    torch.testing.assert_close(product.exp(), p.prod(1) / p.prod(1).sum(-1, keepdim=True))
    for log_p in (mean, product):
        torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(5, dtype=p.dtype))
    assert torch.equal(product.argmax(-1), p.prod(1).argmax(-1))
    assert torch.equal(mean.argmax(-1), published_pool(p.log(), "m0").argmax(-1))


def test_songs_of_another_shape_are_named():
    for x in (torch.zeros(120, 25), torch.zeros(2, 120, 24)):
        for whole in (False, True):
            with pytest.raises(ParamsError, match=r"songs \[B, T, 25\], found"):
                SnippetEnsemble(3, hidden=4, whole=whole)(x)


def test_product_of_tiny_probabilities():
    p = torch.full((1, 4, 3), 1e-30)
    p[..., 1] = 2e-30
    p[..., 2] = 1.0
    p[:, 3] = torch.tensor([1.0, 1.0, 1e-30])
    log_p = combine(p.log(), "m1")
    assert (p.prod(1)[0, :2] == 0).all()  # the plain product has nothing left to tell the first two apart
    expected = torch.tensor([-90.0, 3 * math.log10(2) - 90, -30.0]) * math.log(10)
    torch.testing.assert_close(log_p[0], expected - expected.logsumexp(0))
    with pytest.raises(ParamsError, match="m0, m1, gm, found 'm2'"):
        combine(p, "m2")
    with pytest.raises(ParamsError, match="m0, m1, found 'sum'"):
        published_pool(p, "sum")


@given(st.integers(2, 30), st.floats(0.1, 1e4), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_the_published_error_is_bounded_and_the_log_loss_is_not(c, sure, seed):
    rng = torch.Generator().manual_seed(seed)
    logits, y = sure * torch.randn(7, 4, c, generator=rng, dtype=torch.float64), torch.randint(c, (7,), generator=rng)
    for method, top in (("m1", 1), ("m0", 4)):
        error = double_softmax_error(published_pool(logits, method), y).item()
        assert math.log(1 + (c - 1) * math.exp(-top)) - 1e-9 <= error <= math.log(math.exp(top) + c - 1) + 1e-9
    worst = torch.zeros(1, 4, c, dtype=torch.float64)
    worst[..., 0] = sure
    assert ensemble_log_loss(combine(worst, "m1"), torch.tensor([1])).item() >= 4 * sure


def test_log_loss_is_the_cross_entropy_of_the_mean():
    logits, y = torch.randn(9, 2, C), torch.arange(9) % C
    expected = -logits.softmax(-1).mean(1)[torch.arange(9), y].log().mean()
    torch.testing.assert_close(ensemble_log_loss(combine(logits, "m0"), y), expected)


# --- learnt weights --------------------------------------------------------------------------------------------------


def weighted(combination, seed=0, **options):
    torch.manual_seed(seed)
    net = WeightedEnsemble(C, H, 2, combination=combination).double()
    return WeightedTraining(net, weighted_tasks(C, 2), lr=1e-2, penalty=Stabilization(50), seed=seed, **options)


def weighted_items():
    y = genres(12)
    return Items(songs(12).double(), (genre_target(y, 2), y))


def test_text_weights_are_trained_apart(tmp_path):
    "The snippets' networks end where they end without m2; θ has moved."
    m = weighted("text")
    alone = copy.deepcopy(m.net)
    items = weighted_items()
    fit(m, items, epochs=6, batch_size=12, root=tmp_path, device="cpu", precision="64-true")
    penalty, adam = Stabilization(50), torch.optim.Adam(alone.nets.parameters(), lr=1e-2)
    for _ in range(6):
        loss = genre_task(C, 2).loss(alone(items.x)[0], items.targets[0]) + penalty(alone)
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(state(m.net.nets), state(alone.nets), rtol=1e-8, atol=1e-10)
    assert (m.net.combination.theta - 0.5).abs().max() > 1e-3


def test_coded_weights_train_the_networks_too(tmp_path):
    "Two optimisers, one after the other, the second over everything and from what the first has changed."
    m = weighted("code", l2=0.1)
    ref, items = copy.deepcopy(m.net), weighted_items()
    fit(m, items, epochs=5, batch_size=12, root=tmp_path, device="cpu", precision="64-true")
    first, joint = torch.optim.Adam(ref.nets.parameters(), lr=1e-2), torch.optim.Adam(ref.parameters(), lr=1e-2)
    for _ in range(5):
        logits = torch.stack([net(part) for net, part in zip(ref.nets, items.x.chunk(2, 1), strict=True)], 1)
        loss = sum(F.cross_entropy(logits[:, i], items.targets[1]) for i in range(2)) + Stabilization(50)(ref)
        ref.zero_grad()
        loss.backward()
        first.step()
        logits = torch.stack([net(part) for net, part in zip(ref.nets, items.x.chunk(2, 1), strict=True)], 1)
        theta = ref.combination.weight
        loss = F.cross_entropy((theta[:, None] * logits).sum(1) / 2, items.targets[1]) + 0.1 * 0.5 * (theta**2).sum()
        ref.zero_grad()
        loss.backward()
        joint.step()
    torch.testing.assert_close(state(m.net), state(ref), rtol=1e-8, atol=1e-10)
    assert m.history.task.unique().tolist() == ["snippets", "weighted"]


class Stop(Callback):
    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch == 1:
            raise InterruptedError


@pytest.mark.parametrize("combination", ["text", "code"])
def test_two_optimisers_resume_to_the_same(combination, tmp_path):
    def keep():
        return EpochOutputs(weighted_items(), log_posteriors)

    def run(m, folder, *callbacks):
        return fit(
            m,
            weighted_items(),
            epochs=4,
            batch_size=5,
            root=tmp_path / folder,
            device="cpu",
            precision="64-true",
            callbacks=callbacks,
        )

    whole, watch = weighted(combination), keep()
    run(whole, "whole", watch)
    with pytest.raises(InterruptedError):
        run(weighted(combination), "cut", keep(), Stop())
    again, watch_again = weighted(combination, seed=0), keep()
    run(again, "cut", watch_again)
    assert torch.equal(state(again.net), state(whole.net))
    assert again.history.equals(whole.history)
    np.testing.assert_array_equal(watch_again.outputs, watch.outputs)
    assert watch.outputs.shape == (4, 12, 3, C)


def test_combination_begins_as_a_mean_and_weighs_every_class_alike():
    logits = torch.randn(B, 3, C)
    for variant, seen in (("text", logits.softmax(-1)), ("code", logits)):
        w = WeightedCombination(3, variant)

        def weighted_sum(w=w, variant=variant):
            return w(logits).exp() if variant == "text" else w(logits)

        torch.testing.assert_close(weighted_sum(), seen.mean(1))
        with torch.no_grad():
            for p in w.parameters():
                p.uniform_(0.1, 1) if variant == "text" else p.normal_()
        torch.testing.assert_close(weighted_sum(), torch.einsum("m,bmc->bc", w.theta, seen))
    with pytest.raises(ParamsError, match="variant"):
        WeightedCombination(3, "linear")
    with pytest.raises(ParamsError, match="decay"):
        WeightedTraining(WeightedEnsemble(C, H), weighted_tasks(C, 2), decay=True)


def test_the_texts_weights_are_trained_by_the_probability_of_the_truth():
    "Not by a softmax of probabilities, whose loss could not fall below log(1 + (C−1)/e)."
    logits, y = 9 * F.one_hot(genres(B), C).double()[:, None].repeat(1, 2, 1), genres(B)
    w = WeightedCombination(2).double()
    p = torch.einsum("m,bmc->bc", w.theta, logits.softmax(-1))
    loss = F.cross_entropy(w(logits), y)
    torch.testing.assert_close(loss, -(p / p.sum(1, keepdim=True)).log()[torch.arange(B), y].mean())
    assert loss < 0.01 < math.log(1 + (C - 1) / math.e)
    with torch.no_grad():
        w.outer.weight.copy_(torch.tensor([[2.0, -3.0]]))  # a negative sum is no probability
    assert w(logits).isfinite().all()


# --- controls --------------------------------------------------------------------------------------------------------


def test_networks_on_whole_songs_are_those_networks_side_by_side():
    x = songs(6)
    whole = SnippetEnsemble(C, H, 3, whole=True)
    torch.testing.assert_close(whole(x), torch.stack([net(x) for net in whole.nets], 1))
    assert [h.shape[1] for h in whole.outputs] == [x.shape[1]] * 3


@pytest.mark.parametrize("n_classes, hidden, networks", [(10, 100, 4), (25, 50, 4), (10, 10, 2), (5, 25, 4)])
def test_one_network_can_have_the_weights_of_several(n_classes, hidden, networks):
    wanted = networks * n_parameters(SegmentLSTM(n_classes, hidden))
    units = matched_width(n_classes, hidden, networks)
    sizes = [abs(n_parameters(SegmentLSTM(n_classes, units + more)) - wanted) for more in (-1, 0, 1)]
    assert min(sizes) == sizes[1]


def test_geometric_mean_is_a_product_that_is_as_sure_as_one_network():
    logits = torch.randn(B, C)
    same = torch.stack([logits] * 4, 1)
    torch.testing.assert_close(combine(same, "gm"), logits.log_softmax(1))
    other = torch.randn(B, 4, C)
    assert torch.equal(combine(other, "gm").argmax(1), combine(other, "m1").argmax(1))


# --- tasks and training ----------------------------------------------------------------------------------------------


def test_binary_loss_is_the_sum_of_its_heads():
    net = SegmentLSTM(C, H, "binary")
    y = genres()
    z = net(songs())[1]
    heads = F.linear(
        net.shared(songs()), net.tops["binary"].weight, net.tops["binary"].bias
    )  # head c: units 2c and 2c+1
    expected = sum(F.cross_entropy(heads[:, 2 * c : 2 * c + 2], (y == c).long()) for c in range(C))
    torch.testing.assert_close(binary_task(C).loss(z, binary_target(y, C)), expected)


def test_autoencoder_loss_is_a_mean():
    x = songs()
    z = torch.randn(B, T * 25)
    torch.testing.assert_close(autoencoder_task(T).loss(z, autoencoder_target(x)), ((z - x.reshape(B, -1)) ** 2).mean())


def test_a_secondary_task_with_penalty_is_the_papers_sum(tmp_path):
    "One step of Adam on CE + AS + α·MSE."
    x, y = songs().double(), genres()
    torch.manual_seed(0)
    net = SegmentLSTM(C, H, "autoencoder", segments=T).double()
    ref = copy.deepcopy(net)
    m = MultiTask(net, [genre_task(C), autoencoder_task(T)], Static([1, 2]), lr=1e-3, penalty=Stabilization(100))
    fit(
        m,
        Items(x, (y, autoencoder_target(x))),
        epochs=3,
        batch_size=B,
        root=tmp_path,
        device="cpu",
        precision="64-true",
    )
    adam = torch.optim.Adam(ref.parameters(), lr=1e-3)
    for _ in range(3):
        z, r = ref(x)
        loss = F.cross_entropy(z, y) + activation_stabilization(ref.outputs, 100.0) + 2 * F.mse_loss(r, x.flatten(1))
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(state(net), state(ref), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (SegmentLSTM(C, H), 1),
        lambda: (SegmentLSTM(C, H, variant="text"), 1),
        lambda: (SnippetEnsemble(C, H, 2), 2),
        lambda: (SnippetEnsemble(C, H, 4), 4),
        lambda: (FeedForward(C, H, segments=T), 1),
    ],
)
def test_networks_learn_what_can_be_learnt(make, tmp_path):
    "Songs whose genre is a step in one number, in all parts of the song."
    torch.manual_seed(0)
    net, m = make()
    x, y = songs(192), torch.arange(192) % C
    for c in range(C):
        x[y == c, :, c] += 1
    module = MultiTask(net, [genre_task(C, m)], lr=1e-2)
    fit(module, Items(x[:128], (genre_target(y[:128], m),)), epochs=10, batch_size=16, root=tmp_path, device="cpu")
    with torch.no_grad():
        log_p = log_posteriors(net, x[128:])
    right = ((combine(log_p) if m > 1 else log_p).argmax(-1) == y[128:]).double().mean()
    assert right >= 0.6  # chance: 0.25, with a standard error of 0.06


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SegmentLSTM(secondary="tempo"), "secondary"),
        (lambda: SegmentLSTM(variant="paper"), "variant"),
        (lambda: SegmentLSTM(C, H)(torch.zeros(2, 25)), r"songs \[B, T, 25\], found \[2, 25\]"),
        (lambda: SnippetEnsemble(C, H, 0), "snippets"),
        (lambda: SnippetEnsemble(C, H, 5)(songs()), "multiple of 5 segments, found 24"),
    ],
)
def test_errors_of_the_networks_name_what_is_wrong(make, message):
    with pytest.raises(ParamsError, match=message):
        make()

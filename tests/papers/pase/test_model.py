"Encoders, quasi-recurrent layer and workers of the self-supervised study."

import itertools
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.audio import load_audio
from musicmtl.balance import Equal, GradNorm, Uncertainty, backward, fan_out
from musicmtl.core import ParamsError, RunError, seed_everything
from musicmtl.learn import Items, MultiTask, fit
from musicmtl.papers.pase import model as module
from musicmtl.papers.pase.model import (
    BLOCKS,
    PASE,
    QRNN,
    SR,
    WORKERS,
    ChannelPReLU,
    ChunkDecoder,
    FilterSum,
    MirrorDecoder,
    PASEPlus,
    Pretraining,
    PretrainNet,
    ReflectConv,
    SincConv,
    Worker,
    gated_average,
    gated_average_loop,
    load_encoder,
    make_encoder,
    receptive_field,
    save_encoder,
    target_bank,
    target_scale,
    train_heads,
    widths_of,
    worker_set,
    worker_tasks,
)
from musicmtl.tasks import classification, multilabel
from musicmtl.viz import n_parameters

NARROW = {"emb_dim": 16, "width_divisor": 16}


def tone(hz, n=SR):
    "A sine of one second [n]."
    return torch.sin(2 * torch.pi * hz * torch.arange(n, dtype=torch.float64) / SR)


def music(n_clips=2, n=4800, seed=0):
    "Chords under noise [n_clips, n]."
    rng = torch.Generator().manual_seed(seed)
    hz = 110 * 2 ** (torch.randint(0, 36, (n_clips, 3), generator=rng) / 12)
    time = torch.arange(n) / SR
    noise = torch.randn(n_clips, n, generator=rng)
    return 0.2 * torch.sin(2 * torch.pi * hz[..., None] * time).sum(1) + 0.05 * noise


def use_pytorch(monkeypatch):
    "PyTorch's own operations in place of ours."
    monkeypatch.setattr(module, "_plain_cpu", lambda x: False)
    monkeypatch.setattr(module, "gated_average", gated_average_loop)
    monkeypatch.setattr(module.Pretraining, "task_loss", MultiTask.task_loss)


# Sizes


@pytest.mark.parametrize(
    "encoder, emb, total",
    [(PASE, 100, 5_818_020), (PASE, 512, 6_029_376), (PASEPlus, 256, 7_832_896), (PASEPlus, 512, 8_324_672)],
)
def test_parameter_counts(encoder, emb, total):
    net = encoder(emb)
    assert n_parameters(net) == total and n_parameters(net.blocks) == 5_766_720
    assert net.shared_weight.shape == (emb, 512, 1) and not n_parameters(net.norm)
    if encoder is PASEPlus and emb == 256:
        assert [n_parameters(part) for part in (net.skips, net.rnn, net.W)] == [360_448, 1_574_400, 131_328]


def test_the_embedding_is_512_by_default():
    assert PASE().emb_dim == PASEPlus().emb_dim == 512


@pytest.mark.parametrize("n", [2400, 16_000, 48_000])
@pytest.mark.parametrize("kind", ["PASE", "PASEPlus"])
def test_a_frame_is_160_samples(kind, n):
    assert make_encoder(kind, **NARROW)(music(2, n)).shape == (2, 16, n // 160)


@pytest.mark.parametrize("kernel, stride", [(k, s) for k, s, _ in BLOCKS[1:]])
def test_a_convolution_divides_the_length_exactly(kernel, stride):
    assert ReflectConv(1, 1, kernel, stride)(torch.randn(1, 1, 40 * stride)).shape == (1, 1, 40)


def test_width_divisor_keeps_the_depth_and_what_layers_are_for():
    wide, narrow = PASEPlus(), PASEPlus(64, width_divisor=8)
    assert wide.widths == [64, 64, 128, 128, 256, 256, 512, 512] and narrow.widths == [16, 16, 16, 16, 32, 32, 64, 64]
    assert min(PASE(8, width_divisor=32).widths) == 16 and min(widths_of("decoder", 32)) == 8
    assert PretrainNet(narrow, "M").workers["mfcc"].hidden.out_channels == 256
    assert [name for name, _ in wide.named_parameters()] == [name for name, _ in narrow.named_parameters()]
    for ours, theirs in zip(list(wide.blocks)[1:], list(narrow.blocks)[1:], strict=True):
        assert ours.conv.kernel_size == theirs.conv.kernel_size and ours.conv.stride == theirs.conv.stride
    assert wide.blocks[0].conv.kernel == narrow.blocks[0].conv.kernel


# Sinc filters


def test_bands_start_side_by_side_on_the_mel_scale():
    from librosa import mel_frequencies

    conv = SincConv()
    edges = mel_frequencies(65, fmin=30, fmax=SR / 2 - 100, htk=True)
    np.testing.assert_allclose(conv.low_hz_.detach()[:, 0], edges[:-1], rtol=1e-4)
    np.testing.assert_allclose((conv.low_hz_ + conv.band_hz_).detach()[:, 0], edges[1:], rtol=1e-4)


@pytest.mark.parametrize("which", [8, 32, 48, 60])
def test_a_tone_in_the_band_passes_and_one_outside_does_not(which):
    conv = SincConv().double()
    low, high = (edge[which].item() for edge in conv.cutoffs)

    def level(hz):
        return conv(tone(hz)[None])[0, which, 500:-500].square().mean().sqrt().item()

    inside, margin = level((low + high) / 2), 4 * SR / 251  # The main lobe of a Hamming window of 251 samples
    outside = [hz for hz in (low - margin, high + margin, low / 4) if 0 < hz < SR / 2]
    assert outside and all(20 * np.log10(inside / level(hz)) > 40 for hz in outside)


def test_the_gain_of_a_wide_band_is_that_of_an_ideal_filter_with_middle_tap_1():
    conv = SincConv(1).double()
    with torch.no_grad():
        conv.low_hz_.fill_(1950.0), conv.band_hz_.fill_(1950.0)
    assert [edge.item() for edge in conv.cutoffs] == [2000, 4000]
    out = conv(tone(3000)[None])[0, 0, 500:-500]
    assert out.square().mean().sqrt().item() == pytest.approx(0.5**0.5 * SR / (2 * 2000), rel=5e-3)


def test_filters_are_symmetric_so_that_nothing_is_delayed():
    conv = SincConv()
    h = conv.filters()
    torch.testing.assert_close(h, h.flip(1))
    x = torch.zeros(1, 1600)
    x[0, 800] = 1.0
    assert (conv(x)[0].abs().argmax(1) == 800).all()


@pytest.mark.parametrize(
    "low, band", [(0.0, 0.0), (-1e3, -1e3), (1e6, 1e6), (8000.0, 0.0), (7900.0, 3.0), (7949.9, 1e5)]
)
def test_edges_stay_in_order_whatever_the_parameters(low, band):
    conv = SincConv(1)
    with torch.no_grad():
        conv.low_hz_.fill_(low), conv.band_hz_.fill_(band)
    lower, upper = (edge.item() for edge in conv.cutoffs)
    assert 50 <= lower <= upper - 50 + 1e-3 and upper <= SR / 2
    h = conv.filters()
    h.square().sum().backward()
    assert h.isfinite().all() and conv.low_hz_.grad.isfinite().all() and conv.band_hz_.grad.isfinite().all()


@settings(max_examples=15, deadline=None)
@given(n_clips=st.integers(1, 3), channels=st.integers(1, 5), steps=st.integers(9, 20), seed=st.integers(0, 99))
def test_own_convolutions_are_pytorchs(n_clips, channels, steps, seed):
    rng, T = torch.Generator().manual_seed(seed), 16 * steps

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64, requires_grad=True)

    x, h, z = draw(n_clips, T + 250), draw(channels, 251), draw(n_clips, channels, T)
    ours, theirs = module._FilterConv.apply(x, h), F.conv1d(x[:, None], h[:, None])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y.sin().sum(), (x, h)) for y in (ours, theirs)))
    ours, theirs = module._FilterSum.apply(z, h), F.conv_transpose1d(z, h[:, None], padding=125)[:, 0]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y.sin().sum(), (z, h)) for y in (ours, theirs)))


def test_lengths_that_are_no_whole_number_of_phases_work_too():
    last = FilterSum(2, 251)
    assert SincConv(3)(music(1, 1001)).shape == (1, 3, 1001)
    assert last(torch.randn(1, 2, 1001)).shape == (1, 1, 1001)


@pytest.mark.parametrize("samples", [251, 1798, 1799, 16_000])
def test_blocks_of_the_transform_leave_no_seam(samples):
    "2048 − 250 = 1798 samples are one block."
    x, h = torch.randn(2, samples + 250, dtype=torch.float64), torch.randn(3, 251, dtype=torch.float64)
    h.requires_grad_()
    ours, theirs = module._FilterConv.apply(x, h), F.conv1d(x[:, None], h[:, None])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y.sin().sum(), h) for y in (ours, theirs)))


def both_ways(layer, x, monkeypatch):
    "Output, and the gradients of the input and of the parameters: ours, PyTorch's."
    found = []
    for plain in (True, False):
        monkeypatch.setattr(module, "_plain_cpu", lambda x, plain=plain: plain)
        y = layer(x)
        found.append([y.detach(), *torch.autograd.grad(y.sin().sum(), (x, *layer.parameters()))])
    return found


@pytest.mark.parametrize("kernel, stride", [(20, 10), (30, 10), (11, 2), (11, 1), (4, 4)])
@pytest.mark.parametrize("c_in, c_out", [(4, 4), (4, 8), (20, 4)])
def test_convolutions_of_few_channels_are_pytorchs(c_in, c_out, kernel, stride, monkeypatch):
    x = torch.randn(2, c_in, 12 * stride, dtype=torch.float64, requires_grad=True)
    down = ReflectConv(c_in, c_out, kernel, stride).double()
    torch.testing.assert_close(*both_ways(down, x, monkeypatch))
    x = torch.randn(2, c_in, 12, dtype=torch.float64, requires_grad=True)
    up = module.Upsampling(c_in, c_out, kernel, stride).double()
    torch.testing.assert_close(*both_ways(up, x, monkeypatch))


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_norms_of_long_channels_are_pytorchs(mean, monkeypatch):
    "Also where the mean is large against the deviation."
    x = (torch.randn(3, 2, 30_000) + mean).requires_grad_()
    ours, theirs = module.ChannelNorm(2), torch.nn.BatchNorm1d(2)
    both = []
    for norm in (ours, theirs):
        y = norm(x)
        both.append([y.detach(), *torch.autograd.grad(y.sin().mean(), (x, *norm.parameters())), *norm.buffers()])
    torch.testing.assert_close(*both, rtol=1e-5, atol=1e-4 if mean else 1e-5)


def gradients_of(net, step, x, given):
    "Losses of all workers, and the gradients of all weights."
    net.zero_grad()
    losses = step.losses(net(x), [x, *given])
    losses.sum().backward()
    return losses.detach(), {name: parameter.grad.double() for name, parameter in net.named_parameters()}


def a_step(dtype, smooth=True):
    """A network, its step and what it hears; the same numbers in every precision.

    An absolute error has jumps, and so have slopes other than 1: rounding across 0 changes gradients.
    """
    seed_everything(0)
    net = PretrainNet(PASEPlus(**NARROW))
    for layer in net.modules() if smooth else ():
        if isinstance(layer, torch.nn.PReLU):
            torch.nn.init.ones_(layer.weight)
    given = [torch.randn(2, n, 100) for name, n in WORKERS.items() if name != "waveform"]
    step = Pretraining(net.to(dtype), Equal(len(WORKERS)))
    if smooth:
        step.tasks[0] = worker_tasks("L")[0]
    return net, step, music(2, 16_000).to(dtype), [target.to(dtype) for target in given]


def test_a_step_is_that_of_pytorchs_operations(monkeypatch):
    "Losses of all workers and the gradients of all weights, to 1e-5 of the largest."
    ours, fast = gradients_of(*a_step(torch.float64, smooth=False))
    use_pytorch(monkeypatch)
    theirs, plain = gradients_of(*a_step(torch.float64, smooth=False))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    for name, gradient in plain.items():
        largest = max(gradient.abs().max().item(), 1.0)
        torch.testing.assert_close(fast[name] / largest, gradient / largest, rtol=0, atol=1e-5, msg=name)


def test_a_step_in_single_precision_is_as_exact_as_pytorchs_operations(monkeypatch):
    "No gradient is further from that of double precision than three times theirs, and 1e-6 of the largest."
    losses, exact = gradients_of(*a_step(torch.float64))
    ours, fast = gradients_of(*a_step(torch.float32))
    use_pytorch(monkeypatch)
    theirs, plain = gradients_of(*a_step(torch.float32))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours.double(), losses, rtol=1e-4, atol=0)
    for name, gradient in exact.items():
        error, their_error = ((found[name] - gradient).abs().max().item() for found in (fast, plain))
        assert error <= 3 * their_error + 1e-6 * max(gradient.abs().max().item(), 1.0), name


def test_missing_targets_are_left_out_and_do_not_spoil_the_others():
    step = Pretraining(PretrainNet(PASEPlus(**NARROW), "PM"), Equal(2))
    scores, target = torch.randn(2, 20, 5), torch.randn(2, 20, 5)
    assert step.task_loss(1, scores, target) == pytest.approx(F.mse_loss(scores, target).item())
    target[0, :, 2] = torch.nan
    there = target.isfinite()
    assert step.task_loss(1, scores, target) == pytest.approx(F.mse_loss(scores[there], target[there]).item())


def test_slopes_are_pytorchs_at_zero_too():
    x = torch.randn(3, 4, 20, dtype=torch.float64)
    x[:, :, ::3] = 0.0
    x, slope = x.requires_grad_(), torch.randn(4, dtype=torch.float64, requires_grad=True)
    both = [prelu(x, slope) for prelu in (module._Slopes.apply, F.prelu)]
    ours, theirs = (torch.autograd.grad(y.sin().sum(), (x, slope)) for y in both)
    torch.testing.assert_close(ours, theirs)
    assert (ChannelPReLU(4).weight == 0).all()


@pytest.mark.parametrize("length", [20, 20_000])
def test_slopes_of_few_and_of_many_samples_are_pytorchs_whatever_the_order_in_memory(length, monkeypatch):
    "More samples than the cache holds are taken in pieces."
    x = torch.randn(4, 5, length, dtype=torch.float64, requires_grad=True)
    arriving = torch.randn(length, 4, 5, dtype=torch.float64).permute(1, 2, 0)
    both, slopes = [], ChannelPReLU(5, 0.3).double()
    for plain in (True, False):
        monkeypatch.setattr(module, "_plain_cpu", lambda x, plain=plain: plain)
        both.append(torch.autograd.grad(slopes(x), (x, slopes.weight), arriving))
    torch.testing.assert_close(*both)


def test_frame_means_and_what_they_are_means_of_get_pytorchs_gradient(monkeypatch):
    x, both = torch.randn(2, 3, 40, dtype=torch.float64, requires_grad=True), []
    for plain in (True, False):
        monkeypatch.setattr(module, "_plain_cpu", lambda x, plain=plain: plain)
        for used in ((True, True), (True, False), (False, True)):
            found = module._with_means(x, 8)
            total = sum(y.sin().sum() for y, is_used in zip(found, used, strict=True) if is_used)
            both.append([*found, *torch.autograd.grad(total, x)])
    torch.testing.assert_close(both[:3], both[3:])


@pytest.mark.parametrize("kind, c_in, c_out", [(module.OneTap, 128, 130), (module.OneTap, 128, 3), (QRNN, 70, 64)])
def test_the_library_of_convolutions_finds_the_same_products(kind, c_in, c_out, monkeypatch):
    x = torch.randn(2, c_in, 9, requires_grad=True)
    torch.testing.assert_close(*both_ways(kind(c_in, c_out), x, monkeypatch), rtol=1e-5, atol=1e-5)


# What a frame sees


def linear(net):
    "The encoder without its rectifiers, so that no dead unit hides a sample."
    for part in net.modules():
        if isinstance(part, ChannelPReLU):
            torch.nn.init.ones_(part.weight)
    return net.double().eval()


def test_receptive_field():
    wave = torch.randn(1, 8000, dtype=torch.float64, requires_grad=True)
    linear(PASE(**NARROW))(wave)[0, :, 25].sum().backward()
    seen = wave.grad[0].nonzero().flatten()
    assert len(seen) == 2370 == receptive_field()
    assert (seen[0] + seen[-1]).item() / 2 == 160 * 25 + 150.5


def test_pase_plus_remembers_but_does_not_look_ahead():
    wave = torch.randn(1, 16_000, dtype=torch.float64, requires_grad=True)
    linear(PASEPlus(**NARROW))(wave)[0, :, 50].sum().backward()
    seen = wave.grad[0].nonzero().flatten()
    assert len(seen) > 2 * 2370 and seen[-1] == 160 * 50 + 150.5 + (2370 - 1) / 2


# Quasi-recurrent layer


def test_gated_average_is_the_loop():
    y = torch.randn(300, 3, 3 * 20, requires_grad=True)
    arriving = torch.randn(300, 3, 20)
    ours, theirs = gated_average(y), gated_average_loop(y)
    assert (ours - theirs).abs().max() <= 1e-5
    gradient, reference = (torch.autograd.grad(h, y, arriving)[0] for h in (ours, theirs))
    assert (gradient - reference).abs().max() <= 1e-5


@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 6), clips=st.integers(1, 2), units=st.integers(1, 3), scale=st.sampled_from([0.1, 1.0, 4.0])
)
def test_gated_average_has_the_right_derivative(frames, clips, units, scale):
    y = (scale * torch.randn(frames, clips, 3 * units, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(gated_average, (y,))


@pytest.mark.parametrize("gate", [-1e4, -60.0, 60.0, 1e4])
def test_gates_that_are_shut_or_open_for_long_do_no_harm(gate):
    y = torch.randn(3000, 1, 6)
    y[..., 2:4] = gate  # f: the product of 1 − f over so many steps is far below the smallest number
    y.requires_grad_()
    h = gated_average(y)
    h.sum().backward()
    assert h.isfinite().all() and y.grad.isfinite().all()
    z, _, o = y.detach().chunk(3, -1)
    if gate > 0:
        torch.testing.assert_close(h.detach(), z.tanh() * o.sigmoid())
    else:
        assert h.detach().abs().max() < 1e-6


def test_two_steps_by_hand():
    half = 0.0  # σ(0) = 1/2
    z = np.arctanh([0.8, 0.4])
    y = torch.tensor([[[z[0], half, half]], [[z[1], half, half]]])
    np.testing.assert_allclose(gated_average(y).flatten(), [0.5 * 0.5 * 0.8, 0.5 * (0.5 * 0.4 + 0.5 * 0.4)], rtol=1e-6)


def test_qrnn_sees_this_frame_and_the_one_before():
    layer = QRNN(3, 4)
    x = torch.randn(2, 3, 5)
    before = torch.cat([torch.zeros(2, 3, 1), x[..., :-1]], 2)
    y = torch.einsum("oi,bif->fbo", layer.weight, torch.cat([x, before], 1)) + layer.bias
    torch.testing.assert_close(layer(x), gated_average_loop(y).permute(1, 2, 0))
    assert n_parameters(QRNN(512, 512)) == 1_574_400


def test_half_precision_keeps_the_average_in_single():
    layer, x = QRNN(8, 8), torch.randn(1, 8, 400)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(x), rtol=0.05, atol=0.03)


# Encoders


@pytest.mark.parametrize("kind", ["PASE", "PASEPlus"])
def test_fast_ways_are_pytorchs_operations(kind, monkeypatch):
    net = make_encoder(kind, **NARROW).double()
    x = music(2, 3200).double()

    def trained():
        net.zero_grad()
        h = net(x)
        (h * torch.linspace(-1, 1, h.numel(), dtype=h.dtype).view_as(h)).sum().backward()
        return h.detach(), {name: parameter.grad.clone() for name, parameter in net.named_parameters()}

    ours, our_gradients = trained()
    use_pytorch(monkeypatch)
    theirs, their_gradients = trained()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_gradients, their_gradients, rtol=1e-6, atol=1e-9)


def test_skips_in_the_published_order():
    "Convolution over all samples first, then the mean."
    net = PASEPlus(**NARROW).double().eval()
    wave = music(2, 3200).double()
    x, total = wave, 0.0
    for block, skip in itertools.zip_longest(net.blocks, net.skips):
        x = block(x)
        if skip is not None:
            total = total + F.avg_pool1d(skip(x), x.shape[2] // 20)
    torch.testing.assert_close(net(wave), net.norm(net.W(net.rnn(x)) + total))


@pytest.mark.parametrize("kind", ["PASE", "PASEPlus"])
def test_embeddings_are_normalised_and_clips_independent(kind):
    net = make_encoder(kind, **NARROW)
    x = music(3, 16_000)
    h = net(x)
    torch.testing.assert_close(h.mean((0, 2)), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(h.var((0, 2), correction=0), torch.ones(16), atol=2e-2, rtol=0)
    net.eval()
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["PASE", "PASEPlus"])
def test_a_shift_by_a_frame_is_a_shift_by_a_frame(kind):
    net = make_encoder(kind, **NARROW).double().eval()
    x = music(1, 16_160).double()
    whole, shifted = net(x[:, :-160]), net(x[:, 160:])
    inner = slice(12, -12) if kind == "PASE" else slice(60, -12)  # A QRNN first has to forget how it began
    torch.testing.assert_close(whole[..., 1:][..., inner], shifted[..., :-1][..., inner], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["PASE", "PASEPlus"])
def test_silence_does_no_harm(kind):
    net = PretrainNet(make_encoder(kind, **NARROW), "WP")
    x = torch.zeros(2, 2400)
    sum(z.square().sum() for z in net(x)).backward()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert len(gradients) > 20 and all(gradient.isfinite().all() for gradient in gradients)
    assert all(z.isfinite().all() for z in net.eval()(x))


def test_autocast_runs():
    net = PASEPlus(**NARROW).eval()
    x = music(1, 3200)
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x)
    assert np.corrcoef(low.float().detach().flatten(), net(x).detach().flatten())[0, 1] > 0.99


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.zeros(2, 2369), "at least the receptive field, 2370 samples, found 2369"),
        (torch.zeros(1, 2401), "whole frames of 160 samples, found 2401 samples, 1 too many"),
        (torch.zeros(2400), r"expected a floating-point tensor \[B, T\].*found \[2400\]"),
        (torch.zeros(1, 1, 2400), r"found \[1, 1, 2400\]"),
        (torch.zeros(0, 2400), r"found \[0, 2400\]"),
        (torch.zeros(1, 2400, dtype=torch.int16), "found .* torch.int16"),
        (np.zeros((1, 2400)), "found ndarray"),
        (torch.full((2, 2400), torch.nan), "NaN or infinity in clip 0, 1"),
        (torch.tensor([[0.0] * 2400, [0.0] * 2399 + [torch.inf]]), "NaN or infinity in clip 1"),
    ],
)
def test_waveforms_that_will_not_do(x, message):
    with pytest.raises(ParamsError, match=message) as e:
        PASEPlus(**NARROW)(x)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PASE(0), "emb_dim: expected a whole number of at least 1, found 0"),
        (lambda: PASE(width_divisor=5), "width_divisor"),
        (lambda: SincConv(kernel=250), "odd number of taps, found 250"),
        (lambda: make_encoder("ResNet"), "expected one of PASE, PASEPlus, found 'ResNet'"),
        (lambda: worker_set("WLQ"), "found 'WLQ'"),
        (lambda: worker_set("WW"), "found 'WW'"),
        (lambda: worker_set(""), "found ''"),
        (lambda: worker_tasks(["pitch"]), r"found \['pitch'\]"),
        (lambda: PretrainNet(PASE(**NARROW), decoder="none"), "decoder"),
    ],
)
def test_parameters_that_will_not_do(make, message):
    with pytest.raises(ParamsError, match=message):
        make()


# Checkpoints


@pytest.mark.parametrize("kind", ["PASE", "PASEPlus"])
def test_checkpoint(kind, tmp_path):
    net = make_encoder(kind, **NARROW)
    net(music())
    save_encoder(net, tmp_path / "e.pt")
    x, net = music(seed=1), net.eval()
    for again in (load_encoder(tmp_path / "e.pt"), load_encoder(tmp_path / "e.pt", make_encoder(kind, **NARROW))):
        assert not again.training and again.config == net.config
        assert torch.equal(again(x), net(x))
    assert [f.name for f in tmp_path.iterdir()] == ["e.pt"]


@pytest.mark.parametrize("other", [PASE(**NARROW), PASEPlus(32, 16), PASEPlus(16, 32)])
def test_another_configuration_is_refused(other, tmp_path):
    save_encoder(PASEPlus(**NARROW), tmp_path / "e.pt")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(RunError, match=r"e\.pt: expected PASE.*, found PASEPlus\(emb_dim=16, width_divisor=16\)$"):
        load_encoder(tmp_path / "e.pt", other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


class Bomb:
    def __reduce__(self):
        return (print, ("a checkpoint ran code",))


def test_files_that_are_no_checkpoints(tmp_path, capsys):
    save_encoder(PASE(**NARROW), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").touch()
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    torch.save({"encoder": Bomb(), "state": {}}, tmp_path / "zipped.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    for name in ("cut", "empty", "bomb", "zipped", "other", "missing"):
        with pytest.raises(RunError, match=rf"{name}\.pt: expected a checkpoint of save_encoder"):
            load_encoder(tmp_path / f"{name}.pt")
    assert "ran code" not in capsys.readouterr().out


# Workers


@pytest.mark.parametrize("n_in", [100, 512])
def test_worker_sizes(n_in):
    for n in WORKERS.values():
        assert n_parameters(Worker(n, n_in)) == n_in * 256 + 256 + 256 + 256 * n + n
    assert (Worker(3).prelu.weight == 0.25).all()


def test_decoder_sizes():
    assert [n_parameters(ChunkDecoder(n)) for n in (100, 256)] == [6_461_377, 8_857_537]
    net, mirror = PASE(), MirrorDecoder()
    assert [b.conv.stride[0] for b in mirror.blocks] == [2, 2, 1, 2, 1, 2, 10] and mirror.out.stride == (1,)

    def taps(blocks):
        return sorted(b.conv.weight.numel() for b in blocks if not isinstance(b.conv, SincConv))

    assert taps(mirror.blocks) == taps(net.blocks)


@pytest.mark.parametrize("decoder", [MirrorDecoder, ChunkDecoder])
@pytest.mark.parametrize("frames", [15, 100])
def test_decoders_give_160_samples_a_frame(decoder, frames):
    assert decoder(16, 16)(torch.randn(2, 16, frames)).shape == (2, frames * 160)


def test_mirror_is_pytorchs(monkeypatch):
    net, h = MirrorDecoder(8, 16).double(), torch.randn(2, 8, 20, dtype=torch.float64)
    fast = net(h)
    use_pytorch(monkeypatch)
    torch.testing.assert_close(fast, net(h))


def test_a_worker_looks_at_one_frame():
    worker, h = Worker(20, 16, 8), torch.randn(1, 16, 50)
    other = h.clone()
    other[..., 7] += 1
    assert (worker(other) - worker(h)).abs().amax((0, 1)).nonzero().flatten().tolist() == [7]


@given(st.permutations("WLPMCT"), st.integers(1, 6), st.booleans())
def test_worker_sets_have_one_order(letters, n, plus):
    names = worker_set("+".join(letters[:n]) if plus else "".join(letters[:n]))
    assert len(names) == n and list(names) == [w for w in WORKERS if w in names]


def test_tasks():
    tasks = worker_tasks()
    assert [t.name for t in tasks] == list(WORKERS) and [t.n_out for t in tasks] == list(WORKERS.values())
    assert [t.metrics[0] for t in tasks] == ["mae"] + ["mse"] * 5
    assert worker_tasks("WMT") == [tasks[0], tasks[3], tasks[5]]
    a, b = torch.randn(2, 320), torch.randn(2, 320)
    torch.testing.assert_close(tasks[0].loss(a, b), F.l1_loss(a, b))


# Pre-training


def pretraining(n=4, workers="WMC", kind="PASEPlus", decoder="mirror"):
    net = PretrainNet(make_encoder(kind, **NARROW), workers, decoder)
    x = music(n, 4800)
    energy = torch.stack([x.unflatten(1, (-1, 160)).square().mean(2)] * 20, 1)  # Stands for every feature
    return net, x, tuple(x if task.name == "waveform" else 10 * energy[:, : task.n_out] for task in net.tasks)


@pytest.mark.parametrize("kind", ["PASE", "PASEPlus"])
def test_shared_gradients_are_those_of_single_tasks(kind):
    net, x, targets = pretraining(kind=kind)

    def losses(outputs):
        return [task.loss(z, y) for task, z, y in zip(net.tasks, outputs, targets, strict=True)]

    fan = fan_out(net.shared(x), 3)
    log = backward(losses(net.heads(list(fan))), fan, GradNorm(3), net.shared_weight)
    single = [torch.autograd.grad(loss, net.shared_weight, retain_graph=True)[0] for loss in losses(net(x))]
    rows = torch.stack([gradient.flatten() for gradient in single]).double()
    torch.testing.assert_close(log["gramian"], rows @ rows.T, rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(net.shared_weight.grad.flatten().double(), rows.sum(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("balancer, decoder", [(Equal, "mirror"), (GradNorm, "mirror"), (Uncertainty, "chunk")])
def test_training_lowers_every_workers_loss(balancer, decoder, tmp_path):
    net, x, y = pretraining(decoder=decoder)
    trained = fit(
        MultiTask(net, net.tasks, balancer(3), lr=3e-3),
        Items(x, y),
        epochs=4,
        steps_per_epoch=5,
        batch_size=4,
        root=tmp_path,
        device="cpu",
    )
    first, last = (trained.history.query(q).groupby("task").loss.mean() for q in ("step < 3", "step >= 17"))
    assert (last < first).all()


def test_same_seed_same_numbers(tmp_path):
    runs = []
    for name in "ab":
        seed_everything(3)
        net, x, y = pretraining()
        runs.append(
            fit(
                MultiTask(net, net.tasks, lr=1e-3, seed=3),
                Items(x, y),
                epochs=2,
                batch_size=2,
                root=tmp_path / name,
                device="cpu",
            )
        )
    assert runs[0].history.equals(runs[1].history)
    assert all(torch.equal(p, q) for p, q in zip(runs[0].net.parameters(), runs[1].net.parameters(), strict=True))


def test_workers_have_their_own_learning_rate_and_any_optimiser():
    net = PretrainNet(PASEPlus(**NARROW), "P")
    for choice, kind in ((None, torch.optim.Adam), (torch.optim.SGD, torch.optim.SGD)):
        made = Pretraining(net, lr=0.1, worker_lr=0.2, weight_decay=0.3, optimizer=choice).configure_optimizers()
        assert type(made) is kind and made.defaults["weight_decay"] == 0.3
        assert [group["lr"] for group in made.param_groups] == [0.1, 0.2]


def test_every_parameter_learns():
    net, x, _ = pretraining(workers="WLPMCT")
    for part in net.modules():
        if isinstance(part, torch.nn.PReLU):
            torch.nn.init.constant_(part.weight, 0.3)
    sum(z.square().sum() for z in net(x)).backward()
    idle = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not idle, idle


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_cpu():
    "One step of pre-training, targets computed where the network is."
    x = torch.randn(2, 16000) * 0.1
    found = {}
    for device in ("cpu", "cuda"):
        seed_everything(0)
        module = Pretraining(PretrainNet(PASEPlus(32, width_divisor=8)), bank=target_bank()).to(device)
        losses = module.losses(module.net(x.to(device)), module.targets(x.to(device)))
        losses.sum().backward()
        found[device] = losses.detach().cpu(), module.net.shared_weight.grad.cpu()
    torch.testing.assert_close(found["cuda"], found["cpu"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("several", [False, True])
def test_trials_side_by_side_are_trials_apart(several):
    "The first of four is what it is alone, labels missing or not, and all of them learn."
    rng = torch.Generator().manual_seed(1)
    z = torch.randn(150, 6, generator=rng)
    codes = z[:, :3].argmax(1)
    y = F.one_hot(codes, 3).float() if several else codes
    if several:
        y[torch.rand(y.shape, generator=rng) < 0.3] = torch.nan
    task = (multilabel if several else classification)("label", 3)
    parts = (z[:90], y[:90]), (z[90:120], y[90:120])
    options = {"lr": 0.02, "batch_size": 16, "patience": 4, "epochs": 40}
    four, curves = train_heads(task, *parts, trials=4, **options)
    one, alone = train_heads(task, *parts, trials=1, **options)
    torch.testing.assert_close(four.weight[:1], one.weight, atol=1e-5, rtol=1e-4)
    assert curves["best"][0] == alone["best"][0] and not torch.equal(four.weight[0], four.weight[1])
    assert alone["valid"][alone["best"][0]] == alone["valid"].min() and alone["train"][-1] < alone["train"][0]
    assert ((four(z[120:]).argmax(-1) == codes[120:]).float().mean(1) > 0.8).all()


def test_heads_need_something_to_learn_from():
    z = torch.zeros(3, 2)
    with pytest.raises(ParamsError, match="expected clips to train and to validate on, found 3 and 0"):
        train_heads(
            classification("c", 2), (z, torch.zeros(3, dtype=torch.long)), (z[:0], torch.zeros(0, dtype=torch.long))
        )


def test_targets_of_real_music_lie_as_in_the_papers_figure_in_the_scale_of_pases_code(data):
    "LPS on top, and all within a decade; raw the MFCC is on top, and the tempogram four decades below (Fig. 4)."
    files = sorted((data / "albums").rglob("*.ogg"))[::4][:24]
    clips = torch.stack([torch.from_numpy(load_audio(file, SR, start_s=20, duration_s=3)) for file in files])
    bank, variances = target_bank("LMCT"), {"pase": {}, "raw": {}}
    for name, y in bank.crop(bank(clips), clips.shape[1]).items():
        for scale, found in variances.items():
            unit = target_scale(y, "pase")[1] if scale == "pase" else torch.ones(y.shape[1])
            found[name] = float((y.std((0, 2)) / unit).square().mean())
    pase, raw = variances["pase"], variances["raw"]
    assert max(pase, key=pase.get) == "lps" and max(pase.values()) < 10 * min(pase.values())
    assert max(raw, key=raw.get) == "mfcc" and raw["mfcc"] > 1e4 * raw["tempogram"]

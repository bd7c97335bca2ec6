"Networks, artist group factors and switches of the first paper."

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import LatentDirichletAllocation

from musicmtl.balance import Equal, GradNorm, backward, fan_out
from musicmtl.core import CorpusError, ParamsError
from musicmtl.viz import n_parameters
import musicmtl.papers.agf.model as module
from musicmtl.papers.agf.model import (
    GENSIM_LEARNING,
    SWITCHES,
    ArtistGroupFactors,
    Branch,
    GenrePredictor,
    Protocol,
    SharedLayerNet,
    SingleTaskNet,
    agf_targets,
    agf_tasks,
    artist_factors,
    descriptive_features,
    n_topics,
)
from musicmtl.viz import architecture_table

SMALL = dict(n_classes=[6, 4, 4, 4, 4], width_divisor=8)


def windows(b=3, f=64, seed=0):
    "Log-mel windows [B, 1, 128, F] in a plausible range of dB."
    return torch.randn(b, 1, 128, f, generator=torch.Generator().manual_seed(seed)) * 20 - 40


# Networks


def test_parameter_counts():
    net = SharedLayerNet()
    assert n_parameters(net.conv1) == 416
    assert [n_parameters(b) for b in net.branches] == [496_096] * 5
    assert n_parameters(net.conv1) + n_parameters(net.branches) == 2_480_896
    assert n_parameters(net) == 2_857_648
    assert n_parameters(GenrePredictor(1280, 16)) == 1_328_144
    assert n_parameters(SingleTaskNet()) == 3_809_040 == 2_480_896 + 1_328_144
    assert net.shared_weight.numel() == 400


def test_shapes_of_the_paper():
    net = SharedLayerNet().eval()
    net.stacked = False
    t = architecture_table(net, (1, 1, 128, 322)).set_index("layer").output
    assert t["pool1"] == "16×64×322"
    assert [t[f"branches.0.{n}"] for n in ("dropout2", "pool3", "dropout4", "pool5", "conv6", "bn7", "bn_gap")] == [
        "32×32×161",
        "64×16×80",
        "64×8×40",
        "128×4×20",
        "256×4×20",
        "256×4×20",
        "256",
    ]
    assert [z.shape[1] for z in net(windows(1, 322))] == [16, 40, 40, 40, 40]
    assert net.embed(windows(1, 322)).shape == (1, 1280)


@pytest.mark.parametrize("frames", [33, 322, 500])
def test_any_length(frames):
    net = SharedLayerNet(**SMALL)
    x = windows(2, frames)
    assert [tuple(z.shape) for z in net(x)] == [(2, 6)] + [(2, 4)] * 4
    assert net.embed(x).shape == (2, 160)
    assert SingleTaskNet(7, 8)(x).shape == (2, 7)


def without_dropout(net):
    for m in net.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.0
    return net


def fresh(cls, **options):
    torch.manual_seed(1)
    net = without_dropout(cls(**options))
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "bn" in name:
                p.copy_(torch.randn_like(p))  # negative scales too: pooling must not be moved across batch norm
    return net


@pytest.mark.parametrize("views", ["one tensor", "views", "copies"])
@pytest.mark.parametrize("divisor", [2, 8])
def test_stacked_equals_branch_by_branch(divisor, views):
    "In float64, where only rounding can differ: outputs, all gradients, running statistics, evaluation afterwards."
    fast = fresh(SharedLayerNet, n_classes=[3, 2, 4], width_divisor=divisor).double()
    slow = copy.deepcopy(fast)
    slow.stacked = False
    x = windows(4, 50).double()
    split = {
        "one tensor": lambda h: [h] * 3,
        "views": lambda h: [h.view_as(h) for _ in range(3)],
        "copies": lambda h: [h.clone() for _ in range(3)],
    }
    outs = []
    for net in (fast, slow):
        vs = split[views](net.shared(x))
        for v in vs:
            v.retain_grad()
        zs = net.heads(vs)
        sum((z * torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view_as(z)).sum() for z in zs).backward()
        outs.append((zs, vs))
    for a, b in zip(outs[0][0], outs[1][0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for a, b in zip(outs[0][1], outs[1][1], strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-7, atol=1e-9)
    for (n, p), q in zip(fast.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-7, atol=1e-8, msg=lambda m, n=n: f"{n}: {m}")
    for (n, p), q in zip(fast.state_dict().items(), slow.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, msg=lambda m, n=n: f"{n}: {m}")
    fast.eval(), slow.eval()
    torch.testing.assert_close(fast.embed(x), slow.embed(x))


@pytest.mark.parametrize("frames", [50, 51])
@pytest.mark.parametrize("clips", [1, 2, 3])
def test_stacked_is_the_same_in_pieces_of_any_size(frames, clips, monkeypatch):
    "One clip at a time, two and a last piece of one, all at once; widths that a kernel's steps meet evenly or not."
    monkeypatch.setattr(module, "_pieces", lambda h, n_channels: clips)
    fast = fresh(SharedLayerNet, n_classes=[3, 2], width_divisor=8).double()
    slow = copy.deepcopy(fast)
    slow.stacked = False
    x = windows(3, frames).double()
    for net in (fast, slow):
        sum(z.square().sum() for z in net(x)).backward()
    for (name, p), q in zip(fast.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-7, atol=1e-8, msg=lambda m, name=name: f"{name}: {m}")
    for p, q in zip(fast.buffers(), slow.buffers(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_stacked_is_as_exact_in_single_precision(divisor):
    "Outputs, and the gradient that reaches the shared layer, against float64 (the plain arrangement: up to 1.3e-5)."
    single = fresh(SharedLayerNet, n_classes=[3, 2], width_divisor=divisor)
    double = copy.deepcopy(single).double()
    double.stacked = False
    found, x = [], torch.randn(4, 1, 128, 50, generator=torch.Generator().manual_seed(0))
    for net in (single, double):
        h = net.shared(x.to(net.conv1.weight)).detach().requires_grad_()
        out = torch.cat(net.pooled([h, h]), 1)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        found.append((out.detach().double(), h.grad.double()))
    for single_one, double_one in zip(*found, strict=True):
        assert (single_one - double_one).abs().max() < 3e-5 * double_one.abs().max()


def test_gradients_where_running_statistics_are_used():
    fast = fresh(SharedLayerNet, n_classes=[3, 2], width_divisor=8).double()
    fast(windows(4, 50).double())  # so that they are not those of the beginning
    slow = copy.deepcopy(fast)
    slow.stacked = False
    for net in (fast.eval(), slow.eval()):
        sum(z.square().sum() for z in net(windows(3, 50).double())).backward()
    for (name, p), q in zip(fast.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-7, atol=1e-8, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("groups,n_out", [(1, 1), (1, 2), (1, 8), (5, 10), (5, 20), (2, 64)])
@pytest.mark.parametrize("shape", [(1, 1), (8, 12), (9, 13), (7, 323)])
def test_several_pixels_at_a_time_are_those_one_by_one(groups, n_out, shape):
    generator = torch.Generator().manual_seed(0)
    for size in (3, 5):
        weight = torch.randn(n_out, 3, size, size, generator=generator, dtype=torch.double)
        h = torch.randn(2, 3 * groups, *shape, generator=generator, dtype=torch.double)
        expected = F.conv2d(h, weight, padding=size // 2, groups=groups)
        torch.testing.assert_close(module._convolution(weight, groups)(h), expected)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    "The arrangement for GPUs, computed by the CPU."
    monkeypatch.setattr(module, "_on_gpu", lambda x: True)


@pytest.mark.parametrize("divisor,views", [(1, "one tensor"), (8, "views"), (4, "copies")])
def test_the_arrangement_for_gpus_equals_branch_by_branch(divisor, views, as_on_a_gpu):
    test_stacked_equals_branch_by_branch(divisor, views)


def test_dropout_in_the_arrangement_for_gpus(as_on_a_gpu):
    test_stacked_drops_out_at_the_same_rate()


def test_stacked_drops_out_at_the_same_rate():
    net = SharedLayerNet(**SMALL)
    h = net.shared(windows(8, 64)).detach()
    spread = []
    for net.stacked in (True, False):
        spread.append(torch.stack([net.pooled([h] * 5)[0] for _ in range(40)]).std(0).mean())
    assert spread[0] > 0.05
    assert 0.8 < spread[0] / spread[1] < 1.25


def test_each_view_gets_its_own_gradient():
    net = without_dropout(SharedLayerNet(**SMALL))
    h = net.shared(windows()).detach()
    views = [h.clone().requires_grad_() for _ in range(5)]
    joined = h.clone().requires_grad_()
    same = [joined.view_as(joined) for _ in range(5)]
    for s in same:
        s.retain_grad()
    net.heads(views)[2].square().sum().backward()
    net.heads(same)[2].square().sum().backward()
    assert views[2].grad.abs().max() > 0
    assert all(v.grad is None or v.grad.abs().max() == 0 for i, v in enumerate(views) if i != 2)
    torch.testing.assert_close(same[2].grad, views[2].grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(joined.grad, views[2].grad, rtol=1e-3, atol=1e-5)


def test_a_step_lowers_the_loss():
    torch.manual_seed(0)
    net = without_dropout(SharedLayerNet(**SMALL))
    x, y = windows(8), [torch.randint(0, n, (8,)) for n in SMALL["n_classes"]]
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        opt.zero_grad()
        loss = sum(F.cross_entropy(z, t) for z, t in zip(net(x), y, strict=True))
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_first_loss_is_that_of_ignorance():
    "From the published logs: the first total is near ln 16 + 4 ln 40 = 17.53."
    torch.manual_seed(0)
    net = SharedLayerNet(width_divisor=4).eval()
    total = sum(F.cross_entropy(z, torch.zeros(16, dtype=torch.long)) for z in net(windows(16))).item()
    assert abs(total - 17.53) < 1


def test_predictor_sees_1024_units():
    p = GenrePredictor(20, 3, hidden=12).eval()
    e = torch.randn(5, 20)
    torch.testing.assert_close(p(e), p.out(p.hidden(e)))
    assert p.hidden(e).shape == (5, 12)
    assert p.hidden(e).min() > -1  # ELU


@pytest.mark.parametrize("divisor", [1, 4, 16])
def test_no_layer_has_fewer_than_eight_channels(divisor):
    for net in (SharedLayerNet(width_divisor=divisor), SingleTaskNet(width_divisor=divisor)):
        layers = [m.out_channels for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
        assert min(layers) >= 8 and max(layers) == max(8, 256 // divisor)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_coarse_input_is_the_mean_of_bands_and_frames(stacked):
    coarse, fine = fresh(SharedLayerNet, **SMALL, coarse=(2, 4)), fresh(SharedLayerNet, **SMALL)
    fine.load_state_dict(coarse.state_dict())
    coarse.stacked = fine.stacked = stacked
    x, y = windows(2)[..., :320], windows(2)[..., :322]
    mean = x.unflatten(3, (-1, 4)).mean(4).unflatten(2, (-1, 2)).mean(3)
    torch.testing.assert_close(coarse.eval().embed(x), fine.eval().embed(mean))
    torch.testing.assert_close(coarse.embed(y), coarse.embed(y[..., :320]))


def test_wrong_widths_and_views():
    with pytest.raises(ParamsError, match="width_divisor"):
        SharedLayerNet(width_divisor=3)
    net = SharedLayerNet(**SMALL)
    with pytest.raises(ParamsError, match="expected 5"):
        net.heads([net.shared(windows())] * 4)
    with pytest.raises(ParamsError, match=r"windows \[B, 1, bands, F\], found \[3, 128, 64\]"):
        net(windows()[:, 0])
    for wrong in ((), 16, (16, 0), (16, "four")):
        with pytest.raises(ParamsError, match="n_classes: expected the outputs of each task"):
            SharedLayerNet(wrong)


# Switches


def test_each_switch_turns_alone():
    for s in SWITCHES:
        p = Protocol.published.with_(s)
        assert [getattr(p, t) != getattr(Protocol.published, t) for t in SWITCHES] == [t == s for t in SWITCHES]
        assert p.with_(s) == Protocol.published
        assert p.name == f"published+{s}"
    assert Protocol.published.with_(*SWITCHES) == Protocol.corrected == Protocol()
    names = {end.with_(s).name for end in (Protocol.published, Protocol.corrected) for s in SWITCHES}
    assert len(names) == 2 * len(SWITCHES)
    with pytest.raises(ParamsError, match="expected one of"):
        Protocol.published.with_("speed")
    with pytest.raises(ParamsError, match="fit_on"):
        Protocol(fit_on="valid")


def test_orientation_decides_the_features():
    assert descriptive_features(Protocol.published)["chroma"] == "chroma_transposed"
    assert descriptive_features(Protocol.corrected) == {
        "mfcc": "mfcc",
        "chroma": "chroma",
        "spectral_contrast": "spectral_contrast",
    }
    assert descriptive_features(Protocol.published)["mfcc"] == "mfcc"


# Artist group factors


def two_groups(n_artists=24, tracks=2, frames=80, seed=0):
    "Artists of two kinds whose frames lie around different centres; [F, C] arrays and the artist of each."
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(2, 6, 5)) * 4
    artist = np.repeat(np.arange(n_artists), tracks)
    return [
        (centres[a % 2][rng.integers(6, size=frames)] + rng.normal(size=(frames, 5)) * 0.3).astype(np.float32)
        for a in artist
    ], artist


def similarity(t):
    t = t / np.linalg.norm(t, axis=1, keepdims=True)
    return t @ t.T


@pytest.mark.parametrize("passes", [1, 30])
def test_two_groups_of_artists_are_told_apart(passes):
    x, artist = two_groups()
    s = similarity(ArtistGroupFactors(16, 4, passes=passes).fit(x, artist).transform(x, artist))
    same = (artist[:, None] - artist[None]) % 2 == 0
    assert s[same].mean() > s[~same].mean() + 0.4


def test_deterministic_in_the_seed():
    x, artist = two_groups()
    a, b, c = (ArtistGroupFactors(16, 4, seed=s).fit(x, artist).transform(x, artist) for s in (3, 3, 4))
    assert (a == b).all()
    assert (a != c).any()


def test_an_unseen_artist_is_placed_with_its_kind():
    x, artist = two_groups()
    seen = artist < 20
    agf = ArtistGroupFactors(16, 4).fit([t for t, s in zip(x, seen, strict=True) if s], artist[seen])
    t = agf.transform(x, artist)
    s = similarity(t)
    for i in np.flatnonzero(~seen):
        assert artist[np.flatnonzero(seen)[s[i][seen].argmax()]] % 2 == artist[i] % 2
    np.testing.assert_allclose(t.sum(1), 1, rtol=1e-5)


def test_softmax_of_gamma_is_one_hot_and_theta_is_not():
    "Artists who mix six styles: their bags hold some thousand frames, so γ does too."
    rng = np.random.default_rng(0)
    bags = np.stack([rng.multinomial(2500, p) for p in rng.dirichlet([0.3] * 6, 60) @ rng.dirichlet([0.1] * 50, 6)])
    theta, gamma = (
        ArtistGroupFactors(50, 20, t, passes=10).fit_topics(bags).targets(bags) for t in ("theta", "softmax_gamma")
    )
    assert np.median(gamma.max(1)) > 0.9999
    assert np.median(theta.max(1)) < 0.8
    assert (gamma.argmax(1) == theta.argmax(1)).all()
    np.testing.assert_allclose(gamma.sum(1), 1, rtol=1e-5)


def test_gamma_is_theta_times_the_count_and_one():
    "γ sums to the number of words and one, because the prior 1/K of K topics sums to one."
    bags = np.random.default_rng(0).integers(0, 3, (12, 8))
    agf = ArtistGroupFactors(8, 3, "softmax_gamma", passes=1).fit_topics(bags)
    gamma = agf.theta(bags) * (bags.sum(1, keepdims=True) + 1)
    ours = agf.lda._e_step(bags.astype(float), cal_sstats=False, random_init=False)[0]
    np.testing.assert_allclose(gamma, ours, rtol=1e-6)
    expected = torch.from_numpy(gamma).softmax(1).numpy()
    np.testing.assert_allclose(agf.targets(bags), expected, rtol=1e-5)


def test_bags_count_every_frame_once():
    x, artist = two_groups()
    agf = ArtistGroupFactors(16, 4).fit_words(x)
    unknown = np.where(artist == 3, -1, artist)
    bags = agf.bags(x, unknown)
    assert (bags.sum(1) == np.where(np.arange(24) == 3, 0, 160)).all()
    nearest = ((x[0][:, None] - agf.centroids[None]) ** 2).sum(-1).argmin(1)
    assert (agf.words(x[0]) == nearest).all()
    agf.fit_topics(bags)
    assert np.isnan(agf.transform(x, unknown)[artist == 3]).all()
    assert np.isfinite(agf.transform(x, unknown)[artist != 3]).all()


def drawn_bags(artists=300, words=60, seed=0):
    "Bags of artists who mix six styles."
    rng = np.random.default_rng(seed)
    styles = rng.dirichlet([0.1] * words, 6)
    return np.stack([rng.multinomial(rng.integers(1, 900), p) for p in rng.dirichlet([0.3] * 6, artists) @ styles])


@pytest.mark.parametrize("passes, learning", [(1, GENSIM_LEARNING), (5, {"learning_method": "batch"})])
def test_topics_are_those_of_scikit_learn_one_artist_at_a_time(passes, learning, monkeypatch):
    bags = drawn_bags()
    plain = LatentDirichletAllocation(8, max_iter=passes, random_state=3, **learning).fit(bags)
    theta, perplexity = plain.transform(bags), plain.perplexity(bags)

    def difference():
        ours = ArtistGroupFactors(60, 8, seed=3, passes=passes).fit_topics(bags)
        assert ours.lda.perplexity(bags) == pytest.approx(perplexity, rel=1e-6)
        return np.abs(ours.theta(bags) - theta)

    found = difference()
    assert (found < 1e-5).mean() > 0.995 and found.max() < 1e-4  # of a few, the last step is another
    monkeypatch.setattr(module, "_PRODUCTS", torch.float64)
    assert difference().max() < 1e-7


def test_bags_of_many_tracks_at_a_time_are_those_of_one_after_another(monkeypatch):
    x, artist = two_groups()
    agf = ArtistGroupFactors(16, 4).fit_words(x)
    artist = np.where(artist == 3, -1, artist)
    expected = np.zeros((24, 16), int)
    for track, number in zip(x, artist, strict=True):
        if number >= 0:
            expected[number] += np.bincount(agf.words(track), minlength=16)
    for frames in (1, 200, 10**6):
        monkeypatch.setattr(module, "_AT_ONCE_FRAMES", frames)
        assert (agf.bags(x, artist) == expected).all()


def test_topics_follow_the_artists():
    assert [n_topics(n) for n in (4, 12, 60, 120, 5000)] == [2, 4, 20, 40, 40]


def test_errors_say_what_was_found():
    x, artist = two_groups(6, 1, 10)
    with pytest.raises(CorpusError, match="at least 100 frames.*found 60"):
        ArtistGroupFactors(100).fit(x, artist)
    with pytest.raises(CorpusError, match="at least 40 artists.*found 6"):
        ArtistGroupFactors(8).fit(x, artist)
    with pytest.raises(ParamsError, match="softmax_gamma or theta"):
        ArtistGroupFactors(target="softmax")
    with pytest.raises(ParamsError, match="n_topics"):
        ArtistGroupFactors(n_topics=1)
    with pytest.raises(ParamsError, match="fitted"):
        ArtistGroupFactors(8).words(x[0])
    with pytest.raises(CorpusError, match="finite"):
        ArtistGroupFactors(8, 2).fit([np.full((20, 3), np.nan)], [0])
    with pytest.raises(CorpusError, match=r"values up to 1e\+15 in size, found 1e\+25"):
        ArtistGroupFactors(8, 2).fit([np.full((20, 3), 1e25)], [0])
    fitted = ArtistGroupFactors(8).fit_words(x)
    with pytest.raises(CorpusError, match="frames of .* values, found 2"):
        fitted.words(np.zeros((5, 2)))
    for unusable in (np.nan, np.inf, 1e30):
        with pytest.raises(CorpusError, match="words: expected"):
            fitted.words(np.full_like(x[0], unusable))


def test_no_track_is_left_out_without_a_word():
    x, artist = two_groups(6, 1, 10)
    fitted = ArtistGroupFactors(8, 2).fit(x, artist)
    names = [f"artist {number}" for number in artist]
    wrong = [
        (artist[:-1], r"a number for each of 6 tracks, found \[5\]"),
        ([*artist, 0], r"a number for each of 6 tracks, found \[7\]"),
        (names, r"whole numbers, as pandas.factorize\(names\)\[0\], found str.* \(artist 0, "),
        (np.asarray(artist) * 1.0, "whole numbers, .*found float64"),
    ]
    for numbers, message in wrong:
        for call in (ArtistGroupFactors(8, 2).fit, fitted.bags, fitted.transform):
            with pytest.raises(ParamsError, match=f"artist: expected {message}"):
                call(x, numbers)
    with pytest.raises(ParamsError, match="numbers below 3, the number of artists, found 5"):
        fitted.bags(x, artist, n_artists=3)


def test_equal_frames_make_words_without_nan():
    fitted = ArtistGroupFactors(4).fit_words([np.ones((30, 3))])
    assert np.isfinite(fitted.centroids).all() and len(set(fitted.words(np.ones((5, 3))))) == 1


# From a corpus


class Store:
    "Features in memory, read like those on disk."

    def __init__(self, features, ok=None):
        self.features, self.ok = features, np.arange(len(features["mfcc"])) if ok is None else ok

    def read(self, feature, row):
        return self.features[feature][row].T


class Corpus:
    "The few things that are asked of a corpus."

    def __init__(self, **columns):
        self.table = pd.DataFrame(columns)

    def __len__(self):
        return len(self.table)

    def labels(self, column):
        v = self.table[column]
        if column == "artist":
            classes = tuple(v.dropna().value_counts().index)
            return SimpleNamespace(
                classes=classes, codes=np.array([classes.index(a) if isinstance(a, str) else -1 for a in v])
            )
        classes = tuple(sorted({g for gs in v for g in gs}))
        return SimpleNamespace(classes=classes, matrix=np.array([[c in gs for c in classes] for gs in v], np.float32))


def small_world(n=24, **columns):
    x, artist = two_groups(n)
    names = [f"artist {a}" for a in artist]
    genres = [["rock", "punk"][: 1 + i % 2] if a % 2 else ["jazz", "bop"][: 1 + i % 2] for i, a in enumerate(artist)]
    store = Store(
        {f: x for f in ("mfcc", "chroma", "spectral_contrast", "chroma_transposed", "spectral_contrast_transposed")}
    )
    return store, Corpus(**{"artist": names, "genres": genres, **columns}), artist


OPTIONS = dict(n_clusters=16, topics=3, passes=5)


def test_four_factors_in_the_papers_order():
    store, corpus, artist = small_world()
    t = agf_targets(store, corpus, **OPTIONS)
    assert list(t) == ["subgenres", "mfcc", "chroma", "spectral_contrast"]
    assert all(v.shape == (48, 3) and v.dtype == np.float32 and np.isfinite(v).all() for v in t.values())
    assert all((v[artist == 5] == v[artist == 5][0]).all() for v in t.values())


@pytest.mark.parametrize("by", ["artist", "track"])
def test_validation_tracks_leave_the_training_targets_alone(by):
    store, corpus, artist = small_world()
    fit = np.flatnonzero(artist < 18) if by == "artist" else np.arange(0, 48, 2)
    before = artist_factors(store, corpus, fit, **OPTIONS)
    for i in set(range(48)) - set(fit):
        store.features["mfcc"][i] = store.features["mfcc"][i] * 3 + 1
        corpus.table.at[i, "genres"] = ["bop"]
    after = artist_factors(store, corpus, fit, **OPTIONS)
    for name in before:
        assert (before[name].targets[fit] == after[name].targets[fit]).all()
        assert (before[name].model.lda.components_ == after[name].model.lda.components_).all()
        changed = (before[name].targets != after[name].targets).any()
        assert changed == (
            by == "artist"
        )  # an artist with training tracks is known by these only; another by what it has


def test_fitting_on_everything_leaks():
    store, corpus, artist = small_world()
    train = np.flatnonzero(artist < 18)
    a, b = (agf_targets(store, corpus, rows, **OPTIONS)["mfcc"][train] for rows in (None, train))
    assert (a != b).any()


def test_without_subgenres_or_artists():
    store, corpus, artist = small_world(genres=None)
    names, left_out = agf_tasks(corpus)
    assert names == ("mfcc", "chroma", "spectral_contrast")
    assert left_out == {"subgenres": "no track has subgenres"}
    assert list(agf_targets(store, corpus, **OPTIONS)) == list(names)
    nobody = Corpus(artist=[None] * 48, genres=[["a"]] * 48)
    assert agf_tasks(nobody)[0] == ()
    assert len(agf_tasks(nobody)[1]) == 4


def test_tracks_without_artist_or_features_have_no_target():
    store, corpus, artist = small_world()
    corpus.table.loc[[0, 7], "artist"] = None
    store.ok = np.setdiff1d(np.arange(48), [10, 11])  # both tracks of artist 5
    t = agf_targets(store, corpus, **OPTIONS)
    for v in t.values():
        assert np.flatnonzero(np.isnan(v).any(1)).tolist() == [0, 7, 10, 11]


def test_branch_has_papers_order():
    "BN, ELU, pool: with a negative scale, pooling before batch norm would give something else."
    torch.manual_seed(0)
    b = Branch(4).eval()
    with torch.no_grad():
        b.bn2.weight.fill_(-1)
    h = torch.randn(1, 8, 16, 16)
    by_hand = F.max_pool2d(F.elu(b.bn2(b.conv2(h))), 2)
    wrong = F.elu(b.bn2(F.max_pool2d(b.conv2(h), 2)))
    caught = {}
    b.conv3.register_forward_hook(lambda m, args, out: caught.update(h=args[0]))
    b(h)
    torch.testing.assert_close(caught["h"], by_hand)
    assert (wrong - by_hand).abs().max() > 0.1


# ---- the shared layer's own way to the gradients of several tasks


def gradients_of(net, x, targets, balancer):
    "Losses' gradients of all parameters, and the tasks' gradients at W as the balancer saw them."
    net.zero_grad()
    fan = fan_out(net.shared(x), len(targets))
    losses = torch.stack([F.cross_entropy(z, y) for z, y in zip(net.heads(list(fan)), targets, strict=True)])
    log = backward(losses, fan, balancer, net.shared_weight)
    return [p.grad.clone() for p in net.parameters()], log.get("gramian")


@pytest.mark.parametrize("frames", [50, 51])
@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_gradients_of_tasks_in_one_go_are_those_one_by_one(divisor, frames, monkeypatch):
    net = without_dropout(fresh(SharedLayerNet, n_classes=[3, 2, 4, 5, 2], width_divisor=divisor)).double()
    x = windows(4, frames).double()
    targets = [torch.randint(0, n, (4,)) for n in (3, 2, 4, 5, 2)]
    for make in (Equal, GradNorm):
        fast, gramian = gradients_of(net, x, targets, make(5))
        with monkeypatch.context() as patch:
            patch.setattr("musicmtl.balance._knows", lambda h, W: False)
            one_by_one, expected = gradients_of(net, x, targets, make(5))
        net.stacked = False
        plain, _ = gradients_of(net, x, targets, make(5))
        net.stacked = True
        for found, other, reference in zip(fast, one_by_one, plain, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-8, atol=1e-10)
            torch.testing.assert_close(found, reference, rtol=1e-6, atol=1e-8)
        if gramian is not None:
            torch.testing.assert_close(gramian, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("divisor", [1, 8])
def test_on_a_gpu_they_are_products_of_matrices(divisor, as_on_a_gpu, monkeypatch):
    test_gradients_of_tasks_in_one_go_are_those_one_by_one(divisor, 51, monkeypatch)


def test_the_shared_layer_gives_the_gradient_of_its_input():
    net = SharedLayerNet(**SMALL).double()
    x = windows(2, 31).double().requires_grad_()
    (found,) = torch.autograd.grad(net.shared(x).square().sum(), x)
    net.stacked = False
    (expected,) = torch.autograd.grad(net.shared(x).square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_of_equal_rows_the_first_counts_as_in_max_pool():
    net = SharedLayerNet(**SMALL).double()
    x = torch.zeros(1, 1, 128, 20, dtype=torch.double)
    found = torch.autograd.grad(net.shared(x).sum(), net.conv1.bias)[0]
    net.stacked = False
    torch.testing.assert_close(found, torch.autograd.grad(net.shared(x).sum(), net.conv1.bias)[0])


def test_what_the_fan_knows_does_not_hold_where_h_is_used_elsewhere():
    net = without_dropout(SharedLayerNet(n_classes=[3, 2], width_divisor=8)).double()
    x, targets = windows(4, 50).double(), [torch.randint(0, n, (4,)) for n in (3, 2)]
    found = []
    for net.stacked in (True, False):
        net.zero_grad()
        h = net.shared(x)
        fan = fan_out(h, 2)
        losses = [F.cross_entropy(z, y) for z, y in zip(net.heads(list(fan)), targets, strict=True)]
        extra = (h * torch.arange(h.shape[-1])).mean()
        backward(losses, fan, GradNorm(2), net.shared_weight, run=lambda total, extra=extra: (total + extra).backward())
        found.append(net.shared_weight.grad.clone())
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)

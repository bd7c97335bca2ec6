"Triplets, masks, losses and recall of the tagging study, each against a plain loop."

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from musicmtl.balance import Aggregate, Equal, GradNorm, Uncertainty
from musicmtl.core import ParamsError, generator, seed_everything
from musicmtl.learn import MultiTask, fit
from musicmtl.metrics import multilabel_recall
from musicmtl.papers.tagging.model import (
    CNN1D,
    SR,
    TAGS,
    WINDOW,
    CNNEmbedding,
    LinearEmbedding,
    Musicnn,
    MusicnnEmbedding,
    TagAndEmbed,
)
from musicmtl.papers.tagging.metric import (
    MARGIN,
    NOTIONS,
    TRACK_WEIGHT,
    MetricTask,
    TripletNet,
    Triplets,
    appendix_losses,
    cosine_matrix,
    disentangled_triplet_loss,
    draw_triplets,
    neighbours,
    notion_block,
    notion_masks,
    published_recall,
    tag_notions,
    track_regularization,
    triplet_losses,
)
from musicmtl.tasks import multilabel


def embeddings(b=20, d=16, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(3, b, d, generator=g, dtype=dtype)


# Tags by notion


def test_notions_are_those_of_table_5():
    assert [len(t) for t in NOTIONS.values()] == [12, 5, 31, 2] and list(NOTIONS) == [
        "genre",
        "mood",
        "instrument",
        "tempo",
    ]
    flat = [t for tags in NOTIONS.values() for t in tags]
    assert (
        sorted(flat) == sorted(TAGS)
        and flat[12] == "soft"
        and flat[17] == "harpsichord"
        and flat[48:] == ["slow", "fast"]
    )
    assert np.bincount(tag_notions()).tolist() == [12, 5, 31, 2]


# Triplets


@given(n=st.integers(3, 40), c=st.integers(1, 8), share=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_triplets_are_what_their_tag_says(n, c, share, seed):
    Y = generator(seed).random((n, c)) < share
    count = Y.sum(0)
    can = set(np.flatnonzero((count >= 2) & (count < n)))
    if not can:
        with pytest.raises(ParamsError, match="expected a tag"):
            draw_triplets(Y, 5, generator(seed))
        return
    rows, tag = draw_triplets(Y, 200, generator(seed, 1))
    a, p, q = rows.T
    assert set(tag) <= can and (a != p).all()
    assert Y[a, tag].all() and Y[p, tag].all() and not Y[q, tag].any()
    again = draw_triplets(Y, 200, generator(seed, 1))
    assert (again[0] == rows).all() and (again[1] == tag).all()


def test_tags_clips_and_pairs_are_drawn_alike_however_rare_the_tag():
    Y = np.zeros((20, 3), bool)
    Y[:2, 0], Y[:15, 1], Y[5:9, 2] = True, True, True
    n = 30_000
    rows, tag = draw_triplets(Y, n, generator(0))
    np.testing.assert_allclose(np.bincount(tag) / n, 1 / 3, atol=0.012)
    t = rows[tag == 2]
    pairs = {
        (a, p): k
        for a, p, k in zip(
            *np.unique(t[:, :2], axis=0, return_counts=True)[0].T,
            np.unique(t[:, :2], axis=0, return_counts=True)[1],
            strict=True,
        )
    }
    assert set(pairs) == {(a, p) for a in range(5, 9) for p in range(5, 9) if a != p}
    np.testing.assert_allclose(np.array(list(pairs.values())) / len(t), 1 / 12, atol=0.01)
    negatives = np.bincount(t[:, 2], minlength=20)
    np.testing.assert_allclose(negatives[~Y[:, 2]] / len(t), 1 / 16, atol=0.01)


def test_the_fourth_sound_is_another_cut_of_the_anchors_track():
    waves, Y = torch.arange(12 * 64, dtype=torch.float32).reshape(12, 64), np.arange(36).reshape(12, 3) % 2
    own = Triplets(waves, Y, length=16)
    assert (own.rows[:, 3] == own.rows[:, 0]).all() and (own.starts[:, 3] != own.starts[:, 0]).any()
    tracks = np.array(list("ccaabbddccaa"))
    d = Triplets(waves, Y, tracks=tracks, length=16)
    seen = set()
    for e in range(60):
        d.set_epoch(e)
        assert (tracks[d.rows[:, 3]] == tracks[d.rows[:, 0]]).all()
        seen |= {tuple(r) for r in d.rows[:, [0, 3]]}
    assert seen == {(i, j) for i in range(12) for j in range(12) if tracks[i] == tracks[j]}
    assert Triplets(waves, Y, length=16, regularizer=False).rows.shape == (12, 3)


def test_a_batch_is_the_cuts_of_its_triplets():
    waves, Y = torch.randn(12, 100), np.arange(36).reshape(12, 3) % 2
    d = Triplets(waves, Y, length=30, labels=True, seed=3)
    items = np.array([7, 0])
    x, (y, tag) = d[items]
    assert x.shape == (2, 4, 30) and y.shape == (2, 4, 3) and tag.tolist() == d.tag[items].tolist()
    for b, i in enumerate(items):
        for k, (r, s) in enumerate(zip(d.rows[i], d.starts[i], strict=True)):
            assert torch.equal(x[b, k], waves[r, s : s + 30]) and y[b, k].tolist() == Y[r].tolist()
    before = d.rows.copy()
    d.set_epoch(1)
    assert (d.rows != before).any()
    d.set_epoch(0)
    assert (d.rows == before).all()
    fixed = Triplets(waves, Y, length=30, redraw=False)
    before = fixed.rows.copy()
    fixed.set_epoch(4)
    assert (fixed.rows == before).all()
    with pytest.raises(ParamsError, match=r"clips \[11, T\]"):
        Triplets(waves, Y[:11], length=30)


# Losses


def test_the_triplet_loss_is_its_equation():
    a, p, n = embeddings()
    want = [
        max(0, F.cosine_similarity(n[i], a[i], dim=0).item() - F.cosine_similarity(p[i], a[i], dim=0).item() + MARGIN)
        for i in range(len(a))
    ]
    np.testing.assert_allclose(triplet_losses(a, p, n), want, atol=1e-6)
    assert min(want) == 0 < max(want), "the test wants triplets on both sides of the margin"


@pytest.mark.parametrize("d", [8, 256, 4096])
@pytest.mark.parametrize("protocol, idx", [("published", 20_000), ("published", 50), ("corrected", None)])
def test_the_masked_loss_is_the_appendixs_loop(d, protocol, idx):
    e = embeddings(50, d).requires_grad_()
    fast = disentangled_triplet_loss(*e, tag_notions(), protocol=protocol)
    slow = appendix_losses(*e, TAGS, idx=idx).mean()
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(*(torch.autograd.grad(v, e)[0] for v in (fast, slow)), rtol=1e-4, atol=1e-6)


def test_as_published_38_of_50_tags_cost_the_margin_and_teach_nothing():
    e = embeddings(50, 256).requires_grad_()
    losses = triplet_losses(*e, notion_masks(tag_notions(), 256, "published"))
    losses.sum().backward()
    dead = torch.from_numpy(tag_notions() > 0)
    assert dead.sum() == 38
    torch.testing.assert_close(losses[dead], torch.full((38,), 0.4))
    assert e.grad[:, dead].abs().max() == 0 and (e.grad[:, ~dead].norm(dim=2) > 0).any()
    assert e.grad[:, :, 64:].abs().max() < 1e-6, (
        "only genre's quarter moves, but for the length that normalisation takes away again"
    )


def test_corrected_masks_move_their_own_quarter_only():
    for notion in range(4):
        e = embeddings(30, 64).requires_grad_()
        disentangled_triplet_loss(*e, torch.full((30,), notion), normalize=False).backward()
        moved = e.grad.abs().amax((0, 1)).reshape(4, 16).amax(1)
        assert (moved > 0).tolist() == [k == notion for k in range(4)]


def test_masks_are_four_equal_blocks_in_table_5s_order():
    m = notion_masks([0, 1, 2, 3], 256)
    for i in range(4):
        assert m[i].nonzero().flatten().tolist() == list(range(64 * i, 64 * (i + 1)))
    assert notion_masks([0, 1, 2, 3], 256, "published").sum(1).tolist() == [64, 0, 0, 0]
    with pytest.raises(ParamsError, match="protocol"):
        notion_masks([0], 8, "fixed")


@given(seed=st.integers(0, 10_000), notion=st.integers(0, 3), scale=st.floats(0.01, 100))
@settings(max_examples=50, deadline=None)
def test_normalisation_and_length_change_nothing(seed, notion, scale):
    e = embeddings(5, 32, seed, torch.float64)
    mask = notion_masks([notion] * 5, 32)
    for m in (None, mask):
        with_, without, longer = (
            triplet_losses(*v, m, normalize=on) for v, on in ((e, True), (e, False), (scale * e, True))
        )
        torch.testing.assert_close(with_, without, rtol=0, atol=1e-12)
        torch.testing.assert_close(with_, longer, rtol=0, atol=1e-12)


def test_a_silent_embedding_gives_no_nan():
    e = torch.zeros(3, 4, 8, requires_grad=True)
    total = disentangled_triplet_loss(*e, torch.arange(4)) + track_regularization(*e)
    total.backward()
    assert total.item() == pytest.approx(0.8) and e.grad.isfinite().all()


def test_the_task_adds_what_its_switches_say():
    e = embeddings(6, 16)
    z, tag = torch.stack([*e, e[0] + 0.1 * e[1]], 1), torch.arange(6) * 7
    notion = tag_notions()[tag]
    plain, masked = triplet_losses(*e).mean(), disentangled_triplet_loss(*e, notion)
    track = triplet_losses(z[:, 0], z[:, 3], z[:, 2]).mean()

    def loss(**switches):
        return MetricTask(**switches).loss(z, tag)

    torch.testing.assert_close(loss(disentangled=False, track=False), plain)
    torch.testing.assert_close(loss(track=False), masked)
    torch.testing.assert_close(loss(disentangled=False), plain + TRACK_WEIGHT * track)
    torch.testing.assert_close(loss(), masked + 0.5 * track)
    torch.testing.assert_close(loss(normalize=False), loss())
    torch.testing.assert_close(
        loss(protocol="published", track=False), disentangled_triplet_loss(*e, notion, protocol="published")
    )
    names = {repr(MetricTask(track=t, protocol=p)) for t in (False, True) for p in ("published", "corrected")}
    assert MetricTask(track=False).sounds == 3 and len(names) == 4
    with pytest.raises(ParamsError, match=r"expected \[B, 4, D\]"):
        MetricTask().loss(z[:, :3], tag)
    with pytest.raises(ParamsError, match="protocol"):
        MetricTask(protocol="both")


# Recall


def recall_loop(Y, S, k, published):
    "A query at a time."
    values = []
    for i in range(len(Y)):
        if not Y[i].any():
            continue
        order = sorted((j for j in range(len(Y)) if published or j != i), key=lambda j: (-S[i, j], j))[: k + published]
        union = np.zeros(Y.shape[1], bool)
        for j in order:
            if j != i:
                union |= Y[j]
        values.append((union & Y[i]).sum() / Y[i].sum())
    return np.mean(values)


@given(n=st.integers(3, 15), c=st.integers(1, 6), levels=st.integers(1, 50), data=st.data())
@settings(max_examples=100, deadline=None)
def test_recalls_are_their_loops_ties_included(n, c, levels, data):
    rng = generator(data.draw(st.integers(0, 10**6)))
    Y, S = rng.random((n, c)) < 0.4, rng.integers(0, levels, (n, n)).astype(float)
    assume(Y.any())
    k = data.draw(st.integers(1, n - 1))
    assert multilabel_recall(Y, S, k) == pytest.approx(recall_loop(Y, S, k, False))
    assert published_recall(Y, S, k) == pytest.approx(recall_loop(Y, S, k, True))


def test_the_published_recall_counts_a_neighbour_too_many_where_the_query_is_not_first():
    S, Y = np.ones((4, 4)), np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    assert published_recall(Y, S, 1) == 0.25 and multilabel_recall(Y, S, 1) == 0.125
    E = np.random.default_rng(0).normal(size=(30, 5))
    tags = np.random.default_rng(1).random((30, 7)) < 0.3
    for k in (1, 2, 4, 8):
        assert published_recall(tags, cosine_matrix(E), k) == pytest.approx(
            multilabel_recall(tags, cosine_matrix(E), k)
        )


def test_cosines_and_neighbours_are_a_loops():
    E = np.random.default_rng(0).normal(size=(12, 8))
    E[3] = 0
    S = cosine_matrix(E)
    for i in range(12):
        for j in range(12):
            length = np.linalg.norm(E[i]) * np.linalg.norm(E[j])
            assert S[i, j] == pytest.approx(E[i] @ E[j] / length if length else 0)
    for notion, block in zip(NOTIONS, range(4), strict=True):
        np.testing.assert_array_equal(notion_block(E, notion), E[:, 2 * block : 2 * block + 2])
        near = neighbours(E, 5, 4, notion)
        s = cosine_matrix(E[:, 2 * block : 2 * block + 2])[5]
        assert 5 not in near and near.tolist() == sorted((j for j in range(12) if j != 5), key=lambda j: -s[j])[:4]


# Training


def world(n=16, seed=0):
    "Clips of 3.5 s: chords with noise (weird) or without (soft), high (fast) or low (slow)."
    g = torch.Generator().manual_seed(seed)
    noisy, high = torch.arange(n) % 2, torch.arange(n) // 2 % 2
    t = torch.arange(int(3.5 * SR)) / SR
    hz = (200 + 1800 * high + 50 * torch.rand(n, generator=g))[:, None]
    x = sum(0.1 * torch.sin(2 * torch.pi * k * hz * t) for k in (1, 1.26, 1.5))
    x = x + torch.where(noisy == 1, 0.2, 0.002)[:, None] * torch.randn(n, len(t), generator=g)
    Y = torch.stack([noisy == 0, noisy == 1, high == 1, high == 0], 1).float().numpy()
    return x, Y, ("soft", "weird", "fast", "slow")


def judged(module, triplets):
    "Losses of fixed triplets by the statistics of their own batch: a few steps are too few for running means."
    x, targets = triplets[np.arange(len(triplets))]
    with torch.no_grad():
        out = copy.deepcopy(module.net).train()(x)
    return module.losses([out] if isinstance(out, torch.Tensor) else out, targets).numpy()


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinearEmbedding(256),
        lambda: CNNEmbedding(width_divisor=8),
        lambda: MusicnnEmbedding.from_tagger(Musicnn(width_divisor=8), 32),
    ],
    ids=["linear", "cnn", "musicnn"],
)
def test_each_embedding_brings_neighbours_together(make, tmp_path):
    x, Y, classes = world()
    seed_everything(0)
    net, fixed = make(), Triplets(x, Y, redraw=False, seed=1)
    lr = 1e-4 if isinstance(net, LinearEmbedding) else 1e-3  # 18,048 inputs, each weight moved by the learning rate
    m = MultiTask(TripletNet(net), [MetricTask(classes)], lr=lr)
    before = judged(m, fixed)
    fit(m, Triplets(x, Y), epochs=12, batch_size=8, root=tmp_path, device="cpu")
    assert judged(m, fixed) < 0.6 * before


def test_masks_put_each_notion_into_its_own_block(tmp_path):
    "After training with the right masks the block of a notion knows its tags; with the published ones the last blocks never hear of them."
    x, Y, classes = world()

    def same(c):
        return (Y[:, c][:, None] == Y[:, c]) & ~np.eye(len(Y), dtype=bool)

    def apart(E, notion, c):
        return (
            cosine_matrix(E, notion)[same(c)].mean()
            - cosine_matrix(E, notion)[~same(c) & ~np.eye(len(Y), dtype=bool)].mean()
        )

    gaps = {}
    for protocol in ("corrected", "published"):
        seed_everything(0)
        net = CNNEmbedding(width_divisor=8)
        m = MultiTask(TripletNet(net), [MetricTask(classes, track=False, protocol=protocol)], lr=5e-3)
        fit(m, Triplets(x, Y, regularizer=False), epochs=20, batch_size=8, root=tmp_path / protocol, device="cpu")
        with torch.no_grad():
            E = net.eval()(x[:, :WINDOW]).numpy()
        gaps[protocol] = apart(E, "mood", 0), apart(E, "tempo", 2)
        if protocol == "published":
            assert m.history.loss.round(6).eq(0.4).all(), "no tag here is a genre"
    assert min(gaps["corrected"]) > 0.4 and gaps["corrected"][1] > gaps["published"][1] + 0.2


@pytest.mark.parametrize("balancer", ["equal", "gradnorm", "uncertainty", "upgrad"])
def test_tags_and_triplets_train_together(balancer, tmp_path):
    from torchjd.aggregation import UPGradWeighting

    make = dict(
        equal=lambda: Equal(2),
        gradnorm=lambda: GradNorm(2, lr=0.05),
        uncertainty=lambda: Uncertainty(2, lr=0.05),
        upgrad=lambda: Aggregate(UPGradWeighting(), 2),
    )
    x, Y, classes = world()
    seed_everything(0)
    net = TagAndEmbed(CNN1D(4, width_divisor=2), 16)
    m = MultiTask(net, [multilabel("tags", 4), MetricTask(classes)], make[balancer](), lr=1e-2)
    fixed = Triplets(x, Y, labels=True, redraw=False, seed=1)
    before = judged(m, fixed)
    fit(
        m, Triplets(x, Y, labels=True), epochs=30, batch_size=8, root=tmp_path, device="cpu"
    )  # of fewer, rounding decides how the last triplet ends
    assert (judged(m, fixed) < 0.7 * before).all() and len(m.history) == 30 * 2 * 2
    if balancer != "equal":
        assert m.history.weight.std() > 0


def test_a_killed_training_on_triplets_ends_with_the_same_numbers(tmp_path):
    class Killed(Exception):
        pass

    x, Y, classes = world(8)

    def make(die=None):
        seed_everything(0)
        m = MultiTask(TripletNet(CNNEmbedding(width_divisor=16)), [MetricTask(classes)], lr=1e-3)
        start = m.on_train_epoch_start

        def maybe():
            start()
            if m.current_epoch == die:
                raise Killed

        m.on_train_epoch_start = maybe
        return m

    how = dict(epochs=4, batch_size=4, device="cpu")
    whole = fit(make(), Triplets(x, Y), Triplets(x, Y, seed=1), root=tmp_path / "a", **how)
    with pytest.raises(Killed):
        fit(make(2), Triplets(x, Y), Triplets(x, Y, seed=1), root=tmp_path / "b", **how)
    again = fit(make(), Triplets(x, Y), Triplets(x, Y, seed=1), root=tmp_path / "b", **how)
    assert str(whole.steps_log) == str(again.steps_log)  # NaN (no gradient norm) equals itself as text
    assert whole.valid_log == again.valid_log

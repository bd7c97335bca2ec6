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


def embeddings(triplets=20, dim=16, seed=0, dtype=torch.float32):
    "Random embeddings [3, triplets, dim]."
    random = torch.Generator().manual_seed(seed)
    return torch.randn(3, triplets, dim, generator=random, dtype=dtype)


# Tags by notion


def test_notions_are_those_of_table_5():
    assert list(NOTIONS) == ["genre", "mood", "instrument", "tempo"]
    assert [len(tags) for tags in NOTIONS.values()] == [12, 5, 31, 2]
    order = [tag for tags in NOTIONS.values() for tag in tags]
    assert sorted(order) == sorted(TAGS)
    assert order[12] == "soft" and order[17] == "harpsichord" and order[48:] == ["slow", "fast"]
    assert np.bincount(tag_notions()).tolist() == [12, 5, 31, 2]


# Triplets


@given(clips=st.integers(3, 40), tags=st.integers(1, 8), share=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_triplets_are_what_their_tag_says(clips, tags, share, seed):
    Y = generator(seed).random((clips, tags)) < share
    count = Y.sum(0)
    can_be_drawn = set(np.flatnonzero((count >= 2) & (count < clips)))
    if not can_be_drawn:
        with pytest.raises(ParamsError, match="expected a tag"):
            draw_triplets(Y, 5, generator(seed))
        return
    rows, tag = draw_triplets(Y, 200, generator(seed, 1))
    anchor, positive, negative = rows.T
    assert set(tag) <= can_be_drawn and (anchor != positive).all()
    assert Y[anchor, tag].all() and Y[positive, tag].all() and not Y[negative, tag].any()
    again = draw_triplets(Y, 200, generator(seed, 1))
    assert (again[0] == rows).all() and (again[1] == tag).all()


def test_tags_clips_and_pairs_are_drawn_alike_however_rare_the_tag():
    Y = np.zeros((20, 3), bool)
    Y[:2, 0], Y[:15, 1], Y[5:9, 2] = True, True, True
    n = 30_000
    rows, tag = draw_triplets(Y, n, generator(0))
    np.testing.assert_allclose(np.bincount(tag) / n, 1 / 3, atol=0.012)
    of_tag = rows[tag == 2]
    pairs, counts = np.unique(of_tag[:, :2], axis=0, return_counts=True)
    assert set(map(tuple, pairs)) == {(a, p) for a in range(5, 9) for p in range(5, 9) if a != p}
    np.testing.assert_allclose(counts / len(of_tag), 1 / 12, atol=0.01)
    negatives = np.bincount(of_tag[:, 2], minlength=20)
    np.testing.assert_allclose(negatives[~Y[:, 2]] / len(of_tag), 1 / 16, atol=0.01)


def test_the_fourth_sound_is_another_cut_of_the_anchors_track():
    waves, Y = torch.arange(12 * 64, dtype=torch.float32).reshape(12, 64), np.arange(36).reshape(12, 3) % 2
    own_clip = Triplets(waves, Y, length=16)
    assert (own_clip.rows[:, 3] == own_clip.rows[:, 0]).all()
    assert (own_clip.starts[:, 3] != own_clip.starts[:, 0]).any()
    tracks = np.array(list("ccaabbddccaa"))
    triplets = Triplets(waves, Y, tracks=tracks, length=16)
    seen = set()
    for epoch in range(60):
        triplets.set_epoch(epoch)
        assert (tracks[triplets.rows[:, 3]] == tracks[triplets.rows[:, 0]]).all()
        seen |= {tuple(row) for row in triplets.rows[:, [0, 3]]}
    assert seen == {(i, j) for i in range(12) for j in range(12) if tracks[i] == tracks[j]}
    assert Triplets(waves, Y, length=16, regularizer=False).rows.shape == (12, 3)


def test_a_batch_is_the_cuts_of_its_triplets():
    waves, Y = torch.randn(12, 100), np.arange(36).reshape(12, 3) % 2
    triplets = Triplets(waves, Y, length=30, labels=True, seed=3)
    items = np.array([7, 0])
    x, (y, tag) = triplets[items]
    assert x.shape == (2, 4, 30) and y.shape == (2, 4, 3) and tag.tolist() == triplets.tag[items].tolist()
    for b, item in enumerate(items):
        for k, (row, start) in enumerate(zip(triplets.rows[item], triplets.starts[item], strict=True)):
            assert torch.equal(x[b, k], waves[row, start : start + 30]) and y[b, k].tolist() == Y[row].tolist()
    with pytest.raises(ParamsError, match=r"clips \[11, T\]"):
        Triplets(waves, Y[:11], length=30)


def test_triplets_are_those_of_their_epoch():
    waves, Y = torch.randn(12, 100), np.arange(36).reshape(12, 3) % 2
    triplets = Triplets(waves, Y, length=30, seed=3)
    before = triplets.rows.copy()
    triplets.set_epoch(1)
    assert (triplets.rows != before).any()
    triplets.set_epoch(0)
    assert (triplets.rows == before).all()
    fixed = Triplets(waves, Y, length=30, redraw=False)
    before = fixed.rows.copy()
    fixed.set_epoch(4)
    assert (fixed.rows == before).all()


# Losses


def test_the_triplet_loss_is_its_equation():
    def likeness(x, y):
        return F.cosine_similarity(x, y, dim=0).item()

    triplets = embeddings()
    expected = [max(0, likeness(n, a) - likeness(p, a) + MARGIN) for a, p, n in zip(*triplets, strict=True)]
    np.testing.assert_allclose(triplet_losses(*triplets), expected, atol=1e-6)
    assert min(expected) == 0 < max(expected), "the test needs triplets on both sides of the margin"


@pytest.mark.parametrize("dim", [8, 256, 4096])
@pytest.mark.parametrize("protocol, idx", [("published", 20_000), ("published", 50), ("corrected", None)])
def test_the_masked_loss_is_the_appendixs_loop(dim, protocol, idx):
    triplets = embeddings(50, dim).requires_grad_()
    fast = disentangled_triplet_loss(*triplets, tag_notions(), protocol=protocol)
    slow = appendix_losses(*triplets, TAGS, idx=idx).mean()
    torch.testing.assert_close(fast, slow)
    gradients = [torch.autograd.grad(loss, triplets)[0] for loss in (fast, slow)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_as_published_38_of_50_tags_cost_the_margin_and_teach_nothing():
    triplets = embeddings(50, 256).requires_grad_()
    losses = triplet_losses(*triplets, notion_masks(tag_notions(), 256, "published"))
    losses.sum().backward()
    gradient = triplets.grad
    dead = torch.from_numpy(tag_notions() > 0)
    assert dead.sum() == 38
    torch.testing.assert_close(losses[dead], torch.full((38,), 0.4))
    assert gradient[:, dead].abs().max() == 0 and (gradient[:, ~dead].norm(dim=2) > 0).any()
    outside = gradient[:, :, 64:].abs().max()
    assert outside < 1e-6, "only genre's quarter moves, but for the length that normalisation takes away again"


def test_corrected_masks_move_their_own_quarter_only():
    for notion in range(4):
        triplets = embeddings(30, 64).requires_grad_()
        disentangled_triplet_loss(*triplets, torch.full((30,), notion), normalize=False).backward()
        moved = triplets.grad.abs().amax((0, 1)).reshape(4, 16).amax(1)
        assert (moved > 0).tolist() == [block == notion for block in range(4)]


def test_masks_are_four_equal_blocks_in_table_5s_order():
    masks = notion_masks([0, 1, 2, 3], 256)
    for i in range(4):
        assert masks[i].nonzero().flatten().tolist() == list(range(64 * i, 64 * (i + 1)))
    assert notion_masks([0, 1, 2, 3], 256, "published").sum(1).tolist() == [64, 0, 0, 0]
    with pytest.raises(ParamsError, match="protocol"):
        notion_masks([0], 8, "fixed")


@given(seed=st.integers(0, 10_000), notion=st.integers(0, 3), scale=st.floats(0.01, 100))
@settings(max_examples=50, deadline=None)
def test_normalisation_and_length_change_nothing(seed, notion, scale):
    triplets = embeddings(5, 32, seed, torch.float64)
    for mask in (None, notion_masks([notion] * 5, 32)):
        losses = triplet_losses(*triplets, mask)
        torch.testing.assert_close(losses, triplet_losses(*triplets, mask, normalize=False), rtol=0, atol=1e-12)
        torch.testing.assert_close(losses, triplet_losses(*scale * triplets, mask), rtol=0, atol=1e-12)


def test_a_silent_embedding_gives_no_nan():
    triplets = torch.zeros(3, 4, 8, requires_grad=True)
    total = disentangled_triplet_loss(*triplets, torch.arange(4)) + track_regularization(*triplets)
    total.backward()
    assert total.item() == pytest.approx(0.8) and triplets.grad.isfinite().all()


def test_the_task_adds_what_its_switches_say():
    triplets, tag = embeddings(6, 16), torch.arange(6) * 7
    z = torch.stack([*triplets, triplets[0] + 0.1 * triplets[1]], 1)
    notion = tag_notions()[tag]
    plain, masked = triplet_losses(*triplets).mean(), disentangled_triplet_loss(*triplets, notion)
    track = triplet_losses(z[:, 0], z[:, 3], z[:, 2]).mean()

    def loss(**switches):
        return MetricTask(**switches).loss(z, tag)

    torch.testing.assert_close(loss(disentangled=False, track=False), plain)
    torch.testing.assert_close(loss(track=False), masked)
    torch.testing.assert_close(loss(disentangled=False), plain + TRACK_WEIGHT * track)
    torch.testing.assert_close(loss(), masked + 0.5 * track)
    torch.testing.assert_close(loss(normalize=False), loss())
    as_published = disentangled_triplet_loss(*triplets, notion, protocol="published")
    torch.testing.assert_close(loss(protocol="published", track=False), as_published)
    names = {repr(MetricTask(track=on, protocol=end)) for on in (False, True) for end in ("published", "corrected")}
    assert MetricTask(track=False).sounds == 3 and len(names) == 4
    with pytest.raises(ParamsError, match=r"expected \[B, 4, D\]"):
        MetricTask().loss(z[:, :3], tag)
    with pytest.raises(ParamsError, match="protocol"):
        MetricTask(protocol="both")


# Recall


def recall_loop(Y, similarity, k, published):
    "A query at a time."
    values = []
    for query in np.flatnonzero(Y.any(1)):
        clips = [clip for clip in range(len(Y)) if published or clip != query]
        order = sorted(clips, key=lambda clip, query=query: (-similarity[query, clip], clip))
        near = [clip for clip in order[: k + published] if clip != query]
        found = Y[near].any(0)
        values.append((found & Y[query]).sum() / Y[query].sum())
    return np.mean(values)


@given(clips=st.integers(3, 15), tags=st.integers(1, 6), levels=st.integers(1, 50), data=st.data())
@settings(max_examples=100, deadline=None)
def test_recalls_are_their_loops_ties_included(clips, tags, levels, data):
    rng = generator(data.draw(st.integers(0, 10**6)))
    Y, similarity = rng.random((clips, tags)) < 0.4, rng.integers(0, levels, (clips, clips)).astype(float)
    assume(Y.any())
    k = data.draw(st.integers(1, clips - 1))
    assert multilabel_recall(Y, similarity, k) == pytest.approx(recall_loop(Y, similarity, k, False))
    assert published_recall(Y, similarity, k) == pytest.approx(recall_loop(Y, similarity, k, True))


def test_the_published_recall_counts_a_neighbour_too_many_where_the_query_is_not_first():
    similarity, Y = np.ones((4, 4)), np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    assert published_recall(Y, similarity, 1) == 0.25 and multilabel_recall(Y, similarity, 1) == 0.125
    E = np.random.default_rng(0).normal(size=(30, 5))
    tags = np.random.default_rng(1).random((30, 7)) < 0.3
    similarity = cosine_matrix(E)
    for k in (1, 2, 4, 8):
        assert published_recall(tags, similarity, k) == pytest.approx(multilabel_recall(tags, similarity, k))


def test_cosines_and_neighbours_are_a_loops():
    E = np.random.default_rng(0).normal(size=(12, 8))
    E[3] = 0
    similarity = cosine_matrix(E)
    for i in range(12):
        for j in range(12):
            length = np.linalg.norm(E[i]) * np.linalg.norm(E[j])
            assert similarity[i, j] == pytest.approx(E[i] @ E[j] / length if length else 0)
    others = [clip for clip in range(12) if clip != 5]
    for i, notion in enumerate(NOTIONS):
        block = E[:, 2 * i : 2 * i + 2]
        np.testing.assert_array_equal(notion_block(E, notion), block)
        order = sorted(others, key=(-cosine_matrix(block)[5]).__getitem__)
        assert neighbours(E, 5, 4, notion).tolist() == order[:4]


# Training


def world(clips=16, seed=0):
    "Clips of 3.5 s: chords with noise (weird) or without (soft), high (fast) or low (slow)."
    random = torch.Generator().manual_seed(seed)
    noisy, high = torch.arange(clips) % 2, torch.arange(clips) // 2 % 2
    t = torch.arange(int(3.5 * SR)) / SR
    hz = (200 + 1800 * high + 50 * torch.rand(clips, generator=random))[:, None]
    x = sum(0.1 * torch.sin(2 * torch.pi * ratio * hz * t) for ratio in (1, 1.26, 1.5))
    x = x + torch.where(noisy == 1, 0.2, 0.002)[:, None] * torch.randn(clips, len(t), generator=random)
    Y = torch.stack([noisy == 0, noisy == 1, high == 1, high == 0], 1).float().numpy()
    return x, Y, ("soft", "weird", "fast", "slow")


def judged(module, triplets):
    "Losses of fixed triplets by the statistics of their own batch: a few steps are too few for running means."
    x, targets = triplets[np.arange(len(triplets))]
    with torch.no_grad():
        out = copy.deepcopy(module.net).train()(x)
    return module.losses([out] if isinstance(out, torch.Tensor) else out, targets).numpy()


@pytest.mark.long
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
    module = MultiTask(TripletNet(net), [MetricTask(classes)], lr=lr)
    before = judged(module, fixed)
    fit(module, Triplets(x, Y), epochs=12, batch_size=8, root=tmp_path, device="cpu")
    assert judged(module, fixed) < 0.6 * before


def gap(E, y):
    "How much nearer clips are where both have a tag, or both lack it."
    similarity, alike = cosine_matrix(E), y[:, None] == y
    others = ~np.eye(len(y), dtype=bool)
    return similarity[alike & others].mean() - similarity[~alike & others].mean()


@pytest.mark.long
def test_masks_put_each_notion_into_its_own_block(tmp_path):
    "With the right masks the block of a notion learns its tags; with the published ones the last blocks learn nothing."
    x, Y, classes = world()
    gaps = {}
    for protocol in ("corrected", "published"):
        seed_everything(0)
        net = CNNEmbedding(width_divisor=8)
        module = MultiTask(TripletNet(net), [MetricTask(classes, track=False, protocol=protocol)], lr=5e-3)
        triplets = Triplets(x, Y, regularizer=False)
        fit(module, triplets, epochs=20, batch_size=8, root=tmp_path / protocol, device="cpu")
        with torch.no_grad():
            E = net.eval()(x[:, :WINDOW]).numpy()
        gaps[protocol] = gap(notion_block(E, "mood"), Y[:, 0]), gap(notion_block(E, "tempo"), Y[:, 2])
        if protocol == "published":
            assert module.history.loss.round(6).eq(0.4).all(), "no tag here is a genre"
    assert min(gaps["corrected"]) > 0.4 and gaps["corrected"][1] > gaps["published"][1] + 0.2


@pytest.mark.long
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
    module = MultiTask(net, [multilabel("tags", 4), MetricTask(classes)], make[balancer](), lr=1e-2)
    fixed = Triplets(x, Y, labels=True, redraw=False, seed=1)
    before = judged(module, fixed)
    triplets = Triplets(x, Y, labels=True)
    fit(module, triplets, epochs=30, batch_size=8, root=tmp_path, device="cpu")  # fewer: rounding decides the end
    assert (judged(module, fixed) < 0.7 * before).all() and len(module.history) == 30 * 2 * 2
    if balancer != "equal":
        assert module.history.weight.std() > 0


def test_a_killed_training_on_triplets_ends_with_the_same_numbers(tmp_path):
    class Killed(Exception):
        pass

    x, Y, classes = world(8)

    def module(dies_in=None):
        seed_everything(0)
        module = MultiTask(TripletNet(CNNEmbedding(width_divisor=16)), [MetricTask(classes)], lr=1e-3)
        start = module.on_train_epoch_start

        def start_or_die():
            start()
            if module.current_epoch == dies_in:
                raise Killed

        module.on_train_epoch_start = start_or_die
        return module

    def trained(module, root):
        options = dict(epochs=4, batch_size=4, device="cpu")
        return fit(module, Triplets(x, Y), Triplets(x, Y, seed=1), root=root, **options)

    whole = trained(module(), tmp_path / "whole")
    with pytest.raises(Killed):
        trained(module(dies_in=2), tmp_path / "killed")
    again = trained(module(), tmp_path / "killed")
    assert str(whole.steps_log) == str(again.steps_log)  # NaN (no gradient norm) equals itself as text
    assert whole.valid_log == again.valid_log

"Taggers, embeddings, schedules and whole recordings of the tagging study."

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
from taggers import music, n_trained, random_norms, tiny

from musicmtl import metrics
from musicmtl.balance import Equal, GradNorm, Uncertainty
from musicmtl.core import ParamsError, seed_everything
from musicmtl.learn import Items, MultiTask, fit
from musicmtl.viz import n_parameters
from musicmtl.papers.tagging.model import (
    CNN1D,
    CNN2D,
    FCN,
    SCHEDULES,
    SR,
    TASK,
    WINDOW,
    CNNEmbedding,
    Crops,
    LinearEmbedding,
    LogitNet,
    MelNet,
    Musicnn,
    MusicnnEmbedding,
    TagAndEmbed,
    clip_means,
    freeze,
    tag_scores,
)
from musicmtl.tasks import multilabel, regression

TAGGERS = (CNN1D, CNN2D, FCN, Musicnn)


# Sizes


@pytest.mark.parametrize("kind, total", list(zip(TAGGERS, (17_300, 299_892, 104_184, 784_300), strict=True)))
def test_taggers_have_the_papers_sizes_and_the_contract(kind, total):
    net, x = kind().eval(), music()
    assert n_parameters(net) == total
    probabilities = net(x)
    assert probabilities.shape == (2, 50) and ((probabilities >= 0) & (probabilities <= 1)).all()
    torch.testing.assert_close(net.logits(x).sigmoid(), probabilities)
    torch.testing.assert_close(net.heads([net.shared(x)])[0], net.logits(x))
    assert net.shared(x).shape == (2, net.width) == net.embed(x).shape
    assert any(net.shared_weight is weight for weight in net.parameters()) and net.shared_weight.ndim >= 3


@pytest.mark.parametrize("kind", TAGGERS)
def test_width_divisor_keeps_depth_and_kernels(kind):
    wide, narrow = kind(), kind(7, width_divisor=5)
    before, after = ({name: weight.shape for name, weight in net.named_parameters()} for net in (wide, narrow))
    assert before.keys() == after.keys()
    for name in before:
        assert before[name][2:] == after[name][2:]
    assert narrow(music()).shape == (2, 7) and n_parameters(narrow) < n_parameters(wide) / 4


def test_embeddings_have_the_papers_sizes():
    with torch.device("meta"):
        linear = torch.nn.Linear(18_048, 4096)
    assert n_parameters(linear) + 2 == 73_928_706
    small = LinearEmbedding(64)
    assert small.linear.in_features == 18_048 and small.linear.out_features == small.emb_dim == 64
    cnn, musicnn = CNNEmbedding(), MusicnnEmbedding()
    assert n_parameters(cnn) == 518_402 and n_parameters(musicnn) == 858_754 and n_trained(musicnn) == 386_304
    for net, dim in ((small, 64), (cnn, 256), (musicnn, 256)):
        assert net.eval().embed(music()).shape == (2, dim)
    assert CNNEmbedding(width_divisor=8)(music()).shape == (2, 256)  # the embedding is not divided


def test_poolings_and_paddings_give_the_lengths_of_table_2():
    seen = {}
    for kind, layers in ((CNN1D, 3), (CNN2D, 4), (FCN, 4)):
        net, z = kind().eval(), MelNet().eval().mel(music())
        z = z.squeeze(1) if kind is CNN1D else z
        for i in range(1, layers + 1):
            z = getattr(net, f"layer{i}")(z)
            seen.setdefault(kind, []).append(tuple(z.shape[1:]))
    assert seen[CNN1D] == [(32, 64), (32, 22), (32, 8)]
    assert seen[CNN2D] == [(64, 24, 47), (128, 8, 15), (128, 2, 5), (64, 1, 1)]
    assert seen[FCN] == [(16, 24, 47), (32, 8, 15), (64, 2, 5), (128, 1, 1)]


# Musicnn


def test_musicnn_x_trains_what_comes_after_row_x():
    counts = [n_trained(freeze(Musicnn(), row)) for row in range(9)]
    assert counts[0] == 784_300 and counts[7] == 10_050 and counts[8] == 0 and counts == sorted(counts, reverse=True)
    assert counts[5] == counts[6] == 301_600 + 10_050 + 200
    assert 784_300 - counts[7] == 774_250  # what the paper calls the number of parameters


@pytest.mark.parametrize("frozen_norm", [False, True])
def test_musicnn_7_changes_the_last_layer_and_as_coded_the_running_means(tmp_path, frozen_norm):
    net = freeze(Musicnn(5, width_divisor=16), 7, frozen_norm=frozen_norm)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    y = (torch.arange(40).reshape(8, 5) % 3 == 0).float()
    module = MultiTask(LogitNet(net), [multilabel("tags", 5)], lr=1e-2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found .* in eval mode")  # frozen norms are meant to be
        fit(module, Items(music(8), (y,)), epochs=2, batch_size=4, root=tmp_path, device="cpu")
    changed = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, before[key])}
    assert {"dense2.weight", "dense2.bias"} <= changed
    rest = {key.split(".")[-1] for key in changed - {"dense2.weight", "dense2.bias"}}
    assert rest == (set() if frozen_norm else {"running_mean", "running_var", "num_batches_tracked"})


def test_the_embedding_keeps_the_taggers_trunk():
    tagger = random_norms(tiny())
    net = MusicnnEmbedding.from_tagger(tagger, 16, frozen_norm=True).train()
    with torch.no_grad():
        torch.testing.assert_close(net.shared(music()), tagger.shared(music()), rtol=0, atol=0)
    learnt = [weight for weight in net.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(net(music()).square().sum(), learnt)
    assert len(gradients) == 4 and n_trained(net) == 16 * (tagger.width + 3)
    moving = MusicnnEmbedding.from_tagger(tagger, 16).train()
    assert not torch.allclose(moving.shared(music()), tagger.shared(music()))


# Training


@pytest.mark.long
@pytest.mark.parametrize("kind", TAGGERS)
def test_every_tagger_learns_to_tell_tones_from_noise(kind, tmp_path):
    random = torch.Generator().manual_seed(0)
    noise = torch.arange(12) % 2 == 0
    x = torch.where(noise[:, None], 0.3 * torch.randn(12, WINDOW, generator=random), music(12))
    y = torch.stack([noise, ~noise], 1).float()
    seed_everything(0)
    net = kind(2, width_divisor=8)
    module = MultiTask(LogitNet(net), [multilabel("tags", 2)], lr=1e-2)
    fit(module, Items(x, (y,)), epochs=10, batch_size=6, root=tmp_path, device="cpu")
    assert metrics.roc_auc(y.numpy(), net.eval()(x).detach().numpy()) == 1


@pytest.mark.parametrize("balancer", [Equal(2), GradNorm(2, lr=0.05), Uncertainty(2, lr=0.05)])
@pytest.mark.parametrize("kind", TAGGERS)
def test_tags_and_embeddings_train_together_under_any_balancer(kind, balancer, tmp_path):
    seed_everything(0)
    net = TagAndEmbed(kind(3, width_divisor=16), emb_dim=8)
    y, z = (torch.arange(24).reshape(8, 3) % 2).float(), torch.randn(8, 8)
    module = MultiTask(net, [multilabel("tags", 3), regression("z", 8)], balancer, lr=1e-3)
    before = net.shared_weight.detach().clone()
    fit(module, Items(music(8), (y, z)), epochs=1, batch_size=4, root=tmp_path, device="cpu")
    assert not torch.equal(net.shared_weight, before) and np.isfinite(module.history.loss).all()
    x = music(2)
    torch.testing.assert_close(net.eval()(x)[0].sigmoid(), net.probabilities(x))
    torch.testing.assert_close(net(x[:, None].expand(-1, 3, -1))[1][:, 2], net.embed(x))


def test_the_loss_on_logits_is_the_papers_loss_on_probabilities():
    net, y = tiny(), (torch.rand(4, 50) < 0.1).float()
    z = net.logits(music(4))
    torch.testing.assert_close(TASK.loss(z, y), F.binary_cross_entropy(z.sigmoid(), y))


def test_crops_depend_on_seed_and_epoch_alone():
    waves = torch.arange(5 * WINDOW * 2, dtype=torch.float64).reshape(5, -1)
    crops, same, other = (Crops(waves, [torch.arange(5)], seed=seed) for seed in (0, 0, 1))
    assert (crops.starts == same.starts).all() and (crops.starts != other.starts).any()
    x, (y,) = crops[np.array([4, 1])]
    assert y.tolist() == [4, 1] and x.shape == (2, WINDOW) and x.dtype == torch.float32
    np.testing.assert_array_equal(x[0], waves[4, crops.starts[4] : crops.starts[4] + WINDOW].float())
    for epoch in (3, 2):
        crops.set_epoch(epoch)
    same.set_epoch(2)
    assert (crops.starts == same.starts).all()
    fixed = Crops(waves, redraw=False)
    first = fixed.starts
    fixed.set_epoch(5)
    assert (fixed.starts == first).all()
    with pytest.raises(ParamsError, match=r"one entry per clip \(5\), found 4"):
        Crops(waves, [np.zeros(4)])


def test_crops_reach_the_last_sample_and_read_arrays(tmp_path):
    np.save(tmp_path / "w.npy", np.random.default_rng(0).random((300, 12), dtype=np.float32))
    crops = Crops(np.load(tmp_path / "w.npy", mmap_mode="r"), length=10)
    assert set(crops.starts) == {0, 1, 2}
    assert crops[np.arange(300)][0].shape == (300, 10)


def test_schedules_are_the_codes_and_the_texts():
    names = [("tags", "published"), ("metric", "published"), ("tags", "corrected"), ("metric", "corrected")]
    schedules = [SCHEDULES[name] for name in names]
    assert [(schedule.lr, schedule.epochs, schedule.factor, schedule.patience) for schedule in schedules] == [
        (1e-2, 30, 0.1, 2),
        (1e-3, 5, 0.1, 2),
        (1e-2, None, 0.5, 30),
        (1e-3, None, 0.5, 5),
    ]
    assert [(schedule.reductions, schedule.stop_below, schedule.restore) for schedule in schedules] == [
        (None, 1e-6, False),
        (None, 1e-5, False),
        (4, 0.0, True),
        (2, 0.0, True),
    ]
    assert schedules[0].optimizer is None
    options = dict(factor=0.5, patience=30, reductions=4, stop_below=0.0, restore=True)
    assert schedules[2].plateau().settings == options


def test_the_skeletons_schedule_is_nesterovs():
    schedule = SCHEDULES["baseline", "published"]
    optimizer = schedule.optimizer([torch.nn.Parameter(torch.zeros(1))], lr=schedule.lr)
    assert optimizer.defaults["nesterov"] and optimizer.defaults["momentum"] == 0.9
    assert (schedule.factor, schedule.patience, schedule.epochs) == (0.2, 5, 10)


# Scores


def test_clip_means_are_the_means_of_the_whole_windows():
    net, waves = tiny().eval(), music(3, 8 * SR)
    means = clip_means(net, waves, batch_size=2)
    for i in range(3):
        parts = torch.cat([net(waves[i : i + 1, start : start + WINDOW]) for start in (0, WINDOW)])
        np.testing.assert_allclose(means[i], parts.mean(0).detach(), atol=1e-5)
    with pytest.raises(ParamsError):
        clip_means(net, waves[:, :100])


def test_tag_scores_are_scikit_learns_and_nan_where_there_is_no_curve():
    rng = np.random.default_rng(0)
    Y, probabilities = (rng.random((80, 6)) < 0.3).astype(float), rng.random((80, 6))
    Y[:, 4], Y[:, 5] = 0, 1
    table = tag_scores(Y, probabilities, list("abcdef"))
    some = Y[:, :4], probabilities[:, :4]
    np.testing.assert_allclose(table.roc_auc[:4], roc_auc_score(*some, average=None))
    np.testing.assert_allclose(table.pr_auc[:4], average_precision_score(*some, average=None))
    assert table.loc[["e", "f"], ["roc_auc", "pr_auc"]].isna().all(axis=None)
    assert table.positives.tolist()[4:] == [0, 80]
    np.testing.assert_allclose(table.roc_auc.mean(), metrics.roc_auc(Y, probabilities))
    with pytest.raises(ParamsError, match=r"\[N, 50\]"):
        tag_scores(Y, probabilities)


# Files

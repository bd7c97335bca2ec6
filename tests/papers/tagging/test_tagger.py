"Networks in files, those of the public collection among them, and tags of whole recordings."

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from taggers import music, n_trained, random_norms, tiny

from musicmtl.core import AudioError, ParamsError, RunError, repo_root
from musicmtl.magnatagatune import tag_matrix
from musicmtl.miniature import miniature
from musicmtl.papers.tagging.model import (
    CNN1D,
    FCN,
    SR,
    TAGS,
    WINDOW,
    CNNEmbedding,
    LinearEmbedding,
    Musicnn,
    MusicnnEmbedding,
    TagAndEmbed,
)
from musicmtl.papers.tagging.tagger import (
    SMALL_TAGGER,
    CRNN,
    ChoiFCN,
    SampleCNN,
    Tagger,
    architecture_of,
    from_public,
    load_net,
    make_net,
    save_net,
    stream_windows,
)


@pytest.mark.parametrize(
    "net",
    [
        CNN1D(4, 2),
        FCN(width_divisor=8),
        tiny(),
        ChoiFCN(5, 16),
        CRNN(5, 16),
        SampleCNN(5, 32),
        LinearEmbedding(8),
        CNNEmbedding(64, 4),
        MusicnnEmbedding(8, front=(6, 2), backend=4),
        TagAndEmbed(tiny(), 8),
    ],
    ids=lambda net: type(net).__name__,
)
def test_every_network_comes_back_from_its_file(net, tmp_path):
    random_norms(net)
    classes = list("abcd") if type(net) is CNN1D else None
    save_net(net, tmp_path / "n.pt", classes)
    again, names = load_net(tmp_path / "n.pt")
    assert type(again) is type(net) and not again.training and again.config == net.config
    assert names == (("a", "b", "c", "d") if classes else None)
    sound = music(2, net.window)
    torch.testing.assert_close(again.embed(sound), net.embed(sound), rtol=0, atol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["n.pt"]
    assert not any("spec.mel_scale.fb" in k for k in torch.load(tmp_path / "n.pt", weights_only=True)["state"])


def test_a_frozen_embedding_comes_back_frozen(tmp_path):
    save_net(MusicnnEmbedding(8, front=(6, 2), backend=4, frozen_norm=True), tmp_path / "n.pt")
    again = load_net(tmp_path / "n.pt")[0].train()
    assert n_trained(again) == n_trained(MusicnnEmbedding(8, front=(6, 2), backend=4))
    assert not again.layer1.training and again.projection.training


def test_broken_network_files_are_refused_in_one_sentence(tmp_path):
    save_net(tiny(), path := tmp_path / "n.pt")
    saved = torch.load(path, weights_only=True)
    for change, message in (
        ({"net": "Transformer"}, "expected a configuration of CNN1D"),
        ({"config": {"n_classes": 3}}, "size mismatch"),
        ({"state": {}}, "expected the weights of Musicnn, found others"),
        ({"config": {"depth": 3}}, "configuration"),
    ):
        torch.save({**saved, **change}, tmp_path / "bad.pt")
        with pytest.raises(RunError, match=message) as error:
            load_net(tmp_path / "bad.pt")
        assert "\n" not in str(error.value)
    with pytest.raises(ParamsError, match="expected a configuration"):
        make_net("CNN3D", {})
    for classes, message in (
        ("abc", "found the text 'abc'"),
        (["a", "b"], "found 2 names"),
        (["a", "b", "a"], "'a' twice"),
        ([1, 2, 3], "found 1 among them"),
    ):
        with pytest.raises(ParamsError, match=f"classes: expected .*{message}"):
            Tagger(CNN1D(3), classes)


# Whole recordings


@given(sizes=st.lists(st.integers(0, 40), max_size=30), length=st.integers(1, 12), part=st.floats(0.05, 1))
@settings(max_examples=200, deadline=None)
def test_windows_of_a_stream_are_those_of_the_whole(sizes, length, part):
    x, hop = np.arange(sum(sizes), dtype=np.float32), max(1, round(length * part))
    blocks = np.split(x, np.cumsum(sizes))[:-1] if sizes else []
    found = list(stream_windows(blocks, length, hop))
    expected = [x[start : start + length] for start in range(0, len(x) - length + 1, hop)]
    assert len(found) == len(expected)
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def write(path, seconds, sr=22050):
    "A stereo file, of chords under noise."
    x = music(1, int(seconds * SR))[0].numpy()
    sf.write(path, np.resize(np.stack([x, 0.5 * x], 1), (int(seconds * sr), 2)), sr)
    return path


@pytest.mark.parametrize("ext", ["wav", "mp3", "ogg"])
def test_tags_do_not_depend_on_the_blocks(ext, tmp_path):
    from musicmtl.audio import load_audio, windows

    tagger = Tagger(random_norms(tiny()), TAGS, batch_size=4)
    path = write(tmp_path / f"a.{ext}", 20.5)
    tags, other = (tagger.tag(path, hop_s=1.0, block_s=seconds) for seconds in (0.2, 60.0))
    np.testing.assert_allclose(tags.windows, other.windows, atol=2e-5)
    if ext == "wav":
        np.testing.assert_array_equal(tags.windows, other.windows)
    x = torch.from_numpy(windows(load_audio(path, SR), WINDOW, SR).copy())
    assert tags.windows.shape == (18, 50) == (len(x), 50) and tags.start_s.tolist() == list(range(18))
    np.testing.assert_allclose(tags.windows, tagger.net(x).detach(), atol=2e-5)
    np.testing.assert_allclose(tags.overall, tags.windows.mean(0))
    assert list(tags.frame().columns) == list(TAGS) and tags.top(3).index[0] == TAGS[tags.overall.argmax()]
    embeddings = tagger.embed(path)
    assert embeddings.windows.shape == (6, tagger.net.width) and embeddings.names is None


def test_a_long_file_needs_no_more_memory_than_a_short_one(tmp_path):
    class Mean(torch.nn.Module):
        config, window = {"n_classes": 2}, WINDOW

        def probabilities(self, x):
            return torch.stack([x.mean(1), x.std(1)], 1)

    tagger, peaks = Tagger(Mean(), ("a", "b")), []
    for seconds in (60, 600):
        path = write(tmp_path / f"{seconds}.wav", seconds, SR)
        tracemalloc.start()
        assert len(tagger.tag(path, block_s=5.0).windows) == seconds // 3
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 12e6  # ten minutes are 38 MB


def test_recordings_that_cannot_be_tagged_are_refused(tmp_path):
    tagger = Tagger(tiny())
    with pytest.raises(AudioError, match="shorter than one window of 3 s"):
        tagger.tag(write(tmp_path / "a.wav", 2.9, SR))
    assert len(tagger.tag(write(tmp_path / "b.wav", 3, SR)).windows) == 1
    (tmp_path / "c.wav").write_text("no sound")
    with pytest.raises(AudioError, match="not audio, but text"):
        tagger.tag(tmp_path / "c.wav")
    for hop_s in (0, 3.5, "1"):
        with pytest.raises(ParamsError, match="hop_s"):
            tagger.tag(tmp_path / "b.wav", hop_s=hop_s)
    with pytest.raises(ParamsError, match="expected a network with tags, found CNNEmbedding"):
        Tagger(CNNEmbedding(16, 8)).tag(tmp_path / "b.wav")
    assert Tagger(CNNEmbedding(16, 2)).embed(tmp_path / "b.wav").windows.shape == (1, 16)


PUBLIC = {"Musicnn": Musicnn, "FCN": ChoiFCN, "CRNN": CRNN, "sample-level CNN": SampleCNN}


@pytest.mark.parametrize("name", PUBLIC)
def test_files_of_the_public_collection_load_and_tag(name, tmp_path):
    net = random_norms(PUBLIC[name](7))
    assert architecture_of(net.state_dict()) == name
    torch.save(net.state_dict(), path := tmp_path / "net.pth")
    again = from_public(path)
    assert type(again) is PUBLIC[name] and again.config == net.config and not again.training
    sound = music(1, net.window)
    torch.testing.assert_close(again(sound), net(sound), rtol=0, atol=0)
    tagger = Tagger.load(path, list("abcdefg"))
    tags = tagger.tag(write(tmp_path / "a.wav", net.window / SR + 0.1, SR))
    assert tags.windows.shape == (1, 7) and list(tags.frame().columns) == list("abcdefg")
    with pytest.raises(ParamsError, match=rf"\[B, {net.window}\]"):
        net(music(1, net.window - 1))


PUBLIC_LAYOUTS = {  # A few tensors of each file, as the collection's code makes them
    "FCN": {"layer1.conv.weight": (64, 1, 3, 3), "layer5.conv.weight": (64, 128, 3, 3), "dense.weight": (50, 64)},
    "CRNN": {"layer4.conv.weight": (128, 128, 3, 3), "layer5.weight_ih_l0": (96, 128), "layer5.bias_hh_l1": (96,)},
    "sample-level CNN": {
        "layer1.conv.weight": (128, 1, 3),
        "layer11.conv.weight": (512, 512, 1),
        "dense.weight": (50, 512),
    },
}


@pytest.mark.parametrize("name", PUBLIC_LAYOUTS)
def test_the_layers_are_those_of_the_public_files(name):
    state = PUBLIC[name]().state_dict()
    assert {key: tuple(state[key].shape) for key in PUBLIC_LAYOUTS[name]} == PUBLIC_LAYOUTS[name]


OTHERS = {
    "sample-level CNN with squeeze and excitation": {"layer1.conv_1.weight": (8, 1, 3), "layer1.dense1.weight": (8, 8)},
    "self-attention": {"layer1.conv_1.weight": (8, 1, 3, 3), "encoder.layer.0.output.dense.weight": (8, 8)},
    "short-chunk CNN": {"layer1.conv.weight": (8, 1, 3, 3), "layer7.conv.weight": (8, 8, 3, 3)},
    "short-chunk CNN with residual connections": {
        "layer1.conv_1.weight": (8, 1, 3, 3),
        "layer7.conv_1.weight": (8, 8, 3, 3),
    },
    "harmonic CNN": {"hstft.bw_Q": (1,), "layer1.conv.weight": (8, 6, 3, 3)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_of_the_collection_are_named(name, tmp_path):
    torch.save({key: torch.zeros(shape) for key, shape in OTHERS[name].items()}, path := tmp_path / "net.pth")
    with pytest.raises(RunError, match=f"holds a {name} of the public collection, which is not built here"):
        load_net(path)


@pytest.mark.parametrize("kind", [ChoiFCN, CRNN, SampleCNN])
def test_damaged_public_files_are_refused_by_layer(kind, tmp_path):
    state, path = kind(width_divisor=1).state_dict(), tmp_path / "net.pth"
    torch.save({key: tensor for key, tensor in state.items() if "layer3" not in key}, path)
    with pytest.raises(RunError, match=f"expected the layers of {kind.__name__}, missing layer3.conv.weight"):
        from_public(path)
    torch.save({**state, "layer3.conv.bias": torch.zeros(5)}, path)
    with pytest.raises(RunError, match=r"layer3.conv.bias: expected \[\d+\], found \[5\]"):
        from_public(path)


def test_names_of_tags_come_from_the_caller_or_the_file_and_are_never_guessed(tmp_path):
    net, path = random_norms(tiny()), write(tmp_path / "a.wav", 4, SR)
    torch.save(net.state_dict(), tmp_path / "Musicnn.pth")
    unnamed = Tagger.load(tmp_path / "Musicnn.pth")
    assert unnamed.classes is None and repr(unnamed) == "Tagger(Musicnn, 50 tags without names)"
    tags = unnamed.tag(path)
    assert tags.names is None and list(tags.frame().columns) == list(range(50)) and tags.top(1).index[0] in range(50)
    mine = tuple(f"tag {i}" for i in range(50))
    assert Tagger.load(tmp_path / "Musicnn.pth", mine).classes == mine
    named = Tagger.load(tmp_path / "Musicnn.pth", TAGS)
    assert named.classes == TAGS and repr(named) == "Tagger(Musicnn, 50 tags)"
    np.testing.assert_array_equal(named.tag(path).windows, tags.windows)
    save_net(net, tmp_path / "own.pt", mine)
    assert Tagger.load(tmp_path / "own.pt").classes == mine and Tagger.load(tmp_path / "own.pt", TAGS).classes == TAGS
    wrong = [(("a", "b", "c"), "3 names"), ("rock", "the text 'rock'"), ([*mine[:49], 7], "7 among them")]
    for names, found in wrong:
        with pytest.raises(ParamsError, match=f"names of the network's 50 outputs, found {found}$"):
            Tagger.load(tmp_path / "own.pt", names)


def test_recordings_can_be_tagged(data):
    row = pd.read_csv(data / "albums" / "tracks.csv").iloc[0]
    tags = Tagger(random_norms(CNN1D())).tag(data / "albums" / row.path)
    assert len(tags.windows) == int(row.duration_s // 3) and np.isfinite(tags.windows).all()


# ---- the small tagger of the package


def test_the_small_tagger_hears_in_miniature_what_it_is_asked_for():
    "Its training's ROC-AUC is 0.91, of which a few clips can measure 0.1."
    tagger, corpus = Tagger.load(), miniature("tagatune", "smoke")
    assert tagger.classes == TAGS and SMALL_TAGGER.stat().st_size < 1_000_000
    rows = np.arange(0, len(corpus), 3)
    Y = tag_matrix(corpus.subset(rows))
    P = np.stack([tagger.tag(corpus.path(row)).overall for row in rows])
    known = (Y.sum(0) > 1) & (Y.sum(0) < len(Y) - 1)
    assert known.sum() > 20 and roc_auc_score(Y[:, known], P[:, known]) > 0.8


def test_the_small_tagger_s_card_has_the_numbers_of_its_training():
    table = pd.read_csv(repo_root() / "figures" / "data" / "tagging.csv")
    own = table[(table.preset == "miniature_long") & (table.protocol == "corrected") & (table.variant == "musicnn_0")]
    row = own[(own.seed == 0) & (own.metric == "roc_auc")].iloc[0]
    card = SMALL_TAGGER.with_suffix(".md").read_text()
    assert f"| this tagger | {100 * row.value:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}] |" in card
    assert f"{sum(p.numel() for p in Tagger.load().net.parameters()):,} parameters" in card

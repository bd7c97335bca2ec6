"Musicnn, its front end, and the files that it is loaded from."

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
import pandas as pd
import soundfile as sf
import torch.nn.functional as F
from taggers import music, n_trained, random_norms, tiny

from musicmtl import musicnn
from musicmtl.core import ParamsError, PretrainedMissing, RunError
from musicmtl.corpus import Corpus
from musicmtl.magnatagatune import TAGS
from musicmtl.musicnn import (
    MSD_TAGS,
    SR,
    WINDOW,
    MelNet,
    Musicnn,
    PublicMusicnn,
    VerticalConv,
    musicnn_embeddings,
    pretrained,
    read_bundle,
)
from musicmtl.viz import n_parameters


# Front end


def test_the_front_end_is_librosas_mel_in_decibels():
    import librosa
    from torchaudio.transforms import MelSpectrogram

    x = music()
    net = MelNet()
    ours = net.to_db(net.spec(x)).numpy()
    theirs = MelSpectrogram(SR, n_fft=512, n_mels=96)(x)
    torch.testing.assert_close(net.spec(x), theirs, rtol=1e-5, atol=1e-6 * float(theirs.max()))
    assert ours.shape == (2, 96, 188) and n_parameters(net) == 2
    options = dict(sr=SR, n_fft=512, hop_length=256, n_mels=96, htk=True, norm=None, pad_mode="reflect")
    for one, db in zip(x.numpy(), ours, strict=True):
        power = librosa.feature.melspectrogram(y=one, **options)
        np.testing.assert_allclose(db, librosa.power_to_db(power, top_db=None), atol=2e-3)


def test_the_front_end_has_no_floor_and_finds_a_tone():
    t = torch.arange(WINDOW) / SR
    net = MelNet()
    db = net.to_db(net.spec(torch.sin(2 * torch.pi * 1000 * t)[None]))[0]
    centres = 700 * (10 ** (torch.linspace(0, 2595 * np.log10(1 + 8000 / 700), 98)[1:-1] / 2595) - 1)
    assert (centres - 1000).abs().argmin() == db.mean(1).argmax() and db.max() - db.min() > 80


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.zeros(2, 1, WINDOW), "found [2, 1, 48000]"),
        (torch.zeros(2, SR), "found [2, 16000]"),
        (torch.zeros(2, WINDOW, dtype=torch.int16), "torch.int16"),
        (np.zeros((2, WINDOW)), "found ndarray"),
        (torch.full((3, WINDOW), float("inf")), "NaN or infinity in clip 0, 1, 2"),
    ],
)
def test_wrong_waves_are_refused_with_what_was_found(x, message):
    with pytest.raises(ParamsError) as error:
        tiny()(x)
    assert message in str(error.value)


# Musicnn


def plain_musicnn(net, x):
    "Musicnn in functional form, one step a line (the tagging-models project's order of operations)."
    state = net.state_dict()

    def norm(h, name):
        moments = state[name + ".running_mean"], state[name + ".running_var"]
        return F.batch_norm(h, *moments, state[name + ".weight"], state[name + ".bias"])

    def conv(h, name, function, padding):
        h = function(h, state[name + ".conv.weight"], state[name + ".conv.bias"], padding=padding)
        return F.relu(norm(h, name + ".bn"))

    def dense(h, name):
        return F.linear(h, state[name + ".weight"], state[name + ".bias"])

    mel = norm(net.to_db(net.spec(x))[:, None], "spec_bn")
    tall = [conv(mel, f"layers.{i}", F.conv2d, (0, 3)) for i in (0, 1)]
    found = [F.max_pool2d(h, (h.shape[2], 1)).squeeze(2) for h in tall]
    mean = F.avg_pool2d(mel, (96, 1)).squeeze(2)
    found += [conv(mean, f"layers.{i}", F.conv1d, frames // 2) for i, frames in ((2, 129), (3, 65), (4, 33))]
    out = torch.cat(found, 1)
    one = conv(out, "layer1", F.conv1d, 3)
    two = conv(one, "layer2", F.conv1d, 3) + one
    three = conv(two, "layer3", F.conv1d, 3) + two
    out = torch.cat([out, one, two, three], 1)
    out = torch.cat([F.max_pool1d(out, 188), F.avg_pool1d(out, 188)], 1).squeeze(2)
    h = F.relu(norm(dense(out, "dense1"), "bn"))
    return torch.sigmoid(dense(h, "dense2"))


def test_musicnn_is_its_layers_one_by_one():
    net = random_norms(Musicnn())
    torch.testing.assert_close(net(music()), plain_musicnn(net, music()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_the_quick_tall_filters_are_the_plain_ones(training):
    for bands in (67, 38):
        net = random_norms(VerticalConv(6, bands)).double().train(training)
        slow = copy.deepcopy(net)
        x = torch.randn(3, 1, 96, 50, dtype=torch.float64, requires_grad=True)
        quick, plain = net(x), F.relu(slow.bn(slow.conv(x))).amax(2)
        torch.testing.assert_close(quick, plain)
        ours = torch.autograd.grad(quick.pow(3).sum(), [x, *net.parameters()])
        theirs = torch.autograd.grad(plain.pow(3).sum(), [x, *slow.parameters()])
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(net.bn.running_var, slow.bn.running_var)
        with torch.no_grad():
            torch.testing.assert_close(copy.deepcopy(net).eval()(x), slow.eval()(x))


LAYOUT = """spec.spectrogram.window 512
spec.mel_scale.fb 257 96
spec_bn.weight 1
layers.0.conv.weight 204 1 67 7
layers.1.conv.weight 204 1 38 7
layers.2.conv.weight 51 1 129
layers.3.conv.weight 51 1 65
layers.4.conv.bias 51
layers.4.bn.running_var 51
layer1.conv.weight 64 561 7
layer2.conv.weight 64 64 7
layer3.bn.num_batches_tracked
dense1.weight 200 1506
bn.running_mean 200
dense2.weight 50 200
dense2.bias 50"""


def test_the_layout_is_that_of_the_public_checkpoint():
    state = Musicnn().state_dict()
    assert sum(t.numel() for t in state.values()) == 811_402
    for line in LAYOUT.splitlines():
        key, *shape = line.split()
        assert tuple(state[key].shape) == tuple(map(int, shape)), key
    assert {key.split(".")[0] for key in state} == set(
        "spec spec_bn layers layer1 layer2 layer3 dense1 bn dense2".split()
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_in_that_layout_loads_in_old_and_new_files(tmp_path, zipped):
    net = random_norms(Musicnn())
    torch.save(net.state_dict(), path := tmp_path / "Musicnn.pth", _use_new_zipfile_serialization=zipped)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Musicnn.from_checkpoint(path)
    assert not again.training and len(TAGS) == again.dense2.out_features
    torch.testing.assert_close(again(music()), net(music()), rtol=0, atol=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {key: tensor for key, tensor in state.items() if not key.startswith("spec.")},
        lambda state: {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")},
        lambda state: {**state, "spec.mel_scale.fb": torch.zeros(0)},
        lambda state: {**state, "spec.mel_scale.fb": torch.zeros(201, 96)},
        lambda state: {**state, "spec.more": torch.zeros(3)},
    ],
)
def test_front_end_buffers_may_be_missing_other_or_more(tmp_path, change):
    net = random_norms(tiny())
    torch.save(change(net.state_dict()), path := tmp_path / "a.pth")
    torch.testing.assert_close(Musicnn.from_checkpoint(path)(music()), net(music()), rtol=0, atol=0)


def test_other_mel_filters_are_warned_of(tmp_path):
    state = tiny().state_dict()
    torch.save({**state, "spec.mel_scale.fb": 2 * state["spec.mel_scale.fb"]}, path := tmp_path / "a.pth")
    with pytest.warns(UserWarning, match="other mel filters"):
        Musicnn.from_checkpoint(path)


def test_the_big_checkpoints_widths_are_read_off(tmp_path):
    net = Musicnn(12, backend=512, dense=500, front=(20, 6))
    torch.save(net.state_dict(), path := tmp_path / "msd.pth")
    assert Musicnn.from_checkpoint(path).config == net.config


class Evil:
    def __reduce__(self):
        return print, ("this must never run",)


def test_wrong_files_get_one_sentence(tmp_path, capsys):
    state, path = tiny().state_dict(), tmp_path / "a.pth"

    def message(contents):
        torch.save(contents, path)
        with pytest.raises(RunError) as error:
            Musicnn.from_checkpoint(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    assert "missing dense2.weight" in message(torch.nn.Linear(2, 3).state_dict())
    without = {key: tensor for key, tensor in state.items() if "layer2" not in key}
    assert "missing layer2.conv.weight, layer2.conv.bias, layer2.bn.weight and 3 more" in message(without)
    assert "no others, found attention.weight" in message({**state, "attention.weight": torch.zeros(2)})
    short = {**state, "layer3.conv.weight": torch.zeros(4, 4, 3)}
    assert "layer3.conv.weight: expected [8, 8, 7], found [4, 4, 3]" in message(short)
    assert "expected a dictionary of tensors, found another one" in message({**state, "epoch": 3})
    assert "found list" in message([torch.zeros(2)])
    assert "pickled objects" in message(Evil()) and "pickled objects" in message(tiny())
    (tmp_path / "html.pth").write_text("<html>quota exceeded</html>")
    (tmp_path / "raw.pth").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:3000])
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": Evil}))
    for name in ("html", "raw", "empty", "cut", "plain", "gone"):
        with pytest.raises(RunError) as error:
            Musicnn.from_checkpoint(tmp_path / f"{name}.pth")
        assert f"{name}.pth" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(RunError, match="found a folder"):
        Musicnn.from_checkpoint(tmp_path)
    assert "never run" not in capsys.readouterr().out


# The library's weights


def varint(number):
    "A whole number, seven bits a byte."
    low = bytes([number & 127 | (128 if number > 127 else 0)])
    return low + varint(number >> 7) if number > 127 else low


def field(number, value):
    "A field of a message in protocol buffers."
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def table_block(entries):
    "A block of a sorted table, names shortened by what they share with the last one's."
    block, last = b"", b""
    for name, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(name, last, strict=False)) if a != b), min(len(name), len(last))
        )
        block += varint(shared) + varint(len(name) - shared) + varint(len(value)) + name[shared:] + value
        last = name
    return block + bytes(4) + (1).to_bytes(4, "little")


def write_bundle(folder, tensors):
    "A checkpoint of TensorFlow."
    folder.mkdir(exist_ok=True)
    data, entries = b"", [(b"", field(1, 1))]
    for name in sorted(tensors):
        x = np.ascontiguousarray(tensors[name], dtype="<f4")
        shape = b"".join(field(2, field(1, n)) for n in x.shape)
        about = field(1, 1) + field(2, shape) + field(4, len(data)) + field(5, x.nbytes)
        entries.append((name.encode(), about + varint(6 << 3 | 5) + bytes(4)))
        data += x.tobytes()
    entries.append((b"step", field(1, 9) + field(2, b"") + field(5, 8)))  # a counter, which is not a tensor of floats
    index, handles = b"", []
    for part in (entries[:7], entries[7:]):
        block = table_block(part)
        handles.append((part[-1][0], varint(len(index)) + varint(len(block))))
        index += block + bytes(5)
    block = table_block(handles)
    footer = varint(0) + varint(0) + varint(len(index)) + varint(len(block))
    index += block + bytes(5) + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    (folder / ".index").write_bytes(index)
    (folder / ".data-00000-of-00001").write_bytes(data)


def in_tensorflows_way(net):
    "A network's numbers under TensorFlow's names, axes in its order."
    tensors = {}
    for name, layer in musicnn._layers(net).items():
        norm = hasattr(layer, "running_mean")
        for theirs, ours in (musicnn._PARTS if norm else {"kernel": "weight", "bias": "bias"}).items():
            x = getattr(layer, ours).detach()
            x = x[:, None] if x.ndim == 3 else x
            tensors[f"{name}/{theirs}"] = x.numpy().T
    return tensors


def narrow(seed=0):
    torch.manual_seed(seed)
    return random_norms(PublicMusicnn("abc", front=(5, 3), backend=4, dense=6))


def test_a_bundle_is_read_as_it_was_written(tmp_path):
    tensors = in_tensorflows_way(narrow())
    write_bundle(tmp_path / "net", tensors)
    read = read_bundle(tmp_path / "net")
    assert read.keys() == tensors.keys()
    for name, x in tensors.items():
        np.testing.assert_array_equal(read[name], x)


def test_weights_come_back_into_their_layers(tmp_path):
    net, other = narrow(), narrow(1)
    write_bundle(tmp_path / "net", in_tensorflows_way(net))
    for ours, theirs in zip(other.load_bundle(tmp_path / "net")(music()), net(music()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert not other.training and n_trained(other) == 0


def test_wrong_bundles_get_one_sentence(tmp_path):
    net, tensors = narrow(), in_tensorflows_way(narrow())
    with pytest.raises(RunError, match=r"expected a checkpoint of TensorFlow, found none \(No such file"):
        net.load_bundle(tmp_path / "gone")
    write_bundle(tmp_path, {name: x for name, x in tensors.items() if name != "dense_1/bias"})
    with pytest.raises(RunError, match="expected the layers of Musicnn, missing dense_1/bias"):
        net.load_bundle(tmp_path)
    write_bundle(tmp_path, tensors | {"dense/bias": np.zeros(7)})
    with pytest.raises(RunError, match=r"dense/bias: expected \[6\], found \[7\]"):
        net.load_bundle(tmp_path)
    whole = [(tmp_path / name).read_bytes() for name in (".index", ".data-00000-of-00001")]
    for index, data in ((whole[0][:300], whole[1]), (b"", b""), (whole[0], whole[1][:100]), (bytes(600), whole[1])):
        (tmp_path / ".index").write_bytes(index)
        (tmp_path / ".data-00000-of-00001").write_bytes(data)
        with pytest.raises(RunError, match="expected a checkpoint of TensorFlow, found other bytes"):
            net.load_bundle(tmp_path)


def test_the_librarys_front_end_is_librosas(library):
    import librosa

    x = music(1, 2 * WINDOW)
    ours = library.patches(x)[0].transpose(0, 1).flatten(1).numpy()
    options = dict(sr=SR, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect")
    theirs = np.log10(10_000 * librosa.feature.melspectrogram(y=x[0].numpy(), **options) + 1)
    np.testing.assert_allclose(ours, theirs[:, : ours.shape[1]], atol=2e-3)
    assert ours.shape == (96, 2 * 187)


@pytest.fixture(scope="module")
def library():
    return narrow()


def test_the_loudest_band_counts_also_where_the_norm_falls(library):
    layer = library.layers[0]
    assert (layer.bn.weight > 0).all()
    layer = copy.deepcopy(layer)
    layer.bn.weight.data[::2] *= -1
    mel = torch.randn(2, 1, 96, 40)
    z = layer.conv(F.pad(mel, (3, 3))).relu()
    plain = layer.bn(z.flatten(2)).unflatten(2, z.shape[2:]).amax(2)
    torch.testing.assert_close(layer(mel), plain)


def test_short_sounds_are_repeated_and_long_ones_cut_into_patches(library):
    x = music(2)
    assert [library.patches(x[:, :n]).shape[1] for n in (100, SR, 47_615, 47_616, WINDOW)] == [1] * 5
    assert library.patches(x.repeat(1, 4)).shape == (2, 4, 96, 187)
    vectors, tags = library(x.repeat(1, 4))
    assert vectors.shape == (2, 4, 6) and tags.shape == (2, 4, 3)
    torch.testing.assert_close(library.embed(x.repeat(1, 4)), vectors.mean(1))
    torch.testing.assert_close(library.probabilities(x.repeat(1, 4)), tags.mean(1))


def test_missing_weights_say_how_to_get_them(monkeypatch):
    def nowhere(name):
        raise musicnn.PackageNotFoundError(name)

    monkeypatch.setattr(musicnn, "distribution", nowhere)
    with pytest.raises(PretrainedMissing, match="pip install --no-deps musicnn==0.1.0"):
        pretrained()
    with pytest.raises(ParamsError, match="expected one of MTT_musicnn, MSD_musicnn, found 'MTT_vgg'"):
        pretrained("MTT_vgg")


@pytest.fixture(scope="module")
def weights():
    "The library's weights for MagnaTagATune."
    try:
        return pretrained()
    except PretrainedMissing as missing:
        pytest.skip(str(missing))


# What the library's own graph gives in TensorFlow 2.15 for the patches below: tag, probability; first hidden units
IN_TENSORFLOW = {
    0: (
        {"flute": 0.5164, "slow": 0.0824, "solo": 0.0731, "quiet": 0.0474},
        [-0.08, -0.0329, -0.0923, -0.1861, -0.0787],
    ),
    2: ({"techno": 0.4076, "fast": 0.4068, "loud": 0.1867}, [-0.08, 0.1581, -0.0923, 1.666, -0.0787]),
    3: ({"fast": 0.4075, "loud": 0.2276, "techno": 0.2227}, [-0.08, -0.0329, -0.0923, 1.808, -0.0787]),
}


def test_the_numbers_are_those_of_tensorflow(weights):
    t = np.arange(6 * SR) / SR
    tone = 0.2 * np.sin(2 * np.pi * 440 * t) * (1 + np.sin(2 * np.pi * 4 * t))
    noise = 0.1 * np.random.default_rng(0).standard_normal(6 * SR)
    x = torch.from_numpy(np.concatenate([tone, noise]).astype(np.float32))[None]
    vectors, tags = (z[0].numpy() for z in weights(x))
    for patch, (expected, hidden) in IN_TENSORFLOW.items():
        best = np.argsort(-tags[patch])[: len(expected)]
        assert [TAGS[tag] for tag in best] == list(expected)
        np.testing.assert_allclose(tags[patch, best], list(expected.values()), atol=2e-3)
        np.testing.assert_allclose(vectors[patch, :5], hidden, atol=2e-3)


def test_both_sets_of_weights_know_their_tags(weights):
    assert weights.classes == tuple(TAGS) and len(set(MSD_TAGS)) == 50
    other = pretrained("MSD_musicnn")
    assert other.classes == tuple(MSD_TAGS) and other.weights == "MSD_musicnn of musicnn 0.1.0"
    best = other.probabilities(0.1 * torch.randn(1, 2 * WINDOW)).argmax()
    assert other.classes[best] == "electronic"


def test_real_music_is_called_what_it_is(weights, data):
    from musicmtl.audio import load_audio

    def heard(file):
        wave = torch.from_numpy(load_audio(data / "commons" / file, SR, duration_s=9))[None]
        return dict(zip(TAGS, weights.probabilities(wave)[0].tolist(), strict=True))

    tracks = pd.read_csv(data / "commons" / "tracks.csv")
    orchestral, electronic = (
        pd.DataFrame([heard(file) for file in tracks.path[tracks.genre == genre][::12]]).mean()
        for genre in ("orchestral", "electronic")
    )
    for tag in ("classical", "strings"):
        assert orchestral[tag] > 2 * electronic[tag]
    for tag in ("techno", "electronic", "beat"):
        assert electronic[tag] > 2 * orchestral[tag]


def test_embeddings_of_a_corpus_are_kept_by_file(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICMTL_CACHE", str(tmp_path / "cache"))
    for i, wave in enumerate(music(3, 4 * SR)):
        sf.write(tmp_path / f"{i}.wav", wave.numpy(), SR)
    (tmp_path / "3.wav").write_bytes(b"no sound")
    table = pd.DataFrame({"track_id": list("abcde"), "path": [f"{i}.wav" for i in range(5)]})
    corpus = Corpus(table, tmp_path, name="made")
    embeddings = musicnn_embeddings(corpus)
    assert embeddings.shape == (5, 200) and np.isfinite(embeddings).all(1).tolist() == [True] * 3 + [False] * 2
    expected = weights.embed(torch.from_numpy(sf.read(tmp_path / "1.wav", dtype="float32")[0])[None])[0]
    np.testing.assert_allclose(embeddings[1], expected, atol=1e-5)
    monkeypatch.setattr(musicnn, "_embed_tracks", None)  # nothing is left to be done
    np.testing.assert_array_equal(musicnn_embeddings(corpus.subset([2, 0])), embeddings[[2, 0]])
    sf.write(tmp_path / "0.wav", music(1, 3 * SR, seed=1)[0].numpy(), SR)
    with pytest.raises(TypeError):
        musicnn_embeddings(corpus)


def test_a_cut_of_a_file_has_its_own_embedding(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICMTL_CACHE", str(tmp_path / "cache"))
    sf.write(tmp_path / "a.wav", music(1, 8 * SR)[0].numpy(), SR)
    table = pd.DataFrame(dict(track_id=list("ab"), path="a.wav", start_s=[0.0, 4.0], duration_s=4.0))
    cuts = musicnn_embeddings(Corpus(table, tmp_path, name="made"))
    whole = Corpus(table[:1].drop(columns=["start_s", "duration_s"]), tmp_path, name="made")
    first = musicnn_embeddings(whole, duration_s=4.0, n_jobs=2)
    assert not np.allclose(cuts[0], cuts[1])
    np.testing.assert_array_equal(first[0], cuts[0])

"Segments, the Million Song Dataset's files, LSTM networks, snippet ensembles and secondary tasks."

import copy
import math
import pickle

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import Callback
from torch.func import functional_call, stack_module_state, vmap

from musicmtl.balance import GradNorm, Static
from musicmtl.core import CorpusError, ParamsError
from musicmtl.learn import EpochOutputs, Items, MultiTask, fit
from musicmtl.viz import n_parameters
from musicmtl.papers.lstm_ensemble.model import (
    FeedForward,
    OneBiasLSTM,
    SegmentBank,
    SegmentData,
    SegmentLSTM,
    SnippetEnsemble,
    Stabilization,
    Standardiser,
    WeightedCombination,
    WeightedEnsemble,
    WeightedTraining,
    activation_stabilization,
    autoencoder_target,
    autoencoder_task,
    binary_target,
    binary_task,
    central,
    combine,
    double_softmax_error,
    ensemble_log_loss,
    genre_target,
    genre_task,
    load_msd,
    log_posteriors,
    published_pool,
    segment_data,
    segments,
    weighted_tasks,
)
from musicmtl.store import extract
from musicmtl.miniature import miniature

SR, HOP = 22050, 512


# Segments


def tone(hz, seconds=0.5, level=0.3, decay=3.0):
    t = np.arange(int(seconds * SR)) / SR
    return (level * np.sin(2 * np.pi * hz * t) * np.exp(-decay * t)).astype(np.float32)


@pytest.mark.parametrize("offset", [0, 130, 256, 400])
@pytest.mark.parametrize("length", [1, 40])
def test_clicks_start_segments_where_they_are(offset, length):
    wave = np.zeros(6 * SR, np.float32)
    onsets = np.arange(20 * HOP, 5.5 * SR, 11 * HOP).astype(int) + offset
    for o in onsets:
        wave[o : o + length] = 0.8
    t = segments(wave)
    assert len(t) == len(onsets) + 1
    assert np.abs(t.start_s.to_numpy()[1:] - onsets / SR).max() <= HOP / SR
    np.testing.assert_allclose(t.start_s + t.duration_s, [*t.start_s[1:], 6.0], atol=1e-9)


def test_tones_have_their_pitch_class_and_its_octave_does_not_matter():
    chroma = [f"chroma_{i}" for i in range(12)]
    for octave in (3, 4, 5):
        t = segments(np.concatenate([tone(2 ** (octave - 4) * 261.6256 * 2 ** (k / 12)) for k in (0, 4, 7, 9, 11)]))
        assert t[chroma].to_numpy().argmax(1).tolist() == [0, 4, 7, 9, 11]
        assert np.allclose(t[chroma].to_numpy().max(1), 1)


def test_level_is_in_db_of_full_scale():
    loud, soft = (segments(tone(440, 2, a, 0)) for a in (1.0, 0.1))

    def middle(wave):
        return SegmentBank()._level(SegmentBank().spectrum(torch.from_numpy(wave)[None])[0])[20]

    assert middle(tone(440, 2, 1.0, 0)).item() == pytest.approx(
        20 * math.log10(1 / math.sqrt(2)), abs=0.05
    )  # RMS of a sine
    assert loud.loudness_db[0] - soft.loudness_db[0] == pytest.approx(20, abs=0.1)
    assert loud.timbre_0[0] > soft.timbre_0[0]  # first coefficient: mean level
    np.testing.assert_allclose(loud.filter(like="chroma"), soft.filter(like="chroma"), atol=1e-3)


def test_louder_events_in_one_clip():
    t = segments(np.concatenate([tone(330, level=a) for a in (0.01, 0.1, 0.5)]))
    assert len(t) == 3 and (np.diff(t.timbre_0) > 0).all()


def test_second_coefficient_tells_dark_from_bright():
    t = segments(np.concatenate([tone(110), tone(3520)]))
    assert t.timbre_1[0] > t.timbre_1[1]


def test_silence_is_one_segment():
    t = segments(np.zeros(2 * SR, np.float32))
    assert len(t) == 1 and t.loudness_db[0] == -60 and (t.filter(like="chroma") == 0).all(axis=None)


def test_ordinary_music_has_three_to_six_a_second(data):
    from musicmtl.audio import load_audio
    from musicmtl.loaders import load_corpus

    corpus = load_corpus("folder", data / "albums")
    rates = [
        len(segments(load_audio(corpus.path(i), SR, start_s=5, duration_s=20))) / 20
        for i in range(0, len(corpus), len(corpus) // 6)
    ]
    assert 3 <= np.median(rates) <= 5 and min(rates) > 1.5 and max(rates) < 8


def test_bank_goes_through_the_store(tmp_path):
    corpus = miniature("fma", "smoke")
    bank = SegmentBank()
    store = extract(corpus, bank, tmp_path)
    from musicmtl.audio import load_audio

    wave = torch.from_numpy(load_audio(corpus.path(3), SR))[None]
    np.testing.assert_array_equal(store.read("segments", 3), bank(wave)["segments"][0])
    again = pickle.loads(pickle.dumps(bank))
    assert torch.equal(again(wave)["segments"], bank(wave)["segments"]) and again.config == bank.config
    d = segment_data(store, corpus, n=16)
    assert d.x.shape == (len(d), 16, 25) and d.x.dtype == np.float32 and set(d.parts) == {"train", "valid", "test"}
    row = int(np.flatnonzero(corpus.table.track_id == d.track_id[5])[0])
    np.testing.assert_array_equal(d.x[5], central(store.read("segments", row).T, 16))
    assert d.artist[5] == corpus.table.artist[row] and d.classes[d.y[5]] == corpus.table.genre[row]
    assert len(segment_data(store, corpus, n=30)) + sum(segment_data(store, corpus, n=30).left_out.values()) == len(
        corpus
    )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SegmentBank()(torch.zeros(2, SR)), "one clip"),
        (lambda: SegmentBank()(torch.zeros(1, 100)), "n_fft=2048"),
        (lambda: SegmentBank()(torch.full((1, SR), math.nan)), "finite samples"),
        (lambda: segments(np.zeros((2, SR), np.float32)), r"one clip \[T\]"),
        (lambda: SegmentBank(n_mels=8), "n_mels"),
        (lambda: SegmentBank(rise_db=0), "rise_db"),
        (lambda: SegmentBank(least_s=9), "least_s"),
        (lambda: central(np.zeros((119, 25))), "at least 120 segments, found 119"),
        (lambda: Standardiser(np.zeros((1, 120, 25))), "at least 2"),
        (lambda: Standardiser(np.zeros((5, 120, 25)))(np.zeros((5, 60, 25))), r"\[120, 25\], found \[60, 25\]"),
    ],
)
def test_errors_of_the_data_name_what_is_wrong(make, message):
    with pytest.raises(ParamsError, match=message):
        make()


@given(st.integers(1, 40), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_central_is_in_the_middle(n, more):
    kept = central(np.arange(n + more)[:, None], n)[:, 0]
    assert len(kept) == n and 0 <= (more - kept[0]) - kept[0] <= 1 and (np.diff(kept) == 1).all()


def test_standardiser_knows_the_training_songs_only():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, (50, 6, 4)).astype(np.float32)
    x[:, 2, 1] = 7.0  # never changes
    z = Standardiser(x[:40])
    train, other = z(x[:40]), z(x[40:])
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(train.std(0).ravel(), 9), 1, atol=1e-4)
    assert (train[:, 2, 1] == 0).all() and abs(other.mean(0)).max() > 0.1 and other.dtype == np.float32


# The Million Song Dataset

NAMES = np.array([f"style {i}" for i in range(10)])


def arrays(n, seed=0, **other):
    rng = np.random.default_rng(seed)
    return {"inputs": rng.normal(size=(n, 3000)), "targets": np.arange(n) % 10, "label_map": NAMES} | other


@pytest.fixture
def coursework(tmp_path):
    for part, n in (("train", 30), ("valid", 20)):
        np.savez(tmp_path / f"msd-10-genre-{part}.npz", **arrays(n, n))
    return tmp_path


def test_coursework_files(coursework):
    d = load_msd(coursework)
    assert d.x.shape == (50, 120, 25) and d.x.dtype == np.float32 and d.classes == tuple(NAMES) and d.name == "msd10"
    np.testing.assert_allclose(d.x[3, 2, 5], arrays(30, 30)["inputs"][3, 2 * 25 + 5], rtol=1e-6)  # time-major
    assert set(d.parts) == {"train", "valid"} and d.parts["valid"].tolist() == list(range(30, 50))
    np.savez(
        coursework / "msd-10-genre-test-inputs.npz", inputs=arrays(10)["inputs"].reshape(10, 120, 25)
    )  # not flat: the same
    assert set(load_msd(coursework).parts) == {"train", "valid"}  # without labels no part
    np.savez(coursework / "msd-10-genre-test-targets.npz", targets=np.arange(10))
    d = load_msd(coursework)
    np.testing.assert_allclose(d.x[d.parts["test"]], arrays(10)["inputs"].reshape(10, 120, 25).astype(np.float32))
    assert repr(d) == "SegmentData('msd10', 60 songs of 10 classes, 120 segments, train 30, valid 20, test 10)"


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(targets=None), "array 'targets': expected to be there, found only inputs, label_map"),
        (
            dict(inputs=np.zeros((20, 2999))),
            r"'inputs': expected numbers \[N, 3000\] or \[N, 120, 25\], found float64 \[20, 2999\]",
        ),
        (dict(inputs=np.full((20, 3000), np.inf)), "'inputs', row 0: expected finite"),
        (dict(inputs=np.full((20, 3000), "a")), "'inputs': expected numbers"),
        (dict(inputs=np.zeros((20, 3000), object)), "'inputs': expected numbers or text, found pickled objects"),
        (dict(targets=np.arange(20)), "'targets', row 10: expected a code from 0 to 9, found 10"),
        (dict(targets=np.arange(20) - 1), "'targets', row 0: expected a code from 0 to 9, found -1"),
        (dict(targets=np.zeros(19, int)), r"'targets': expected whole numbers \[20\], found int64 \[19\]"),
        (dict(targets=np.zeros(20)), r"'targets': expected whole numbers \[20\], found float64"),
        (dict(label_map=NAMES.astype(object)), "'label_map': expected numbers or text, found pickled objects"),
        (dict(label_map=NAMES[:9], targets=np.arange(20) % 9), "'label_map': expected 10 names, found 9"),
        (dict(label_map=NAMES[::-1]), "'label_map': expected the names of the training file"),
        (dict(label_map=np.arange(10)), "'label_map': expected a list of names, found int64"),
        (dict(inputs_250=np.zeros((2, 250 * 25))), "variable length"),
    ],
)
def test_each_fault_of_a_coursework_file_is_one_sentence(coursework, change, message):
    a = {k: v for k, v in arrays(20, **change).items() if v is not None}
    np.savez(coursework / "msd-10-genre-valid.npz", **a)
    with pytest.raises(CorpusError, match=message) as e:
        load_msd(coursework)
    assert "msd-10-genre-valid.npz" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: f.write_bytes(f.read_bytes()[:-3000]), "damaged or cut short"),
        (lambda f: f.write_bytes(f.read_bytes()[:20000] + bytes(100) + f.read_bytes()[20100:]), "damaged or cut short"),
        (lambda f: f.write_text("not an archive"), "something else"),
        (lambda f: f.write_bytes(pickle.dumps([1])), "something else"),
        (lambda f: f.write_bytes(b""), "damaged or cut short"),
        (lambda f: (np.save(f.with_suffix(".npy"), np.zeros(3)), f.with_suffix(".npy").rename(f)), "single array"),
        (lambda f: f.unlink(), "missing"),
    ],
)
def test_files_that_are_no_archives(coursework, damage, message):
    damage(coursework / "msd-10-genre-valid.npz")
    with pytest.raises(CorpusError, match=f"msd-10-genre-valid.npz: .*{message}"):
        load_msd(coursework)


def song(path, track, artist, n, fill=None, **change):
    rng = np.random.default_rng(n)
    path.parent.mkdir(parents=True, exist_ok=True)
    a = {
        "segments_timbre": rng.normal(size=(n, 12)),
        "segments_pitches": rng.random((n, 12)),
        "segments_loudness_start": rng.normal(size=n) - 20,
    }
    a |= change
    with h5py.File(path, "w") as f:
        f["analysis/songs"] = np.array([(track.encode(),)], dtype=[("track_id", "S32")])
        f["metadata/songs"] = np.array(
            [(artist.encode(), b"name")], dtype=[("artist_id", "S32"), ("artist_name", "S1024")]
        )
        for k, v in a.items():
            if v is not None:
                f[f"analysis/{k}"] = v
    return a


@pytest.fixture
def published(tmp_path):
    "Four songs as published, of which one is short and one has no style."
    ids = [f"TRAAAA{i}" for i in range(4)]
    made = [
        song(tmp_path / "A" / "B" / f"{t}.h5", t, f"AR{i // 2}", n)
        for i, (t, n) in enumerate(zip(ids, (150, 300, 119, 200), strict=True))
    ]
    (tmp_path / "cd2c.cls").write_text(
        "# a comment\n" + "".join(f"{t}\t{s}\n" for t, s in zip(ids[:3], ("Rock", "Blues", "Rock"), strict=True))
    )
    return tmp_path, made


def test_published_songs(published):
    root, made = published
    d = load_msd(root)
    assert d.classes == ("Blues", "Rock") and d.y.tolist() == [1, 0] and d.parts == {}
    assert d.track_id.tolist() == ["TRAAAA0", "TRAAAA1"] and d.artist.tolist() == ["AR0", "AR0"]
    assert d.left_out == {"fewer than 120 segments": 1, "no style": 1}
    np.testing.assert_allclose(d.x[0, :, :12], made[0]["segments_timbre"][15:135], rtol=1e-6)
    np.testing.assert_allclose(d.x[0, :, 12:24], made[0]["segments_pitches"][15:135], rtol=1e-6)
    np.testing.assert_allclose(d.x[0, :, 24], made[0]["segments_loudness_start"][15:135], rtol=1e-6)


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda r: song(r / "A/B/TRAAAA0.h5", "TRAAAA0", "a", 150, segments_timbre=np.zeros((150, 11))),
            r"segments_timbre: expected numbers \[150, 12\]",
        ),
        (
            lambda r: song(r / "A/B/TRAAAA0.h5", "TRAAAA0", "a", 150, segments_pitches=np.full((150, 12), np.nan)),
            "segments_pitches: expected finite",
        ),
        (
            lambda r: song(r / "A/B/TRAAAA0.h5", "TRAAAA0", "a", 150, segments_loudness_start=None),
            "segments_loudness_start: expected to be there",
        ),
        (
            lambda r: (r / "A/B/TRAAAA0.h5").write_bytes((r / "A/B/TRAAAA0.h5").read_bytes()[:5000]),
            "damaged or cut short",
        ),
    ],
)
def test_faults_of_a_published_song(published, damage, message):
    root, _ = published
    damage(root)
    with pytest.raises(CorpusError, match=f"TRAAAA0.h5: .*{message}"):
        load_msd(root)


def test_faults_of_styles_and_folders(published, tmp_path):
    root, _ = published
    (root / "cd2c.cls").write_text("TRAAAA0 Rock\n")
    with pytest.raises(CorpusError, match="cd2c.cls: line 1: expected an id, a tab and a style"):
        load_msd(root)
    (root / "masd.cls").write_text("TRX\tRock\n")
    with pytest.raises(CorpusError, match="expected one .cls file .* found 2"):
        load_msd(root)
    with pytest.raises(CorpusError, match="no song with 120 segments and a style"):
        load_msd(root, cls=root / "masd.cls")
    with pytest.raises(CorpusError, match="missing|not readable"):
        load_msd(root, cls=root / "none.cls")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="neither msd-25-genre-train.npz nor any .h5"):
        load_msd(tmp_path / "empty", n_classes=25)
    with pytest.raises(CorpusError, match="does not exist"):
        load_msd(tmp_path / "nowhere")
    with pytest.raises(ParamsError, match="10 or 25"):
        load_msd(root, n_classes=12)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(x=np.zeros((4, 120, 25))), "x: expected float32"),
        (dict(y=np.array([0, 1, 2, 0])), "codes from 0 to 1, found 0 to 2"),
        (dict(y=np.zeros(3, int)), r"y: expected int64 \[4\]"),
        (dict(artist=np.array(["a"])), "artist: expected 4 entries"),
        (dict(parts={"test": np.array([4])}), "part 'test': expected rows from 0 to 3"),
    ],
)
def test_songs_that_do_not_fit_together(change, message):
    good = dict(x=np.zeros((4, 120, 25), np.float32), y=np.array([0, 1, 1, 0]), classes=("a", "b"))
    SegmentData(**good)
    with pytest.raises(CorpusError, match=message):
        SegmentData(**good | change)


# Networks

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
        i, f, g, o = (x_t @ lstm.weight_ih.T + h @ lstm.weight_hh.T + lstm.bias).chunk(4, 1)
        c = torch.sigmoid(f + forget) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
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
    found = []
    for f in (lstm, lambda x: by_hand(lstm, x, forget)):
        out = f(x)
        found.append(
            (
                out,
                *torch.autograd.grad(
                    (out * torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)).sum(), [x, *lstm.parameters()]
                ),
            )
        )
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **close)


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
    assert net.dense.weight.abs().max() <= 2 * std and net.dense.weight.std().item() == pytest.approx(
        0.8796 * std, rel=0.02
    )
    edge = math.sqrt(3 / 225)
    w = torch.cat([net.lstm.weight_ih, net.lstm.weight_hh], 1)
    assert w.abs().max() <= edge and w.std().item() == pytest.approx(edge / math.sqrt(3), rel=0.01)
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
    W = net.shared_weight
    W = W if isinstance(W, tuple) else (W,)
    expected = [
        torch.cat([g.flatten() for g in torch.autograd.grad(t.loss(z, v), W, retain_graph=True)]).norm()
        for t, z, v in zip(tasks, net(x), (y, binary_target(y, C)), strict=True)
    ]
    m = MultiTask(net, tasks, GradNorm(2), lr=1e-3)
    fit(m, Items(x, (y, binary_target(y, C))), epochs=1, batch_size=B, root=tmp_path, device="cpu")
    np.testing.assert_allclose(m.history.norm, torch.stack(expected), rtol=1e-4)


# Penalties


def test_activation_stabilization_equals_its_sum():
    h = torch.randn(3, 7, 5, dtype=torch.float64)
    total = 0
    for b in range(3):
        for t in range(1, 7):
            total += (math.sqrt(sum(h[b, t] ** 2)) - math.sqrt(sum(h[b, t - 1] ** 2))) ** 2
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


# Ensembles


def train_alone(ensemble, x, y, steps, beta, decay=0.0):
    "Each network by itself with its own Adam, as the paper's code does."
    part = x.shape[1] // len(ensemble.nets)
    for m, net in enumerate(ensemble.nets):
        adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=decay)
        for _ in range(steps):
            loss = F.cross_entropy(net(x[:, m * part : (m + 1) * part]), y) + activation_stabilization(
                net.outputs, beta
            )
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
    "Parameters stacked and mapped over, each network a row: the arrangement that was slower and is therefore not the library's."
    ensemble = SnippetEnsemble(C, H, 4).double()
    params, _ = stack_module_state(list(ensemble.nets))
    x = songs().double()

    def one(p, x):
        lstm = type("", (), {k.split(".")[1]: v for k, v in p.items() if k.startswith("lstm.")})
        h = by_hand(lstm, x, 1.0)[:, -1]
        h = F.relu(
            functional_call(ensemble.nets[0].dense, {k[6:]: v for k, v in p.items() if k.startswith("dense.")}, h)
        )
        return functional_call(
            ensemble.nets[0].tops["genre"], {k[11:]: v for k, v in p.items() if k.startswith("tops.genre.")}, h
        )

    batched = vmap(one)(params, x.unflatten(1, (4, -1)).transpose(0, 1)).transpose(0, 1)
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
    assert torch.equal(product.argmax(-1), p.prod(1).argmax(-1)) and torch.equal(
        mean.argmax(-1), published_pool(p.log(), "m0").argmax(-1)
    )


def test_product_of_tiny_probabilities():
    p = torch.full((1, 4, 3), 1e-30)
    p[..., 1] = 2e-30
    p[..., 2] = 1.0
    p[:, 3] = torch.tensor([1.0, 1.0, 1e-30])
    log_p = combine(p.log(), "m1")
    assert (p.prod(1)[0, :2] == 0).all()  # the plain product has nothing left to tell the first two apart
    expected = torch.tensor([-90.0, 3 * math.log10(2) - 90, -30.0]) * math.log(10)
    torch.testing.assert_close(log_p[0], expected - expected.logsumexp(0))
    with pytest.raises(ParamsError, match="m0, m1, found 'm2'"):
        combine(p, "m2")
    with pytest.raises(ParamsError, match="m0, m1, found 'sum'"):
        published_pool(p, "sum")


@given(st.integers(2, 30), st.floats(0.1, 1e4), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_the_published_error_is_bounded_and_the_log_loss_is_not(c, sure, seed):
    g = torch.Generator().manual_seed(seed)
    logits, y = sure * torch.randn(7, 4, c, generator=g, dtype=torch.float64), torch.randint(c, (7,), generator=g)
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


# Learnt weights


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
    own, joint = torch.optim.Adam(ref.nets.parameters(), lr=1e-2), torch.optim.Adam(ref.parameters(), lr=1e-2)
    for _ in range(5):
        logits = torch.stack([net(part) for net, part in zip(ref.nets, items.x.chunk(2, 1), strict=True)], 1)
        loss = sum(F.cross_entropy(logits[:, i], items.targets[1]) for i in range(2)) + Stabilization(50)(ref)
        ref.zero_grad()
        loss.backward()
        own.step()
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

    whole, said = weighted(combination), keep()
    run(whole, "whole", said)
    with pytest.raises(InterruptedError):
        run(weighted(combination), "cut", keep(), Stop())
    again, said_again = weighted(combination, seed=0), keep()
    run(again, "cut", said_again)
    assert torch.equal(state(again.net), state(whole.net))
    assert again.history.equals(whole.history)
    np.testing.assert_array_equal(said_again.outputs, said.outputs)
    assert said.outputs.shape == (4, 12, 3, C)


def test_combination_begins_as_a_mean_and_weighs_every_class_alike():
    logits = torch.randn(B, 3, C)
    for variant, seen in (("text", logits.softmax(-1)), ("code", logits)):
        w = WeightedCombination(3, variant)
        torch.testing.assert_close(w(logits), seen.mean(1))
        with torch.no_grad():
            for p in w.parameters():
                p.normal_()
        torch.testing.assert_close(w(logits), torch.einsum("m,bmc->bc", w.theta, seen))
    with pytest.raises(ParamsError, match="variant"):
        WeightedCombination(3, "linear")
    with pytest.raises(ParamsError, match="decay"):
        WeightedTraining(WeightedEnsemble(C, H), weighted_tasks(C, 2), decay=True)


# Tasks and training


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

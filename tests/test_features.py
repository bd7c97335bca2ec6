"The feature bank against librosa, against itself, and against physics."

import itertools
import json
import pickle

import librosa
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.audio import load_audio
from musicmtl.core import ParamsError, generator
from musicmtl.pitch import PitchGrid, log_f0, pyin
from musicmtl.features import (
    FEATURES,
    FeatureBank,
    _valley_peak,
    chroma_filters,
    contrast_bands,
    estimate_tuning,
    mel_filters,
    onset_strength,
    prosody,
    root_mean_square,
    stft_window,
    tempogram,
    to_db,
    zero_crossing_rate,
)

BASIC = ("mel", "mfcc", "chroma", "spectral_contrast")
GROUP_FACTORS = (*BASIC, "chroma_transposed", "spectral_contrast_transposed")
TARGETS = ("lps", "mfcc", "chroma", "tempogram")
AGF = dict(sr=22050, n_fft=1024, hop=512, window="sqrt_hann", power=1, n_mels=128, n_mfcc=12)
TAGGING = dict(sr=16000, n_fft=2048, hop=512, window="hann", power=2, n_mels=128, n_mfcc=20)
PASE = dict(sr=16000, n_fft=2048, hop=160, window="hann", power=2, n_mels=128, n_mfcc=20)
FINE = dict(sr=16000, n_fft=2048, hop=160, window="hann", power=2, n_mels=40, n_mfcc=13)
SMALL = dict(sr=16000, n_fft=512, hop=256, window="hann", power=2, n_mels=96, n_mfcc=20)
# Of librosa's largest value, per recording and feature; results are float32, the transform float64.
TOLERANCE = 1e-4


def by_librosa(y, *, sr, n_fft, hop, window, power, n_mels, n_mfcc, features=BASIC):
    """What librosa 0.11 computes, every convention spelled out.

    The transform is of float64 samples, centred, with zeros outside the clip. Mel filters (Slaney scale and norm, 0 to
    sr/2) see magnitude or power; dB are relative to 1 with librosa's smallest amplitude, down to 80 dB below the clip's
    maximum; MFCC are an orthonormal DCT-II of that. Chroma is of power, with the tuning that librosa estimates, each
    frame's maximum one. Contrast is of magnitude. The transposed two get frames where bins are expected, at librosa's
    default rate, as published. The log-power spectrum becomes dB as mel does. The tempogram is of librosa's default
    onset strength, 128 mel bands of power, in windows of 384 frames.
    """
    offset_hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n_fft) + 0.5) / n_fft)
    weights = librosa.filters.get_window("hann", n_fft) if window == "hann" else np.sqrt(offset_hann)
    y, conventions = y.astype(np.float64), dict(center=True, pad_mode="constant")
    S = np.abs(librosa.stft(y, n_fft=n_fft, hop_length=hop, win_length=n_fft, window=weights, **conventions))
    mel = librosa.feature.melspectrogram(
        S=S**power, sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=0.0, fmax=sr / 2, htk=False, norm="slaney"
    )
    decibels = librosa.power_to_db if power == 2 else librosa.amplitude_to_db
    mel = decibels(mel, ref=1.0, amin=1e-10 if power == 2 else 1e-5, top_db=80.0)
    compute = {
        "mel": lambda: mel,
        "mfcc": lambda: librosa.feature.mfcc(S=mel, n_mfcc=n_mfcc, dct_type=2, norm="ortho"),
        "chroma": lambda: librosa.feature.chroma_stft(
            S=S**2, sr=sr, n_fft=n_fft, n_chroma=12, norm=np.inf, tuning=None
        ),
        "spectral_contrast": lambda: librosa.feature.spectral_contrast(
            S=S, sr=sr, n_fft=n_fft, fmin=200.0, n_bands=6, quantile=0.02
        ),
        "lps": lambda: librosa.power_to_db(S**2, ref=1.0, amin=1e-10, top_db=80.0),
        "tempogram": lambda: librosa.feature.tempogram(
            sr=sr,
            hop_length=hop,
            win_length=384,
            norm=np.inf,
            onset_envelope=librosa.onset.onset_strength(y=y, sr=sr, n_fft=n_fft, hop_length=hop, window=weights),
        ),
        "chroma_transposed": lambda: librosa.feature.chroma_stft(S=S.T**2, sr=22050, n_chroma=12),
        "spectral_contrast_transposed": lambda: librosa.feature.spectral_contrast(S=S.T, sr=22050),
    }
    return {name: compute[name]() for name in features}


def assert_parity(y, config, features=BASIC, tolerance=TOLERANCE):
    ours = FeatureBank(features=features, **config)(torch.from_numpy(y)[None])
    for name, theirs in by_librosa(y, features=features, **config).items():
        x = ours[name][0].numpy()
        assert x.shape == theirs.shape and x.dtype == np.float32
        error = np.abs(x - theirs).max() / np.abs(theirs).max()
        assert error <= tolerance, f"{name}: {error:.2e} of librosa's maximum"


def melody(seed, sr, seconds=3.0, cents=0.0):
    "Decaying harmonic notes with some noise: pitch, transients, quiet stretches."
    rng = generator(seed, "melody")
    t = np.arange(int(sr * 0.25)) / sr
    notes = []
    for _ in range(int(seconds * 4)):
        hz = 110 * 2 ** ((rng.integers(36) + cents / 100) / 12)
        note = sum(np.sin(2 * np.pi * hz * h * t) / h for h in range(1, 8) if hz * h < sr / 2)
        notes.append(note * np.exp(-t * rng.uniform(2, 30)) * rng.uniform(0.01, 0.4))
    y = np.concatenate(notes) + 10 ** rng.uniform(-5, -2) * rng.normal(size=len(t) * len(notes))
    return y.astype(np.float32)


# Parity


@pytest.mark.parametrize("config", (AGF, TAGGING, FINE, SMALL), ids=("agf", "tagging", "fine", "small"))
@pytest.mark.parametrize("seed", range(3))
def test_parity_on_melodies(config, seed):
    assert_parity(melody(seed, config["sr"], cents=(0, 30, -45)[seed]), config)


@pytest.mark.parametrize("config", (AGF, TAGGING), ids=("agf", "tagging"))
@pytest.mark.parametrize("signal", ("noise", "tone", "click", "steps", "faint", "half silent", "dc"))
def test_parity_on_extremes(config, signal):
    sr, rng = config["sr"], generator(0, signal)
    t = np.arange(2 * sr) / sr
    y = {
        "noise": lambda: rng.normal(size=len(t)) * 0.3,
        "tone": lambda: 0.5 * np.sin(2 * np.pi * 441.7 * t),
        "click": lambda: (t == t[sr]) * 1.0,
        "steps": lambda: np.sign(np.sin(2 * np.pi * 3 * t)) * 0.5,
        "faint": lambda: rng.normal(size=len(t)) * 1e-7,
        "half silent": lambda: rng.normal(size=len(t)) * (t > 1),
        "dc": lambda: np.ones(len(t)),
    }[signal]().astype(np.float32)
    # Where a window puts a transform's zeros, the value is a rounding error and its dB an accident of the transform:
    # chroma of a click or a constant, for example, is that of 1e-17. Only these cases are left out.
    features = BASIC if signal not in ("click", "dc", "steps") else ("mel", "mfcc")
    assert_parity(y, config, features)


@pytest.mark.parametrize("seconds", (2.0, 7.5, 30.0))
def test_parity_of_the_published_mistake(seconds):
    assert_parity(melody(5, 22050, seconds), AGF, ("chroma_transposed", "spectral_contrast_transposed"))


def test_published_mistake_has_the_published_shapes():
    y = torch.from_numpy(melody(0, 22050, 30.0))[None, : 1289 * 512]
    out = FeatureBank(features=("chroma_transposed", "spectral_contrast_transposed"), **AGF)(y)
    assert {name: tuple(x.shape[1:]) for name, x in out.items()} == {
        "chroma_transposed": (12, 513),
        "spectral_contrast_transposed": (7, 513),
    }


def cuts(data, sr):
    "Thirty seconds of a dozen recordings, one of nearly every artist."
    table = pd.read_csv(data / "albums" / "tracks.csv")
    table = table[table.duration_s >= 40].groupby("artist").head(1).head(12)
    assert len(table) == 12
    for path in table.path:
        yield load_audio(data / "albums" / path, sr, start_s=10, duration_s=30)


def test_parity_on_recordings_agf(data):
    for y in cuts(data, 22050):
        assert_parity(y, AGF, GROUP_FACTORS)


def test_parity_on_recordings_tagging(data):
    for y in cuts(data, 16000):
        assert_parity(y, TAGGING)


def test_parity_on_recordings_pase(data):
    "The targets of the self-supervised study, on its clips of three seconds, all of librosa's own defaults at hop 160."
    for y in cuts(data, 16000):
        y = y[:48000]
        assert_parity(y, PASE, TARGETS)
        ours = FeatureBank(features=("lps", "tempogram"), **PASE)(torch.from_numpy(y)[None])
        np.testing.assert_allclose(
            ours["tempogram"][0], librosa.feature.tempogram(y=y.astype(np.float64), sr=16000, hop_length=160), atol=1e-4
        )
        P = np.abs(librosa.stft(y.astype(np.float64), n_fft=2048, hop_length=160)) ** 2
        np.testing.assert_allclose(ours["lps"][0], librosa.power_to_db(P), atol=0.01)  # dB


@pytest.mark.parametrize("config", (AGF, PASE), ids=("agf", "pase"))
@pytest.mark.parametrize("seed", range(2))
def test_parity_of_the_targets(config, seed):
    assert_parity(melody(seed, config["sr"]), config, TARGETS)


@pytest.mark.parametrize("signal", ("noise", "half silent", "steps"))
def test_parity_of_the_targets_on_extremes(signal):
    rng = generator(0, signal)
    t = np.arange(32000) / 16000
    y = {
        "noise": lambda: rng.normal(size=len(t)) * 0.3,
        "half silent": lambda: rng.normal(size=len(t)) * (t > 1),
        "steps": lambda: np.sign(np.sin(2 * np.pi * 3 * t)) * 0.5,
    }[signal]().astype(np.float32)
    assert_parity(y, PASE, TARGETS if signal != "steps" else ("lps", "mfcc", "tempogram"))


def parity_of_prosody(y):
    ours = FeatureBank(features="prosody", **PASE)(torch.from_numpy(y)[None])["prosody"][0].numpy()
    y, frames = y.astype(np.float64), dict(frame_length=2048, hop_length=160)
    f0, _, probability = librosa.pyin(y, sr=16000, fmin=65.41, fmax=2093, **frames)
    frame, voiced = np.arange(len(f0)), ~np.isnan(f0)
    log = np.interp(frame, frame[voiced], np.log(f0[voiced])) if voiced.any() else np.full(len(f0), np.log(65.41))
    crossings, loudness = librosa.feature.zero_crossing_rate(y, **frames)[0], librosa.feature.rms(y=y, **frames)[0]
    for x, expected in zip(ours, (crossings, loudness, probability, log), strict=True):
        assert np.abs(x - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_parity_of_prosody_on_recordings(data):
    for y in itertools.islice(cuts(data, 16000), 4):
        parity_of_prosody(y[:20000])


@pytest.mark.parametrize("seed", range(2))
def test_parity_of_prosody(seed):
    parity_of_prosody(melody(seed, 16000, 1.0))


@pytest.mark.parametrize("n", (2048, 5001, 16000))
@pytest.mark.parametrize("hop,frame", ((160, 2048), (512, 2048), (100, 256)))
def test_means_over_frames_equal_librosas(n, hop, frame):
    y = generator(n, "means").normal(size=n)
    y[100:400] = 0
    y[500:600] = 1e-11 * y[500:600]  # counts as zero
    x, frames = torch.from_numpy(y)[None], dict(frame_length=frame, hop_length=hop)
    crossings = librosa.feature.zero_crossing_rate(y, **frames)[0]
    loudness = librosa.feature.rms(y=y, dtype=np.float64, **frames)[0]
    np.testing.assert_allclose(zero_crossing_rate(x, frame, hop)[0], crossings, atol=1e-12)
    np.testing.assert_allclose(root_mean_square(x, frame, hop)[0], loudness, atol=1e-12)


@pytest.mark.parametrize("n", (1, 5, 383, 384, 900))
def test_tempogram_equals_librosa(n):
    x = np.abs(generator(n, "onsets").normal(size=n))
    np.testing.assert_allclose(
        tempogram(torch.from_numpy(x)[None])[0].T, librosa.feature.tempogram(onset_envelope=x, sr=16000), atol=1e-12
    )


def test_onset_strength_equals_librosa():
    mel = generator(0, "mel").normal(size=(40, 128)) * 10
    for n_fft, hop in ((2048, 160), (1024, 512), (2048, 2048)):
        theirs = librosa.onset.onset_strength(S=mel.T, sr=16000, n_fft=n_fft, hop_length=hop)
        np.testing.assert_allclose(onset_strength(torch.from_numpy(mel)[None], n_fft, hop)[0], theirs, atol=1e-12)


def test_tuning_equals_librosa(data):
    bank = FeatureBank(features="chroma", **{name: AGF[name] for name in ("sr", "n_fft", "hop", "window")})
    values = []
    for y in cuts(data, 22050):
        P = bank.spectrum(torch.from_numpy(y)[None])
        values.append(librosa.estimate_tuning(S=P[0].T.numpy(), sr=22050))
        assert estimate_tuning(P, 22050).item() == values[-1]
    assert len(set(values)) > 3


def test_tuning_in_a_batch_equals_librosa():
    ys = [melody(seed, 22050, cents=cents) for seed, cents in enumerate((0, 20, -30, 45))]
    ys = np.stack([*ys, np.zeros_like(ys[0])])
    P = FeatureBank(22050, 4096, 1024, "chroma").spectrum(torch.from_numpy(ys))
    ours = estimate_tuning(P, 22050).tolist()
    with pytest.warns(UserWarning, match="empty frequency set"):
        theirs = [librosa.estimate_tuning(S=power.T.numpy(), sr=22050) for power in P]
    assert ours == theirs
    assert ours[1] == pytest.approx(0.2, abs=0.03) and ours[2] == pytest.approx(-0.3, abs=0.03)


@pytest.mark.parametrize("sr,n_fft", ((22050, 1024), (16000, 2048), (22050, 2578), (44100, 512)))
def test_chroma_filters_equal_librosa(sr, n_fft):
    tunings = np.array([-0.5, -0.01, 0, 0.13, 0.49])
    for ours, tuning in zip(chroma_filters(sr, n_fft, torch.from_numpy(tunings)), tunings, strict=True):
        theirs = librosa.filters.chroma(sr=sr, n_fft=n_fft, tuning=tuning, dtype=np.float64)
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_htk_mel_equals_torchaudio():
    import torchaudio

    y = torch.from_numpy(melody(0, 16000))[None]
    theirs = torchaudio.transforms.MelSpectrogram(
        16000, 512, hop_length=256, n_mels=96, pad_mode="constant", mel_scale="htk", norm=None
    )(y)
    ours = FeatureBank(16000, 512, 256, "mel", n_mels=96, mel="htk", power=2, compress="log10p")(y)["mel"]
    # torchaudio computes its triangles in float32.
    torch.testing.assert_close(ours, torch.log10(10000 * theirs + 1), atol=2e-3, rtol=0)


def test_log10p_equals_librosa():
    y = melody(1, 16000)
    S = librosa.feature.melspectrogram(y=y.astype(np.float64), sr=16000, n_fft=512, hop_length=256, n_mels=96)
    bank = FeatureBank(16000, 512, 256, ("mel", "mfcc"), n_mels=96, power=2, compress="log10p")
    ours = bank(torch.from_numpy(y)[None])
    np.testing.assert_allclose(ours["mel"][0], np.log10(10000 * S + 1), atol=1e-4)
    cepstrum = librosa.feature.mfcc(S=librosa.power_to_db(S), n_mfcc=20)  # of dB all the same
    np.testing.assert_allclose(ours["mfcc"][0], cepstrum, atol=1e-2)


@pytest.mark.parametrize("top_db", (None, 40.0))
def test_top_db(top_db):
    y = melody(2, 22050)
    S = np.abs(librosa.stft(y.astype(np.float64), n_fft=1024, hop_length=512))
    theirs = librosa.amplitude_to_db(librosa.feature.melspectrogram(S=S, sr=22050, n_mels=64), top_db=top_db)
    bank = FeatureBank(22050, 1024, 512, "mel", n_mels=64, top_db=top_db, dtype=torch.float64)
    np.testing.assert_allclose(bank(torch.from_numpy(y)[None])["mel"][0], theirs, atol=1e-5)


@pytest.mark.parametrize("k", (2, 3, 5, 11))
def test_extremes_by_sorting_equal_extremes_by_selection(k):
    "A GPU selects where a CPU sorts."
    x = torch.rand(2, 7, 60, dtype=torch.float64).round(decimals=1)  # with ties
    for ours, up in zip(_valley_peak(x, k), (False, True), strict=True):
        torch.testing.assert_close(ours, x.topk(k, -1, largest=up)[0].mean(-1))


# A clip by itself and in company


def test_batch_equals_clips_one_by_one():
    "Loud, quiet, silent, out of tune: top_db, tuning and all else belong to the clip."
    loud, silent = melody(0, 22050), melody(2, 22050) * 0
    quiet, flat = melody(1, 22050, cents=40) * 1e-3, melody(3, 22050, cents=-20)
    ys = torch.from_numpy(np.stack([loud, quiet, silent, flat]))
    bank = FeatureBank(features=FEATURES, **AGF)
    together, whole = bank(ys), bank._compute(ys)  # clip by clip inside, and the way that a GPU does it
    for i, y in enumerate(ys):
        alone = bank(y[None])
        for name in FEATURES:
            assert torch.equal(alone[name][0], together[name][i])
            if name != "prosody":
                torch.testing.assert_close(alone[name][0], whole[name][i], atol=1e-4, rtol=1e-5)
    assert together["mel"][0].min() > together["mel"][1].min()  # each clip has its own floor


def test_one_feature_is_the_same_as_among_all():
    y = torch.from_numpy(melody(0, 22050))[None]
    every = FeatureBank(features=FEATURES, **AGF)(y)
    for name in FEATURES:
        one = FeatureBank(features=name, **AGF)(y)
        assert list(one) == [name]
        # Without chroma or contrast the transform is in float32.
        torch.testing.assert_close(one[name], every[name], atol=2e-3, rtol=1e-4)


# Physics


@pytest.mark.parametrize("note", range(12))
def test_a_tone_lands_in_its_class_and_band(note):
    hz = 261.6256 * 2 ** (note / 12) * 2
    t = torch.arange(22050 * 2, dtype=torch.float64) / 22050
    bank = FeatureBank(22050, 4096, 1024, ("mel", "chroma"), n_mels=128)
    out = bank(torch.sin(2 * torch.pi * hz * t).float()[None] * 0.5)
    assert (out["chroma"][0, :, 4:-4].argmax(0) == note).all()
    band = out["mel"][0, :, 4:-4].argmax(0)
    centre = librosa.mel_frequencies(130, fmin=0, fmax=11025)[1:-1]
    assert (np.abs(centre[band] - hz) <= np.diff(centre)[band]).all()


def test_tempogram_peaks_at_the_beat():
    "120 bpm: onsets agree with themselves after half a second, 50 frames, and after a second."
    t = torch.arange(64000, dtype=torch.float64) / 16000
    click = (torch.sin(2 * torch.pi * 800 * t) * torch.exp(-60 * (t % 0.5)))[None].float()
    lags = FeatureBank(features="tempogram", **PASE)(click)["tempogram"][0, :, 50:-50]
    assert lags.amax() == 1 and (lags[0] == 1).all()
    for lag in (50, 100):
        assert (lags[lag - 20 : lag + 30].argmax(0) - 20).abs().max() <= 1
    assert (lags[75] < 0.2 * lags[50]).all()


def test_prosody_of_a_tone():
    t = torch.arange(16000, dtype=torch.float64) / 16000
    y = 0.5 * torch.sin(2 * torch.pi * 220 * t + 0.1)[None]
    crossings, loudness, voicing, pitch = FeatureBank(features="prosody", **PASE)(y.float())["prosody"][0, :, 8:-8]
    torch.testing.assert_close(crossings, torch.full_like(crossings, 440 / 16000), atol=1 / 2048, rtol=0)
    torch.testing.assert_close(loudness, torch.full_like(loudness, 0.5 / 2**0.5), atol=5e-3, rtol=0)
    assert (voicing > 0.9).all() and 1200 * (pitch - np.log(220)).abs().max() / np.log(2) <= 5


def test_prosody_is_pyins():
    y = torch.from_numpy(melody(0, 16000, 1.0))[None]
    f0, _, probability = pyin(y)
    rows = prosody(y, PitchGrid())[0]
    assert torch.equal(rows[2], probability[0]) and torch.equal(rows[3], log_f0(f0)[0])


def test_targets_of_silence():
    out = FeatureBank(features=(*TARGETS, "prosody"), **PASE)(torch.zeros(2, 16000))
    assert all(torch.isfinite(x).all() for x in out.values())
    assert (out["lps"] == -100).all() and not out["tempogram"].any() and not out["prosody"][:, :3].any()
    torch.testing.assert_close(out["prosody"][:, 3], torch.full((2, 101), float(np.log(65.41))))


@pytest.mark.parametrize("n,frames", ((48000, 300), (47999, 299), (2048, 12)))
def test_crop_to_whole_hops(n, frames):
    bank = FeatureBank(features=(*TARGETS, "prosody"), **PASE)
    y = torch.from_numpy(melody(0, 16000))[None, :n]
    out = bank(y)
    cut = bank.crop(out, n)
    assert {name: tuple(x.shape) for name, x in cut.items()} == {
        "lps": (1, 1025, frames),
        "mfcc": (1, 20, frames),
        "chroma": (1, 12, frames),
        "tempogram": (1, 384, frames),
        "prosody": (1, 4, frames),
    }
    assert all(torch.equal(x, out[name][..., :frames]) for name, x in cut.items())
    message = f"lps: expected {frames + 2} frames, those of {n + 160} samples, found {frames + 1}"
    with pytest.raises(ParamsError, match=message):
        bank.crop(out, n + 160)


def test_silence_is_finite():
    out = FeatureBank(features=FEATURES, **AGF)(torch.zeros(1, 3 * 22050))
    assert all(torch.isfinite(x).all() for x in out.values())
    assert (out["mel"] == -100).all() and not out["chroma"].any() and not out["spectral_contrast"].any()
    torch.testing.assert_close(out["mfcc"][0, 0], torch.full((130,), -100 * 128**0.5))


def test_a_shift_by_hops_is_a_shift():
    y = torch.from_numpy(melody(0, 22050, 2.0))
    pad = torch.zeros(5 * 512)
    bank = FeatureBank(features=BASIC, **AGF)
    early, late = bank(torch.cat([y, pad, pad])[None]), bank(torch.cat([pad, y, pad])[None])
    for name in BASIC:
        torch.testing.assert_close(early[name][..., :-8], late[name][..., 5:-3], atol=1e-4, rtol=1e-5)


def test_gain_shifts_decibels_and_leaves_chroma_and_contrast():
    y = torch.from_numpy(melody(4, 22050))[None]
    bank = FeatureBank(features=BASIC, **AGF)
    loud, quiet = bank(y), bank(y * 0.1)
    assert loud["mel"].min() > -75  # or the smallest amplitude would stand in the way
    torch.testing.assert_close(quiet["mel"], loud["mel"] - 20, atol=1e-3, rtol=0)
    torch.testing.assert_close(quiet["chroma"], loud["chroma"], atol=1e-4, rtol=0)
    torch.testing.assert_close(quiet["mfcc"][:, 1:], loud["mfcc"][:, 1:], atol=1e-2, rtol=0)


def test_windows():
    window = stft_window("sqrt_hann", 1024)
    torch.testing.assert_close(window[:512] ** 2 + window[512:] ** 2, torch.ones(512, dtype=torch.float64))
    torch.testing.assert_close(window, window.flip(0))
    np.testing.assert_allclose(stft_window("hann", 1024), librosa.filters.get_window("hann", 1024), atol=1e-15)


def test_contrast_bands_cover_all_bins():
    bands = contrast_bands(22050, 513)
    assert bands[0][0] == 0 and bands[-1][1] == 513
    assert all(lower[1] == upper[0] for lower, upper in itertools.pairwise(bands))


def test_to_db_floor_is_per_clip():
    x = torch.tensor([[1.0, 1e-9], [1e-6, 1e-9]])
    torch.testing.assert_close(to_db(x, 2, 80.0), torch.tensor([[0.0, -80.0], [-60.0, -90.0]]))


# Shapes, identity, errors


@pytest.mark.parametrize("n", (1024, 1535, 1536, 22050, 22051, 661500))
def test_n_frames(n):
    bank = FeatureBank(features="mel", **AGF)
    assert bank(torch.rand(1, n))["mel"].shape == (1, 128, bank.n_frames(n))
    assert bank.n_frames(n) == librosa.stft(np.zeros(n, np.float32), n_fft=1024, hop_length=512).shape[1]


def test_config_makes_the_same_bank():
    bank = FeatureBank(features=BASIC, **AGF)
    again = FeatureBank(**json.loads(json.dumps(bank.config)))
    assert again.config == bank.config and repr(again) == repr(bank)
    assert all(f"{name}={x!r}" in repr(bank) for name, x in bank.config.items())
    y = torch.from_numpy(melody(0, 22050))[None]
    carried = pickle.loads(pickle.dumps(bank))  # to a worker process
    for other in (again, carried):
        assert all(torch.equal(other(y)[name], x) for name, x in bank(y).items())
    assert not bank.state_dict()  # nothing to store: a checkpoint holds no filters


def test_dtype():
    y = torch.from_numpy(melody(0, 22050))[None]
    for dtype in (torch.float32, "float64"):
        out = FeatureBank(22050, 1024, 512, FEATURES, dtype=dtype)(y)
        assert all(x.dtype == (torch.float32 if dtype is torch.float32 else torch.float64) for x in out.values())


def test_features_come_in_the_order_asked_for_and_contiguous():
    names = ("spectral_contrast", "mel", "chroma")
    out = FeatureBank(22050, 1024, 512, names)(torch.rand(2, 22050))
    assert tuple(out) == names and all(x.is_contiguous() and x.shape[0] == 2 for x in out.values())


@pytest.mark.parametrize(
    "change,message",
    (
        (dict(features=("mel", "onsets")), r"features: expected some of mel, mfcc, chroma.*found \['onsets'\]"),
        (dict(features=()), "features: expected at least one"),
        (dict(features=("mel", "mel")), "each once"),
        (dict(n_fft=1023), "n_fft: expected an even number of samples, found 1023"),
        (dict(n_fft=0), "n_fft"),
        (dict(n_fft=512.0), "n_fft"),
        (dict(hop=0), "hop"),
        (dict(hop=2048), "hop"),
        (dict(sr=0), "sr"),
        (dict(sr="22050"), "sr"),
        (dict(window="hamming"), "window.*sqrt_hann"),
        (dict(mel="bark"), "mel.*slaney"),
        (dict(power=3), "power"),
        (dict(compress="log"), "compress.*log10p"),
        (dict(n_mels=0), "n_mels"),
        (dict(n_mfcc=129), "n_mfcc: expected 1 to n_mels=128, found 129"),
        (dict(top_db=-1), "top_db"),
        (dict(dtype=torch.int32), "dtype"),
        (dict(dtype="float61"), "dtype"),
        (
            dict(features="prosody", n_fft=256, hop=128),
            "fmin: expected more than 86.47 Hz, a period in a frame of 256 samples, found 65.41",
        ),
        (dict(features="prosody", sr=4000), "fmax: expected more than fmin=65.41 and at most sr/2=2000 Hz, found 2093"),
        (dict(sr=8000), "no bin between 6400 and 12800 Hz"),
        (dict(n_fft=64, hop=32), "spectral contrast: a single bin between 0 and 200"),
    ),
)
def test_impossible_banks(change, message):
    with pytest.raises(ParamsError, match=message):
        FeatureBank(**{**AGF, "features": BASIC, **change})


@pytest.mark.parametrize("number", [int, float, np.int64, np.float32, np.float64])
def test_a_rate_is_a_whole_number_of_any_type(number):
    bank = FeatureBank(**{**AGF, "sr": number(22050), "features": BASIC, "n_mels": np.int32(64), "power": np.int64(2)})
    same = FeatureBank(**{**AGF, "features": BASIC, "n_mels": 64, "power": 2})
    assert bank.config == same.config and json.dumps(bank.config) == json.dumps(same.config)
    assert isinstance(bank.sr, int)


@pytest.mark.parametrize(
    "change",
    [
        *(dict(sr=value) for value in (22050.5, float("nan"), float("inf"), True, None, "22050", -1, [22050])),
        *(dict(n_fft=value) for value in (1024.0, "1024", True, None, float("nan"))),
        *(dict(hop=value) for value in (512.0, "512", True, None)),
        *(dict(n_mels=value) for value in (64.0, False, None)),
        *(dict(n_mfcc=value) for value in (12.0, "12")),
        *(dict(power=value) for value in (True, "1", None, 1.5)),
        *(dict(top_db=value) for value in (True, "80", float("nan"), float("inf"), 0)),
    ],
)
def test_what_is_no_number_is_refused_when_the_bank_is_made(change):
    with pytest.raises(ParamsError, match=next(iter(change))):
        FeatureBank(**{**AGF, "features": BASIC, **change})


STREAMED = ("mel", "mfcc", "chroma", "spectral_contrast", "lps", "tempogram")


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_clip_in_parts_gives_what_the_whole_gives(data):
    names = data.draw(st.lists(st.sampled_from(STREAMED), min_size=1, unique=True))
    options = {"power": data.draw(st.sampled_from((1, 2))), "top_db": data.draw(st.sampled_from((None, 40.0, 80.0)))}
    options["compress"] = data.draw(st.sampled_from(("db", "log10p")))
    hop = data.draw(st.sampled_from((256, 400, 1024)))
    bank = FeatureBank(22050, 1024, hop, names, n_mels=40, n_mfcc=8, **options)
    n = data.draw(st.integers(1024, 40_000))
    generator = torch.Generator().manual_seed(n)
    wave = 0.1 * torch.randn(1, n, generator=generator) * torch.linspace(0.01, 1, n)
    sizes = data.draw(st.lists(st.integers(1, 20_000), min_size=1, max_size=5))
    bounds = [0, *(bound for bound in np.cumsum(sizes).tolist() if bound < n), n]
    blocks = [wave[:, low:high] for low, high in itertools.pairwise(bounds)]
    parts = list(bank.stream(lambda: iter(blocks)))
    for name, x in bank(wave).items():
        joined = torch.cat([part[name] for part in parts if name in part], 2)
        torch.testing.assert_close(joined, x, rtol=1e-4, atol=1e-3)


def test_silence_in_parts_and_features_that_need_the_whole():
    bank = FeatureBank(22050, 1024, 512, STREAMED)
    silence = torch.zeros(1, 30_000)
    parts = list(bank.stream(lambda: iter(silence.split(7000, 1))))
    for name, x in bank(silence).items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts if name in part], 2), x, rtol=0, atol=1e-3)
    for name in ("prosody", "chroma_transposed"):
        whole = FeatureBank(22050, 2048, 512, ["mel", name])
        assert not whole.streams
        with pytest.raises(ParamsError, match="the whole clip at once"):
            next(whole.stream(lambda: iter(silence.split(7000, 1))))


def test_impossible_waves():
    bank = FeatureBank(features=BASIC, **AGF)
    integers = torch.zeros(1, 22050, dtype=torch.int16)
    for wave in (torch.rand(22050), torch.rand(1, 2, 22050), torch.rand(0, 22050), np.zeros((1, 22050)), integers):
        with pytest.raises(ParamsError, match=r"expected a floating-point tensor \[B, T\]"):
            bank(wave)
    with pytest.raises(ParamsError, match="at least n_fft=1024 samples, found 1023"):
        bank(torch.rand(1, 1023))
    wave = torch.rand(3, 22050)
    wave[1, 7], wave[2, 9] = float("nan"), float("-inf")
    with pytest.raises(ParamsError, match="NaN or infinity in clip 1, 2"):
        bank(wave)


def test_too_few_frames_to_be_taken_for_bins():
    bank = FeatureBank(features="spectral_contrast_transposed", **AGF)
    n = next(n for n in range(3, 200) if _bands_or_none(n))
    assert bank(torch.rand(1, (n - 1) * 512 + 1024))["spectral_contrast_transposed"].shape == (1, 7, 513)
    with pytest.raises(ParamsError, match="20 frames are too few"):
        bank(torch.rand(1, 19 * 512))


def _bands_or_none(n):
    try:
        return contrast_bands(22050, n)
    except ParamsError:
        return None


def test_mel_filters_know_two_kinds():
    np.testing.assert_array_equal(mel_filters(22050, 1024, 128), librosa.filters.mel(sr=22050, n_fft=1024))
    assert mel_filters(16000, 512, 40, "htk").max() <= 1
    with pytest.raises(ParamsError, match="slaney"):
        mel_filters(22050, 1024, 128, "bark")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_cpu():
    y = torch.from_numpy(np.stack([melody(0, 22050), melody(1, 22050, cents=40) * 1e-2]))
    bank = FeatureBank(features=FEATURES, **AGF)
    here, there = bank(y), bank.to("cuda")(y.cuda())
    for name in FEATURES:
        torch.testing.assert_close(there[name].cpu(), here[name], atol=1e-3, rtol=1e-4)

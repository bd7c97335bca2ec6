"The pitch tracker against librosa, against itself, and against physics."

import math

import librosa
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from librosa.core import pitch as librosas

from musicmtl import pitch
from musicmtl.audio import load_audio
from musicmtl.core import ParamsError, generator
from musicmtl.pitch import (
    PitchGrid,
    centred_frames,
    find_troughs,
    log_f0,
    parabolic_shift,
    pyin,
    threshold_prior,
    trough_probabilities,
    yin_difference,
)

SR = 16000
GRID = PitchGrid()


def by_librosa(y, grid=GRID):
    """librosa 0.11 on float64 samples.

    In float32 its difference function is rounding noise at the bottom of a clean trough.
    """
    return librosa.pyin(
        y.astype(np.float64),
        sr=grid.sr,
        fmin=grid.fmin,
        fmax=grid.fmax,
        frame_length=grid.frame,
        hop_length=grid.hop,
        center=True,
        pad_mode="constant",
    )


def tone(hz, seconds=1.0, overtones=5, sr=SR):
    "[1, T], a pitch with overtones that fall off as 1/h."
    t = torch.arange(int(seconds * sr), dtype=torch.float64) / sr
    return sum(torch.sin(2 * torch.pi * hz * h * t) / h for h in range(1, overtones + 1) if hz * h < sr / 2)[None] / 4


def phrase(seed, seconds=1.0):
    "Sung-like: glides and steps with rests and breath, float32 [T]."
    rng = generator(seed, "phrase")
    n, t = int(seconds * SR), np.arange(int(seconds * SR)) / SR
    note = -(-n // 5)  # samples
    semitones = np.repeat(rng.integers(0, 30, 5), note)[:n] + 0.3 * np.sin(2 * np.pi * 5 * t)
    phase = 2 * np.pi * np.cumsum(100 * 2 ** (semitones / 12)) / SR
    y = sum(np.sin(h * phase) / h for h in range(1, 6)) * np.repeat(rng.random(5) > 0.3, note)[:n]
    return (0.2 * y + 10 ** rng.uniform(-4, -2) * rng.normal(size=n)).astype(np.float32)


# Parity


@pytest.mark.long
def test_parity_on_recordings(data):
    "A second and a half of eight recordings: voicing agrees on 99.5 % of the frames, pitch to five cents."
    table = pd.read_csv(data / "albums" / "tracks.csv")
    table = table[table.duration_s >= 40].groupby("artist").head(1).head(8)
    ys = np.stack([load_audio(data / "albums" / path, SR, start_s=10, duration_s=1.5) for path in table.path])
    assert len(ys) == 8
    ours = [x.numpy() for x in pyin(torch.from_numpy(ys))]
    theirs = [np.stack(x) for x in zip(*map(by_librosa, ys), strict=True)]
    both = ours[1] & theirs[1]
    assert 0.2 < both.mean() < 0.95  # or there would be nothing to compare
    assert (ours[1] == theirs[1]).mean() >= 0.995
    assert 1200 * np.abs(np.log2(ours[0][both] / theirs[0][both])).max() <= 5
    np.testing.assert_allclose(ours[2], theirs[2], atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_parity_on_phrases(seed):
    y = phrase(seed)
    for ours, theirs in zip(pyin(torch.from_numpy(y)[None]), by_librosa(y), strict=True):
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "grid",
    (
        PitchGrid(22050, 512, 2048),
        PitchGrid(16000, 160, 1024, fmin=100.0, fmax=800.0),
        PitchGrid(8000, 100, 600, fmin=50.0, fmax=4000.0),
        PitchGrid(16000, 40, 512, fmin=200.0, fmax=1000.0),
    ),
    ids=lambda grid: f"{grid.sr}-{grid.hop}-{grid.frame}",
)
def test_parity_on_other_grids(grid):
    y = phrase(7, 0.5)
    for ours, theirs in zip(pyin(torch.from_numpy(y)[None], grid), by_librosa(y, grid), strict=True):
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6))
def test_difference_and_troughs_equal_librosas(seed):
    y = generator(seed, "frames").normal(size=(3, 600)).cumsum(1)
    d = yin_difference(torch.from_numpy(y), (5, 200))
    theirs = librosas._cumulative_mean_normalized_difference(y.T.copy(), 5, 200)
    np.testing.assert_allclose(d.T, theirs, atol=1e-9)
    np.testing.assert_allclose(parabolic_shift(d).T, librosas._parabolic_interpolation(d.numpy().T), atol=1e-9)
    trough = librosa.util.localmin(d.numpy(), axis=-1)
    trough[:, 0] = (d[:, 0] < d[:, 1]).numpy()
    np.testing.assert_array_equal(find_troughs(d), trough)


def test_prior_is_the_beta_distribution():
    from scipy.stats import beta

    np.testing.assert_allclose(threshold_prior(), np.diff(beta.cdf(np.linspace(0, 1, 101), 2, 18)), atol=1e-14)


def trough_probabilities_one_by_one(d):
    "What the vectorised form must give, written out: every threshold shares its prior among the troughs below it."
    prior, thresholds = threshold_prior().tolist(), np.linspace(0, 1, 101)[1:].tolist()
    out = torch.zeros_like(d)
    for frame, row, is_trough in zip(out, d.tolist(), find_troughs(d), strict=True):
        where = is_trough.nonzero().flatten().tolist()
        for probability, threshold in zip(prior, thresholds, strict=True):
            below = [i for i in where if row[i] < threshold]
            shares = [math.exp(-2 * k) for k in range(len(below))]
            for i, share in zip(below, shares, strict=True):
                frame[i] += probability * share / sum(shares)
            if not below and where:
                frame[min(where, key=row.__getitem__)] += 0.01 * probability
    return out


@pytest.mark.parametrize("shape,scale", (((12, 40), 1.0), ((12, 40), 0.2), ((3, 9), 5.0)))
def test_trough_probabilities(shape, scale):
    d = torch.from_numpy(generator(0, str(shape), str(scale)).random(shape)) * scale
    probabilities = trough_probabilities(d)
    torch.testing.assert_close(probabilities, trough_probabilities_one_by_one(d), atol=1e-12, rtol=0)
    assert (probabilities.sum(1) <= 1 + 1e-12).all()


def test_no_trough_no_probability():
    assert not trough_probabilities(torch.ones(2, 30, dtype=torch.float64)).any()


@pytest.mark.parametrize("seed", range(4))
def test_path_equals_librosas_dense_viterbi(seed):
    "Few candidates, impossible frames (all of the mass on far-off voiced states) and jumps out of the band among them."
    rng, S, F = generator(seed, "path"), 70, 60
    grid = PitchGrid(fmin=200.0, fmax=200 * 2 ** ((S - 0.5) / 120))
    observed = np.where(rng.random((F, S)) < 0.03, rng.random((F, S)), 0.0)
    observed /= np.maximum(observed.sum(1), 1)[:, None]
    observed[20:23] = 0.0
    observed[20, 3] = observed[21, 68] = observed[22, 5] = 1.0
    unvoiced = np.clip(1 - observed.sum(1), 0, 1) / S
    logs = pitch._log(torch.from_numpy(observed))[..., None], pitch._log(torch.from_numpy(unvoiced))[:, None]
    tables = pitch._transitions(grid, "cpu")
    values = pitch._forward(*logs, *tables)
    ours = pitch._backward(values, *tables)[:, 0].numpy()
    ours_log = (values[-1, :, 20 : 20 + S, 0] + tables[1]).max() + math.log(0.5 / S)

    dense = np.kron([[0.99, 0.01], [0.01, 0.99]], librosa.sequence.transition_local(S, 41, window="triangle"))
    probability = np.concatenate([observed, np.repeat(unvoiced[:, None], S, 1)], 1).T
    initial, tiny = np.full(2 * S, 0.5 / S), np.finfo(float).tiny
    theirs, theirs_log = librosa.sequence.viterbi(probability, dense, p_init=initial, return_logp=True)

    def score(path):
        steps = np.log(dense[path[:-1], path[1:]] + tiny)
        return np.log(probability[path, range(F)] + tiny).sum() + steps.sum()

    np.testing.assert_allclose(ours_log, theirs_log.item(), rtol=1e-12)
    np.testing.assert_allclose(score(ours), score(theirs), rtol=1e-12)  # where paths tie, either will do
    assert (ours == theirs).mean() > 0.9


# Physics


@pytest.mark.parametrize("hz", (110, 220, 440, 880))
@pytest.mark.parametrize("overtones", (1, 5))
def test_a_tone_has_its_pitch(hz, overtones):
    f0, voiced, probability = pyin(tone(hz, overtones=overtones))
    inside = slice(7, -7)
    assert voiced[0, inside].all() and (probability[0, inside] > 0.8).all()
    assert 1200 * torch.log2(f0[0, inside] / hz).abs().max() <= 5


@pytest.mark.parametrize("octaves_a_second", (-1.0, 0.5, 1.0))
def test_a_glide_is_followed(octaves_a_second):
    t = torch.arange(SR, dtype=torch.float64) / SR
    cycles = 330 / (octaves_a_second * math.log(2)) * (2 ** (octaves_a_second * t) - 1)
    f0, voiced, _ = pyin(sum(torch.sin(2 * torch.pi * h * cycles) / h for h in range(1, 6))[None] / 4)
    truth = 330 * 2 ** (octaves_a_second * torch.arange(101) * 0.01)
    assert voiced[0, 8:-8].all()
    assert 1200 * torch.log2(f0[0] / truth)[8:-8].abs().max() <= 10  # a bin


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_hardly_voiced(seed):
    noise = torch.from_numpy(generator(seed, "noise").normal(size=(1, SR))) * 0.1
    assert pyin(noise)[2].max() <= 0.05


def test_loudness_does_not_matter():
    y = torch.from_numpy(phrase(0))[None].double()
    for loud, quiet in zip(pyin(y), pyin(y * 2**-10), strict=True):
        torch.testing.assert_close(loud, quiet, equal_nan=True)


def test_a_shift_by_hops_is_a_shift():
    y = torch.from_numpy(phrase(1))
    gap = torch.zeros(10 * 160)
    early, late = pyin(torch.cat([y, gap])[None])[2], pyin(torch.cat([gap, y])[None])[2]
    torch.testing.assert_close(early[:, :-10], late[:, 10:], atol=1e-9, rtol=0)


def test_silence():
    f0, voiced, probability = pyin(torch.zeros(2, SR))
    assert f0.isnan().all() and not voiced.any() and not probability.any()
    torch.testing.assert_close(log_f0(f0), torch.full((2, 101), math.log(65.41), dtype=torch.float64))


# A clip by itself and in company


def test_batch_equals_clips_one_by_one():
    ys = torch.from_numpy(np.stack([*map(phrase, range(3)), np.zeros(SR, np.float32)]))
    together = pyin(ys)
    for i in range(4):
        for alone, batch in zip(pyin(ys[i : i + 1]), together, strict=True):
            np.testing.assert_array_equal(alone[0], batch[i])
    frames = centred_frames(ys.double(), GRID.frame, GRID.hop).flatten(0, 1)  # of all clips in one, as a GPU takes them
    voiced = pitch.pitch_observations(yin_difference(frames, GRID.periods), GRID)[1].view(4, -1)
    torch.testing.assert_close(voiced, together[2], atol=1e-9, rtol=0)


def test_more_clips_than_there_is_room_for():
    "One frame more than the room of a CPU, in clips of a few frames."
    y = tone(220, 0.16)
    f0, voiced, _ = pyin(y.repeat(2**12 // 17 + 2, 1))
    assert len(f0) == 2**12 // 17 + 2
    np.testing.assert_array_equal(f0, f0[:1].expand_as(f0))
    assert voiced.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_cpu():
    ys = torch.from_numpy(np.stack([*map(phrase, range(3)), np.zeros(SR, np.float32)]))
    here, there = pyin(ys), [x.cpu() for x in pyin(ys.cuda())]
    assert (here[1] == there[1]).double().mean() >= 0.995
    both = here[1] & there[1]
    assert 1200 * torch.log2(here[0][both] / there[0][both]).abs().max() <= 5
    torch.testing.assert_close(here[2], there[2], atol=1e-6, rtol=0)


# Interpolation


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.sampled_from([None, 100.0, 200.0, 440.0]), min_size=7, max_size=7), min_size=1, max_size=4))
def test_interpolation_equals_numpys(rows):
    f0 = np.array(rows, dtype=float)  # None becomes NaN
    frame = np.arange(7)
    for ours, row in zip(log_f0(torch.from_numpy(f0)).numpy(), f0, strict=True):
        known = ~np.isnan(row)
        theirs = np.full(7, math.log(65.41))
        if known.any():
            theirs = np.interp(frame, frame[known], np.log(row[known]))
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


# Shapes, errors


@pytest.mark.parametrize("n", (2048, 2079, 2080, 3200, 5001))
def test_n_frames(n):
    y = torch.from_numpy(phrase(0)[:n])[None]
    assert all(x.shape == (1, 1 + n // 160) for x in pyin(y))
    assert centred_frames(y, 2048, 160).shape == (1, 1 + n // 160, 2048)


@pytest.mark.parametrize(
    "change,message",
    (
        (dict(fmin=5.0), "fmin: expected more than 7.82 Hz, a period in a frame of 2048 samples, found 5"),
        (dict(frame=200), "fmin: expected more than 80.40 Hz"),
        (dict(fmax=60.0), "fmax: expected more than fmin=65.41 and at most sr/2=8000 Hz, found 60"),
        (dict(fmax=8001.0), "fmax.*found 8001"),
        (dict(sr=4000), "at most sr/2=2000 Hz, found 2093"),
    ),
)
def test_impossible_grids(change, message):
    with pytest.raises(ParamsError, match=message):
        PitchGrid(**change)


def test_impossible_waves():
    for wave in (
        torch.rand(SR),
        torch.rand(1, 2, SR),
        torch.rand(0, SR),
        np.zeros((1, SR)),
        torch.zeros(1, SR, dtype=torch.int16),
    ):
        with pytest.raises(ParamsError, match=r"expected a floating-point tensor \[B, T\]"):
            pyin(wave)
    with pytest.raises(ParamsError, match="at least frame=2048 samples, found 2047"):
        pyin(torch.rand(1, 2047))
    wave = torch.rand(3, 4000)
    wave[1, 7], wave[2, 9] = float("nan"), float("inf")
    with pytest.raises(ParamsError, match="NaN or infinity in clip 1, 2"):
        pyin(wave)

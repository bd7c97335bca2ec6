"""What tests of Miniature hear in audio: tempo, and statistics of bands for linear models."""

import numpy as np

from musicmtl.miniature import SR, render_track


def tempo_near(x, bpm):
    "Tempo within 15 % of `bpm` whose beats, eighths and sixteenths together are strongest in the spectral flux."
    frames = np.lib.stride_tricks.sliding_window_view(x, 1024)[::256] * np.hanning(1024).astype(np.float32)
    flux = np.maximum(np.diff(np.log1p(100 * np.abs(np.fft.rfft(frames))), axis=0), 0).sum(1)
    tempi, time = bpm * np.linspace(0.85, 1.15, 121), np.arange(len(flux)) * 256 / SR

    def power(multiple):
        return np.abs(np.exp(-2j * np.pi * multiple * np.outer(tempi / 60, time)) @ (flux - flux.mean()))

    return tempi[(power(1) + power(2) + power(4)).argmax()]


def statistics(world, tracks=None, *, lowest_hz=100, n_fft=1024):
    "Mean, deviation and movement of 40 bands of each track (or of those asked for), [N, 120]."
    edges = np.geomspace(lowest_hz, SR / 2, 41)
    bins = np.digitize(np.fft.rfftfreq(n_fft, 1 / SR), edges)
    sums = np.array([(bins == k) / max(1, (bins == k).sum()) for k in range(1, 41)]).T
    window, rows = np.hanning(n_fft).astype(np.float32), []
    for i in range(len(world.tracks)) if tracks is None else tracks:
        frames = np.lib.stride_tricks.sliding_window_view(render_track(world, i), n_fft)[:: n_fft // 2] * window
        bands = np.log10(np.abs(np.fft.rfft(frames)) ** 2 @ sums + 1e-6)
        rows.append(np.r_[bands.mean(0), bands.std(0), np.diff(bands, axis=0).std(0)])
    return np.array(rows)


def linear_model(C, max_iter=500):
    "Logistic regression on standardised statistics."
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=max_iter))


def assert_sounds(x, seconds, low_db, high_db):
    "A waveform of this length that is never silent for a second, at a level between the two (dB re full scale)."
    assert x.shape == (seconds * SR,) and x.dtype == np.float32 and np.isfinite(x).all() and np.abs(x).max() <= 1
    by_second = np.sqrt((x.reshape(seconds, SR) ** 2).mean(1))
    assert 20 * np.log10(by_second.min()) > -60
    assert low_db < 20 * np.log10(np.sqrt((x**2).mean())) < high_db


def assert_samples(x, expected):
    """Frozen samples, ten from x.

    Not a hash of all: processors differ in the last bit of an exponential, nothing that is heard does."""
    np.testing.assert_allclose(x[5000 :: len(x) // 10][:10], expected, atol=1e-4)

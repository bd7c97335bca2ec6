"Decoding: every format, every fault, and what resampling and cutting must keep."

import pickle
import struct
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from musicmtl.audio import SilenceWarning, load_audio, snippets, stream_audio, windows
from musicmtl.core import AudioError, ParamsError

SR = 48000  # a rate that every codec here knows, Opus among them
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "au": ("AU", "PCM_16"),
}
LOSSLESS = ("wav", "flac", "au")


def music(seconds=2.0, sr=SR):
    "Two notes and a little noise, louder on the left."
    t = np.arange(int(seconds * sr)) / sr
    x = (
        0.4 * np.sin(2 * np.pi * 440 * t)
        + 0.2 * np.sin(2 * np.pi * 1320 * t)
        + 0.01 * np.random.default_rng(0).normal(size=len(t))
    )
    return np.stack([x, 0.5 * x], 1).astype(np.float32)


def write(folder, ext, x, sr=SR, name="sound"):
    container, codec = FORMATS[ext]
    sf.write(path := folder / f"{name}.{ext}", x, sr, format=container, subtype=codec)
    return path


def reason(path, sr=22050, **kwargs):
    "The reason of the AudioError that reading gives; the message must name the file as well."
    with pytest.raises(AudioError) as caught:
        load_audio(path, sr, **kwargs)
    assert caught.value.path == str(path) and str(path) in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("ext", FORMATS)
def test_round_trip_is_the_mono_mix(tmp_path, ext):
    x = music()
    y = load_audio(write(tmp_path, ext, x), SR)
    assert y.dtype == np.float32 and y.shape == (len(x),) and y.flags.c_contiguous
    error = np.abs(y - x.mean(1))[4000:-4000].max()
    assert error < (1e-4 if ext in LOSSLESS else 0.06)  # lossy codecs may drop the noise, not the notes
    assert np.corrcoef(y, x.mean(1))[0, 1] > 0.99


@pytest.mark.parametrize("ext", FORMATS)
@pytest.mark.parametrize("sr", (SR, 22050, 16000))
def test_cut_equals_cut_of_the_whole(tmp_path, ext, sr):
    path = write(tmp_path, ext, music(3.0))
    whole = load_audio(path, sr)
    for start_s, duration_s in ((0.0, 0.5), (1.2345, 0.7), (2.5, 0.5), (1.0, None)):
        cut = load_audio(path, sr, start_s=start_s, duration_s=duration_s)
        start = round(start_s * sr)
        expected = whole[start:] if duration_s is None else whole[start : start + round(duration_s * sr)]
        np.testing.assert_allclose(cut, expected, atol=3e-6)  # soxr works in single precision


@pytest.mark.parametrize("src", (44100, 48000, 32000, 8000, 11025))
@pytest.mark.parametrize("sr", (22050, 16000))
def test_resampling_keeps_frequency_and_amplitude(tmp_path, src, sr):
    t = np.arange(2 * src) / src
    sf.write(path := tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), src, subtype="FLOAT")
    y = load_audio(path, sr)
    assert len(y) == 2 * sr
    y = y[sr // 2 : sr // 2 + sr]  # one second: bins of 1 Hz
    spectrum = np.abs(np.fft.rfft(y)) / (sr / 2)
    assert spectrum.argmax() == 1000
    assert spectrum[1000] == pytest.approx(0.5, abs=1e-3)
    assert np.delete(spectrum, 1000).max() < 1e-3


def test_resampling_does_not_alias(tmp_path):
    t = np.arange(2 * 48000) / 48000
    sf.write(path := tmp_path / "high.wav", 0.5 * np.sin(2 * np.pi * 15000 * t), 48000, subtype="FLOAT")
    assert np.abs(load_audio(path, 16000)[1000:-1000]).max() < 1e-4  # 15 kHz would come down as 1 kHz


def test_opposite_channels_cancel(tmp_path):
    x = music()[:, 0]
    sf.write(path := tmp_path / "opposite.wav", np.stack([x, -x], 1), SR, subtype="FLOAT")
    with pytest.warns(SilenceWarning):
        y = load_audio(path, SR)
    assert not y.any()


def test_silence_is_reported_and_legal(tmp_path):
    sf.write(path := tmp_path / "silence.flac", np.zeros(SR), SR)
    with pytest.warns(SilenceWarning, match="silence.flac"):
        assert load_audio(path, 22050).shape == (22050,)
    sf.write(path := tmp_path / "half.wav", np.r_[np.zeros(SR), np.ones(SR) * 0.1], SR)
    with pytest.warns(SilenceWarning):
        load_audio(path, SR, duration_s=0.5)  # judged by what was read
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio(path, SR)


def test_missing_folder_and_empty(tmp_path):
    assert "does not exist" in reason(tmp_path / "none.wav")
    assert "folder" in reason(tmp_path)
    (tmp_path / "empty.ogg").touch()
    assert "empty" in reason(tmp_path / "empty.ogg")


@pytest.mark.parametrize("content", (b"<html>404</html>\n" * 99, "Übergröße, naïve façade\n".encode() * 99, b"x"))
@pytest.mark.parametrize("ext", ("mp3", "wav"))
def test_text_is_not_audio(tmp_path, content, ext):
    (path := tmp_path / f"page.{ext}").write_bytes(content)
    assert "not audio" in reason(path)


def test_noise_bytes_are_not_audio(tmp_path):
    (path := tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(4000))
    assert "not audio" in reason(path)


@pytest.mark.parametrize("ext", FORMATS)
@pytest.mark.parametrize("kept", (0.3, 0.6, 0.9))
def test_truncated(tmp_path, ext, kept):
    data = write(tmp_path, ext, music()).read_bytes()
    (path := tmp_path / f"broken.{ext}").write_bytes(data[: int(len(data) * kept)])
    assert ("cannot be decoded" if ext == "flac" else "truncated") in reason(path)
    if ext != "flac":
        assert "truncated" in reason(path, start_s=0.0, duration_s=0.1)  # even where the part asked for is whole


@pytest.mark.parametrize("ext", ("wav", "au"))
def test_one_missing_byte_is_found(tmp_path, ext):
    data = write(tmp_path, ext, music()).read_bytes()
    (path := tmp_path / f"broken.{ext}").write_bytes(data[:-1])
    assert "truncated: 1 of the bytes" in reason(path)


def test_header_cut_off(tmp_path):
    data = write(tmp_path, "wav", music()).read_bytes()
    (path := tmp_path / "stub.wav").write_bytes(data[:20])
    assert "cannot be decoded" in reason(path)


def ogg_pages(data):
    "The pages of an ogg file, each with its header."
    start, pages = 0, []
    while start < len(data):
        header = 27 + data[start + 26]
        size = header + sum(data[start + 27 : start + header])
        pages.append(data[start : start + size])
        start += size
    return pages


@pytest.mark.parametrize("ext", ("ogg", "opus"))
def test_ogg_cut_between_pages(tmp_path, ext):
    pages = ogg_pages(write(tmp_path, ext, music(6.0)).read_bytes())
    assert len(pages) > 3 and pages[-1][5] & 4
    (path := tmp_path / f"broken.{ext}").write_bytes(b"".join(pages[:-1]))  # every page whole, the last one missing
    assert reason(path) == "truncated: no end-of-stream page"


def test_mp3_without_a_header_for_the_whole_is_believed(tmp_path):
    sf.write(path := tmp_path / "plain.mp3", music(4.0), SR, bitrate_mode="CONSTANT", compression_level=0.5)
    data = path.read_bytes()
    assert b"Xing" in data[:100] or b"Info" in data[:100]
    second = 4  # where the second frame begins
    while not (data[second : second + 2] == data[:2] and data[second + 2] & 0x0C == data[2] & 0x0C):
        second += 1
    for kept in (1, 0.5):  # half of such a file is a file of half the length
        path.write_bytes(data[second : second + int((len(data) - second) * kept)])
        assert len(load_audio(path, SR)) / SR == pytest.approx(4 * kept, abs=0.1)


def test_mp3_behind_an_id3_tag(tmp_path):
    data = write(tmp_path, "mp3", music()).read_bytes()
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, 5000 >> 7, 5000 & 127]) + b"\x00" * 5000
    (path := tmp_path / "tagged.mp3").write_bytes(tag + data)
    assert len(load_audio(path, SR)) == 2 * SR
    path.write_bytes(tag + data[: len(data) // 2])
    assert "truncated" in reason(path)


def test_wav_of_a_writer_into_a_pipe_promises_nothing(tmp_path):
    data = bytearray(write(tmp_path, "wav", music()).read_bytes())
    length = data.find(b"data") + 4
    data[length : length + 4] = data[4:8] = struct.pack("<I", 0xFFFFFFFF)
    (path := tmp_path / "piped.wav").write_bytes(data)
    assert len(load_audio(path, SR)) == 2 * SR


@pytest.mark.parametrize("container", ("RF64", "WAV"))
def test_wav_with_chunks_before_the_sound(tmp_path, container):
    sf.write(path := tmp_path / "sound.wav", music(), SR, format=container, subtype="FLOAT", endian="FILE")
    assert len(load_audio(path, SR)) == 2 * SR
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in reason(path)


def test_zero_length(tmp_path):
    for ext in ("wav", "au"):
        assert "zero-length" in reason(write(tmp_path, ext, music()[:0]))


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
def test_not_finite(tmp_path, value):
    x = music()
    x[SR, 1] = value
    sf.write(path := tmp_path / "bad.wav", x, SR, subtype="FLOAT")
    assert "NaN" in reason(path)
    assert load_audio(path, 22050, duration_s=0.5).shape == (11025,)  # judged by what was read


@pytest.mark.parametrize("ext", FORMATS)
def test_shorter_than_asked_for(tmp_path, ext):
    path = write(tmp_path, ext, music(1.0))
    assert reason(path, duration_s=30) == "shorter than asked for: 30 s from 0 s, holds 1.00 s"
    assert "shorter than asked for" in reason(path, start_s=0.8, duration_s=0.3)
    assert "shorter than asked for" in reason(path, start_s=2.0)
    assert load_audio(path, 22050, start_s=0.5, duration_s=0.5).shape == (11025,)


@pytest.mark.parametrize(
    "kwargs",
    (
        dict(sr=0),
        dict(sr=22050.5),
        dict(sr=22050, start_s=-1),
        dict(sr=22050, duration_s=0),
        dict(sr=22050, start_s=float("nan")),
        dict(sr=22050, duration_s="30"),
    ),
)
def test_impossible_parameters(tmp_path, kwargs):
    with pytest.raises(ParamsError):
        load_audio(tmp_path / "any.wav", **kwargs)


def test_error_survives_pickling(tmp_path):
    with pytest.raises(AudioError) as caught:
        load_audio(tmp_path / "none.wav", 22050)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_recordings_have_the_length_in_their_table(data):
    table = pd.read_csv(data / "albums" / "tracks.csv").iloc[::8]
    for path, seconds in zip(table.path, table.duration_s, strict=True):
        y = load_audio(data / "albums" / path, 22050)
        assert len(y) / 22050 == pytest.approx(seconds, abs=0.006)  # the table has hundredths of seconds
        assert 0.001 < np.abs(y).max() < 1.5


def test_recordings_cut_and_resampled(data):
    table = pd.read_csv(data / "albums" / "tracks.csv").iloc[::30]
    for path in table.path:
        whole = load_audio(data / "albums" / path, 16000)
        cut = load_audio(data / "albums" / path, 16000, start_s=7.3, duration_s=5)
        np.testing.assert_allclose(cut, whole[round(7.3 * 16000) :][:80000], atol=3e-6)


@pytest.mark.parametrize("make", (np.array, torch.tensor))
def test_windows_and_snippets_are_views(make):
    x = make(np.arange(2 * 3 * 20, dtype=np.float32).reshape(2, 3, 20))
    overlapping = windows(x, 6, 4)
    assert overlapping.shape == (2, 3, 4, 6)
    for i in range(4):
        assert (overlapping[:, :, i] == x[:, :, 4 * i : 4 * i + 6]).all()
    parts = snippets(x, 3)
    assert parts.shape == (2, 3, 3, 6) and (parts[1, 2, 2] == x[1, 2, 12:18]).all()
    for view in (overlapping, parts):
        if isinstance(x, np.ndarray):
            assert np.shares_memory(view, x)
        else:
            assert view.data_ptr() == x.data_ptr()


def test_windows_errors():
    with pytest.raises(ParamsError, match="at least 21 frames, found 20"):
        windows(np.zeros(20), 21, 1)
    with pytest.raises(ParamsError):
        windows(np.zeros(20), 5, 0)
    with pytest.raises(ParamsError):
        snippets(np.zeros(20), 21)
    with pytest.raises(ParamsError):
        snippets(np.zeros(20), 0)
    assert windows(np.zeros(20), 20, 3).shape == (1, 20) and snippets(np.zeros(20), 20).shape == (20, 1)


@pytest.mark.parametrize("ext", FORMATS)
@pytest.mark.parametrize("sr", (SR, 22050, 16000))
def test_blocks_joined_are_the_whole_whatever_their_length(tmp_path, ext, sr):
    path = write(tmp_path, ext, music(2.3))
    whole = load_audio(path, sr)
    for block_s in (0.013, 0.4, 100.0):
        joined = np.concatenate(list(stream_audio(path, sr, block_s=block_s)))
        assert joined.dtype == np.float32 and joined.shape == whole.shape
        np.testing.assert_allclose(joined, whole, atol=3e-6)  # a lossy codec read in pieces may round otherwise


def test_streaming_finds_what_loading_finds(tmp_path):
    path = write(tmp_path, "wav", music())
    (cut := tmp_path / "cut.wav").write_bytes(path.read_bytes()[:-20_000])
    for bad, phrase in (
        (cut, "truncated"),
        (tmp_path / "gone.wav", "does not exist"),
        (write(tmp_path, "wav", music()[:0], name="no"), "zero-length"),
    ):
        with pytest.raises(AudioError, match=phrase):
            list(stream_audio(bad, 16000))
    with pytest.warns(SilenceWarning):
        list(stream_audio(write(tmp_path, "flac", 0 * music(), name="silent"), 16000))
    with pytest.raises(ParamsError, match="block_s"):
        list(stream_audio(path, 16000, block_s=0))


def test_streaming_needs_memory_for_a_block_only(tmp_path):
    import tracemalloc

    path = write(tmp_path, "wav", np.tile(music(10.0), (30, 1)))  # five minutes, 58 MB as float32 mono
    tracemalloc.start()
    length = sum(len(block) for block in stream_audio(path, 16000, block_s=1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == 300 * 16000 and peak < 5e6

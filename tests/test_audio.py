"Decoding: every format, every fault, and what resampling and cutting must keep."

import os
import pickle
import socket
import struct
import tracemalloc
import warnings

import mutations
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.audio import LengthWarning, SilenceWarning, load_audio, snippets, stream_audio, windows
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


@pytest.mark.parametrize("ext", ("ogg", "opus"))
def test_ogg_cut_between_pages(tmp_path, ext):
    pages = mutations.ogg_pages(write(tmp_path, ext, music(6.0)).read_bytes())
    assert len(pages) > 3 and pages[-1][5] & 4
    (path := tmp_path / f"broken.{ext}").write_bytes(b"".join(pages[:-1]))  # every page whole, the last one missing
    assert reason(path) == "truncated: no end-of-stream page"


def test_mp3_without_a_header_for_the_whole_is_believed(tmp_path):
    sf.write(path := tmp_path / "plain.mp3", music(4.0), SR, bitrate_mode="CONSTANT", compression_level=0.5)
    data = path.read_bytes()
    assert b"Xing" in data[:100] or b"Info" in data[:100]
    second = mutations.second_frame(data)
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
    path = write(tmp_path, "wav", np.tile(music(10.0), (30, 1)))  # five minutes, 58 MB as float32 mono
    tracemalloc.start()
    length = sum(len(block) for block in stream_audio(path, 16000, block_s=1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == 300 * 16000 and peak < 5e6


# --- whole or refused ------------------------------------------------------------------------------------------------


def streamed(path, sr, block_s=0.37):
    "The file as `stream_audio` gives it."
    return np.concatenate(list(stream_audio(path, sr, block_s=block_s)))


def refused(path, sr=22050):
    "The reason for which loading and streaming both refuse a file."
    text = reason(path, sr)
    with pytest.raises(AudioError) as caught:
        streamed(path, sr)
    assert caught.value.reason == text
    return text


def outcome(path, sr):
    "The waveform, or the reason; the same whether loaded or streamed. Nothing but an `AudioError` may be raised."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            x = load_audio(path, sr)
        except AudioError as error:
            assert refused(path, sr) == error.reason
            return error.reason
        np.testing.assert_array_equal(streamed(path, sr), x)
    return x


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    "A file in every format, and its bytes."
    files = mutations.sound_files(tmp_path_factory.mktemp("sounds"), 2.0)
    return {name: (path, path.read_bytes()) for name, path in files.items()}


NO_CHECK = {"plain"}  # an mp3 that no header counts may end anywhere
FORMAT_NAMES = [*mutations.WRITTEN, "vbr", "plain"]


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_damaged_file_is_refused_or_keeps_its_length(tmp_path, sounds, name):
    source, data = sounds[name]
    sr = 48000 if name == "opus" else 44100
    whole = load_audio(source, sr)
    path = tmp_path / f"damaged.{name}"
    for what, damaged in mutations.byte_mutations(data, np.random.default_rng(1), count=2):
        path.write_bytes(damaged)
        x = outcome(path, sr)
        if isinstance(x, str) or name in NO_CHECK:
            continue
        assert len(x) == len(whole), what
        differing = np.flatnonzero(np.abs(x - whole) > 1e-3)
        assert not len(differing) or np.ptp(differing) < 0.2 * sr, f"{what}: sound moved"


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_broken_header_is_an_audio_error_whatever_the_parser_throws(tmp_path, sounds, name):
    _, data = sounds[name]
    found = list(mutations.header_mutations(data[:60_000], 110, np.random.default_rng(2)))
    for _, damaged in found[::11] + [("", data[:size]) for size in (1, 13, 30, 45)]:
        (path := tmp_path / "broken").write_bytes(damaged)
        outcome(path, 22050)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_cut_and_a_stream_are_the_whole_sample_for_sample(sounds, name):
    path, _ = sounds[name]
    sr = sf.info(path).samplerate
    whole = load_audio(path, sr)
    np.testing.assert_array_equal(streamed(path, sr, 0.113), whole)
    for start_s, duration_s in ((0.31, 0.2), (1.5, 0.3)):
        cut = load_audio(path, sr, start_s=start_s, duration_s=duration_s)
        np.testing.assert_array_equal(cut, whole[round(start_s * sr) :][: round(duration_s * sr)])


@pytest.mark.parametrize("sr", (8000, 24000, 44100))
def test_cuts_of_a_low_rate_mp3_wait_for_the_bits_it_borrowed(tmp_path, sr):
    x = mutations.music(4.0, sr) * (0.1 + np.arange(4 * sr) // (sr // 3) % 2)[:, None]
    path = tmp_path / "low.mp3"
    sf.write(path, x, sr, bitrate_mode="CONSTANT", compression_level=0.99)
    whole = load_audio(path, sr)
    np.testing.assert_array_equal(streamed(path, sr, 0.073), whole)
    for start_s in np.arange(0.1, 3.5, 0.37):
        cut = load_audio(path, sr, start_s=float(start_s), duration_s=0.25)
        np.testing.assert_array_equal(cut, whole[round(start_s * sr) :][: len(cut)])


# --- Ogg -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("ogg", "opus"))
def test_a_page_lost_doubled_swapped_or_flipped_is_refused(tmp_path, sounds, name):
    _, data = sounds[name]
    pages = mutations.ogg_pages(data)
    damaged = [b"".join(pages[:i] + pages[i + 1 :]) for i in range(len(pages))]
    damaged += [b"".join(pages[: i + 1] + pages[i:]) for i in range(len(pages))]
    damaged += [b"".join([*pages[:2], pages[3], pages[2], *pages[4:]])]
    damaged += [mutations.flipped(data, position, 4) for position in range(0, len(data), len(data) // 40)]
    for content in damaged:
        (path := tmp_path / "damaged.ogg").write_bytes(content)
        refused(path)


@pytest.mark.parametrize("name", ("ogg", "opus"))
def test_pages_lost_within_are_noticed_by_their_times_though_others_were_renumbered(tmp_path, sounds, name):
    pages = mutations.ogg_pages(sounds[name][1])
    kept = mutations.renumbered(pages[:3] + pages[4:])
    (path := tmp_path / "gap.ogg").write_bytes(b"".join(kept))
    assert "pages are missing" in refused(path) or "truncated" in refused(path)


@pytest.mark.parametrize("name", ("ogg", "opus"))
@pytest.mark.parametrize("last", (2**32, 2**62, -1, -5, 0))
def test_a_last_time_that_cannot_be_is_said_and_all_is_loaded(tmp_path, sounds, name, last):
    source, data = sounds[name]
    pages = mutations.ogg_pages(data)
    (path := tmp_path / "odd.ogg").write_bytes(b"".join(pages[:-1] + [mutations.ogg_page(pages[-1], granule=last)]))
    whole = load_audio(source, 48000)
    with pytest.warns(LengthWarning, match="cannot be") as caught:
        x = load_audio(path, 48000)
    assert caught[0].message.path == str(path)
    assert len(whole) <= len(x) < len(whole) + 4096
    np.testing.assert_allclose(x[: len(whole) - 200], whole[:-200], atol=1e-5)


def test_a_last_time_within_a_long_block_is_said_and_one_beyond_is_refused(tmp_path, sounds):
    _, data = sounds["ogg"]
    pages = mutations.ogg_pages(data)
    path = tmp_path / "more.ogg"
    for more in (1500, 2000):
        last = mutations.ogg_page(pages[-1], granule=mutations.granule(pages[-1]) + more)
        path.write_bytes(b"".join(pages[:-1] + [last]))
        with pytest.warns(LengthWarning, match="samples more than it holds"):
            load_audio(path, 44100)
    last = mutations.ogg_page(pages[-1], granule=mutations.granule(pages[-1]) + 30_000)
    path.write_bytes(b"".join(pages[:-1] + [last]))
    refused(path, 44100)


@pytest.mark.parametrize("name", ("ogg", "opus"))
@pytest.mark.parametrize("begin", (10**6, 10**12))
def test_times_may_begin_anywhere(tmp_path, sounds, name, begin):
    source, data = sounds[name]
    pages = mutations.ogg_pages(data)
    later = [mutations.ogg_page(page, granule=mutations.granule(page) + begin) for page in pages[2:]]
    (path := tmp_path / "radio.ogg").write_bytes(b"".join(pages[:2] + later))
    np.testing.assert_array_equal(outcome(path, 16000), load_audio(source, 16000))


def test_opus_with_the_times_of_another_codec_is_decoded_whole(tmp_path, sounds):
    source, data = sounds["opus"]
    pages, rng = mutations.ogg_pages(data), np.random.default_rng(0)
    times = [mutations.granule(page) + int(rng.integers(-700, 700)) for page in pages[2:-1]]
    late = [mutations.ogg_page(page, granule=time) for page, time in zip(pages[2:-1], times, strict=True)]
    (path := tmp_path / "late.opus").write_bytes(b"".join([*pages[:2], *late, pages[-1]]))
    np.testing.assert_array_equal(outcome(path, 48000), load_audio(source, 48000))


def test_vorbis_that_begins_before_its_first_time_loses_nothing(tmp_path, sounds):
    source, data = sounds["ogg"]
    pages = mutations.ogg_pages(data)
    early = mutations.ogg_page(pages[2], granule=mutations.granule(pages[2]) - 224)
    (path := tmp_path / "early.ogg").write_bytes(b"".join([*pages[:2], early, *pages[3:]]))
    whole = load_audio(source, 44100)
    np.testing.assert_allclose(outcome(path, 44100)[: len(whole)], whole, atol=1e-5)


@pytest.mark.parametrize("name", ("ogg", "opus", "mp3", "plain"))
def test_streams_one_after_the_other_are_decoded_whole(tmp_path, sounds, name):
    source, data = sounds[name]
    sr = 48000 if name == "opus" else 44100
    one = load_audio(source, sr)
    (path := tmp_path / "chain").write_bytes(data + data)
    both = outcome(path, sr)
    assert len(both) >= 2 * len(one) - 1152
    np.testing.assert_array_equal(both[: len(one) - 2000], one[:-2000])
    np.testing.assert_allclose(both[-(len(one) - 4000) :], one[4000:], atol=1e-4)
    cut = load_audio(path, sr, start_s=1.8, duration_s=0.5)
    np.testing.assert_array_equal(cut, both[round(1.8 * sr) :][: len(cut)])


def test_streams_that_do_not_go_together_are_refused_in_a_sentence(tmp_path, sounds):
    other = write(tmp_path, "ogg", music(1.0, 22050), 22050).read_bytes()
    pages = mutations.ogg_pages(sounds["ogg"][1])
    for content, phrase in (
        (sounds["ogg"][1] + other, "2 streams one after the other, of \\[22050, 44100\\] Hz"),
        (pages[0] + mutations.ogg_page(pages[0], serial=7) + b"".join(pages[1:]), "side by side"),
        (sounds["ogg"][1] + b"noise" * 99, "no page begins"),
    ):
        (path := tmp_path / "chain.ogg").write_bytes(content)
        with pytest.raises(AudioError, match=phrase):
            load_audio(path, 22050)


def test_real_recordings_encoded_by_ffmpeg_all_load(data):
    files = sorted((data / "commons").rglob("*.ogg"))[::23] + sorted((data / "odd").iterdir())
    notes = 0
    for path in files:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LengthWarning)
            x = load_audio(path, 22050, duration_s=None)
        assert 10 * 22050 < len(x) <= 48.1 * 22050
        notes += any(isinstance(warning.message, LengthWarning) for warning in caught)
    assert notes >= 5  # those in odd/


# --- mp3 -------------------------------------------------------------------------------------------------------------


def test_an_mp3_of_variable_rate_is_whole_without_the_header_that_counts_it(tmp_path):
    sr = 44100
    loud = 0.3 * np.random.default_rng(0).normal(size=(2 * sr, 2))
    soft = 0.01 * np.sin(np.arange(4 * sr) / 20)[:, None] * np.ones(2)
    for name, x in (("first", np.concatenate([loud, soft])), ("last", np.concatenate([soft, loud]))):
        path = tmp_path / f"{name}.mp3"
        sf.write(path, x, sr, bitrate_mode="VARIABLE", compression_level=0.3)
        data = path.read_bytes()
        path.write_bytes(data[mutations.second_frame(data) :])
        assert len(outcome(path, sr)) == pytest.approx(6 * sr, abs=3000)
        assert len(load_audio(path, sr, start_s=5.0, duration_s=0.5)) == sr // 2


def test_tags_around_an_mp3_change_nothing(tmp_path, sounds):
    source, data = sounds["mp3"]
    for name, content in mutations.mp3_mutations(data):
        if name in ("ID3 in front", "two ID3 in front", "ID3v1 behind", "APE behind", "zeros behind"):
            (path := tmp_path / "tagged.mp3").write_bytes(content)
            np.testing.assert_array_equal(outcome(path, 44100), load_audio(source, 44100), err_msg=name)


@pytest.mark.parametrize("channels", (1, 2))
@pytest.mark.parametrize("sr", (8000, 22050, 44100))
def test_the_checksums_of_whole_mp3s_match(tmp_path, sr, channels):
    for mode in ("CONSTANT", "AVERAGE", "VARIABLE"):
        path = tmp_path / "whole.mp3"
        sf.write(path, mutations.music(0.5, sr)[:, :channels], sr, bitrate_mode=mode, compression_level=0.7)
        assert len(load_audio(path, sr)) == sr // 2


def test_frames_lost_between_or_broken_are_refused(tmp_path, sounds):
    for name in ("mp3", "vbr", "plain"):
        data = sounds[name][1]
        middle = len(data) // 2
        (path := tmp_path / "lost.mp3").write_bytes(data[:middle] + bytes(900) + data[middle + 900 :])
        refused(path)
        path.write_bytes(data[:middle] + data[middle + 1001 :])
        refused(path)


# --- promises --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("wav", "wavex", "au", "caf", "w64", "rf64", "aiff"))
def test_sound_behind_a_length_of_zero_is_loaded_whole_or_refused(tmp_path, sounds, name):
    source, data = sounds[name]
    code, more = {"w64": ("<Q", 24), "caf": (">q", 4), "au": (">I", 0), "rf64": ("<Q", 0), "aiff": (">I", 8)}.get(
        name, ("<I", 0)
    )
    length = struct.pack(code, 2 * 44100 * 4 + more)
    at = data[:5000].rfind(length)
    assert at > 0
    (path := tmp_path / f"zero.{name}").write_bytes(data[:at] + bytes(len(length)) + data[at + len(length) :])
    x = outcome(path, 44100)
    assert isinstance(x, str) or len(x) == len(load_audio(source, 44100))


def test_writers_into_pipes_are_believed(tmp_path, sounds):
    for name, at in (("wav", 40), ("au", 8)):
        source, data = sounds[name]
        (path := tmp_path / name).write_bytes(data[:at] + b"\xff" * 4 + data[at + 4 :])
        np.testing.assert_array_equal(outcome(path, 44100), load_audio(source, 44100))
    source, data = sounds["flac"]
    unknown = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    (path := tmp_path / "piped.flac").write_bytes(data[:21] + unknown + data[26:])
    np.testing.assert_array_equal(outcome(path, 44100), load_audio(source, 44100))


@settings(max_examples=30, deadline=None)
@given(rate=st.integers(0, 2**32 - 1), channels=st.integers(0, 2**16 - 1))
def test_rates_and_channels_beyond_reason_are_refused_at_once(tmp_path_factory, rate, channels):
    folder = tmp_path_factory.mktemp("au")
    for r, c in ((rate, 1), (44100, channels)):
        head = struct.pack(">4s5I", b".snd", 24, 6000, 3, r, c)
        (path := folder / "x.au").write_bytes(head + b"\1\2" * 3000)
        x = outcome(path, 22050)
        assert isinstance(x, str) or (1000 <= r <= 10**6 and 1 <= c <= 64)


def test_a_promise_takes_no_memory(tmp_path, sounds):
    data = bytearray(sounds["flac"][1])
    data[22:26] = struct.pack(">I", 4 * 10**9)
    (path := tmp_path / "long.flac").write_bytes(data)
    tracemalloc.start()
    assert "cannot be decoded" in refused(path) or "truncated" in refused(path)
    assert tracemalloc.get_traced_memory()[1] < 3e7
    tracemalloc.stop()


@pytest.mark.parametrize("value", (2e6, -2e6, 3e38, np.nan, np.inf))
def test_values_that_are_no_sound_never_pass(tmp_path, value):
    x = music()
    x[SR] = value
    sf.write(path := tmp_path / "loud.wav", x, SR, subtype="FLOAT")
    assert "samples" in refused(path)


def test_paths_that_are_no_files_are_refused_unopened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.wav"))
        for name, phrase in {
            "pipe.wav": "is a pipe",
            "socket.wav": "is a socket",
            "zero.wav": "is a device",
            "loop/a.wav": "cannot be read",
            "a\0b.wav": "NUL",
            "x" * 300 + ".wav": "cannot be read",
            "/".join(["d" * 100] * 50): "cannot be read",
            "pipe.wav/x.wav": "does not exist",
        }.items():
            assert phrase in refused(tmp_path / name)


def test_a_name_that_is_not_utf8_is_refused_in_a_message_that_is(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    with pytest.raises(AudioError, match="not UTF-8") as caught:
        load_audio(path, 22050)
    assert "caf\\xe9.wav" in str(caught.value).encode().decode()


def test_the_content_decides_not_the_suffix(tmp_path):
    data = write(tmp_path, "wav", music()).read_bytes()
    for suffix in ("raw", "mp3", "sd2", ""):
        (path := tmp_path / f"sound.{suffix}").write_bytes(data)
        assert len(load_audio(path, SR)) == 2 * SR


def test_length_warnings_survive_pickling():
    warning = pickle.loads(pickle.dumps(LengthWarning("a.ogg", "promises 3 samples more than it holds")))
    assert (warning.path, warning.note) == ("a.ogg", "promises 3 samples more than it holds")

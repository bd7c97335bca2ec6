"The synthesiser: what it is told is what is heard."

import base64
import io

import numpy as np
import pytest
import soundfile as sf

from musicmtl.miniature import sound
from musicmtl.miniature.sound import INSTRUMENTS, SR, VOWELS, consonants, instruments_of, listen, record, tone


def rng(seed=0):
    return np.random.default_rng(seed)


def centroid(x):
    magnitude = np.abs(np.fft.rfft(x))
    return (magnitude * np.arange(len(magnitude))).sum() / magnitude.sum()


def level(x):
    return np.sqrt((x**2).mean())


def test_brightness_raises_the_partials():
    dark, bright = (tone(rng(), INSTRUMENTS["piano"], 220.0, SR // 2, (b, 0, 0, 0, 0)) for b in (-1.5, 1.5))
    assert centroid(bright) > 1.2 * centroid(dark)


def test_the_noise_floor_fills_silence_and_a_room_goes_on():
    burst = np.zeros(2 * SR, np.float32)
    burst[: SR // 10] = np.sin(2 * np.pi * 440 * np.arange(SR // 10) / SR)

    def recorded(floor, room):
        return record(rng(0), rng(1), burst, (0.0, 0.0, floor, room), 0.0, False, -20)

    assert level(recorded(2.0, -2.0)[-SR // 4 :]) > 5 * level(recorded(-2.0, -2.0)[-SR // 4 :])
    after = slice(SR // 5, SR // 2)
    assert level(recorded(-3.0, 1.5)[after]) > 2 * level(recorded(-3.0, -2.0)[after])


def test_partials_stay_below_half_the_sample_rate():
    for hz in (60.0, 441.0, 2000.0, 6000.0):
        for cycle in sound._cycles(INSTRUMENTS["trumpet"], hz, 1.0, 0.0, VOWELS[0]):
            magnitude = np.abs(np.fft.rfft(cycle))
            k = np.flatnonzero(magnitude > 1e-3 * magnitude.max())
            assert len(k) == 0 or k.max() * hz < SR / 2


def test_formants_are_heard():
    hz = np.arange(SR // 2 + 1)

    def power_at(formants, centre):
        x = tone(rng(), INSTRUMENTS["voice"], 110.0, SR, np.zeros(5), formants)
        power = np.abs(np.fft.rfft(x * np.hanning(SR))) ** 2
        return power[abs(hz - centre) < 0.12 * centre].sum()

    i, u = (300, 2300, 3000), (325, 700, 2700)
    assert power_at(i, 2300) > 10 * power_at(u, 2300) and power_at(u, 700) > 10 * power_at(i, 700)


@pytest.mark.parametrize("frequency", [1500, 6000])
def test_consonants_are_heard_just_before_the_note(frequency):
    x = consonants(rng(), np.array([[0.5, 0.2, 60, 1, 0]]), SR, ((frequency, 0.1, 1.0),))
    assert np.flatnonzero(x).max() == SR // 2 - 1 and np.flatnonzero(x).min() > 0.39 * SR
    power, hz = np.abs(np.fft.rfft(x)) ** 2, np.arange(SR // 2 + 1)
    assert power[abs(hz - frequency) < frequency / 2].sum() > 0.9 * power.sum()


def test_a_table_of_instruments_is_read_as_it_stands():
    read = instruments_of({"horn": {"rolloff": 0.7, "body": [300, 900]}})
    assert read == {"horn": sound.Instrument(0.7, body=(300, 900))} and len(INSTRUMENTS) == 20
    with pytest.raises(TypeError, match="valves"):
        instruments_of({"horn": {"rolloff": 0.7, "valves": 3}})


def test_a_player_for_notebooks_is_short_and_always_the_same():
    waves = [np.sin(2 * np.pi * hz * np.arange(3 * SR) / SR) for hz in (220, 440)]
    player = listen(*waves, seconds=1.0)
    html = player._repr_html_()
    assert html == listen(*waves, seconds=1.0)._repr_html_() and len(html) < 70_000
    wav = base64.b64decode(html.split("base64,")[1].split('"')[0])
    x, rate = sf.read(io.BytesIO(wav))
    assert rate == SR // 2 and abs(len(x) - 1.05 * SR) < 2  # two seconds and a pause of a tenth
    first, second = x[: rate // 2], x[-rate // 2 :]
    assert np.abs(np.fft.rfft(first)).argmax() == 110 and np.abs(np.fft.rfft(second)).argmax() == 220

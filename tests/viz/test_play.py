"Sounds and pictures that can be turned: small, whole without a kernel, and alive with one."

import base64
import io
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile as sf
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from musicmtl.core import ParamsError
from musicmtl.viz.play import CLIP_SR, Html, _controls, _drawn, mp3, play, players

SR = 22050
TONE = np.sin(2 * np.pi * 440 * np.arange(3 * SR) / SR).astype(np.float32)


@pytest.fixture
def notebook(monkeypatch):
    "What is displayed as in a notebook that no person sits before."
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("VSCODE_CWD", raising=False)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    shell = InteractiveShell.instance()
    yield shell
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def line(height=1.0, upside_down=False):
    ax = plt.subplots(figsize=(2, 1))[1]
    ax.plot([0, -height if upside_down else height])
    return ax, players({f"{height:g}": TONE * height}, SR, seconds=0.2)


def test_a_clip_is_small_and_sounds_as_what_it_was():
    wave, rate = sf.read(io.BytesIO(mp3(TONE, SR, seconds=2)))
    assert rate == CLIP_SR and len(wave) == pytest.approx(2 * CLIP_SR, abs=3000)
    spectrum = np.abs(np.fft.rfft(wave))
    assert np.fft.rfftfreq(len(wave), 1 / rate)[spectrum.argmax()] == pytest.approx(440, abs=2)
    assert len(mp3(TONE, SR, seconds=2)) < 15_000
    assert np.abs(wave).max() < 1.05 and np.abs(wave[:5]).max() < 0.2  # faded, and not too loud


def test_the_same_clip_is_the_same_bytes():
    assert mp3(TONE, SR) == mp3(TONE, SR)


def test_players_have_names_and_a_sound_each():
    page = players({"a <tone>": TONE, "another": (TONE[:4000], 8000)}, SR)._repr_html_()
    assert "a &lt;tone&gt;" in page and len(re.findall(r"<audio controls", page)) == 2
    sound = base64.b64decode(re.findall(r"base64,([^\"]+)", page)[1])
    assert len(sf.read(io.BytesIO(sound))[0]) == pytest.approx(CLIP_SR / 2, abs=3000)
    with pytest.raises(ParamsError, match="tone: expected samples with their rate"):
        players({"tone": TONE})
    with pytest.raises(ParamsError, match=r"expected samples \[T\], found shape \[2, 3\]"):
        mp3(np.zeros((2, 3)), SR)


def test_silence_stays_silent():
    assert np.abs(sf.read(io.BytesIO(mp3(np.zeros(SR), SR)))[0]).max() < 1e-3


def test_where_nobody_sits_a_picture_and_its_sounds_are_shown(notebook):
    before = plt.get_fignums()
    with capture_output() as found:
        play(line, height=(0.5, 1.5))
    picture, sound = (output.data for output in found.outputs)
    assert set(picture) == {"image/png", "text/plain"} and "<audio" in sound["text/html"]
    assert plt.get_fignums() == before  # which a notebook would show once more


def test_a_person_gets_controls_that_draw_anew(notebook):
    pytest.importorskip("ipywidgets")
    box = _controls(line, {"height": (0.5, 1.5), "upside_down": True}, _drawn(line, 60), 60)
    controls, image, below = box.children
    height, upside_down = controls.children[:2]
    assert height.value == 1.0 and upside_down.value is False  # the function's defaults
    pictures = {image.value}
    height.value = 1.25
    assert "1.25" in below.value
    pictures.add(image.value)
    upside_down.value = True
    pictures.add(image.value)
    assert len(pictures) == 3


def test_a_person_without_ipywidgets_gets_the_picture(notebook, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with capture_output() as found:
        play(line, live=True, height=(0.5, 1.5))
    assert [set(output.data) for output in found.outputs][0] == {"image/png", "text/plain"}


def test_jupyter_says_that_a_person_sits_there(notebook, monkeypatch):
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    with capture_output() as found:
        play(line, height=(0.5, 1.5))
    assert "application/vnd.jupyter.widget-view+json" in found.outputs[0].data


def test_a_control_must_be_an_argument_with_a_default():
    with pytest.raises(ParamsError, match="expected arguments of the function that have defaults, found width"):
        play(line, width=(0, 1))


def test_pieces_of_a_page_are_joined():
    assert (Html("a") + Html("b"))._repr_html_() == "ab"

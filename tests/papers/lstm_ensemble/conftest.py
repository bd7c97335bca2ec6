"Readings that are made up, a folder of recordings with faults, and a short run of the study on it."

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from musicmtl.core import generator
from musicmtl.papers.lstm_ensemble.experiment import READ_PARTS, Network, Protocol, Reading, Settings, Trial, recipe
from musicmtl.papers.lstm_ensemble.figures import study
from musicmtl.study import resolve


@pytest.fixture(scope="session")
def settings_of():
    "Settings of preset smoke, or of another."

    def settings(**given):
        return resolve(Settings, "lstm_ensemble", {"n_jobs": 1, **given})

    return settings


@pytest.fixture(scope="session")
def make_reading():
    "Readings of given log probabilities [E, n, C] or, of four networks and m2, [E, n, 5, C]."

    def make(log_p, y=None, protocol=Protocol.corrected, method=None, variant="ensemble_4", group=None, classes="10"):
        y = np.zeros(log_p.shape[1], int) if y is None else y
        group = np.arange(len(y)) if group is None else group
        arrays = {}
        for part in READ_PARTS:
            arrays |= {f"y_{part}": y, f"log_p_{part}": log_p}
        names = np.array([f"artist {number}" for number in group])
        job = Network(classes, "artist", 0, recipe(variant), 0)
        return Reading(Trial(protocol, classes, variant, 0, method), job, arrays, {"valid": names, "test": names})

    return make


# --- a folder ------------------------------------------------------------------------------------------------------


def notes(k, artist, seconds=24.0, sr=22050):
    "A track with onsets: an artist's tones, eight per second, each with a sharp beginning."
    rng, n, length = generator("notes", artist, k), int(seconds * 8), sr // 8
    t = np.arange(length) / sr
    pitches = 110 * 2 ** ((7 * artist % 12 + rng.choice([0, 3, 5, 7, 10], n)) / 12 + artist % 3)
    tones = []
    for hz in pitches:
        click = 0.3 * rng.normal(size=length) * np.exp(-t * 200)
        tones.append(np.sin(2 * np.pi * hz * t) * np.exp(-t * (8 + 6 * artist)) + click)
    return (0.3 * np.concatenate(tones)).astype(np.float32)


def write_faults(root):
    "A text, a file cut short, silence, and a track with too few notes; their names."
    (root / "text.mp3").write_text("these are not sounds\n" * 50)
    good = (root / "0-1.wav").read_bytes()
    (root / "cut.wav").write_bytes(good[: len(good) // 3])
    sf.write(root / "silent.wav", np.zeros(24 * 22050, np.float32), 22050)
    sf.write(root / "short.wav", notes(9, 2, 5.0), 22050)
    return "text.mp3", "cut.wav", "silent.wav", "short.wav"


@pytest.fixture(scope="session")
def music(tmp_path_factory):
    "Five artists with five tracks each, the first twice as long, and four files with faults."
    root, rows = tmp_path_factory.mktemp("corpus") / "music", []
    root.mkdir()
    for artist in range(5):
        for k in range(5):
            name = f"{artist}-{k}"
            sf.write(root / f"{name}.wav", notes(k, artist, 24.0 if k else 50.0), 22050)
            who = dict(artist=f"artist {artist}", album="one", title=f"song {k}")
            rows.append(dict(track_id=name, path=f"{name}.wav", **who))
    for file in write_faults(root):
        name = file.split(".")[0]
        rows.append(dict(track_id=name, path=file, artist="artist 1", album="two", title=name))
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.fixture(scope="session")
def outcome(music, settings_of, tmp_path_factory):
    "The study on that folder with fewer variants than preset smoke has; saved, judged, drawn and finished."
    variants = ["l2_1e-3_100", "as_0_100", "as_100_100", "ensemble_4", "m2_4", "autoencoder_1", "feed_forward"]
    settings = settings_of(corpus="folder", root=str(music), cuts=2)
    settings = study.settings(**{**vars(settings), "variants": tuple(variants)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSICMTL_RUNS", str(tmp_path_factory.mktemp("runs")))
        data = study.prepare(settings)
        outcome = study.run(data, settings)
        outcome.save()
        outcome.judge()
        outcome.draw()
        outcome.finish()
        yield outcome

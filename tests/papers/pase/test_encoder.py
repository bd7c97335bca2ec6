"The trained PASE+ that comes with the package."

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from musicmtl.core import AudioError, ParamsError, generator, repo_root
from musicmtl.papers.pase.encoder import SMALL_ENCODER, embed_file, small_encoder
from musicmtl.papers.pase.model import make_encoder


def sweep(seconds=1.0, sr=16_000):
    "A tone that rises from 100 Hz to 1,700 Hz."
    time = np.arange(round(seconds * sr)) / sr
    return 0.5 * np.sin(2 * np.pi * (100 + 800 * time / seconds) * time)


def test_the_weights_are_those_of_the_training():
    "The first numbers for a sweep, by the file that gave the training's own embeddings of its clips to the last digit."
    found = embed(small_encoder())
    torch.testing.assert_close(found[:6], torch.tensor(SWEEP), rtol=0, atol=1e-4)
    torch.manual_seed(0)
    untrained = embed(make_encoder(**{**small_encoder().config}).eval())
    assert torch.nn.functional.cosine_similarity(found, untrained, dim=0) < 0.5


def embed(encoder):
    with torch.inference_mode():
        return encoder(torch.from_numpy(sweep()).float()[None]).mean(2)[0]


SWEEP = [0.144691, 1.062098, -0.407011, 2.760662, 3.345610, -1.368185]


def test_a_file_is_embedded_clip_by_clip_whatever_its_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", sweep(23.5), 16_000)
    found = embed_file(tmp_path / "a.wav")
    assert found.shape == (23, 128) and found.index.tolist() == list(range(23))
    with torch.inference_mode():
        clip = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32")[0][11 * 16_000 : 12 * 16_000])
        torch.testing.assert_close(
            small_encoder()(clip[None]).mean(2)[0], torch.tensor(found.loc[11.0].to_numpy()), rtol=0, atol=1e-5
        )
    soundfile.write(tmp_path / "b.wav", sweep(3.0, 44_100), 44_100)
    assert len(embed_file(tmp_path / "b.wav", clip_s=0.5)) == 6


def test_files_and_clips_that_are_too_short_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * generator("short").normal(size=8_000), 16_000)
    with pytest.raises(AudioError, match="shorter than one clip of 1 s"):
        embed_file(tmp_path / "a.wav")
    for clip_s in (0.1, -1, "long"):
        with pytest.raises(ParamsError, match="clip_s: expected at least 0.15 s, found"):
            embed_file(tmp_path / "a.wav", clip_s=clip_s)


def test_the_card_has_the_numbers_of_the_training():
    table = pd.read_csv(repo_root() / "figures" / "data" / "pase.csv")
    own = table[(table.preset == "miniature_long") & (table.protocol == "corrected") & (table.seed == 0)]
    own = own[own.metric == "macro_f1"].set_index("variant")
    rows = [own.loc[f"paseplus_equal_WLP+MCT_{task}"] for task in ("openmic", "ballroom", "fma")]
    cells = [f"{100 * row.value:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]" for row in rows]
    assert f"| this encoder | {' | '.join(cells)} |" in SMALL_ENCODER.with_suffix(".md").read_text()
    assert SMALL_ENCODER.stat().st_size < 1_000_000

"""A folder of tagged recordings, and a small run of the study on it."""

import pytest
from tagged import smoke, write_tagged_folder

VARIANTS = (
    "cnn1d",
    "cnn1d_skeleton",
    "musicnn_7",
    "musicnn_8",
    "embed_linear",
    "embed_linear_disentangled",
    "embed_musicnn_raw",
    "embed_musicnn_unit",
    "joint_equal",
)
PUBLISHED = ("cnn1d", "musicnn_7", "embed_linear_disentangled")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    "Twelve artists with four tagged tracks each."
    return write_tagged_folder(tmp_path_factory.mktemp("corpus") / "music")


@pytest.fixture(scope="session")
def outcome(folder, tmp_path_factory):
    "A run on the folder, its tables saved; a recording is given."
    from dataclasses import replace

    from musicmtl.papers.tagging.figures import study

    settings = smoke(corpus="folder", root=str(folder), recording=str(folder / "3-0.wav"))
    settings = replace(settings, variants=VARIANTS, published_variants=PUBLISHED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSICMTL_RUNS", str(tmp_path_factory.mktemp("runs")))
        outcome = study.run(study.prepare(settings), settings)
        outcome.save()
        yield outcome

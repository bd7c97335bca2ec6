"""Fixtures for all tests: one seed, and the real recordings where they are to be had."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TQDM_DISABLE", "1")


@pytest.fixture(autouse=True)
def _seeded():
    from musicmtl.core import seed_everything

    seed_everything(0)


@pytest.fixture(scope="session")
def data() -> Path:
    "Folder of real recordings and metadata, from `MUSICMTL_DATA`."
    d = os.environ.get("MUSICMTL_DATA")
    if not d:
        pytest.skip("MUSICMTL_DATA is not set: no real recordings to test on")
    if not Path(d, "albums", "tracks.csv").is_file():
        pytest.skip(f"MUSICMTL_DATA={d} holds no albums/tracks.csv")
    return Path(d)

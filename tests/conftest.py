"""Fixtures for all tests: one seed, folders of this session, and the real recordings where they are to be had."""

import os
from pathlib import Path

import hypothesis
import matplotlib
import pytest

os.environ.setdefault("TQDM_DISABLE", "1")
# A busy machine is no failure. `make test-long` tries as many examples as hypothesis does by default.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=30)
hypothesis.settings.register_profile("long", deadline=None)
hypothesis.settings.load_profile("tests")
matplotlib.use("Agg")


# Fixtures that train a study's networks, for half a minute of one core each; a test that asks for one is a long one.
TRAINED = {("tagging", "outcome"), ("lstm_ensemble", "outcome")}


def pytest_collection_modifyitems(items):
    for item in items:
        if TRAINED & {(item.path.parent.name, name) for name in getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=True)
def _seeded():
    "The same random numbers for each test, whatever ran before it."
    from musicmtl.core import seed_everything

    seed_everything(0)


@pytest.fixture(autouse=True)
def _no_figures_left():
    "What a test draws is gone when it ends."
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.fixture(scope="session", autouse=True)
def _folders(tmp_path_factory):
    """Cache and runs of this session: tests neither read nor leave anything in the checkout.

    `make test` names one cache for its five sessions, so that each view of Miniature is rendered once.
    """
    cache = os.environ.get("MUSICMTL_TEST_CACHE") or tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSICMTL_CACHE", str(cache))
        patch.setenv("MUSICMTL_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    "Folder of real recordings and metadata, from `MUSICMTL_DATA`."
    folder = os.environ.get("MUSICMTL_DATA")
    if not folder:
        pytest.skip("MUSICMTL_DATA is not set: no real recordings to test on")
    if not Path(folder, "albums", "tracks.csv").is_file():
        pytest.skip(f"MUSICMTL_DATA={folder} holds no albums/tracks.csv")
    return Path(folder)

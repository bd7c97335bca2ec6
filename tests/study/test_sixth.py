"""The recipe of CONTRIBUTING.md: a sixth paper in a folder of its own, and not a line changed elsewhere."""

import json
import os
import re
import subprocess
import sys
import time

import pandas as pd
import pytest

from processes import environment, finish, kill, start, the_run
from recipes import write_sixth

from musicmtl.study import CLAIM_COLUMNS, RESULT_COLUMNS

pytestmark = [pytest.mark.studies, pytest.mark.long]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A folder of papers, named in the environment, and one of runs."
    home = tmp_path_factory.mktemp("sixth")
    write_sixth(home / "papers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSICMTL_PAPERS", str(home / "papers"))
        yield home


@pytest.fixture(scope="module")
def killed(home):
    "What a run had trained when it was killed, by the driver's command line: file -> time of writing."
    process = start("sixth", home)
    until, jobs = time.time() + 120, home / "runs" / "sixth" / "jobs"
    while not list(jobs.glob("*/*/result.npz")):
        assert process.poll() is None and time.time() < until, finish(process)
        time.sleep(0.01)
    kill(process)
    return {file: file.stat().st_mtime_ns for file in jobs.glob("*/*/result.npz")}


@pytest.fixture(scope="module")
def run(home, killed):
    "The same command again."
    assert json.loads((the_run(home, "sixth") / "manifest.json").read_text())["status"] == "running"
    code, out, err = finish(start("sixth", home))
    assert code == 0 and "sixth: done" in out and err == "", err
    return the_run(home, "sixth")


def test_the_driver_runs_it_and_goes_on_where_it_was_killed(run, killed):
    manifest = json.loads((run / "manifest.json").read_text())
    assert (
        manifest["status"] == "done" and manifest["notes"] == ["36 tracks remain"] and (run / "executed.ipynb").exists()
    )
    results = list((run.parent / "jobs").glob("*/*/result.npz"))
    assert 0 < len(killed) <= len(results) == 8
    assert all(file.stat().st_mtime_ns == written for file, written in killed.items())


def test_its_scores_stand_beside_the_papers_numbers(run):
    table = pd.read_csv(run / "figures" / "data" / "sixth.csv")
    assert list(table) == RESULT_COLUMNS and len(table) == 8
    assert set(table.protocol) == {"published", "corrected"} and set(table.variant) == {"genre", "multitask"}
    assert table.value.between(0, 1).all() and (table.low <= table.value).all() and (table.value <= table.high).all()
    assert table.groupby("variant").paper_value.first().to_dict() == {"genre": 61.0, "multitask": 64.0}


def test_its_claim_is_judged(run):
    claims = pd.read_csv(run / "figures" / "data" / "claims.csv")
    assert list(claims) == CLAIM_COLUMNS and claims.claim.tolist() == ["X1", "X1"]
    assert (
        set(claims.protocol) == {"published", "corrected"}
        and claims.effect.notna().all()
        and (claims.trainings == 2).all()
    )


def test_the_report_takes_it(home, run):
    page = home / "page.html"
    command = [sys.executable, "-m", "musicmtl.report", "--data", str(run / "figures" / "data"), "--out", str(page)]
    done = subprocess.run(command, env={**os.environ, **environment(home)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'href="page/sixth.html"' in page.read_text(encoding="utf-8")
    text = (home / "page" / "sixth.html").read_text(encoding="utf-8")
    assert 'id="sixth"' in text and "<b>X1</b> A second task makes genre recognition more accurate" in text
    (picture,) = re.findall('<img [^>]*src="([^"]+)"', text)
    assert (home / "page" / picture).is_file() and "make study STUDY=sixth" not in text

"""A study as its users run it: a process of its own, with its runs and its cache in a folder of the test."""

import os
import subprocess
import sys
from pathlib import Path


def start(study, home, **params):
    "`python -m musicmtl.runs STUDY -p NAME VALUE …`."
    env = {
        **os.environ,
        "MUSICMTL_RUNS": str(home / "runs"),
        "MUSICMTL_CACHE": str(home / "cache"),
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
    }
    args = [a for k, v in params.items() for a in ("-p", k, str(v))]
    return subprocess.Popen(
        [sys.executable, "-m", "musicmtl.runs", study, *args],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(p):
    "Exit status, output, errors."
    out, err = p.communicate(timeout=600)
    return p.returncode, out, err


def the_run(home, study) -> Path:
    "Folder of the only run in `home`."
    (run,) = (p for p in (home / "runs" / study).iterdir() if (p / "manifest.json").exists())
    return run


def ran(study, home, **params) -> Path:
    "Folder of a run that went well."
    code, _, err = finish(start(study, home, **params))
    assert code == 0, err
    return the_run(home, study)

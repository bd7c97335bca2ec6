"""A study as its users run it, in a process of its own, with its runs and its cache in a folder of the test.

`ran` goes through the command line: papermill, a Jupyter kernel. `Notebook` executes the same cells without one, in
a process forked from one that has imported the studies: it starts at once, and can be killed at a chosen moment.
"""

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import psutil
from tqdm import tqdm

from musicmtl.core import RunError
from musicmtl.study import notebooks_folder, studies


def environment(
    home: Path,  # Folder of the test: runs/, and cache/ unless another is given
    cache: Path | None = None,  # Shared by several runs
) -> dict:
    "Variables that keep a study to a folder, quiet, and on one core."
    folders = {"MUSICMTL_RUNS": str(home / "runs"), "MUSICMTL_CACHE": str(cache or home / "cache")}
    return {**folders, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}


def start(study: str, home: Path, *, cache: Path | None = None, **params) -> subprocess.Popen:
    "`python -m musicmtl.runs STUDY -p NAME VALUE …`."
    args = [text for name, value in params.items() for text in ("-p", name, str(value))]
    command = [sys.executable, "-m", "musicmtl.runs", study, *args]
    env = {**os.environ, **environment(home, cache)}
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:  # Exit status, output, errors
    "Wait for a process."
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def kill(process: subprocess.Popen) -> None:
    "SIGKILL to a process and all its children."
    parent = psutil.Process(process.pid)
    for victim in [*parent.children(recursive=True), parent]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.communicate()


def the_run(home: Path, study: str) -> Path:
    "Folder of the only run in `home`."
    (run,) = (folder for folder in (home / "runs" / study).iterdir() if (folder / "manifest.json").exists())
    return run


def ran(study: str, home: Path, **params) -> Path:
    "Folder of a run that went well."
    code, _, err = finish(start(study, home, **params))
    assert code == 0, err
    return the_run(home, study)


def cells(
    study: str,
    params: dict,  # Injected behind the cell tagged `parameters`, as papermill does
) -> list[str]:
    "Code of a study's notebook."
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebook = load_notebook_node(str(notebooks_folder(study) / f"{study}.ipynb"))
    injected = parameterize_notebook(notebook, params)
    return [cell["source"] for cell in injected["cells"] if cell["cell_type"] == "code"]


def execute(study: str, params: dict) -> None:
    "Execute a study's notebook here, without a kernel."
    scope = {"__name__": "__main__"}
    for number, source in enumerate(cells(study, params)):
        exec(compile(source, f"{study}.ipynb, code cell {number}", "exec"), scope)


def _kill_at(pattern: str, again: bool) -> None:
    "From now on, SIGKILL this process before it writes a matching file; with `again`, one that exists already."
    wanted = re.compile(pattern)

    def watch(event, args):
        if event not in ("open", "os.rename"):
            return
        path = args[1] if event == "os.rename" else args[0]
        writes = event == "os.rename" or set(args[1] or "") & set("wax+")
        if writes and isinstance(path, str | os.PathLike) and wanted.search(os.fspath(path)):
            if os.path.exists(path) or not again:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _child(study: str, env: dict, params: dict, kill_at: str | None, again: bool, log: Path) -> None:
    os.environ.update(env, MPLBACKEND="Agg")
    sys.stdout = sys.stderr = open(log, "w", buffering=1)
    os.chdir(notebooks_folder(study))
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process leaves behind
    if kill_at:
        _kill_at(kill_at, again)
    try:
        execute(study, params)
    except BaseException:
        traceback.print_exc()
        raise


def fork(function, *args) -> multiprocessing.Process:
    "Call an importable function in a process forked from one that has imported the studies."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(studies().values()))
    process = context.Process(target=function, args=args)
    process.start()
    return process


class Notebook:
    "A study's notebook in a forked process."

    def __init__(self, study: str, home: Path, *, cache: Path | None = None, **params):
        self.study, self.home, self.params = study, home, params
        self.env = environment(home, cache)

    def run(
        self,
        kill_at: str | None = None,  # Regular expression: SIGKILL before a file of such a name is written
        again: bool = False,  # Only where the file exists already
    ) -> int:  # Exit status, -9 where it was killed
        "Execute all cells, or all until the kill."
        self.home.mkdir(parents=True, exist_ok=True)
        process = fork(_child, self.study, self.env, self.params, kill_at, again, self.log)
        process.join(600)
        if process.exitcode is None:
            process.kill()
            raise RunError(f"{self.study}: expected an end within 600 s, found none: {self.log.read_text()}")
        return process.exitcode

    @property
    def log(self) -> Path:
        "What the process printed."
        return self.home / "log.txt"

    def ran(self) -> Path:
        "Folder of a run that went well."
        assert self.run() == 0, self.log.read_text()
        return the_run(self.home, self.study)

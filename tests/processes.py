"""A study as its users run it, with its runs and its cache in a folder of the test.

`start` is the command itself. Importing torch and its friends takes seconds, so `Forked` keeps a process that has
imported the studies, and forks it: for the driver's command line (papermill and a kernel follow as always), and for the
cells of a study's notebook, which then need no kernel and can be killed at a chosen moment.
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
from musicmtl.study.runs import main


def environment(
    home: Path,  # Folder of the test: runs/, and cache/ unless another is given
    cache: Path | None = None,  # Shared by several runs
) -> dict:
    "Variables that keep a study to a folder, quiet, and on one core."
    folders = {"MUSICMTL_RUNS": str(home / "runs"), "MUSICMTL_CACHE": str(cache or home / "cache")}
    return {**folders, "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}


def arguments(study: str, params: dict) -> list[str]:
    "What the driver's command line is given."
    return [study, *(text for name, value in params.items() for text in ("-p", name, str(value)))]


def start(study: str, home: Path, *, cache: Path | None = None, **params) -> subprocess.Popen:
    "`python -m musicmtl.runs STUDY -p NAME VALUE …`."
    command = [sys.executable, "-m", "musicmtl.runs", *arguments(study, params)]
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
    "Execute a study's notebook here, without a kernel; as IPython does, the sources of its cells are kept in `In`."
    scope = {"__name__": "__main__", "In": [""]}
    for number, source in enumerate(cells(study, params)):
        scope["In"].append(source)
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


def execute_quietly(study: str, params: dict) -> None:
    "The same, where its notebooks lie and without a window."
    os.environ["MPLBACKEND"] = "Agg"
    os.chdir(notebooks_folder(study))
    execute(study, params)


def _child(function, args: tuple, env: dict, log: Path, kill_at: str | None, again: bool) -> None:
    "What a forked process does; its exit status is what `function` returns."
    os.environ.update(env)
    sys.stdout = sys.stderr = open(log, "w", buffering=1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process leaves behind
    if kill_at:
        _kill_at(kill_at, again)
    try:
        sys.exit(function(*args))
    except Exception:
        traceback.print_exc()
        raise


def fork(function, *args) -> multiprocessing.Process:
    "Call an importable function in a process forked from one that has imported the studies."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["papermill", *studies().values()])
    process = context.Process(target=function, args=args)
    process.start()
    return process


class Forked:
    "A study in forked processes, its files in one folder."

    def __init__(self, study: str, home: Path, *, cache: Path | None = None, **params):
        self.study, self.home, self.params = study, home, params
        self.env, self.log = environment(home, cache), home / "log.txt"

    def _call(self, function, *args, kill_at: str | None = None, again: bool = False) -> int:
        self.home.mkdir(parents=True, exist_ok=True)
        process = fork(_child, function, args, self.env, self.log, kill_at, again)
        process.join(600)
        if process.exitcode is None:
            process.kill()
            raise RunError(f"{self.study}: expected an end within 600 s, found none: {self.log.read_text()}")
        return process.exitcode

    def notebook(
        self,
        kill_at: str | None = None,  # Regular expression: SIGKILL before a file of such a name is written
        again: bool = False,  # Only where the file exists already
    ) -> int:  # Exit status, -9 where it was killed
        "Execute all cells, or all until the kill."
        return self._call(execute_quietly, self.study, self.params, kill_at=kill_at, again=again)

    def driver(self) -> int:  # Exit status
        "The driver's command line."
        return self._call(main, arguments(self.study, self.params))

    def run(self, how) -> Path:
        "Folder of the run, after one of the two went well."
        assert how(self) == 0, self.log.read_text()
        return the_run(self.home, self.study)

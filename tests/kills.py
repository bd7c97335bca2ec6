"""Studies that are killed at random moments, started again until they end, and compared with a run that was left alone.

`chain` does it once: kill, start again, which goes on from what is there, kill ... and at last let it end.
"""

import contextlib
import re
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import Process
from pathlib import Path

import numpy as np
import psutil
from joblib.externals.loky import get_reusable_executor

from processes import Forked, _child, execute_quietly, fork, the_run

from musicmtl.study import claims_of

GONE_S = 30.0  # In which the workers of a driver that was killed must have ended, seconds


def tables(study: str, figures: Path) -> dict[str, list[bytes]]:
    "Lines of a run's tables, without wall times and the claims about them, which no two runs share."
    found = {file.name: file.read_bytes().splitlines() for file in figures.glob("data/[!.]*.csv")}
    rules = claims_of().get(study, {}).items()
    about_time = [claim for claim, rule in rules if re.search(r"\btime\b", str(rule["margins"]))]
    if about_time:
        begin = tuple(f"{study},{claim},".encode() for claim in about_time)
        found["claims.csv"] = [line for line in found["claims.csv"] if not line.startswith(begin)]
    return {name: lines for name, lines in found.items() if not name.endswith("_time.csv")}


def workers(driver: psutil.Process) -> list[psutil.Process]:
    "Processes that train."
    found = []
    for child in driver.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if "loky.backend.popen" in " ".join(child.cmdline()):
                found.append(child)
    return found


def strike(pid: int, victim: str, rng: np.random.Generator) -> list[psutil.Process]:  # Who survived, and should not
    "SIGKILL to `all` processes, to the `driver` alone, or to a `worker`."
    driver = psutil.Process(pid)
    family = driver.children(recursive=True)
    if victim == "worker":
        if found := workers(driver):
            found[rng.integers(len(found))].kill()
        return []
    for process in [driver, *(family if victim == "all" else ())]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return psutil.wait_procs(family, timeout=GONE_S)[1]


@dataclass
class Outcome:
    "What became of a chain."

    kills: Counter = field(default_factory=Counter)  # Victim -> times
    orphans: int = 0  # Workers that outlived their driver
    refused: int = 0  # Attempts that gave up in a sentence: too many workers were killed in a row
    failed: str = ""  # What an attempt said that ended by itself with another error
    different: list = field(default_factory=list)  # Tables

    @property
    def right(self) -> bool:
        return not (self.orphans or self.failed or self.different)


def to_the_end(study: str, params: dict) -> None:
    "Execute a study's notebook; its workers end with it, for which this process would else wait."
    execute_quietly(study, params)
    get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def attempt(forked: Forked) -> Process:
    "The study's notebook in a process of its own, begun."
    forked.home.mkdir(parents=True, exist_ok=True)
    return fork(_child, to_the_end, (forked.study, forked.params), forked.env, forked.log, None, False)


def chain(
    forked: Forked,
    expected: dict[str, list[bytes]],  # Tables of a run that was left alone
    lifetimes: list[float],  # Seconds that each attempt gets
    rng: np.random.Generator,
    victims=("all", "driver", "worker"),
) -> Outcome:
    "Kill a study once per lifetime, or until it ends; then let it end, and compare."
    outcome, lifetimes = Outcome(), list(lifetimes)
    while True:
        process = attempt(forked)
        while lifetimes:
            process.join(lifetimes[0])
            if process.exitcode is not None:
                break
            victim = str(rng.choice(victims))
            outcome.kills[victim] += 1
            outcome.orphans += len(strike(process.pid, victim, rng))
            lifetimes.pop(0)
            if victim != "worker":
                break
        if not lifetimes and process.exitcode is None:
            process.join(600)
        elif process.exitcode is None:
            process.join(10)
        if process.exitcode == 0:
            break
        if process.exitcode is None or process.exitcode > 0:
            said = forked.log.read_text()[-500:]
            if "RunError" not in said or "workers die" not in said:
                outcome.failed = f"exit status {process.exitcode}: {said}"
                return outcome
            outcome.refused += 1
    found = tables(forked.study, the_run(forked.home, forked.study) / "figures")
    outcome.different = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    return outcome

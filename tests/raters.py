"""A whole study in a few lines: raters guess the class of two hundred items, in songs of ten.

`smart` is what the paper proposes. Its mistake is to test on what was rated before.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from musicmtl import viz
from musicmtl.core import generator
from musicmtl.study import Comparison, CommonSettings, Job, NotTestable, Study, Table, collect, draws, run_jobs

TRUTH, SONGS = generator("truth").integers(0, 4, 200), np.arange(200) // 10
DATA = SimpleNamespace(name="items", fingerprint="0" * 32, notes=("200 items remain",), corpus=range(200))

EIGHT = [(label, end, seed) for label in ("plain", "smart") for end in ("published", "corrected") for seed in (0, 1)]


@dataclass(frozen=True)
class Guess(Job):
    "A rater; it also says on how many threads it ran, and leaves a line in `root` each time that it is trained."

    label: str
    protocol: str
    seed: int = 0

    @property
    def name(self):
        return f"{self.protocol}-{self.label}-{self.seed}"

    def train(self, data, settings, root):
        with open(Path(root) / "trained.txt", "a") as log:
            log.write(f"{self.name} {os.getpid()}\n")
        skill = {"plain": 0.3, "smart": 0.6}[self.label] + 0.2 * (self.protocol == "published")
        rng = generator(self.label, self.protocol, self.seed)
        lucky = rng.random(200) < skill
        return {"predicted": np.where(lucky, TRUTH, rng.integers(0, 4, 200)), "threads": torch.get_num_threads()}


class Slow(Guess):
    "A rater that takes its time."

    def train(self, data, settings, root):
        time.sleep(0.1)
        return super().train(data, settings, root)


@dataclass(frozen=True)
class Fatal(Guess):
    "A rater that SIGKILL meets in the middle: the first time, or each time."

    each_time: bool = False

    def train(self, data, settings, root):
        died = Path(root) / f"{self.name}.died"
        if self.each_time or not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train(data, settings, root)


def run_slowly(root, n_jobs):
    "Train eight slow raters in a group of processes of its own, so that they can be killed together."
    os.setpgrp()
    run_jobs([Slow(*names) for names in EIGHT], DATA, CommonSettings(n_jobs=n_jobs), root)


def collect_often(study, folder):
    "Merge twenty verdicts, one after another, into a table that other studies have, too."
    for number in range(20):
        how = {"name": "claims", "key": ["study", "claim"], "columns": ["study", "claim"]}
        collect(study, [{"claim": f"C{number}"}], folder, **how)


def stages(data, settings):
    ends = [protocol for protocol in ("published", "corrected") if settings.wants(protocol)]
    seeds = settings.seed_range(settings.seeds)
    return {"raters": [Guess(label, end, seed) for label in settings.variants for end in ends for seed in seeds]}


def read(data, settings, results):
    jobs = stages(data, settings)["raters"]
    return [SimpleNamespace(trial=job, predicted=results[job]["predicted"], seconds_per_step=0.1) for job in jobs]


def scores(data, settings, reading, by="item"):
    hits = np.bincount(SONGS, reading.predicted == TRUTH) / 10
    if by == "song":
        hits = hits > 0.5
    return {"accuracy": draws(20) @ hits / 20, "n_groups": 20}


def gain(board, protocol):
    seeds = board.seeds((protocol, "smart"), (protocol, "plain"))
    smart, plain = (board.sample(label, protocol, seeds=seeds) for label in ("smart", "plain"))
    return {"gain": 100 * (smart - plain)}


def not_here(board, protocol):
    raise NotTestable("no rater was asked twice")


def chance(outcome):
    return [{"protocol": "corrected", "variant": "chance", "seed": 0, "metric": "accuracy", "value": 0.25}]


def hits(outcome):
    rows = [
        {**outcome.row_of(reading), "song": song, "hits": count}
        for reading in outcome.readings
        for song, count in enumerate(np.bincount(SONGS, reading.predicted == TRUTH))
    ]
    return pd.DataFrame(rows)


def comparisons(board):
    yield Comparison("Tested on what was rated before", "smart", "accuracy", "published")
    yield Comparison("Never trained", "absent", "accuracy", "published")


def draw_scores(outcome):
    return {"accuracy": viz.score_bars(outcome.tables["scores"], metric="accuracy")}


STUDY = Study(
    name="raters",
    title="Raters",
    settings=CommonSettings,
    prepare=lambda settings: DATA,
    stages=stages,
    read=read,
    scores=scores,
    references=chance,
    reported=lambda data, protocol: {("smart", "accuracy"): (64.0, "Table 1")},
    tables={"hits": Table(hits, ("protocol", "variant", "seed", "song", "hits"))},
    claims={"R1": gain, "R2": not_here},
    both=("R1",),
    comparisons=comparisons,
    figures=(draw_scores,),
)
CLAIMS_YAML = """\
R1:
  claim: Smart raters beat plain ones
  where: §4
  margins:
    gain: {effect: accuracy of smart minus accuracy of plain, unit: points, above: 0}
R2:
  claim: Raters agree with themselves
  where: §5
  margins:
    same: {effect: share of items that a rater names twice in the same way, unit: per cent, above: 90}
"""


def write_paper(
    folder: Path,  # Of papers
) -> None:
    "The paper of the raters: a package with its rules and its numbers."
    paper = folder / "raters"
    paper.mkdir(parents=True)
    (paper / "__init__.py").write_text(
        '"Raters."\n\nSTUDIES = {"raters": "raters_study", "raters_truth": "elsewhere"}\n'
    )
    (paper / "claims.yaml").write_text(CLAIMS_YAML, encoding="utf-8")
    (paper / "published.csv").write_text(
        "study,ref,variant,metric,paper_value\nraters,Table 1,smart,accuracy,64\n", encoding="utf-8"
    )


def die_at_first(mark: Path, answer: int) -> int:
    "An answer, from the second call on; SIGKILL meets the first."
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

"How far a study is, in a file and on two bars."

import builtins
import io
import json
import sys

import pytest

from musicmtl.core import is_quiet
from musicmtl.study.runs import Bars, Tally, watched

STAGES = {"networks": ["a", "b", "c"], "rivals": ["d"]}


def test_networks_are_counted_over_all_stages_and_those_that_were_there_apart(tmp_path):
    with Tally(STAGES, tmp_path) as tally:
        ended = tally.stage("networks")
        ended(2)
        ended(1)
        tally.stage("rivals")(0)
    found = json.loads((tmp_path / "progress.json").read_text())
    found.pop("stage_s")
    assert found == {
        "done": 3, "trained": 1, "total": 4, "stages": 2, "number": 2,
        "stage": "rivals", "stage_total": 1, "stage_done": 0, "stage_there": 0,
    }  # fmt: skip


def test_the_time_left_is_that_of_what_is_missing(tmp_path):
    "Two were there at once; two took 60 s each, of 6 that are missing 4 are left: 240 s."
    out = io.StringIO()
    bars = Bars("agf", out)
    bars.show({})
    found = {"done": 4, "total": 20, "trained": 2, "stages": 3, "number": 1, "stage": "networks"}
    bars.show(found | {"stage_total": 8, "stage_done": 4, "stage_there": 2, "stage_s": 120.0})
    shown = bars.stage.format_dict
    assert (shown["total"] - shown["n"]) * shown["elapsed"] / (shown["n"] - shown["initial"]) == pytest.approx(
        240, 0.01
    )
    drawn = out.getvalue()
    assert "04:0" in drawn and "left" in drawn and "agf: stage 1 of 3" in drawn and "4/20" in drawn
    bars.close()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_is_drawn_where_nobody_looks(tmp_path, monkeypatch):
    monkeypatch.delattr(builtins, "__IPYTHON__", raising=False)  # left by a test that has made a shell
    for out, variable, quiet in ((io.StringIO(), "0", True), (Terminal(), "1", True), (Terminal(), "0", False)):
        monkeypatch.setattr(sys, "stderr", out)
        monkeypatch.setenv("TQDM_DISABLE", variable)
        assert is_quiet() == quiet
        with watched(tmp_path, "agf"):
            pass
        assert bool(out.getvalue()) != quiet

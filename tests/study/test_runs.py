"""The strict door, the run's folder, the results table and the verdicts."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from musicmtl import runs
from musicmtl.core import ParamsError, RunError, repo_root
from musicmtl.study.runs import (
    check,
    claim,
    claims_of,
    collect,
    open_run,
    parameter_cell,
    published,
    resolve,
    run,
    run_id,
    settings_class,
    verdict,
)

STUDY_NOTEBOOKS = sorted((repo_root() / "nbs" / "studies").glob("*.ipynb"))


@dataclass(frozen=True)
class S:
    kind: Literal["a", "b"] = "a"
    n: int = 1
    x: float | None = None
    names: tuple[str, ...] = ()
    preset: str = "smoke"
    n_jobs: int = field(default=2, metadata={"neutral": True})


@pytest.mark.parametrize(
    "values,said",
    [
        ({"m": 1}, "unknown name 'm'; there are kind, n, x, names, preset"),
        ({"n": 1.5}, "n must be a whole number, found 1.5"),
        ({"n": True}, "n must be a whole number, found True"),
        ({"x": "1"}, "x must be a number or nothing, found '1'"),
        ({"kind": "c"}, "kind must be one of 'a', 'b', found 'c'"),
        ({"names": ["a", 1]}, r"names must be a list of a text, found \['a', 1\]"),
    ],
)
def test_wrong_parameters_get_one_sentence(values, said):
    with pytest.raises(ParamsError, match=said):
        check(S, values)


def test_presets_fill_in_and_what_is_given_wins(tmp_path):
    (tmp_path / "s-mini.yaml").write_text("n: 5\nx: 2\nnames: [u]\n")
    assert resolve(S, "s", {"preset": "mini", "n": 7, "x": None}, tmp_path) == S(
        n=7, x=2.0, names=("u",), preset="mini"
    )
    (tmp_path / "s-bad.yaml").write_text("m: 5\n")
    with pytest.raises(ParamsError, match="preset s-bad: unknown name 'm'"):
        resolve(S, "s", {"preset": "bad"}, tmp_path)


def test_run_id_depends_on_what_can_change_a_number():
    assert run_id("s", S()) == run_id("s", S(n_jobs=8)) != run_id("s", S(n=2))
    assert run_id("s", S()) != run_id("t", S())


def test_a_run_is_running_until_it_is_done(tmp_path):
    r = open_run("s", S(), tmp_path)
    m = r.manifest
    assert m["status"] == "running" and m["parameters"]["kind"] == "a" and {"torch", "python"} <= set(m["versions"])
    r.finish(notes=["one"])
    again = open_run("s", S(), tmp_path)
    assert again.done and again.manifest["notes"] == ["one"]


@pytest.mark.parametrize("notebook", STUDY_NOTEBOOKS, ids=lambda p: p.stem)
def test_study_notebooks_keep_their_shape(notebook):
    "A parameters cell of at most a dozen names with comments, all of them settings; presets that resolve; no logic."
    names, cls = parameter_cell(notebook), settings_class(notebook.stem)
    assert 0 < len(names) <= 12 and all(names.values())
    assert set(names) <= set(cls.__dataclass_fields__)
    presets = sorted((notebook.parent / "presets").glob(f"{notebook.stem}-*.yaml"))
    assert {"smoke", "mini"} <= {p.stem.rpartition("-")[2] for p in presets}
    for p in presets:
        resolve(cls, notebook.stem, {"preset": p.stem.rpartition("-")[2]})
    for c in json.loads(notebook.read_text())["cells"]:
        if c["cell_type"] == "code":
            assert not any(line.startswith(("def ", "class ", "if ", "while ")) for line in c["source"])


@pytest.mark.parametrize("notebook", sorted((repo_root() / "nbs").rglob("*.ipynb")), ids=lambda p: p.stem)
def test_outputs_name_no_place_of_this_machine(notebook):
    "Committed outputs hold no warning and no path of the machine that made them."
    for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for o in c.get("outputs", []):
            assert o.get("name") != "stderr", "".join(o["text"])
            data = {
                k: v for k, v in o.pop("data", {}).items() if not k.startswith("image/")
            }  # pictures may spell anything in base64
            text = json.dumps([o, data])
            assert str(repo_root()) not in text and "site-packages" not in text and "/tmp/" not in text


def test_gradnorm_moves_in_short_runs():
    "Its learning rate is 3/(number of steps), at least 1e-3, in every preset but `paper`."
    for preset in ("mini", "claims"):
        P = resolve(settings_class("agf"), "agf", {"preset": preset})
        steps = P.epochs * P.steps_per_epoch
        assert steps >= 300 and P.epochs >= 10
        assert P.gradnorm_lr == pytest.approx(max(3 / steps, 1e-3))


def test_the_driver_refuses_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICMTL_RUNS", str(tmp_path))
    with pytest.raises(ParamsError, match="no study 'agv'; there are agf"):
        run("agv")
    with pytest.raises(ParamsError, match="unknown name 'sead'; agf takes corpus"):
        run("agf", sead=1)
    with pytest.raises(ParamsError, match="seed must be a whole number, found 'one'"):
        run("agf", seed="one")
    with pytest.raises(ParamsError, match="preset must be one of"):
        run("agf", preset="huge")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_share_a_run(tmp_path):
    with runs.locked(tmp_path / "r"), pytest.raises(RunError, match="in use"), runs.locked(tmp_path / "r"):
        pass
    with runs.locked(tmp_path / "r"):
        pass


def test_command_line_says_it_in_one_line(tmp_path):
    r = subprocess.run(
        [sys.executable, "-m", "musicmtl.runs", "agf", "-p", "n_jobs", "many"], capture_output=True, text=True
    )
    assert r.returncode == 2 and r.stderr.strip() == "agf: parameters: n_jobs must be a whole number, found 'many'"


ROW = dict(run="ab", corpus="c", preset="mini", protocol="corrected", variant="v", seed=0, metric="micro_f1", value=0.5)


def test_collect_replaces_only_what_was_run(tmp_path):
    collect("s", [ROW, {**ROW, "metric": "macro_f1", "value": 0.4}, {**ROW, "variant": "w"}], tmp_path)
    t = collect("s", [{**ROW, "value": 0.6}], tmp_path)
    assert set(zip(t.variant, t.metric, t.value, strict=True)) == {("v", "micro_f1", 0.6), ("w", "micro_f1", 0.5)}


def test_collect_is_byte_stable_whatever_the_order(tmp_path):
    rows = [{**ROW, "variant": v, "seed": s, "value": 1 / 3 + s} for v in "ab" for s in range(3)]
    for folder, these in (("x", rows), ("y", rows[::-1])):
        collect("s", these, tmp_path / folder)
    assert (tmp_path / "x" / "s.csv").read_bytes() == (tmp_path / "y" / "s.csv").read_bytes()


@given(low=st.floats(-5, 5), width=st.floats(0, 5), bound=st.floats(-3, 3))
def test_verdicts_are_symmetric_and_exclusive(low, width, bound):
    high = low + width
    above, below = verdict(low, high, {"above": bound}), verdict(low, high, {"below": bound})
    assert (above == "holds") == (low > bound)
    assert not (above == below == "holds")
    if low < bound < high:
        assert above == below == "not resolved"
    assert verdict(low, high, {"within": 6 + abs(high)}) == "holds" or low < -6 - abs(high)


def test_every_rule_is_complete_and_every_claim_has_one():
    for study in yaml.safe_load((repo_root() / "musicmtl" / "data" / "claims.yaml").read_text()):
        for id, c in claims_of(study).items():
            assert set(c) == {"claim", "where", "effect", "unit", "rule", "test"}, id
            assert len(c["test"]) == 1 and set(c["test"]) <= {"above", "below", "within"}
    for study, letter, n in (
        ("agf", "A", 13),
        ("artist_language", "L", 4),
        ("lstm_ensemble", "S", 20),
        ("pase", "P", 15),
        ("tagging", "T", 7),
    ):
        assert list(claims_of(study)) == [f"{letter}{i}" for i in range(1, n + 1)]


def test_a_claim_that_cannot_be_tested_says_why():
    row = claim("agf", "A9", "albums", "corrected", reason="one window a track was not trained")
    assert (
        row["verdict"] == "not testable here"
        and row["rule"] == "one window a track was not trained"
        and "effect" not in row
    )


def test_the_papers_numbers_stand_in_one_place():
    t = published()
    assert [len(published(s)) for s in ("agf", "artist_language", "lstm_ensemble", "pase")] == [
        5,
        11,
        12,
        7,
    ] and t.paper_value.notna().any()
    numbers = {"0.362", "87.99", "91.08", "70.45", "39.78", "74.88", "47.26", "48.47"}
    for f in (repo_root() / "musicmtl").rglob("*.py"):
        assert not any(n in f.read_text() for n in numbers), f
    assert pd.read_csv(repo_root() / "musicmtl" / "data" / "published.csv").columns.tolist() == [
        "study",
        "ref",
        "variant",
        "metric",
        "paper_value",
    ]

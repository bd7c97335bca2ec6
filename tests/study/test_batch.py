"Many runs: what there is, sweeps that go on after a failure, and the logs of trainings."

import csv
import io
import json
import os
import subprocess

import numpy as np
import pandas as pd
import pytest

from processes import environment

from musicmtl.core import ParamsError, RunError
from musicmtl.study import find_study, history_arrays, jobs_folder, resolve
from musicmtl.study.batch import (
    LIST_COLUMNS,
    aligned,
    combinations,
    find_run,
    gather_logs,
    main,
    members,
    run_rows,
    split_values,
    sweep,
)
from musicmtl.study.provenance import training_code
from musicmtl.study.runs import open_run

RESULT = {"metric": "micro_f1", "protocol": "corrected", "values": {"single_task": 0.5, "equal": 0.25}}


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


def settings(**given):
    return resolve(find_study("agf").settings, "agf", given)


def finish(this, **what):
    code = f"{training_code('musicmtl.papers.agf')}-000000"
    this.finish(**{"name": "miniature", "notes": [], "result": RESULT, "code": code} | what)


def test_the_list_says_what_each_run_is_and_whether_other_code_has_trained_it(home, capsys):
    finish(open_run("agf", settings()))
    finish(open_run("agf", settings(seed=1)), code="abcdef-000000")
    open_run("agf", settings(seed=2))._note(status="failed", reason="no room")
    running = open_run("agf", settings(seed=3))
    running._note(result=RESULT)  # of a time before; what it will say now is not known yet
    (running.root / "progress.json").write_text('{"done": 3, "total": 14}')
    torn = open_run("agf", settings(seed=4)).root
    (torn / "manifest.json").write_text("{")
    for age, folder in enumerate(sorted((home / "runs" / "agf").iterdir())):
        os.utime(folder / "manifest.json", (1e9 + age, 1e9 + age))
    assert main(["list", "--json"]) == 0
    rows = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    found = {run: (row["state"], row["stale"]) for run, row in rows.items()}
    assert sorted(found.values()) == [
        ("damaged", ""), ("done", "no"), ("done", "yes"), ("failed", ""), ("running 3/14", ""),
    ]  # fmt: skip
    assert rows[running.id]["preset"] == "smoke" and rows[running.id]["root"] == str(running.root)
    assert rows[running.id]["result"] == "" and any(row["result"] == RESULT for row in rows.values())
    assert main(["list", "agf", "--csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(table[0]) == LIST_COLUMNS and {row["run"] for row in table} == set(rows)
    assert main(["list", "--state", "failed"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["run", "study"] and line.endswith("no room")


def test_a_run_of_an_earlier_version_is_looked_up_in_the_tables(home, monkeypatch):
    monkeypatch.setenv("MUSICMTL_FIGURES", str(home / "figures"))
    this = open_run("agf", settings(preset="mini"))
    this.finish()
    (home / "figures" / "data").mkdir(parents=True)
    rows = [{"run": this.id, "code": "abcdef-1", "protocol": "corrected", "metric": "micro_f1", "variant": variant}
            for variant in ("upgrad", "upgrad", "single_task")]  # fmt: skip
    table = pd.DataFrame(rows).assign(value=[0.25, 0.75, 0.5])
    table.to_csv(home / "figures" / "data" / "agf.csv", index=False)
    (row,) = run_rows()
    assert row["stale"] == "yes" and row["result"]["values"] == {"single_task": 0.5, "upgrad": 0.5}


def test_there_may_be_no_runs(home, capsys):
    assert main(["list"]) == 0
    assert capsys.readouterr().out == f"no runs in {home / 'runs'}\n"


@pytest.mark.parametrize(
    "text, values",
    [("a", ["a"]), ("0, 1,2", ["0", "1", "2"]), ("[a,b],[c]", ["[a,b]", "[c]"]), ("(1,2)", ["(1,2)"]), ("", [""])],
)
def test_values_are_split_at_the_commas_outside_brackets(text, values):
    assert split_values(text) == values


def test_settings_that_are_zipped_change_together():
    swept = {"seed": ["0", "1"], "corpus": ["x", "y"], "root": ["/x", "/y"]}
    found = combinations(swept, (("corpus", "root"),))
    assert len(combinations(swept)) == 8 and len(found) == 4
    assert all(one["root"] == f"/{one['corpus']}" for one in found)
    with pytest.raises(ParamsError, match="expected as many values of each, found 2 of corpus, 3 of root"):
        combinations({"corpus": ["x", "y"], "root": ["1", "2", "3"]}, (("corpus", "root"),))
    with pytest.raises(ParamsError, match="found 'colour'"):
        combinations(swept, (("corpus", "colour"),))


def test_the_same_run_is_asked_for_once(home):
    assert len(members("agf", {}, {"balancer": ["gradnorm_epoch", "upgrad"], "seed": ["0", "0"]})) == 2


@pytest.mark.parametrize(
    "words, message",
    [
        ("-p sead 0,1", "unknown name 'sead'"),
        ("-p seed 0,one", "seed must be a whole number, found 'one'"),
        ("-p root nowhere -p seed 0,1", "nowhere does not exist"),
        ("-p seed 0,1 -j 0", "-j: expected 1 or more, found 0"),
    ],
)
def test_what_is_wrong_with_any_run_is_said_before_the_first(words, message, home, capsys):
    assert main(["sweep", "agf", *words.split()]) == 2
    assert message in capsys.readouterr().err and list(home.iterdir()) == []


def test_a_dry_run_says_each_command(home, capsys):
    assert main(["sweep", "agf", "-p", "seed", "0,1", "-p", "variants", "[single_task,equal]", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and list(home.iterdir()) == []
    assert lines[1].startswith(
        "python -m musicmtl.runs agf -p preset smoke -p variants '[single_task,equal]' -p seed 1"
    )


@pytest.fixture
def pretended(monkeypatch):
    "Runs that take no time; seed 1 fails. What was called, with the environment."
    calls, really = [], subprocess.run

    def pretend(command, env=None, **options):
        if command[0] == "git":
            return really(command, env=env, **options)
        given = dict(zip(command[5::3], command[6::3], strict=True))
        calls.append((given, env))
        this = open_run("agf", settings(**given))
        if given["seed"] == "1" and "mended" not in os.environ:
            this._note(status="failed", reason="no room")
            return subprocess.CompletedProcess(command, 2)
        seed = int(given["seed"])
        finish(this, result=RESULT | {"values": {"equal": 0.5 + 0.1 * seed}}, figures=env["MUSICMTL_FIGURES"])
        (this.root / "figures" / "data").mkdir(parents=True)
        row = {"run": this.id, "variant": "equal", "metric": "micro_f1", "protocol": "corrected", "value": 0.5}
        pd.DataFrame([row]).to_csv(this.root / "figures" / "data" / "agf.csv", index=False)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", pretend)
    return calls


def test_one_run_that_fails_does_not_stop_the_others_and_the_same_command_goes_on(home, pretended, monkeypatch, capsys):
    command = ["sweep", "agf", "-p", "seed", "0,1,2", "-p", "balancer", "upgrad", "-j", "2"]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert len(pretended) == 3 and {given["balancer"] for given, _ in pretended} == {"upgrad"}
    assert "3 runs, 0 of them done" in said and "2 of 3 runs are done:" in said and "seed=1: failed: no room" in said
    (line,) = [line for line in said.splitlines() if line.startswith("equal")]
    assert line.split() == ["equal", "0.6000", "0.1414", "2"]  # mean, standard deviation, number of seeds
    places = {env["MUSICMTL_FIGURES"] for _, env in pretended}
    assert len(places) == 3  # a folder each: the tables of one do not overwrite those of another
    monkeypatch.setenv("mended", "1")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert len(pretended) == 4 and "3 runs, 2 of them done" in said and "3 of 3 runs are done" in said
    (file,) = (home / "runs" / "agf" / "sweeps").glob("*.csv")
    assert sorted(pd.read_csv(file).set_seed) == [0, 1, 2]


def test_cores_are_shared_by_runs_side_by_side(home, pretended, monkeypatch):
    "The number of jobs of a run changes no number, and not its name."
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert sweep(members("agf", {}, {"seed": ["0", "2"]})) == 0
    assert {given["n_jobs"] for given, _ in pretended} == {"4"}


def history():
    columns = {"epoch": [0, 0], "step": [0, 0], "task": ["genre", "mfcc"], "loss": [2.0, 3.0]}
    return pd.DataFrame(columns | {"weight": [1.0, 0.5], "norm": [0.1, 0.2]})


def test_logs_of_a_run_are_gathered_in_one_table(home, capsys):
    "Also of trainings that left none; a job that learnt in no steps has none."
    this = open_run("agf", settings())
    folder = jobs_folder(this.settings, this)
    for name, arrays in {"network": history_arrays(history()), "factors": {"x": np.zeros(3)}}.items():
        (folder / name).mkdir(parents=True)
        np.savez(folder / name / "result.npz", **arrays)
    this.finish(jobs=["network", "factors", "gone"])
    file, n_trainings, n_rows = gather_logs(find_run(this.id[:5]))
    table = pd.read_csv(file)
    assert (n_trainings, n_rows) == (1, 2) and list(table.columns)[:2] == ["job", "part"]
    assert list(table.weight) == [1.0, 0.5] and (folder / "network" / "log.csv").exists()
    assert main(["logs", f"agf/{this.id}", "--out", str(home / "mine.csv")]) == 0
    assert (home / "mine.csv").exists() and "2 rows of 1 trainings" in capsys.readouterr().out


def test_a_run_is_found_by_a_name_that_only_it_has(home, capsys):
    first, second = open_run("agf", settings()), open_run("agf", settings(seed=1))
    assert find_run(f"agf/{second.id}").id == second.id
    with pytest.raises(RunError, match="expected one run called  in .*, found agf/"):
        find_run("")
    assert main(["logs", "nonsense"]) == 2
    assert "found none" in capsys.readouterr().err
    with pytest.raises(RunError, match="with a history, found none"):
        gather_logs(first)


def test_a_table_for_a_terminal_is_aligned_and_cut():
    assert aligned([{"a": "x", "bc": "y" * 9}], most=5) == "a  bc\nx  yyyy…"
    assert aligned([]) == "nothing"

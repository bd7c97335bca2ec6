"A run has a folder and a manifest; the driver refuses before anything starts, and says why in one sentence."

import json
import runpy
import sys

import pytest

from processes import environment

from musicmtl.core import ParamsError, RunError
from musicmtl.study import CommonSettings, main_studies
from musicmtl.study.runs import main, open_run, output_folder, run


@pytest.fixture
def home(tmp_path, monkeypatch):
    "Runs and cache in a folder of the test."
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_a_run_is_running_until_it_is_done(tmp_path):
    first = open_run("s", CommonSettings(), tmp_path)
    manifest = first.manifest
    assert manifest["status"] == "running" and not first.done and first.root == tmp_path / "s" / first.id
    assert manifest["parameters"]["corpus"] == "miniature" and {"torch", "python"} <= set(manifest["versions"])
    first.finish(notes=["one"])
    again = open_run("s", CommonSettings(n_jobs=7), tmp_path)
    assert again.done and again.manifest["notes"] == ["one"] and again.root == first.root
    assert open_run("s", CommonSettings(seed=1), tmp_path).root != first.root


def test_runs_go_where_the_environment_says(home):
    assert open_run("s", CommonSettings()).root.parent == home / "runs" / "s"


def test_smoke_keeps_its_figures_to_itself(tmp_path, monkeypatch):
    smoke, mini = (open_run("s", CommonSettings(preset=preset), tmp_path) for preset in ("smoke", "mini"))
    monkeypatch.setenv("MUSICMTL_FIGURES", str(tmp_path / "figures"))
    assert output_folder(smoke) == smoke.root / "figures" and output_folder(mini) == tmp_path / "figures"
    monkeypatch.delenv("MUSICMTL_FIGURES")
    assert output_folder(mini).name == "figures" and output_folder(mini).parent != mini.root


@pytest.mark.parametrize(
    "study, params, message",
    [
        ("agv", {}, "no study 'agv'; there are agf"),
        ("agf", {"sead": 1}, "unknown name 'sead'; agf takes corpus"),
        ("agf", {"lr": 0.1}, "unknown name 'lr'; agf takes corpus"),  # a setting, but no parameter of the notebook
        ("agf", {"seed": "one"}, "seed must be a whole number, found 'one'"),
        ("agf", {"preset": "huge"}, "preset must be one of claims, mini, paper, smoke, found 'huge'"),
    ],
)
def test_the_driver_refuses_before_anything_starts(study, params, message, home):
    with pytest.raises(ParamsError, match=message):
        run(study, **params)
    assert list(home.iterdir()) == []


def test_the_notebooks_own_error_comes_back_in_one_sentence(home, capsys):
    "Through papermill and a kernel; the manifest keeps it."
    assert main(["agf", "-p", "corpus", "folder", "-p", "root", str(home / "nowhere")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("agf: ") and "does not exist" in lines[-1] and "Traceback" not in "".join(lines)
    (file,) = (home / "runs" / "agf").glob("*/manifest.json")
    manifest = json.loads(file.read_text())
    assert manifest["status"] == "failed" and "does not exist" in manifest["reason"]
    assert (file.parent / "executed.ipynb").exists()


def test_the_command_line_is_a_module(home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["musicmtl.runs", "agf", "-p", "n_jobs", "many"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("musicmtl.runs", run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip() == "agf: parameters: n_jobs must be a whole number, found 'many'"


def test_all_means_every_papers_main_study(home, monkeypatch, capsys):
    "One that fails ends the row."
    asked = []

    def pretend(study, **params):
        asked.append((study, params))
        if study == "lstm_ensemble":
            raise RunError("no room")
        return open_run(study, CommonSettings(preset=params["preset"]))

    monkeypatch.setattr("musicmtl.study.runs.run", pretend)
    assert main(["all", "--preset", "mini", "-p", "seed", "3", "-p", "root", "~/Music"]) == 2
    assert [study for study, _ in asked] == main_studies()[:3]
    assert all(params == {"again": False, "preset": "mini", "seed": 3, "root": "~/Music"} for _, params in asked)
    assert capsys.readouterr().err == "lstm_ensemble: no room\n"

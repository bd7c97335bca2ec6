"A run has a folder and a manifest; the driver refuses before anything starts, and says why in one sentence."

import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from processes import environment

from musicmtl.core import CorpusError, ParamsError, RunError
from musicmtl.study import CommonSettings, find_study, main_studies, resolve, run_id
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
        ("agf", {"lr": "fast"}, "lr must be a number, found 'fast'"),  # a setting that the notebook does not show
        ("agf_truth", {"root": "/music"}, "agf_truth takes no folder of music"),
        ("agf", {"seed": "one"}, "seed must be a whole number, found 'one'"),
        (
            "agf",
            {"preset": "huge"},
            "preset must be one of albums, claims, commons, commons_artists, commons_sources, mini, paper",
        ),
    ],
)
def test_the_driver_refuses_before_anything_starts(study, params, message, home):
    with pytest.raises(ParamsError, match=message):
        run(study, **params)
    assert list(home.iterdir()) == []


@pytest.mark.long
def test_the_notebooks_own_error_comes_back_in_one_sentence(home, capsys):
    "Through papermill and a kernel; the manifest keeps it, and the last line says what to do."
    (home / "empty").mkdir()
    assert main(["agf", "-p", "corpus", "folder", "-p", "root", str(home / "empty")]) == 2
    *_, said, advice = capsys.readouterr().err.splitlines()
    (file,) = (home / "runs" / "agf").glob("*/manifest.json")
    manifest = json.loads(file.read_text())
    assert manifest["status"] == "failed" and said == f"agf: {manifest['reason']}" and str(home / "empty") in said
    executed = file.parent / "executed.ipynb"
    assert executed.exists() and str(executed) in advice and "the same command goes on" in advice


@pytest.mark.parametrize(
    "study, params, message",
    [
        ("agf", {"root": "nowhere"}, "corpus 'folder': the folder .*nowhere does not exist"),
        ("agf", {"corpus": "fma"}, "root: corpus 'fma' needs the folder that holds it, found None"),
        ("lstm_ensemble", {"corpus": "msd", "root": "nowhere"}, "corpus 'msd': the folder .*nowhere does not exist"),
    ],
)
def test_a_folder_that_is_not_there_is_said_before_anything_starts(study, params, message, home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises((ParamsError, CorpusError), match=message):
        run(study, **params)
    assert list(home.iterdir()) == []


LIGHT = """
import sys
from musicmtl.runs import main
status = main(sys.argv[1:])
heavy = [name for name in ("torch", "lightning", "pandas", "librosa", "matplotlib", "papermill") if name in sys.modules]
print("loaded:", *heavy)
sys.exit(status)
"""


@pytest.mark.parametrize(
    "words, status",
    [
        ("agf -p sead 1", 2),
        ("lstm_ensemble -p sead 1", 2),
        ("pase -p root nowhere", 2),
        ("tagging -p variants nonsense", 2),
        ("artist_language --help", 0),
        ("list", 0),
        ("sweep agf -p seed 0,1 --dry-run", 0),
    ],
)
def test_the_command_line_answers_before_it_loads_anything(words, status, home):
    "A typing error, a folder that is not there, help, lists: without torch and all that networks need."
    command = [sys.executable, "-c", LIGHT, *words.split()]
    answer = subprocess.run(command, env={**os.environ, **environment(home)}, capture_output=True, text=True, cwd=home)
    assert answer.returncode == status, answer.stderr
    assert answer.stdout.splitlines()[-1].strip() == "loaded:"


RESULT = {"metric": "micro_f1", "protocol": "corrected", "values": {"single_task": 0.5, "equal": 0.25}}


def test_a_run_says_what_it_used_what_it_left_out_what_came_out_and_where_it_lies(home, monkeypatch, capsys):
    "Also at preset smoke; repeated, it says at once that it is done, and the same again."

    def pretend(notebook, executed, given, **options):
        Path(executed).write_text("{}")
        this = open_run("agf", resolve(find_study("agf").settings, "agf", given))
        found = {"notes": ["2 tracks are too short", "34 tracks of 4 classes of genre remain"], "name": "mine"}
        this.finish(**found, networks={"trained": 3, "read": 4}, result=RESULT, figures=str(home / "figures"))

    monkeypatch.setattr("papermill.execute_notebook", pretend)
    assert main(["agf"]) == 0
    _, done, *said = capsys.readouterr().out.splitlines()
    (root,) = (home / "runs" / "agf").iterdir()
    assert done.startswith(f"agf: done (run {root.name}")
    used, left_out, found, lies = (line.split(maxsplit=1) for line in said)
    assert (
        used[1] == ("mine, 34 tracks of 4 classes of genre remain; 3 networks trained, 4 read from earlier runs")
        and left_out[1].split(maxsplit=1)[1] == "2 tracks are too short"
    )
    assert found[1] == "micro f1, corrected: single_task 0.5, equal 0.25"
    assert str(root) in lies[1] and str(home / "figures") in lies[1]
    monkeypatch.setattr("papermill.execute_notebook", None)
    os.utime(root / "manifest.json", (1e9, 1e9))
    assert main(["agf"]) == 0
    _, done, *again = capsys.readouterr().out.splitlines()
    assert done.startswith(f"agf: run {root.name} is done already (") and "--again" in done and again == said


def test_a_run_outside_a_checkout_keeps_its_files_where_the_caller_stands(home, monkeypatch):
    (home / "away").mkdir()
    monkeypatch.chdir(home / "away")
    monkeypatch.delenv("MUSICMTL_RUNS")
    monkeypatch.delenv("MUSICMTL_FIGURES", raising=False)
    places = []

    def pretend(notebook, executed, given, cwd, **options):
        places.append(cwd)
        Path(executed).write_text("{}")

    monkeypatch.setattr("papermill.execute_notebook", pretend)
    this = run("agf", preset="mini")
    assert this.root.parent == home / "away" / "runs" / "agf" and places == [str(home / "away")]
    assert output_folder(this) == home / "away" / "figures"


def test_a_terminal_sees_bars_and_the_kernel_draws_none(home, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Recorder:
        def __init__(self, what):
            seen.append(what)

        def show(self, found):
            pass

        def close(self):
            seen.append("closed")

    def pretend(notebook, executed, given, **options):
        seen.append(os.environ["TQDM_DISABLE"])
        Path(executed).write_text("{}")

    seen = []
    monkeypatch.setattr("musicmtl.study.runs.Bars", Recorder)
    monkeypatch.setattr("papermill.execute_notebook", pretend)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TQDM_DISABLE", "0")
    run("agf", preset="mini")
    assert seen == ["agf", "1", "closed"] and os.environ["TQDM_DISABLE"] == "0"


def test_the_command_line_is_a_module(home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["musicmtl.runs", "agf", "-p", "n_jobs", "many"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("musicmtl.runs", run_name="__main__")
    assert stop.value.code == 2
    said, advice = capsys.readouterr().err.splitlines()
    assert said == "agf: parameters: n_jobs must be a whole number, found 'many'"
    assert advice == "agf: nothing was started; python -m musicmtl.runs agf --help explains every setting"


def test_all_means_every_papers_main_study(home, monkeypatch, capsys):
    "One that fails ends the row."
    asked = []
    monkeypatch.setenv("HOME", str(home))
    (home / "Music").mkdir()

    def pretend(study, **params):
        asked.append((study, params))
        if study == "lstm_ensemble":
            raise RunError("no room")
        return open_run(study, CommonSettings(preset=params["preset"]))

    monkeypatch.setattr("musicmtl.study.runs.run", pretend)
    assert main(["all", "--preset", "mini", "-p", "seed", "3", "-p", "root", "~/Music"]) == 2
    assert [study for study, _ in asked] == main_studies()[:3]
    assert all(params == {"again": False, "preset": "mini", "seed": "3", "root": "~/Music"} for _, params in asked)
    assert capsys.readouterr().err.splitlines()[0] == "lstm_ensemble: no room"


@pytest.fixture
def injected(home, monkeypatch):
    "What papermill would have been given, and where the environment points meanwhile."
    found = {}

    def pretend(notebook, executed, given, **options):
        found.update(given, runs=os.environ["MUSICMTL_RUNS"])
        Path(executed).write_text("{}")
        (run_folder,) = (home / "runs").glob("*/*")
        settings = resolve(find_study("agf").settings, "agf", given)
        assert run_folder.name == run_id("agf", settings)  # the notebook finds the run that the driver has opened

    monkeypatch.setattr("papermill.execute_notebook", pretend)
    return found


@pytest.mark.parametrize("root", ["music", "2024", "-music", "My 'Music'", "~/Music", "$HOME", "--again", "none", "-p"])
def test_a_root_is_what_the_caller_sees(root, injected, home, monkeypatch):
    "The kernel works elsewhere: what it is given is absolute."
    here = home / "here"
    for folder in (here / root, home / "Music"):
        folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MUSICMTL_RUNS", os.path.relpath(home / "runs"))
    assert main(["agf", "-p", "root", root]) == 0
    assert injected["root"] == str(home / "Music" if root == "~/Music" else here / root)
    assert os.path.samefile(injected["runs"], home / "runs") and os.path.isabs(injected["runs"])


def test_every_kind_of_value_reaches_the_notebook(injected):
    words = "-p variants equal,single_task -p lr 1e-3 -p weigh_classes true -p alphas [0,2] -p seeds 2"
    words += " -p steps_per_epoch none"
    assert main(["agf", *words.split(), "-p", "target", "genre", "--preset", "mini", "-p", "preset", "mini"]) == 0
    expected = {"variants": ["equal", "single_task"], "lr": 1e-3, "weigh_classes": True, "steps_per_epoch": "none"}
    expected |= {"alphas": [0.0, 2.0], "seeds": 2, "target": "genre", "preset": "mini"}
    assert {name: injected[name] for name in expected} == expected


@pytest.mark.parametrize(
    "words, message",
    [
        ("agf -p preset mini --preset smoke", "agf: parameters: preset is given twice, as 'mini' and as 'smoke'"),
        ("agf -p seed 1 -p seed 2", "agf: parameters: seed is given twice, as '1' and as '2'"),
        ("agf -p again 1", "agf: parameters: unknown name 'again'; agf takes corpus"),
        ("agf -p study agf", "agf: parameters: unknown name 'study'; agf takes corpus"),
        ("agf -p given 1", "agf: parameters: unknown name 'given'"),
        ("agf -p seed", "musicmtl.runs: expected a NAME and a VALUE behind -p, found seed"),
        ("agf -pseed=3", "musicmtl.runs: expected two words, -p NAME VALUE, found -pseed=3"),
        ("", "musicmtl.runs: expected a study: agf"),
        ("agv --help", "musicmtl.runs: no study 'agv'; there are agf"),
        ("all -p target artist", "artist_language: parameters: unknown name 'target'"),
    ],
)
def test_a_wrong_command_line_gets_one_sentence_and_runs_nothing(words, message, injected, home, capsys):
    assert main(words.split()) == 2
    line, advice = capsys.readouterr().err.splitlines()
    assert line.startswith(message) and not injected and list(home.iterdir()) == []
    assert " --help " in advice


def test_help_lists_the_settings_of_a_study(home, capsys):
    assert main(["artist_language", "--help"]) == 0 == main(["--help"]) == main(["all", "-h"])
    text = capsys.readouterr().out
    assert "folds: a whole number (default: 1; " in text and "Parts of the corpus that are tested in turn" in text
    assert "-p NAME VALUE" in text and "lstm_ensemble" in text


@pytest.mark.parametrize("text", ['{"status": "do', "", "[]", '{"status": "done"}', "\x00", "\udcff"])
def test_a_manifest_that_says_nothing_is_not_believed(text, injected, home, capsys):
    "Torn, or another run's: it is said, and the run is run again."
    root = home / "runs" / "agf" / run_id("agf", resolve(find_study("agf").settings, "agf", {}))
    root.mkdir(parents=True)
    (root / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    assert main(["agf"]) == 0 and injected
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and str(root / "manifest.json") in lines[0] and lines[0].endswith("; the run is run again")
    assert json.loads((root / "manifest.json").read_text())["run"] == root.name


@pytest.mark.parametrize("place", ["MUSICMTL_RUNS", "MUSICMTL_FIGURES"])
def test_folders_that_cannot_be_written_get_one_sentence(place, injected, home, monkeypatch, capsys):
    (home / "file").write_text("x")
    monkeypatch.setenv("MUSICMTL_FIGURES", str(home / "figures"))
    monkeypatch.setenv(place, str(home / "file" / "folder"))
    assert main(["agf", "--preset", "mini"]) == 2 and not injected
    line, *advice = capsys.readouterr().err.splitlines()
    assert "the same command" in (advice or [line])[-1]
    assert str(home / "file") in line and "Not a directory" in line


ENDS = [
    (OSError(28, "No space left on device"), 2, "executed.ipynb: No space left on device; the same", "failed"),
    (KeyboardInterrupt(), 130, "agf: interrupted; the same", "interrupted"),
]


@pytest.mark.parametrize("error, status, words, noted", ENDS, ids=["full", "interrupted"])
def test_an_end_before_the_end_is_noted_and_the_command_goes_on(error, status, words, noted, home, monkeypatch, capsys):
    def fail(notebook, executed, given, **options):
        raise error

    monkeypatch.setattr("papermill.execute_notebook", fail)
    assert main(["agf"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("agf: ") and f"{words} command goes on" in line
    (file,) = (home / "runs" / "agf").glob("*/manifest.json")
    assert json.loads(file.read_text())["status"] == noted
    monkeypatch.setattr("papermill.execute_notebook", lambda notebook, executed, given, **o: Path(executed).touch())
    assert main(["agf"]) == 0


def test_the_same_names_through_papermill_itself(home):
    "Its own command line makes numbers of what looks like one, and only warns of a wrong name."
    from papermill.cli import _resolve_type

    given = {name: _resolve_type(text) for name, text in {"root": "2024", "seeds": "2", "variants": "equal"}.items()}
    settings = resolve(find_study("agf").settings, "agf", given)
    assert settings.root.endswith("/2024") and settings.corpus == "folder" and settings.variants == ("equal",)


def test_a_run_that_is_done_is_run_again_where_its_folder_has_changed(home, monkeypatch):
    music, executed = home / "music", []
    music.mkdir()
    (music / "one.wav").write_bytes(b"RIFF")

    def execute(self, notebook, parameters):
        executed.append(self.id)
        self.finish()

    monkeypatch.setattr("musicmtl.study.runs.Run._execute", execute)

    def after(change=lambda: None):
        change()
        run("agf", preset="smoke", corpus="folder", root=str(music))
        return len(executed)

    assert [after(), after()] == [1, 1]
    assert after(lambda: (music / "two.wav").write_bytes(b"RIFF")) == 2
    assert after(lambda: (music / "two.wav").write_bytes(b"RIFX and more")) == 3
    assert after(lambda: (music / "one.wav").unlink()) == 4
    assert [after(), len(set(executed))] == [4, 1]  # one run, whose networks know their own data

"""What every study promises, whichever paper it is from; each is run once, and judged by the files that it leaves."""

import json
import os
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
import yaml
from PIL import Image

from folders import FAULTS, add_faults, write_folder
from processes import Forked, environment, execute, the_run

from musicmtl.core import CorpusError, ParamsError, repo_root
from musicmtl.study import (
    CLAIM_COLUMNS,
    MARGIN_COLUMNS,
    RESULT_COLUMNS,
    rule_of,
    claims_of,
    main_studies,
    number,
    published,
    studies,
)
from musicmtl.study.report import write_report
from musicmtl.study.runs import main

pytestmark = pytest.mark.studies
ALL, MAIN = list(studies()), main_studies()
# A run at preset smoke takes half a minute of one core, or more: `make test` runs agf's on Miniature, others are long.
LONG = tuple(name for name in ALL if name != "agf")


def of_studies(names, long=LONG):
    "The same test for several studies, some of which are for `make test-long`."
    return pytest.mark.parametrize(
        "study", [pytest.param(name, marks=pytest.mark.long) if name in long else name for name in names]
    )


every_study, every_main_study = (of_studies(names, long=()) for names in (ALL, MAIN))  # which is not run
every_run, every_main_run = of_studies(ALL), of_studies(MAIN)
every_folder = of_studies(MAIN, long=MAIN)

# Songs that a study can use at preset smoke; `write_folder` has the default.
FOLDERS = {
    "artist_language": {"artists": 6, "seconds": 7.0},
    "lstm_ensemble": {"artists": 5, "songs": 5, "seconds": 24.0},  # 120 segments, and three songs of each artist
    "pase": {"artists": 4, "songs": 5, "seconds": 4.0},
    "tagging": {"artists": 12, "seconds": 6.5},  # four songs with each tag, artists kept apart
}
# On a folder it is its files that matter; all variants are trained on Miniature.
FEWER = {
    "lstm_ensemble": {
        "variants": ["as_100_100", "ensemble_2", "autoencoder_1"],
        "variants_25": [],
        "published_variants": ["as_100_100"],
        "balancers": [],
    },
    "pase": {
        "variants": ["untrained", "band_statistics", "paseplus_equal_WLP", "paseplus_reweighted_WLP"],
        "trained": ["paseplus_supervised"],
        "balancers": [],
        "budgets": [],
    },
    "tagging": {
        "variants": ["cnn1d", "musicnn_0", "musicnn_8", "embed_linear_disentangled", "embed_musicnn"],
        "published_variants": ["cnn1d"],
        "balancers": [],
    },
}
FAULT_WORDS = {"lstm_ensemble": {"short.wav": "fewer than 120 segments", "silent.wav": "fewer than 120 segments"}}
# Pictures of `figures/<study>` that need more than preset smoke trains.
LARGER_PRESETS = {
    "agf": "weights_(ema|epoch_wild|first)",
    "lstm_ensemble": "fig02_l2_10|fig(02_as|02_l2|03_curves|04_curves|08_m2|10_multitask|11_tasks)_25",
    "pase": "fig07_fma",
    "tagging": "taggram_recording",
}


class Once:
    "Folders of runs, each made when it is first asked for; a run that failed is not tried again."

    def __init__(self, home):
        self.home, self.cache = home, Path(os.environ["MUSICMTL_CACHE"])
        self.folders = {}  # Key -> folder, or the error

    def once(self, key, make):
        if key not in self.folders:
            try:
                self.folders[key] = make()
            except Exception as error:
                self.folders[key] = error
        if isinstance(self.folders[key], Exception):
            raise self.folders[key]
        return self.folders[key]

    def whole(self, study):
        "Run of preset smoke, by the command line."
        run = Forked(study, self.home / "miniature" / study, cache=self.cache, n_jobs=1)
        return self.once((study, "miniature"), lambda: run.run(Forked.driver))

    def music(self, study):
        "A folder of music with faulty files."
        root = self.home / "folders" / study
        return self.once((study, "music"), lambda: add_faults(write_folder(root, **FOLDERS.get(study, {}))))

    def forked(self, study, home):
        "The study on its folder of music."
        return Forked(study, home, corpus="folder", root=str(self.music(study)), n_jobs=1, **FEWER.get(study, {}))

    def on_folder(self, study):
        "Run of preset smoke on the folder, undisturbed."
        forked = self.forked(study, self.home / "undisturbed" / study)
        return self.once((study, "folder"), lambda: forked.run(Forked.notebook))


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Once(tmp_path_factory.mktemp("studies"))


@pytest.fixture
def inside(runs, monkeypatch):
    "Set the environment in which a study's run was made."

    def enter(study):
        for name, value in environment(runs.home / "miniature" / study, runs.cache).items():
            monkeypatch.setenv(name, value)

    return enter


def tables_of(study) -> dict:
    "Tables that a study keeps in `figures/data`: name -> columns."
    files = (repo_root() / "figures" / "data").glob("*.csv")
    owner = {file: max((name for name in ALL if file.stem.startswith(name)), key=len, default=None) for file in files}
    return {file.name: list(pd.read_csv(file, nrows=0)) for file in owner if owner[file] == study}


def captions_of(study) -> dict:
    "Captions of a study's pictures."
    return yaml.safe_load((repo_root() / "figures" / study / "captions.yaml").read_text(encoding="utf-8"))


def about_time(study) -> list:
    "Claims whose effects are wall times, which no two runs share."
    rules = claims_of(study).items()
    return [
        claim for claim, rule in rules if any(re.search(r"\btime\b", m["effect"]) for m in rule["margins"].values())
    ]


@every_run
def test_a_run_leaves_its_manifest_and_the_executed_notebook(study, runs):
    run = runs.whole(study)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "done" and manifest["study"] == study and manifest["run"] == run.name
    assert manifest["parameters"]["preset"] == "smoke" and manifest["wall_s"] > 0 and len(manifest["corpus"]) >= 16
    assert {"torch", "numpy", "python"} <= set(manifest["versions"]) and "core" in manifest["machine"]
    assert manifest["notes"] if study in MAIN else True
    notebook = json.loads((run / "executed.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output.get("name") == "stderr" or output["output_type"] == "error"]


@every_run
def test_a_run_leaves_all_tables(study, runs):
    folder, expected = runs.whole(study) / "figures" / "data", tables_of(study)
    found = {file.name: list(pd.read_csv(file, nrows=0)) for file in folder.glob("*.csv")}
    if study in MAIN:
        assert found.pop("claims.csv") == CLAIM_COLUMNS and found.pop("margins.csv", MARGIN_COLUMNS) == MARGIN_COLUMNS
        for name in ("rivals.csv", "balancers.csv", "sizes.csv"):  # one file for all studies
            assert found.pop(name) == list(pd.read_csv(repo_root() / "figures" / "data" / name, nrows=0)), name
    assert found == expected and found[f"{study}.csv"] == RESULT_COLUMNS
    for name in found:
        assert len(pd.read_csv(folder / name)), name


@every_main_run
def test_scores_lie_within_their_intervals_under_both_protocols(study, runs):
    table = pd.read_csv(runs.whole(study) / "figures" / "data" / f"{study}.csv")
    assert set(table.study) == {study} and set(table.preset) == {"smoke"} and set(table.corpus) == {"miniature"}
    assert {"published", "corrected"} <= set(table.protocol.dropna())
    judged = table.dropna(subset=["low", "high"])
    assert len(judged) > len(table) / 4
    assert (judged.low <= judged.value + 1e-6).all() and (judged.value <= judged.high + 1e-6).all()
    assert not table.duplicated(["protocol", "variant", "seed", "metric"]).any()


@every_main_run
def test_the_papers_numbers_stand_beside_ours(study, runs):
    table = pd.read_csv(runs.whole(study) / "figures" / "data" / f"{study}.csv")
    beside = table.dropna(subset="paper_value")
    printed = [
        number(value) for value in published(study).paper_value.dropna() if re.fullmatch(r"~?-?[\d.]+[kM]?", str(value))
    ]
    assert len(beside) and set(beside.paper_value) <= set(printed) and beside.paper_ref.notna().all()


@every_main_run
def test_every_claim_has_its_effect_or_a_reason_and_smoke_judges_none(study, runs):
    table = pd.read_csv(runs.whole(study) / "figures" / "data" / "claims.csv")
    rules = claims_of(study)
    assert set(table.claim) == set(table[table.protocol == "corrected"].claim) == set(rules)
    tested = table.effect.notna()
    assert set(table.verdict) == {"not testable here"} and table.reason.str.len().gt(10).all()
    for row in table.itertuples():
        assert row.rule == rule_of(rules[row.claim]["margins"]), row.claim
    for row in table[tested].itertuples():
        assert max(row.trainings, row.rounds) > 0 and row.margins >= len(rules[row.claim]["margins"]), row.claim
        assert not (row.low > row.effect or row.high < row.effect), row.claim  # one number of one training has no ends
        assert row.reason == "preset smoke trains for a few steps only"


@every_run
def test_a_run_draws_every_picture_that_has_a_caption(study, runs):
    folder = runs.whole(study) / "figures" / study
    drawn = {file.name for file in folder.iterdir()}
    captions = set(captions_of(study))
    later = {name for name in captions if re.fullmatch(LARGER_PRESETS.get(study, ""), name.rpartition(".")[0])}
    assert captions - later <= drawn
    assert {name for name in drawn - captions if not name.endswith("_time.png")} == set()
    for name in drawn:
        if name.endswith(".png"):
            with Image.open(folder / name) as picture:
                assert min(picture.size) > 100 and len(picture.convert("L").getcolors()) > 8, name


@every_run
def test_the_report_takes_it(study, runs, tmp_path):
    figures = runs.whole(study) / "figures"
    opening = write_report(figures / "data", tmp_path / "report.html").read_text(encoding="utf-8")
    assert f'href="report/{study}.html"' in opening
    page = (tmp_path / "report" / f"{study}.html").read_text(encoding="utf-8")
    pictures = [file for file in (figures / study).glob("*.png") if not file.stem.endswith("_time")]
    sources = [(tmp_path / "report" / unquote(link)).resolve() for link in re.findall('<img [^>]*src="([^"]+)"', page)]
    assert sorted(sources) == sorted(file.resolve() for file in pictures)
    assert (tmp_path / "report" / f"{study}-tables.html").stat().st_size < 1.5e6
    for claim in claims_of(study) if study in MAIN else ():
        assert f"<b>{claim}</b>" in page


@every_run
def test_a_run_that_is_done_is_not_run_again(study, runs, inside, capsys):
    run = runs.whole(study)
    before = (run / "executed.ipynb").stat().st_mtime_ns
    inside(study)
    assert main([study]) == 0 and str(run) in capsys.readouterr().out
    assert (run / "executed.ipynb").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("sede", "1", "parameters: unknown name 'sede'"),
        ("n_jobs", "many", "parameters: n_jobs must be a whole number, found 'many'"),
        ("preset", "huge", "parameters: preset must be one of"),
    ],
)
@every_study
def test_wrong_parameters_get_one_sentence(study, name, value, message, monkeypatch, tmp_path, capsys):
    "From the driver, and from plain papermill, which itself takes any name and any value."
    monkeypatch.setenv("MUSICMTL_RUNS", str(tmp_path))
    arguments = ["--preset", value] if name == "preset" else ["-p", name, value]
    assert main([study, *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"{study}: {message}")
    assert lines[1].startswith(f"{study}: nothing was started")  # and what to do
    with pytest.raises(ParamsError, match=re.escape(message)):
        execute(study, {name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("root, message", [(None, "needs the folder that holds it"), ("/no/where", "does not exist")])
@every_main_study
def test_a_folder_that_is_not_there_gets_one_sentence(study, root, message, monkeypatch, tmp_path):
    monkeypatch.setenv("MUSICMTL_RUNS", str(tmp_path))
    with pytest.raises((ParamsError, CorpusError), match=message) as error:
        execute(study, {"corpus": "folder", "root": root})
    assert "\n" not in str(error.value)


@every_folder
def test_faulty_files_are_named_and_do_not_stop_a_study(study, runs):
    run = runs.on_folder(study)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "done"
    for file, words in {**FAULTS, **FAULT_WORDS.get(study, {})}.items():
        name = file.partition(".")[0]
        assert any(name in note and words in note for note in manifest["notes"]), (file, manifest["notes"])
    table = pd.read_csv(run / "figures" / "data" / f"{study}.csv")
    assert set(table.corpus) == {study} and {"published", "corrected"} <= set(table.protocol.dropna())
    names = [file.name for file in (run / "figures" / study).iterdir()]
    assert names and all(name.startswith(f"{study}_") for name in names)


def tables(study, figures) -> dict:
    "Tables of a run as bytes, without wall times and claims about them."
    found = {file.name: file.read_bytes() for file in figures.glob("data/*.csv") if not file.stem.endswith("_time")}
    times = tuple(f"{study},{claim}," for claim in about_time(study))
    claims = [line for line in found["claims.csv"].decode().splitlines() if not line.startswith(times or "\n")]
    return {**found, "claims.csv": claims}


@every_folder
def test_killed_twice_it_ends_with_the_same_bytes(study, runs, tmp_path):
    "SIGKILL while features are extracted, then while a network is trained that has a checkpoint."
    expected = tables(study, runs.on_folder(study) / "figures")
    forked = runs.forked(study, tmp_path)
    assert forked.notebook(kill_at=r"/features/.*/shards/\d+$") == -9, forked.log.read_text()
    assert not list(tmp_path.glob("cache/features/*/index.parquet")) and not list(tmp_path.rglob("jobs"))
    assert forked.notebook(kill_at=r"/previous\.ckpt$") == -9, forked.log.read_text()  # the second checkpoint
    assert list(tmp_path.glob("runs/*/jobs/**/last.ckpt"))
    assert not list(tmp_path.rglob("figures/**/*.csv"))  # jobs that are done keep logs of their losses
    # All tables are written before the first picture, which need not be drawn again.
    assert forked.notebook(kill_at=rf"/figures/{study}/") == -9, forked.log.read_text()
    found = tables(study, the_run(tmp_path, study) / "figures")
    assert set(found) == set(expected) and [name for name in found if found[name] != expected[name]] == []

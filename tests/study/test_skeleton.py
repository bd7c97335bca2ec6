"A study that fills in the blanks gets plan, tables, summary, verdicts, effects and figures."

import base64
import sys
from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import musicmtl.papers
import numpy as np
import pandas as pd
import pytest

from raters import DATA, SONGS, STUDY, TRUTH, write_paper

from musicmtl.study import (
    CLAIM_COLUMNS,
    RESULT_COLUMNS,
    TIME_COLUMNS,
    Balanced,
    CommonSettings,
    Outcome,
    Rivalry,
    interval,
)
from musicmtl.study.runs import open_run

SETTINGS = CommonSettings(variants=("plain", "smart"), seeds=2, n_jobs=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "Runs in a folder of the module; the raters' paper is found."
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("skeleton")
        write_paper(folder / "papers")
        patch.setattr(musicmtl.papers, "__path__", [*musicmtl.papers.__path__, str(folder / "papers")])
        patch.setenv("MUSICMTL_RUNS", str(folder / "runs"))
        yield folder
    sys.modules.pop("musicmtl.papers.raters", None)


@pytest.fixture(scope="module")
def outcome(home):
    outcome = STUDY.run(DATA, SETTINGS)
    outcome.save()
    return outcome


def accuracy(outcome, label, protocol="corrected"):
    "Mean over seeds, from the readings themselves."
    return np.mean([np.mean(r.predicted == TRUTH) for r in outcome.board.readings(label, protocol)])


def test_parameters_are_the_notebooks_names(home):
    with pytest.raises(Exception, match="raters.ipynb"):
        STUDY.parameters({"seed": 1})  # the raters have no notebook, and so no presets


def test_the_plan_counts_each_job_once():
    twice = replace(
        STUDY, stages=lambda data, settings: {"raters": 2 * STUDY.stages(data, settings)["raters"], "none": []}
    )
    plan = twice.plan(DATA, SETTINGS)
    assert plan.to_dict("records") == [
        {"stage": "raters", "jobs": 8, "first": "published-plain-0", "last": "corrected-smart-1"}
    ]


def test_every_stage_reads_what_earlier_ones_found(home):
    order = []

    def stages(data, settings):
        first, *others = STUDY.stages(data, settings)["raters"]
        return {"first": [first], "others": others, "nothing": []}

    def read(data, settings, results):
        order.append(sorted(file.parent.name for file in results.root.glob("*/result.npz")))
        return STUDY.read(data, settings, results)

    settings = replace(SETTINGS, batch_size=2)
    outcome = replace(STUDY, stages=stages, read=read).run(DATA, settings)
    assert order == [sorted(reading.trial.name for reading in outcome.readings)]
    log = (outcome.root / "trained.txt").read_text().splitlines()
    assert log[0].startswith("published-plain-0 ") and len(log) == 8


def test_a_row_per_score_with_its_interval_and_the_papers_number_beside_it(outcome):
    table = outcome.tables["scores"]
    assert list(table) == RESULT_COLUMNS and len(table) == 8 + 1
    assert set(table.study) == {"raters"} and set(table.run) == {outcome.run.id} and set(table.corpus) == {"items"}
    for reading in outcome.readings:
        trial = reading.trial
        where = (table.variant == trial.label) & (table.protocol == trial.protocol) & (table.seed == trial.seed)
        (row,) = table[where].itertuples()
        expected = interval(STUDY.scores(DATA, SETTINGS, reading)["accuracy"])
        assert (row.value, row.low, row.high) == pytest.approx(expected, abs=1e-6)
        assert (row.paper_ref == "Table 1") == (trial.label == "smart")
    beside = table.dropna(subset="paper_value")
    assert set(beside.variant) == {"smart"} and (beside.paper_value == 64).all() and len(beside) == 4
    assert table[table.variant == "chance"].value.tolist() == [0.25]


def test_a_study_can_say_what_its_rows_are(outcome):
    def rows(outcome, reading):
        for by in ("item", "song"):
            values = outcome.board.all_scores(reading, by=by)["accuracy"]
            yield reading.trial.label, f"accuracy_{by}", interval(values)

    other = replace(STUDY, rows=rows, references=None, reported=None).run(DATA, SETTINGS)
    found = pd.DataFrame(other.score_rows())
    assert set(found.metric) == {"accuracy_item", "accuracy_song"} and len(found) == 16
    assert found.paper_value.isna().all() and "chance" not in set(found.variant)


def test_steps_in_which_a_weight_was_held_are_rows(outcome):
    "Of GradNorm alone, whatever its L(0)."
    one = outcome.readings[0]
    named = [replace(one.trial, label=label) for label in ("gradnorm_ema", "smart")]
    held = [SimpleNamespace(**{**vars(one), "trial": trial}, clamped=3) for trial in named]
    uncounted = SimpleNamespace(**{**vars(one), "trial": named[0]})
    (row,) = Outcome._clamped_rows(SimpleNamespace(readings=[*held, uncounted], row_of=outcome.row_of))
    assert (row["variant"], row["metric"], row["value"], row["seed"]) == ("gradnorm_ema", "clamped_steps", 3, 0)


def test_times_stand_with_the_machine_and_apart_from_results(outcome):
    table = outcome.tables["time"]
    assert list(table) == TIME_COLUMNS and len(table) == 8 and set(table.seconds_per_step) == {0.1}
    assert table.machine.str.contains("core").all() and (outcome.folder / "data" / "raters_time.csv").exists()
    assert "seconds_per_step" not in outcome.tables["scores"]


def test_a_study_can_time_something_else(outcome, tmp_path, monkeypatch):
    def times(outcome):
        return [{"protocol": "corrected", "variant": "smart", "seed": 0, "seconds_per_step": 1.0, "training_s": 9.0}]

    other = replace(STUDY, times=times, time_columns=("training_s",)).run(DATA, replace(SETTINGS, seed=9))
    table = other.save()["time"]
    assert list(table) == [*TIME_COLUMNS[:-1], "training_s", "machine"] and table.training_s.dropna().tolist() == [9.0]


def test_further_tables_have_their_columns_and_keys(outcome):
    table = outcome.tables["hits"]
    assert list(table) == ["study", "run", "corpus", "preset", "code", "protocol", "variant", "seed", "song", "hits"]
    reading = outcome.board.readings("smart", seeds=[1])[0]
    own = table[(table.protocol == "corrected") & (table.variant == "smart") & (table.seed == 1)].sort_values("song")
    assert own.hits.tolist() == np.bincount(SONGS, reading.predicted == TRUTH).tolist()
    again = outcome.save_table("hits")
    pd.testing.assert_frame_equal(again, table)  # replaced, not repeated
    empty = replace(STUDY, tables={"hits": replace(STUDY.tables["hits"], rows=lambda outcome: [])})
    assert list(empty.run(DATA, SETTINGS).save_table("hits")) == list(table)


def test_the_summary_has_published_and_corrected_and_the_paper_side_by_side(outcome):
    found = outcome.summary()
    assert list(found.columns) == [("accuracy", name) for name in ("corrected", "published", "paper")]
    for label in ("plain", "smart"):
        for protocol in ("published", "corrected"):
            assert found.loc[label, ("accuracy", protocol)] == pytest.approx(
                accuracy(outcome, label, protocol), abs=1e-3
            )
    assert found.loc["smart", ("accuracy", "paper")] == 64 and pd.isna(found.loc["plain", ("accuracy", "paper")])


def test_the_effect_of_a_published_practice(outcome):
    (row,) = outcome.switch_effects().itertuples()
    expected = 100 * (accuracy(outcome, "smart", "published") - accuracy(outcome, "smart"))
    assert row.effect == pytest.approx(expected) and row.low < row.effect < row.high
    assert replace(STUDY, comparisons=None).run(DATA, SETTINGS).switch_effects().empty


def test_claims_are_judged_and_shown(outcome):
    shown = outcome.judge()
    assert {"claim", "protocol", "preset", "verdict", "effect", "trainings", "groups", "reason"} <= set(shown)
    assert shown.verdict.tolist() == 3 * ["not testable here"]  # preset smoke
    assert shown.effect.notna().tolist() == [True, True, False]
    table = pd.read_csv(outcome.folder / "data" / "claims.csv")
    assert list(table) == CLAIM_COLUMNS and set(table.preset) == {"smoke"}


def test_a_larger_preset_is_judged(home, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICMTL_FIGURES", str(tmp_path))
    outcome = STUDY.run(DATA, replace(SETTINGS, preset="mini", seeds=6))
    outcome.save()
    assert outcome.judge().verdict.tolist() == ["holds", "holds", "not testable here"]


def test_a_figure_whose_network_was_not_trained_is_named_and_left_out(outcome, capsys):
    def of_another(outcome):
        return {"other": outcome.board.readings("brilliant")}

    other = replace(STUDY, figures=(of_another, *STUDY.figures)).run(DATA, SETTINGS)
    other.tables = outcome.tables
    assert other.draw() == ["accuracy"]
    said = "of_another is left out: needs corrected brilliant, not trained in this run"
    assert said in capsys.readouterr().out


def test_figures_are_drawn_into_the_studys_folder(outcome):
    assert outcome.draw() == ["accuracy"]
    assert (outcome.folder / "raters" / "items_accuracy.png").stat().st_size > 1000


def test_only_one_protocol_where_one_is_asked_for(home):
    outcome = STUDY.run(DATA, replace(SETTINGS, protocol="published"))
    assert outcome.board.labels("corrected") == [] and set(outcome.board.labels("published")) == {"plain", "smart"}


def test_a_run_that_is_finished_is_done(outcome):
    outcome.finish()
    run = open_run("raters", SETTINGS)
    assert run.done and run.manifest["notes"] == ["200 items remain"] and run.manifest["corpus"] == DATA.fingerprint
    assert repr(outcome) == "Outcome('raters', Board(8 readings of 4 variants))"


def test_what_all_studies_are_asked_becomes_tables_and_a_figure(outcome):
    def curves(reading):
        epochs, falls = np.arange(10), reading.trial.label == "plain"
        loss = 1 - epochs / 20 if falls else np.exp(-epochs)
        return pd.DataFrame(
            {"epoch": np.r_[epochs, epochs], "part": ["train"] * 10 + ["valid"] * 10, "loss": [*loss] * 2}
        )

    asked = dict(rivals=lambda board: [Rivalry("rating", "accuracy", ("smart",), ("plain",))], curves=curves)
    asked["balanced"] = lambda board: [Balanced("rating", "accuracy", {"equal": "plain", "mgda": "smart"})]
    found = replace(STUDY, **asked).run(DATA, SETTINGS)
    tables = found.save()
    assert tables["rivals"].network.tolist() == ["smart"] and tables["balancers"].balancer.tolist() == ["mgda"]
    learning = tables["learning"]
    assert set(learning.part) == {"train", "valid"} and len(learning) == 8 * 2 * 10
    settled = learning.groupby("variant").settled.unique().map(list).to_dict()
    assert settled == {"plain": ["False"], "smart": ["True"]}
    assert "learning" in found.draw() and list((found.folder / "raters").glob("*learning.png"))


def test_rows_carry_the_code_that_trained_and_scored_them(outcome):
    codes = set(outcome.tables["scores"].code)
    assert codes == {STUDY.code} and set(outcome.tables["hits"].code) == codes


def test_networks_of_other_code_are_trained_again_unless_they_are_to_be_kept(home, monkeypatch):
    settings = replace(SETTINGS, batch_size=3)
    log = STUDY.run(DATA, settings).root / "trained.txt"
    before = len(log.read_text().splitlines())
    monkeypatch.setattr("musicmtl.study.jobs.training_code", lambda package: "other")
    kept = STUDY.run(DATA, replace(settings, stale="keep"))
    assert len(log.read_text().splitlines()) == before and "other" not in kept.base["code"]
    assert "other" in STUDY.run(DATA, settings).base["code"]
    assert len(log.read_text().splitlines()) == 2 * before


@pytest.fixture
def shell():
    "A notebook's shell."
    from IPython.core.interactiveshell import InteractiveShell

    yield InteractiveShell.instance()
    InteractiveShell.instance().history_manager.end_session()
    InteractiveShell.clear_instance()


def shown(function, *names):
    "What is displayed, a bundle each."
    from IPython.utils.capture import capture_output

    with capture_output() as found:
        function(*names)
    return [output.data for output in found.outputs], found.stdout


def test_figures_are_drawn_without_being_shown_and_shown_with_their_captions(outcome, shell):
    before = plt.get_fignums()
    outcome.draw()
    assert plt.get_fignums() == before
    (picture, caption), _ = shown(outcome.show, "accu*")
    assert base64.b64decode(picture["image/png"]) == (outcome.folder / "raters" / "items_accuracy.png").read_bytes()
    assert "accuracy" in caption["text/html"]


def test_a_study_notebook_that_ends_with_show_has_shown_everything(outcome, shell):
    def two(outcome):
        return {name: plt.subplots(figsize=(1, 1))[1] for name in ("first", "second")}

    other = replace(STUDY, figures=(*STUDY.figures, two)).run(DATA, SETTINGS)
    other.tables = outcome.tables
    other.draw()
    shown(other.show, "second")
    assert other.not_shown == ["accuracy", "first"]
    bundles, _ = shown(other.show)
    assert len(bundles) == 4 and other.not_shown == []


def test_a_figure_that_was_not_drawn_is_named(outcome, shell):
    outcome.draw()
    bundles, said = shown(outcome.show, "gains")
    assert bundles == [] and "gains: not drawn" in said


def test_an_interactive_page_is_shown_and_one_of_an_earlier_run_is_not(outcome, shell):
    folder = outcome.folder / "raters"
    (folder / "items_old_3d.html").write_text("old")

    def map_3d(outcome):
        (folder / "items_map_3d.html").write_text("new")
        return {}

    other = replace(STUDY, figures=(map_3d,)).run(DATA, SETTINGS)
    other.tables = outcome.tables
    other.draw()
    assert list(other.drawn) == ["map_3d"]
    (page, _), _ = shown(other.show, "map_3d")
    assert "map_3d.html" in page["text/html"]


def test_outside_of_a_notebook_it_is_said_where_a_figure_lies(outcome, capsys):
    outcome.draw()
    outcome.show("accuracy")
    assert capsys.readouterr().out.startswith("items_accuracy.png: ")

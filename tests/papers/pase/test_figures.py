"""Tables and figures of the self-supervised study, from made-up answers, saved as a run saves its own."""

import re
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from colours import VIEWS, closest

from musicmtl.core import generator
from musicmtl.papers.pase import figures
from musicmtl.papers.pase.claims import CURVES, STEPS, TUNED, mean_counts, paper_values, sets_of_steps
from musicmtl.papers.pase.experiment import (
    ALL,
    BEST,
    SETS,
    SMALL,
    Protocol,
    Reading,
    Settings,
    Trial,
    label_of,
    scenario_of,
)
from musicmtl.papers.pase.figures import NAMES, split_label, study
from musicmtl.papers.pase.model import WORKERS
from musicmtl.study import Outcome, claims_of, find_study, published, resolve
from musicmtl.study.runs import open_run

TASKS = ("openmic", "fma", "ballroom")
DANCES = ["Cha cha", "Foxtrot", "Jive", "Quickstep", "Rumba", "Samba", "Tango", "Viennese waltz", "Waltz"]
CLASSES = {
    "openmic": ["piano", "flute", "voice"],
    "fma": list(SMALL),
    "ballroom": DANCES,
    "artist": ["one", "two", "three"],
}
FIGURES = {"fig02_encoders", "fig03_weighting", "fig04_losses", "fig05_gains", "fig08_budgets", "workers"}
CONFUSIONS = {"fig06_ballroom", "fig07_fma"}
N = 60


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def truth(task):
    "Codes [N]; of instruments zeros, ones and NaN [N, 3]."
    y = generator("truth", task).integers(0, len(CLASSES[task]), N)
    known = generator("known").random((N, 3)) < 0.7
    return np.where(known, np.eye(3)[y], np.nan) if task == "openmic" else y


def reading_of(trial):
    "Noisy answers of two trials."
    y, rng = truth(trial.task), generator(trial.label, trial.protocol.split)
    hears = np.nan_to_num(y - 0.5) if y.ndim == 2 else np.eye(len(CLASSES[trial.task]))[y]
    z = 2 * hears + rng.normal(size=(2, *hears.shape))
    losses = None
    if scenario_of(trial.variant)[1].pretrained:
        losses = {"workers": np.array(list(WORKERS)), "constant": np.full(6, 2.0), "weight": np.ones((25, 6))}
        losses |= {part: np.exp(rng.normal(size=(25, 6))) for part in ("valid", "train")}
    group = np.array([f"artist {i // 4}" for i in range(N)])
    return Reading(trial, 1 / (1 + np.exp(-z)), y, group, np.arange(trial.n or 90), losses)


def made_up_trials(tasks, protocols):
    "Frozen encoders under all protocols, those that learn under the corrected one."
    frozen = [f"paseplus_{weighting}_{workers}" for workers in SETS for weighting in ("equal", "reweighted")]
    frozen += [f"pase_equal_{ALL}", "untrained", "features"]
    learning = (TUNED, "pase_supervised", "paseplus_supervised")
    trials = [Trial(*case, None, 0) for case in product(protocols, frozen, tasks)]
    trials += [Trial(Protocol.corrected, *case, None, 0) for case in product(learning, tasks)]
    few = product(CURVES.values(), [task for task in tasks if task != "fma"], (10, 40))
    return trials + [Trial(Protocol.corrected, *case, 0) for case in few]


def target_of(task):
    y = truth(task)
    parts = {"train": np.arange(0, N, 2), "test": np.arange(N)}
    return SimpleNamespace(classes=CLASSES[task], answers=y, several=y.ndim == 2, parts=lambda split: parts)


def made_up(root, tasks=TASKS, protocols=(Protocol.corrected, Protocol.published), settings=None):
    "A saved outcome of made-up answers."
    settings = settings or Settings()
    targets = {task: target_of(task) for task in tasks}
    data = SimpleNamespace(targets=targets, name="made up", notes=(), pool_of=lambda protocol: "train")
    readings = [reading_of(trial) for trial in made_up_trials(tasks, protocols)]
    of_readings = replace(study, read=lambda data, settings, results: readings)
    outcome = Outcome(of_readings, data, settings, open_run("pase", settings, root), root)
    outcome.save()
    return outcome


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("made_up"))


def drawn(outcome, functions=study.figures):
    "All figures that these functions draw."
    found = {}
    for function in functions:
        found |= function(outcome)
    return found


OF_THE_RUN = ("protocol_figure", "layer_figure")
FROM_TABLES = [function for function in study.figures if function.__name__ not in OF_THE_RUN]

# Words and colours

FAMILIES = {
    "workers": "waveform lps prosody mfcc chroma tempogram",
    "encoders": "PASE PASE+",
    "scenarios": "frozen finetuned supervised",
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_colours_stay_apart_for_colour_blind_readers(family, view):
    distance, pair = closest({name: NAMES.colours[name] for name in FAMILIES[family].split()}, view)
    assert distance > 10, pair


def test_variants_have_words_and_the_colour_of_their_encoder():
    words = "PASE+, re-weighted, WLP+MT, targets of variance 1, FMA, 100 training clips"
    assert NAMES.label("paseplus_reweighted_WLP+MT_unit_fma_labels_100") == words
    assert NAMES.label("gain_WLP+T_ballroom") == "WLP+T over WLP, Ballroom"
    assert NAMES.label("majority_openmic") == "Majority class, OpenMIC"
    assert NAMES.colour("pase_supervised") == NAMES.colour("PASE") != NAMES.colour("paseplus_equal_WLP_fma")


@pytest.mark.parametrize("task", ["openmic", "fma", "ballroom", "artist"])
@pytest.mark.parametrize("variant", [BEST, TUNED, "pase_supervised", "features", "paseplus_equal_WLP+MC_unit"])
def test_labels_are_taken_apart_as_they_were_put_together(variant, task):
    assert split_label(label_of(variant, task)) == (variant, task, None)
    assert split_label(label_of(variant, task, 40)) == (variant, task, "40")


def test_the_study_is_found_with_all_its_claims():
    assert find_study("pase") is study and set(study.claims) == set(claims_of("pase"))


# Tables


def test_tables_hold_the_papers_numbers_beside_ours(outcome):
    table, paper = outcome.tables["scores"], paper_values()
    beside = table[(table.protocol == "corrected") & table.paper_value.notna()]
    found = {(row.variant, row.metric): (row.paper_value, row.paper_ref) for row in beside.itertuples()}
    assert found == paper and len(beside) == len(published("pase"))
    values = table[table.metric == "parameters"].set_index("variant").value
    assert values.to_dict() == {"PASE": 6_029_376, "PASE+": 8_324_672}
    assert set(table.variant.map(split_label).str[1].dropna()) == set(TASKS)


def test_gains_are_those_of_the_scores(outcome):
    table = outcome.tables["scores"]
    table = table[table.protocol == "corrected"].set_index(["metric", "variant"])
    gain = table.loc["relative_gain_percent", f"gain_{ALL}_fma"]
    after, before = (table.value["macro_f1", label_of(v, "fma")] for v in (BEST, "paseplus_reweighted_WLP"))
    assert gain.value == pytest.approx(100 * (after / before - 1), rel=1e-5) and gain.low < gain.value < gain.high


@pytest.mark.long
def test_tables_are_the_same_when_saved_again(outcome, tmp_path):
    folder, again = outcome.folder / "data", made_up(tmp_path)
    own = {"pase.csv", "pase_confusions.csv", "pase_losses.csv", "pase_workers.csv"}
    common = {"balancers.csv", "pase_learning.csv", "rivals.csv", "sizes.csv"}
    assert {file.name for file in folder.iterdir()} == own | common
    for _ in range(2):
        for file in folder.iterdir():
            assert file.read_bytes() == (again.folder / "data" / file.name).read_bytes()
        again.save()


def test_losses_in_the_table_are_those_of_the_first_seed(outcome):
    table = outcome.tables["losses"].set_index(["variant", "part", "worker", "epoch"]).value
    reading = outcome.board.readings(label_of(BEST, "openmic"))[0]
    assert table[BEST, "valid", "mfcc", 7] == pytest.approx(reading.losses["valid"][6, list(WORKERS).index("mfcc")])
    assert len(table) == (2 * len(SETS) + 1) * 4 * 6 * 25  # Encoders, parts, workers, epochs
    share = 1 - reading.losses["valid"][6, list(WORKERS).index("mfcc")] / 2
    assert table[BEST, "r2", "mfcc", 7] == pytest.approx(share, abs=1e-5)


def test_what_workers_explain_is_a_table_of_all_trainings(outcome):
    table = outcome.tables["workers"].set_index(["variant", "seed", "worker"]).r2
    reading = outcome.board.readings(label_of(BEST, "openmic"))[0]
    shares = reading.explained()
    assert len(table) == (2 * len(SETS) + 1) * 6
    assert table[BEST, 0, "mfcc"] == pytest.approx(shares["mfcc"][-1], abs=1e-5)


@pytest.mark.parametrize("preset", ["mini", "claims", "paper"])
def test_networks_are_as_large_in_the_order_of_the_paper(preset):
    found = study.sizes(resolve(Settings, "pase", {"preset": preset}))
    assert found["PASE"] < found["PASE+"] and found["prosody worker"] < found["lps worker"]


def test_rivals_are_asked_on_every_task(outcome):
    for rivalry in study.rivals(outcome.board):
        assert {label.rpartition("_")[0] for label in rivalry.rivals} == {"features", "untrained"}
        assert label_of(BEST, "fma") in rivalry.networks or rivalry.task != "genres"
    names = study.balanced(outcome.board)[0].labels
    assert names == {"equal": f"paseplus_equal_{ALL}_openmic", "reciprocal": f"{BEST}_openmic"}


def test_confusions_in_the_table_are_mean_counts(outcome):
    table = outcome.tables["confusions"]
    wanted = {label_of(f"paseplus_reweighted_{workers}", task) for task in STEPS for workers in sets_of_steps(task)}
    assert set(table.variant) == wanted
    counts = mean_counts(outcome.board, "corrected", "ballroom", "WLP")
    assert counts.sum() == pytest.approx(N)
    own = table[table.variant == "paseplus_reweighted_WLP_ballroom"].set_index(["true", "said"]).value
    assert own["Jive", "Waltz"] == pytest.approx(counts[DANCES.index("Jive"), DANCES.index("Waltz")])


# Figures


def test_all_figures_are_drawn(outcome):
    found = drawn(outcome)
    assert set(found) == FIGURES | CONFUSIONS | {f"baselines_{task}" for task in TASKS} | {"switches"}
    assert [ax.get_title(loc="left") for ax in found["fig03_weighting"]] == ["OpenMIC", "FMA", "Ballroom"]
    panels = [len(found[name]) for name in ("fig06_ballroom", "fig07_fma", "fig04_losses", "fig08_budgets")]
    assert panels == [3, 4, 2, 2]


def test_losses_are_drawn_on_logarithmic_axes_over_the_papers_epochs(outcome):
    for ax in figures.loss_figure(outcome)["fig04_losses"]:
        epochs = [line.get_xdata().max() for line in ax.lines if len(line.get_xdata())]
        assert ax.get_yscale() == "log" and max(epochs) == 20


def test_the_papers_numbers_are_drawn(outcome):
    reported = published("pase").set_index("metric").paper_value
    gains = figures.gain_figure(outcome)["fig05_gains"]
    diamonds = [marks for ax in gains for marks in ax.collections if marks.get_label() == "Paper"]
    heights = sorted(marks.get_offsets()[0, 1] for marks in diamonds)
    assert heights == sorted(reported["relative_gain_percent"].astype(float))
    panels = figures.budget_figure(outcome)["fig08_budgets"]
    texts = [*panels[0].figure.legends[0].get_texts(), *(text for ax in panels for text in ax.texts)]
    crossings = [re.search(r"Paper.*: ([\d,]+)", text.get_text()) for text in texts]  # as a line, or beyond the axis
    crossings = [match[1] for match in crossings if match]
    assert sorted(crossings) == sorted(f"{float(value):,.0f}" for value in reported["training_samples"])


def test_figures_of_a_folder(tmp_path):
    settings = Settings(protocol="corrected")
    outcome = made_up(tmp_path, ("artist",), (Protocol.corrected,), settings)
    assert set(drawn(outcome)) == FIGURES | {"baselines_artist"}


def test_figures_of_few_networks_come_from_the_committed_rows(outcome):
    tables = {name: table.assign(preset="claims") for name, table in outcome.tables.items()}

    def small(tables):
        own = {"study": outcome.study, "of_corpus": "miniature"}  # what a title says
        return SimpleNamespace(data=outcome.data, settings=Settings(preset="mini"), tables=tables, **own)

    found = drawn(small(tables), FROM_TABLES)
    assert set(found) == FIGURES | CONFUSIONS  # Baselines are the run's own
    assert all("(preset claims)" in np.ravel(axes)[0].figure.get_suptitle() for axes in found.values())
    assert drawn(small({name: table[:0] for name, table in tables.items()}), FROM_TABLES) == {}
    assert figures.confusion_figures(small({"confusions": tables["confusions"][:5]})) == {}


def test_one_encoder_alone_is_no_comparison(outcome):
    scores = outcome.tables["scores"]
    alone = scores[scores.variant.str.startswith("paseplus_equal_WLP+MCT_")]
    run = SimpleNamespace(data=outcome.data, settings=outcome.settings, tables={"scores": alone})
    assert len(alone) and figures.encoder_figure(run) == {}
    run.tables = outcome.tables
    assert set(figures.encoder_figure(run)) == {"fig02_encoders"}


def test_linear_layers_share_a_panel_by_task_and_number_of_clips():
    labels = ("paseplus_equal_WLP_fma", "untrained_fma", "paseplus_equal_WLP_openmic_labels_60")
    rows = [
        {"variant": label, "seed": seed, "network": network, "epoch": epoch, "part": part, "loss": 1.0, "settled": True}
        for label, seed, epoch in product(labels, range(2), range(3))
        for part, network in product(("train", "valid"), ("linear layer", "encoder"))
    ]
    run = SimpleNamespace(learning_curves=lambda: pd.DataFrame(rows), settings=Settings(preset="mini"))
    axes = figures.layer_figure(run)["learning_layers"]
    lines = {ax.get_title(loc="left").replace("\n", " "): len(ax.lines) for ax in axes}
    assert lines == {"FMA": 8, "OpenMIC, 60 training clips": 4}  # networks × seeds × parts, without encoders
    nothing = SimpleNamespace(learning_curves=lambda: pd.DataFrame(rows).query("network == 'encoder'"))
    assert figures.layer_figure(nothing) == {}


def test_the_published_protocol_is_drawn_for_all_workers_or_none(outcome):
    effects = outcome.switch_effects()
    parts = pd.DataFrame(effects.variant.map(split_label).tolist(), columns=["variant", "task", "clips"])
    assert set(parts.task) == set(TASKS) and parts.variant.nunique() == 5
    assert (effects.low <= effects.effect).all() and (effects.effect <= effects.high).all()
    ax = figures.protocol_figure(outcome)["switches"]
    rows = {text.get_text() for text in ax.get_yticklabels()}
    assert rows == {NAMES.label(variant) for variant in parts.variant}

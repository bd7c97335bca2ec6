"The LSTM paper's figures: names for readers, cells of the heat maps, and where the rows are from."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from colours import VIEWS, closest

from musicmtl.papers.lstm_ensemble import figures
from musicmtl.papers.lstm_ensemble.experiment import GRID, SECOND, VARIANTS, recipe
from musicmtl.papers.lstm_ensemble.figures import NAMES, study
from musicmtl.study import find_study


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_colours_of_networks_stay_apart_for_colour_blind_readers(view):
    networks = (
        "as_0 as_50 as_100 l2 ensemble m2 autoencoder_1 autoencoder_2 binary_1 binary_2 feed_forward text".split()
    )
    for family in (networks, ["log_loss", "double_softmax"]):
        distance, pair = closest({name: NAMES.colours[name] for name in family}, view)
        assert distance > 10, pair


def test_variants_have_words_and_share_the_colour_of_their_network():
    assert NAMES.label("as_100_200_25") == "AS, β = 100, 200 units, 25 classes"
    assert NAMES.label("l2_1e-3_200_25") == "L2, λ = 1e-3, 200 units, 25 classes"
    assert NAMES.label("ensemble_4_m1") == "4 snippets, m1"
    assert NAMES.label("ensemble_4_m1_10") == "4 snippets, m1, 10 classes"
    assert NAMES.colour("as_100_200_25") == NAMES.colour("as_100_100") != NAMES.colour("as_50_100")


def test_every_variant_has_words():
    for variant in VARIANTS:
        words = NAMES.label(variant)
        assert "_" not in words and words != variant and NAMES.label(f"{variant}_25") == f"{words}, 25 classes"


# --- heat maps -----------------------------------------------------------------------------------------------------


def test_heat_maps_have_the_variants_of_the_paper():
    cells = figures.cells_of("10")
    labels = [label for _, grid in cells.values() for label in grid.values()]
    ensembles = [f"ensemble_{M}_{method}" for M in (2, 4) for method in ("m0", "m1", "m2")]
    assert sorted(labels) == sorted(f"{variant}_10" for variant in (*GRID, *SECOND, *ensembles))


def rows(protocol, **values):
    return [dict(protocol=protocol, variant=name, metric="accuracy", value=value) for name, value in values.items()]


def test_grids_are_means_over_seeds_and_drop_what_is_empty():
    cells = {("one", "left"): "a", ("one", "right"): "b", ("two", "left"): "c", ("two", "right"): "d"}
    table = pd.DataFrame([*rows("published", a=0.2, b=0.4), *rows("published", a=0.4), *rows("corrected", a=0.1)])
    found = figures.grids(table, cells)
    assert list(found) == [figures.READS["published"]]  # one value alone is no grid
    (grid,) = found.values()
    assert grid.index.tolist() == ["one"] and grid.columns.tolist() == ["left", "right"]
    np.testing.assert_allclose(grid.loc["one"], [0.3, 0.4])
    whole = pd.DataFrame([*table.to_dict("records"), *rows("corrected", a=0.1, b=0.2, c=0.3, d=0.4)])
    assert list(figures.grids(whole, cells)) == [figures.READS["corrected"]]  # complete ones, where there are any


def made_up_outcome(settings, scores=(), curves=()):
    tables = {"scores": pd.DataFrame(scores), "curves": pd.DataFrame(curves)}
    return SimpleNamespace(settings=settings, data=SimpleNamespace(name="demo", sets={"10": None}), tables=tables)


def test_figures_say_where_they_are_drawn_from(settings_of):
    cells = figures.cells_of("10")["fig02_l2"][1]
    table = rows("corrected", **dict.fromkeys(cells.values(), 0.5))
    few = [dict(row, corpus="demo", preset="smoke") for row in table[:2]]
    many = [dict(row, corpus="demo", preset="claims") for row in table]
    for scores, source in ((few, ""), (few + many, " (preset claims)")):
        axes = figures.heat_maps(made_up_outcome(settings_of(), scores))["fig02_l2_10"]
        assert axes[0].figure.get_suptitle() == f"L2, 10 classes{source}"


def test_the_best_variant_is_that_with_the_highest_peak(settings_of):
    peaks = rows("corrected-selection", as_0_100_10=0.5, m2_4_10=0.6, text_10=0.6, as_0_100_25=0.9)
    other = rows("corrected", as_0_100_10=0.99)
    scores = [dict(row, corpus="demo", preset="smoke") for row in peaks + other]
    outcome = made_up_outcome(settings_of(), scores)
    assert figures.best_label(outcome, "10") == "m2_4_10"  # the first of equals
    assert figures.best_label(outcome, "8") is None


def test_curves_come_in_the_order_of_their_labels(settings_of):
    curve = dict(corpus="demo", preset="smoke", protocol="corrected", part="valid", quantity="accuracy", value=0.1)
    curves = [dict(curve, variant=variant, epoch=e) for variant in ("as_0_100_10", "l2_1e-3_100_10") for e in (2, 1)]
    outcome = made_up_outcome(settings_of(), curves=curves)
    table, source = figures.curves_of(outcome, ["l2_1e-3_100_10", "as_0_100_10"], "accuracy")
    assert source == "" and table.variant.tolist() == ["l2_1e-3_100"] * 2 + ["as_0_100"] * 2
    assert table.epoch.tolist() == [1, 2, 1, 2]


# --- the study -----------------------------------------------------------------------------------------------------


def test_a_run_leaves_its_figures(outcome):
    "Those of another corpus than Miniature carry its name."
    names = {path.name for path in (outcome.folder / "lstm_ensemble").iterdir()}
    papers = "fig02_as fig03_as fig03_curves fig04_curves fig06_ensembles fig07_baseline fig07_ensemble fig08_m2"
    scores = "accuracy log_loss calibrated_log_loss calibration_error macro_f1"
    expected = f"{papers} fig11_tasks fig12_best {scores}"
    files = {f"music_{name}_5{'_time' if name == 'fig03_as' else ''}.png" for name in expected.split()}
    own = {"music_switches.png", "music_switches_error.png", "music_learning.png"}
    assert files | own <= names and all("rivals" in name or "balancers" in name for name in names - files - own)


def test_the_order_of_scores_is_that_of_the_preset(outcome):
    axes = figures.score_figures(outcome)["accuracy_5"]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    variants = []
    for variant in outcome.settings.variants_of("5"):
        variants += [f"{variant}_{method}" if method else variant for method in recipe(variant).methods]
    variants += ["band_statistics", "untrained"]  # the majority class is a line
    assert shown == [NAMES.label(variant) for variant in variants]


def test_the_study_is_found():
    assert find_study("lstm_ensemble") is study and study.names is NAMES

"Curves: the chosen seed in full colour, means over seeds, areas that are the metrics'."

import numpy as np
import pandas as pd
import pytest
from drawings import assert_axes_named, assert_drawn_alike

from musicmtl import viz
from musicmtl.core import ParamsError
from musicmtl.metrics import average_precision, roc_auc


def weights(n_seeds=2):
    rows = [
        (s, e / 4, t, 1 + 0.1 * s * k)
        for s in range(n_seeds)
        for e in range(8)
        for k, t in enumerate(("genre", "mfcc"))
    ]
    return pd.DataFrame(rows, columns=["seed", "epoch", "task", "weight"])


CURVES = pd.DataFrame(
    dict(epoch=[1, 2, 1, 2], value=[2.0, 1.0, 2.5, 1.5], variant="equal", part=["train", "train", "valid", "valid"])
)
TRUTH = np.arange(60) % 3
SYSTEM = np.random.default_rng(1).normal(size=(60, 3)) + np.eye(3)[TRUTH]
FIGURES = dict(
    weights=lambda: viz.weight_curves(weights()),
    training=lambda: viz.training_curves(CURVES),
    panels=lambda: viz.curve_panels({"Error": (CURVES, "loss"), "Again": (CURVES, "loss")}),
    roc=lambda: viz.roc_curves(TRUTH, {"equal": SYSTEM}),
    precision=lambda: viz.precision_recall_curves(TRUTH, {"equal": SYSTEM}),
)


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_file_every_time_and_its_style_does_not_leak(name, tmp_path):
    assert_drawn_alike(FIGURES[name], tmp_path)


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_says_what_it_shows(name):
    assert_axes_named(FIGURES[name]())


def test_weight_curves_shows_the_chosen_seed_and_the_others_faint():
    ax = viz.weight_curves(weights(3), seed=2)
    solid = [line for line in ax.lines if not line.get_label().startswith("_")]
    faint = [line for line in ax.lines if line.get_alpha() is not None]
    assert [line.get_label() for line in solid] == ["Genre", "MFCC"] and len(faint) == 4
    np.testing.assert_allclose(solid[1].get_ydata(), 1.2)
    assert solid[0].get_color() == viz.NAMES.colours["genre"]
    steps = weights(1).rename(columns={"epoch": "step"}).assign(step=lambda d: d.step * 40)
    np.testing.assert_allclose(viz.weight_curves(steps, steps_per_epoch=40).lines[-1].get_xdata(), np.arange(8) / 4)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.drop(columns="task"), "lacks task"),
        (lambda d: d[:0], "empty"),
        (lambda d: d.rename(columns={"epoch": "step"}), "steps_per_epoch"),
    ],
)
def test_weight_curves_says_what_is_missing(change, message):
    with pytest.raises(ParamsError, match=message):
        viz.weight_curves(change(weights()))


def test_training_curves_show_the_mean_of_the_seeds_in_the_unit_of_the_metric():
    runs = pd.concat([CURVES.assign(seed=0), CURVES.assign(seed=1, value=CURVES.value + 1)])
    ax = viz.training_curves(runs, metric="log_loss")
    thick = [line for line in ax.lines if line.get_alpha() is None and len(line.get_xdata())]
    np.testing.assert_allclose([line.get_ydata() for line in thick], [[2.5, 1.5], [3.0, 2.0]])
    assert sum(line.get_alpha() == 0.3 for line in ax.lines) == 4  # two seeds of two parts
    assert ax.get_ylabel() == "Log loss [nats]"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["Equal weights", "Training", "Validation"]
    per_cent = viz.training_curves(CURVES.assign(value=CURVES.value / 10), metric="accuracy")
    assert per_cent.lines[0].get_ydata().tolist() == [20.0, 10.0] and per_cent.get_ylabel() == "Accuracy [%]"


def test_areas_in_the_legend_are_those_of_the_metrics_and_curves_have_the_areas_of_their_classes():
    for draw, area, tolerance in (
        (viz.roc_curves, roc_auc, 0.01),
        (viz.precision_recall_curves, average_precision, 0.02),
    ):
        ax = draw(TRUTH, {"equal": SYSTEM})
        (words,) = (t.get_text() for t in ax.get_legend().get_texts())
        assert words == f"Equal weights: {100 * area(TRUTH, SYSTEM):.1f} %"
        faint = [line for line in ax.lines if line.get_alpha() is not None]
        for k, line in enumerate(faint):
            assert line.get_ydata().mean() == pytest.approx(area(TRUTH == k, SYSTEM[:, k]), abs=tolerance)


@pytest.mark.parametrize(
    "y, scores, message",
    [
        (TRUTH, SYSTEM[:3], "'equal': 60 items need scores .60, C., found .3, 3."),
        (np.zeros(60, int), SYSTEM, "'equal': no class has both items and others"),
    ],
)
def test_curves_without_a_meaning_are_refused(y, scores, message):
    with pytest.raises(ParamsError, match=message):
        viz.roc_curves(y, {"equal": scores})

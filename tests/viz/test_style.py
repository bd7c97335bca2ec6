"Names, colours, units and saving."

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from colours import VIEWS, closest

from musicmtl import viz
from musicmtl.core import ParamsError
from musicmtl.study import VERDICTS


def test_variants_are_sorted_by_labels_then_forms_then_numbers():
    order = ["single_task", "equal", "equal_alpha_0.5", "equal_alpha_10", "text"]  # labels; those of `FORMS` come last
    order += ["as_50_100", "as_100_9", "as_100_20", "deep", "wide_openmic", "other_2", "other_10"]
    names = viz.NAMES | FORMS
    assert sorted(sorted(order), key=names.rank) == order


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("family", ["TASKS", "METHODS", "PROTOCOLS", "VERDICTS"])
def test_colours_of_a_family_stay_apart_for_colour_blind_readers(family, view):
    distance, pair = closest(getattr(viz, family).colours, view)
    assert distance > 10, pair


FORMS = viz.Names(
    labels=dict(text="No dense layer"),
    forms={
        r"as_([\d.]+)_(\d+)": ("AS, β = {}, {} units", "as_{}"),
        r"(deep|wide)(_openmic)?": (lambda match: f"{match[1]} network" + ", OpenMIC" * bool(match[2]), "{}"),
    },
    colours=dict(as_100="#0560C2", deep="#E69F00", wide="#000000", equal="#123456"),
)


def test_generic_names_have_words_and_colours():
    assert viz.label("gradnorm_epoch") == "GradNorm, L(0) per epoch"
    assert viz.label("something_new") == "Something new" and viz.label("β = 100") == "β = 100"
    assert viz.label("gradnorm_ema_alpha_0.5_windows_1") == "GradNorm, L(0) moving average, α = 0.5, 1 window per track"
    assert viz.label("roc_auc_song") == "ROC-AUC by song" and viz.label("majority_openmic") == "Majority class, OpenMIC"
    assert viz.label("track") == "Track"
    assert viz.colour("gradnorm_epoch_alpha_0.5_windows_1") == viz.colour("gradnorm_epoch") == "#0072B2"
    assert viz.colour("genre") == viz.NAMES.colours["genre"] == "#D55E00"
    assert tuple(viz.VERDICTS.colours) == VERDICTS


def test_unknown_names_get_a_spare_colour_that_no_known_name_has():
    assert viz.colour("unheard_of") == "#AA4499" and viz.colour("unheard_of_alpha_2") == "#117733"
    spare = {viz.colour(f"unheard_of_{letter}") for letter in "abcdefghijkl"}
    assert len(spare) == 6 and not spare & set(viz.NAMES.colours.values())


def test_a_papers_names_add_to_the_generic_ones_and_change_none_of_them():
    names = viz.NAMES | FORMS
    assert names.label("as_100_200") == "AS, β = 100, 200 units" != viz.label("as_100_200") == "As 100 200"
    assert names.colour("as_100_200") == "#0560C2" and names.colour("as_50_200") == viz.colour("as_50_200")
    assert names.label("wide_openmic_labels_50") == "Wide network, OpenMIC, 50 training clips"
    assert names.colour("wide_openmic_labels_50") == "#000000"
    assert names.label("text") == "No dense layer" and names.label("genre") == "Genre"
    assert names.colour("equal") == "#123456" and viz.colour("equal") == "#000000"  # the later decides


def test_class_marks_are_all_different():
    marks = viz.class_marks([f"c{i}" for i in range(60)])
    assert len({hue for hue, _ in list(marks.values())[:18]}) == 18
    assert len(set(marks.values())) == 60


@pytest.mark.parametrize(
    "metric, value, expected",
    [
        ("micro_f1", 87.99, 87.99),
        ("roc_auc", 0.9012, 90.12),
        ("log_loss", 0.362, 0.362),
        ("recall_at_1", 45.1, 45.1),
        ("macro_f1_track", 0.5, 50),
    ],
)
def test_paper_numbers_come_in_our_unit(metric, value, expected):
    assert viz.paper_number(metric, value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "metric, label, as_shown",
    [
        ("macro_f1_track", "Macro F1 by track [%]", 50.0),
        ("recall_at_4", "Recall at 4 [%]", 50.0),
        ("log_loss", "Log loss [nats]", 0.5),
        ("share_percent", "Share percent [%]", 0.5),
        ("parameters", "Parameters", 0.5),
    ],
)
def test_a_quantity_has_its_unit(metric, label, as_shown):
    assert viz.quantity(metric) == label and float(viz.shown(metric, 0.5)[0]) == as_shown


def test_tables_without_what_a_figure_needs_are_refused_by_name():
    table = pd.DataFrame(dict(task=["genre", "artist"]))
    with pytest.raises(ParamsError, match="sweep: the table lacks value, low; it has task"):
        viz.need_columns(table, ["task", "value", "low"], "sweep")
    with pytest.raises(ParamsError, match="sweep: the table is empty"):
        viz.need_columns(table[:0], ["task"], "sweep")
    with pytest.raises(ParamsError, match="sweep: one task per figure, but the table holds genre, artist"):
        viz.one_value(table, "task", "sweep")
    assert viz.one_value(table[:1], "task", "sweep") == "genre"


def test_the_style_comes_and_goes_with_its_context_and_stays_where_a_notebook_asks_for_it():
    before = dict(plt.rcParams)
    with viz.style():
        inside = dict(plt.rcParams)
    assert dict(plt.rcParams) == before != inside
    try:
        viz.use_style()
        assert dict(plt.rcParams) == inside | {"text.parse_math": True}  # a notebook may write mathematics
    finally:
        plt.rcParams.update(before)


def test_a_picture_is_cut_as_matplotlib_cuts_it(tmp_path):
    "Words and long labels beyond the axes, an image with its own aspect, a title over all."
    with viz.style():
        fig, axes = plt.subplots(1, 2, figsize=(5, 2.4), layout="constrained")
        axes[0].plot([1, 2])
        fig.text(1.1, 0.5, "beside the axes")
        axes[0].set_yticks([1, 2], ["a very long label of a tick", "2"])
        axes[1].imshow(np.eye(3))
        fig.suptitle("title")
    ours = plt.imread(viz.save_figure(fig, tmp_path / "ours.png"))
    fig.savefig(tmp_path / "theirs.png", dpi=120, facecolor="white", bbox_inches="tight", pad_inches=0.08)
    theirs = plt.imread(tmp_path / "theirs.png")
    assert ours.shape[:2] == theirs.shape[:2] and np.abs(ours[..., :3] - theirs[..., :3]).mean() < 0.01


def test_a_png_is_small_and_other_formats_are_refused(tmp_path):
    from PIL import Image

    with viz.style():
        fig, axes = plt.subplots(1, 2)
    path = viz.save_figure(axes, tmp_path / "deep" / "figure.png")
    with Image.open(path) as picture:
        assert picture.mode == "P" and not picture.info.get("Software")
    assert viz.save_figure(fig, tmp_path / "again.png").read_bytes() == path.read_bytes()
    with pytest.raises(ParamsError, match="figure x.pdf: the format must be .png or .svg"):
        viz.save_figure(fig, tmp_path / "x.pdf")


@pytest.mark.parametrize("n", [2, 7])
def test_a_title_stands_over_the_legend(n):
    with viz.style():
        _, ax = plt.subplots()
        for i in range(n):
            ax.plot([0, 1], np.arange(2), label=f"line {i}")
        viz.legend_above(ax, "Title", n, ncols=3)
        ax.figure.canvas.draw()
    (title,) = (text.get_window_extent() for text in ax.get_children() if getattr(text, "get_text", str)() == "Title")
    legend = ax.get_legend().get_window_extent()
    assert len(ax.get_legend().get_texts()) == n
    assert ax.get_window_extent().y1 <= legend.y0 + 1 and legend.y1 <= title.y0 + 5


HOSTILE = [
    "$uicideboy$",
    "$_$",
    "100$ & 50% $^ x",
    "$$$",
    "\\$",
    "x" * 400,
    "two\nlines",
    "\x00nul",
    "\u202ertl",
    "\ud800",
]


@pytest.mark.long
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_from_outside_are_drawn_as_text_on_one_short_line(name, tmp_path):
    points, names = (
        np.random.default_rng(0).normal(size=(20, 2)),
        np.array([name, "Other"], dtype=object)[np.arange(20) % 2],
    )
    figures = [
        viz.tsne_map(points, names),
        viz.confusion(np.array([[3, 1], [2, 5]]), [name, "Other"]),
        viz.mel_heatmap(np.zeros((8, 9)), 22050, 512, title=f"{name}: {name}"),
        viz.taggram(np.full((3, 2), 0.5), [name, "Other"], title=name),
    ]
    for i, ax in enumerate(figures):
        assert viz.save_figure(ax, tmp_path / f"{i}.png").stat().st_size > 1000
        from_outside = [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts, ax.title, ax.get_legend()]
        texts = [text for text in from_outside if hasattr(text, "get_parse_math") and len(text.get_text()) > 1]
        assert not any(text.get_parse_math() and "$" in text.get_text() for text in texts)
        assert all("\n" not in text.get_text() and len(text.get_text()) <= 120 for text in texts)
        plt.close(ax.figure)
    assert viz.drawable("$uicideboy$") == "$uicideboy$" and len(viz.drawable(name)) <= 48


def test_numbers_on_a_logarithmic_axis_stay_mathematics(tmp_path):
    table = pd.DataFrame(dict(epoch=[1, 2, 3], value=[1e-3, 1.0, 1e3]))
    ax = viz.training_curves(table, log=True)
    viz.save_figure(ax, tmp_path / "log.png")
    powers = [text for text in ax.get_yticklabels() if "$" in text.get_text()]
    assert powers and all(text.get_parse_math() for text in powers)


@pytest.mark.parametrize(
    "values, shown", [((0.55, 0.9, 1.4), {0.7, 1.0}), ((3.0, 20.0, 60.0), {5.0, 10.0, 20.0, 50.0})]
)
def test_a_short_logarithmic_axis_has_numbers_to_read_it_by(values, shown):
    ax = viz.training_curves(pd.DataFrame(dict(epoch=[1, 2, 3], value=values)), log=True)
    low, high = ax.get_ylim()
    assert {round(tick, 6) for tick in ax.get_yticks() if low <= tick <= high} >= shown
    plt.close("all")


def test_a_users_own_plot_appears_after_one_of_ours():
    "In a new notebook, whose backend our figure is the first to load."
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    ours = (
        "from musicmtl import viz\nwith viz.style():\n    import matplotlib.pyplot as plt\n    plt.close(plt.figure())"
    )
    notebook = new_notebook(cells=[new_code_cell(ours), new_code_cell("plt.plot([1, 2]);")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's connection
        NotebookClient(notebook).execute()
    (shown,) = notebook.cells[1].outputs
    assert "image/png" in shown["data"]


def test_a_title_says_corpus_and_preset_once():
    def titled(title, words="Commons (preset commons)", size=(7, 1)):
        ax = plt.subplots(figsize=size)[1]
        ax.set_title(title, loc="left")
        viz.say_where(ax, words)
        return ax.get_title("left")

    assert titled("Recall") == "Recall · Commons (preset commons)"
    assert titled("Recall (preset claims)") == "Recall (preset claims) · Commons"
    assert titled("") == "Commons (preset commons)"
    assert titled("Recall", size=(2, 1)) == "Recall\nCommons (preset commons)"
    panels = plt.subplots(1, 2)[1]
    viz.say_where(panels, "Commons")
    assert panels[0].figure.get_suptitle() == "Commons"
    viz.say_where(panels, "again")
    assert panels[0].figure.get_suptitle() == "Commons · again"
    plt.close("all")

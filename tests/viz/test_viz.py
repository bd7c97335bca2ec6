"Figures: the same bytes on every save, readable for colour-blind readers, names apart, numbers that are the table's."

import itertools
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from colours import VIEWS, closest

from musicmtl import viz
from musicmtl.core import ParamsError


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def results(seeds=1, corpus="miniature", metric="micro_f1"):
    rng = np.random.default_rng(0)
    rows = [
        (v, p, s, 0.5 + 0.1 * (p == "published") + rng.normal(0, 0.02))
        for v in ("single_task", "equal")
        for p in ("published", "corrected")
        for s in range(seeds)
    ]
    rows += [("majority", "published", 0, 0.3), ("majority", "corrected", 0, 0.25)]
    df = pd.DataFrame(rows, columns=["variant", "protocol", "seed", "value"])
    return df.assign(
        low=df.value - 0.03, high=df.value + 0.03, metric=metric, corpus=corpus, paper_value=87.99, paper_ref="§5"
    )


def weights(n_seeds=2):
    rows = [
        (s, e / 4, t, 1 + 0.1 * s * k)
        for s in range(n_seeds)
        for e in range(8)
        for k, t in enumerate(("genre", "mfcc"))
    ]
    return pd.DataFrame(rows, columns=["seed", "epoch", "task", "weight"])


def points_of(*x):
    return pd.DataFrame([dict(x=v, group=g, value=0.5, low=0.4, high=0.6) for v in x for g in ("equal", "reweighted")])


def figures():
    rng = np.random.default_rng(1)
    points, names = rng.normal(size=(40, 2)), np.repeat(list("abcd"), 10)
    counts = rng.integers(1, 9, (4, 4))
    effects = pd.DataFrame(dict(switch=["a", "b"], effect=[1.0, 2.0], low=[0.0, 1.0], high=[2.0, 3.0]))
    claims = pd.DataFrame(
        dict(
            claim=["A1", "A2"],
            effect=[1.0, None],
            low=[0.0, None],
            high=[2.0, None],
            unit=["points", "ratio"],
            verdict=["holds", "not testable here"],
        )
    )
    curves = pd.DataFrame(
        dict(epoch=[1, 2, 1, 2], value=[2.0, 1.0, 2.5, 1.5], variant="equal", part=["train", "train", "valid", "valid"])
    )
    table = viz.architecture_table(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (2, 4))
    return dict(
        mel=lambda: viz.mel_heatmap(rng.normal(size=(16, 40)), 22050, 512),
        taggram=lambda: viz.taggram(rng.random((20, 3)), ["guitar", "no vocals", "slow"]),
        weights=lambda: viz.weight_curves(weights()),
        tsne=lambda: viz.tsne_map(points, names),
        confusion=lambda: viz.confusion(counts, "abcd"),
        difference=lambda: viz.confusion_difference(counts, counts.T, "abcd"),
        scores=lambda: viz.score_bars(results()),
        heat=lambda: viz.score_heatmap(
            pd.DataFrame([[0.5, 0.6]], index=["equal"], columns=["genre", "artist"]), "accuracy"
        ),
        curves=lambda: viz.training_curves(curves),
        effects=lambda: viz.protocol_effects(effects),
        claims=lambda: viz.claim_forest(claims),
        architecture=lambda: viz.architecture(table),
        panels=lambda: viz.curve_panels({"Error": (curves, "loss"), "Again": (curves, "loss")}),
        changes=lambda: viz.confusion_changes({"WLP": counts, "WLP+T": counts.T}, [("WLP", "WLP+T")], "abcd"),
        points=lambda: viz.score_panels(
            {"FMA": points_of("WLP", "WLP+T")}, metric="macro_f1", xlabel="Workers", looks={"equal": "open"}
        ),
        heats=lambda: viz.score_heatmaps(
            {n: pd.DataFrame([[0.5, 0.6]], index=["equal"], columns=["genre", "artist"]) for n in "ab"}, "accuracy"
        ),
    )


@pytest.mark.parametrize("name", sorted(figures()))
def test_saved_twice_gives_the_same_bytes_and_style_does_not_leak(name, tmp_path):
    before = dict(plt.rcParams)
    draw = figures()[name]
    ax = draw()
    for ext in ("png", "svg"):
        a, b = (viz.save_figure(ax, tmp_path / f"{i}.{ext}").read_bytes() for i in "ab")
        assert a == b
        assert (
            b"Software" not in a
            and b"dc:date" not in a
            and b"matplotlib.org" not in a.split(b"<g")[0].split(b"<svg")[-1]
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]
    assert {k for k in before if before[k] != plt.rcParams[k]} <= {"backend", "backend_fallback"}


@pytest.mark.parametrize("name", sorted(figures()))
def test_every_axis_says_what_it_shows(name):
    axes = np.ravel(figures()[name]())
    if name in ("architecture", "heat", "heats"):
        return
    for ax in axes:
        assert ax.get_xlabel() and (ax.get_ylabel() or len(ax.get_yticklabels())), name


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
    assert viz.label("gradnorm_ema_alpha_0.5_windows_1") == "GradNorm, L(0) moving average, α = 0.5, 1 window a track"
    assert viz.label("roc_auc_song") == "ROC-AUC by song" and viz.label("majority_openmic") == "Majority class, OpenMIC"
    assert viz.label("track") == "Track"
    assert viz.colour("gradnorm_epoch_alpha_0.5_windows_1") == viz.colour("gradnorm_epoch") == "#0072B2"
    assert viz.colour("genre") == viz.NAMES.colours["genre"] == "#D55E00"
    assert set(viz.VERDICTS.colours) == {"holds", "does not hold", "not resolved", "not testable here"}


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


def test_figures_show_the_names_that_they_are_given():
    ax = viz.score_bars(results().replace({"variant": {"equal": "as_100_200"}}), names=viz.NAMES | FORMS)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Single task", "AS, β = 100, 200 units"]
    (ax,) = viz.score_panels({"FMA": points_of("a")}, metric="macro_f1", names=viz.NAMES | FORMS)
    assert ax.containers[0].lines[0].get_color() == "#123456"


def test_panels_of_scores_show_the_tables_numbers():
    a, b = viz.score_panels(
        {"FMA": points_of("WLP", "WLP+T"), "OpenMIC": points_of("WLP+T")},
        metric="macro_f1",
        looks={"equal": "open"},
        paper={"FMA": {"WLP+T": 55.0}, "OpenMIC": {"other": 1.0}},
        across={"FMA": {"pase_supervised": 0.45}},
    )
    equal, other = a.containers
    np.testing.assert_allclose(equal.lines[0].get_ydata(), 50.0)
    assert equal.lines[0].get_markerfacecolor() == "white" != other.lines[0].get_markerfacecolor()
    assert (equal.lines[0].get_xdata() < other.lines[0].get_xdata()).all()  # side by side
    assert [t.get_text() for t in b.get_xticklabels()] == ["WLP", "WLP+T"] and b.containers[0].lines[0].get_xdata()[
        0
    ] > 0.5
    assert a.collections[-1].get_offsets().tolist() == [[1.0, 55.0]] and not any(
        c.get_label() == "Paper" for c in b.collections
    )
    assert any(np.allclose(line.get_ydata(), 45.0) for line in a.lines)
    curve = points_of(50, 400)
    (ax,) = viz.score_panels({"FMA": curve}, metric="macro_f1", upright={"FMA": {"Crossing": 100.0}})
    assert ax.get_xscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == ["50", "400"]
    assert any(np.allclose(line.get_xdata(), 100.0) for line in ax.lines)


def test_changes_of_confusions_share_their_colours():
    steps = {"WLP": np.eye(3) * 10, "WLP+T": np.eye(3) * 10, "WLP+MCT": np.eye(3)[::-1] * 10}
    axes = viz.confusion_changes(steps, [("WLP", "WLP+T"), ("WLP+T", "WLP+MCT")], "abc")
    assert [ax.get_title(loc="left") for ax in axes] == ["WLP", "WLP+T minus WLP", "WLP+MCT minus WLP+T"]
    assert axes[1].images[0].get_clim() == axes[2].images[0].get_clim() == (-100.0, 100.0)
    assert axes[1].images[0].get_array().mask.all()  # no change is no colour
    assert axes[2].images[0].get_array()[0].tolist() == [-100.0, None, 100.0]


def test_class_marks_are_all_different():
    marks = viz.class_marks([f"c{i}" for i in range(60)])
    assert len(set(marks.values())) == 60


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_ticks_lie_where_librosa_puts_the_band(scale):
    librosa = pytest.importorskip("librosa")
    centres = librosa.mel_frequencies(66, fmin=30.0, fmax=8000.0, htk=scale == "htk")[1:-1]
    np.testing.assert_allclose(viz.mel_bands(centres, 64, 30.0, 8000.0, scale), np.arange(64), atol=1e-6)


def test_mel_heatmap_has_seconds_and_the_right_band():
    mel = np.full((64, 431), -80.0)
    mel[20] = 0
    ax = viz.mel_heatmap(mel, 22050, 512)
    assert ax.get_xlim() == pytest.approx((0, 431 * 512 / 22050)) and "[s]" in ax.get_xlabel()
    ticks = dict(zip([t.get_text() for t in ax.get_yticklabels()], ax.get_yticks(), strict=True))
    assert ticks["1,000"] == pytest.approx(float(viz.mel_bands(1000, 64)))
    with pytest.raises(ParamsError, match="log-mel"):
        viz.mel_heatmap(mel[0], 22050, 512)


def test_taggram_puts_the_likeliest_tag_on_top_and_each_window_in_its_place():
    p = np.zeros((4, 3))
    p[:, 1] = 0.9
    p[2, 2] = 1.0
    ax = viz.taggram(p, ["a", "b", "c"], hop_s=1.0, window_s=3.0, n=2)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "c"]
    image = ax.images[0]
    assert list(image.get_extent())[:2] == [1.0, 5.0] and image.get_clim() == (0, 1)
    np.testing.assert_array_equal(image.get_array(), p[:, [1, 2]].T)


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


def test_tsne_is_the_same_on_every_call_and_keeps_neighbours():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 20)
    x = rng.normal(size=(60, 10)) + 8 * np.eye(3)[y] @ rng.normal(size=(3, 10))
    a = viz.tsne(x, n_iter=100)
    np.testing.assert_array_equal(a, viz.tsne(torch.tensor(x), n_iter=100))
    assert a.dtype == np.float32 and a.shape == (60, 2)
    nearest = np.argsort(((a[:, None] - a) ** 2).sum(-1) + 1e9 * np.eye(60), 1)[:, 0]
    assert (y[nearest] == y).mean() > 0.95
    cube = viz.tsne(x, 3, n_iter=30)
    np.testing.assert_array_equal(cube, viz.tsne(x, 3, n_iter=30))
    assert cube.shape == (60, 3)
    assert np.isfinite(viz.tsne(x[:6], n_iter=20)).all()  # perplexity cut to 5/3


@pytest.mark.parametrize(
    "x, message", [(np.zeros((4, 3)), "at least 5"), (np.full((9, 3), np.nan), "9 of 9"), (np.zeros(9), "at least 5")]
)
def test_tsne_refuses_what_it_cannot_place(x, message):
    with pytest.raises(ParamsError, match=message):
        viz.tsne(x)


def test_names_on_the_map_do_not_overlap():
    rng = np.random.default_rng(2)
    names = np.repeat([f"Class number {i}" for i in range(18)], 6)
    ax = viz.tsne_map(rng.normal(size=(108, 2)), names, rare=("Class number 3",), loose=("Class number 4",))
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts]
    assert len(boxes) == 18 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    frame = ax.get_window_extent()
    assert all(frame.x0 - 1 <= b.x0 and b.x1 <= frame.x1 + 1 for b in boxes)
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "Class number 3 (6), rare" in legend and "Class number 4 (6), loose" in legend


def test_the_3d_page_is_whole_offline_and_the_same_every_time(tmp_path):
    rng = np.random.default_rng(3)
    points, names = rng.normal(size=(30, 3)), np.repeat(["a", "b", "c"], 10)
    for n in "xy":
        viz.tsne_map_3d(points, names, tmp_path / f"{n}.html", names=[f"track {i}" for i in range(30)])
    page = (tmp_path / "x.html").read_bytes()
    assert page == (tmp_path / "y.html").read_bytes()
    assert b"<script src=" not in page and b"track 29" in page and b"cdn.plot.ly" not in page[:2000]
    with pytest.raises(ParamsError, match=r"\[30, 3\]"):
        viz.tsne_map_3d(points[:, :2], names, tmp_path / "z.html")


def test_confusion_rows_are_the_truth():
    ax = viz.confusion([[8, 2], [0, 0]], ["a", "b"])
    image = ax.images[0].get_array()
    assert image[0].tolist() == [80, 20] and np.isnan(np.ma.filled(image, np.nan)[1]).all()  # b never occurs: no share
    assert [t.get_text() for t in ax.texts] == ["80", "20"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("True", "Predicted")
    big = viz.confusion(np.eye(21, dtype=int), [str(i) for i in range(21)])
    assert not big.texts
    with pytest.raises(ParamsError, match=r"counts \[3, 3\]"):
        viz.confusion([[1, 2], [3, 4]], list("abc"))


def test_confusion_difference_is_red_where_b_is_larger():
    ax = viz.confusion_difference([[5, 5], [5, 5]], [[10, 0], [5, 5]], ["a", "b"])
    image = ax.images[0]
    np.testing.assert_allclose(image.get_array(), [[50, -50], [0, 0]])
    up, down = (image.cmap(image.norm(v)) for v in (50, -50))
    assert up[0] > up[2] and down[2] > down[0] and image.norm.vmin == -image.norm.vmax


@pytest.mark.parametrize("seeds", [1, 5])
def test_scores_stand_beside_the_paper_and_the_majority(seeds):
    df = results(seeds)
    ax = viz.score_bars(df)
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert (
        "Paper, 87.99 (§5)" in names and "Majority class, published" in names and "Majority class, corrected" in names
    )
    lines = {line.get_label(): line.get_xdata()[0] for line in ax.lines}
    assert lines["Paper, 87.99 (§5)"] == 87.99 and lines["Majority class, corrected"] == pytest.approx(25)
    mean = df[(df.variant == "equal") & (df.protocol == "corrected")].value.mean() * 100
    assert any(np.isclose(np.asarray(line.get_xdata(), float), mean).any() for line in ax.lines)
    assert ("t intervals" in ax.get_xlabel()) == (seeds == 5)


def test_seed_summary_matches_students_interval():
    d = pd.DataFrame(dict(variant="a", protocol="p", value=[1.0, 2.0, 3.0, 4.0], low=0.0, high=9.0))
    s = viz.seed_summary(d).iloc[0]
    half = 3.182446305284263 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert s.value == 2.5 and (s.low, s.high) == pytest.approx((2.5 - half, 2.5 + half))
    assert viz.seed_summary(d[:1]).iloc[0][["low", "high"]].tolist() == [0.0, 9.0]
    assert np.isnan(viz.seed_summary(d[:2]).iloc[0].low)


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


def test_one_metric_and_one_corpus_a_figure():
    with pytest.raises(ParamsError, match="one metric"):
        viz.score_bars(pd.concat([results(), results(metric="macro_f1")]))
    with pytest.raises(ParamsError, match="one corpus"):
        viz.score_bars(pd.concat([results(), results(corpus="albums")]))


def test_claims_of_different_units_get_panels_and_unknown_verdicts_an_error():
    df = pd.DataFrame(
        dict(
            claim=["A1", "A2", "A3"],
            effect=[1.0, -1.0, 2.0],
            low=[0.5, -2, 1],
            high=[2.0, 0, 3],
            unit=["a", "b", "a"],
            verdict=["holds", "does not hold", "not resolved"],
        )
    )
    axes = viz.claim_forest(df)
    assert len(axes) == 2 and [t.get_text() for t in axes[0].get_yticklabels()] == ["A1", "A3"]
    with pytest.raises(ParamsError, match="maybe"):
        viz.claim_forest(df.assign(verdict="maybe"))


class Branched(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shared = nn.Conv2d(1, 4, 3, padding=1)

        def branch():
            return nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

        self.branches = nn.ModuleList([branch(), branch()])
        self.rnn = nn.LSTM(8, 5, batch_first=True)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        h = self.shared(x) * self.scale
        outs = [b(h).flatten(2).transpose(1, 2) for b in self.branches]
        return [self.rnn(o)[0] for o in outs]


def test_architecture_table_counts_every_parameter_once_and_changes_nothing():
    net = Branched().train()
    net.branches[1][0].weight = net.branches[0][0].weight  # tied
    state = {k: v.clone() for k, v in net.state_dict().items()}
    for depth in (None, 1, 2):
        table = viz.architecture_table(net, (2, 1, 10, 10), depth=depth)
        assert table.parameters.sum() == sum(p.numel() for p in net.parameters())
    table = viz.architecture_table(net, torch.zeros(2, 1, 10, 10)).set_index("layer")
    assert (
        table.output["shared"] == "4×10×10" and table.output["branches.0.0"] == "8×8×8" and table.output["rnn"] == "1×5"
    )
    assert table.output["unused"] == "" and table.parameters["shared"] == 4 * 9 + 4
    assert net.training and net.branches[0][1].training
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_architecture_draws_lanes_side_by_side():
    ax = viz.architecture(viz.architecture_table(Branched(), (2, 1, 10, 10)), lanes="branches")
    at = {t.get_text(): t.get_position() for t in ax.texts}
    (xa, ya), (xb, yb) = at["branches.0.0"], at["branches.1.0"]
    assert ya == yb and xb > xa and at["rnn"][1] > ya
    assert any("not called" in t for t in at)


def test_auc_axes_leave_out_what_is_empty_and_nothing_else():
    def rows(*values):
        return pd.DataFrame(
            [
                dict(variant="a", protocol="corrected", metric="roc_auc", value=v, low=v - 0.1, high=v + 0.1)
                for v in values
            ]
        )

    def left(*values):
        return viz.score_bars(rows(*values)).get_xlim()[0]

    assert (
        left(0.8) == 40 and left(0.3) == pytest.approx(20) and left(0.3, 0.32) == pytest.approx(31)
    )  # two seeds have no interval

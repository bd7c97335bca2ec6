"Heat maps: ticks where the bands are, windows where they were heard, rows that are the truth."

import numpy as np
import pandas as pd
import pytest
from drawings import assert_axes_named, assert_drawn_alike

from musicmtl import viz
from musicmtl.core import ParamsError

RNG = np.random.default_rng(1)
COUNTS = RNG.integers(1, 9, (4, 4))
MEL, PROBABILITIES = RNG.normal(size=(16, 40)), RNG.random((20, 3))
SCORES = pd.DataFrame([[0.5, 0.6]], index=["equal"], columns=["genre", "artist"])
FIGURES = dict(
    mel=lambda: viz.mel_heatmap(MEL, 22050, 512),
    taggram=lambda: viz.taggram(PROBABILITIES, ["guitar", "no vocals", "slow"]),
    confusion=lambda: viz.confusion(COUNTS, "abcd"),
    groups=lambda: viz.confusion(COUNTS, "abcd", groups="xyxy"),
    difference=lambda: viz.confusion_difference(COUNTS, COUNTS.T, "abcd"),
    changes=lambda: viz.confusion_changes({"WLP": COUNTS, "WLP+T": COUNTS.T}, [("WLP", "WLP+T")], "abcd"),
    scores=lambda: viz.score_heatmap(SCORES, "accuracy"),
    several=lambda: viz.score_heatmaps({"a": SCORES, "b": SCORES}, "accuracy"),
)


@pytest.mark.long
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_file_every_time_and_its_style_does_not_leak(name, tmp_path):
    assert_drawn_alike(FIGURES[name], tmp_path)


@pytest.mark.parametrize("name", ["mel", "taggram", "confusion", "groups", "difference", "changes"])
def test_every_axis_says_what_it_shows(name):
    assert_axes_named(FIGURES[name]())


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


def test_changes_of_confusions_share_their_colours():
    steps = {"WLP": np.eye(3) * 10, "WLP+T": np.eye(3) * 10, "WLP+MCT": np.eye(3)[::-1] * 10}
    axes = viz.confusion_changes(steps, [("WLP", "WLP+T"), ("WLP+T", "WLP+MCT")], "abc")
    assert [ax.get_title(loc="left") for ax in axes] == ["WLP", "WLP+T minus WLP", "WLP+MCT minus WLP+T"]
    assert axes[1].images[0].get_clim() == axes[2].images[0].get_clim() == (-100.0, 100.0)
    assert axes[1].images[0].get_array().mask.all()  # no change is no colour
    assert axes[2].images[0].get_array()[0].tolist() == [-100.0, None, 100.0]


def test_columns_of_the_predicted_class_and_plain_counts():
    ax = viz.confusion([[3, 1], [1, 0]], ["a", "b"], normalize="predicted")
    np.testing.assert_allclose(ax.images[0].get_array(), [[75, 100], [25, 0]])
    np.testing.assert_array_equal(
        viz.confusion([[3, 1], [1, 0]], ["a", "b"], normalize=None).images[0].get_array(), [[3, 1], [1, 0]]
    )
    with pytest.raises(ParamsError, match="normalize is true, predicted or None, not rows"):
        viz.confusion([[3, 1], [1, 0]], ["a", "b"], normalize="rows")


def test_groups_of_a_confusion_stand_together_and_are_named():
    counts = np.arange(16).reshape(4, 4)
    ax = viz.confusion(counts, "abcd", groups=["x", "y", "x", "y"], normalize=None)
    order = [0, 2, 1, 3]
    np.testing.assert_array_equal(ax.images[0].get_array(), counts[np.ix_(order, order)])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["x", "y"] and ax.get_yticks().tolist() == [0.5, 2.5]


def test_cells_of_a_table_hold_its_numbers_and_the_axes_its_names():
    table = pd.DataFrame([[0.512, np.nan], [0.4, 0.634]], index=["equal", "single_task"], columns=["genre", "artist"])
    ax = viz.score_heatmap(table, "accuracy")
    assert [t.get_text() for t in ax.texts] == ["51.2", "40.0", "63.4"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Equal weights", "Single task"]
    assert [t.get_text() for t in viz.score_heatmap(table, "log_loss").texts] == ["0.51", "0.40", "0.63"]
    change = viz.score_heatmap(table - 0.5, "accuracy", diverging=True)
    assert [t.get_text() for t in change.texts] == ["+1.2", "-10.0", "+13.4"]
    assert change.images[0].get_clim() == pytest.approx((-13.4, 13.4))
    a, b = viz.score_heatmaps({"a": table, "b": table + 0.1}, "accuracy")
    assert a.images[0].get_clim() == b.images[0].get_clim() == pytest.approx((40, 73.4))
    assert [t.get_text() for t in b.get_yticklabels()] == ["", ""]  # the same rows as in the first


def test_a_small_difference_between_scores_does_not_look_like_a_large_one():
    def ends(*values, metric="accuracy"):
        table = pd.DataFrame([values], ["row"], [f"c{i}" for i in range(len(values))])
        return viz.score_heatmaps({"a": table}, metric)[0].images[0].get_clim()

    assert ends(0.50, 0.52) == pytest.approx((46, 56))
    assert ends(0.2, 0.8) == pytest.approx((20, 80))
    assert ends(0.50, 0.52, metric="epoch_s") == pytest.approx((0.50, 0.52))
    dark = viz.score_heatmap(pd.DataFrame([[1.0, 9.0]], ["row"], ["few", "many"]), "epoch_s").images[0]
    assert sum(dark.cmap(dark.norm(9.0))[:3]) < sum(dark.cmap(dark.norm(1.0))[:3])  # dark is much

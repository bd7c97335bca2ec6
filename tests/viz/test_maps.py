"Maps of an embedding: neighbours stay neighbours, names do not overlap, the page works offline."

import base64
import itertools
import json
import re

import numpy as np
import pytest
import torch
from drawings import assert_axes_named, assert_drawn_alike

from musicmtl import viz
from musicmtl.core import ParamsError

POINTS = np.random.default_rng(1).normal(size=(40, 2))
FIGURES = dict(map=lambda: viz.tsne_map(POINTS, np.repeat(list("abcd"), 10)))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_file_every_time_and_its_style_does_not_leak(name, tmp_path):
    assert_drawn_alike(FIGURES[name], tmp_path)


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
    "x, message",
    [
        (np.zeros((4, 3)), "at least 5"),
        (np.full((9, 3), np.nan), "9 of 9"),
        (np.zeros(9), "at least 5"),
        (np.ones((20, 8)), "all 20 points are equal"),
        (np.full((20, 8), 1e9) + np.random.default_rng(0).normal(size=(20, 8)) * 1e-7, "all 20 points are equal"),
        (np.random.default_rng(0).normal(size=(20, 1)), "2 dimensions"),
        (np.random.default_rng(0).normal(size=(20, 3)) * 1e200, "up to 1e"),
    ],
)
def test_tsne_refuses_what_it_cannot_place(x, message):
    with pytest.raises(ParamsError, match=message):
        viz.tsne(x)


def test_names_on_the_map_do_not_overlap():
    rng = np.random.default_rng(2)
    names = np.repeat([f"Class number {i}" for i in range(18)], 6)
    points = np.repeat(rng.normal(size=(18, 2)), 6, axis=0) + rng.normal(0, 0.2, (108, 2))
    ax = viz.tsne_map(points, names, rare=("Class number 3",), loose=("Class number 4",))
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts]
    assert len(boxes) == 18 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    frame = ax.get_window_extent()
    assert all(frame.x0 - 1 <= b.x0 and b.x1 <= frame.x1 + 1 for b in boxes)
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "Class number 3 (6), rare" in legend and "Class number 4 (6), loose" in legend


def test_a_name_hides_few_points_and_what_does_not_lie_together_has_none():
    points = np.stack([np.repeat(np.arange(10.0), 8), np.tile(np.linspace(0, 0.3, 8), 10)], 1)
    names = np.repeat(list("abcdefghij"), 8)
    ax = viz.tsne_map(points, names)
    ax.figure.canvas.draw()
    places = ax.transData.transform(points)
    hidden = sum(text.get_window_extent().contains(*place) for text in ax.texts for place in places)
    assert len(ax.texts) == 10 and hidden <= 3
    mixed = viz.tsne_map(np.random.default_rng(0).permutation(points), names)
    assert len(mixed.texts) < 5


def test_only_the_most_frequent_classes_have_a_colour():
    labels = np.repeat(list("abcde"), [10, 10, 8, 7, 5])
    ax = viz.tsne_map(POINTS, labels, most=2, rest="c", spokes=True)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a (10)", "b (10)", "2 others (12)", "c (8)"]
    assert sum(line.get_color() == "#dddddd" for line in ax.lines) == 12


def test_what_belongs_to_no_class_is_grey_and_spokes_lead_to_the_centre():
    labels = np.repeat(list("abcd"), 10)
    ax = viz.tsne_map(POINTS, labels, rest="b", spokes=True)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a (10)", "c (10)", "d (10)", "b (10)"]
    spokes = [line for line in ax.lines if line.get_alpha() == 0.6]
    assert len(spokes) == 30  # what belongs to no class has no centre
    np.testing.assert_allclose(spokes[0].get_xydata()[0], POINTS[:10].mean(0))
    assert_axes_named(ax)


def test_the_3d_page_is_whole_offline_and_the_same_every_time(tmp_path):
    rng = np.random.default_rng(3)
    points, names = rng.normal(size=(30, 3)), np.repeat(["a", "b", "c"], 10)
    for n in "xy":
        viz.tsne_map_3d(points, names, tmp_path / f"{n}.html", texts=[f"track {i}" for i in range(30)])
    page = (tmp_path / "x.html").read_bytes()
    assert page == (tmp_path / "y.html").read_bytes()
    assert b"<script src=" not in page and b"track 29" in page and b"cdn.plot.ly" not in page[:2000]
    assert b"<title>t-SNE in three dimensions</title>" in page and b'name="viewport"' in page
    assert page.count(b'<button data-trace="') == 3 and b"plays its clip" in page.replace(b"<span hidden>", b"")
    with pytest.raises(ParamsError, match=r"\[30, 3\]"):
        viz.tsne_map_3d(points[:, :2], names, tmp_path / "z.html")


def test_a_point_of_the_3d_page_plays_its_own_clip(tmp_path):
    points, names = np.random.default_rng(3).normal(size=(4, 3)), ["a", "b", "a", "b"]
    tone = np.sin(np.arange(16_000) / 9)
    clips = [None, viz.small_clip(tone, 16_000), None, viz.small_clip(0.5 * tone, 16_000)]
    assert max(len(clip) for clip in clips if clip) < 4000 and clips[1] != clips[3]
    figure = viz.tsne_map_3d(points, names, tmp_path / "x.html", texts=list("wxyz"), clips=clips)
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    found = json.loads(re.search(r"clips = ({.*?});", page)[1])
    assert {int(i): base64.b64decode(clip) for i, clip in found.items()} == {1: clips[1], 3: clips[3]}
    without, with_clip = figure.data
    assert list(with_clip.customdata) == [1, 3] and list(with_clip.meta) == ["x", "z"]
    assert max(without.marker.size) < min(with_clip.marker.size)


def test_points_of_which_many_are_equal_have_finite_places():
    x = np.repeat(np.random.default_rng(0).normal(size=(3, 5)), 20, axis=0)
    assert np.isfinite(viz.tsne(x, n_iter=50)).all()
    assert np.isfinite(viz.tsne(x * 1e-30, n_iter=50)).all()


def test_names_in_the_3d_page_stay_text(tmp_path):
    points, names = (
        np.random.default_rng(3).normal(size=(6, 3)),
        ["<b>bold</b>", "</script><script>alert(1)</script>"] * 3,
    )
    figure = viz.tsne_map_3d(
        points, names, tmp_path / "x.html", texts=["\ud800<a href='x'>", "y"] * 3, title="<i>t</i>"
    )
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<b>bold" not in page
    assert {trace.name for trace in figure.data} >= {"&lt;b&gt;bold&lt;/b&gt; (3)"}
    assert page.count("&lt;i&gt;t&lt;/i&gt;") == 2 and "<i>t" not in page  # the heading and the tab

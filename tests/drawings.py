"What every figure function promises: the same bytes every time, a style that does not leak, axes with labels."

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from musicmtl import viz


def assert_drawn_alike(
    draw,  # () -> Axes
    folder: Path,
) -> None:
    "Saved and drawn again, a figure is the same file, without date and version; matplotlib's settings are as before."
    before = dict(plt.rcParams)
    first, second = draw(), draw()
    files = [viz.save_figure(first, folder / name) for name in ("a.png", "b.png", "a.svg")]
    files.append(viz.save_figure(second, folder / "b.svg"))  # the first one has been saved three times by now
    a_png, b_png, a_svg, b_svg = (file.read_bytes() for file in files)
    assert a_png == b_png and a_svg == b_svg
    for content in (a_png, a_svg):
        assert b"Software" not in content and b"dc:date" not in content
        assert b"matplotlib.org" not in content.split(b"<g")[0].split(b"<svg")[-1]
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]
    changed = {key for key in before if before[key] != plt.rcParams[key]}
    assert changed <= {"backend", "backend_fallback"}


def assert_axes_named(axes) -> None:
    "Each axis has a label; the vertical one may have names instead."
    for ax in np.ravel(axes):
        assert ax.get_xlabel() and (ax.get_ylabel() or len(ax.get_yticklabels()))

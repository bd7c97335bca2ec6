"How far apart colours are for readers with and without red or green cones."

import itertools

import matplotlib.colors
import numpy as np

# Linear RGB as dichromats see it (Viénot, Brettel and Mollon 1999).
VIEWS = dict(
    normal=np.eye(3),
    protanope=np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    deuteranope=np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
)
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1, 1.08883])


def _linear(colour: str) -> np.ndarray:
    "Linear RGB of `#rrggbb`."
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    "CIE L*a*b* of linear RGB."
    xyz = _XYZ @ linear / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def closest(
    colours: dict,  # Name -> `#rrggbb`
    view: str = "normal",  # One of `VIEWS`
):  # -> (distance ΔE, pair of names)
    "The two colours of a family that are hardest to tell apart; below a distance of 10 they look alike in a plot."
    seen = {name: _lab(np.clip(VIEWS[view] @ _linear(colour), 0, 1)) for name, colour in colours.items()}
    pairs = itertools.combinations(seen, 2)
    return min((float(np.linalg.norm(seen[a] - seen[b])), (a, b)) for a, b in pairs)

"""Figure 1: the minimum of a three-layer linear net, with and without a skip connection."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .. import plotting
from .._checks import require
from ..actions import deep_linear_action
from ..curves import connecting_curve
from ..networks import linear, random_weights
from ._result import Data, Progress, Result, Statement

WIDTHS_AND_DEPTHS = ((1, 3), (3, 2))
SKIPS = (0.0, 1.0, -1.0, 0.5, -2.0, 3.0)


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of figure1."""

    seed: int = 0
    """Seed of all randomness."""
    minima: int = 200
    """Random minima tried for each width and depth of a linear network."""
    extent: float = 4.0
    """The surfaces are drawn for weights in [-extent, extent]."""

    def __post_init__(self):
        require(self.minima >= 2, f"`minima` must be at least 2, got {self.minima}.")
        require(self.extent > 1, f"`extent` must be above 1, got {self.extent}.")


def run(config: Config, progress: Progress) -> Result:
    """Count the components of minima in two independent ways, and draw the two surfaces."""
    data: Data = {}
    for name, skip in (("linear", 0.0), ("residual", 1.0)):
        for i, sheet in enumerate(_sheets(skip, config.extent)):
            data[f"{name}_{i}"] = np.stack(sheet)
    with jax.enable_x64(True):
        linear_row, group_row = _linear_statements(config, progress)
    counts = np.array([_count_on_grid(skip) for skip in SKIPS])
    expected = np.where(np.array(SKIPS) == 0, 4, 3)
    data |= {"skips": np.array(SKIPS), "grid_components": counts}
    right = counts == expected
    residual_row = Statement(
        "Prop. 4.3",
        bool(right.all()),
        len(SKIPS),
        int(right.sum()),
        float("nan"),
        "components of {(w1, w2): w1 w2 + eps != 0}, to which the minimum is homeomorphic (for "
        "eps = 0 the signs of w1 and w2 apart), merged along axis-parallel lines on which the "
        f"sign cannot change; eps in {SKIPS}: {counts.tolist()} components.",
    )
    progress(1.0, "done")
    units = {
        "skips": "(network,) eps of w3 (w2 w1 + eps) x",
        "grid_components": "(network,) number of components",
    }
    units |= {key: "(w1 w2 w3, row, column) weights" for key in data if key not in units}
    return Result(data, [group_row, linear_row, residual_row], draw, [], units)


def _linear_statements(config: Config, progress: Progress) -> tuple[Statement, Statement]:
    """Labels of random minima, and curves of constant loss between those whose labels agree."""
    tried = agreed = right_counts = 0
    worst = 0.0
    found = []
    for i, (width, depth) in enumerate(WIDTHS_AND_DEPTHS):
        key = jax.random.fold_in(jax.random.key(config.seed), i)
        labels, joined, error = _pairs(key, width, depth, config.minima)
        same = (labels[0] == labels[1]).all(axis=1)
        agreed += int((same == joined).sum())
        tried += len(same)
        worst = max(worst, float(error[joined].max()))
        seen = len(np.unique(labels.reshape(-1, depth - 1), axis=0))
        found.append(seen)
        right_counts += seen == 2 ** (depth - 1)
        progress((i + 1) / (len(WIDTHS_AND_DEPTHS) + 1), f"width {width}, {depth} layers")
    tolerance = 1e-9
    linear_row = Statement(
        "Cor. 4.2",
        bool(agreed == tried and right_counts == len(found) and worst < tolerance),
        tried,
        agreed,
        tolerance - worst,
        "pairs of random minima of deep linear nets (width, depth in "
        f"{WIDTHS_AND_DEPTHS}): joined by a curve of zero loss exactly when the signs of det "
        f"W_i...W_1 agree. Sign vectors met: {found}, 2^(depth-1) predicted. Margin: {tolerance} "
        "minus the largest relative error of the product on a curve and of its end.",
    )
    group_row = Statement(
        "Thm. 3.1, Cor. 3.7",
        all(
            seen <= 2 ** (depth - 1)
            for seen, (_, depth) in zip(found, WIDTHS_AND_DEPTHS, strict=True)
        ),
        len(found),
        right_counts,
        float("nan"),
        "the minimum is one orbit and has no more components than the group "
        f"GL(h)^(l-1): {found} against {[2 ** (d - 1) for _, d in WIDTHS_AND_DEPTHS]}.",
    )
    return linear_row, group_row


def _pairs(key, width, depth, count):
    """Pairs of minima of |Y - W_l...W_1 X|^2: their sign vectors, whether a curve of the
    symmetry joins them, and its error: of the product on the way, and of the end that it reaches.
    """
    widths = (width,) * (depth + 1)
    action = deep_linear_action(widths)
    identity = jnp.eye(width)

    def minimum(key):
        """Random first layers; the last one solves W_l (W_{l-1}...W_1) = I."""
        *first, _ = random_weights(key, widths, scale=2.0, dtype=jnp.float64)
        return (*first, jnp.linalg.inv(linear(tuple(first), identity)))

    def hidden(weights):
        """W_i ... W_1 for every hidden layer i."""
        return [linear(weights[: i + 1], identity) for i in range(depth - 1)]

    def pair(key):
        p, q = (minimum(k) for k in jax.random.split(key))
        starts, ends = hidden(p), hidden(q)
        signs = jnp.sign(
            jnp.stack([jnp.stack([jnp.linalg.det(h) for h in at]) for at in (starts, ends)])
        )
        g = tuple(jnp.linalg.solve(a.T, b.T).T for a, b in zip(starts, ends, strict=True))
        curve = connecting_curve(action, p, g)
        ts = jnp.linspace(0.0, 1.0, 9)
        change = lambda t: jnp.max(jnp.abs(linear(curve(t), identity) - identity))
        gaps = [
            jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))
            for a, b in zip(curve(1.0), q, strict=True)
        ]
        return signs, jnp.maximum(jax.lax.map(change, ts).max(), jnp.stack(gaps).max())

    signs, error = jax.jit(jax.vmap(pair))(jax.random.split(key, count))
    return np.moveaxis(np.asarray(signs, int), 1, 0), np.isfinite(error), np.asarray(error)


def _count_on_grid(skip: float) -> int:
    """Components of the set of (w1, w2) that a minimum allows, met by a grid.

    w1 w2 + skip is affine in each weight, so it has one sign on the segment between two points of
    an axis-parallel line where its signs agree: merging those never joins two components. Without
    a skip, w1 and w2 themselves may not vanish either.
    """
    # Points with irrational ratios: none of them lies on w1 w2 = -skip.
    size = np.logspace(-2, 2, 24)
    zero = [0.0] if skip else []
    axes = [np.concatenate([-c * size[::-1], zero, c * size]) for c in (1.0, np.sqrt(2.0))]
    w1, w2 = np.meshgrid(*axes, indexing="ij")
    sign = np.sign(w1 * w2 + skip)
    sheet = 2 * np.sign(w1) + sign if skip == 0 else sign
    index = np.arange(sheet.size).reshape(sheet.shape)
    edges = []
    for a, b in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        # Neighbours on a line decide: signs change at most once along it.
        same = sheet[a] == sheet[b]
        edges.append(np.stack([index[a][same], index[b][same]]))
    i, j = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones_like(i), (i, j)), shape=(sheet.size,) * 2)
    return int(connected_components(graph, directed=False)[0])


def _sheets(skip: float, extent: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The components of w3 (w1 w2 + skip) = 1 within |w| <= extent, each as a curved grid."""
    first = np.sinh(np.linspace(0, np.arcsinh(extent), 41))
    # w3 = 1 / (w1 w2 + skip) stays within the extent where the product is past these limits.
    upper, lower = 1 / extent - skip, -1 / extent - skip
    if skip:
        both = np.concatenate([-first[:0:-1], first])
        with np.errstate(divide="ignore"):
            edge = upper / both
        low = np.where(both > 0, np.maximum(-extent, edge), -extent)
        high = np.where(both < 0, np.minimum(extent, edge), extent)
        sheets = [_sheet(both, low, high, skip)]
    else:
        inner = np.geomspace(upper / extent, extent, 41)
        sheets = [
            _sheet(sign * inner, sign * upper / inner, sign * extent * np.ones(41), skip)
            for sign in (1, -1)
        ]
    inner = np.geomspace(-lower / extent, extent, 41)
    return sheets + [
        _sheet(sign * inner, -sign * extent * np.ones(41), sign * lower / inner, skip)
        for sign in (1, -1)
    ]


def _sheet(w1, low, high, skip):
    share = np.linspace(0, 1, 41)[:, None]
    w2 = low + share * (high - low)
    w1 = np.broadcast_to(w1, w2.shape)
    return w1, w2, 1 / (w1 * w2 + skip)


def draw(data: Data):
    """Two surfaces side by side, one colour and one name per component."""
    figure, axes = plotting.blank(
        1, 2, width=5.0, height=5.2, subplot_kw={"projection": "3d", "computed_zorder": True}
    )
    blue, orange, green, purple = (plotting.STYLES[i] for i in (0, 4, 2, 3))
    panels = {
        "linear": (
            "linear: $w_3\\, w_2 w_1\\, x = y$",
            {
                "$w_1 > 0,\\ w_2 > 0$": blue,
                "$w_1 < 0,\\ w_2 < 0$": orange,
                "$w_1 > 0,\\ w_2 < 0$": green,
                "$w_1 < 0,\\ w_2 > 0$": purple,
            },
        ),
        "residual": (
            "residual: $w_3 (w_2 w_1 + 1)\\, x = y$",
            {
                "$w_1 w_2 > -1$": blue,
                "$w_1 w_2 < -1,\\ w_1 > 0$": green,
                "$w_1 w_2 < -1,\\ w_1 < 0$": purple,
            },
        ),
    }
    for panel, (name, (title, names)) in zip(axes, panels.items(), strict=True):
        sheets = [tuple(data[f"{name}_{i}"]) for i in range(len(names))]
        plotting.plot_surfaces(panel, sheets, list(names), styles=list(names.values()))
        panel.set(xlabel="$w_1$", ylabel="$w_2$", zlabel="$w_3$")
        panel.set_title(f"{title}, $x = y = 1$\n{len(sheets)} components", y=0.98)
        panel.view_init(elev=24, azim=-58)
        panel.set_box_aspect(None, zoom=0.95)
    return figure

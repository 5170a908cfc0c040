"""Figure 1: the minimum of a three-layer linear net, with and without a skip connection.

A drawing, and counts that it rests on: it runs as a whole, since there is no sample to stream. The
random minima are two batches of a second each; `components` and `minima` are the large studies.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from .. import plotting
from .._checks import require
from ..actions import deep_linear_action
from ..curves import connecting_curve
from ..groups import GeneralLinear, Product
from ..networks import linear, random_weights
from ..topology import count_by_grid, linear_minimum, minimum_bound, residual_minimum
from ._look import Panel, line, plain, scene, sheet
from ._result import Data, Progress, Result, Statement

WIDTHS_AND_DEPTHS = ((1, 3), (3, 2))
SKIPS = (0.0, 1.0, -1.0, 0.5, -2.0, 3.0)
TIMES = 65
SAME = ((0.5, 3.4, 1 / 1.7), (3.4, 0.5, 1 / 1.7))
"""Two minima (w1, w2, w3) of the linear net in one component."""
APART = 1.6
"""w1 = w2 = +-APART are minima of both nets, in one component only with the skip connection."""
WAYS = {
    "linear_path": "along one component of the linear net",
    "linear_line": "straight between two points of that component",
    "linear_across": "straight between two components of the linear net",
    "residual_path": "between the same w1, w2 in the residual net",
    "residual_line": "straight between the same points of the residual net",
}


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
        for i, corners in enumerate(_sheets(skip, config.extent)):
            data[f"{name}_{i}"] = np.stack(corners)
    with jax.enable_x64(True):
        linear_row, group_row = _linear_statements(config, progress)
        data |= _ways()
    counts = np.array([_count_on_grid(skip) for skip in SKIPS])
    one = np.ones((1, 1))
    expected = np.array([residual_minimum(1, ((1,),), one, one, skip).count for skip in SKIPS])
    data |= {"skips": np.array(SKIPS), "grid_components": counts}
    right = counts == expected
    residual_row = Statement.of(
        "Prop. 4.3",
        right,
        None,
        "components of {(w1, w2): w1 w2 + eps != 0}, to which the minimum is homeomorphic (for "
        "eps = 0 the signs of w1 and w2 apart), merged along axis-parallel lines on which the "
        f"sign cannot change; eps in {SKIPS}: {counts.tolist()} components, "
        f"{expected.tolist()} by the formula.",
    )
    path_row = _path_statement(data)
    progress(1.0, "done")
    units = {
        "skips": "(network,) eps of w3 (w2 w1 + eps) x",
        "grid_components": "(network,) number of components",
    }
    units |= {key: f"(time, w1 w2 w3) weights, {way}" for key, way in WAYS.items()}
    units |= {f"{key}_loss": "(time,) squared error" for key in WAYS}
    units |= {key: "(w1 w2 w3, row, column) weights" for key in data if key not in units}
    return Result(data, [group_row, linear_row, residual_row, path_row], draw, [], units)


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
        worst = max(worst, float(error[joined].max(initial=0.0)))
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
    bounds = [minimum_bound(Product([GeneralLinear(h)] * (d - 1))) for h, d in WIDTHS_AND_DEPTHS]
    group_row = Statement(
        "Thm. 3.1, Cor. 3.7",
        all(seen <= bound for seen, bound in zip(found, bounds, strict=True)),
        len(found),
        right_counts,
        None,
        "the minimum is one orbit and has no more components than the group "
        f"GL(h)^(l-1): {found} against {bounds}.",
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


def _ways() -> Data:
    """Explicit paths and straight lines between minima, x = y = 1, and the losses on them.

    In both networks one pair has opposite w1 and w2. With the skip it is joined by shrinking w1 and
    w2 to 0 and letting them grow with the other sign; without it there is no path.
    """
    one, times = np.ones((1, 1)), np.linspace(0.0, 1.0, TIMES)
    start, end = np.array(SAME)
    path = linear_minimum((1, 1, 1, 1), one, one).path(*(tuple(one * w for w in p) for p in SAME))
    near = np.stack([np.ravel(w) for w in jax.jit(jax.vmap(path))(jax.numpy.asarray(times))], 1)
    line = lambda p, q: (1 - times[:, None]) * p + times[:, None] * q
    w = APART * (1 - 2 * times)
    far = np.array([APART, APART])
    without, skip = (np.r_[far, 1 / (APART**2 + e)] for e in (0.0, 1.0))
    mirrored = np.array([-1.0, -1.0, 1.0])
    ways = {
        "linear_path": near,
        "linear_line": line(start, end),
        "linear_across": line(without, mirrored * without),
        "residual_path": np.stack([w, w, 1 / (w**2 + 1)], axis=1),
        "residual_line": line(skip, mirrored * skip),
    }
    losses = {
        f"{key}_loss": (1 - w[:, 2] * (w[:, 0] * w[:, 1] + (key.startswith("residual")))) ** 2
        for key, w in ways.items()
    }
    return ways | losses


def _path_statement(data: Data) -> Statement:
    """The paths drawn lose nothing, and the lines do."""
    on_paths = np.array([data[f"{key}_loss"].max() for key in WAYS if key.endswith("path")])
    tolerance = 1e-24
    return Statement.of(
        "Cor. 4.2 and Prop. 4.3, drawn",
        on_paths < tolerance,
        tolerance - on_paths,
        "the two paths drawn on the surfaces have zero loss (squared error below "
        f"{tolerance}); the straight lines between the same points rise to "
        f"{data['linear_line_loss'].max():.2f} and {data['residual_line_loss'].max():.2f}, the one "
        f"between two components to {data['linear_across_loss'].max():.2f}.",
    )


def _count_on_grid(skip: float) -> int:
    """Components of the set of (w1, w2) that a minimum allows, met by a grid."""
    if skip == 0:
        return count_by_grid([{(0,): 1.0}, {(1,): 1.0}], 2).count
    return count_by_grid({(): skip, (0, 1): 1.0}, 2, magnitudes=np.logspace(-2, 2, 24)).count


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
    """Two surfaces side by side, one colour and one name per component, and the ways on them."""
    figure, axes = plotting.blank(
        1, 3, width=4.6, height=5.2, subplot_kw={"projection": "3d", "computed_zorder": False}
    )
    place = axes[2].get_subplotspec()
    axes[2].remove()
    below = figure.add_subplot(place)
    for panel, (name, (title, names, order)) in zip(axes, PANELS.items(), strict=False):
        sheets = [tuple(data[f"{name}_{i}"]) for i in order]
        plotting.plot_surfaces(panel, sheets, list(names), styles=list(names.values()))
        panel.set(xlabel="$w_1$", ylabel="$w_2$", zlabel="$w_3$")
        panel.set_title(f"{title}, $x = y = 1$\n{len(sheets)} components", y=0.98)
        panel.view_init(elev=24, azim=-58)
        panel.set_box_aspect(None, zoom=1.05)
        for key, (_, style) in LOOKS.items():
            if key.startswith(name):
                _draw_way(panel, data[key], style)
    for key, (label, style) in LOOKS.items():
        plotting.plot_loss_along(
            below, np.linspace(0, 1, TIMES), data[f"{key}_loss"], label=label, style=style
        )
    below.spines[["top", "right"]].set_visible(False)
    below.grid(color="0.9", linewidth=0.6)
    below.set(ylabel="loss", title="Loss on the ways drawn", box_aspect=1)
    below.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    return figure


def _draw_way(panel, points, style):
    """A line in space above all surfaces, with a light edge that parts it from dark ones."""
    panel.plot(*points.T, color="white", linewidth=4.5, zorder=19)
    panel.plot(*points.T, color=style.colour, linestyle=style.dash, linewidth=2.2, zorder=20)
    ends = points[[0, -1]].T
    panel.plot(*ends, "o", color="white", markeredgecolor="black", markersize=6, zorder=21)


def look(data: Data) -> list[Panel]:
    """The same to turn round: the surfaces with the ways on them, one panel for each network."""
    panels = []
    for name, (title, names, order) in PANELS.items():
        traces = [
            sheet(*data[f"{name}_{i}"], name=f"{number}: {plain(label)}", colour=style.colour)
            for number, (i, (label, style)) in enumerate(zip(order, names.items(), strict=True), 1)
        ]
        for key, (label, style) in LOOKS.items():
            if key.startswith(name):
                loss = data[f"{key}_loss"]
                said = [f"loss {value:.3g}" for value in loss]
                height = "0" if loss.max() < 1e-20 else f"up to {loss.max():.2g}"
                label = f"{label.partition(': ')[2]}, loss {height}"
                traces.append(line(*data[key].T, name=label, style=style, said=said))
        text = f"{len(order)} components of the minimum for x = y = 1, one colour each."
        panels.append(Panel(plain(title), text, scene(traces, "w₁", "w₂", "w₃", eye=EYE)))
    return panels


_BLUE, _ORANGE, _GREEN, _PURPLE = (plotting.STYLES[i] for i in (0, 4, 2, 3))
EYE = (1.1, -1.8, 0.9)
PANELS = {
    "linear": (
        "linear: $w_3\\, w_2 w_1\\, x = y$",
        {
            "$w_1 < 0,\\ w_2 > 0$": _PURPLE,
            "$w_1 > 0,\\ w_2 > 0$": _BLUE,
            "$w_1 < 0,\\ w_2 < 0$": _ORANGE,
            "$w_1 > 0,\\ w_2 < 0$": _GREEN,
        },
        (3, 0, 1, 2),
    ),
    "residual": (
        "residual: $w_3 (w_2 w_1 + 1)\\, x = y$",
        {
            "$w_1 w_2 < -1,\\ w_1 < 0$": _PURPLE,
            "$w_1 w_2 > -1$": _BLUE,
            "$w_1 w_2 < -1,\\ w_1 > 0$": _GREEN,
        },
        (2, 0, 1),
    ),
}
"""Title and named components of each network, and the sheets from the back to the front: what is
drawn later hides what is behind it."""

LOOKS = {
    "linear_path": ("linear: path within a component", plotting.Style("black", "-", "o")),
    "linear_line": ("linear: line within a component", plotting.STYLES[1]),
    "linear_across": (
        "linear: line to another component",
        plotting.Style(plotting.STYLES[1].colour, ":", "x"),
    ),
    "residual_path": ("residual: path between the same", plotting.Style("black", "-.", "^")),
    "residual_line": ("residual: line between the same", plotting.STYLES[4]),
}
"""Label and style of each way; paths are black, straight lines are not."""

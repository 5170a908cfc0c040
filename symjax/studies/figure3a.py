"""Figure 3(a): eq. (6) changes the output by at most its norm, on trained networks of many sizes.

With F = U sigmoid(V X) and F' = U' sigmoid(V' X), (U', V') the image of (U, V) by eq. (6), Prop.
6.1 says |F - F'| <= |F|. More sharply |F|^2 = |F'|^2 + |F - F'|^2, as F' is F projected on the
rows of sigmoid(g V X).
"""

import dataclasses
import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, Literal, get_args

import jax
import numpy as np

from .. import plotting
from .._checks import require
from ._buckets import assign, padded_shapes, wasted_arithmetic
from ._moved_networks import (
    RANK_CUT,
    Element,
    Outcome,
    Shape,
    arithmetic,
    as_network,
    compiled_expm,
    compiled_training,
    draw_sizes,
    draw_weights,
    move,
    pad_network,
)
from ._result import Data, Result, Statement
from ._sampling import Study

# Rounding of |F - F'| / |F| and of Pythagoras' identity: sums over up to 10^4 entries of products
# of length 100, whose errors add like a random walk to a few hundred epsilon.
ROUNDING = {"float32": 1e-4, "float64": 1e-11}

MULTIPLE = 4
"""What padded sizes are multiples of."""
OVERHEAD = 1e5
"""What a step costs besides its arithmetic, in operations: it takes a microsecond or two."""
FIGURE = 100
"""The figure's networks: the first ones, with padded shapes of their own."""
SAMPLE = 300
"""Later networks have padded shapes chosen for the first of them, this many."""

UNITS = {
    "output": "(network,) norm of F = U sigma(VX)",
    "moved_output": "(network,) norm of F' = U' sigma(V'X)",
    "change": "(network,) norm of F - F'",
    "rank": "(network,) rank of sigma(gVX)",
    "loss_before": "(network,) squared norm, before training",
    "loss_after": "(network,) squared norm, after training",
    "m": "(network,) rows of Y and U",
    "h": "(network,) hidden units",
    "n": "(network,) rows of X",
    "k": "(network,) samples",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of figure 3(a)."""

    seed: int = 0
    """Seed of all randomness: network i depends on the seed and on i alone."""
    networks: int = 100
    """How many networks."""
    smallest: int = 2
    """The smallest value of m, h, n and k."""
    largest: int = 100
    """The largest value of m, h, n and k."""
    steps: int = 500
    """Full-batch gradient steps of the training."""
    rate: float = 1.0
    """Learning rate times an estimate of the Lipschitz constant of the loss's gradient."""
    element: Element = "gaussian"
    """g has independent entries N(0, 1/h), or is the exponential of such a matrix."""
    buckets: int | None = None
    """Padded shapes of the first 100 networks, each compiled once, and as many of all later ones:
    more of them compile longer and then run faster. With None as few as keep what a step costs
    within 1.4 times what it would without padding, of the first 100 and of the 300 after them."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of training and measurement."""

    def __post_init__(self):
        for name in ("networks", "smallest", "steps", "buckets"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"`{name}` must be at least 1, got {value}.")
        require(
            self.largest >= self.smallest,
            f"`largest` must be at least `smallest` = {self.smallest}, got {self.largest}.",
        )
        require(self.rate > 0, f"`rate` must be positive, got {self.rate}.")
        for name, values in (("element", get_args(Element)), ("dtype", tuple(RANK_CUT))):
            value = getattr(self, name)
            require(value in values, f"`{name}` must be one of {values}, got {value!r}.")


def study(config: Config) -> Study:
    """Networks drawn and measured on the host and trained at a few padded shapes."""
    return Study(
        config.networks,
        seed=config.seed,
        on_host=functools.partial(_measure, config),
        names=tuple(UNITS),
    )


def conclude(config: Config, data: Data) -> Result:
    """Prop. 6.1 on all networks."""
    shapes = np.stack([data[name] for name in "mhk"], axis=1)
    corners, members = _padded(config, np.arange(len(shapes)), shapes)
    waste = wasted_arithmetic(shapes, corners, members, arithmetic)
    notes = _notes(data, config, len(corners), waste)
    return Result({}, _statements(data, config), draw, notes, UNITS)


def _padded(
    config: Config, indices: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The padded shapes of these networks, (buckets, m h k), and the number of each network's.

    A network, of sizes (m, h, k), has the same among any others, and with it the same rounding:
    the figure's have shapes that fit them closely, later ones share those of a sample of their own.
    """
    shapes, later = np.empty_like(sizes), indices >= FIGURE
    for some, bounds in ((~later, (0, FIGURE)), (later, (FIGURE, FIGURE + SAMPLE))):
        if some.any():
            corners = _corners(config, *bounds)
            shapes[some] = corners[assign(sizes[some], corners, _cost)]
    corners, members = np.unique(shapes, axis=0, return_inverse=True)
    return corners, members.ravel()


def _cost(shapes: np.ndarray) -> np.ndarray:
    """What a step costs, in operations: small networks share a shape, however unlike they are."""
    return arithmetic(shapes) + OVERHEAD


@functools.cache
def _corners(config: Config, start: int, stop: int) -> np.ndarray:
    """Padded shapes, (buckets, m h k), chosen for these networks; they hold any other, too."""
    largest = np.full((1, 3), config.largest)
    fitted = np.concatenate([_sizes(config, range(start, stop))[:, [0, 1, 3]], largest])
    return padded_shapes(fitted, config.buckets, _cost, MULTIPLE)


def _sizes(config: Config, indices: Iterable[int] | np.ndarray) -> np.ndarray:
    """The sizes of these networks, (network, m h n k)."""
    bounds = config.smallest, config.largest
    return np.array([draw_sizes(config.seed, int(i), *bounds)[1] for i in indices])


def _measure(config: Config, indices: np.ndarray) -> Data:
    """Draw, train, move and measure these networks, sorted by their padded shapes."""
    sizes = _sizes(config, indices)
    corners, members = _padded(config, indices, sizes[:, [0, 1, 3]])
    devices = jax.local_devices()

    def run_bucket(bucket):
        # Both settings are per thread, so they are made here.
        with (
            jax.enable_x64(config.dtype == "float64"),
            jax.default_device(devices[bucket % len(devices)]),
        ):
            places = np.flatnonzero(members == bucket)
            shape = Shape(*map(int, corners[bucket]))
            return zip(places.tolist(), _run(config, shape, indices[places]), strict=True)

    # Compilation and execution both release Python's lock. Expensive buckets go first, so that
    # the threads end together.
    work = arithmetic(corners) * np.bincount(members)
    order = map(int, np.argsort(-work))
    with ThreadPoolExecutor(max(2, len(devices))) as pool:
        found: dict[int, Outcome] = dict(chain.from_iterable(pool.map(run_bucket, order)))
    columns = zip(*(found[place] for place in range(len(indices))), strict=True)
    data = dict(zip(Outcome._fields, map(np.array, columns), strict=True))
    return data | dict(zip("mhnk", sizes.T, strict=True))


def _run(config: Config, shape: Shape, indices: np.ndarray) -> list[Outcome]:
    """The outcomes of networks that train at one padded shape."""
    train, outcomes = compiled_training(shape, config.dtype), []
    for i in map(int, indices):
        weights = draw_weights(config.seed, i, config.smallest, config.largest, config.dtype)
        before, g = as_network(weights, config.rate), weights[-1]
        trained = jax.device_get(train(pad_network(before, shape), np.int32(config.steps)))
        (m, h), k = before.u.shape, before.y.shape[1]
        after = pad_network(trained, Shape(m, h, k))
        if config.element == "exponential":
            g = compiled_expm(config.largest, config.dtype)(g)
        outcomes.append(move(before, after, g, RANK_CUT[config.dtype]))
    return outcomes


def _statements(data: Data, config: Config) -> list[Statement]:
    """Prop. 6.1, Pythagoras' identity behind it, and the case in which nothing changes."""
    rounding = ROUNDING[config.dtype]
    change, moved = data["change"] / data["output"], data["moved_output"] / data["output"]
    residual = np.abs(1 - change**2 - moved**2)
    full = data["rank"] == data["k"]

    return [
        Statement.of(
            "Prop. 6.1",
            change <= 1 + rounding,
            1 - change,
            "|F - F'| <= |F| for F = U sigma(VX) and its image F'. Margin: 1 - |F - F'| / |F|.",
        ),
        Statement.of(
            "Prop. 6.1, Pythagoras",
            residual <= rounding,
            rounding - residual,
            f"|F|^2 = |F'|^2 + |F - F'|^2. Margin: {rounding:g} minus the relative residual.",
        ),
        Statement.of(
            "Prop. 6.1, no change at rank k",
            change[full] <= rounding,
            rounding - change[full],
            "F' = F where sigma(gVX) has rank k, its number of columns. Margin: "
            f"{rounding:g} minus |F - F'| / |F|.",
        ),
    ]


def _notes(data: Data, config: Config, buckets: int, waste: float) -> list[str]:
    left = data["loss_after"] / data["loss_before"]
    g = "is Gaussian, entries N(0, 1/h)" if config.element == "gaussian" else "= exp(Gaussian)"
    return [
        f"Training: {config.steps} full-batch steps at a rate of {config.rate:g} over an estimate "
        f"of the Lipschitz constant for each shape; the loss fell on {int((left < 1).sum())} of "
        f"{len(left)} networks, to {np.median(left):.2g} of its start in the median and to "
        f"{left.max():.2g} at worst.",
        f"The random invertible g {g}.",
        f"Padding costs {waste:.2f} times the training's arithmetic; number of padded shapes: "
        f"{buckets}.",
        f"Singular values of sigma(gVX) below {RANK_CUT[config.dtype]:g} of the largest count as "
        "zero.",
    ]


def draw(data: Data) -> Any:
    """|F| against |F - F'|: all points above the line where they are equal."""
    figure, (axes,) = plotting.blank()
    plotting.plot_against_bound(axes, data["change"], data["output"], label="network")
    axes.set_xlabel(r"change of output, $\|U\sigma(VX) - U'\sigma(V'X)\|$")
    axes.set_ylabel(r"output, $\|U\sigma(VX)\|$")
    axes.legend()
    return figure

"""How many components minima have: counts against paths found, and against the grid."""

import dataclasses
import itertools
from typing import Literal, NamedTuple

import jax
import numpy as np

from .. import plotting
from .._checks import require
from ..topology import (
    count_by_grid,
    linear_minimum,
    residual_minimum,
    two_layer_orbit_components,
)
from ._result import Data, Result, Statement
from ._sampling import Study

TOLERANCE = 1e-10
"""Of the product on a path, relative."""
RESIDUAL = (
    (1, ((),)),
    (1, ((1,),)),
    (1, ((1, 1),)),
    (1, ((1, 1, 1),)),
    (1, ((2,),)),
    (1, ((3,),)),
    (1, ((2, 1),)),
    (1, ((2, 2),)),
    (1, ((1, 2, 1),)),
    (2, ((1,),)),
    (2, ((2,),)),
    (2, ((1, 1),)),
    (3, ((1,),)),
    (2, ((1, 2),)),
    (2, ((2, 1),)),
    (1, ((1,), (1,))),
    (1, ((1,), (2,))),
    (1, ((1, 1), (1,))),
    (2, ((1,), (1,))),
)
"""(n, hidden widths of each block) of the residual networks that the grid can count."""
LINEAR = (
    (1, 1, 1),
    (1, 1, 1, 1),
    (1, 1, 1, 1, 1),
    (1, 2, 1, 1),
    (1, 1, 2, 1, 1),
    (1, 2, 2, 1, 1),
    (1, 3, 1, 2),
    (2, 2, 2),
    (2, 2, 2, 2),
    (2, 2, 2, 3),
)
"""Widths (r, ..., r, m) with data of rank r: the minimum is one affine fibre over the set where
det(W_(l-1) ... W_1) != 0, which the grid can count."""

CASE = {
    "depth": "(case,) number of weights",
    "rank": "(case,) rank of the best product",
    "tied": "(case,) whether singular values are equal at the cut",
    "count": "(case,) components of the minimum; -1 undecided",
    "met": "(case,) different labels among minima in all orientations",
    "pairs_joined": "(case,) pairs of one label tried",
    "path_error": "(case,) largest product error on a path, relative; NaN where none was built",
    "pairs_apart": "(case,) pairs of different labels tried",
    "kept_apart": "(case,) of those, pairs that are said to be in different components",
}
"""What is measured on each random network."""
TABLES = {
    "grid_formula": "(network,) components by the formula; RESIDUAL in order, then LINEAR",
    "grid_count": "(network,) components by the grid",
    "grid_residual": "(network,) whether it is a residual network",
    "hidden": "(width,) hidden units",
    "homogeneous_count": "(width,) components of the orbit",
    "homogeneous_listed": "(width,) points listed",
    "odd_count": "(width,) components of the orbit",
    "odd_listed": "(width,) points listed",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the components study."""

    seed: int = 0
    """Seed of all randomness."""
    cases: int = 2000
    """Random linear networks: widths, ranks of the data and ties between its singular values."""
    paths: int = 400
    """On how many of them paths between minima are built."""
    largest: int = 4
    """Largest width of the random networks."""

    def __post_init__(self):
        require(self.cases >= 20, f"`cases` must be at least 20, got {self.cases}.")
        require(self.paths >= 1, f"`paths` must be at least 1, got {self.paths}.")
        require(self.largest >= 2, f"`largest` must be at least 2, got {self.largest}.")


def study(config: Config) -> Study:
    """Random networks one by one on the host."""

    def on_host(cases):
        rows = [_linear_case(config, int(case)) for case in cases]
        return {name: np.array([row[name] for row in rows]) for name in CASE}

    return Study(config.cases, seed=config.seed, x64=True, on_host=on_host, names=tuple(CASE))


def conclude(config: Config, data: Data) -> Result:
    """The two tables that the grid and a list check, and the statements."""
    rng = np.random.default_rng([config.seed, 2**32 - 1])  # no case has this number
    with jax.enable_x64(True):
        more = {**_grid_tables(rng), **_two_layer_counts(rng)}
    everything = {**data, **more}
    return Result(more, _statements(everything), draw, _notes(everything), CASE | TABLES)


class Problem(NamedTuple):
    """Widths and data, and what decides the minimum, worked out here apart from the library."""

    widths: tuple[int, ...]
    x: np.ndarray
    y: np.ndarray
    encode: np.ndarray  # W_1 encode is the part of W_1 that the loss sees
    left: np.ndarray
    sigma: np.ndarray
    right: np.ndarray
    rank: int  # of the best product
    block: slice  # the singular values tied at the cut; empty without a tie


def _linear_case(config: Config, case: int):
    """One random problem: its count, the labels met, and paths between pairs of minima."""
    rng = np.random.default_rng([config.seed, case])
    problem = _problem(rng, config.largest)
    minimum = linear_minimum(problem.widths, problem.x, problem.y)
    # Two random minima, and their images under the reflections of the layers that may matter.
    critical = [problem.rank > 0 and d == problem.rank for d in problem.widths[1:-1]]
    flips = list(itertools.product(*((1, -1) if c else (1,) for c in critical)))
    points = [_minimum(rng, problem, signs) for signs in flips for _ in range(2)]
    own = [_signs(problem, w) for w in points]
    others = range(1, len(points)) if case < config.paths else ()
    same = [k for k in others if own[k] == own[0]][:1]
    apart = [k for k in others if own[k] != own[0]][:1]
    errors = [float(minimum.path(points[0], points[k]).error) for k in same]
    return {
        "depth": len(problem.widths) - 1,
        "rank": problem.rank,
        "tied": problem.block.stop > problem.block.start,
        "count": -1 if minimum.count is None else minimum.count,
        "met": len(set(own)),
        "pairs_joined": len(same),
        "path_error": max(errors, default=np.nan),
        "pairs_apart": len(apart),
        "kept_apart": sum(minimum.connected(points[0], points[k]) is False for k in apart),
    }


def _problem(rng, largest):
    """Random widths, and data of random rank; many targets have tied singular values."""
    depth = int(rng.integers(2, 5))
    widths = rng.integers(1, largest + 1, size=depth + 1)
    # Equal widths are where the components are: half of the hidden layers are made alike.
    narrow = int(rng.integers(1, largest + 1))
    widths[1:-1] = np.where(rng.random(depth - 1) < 0.5, narrow, widths[1:-1])
    widths = tuple(widths.tolist())
    samples = int(rng.integers(1, largest + 2))
    rank_x = int(rng.integers(1, min(widths[0], samples) + 1))
    x = rng.normal(size=(widths[0], rank_x)) @ rng.normal(size=(rank_x, samples))
    u, s, vt = np.linalg.svd(x)
    size = min(widths[-1], rank_x)
    values = np.sort(rng.choice([1.0, 1.5, 2.0, 3.0], size=size))[::-1]
    if rng.random() < 0.4:
        values[:] = 2.0
    elif rng.random() < 0.5:
        values = np.sort(rng.uniform(0.5, 3.0, size=size))[::-1]
    values[size - int(rng.choice(size + 1, p=_mostly_none(size))) :] = 0.0
    ortho = lambda k: np.linalg.qr(rng.normal(size=(k, k)))[0]
    seen = (ortho(widths[-1])[:, :size] * values) @ ortho(rank_x)[:, :size].T
    # What x does not see adds to the least loss and to nothing else.
    unseen = rng.normal(size=(widths[-1], samples - rank_x))
    y = np.concatenate([seen, unseen], axis=1) @ vt
    left, sigma, right = np.linalg.svd(seen)
    most = min(rank_x, *widths[1:])
    rank = min(int((sigma > 1e-9).sum()), most)
    near = np.flatnonzero(np.abs(sigma - sigma[most - 1]) < 1e-9)
    tie = sigma[most - 1] > 1e-9 and near[-1] >= most
    block = slice(int(near[0]), int(near[-1]) + 1) if tie else slice(0, 0)
    encode = u[:, :rank_x] * s[:rank_x]
    return Problem(widths, x, y, encode, left, sigma, right.T, rank, block)


def _mostly_none(size):
    """Chances that 0, 1, ... singular values of the target are zero."""
    return np.array([size + 1.0] + [1.0] * size) / (2 * size + 1)


def _minimum(rng, problem: Problem, signs):
    """A minimum in random bases of every layer, reflected by ``signs``; what nothing reads too."""
    rank, block = problem.rank, problem.block
    left, right = problem.left.copy(), problem.right.copy()
    turn = np.linalg.qr(rng.normal(size=(block.stop - block.start,) * 2))[0]
    left[:, block], right[:, block] = left[:, block] @ turn, right[:, block] @ turn
    frames = [rng.normal(size=(d, rank)) for d in problem.widths[1:-1]]
    for frame, sign in zip(frames, signs, strict=True):
        if frame.shape[0] == rank:
            frame[:1] *= sign * np.sign(np.linalg.det(frame))
    frames = [right[:, :rank], *frames, left[:, :rank] * problem.sigma[:rank]]
    weights = []
    for before, after in itertools.pairwise(frames):
        back = np.linalg.pinv(before)
        rest = rng.normal(size=(len(after), len(before))) * (len(weights) > 0)
        weights.append(after @ back + rest - rest @ before @ back)
    decode = np.linalg.pinv(problem.encode)
    unseen = rng.normal(size=(problem.widths[1], problem.widths[0]))
    return (weights[0] @ decode + unseen - unseen @ problem.encode @ decode, *weights[1:])


def _signs(problem: Problem, weights):
    """The label of a minimum by its definition: sign det(W_i ... W_1 B), B a basis of the rows."""
    rank, block = problem.rank, problem.block
    tied = block.stop > block.start
    hidden = [weights[0] @ problem.encode]
    for w in weights[1:]:
        hidden.append(w @ hidden[-1])
    basis = np.linalg.svd(hidden[-1])[2][:rank].T if tied else problem.right[:, :rank]
    signs = [
        int(np.linalg.slogdet(h @ basis)[0]) for h in hidden[:-1] if rank and h.shape[0] == rank
    ]
    # At a tie the basis has no orientation: only the products of two signs count.
    return tuple(s * signs[0] for s in signs) if tied and signs else tuple(signs)


def _grid_tables(rng) -> Data:
    """Counts of the formulas beside those of the grid, for all that the grid can reach."""
    formula, grid = [], []
    for n, blocks in RESIDUAL:
        data = rng.normal(size=(2, n, n + 1))
        formula.append(residual_minimum(n, blocks, *data).count)
        chains = [[n, *hidden, n] for hidden in blocks]
        grid.append(_by_grid(chains, 1.0))
    for widths in LINEAR:
        data = rng.normal(size=(widths[0], 4)), rng.normal(size=(widths[-1], 4))
        formula.append(linear_minimum(widths, *data).count)
        grid.append(_by_grid([list(widths[:-1])], 0.0))
    return {
        "grid_formula": np.array(formula),
        "grid_count": np.array(grid),
        "grid_residual": np.arange(len(grid)) < len(RESIDUAL),
    }


def _by_grid(chains, epsilon):
    """Components of the weights with det(epsilon I + W_k ... W_1) != 0 for every chain."""
    polynomials, start = [], 0
    for chain in chains:
        shapes = [(b, a) for a, b in itertools.pairwise(chain)]

        def determinant(x, shapes=shapes, start=start):
            product, at = np.eye(shapes[0][1]), start
            for rows, columns in shapes:
                product = x[:, at : at + rows * columns].reshape(-1, rows, columns) @ product
                at += rows * columns
            return np.linalg.det(epsilon * np.eye(shapes[0][1]) + product)

        polynomials.append(determinant)
        start += sum(rows * columns for rows, columns in shapes)
    # A zero coordinate helps the merges; in 8 variables four coordinates each are enough.
    return count_by_grid(polynomials, start, magnitudes=(0.6, 3.0), zero=start < 8).count


def _two_layer_counts(rng) -> dict[str, np.ndarray]:
    """Orbits of random networks with h hidden units, and their points counted one by one."""
    data = {"hidden": np.arange(1, 6)}
    kinds: dict[Literal["homogeneous", "odd"], bool] = {"homogeneous": False, "odd": True}
    for kind, flips in kinds.items():
        formula, listed = [], []
        for h in data["hidden"]:
            v, u = rng.normal(size=(h, 2)), rng.normal(size=(2, h))
            formula.append(two_layer_orbit_components(v, u, kind).count)
            listed.append(_listed(v, u, flips))
        data[f"{kind}_count"], data[f"{kind}_listed"] = np.array(formula), np.array(listed)
    return data


def _listed(v, u, flips):
    """How many different networks the permutations and sign flips of hidden units make."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(v))) if flips else [[1] * len(v)])
    orders = np.array(list(itertools.permutations(range(len(v)))))
    points = [
        np.concatenate([(signs[:, :, None] * v)[:, p].reshape(len(signs), -1),
                        (signs[:, :, None] * u.T)[:, p].reshape(len(signs), -1)], axis=1)
        for p in orders
    ]  # fmt: skip
    return len(np.unique(np.concatenate(points), axis=0))


def _statements(data: Data) -> list[Statement]:
    decided = data["count"] > 0
    exact = (data["count"] == data["met"])[decided]
    error, apart = data["path_error"], data["pairs_apart"] - data["kept_apart"]
    tried = data["pairs_joined"] > 0
    on_grid = data["grid_formula"] == data["grid_count"]
    residual = data["grid_residual"]
    # Pairs that are joined have an error; of those of different labels the margin is all or none.
    joined = error[tried]
    told_apart = np.repeat([True, False], [data["kept_apart"].sum(), apart.sum()])
    kept = np.concatenate([joined < TOLERANCE, told_apart])
    margins = np.concatenate([TOLERANCE - joined, np.where(told_apart, TOLERANCE, -1.0)])
    two = [data[f"{k}_count"] == data[f"{k}_listed"] for k in ("homogeneous", "odd")]
    return [
        Statement.of(
            "Cor. 4.2, for all widths and data",
            exact,
            None,
            "components counted by rank, ties and widths against the different labels met among "
            "minima in all orientations, the labels taken from their definition, not the library; "
            f"{int(data['tied'].sum())} with a tie at the cut, {int((~decided).sum())} undecided.",
        ),
        Statement.of(
            "Cor. 4.2, paths",
            kept,
            margins,
            f"pairs of minima: {len(joined)} of one label are joined by an explicit path of "
            f"constant loss, {int(data['pairs_apart'].sum())} of different labels by none. "
            f"Margin: {TOLERANCE} minus the largest relative error of the product on a path.",
        ),
        Statement.of(
            "Cor. 4.2, by the grid",
            on_grid[~residual],
            None,
            "linear networks whose minimum the grid can count, against the formula.",
        ),
        Statement.of(
            "Prop. 4.3, for all widths and depths",
            on_grid[residual],
            None,
            "residual networks of one and two blocks, counted by the grid and by the formula.",
        ),
        Statement.of(
            "Cor. 3.7, two layers",
            two,
            None,
            "orbits of two-layer networks with ReLU (h! components) and tanh (h! 2^h points), "
            "against the points listed one by one. Counts of the orbit, not of the minimum.",
        ),
    ]


def _notes(data: Data) -> list[str]:
    lines = ["Linear networks, cases and largest path error by depth and count:"]
    for depth in np.unique(data["depth"]):
        here = data["depth"] == depth
        counts = [f"{c}: {int((data['count'][here] == c).sum())}" for c in (1, 2, 4, 8)]
        worst = np.max(
            data["path_error"][here], initial=0.0, where=np.isfinite(data["path_error"][here])
        )
        lines.append(f"depth {depth}: {', '.join(counts)}; path error at most {worst:.1e}.")
    return [
        *lines,
        "The grid's count is an upper bound for the components that it meets; it is exact here "
        "because the formula, proved, gives the same.",
        "Labels are met at two random minima for each choice of orientations of the hidden layers.",
    ]


def draw(data: Data):
    """Counts met against the formula, by the grid against the formula, and two-layer orbits."""
    figure, (linear, grid, two) = plotting.blank(1, 3, width=4.4, height=3.8)
    _draw_table(linear, data)
    ends = 0.8, 1.2 * data["grid_formula"].max()
    grid.plot(ends, ends, color="0.35", linewidth=1, label="equality")
    for flag, label, style in (
        (False, "linear", plotting.STYLES[0]),
        (True, "residual", plotting.STYLES[1]),
    ):
        here = data["grid_residual"] == flag
        places = np.stack([data["grid_formula"], data["grid_count"]])[:, here]
        unique, times = np.unique(places, axis=1, return_counts=True)
        shift = 0.93 if flag else 1.07
        grid.plot(
            unique[0] * shift,
            unique[1] * shift,
            color=style.colour,
            marker=style.marker,
            linestyle="none",
            markerfacecolor="white",
            markersize=8,
            label=f"{label}, {int(here.sum())} networks",
        )
        for (a, b), n in zip(unique.T, times, strict=True):
            # The two kinds share places: one is written below, the other above.
            grid.annotate(
                str(n),
                (a * shift, b * shift),
                xytext=(-13, 6) if flag else (9, -11),
                textcoords="offset points",
                fontsize=8,
                color=style.colour,
            )
    grid.set(xscale="log", yscale="log", title="By the grid, and how many networks")
    ticks = np.unique(data["grid_formula"])
    for axis in (grid.xaxis, grid.yaxis):
        axis.set_ticks(ticks, [str(t) for t in ticks])
        axis.set_ticks([], minor=True)
    grid.set(xlabel="components by the formula", ylabel="classes of grid points")
    grid.legend(fontsize=8, loc="upper left")
    for kind, label, style in (
        ("odd", "tanh: $h!\\, 2^h$", plotting.STYLES[1]),
        ("homogeneous", "ReLU: $h!$", plotting.STYLES[0]),
    ):
        plotting.plot_theory_and_measured(
            two,
            data["hidden"],
            data[f"{kind}_count"],
            data[f"{kind}_listed"],
            theory_label=label,
            measured_label=f"{kind}, listed one by one",
            style=style,
        )
    two.set(yscale="log", title="Two layers: components of the orbit", ylabel="components")
    two.set(xlabel="hidden units $h$", xticks=data["hidden"])
    two.legend(fontsize=8)
    return figure


def _draw_table(axes, data):
    """How many random networks have each count, with the labels met among their minima."""
    counts = np.array([1, 2, 4, 8])
    table = np.array([[np.sum((data["count"] == c) & (data["met"] == m)) for c in counts]
                      for m in counts])  # fmt: skip
    shade = np.log10(1 + table) / np.log10(1 + table.max())
    axes.imshow(1 - 0.5 * shade, cmap="gray", vmin=0, vmax=1, origin="lower")
    for i, j in itertools.product(range(4), repeat=2):
        axes.text(j, i, str(table[i, j]), ha="center", va="center", fontsize=11)
    axes.set_xticks(range(4), counts)
    axes.set_yticks(range(4), counts)
    axes.grid(False)
    axes.set(xlabel="components by the formula", ylabel="different labels met")
    axes.set_title(f"{len(data['count'])} random linear networks")

"""Where stochastic gradient descent ends on linear networks: the component, and the pass."""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import plotting
from .._checks import require
from ..barriers import linear_chord
from ..networks import linear, random_weights, squared_loss
from ..topology import LinearMinimum, linear_minimum
from ._result import Data, Result, Statement
from ._sampling import Study

FAMILIES = {
    "square": ((3, 3, 3, 3), (3.0, 2.0, 1.5)),
    "bottleneck": ((4, 2, 2, 4), (3.0, 2.5, 1.0, 0.5)),
    "tie": ((4, 2, 2, 4), (3.0, 2.0, 2.0, 2.0)),
    "width one": ((3, 1, 1, 3), (3.0, 1.5, 1.0)),
}
"""Widths and singular values of the targets; two hidden layers each, all of them critical."""

SAMPLES, BATCH = 16, 4


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the minima study."""

    seed: int = 0
    """Seed of all randomness."""
    pairs: int = 1000
    """Pairs of networks of each family, all trained on the same data."""
    steps: int = 2000
    """Steps of stochastic gradient descent."""
    rate: float = 0.01
    """Learning rate at the start; it falls to zero along a cosine."""
    paths: int = 25
    """Pairs of each family that are joined by an explicit path."""

    def __post_init__(self):
        for name in ("pairs", "steps", "paths"):
            value = getattr(self, name)
            require(value >= 1, f"`{name}` must be at least 1, got {value}.")
        require(self.rate > 0, f"`rate` must be positive, got {self.rate}.")


class Family(NamedTuple):
    """The data that all networks of one kind are trained on, and the minimum that they have."""

    x: np.ndarray
    y: np.ndarray
    minimum: LinearMinimum


def study(config: Config) -> Study:
    """Two trained networks of every family, their components, and the line between them."""
    families = _families(config.seed)

    def one(key, index):
        found = {}
        keys = jax.random.split(key, len(families))
        for k, (name, family) in zip(keys, families.items(), strict=True):
            train = functools.partial(_train, family, config.steps, config.rate)
            measured = _measure(family, jax.vmap(train)(jax.random.split(k)))
            found |= {f"{_slug(name)}_{what}": value for what, value in measured.items()}
        return found

    return Study(config.pairs, (one,), config.seed, batch=100, x64=True)


def conclude(config: Config, data: Data) -> Result:
    """Passes between the components that were met, paths within them, and the statements."""
    more: Data = {}
    with jax.enable_x64(True):
        for name, family in _families(config.seed).items():
            get = functools.partial(_of, data, name)
            found = _passes_and_paths(family, get, config.paths)
            more |= {f"{_slug(name)}_{what}": value for what, value in found.items()}
    everything = {**data, **more}
    return Result(more, _statements(everything), draw, _notes(everything), _units())


def _slug(family):
    return family.replace(" ", "_")


def _families(seed) -> dict[str, Family]:
    found = {}
    for i, (name, (widths, sigma)) in enumerate(FAMILIES.items()):
        x, y = _data(np.random.default_rng([seed, i]), widths, sigma)
        found[name] = Family(x, y, linear_minimum(widths, x, y))
    return found


def _data(rng, widths, sigma):
    """Samples with orthonormal rows, and targets of exactly these singular values."""
    orthonormal = lambda rows, columns: np.linalg.qr(rng.normal(size=(columns, rows)))[0].T
    x = orthonormal(widths[0], SAMPLES)
    left, right = orthonormal(widths[-1], widths[-1]), orthonormal(widths[0], widths[0])
    return x, left @ np.diag(sigma) @ right @ x


def _train(family: Family, steps, rate, key):
    """Minibatch descent from random weights."""
    x, y = jnp.asarray(family.x), jnp.asarray(family.y)
    for_weights, for_batches = jax.random.split(key)
    weights = random_weights(for_weights, family.minimum.widths, dtype=jnp.float64)
    optimiser = optax.sgd(optax.cosine_decay_schedule(rate, steps))

    def step(carry, k):
        w, state = carry
        chosen = jax.random.randint(k, (BATCH,), 0, SAMPLES)
        loss = squared_loss(linear, x[:, chosen], y[:, chosen])
        slope = jax.tree.map(lambda g: g * (SAMPLES / BATCH), jax.grad(loss)(w))
        with jax.numpy_dtype_promotion("standard"):  # as Optax needs it
            updates, state = optimiser.update(slope, state, w)
            return (optax.apply_updates(w, updates), state), None

    start = (weights, optimiser.init(weights))
    return jax.lax.scan(step, start, jax.random.split(for_batches, steps))[0][0]


def _measure(family: Family, pair):
    """Labels of two networks, the fewest permutations that join them, and the lines between."""
    x, y, minimum = jnp.asarray(family.x), jnp.asarray(family.y), family.minimum
    p, q = (tuple(w[end] for w in pair) for end in (0, 1))
    # A permutation's parity is all that matters, in critical layers wider than 1: all choices of
    # layers, the fewest first. The first one leaves everything as it is.
    layers = [i for i in minimum.margins.layers if minimum.widths[i] >= 2]
    choices = sorted(itertools.product((False, True), repeat=len(layers)), key=sum)
    moved = [_swapped(p, itertools.compress(layers, choice)) for choice in choices]
    stack = lambda *ends: jax.tree.map(lambda *w: jnp.stack(w), *ends)
    labels = jax.vmap(minimum.label)(stack(q, *moved))
    joins = (labels.signs[1:] == labels.signs[:1]).all(axis=1)
    first = jnp.argmax(joins)
    permuted = jax.tree.map(lambda w: w[first], stack(*moved))
    line = lambda start: linear_chord(start, q, x, y).value - minimum.value
    chord, chord_permuted = jax.vmap(line)(stack(p, permuted))
    decided, signs = labels.decided[1::-1], labels.signs[1::-1]  # of p, then of q
    sure = decided.all()
    number = jnp.where(signs < 0, 2 ** jnp.arange(signs.shape[1]), 0).sum(axis=1)
    return {f"weights_{i}": w for i, w in enumerate(pair)} | {
        "component": jnp.where(decided, number, -1),
        "excess": labels.excess[1::-1],
        "pair_decided": sure,
        "connected": sure & joins[0],
        "connected_permuted": sure & joins.any(),
        "permutations": jnp.where(sure, jnp.array([sum(c) for c in choices])[first], 0),
        "chord": chord,
        "chord_permuted": chord_permuted,
    }


def _swapped(weights, layers):
    """The same network with the first two hidden units of these layers exchanged."""
    weights = list(weights)
    for i in layers:
        order = np.r_[1, 0, 2 : weights[i - 1].shape[0]]
        weights[i - 1], weights[i] = weights[i - 1][order], weights[i][:, order]
    return tuple(weights)


def _passes_and_paths(family: Family, get, paths) -> Data:
    """The height of every pair's pass, and explicit paths between the first pairs that have one."""
    minimum, sure = family.minimum, get("pair_decided")
    weights = [get(f"weights_{i}") for i in range(len(minimum.widths) - 1)]
    ends = lambda i: (tuple(w[i, end] for w in weights) for end in (0, 1))
    height = np.full(len(sure), np.nan)
    # One height for all pairs of the same two components.
    kinds, members = np.unique(get("component"), axis=0, return_inverse=True)
    for kind in range(len(kinds)):
        same = np.flatnonzero(sure & (members.reshape(-1) == kind))
        if len(same):
            height[same] = minimum.barrier(*ends(same[0])).value
    found, fewest = [], []
    joined = np.flatnonzero(get("connected_permuted"))[:paths]
    for i in joined:
        p, q = ends(i)
        permuted, orders = minimum.permutations(p, q)
        fewest.append(sum((g != np.arange(len(g))).any() for g in orders))
        found.append(minimum.path(permuted, q, tolerance=1.0))
    return {
        "components": np.asarray(minimum.count),
        "certificate": np.asarray(minimum.label(next(ends(0))).height),
        "height": height,
        "path_pair": joined,
        "path_permutations": np.asarray(fewest, int),
        "path_error": np.asarray([float(path.error) for path in found]),
        "path_end_error": np.asarray(
            [max(float(path.start_error), float(path.end_error)) for path in found]
        ),
    }


def _of(data: Data, family: str, name: str) -> np.ndarray:
    return data[f"{_slug(family)}_{name}"]


def _statements(data: Data) -> list[Statement]:
    """Components that training meets, permutations that join them, and the passes."""
    seen = [np.unique(_of(data, f, "component")) for f in FAMILIES]
    seen = [s[s >= 0] for s in seen]
    counts = [int(_of(data, f, "components")) for f in FAMILIES]
    met = np.array([len(s) for s in seen])
    # Where training diverged there are pairs that are in no component.
    diverged = [np.isnan(_of(data, f, "excess")).any(axis=1) for f in FAMILIES]
    spare = np.where(np.array([d.any() for d in diverged]), np.nan, np.array(counts) - met)
    wide = [f for f, (widths, _) in FAMILIES.items() if min(widths) >= 2]
    pairs = np.concatenate([_of(data, f, "connected_permuted") for f in wide])
    fewest = np.concatenate([_closed_form_agrees(data, f) for f in FAMILIES])
    lost = np.concatenate([d for f, d in zip(FAMILIES, diverged, strict=True) if f in wide])
    tried = np.concatenate([_of(data, f, "pair_decided") for f in wide]) | lost
    height, chord, apart = [], [], []
    for f in FAMILIES:
        height.append(_of(data, f, "height"))
        chord.append(_of(data, f, "chord"))
        apart.append(_of(data, f, "pair_decided") & ~_of(data, f, "connected"))
    height, chord, apart = map(np.concatenate, (height, chord, apart))
    ratio = chord[apart] / height[apart]
    return [
        Statement.of(
            "Cor. 4.2",
            spare >= 0,
            spare,
            "for any widths and data: families in which training met no more components than "
            f"there are. Met {met.tolist()} of {counts}; margin: components not met.",
        ),
        Statement.of(
            "Prop. 5.2",
            pairs[tried] & fewest.all(),
            np.where(lost[tried], np.nan, pairs[tried] - 1.0),
            "corrected: pairs of trained networks that permutations of hidden units bring into one "
            "component, where every critical layer has width 2 or more, found by trying all "
            "parities; the closed form permuted as few layers on "
            f"{fewest.sum()} of {len(fewest)}. Margin: 0, or -1 for a pair that is not joined.",
        ),
        Statement.of(
            "Height between components",
            ratio >= 1 - 1e-9,
            ratio - 1,
            "the straight line between networks of different components rises at least to the "
            "minimax height. Margin: the least ratio of the two, minus 1.",
        ),
    ]


def _closed_form_agrees(data: Data, family: str) -> np.ndarray:
    """Where paths were built: whether as few layers were permuted as by trying all."""
    tried = _of(data, family, "permutations")[_of(data, family, "path_pair")]
    return tried == _of(data, family, "path_permutations")


def _notes(data: Data) -> list[str]:
    notes = []
    for family, (widths, sigma) in FAMILIES.items():
        get = functools.partial(_of, data, family)
        sure = get("pair_decided")
        total, undecided = get("component").size, int((get("component") < 0).sum())
        notes.append(
            f"{family}, widths {widths}, singular values {sigma}: {get('components')} components; "
            f"{total - undecided} of {total} labels certified (loss above the minimum below "
            f"{get('certificate'):.3g}), {undecided} undecided and left out. Of {sure.sum()} "
            f"pairs {get('connected').sum()} are connected as trained, "
            f"{get('connected_permuted').sum()} after the fewest permutations, of at most "
            f"{get('permutations').max()} layers. Largest product error on {len(get('path_error'))}"
            f" paths {get('path_error').max(initial=0):.1e}, of their ends as trained "
            f"{get('path_end_error').max(initial=0):.1e}."
        )
    notes.append(
        "Labels are certified through Theorem M: a network is in the component that a path below "
        "the pass reaches. Heights are exact; the line's highest loss is that of a polynomial."
    )
    return notes


def _units() -> dict[str, str]:
    meaning = {
        "weights_0": "(pair, end, unit_1, input) W_1 after training",
        "weights_1": "(pair, end, unit_2, unit_1) W_2 after training",
        "weights_2": "(pair, end, output, unit_2) W_3 after training",
        "component": "(pair, end) number of the component, -1 where undecided",
        "components": "() number of components of the minimum",
        "excess": "(pair, end) loss above the minimum, squared norm",
        "certificate": "() excess below which a label is certain, squared norm",
        "pair_decided": "(pair,) both labels are certified",
        "connected": "(pair,) in one component as trained",
        "connected_permuted": "(pair,) in one component after permutations of hidden units",
        "permutations": "(pair,) hidden layers permuted, the fewest that do it",
        "height": "(pair,) minimax height above the minimum, squared norm",
        "chord": "(pair,) highest loss of the straight line above the minimum, squared norm",
        "chord_permuted": "(pair,) the same after the fewest permutations, squared norm",
        "path_pair": "(path,) number of the pair",
        "path_permutations": "(path,) hidden layers permuted by the closed form",
        "path_error": "(path,) largest product error on an explicit path, relative",
        "path_end_error": "(path,) product error of its ends as trained, relative",
    }
    return {f"{_slug(f)}_{n}": text for f in FAMILIES for n, text in meaning.items()}


# Bars side by side are told apart in grey, too.
HATCHES = ("", "///", "...", "xxx")


def draw(data: Data):
    """In which component, how many pairs are connected, and how high the straight line goes."""
    figure, (where, joined, high) = plotting.blank(1, 3, width=4.6, height=3.8)
    places = np.arange(len(FAMILIES))
    for c in range(4):
        share = [float((_of(data, f, "component") == c).mean()) for f in FAMILIES]
        style = plotting.STYLES[c]
        signs = "".join("+-"[(c >> i) & 1] for i in range(2))
        look = {"color": style.colour, "hatch": HATCHES[c], "edgecolor": "white"}
        where.bar(places + 0.2 * (c - 1.5), share, 0.18, label=signs, **look)
    where.set_ylabel("share of trained networks")
    where.set_title("Component that training ends in")
    where.legend(
        title="signs of the two layers\n(at a tie, opposite ones are equal)",
        ncols=4,
        fontsize=8,
        title_fontsize=8,
        loc="upper center",
    )
    where.set_ylim(0, 0.8)
    for name, offset, label, style, hatch in (
        ("connected", -0.2, "as trained", plotting.CHORD, HATCHES[1]),
        ("connected_permuted", 0.2, "after the fewest permutations", plotting.CURVE, HATCHES[0]),
    ):
        share = [float(_of(data, f, name)[_of(data, f, "pair_decided")].mean()) for f in FAMILIES]
        look = {"color": style.colour, "hatch": hatch, "edgecolor": "white"}
        joined.bar(places + offset, share, 0.36, label=label, **look)
    joined.set_ylabel("share of pairs in one component")
    joined.set_title("Pairs that a path of constant loss joins")
    joined.legend(fontsize=8, loc="upper center")
    joined.set_ylim(0, 1.25)
    for panel in (where, joined):
        panel.set_xticks(places, list(FAMILIES))
    ratios = {}
    for family in FAMILIES:
        apart = _of(data, family, "pair_decided") & ~_of(data, family, "connected")
        ratio = _of(data, family, "chord")[apart] / _of(data, family, "height")[apart]
        ratios[family] = np.log10(ratio)
    plotting.plot_distributions(high, ratios, np.linspace(0.0, 1.05, 43))
    high.set_xticks(np.log10([1, 2, 5, 10]), ["1", "2", "5", "10"])
    high.set_xlabel("highest loss on the straight line / height of the pass")
    high.set_ylabel("share of pairs per bin")
    high.set_title("Different components: never below the pass")
    high.legend(fontsize=8)
    return figure

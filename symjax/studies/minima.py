"""Where stochastic gradient descent ends on linear networks: the component, and the pass."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import plotting
from .._checks import require
from ..barriers import linear_chord
from ..networks import linear, random_weights, squared_loss
from ..topology import LinearMinimum, linear_minimum
from ._result import Data, Progress, Result, Statement

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
    networks: int = 1000
    """Networks of each family, all trained on the same data."""
    steps: int = 2000
    """Steps of stochastic gradient descent."""
    rate: float = 0.01
    """Learning rate at the start; it falls to zero along a cosine."""
    paths: int = 25
    """Pairs of each family that are joined by an explicit path."""

    def __post_init__(self):
        require(self.networks >= 2, f"`networks` must be at least 2, got {self.networks}.")
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}.")
        require(self.rate > 0, f"`rate` must be positive, got {self.rate}.")
        require(self.paths >= 1, f"`paths` must be at least 1, got {self.paths}.")


def run(config: Config, progress: Progress) -> Result:
    """Train each family in one vmapped and jitted call, label every network, compare pairs."""
    data: Data = {}
    with jax.enable_x64(True):
        for i, (family, (widths, sigma)) in enumerate(FAMILIES.items()):
            progress(i / len(FAMILIES), f"{config.networks} {family} networks")
            key = jax.random.fold_in(jax.random.key(config.seed), i)
            for_data, for_networks = jax.random.split(key)
            x, y = _data(for_data, widths, sigma)
            minimum = linear_minimum(widths, x, y)
            train = _train(widths, config.steps, config.rate)
            weights = train(jax.random.split(for_networks, config.networks), x, y)
            measured = _measure(minimum, weights, jnp.asarray(x), jnp.asarray(y), config.paths)
            data |= {f"{_slug(family)}_{name}": value for name, value in measured.items()}
    progress(1.0, "done")
    return Result(data, _statements(data), draw, _notes(data), _units())


def _slug(family):
    return family.replace(" ", "_")


def _data(key, widths, sigma):
    """Samples with orthonormal rows, and targets of exactly these singular values."""
    keys = jax.random.split(key, 3)
    orthonormal = lambda k, rows, columns: (
        np.linalg.qr(np.asarray(jax.random.normal(k, (columns, rows), jnp.float64)))[0].T
    )
    x = orthonormal(keys[0], widths[0], SAMPLES)
    left, right = (orthonormal(k, d, d) for k, d in zip(keys[1:], widths[::-3], strict=True))
    return x, left @ np.diag(sigma) @ right @ x


@functools.cache
def _train(widths, steps, rate):
    """Minibatch descent from random weights, for a batch of keys."""

    def one(key, x, y):
        for_weights, for_batches = jax.random.split(key)
        weights = random_weights(for_weights, widths, dtype=jnp.float64)
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

    return jax.jit(jax.vmap(one, in_axes=(0, None, None)))


def _measure(minimum: LinearMinimum, weights, x, y, paths) -> Data:
    """Labels of all networks; of each network and the next one, what is between them."""
    label = jax.jit(jax.vmap(minimum.label))
    labels = label(weights)
    chord = jax.jit(jax.vmap(lambda p, q: linear_chord(p, q, x, y).value))
    points = list(zip(*(np.asarray(w) for w in weights), strict=True))
    decided, signs = np.asarray(labels.decided), np.asarray(labels.signs)
    sure = decided[:-1] & decided[1:]
    moved, used, height = [], np.zeros(len(sure), int), np.full(len(sure), np.nan)
    known: dict[bytes, float] = {}
    for i, (p, q) in enumerate(itertools.pairwise(points)):
        permuted, permutations = minimum.permutations(p, q) if sure[i] else (p, ())
        moved.append(permuted)
        used[i] = sum((g != np.arange(len(g))).any() for g in permutations)
        if sure[i]:  # the height is one for all pairs of these labels
            both = signs[i : i + 2].tobytes()
            if both not in known:
                known[both] = minimum.barrier(p, q).value
            height[i] = known[both]
    # With the last network behind them, so that one compiled function labels both batches.
    moved = tuple(np.stack(w) for w in zip(*moved, points[-1], strict=True))
    same = lambda a: sure & (a[:-1] == signs[1:]).all(axis=1)
    before, after = same(signs), same(np.asarray(label(moved).signs))
    moved = tuple(w[:-1] for w in moved)
    ends = tuple(np.asarray(w)[1:] for w in weights)
    joined = [i for i in np.flatnonzero(after)[:paths]]
    found = [minimum.path(tuple(w[i] for w in moved), points[i + 1], tolerance=1.0) for i in joined]
    return {
        "component": np.where(decided, (signs < 0) @ (1 << np.arange(signs.shape[1])), -1),
        "components": np.asarray(minimum.count),
        "excess": np.asarray(labels.excess),
        "certificate": np.asarray(labels.height),
        "pair_decided": sure,
        "connected": before,
        "connected_permuted": after,
        "permutations": used,
        "height": height,
        "chord": np.asarray(chord(tuple(np.asarray(w)[:-1] for w in weights), ends))
        - minimum.value,
        "chord_permuted": np.asarray(chord(moved, ends)) - minimum.value,
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
    within = met <= np.array(counts)
    wide = [f for f, (widths, _) in FAMILIES.items() if min(widths) >= 2]
    pairs = np.concatenate([_of(data, f, "connected_permuted") for f in wide])
    sure = np.concatenate([_of(data, f, "pair_decided") for f in wide])
    height, chord, apart = [], [], []
    for f in FAMILIES:
        height.append(_of(data, f, "height"))
        chord.append(_of(data, f, "chord"))
        apart.append(_of(data, f, "pair_decided") & ~_of(data, f, "connected"))
    height, chord, apart = map(np.concatenate, (height, chord, apart))
    ratio = chord[apart] / height[apart]
    return [
        Statement(
            "Cor. 4.2",
            bool(within.all()),
            len(within),
            int(within.sum()),
            float(min(np.array(counts) - met)),
            "for any widths and data: families in which training met no more components than "
            f"there are. Met {met.tolist()} of {counts}; margin: components not met.",
        ),
        Statement(
            "Prop. 5.2",
            bool(pairs[sure].all()),
            int(sure.sum()),
            int(pairs[sure].sum()),
            float(pairs[sure].mean() - 1),
            "corrected: pairs of trained networks that permutations of hidden units bring into one "
            "component, where every critical layer has width 2 or more. Margin: share minus 1.",
        ),
        Statement(
            "Height between components",
            bool((ratio >= 1 - 1e-9).all()),
            len(ratio),
            int((ratio >= 1 - 1e-9).sum()),
            float(ratio.min() - 1) if len(ratio) else np.inf,
            "the straight line between networks of different components rises at least to the "
            "minimax height. Margin: the least ratio of the two, minus 1.",
        ),
    ]


def _notes(data: Data) -> list[str]:
    notes = []
    for family, (widths, sigma) in FAMILIES.items():
        get = functools.partial(_of, data, family)
        sure = get("pair_decided")
        total, undecided = len(get("component")), int((get("component") < 0).sum())
        notes.append(
            f"{family}, widths {widths}, singular values {sigma}: {get('components')} components; "
            f"{total - undecided} of {total} labels certified (loss above the minimum below "
            f"{get('certificate')[0]:.3g}), {undecided} undecided and left out. Of {sure.sum()} "
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
        "component": "(network,) number of the component, -1 where undecided",
        "components": "() number of components of the minimum",
        "excess": "(network,) loss above the minimum, squared norm",
        "certificate": "(network,) excess below which a label is certain, squared norm",
        "pair_decided": "(pair,) both labels of a network and the next are certified",
        "connected": "(pair,) in one component as trained",
        "connected_permuted": "(pair,) in one component after the fewest permutations",
        "permutations": "(pair,) hidden layers permuted",
        "height": "(pair,) minimax height above the minimum, squared norm",
        "chord": "(pair,) highest loss of the straight line above the minimum, squared norm",
        "chord_permuted": "(pair,) the same after the fewest permutations, squared norm",
        "path_error": "(path,) largest product error on an explicit path, relative",
        "path_end_error": "(path,) product error of its ends as trained, relative",
    }
    return {f"{_slug(f)}_{n}": text for f in FAMILIES for n, text in meaning.items()}


def draw(data: Data):
    """In which component, how many pairs are connected, and how high the straight line goes."""
    figure, (where, joined, high) = plotting.blank(1, 3, width=4.6, height=3.8)
    places = np.arange(len(FAMILIES))
    for c in range(4):
        share = [float((_of(data, f, "component") == c).mean()) for f in FAMILIES]
        style = plotting.STYLES[c]
        signs = "".join("+-"[(c >> i) & 1] for i in range(2))
        where.bar(places + 0.2 * (c - 1.5), share, 0.18, color=style.colour, label=signs)
    where.set_ylabel("share of trained networks")
    where.set_title("Component that training ends in")
    where.legend(
        title="signs of the two layers (at a tie, opposite ones are equal)",
        ncols=4,
        fontsize=8,
        loc="upper center",
    )
    where.set_ylim(0, 0.8)
    for name, offset, label, style in (
        ("connected", -0.2, "as trained", plotting.CHORD),
        ("connected_permuted", 0.2, "after the fewest permutations", plotting.CURVE),
    ):
        share = [float(_of(data, f, name)[_of(data, f, "pair_decided")].mean()) for f in FAMILIES]
        joined.bar(places + offset, share, 0.36, color=style.colour, label=label)
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

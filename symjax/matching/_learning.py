"""The compiled steps of learned matching: many in one scan, at random points of the chord."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from .._optimisers import permissive
from ..discovery import Symmetry
from ._chord import Chord
from ._relative import Coordinates, move_by, origin, sinkhorn
from ._table import Table

HOT, COLD = 0.2, 0.004
"""The temperatures of the Sinkhorn projection, first and last."""

DIAGONAL = ("sign", "linear", "orthogonal")
"""Kinds of factors that have elements of other components in reach: diagonals of signs."""


class Learned(NamedTuple):
    """What is learned: coordinates of continuous factors and logits of permutations."""

    coordinates: Coordinates
    logits: Coordinates


class Chunk(NamedTuple):
    """What came of a number of steps; ``finite`` is false from the first NaN on."""

    learned: Learned
    state: Any
    values: np.ndarray
    finite: bool


def default_optimiser() -> optax.GradientTransformation:
    """Adam with gradients of norm 1 at most."""
    with jax.numpy_dtype_promotion("standard"):
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.02, b2=0.99))


class Learner:
    """The steps for one objective, table and optimiser; compiled once per kind of step."""

    def __init__(
        self,
        chord: Chord,
        table: Table,
        symmetries: Sequence[Symmetry],
        batches: Sequence[Any],
        ends: Sequence[Any],
        optimiser: optax.GradientTransformation,
        points: int,
    ):
        self.chord, self.table, self.symmetries, self.points = chord, table, symmetries, points
        self.optimiser = permissive(optimiser)
        stack = lambda rows: jax.tree.map(lambda *x: jnp.stack(x), *rows)
        self.data = stack(batches), stack(ends)
        self.count = len(batches)
        self._chunk = jax.jit(self._steps)
        self._moved = jax.jit(lambda m, b: move_by(table, symmetries, m, b, {}))
        self._slope = jax.jit(jax.value_and_grad(self._at_signs))

    def moved(self, coordinates: Coordinates, b: PyTree) -> PyTree:
        """The model B moved by the element that coordinates stand for."""
        return self._moved(coordinates, b) if coordinates else b

    def run(
        self,
        learned: Learned,
        state: Any,
        key: Key[Array, ""],
        a: PyTree,
        b: PyTree,
        progress: np.ndarray,
        rates: np.ndarray,
    ) -> Chunk:
        """Steps at ``progress`` (of the phase, from 0 to 1) with updates times ``rates``."""
        if state is None:
            state = self.optimiser.init(learned)
        heat = jnp.asarray(HOT * (COLD / HOT) ** progress, jnp.float32)
        learned, state, values, finite = self._chunk(
            learned, state, key, a, b, heat, jnp.asarray(rates, jnp.float32), self.data
        )
        return Chunk(learned, state, np.asarray(values, float), bool(finite))

    def _steps(self, learned, state, key, a, b, heat, rates, data):
        def step(carry, row):
            learned, state, finite = carry
            k, tau, rate = row
            for_batch, for_times = jax.random.split(k)
            i = jax.random.randint(for_batch, (), 0, self.count)
            batch, ends = jax.tree.map(lambda x: x[i], data)
            spread = jax.random.uniform(for_times, (self.points,))
            ts = (jnp.arange(self.points, dtype=spread.dtype) + spread) / self.points
            value, slope = jax.value_and_grad(self._value)(learned, a, b, batch, ends, ts, tau)
            updates, after = self.optimiser.update(slope, state, learned)
            known = [jnp.isfinite(x).all() for x in jax.tree.leaves(updates)]
            finite = finite & jnp.isfinite(value) & jnp.stack(known).all()
            pick = lambda new, old: jnp.where(finite, new, old)
            new = jax.tree.map(lambda x, u: x + rate.astype(x.dtype) * u, learned, updates)
            learned, state = jax.tree.map(pick, (new, after), (learned, state))
            return (learned, state, finite), value

        keys = jax.random.split(key, len(heat))
        carry = learned, state, jnp.asarray(True)
        (learned, state, finite), values = jax.lax.scan(step, carry, (keys, heat, rates))
        return learned, state, values, finite

    def _value(self, learned, a, b, batch, ends, ts, tau):
        blends = {name: sinkhorn(x / tau.astype(x.dtype)) for name, x in learned.logits.items()}
        moved = move_by(self.table, self.symmetries, learned.coordinates, b, blends)
        return self._mean(a, moved, batch, ends, ts)

    def _mean(self, a, b, batch, ends, ts):
        # One point of the chord after the other: weights under vmap would make grouped convolutions
        # of convolutions, which are slow.
        at = jax.checkpoint(lambda t: self.chord.value(*self.chord.at(t, a, b, batch, ends)))
        return jnp.mean(jax.lax.map(at, ts))

    def _at_signs(self, signs, coordinates, a, b, data):
        b = move_by(self.table, self.symmetries, {}, b, signs)
        moved = move_by(self.table, self.symmetries, coordinates, b, {})
        ts = jnp.asarray([0.25, 0.5, 0.75])
        rows = jax.lax.map(lambda row: self._mean(a, moved, row[0], row[1], ts), data)
        return jnp.mean(rows)

    def flips(
        self, coordinates: Coordinates, a: PyTree, b: PyTree, *, tries: int, batches: int = 4
    ) -> dict[int, np.ndarray]:
        """Signs that lower the objective, tried in the order in which its slope promises it.

        For signs themselves, and for coordinates of matrices, which changes the component of these.
        """
        kinds = {i: f for i, f in enumerate(self.table.factors) if f.kind in DIAGONAL}
        dtype = [x.dtype for x in coordinates.values()] or [jnp.result_type(float)]
        signs = {str(i): jnp.ones((f.count, f.n), dtype[0]) for i, f in kinds.items()}
        if not signs:
            return {}
        data = jax.tree.map(lambda x: x[:batches], self.data)
        least, slope = self._slope(signs, coordinates, a, b, data)
        promise = [
            (float(g), name, at)
            for name, rows in slope.items()
            for at, g in np.ndenumerate(np.asarray(rows))
            if g > 0
        ]
        found = {}
        for _, name, at in sorted(promise, reverse=True)[:tries]:
            trial = signs | {name: signs[name].at[at].multiply(-1)}
            value, _ = self._slope(trial, coordinates, a, b, data)
            if value < least:
                least, signs = value, trial
                found[int(name)] = np.asarray(signs[name], np.float64)
        return {i: _as_element(kinds[i], x) for i, x in found.items()}

    def start(self, dtype: Any) -> Learned:
        """The identity, with permutations held."""
        return Learned(origin(self.table, dtype), {})


def _as_element(factor, signs):
    return signs if factor.kind == "sign" else signs[..., None] * np.eye(factor.n)

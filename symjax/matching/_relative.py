"""A relative element as numbers that an optimiser can change, and how it moves parameters in JAX.

Each factor has coordinates around the identity: logarithms of scales, a vector of a translation,
logits of a permutation, and for matrices the m of the Cayley transform (1 - m)^-1 (1 + m), which
gives the inverse as well, and a rotation for a skew m.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._checks import is_floating
from ..actions import PulledBack, ShiftAction
from ..discovery import Symmetry
from ..groups import Permutation, SignFlip
from ..linalg._precision import computing_dtype, mm
from ._state import State, push
from ._table import Factor, Table, base_group, moving_actions, order_of

Coordinates = dict[str, Float[Array, "..."]]
"""By the numbers of the factors of a table."""

CONTINUOUS = ("scale", "complex", "linear", "orthogonal", "shift")

WIDE = 32
"""Matrices up to this size move by steps of one size, wider ones by shorter ones."""


def origin(table: Table, dtype: Any) -> Coordinates:
    """The coordinates of the identity of every continuous factor."""
    rows = {}
    for i, factor in enumerate(table.factors):
        if factor.kind in CONTINUOUS:
            shape = factor.identity().shape
            rows[str(i)] = jnp.zeros((*shape, 2) if factor.kind == "complex" else shape, dtype)
    return rows


def model_dtype(params: PyTree) -> Any:
    """The dtype that a model's elements are computed in."""
    return computing_dtype(*(x.dtype for x in jax.tree.leaves(params) if is_floating(x)))


def move_by(
    table: Table,
    symmetries: Sequence[Symmetry],
    coordinates: Coordinates,
    params: PyTree,
    blends: Coordinates,
) -> PyTree:
    """The parameters moved by an element, in the order of `apply_element`.

    ``blends`` holds matrices (count, n, n) for permutations, which may be doubly stochastic, and
    diagonals (count, n) for signs and matrices, which act before these; what is in neither is the
    identity.
    """
    actions = moving_actions(symmetries)
    # What acts in other coordinates has no factors in a table, and stays at its identity.
    by_legs = {i: a for i, a in enumerate(actions) if not isinstance(a, PulledBack)}
    order = sorted({(order_of(g), i) for i, a in by_legs.items() for g in a.group.factors})
    numbers = {(f.symmetry, f.number): i for i, f in enumerate(table.factors)}
    for rank, i in order:
        action = by_legs[i]
        if isinstance(action, ShiftAction):
            if str(numbers[i, 0]) in coordinates:
                params = action(coordinates[str(numbers[i, 0])].reshape(-1), params)
            continue
        entries = []
        for k, group in enumerate(action.factors):
            name = str(numbers[i, k])
            factor = table.factors[numbers[i, k]]
            entry: Any = None
            if order_of(group) == rank and (name in coordinates or name in blends):
                entry = (blends.get(name), _element(factor, coordinates.get(name)))
            entries.append(entry)
        params = action._walk(params, entries, _moved)
    return params


def _moved(group, entry, x, representation):
    if entry is None:
        return x
    blend, pair = entry
    base = base_group(group)
    if blend is not None and isinstance(base, Permutation):
        rows = x.reshape(len(blend), blend.shape[-1], -1)
        return mm(blend, rows).reshape(x.shape)
    if blend is not None:
        if not isinstance(base, SignFlip):
            blend = jax.vmap(jnp.diag)(blend)
        g = blend.reshape(jax.eval_shape(group.identity).shape)
        x = group.act(g, x, representation, g)
    return x if pair is None else group.act(pair[0], x, representation, pair[1])


def _element(factor: Factor, m: Array | None) -> tuple[Array, Array | None] | None:
    """An element of coordinates as the public group holds it, and its inverse for matrices."""
    if m is None:
        return None
    shape = jax.eval_shape(factor.group.identity).shape
    if factor.kind in ("linear", "orthogonal"):
        a = _stride(factor) * (factor.group.project(m.reshape(shape)).reshape(m.shape))
        one = jnp.broadcast_to(jnp.eye(factor.n, dtype=m.dtype), m.shape)
        return (
            jnp.linalg.solve(one - a, one + a).reshape(shape),
            jnp.linalg.solve(one + a, one - a).reshape(shape),
        )
    if factor.kind == "complex":
        size, angle = jnp.exp(m[..., 0]), m[..., 1]
        pair = jnp.stack([size * jnp.cos(angle), size * jnp.sin(angle)], -1).reshape(shape)
        return pair, factor.group.inverse(pair)
    g = (jnp.exp(m) if factor.kind == "scale" else m).reshape(shape)
    return g, (1 / g if factor.kind == "scale" else -g)


def host_element(factor: Factor, m: Array) -> np.ndarray:
    """An element of coordinates as the host holds it, in float64."""
    x = np.asarray(m).astype(np.float64)
    if factor.kind in ("linear", "orthogonal"):
        a = _stride(factor) * ((x - x.mT) / 2 if factor.kind == "orthogonal" else x)
        one = np.eye(factor.n)
        return np.linalg.solve(one - a, one + a)
    if factor.kind == "complex":
        return np.exp(x[..., 0] + 1j * x[..., 1])
    return np.exp(x) if factor.kind == "scale" else x


def _stride(factor: Factor) -> float:
    return 0.25 * min(1.0, (WIDE / factor.n) ** 0.5)


def push_all(table: Table, state: State, elements: dict[int, np.ndarray]) -> State:
    """The state moved by elements of several factors, in the order of `apply_element`."""
    for i in sorted(elements, key=lambda i: (table.factors[i].order, i)):
        state = push(table, state, i, elements[i])
    return state


def push_coordinates(table: Table, state: State, coordinates: Coordinates) -> State:
    """The state moved by the element that coordinates stand for."""
    rows = {int(name): host_element(table.factors[int(name)], m) for name, m in coordinates.items()}
    return push_all(table, state, rows)


def sinkhorn(logits: Float[Array, "*b n n"], *, sweeps: int = 20) -> Float[Array, "*b n n"]:
    """A matrix with rows and columns of sum 1, nearly, from logits; works under jit and vmap."""

    def sweep(x, _):
        x = x - jax.nn.logsumexp(x, axis=-1, keepdims=True)
        return x - jax.nn.logsumexp(x, axis=-2, keepdims=True), None

    return jnp.exp(jax.lax.scan(sweep, logits, None, length=sweeps)[0])

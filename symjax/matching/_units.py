"""Permutations of units that carry a group of their own: signs, rotations of heads, and so on.

Which unit goes where and how it turns on the way are one problem: the gain of sending unit v to
unit u is what the best inner element makes of it (an absolute value for a sign, a nuclear norm for
an orthogonal matrix). The assignment over these gains is exact.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ._solvers import assign, compact
from ._state import State, push
from ._table import Table, to_complex

INNER = ("sign", "complex", "linear", "orthogonal", "permutation")


@dataclass(frozen=True)
class UnitFactor:
    """A permutation and the factors inside its units.

    ``rows[j]`` are, for each unit, the rows of factor j that belong to it (for matrices and
    permutations: the fibres).
    """

    factor: int
    rows: dict[int, np.ndarray]

    @property
    def inner(self) -> tuple[int, ...]:
        """The factors inside the units."""
        return tuple(self.rows)


Units: TypeAlias = dict[int, UnitFactor]


def find_units(table: Table, free: Sequence[int]) -> Units:
    """For each free permutation over one fibre, the free factors inside its units, if any."""
    found = {}
    for i in free:
        factor = table.factors[i]
        if factor.kind != "permutation" or len(factor.identity()) > 1 or factor.n < 2:
            continue
        rows = {j: _rows_inside(table, i, j) for j in free if table.factors[j].kind in INNER}
        rows = {j: r for j, r in rows.items() if r is not None}
        if rows:
            found[i] = UnitFactor(i, rows)
    return found


def _rows_inside(table, i, j):
    """The rows (or fibres) of factor j in each unit of i; None where i does not move them."""
    if (i, j) not in table.carriers:
        return None
    factor, other = table.factors[i], table.factors[j]
    place, own = table.carriers[i, j]
    own = replace(own, mirror=False, gains=())
    labels = {own.leaf: np.zeros(table.shapes[own.leaf], int)}
    spread = np.broadcast_to(np.arange(factor.n)[None, :, None], place.unfold(labels).shape)
    unit = own.unfold({own.leaf: place.fold(spread, labels)})[..., 0]
    if other.kind in ("sign", "complex"):
        unit = unit[:, 0::2] if other.kind == "complex" else unit
        return np.argsort(unit.ravel(), kind="stable").reshape(factor.n, -1)
    if (unit != unit[:, :1]).any():  # it moves rows inside a matrix: not a group of the units
        return None
    return np.argsort(unit[:, 0], kind="stable").reshape(factor.n, -1)


def assign_units(
    table: Table,
    units: UnitFactor,
    target: Sequence[np.ndarray],
    state: State,
    allowed: Collection[int] | None = None,
) -> State:
    """The best permutation of the units with the best inner elements, on some of the leaves."""
    factor = table.factors[units.factor]
    gain, done = np.zeros((factor.n, factor.n)), set()
    for j, rows in units.rows.items():
        other = table.factors[j]
        leaves = {p.leaf for p in other.places if allowed is None or p.leaf in allowed} - done
        pairs = [
            (p.unfold(target), p.unfold(state.leaves)) for p in other.places if p.leaf in leaves
        ]
        if pairs:
            gain += _inner_gain(other.kind, pairs, rows)
        done |= leaves
    for place in factor.places:
        if place.leaf not in done and (allowed is None or place.leaf in allowed):
            a, x = place.unfold(target)[0], place.unfold(state.leaves)[0]
            gain += a @ x.T
    state = push(table, state, units.factor, assign(gain[None]))
    for j in units.inner:
        other = table.factors[j]
        pairs = [
            (p, p.unfold(target), p.unfold(state.leaves))
            for p in other.places
            if allowed is None or p.leaf in allowed
        ]
        if pairs:
            state = push(table, state, j, compact(other, pairs))
    return state


def _inner_gain(kind, pairs, rows):
    """For units u and v, the largest sum of <a_u, h x_v> over inner elements h."""
    if kind in ("sign", "complex"):
        total = 0
        for a, x in pairs:
            if kind == "complex":
                a, x = to_complex(a), to_complex(x).conj()
            a, x = (v.reshape(-1, v.shape[2])[rows].swapaxes(0, 1) for v in (a, x))
            total = total + a @ x.mT
        return np.abs(total).sum(axis=0)
    total = 0
    for a, x in pairs:
        a, x = a[rows], x[rows]  # (unit, fibre inside it, n, k)
        total = total + a[:, None] @ x[None].mT
    if kind == "permutation":
        return _assignment_values(total).sum(axis=2)
    return np.linalg.svd(total, compute_uv=False).sum(axis=(-2, -1))


def _assignment_values(overlap):
    flat = overlap.reshape(-1, *overlap.shape[-2:])
    best = np.take_along_axis(flat, assign(flat)[..., None], axis=2)
    return best.sum(axis=(1, 2)).reshape(overlap.shape[:-2])

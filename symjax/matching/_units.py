"""Permutations of units that carry a group of their own: signs, rotations of heads, and so on.

Which unit goes where and how it turns on the way are one problem: the gain of sending unit v to
unit u is what the best inner element makes of it (an absolute value for a sign, a nuclear norm for
an orthogonal matrix). The assignment over these gains is exact.
"""

import collections
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ._solvers import assign, compact, pairs_of
from ._state import State, push
from ._table import Table, to_complex

MOST_SIGNS = 6
"""So many signs inside of a unit are tried together, every one of their patterns."""

INNER = ("sign", "complex", "linear", "orthogonal", "permutation")


@dataclass(frozen=True)
class UnitFactor:
    """A permutation and the factors inside its units.

    ``rows[j]`` are, for each unit, the rows of factor j that belong to it (for matrices and
    permutations: the fibres). ``flipped[place]`` says for every entry of a unit which signs flip
    it, as a number with one bit for each; empty where the signs are too many to be tried together.
    """

    factor: int
    rows: dict[int, np.ndarray]
    signs: tuple[int, ...] = ()
    flipped: tuple[np.ndarray, ...] = ()

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
            signs = tuple(j for j in rows if table.factors[j].kind == "sign")
            found[i] = UnitFactor(i, rows, signs, _flipped(table, i, rows, signs))
    return found


def _flipped(table, i, rows, signs):
    """For each place of a permutation, the signs inside its units that flip an entry of a unit."""
    places, masks = table.factors[i].places, []
    if sum(rows[j].shape[1] for j in signs) > MOST_SIGNS:
        return ()
    for place in places:
        mask, first = np.zeros(table.shapes[place.leaf], int), 0
        for j in signs:
            # Which sign of its unit stands at a row, as a bit of its own.
            bits = np.empty(rows[j].size, int)
            bits[rows[j]] = 1 << (first + np.arange(rows[j].shape[1]))
            for own in table.factors[j].places:
                if own.leaf == place.leaf:
                    own = replace(own, mirror=False, gains=())
                    here = own.unfold({own.leaf: mask})
                    here = here | bits.reshape(*here.shape[:2], 1)
                    mask = own.fold(here, {own.leaf: mask})
            first += rows[j].shape[1]
        mask = replace(place, gains=()).unfold({place.leaf: mask})[0]
        if (mask != mask[:1]).any():
            return ()
        masks.append(mask[0])
    return tuple(masks)


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
    allowed = set(factor.leaves) if allowed is None else set(allowed)
    together = units.signs if units.flipped else ()
    others = [j for j in units.inner if j not in together]
    claimed = allowed & {leaf for j in others for leaf in table.factors[j].leaves}
    bits = sum(units.rows[j].shape[1] for j in together)
    # What the other groups make of a unit depends on its signs only where both move a leaf.
    mixed = any(leaf in claimed for j in together for leaf in table.factors[j].leaves)
    gains = []
    for pattern in range(2**bits if mixed else 1):
        turned = _push_signs(table, units, state, np.full(factor.n, pattern)) if mixed else state
        gains.append(_gain_of(table, units, others, target, turned.leaves, allowed))
    overlaps = _overlaps(factor, units.flipped, target, state.leaves, allowed - claimed)
    values, patterns = _best_signs(overlaps, gains if mixed else gains * 2**bits)
    h = assign(values[None])
    state = push(table, state, units.factor, h)
    if together:
        state = _push_signs(table, units, state, patterns[np.arange(factor.n), h[0]])
    for j in others:
        if pairs := pairs_of(table.factors[j], target, state.leaves, allowed):
            state = push(table, state, j, compact(table.factors[j], pairs))
    return state


def _gain_of(table, units, others, target, leaves, allowed):
    """For units u and v, what some inner groups make of them: a sum over the leaves they move."""
    n = table.factors[units.factor].n
    gain, done = np.zeros((n, n)), set()
    for j in others:
        factor = table.factors[j]
        fresh = (set(factor.leaves) & allowed) - done
        if pairs := pairs_of(factor, target, leaves, fresh):
            gain += _inner_gain(factor.kind, [pair[1:] for pair in pairs], units.rows[j])
        done |= fresh
    return gain


def _overlaps(factor, flipped, target, leaves, allowed):
    """For units u and v, the inner products <a_u, x_v> over the entries that the same signs flip.

    A dictionary by the number that `UnitFactor.flipped` has for them.
    """
    overlaps = collections.defaultdict(lambda: np.zeros((factor.n, factor.n)))
    for k, (place, a, x) in enumerate(pairs_of(factor, target, leaves)):
        if place.leaf in allowed:
            masks = flipped[k] if flipped else np.zeros(a.shape[2], int)
            for mask in np.unique(masks):
                overlaps[mask] += a[0][:, masks == mask] @ x[0][:, masks == mask].T
    return overlaps


def _best_signs(overlaps, gains):
    """For every pair of units the largest gain over the patterns of signs, and that pattern.

    The gain of a pattern is its own plus the overlaps, each flipped by the signs of its mask.
    """
    best, patterns = gains[0] - np.inf, np.zeros(gains[0].shape, int)
    for pattern, total in enumerate(gains):
        for mask, overlap in overlaps.items():
            total = total + (-1) ** int(pattern & mask).bit_count() * overlap
        better = total > best
        best, patterns = np.where(better, total, best), np.where(better, pattern, patterns)
    return best, patterns


def _push_signs(table, units, state, patterns):
    """The state with the signs of each unit as the bits of its pattern say."""
    first = 0
    for j in units.signs:
        rows = units.rows[j]
        bits = patterns[:, None] >> (first + np.arange(rows.shape[1])) & 1
        h = table.factors[j].identity()
        h.reshape(-1)[rows] = 1.0 - 2 * bits
        state = push(table, state, j, h)
        first += rows.shape[1]
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

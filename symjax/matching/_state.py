"""Where a model is while it is being matched: its leaves, and the element that brought it there.

The element is kept in the order in which it acts, g = T M P: permutations P first, then scalings,
signs and matrices M, then translations T. A permutation h comes from the left; it is brought to its
place by h M P = (h M h^-1) h P. Translations are not followed: what they do is found at the end,
from the leaves (`with_shifts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ._shifts import add_shift, nearest_shifts
from ._table import Factor, Table, acts_after, compose, invert, move


@dataclass(frozen=True)
class State:
    """Leaves in float64, and one element for each factor of the table."""

    leaves: tuple[np.ndarray, ...]
    element: tuple[np.ndarray, ...]


def start(table: Table, leaves: Sequence[np.ndarray]) -> State:
    """A model that has not been moved."""
    return State(tuple(leaves), tuple(f.identity() for f in table.factors))


def apply_to(factor: Factor, h: np.ndarray, leaves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The leaves moved by an element of one factor."""
    if factor.kind == "shift":
        return add_shift(factor, h, leaves)
    leaves = list(leaves)
    for place in factor.places:
        leaves[place.leaf] = place.fold(move(factor, h, place.unfold(leaves), place), leaves)
    return leaves


def push(table: Table, state: State, i: int, h: np.ndarray) -> State:
    """The state moved by an element of factor i, and the element that does both."""
    factor = table.factors[i]
    leaves = tuple(apply_to(factor, h, state.leaves))
    if factor.kind == "shift":
        return replace(state, leaves=leaves)
    element = list(state.element)
    if factor.kind == "permutation":
        for j, other in enumerate(table.factors):
            if (i, j) in table.carriers and acts_after(other, factor):
                element[j] = _conjugate(other, element[j], table.sources(i, j, h))
    element[i] = compose(factor, h, element[i])
    return State(leaves, tuple(element))


def _conjugate(other, c, rows):
    """H c h^-1 for a permutation h, given the row of ``other`` that comes to each row."""
    fibre, row = np.divmod(rows, rows.shape[1])
    if other.kind == "complex":
        fibre, row = fibre[:, 0::2], row[:, 0::2] // 2
    if other.kind == "permutation":
        # The position after h of the source of c at the row that came to i.
        position = np.argsort(row, axis=1)
        return np.take_along_axis(position, np.take_along_axis(c[fibre[:, 0]], row, 1), 1)
    if other.kind in ("linear", "orthogonal"):
        block = c[fibre[:, 0]]
        if (row == row[:1]).all() and (np.diff(row[0]) == 1).all():
            return block
        return block[np.arange(len(block))[:, None, None], row[:, :, None], row[:, None, :]]
    return c[fibre, row]


def with_shifts(table: Table, origin: Sequence[np.ndarray], state: State) -> State:
    """The state with the translations that, after the rest of its element, lead to its leaves.

    They do not all commute, so what is left of the gap is solved for again: a commutator lands
    where fewer shifts are left. On its way there it may grow, so the gap is followed for a few
    rounds without gain and the best of them kept. The leaves are reached, so any weights have the
    same solution; leaves count the less, the more often they add up what others hold, which keeps
    shifts apart that share a bias.
    """
    shifts = {i: f for i, f in enumerate(table.factors) if f.kind == "shift"}
    if not shifts:
        return state
    base, element = list(origin), list(state.element)
    for i in sorted(range(len(table.factors)), key=lambda i: table.factors[i].order):
        if i not in shifts:
            base = apply_to(table.factors[i], element[i], base)
        else:
            element[i] = table.factors[i].identity()
    size = sum(np.sum(state.leaves[p] ** 2) for p in table.weights)
    best, least, gained = tuple(element), np.inf, 0
    for turn in range(30):
        here = base
        for i, factor in shifts.items():
            here = apply_to(factor, element[i], here)
        gap = sum(np.sum((state.leaves[p] - here[p]) ** 2) for p in table.weights)
        if gap < 0.5 * least:
            best, least, gained = tuple(element), gap, turn
        if gap <= 1e-29 * size or turn - gained > 3:
            break
        for i, v in nearest_shifts(shifts, state.leaves, here, table.weights).items():
            element[i] = element[i] + v
    return replace(state, element=best)


def element_error(table: Table, origin: Sequence[np.ndarray], state: State) -> float:
    """How far the element takes the origin from the state's leaves, relative to their norm."""
    here = list(origin)
    for i in sorted(range(len(table.factors)), key=lambda i: table.factors[i].order):
        here = apply_to(table.factors[i], state.element[i], here)
    gap = sum(np.sum((a - b) ** 2) for a, b in zip(state.leaves, here, strict=True))
    size = sum(np.sum(a**2) for a in state.leaves)
    return float(np.sqrt(gap / max(size, np.finfo(float).tiny)))


def pull_back(table: Table, state: State, by: State) -> State:
    """The state moved by the inverse of the element of another one that has no permutation."""
    order = sorted(range(len(table.factors)), key=lambda i: (table.factors[i].order, i))
    for i in reversed(order):
        factor = table.factors[i]
        if factor.kind != "permutation":
            state = push(table, state, i, invert(factor, by.element[i]))
    return state

"""Where a model is while it is being matched: its leaves, and the element that brought it there.

The element is kept in the order in which it acts, g = T M P: permutations P first, then scalings,
signs and matrices M, then translations T. A new factor h comes from the left; it is brought to its
place by h T M P = (h T h^-1) h M P and so on, because each rank normalises the later ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ._table import Factor, Place, Table, compose, invert, move


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
    leaves = list(leaves)
    for place in factor.places:
        leaf = leaves[place.leaf]
        leaves[place.leaf] = place.fold(move(factor, h, place.unfold(leaf), place), leaf)
    return leaves


def push(table: Table, state: State, i: int, h: np.ndarray) -> State:
    """The state moved by an element of factor i, and the element that does both."""
    factor = table.factors[i]
    element = list(state.element)
    for j, other in enumerate(table.factors):
        if acts_after(other, factor):
            element[j] = conjugate(table, factor, h, other, element[j])
    element[i] = compose(factor, h, element[i])
    return State(tuple(apply_to(factor, h, state.leaves)), tuple(element))


def pull_back(table: Table, state: State, by: State) -> State:
    """The state moved by the inverse of the element of another one that has no permutation."""
    for i in sorted(range(len(table.factors)), key=lambda i: -table.factors[i].rank):
        factor = table.factors[i]
        if factor.rank > 0:
            state = push(table, state, i, invert(factor, by.element[i]))
    return state


def acts_after(other: Factor, factor: Factor) -> bool:
    """Whether ``other`` comes later in the order of the factors of an element."""
    if other.rank != factor.rank:
        return other.rank > factor.rank
    # Permutations of blocks move the permutations inside the blocks, of which there are more.
    both = other.kind == factor.kind == "permutation"
    return both and len(other.identity()) > len(factor.identity())


def conjugate(
    table: Table, factor: Factor, h: np.ndarray, other: Factor, c: np.ndarray
) -> np.ndarray:
    """H c h^-1 as an element of ``other``, for h in a factor that normalises it.

    An element is a field over the places that it moves: where h moves those entries it moves the
    field. One leaf that both move decides; where there is none they commute.
    """
    pair = shared_places(table, factor, other)
    if pair is None:
        return c
    shape = table.shapes[pair[1].leaf]
    if other.kind == "shift":
        return _moved_field(factor, h, *pair, shape, c)
    if factor.kind != "permutation":
        return c
    return _renumber(other, c, row_sources(factor, h, *pair, shape))


def shared_places(table: Table, factor: Factor, other: Factor) -> tuple[Place, Place] | None:
    """A place of each on the same axis of the same leaf, the smallest such leaf."""
    pairs = [
        (p, q)
        for p in factor.places
        for q in other.places
        if p.leaf == q.leaf and (p.axis == q.axis or p.axis is None)
    ]
    return min(pairs, key=lambda pair: np.prod(table.shapes[pair[0].leaf]), default=None)


def _moved_field(factor, h, place, own, shape, c):
    zero = np.zeros(shape)
    field = own.fold(np.broadcast_to(c[..., None], own.unfold(zero).shape), zero)
    moved = place.fold(move(factor, h, place.unfold(field), place), field)
    return own.unfold(moved)[..., 0]


def row_sources(
    factor: Factor, h: np.ndarray, place: Place, own: Place, shape: tuple[int, ...]
) -> np.ndarray:
    """For every row of ``own`` after a permutation, the number of the row that it was before."""
    zero = np.zeros(shape, int)
    fibres, n, k = own.unfold(zero).shape
    numbers = np.broadcast_to(np.arange(fibres * n).reshape(fibres, n, 1), (fibres, n, k))
    labels = own.fold(numbers, zero)
    moved = place.fold(move(factor, h, place.unfold(labels), place), labels)
    return own.unfold(moved)[..., 0]


def _renumber(other, c, rows):
    fibre, row = np.divmod(rows, rows.shape[1])
    if other.kind == "complex":
        fibre, row = fibre[:, 0::2], row[:, 0::2] // 2
    if other.kind == "permutation":
        # (h c h^-1)(i) = position after h of the source of c at the row that came to i.
        position = np.argsort(row, axis=1)
        return np.take_along_axis(position, np.take_along_axis(c[fibre[:, 0]], row, 1), 1)
    if other.kind in ("linear", "orthogonal"):
        block = c[fibre[:, 0]]
        return block[np.arange(len(block))[:, None, None], row[:, :, None], row[:, None, :]]
    return c[fibre, row]


def replace_leaves(state: State, leaves: Sequence[np.ndarray]) -> State:
    """The same element at other leaves."""
    return replace(state, leaves=tuple(leaves))

"""Coordinate descent over the factors of a table, and where to start it."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ._shifts import nearest_shifts
from ._solvers import balance, compact, nearest, pairs_of, unit_gain
from ._state import State, push
from ._table import Table
from ._units import Units, assign_units

STILL, ROUGH = 1e-7, 1e-4
"""A sweep that lowers the squared distance by less than this part of it is the last one: of the
start that won, and of one that is still to be compared with others."""

SAME = 1e-6
"""Models nearer than this part of their size are on one orbit: nothing is left to improve."""


def balanced(table: Table, state: State, free: Sequence[int], *, sweeps: int = 200) -> State:
    """The point of smallest norm on the orbit under scalings, matrices and translations.

    Unique up to isometries (`balance`), so two models of one orbit differ by isometries after it.
    Of translations this takes weights: with c -= u, b += W u and W += v m^T the plain norm has
    several minima; as b counts little (`Table.weights`), c and W m are first made small.
    """
    kinds = ("scale", "complex", "linear", "shift")
    moving = [i for i in free if table.factors[i].kind in kinds or i in table.gauged]
    shifts = shifts_of(table, moving)
    others = [i for i in moving if i not in shifts]
    places = {leaf for i in moving for leaf in table.factors[i].leaves}
    norm = np.inf
    for _ in range(sweeps):
        for i in others:
            state = push(table, state, i, _level(table, state, i))
        state = push_shifts(table, shifts, [0 * x for x in state.leaves], state, table.weights)
        before, norm = norm, sum(np.sum(state.leaves[leaf] ** 2) for leaf in places)
        # A one-sided scale may raise the norm; the square of what is left to move is the change.
        if abs(before - norm) <= 1e-13 * norm:
            break
    return state


def unsettled(table: Table, state: State, still: float) -> set[int]:
    """The scales and matrices that `balanced` has not brought to rest, as on an open orbit."""
    moving = [i for i, f in enumerate(table.factors) if f.kind in ("scale", "complex", "linear")]
    step = lambda i: np.abs(_level(table, state, i) - table.factors[i].identity()).max(initial=0)
    return {i for i in moving if not step(i) <= still}


def shifts_of(table: Table, free: Sequence[int]) -> tuple[int, ...]:
    """The translations among some factors."""
    return tuple(i for i in free if table.factors[i].kind == "shift")


def push_shifts(
    table: Table,
    shifts: Sequence[int],
    target: Sequence[np.ndarray],
    state: State,
    weights: Mapping[int, float] | None = None,
) -> State:
    """The state moved by the shifts that bring it nearest to the target, found at once."""
    if not shifts:
        return state
    vectors = nearest_shifts({i: table.factors[i] for i in shifts}, target, state.leaves, weights)
    for i, v in vectors.items():
        state = push(table, state, i, v)
    return state


def _level(table, state, i):
    factor, leaves = table.factors[i], state.leaves
    if i in table.gauged:
        place = table.gauged[i]
        return unit_gain(factor, place, place.unfold(leaves))
    return balance(factor, [(p, p.unfold(leaves)) for p in factor.places])


def isometries(table: Table, free: Sequence[int]) -> list[int]:
    """The factors that are left after `balanced`, in whole or in part."""
    done = ("scale", "shift")
    return [i for i in free if table.factors[i].kind not in done and i not in table.gauged]


def squared_distance(
    target: Sequence[np.ndarray], leaves: Sequence[np.ndarray], places: Collection[int]
) -> float:
    """The sum of |a - b|^2 over some of the leaves."""
    return float(sum(np.sum((target[i] - leaves[i]) ** 2) for i in places))


def improve(
    table: Table,
    units: Units,
    target: Sequence[np.ndarray],
    state: State,
    group: tuple[int, ...],
    isometric: bool,
) -> State:
    """The state after one factor (or all shifts) moved to its best, or the same state."""
    i = group[0]
    factor = table.factors[i]
    moved = {leaf for j in group for leaf in table.factors[j].leaves}
    if isometric and i in units:
        new = assign_units(table, units[i], target, state)
        moved |= {leaf for j in units[i].inner for leaf in table.factors[j].leaves}
    elif factor.kind == "shift":
        new = push_shifts(table, group, target, state)
    else:
        solve = compact if isometric else nearest
        h = solve(factor, pairs_of(factor, target, state.leaves))
        new = push(table, state, i, h)
    before = squared_distance(target, state.leaves, moved)
    after = squared_distance(target, new.leaves, moved)
    return new if after < before else state


def descend(
    table: Table,
    units: Units,
    target: Sequence[np.ndarray],
    state: State,
    *,
    free: Sequence[int],
    isometric: bool,
    random: np.random.Generator,
    still: float = STILL,
    sweeps: int = 500,
    same: float = SAME,
) -> tuple[State, int, bool]:
    """Move one factor after the other to its best until a whole sweep changes nothing.

    Or until the distance is ``same`` of the target's size.

    A factor that is at its best is left out until a leaf that it moves or reads has changed.
    """
    everywhere = sorted({leaf for i in free for leaf in table.factors[i].leaves})
    distance = squared_distance(target, state.leaves, everywhere)
    enough = same**2 * squared_distance(target, [0 * x for x in target], everywhere)
    shifts = shifts_of(table, free)
    groups = [(i,) for i in free if i not in shifts] + [shifts] * bool(shifts)
    around = [_leaves_around(table, units, group) for group in groups]
    settled: list[list[np.ndarray] | None] = [None] * len(groups)
    for sweep in range(sweeps):
        for i in random.permutation(len(groups)):
            here = [state.leaves[leaf] for leaf in around[i]]
            if _same(settled[i], here):
                continue
            new = improve(table, units, target, state, groups[i], isometric)
            done = new is state or _exact(table, units, groups[i])
            state = new
            settled[i] = [state.leaves[leaf] for leaf in around[i]] if done else None
        before, distance = distance, squared_distance(target, state.leaves, everywhere)
        if before - distance <= still * before or distance <= enough:
            return state, sweep + 1, True
    return state, sweeps, False


def _same(before, here):
    return before is not None and all(x is y for x, y in zip(before, here, strict=True))


def _exact(table, units, group):
    """Whether one move brings a factor to its best, so that another would change nothing."""
    return group[0] not in units and table.factors[group[0]].kind not in ("linear", "shift")


def _leaves_around(table, units, group):
    """The leaves that a group of factors (with those inside its units) moves or reads."""
    inner = [j for i in group if i in units for j in units[i].inner]
    factors = [table.factors[i] for i in (*group, *inner)]
    read = {leaf for f in factors for place in f.places for leaf, _ in place.gains}
    read |= {leaf for f in factors for step in f.steps for leaf, *_ in step.others}
    return sorted(read.union(*(f.leaves for f in factors)))


def anchored(
    table: Table,
    units: Units,
    target: Sequence[np.ndarray],
    state: State,
    *,
    free: Sequence[int],
) -> State:
    """A start for `descend`: factors in the order in which they can be known.

    The places of a factor say little while their other axes are moved by factors that are not yet
    known. So the next factor is always the one with the largest part of its squared norm on leaves
    that nothing unknown moves: from the inputs and the outputs of a network towards its middle.
    """
    waiting = set(isometries(table, free))
    inner = {j for i in waiting & units.keys() for j in units[i].inner}
    heads = waiting - inner
    while heads:
        known = {i: _known_leaves(table, units, target, i, waiting) for i in heads}
        i = max(sorted(heads), key=lambda i: known[i][0])
        _, leaves = known[i]
        leaves = leaves or set(table.factors[i].leaves)
        if i in units:
            state = assign_units(table, units[i], target, state, leaves)
        else:
            factor = table.factors[i]
            pairs = pairs_of(factor, target, state.leaves, leaves)
            state = push(table, state, i, compact(factor, pairs))
        heads.discard(i)
        waiting -= {i, *(units[i].inner if i in units else ())}
    return state


def _known_leaves(table, units, target, i, waiting):
    """The leaves of a factor that no other unknown factor moves, and their part of its norm."""
    own = {i, *(units[i].inner if i in units else ())}
    size = lambda leaves: sum(np.sum(target[leaf] ** 2) for leaf in leaves)
    leaves = table.factors[i].leaves
    known = {
        leaf
        for leaf in leaves
        if not (set(table.touching(leaf)) - own) & waiting
        and not any((j, leaf) in table.twice for j in own)
    }
    return size(known) / max(size(leaves), 1e-300), known


def shuffled(table: Table, state: State, free: Sequence[int], random: np.random.Generator) -> State:
    """The state moved by a random permutation of every free factor that has one."""
    for i in free:
        factor = table.factors[i]
        if factor.kind == "permutation":
            h = random.permuted(factor.identity(), axis=1)
            state = push(table, state, i, h)
    return state

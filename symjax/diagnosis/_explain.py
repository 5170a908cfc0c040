"""Which leaves does no element explain? An element by the many leaves, whatever the few say.

The nearest model by least squares smears one wrong leaf over all others. So leaves are weighted by
how well they are explained, again and again, as in a regression that minimises absolute values;
what stays unexplained is left out, and the rest is asked anew whether one element explains it all.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..matching._match import fit
from ..matching._search import descend
from ..matching._state import State, start
from ..matching._table import Table
from ..matching._units import Units, find_units

SWEEPS = 40
ROUNDS = 8
MOST_SHARED = 3
"""With so many wrong leaves, others that would be as few are looked for: which moved is open."""

TRIFLE = 1e-3
"""A leaf that is this part of what it was in A, or less, is zero up to rounding."""

SILENT = 1e-5
"""The weight of a leaf that has no say: its square is lost beside 1, and it moves with the rest."""

CLOSE = 1e-10
MOST_RESTORED = 8
"""So many unexplained leaves are asked one by one whether another element explains them too."""


@dataclass(frozen=True)
class Explanation:
    """An element's state on A, and how far each leaf of B is from it.

    ``residuals`` are the largest differences of entries in units of the entry and the leaf's root
    mean square together; ``wrong`` are the leaves where that is more than their tolerance.
    """

    state: State
    residuals: dict[int, float]
    wrong: frozenset[int]


@dataclass(frozen=True)
class Problem:
    """Two models in float64 on the host, the table of their symmetries, and what rounding explains.

    ``tolerance`` has an entry for each floating leaf: those that are compared.
    """

    table: Table
    a: tuple[np.ndarray, ...]
    b: tuple[np.ndarray, ...]
    tolerance: Mapping[int, float]

    @functools.cached_property
    def norms(self) -> dict[int, float]:
        """The size of each leaf."""
        return {i: size * max(self.b[i].size, 1) ** 0.5 for i, size in self.sizes.items()}

    def gaps(self, leaves: Sequence[np.ndarray]) -> dict[int, float]:
        """The distance of each leaf of B from some leaves, in units of its size."""
        distance = lambda i: float(np.sqrt(np.sum((leaves[i] - self.b[i]) ** 2)))
        return {i: distance(i) / n for i, n in self.norms.items()}

    @functools.cached_property
    def units(self) -> Units:
        """The permutations of the table that carry a group of their own."""
        return find_units(self.table, list(range(len(self.table.factors))))

    def residuals(self, leaves: Sequence[np.ndarray]) -> dict[int, float]:
        """How far each floating leaf of B is from some leaves, see `Explanation`."""
        return {i: residual(leaves[i], self.b[i], self.sizes[i]) for i in self.tolerance}

    @functools.cached_property
    def sizes(self) -> dict[int, float]:
        """The size of an entry of each leaf: of B, or a trifle of A's where B's is zero."""
        mean = lambda x: float(np.sqrt(np.mean(x**2))) if x.size else 0.0
        return {i: max(mean(self.b[i]), TRIFLE * mean(self.a[i])) or 1.0 for i in self.tolerance}

    def explanation(self, state: State) -> Explanation:
        """What a state explains."""
        residuals = self.residuals(state.leaves)
        wrong = frozenset(i for i, r in residuals.items() if not r <= self.tolerance[i])
        return Explanation(state, residuals, wrong)


def residual(x: np.ndarray, y: np.ndarray, size: float | None = None) -> float:
    """The largest |x - y| of an entry, in units of |y| there and of the leaf's size."""
    if not y.size:
        return 0.0
    size = size or np.sqrt(np.mean(y**2)) or np.sqrt(np.mean(x**2)) or 1.0
    return float(np.max(np.abs(x - y) / (np.abs(y) + size)))


def explain(problem: Problem, random: np.random.Generator) -> list[Explanation]:
    """The explanations that leave the fewest leaves unexplained; several where they leave as few.

    The identity is among them, so no leaf is named that A and B share unless an element moves it.
    """
    same = problem.explanation(start(problem.table, problem.a))
    if not same.wrong or not problem.table.factors:
        return [same]
    one = _search(problem, random)
    if not one.wrong:
        return [one]
    found = [same, _by_gains(problem, _restored(problem, one, random), random)]
    fewest = min(len(one.wrong) for one in found)
    best = {one.wrong: one for one in found if len(one.wrong) == fewest}
    for others in _instead(problem.table, next(iter(best))) if fewest <= MOST_SHARED else ():
        out = dict.fromkeys(others, SILENT)
        for state in (next(iter(best.values())).state, None):
            one = problem.explanation(_solved(problem, state, out, random))
            if one.wrong == others:
                best.setdefault(one.wrong, one)
                break
    return list(best.values())


def _instead(table, wrong):
    """Sets of leaves, no more than the wrong ones, that share small factors with these."""
    rests = {frozenset(f.leaves) - wrong for f in table.factors if wrong <= set(f.leaves)}
    for leaf in wrong if len(wrong) > 1 else ():
        few = [
            set(f.leaves) - wrong for f in table.factors if leaf in f.leaves and len(f.leaves) < 4
        ]
        rests |= {wrong - {leaf} | {other} for rest in few for other in rest}
    return sorted((rest for rest in rests if 0 < len(rest) <= len(wrong)), key=sorted)


def _search(problem, random):
    """Weights by how well leaves are explained, until those that are not stand apart."""
    state = _solved(problem, None, {}, random)
    best = problem.explanation(state)
    tried = set()
    for turn in range(ROUNDS):
        if not best.wrong:
            return best
        gaps = problem.gaps(state.leaves)
        apart = _apart(gaps)
        if apart not in tried:
            tried.add(apart)
            weights = dict.fromkeys(apart, SILENT)
            one = problem.explanation(_solved(problem, state, weights, random))
            if one.wrong <= apart:
                return one
            best = min(best, one, key=_count)
        floor = max(max(gaps.values()) * 0.2 ** (turn + 1), 1e-7)
        least = min(max(gap, floor) for gap in gaps.values())
        weights = {i: max(least / max(gap, floor), SILENT) for i, gap in gaps.items()}
        state = _solved(problem, state, weights, random, sweeps=6)
        best = min(best, problem.explanation(state), key=_count)
    return _without(problem, best, random) if best.wrong else best


def _count(one):
    return len(one.wrong)


def _apart(gaps):
    """The leaves before the largest fall, when gaps are put in order; at most half of them."""
    order = sorted(gaps, key=lambda i: -gaps[i])
    sizes = [max(gaps[i], 1e-9) for i in order]
    most = max(len(order) // 2, 1)
    falls = [x / y for x, y in itertools.pairwise(sizes[: most + 1])]
    return frozenset(order[: int(np.argmax(falls)) + 1] if falls else order)


def _without(problem, best, random):
    """The explanation after its wrong leaves are left out, and any more that these hide."""
    out = best.wrong
    for given in (best.state, None, None):
        one = problem.explanation(_solved(problem, given, dict.fromkeys(out, SILENT), random))
        if len(one.wrong) < len(best.wrong):
            best = one
        if one.wrong <= out:
            break
        out = out | one.wrong
    return best


def _restored(problem, one, random):
    """The same with each leaf that was left out asked for once more."""
    if not 1 < len(one.wrong) <= MOST_RESTORED:
        return one
    for leaf in sorted(one.wrong):
        if leaf in one.wrong:
            out = dict.fromkeys(one.wrong - {leaf}, SILENT)
            other = problem.explanation(_solved(problem, one.state, out, random))
            if len(other.wrong) < len(one.wrong):
                one = other
    return one


def _by_gains(problem, one, random):
    """The same by a gain that is wrong, where leaves seem so that are only seen through it."""
    through: dict[int, set[int]] = {}
    for factor in problem.table.factors:
        for place in factor.places:
            for gain, _ in place.gains:
                through.setdefault(gain, set()).add(place.leaf)
    for gain, leaves in through.items():
        if 1 < len(one.wrong) and one.wrong <= leaves and gain in problem.tolerance:
            for lead in sorted(one.wrong):
                other = _without_gain(problem, one, gain, lead, random)
                if len(other.wrong) < len(one.wrong):
                    return other
    return one


def _without_gain(problem, one, gain, lead, random):
    """The explanation where a gain of B is what A's becomes, whatever it is.

    First one leaf alone says what that is: the others may have turned to fit the wrong one.
    """
    state, b = one.state, list(problem.b)
    own = [i for i, f in enumerate(problem.table.factors) if gain in f.leaves]
    for out in (one.wrong - {lead} | {gain}, {gain}):
        for free in (own, None) * 3:
            b[gain] = state.leaves[gain]
            here = replace(problem, b=tuple(b))
            weights = dict.fromkeys(out, SILENT)
            state = _solved(here, state, weights, random, sweeps=6, free=free)
    return problem.explanation(state)


def _solved(problem, state, weights, random, sweeps=SWEEPS, free=None):
    """The state moved to the nearest model, each leaf at its weight; from A anew without a state.

    All leaves count alike at weight 1, whatever their size, and hardly at all at ``SILENT``. They
    are multiplied by their weights: an element that is linear in a leaf does not see that.
    """
    factors = {i: weights.get(i, 1.0) / n for i, n in problem.norms.items()}
    table = weighted(problem.table, factors)
    scale = lambda xs, sign: tuple(
        x * factors[i] ** sign if i in factors else x for i, x in enumerate(xs)
    )
    target, every = scale(problem.b, 1), list(range(len(table.factors)))
    if state is None:
        begin = start(table, scale(problem.a, 1))
        given = fit(table, target, begin, every, list(factors), 0, random)[0]
    else:
        given = State(scale(state.leaves, 1), state.element)
    options = {"free": free or every, "isometric": False, "random": random, "sweeps": sweeps}
    given, _, _ = descend(
        table, problem.units if free is None else {}, target, given, same=CLOSE, **options
    )
    return State(scale(given.leaves, -1), given.element)


def weighted(table: Table, factors: Mapping[int, float]) -> Table:
    """The table of the leaves multiplied by numbers: what reads others divides by theirs."""

    def reading(one, leaf):
        return dataclasses.replace(one, scale=float(one.scale / factors.get(leaf, 1.0)))

    def place(p):
        return replace(p, gains=tuple((k, reading(g, k)) for k, g in p.gains))

    def step(s):
        others = tuple((k, reading(f, k)) for k, f in s.others)
        return replace(
            s, coefficient=float(s.coefficient * factors.get(s.leaf, 1.0)), others=others
        )

    new = tuple(
        replace(f, places=tuple(map(place, f.places)), steps=tuple(map(step, f.steps)))
        for f in table.factors
    )
    found = Table(new, table.shapes)
    found.__dict__["carriers"] = table.carriers  # which row goes where does not depend on numbers
    return found

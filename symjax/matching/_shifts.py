"""Translations on the host: what they add, and those that bring leaves nearest to others.

A shift adds L(w) v to the leaves, linear in its vector v for the leaves w that it reads and does
not move. The vectors of several shifts are found at once: what one adds to a bias another adds too,
and one after the other they would creep. The normal equations are solved by conjugate gradients.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ._places import Step, entries_of, part
from ._table import Factor

Leaves = Sequence[np.ndarray]
Vectors = dict[int, np.ndarray]
"""A vector for each of some factors, by their numbers."""


def add_shift(factor: Factor, v: np.ndarray, leaves: Leaves) -> list[np.ndarray]:
    """The leaves moved by a vector."""
    vector, moved = v.reshape(factor.sizes), list(leaves)
    for step in factor.steps:
        leaf = moved[step.leaf] = moved[step.leaf].copy()
        _Bound(step, factor.sizes, leaves).add(vector, leaf)
    return moved


def nearest_shifts(
    factors: Mapping[int, Factor],
    target: Leaves,
    leaves: Leaves,
    weights: Mapping[int, float] | None = None,
    *,
    steps: int = 1000,
) -> Vectors:
    """The vectors v, as (1, n), that minimise the sum over leaves of |weight (gap - sum L v)|^2.

    The gap is target - leaves. Of all such vectors about the least; shifts that one of them moves
    and another reads are taken as they are, which is right to first order.
    """
    bound = [(i, _Bound(s, f.sizes, leaves)) for i, f in factors.items() for s in f.steps]
    places = sorted({b.leaf for _, b in bound})
    weight = {p: 1.0 if weights is None else weights[p] for p in places}
    zero = {i: np.zeros(f.sizes) for i, f in factors.items()}

    sizes = _sizes(bound, zero, weight)

    def forward(y):
        moved = {p: np.zeros(leaves[p].shape) for p in places}
        for i, b in bound:
            b.add(weight[b.leaf] / sizes[i] * y[i], moved[b.leaf])
        return moved

    def pull(moved):
        total = dict(zero)
        for i, b in bound:
            total[i] = total[i] + weight[b.leaf] / sizes[i] * b.pull(moved[b.leaf])
        return total

    # On L itself, not on its normal equations (CGLS): ends at the rounding of what it is given,
    # before directions along which nothing moves come up.
    y, rest = zero, {p: weight[p] * (target[p] - leaves[p]) for p in places}
    direction = gradient = pull(rest)
    square, size, largest = _dot(gradient, gradient), _dot(rest, rest), 0.0
    for _ in range(steps):
        if square <= 1e-29 * largest * size or square == 0:
            break
        image = forward(direction)
        stretch = _dot(image, image)
        largest = max(largest, stretch / _dot(direction, direction))
        y, rest = (
            _axpy(square / stretch, direction, y),
            _axpy(-square / stretch, image, rest),
        )
        gradient = pull(rest)
        square, before = _dot(gradient, gradient), square
        direction = _axpy(square / before, direction, gradient)
    return {i: v.reshape(1, -1) / sizes[i] for i, v in y.items()}


def _sizes(bound, zero, weight):
    """About how much a unit vector of each factor moves, from one draw of signs."""
    random, total = np.random.default_rng(0), dict.fromkeys(zero, 0.0)
    signs = {i: random.choice([-1.0, 1.0], v.shape) for i, v in zero.items()}
    for i, b in bound:
        added, out = b.forward(signs[i]), b.spread
        total[i] += weight[b.leaf] ** 2 * np.sum(added**2) * out / max(signs[i].size, 1)
    return {i: max(t, 1e-300) ** 0.5 for i, t in total.items()}


def _dot(x, y):
    return sum(float(np.vdot(x[i], y[i])) for i in x)


def _axpy(a, x, y):
    return {i: a * x[i] + y[i] for i in x}


class _Bound:
    """A step at given leaves: it adds coefficient * einsum(vector, matrix -> kept)."""

    def __init__(self, step: Step, sizes: Sequence[int], leaves: Leaves):
        self.leaf, self.vector, self.coefficient = step.leaf, list(step.vector), step.coefficient
        self.kept = [name for name in step.out if name is not None]
        self.rest = tuple(i for i, name in enumerate(step.out) if name is None)
        self.at, self.shape = entries_of(leaves[step.leaf], step.block)
        self.thin = tuple(1 if i in self.rest else n for i, n in enumerate(self.shape))
        self.spread = math.prod(self.shape) // math.prod(self.thin)
        # Axes of the vector that are summed and that nothing else has meet a one.
        known = set(self.kept).union(*(f.names for _, f in step.others))
        lone = {n: s for s, n in zip(sizes, step.vector, strict=True) if n not in known}
        operands = [np.ones(tuple(lone.values())), list(lone)]
        for leaf, factor in step.others:
            entries = part(leaves[leaf], factor.block)
            operands += [factor.raised(entries), list(factor.names)]
        ends = dict.fromkeys([*step.vector, *self.kept])
        self.names = [n for n in ends if any(n in o for o in operands[1::2])]
        self.matrix = np.einsum(*operands, self.names, optimize=len(step.others) > 1)

    def forward(self, vector: np.ndarray) -> np.ndarray:
        """L v on a part of a leaf, with axes of size one where the same is added everywhere."""
        added = np.einsum(vector, self.vector, self.matrix, self.names, self.kept)
        return self.coefficient * added.reshape(self.thin)

    def add(self, vector: np.ndarray, leaf: np.ndarray) -> None:
        """Add L v to a leaf, in place."""
        moved = leaf[self.at]
        leaf[self.at] = (moved.reshape(self.shape) + self.forward(vector)).reshape(moved.shape)

    def pull(self, leaf: np.ndarray) -> np.ndarray:
        """L^T of what the part of a leaf holds."""
        gap = leaf[self.at].reshape(self.shape).sum(axis=self.rest)
        operands = gap, self.kept, self.matrix, self.names
        return self.coefficient * np.einsum(*operands, self.vector)

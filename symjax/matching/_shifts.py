"""Translations on the host: what they add, and those that bring leaves nearest to others.

A shift adds L(w) v to the leaves, linear in its vector v for the leaves w that it reads and does
not move. The vectors of several shifts are found at once: what one adds to a bias another adds too,
and one after the other they would creep. The normal equations are solved by conjugate gradients.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ._places import Step, part, put
from ._table import Factor

Leaves = Sequence[np.ndarray]
Vectors = dict[int, np.ndarray]
"""A vector for each of some factors, by their numbers."""


def add_shift(factor: Factor, v: np.ndarray, leaves: Leaves) -> list[np.ndarray]:
    """The leaves moved by a vector."""
    vector, moved = v.reshape(factor.sizes), list(leaves)
    for step in factor.steps:
        leaf = moved[step.leaf]
        new = part(leaf, step.block) + _Bound(step, factor.sizes, leaves).forward(vector)
        moved[step.leaf] = put(leaf, step.block, new)
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
    places = sorted({b.step.leaf for _, b in bound})
    weight = {p: 1.0 if weights is None else weights[p] for p in places}
    zero = {i: np.zeros(f.sizes) for i, f in factors.items()}

    sizes = _sizes(bound, zero, weight)

    def forward(y):
        moved = {p: np.zeros(leaves[p].shape) for p in places}
        for i, b in bound:
            p, block = b.step.leaf, b.step.block
            new = part(moved[p], block) + weight[p] / sizes[i] * b.forward(y[i])
            moved[p] = put(moved[p], block, new)
        return moved

    def pull(moved):
        total = dict(zero)
        for i, b in bound:
            p = b.step.leaf
            total[i] = total[i] + weight[p] / sizes[i] * b.pull(part(moved[p], b.step.block))
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
        total[i] += weight[b.step.leaf] ** 2 * np.sum(added**2) * out / max(signs[i].size, 1)
    return {i: max(t, 1e-300) ** 0.5 for i, t in total.items()}


def _dot(x, y):
    return sum(float(np.vdot(x[i], y[i])) for i in x)


def _axpy(a, x, y):
    return {i: a * x[i] + y[i] for i in x}


class _Bound:
    """A step at given leaves: it adds coefficient * einsum(vector, matrix -> kept)."""

    def __init__(self, step: Step, sizes: Sequence[int], leaves: Leaves):
        self.step = step
        self.kept = [name for name in step.out if name is not None]
        self.rest = tuple(i for i, name in enumerate(step.out) if name is None)
        shape = part(leaves[step.leaf], step.block).shape
        self.spread = int(np.prod([shape[i] for i in self.rest]))
        # Axes of the vector that are summed and that nothing else has meet a one.
        known = set(self.kept).union(*(f.names for _, f in step.others))
        lone = {n: s for s, n in zip(sizes, step.vector, strict=True) if n not in known}
        operands = [np.ones(tuple(lone.values())), list(lone)]
        for leaf, factor in step.others:
            entries = part(leaves[leaf], factor.block)
            operands += [factor.raised(entries), list(factor.names)]
        ends = dict.fromkeys([*step.vector, *self.kept])
        self.names = [n for n in ends if any(n in o for o in operands[1::2])]
        self.matrix = np.einsum(*operands, self.names, optimize=True)

    def forward(self, vector: np.ndarray) -> np.ndarray:
        """L v on a part of a leaf, with axes of size one where the same is added everywhere."""
        added = np.einsum(vector, list(self.step.vector), self.matrix, self.names, self.kept)
        return self.step.coefficient * np.expand_dims(added, self.rest)

    def pull(self, gap: np.ndarray) -> np.ndarray:
        """L^T of what the part holds."""
        operands = gap.sum(axis=self.rest), self.kept, self.matrix, self.names
        return self.step.coefficient * np.einsum(*operands, list(self.step.vector))

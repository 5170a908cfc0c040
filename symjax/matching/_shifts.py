"""Translations on the host: what they add, and the one that brings leaves nearest to others.

A shift adds L(w) v to the leaves, linear in its vector v for the leaves w that it reads and does
not move. L and its transpose are contractions; the normal equations are solved by conjugate
gradients, exact after as many steps as the normal matrix has distinct eigenvalues.
"""

from collections.abc import Sequence

import numpy as np

from ._table import Factor, Step, part, put

Leaves = Sequence[np.ndarray]


def add_shift(factor: Factor, v: np.ndarray, leaves: Leaves) -> list[np.ndarray]:
    """The leaves moved by a vector."""
    vector, moved = v.reshape(factor.sizes), list(leaves)
    for step in factor.steps:
        leaf = moved[step.leaf]
        new = part(leaf, step.block) + _forward(step, vector, leaves)
        moved[step.leaf] = put(leaf, step.block, new)
    return moved


def nearest_shift(factor: Factor, target: Leaves, leaves: Leaves) -> np.ndarray:
    """The vector v of least norm that minimises |target - leaves - L v|, as (1, n)."""
    normal = lambda v: _pull(factor, [_forward(s, v, leaves) for s in factor.steps], leaves)
    gaps = [part(target[s.leaf] - leaves[s.leaf], s.block) for s in factor.steps]
    residual = _pull(factor, gaps, leaves)
    v, direction, square = np.zeros(factor.sizes), residual, np.sum(residual**2)
    enough = 1e-28 * square
    for _ in range(2 * residual.size + 10):
        if square <= enough:
            break
        image = normal(direction)
        along = np.sum(direction * image)
        if along <= 0:
            break
        v = v + square / along * direction
        residual = residual - square / along * image
        square, before = np.sum(residual**2), square
        direction = residual + square / before * direction
    return v.reshape(1, -1)


def _operands(step, leaves):
    for leaf, block, names, power in step.others:
        yield from (part(leaves[leaf], block) ** power, list(names))


def _forward(step: Step, vector, leaves):
    """L v on one part of a leaf, with axes of size one where the same is added everywhere."""
    kept = [name for name in step.out if name is not None]
    added = np.einsum(vector, list(step.vector), *_operands(step, leaves), kept)
    rest = tuple(i for i, name in enumerate(step.out) if name is None)
    return step.coefficient * np.expand_dims(added, rest)


def _pull(factor, gaps, leaves):
    """L^T on one array for each step; a part that a step fills evenly counts with its size."""
    total = np.zeros(factor.sizes)
    for step, gap in zip(factor.steps, gaps, strict=True):
        full = np.broadcast_to(gap, part(leaves[step.leaf], step.block).shape)
        rest = tuple(i for i, name in enumerate(step.out) if name is None)
        kept = [name for name in step.out if name is not None]
        operands = [full.sum(axis=rest), kept, *_operands(step, leaves)]
        known = set(kept).union(*(o[2] for o in step.others))
        for size, name in zip(factor.sizes, step.vector, strict=True):
            if name not in known:
                operands += [np.ones(size), [name]]
        total += step.coefficient * np.einsum(*operands, list(step.vector))
    return total

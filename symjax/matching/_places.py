"""Where a factor acts: places (parts of leaves, seen as matrices) and the steps of translations."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..actions import Block, Factor, Gain
from ..groups import Representation, power_of

Leaves: TypeAlias = Sequence[np.ndarray] | Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Place:
    """Where a factor acts on a leaf: which part, along which axes of it, and how.

    ``mirror`` is for a group that fixes the vector of ones: rows are then seen in a basis whose
    first vector is the ones, and without that first row. ``gains`` are (leaf, `Gain`) pairs: rows
    are seen divided by them.
    """

    leaf: int
    axes: tuple[int, ...]
    representation: Representation
    count: int = 1
    block: Block | None = None
    mirror: bool = False
    gains: tuple[tuple[int, Gain], ...] = ()

    @property
    def power(self) -> float:
        """The power of a scale; 1 for a vector and -1 for a covector."""
        return power_of(self.representation)

    def size(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """How many entries it holds, given the shapes of the leaves."""
        return math.prod(shapes[self.leaf] if self.block is None else self.block.shape)

    def unfold(self, leaves: Leaves) -> np.ndarray:
        """What moves, as (fibres, n, k)."""
        x = self._rows(leaves)
        return reflect_ones(x)[:, 1:] if self.mirror else x

    def fold(self, x: np.ndarray, leaves: Leaves) -> np.ndarray:
        """The leaf with new values where it moves."""
        if self.mirror:
            x = reflect_ones(np.concatenate([reflect_ones(self._rows(leaves))[:, :1], x], axis=1))
        if self.gains:
            x = x * self._diagonal(leaves)
        leaf = leaves[self.leaf]
        shape = part(leaf, self.block).shape
        axes = [a % len(shape) for a in self.axes]
        rest = [n for a, n in enumerate(shape) if a not in axes]
        front = x.reshape((*(shape[a] for a in axes), *rest))
        return put(leaf, self.block, np.moveaxis(front, range(len(axes)), axes))

    def _rows(self, leaves):
        moved = part(leaves[self.leaf], self.block)
        front = np.moveaxis(moved, self.axes, range(len(self.axes)))
        rows = math.prod(moved.shape[a] for a in self.axes)
        x = front.reshape(self.count, rows // self.count, -1)
        return x / self._diagonal(leaves) if self.gains else x

    def _diagonal(self, leaves):
        """The product of the gains for every entry of what moves, as `Gain` spreads them."""
        shape = part(leaves[self.leaf], self.block).shape
        total = np.ones(shape)
        for leaf, gain in self.gains:
            entries = part(leaves[leaf], gain.block)
            axes = [a % len(shape) for a in gain.axes]
            entries = entries.transpose(np.argsort(axes))
            spread = entries.reshape([n if i in axes else 1 for i, n in enumerate(shape)])
            total = total * (gain.scale * spread + gain.offset) ** gain.power
        front = np.moveaxis(total, self.axes, range(len(self.axes)))
        rows = math.prod(shape[a] for a in self.axes)
        return front.reshape(self.count, rows // self.count, -1)


@dataclass(frozen=True)
class Step:
    """What a shift adds to a part of a leaf: coefficient times an einsum with other leaves."""

    leaf: int
    block: Block | None
    vector: tuple[int, ...]
    out: tuple[int | None, ...]
    coefficient: float
    others: tuple[tuple[int, Factor], ...] = ()


def entries_of(leaf: np.ndarray, block: Block | None) -> tuple[Any, tuple[int, ...]]:
    """The index of the entries that a block holds (all without one), and the shape it has."""
    return (..., leaf.shape) if block is None else (index_of(block), block.shape)


def index_of(block: Block) -> tuple[np.ndarray, ...]:
    """The numbers of a block along every axis, as `numpy.ix_` makes an index of them."""
    return _numbers(block.starts, block.parts)


def part(leaf: np.ndarray, block: Block | None) -> np.ndarray:
    """The part of a leaf that a block is, or the leaf."""
    at, shape = entries_of(leaf, block)
    return leaf[at].reshape(shape)


def put(leaf: np.ndarray, block: Block | None, new: np.ndarray) -> np.ndarray:
    """The leaf with its part replaced."""
    leaf, (at, _) = leaf.copy(), entries_of(leaf, block)
    leaf[at] = new.reshape(leaf[at].shape)
    return leaf


def overlap(p: Place, q: Place) -> bool:
    """Whether two places share an entry of a leaf."""
    if p.leaf != q.leaf or p.block is None or q.block is None:
        return p.leaf == q.leaf
    rows = zip(index_of(p.block), index_of(q.block), strict=True)
    return all(np.isin(x, y).any() for x, y in rows)


@functools.lru_cache(maxsize=4096)
def _numbers(starts, parts):
    rows = []
    for start, sizes in zip(starts, parts, strict=True):
        row = np.array(start)
        for size, stride in sizes:
            row = row[..., None] + stride * np.arange(size)
        rows.append(row.reshape(-1))
    return np.ix_(*rows)


def reflect_ones(x: np.ndarray) -> np.ndarray:
    """The reflection that exchanges the first unit vector with ones / sqrt(n), along axis 1."""
    n = x.shape[1]
    mirror = np.full(n, -(n**-0.5))
    mirror[0] += 1
    return x - 2 / (mirror @ mirror) * mirror[:, None] * (mirror @ x)[:, None]

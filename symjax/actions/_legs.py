"""Legs: the places of a leaf that a group element touches, as data."""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..groups import Representation


class Block(eqx.Module):
    """Part of an array, seen as an array of its own: per axis an offset, sizes and strides.

    The entry (i_1, i_2, ...) of an axis' part lies at offset + sum_k stride_k i_k, so an axis of
    n heads of d entries, or every other entry of it, is one row of sizes and strides. ``starts``
    has an offset per axis of the array, ``parts`` its pairs (size, stride), the slowest first.
    """

    starts: tuple[int, ...] = eqx.field(static=True)
    parts: tuple[tuple[tuple[int, int], ...], ...] = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the part."""
        return tuple(size for part in self.parts for size, _ in part)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of a shape has such a part."""
        last = [
            start + sum((size - 1) * stride for size, stride in part)
            for start, part in zip(self.starts, self.parts, strict=True)
        ]
        return len(shape) == len(last) and all(e < n for e, n in zip(last, shape, strict=True))

    def indices(self) -> list[np.ndarray]:
        """For each axis the indices of the array that the part has, in its order."""
        rows = []
        for start, part in zip(self.starts, self.parts, strict=True):
            row = np.array(start)
            for size, stride in part:
                row = row[..., None] + stride * np.arange(size)
            rows.append(row.reshape(-1))
        return rows

    def _slices(self, shape):
        """Per axis a slice where the entries are consecutive (or all), else their numbers."""
        rows = []
        for row in self.indices():
            consecutive = bool(np.all(np.diff(row) == 1))
            rows.append(slice(int(row[0]), int(row[-1]) + 1) if consecutive else row)
        whole = [
            isinstance(r, slice) and r == slice(0, n) for r, n in zip(rows, shape, strict=True)
        ]
        return rows, all(whole)

    def read(self, array: Array | np.ndarray) -> Any:
        """The part of an array."""
        rows, whole = self._slices(array.shape)
        if not whole:
            for axis, row in enumerate(rows):
                array = (
                    jax.lax.slice_in_dim(array, row.start, row.stop, axis=axis)
                    if isinstance(row, slice)
                    else jnp.take(array, row, axis=axis)
                )
        return array.reshape(self.shape)

    def write(self, array: Array | np.ndarray, part: Array) -> Any:
        """The array with its part replaced."""
        rows, whole = self._slices(array.shape)
        if whole:
            return part.reshape(array.shape)
        sizes = [r.stop - r.start if isinstance(r, slice) else len(r) for r in rows]
        part = part.reshape(sizes).astype(array.dtype)
        if all(isinstance(r, slice) for r in rows):
            return _joined(array, rows, part)
        return jnp.asarray(array).at[np.ix_(*self.indices())].set(part)


def _joined(array, rows, part):
    """The array with the entries of one slice per axis replaced, by concatenation.

    Not ``array.at[rows].set(part)``: where part is a permutation of array[rows], XLA on CPU (jax
    0.9.0.1 to 0.12.0.1) overwrites in place, inside of a loop, what the gather has still to read.
    """
    for axis in reversed(range(array.ndim)):
        start, stop, size = rows[axis].start, rows[axis].stop, array.shape[axis]
        if stop - start < size:
            around = array[tuple(rows[:axis])]
            before = jax.lax.slice_in_dim(around, 0, start, axis=axis)
            after = jax.lax.slice_in_dim(around, stop, size, axis=axis)
            part = jnp.concatenate([before, part, after], axis)
    return part


def part_of(array: Any, block: Block | None) -> Any:
    """The part of an array that a block is, or the array."""
    return array if block is None else block.read(array)


class Gain(eqx.Module):
    """A vector of parameters that conjugates a leg: (scale * leaf + offset) ** power.

    ``axes`` says along which axes of what the leg moves part of (the leaf, or its block) the
    entries run: the moved axis, and others where there is a vector for each of their indices.
    """

    leaf: str | int = eqx.field(static=True)
    block: Block | None = eqx.field(static=True, default=None)
    axes: tuple[int, ...] = eqx.field(static=True, default=(0,))
    power: int = eqx.field(static=True, default=1)
    scale: float = eqx.field(static=True, default=1.0)
    offset: float = eqx.field(static=True, default=0.0)

    def values(self, leaf: Array, shape: tuple[int, ...]) -> Array:
        """The factors of an array of a shape, with axes of size one where they do not vary."""
        entries = part_of(leaf, self.block)
        axes = [a % len(shape) for a in self.axes]
        entries = entries.transpose(sorted(range(len(axes)), key=lambda i: axes[i]))
        spread = entries.reshape([n if i in axes else 1 for i, n in enumerate(shape)])
        return (self.scale * spread + self.offset) ** self.power


class Leg(eqx.Module):
    """One place that a group element touches: an axis of a leaf, and how it moves there.

    ``leaf`` names a leaf by its path (``"layers/0/weight"``) or by its position in the flattened
    parameters (negative counts from the end). ``axis`` None moves the whole leaf and is for a
    scalar scaling; a tuple of axes moves them as one, the first being the slowest (heads and the
    entries of a head, for a `symjax.Power`). ``factor`` is the index of the group in a product.
    Where only part of the leaf moves, or an axis is to be seen as several, ``block`` says which,
    and the axes are those of the block. ``gains`` conjugate: x -> D g D^-1 x with the diagonal D of
    their product, which must have no zero.
    """

    leaf: str | int = eqx.field(static=True)
    axis: int | tuple[int, ...] | None = eqx.field(static=True, default=0)
    representation: Representation = eqx.field(static=True, default="vector")
    factor: int = eqx.field(static=True, default=0)
    block: Block | None = eqx.field(static=True, default=None)
    gains: tuple[Gain, ...] = eqx.field(static=True, default=())

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that move, as a tuple."""
        if self.axis is None:
            return ()
        return self.axis if isinstance(self.axis, tuple) else (self.axis,)

    def rows(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes of the axes that move, in a leaf of the given shape."""
        inner = shape if self.block is None else self.block.shape
        return tuple(inner[a] for a in self.axes)

    def read(self, leaf: Array | np.ndarray) -> Any:
        """What moves, as a matrix: a row per index of the axes."""
        return self._matrix(part_of(leaf, self.block))

    def _matrix(self, part):
        if self.axis is None:
            return part.reshape(1, -1)
        front = jnp.moveaxis(part, self.axes, range(len(self.axes)))
        return front.reshape(int(np.prod([part.shape[a] for a in self.axes])), -1)

    def diagonal(self, leaf: Array, gains: Sequence[Array]) -> Array:
        """The product of the gains, given their leaves, for every entry of what moves."""
        shape = leaf.shape if self.block is None else self.block.shape
        factors = [g.values(x, shape) for g, x in zip(self.gains, gains, strict=True)]
        whole = functools.reduce(jnp.multiply, factors)
        moved = [a % len(shape) for a in self.axes]
        beside = any(n != 1 for a, n in enumerate(whole.shape) if a not in moved)
        # The other columns are only filled in where they differ.
        full = [n if beside or a in moved else 1 for a, n in enumerate(shape)]
        return self._matrix(jnp.broadcast_to(whole, full))

    def write(self, leaf: Array | np.ndarray, moved: Array) -> Array:
        """The leaf with what moves replaced."""
        shape = leaf.shape if self.block is None else self.block.shape
        if self.axis is None:
            part = moved.reshape(shape)
        else:
            axes = [a % len(shape) for a in self.axes]
            rest = [n for a, n in enumerate(shape) if a not in axes]
            front = moved.reshape(*(shape[a] for a in axes), *rest)
            part = jnp.moveaxis(front, range(len(axes)), axes)
        return part if self.block is None else self.block.write(leaf, part)

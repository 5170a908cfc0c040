"""Values: what an array of the model is made of, block by block.

Every axis of a value is cut into segments; a block is one choice of a segment per axis. A block
knows its tensor of the graph, and for each index of the tensor the *place* where it runs: a pair
(axis, slot of the segment). A slot that no index runs along is uniform there. Indices of enclosing
loops have places of their own, ``("loop", number)``.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._graph import Tensor, unite
from ._layout import (
    Axis,
    NeedsRefinement,
    Refinements,
    Segment,
    Unsupported,
    align,
    free_axis,
    merge_segments,
    refine_together,
    split_segment,
    take_range,
)

Place = tuple[Any, ...]
Cell = tuple[int, ...]
Term = tuple[Tensor, tuple[Place, ...]]  # a tensor with a name for each index


@dataclass(frozen=True)
class Value:
    """An array: its axes and the term of every cell."""

    axes: tuple[Axis, ...]
    blocks: dict[Cell, Term]
    dtype: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(axis.size for axis in self.axes)

    @property
    def has_params(self) -> bool:
        """Whether any entry depends on the parameters."""
        return any(t.has_params for t, _ in self.blocks.values())


def cells(axes: Sequence[Axis]) -> Iterator[Cell]:
    """Every choice of one segment per axis."""
    return itertools.product(*(range(len(axis.segments)) for axis in axes))


def rename(term: Term, name: Callable[[Place], Place]) -> Term:
    """A term with other names for its indices; names of loops stay."""
    tensor, places = term
    return tensor, tuple(p if p[0] == "loop" else name(p) for p in places)


def rearrange(value: Value, axes: Sequence[int], extra: dict[int, Axis]) -> Value:
    """The axes in another order; ``extra`` maps places of the result to new free axes."""
    rank = len(axes) + len(extra)
    rest = iter(axes)
    source = [None if i in extra else next(rest) for i in range(rank)]
    where = {a: i for i, a in enumerate(source) if a is not None}
    new_axes = tuple(extra[i] if a is None else value.axes[a] for i, a in enumerate(source))
    blocks = {
        tuple(0 if a is None else cell[a] for a in source): rename(
            term, lambda p: (where[p[0]], p[1])
        )
        for cell, term in value.blocks.items()
    }
    return Value(new_axes, blocks, value.dtype)


def squeeze(value: Value, axes: Iterable[int]) -> Value:
    """Drop axes of size one."""
    gone = {a % len(value.axes) for a in axes}
    return rearrange(value, [i for i in range(len(value.axes)) if i not in gone], {})


def broadcast(value: Value, shape: Sequence[int], dimensions: Sequence[int]) -> Value:
    """lax.broadcast_in_dim."""
    stretched = {
        out: free_axis(shape[out])
        for a, out in enumerate(dimensions)
        if value.axes[a].size == 1 and shape[out] != 1
    }
    kept = [a for a, out in enumerate(dimensions) if out not in stretched]
    extra = {i: free_axis(n) for i, n in enumerate(shape) if i not in dimensions} | stretched
    value = squeeze(value, set(range(len(value.axes))) - set(kept)) if stretched else value
    return rearrange(value, range(len(kept)), extra)


def take(
    value: Value, axis: int, start: int, stop: int, step: int, refinements: Refinements
) -> Value:
    """value[..., start:stop:step, ...] along one axis."""
    old = value.axes[axis]
    length = -(-(stop - start) // step)
    if length == old.size:
        return value
    if old.free:
        return _with_axis(value, axis, free_axis(length), {0: 0})
    chosen = take_range(old, start, stop, step, refinements)
    new = Axis(length, tuple(s for _, s in chosen), free=length == 1)
    return _with_axis(value, axis, new, {n: i for i, (n, _) in enumerate(chosen)})


def _with_axis(value, axis, new, numbers):
    blocks = {
        (*cell[:axis], numbers[cell[axis]], *cell[axis + 1 :]): term
        for cell, term in value.blocks.items()
        if cell[axis] in numbers
    }
    return Value((*value.axes[:axis], new, *value.axes[axis + 1 :]), blocks, value.dtype)


def aligned(values: Sequence[Value], refinements: Refinements) -> tuple[Axis, ...]:
    """Axes for values of one shape whose entries correspond."""
    axes = []
    for group in zip(*(v.axes for v in values), strict=True):
        axis = group[0]
        for other in group[1:]:
            axis = align(axis, other, refinements)
        axes.append(axis)
    return tuple(axes)


def block_at(value: Value, axes: Sequence[Axis], cell: Cell) -> Term:
    """The term of a value where aligned axes have a cell."""
    own = []
    for mine, axis, i in zip(value.axes, axes, cell, strict=True):
        if mine.free:
            own.append(0)
        elif mine is axis:
            own.append(i)
        else:
            own.append(mine.geometry.index(axis.segments[i].geometry))
    return value.blocks[tuple(own)]


def concatenate(
    values: Sequence[Value], axis: int, fresh: Callable[[int, int], Axis], refinements: Refinements
) -> Value:
    """lax.concatenate; ``fresh(i, size)`` makes index sets for operands uniform along the axis."""
    rest = [Value(_drop(v.axes, axis), {}, v.dtype) for v in values]
    other = aligned(rest, refinements)
    segments, blocks, offset = [], {}, 0
    for i, value in enumerate(values):
        own = value.axes[axis]
        parts = fresh(i, own.size).segments if own.free else own.segments
        for number, part in enumerate(parts):
            for cell in cells(other):
                full = (*cell[:axis], len(segments), *cell[axis:])
                axes = (*other[:axis], own, *other[axis:])
                at = (*cell[:axis], 0 if own.free else number, *cell[axis:])
                blocks[full] = block_at(value, axes, at)
            segments.append(Segment(part.offset + offset, part.slots))
        offset += own.size
    new = Axis(offset, tuple(segments))
    return Value((*other[:axis], new, *other[axis:]), blocks, values[0].dtype)


def _drop(items, at):
    return (*items[:at], *items[at + 1 :])


def reshape(value: Value, shape: Sequence[int], refinements: Refinements) -> Value:
    """lax.reshape in row-major order."""
    old = [i for i, n in enumerate(value.shape) if n != 1]
    value = rearrange(value, old, {})
    target = [n for n in shape if n != 1]
    at = 0
    for first, count in _groups(value.shape, target):
        while len(value.axes) > at + 1 and first > 1:
            value, first = _merge(value, at), first - 1
        for n in count[:0:-1]:
            value = _split(value, at, n, refinements)
        at += len(count)
    extra = {i: free_axis(1) for i, n in enumerate(shape) if n == 1}
    return rearrange(value, range(len(target)), extra)


def _groups(old, new):
    """Runs of axes whose sizes have the same product: (how many old ones, the new sizes)."""
    i = j = 0
    while i < len(old) or j < len(new):
        a, b, count, sizes = old[i], new[j], 1, [new[j]]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i, count = a * old[i], i + 1, count + 1
            else:
                b, j = b * new[j], j + 1
                sizes.append(new[j - 1])
        yield count, sizes


def _merge(value, at):
    """Join the axes at ``at`` and ``at + 1``."""
    first, second = value.axes[at], value.axes[at + 1]
    if first.free and second.free:
        axis = free_axis(first.size * second.size)
    else:
        pairs = itertools.product(first.segments, second.segments)
        axis = Axis(
            first.size * second.size, tuple(merge_segments(a, b, second.size) for a, b in pairs)
        )
    blocks = {}
    for cell, term in value.blocks.items():
        shift = len(first.segments[cell[at]].slots)

        def name(p, shift=shift):
            if p[0] == at + 1:
                return (at, p[1] + shift)
            return (p[0] - 1, p[1]) if p[0] > at + 1 else p

        number = cell[at] * len(second.segments) + cell[at + 1]
        number = 0 if axis.free else number
        blocks[(*cell[:at], number, *cell[at + 2 :])] = rename(term, name)
    return Value((*value.axes[:at], axis, *value.axes[at + 2 :]), blocks, value.dtype)


def _split(value, at, inner, refinements):
    """Split the axis at ``at`` into (n / inner, inner)."""
    axis = value.axes[at]
    if axis.free:
        pair = free_axis(axis.size // inner), free_axis(inner)
        blocks = {
            (*cell[:at], 0, 0, *cell[at + 1 :]): rename(term, lambda p: (p[0] + (p[0] > at), p[1]))
            for cell, term in value.blocks.items()
        }
        return Value((*value.axes[:at], *pair, *value.axes[at + 1 :]), blocks, value.dtype)
    outers, inners, numbers, lengths = [], [], {}, {}
    waiting = None
    for i, segment in enumerate(axis.segments):
        try:
            a, b = split_segment(segment, inner, refinements)
        except NeedsRefinement as error:
            waiting = error
            continue
        numbers[i] = _number(outers, a), _number(inners, b)
        lengths[i] = len(a.slots)
    if waiting:
        raise waiting
    if len(outers) * len(inners) != len(axis.segments):
        _separate([outers, inners], refinements)
    blocks = {}
    for cell, term in value.blocks.items():
        shift = lengths[cell[at]]

        def name(p, shift=shift):
            if p[0] == at:
                return p if p[1] < shift else (at + 1, p[1] - shift)
            return (p[0] + 1, p[1]) if p[0] > at else p

        blocks[(*cell[:at], *numbers[cell[at]], *cell[at + 1 :])] = rename(term, name)
    pair = (
        Axis(axis.size // inner, tuple(outers), axis.size == inner),
        Axis(inner, tuple(inners), inner == 1),
    )
    return Value((*value.axes[:at], *pair, *value.axes[at + 1 :]), blocks, value.dtype)


def _separate(groups, refinements):
    """Ask for one layout where different layouts of the same entries came together."""
    for segments in groups:
        for a, b in itertools.combinations(segments, 2):
            try:
                refine_together((a,), (b,), refinements)
            except Unsupported:
                continue
            raise NeedsRefinement
    raise Unsupported


def _number(segments, segment):
    """The number of a segment with this geometry, whose index sets become the same."""
    for i, other in enumerate(segments):
        if other.geometry == segment.geometry:
            for (x, _), (y, _) in zip(other.slots, segment.slots, strict=True):
                unite(x, y)
            return i
    segments.append(segment)
    return len(segments) - 1


def uniform_axes(array: np.ndarray) -> list[int]:
    """The axes along which an array does not vary."""
    if array.size == 0:
        return list(range(array.ndim))
    same = []
    for i in range(array.ndim):
        first = np.take(array, [0], axis=i)
        # Most arrays that vary do so at once: a look at two slices saves comparing all.
        last = np.take(array, [-1], axis=i)
        if array.shape[i] == 1 or bool(np.all(last == first) and np.all(array == first)):
            same.append(i)
    return same

"""Rules of lookups: what whole numbers name is read.

Axes that are taken whole are carried along, whatever the numbers are, so what acts alike on them
passes. Where one array of numbers names the rows of a table, the rows are followed one by one
(the kind ``gather``); with several, or with windows, entries only mix along the axes they point to.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.lax import GatherScatterMode

from . import _terms as terms
from ._layout import Unsupported, align, free_axis
from ._names import same_entries
from ._ranges import range_of
from ._reader import Reader, rule
from ._rules_elementwise import MOST_PIECES
from ._rules_shape import mix
from ._values import (
    Value,
    block_at,
    broadcast,
    cells,
    concatenate,
    rearrange,
    rename,
    reshape,
    squeeze,
    take,
)


@dataclass(frozen=True)
class Pointers:
    """The numbers of a lookup: for each axis that they point to a value of the batch's shape.

    ``shared`` has, for axes of the table that are batches of the numbers as well, which one.
    """

    starts: dict[int, Any]
    shared: dict[int, int]
    shape: tuple[int, ...]

    def lifted(self, reader: Reader) -> dict[int, Value]:
        """The numbers as values."""
        return {a: reader.lift(v) for a, v in self.starts.items()}


def pointers(reader, index, pointed, shared, needed):
    """The numbers of an index array, whose last axis runs over the axes that they point to."""
    starts = {}
    for i, a in enumerate(pointed):
        if not needed(a):
            continue
        if isinstance(index, Value):
            last = len(index.axes) - 1
            part = take(index, last, i, i + 1, 1, reader.refinements)
            starts[a] = squeeze(part, [last])
        else:
            starts[a] = np.asarray(index)[..., i]
    return Pointers(starts, shared, tuple(index.shape[:-1]))


# -- lookups ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lookup:
    """An array, what of each of its axes is taken, and where that stands in the output.

    ``window``: of axes that are kept their places; ``batch``: the places of the batch's axes.
    """

    x: Value
    sizes: dict[int, int]
    window: dict[int, int]
    batch: tuple[int, ...]
    rank: int


@rule("gather")
def _gather(reader, equation, x, index):
    x, d = reader.lift(x), equation.params["dimension_numbers"]
    sizes = dict(enumerate(map(int, equation.params["slice_sizes"])))
    gone = {*d.collapsed_slice_dims, *d.operand_batching_dims}
    offset = iter(map(int, d.offset_dims))
    window = {a: next(offset) for a in range(len(x.axes)) if a not in gone}
    shared = dict(
        zip(map(int, d.operand_batching_dims), d.start_indices_batching_dims, strict=True)
    )
    rank = len(equation.outvars[0].aval.shape)
    batch = tuple(i for i in range(rank) if i not in d.offset_dims)
    filling = _filling(equation)
    # Of an axis that is taken whole the number can only be 0, unless what is not there is filled.
    needed = lambda a: sizes[a] != x.shape[a] or filling is not None
    at = pointers(reader, index, tuple(map(int, d.start_index_map)), shared, needed)
    for a, n in sizes.items():
        number = _only(at.starts[a], x.shape[a] - n) if a in at.starts else 0
        if number is not None and a not in shared:
            at.starts.pop(a, None)
            x = take(x, a, number, number + n, 1, reader.refinements)
    dropped = [a for a in d.collapsed_slice_dims if a not in at.starts]
    kept = {a: i for i, a in enumerate(a for a in range(len(x.axes)) if a not in dropped)}
    here = lambda table: {kept[a]: v for a, v in table.items() if a in kept}
    at = Pointers(here(at.starts), here(shared), at.shape)
    lookup = Lookup(squeeze(x, dropped), here(sizes), here(window), batch, rank)
    lookup, at = _where_it_is_read(reader, lookup, at)
    known = _by_known_numbers(reader, lookup, at, filling)
    if known is not None:
        return known
    found = _looked_up(reader, lookup, at)
    if filling is None or np.isnan(filling):
        return found
    # What stands for rows that are not there does not move with those that are.
    spread = [broadcast(v, found.shape, batch) for v in at.lifted(reader).values()]
    guides = frozenset(range(len(spread)))
    make = lambda row: terms.apply(reader.graph, "equal", row, guides=guides, name="select")
    return reader.elementwise([*spread, found, np.asarray(filling, x.dtype)], make, x.dtype)


def _where_it_is_read(reader, lookup, at):
    """A lookup in the rows alone that its numbers can be: the others are seen to do nothing."""
    if len(at.starts) != 1 or at.shared or not lookup.x.has_params:
        return lookup, at
    ((axis, start),) = at.starts.items()
    size = lookup.x.shape[axis]
    if not isinstance(start, Value) or lookup.sizes[axis] != 1 or lookup.x.axes[axis].free:
        return lookup, at
    ends = [range_of(t) for t, _ in start.blocks.values()]
    known = [pair for pair in ends if pair is not None]
    if len(known) < len(ends):
        return lookup, at
    low, high = int(min(a for a, _ in known)), int(max(b for _, b in known))
    if low < 0 or high >= size or high - low + 1 == size:
        return lookup, at
    x = take(lookup.x, axis, low, high + 1, 1, reader.refinements)
    if low:
        number = terms.scalar(reader.graph, low)
        moved = lambda row: terms.linear(reader.graph, [*row, number], [1, -1])
        start = reader.elementwise([start], moved, start.dtype)
    return replace(lookup, x=x), replace(at, starts={axis: start})


def _only(start, last):
    """The one number that an axis is read from; None where there are several or it is not known."""
    if isinstance(start, Value) or not start.size or not np.all(start == start.flat[0]):
        return None
    return int(start.flat[0]) if 0 <= start.flat[0] <= last else None


def _filling(equation):
    """What a lookup gives for numbers out of range; None where the next row is taken."""
    mode, value = equation.params["mode"], equation.params["fill_value"]
    if mode in (GatherScatterMode.CLIP, GatherScatterMode.PROMISE_IN_BOUNDS):
        return None
    if mode != GatherScatterMode.FILL_OR_DROP:
        raise Unsupported
    if value is None and not jnp.issubdtype(equation.invars[0].aval.dtype, jnp.inexact):
        raise Unsupported
    return np.nan if value is None else value


def _by_known_numbers(reader, lookup, at, filling):
    """A lookup along one axis by numbers that are known; None where it is another one."""
    x, along = lookup.x, []
    if at.shared or len(at.starts) > 1:
        return None
    axis = next(iter(at.starts), None)
    if axis is not None:
        index = at.starts[axis]
        if isinstance(index, Value) or lookup.sizes[axis] != 1:
            return None
        index = np.clip(asked := np.asarray(index), 0, x.shape[axis] - 1)
        if filling is not None and (index != asked).any():
            return None
        # Along the rest it is one lookup that is repeated, as of positions for each of a batch.
        along = [k for k in range(index.ndim) if (index != index.take([0], k)).any()]
        index = index[tuple(slice(None) if k in along else 0 for k in range(index.ndim))]
        x = _take_constant(reader, x, axis, index.reshape(-1))
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        x = reshape(x, shape, reader.refinements)
    source = {}
    for a, i in lookup.window.items():
        if a != axis:
            source[i] = a + (len(along) - 1 if axis is not None and a > axis else 0)
    if axis is not None:
        source |= {lookup.batch[k]: axis + j for j, k in enumerate(along)}
    sizes = dict(zip(lookup.batch, at.shape, strict=True))
    extra = {i: free_axis(sizes.get(i, 1)) for i in range(lookup.rank) if i not in source}
    return rearrange(x, [source[i] for i in sorted(source)], extra)


def _take_constant(reader, x, axis, index):
    """X indexed along one axis by known numbers."""
    size = x.axes[axis].size
    if x.axes[axis].free:
        return _resize(x, axis, len(index))
    if len(index) and np.all(index == index[0]):
        row = take(x, axis, int(index[0]), int(index[0]) + 1, 1, reader.refinements)
        return _resize(row, axis, len(index)) if len(index) > 1 else row
    steps = np.unique(np.diff(index))
    if len(steps) == 1 and steps[0] > 0 and (steps[0] == 1 or size % steps[0] == 0):
        try:
            places = int(index[0]), int(index[-1]) + 1, int(steps[0])
            return take(x, axis, *places, reader.refinements)
        except Unsupported:
            pass
    read = np.unique(index)
    runs = np.split(read, np.flatnonzero(np.diff(read) > 1) + 1)
    unread = x.has_params and 0 < len(read) < size
    if unread and len(runs) > MOST_PIECES:
        reader.graph.miss("rows in too many pieces", [t for t, _ in x.blocks.values()])
    elif unread:
        # Rows that are never read stand apart, so that they are seen to do nothing.
        parts = [take(x, axis, int(r[0]), int(r[-1]) + 1, 1, reader.refinements) for r in runs]
        fresh = lambda i, n: reader.refinements.axis((*reader.path, "read", i), n)
        x = concatenate(parts, axis, fresh, reader.refinements) if len(parts) > 1 else parts[0]
        return _take_constant(reader, x, axis, np.searchsorted(read, index))
    run = len(index) // size
    if run >= 1 and np.array_equal(index, np.repeat(np.arange(size), run)):
        shape = (*x.shape[: axis + 1], run, *x.shape[axis + 1 :])
        dims = [i for i in range(len(shape)) if i != axis + 1]
        wide = broadcast(x, shape, dims)
        merged = (*x.shape[:axis], len(index), *x.shape[axis + 1 :])
        return reshape(wide, merged, reader.refinements)
    if not x.has_params:
        return mix(reader, x, {axis: len(index)}, (*reader.path, "take"), x.dtype, 1.0, name="take")
    others = {a: n for a, n in enumerate(x.shape) if a != axis}
    rows = Lookup(x, others | {axis: 1}, {a: a for a in others}, (axis,), len(x.axes))
    return _looked_up(reader, rows, Pointers({axis: index}, {}, index.shape))


def _resize(x, axis, size):
    axes = (*x.axes[:axis], free_axis(size), *x.axes[axis + 1 :])
    return Value(axes, x.blocks, x.dtype)


def _looked_up(reader, lookup, at) -> Value:
    """The entries of an array that whole numbers point to."""
    x, sizes, batch = lookup.x, lookup.sizes, lookup.batch
    starts = at.lifted(reader)
    shape = dict(zip(batch, at.shape, strict=True)) | {
        i: sizes[a] for a, i in lookup.window.items()
    }
    axes = [free_axis(shape[i]) for i in range(lookup.rank)]
    for k, i in enumerate(batch):
        for own in [v.axes[k] for v in starts.values()]:
            axes[i] = align(axes[i], own, reader.refinements)
    where = {a: batch[k] for a, k in at.shared.items()}
    for a, i in where.items():
        axes[i] = align(axes[i], x.axes[a], reader.refinements)
    windows = {}
    for a, i in lookup.window.items():
        if sizes[a] == x.shape[a] or x.axes[a].free:
            where[a] = i
            axes[i] = x.axes[a] if sizes[a] == x.shape[a] else free_axis(sizes[a])
        elif sizes[a] != 1:
            windows[i] = axes[i] = reader.refinements.axis((*reader.path, "window", a), sizes[a])
    moved = [a for a in starts if a not in where]
    rows = len(moved) == len(starts) == 1 and not windows
    if rows and len(segments := x.axes[moved[0]].segments) == 1 and len(segments[0].slots) == 1:
        for tensor, _ in starts[moved[0]].blocks.values():
            reader.graph.same_rows(tensor, segments[0].slots[0][0])
            same_entries(tensor, segments[0].slots[0][0])
    read = _Rows(reader, lookup, starts, moved, where, windows, axes)
    return Value(tuple(axes), {cell: read(cell, rows) for cell in cells(axes)}, x.dtype)


@dataclass(frozen=True)
class _Rows:
    """Writes the node of a cell of a lookup.

    ``where``: of axes of the array their places in the output; ``moved`` are those pointed to.
    """

    reader: Reader
    lookup: Lookup
    starts: dict[int, Value]
    moved: list[int]
    where: dict[int, int]
    windows: dict[int, Any]
    axes: list[Any]

    def __call__(self, cell, rows):
        guides = self._guides(cell)
        operands = self._operands(cell)
        atoms = {
            (i, k): atom
            for i, axis in self.windows.items()
            for k, (atom, _) in enumerate(axis.segments[cell[i]].slots)
        }
        frozen = [p for _, ps in operands for p in ps if p[0] == "row"]
        named = rows and len(operands) == 1 and is_named(guides[0][0], operands[0])
        names = dict.fromkeys(p for _, ps in [*guides, *operands] for p in ps if p not in frozen)
        return terms.apply(
            self.reader.graph,
            "gather" if rows else "mix",
            [*guides, *operands],
            (*names, *atoms),
            None if rows else atoms,
            [*frozen, *atoms],
            guides=frozenset(range(len(guides))),
            name="gather",
            **({} if rows else {"coefficients": (1.0,)}),
            **({"named": frozenset({0})} if named else {}),
            renumbered=frozen if named else (),
        )

    def _guides(self, cell):
        batch = self.lookup.batch
        axes, here = [self.axes[i] for i in batch], tuple(cell[i] for i in batch)
        name = lambda p: (batch[p[0]], p[1])
        return [rename(block_at(v, axes, here), name) for v in self.starts.values()]

    def _operands(self, cell):
        x, where, operands = self.lookup.x, self.where, []
        axes = [self.axes[where[a]] if a in where else axis for a, axis in enumerate(x.axes)]
        for number, source in enumerate(cells([x.axes[a] for a in self.moved])):
            chosen = dict(zip(self.moved, source, strict=True))
            at = [cell[where[a]] if a in where else chosen.get(a, 0) for a in range(len(axes))]
            name = lambda p, n=number: (where[p[0]], p[1]) if p[0] in where else ("row", n, *p)
            operands.append(rename(block_at(x, axes, tuple(at)), name))
        return operands


def is_named(index, table):
    """Whether numbers name the rows of a table, as an index set."""
    rows = [a for a, p in zip(table[0].atoms, table[1], strict=True) if p[0] == "row"]
    return index.names is not None and [a.find() for a in rows] == [index.names.find()]

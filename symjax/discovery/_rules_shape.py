"""Rules of primitives that move entries: most leave no node at all."""

import itertools

import jax.numpy as jnp
import numpy as np
from jax.lax import GatherScatterMode

from . import _terms as terms
from ._layout import Unsupported, free_axis
from ._reader import Reader, rule
from ._values import (
    Value,
    broadcast,
    cells,
    concatenate,
    rearrange,
    rename,
    reshape,
    squeeze,
    take,
)


@rule("transpose")
def _transpose(reader, equation, x):
    return rearrange(reader.lift(x), equation.params["permutation"], {})


@rule("broadcast_in_dim")
def _broadcast(reader, equation, x, *dynamic):
    p = equation.params
    return broadcast(reader.lift(x), p["shape"], tuple(map(int, p["broadcast_dimensions"])))


@rule("squeeze")
def _squeeze(reader, equation, x):
    return squeeze(reader.lift(x), equation.params["dimensions"])


@rule("reshape")
def _reshape(reader, equation, x):
    x, order = reader.lift(x), equation.params.get("dimensions")
    if order is not None:  # a convolution under vmap
        x = rearrange(x, order, {})
    return reshape(x, equation.outvars[0].aval.shape, reader.refinements)


@rule("slice")
def _slice(reader, equation, x):
    p, x = equation.params, reader.lift(x)
    steps = p["strides"] or (1,) * len(x.axes)
    for a, row in enumerate(zip(p["start_indices"], p["limit_indices"], steps, strict=True)):
        x = take(x, a, *row, reader.refinements)
    return x


@rule("split")
def _split(reader, equation, x):
    x, axis = reader.lift(x), equation.params["axis"]
    ends = [0, *np.cumsum(equation.params["sizes"]).tolist()]
    pairs = itertools.pairwise(ends)
    return [take(x, axis, a, b, 1, reader.refinements) for a, b in pairs]


@rule("unstack")
def _unstack(reader, equation, x):
    x, axis = reader.lift(x), equation.params["axis"] % len(equation.invars[0].aval.shape)
    parts = [take(x, axis, i, i + 1, 1, reader.refinements) for i in range(x.shape[axis])]
    return [squeeze(part, (axis,)) for part in parts]


@rule("stack")
def _stack(reader, equation, *values):
    axis = equation.params["axis"] % len(equation.outvars[0].aval.shape)

    def fresh(i, size):
        return reader.refinements.axis((*reader.path, "part", i), size)

    def layer(value):
        kept = [a for a in range(len(value.shape) + 1) if a != axis]
        shape = [*value.shape[:axis], 1, *value.shape[axis:]]
        return broadcast(value, shape, kept)

    layers = [layer(reader.lift(v)) for v in values]
    return concatenate(layers, axis, fresh, reader.refinements)


@rule("concatenate")
def _concatenate(reader, equation, *values):
    def fresh(i, size):
        return reader.refinements.axis((*reader.path, "part", i), size)

    values = [reader.lift(v) for v in values]
    return concatenate(values, int(equation.params["dimension"]), fresh, reader.refinements)


@rule("pad")
def _pad(reader, equation, x, filling):
    x, filling = reader.lift(x), reader.lift(filling)
    for a, (low, high, interior) in enumerate(equation.params["padding_config"]):
        if interior:
            raise Unsupported
        x = take(x, a, max(-low, 0), x.axes[a].size - max(-high, 0), 1, reader.refinements)
        edges = [max(low, 0), max(high, 0)]
        parts = []
        for n in edges:
            shape = [n if i == a else m for i, m in enumerate(x.shape)]
            parts.append(broadcast(filling, shape, ()) if n else None)
        parts = [p for p in (parts[0], x, parts[1]) if p is not None]
        if len(parts) > 1:
            fresh = lambda i, size, a=a: reader.refinements.axis((*reader.path, a, i), size)
            x = concatenate(parts, a, fresh, reader.refinements)
    return x


def mix(
    reader: Reader,
    value: Value,
    axes: dict[int, int],
    key: tuple,
    dtype,
    gain: float | None = None,
    traits=None,
    guides=(),
    name: str = "",
) -> Value:
    """A node whose output along ``axes`` (numbers to new sizes) mixes entries of the operand.

    ``gain``: what becomes of a constant along the axes; None if it does not stay one.
    """
    varying = {a: n for a, n in axes.items() if not (value.axes[a].free and gain == 1)}
    new = tuple(
        (reader.refinements.axis((*key, a), axes[a]) if a in varying else free_axis(axes[a]))
        if a in axes
        else axis
        for a, axis in enumerate(value.axes)
    )
    blocks = {}
    for cell in cells(new):
        operands, frozen = [], []
        sources = [
            range(len(value.axes[a].segments)) if a in axes else (cell[a],) for a in range(len(new))
        ]
        for number, source in enumerate(np.ndindex(*[len(s) for s in sources])):
            at = tuple(s[i] for s, i in zip(sources, source, strict=True))
            named = lambda p, n=number: ("mixed", n, *p) if p[0] in axes else p
            term = rename(value.blocks[at], named)
            operands.append(term)
            frozen += [p for p in term[1] if p[0] == "mixed"]
        atoms = {
            (a, k): atom
            for a in varying
            for k, (atom, _) in enumerate(new[a].segments[cell[a]].slots)
        }
        operands += [rename(t, lambda p: ("guide", *p)) for t in guides]
        frozen += [p for t in guides for p in rename(t, lambda p: ("guide", *p))[1]]
        keep = tuple(
            dict.fromkeys([p for _, ps in operands for p in ps if p not in frozen] + list(atoms))
        )
        count = len(operands) - len(guides)
        blocks[cell] = terms.apply(
            reader.graph,
            "mix",
            operands,
            keep,
            atoms,
            [*frozen, *atoms],
            coefficients=() if gain is None else (gain,),
            guides=frozenset(range(count, len(operands))),
            traits=traits,
            name=name,
        )
    return Value(new, blocks, dtype)


@rule("rev")
def _rev(reader, equation, x):
    x = reader.lift(x)
    axes = {a: x.axes[a].size for a in equation.params["dimensions"] if not x.axes[a].free}
    if not axes:
        return x
    return mix(reader, x, axes, reader.path, x.dtype, gain=1.0, name="rev")


@rule("dynamic_slice")
def _dynamic_slice(reader, equation, x, *starts):
    x = reader.lift(x)
    sizes = equation.params["slice_sizes"]
    starts = [reader.lift(s) for s in starts]
    axes = {a: n for a, n in enumerate(sizes) if n != x.axes[a].size and not x.axes[a].free}
    fixed = [terms.number(s.blocks[()]) for s in starts]
    for a, n in enumerate(sizes):
        known = fixed[a]
        if n != x.axes[a].size and known is not None:
            start = int(min(max(known, 0), x.axes[a].size - n))
            x = take(x, a, start, start + n, 1, reader.refinements)
            axes.pop(a, None)
        elif n != x.axes[a].size and x.axes[a].free:
            x = take(x, a, 0, n, 1, reader.refinements)
    if not axes:
        return x
    guides = [starts[a].blocks[()] for a in axes]
    return mix(reader, x, axes, reader.path, x.dtype, gain=1.0, guides=guides, name="slice")


@rule("dynamic_update_slice")
def _dynamic_update_slice(reader, equation, x, update, *starts):
    x, update = reader.lift(x), reader.lift(update)
    starts = [reader.lift(s) for s in starts]
    axes = [a for a, n in enumerate(update.shape) if n != x.axes[a].size]
    if not axes:
        return update
    guides = [s.blocks[()] for s in starts]
    full = {a: x.axes[a].size for a in axes}
    spread = mix(
        reader, update, full, (*reader.path, "update"), x.dtype, 1.0, None, guides, "update"
    )
    old = mix(reader, x, full, (*reader.path, "old"), x.dtype, 1.0, name="update")
    make = lambda row: terms.apply(reader.graph, "equal", row, name="update")
    return reader.elementwise([old, spread], make, x.dtype)


def _take_constant(reader, x, axis, index):
    """X indexed along one axis by known numbers."""
    if x.axes[axis].free:
        return _resize(x, axis, len(index))
    if len(index) == 1:
        return take(x, axis, int(index[0]), int(index[0]) + 1, 1, reader.refinements)
    steps = np.unique(np.diff(index))
    if len(steps) == 1 and steps[0] > 0:
        return take(x, axis, int(index[0]), int(index[-1]) + 1, int(steps[0]), reader.refinements)
    run = len(index) // x.axes[axis].size
    if run >= 1 and np.array_equal(index, np.repeat(np.arange(x.axes[axis].size), run)):
        shape = (*x.shape[: axis + 1], run, *x.shape[axis + 1 :])
        dims = [i for i in range(len(shape)) if i != axis + 1]
        wide = broadcast(x, shape, dims)
        merged = (*x.shape[:axis], len(index), *x.shape[axis + 1 :])
        return reshape(wide, merged, reader.refinements)
    return mix(reader, x, {axis: len(index)}, (*reader.path, "take"), x.dtype, 1.0, name="take")


def _resize(x, axis, size):
    axes = (*x.axes[:axis], free_axis(size), *x.axes[axis + 1 :])
    return Value(axes, x.blocks, x.dtype)


@rule("gather")
def _gather(reader, equation, x, index):
    x = reader.lift(x)
    d, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    if d.operand_batching_dims or len(d.start_index_map) != 1:
        raise Unsupported
    (axis,) = d.start_index_map
    whole = all(n == sizes[a] for a, n in enumerate(x.shape) if a != axis)
    if not whole or d.collapsed_slice_dims != (axis,) or sizes[axis] != 1:
        raise Unsupported
    rank = len(equation.outvars[0].aval.shape)
    batch = [i for i in range(rank) if i not in d.offset_dims]
    filling = _filling(equation)
    if not isinstance(index, Value):
        last = x.shape[axis] - sizes[axis]
        index, asked = np.clip(index, 0, last), np.asarray(index)
        if filling is not None and (index != asked).any():
            raise Unsupported
        filling = None
        if index.ndim <= 2:
            taken = _take_constant(reader, x, axis, index.reshape(-1))
            if index.ndim == 1:
                return squeeze(taken, [axis])
            order = [a for a in range(len(x.axes)) if a != axis]
            rest = iter(order)
            return rearrange(taken, [axis if i in batch else next(rest) for i in range(rank)], {})
    index = squeeze(reader.lift(index), [-1])
    found = table_rows(reader, x, axis, index, batch, rank)
    if filling is None or np.isnan(filling):
        return found
    # What stands for rows that are not there does not move with those that are.
    spread = broadcast(index, found.shape, batch)
    make = lambda row: terms.apply(reader.graph, "equal", row, guides=frozenset({0}), name="select")
    return reader.elementwise([spread, found, np.asarray(filling, x.dtype)], make, x.dtype)


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


def table_rows(reader, x, axis, index, batch, rank) -> Value:
    """The rows of a table that an array of whole numbers names."""
    rest = [a for a in range(len(x.axes)) if a != axis]
    offset = [i for i in range(rank) if i not in batch]
    axes, where = [free_axis(1)] * rank, {}
    for i, a in zip(offset, rest, strict=True):
        axes[i], where[a] = x.axes[a], i
    for i, b in zip(batch, range(len(index.axes)), strict=True):
        axes[i] = index.axes[b]
    segments = x.axes[axis].segments
    if len(segments) == 1 and len(segments[0].slots) == 1:
        for tensor, _ in index.blocks.values():
            reader.graph.same_rows(tensor, segments[0].slots[0][0])
    blocks = {}
    for cell in cells(axes):
        row = rename(index.blocks[tuple(cell[i] for i in batch)], lambda p: (batch[p[0]], p[1]))
        rows = []
        for number in range(len(x.axes[axis].segments)):
            at = [0] * len(x.axes)
            at[axis] = number
            for a in rest:
                at[a] = cell[where[a]]
            name = lambda p, n=number: ("row", n, p[1]) if p[0] == axis else (where[p[0]], p[1])
            rows.append(rename(x.blocks[tuple(at)], name))
        frozen = [p for _, ps in rows for p in ps if p[0] == "row"]
        keep = tuple(dict.fromkeys(p for _, ps in [row, *rows] for p in ps if p not in frozen))
        blocks[cell] = terms.apply(
            reader.graph,
            "gather",
            [row, *rows],
            keep,
            frozen=frozen,
            guides=frozenset({0}),
            name="gather",
        )
    return Value(tuple(axes), blocks, x.dtype)


@rule("scatter", "scatter-add", "scatter_add", "scatter_mul", "scatter-mul")
def _scatter(reader, equation, x, index, update):
    """x.at[i].set, add or mul along one axis, at a known number."""
    d, name = equation.params["dimension_numbers"], equation.primitive.name
    if name == "scatter" and not d.scatter_dims_to_operand_dims:
        if update.shape != x.shape:
            raise Unsupported
        return update  # x.at[...].set(update)
    if isinstance(index, Value) or len(d.scatter_dims_to_operand_dims) != 1:
        raise Unsupported
    (axis,) = d.scatter_dims_to_operand_dims
    start, x, update = np.asarray(index).reshape(-1), reader.lift(x), reader.lift(update)
    whole = d.inserted_window_dims == (axis,) and not d.operand_batching_dims
    start, size = int(start[0]) if len(start) == 1 else -1, x.axes[axis].size
    if not (whole and 0 <= start < size):
        raise Unsupported
    shape = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    update = reshape(update, shape, reader.refinements)
    old = take(x, axis, start, start + 1, 1, reader.refinements)
    if "add" in name:
        make = lambda row: terms.linear(reader.graph, row, [1, 1])
        update = reader.elementwise([old, update], make, x.dtype)
    elif "mul" in name:
        make = lambda row: terms.product(reader.graph, *row)
        update = reader.elementwise([old, update], make, x.dtype)
    parts = [take(x, axis, 0, start, 1, reader.refinements)] if start else []
    parts.append(update)
    if start + 1 < size:
        parts.append(take(x, axis, start + 1, size, 1, reader.refinements))
    fresh = lambda i, n: reader.refinements.axis((*reader.path, "part", i), n)
    return concatenate(parts, axis, fresh, reader.refinements)

"""Rules of primitives that move entries: most leave no node at all."""

import itertools

import numpy as np

from . import _terms as terms
from ._graph import Atom
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


@rule("tile")
def _tile(reader, equation, x):
    x, reps = reader.lift(x), equation.params["reps"]
    shape = [n for pair in zip(reps, x.shape, strict=True) for n in pair]
    wide = broadcast(x, shape, range(1, len(shape), 2))
    return reshape(wide, equation.outvars[0].aval.shape, reader.refinements)


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
    for a, (start, stop, step) in enumerate(
        zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    ):
        if step == 1:
            x = take(x, a, start, stop, 1, reader.refinements)
        else:
            x = _strided(reader, x, a, (start, stop, step))
    return x


def _strided(reader, x, axis, places):
    """x[..., start:stop:step, ...]: a finer layout where parameters may need it, else a mix."""
    start, stop, step = places
    if not of_data(x.axes[axis]):
        try:
            return take(x, axis, start, stop, step, reader.refinements)
        except Unsupported:
            pass
    size = {axis: -(-(stop - start) // step)}
    return mix(reader, x, size, (*reader.path, "stride"), x.dtype, 1.0, name="slice")


def of_data(axis) -> bool:
    """Whether an axis is one of an input, so that nothing may act on it anyhow."""
    keys = (key for s in axis.segments for atom, _ in s.slots for key in atom.find().members)
    return not axis.free and any(key[0] == "input" for key in keys)


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

    at = int(equation.params["dimension"])
    values = [reader.lift(v) for v in values if v.shape[at]]
    return concatenate(values, at, fresh, reader.refinements)


@rule("pad")
def _pad(reader, equation, x, filling):
    x, filling = reader.lift(x), reader.lift(filling)
    spread = {
        a: equation.outvars[0].aval.shape[a]
        for a, (_, _, interior) in enumerate(equation.params["padding_config"])
        if interior
    }
    if spread:
        return _spread(reader, equation, x, filling, spread)
    for a, (low, high, _) in enumerate(equation.params["padding_config"]):
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


def _spread(reader, equation, x, filling, sizes):
    """Padding between the entries of some axes."""
    config = equation.params["padding_config"]
    sizes = sizes | {
        a: n
        for a, n in enumerate(equation.outvars[0].aval.shape)
        if config[a] != (0, 0, 0) and a not in sizes
    }
    wide = mix(reader, x, sizes, (*reader.path, "pad"), x.dtype, name="pad")
    number = terms.number(filling.blocks[()])
    if number == 0:
        return wide
    make = lambda row: terms.apply(reader.graph, "equal", row, name="pad")
    return reader.elementwise([wide, filling], make, x.dtype)


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
    symmetric: bool = False,
    names: tuple[Atom | None, bool] = (None, False),
) -> Value:
    """A node whose output along ``axes`` (numbers to new sizes) mixes entries of the operand.

    ``gain``: what becomes of a constant along the axes; None if it does not stay one.
    ``symmetric``: the output does not change where the entries along the axes are permuted.
    ``names``: it is whole numbers that name entries of the operand along them (see `named_by`).
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
        moving = [t for t in operands if traits is not None or not terms.is_zero(t)]
        # Zeros stay zeros: they may not be told by a scale, but a shift would be no constant.
        constant = gain is not None and len(moving) == len(operands)
        operands = moving or operands[:1]
        frozen = [p for p in frozen if any(p in ps for _, ps in operands)]
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
            [*(() if symmetric else frozen), *atoms],
            coefficients=(gain,) if constant else (),
            guides=frozenset(range(count, len(operands))),
            traits=traits,
            name=name,
            renumbered=frozen if names[0] is not None else (),
        )
        blocks[cell][0].names, blocks[cell][0].tied = names
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

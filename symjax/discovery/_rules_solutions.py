"""Rules of what is given by the equations that it solves, and of maps that are linear in all.

The solution of A x = b is read as an array of which nothing is known, and A x is tied to b: as the
solution is unique, whatever moves A, b and x so that the equations hold moves the solution so.
"""

import numpy as np

from . import _terms as terms
from ._layout import Unsupported
from ._reader import rule
from ._rules_linear import contract
from ._rules_shape import mix
from ._values import Value, aligned, block_at, cells


def _unknown(reader, shape, dtype, number, beside) -> Value:
    """An array of which nothing is known; it differs along the loops that what it solves does."""
    axes = reader.fresh_axes((*reader.path, "solution", number), shape)
    outer = {
        p: tensor.atoms[i]
        for value in beside
        for tensor, places in value.blocks.values()
        for i, p in enumerate(places)
        if p[0] == "loop"
    }
    blocks = {}
    for cell in cells(axes):
        slots = {
            (a, k): atom
            for a, (axis, i) in enumerate(zip(axes, cell, strict=True))
            for k, (atom, _) in enumerate(axis.segments[i].slots)
        }
        named = slots | outer
        tensor = reader.graph.tensor(named.values(), "carry", has_params=True, has_data=True)
        blocks[cell] = tensor, tuple(named)
    return Value(axes, blocks, dtype)


def _solves(reader, unknowns, left, right):
    """Tie the two sides of equations, wherever one of their unknowns is used."""
    axes = aligned([left, right], reader.refinements)
    states = [tensor for value in unknowns for tensor, _ in value.blocks.values()]
    for cell in cells(axes):
        row = [block_at(v, axes, cell) for v in (left, right)]
        tied, _ = terms.apply(reader.graph, "equal", row, (), name="solution")
        for state in states:
            reader.graph.tie(state, tied.node)


@rule("triangular_solve")
def _triangular_solve(reader, equation, a, b):
    p, a, b = equation.params, reader.lift(a), reader.lift(b)
    if p["conjugate_a"]:
        raise Unsupported
    n, rank = a.shape[-1], len(a.shape)
    ones = np.ones((n, n), a.dtype)
    used = np.tril(ones) if p["lower"] else np.triu(ones)
    if p["unit_diagonal"]:
        used = used - np.eye(n, dtype=a.dtype)
    multiply = lambda row: terms.product(reader.graph, *row)
    whole = lambda matrix: np.broadcast_to(matrix, a.shape)
    a = reader.elementwise([a, whole(used)], multiply, a.dtype)
    if p["unit_diagonal"]:
        add = lambda row: terms.linear(reader.graph, row, [1, 1])
        a = reader.elementwise([a, whole(np.eye(n, dtype=a.dtype))], add, a.dtype)
    x = _unknown(reader, b.shape, b.dtype, 0, (a, b))
    batch = tuple(range(rank - 2))
    along = rank - 1 if p["left_side"] != p["transpose_a"] else rank - 2
    if p["left_side"]:
        left = contract(reader, a, x, ((along,), (rank - 2,)), (batch, batch), b.dtype)
    else:
        left = contract(reader, x, a, ((rank - 1,), (along,)), (batch, batch), b.dtype)
    _solves(reader, [x], left, b)
    return x


@rule("custom_linear_solve")
def _linear_solve(reader, equation, *operands):
    p = equation.params
    counts, matvec = p["const_lengths"], p["jaxprs"].matvec
    values = [reader.lift(v) for v in operands]
    constants, rights = values[: counts.matvec], values[sum(counts) :]
    unknowns = [
        _unknown(reader, v.aval.shape, v.aval.dtype, i, values)
        for i, v in enumerate(equation.outvars)
    ]
    path, reader.path = reader.path, (*reader.path, "matvec")
    lefts = reader.read(matvec.jaxpr, matvec.consts, [*constants, *unknowns])
    reader.path = path
    for left, right in zip(lefts, rights, strict=True):
        _solves(reader, unknowns, reader.lift(left), right)
    return unknowns


@rule("fft")
def _fft(reader, equation, x):
    x, (out,) = reader.lift(x), equation.outvars
    first = len(x.axes) - len(equation.params["fft_lengths"])
    sizes = {a: n for a, n in enumerate(out.aval.shape) if a >= first}
    return mix(reader, x, sizes, reader.path, out.aval.dtype, name="fft")


@rule("real", "imag", "conj", "complex")
def _parts(reader, equation, *values):
    """Linear over the real numbers; a shift by a complex number is not followed through it."""
    name = equation.primitive.name
    make = lambda row: terms.apply(reader.graph, "mix", row, name=name)
    return reader.elementwise(values, make, equation.outvars[0].aval.dtype)

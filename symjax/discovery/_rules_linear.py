"""Rules of contractions, sums, convolutions and other reductions."""

import itertools
import math
from fractions import Fraction

import numpy as np

from . import _terms as terms
from ._layout import Unsupported, align, free_axis
from ._names import named_by
from ._reader import rule
from ._rules_elementwise import NOTHING, Traits, cast, keeps_numbers
from ._rules_shape import mix
from ._values import Value, block_at, cells, rename, reshape


@rule("dot_general")
def _dot_general(reader, equation, x, y):
    (cx, cy), (bx, by) = equation.params["dimension_numbers"]
    x, y = reader.lift(x), reader.lift(y)
    result = contract(reader, x, y, (cx, cy), (bx, by), x.dtype)
    return _preferred(reader, equation, result, x, y)


def _preferred(reader, equation, result, x, y):
    """A result in the dtype that an equation prefers, which may have fewer digits."""
    new = equation.outvars[0].aval.dtype
    return cast(reader, equation, result, all(keeps_numbers(v.dtype, new) for v in (x, y)))


def contract(reader, x, y, contracted, batch, dtype) -> Value:
    """lax.dot_general on values."""
    (cx, cy), (bx, by) = contracted, batch
    shared = [align(x.axes[a], y.axes[b], reader.refinements) for a, b in zip(bx, by, strict=True)]
    summed = [align(x.axes[a], y.axes[b], reader.refinements) for a, b in zip(cx, cy, strict=True)]
    fx = [a for a in range(len(x.axes)) if a not in (*bx, *cx)]
    fy = [a for a in range(len(y.axes)) if a not in (*by, *cy)]
    axes = (*shared, *(x.axes[a] for a in fx), *(y.axes[a] for a in fy))
    nb, nx = len(shared), len(fx)
    name_x = {a: i for i, a in enumerate((*bx, *fx))} | {a: ("sum", i) for i, a in enumerate(cx)}
    name_y = {a: i for i, a in enumerate(by)} | {a: nb + nx + i for i, a in enumerate(fy)}
    name_y |= {a: ("sum", i) for i, a in enumerate(cy)}
    full_x, full_y = list(x.axes), list(y.axes)
    for full, keys in ((full_x, name_x), (full_y, name_y)):
        for a, name in keys.items():
            full[a] = summed[name[1]] if isinstance(name, tuple) else axes[name]
    blocks = {}
    for cell in cells(axes):
        parts = []
        for inner in cells(summed):
            pick = lambda name, inner=inner, cell=cell: (
                inner[name[1]] if isinstance(name, tuple) else cell[name]
            )
            a = block_at(x, full_x, tuple(pick(name_x[i]) for i in range(len(x.axes))))
            b = block_at(y, full_y, tuple(pick(name_y[i]) for i in range(len(y.axes))))
            a = rename(a, lambda p: (name_x[p[0]], p[1]))
            b = rename(b, lambda p: (name_y[p[0]], p[1]))
            drop = {p for p in (*a[1], *b[1]) if isinstance(p[0], tuple)}
            present = {(p[0][1], p[1]) for p in drop}
            count = math.prod(
                atom.size
                for i, s in enumerate(inner)
                for k, (atom, _) in enumerate(summed[i].segments[s].slots)
                if (i, k) not in present
            )
            parts.append(terms.product(reader.graph, a, b, drop, count))
        blocks[cell] = terms.linear(reader.graph, parts, [1] * len(parts))
    return Value(axes, blocks, dtype)


@rule("psum")
def _psum(reader, equation, *values):
    axes = equation.params["axes"]
    if equation.params["axis_index_groups"] or not all(isinstance(a, int) for a in axes):
        raise Unsupported
    return [_reduce_sum(reader, equation, v) for v in values]


@rule("reduce_sum")
def _reduce_sum(reader, equation, x):
    x, gone = reader.lift(x), equation.params["axes"]

    def make(parts):
        sums = []
        for term, segments in parts:
            drop = [p for p in term[1] if p[0] in gone]
            count = math.prod(
                atom.size
                for a, segment in segments
                for k, (atom, _) in enumerate(segment.slots)
                if (a, k) not in drop
            )
            sums.append(terms.total(reader.graph, term, drop, count))
        return terms.linear(reader.graph, sums, [1] * len(sums))

    return _reduced(x, gone, make, x.dtype)


def _reduced(x, gone, make, dtype):
    """A value with axes gone: ``make`` turns the blocks along them into one term."""
    kept = [a for a in range(len(x.axes)) if a not in gone]
    order = {a: i for i, a in enumerate(kept)}
    axes = tuple(x.axes[a] for a in kept)
    blocks = {}
    for cell in cells(axes):
        parts = []
        for inner in itertools.product(*(range(len(x.axes[a].segments)) for a in gone)):
            at = dict(zip(kept, cell, strict=True)) | dict(zip(gone, inner, strict=True))
            segments = [(a, x.axes[a].segments[at[a]]) for a in gone]
            parts.append((x.blocks[tuple(at[a] for a in range(len(x.axes)))], segments))
        # Names of axes that stay become those of the result; the others keep apart.
        term = make(parts)
        blocks[cell] = rename(term, lambda p: (order[p[0]], p[1]) if p[0] in order else p)
    return Value(axes, blocks, dtype)


REDUCTIONS = {
    "reduce_max": Traits(Fraction(1)),
    "reduce_min": Traits(Fraction(1)),
    "argmax": Traits(Fraction(0)),
    "argmin": Traits(Fraction(0)),
    "reduce_and": NOTHING,
    "reduce_or": NOTHING,
    "reduce_prod": NOTHING,
}


@rule(*REDUCTIONS)
def _reduce(reader, equation, x):
    x, gone = reader.lift(x), equation.params["axes"]
    name = equation.primitive.name
    dtype = equation.outvars[0].aval.dtype

    def make(parts):
        # Each block is reduced, then the results: one node with the labels of each kept apart.
        operands = [
            rename(term, lambda p, i=i: ("part", i, *p) if p[0] in gone else p)
            for i, (term, _) in enumerate(parts)
        ]
        drop = [p for _, ps in operands for p in ps if p[0] == "part"]
        keep = tuple(dict.fromkeys(p for _, ps in operands for p in ps if p[0] != "part"))
        numbers = name.startswith("arg")
        named, tied = named_by(x, gone[0]) if numbers else (None, False)
        term = terms.apply(
            reader.graph,
            "reduce",
            operands,
            keep,
            None,
            drop if numbers else (),
            renumbered=drop if named else (),
            traits=REDUCTIONS[name],
            name=name,
        )
        term[0].names, term[0].tied = named, tied
        return term

    return _reduced(x, gone, make, dtype)


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulate(reader, equation, x):
    x, a = reader.lift(x), equation.params["axis"]
    name = equation.primitive.name
    traits = {"cumsum": None, "cummax": Traits(Fraction(1)), "cummin": Traits(Fraction(1))}
    gain = 1.0 if name in ("cummax", "cummin") else None
    size = {a: x.axes[a].size}
    how = traits.get(name, NOTHING)
    return mix(reader, x, size, reader.path, x.dtype, gain, how, name=name)


@rule("sort")
def _sort(reader, equation, *values):
    values = [reader.lift(v) for v in values]
    a, keys = equation.params["dimension"], equation.params["num_keys"]
    beside = [axis for v in values[:keys] for b, axis in enumerate(v.axes) if b != a]
    if not all(axis.free for axis in beside) and any(v.has_params for v in values[keys:]):
        raise Unsupported  # what is sorted by data is told apart by them
    # The order of all is that of the keys, which may not change; one key is sorted by itself.
    guides = [t for v in values[:keys] for t in v.blocks.values()]
    return [
        mix(
            reader,
            v,
            {a: v.axes[a].size},
            (*reader.path, i),
            v.dtype,
            1.0,
            Traits(Fraction(1)),
            guides if i and any(t.has_params for t, _ in guides) else (),
            name="sort",
            symmetric=len(values) == 1,
        )
        for i, v in enumerate(values)
    ]


@rule("top_k")
def _top_k(reader, equation, x):
    x, k = reader.lift(x), equation.params["k"]
    a = equation.params.get("axis", -1) % len(x.axes)
    values, numbers = equation.outvars
    make = lambda i, v, how, gain, **more: mix(
        reader, x, {a: k}, (*reader.path, i), v.aval.dtype, gain, how, name="top_k", **more
    )
    # The largest entries are the same in any order; the numbers name them.
    largest = make(0, values, Traits(Fraction(1)), 1.0, symmetric=True)
    return [largest, make(1, numbers, Traits(Fraction(0)), None, names=named_by(x, a))]


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window")
def _window(reader, equation, x, *rest):
    p, x = equation.params, reader.lift(x)
    name = equation.primitive.name
    if name == "reduce_window":
        raise Unsupported
    window = p["window_dimensions"]
    shape = equation.outvars[0].aval.shape
    edges = [tuple(pair) != (0, 0) for pair in p["padding"]]
    padded = any(edges) or any(n != 1 for n in p["base_dilation"])
    moved = [
        a
        for a, w in enumerate(window)
        if w != 1 or p["window_strides"][a] != 1 or shape[a] != x.axes[a].size or edges[a]
    ]
    how = None if name.endswith("sum") else Traits(Fraction(1))
    gain = float(np.prod(window)) if how is None else 1.0
    gain = None if padded and how is None else gain
    axes = {a: shape[a] for a in moved}
    return mix(reader, x, axes, reader.path, x.dtype, gain, how, name=name)


@rule("conv_general_dilated")
def _conv(reader, equation, x, w):
    x, w = reader.lift(x), reader.lift(w)
    return _preferred(reader, equation, _convolution(reader, equation, x, w), x, w)


def _convolution(reader, equation, x, w):
    p = equation.params
    d = p["dimension_numbers"]
    if p["batch_group_count"] != 1:
        raise Unsupported
    xb, xc, *xs = d.lhs_spec
    wo, wi, *ws = d.rhs_spec
    ob, oc, *os_ = d.out_spec
    groups = p["feature_group_count"]
    if groups == 1:
        return _conv_blocks(reader, equation, x, w, (xb, xc, xs), (wo, wi, ws), (ob, oc, os_))
    # Channels seen as (groups, each): the group is an index of both operands and of the output.
    later = lambda at, axis: axis + (axis > at)
    x, w = (_unjoined(reader, v, a, groups) for v, a in ((x, xc), (w, wo)))
    xn = later(xc, xb), xc + 1, [later(xc, a) for a in xs]
    wn = wo + 1, later(wo, wi), [later(wo, a) for a in ws]
    on = later(oc, ob), oc + 1, [later(oc, a) for a in os_]
    out = _conv_blocks(reader, equation, x, w, xn, wn, on, (xc, wo, oc))
    return reshape(out, equation.outvars[0].aval.shape, reader.refinements)


def _unjoined(reader, value, axis, groups):
    """A value with an axis seen as (groups, each)."""
    size = value.shape[axis] // groups
    shape = (*value.shape[:axis], groups, size, *value.shape[axis + 1 :])
    return reshape(value, shape, reader.refinements)


def _conv_blocks(reader, equation, x, w, xn, wn, on, group=None):
    """A convolution, block by block: channels are contracted, space is mixed.

    ``group`` names the axis of the groups in both operands and in the output.
    """
    (xb, xc, xs), (wo, wi, ws), (ob, oc, os_) = xn, wn, on
    channels = align(x.axes[xc], w.axes[wi], reader.refinements)
    shape = list(equation.outvars[0].aval.shape)
    if group is not None:
        shape[oc - 1 : oc] = [w.shape[group[1]], w.shape[wo]]
    axes = [free_axis(1)] * len(shape)
    axes[ob], axes[oc] = x.axes[xb], w.axes[wo]
    for i in os_:
        axes[i] = reader.refinements.axis((*reader.path, "space", i), shape[i])
    padded = any(tuple(pair) != (0, 0) for pair in equation.params["padding"])
    padded |= any(n != 1 for n in equation.params["lhs_dilation"])
    full_x = [channels if a == xc else axis for a, axis in enumerate(x.axes)]
    full_w = [channels if a == wi else axis for a, axis in enumerate(w.axes)]
    names_x = {xb: ob, xc: "sum"} | {s: ("x", s) for s in xs}
    names_w = {wo: oc, wi: "sum"} | {s: ("w", s) for s in ws}
    if group is not None:
        xg, wg, og = group
        axes[og] = full_x[xg] = full_w[wg] = align(x.axes[xg], w.axes[wg], reader.refinements)
        names_x[xg] = names_w[wg] = og
    blocks = {}
    for cell in cells(axes):
        parts = []
        atoms = {
            (i, k): atom for i in os_ for k, (atom, _) in enumerate(axes[i].segments[cell[i]].slots)
        }
        for inner in cells([x.axes[a] for a in xs] + [w.axes[a] for a in ws] + [channels]):
            space_x, space_w, c = inner[: len(xs)], inner[len(xs) : -1], inner[-1]
            at_x = {xb: cell[ob], xc: c} | dict(zip(xs, space_x, strict=True))
            at_w = {wo: cell[oc], wi: c} | dict(zip(ws, space_w, strict=True))
            if group is not None:
                at_x[xg] = at_w[wg] = cell[og]
            a = block_at(x, full_x, tuple(at_x[i] for i in range(len(x.axes))))
            b = block_at(w, full_w, tuple(at_w[i] for i in range(len(w.axes))))
            a = rename(a, lambda p: (names_x[p[0]], p[1]))
            b = rename(b, lambda p: (names_w[p[0]], p[1]))
            space = [p for p in (*a[1], *b[1]) if isinstance(p[0], tuple)]
            drop = [*space, *(p for p in (*a[1], *b[1]) if p[0] == "sum")]
            present = {p[1] for p in drop if p[0] == "sum"}
            count = math.prod(
                atom.size
                for k, (atom, _) in enumerate(channels.segments[c].slots)
                if k not in present
            )
            frozen = [*space, *atoms]
            part = terms.product(reader.graph, a, b, drop, count, frozen=frozen, new=atoms)
            if padded and part[0].node is not None:
                part[0].node.traits = "padded"
            parts.append(part)
        blocks[cell] = terms.linear(reader.graph, parts, [1] * len(parts))
    return Value(tuple(axes), blocks, x.dtype)

"""Rules of programs that run on several devices at once: shard_map, and pmap.

Their bodies are written for what one device holds. Each sharded axis is split into the axis of the
mesh and what is left, and the body is mapped over the axes of the mesh by `jax.vmap`: what
devices tell each other (psum, all_gather, axis_index, ...) then are sums and moves along these
axes, and the program that comes out is read like any other.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from .._jaxprs import has_program
from ._layout import Unsupported
from ._reader import inner_jaxpr, rule
from ._rules_loops import counts_of_scan

Names = tuple[tuple[str, ...], ...]  # per axis of an array: the axes of the mesh that split it


@rule("shard_map")
def _shard_map(reader, equation, *values):
    p = equation.params
    if not {"mesh", "in_specs", "out_specs", "check_vma", "manual_axes", "jaxpr"} <= p.keys():
        raise Unsupported
    sizes = {name: n for name, n in p["mesh"].shape.items() if name in p["manual_axes"]}
    inner, outer = (p["jaxpr"].invars, p["in_specs"]), (p["jaxpr"].outvars, p["out_specs"])
    splits, joins = (
        [_names(v.aval.ndim, s) for v, s in zip(*x, strict=True)] for x in (inner, outer)
    )

    def whole(*arrays):
        body = lambda *local: _evaluate(p["jaxpr"], (), local)
        parts = [_split(x, names, sizes) for x, names in zip(arrays, splits, strict=True)]
        results = _mapped(body, parts, splits, joins, sizes, proved=p["check_vma"])
        return [_join(y, names, sizes) for y, names in zip(results, joins, strict=True)]

    return read_as(reader, whole, values)


@rule("xla_pmap")
def _pmap(reader, equation, *values):
    p = equation.params
    if p["axis_size"] != p["global_axis_size"]:
        raise Unsupported
    body = lambda *arrays: _evaluate(p["call_jaxpr"], (), arrays)
    whole = jax.vmap(body, p["in_axes"], p["out_axes"], p["axis_name"], p["axis_size"])
    return read_as(reader, whole, values)


def read_as(reader, function, values):
    """The values of a function in the place of an equation."""
    avals = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in values]
    try:
        program = jax.make_jaxpr(function)(*avals)
    except Exception as error:
        # JAX has no rule for what the devices do together, or an output is not the same on all.
        raise Unsupported from error
    return reader.read(program.jaxpr, program.consts, [reader.lift(v) for v in values])


def _names(rank: int, spec: PartitionSpec) -> Names:
    """Per axis the names of a PartitionSpec."""
    if getattr(spec, "unreduced", None) or getattr(spec, "reduced", None):
        raise Unsupported
    entries = [() if e is None else e if isinstance(e, tuple) else (e,) for e in spec]
    if len(entries) > rank or not all(isinstance(n, str) for e in entries for n in e):
        raise Unsupported
    return (*entries, *[()] * (rank - len(entries)))


def _split(x: jax.Array, names: Names, sizes: Mapping[str, int]) -> jax.Array:
    """The parts of an array on all devices, with the axes of the mesh first."""
    shape, places = [], {}
    for n, row in zip(x.shape, names, strict=True):
        for name in row:
            places[name] = len(shape)
            shape.append(sizes[name])
        shape.append(n // math.prod(sizes[name] for name in row))
    first = [places[name] for name in sizes if name in places]
    return jnp.moveaxis(x.reshape(shape), first, range(len(first)))


def _join(x: jax.Array, names: Names, sizes: Mapping[str, int]) -> jax.Array:
    """The inverse of `_split`."""
    used = [name for name in sizes if any(name in row for row in names)]
    order, shape, rank = [], [], len(used)
    for a, row in enumerate(names):
        order += [*(used.index(name) for name in row), rank + a]
        shape.append(x.shape[rank + a] * math.prod(sizes[name] for name in row))
    return x.transpose(order).reshape(shape)


def _mapped(body, parts, splits, joins, sizes, *, proved):
    """A body mapped over the axes of a mesh; outputs have those that split them, first."""
    uses = lambda name, names: any(name in row for row in names)
    function = lambda places, *local: body(*local)
    for name in reversed(sizes):
        # An output without the axis is the same along it: JAX has proved it, or vmap has to.
        everywhere = 0 if proved else None
        into = [0 if uses(name, names) else None for names in splits]
        out = [0 if uses(name, names) else everywhere for names in joins]
        function = jax.vmap(function, (0, *into), out, name, sizes[name])
    grid = jnp.zeros(tuple(sizes.values()), jnp.int8)
    results = function(grid, *parts)
    if proved:
        for i, names in enumerate(joins):
            for a, name in reversed(list(enumerate(sizes))):
                if not uses(name, names):
                    results[i] = jax.lax.index_in_dim(results[i], 0, a, keepdims=False)
    return results


# -- evaluating a body under vmap -------------------------------------------------------------


def _evaluate(jaxpr, constants, arguments) -> list:
    """The outputs of a body. Its types say along what axes of the mesh values vary, which has no
    meaning under vmap, so programs inside are traced anew.
    """
    values = dict(zip(jaxpr.constvars, constants, strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))
    look = lambda v: v.val if hasattr(v, "val") else values[v]
    for equation in jaxpr.eqns:
        results = _result(equation, [look(v) for v in equation.invars])
        values |= dict(zip(equation.outvars, results, strict=True))
    return [look(v) for v in jaxpr.outvars]


def _closed(program, *arguments):
    return _evaluate(program.jaxpr, program.consts, arguments)


def _result(equation, operands) -> list:
    name, p = equation.primitive.name, equation.params
    inner = inner_jaxpr(equation)
    if inner is not None:
        return _evaluate(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), operands)
    if name in PROGRAMS:
        return list(PROGRAMS[name](equation, *operands))
    if has_program(equation):
        raise Unsupported
    if name == "pvary":
        return operands
    if name in COLLECTIVES:
        if p.get("axis_index_groups") or not all(isinstance(a, str) for a in p["axes"]):
            raise Unsupported
        return [_over_devices(COLLECTIVES[name], x, p["axes"]) for x in operands]
    if name == "all_gather_invariant":
        return [
            jax.lax.all_gather(
                operands[0], p["axis_name"], axis=p["all_gather_dimension"], tiled=p["tiled"]
            )
        ]
    result = equation.primitive.bind(*operands, **p)
    return list(result) if equation.primitive.multiple_results else [result]


COLLECTIVES = {"psum": jnp.sum, "psum_invariant": jnp.sum, "pmax": jnp.max, "pmin": jnp.min}


def _over_devices(reduce, x, names):
    for name in names:
        x = reduce(jax.lax.all_gather(x, name), axis=0).astype(x.dtype)
    return x


def _scan(equation, *operands):
    p = equation.params
    consts, carries = counts_of_scan(equation)
    fixed, start = operands[:consts], list(operands[consts : consts + carries])

    def step(state, slices):
        results = _closed(p["jaxpr"], *fixed, *state, *slices)
        return results[:carries], results[carries:]

    stacks = list(operands[consts + carries :])
    state, stacked = jax.lax.scan(step, start, stacks, p["length"], p["reverse"])
    return [*state, *stacked]


def _while(equation, *operands):
    p = equation.params
    first, second = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    outer, fixed, start = operands[:first], operands[first:second], list(operands[second:])
    test = lambda state: _closed(p["cond_jaxpr"], *outer, *state)[0]
    return jax.lax.while_loop(test, lambda state: _closed(p["body_jaxpr"], *fixed, *state), start)


def _cond(equation, which, *operands):
    branches = [lambda *x, b=b: _closed(b, *x) for b in equation.params["branches"]]
    return jax.lax.switch(which, branches, *operands)


PROGRAMS = {"scan": _scan, "while": _while, "cond": _cond}

"""The whole of discovery, in order: trace the model, read it, ask every channel."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval
from jaxtyping import PyTree

from .._checks import (
    is_floating,
    path_name,
    require,
    require_callable,
    require_floating_leaves,
)
from ..actions import PulledBack, Step
from ..actions._pullback import in_coordinates
from . import (
    _rules_elementwise,
    _rules_factors,
    _rules_linear,
    _rules_lookup,
    _rules_loops,
    _rules_mapped,
    _rules_ragged,
    _rules_scatter,
    _rules_shape,
    _rules_solutions,
)
from ._check import checked
from ._coordinates import virtual_leaves
from ._graph import Graph, describe_error
from ._graph_check import Reading
from ._layout import Refinements
from ._reader import Reader
from ._report import Symmetries
from ._tables import tabulate
from ._values import Value

# Reading them is what makes their rules known.
_REGISTERED = (
    _rules_elementwise,
    _rules_factors,
    _rules_linear,
    _rules_lookup,
    _rules_loops,
    _rules_mapped,
    _rules_ragged,
    _rules_scatter,
    _rules_shape,
    _rules_solutions,
)

#: Each reading makes some layout finer. What wants a finer one still is then not understood.
MOST_READINGS = 50

_HINT = (
    "symjax read `apply(params, *inputs)` by tracing it: `apply` must be a JAX function of the "
    "parameters and inputs, in this order. Of a model of a framework the pair (apply, params) is "
    "made by symjax.from_equinox, from_nnx, from_linen, from_torch or from_keras."
)


def find_symmetries(
    apply: Callable[..., PyTree], params: PyTree, *inputs: Any, check: bool = True
) -> Symmetries:
    """Every symmetry of ``params -> apply(params, *inputs)`` that can be proved (host-only).

    ``params`` and ``inputs`` are pytrees of arrays, or of `jax.ShapeDtypeStruct`: only shapes and
    dtypes are used. A symmetry is a group with its action on the parameters, for which the output
    does not change, whatever the inputs and whatever the values of the parameters. What the
    function holds besides (masks, tables, frozen weights) is taken as the constants that they are.
    Whether a function of one number is odd, even, homogeneous or affine is read off its primitives
    or, where they leave it open, found by evaluating it: `Symmetry.probed` then names it.

    What is not understood is held fixed and named in `Symmetries.unknown`, with the leaves that it
    concerns: a primitive without a rule, an error inside of one, leaves of complex numbers. What
    breaks a permutation although it is none of the inputs and outputs is named in `Symmetries.why`.

    With ``check`` what is found is evaluated before it is returned: random elements with either
    determinant move random parameters, and outputs are compared in float64. Where the model is too
    large for that, what was read of it is evaluated instead, with every index set at size 2 or 3:
    this finds errors in what was concluded, but none in how a primitive was read. So are the
    symmetries up to a norm's epsilon, with the epsilon at 0. `Symmetries.checked` says how. A
    symmetry that changes an output is an error of symjax: it is left out, and `Symmetries.false`
    and the printed table name it.

    Raises ValueError where ``params`` has no floating array, or has a bare Python number; where
    ``apply`` returns no array; and whatever tracing ``apply`` raises, with a hint.

    Example:
        >>> mlp = lambda p, x: p["u"] @ jax.nn.relu(p["v"] @ x)
        >>> params = {"v": jnp.ones((4, 2)), "u": jnp.ones((3, 4))}
        >>> found = find_symmetries(mlp, params, jnp.ones(2))
        >>> [(s.name, s.dimension, s.leaves) for s in found]
        [('rescaling', 4, ('u', 'v')), ('permutation', 0, ('u', 'v'))]
    """
    require_callable("apply", apply)
    require_floating_leaves(params, complex_too=True)
    flat, structure = jax.tree_util.tree_flatten_with_path(params)
    moving = [i for i, (_, leaf) in enumerate(flat) if is_floating(leaf)]
    jaxpr, kinds, data = _trace(apply, flat, structure, moving, inputs)
    names = [path_name(flat[i][0]) for i in moving]
    shapes = [tuple(flat[i][1].shape) for i in moving]
    table = lambda virtual: _table(jaxpr, kinds, names, shapes, flat, moving, virtual)
    found, read = table(True)
    if not check:
        return found
    leaves = {name: flat[i][1] for name, i in zip(names, moving, strict=True)}
    right = checked(found, jaxpr, leaves, data, read)
    if right.false and read is not None and read.bases:
        # Constants that a program computes in float32 are not known to more than that, and what
        # rests on them does not hold in float64: then leaves are read as they are.
        found, read = table(False)
        right = checked(found, jaxpr, leaves, data, read)
    return right


def _table(jaxpr, kinds, names, shapes, flat, moving, virtual):
    """(what is listed of a model, what was read of it), with virtual leaves or without."""
    read = None
    try:
        graph, steps, failed = _in_coordinates(jaxpr, kinds, names, shapes, virtual)
        read = Reading(graph, graph.live_nodes(), names, shapes)
        found = _pulled_back(tabulate(graph, names, shapes), steps, read)
        found = replace(found, unknown=found.unknown | failed)
    except Exception as error:  # the last resort: of nothing it would say it knows everything
        found = Symmetries((), {f"the whole model ({describe_error(error)})": tuple(names)})
    fixed = {path_name(path): leaf for path, leaf in flat if _is_complex(leaf)}
    unknown = {"complex leaves": tuple(fixed)} if fixed else {}
    sizes = {path_name(flat[i][0]): math.prod(flat[i][1].shape) for i in moving}
    sizes |= {name: math.prod(leaf.shape) for name, leaf in fixed.items()}
    found = replace(found, unknown=found.unknown | unknown, sizes=sizes)
    return found, read


def _in_coordinates(jaxpr, kinds, names, shapes, virtual):
    """(the graph of a model, the steps to its coordinates, what failed in finding these)."""
    graph = _read(jaxpr, kinds)
    if not virtual:
        return graph, [], {}
    try:
        return graph, virtual_leaves(graph, names, shapes), {}
    except Exception as error:
        failed = f"changes of coordinates ({describe_error(error)})"
        return _read(jaxpr, kinds), [], {failed: tuple(names)}


def _pulled_back(found: Symmetries, steps: Sequence[Step], read: Reading) -> Symmetries:
    """Symmetries of new coordinates as ones of the parameters."""
    items = []
    for s in found if steps else ():
        action = in_coordinates(s.action, steps)
        read.bases[id(action)] = s.action
        if action is not s.action and s.name == "unused":
            s = replace(s, name="shift")
        if isinstance(action, PulledBack):
            moved = {str(leaf) for leaf in action.moved}
            leaves = tuple(n for n in read.names if n in moved)
            s = replace(s, leaves=leaves)
        items.append(replace(s, action=action))
    return replace(found, items=tuple(items)) if steps else found


def _is_complex(leaf):
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.complexfloating)


def _trace(apply, flat, structure, moving, inputs):
    """(the jaxpr of (moving leaves, data) -> outputs, the kinds of its arguments, the data).

    Leaves that cannot move are inputs like others where they are complex or have no values, and
    else constants.
    """
    kept = {i: leaf for i, (_, leaf) in enumerate(flat) if i not in moving}
    given = {
        i: leaf
        for i, leaf in kept.items()
        if _is_complex(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
    }
    data, rebuild = _arrays((given, inputs))

    def function(leaves, arrays):
        rest, inputs = rebuild(arrays)
        full = kept | rest | dict(zip(moving, leaves, strict=True))
        tree = jax.tree.unflatten(structure, [full[i] for i in range(len(flat))])
        try:
            output = apply(tree, *inputs)
        except Exception as error:
            error.add_note(_HINT)
            raise
        arrays = [x for x in jax.tree.leaves(output) if hasattr(x, "dtype")]
        require(bool(arrays), f"`apply` must return an array, got {output!r}.")
        return arrays

    leaves = [_abstract(flat[i][1]) for i in moving]
    arrays = [_abstract(x) for x in data]
    jaxpr = _without_dead_code(jax.make_jaxpr(function)(leaves, arrays))
    return jaxpr, ["leaf"] * len(leaves) + ["input"] * len(arrays), data


def _without_dead_code(closed):
    """A program without what no output depends on, such as slices that were taken for logging."""
    every = [True] * len(closed.jaxpr.outvars)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, every, instantiate=True)
    return closed.replace(jaxpr=jaxpr)


def _arrays(inputs):
    """The arrays of the inputs, and how to put them back between what is not an array."""
    leaves, structure = jax.tree.flatten(inputs)
    is_array = [hasattr(x, "dtype") and hasattr(x, "shape") for x in leaves]

    def rebuild(arrays):
        rest = iter(arrays)
        full = [next(rest) if a else x for a, x in zip(is_array, leaves, strict=True)]
        return jax.tree.unflatten(structure, full)

    return [x for a, x in zip(is_array, leaves, strict=True) if a], rebuild


def _abstract(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _read(jaxpr, kinds) -> Graph:
    """Read until no layout has to be finer."""
    refinements = Refinements()
    for _ in range(MOST_READINGS):
        graph = _read_once(jaxpr, kinds, refinements)
        if not refinements.changed:
            return graph
    refinements.closed = True
    return _read_once(jaxpr, kinds, refinements)


def _read_once(jaxpr, kinds, refinements):
    refinements.changed = False
    arguments = zip(kinds, jaxpr.jaxpr.invars, strict=True)
    reader = Reader(refinements, [v.aval.dtype for kind, v in arguments if kind == "leaf"])
    values: list[Value] = []
    for i, (kind, variable) in enumerate(zip(kinds, jaxpr.jaxpr.invars, strict=True)):
        is_leaf = kind == "leaf"  # the leaves come first
        made = reader.leaf(i, variable.aval) if is_leaf else None
        values.append(made or reader.input(("input", i), variable.aval))
    for output in reader.read(jaxpr.jaxpr, jaxpr.consts, values):
        if isinstance(output, Value):
            reader.graph.outputs += [t for t, _ in output.blocks.values()]
    reader.graph.settle()
    return reader.graph

"""The whole of discovery, in order: read the model, ask every channel, assemble."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
from jaxtyping import PyTree

from .._checks import (
    is_floating,
    path_name,
    require,
    require_callable,
    require_floating_leaves,
)
from . import (
    _rules_elementwise,
    _rules_linear,
    _rules_loops,
    _rules_mapped,
    _rules_shape,
)
from ._assembly import Assembly
from ._check import checked
from ._graph import Graph, Tensor, leaves_of
from ._layout import Refinements
from ._phases import Phases
from ._probing import probe
from ._reader import Reader
from ._report import Symmetries
from ._scales import Scales
from ._shift_tables import ShiftTables
from ._shifts import Shifts
from ._spaces import Spaces
from ._values import Value

_REGISTERED = (_rules_elementwise, _rules_linear, _rules_loops, _rules_mapped, _rules_shape)

#: Each reading makes some layout finer, so this is never reached by a model that makes sense.
MOST_READINGS = 50

_HINT = (
    "symjax read `apply(params, *inputs)` by tracing it: `apply` must be a JAX function of the "
    "parameters and inputs, in this order. Of a model of a framework the pair (apply, params) is "
    "made by symjax.from_equinox, from_nnx or from_linen."
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

    With ``check`` what is exact is evaluated before it is returned: random elements with either
    determinant move random parameters, and outputs are compared in float64. `Symmetries.checked`
    says how. A symmetry that changes an output is an error of symjax: it is left out, and
    `Symmetries.false` and the printed table name it.

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
    require_floating_leaves(params)
    flat, structure = jax.tree_util.tree_flatten_with_path(params)
    moving = [i for i, (_, leaf) in enumerate(flat) if is_floating(leaf)]
    jaxpr, kinds = _trace(apply, flat, structure, moving, inputs)
    graph = _read(jaxpr, kinds)
    names = [path_name(flat[i][0]) for i in moving]
    shapes = [tuple(flat[i][1].shape) for i in moving]
    found = _assemble(graph, names, shapes)
    probed = probe(graph)
    if probed:
        found = _with_probed(found, _assemble(graph, names, shapes), probed, names)
    if not check:
        return found
    leaves = {name: flat[i][1] for name, i in zip(names, moving, strict=True)}
    return checked(found, jaxpr, leaves, _arrays(inputs)[0])


def _trace(apply, flat, structure, moving, inputs):
    """The jaxpr of (moving leaves, arrays of the inputs) -> floating and other outputs."""
    data, rebuild = _arrays(inputs)
    rest = {i: leaf for i, (_, leaf) in enumerate(flat) if i not in moving}

    def function(leaves, arrays):
        full = dict(zip(moving, leaves, strict=True)) | rest
        tree = jax.tree.unflatten(structure, [full[i] for i in range(len(flat))])
        try:
            output = apply(tree, *rebuild(arrays))
        except Exception as error:
            error.add_note(_HINT)
            raise
        arrays = [x for x in jax.tree.leaves(output) if hasattr(x, "dtype")]
        require(bool(arrays), f"`apply` must return an array, got {output!r}.")
        return arrays

    leaves = [_abstract(flat[i][1]) for i in moving]
    arrays = [_abstract(x) for x in data]
    jaxpr = jax.make_jaxpr(function)(leaves, arrays)
    return jaxpr, ["leaf"] * len(leaves) + ["input"] * len(arrays)


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
        refinements.changed = False
        reader = Reader(refinements)
        values: list[Value] = []
        for i, (kind, variable) in enumerate(zip(kinds, jaxpr.jaxpr.invars, strict=True)):
            is_leaf = kind == "leaf"  # the leaves come first
            made = reader.leaf(i, variable.aval) if is_leaf else None
            values.append(made or reader.input(("input", i), variable.aval))
        outputs = reader.read(jaxpr.jaxpr, jaxpr.consts, values)
        if not refinements.changed:
            for output in outputs:
                if isinstance(output, Value):
                    reader.graph.outputs += [t for t, _ in output.blocks.values()]
            return reader.graph
    # With a layout too coarse a symmetry could be listed that is none: better none at all.
    raise RuntimeError(
        f"After {MOST_READINGS} readings of `apply` the parameters still had to be cut into more "
        "pieces: this is an error of symjax; please report it with the model."
    )


def _assemble(graph: Graph, names, shapes) -> Symmetries:
    nodes = graph.live_nodes()
    assembly = Assembly(nodes, graph, names, shapes)
    spaces = Spaces(nodes, graph.outputs)
    found = assembly.spaces(spaces)
    items = [assembly.basis_symmetry(entry, spaces) for entry in found]
    overlap = 0
    exact = Scales(nodes, graph.outputs, 0, loose=False).solutions()
    turned = assembly.complex_scales(Phases(nodes, graph.outputs).solutions(), exact)
    items += [symmetry for symmetry, _, _ in turned]
    for modulus, make in ((0, assembly.scale_symmetry), (2, assembly.sign_symmetry)):
        ledger = assembly.ledger(modulus, found)
        for symmetry, kind, row in turned:
            # Pairs that turn by one angle: their scales are in a change of basis as well.
            if modulus == 0 and not ledger.span(kind).reduce(row):
                overlap += symmetry.group.dimension // 2
            assembly.account(ledger, kind, row)
        if modulus:
            exact = Scales(nodes, graph.outputs, 2, loose=False).solutions()
        items += assembly.diagonal(exact, ledger, make)
        if modulus == 0:
            overlap += ledger.listed - ledger.independent
            loose = Scales(nodes, graph.outputs, 0, loose=True).solutions()
            approximate = lambda kind, row: assembly.scale_symmetry(kind, row, exact=False)
            items += assembly.diagonal(loose, ledger, approximate)
    ledger, tables = assembly.ledger(0, ()), ShiftTables(assembly)
    shifts = tables.without_tied(Shifts(nodes, graph.outputs, graph.stacked).solutions())
    items += assembly.diagonal(
        shifts,
        ledger,
        tables.symmetry,
        tables.lower,
        tables.special(shifts),
    )
    overlap += ledger.listed - ledger.independent
    for entry in found:
        if tables.contain([index[0] for index, _, _ in entry.indices], shifts):
            overlap += entry.group.dimension
    items += tables.unused()
    items += assembly.permutations(found)
    unknown = {
        name: tuple(sorted({names[i] for t in tensors for i in leaves_of(t)}))
        for name, tensors in graph.unknown.items()
    }
    sizes = {name: math.prod(shape) for name, shape in zip(names, shapes, strict=True)}
    return Symmetries(tuple(items), unknown, overlap, sizes)


def _with_probed(
    proved: Symmetries, found: Symmetries, probed: dict[str, list[Tensor]], names: list[str]
) -> Symmetries:
    """What is found with the help of probed functions; what was proved without them is so named."""
    if found.dimension < proved.dimension:
        return proved
    behind = {
        name: {names[i] for t in sources for i in leaves_of(t)} for name, sources in probed.items()
    }
    items = []
    for s in found:
        if s not in proved.items:
            reasons = tuple(name for name, leaves in behind.items() if leaves & set(s.leaves))
            s = replace(s, probed=reasons or tuple(probed))
        items.append(s)
    return replace(found, items=tuple(items))

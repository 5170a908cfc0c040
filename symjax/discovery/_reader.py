"""Reading a jaxpr into a graph, with one rule per primitive.

A rule is a function ``rule(reader, equation, *values)`` that returns the value of the output (a
list where there are several); it is registered under the names of its primitives with `rule`. A
primitive without a rule, or one used in a way that its rule does not know, makes all that it
touches trivial and is named in the report. So does an error inside of a rule, whatever it is.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._jaxprs import has_program
from . import _terms as terms
from ._graph import Graph, Key, LeafBlock, describe_error
from ._layout import Axis, NeedsRefinement, Refinements, Unsupported, free_axis
from ._numbers import meant, plain
from ._values import (
    Term,
    Value,
    aligned,
    block_at,
    cells,
    uniform_axes,
)

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}

#: Primitives that only call a program. Others that have one mean something else by it: local shapes
#: (shard_map), references (pallas_call), steps (scan).
CALLS = frozenset(
    {
        *{"jit", "pjit", "closed_call", "core_call", "core_closed_call", "xla_call", "named_call"},
        *{"remat", "remat2", "checkpoint"},
        *{"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"},
    }
)
#: Constants larger than this are not evaluated: they are taken as entries that nothing may move.
LARGEST_CONSTANT = 1 << 26


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for primitives."""

    def register(function):
        for name in names:
            RULES[name] = function
        return function

    return register


class Reader:
    """One reading of a model: the graph so far, and where in the program it is."""

    def __init__(self, refinements: Refinements, dtypes: Iterable[Any] = ()):
        self.graph = Graph()
        self.refinements = refinements
        self.dtypes = set(dtypes)  # of the parameters: no cast to one of these loses anything
        self.primitive = ""
        self.path: Key = ()
        self.depth = 0  # of loops
        self.lifted = 0
        self.remembered: dict[Key, list[Value]] = {}  # what several equations have in common

    # -- making values ------------------------------------------------------------------------

    def fresh_axes(self, key: Key, shape: Sequence[int]) -> tuple[Axis, ...]:
        """New index sets for an array of a shape."""
        return tuple(self.refinements.axis((*key, i), n) for i, n in enumerate(shape))

    def source(self, key: Key, shape: Sequence[int], dtype: Any, kind: str, **fields: Any) -> Value:
        """An array whose entries come from outside: a leaf of the parameters, an input."""
        axes = self.fresh_axes(key, shape)
        blocks = {}
        for cell in cells(axes):
            parts = [axis.segments[i] for axis, i in zip(axes, cell, strict=True)]
            places = [(a, k) for a, part in enumerate(parts) for k in range(len(part.slots))]
            atoms = [parts[a].slots[k][0] for a, k in places]
            more = dict(fields)
            if kind == "leaf":
                geometry = tuple(part.geometry for part in parts)
                more["leaf"] = LeafBlock(fields["leaf"], geometry)
            blocks[cell] = self.graph.tensor(atoms, kind, **more), tuple(places)
        return Value(axes, blocks, dtype)

    def leaf(self, number: int, like: Any) -> Value:
        """A leaf of the parameters."""
        return self.source(
            ("leaf", number), like.shape, like.dtype, "leaf", leaf=number, has_params=True
        )

    def input(self, key: Key, like: Any) -> Value:
        """Data: nothing may act on it."""
        return self.source(key, like.shape, like.dtype, "input", has_data=True)

    def lift(self, value: Any) -> Value:
        """A value from a constant array; axes along which it does not vary are free."""
        if isinstance(value, Value):
            return value
        if jnp.issubdtype(value.dtype, jax.dtypes.extended):
            return self.input((*self.path, "key"), value)
        array = plain(np.asarray(value))
        same = set(uniform_axes(array))
        # Each use of a constant is one of its own: two uses need not be laid out alike.
        self.lifted += 1
        key = ("constant", *self.path, self.lifted)
        axes = tuple(
            free_axis(n) if i in same else self.refinements.axis((*key, i), n)
            for i, n in enumerate(array.shape)
        )
        blocks = {
            cell: self._constant_block(array, axes, cell, value.dtype) for cell in cells(axes)
        }
        return Value(axes, blocks, value.dtype)

    def _constant_block(self, array, axes, cell, dtype):
        if array.size == 0:
            return terms.scalar(self.graph, 0.0)
        block, places, atoms = array, [], []
        for a in reversed(range(array.ndim)):
            axis, segment = axes[a], axes[a].segments[cell[a]]
            if axis.free:
                block = np.take(block, 0, axis=a)
                continue
            if len(axis.segments) == 1 and len(segment.slots) == 1:
                places, atoms = [(a, 0), *places], [segment.slots[0][0], *atoms]
                continue
            block = np.moveaxis(block, a, 0)
            index = np.array(segment.offset)
            for atom, stride in segment.slots:
                index = index[..., None] + stride * np.arange(atom.size)
            block = block[index]
            count = index.ndim
            block = np.moveaxis(block, list(range(count)), list(range(a, a + count)))
            places = [(a, k) for k in range(count)] + places
            atoms = [atom for atom, _ in segment.slots] + atoms
        split = any(len(axis.segments) > 1 for axis in axes)
        varies = [i for i in range(block.ndim) if not split or i not in uniform_axes(block)]
        block = block[tuple(slice(None) if i in varies else 0 for i in range(block.ndim))]
        if block.ndim == 0 and jnp.issubdtype(dtype, jnp.floating):
            block = np.asarray(meant(float(block), dtype))
        origin = f"a constant of shape {block.shape} in `{self.primitive}`"
        atoms = [atoms[i] for i in varies]
        tensor = self.graph.tensor(atoms, "constant", value=block, origin=origin)
        return tensor, tuple(places[i] for i in varies)

    # -- reading ------------------------------------------------------------------------------

    def read(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """The values of a jaxpr's outputs."""
        values = dict(zip(jaxpr.constvars, constants, strict=True))
        values |= dict(zip(jaxpr.invars, arguments, strict=True))
        look = lambda v: np.asarray(v.val) if hasattr(v, "val") else values[v]
        outer = self.path
        for number, equation in enumerate(jaxpr.eqns):
            self.path, self.lifted = (*outer, number), 0
            operands = [look(v) for v in equation.invars]
            for variable, value in zip(
                equation.outvars, self._equation(equation, operands), strict=True
            ):
                values[variable] = value
        self.path = outer
        return [look(v) for v in jaxpr.outvars]

    def _equation(self, equation, operands):
        path, depth = self.path, self.depth
        try:
            return self._outputs(equation, operands)
        except NeedsRefinement:
            reason = "" if self.refinements.changed else "too many pieces"
        except Unsupported as error:
            reason = str(error)
        except Exception as error:
            reason = describe_error(error)
        self.path, self.depth = path, depth
        # Where a layout has to be finer this reading is given up: what follows only serves to learn
        # what else is needed.
        return self.opaque(equation, operands, reason)

    def _outputs(self, equation, operands):
        name = self.primitive = equation.primitive.name
        inner = inner_jaxpr(equation)
        if inner is not None:
            result = self._call(inner, operands)
        elif (known := _fold(equation, operands)) is not None:
            return known
        elif equation.outvars and all(0 in v.aval.shape for v in equation.outvars):
            return [np.zeros(v.aval.shape, v.aval.dtype) for v in equation.outvars]
        elif name in RULES:
            result = RULES[name](self, equation, *operands)
        else:
            result = self._call(implementation(equation), operands)
        result = result if isinstance(result, list) else [result]
        for value, variable in zip(result, equation.outvars, strict=True):
            if tuple(value.shape) != tuple(variable.aval.shape):
                raise TypeError(f"shape {value.shape} for {variable.aval}")
        return result

    def _call(self, inner, operands):
        closed = hasattr(inner, "consts")
        jaxpr, constants = (inner.jaxpr, inner.consts) if closed else (inner, ())
        return self.read(jaxpr, constants, operands)

    def opaque(self, equation: Any, operands: Sequence[Any], reason: str = "") -> list[Value]:
        """Outputs of an operation that is not understood: its operands must not change."""
        values = [v for v in operands if isinstance(v, Value)]
        used = [t for v in values for t, _ in v.blocks.values() if t.has_params]
        if used:
            name = equation.primitive.name
            name = f"{name} ({reason})" if reason else name
        made = [self.input((*self.path, i), v.aval) for i, v in enumerate(equation.outvars)]
        for tensor in (t for v in made for t, _ in v.blocks.values()) if used else ():
            tensor.has_params = True  # so that what is used of it is held fixed in its turn
            self.graph.opaque[tensor.number] = name, used
        return made

    # -- helpers for rules --------------------------------------------------------------------

    def elementwise(
        self, values: Sequence[Any], make: Callable[[list[Term]], Term], dtype: Any
    ) -> Value:
        """Apply a function of terms to every cell of values of one shape (or scalars)."""
        lifted = [self.lift(v) for v in values]
        shape = max((v.shape for v in lifted), key=len)
        full = [v for v in lifted if len(v.axes) == len(shape)]
        axes = aligned(full, self.refinements)
        blocks = {}
        for cell in cells(axes):
            row = [
                block_at(v, axes, cell) if len(v.axes) == len(shape) else v.blocks[()]
                for v in lifted
            ]
            blocks[cell] = make(row)
        return Value(axes, blocks, dtype)

    def map(self, value: Value, make: Callable[[Term], Term], dtype: Any) -> Value:
        """Apply a function of terms to every block."""
        return Value(value.axes, {c: make(t) for c, t in value.blocks.items()}, dtype)


def inner_jaxpr(equation: Any) -> Any:
    """The program of an equation that only calls it, with operands and outputs as they are."""
    if equation.primitive.name not in CALLS:
        return None
    for name in ("call_jaxpr", "jaxpr", "fun_jaxpr"):
        inner = equation.params.get(name)
        core = getattr(inner, "jaxpr", inner)
        if inner is not None and hasattr(core, "eqns") and len(core.invars) == len(equation.invars):
            return inner
    return None


def implementation(equation: Any) -> Any:
    """The program of a primitive of another library, where its implementation is written in JAX."""
    primitive = equation.primitive
    module = getattr(primitive.impl, "__module__", None) or "jax"
    if module.split(".")[0] in ("jax", "jaxlib", "functools"):
        raise Unsupported
    function = lambda *operands: primitive.impl(*operands, **equation.params)
    closed = jax.make_jaxpr(function)(*[v.aval for v in equation.invars])
    if any(inner.primitive is primitive for inner in closed.jaxpr.eqns):
        raise Unsupported
    return closed


def _fold(equation, operands):
    """The outputs of an equation all of whose operands are known; None where they are not."""
    sizes = [np.prod(v.aval.shape, dtype=float) for v in equation.outvars]
    if any(isinstance(v, Value) for v in operands) or sum(sizes) > LARGEST_CONSTANT:
        return None
    if not operands and equation.primitive.name != "iota":
        return None
    if has_program(equation):
        return None
    try:
        with jax.ensure_compile_time_eval():
            result = equation.primitive.bind(*operands, **equation.params)
    except Exception:  # one that cannot be computed here may still have a rule
        return None
    return list(result) if equation.primitive.multiple_results else [result]

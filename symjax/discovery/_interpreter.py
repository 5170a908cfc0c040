"""A program evaluated in NumPy, equation by equation: nothing is compiled, floats are float64.

A primitive that has no rule in `_numpy_primitives` runs in JAX: in float64 where it takes that,
else in the dtypes of the program, which `Interpreter.eps` then remembers.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._jaxprs import has_program, programs_of
from ._numpy_primitives import RULES, widened
from ._rules_loops import counts_of_scan

#: Equations that only run a program, with operands and outputs as they are.
CALLS = frozenset(
    [
        *["jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"],
        *["custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin"],
    ]
)
#: What one equation costs beside its arithmetic, in operations: the time NumPy takes to start.
OVERHEAD = 10_000.0
#: A loop whose number of steps the program does not say counts as this many.
STEPS_OF_WHILE = 16


class Interpreter:
    """Evaluates one program as often as asked."""

    def __init__(self, closed: Any):
        self.closed = closed
        self.constants = [host(x) for x in closed.consts]
        #: The eps of the coarsest dtype that an equation was computed in.
        self.eps = float(np.finfo(np.float64).eps)
        self.compiled: dict[int, Any] = {}

    def __call__(self, arguments: Sequence[Any]) -> list[np.ndarray]:
        """The outputs, given arrays as `host` makes them."""
        with np.errstate(all="ignore"):
            return self._run(self.closed.jaxpr, self.constants, arguments)

    def _run(self, jaxpr, constants, arguments):
        values = dict(zip(jaxpr.constvars, constants, strict=True))
        values |= dict(zip(jaxpr.invars, arguments, strict=True))
        look = lambda v: host(v.val) if hasattr(v, "val") else values[v]
        for equation in jaxpr.eqns:
            results = self._equation(equation, [look(v) for v in equation.invars])
            for variable, value in zip(equation.outvars, results, strict=True):
                values[variable] = _as_declared(value, variable.aval)
        return [look(v) for v in jaxpr.outvars]

    def _closed(self, closed, arguments):
        jaxpr = getattr(closed, "jaxpr", closed)
        return self._run(jaxpr, [host(x) for x in getattr(closed, "consts", ())], arguments)

    def _equation(self, equation, operands):
        name, p = equation.primitive.name, equation.params
        if name in CALLS:
            return self._closed(inner_program(equation), operands)
        loop = {"scan": self._scan, "while": self._while, "cond": self._cond}.get(name)
        if loop is not None:
            return loop(equation, operands)
        if name in RULES:
            try:
                result = RULES[name](p, *operands)
                return result if equation.primitive.multiple_results else [_only(result)]
            except (NotImplementedError, TypeError, KeyError):
                pass  # a use of the primitive that the rule does not know
        return self._in_jax(equation, operands)

    # -- loops ----------------------------------------------------------------------------------

    def _scan(self, equation, operands):
        p = equation.params
        consts, carries = counts_of_scan(equation)
        fixed, state = operands[:consts], operands[consts : consts + carries]
        stacks, rows = operands[consts + carries :], []
        steps = range(p["length"])
        for i in reversed(steps) if p["reverse"] else steps:
            out = self._closed(p["jaxpr"], [*fixed, *state, *(x[i] for x in stacks)])
            state = out[:carries]
            rows.append(out[carries:])
        rows = rows[::-1] if p["reverse"] else rows
        shapes = [v.aval for v in equation.outvars[carries:]]
        if not rows:
            return [*state, *(np.zeros(a.shape, widened(a.dtype)) for a in shapes)]
        return [*state, *(np.stack(column) for column in zip(*rows, strict=True))]

    def _while(self, equation, operands):
        p = equation.params
        n, m = p["cond_nconsts"], p["body_nconsts"]
        test, fixed, state = operands[:n], operands[n : n + m], operands[n + m :]
        while self._closed(p["cond_jaxpr"], [*test, *state])[0]:
            state = self._closed(p["body_jaxpr"], [*fixed, *state])
        return state

    def _cond(self, equation, operands):
        branches = equation.params["branches"]
        which = int(np.clip(int(operands[0]), 0, len(branches) - 1))
        return self._closed(branches[which], operands[1:])

    # -- by JAX ---------------------------------------------------------------------------------

    def _in_jax(self, equation, operands):
        """One equation, computed by JAX."""
        with jax.ensure_compile_time_eval(), jax.enable_x64(True):
            if not has_program(equation):
                try:
                    out = equation.primitive.bind(*map(_device, operands), **equation.params)
                    return _hosted(out)
                except Exception:
                    pass  # it insists on the dtypes of the program
        avals = [v.aval for v in equation.invars]
        for aval in (*avals, *(v.aval for v in equation.outvars)):
            if jnp.issubdtype(aval.dtype, jnp.floating):
                self.eps = max(self.eps, float(jnp.finfo(aval.dtype).eps))
        if id(equation) not in self.compiled:
            self.compiled[id(equation)] = jax.jit(_alone(equation))
        given = [_device(x, a.dtype) for x, a in zip(operands, avals, strict=True)]
        with jax.ensure_compile_time_eval():
            return _hosted(self.compiled[id(equation)](*given))


def _alone(equation):
    """One equation as a function."""

    def run(*operands):
        functions, params = equation.primitive.get_bind_params(equation.params)
        return equation.primitive.bind(*functions, *operands, **params)

    return run


def _device(x, dtype=None):
    return jnp.asarray(x if dtype is None else x.astype(dtype)) if _is_host(x) else x


def _hosted(out):
    return [host(x) for x in (out if isinstance(out, list | tuple) else [out])]


def _is_host(x):
    return isinstance(x, np.ndarray | np.generic)


def host(x: Any) -> Any:
    """An array in NumPy, floating ones as float64; keys stay as they are."""
    if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return x
    x = np.asarray(x)
    return x.astype(widened(x.dtype), copy=False)


def _as_declared(value, aval):
    """Whole numbers wrap around as their dtype says; floats keep their 64 bits."""
    if not _is_host(value):
        return value
    return np.asarray(value).astype(widened(aval.dtype), copy=False)


def _only(result):
    return result[0] if isinstance(result, list) else result


def inner_program(equation: Any) -> Any:
    """The program of an equation among `CALLS`."""
    p = equation.params
    return next(p[name] for name in ("call_jaxpr", "jaxpr", "fun_jaxpr") if name in p)


# -- how long it takes ------------------------------------------------------------------------


def equations(jaxpr: Any) -> Iterator[tuple[Any, float]]:
    """Every equation of a program and of those inside, with how often it is computed."""
    for equation in jaxpr.eqns:
        yield equation, 1.0
        times = {"scan": equation.params.get("length", 1), "while": STEPS_OF_WHILE}
        for inner in programs_of(equation):
            for one, count in equations(inner):
                yield one, count * times.get(equation.primitive.name, 1)


def operations(jaxpr: Any) -> float:
    """About how many operations one evaluation takes."""
    return sum(count * (_operations(equation) + OVERHEAD) for equation, count in equations(jaxpr))


def _operations(equation):
    size = lambda v: math.prod(getattr(v.aval, "shape", ()))
    total = float(sum(map(size, equation.outvars)))
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return total * math.prod(equation.invars[0].aval.shape[a] for a in contracted)
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1]
        outputs = kernel.aval.shape[equation.params["dimension_numbers"].rhs_spec[0]]
        return total * size(kernel) / max(outputs, 1)
    return 4 * total

"""Rules of primitives that act entry by entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np

from . import _terms as terms
from ._layout import NeedsRefinement
from ._monomials import fraction
from ._names import marked
from ._ranges import decided, fits, without_bounds
from ._reader import Reader, rule
from ._values import Term, Value


@dataclass(frozen=True)
class Traits:
    """What is known of a function of one number.

    ``degree`` k: f(c z) = c^k f(z) for c > 0. ``parity`` 1: odd, 0: even. None: nothing.
    ``probed``: found by evaluating the function. ``narrowing``: a cast to fewer digits.
    """

    degree: Fraction | None = None
    parity: int | None = None
    probed: bool = False
    narrowing: bool = False


NOTHING = Traits()
#: A mask along one axis that changes more often than this is not followed piece by piece.
MOST_PIECES = 8
TRAITS = {
    "abs": Traits(Fraction(1), 0),
    "sign": Traits(Fraction(0), 1),
    "sqrt": Traits(Fraction(1, 2)),
    "rsqrt": Traits(Fraction(-1, 2)),
    "cbrt": Traits(Fraction(1, 3), 1),
    **dict.fromkeys(
        ["tanh", "sin", "tan", "asin", "atan", "sinh", "asinh", "atanh", "erf", "erf_inv", "round"],
        Traits(None, 1),
    ),
    **dict.fromkeys(["cos", "cosh"], Traits(None, 0)),
}


def pointwise(reader: Reader, operands: list[Term], traits: Traits, name: str) -> Term:
    """A node for a function applied entry by entry."""
    return terms.apply(reader.graph, "pointwise", operands, traits=traits, name=name)


def power(reader: Reader, term: Term, exponent: float, name: str) -> Term:
    """Term ** exponent."""
    if exponent == 1:
        return term
    if exponent == 2:
        return terms.product(reader.graph, term, term)
    integral = float(exponent).is_integer()
    degree = fraction(float(exponent))
    traits = Traits(degree, int(exponent) % 2 if integral else None)
    return pointwise(reader, [term], traits, name)


def cut_by_mask(reader: Reader, mask: Value, cases: Sequence[Any]) -> None:
    """Cut an axis where a known mask changes, so that what it singles out stands apart."""
    tensor = mask.blocks.get((0,) * len(mask.axes), (None, ()))[0]
    if len(mask.blocks) != 1 or tensor is None or tensor.value is None or tensor.value.ndim != 1:
        return
    points = np.flatnonzero(np.diff(tensor.value != 0)) + 1
    if 0 < len(points) < MOST_PIECES:
        reader.refinements.cut(tensor.atoms[0], points.tolist())
        raise NeedsRefinement
    if len(points):
        masked = [t for v in cases if isinstance(v, Value) for t, _ in v.blocks.values()]
        reader.graph.miss("a mask in too many pieces", masked)


def _dtype(equation):
    return equation.outvars[0].aval.dtype


@rule("neg")
def _neg(reader, equation, x):
    make = lambda row: terms.linear(reader.graph, row, [-1])
    return reader.elementwise([x], make, _dtype(equation))


@rule("add", "add_any", "sub")
def _add(reader, equation, *values):
    sign = -1 if equation.primitive.name == "sub" else 1
    make = lambda row: terms.linear(reader.graph, row, [1, sign])
    return reader.elementwise(values, make, _dtype(equation))


@rule("mul")
def _mul(reader, equation, *values):
    make = lambda row: terms.product(reader.graph, *row)
    return reader.elementwise(values, make, _dtype(equation))


@rule("div")
def _div(reader, equation, x, y):
    def make(row):
        a, b = row
        divisor = terms.number(b)
        if divisor:
            return terms.linear(reader.graph, [a], [1 / divisor])
        return terms.product(reader.graph, a, power(reader, b, -1, "div"))

    if not jnp.issubdtype(_dtype(equation), jnp.inexact):
        return _any(reader, equation, x, y)
    return reader.elementwise([x, y], make, _dtype(equation))


@rule("square")
def _square(reader, equation, x):
    return reader.elementwise([x], lambda r: power(reader, r[0], 2, "square"), _dtype(equation))


@rule("integer_pow")
def _integer_pow(reader, equation, x):
    y = equation.params["y"]
    return reader.elementwise([x], lambda r: power(reader, r[0], y, "power"), _dtype(equation))


@rule("pow")
def _pow(reader, equation, x, y):
    def make(row):
        exponent = terms.number(row[1])
        if exponent is None:
            return pointwise(reader, row, NOTHING, "pow")
        return power(reader, row[0], exponent, "pow")

    return reader.elementwise([x, y], make, _dtype(equation))


@rule(*TRAITS)
def _function(reader, equation, x):
    name = equation.primitive.name
    make = lambda row: pointwise(reader, row, TRAITS[name], name)
    return reader.elementwise([x], make, _dtype(equation))


@rule(
    *["exp", "exp2", "expm1", "log", "log1p", "logistic", "erfc", "acos", "acosh", "digamma"],
    *["lgamma", "floor", "ceil", "not", "and", "or", "xor", "atan2", "rem", "nextafter"],
    *["shift_left", "shift_right_logical", "shift_right_arithmetic", "bessel_i0e", "bessel_i1e"],
    *["population_count", "clz", "is_finite", "igamma", "igammac", "polygamma"],
)
def _any(reader, equation, *values):
    name = equation.primitive.name
    make = lambda row: pointwise(reader, row, NOTHING, name)
    return reader.elementwise(values, make, _dtype(equation))


@rule("eq", "ne", "lt", "le", "gt", "ge", "lt_to", "le_to")
def _compare(reader, equation, *values):
    name = equation.primitive.name.removesuffix("_to")
    return compared(reader, values, name, _dtype(equation))


def compared(reader: Reader, values: Sequence[Any], name: str, dtype: Any) -> Value:
    """A comparison, entry by entry.

    x > y asks for the sign of x - y, which a common positive factor or a common shift keeps.
    """
    traits = Traits(Fraction(0), 0 if name in ("eq", "ne") else None)

    def make(row):
        infinite = [terms.number(t) in (np.inf, -np.inf) for t in row]
        if any(infinite):
            return pointwise(reader, row, NOTHING, name)
        known = decided(row, name)
        if known is not None:
            return terms.scalar(reader.graph, known)
        difference = marked(reader.graph, row, name) or terms.linear(reader.graph, row, [1, -1])
        return pointwise(reader, [difference], traits, name)

    return reader.elementwise(values, make, dtype)


def equal_entries(reader: Reader, x: Value, y: Any) -> Value:
    """Where two arrays are equal."""
    return compared(reader, [x, y], "eq", np.dtype(bool))


@rule("max", "min")
def _max(reader, equation, *values):
    name = equation.primitive.name
    ignored = -np.inf if name == "max" else np.inf

    def make(row):
        row = [t for t in row if terms.number(t) != ignored]
        row = without_bounds(row, name)
        if len(row) == 1:
            return row[0]
        other = [t for t in row if not terms.is_zero(t)]
        if len(other) == 1:
            return pointwise(reader, other, Traits(Fraction(1)), name)
        return terms.apply(reader.graph, "equal", row, traits="order", name=name)

    return reader.elementwise(values, make, _dtype(equation))


@rule("clamp")
def _clamp(reader, equation, low, x, high):
    def make(row):
        if without_bounds([row[0], row[1]], "max") == without_bounds([row[1], row[2]], "min"):
            return row[1]
        return terms.apply(reader.graph, "equal", row, traits="order", name="clamp")

    return reader.elementwise([low, x, high], make, _dtype(equation))


@rule("select_n")
def _select(reader, equation, which, *cases):
    which = reader.lift(which)
    cut_by_mask(reader, which, cases)

    def make(row):
        chosen = terms.number(row[0])
        if chosen is not None:
            return row[1 + int(chosen)]
        if all(case == row[1] for case in row[2:]):
            return row[1]
        return terms.apply(reader.graph, "equal", row, guides=frozenset({0}), name="select")

    return reader.elementwise([which, *cases], make, _dtype(equation))


@rule(
    "stop_gradient",
    "device_put",
    "copy",
    "copy_p",
    "optimization_barrier",
    "sharding_constraint",
    "pvary",
    "name",
)
def _identity(reader, equation, *values):
    return [reader.lift(v) for v in values]


@rule("convert_element_type")
def _convert(reader, equation, x):
    x, new = reader.lift(x), _dtype(equation)
    # Back to the dtype of the parameters nothing is lost that they had.
    back = (
        _is_float(x.dtype) and _is_float(new) and any(keeps_numbers(d, new) for d in reader.dtypes)
    )
    return cast(reader, equation, x, back or keeps_numbers(x.dtype, new))


@rule("reduce_precision")
def _reduce_precision(reader, equation, x):
    x, p = reader.lift(x), equation.params
    bits = jnp.finfo(x.dtype)
    keeps = p["mantissa_bits"] >= bits.nmant and p["exponent_bits"] >= bits.nexp
    return cast(reader, equation, x, keeps)


def cast(reader: Reader, equation: Any, x: Value, keeps: bool) -> Value:
    """A cast: nothing where every number is kept, a rounding of parameters, or some function."""
    new = _dtype(equation)
    if keeps:
        return Value(x.axes, x.blocks, new)
    if not (x.has_params and _is_float(x.dtype) and _is_float(new)):
        make = lambda t: t if fits(t, new) else pointwise(reader, [t], NOTHING, f"cast {new}")
        return reader.map(x, make, new)
    traits = Traits(None, 1, narrowing=True)
    return reader.map(x, lambda t: pointwise(reader, [t], traits, "cast"), new)


def _is_float(dtype):
    return jnp.issubdtype(dtype, jnp.floating)


def keeps_numbers(old: Any, new: Any) -> bool:
    """Whether every number of a dtype is one of another."""
    to_bool = jnp.issubdtype(new, jnp.bool_)
    if old == new or jnp.issubdtype(old, jnp.bool_):
        return True
    is_complex = [jnp.issubdtype(d, jnp.complexfloating) for d in (old, new)]
    if to_bool or is_complex == [True, False]:
        return False
    if jnp.issubdtype(old, jnp.integer):
        a = jnp.iinfo(old)
        if jnp.issubdtype(new, jnp.integer):
            b = jnp.iinfo(new)
            return b.min <= a.min and a.max <= b.max
        digits = jnp.finfo(new)
        return bool(a.max <= 2 ** (digits.nmant + 1) and a.max <= digits.max)
    if jnp.issubdtype(new, jnp.integer):
        return False
    a, b = jnp.finfo(old), jnp.finfo(new)
    return b.nmant >= a.nmant and b.maxexp >= a.maxexp

"""Elementwise programs of one number in float64, each value with a bound of its rounding.

The bound says what a value is worth: where large terms cancel, nothing is concluded from the rest.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ._graph import Node, Tensor

EPS = float(np.finfo(np.float64).eps)

#: A value, and a bound of its error to first order; infinite where nothing is known.
Row = tuple[np.ndarray, np.ndarray]

#: Functions with no rounding of their own.
EXACT = frozenset(
    [
        *["eq", "ne", "lt", "le", "gt", "ge", "not", "and", "or", "xor", "is_finite"],
        *["abs", "sign", "floor", "ceil", "round", "max", "min"],
    ]
)
_POWERS = ("square", "power", "pow", "div")


@functools.cache
def functions() -> dict[str, Callable[..., np.ndarray]]:
    """The functions of `pointwise` nodes by name; a comparison with zero has one operand."""
    import scipy.special as special  # where it is used: `import symjax` is quicker without

    same = {
        **{name: getattr(np, name) for name in ("abs", "sign", "sqrt", "cbrt", "tanh", "sin")},
        **{name: getattr(np, name) for name in ("tan", "sinh", "cos", "cosh", "exp", "exp2")},
        **{name: getattr(np, name) for name in ("expm1", "log", "log1p", "floor", "ceil")},
        **{f"a{name}": getattr(np, f"arc{name}") for name in ("sin", "cos", "tan")},
        **{f"a{name}h": getattr(np, f"arc{name}h") for name in ("sin", "cos", "tan")},
        **{name: getattr(special, name) for name in ("erf", "erfc", "digamma")},
        "erf_inv": special.erfinv,
        "lgamma": special.gammaln,
        "bessel_i0e": special.i0e,
        "bessel_i1e": special.i1e,
        "logistic": special.expit,
        "positive": np.abs,  # of numbers that are positive by their nature
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "round": np.rint,
        "is_finite": np.isfinite,
        "not": np.logical_not,
        "and": np.logical_and,
        "or": np.logical_or,
        "xor": np.logical_xor,
        "atan2": np.arctan2,
        "rem": np.fmod,
        "pow": np.power,
    }
    compare = {
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
        "max": np.maximum,
        "min": np.minimum,
    }
    beside_zero = lambda f: lambda x, y=0.0: f(x, y)
    return same | {name: beside_zero(f) for name, f in compare.items()}


def function_of(node: Node) -> Callable[..., np.ndarray] | None:
    """The function of a `pointwise` node; None where it is not known."""
    degree = getattr(node.traits, "degree", None)
    if node.name in _POWERS and len(node.operands) == 1 and degree is not None:
        return lambda x: np.power(x, float(degree))
    return functions().get(node.name)


def evaluate(nodes: Sequence[Node], source: Tensor, points: np.ndarray) -> Row:
    """The last of some nodes, as a function of a tensor, at some points."""
    rows: dict[int, Row] = {source.number: (points, np.zeros_like(points))}

    def look(tensor):
        if tensor.number in rows:
            return rows[tensor.number]
        assert tensor.value is not None
        return np.full_like(points, float(tensor.value)), np.zeros_like(points)

    with np.errstate(all="ignore"):
        for node in nodes:
            value, error = _step(node, [look(t) for t, _ in node.operands])
            error = np.where(np.isfinite(error), error, np.inf)
            rows[node.out.number] = value, error
    return rows[nodes[-1].out.number]


def _step(node: Node, rows: list[Row]) -> Row:
    values, errors = zip(*rows, strict=True)
    if node.kind == "linear":
        return _linear(node, values, errors)
    if node.kind == "product":
        (a, b), (x, y) = values, errors
        factor = node.coefficients[0]
        value = factor * a * b
        return value, abs(factor) * (np.abs(a) * y + np.abs(b) * x + x * y) + 2 * EPS * abs(value)
    if node.kind == "equal":
        return _choice(node, values, errors)
    return _function(node, values, errors)


def _linear(node, values, errors):
    total: dict[int, float] = {}  # by tensor: x - x is 0, whatever the error of x
    for (tensor, _), c in zip(node.operands, node.coefficients, strict=True):
        total[tensor.number] = total.get(tensor.number, 0.0) + c
    first = {t.number: i for i, (t, _) in reversed(list(enumerate(node.operands)))}
    terms = [c * values[first[n]] for n, c in total.items() if c]
    given = sum(abs(c) * errors[first[n]] for n, c in total.items() if c)
    value = sum(terms, np.zeros_like(values[0]))
    exact = all(math.frexp(abs(c))[0] in (0.0, 0.5) for c in total.values())
    # The sum or difference of two numbers is rounded once, so at its own size.
    sizes = [value] if exact and len(terms) <= 2 else terms
    rounds = not (exact and len(terms) <= 1)
    rounding = rounds * EPS * sum(map(np.abs, sizes))
    return value, np.zeros_like(value) + given + rounding


def _choice(node, values, errors):
    if node.name == "select":
        which = values[0].astype(int)
        pick = lambda rows: np.choose(which, rows)
        error = pick(errors[1:])
        return pick(values[1:]), np.where(errors[0] > 0, np.inf, error)
    if node.name == "clamp":
        low, x, high = values
        return np.minimum(np.maximum(x, low), high), functools.reduce(np.maximum, errors)
    choose = np.maximum if node.name == "max" else np.minimum
    return functools.reduce(choose, values), functools.reduce(np.maximum, errors)


def _function(node, values, errors):
    f = function_of(node)
    assert f is not None
    value = np.asarray(f(*values), np.float64)
    error = np.zeros_like(value) if node.name in EXACT else 8 * EPS * np.abs(value)
    for i, e in enumerate(errors):
        for step in (e, -e) if np.any(e) else ():
            near = f(*values[:i], values[i] + step, *values[i + 1 :])
            error = np.where(e > 0, error + np.abs(np.asarray(near, np.float64) - value), error)
    return value, error

"""Scalars and batches as arguments: one dtype, one shape, values in range."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from .._checks import require, require_concrete
from ..linalg._precision import computing_dtype

Number = Float[ArrayLike, "..."]


def as_floats(**named: Any) -> tuple[tuple[Float[Array, "..."], ...], jnp.dtype]:
    """Arguments as arrays of one shape in the dtype to compute in, and the dtype to answer in.

    Python numbers take the dtype of the arrays beside them. Raises ValueError naming the argument
    where two arrays differ in dtype, one is not real, or the shapes do not broadcast.
    """
    arrays = {name: jnp.asarray(value) for name, value in named.items()}
    strong = {}
    for name, array in arrays.items():
        require(
            not jnp.issubdtype(array.dtype, jnp.complexfloating),
            f"`{name}` must be real, got {array.dtype}.",
        )
        if jnp.issubdtype(array.dtype, jnp.floating) and not array.weak_type:
            strong[name] = array.dtype
    require(
        len(set(strong.values())) <= 1,
        f"Arguments must share one dtype, got {_listed(strong)}; cast one with `.astype`.",
    )
    dtype = next(iter(strong.values()), jnp.result_type(float))
    shapes = {name: array.shape for name, array in arrays.items()}
    try:
        shape = jnp.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(f"Shapes of the arguments do not broadcast: {_listed(shapes)}.") from None
    compute = computing_dtype(dtype)
    return tuple(jnp.broadcast_to(a.astype(compute), shape) for a in arrays.values()), dtype


def answer_dtype(*dtypes: jnp.dtype) -> jnp.dtype:
    """The dtype to answer in: the one dtype where there is one, else that of the computation."""
    return jnp.dtype(dtypes[0]) if len(set(dtypes)) == 1 else computing_dtype(*dtypes)


def _listed(of: dict[str, Any]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in of.items())


def require_at_least(low: float, **named: Any) -> None:
    """Raise ValueError for a concrete argument below ``low``; NaN passes."""
    _require(lambda value: ~(value < low), f"at least {low:g}", named)


def require_positive(**named: Any) -> None:
    """Raise ValueError for a concrete argument that is zero or negative; NaN passes."""
    _require(lambda value: ~(value <= 0), "positive", named)


def require_unit_interval(**named: Any) -> None:
    """Raise ValueError for a concrete argument outside [0, 1]; NaN passes."""
    _require(lambda value: ~((value < 0) | (value > 1)), "in [0, 1]", named)


def _require(condition, expected, named):
    for name, value in named.items():
        require_concrete(
            # In NumPy: a limit of infinity is compared, and not computed on the device.
            lambda value=value: condition(np.asarray(value)),
            lambda name=name, value=value: f"`{name}` must be {expected}, got {value}.",
            value,
        )


def all_true(flags: PyTree) -> Bool[Array, "..."]:
    """The conjunction of a list of boolean arrays."""
    total = jnp.asarray(True)
    for flag in flags:
        total = total & flag
    return total

"""What every matrix function asks of its argument."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import describe, is_floating, require
from ._precision import computing_dtype


def square_matrices(name: str, a: Array) -> Float[Array, "... n n"]:
    """``a`` in the dtype it is computed in; ValueError unless it is floating and square."""
    require(
        is_floating(a),
        f"`{name}` must be an array of floating-point matrices, got {describe(a)}; cast it first.",
    )
    require(
        a.ndim >= 2 and a.shape[-1] == a.shape[-2] and a.shape[-1] > 0,
        f"`{name}` must have shape (..., n, n) with n of 1 or more, got {describe(a)}.",
    )
    return jnp.asarray(a).astype(computing_dtype(a.dtype))

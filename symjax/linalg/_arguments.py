"""What every matrix function asks of its argument, and how it goes through a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import describe, is_floating, require
from ._precision import computing_dtype

# From this size on a matrix is more work than a step of a loop.
_ONE_BY_ONE = 24


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


def each_matrix(
    f: Callable[..., Float[Array, "n n"]], *stacks: Float[Array, "... n n"]
) -> Float[Array, "... n n"]:
    """A function of one matrix (or one of each stack) applied to every matrix of a batch.

    On a CPU large matrices go one by one: each stays in the cache, and takes only the steps that it
    needs itself. Elsewhere, and where they are small, all go together.
    """
    shape = stacks[0].shape
    flat = [stack.reshape(-1, *shape[-2:]) for stack in stacks]
    together = jax.vmap(f)
    if shape[-1] < _ONE_BY_ONE or flat[0].shape[0] == 1:
        return together(*flat).reshape(shape)
    one_by_one = lambda *flat: jax.lax.map(lambda one: f(*one), flat)
    return jax.lax.platform_dependent(*flat, cpu=one_by_one, default=together).reshape(shape)

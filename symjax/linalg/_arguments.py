"""What every matrix function asks of its argument, and how it goes through a batch."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

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


@functools.partial(jax.jit, static_argnums=0)  # so that a call outside jit is compiled once
def each_matrix(f: Callable[..., PyTree[Array]], *stacks: Float[Array, "... n n"]) -> PyTree[Array]:
    """A function of one matrix (or one of each stack) applied to every matrix of a batch.

    ``f`` is a function of a module, so that the same one is compiled once.

    On a CPU large matrices go one by one: each stays in the cache, and takes only the steps that it
    needs itself. Elsewhere, and where they are small, all go together.
    """
    *batch, n, _ = stacks[0].shape
    flat = [stack.reshape(-1, n, n) for stack in stacks]
    f = jax.jit(f)  # so that both ways share one trace
    together = jax.vmap(f)
    one_by_one = lambda *flat: jax.lax.map(lambda one: f(*one), flat)
    if n < _ONE_BY_ONE or flat[0].shape[0] == 1:
        results = together(*flat)
    else:
        results = jax.lax.platform_dependent(*flat, cpu=one_by_one, default=together)
    return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), results)

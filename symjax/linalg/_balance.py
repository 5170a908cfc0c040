"""What a similarity of powers of two or a permutation does for a matrix, without rounding."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._taylor import power_of_two

_MAX_SWEEPS = 60


def balancing(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The s_ij = d_i / d_j, powers of two, for which rows and columns of a / s are equally long.

    Only entries off the diagonal count, and only as far as they exceed it: what couples blocks in
    one direction alone is made as small as they are. ``a`` is of size one. log a = s log(a / s).
    """
    n = a.shape[-1]
    squares = jax.lax.stop_gradient(a * a)
    diagonal = jnp.maximum(jnp.diagonal(squares), jnp.finfo(a.dtype).tiny)
    squares = jnp.where(jnp.eye(n, dtype=bool), 0, squares)
    # Their differences are exponents of numbers, also of squares.
    reach = (-jnp.finfo(a.dtype).minexp - 2) // 4

    def sweep(state):
        exponents, sweeps, _ = state
        scaled = squares * _ratios(-2 * exponents, a.dtype)
        length = lambda axis: jnp.log2(jnp.maximum(scaled.sum(axis), diagonal))
        # Half of the way: both ends of a coupling move at once.
        step = jnp.trunc((length(1) - length(0)) / 8).astype(jnp.int32)
        return jnp.clip(exponents + step, -reach, reach), sweeps + 1, jnp.any(step != 0)

    unequal = lambda state: state[2] & (state[1] < _MAX_SWEEPS)
    start = (jnp.zeros(n, jnp.int32), 0, jnp.asarray(True))
    return _ratios(jax.lax.while_loop(unequal, sweep, start)[0], a.dtype)


def _ratios(exponents, dtype):
    return power_of_two(exponents[:, None] - exponents[None, :], dtype)


def triangular_order(a: Float[Array, "n n"]) -> tuple[Int[Array, " n"], Bool[Array, ""]]:
    """Numbers in whose descending order a is upper triangular, and whether there are such."""
    n = a.shape[-1]
    couples = (a != 0) & ~jnp.eye(n, dtype=bool)

    def strip(state):
        left, rounds, count, _ = state
        # A row that couples to no other that is left comes below all that are.
        free = left & ~jnp.any(couples & left[None, :], axis=1)
        return left & ~free, jnp.where(free, count, rounds), count + 1, jnp.any(free)

    start = (jnp.ones(n, bool), jnp.zeros(n, jnp.int32), 0, jnp.asarray(True))
    left, rounds, _, _ = jax.lax.while_loop(lambda state: state[3], strip, start)
    return rounds, ~jnp.any(left)

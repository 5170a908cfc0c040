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
    diagonal = jnp.diagonal(squares)
    squares = jnp.where(jnp.eye(n, dtype=bool), 0, squares)
    # Of a member of a batch that is done every further sweep is the identity.
    steps = lambda squares: jnp.trunc((_log(squares.sum(1)) - _log(squares.sum(0))) / 8)

    def _log(lengths):
        return jnp.log2(jnp.maximum(lengths, jnp.maximum(diagonal, jnp.finfo(a.dtype).tiny)))

    def sweep(state):
        squares, exponents, step, sweeps = state
        # Half of the way: both ends of a coupling move at once.
        squares = squares * _ratios(-2 * step, a.dtype)
        return squares, exponents + step, steps(squares), sweeps + 1

    unequal = lambda state: jnp.any(state[2] != 0) & (state[3] < _MAX_SWEEPS)
    start = (squares, jnp.zeros(n, a.dtype), steps(squares), 0)
    exponents = jax.lax.while_loop(unequal, sweep, start)[1]
    # Their differences are exponents of numbers.
    reach = (-jnp.finfo(a.dtype).minexp - 2) // 2
    return _ratios(jnp.clip(exponents - jnp.round(exponents.mean()), -reach, reach), a.dtype)


def _ratios(exponents, dtype):
    scales = power_of_two(exponents.astype(jnp.int32), dtype)
    return scales[:, None] * power_of_two(-exponents.astype(jnp.int32), dtype)[None, :]


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

"""The logarithm of a triangular matrix, however wide its spectrum and large its other entries.

Triangular matrices keep the digits of small entries beside large ones: an inverse by substitution
is right relative to |t^-1| |t| |t^-1|, entry by entry. So the logarithm is a sum of inverses,
log t = int (1/(1 + s) - (t + s)^-1) ds over s > 0.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import nan_unless
from ._precision import mm
from ._taylor import power_of_two

# In u = log s the rule of equal steps h misses by exp(-2 pi^2 / h), a chain of equal eigenvalues by
# at most exp(2 pi / h) times that.
_GAIN = 2 * math.pi * (math.pi - 1)


def permuted_triangular_log(
    a: Float[Array, "n n"], rounds: Int[Array, " n"]
) -> Float[Array, "n n"]:
    """The logarithm of a matrix that `triangular_order` has found an order for.

    Its diagonal is positive. NaN where an eigenvalue beside the others is so near the largest or
    the smallest number that the sum does not reach it.
    """
    n = a.shape[-1]
    number = n * rounds - jnp.arange(n, dtype=rounds.dtype)
    place = jnp.sum(number[:, None] < number[None, :], axis=-1)
    permutation = (place[None, :] == jnp.arange(n)[:, None]).astype(a.dtype)
    t = mm(permutation, mm(a, permutation.T))
    return mm(permutation.T, mm(_triangular_log(t), permutation))


def _triangular_log(t):
    n, info = t.shape[-1], jnp.finfo(t.dtype)
    eye = jnp.eye(n, dtype=t.dtype)
    logs = jnp.log(jax.lax.stop_gradient(jnp.diagonal(t)))
    digits = -math.log(info.eps / 8)
    limit = -math.log(float(info.tiny))
    middle = jnp.round((logs.min() + logs.max()) / (2 * math.log(2)))
    t = t * power_of_two(-middle.astype(jnp.int32), t.dtype)
    high = (logs.max() - logs.min()) / 2 + math.log(2) + digits
    # A diagonal matrix needs no sum.
    passed = (high < limit) | jnp.all(jnp.where(eye == 0, t, 0) == 0)
    h = _GAIN / digits
    last = jnp.ceil(jnp.minimum(high, limit) / h)

    def add(state):
        total, k = state
        s = jnp.exp(k * h)
        return total - s * _inverse(t + s * eye), k + 1

    total: Array
    total, _ = jax.lax.while_loop(lambda state: state[1] <= last, add, (jnp.zeros_like(t), -last))
    total = h * total
    return nan_unless(passed, _with_derivative_of(total, jnp.where(eye == 1, logs, total)))


@jax.custom_jvp
def _with_derivative_of(total, log):
    """``log``, whose diagonal is known, with the derivative of the sum, in any direction.

    A difference that adds up to the known numbers does so but for the rounding of a fused product.
    """
    del total
    return log


@_with_derivative_of.defjvp
def _with_derivative_of_jvp(primals, tangents):
    return _with_derivative_of(*primals), tangents[0]


@jax.custom_jvp
def _inverse(t):
    return jax.lax.linalg.triangular_solve(t, jnp.eye(t.shape[-1], dtype=t.dtype), left_side=True)


@_inverse.defjvp
def _inverse_jvp(primals, tangents):
    # Of any direction, also one that is not triangular.
    inverse = _inverse(*primals)
    return inverse, -mm(inverse, mm(tangents[0], inverse))

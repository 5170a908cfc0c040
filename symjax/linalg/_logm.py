"""The real principal logarithm, with its derivative by the exponential's."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._checks import nan_unless
from ._arguments import each_matrix, square_matrices
from ._frechet import solve_frechet
from ._roots import logarithm


def logm(a: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """The real principal logarithm of every matrix of a batch.

    The L with exp(L) = a whose eigenvalues have imaginary parts in (-pi, pi): of the balanced
    matrix, by square roots and the series of artanh; of a triangular one, also in another order of
    rows and columns, by a sum of inverses that keeps small entries beside large ones. It exists iff
    ``a`` is invertible and no eigenvalue is negative. Every entry is NaN where it does not, where
    rounding decides whether it does, where ``a`` is not finite, and where exp(L) misses ``a`` by
    more than 1e-6 (float64) or 1e-3 (float32) relative; other members of the batch are not touched.
    The error is a small multiple of the condition number of the logarithm times eps; some hundred
    times that where ``a`` is so nonnormal that its roots are worse conditioned than its logarithm,
    as the exponential of a Chebyshev differentiation matrix is. Half precision is computed in
    float32. Differentiable to any order, forward and reverse; where the value is NaN, so is the
    derivative.

    Raises ValueError unless ``a`` is a floating array of shape (..., n, n).

    Example:
        >>> a = jnp.array([[[1.0, 1.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -2.0]]])
        >>> bool(jnp.allclose(logm(a)[0], jnp.array([[0.0, 1.0], [0.0, 0.0]]), atol=1e-6))
        True
        >>> jnp.isnan(logm(a)[1]).all().item()
        True
    """
    return _logm(square_matrices("a", a)).astype(a.dtype)


def has_principal_log(a: Float[Array, "... n n"]) -> Bool[Array, "..."]:
    """Whether `logm` finds a real principal logarithm of each matrix of a batch.

    False for a singular matrix, for a negative real eigenvalue, for numbers that are not finite,
    and where rounding decides between the two sides of the negative axis.

    Raises ValueError unless ``a`` is a floating array of shape (..., n, n).

    Example:
        >>> has_principal_log(jnp.stack([jnp.eye(2), -jnp.eye(2)])).tolist()
        [True, False]
    """
    return jnp.isfinite(logm(a)).all((-2, -1))


def _logm(a):
    return log_at(a, logarithms(a)[0])


def logarithms(
    a: Float[Array, "... n n"],
) -> tuple[Float[Array, "... n n"], Float[Array, "..."]]:
    """The principal logarithm of every matrix and |exp(log) - a| / |a|; no derivative goes in."""
    return each_matrix(logarithm, jax.lax.stop_gradient(a))


@jax.custom_jvp
def log_at(a: Float[Array, "... n n"], log: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """``log``, known to be a logarithm of ``a``, with the derivative that it has as such."""
    del a
    return log


@log_at.defjvp
def _log_at_jvp(primals, tangents):
    log = log_at(*primals)
    return log, solve_frechet(log, primals[0], tangents[0], _along)


def _along(log, a, e):
    """d/ds log(a + s e) at s = 0: forward mode through the square roots; NaN as the log is."""
    return nan_unless(~jnp.isnan(log), each_matrix(_one_along, a, e))


def _one_along(a, e):
    return jax.jvp(lambda a: logarithm(a)[0], (a,), (e,))[1]

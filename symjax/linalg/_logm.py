"""The real principal logarithm, with its derivative by the exponential's."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._arguments import each_matrix, square_matrices
from ._frechet import expm_frechet
from ._roots import logarithm


def logm(a: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """The real principal logarithm of every matrix of a batch.

    The L with exp(L) = a whose eigenvalues have imaginary parts in (-pi, pi), by square roots and
    the series of artanh. It exists iff ``a`` is invertible and no eigenvalue is negative. Every
    entry is NaN where it does not, where ``a`` is not finite, and where exp(L) misses ``a`` by more
    than 1e-6 (float64) or 1e-3 (float32) relative; other members of the batch are not touched. The
    error is a small multiple of the condition number of the logarithm times eps. Half precision is
    computed in float32. Differentiable to any order, forward and reverse; where the value is NaN,
    so is the derivative.

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


@jax.custom_jvp
def _logm(a):
    return each_matrix(logarithm, a)


@_logm.defjvp
def _logm_jvp(primals, tangents):
    (a,), (e,) = primals, tangents
    log = _logm(a)
    return log, solve_frechet(log, a, e, _along)


def _along(log, a, e):
    """d/ds log(a + s e) at s = 0: forward mode through the square roots."""
    del log
    return each_matrix(lambda a, e: jax.jvp(logarithm, (a,), (e,))[1], a, e)


def solve_frechet(log, a, e, along):
    """The x with L(log, x) = e, L the derivative of exp: the derivative of a logarithm of a.

    ``along(log, a, e)`` computes it. JAX is told what equation it solves, and so knows its
    transpose and its own derivatives, whatever ``along`` does inside.
    """
    known, known_log = jax.lax.stop_gradient((a, log))
    return jax.lax.custom_linear_solve(
        lambda x: expm_frechet(log, x),
        e,
        lambda _, e: along(known_log, known, e),
        lambda _, e: along(known_log.mT, known.mT, e),
    )

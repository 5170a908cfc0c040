"""Two exponentials that reach an invertible matrix from the identity."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._checks import nan_unless
from ._arguments import square_matrices
from ._expm import expm
from ._frechet import solve_frechet
from ._logm import log_at, logarithms
from ._polar import log_rotation, polar
from ._precision import mm

#: What `connecting_logs` reports: how a matrix is reached from the identity.
ONE_EXPONENTIAL, TWO_EXPONENTIALS, NO_PATH = 0, 1, 2

# Below this ratio to the largest, a smallest singular value is rounding alone in every dtype.
_SINGULAR = 1e-15


def connecting_logs(
    g: Float[Array, "... n n"],
) -> tuple[Float[Array, "... n n"], Float[Array, "... n n"], Int[Array, "..."]]:
    """(rotation, stretch, method) with expm(rotation) expm(stretch) = g.

    Method 0: rotation = 0 and stretch is the principal logarithm. Method 1, where there is none
    (or its `expm` is not g to 5e-13; float32 5e-6) and det g > 0: g = q p, rotation = log q is skew
    and stretch = log p symmetric. Method 2, where det g <= 0, where g is singular to rounding or
    not finite: no such path, both are NaN. Each matrix of a batch is on its own, its derivatives
    too.

    Raises ValueError unless ``g`` is a floating array of shape (..., n, n).

    Example:
        >>> rotation, stretch, method = connecting_logs(jnp.diag(jnp.array([-1.0, -2.0])))
        >>> method.item(), round(stretch[1, 1].item(), 5)
        (1, 0.69315)
    """
    rotation, stretch, method = _connecting_logs(square_matrices("g", g))
    return rotation.astype(g.dtype), stretch.astype(g.dtype), method


@jax.jit  # so that a call outside jit is compiled once
def _connecting_logs(g):
    eye = jnp.broadcast_to(jnp.eye(g.shape[-1], dtype=g.dtype), g.shape)
    pick = lambda where, x, y: jnp.where(where[..., None, None], x, y)
    finite = jnp.isfinite(g).all((-2, -1))
    known = jax.lax.stop_gradient(pick(finite, g, eye))
    log, _ = logarithms(known)
    # An ill-conditioned logarithm may exist and yet miss g: the other path ends there.
    largest = lambda x: jnp.abs(x).max((-2, -1))
    tolerance = 5e-13 if jnp.finfo(g.dtype).bits == 64 else 5e-6
    one = finite & (largest(expm(log) - known) <= tolerance * largest(known))
    singular_values = jnp.linalg.svd(known, compute_uv=False)
    regular = singular_values[..., -1] > _SINGULAR * singular_values[..., 0]
    two = finite & ~one & regular & (jnp.linalg.slogdet(known)[0] > 0)
    # What a branch is not for it gets the identity of, so that no derivative of it is NaN.
    q, p = polar(pick(two, g, eye))
    # The sign of a determinant in rounding errors may be another one for q.
    two &= jnp.linalg.slogdet(jax.lax.stop_gradient(q))[0] > 0
    rotation, stretch = log_rotation(pick(two, q, eye)), _log_positive(pick(two, p, eye))
    log = log_at(pick(one, g, eye), pick(one, log, jnp.zeros_like(log)))
    reached = (one | two)[..., None, None]
    rotation = nan_unless(reached, pick(one, jnp.zeros_like(g), rotation))
    stretch = nan_unless(reached, pick(one, log, stretch))
    return (
        rotation,
        stretch,
        jnp.where(one, ONE_EXPONENTIAL, jnp.where(two, TWO_EXPONENTIALS, NO_PATH)),
    )


@jax.custom_jvp
def _log_positive(p):
    """The logarithm of a symmetric positive definite matrix."""
    values, basis = jnp.linalg.eigh(p)
    return mm(basis * jnp.log(_positive(values))[..., None, :], basis.mT)


def _positive(values):
    # Rounding may leave an eigenvalue of p below eps |p| negative: any tiny one gives the same p.
    return jnp.maximum(values, values[..., -1:] * jnp.finfo(values.dtype).eps / 8)


@_log_positive.defjvp
def _log_positive_jvp(primals, tangents):
    (p,), (e,) = primals, tangents
    log = _log_positive(p)
    return log, solve_frechet(log, p, (e + e.mT) / 2, _divided_differences)


def _divided_differences(log, p, e):
    del p
    logs, basis = jnp.linalg.eigh((log + log.mT) / 2)
    half: Array = (logs[..., :, None] - logs[..., None, :]) / 2
    # (log a - log b) / (a - b) = (x / sinh x) / sqrt(ab), with x half the difference of the logs.
    small = jnp.abs(half) < 1e-3
    safe = jnp.where(small, 1.0, half)
    ratio = jnp.where(small, 1 - half * half / 6, safe / jnp.sinh(safe))
    weights = ratio * jnp.exp(-(logs[..., :, None] + logs[..., None, :]) / 2)
    return mm(basis, mm(weights * mm(basis.mT, mm(e, basis)), basis.mT))

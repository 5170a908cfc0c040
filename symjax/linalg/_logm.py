"""The real principal logarithm by square roots and a series."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._expm import expm
from ._precision import mm

_ROOTS = 6


def _sqrt(a):
    eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)

    def step(carry, _):
        x, m = carry
        inverse = jnp.linalg.inv(m)
        return (0.5 * mm(x, eye + inverse), 0.5 * (eye + 0.5 * (m + inverse))), None

    return jax.lax.scan(step, (a, a), None, length=14)[0][0]


def logm(a: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """The real principal logarithm; NaN where there is none."""
    eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    root = jax.lax.scan(lambda x, _: (_sqrt(x), None), a, None, length=_ROOTS)[0]
    c = jnp.linalg.solve(root + eye, root - eye)
    square = mm(c, c)
    series = eye / 25
    for k in range(23, 0, -2):
        series = eye / k + mm(square, series)
    log = 2.0 ** (_ROOTS + 1) * mm(c, series)
    size = lambda x: jnp.abs(x).sum(-1).max(-1)
    tolerance = 1e-3 if jnp.finfo(a.dtype).bits < 64 else 1e-8
    good = size(expm(log) - a) <= tolerance * size(a)
    return jnp.where(good[..., None, None], log, jnp.nan)


def has_principal_log(a: Float[Array, "... n n"]) -> Bool[Array, "..."]:
    """Whether the real principal logarithm exists."""
    return jnp.isfinite(logm(a)).all((-2, -1))

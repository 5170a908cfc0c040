"""Two exponentials that reach an invertible matrix from the identity."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._logm import logm
from ._polar import log_rotation
from ._precision import mm


def connecting_logs(
    g: Float[Array, "... n n"],
) -> tuple[Float[Array, "... n n"], Float[Array, "... n n"], Int[Array, "..."]]:
    """(rotation, stretch, method) with expm(rotation) expm(stretch) = g."""
    log = logm(g)
    one = jnp.isfinite(log).all((-2, -1))
    usable = jnp.isfinite(g).all((-2, -1)) & (jnp.linalg.slogdet(g)[0] > 0)
    two = usable & ~one
    eye = jnp.eye(g.shape[-1], dtype=g.dtype)
    pick = lambda where, x, y: jnp.where(where[..., None, None], x, y)
    u, s, vt = jnp.linalg.svd(pick(two, g, eye))
    rotation = log_rotation(mm(u, vt))
    stretch = mm(vt.mT * jnp.log(s)[..., None, :], vt)
    nan = jnp.full_like(g, jnp.nan)
    rotation = pick(one, jnp.zeros_like(g), pick(two, rotation, nan))
    stretch = pick(one, log, pick(two, stretch, nan))
    return rotation, stretch, jnp.where(one, 0, jnp.where(two, 1, 2))

"""Polar factors, and a skew logarithm of every rotation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._precision import mm


def polar(g: Float[Array, "... n n"]) -> tuple[Float[Array, "... n n"], Float[Array, "... n n"]]:
    """(q, p) with g = q p, q orthogonal and p symmetric positive semidefinite."""
    u, s, vt = jnp.linalg.svd(g)
    return mm(u, vt), mm(vt.mT * s[..., None, :], vt)


def log_rotation(q: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """A real skew matrix whose exponential is the rotation q, paired eigenvalues -1 included."""
    n = q.shape[-1]
    skew = (q - q.mT) / 2
    cosine, basis = jnp.linalg.eigh((q + q.mT) / 2)
    k = mm(basis.mT, mm(skew, basis))
    near = cosine < -0.88
    pairing = jnp.zeros((n, n), q.dtype)
    even = jnp.arange(0, n - 1, 2)
    pairing = pairing.at[even, even + 1].set(1).at[even + 1, even].set(-1)
    both = near[..., :, None] & near[..., None, :]
    tiny = jnp.finfo(q.dtype).eps / 16
    eye = jnp.eye(n, dtype=q.dtype)
    u, _, vt = jnp.linalg.svd(jnp.where(both, k + tiny * pairing, eye))
    j = jnp.where(both, mm(u, vt), 0)
    j = (j - j.mT) / 2
    sine2 = jnp.clip(1 - cosine**2, 1e-30, 1)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    far = jnp.where(near, -jnp.arcsin(jnp.sqrt(sine2)), angle) / jnp.sqrt(sine2)
    far = jnp.where((cosine > 0) & (sine2 < 1e-6), 1 + sine2 / 6, far)
    far = jnp.where(near & (sine2 < 1e-6), -1 - sine2 / 6, far)
    log = jnp.pi * j + (far[..., :, None] * k + k * far[..., None, :]) / 2
    log = mm(basis, mm(log, basis.mT))
    return (log - log.mT) / 2

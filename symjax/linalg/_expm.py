"""The matrix exponential."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def expm(a: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """exp(a) of every matrix of a batch."""
    flat = a.reshape(-1, *a.shape[-2:])
    return jax.vmap(jax.scipy.linalg.expm)(flat).reshape(a.shape)


def expm_path(m: Float[Array, "... n n"], ts: Float[Array, " T"]) -> Float[Array, "... T n n"]:
    """exp(t m) at many times."""
    return expm(ts[:, None, None] * m[..., None, :, :])

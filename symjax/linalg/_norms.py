"""The Euclidean norm of all entries, safe to compute and to differentiate."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def norm(tree: PyTree[Float[Array, "..."]]) -> Float[Array, ""]:
    """|tree|, neither overflowing nor underflowing, with slope 0 at 0; NaN and infinity stay.

    The leaves are one array or several, of one dtype.
    """
    leaves = jax.tree.leaves(tree)
    largest = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(a), initial=0.0) for a in leaves])
    scale = jax.lax.stop_gradient(largest)
    scale = jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1.0)
    squares = [jnp.sum((a / scale) ** 2) for a in leaves]
    return scale * safe_sqrt(functools.reduce(jnp.add, squares))


def safe_sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root, 0 for x <= 0, where its derivative is 0 instead of infinite; NaN stays."""
    positive = x > 0
    root = jnp.sqrt(jnp.where(positive, x, 1.0))
    return jnp.where(positive, root, jnp.where(x <= 0, 0.0, x))

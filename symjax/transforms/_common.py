"""What the transformations check alike."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._checks import require


def require_params(name: str, params: PyTree) -> PyTree:
    """The parameters; ValueError where the caller of ``update`` left them out."""
    require(
        params is not None,
        f"`params` must be passed to update: {name} needs update(updates, state, params).",
    )
    return params


def require_updates(updates: PyTree, params: PyTree) -> None:
    """ValueError for updates of another structure, or of other shapes, than the parameters."""
    same = jax.tree.structure(updates) == jax.tree.structure(params)
    require(
        same
        and all(
            jnp.shape(u) == jnp.shape(w)
            for u, w in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True)
        ),
        "`updates` must have the structure and shapes of `params`, got "
        f"{[jnp.shape(u) for u in jax.tree.leaves(updates)]} for "
        f"{[jnp.shape(w) for w in jax.tree.leaves(params)]}.",
    )

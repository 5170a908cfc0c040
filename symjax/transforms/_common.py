"""What the transformations check alike, and which symmetries are left where leaves are frozen.

`optax.masked` (and `optax.multi_transform`, which uses it) hides leaves from a transformation: an
empty node stands where they were. A symmetry that moves or reads a hidden leaf cannot be followed
and is left out; a product keeps its other factors.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from .._checks import path_name, require
from .._orbits import Orbit
from ..actions import LinearAction, PulledBack, ShiftAction, linear_action
from ..groups import Product


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


class _Frozen:
    """A leaf that stands for a hidden one, so that the others keep their names and positions."""


_FROZEN = _Frozen()


def is_masked(node: Any) -> bool:
    """Whether a node is what `optax.masked` puts in place of a leaf or of a whole branch."""
    return isinstance(node, optax.MaskedNode)


def filled(tree: PyTree) -> PyTree:
    """The tree with one leaf, that is no array, in place of everything that is masked."""
    return jax.tree.map(lambda x: _FROZEN if is_masked(x) else x, tree, is_leaf=is_masked)


def masked_again(tree: PyTree) -> PyTree:
    """The inverse of `filled`."""
    return jax.tree.map(lambda x: optax.MaskedNode() if x is _FROZEN else x, tree)


def visible(orbit: Orbit, params: PyTree) -> Orbit:
    """The actions that neither move nor read a frozen leaf of parameters that are `filled`."""
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    frozen = {i: path_name(path) for i, (path, leaf) in enumerate(flat) if leaf is _FROZEN}
    if not frozen:
        return orbit
    rows = [_restricted(action, frozen, len(flat)) for action in orbit.actions]
    return eqx.tree_at(lambda o: o.actions, orbit, tuple(a for a in rows if a is not None))


def _restricted(action, frozen, leaves):
    """The action without the factors that touch a frozen leaf; None where nothing is left."""
    require(
        isinstance(action, LinearAction | ShiftAction | PulledBack),
        f"`symmetries` holds a {type(action).__name__}, which does not say which leaves it reads; "
        "it cannot be used where leaves of `params` are masked.",
    )
    if isinstance(action, PulledBack):
        return None if any(_is_frozen(leaf, frozen, leaves) for leaf in action.read) else action
    if isinstance(action, ShiftAction):
        read = [leaf for leg in action.legs for leaf in (leg.leaf, *(f.leaf for f in leg.factors))]
        return None if any(_is_frozen(leaf, frozen, leaves) for leaf in read) else action
    lost = {
        leg.factor
        for leg in action.legs
        for leaf in (leg.leaf, *(gain.leaf for gain in leg.gains))
        if _is_frozen(leaf, frozen, leaves)
    }
    kept = [k for k in range(len(action.factors)) if k not in lost]
    if not lost or not kept:
        return None if lost else action
    legs = [
        dataclasses.replace(leg, factor=kept.index(leg.factor))
        for leg in action.legs
        if leg.factor in kept
    ]
    return linear_action(Product([action.factors[k] for k in kept]), legs)


def _is_frozen(leaf: str | int, frozen: dict[int, str], leaves: int) -> bool:
    """Whether a leaf, by name or position, is hidden, or stands in a branch that is."""
    if isinstance(leaf, int):
        return leaf % leaves in frozen
    return any(name in ("", leaf) or leaf.startswith(f"{name}/") for name in frozen.values())

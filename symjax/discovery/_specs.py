"""Permutation specs: the table of leaf to axis names that permutation matching is written with."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._checks import describe, is_floating, path_name, require
from ..actions import Leg, LinearAction, linear_action
from ..groups import Permutation
from ._report import Symmetry
from ._resolve import Acting, resolve

Spec = dict[str, tuple[str | None, ...]]


def permutation_spec(symmetries: Acting, params: PyTree, *, approximate: bool = False) -> Spec:
    """The permutations as a table ``{leaf: (name of the permutation or None, for each axis)}``.

    Every leaf has its row. The names are P_0, P_1, ... in the order of ``symmetries``. A
    permutation of part of an axis, of blocks of it, or one that acts through another (heads inside
    of groups) has no place in such a table and is left out; so are all other groups, and symmetries
    that hold only approximately unless ``approximate``.

    Example:
        >>> params = {"first": jnp.ones((2, 3)), "second": jnp.ones((3, 1))}
        >>> spec = {"first": (None, "P_0"), "second": ("P_0", None)}
        >>> permutation_spec(actions_from_permutation_spec(spec, params), params) == spec
        True
    """
    spec: dict[str, Any] = {name: [None] * np.ndim(leaf) for name, leaf in _leaves(params).items()}
    names, number = list(spec), 0
    for s in resolve(symmetries, approximate):
        legs = s.action.legs if isinstance(s.action, LinearAction) else ()
        if isinstance(s.group, Permutation) and all(map(_is_whole_axis, legs)):
            for leg in legs:
                leaf = leg.leaf if isinstance(leg.leaf, str) else names[leg.leaf]
                require(
                    leaf in spec, f"`params` has no leaf '{leaf}'; its leaves are {sorted(spec)}."
                )
                spec[leaf][leg.axis] = f"P_{number}"
            number += 1
    return {name: tuple(row) for name, row in spec.items()}


def actions_from_permutation_spec(
    spec: Mapping[str, tuple[str | None, ...]], params: PyTree
) -> tuple[Symmetry, ...]:
    """One permutation symmetry for each name in a table like that of `permutation_spec`.

    Leaves that the table leaves out do not move. That the permutations change no output is not
    checked here: `symjax.verify_all` does it.

    Raises ValueError for a leaf that the parameters do not have, a row with a wrong number of axes,
    or a name on axes of different sizes.

    Example:
        >>> params = {"first": jnp.ones((2, 3)), "second": jnp.ones((3, 1))}
        >>> spec = {"first": (None, "P_0"), "second": ("P_0", None)}
        >>> [s.group.n for s in actions_from_permutation_spec(spec, params)]
        [3]
    """
    require(
        isinstance(spec, Mapping),
        f"`spec` must be a dictionary of leaf to axis names, got {type(spec).__name__}.",
    )
    leaves, legs, sizes = _leaves(params), {}, {}
    for name, row in spec.items():
        require(
            name in leaves,
            f"`spec` names the leaf '{name}'; `params` has the leaves {sorted(leaves)}.",
        )
        require(
            isinstance(row, tuple | list),
            f"`spec` must have a tuple of names for the leaf '{name}', got {row!r}.",
        )
        require(
            is_floating(leaves[name]) or not any(row),
            f"`spec` moves the leaf '{name}', which is {describe(leaves[name])} and not floating.",
        )
        require(
            len(row) == np.ndim(leaves[name]),
            f"`spec` has {len(row)} axes for the leaf '{name}', which is {describe(leaves[name])}.",
        )
        for axis, (permutation, size) in enumerate(zip(row, np.shape(leaves[name]), strict=True)):
            if permutation is None:
                continue
            require(
                sizes.setdefault(permutation, size) == size,
                f"`spec` puts '{permutation}' on axis {axis} of '{name}', of size {size}, and on "
                f"an axis of size {sizes[permutation]}.",
            )
            legs.setdefault(permutation, []).append(Leg(name, axis))
    return tuple(
        Symmetry(
            name,
            linear_action(Permutation(sizes[name]), found),
            tuple(dict.fromkeys(str(leg.leaf) for leg in found)),
        )
        for name, found in legs.items()
    )


def _leaves(params):
    return {path_name(p): x for p, x in jax.tree_util.tree_flatten_with_path(params)[0]}


def _is_whole_axis(leg):
    return isinstance(leg.axis, int) and getattr(leg, "block", None) is None

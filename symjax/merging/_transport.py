"""Task vectors in the coordinates of another model."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._checks import is_floating, require_same_tree
from .._orbits import widen
from ..actions import LinearAction, ShiftAction
from ..discovery import Acting, resolve
from ..matching import apply_element
from ..matching._elements import Element
from ..matching._table import moving_actions


def transport_task_vector(
    symmetries: Acting,
    element: Element,
    base: PyTree,
    tuned: PyTree,
    *,
    inverse: bool = False,
    approximate: bool = False,
) -> PyTree:
    """What fine-tuning changed, in the coordinates that an element leads to: g.tuned - g.base.

    With `symjax.match`'s element from the base model to another one, the result can be added to
    that other model. A translation moves both models alike and cancels: the element is not applied
    to the difference. Where everything else is linear for a fixed element, only its linear part is
    applied, which keeps the digits of a difference that is small against the weights; where parts
    of the model move others (shifts that depend on weights, gains of a norm) both are moved and
    subtracted. Leaves that are not floating become zeros. ``approximate`` says which symmetries the
    element has entries for, as in `symjax.matching.apply_element`. Works under jit and vmap.

    Raises ValueError for models of different structure, or an element of other symmetries.

    Example:
        >>> from symjax import Leg, Symmetry, Translation, linear_action
        >>> shift = Symmetry("shift", linear_action(Translation(2), [Leg(0, 0)]), ("0",))
        >>> base, tuned = (jnp.zeros((2, 1)),), (jnp.ones((2, 1)),)
        >>> moved = transport_task_vector([shift], (jnp.array([5.0, 7.0]),), base, tuned)
        >>> moved[0].ravel().tolist()
        [1.0, 1.0]
    """
    symmetries = resolve(symmetries, approximate)
    require_same_tree("base", base, "tuned", tuned)
    leaves, structure = jax.tree.flatten(base)
    floating = [i for i, leaf in enumerate(leaves) if is_floating(leaf)]
    pick = lambda tree: [jax.tree.leaves(widen(tree))[i] for i in floating]

    def move(values):
        rows = list(leaves)
        for i, value in zip(floating, values, strict=True):
            rows[i] = value
        params, options = structure.unflatten(rows), {"inverse": inverse, "approximate": True}
        return pick(apply_element(symmetries, element, params, **options))

    here, there = pick(base), pick(tuned)
    if all(_affine(action) for action in moving_actions(symmetries)):
        step = [y - x for x, y in zip(here, there, strict=True)]
        moved = jax.jvp(move, (here,), (step,))[1]
    else:
        moved = [y - x for x, y in zip(move(here), move(there), strict=True)]
    result = [jnp.zeros_like(leaf) if hasattr(leaf, "dtype") else leaf for leaf in leaves]
    for i, value in zip(floating, moved, strict=True):
        result[i] = value.astype(leaves[i].dtype)
    return structure.unflatten(result)


def _affine(action):
    """Whether the action is affine in the parameters for a fixed element."""
    if isinstance(action, LinearAction):
        return not any(leg.gains for leg in action.legs)
    return isinstance(action, ShiftAction) and not any(leg.factors for leg in action.legs)

"""Models in the coordinates in which all their symmetries act by legs.

A symmetry in other coordinates acts on phi(w), say on var + eps, as others act on w. Where one
change of coordinates serves all rows, two models are matched there and carried back: the elements
are the same.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import PyTree

from ..actions import Leg, LinearAction, PulledBack, ShiftAction, Step
from ..actions._linear import find_leaf, leaf_names
from ..actions._pullback import back, forth
from ..discovery import Symmetry
from ..groups import Permutation
from ._table import base_group

Leaves = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Straight:
    """Symmetries that act by legs on what ``steps`` make of the leaves, by their positions."""

    symmetries: tuple[Symmetry, ...]
    steps: dict[int, Step]

    def forth(self, leaves: Leaves) -> Leaves:
        """The leaves of a model in these coordinates."""
        rows = list(leaves)
        for i, step in self.steps.items():
            rows[i] = forth(step, rows[i], 0.0, np)
        return tuple(rows)

    def back(self, leaves: Leaves) -> Leaves:
        """The leaves as the model has them."""
        rows = list(leaves)
        for i, step in self.steps.items():
            rows[i] = back(step, rows[i], 0.0, np)
        return tuple(rows)


def straightened(symmetries: Sequence[Symmetry], params: PyTree) -> Straight:
    """The coordinates of all rows; those of the model itself where no one change serves them all.

    It serves them where it takes every leaf by itself, entry by entry and alike, and rows that act
    by legs only renumber these leaves, which commutes with it, or read them where it is affine.
    """
    given = Straight(tuple(symmetries), {})
    names = leaf_names(params)
    steps: dict[int, Step] = {}
    for symmetry in symmetries:
        for step in _steps(symmetry.action):
            alone = not (step.terms or step.summed) and step.block is None and step.scale is None
            if not alone or steps.setdefault(find_leaf(step.leaf, names), step) != step:
                return given
    rows = []
    for symmetry in symmetries:
        own = {find_leaf(step.leaf, names) for step in _steps(symmetry.action)}
        others = {i: step for i, step in steps.items() if i not in own}
        action = _carried(_base(symmetry.action), others, names)
        if action is None:
            return given
        rows.append(dataclasses.replace(symmetry, action=action))
    return Straight(tuple(rows), steps)


def _steps(action):
    return action.steps if isinstance(action, PulledBack) else ()


def _base(action):
    return action.base if isinstance(action, PulledBack) else action


def _carried(action, steps, names):
    """An action by legs in the new coordinates of leaves; None where it is none that is known."""
    if not isinstance(action, LinearAction | ShiftAction):
        return None
    shift = isinstance(action, ShiftAction)
    read = "factors" if shift else "gains"
    groups = () if shift else action.factors
    legs = []
    for leg in action.legs:
        renumbers = isinstance(leg, Leg) and isinstance(base_group(groups[leg.factor]), Permutation)
        if find_leaf(leg.leaf, names) in steps and not renumbers:
            return None
        seen = tuple(_seen(x, steps.get(find_leaf(x.leaf, names))) for x in getattr(leg, read))
        if None in seen:
            return None
        legs.append(dataclasses.replace(leg, **{read: seen}))
    return dataclasses.replace(action, legs=tuple(legs))


def _seen(x, step):
    """What a leg reads, scale leaf + offset, of a new coordinate a leaf + b."""
    if step is None:
        return x
    if len(step.maps) != 1 or step.maps[0][0] != "affine":
        return None
    _, a, b = step.maps[0]
    return dataclasses.replace(x, scale=x.scale / a, offset=x.offset - x.scale * b / a)

"""How the legs of one leaf add up: which of them meet in an entry.

Two legs on two axes of a leaf move each of its entries both, and what bounds them adds; two legs on
two blocks of a leaf, as flat and fused weights give, move entries of their own. A leg of bounds
a <= S <= b has these bounds on the entries of its block and 0 elsewhere, so the sum of all is
bounded by the diagonal matrix that has, for each entry, the sum over the legs that meet there.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..actions import LinearAction
from ._frame import Leaves


def meetings(action: LinearAction, leaves: Leaves) -> list[tuple[int, ...]]:
    """Every set of legs, by number, that meet in an entry of a leaf; never an empty one."""
    found: list[tuple[int, ...]] = []
    places = action.places(leaves)
    for place in sorted(set(places)):
        numbers = [i for i, p in enumerate(places) if p == place]
        blocks = [action.legs[i].block for i in numbers]
        sets = np.ones((1, len(numbers)), bool)
        # Along each axis only the sets of blocks that share an index count, and they are few.
        for axis, size in enumerate(leaves[place].shape):
            inside = np.ones((size, len(numbers)), bool)
            for column, block in enumerate(blocks):
                if block is not None:
                    inside[:, column] = np.isin(np.arange(size), block.indices()[axis])
            both = sets[:, None] & np.unique(inside, axis=0)[None]
            sets = np.unique(both.reshape(-1, len(numbers)), axis=0)
        found += [tuple(np.array(numbers)[row].tolist()) for row in sets if row.any()]
    return found


def _sums(action, leaves, values):
    add = lambda legs: functools.reduce(jnp.add, [values[i] for i in legs])
    return jnp.stack([add(legs) for legs in meetings(action, leaves)])


def largest_sum(
    action: LinearAction, leaves: Leaves, values: Sequence[Float[Array, ""]]
) -> Float[Array, ""]:
    """The largest sum of the values of legs that meet in one entry of a leaf."""
    return _sums(action, leaves, values).max()


def smallest_sum(
    action: LinearAction, leaves: Leaves, values: Sequence[Float[Array, ""]]
) -> Float[Array, ""]:
    """The smallest such sum."""
    return _sums(action, leaves, values).min()

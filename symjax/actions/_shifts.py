"""Shifts: parameters to which an element adds something, as data.

A bias absorbs what the bias before it does: b_1 += v, b_2 -= W_2 v. What is added to a leaf is a
product of the element with other leaves, which do not move, so composing two shifts adds their
vectors. One implementation serves every such table.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._checks import is_floating, require
from ..groups import Translation
from ..linalg._precision import computing_dtype
from ._legs import Block, part_of
from ._linear import find_leaf, leaf_names


class Factor(eqx.Module):
    """(scale leaf + offset)^power of a leaf or part of one, with a name for each of its axes.

    ``absolute`` takes the power of the absolute value.
    """

    leaf: str | int = eqx.field(static=True)
    names: tuple[int, ...] = eqx.field(static=True)
    block: Block | None = eqx.field(static=True, default=None)
    power: float = eqx.field(static=True, default=1.0)
    absolute: bool = eqx.field(static=True, default=False)
    scale: float = eqx.field(static=True, default=1.0)
    offset: float = eqx.field(static=True, default=0.0)

    def raised(self, part: Any) -> Any:
        """The numbers to multiply with, from the entries of the leaf or of its block."""
        inner = self.scale * part + self.offset
        inner = abs(inner) if self.absolute else inner
        return inner ** (int(self.power) if self.power == int(self.power) else self.power)


class ShiftLeg(eqx.Module):
    """What a shift adds to (part of) a leaf: coefficient times a contraction, as in einsum.

    ``vector`` names the axes of the element, ``factors`` those of other leaves, and ``out`` the
    axes of what moves, None where the same is added at every index. Names that ``out`` lacks are
    summed.
    """

    leaf: str | int = eqx.field(static=True)
    vector: tuple[int, ...] = eqx.field(static=True)
    out: tuple[int | None, ...] = eqx.field(static=True)
    coefficient: float = eqx.field(static=True, default=1.0)
    factors: tuple[Factor, ...] = ()
    block: Block | None = eqx.field(static=True, default=None)


class ShiftAction(eqx.Module):
    """A translation group and what it adds to the parameters: ``action(v, params) -> params``.

    An element is a vector of size n, seen as an array of the given ``sizes``. The leaves that stand
    as factors must not be moved.
    """

    group: Translation
    legs: tuple[ShiftLeg, ...]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        moved = {leg.leaf for leg in self.legs}
        factors = {f.leaf for leg in self.legs for f in leg.factors}
        clash = moved & factors
        require(not clash, f"`legs`: {sorted(map(str, clash))} both move and stand as a factor.")
        require(
            int(np.prod(self.sizes)) == self.group.n,
            f"`sizes` must have the product {self.group.n}, got {self.sizes}.",
        )

    @property
    def is_group_action(self) -> bool:
        """True: shifts compose by adding their vectors."""
        return True

    def __call__(self, g: Float[Array, " n"], params: PyTree) -> PyTree:
        """The shifted parameters; leaves without a leg come back as they are."""
        require(
            jnp.shape(g) == (self.group.n,),
            f"`g` must be a vector of size {self.group.n}, got shape {jnp.shape(g)}; "
            "for a batch of elements, vmap the action.",
        )
        return self._add(g, params, jax.tree.leaves(params))

    def _add(self, g, params, base):
        """``base`` with what ``g`` adds to its leaves, given the parameters."""
        leaves, structure = jax.tree.flatten(params)
        names, moved = leaf_names(params), list(base)
        for leg in self.legs:
            place = find_leaf(leg.leaf, names)
            require(
                is_floating(leaves[place]),
                f"`params` leaf {leg.leaf!r} must be a floating array to be moved.",
            )
            wide = moved[place].astype(computing_dtype(leaves[place].dtype))
            step = self._step(leg, g.astype(wide.dtype), leaves, names)
            part = part_of(wide, leg.block) + step
            new = part if leg.block is None else leg.block.write(wide, part)
            moved[place] = new.astype(leaves[place].dtype)
        return jax.tree.unflatten(structure, moved)

    def generator(self, m: Float[Array, " n"], params: PyTree) -> PyTree:
        """d/dt exp(t m).params at t = 0, which is what an element m adds."""
        zeros = [jnp.zeros_like(x) if hasattr(x, "dtype") else x for x in jax.tree.leaves(params)]
        return self._add(m, params, zeros)

    def flow(self, generators: Sequence[Float[Array, " n"]], params: PyTree) -> PyTree:
        """exp(m_1) exp(m_2) ... . params."""
        return self(sum(generators[1:], generators[0]), params)

    def _step(self, leg, vector, leaves, names):
        operands = [vector.reshape(self.sizes), list(leg.vector)]
        for factor in leg.factors:
            leaf = leaves[find_leaf(factor.leaf, names)].astype(vector.dtype)
            operands += [factor.raised(part_of(leaf, factor.block)), list(factor.names)]
        kept = [name for name in leg.out if name is not None]
        step = jnp.einsum(*operands, kept, precision=jax.lax.Precision.HIGHEST)
        rest = [i for i, name in enumerate(leg.out) if name is None]
        return leg.coefficient * jnp.expand_dims(step, rest)

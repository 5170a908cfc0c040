"""Actions in other coordinates: leaves that a model sees only through a bijection of them.

A gain that is stored as its logarithm is seen as exp(s). What acts on exp(s) by a factor acts on s
as s -> log(c exp(s)): an action all the same, which is not linear in s. Coordinates are changed
step by step, each step one block of one leaf: by functions of one number, a constant for each
entry, and terms of other leaves, which later steps do not move (b + k g, where a constant k stands
between a gain g and a bias b). So every change has an inverse in closed form.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks import is_floating, require
from ..groups import (
    AbstractGroup,
    Algebra,
    Element,
    Permutation,
    PositiveScaling,
    Power,
    SignFlip,
)
from ..linalg._precision import computing_dtype
from ._legs import Block, Leg, part_of
from ._linear import LinearAction, find_leaf, leaf_names
from ._shifts import ShiftAction, ShiftLeg


class Constant:
    """A constant array that is compared by its numbers."""

    def __init__(self, value: Any):
        self.value = np.asarray(value, np.float64)
        self.value.setflags(write=False)
        self._key = self.value.shape, self.value.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Constant{self.value.shape}"


#: Functions of one number with their inverses, by name, of NumPy or JAX. ``affine`` is a x + b.
MAPS: dict[str, tuple[Callable, Callable]] = {
    "affine": (lambda xp, x, a, b: a * x + b, lambda xp, y, a, b: (y - b) / a),
    "exp": (lambda xp, x, a, b: xp.exp(x), lambda xp, y, a, b: xp.log(y)),
    "log": (lambda xp, x, a, b: xp.log(x), lambda xp, y, a, b: xp.exp(y)),
    "expm1": (lambda xp, x, a, b: xp.expm1(x), lambda xp, y, a, b: xp.log1p(y)),
    "log1p": (lambda xp, x, a, b: xp.log1p(x), lambda xp, y, a, b: xp.expm1(y)),
    "sinh": (lambda xp, x, a, b: xp.sinh(x), lambda xp, y, a, b: xp.arcsinh(y)),
    "asinh": (lambda xp, x, a, b: xp.arcsinh(x), lambda xp, y, a, b: xp.sinh(y)),
    "softplus": (
        lambda xp, x, a, b: xp.logaddexp(x, 0.0),
        lambda xp, y, a, b: y + xp.log(-xp.expm1(-y)),
    ),
}
Map = tuple[str, float, float]  # a name of `MAPS`, and what an affine one has


class Term(eqx.Module):
    """What is added to a block: a contraction of a constant array with other leaves."""

    leg: ShiftLeg
    array: Constant = eqx.field(static=True)


class Step(eqx.Module):
    """One change of coordinates: x -> scale f(x) + terms on a block of a leaf.

    ``maps`` are the functions that make up f, the first being applied first. ``scale`` has the
    shape of the block, or one that spreads to it, and no zero. ``terms`` hold no entry of the
    block.
    """

    leaf: str | int = eqx.field(static=True)
    block: Block | None = eqx.field(static=True, default=None)
    maps: tuple[Map, ...] = eqx.field(static=True, default=())
    scale: Constant | None = eqx.field(static=True, default=None)
    terms: tuple[Term, ...] = ()
    #: Where the terms are the sum of the leaf's other blocks, alike on every axis of the block:
    #: these, with the axis of each that is an axis of the block.
    summed: tuple[tuple[Block, tuple[int, ...]], ...] = eqx.field(static=True, default=())

    @property
    def reads(self) -> tuple[str | int, ...]:
        """The leaves that stand in the terms."""
        return tuple(f.leaf for term in self.terms for f in term.leg.factors)

    def text(self) -> str:
        """The new coordinate, for a report."""
        text = str(self.leaf)
        for name, a, b in self.maps:
            text = f"{a:g} {text} + {b:g}" if name == "affine" else f"{name}({text})"
        text = text if self.scale is None else f"k {text}"
        others = dict.fromkeys(map(str, self.reads))
        constants = ["k"] if any(not term.leg.factors for term in self.terms) else []
        return " + ".join([text, *(f"k {name}" for name in others), *constants])


Steps = Sequence[Step]


class PulledBack(eqx.Module):
    """An action on other coordinates of the parameters: g.w = phi^-1(g.phi(w)).

    ``base`` acts on phi(w), which ``steps`` compute from w, one after the other. It is a group
    action on those w that phi maps to where ``base`` acts, and not linear in w.
    """

    base: LinearAction | ShiftAction
    steps: tuple[Step, ...]

    def __check_init__(self):
        require(len(self.steps) > 0, "`steps` must hold at least one.")

    @property
    def group(self) -> AbstractGroup:
        """The group of ``base``."""
        return self.base.group

    @property
    def is_group_action(self) -> bool:
        """True: g.(h.w) = phi^-1(g.h.phi(w)) = (gh).w."""
        return True

    @property
    def moved(self) -> tuple[str | int, ...]:
        """The leaves that move: those of ``base``, and what makes up for them in a term."""
        found = dict.fromkeys(leg.leaf for leg in self.base.legs)
        for step in reversed(self.steps):
            if set(step.reads) & set(found):
                found[step.leaf] = None
        return tuple(found)

    @property
    def read(self) -> tuple[str | int, ...]:
        """The leaves that the action reads, those that move among them."""
        found: list[str | int] = []
        for leg in self.base.legs:
            beside = leg.gains if isinstance(leg, Leg) else leg.factors
            found += [leg.leaf, *(x.leaf for x in beside)]
        for step in self.steps:
            found += [step.leaf, *step.reads]
        return tuple(dict.fromkeys(found))

    def places(self, params: PyTree) -> tuple[int, ...]:
        """The positions of the leaves that move."""
        names = leaf_names(params)
        return tuple(find_leaf(leaf, names) for leaf in self.moved)

    def __call__(self, g: Element, params: PyTree) -> PyTree:
        """Move the parameters by one element; leaves that do not move come back as they are."""
        wide = self._widened(params)
        return self._narrowed(self._back(self.base(g, self._forth(wide))), params)

    def generator(self, m: Algebra, params: PyTree) -> PyTree:
        """d/dt exp(t m).params at t = 0: a tangent vector, zero in the leaves that do not move."""
        point = self._forth(self._widened(params))
        # What is no number is no tangent either.
        rest, numbers = self._split(point)
        field = self._split(self.base.generator(m, point))[1]
        back = lambda x: self._split(self._back(self._joined(rest, x)))[1]
        tangent = jax.jvp(back, (numbers,), (field,))[1]
        zeros = [jnp.zeros_like(x) if hasattr(x, "dtype") else x for x in jax.tree.leaves(params)]
        moving = set(self.places(params))
        floating = [i for i, x in enumerate(jax.tree.leaves(params)) if is_floating(x)]
        for i, t in zip(floating, tangent, strict=True):
            zeros[i] = t.astype(zeros[i].dtype) if i in moving else zeros[i]
        return jax.tree.unflatten(jax.tree.structure(params), zeros)

    def flow(self, generators: Sequence[Algebra], params: PyTree) -> PyTree:
        """exp(m_1) exp(m_2) ... . params."""
        point = self._forth(self._widened(params))
        return self._narrowed(self._back(self.base.flow(generators, point)), params)

    # -- coordinates ----------------------------------------------------------------------------

    def _forth(self, params):
        for step in self.steps:
            params = self._take(step, params, forth)
        return params

    def _back(self, params):
        for step in reversed(self.steps):
            params = self._take(step, params, back)
        return params

    def _take(self, step, params, how):
        leaves, structure = jax.tree.flatten(params)
        names = leaf_names(params)
        at = find_leaf(step.leaf, names)
        part = part_of(leaves[at], step.block)
        added = sum((_term(term, leaves, names, part) for term in step.terms), 0.0)
        new = how(step, part, added)
        leaves[at] = new if step.block is None else step.block.write(leaves[at], new)
        return jax.tree.unflatten(structure, leaves)

    def _widened(self, params):
        leaves, structure = jax.tree.flatten(params)
        names = leaf_names(params)
        for i in {find_leaf(leaf, names) for leaf in self.read}:
            require(
                is_floating(leaves[i]),
                f"`params` leaf {list(names)[i]!r} must be a floating array to be moved.",
            )
            leaves[i] = leaves[i].astype(computing_dtype(leaves[i].dtype))
        return jax.tree.unflatten(structure, leaves)

    def _narrowed(self, moved, params):
        leaves = jax.tree.leaves(params)
        new = jax.tree.leaves(moved)
        for i in self.places(params):
            leaves[i] = new[i].astype(leaves[i].dtype)
        return jax.tree.unflatten(jax.tree.structure(params), leaves)

    def _split(self, tree):
        leaves = jax.tree.leaves(tree)
        rest = [None if is_floating(x) else x for x in leaves], jax.tree.structure(tree)
        return rest, [x for x in leaves if is_floating(x)]

    def _joined(self, rest, numbers):
        leaves, structure = rest
        left = iter(numbers)
        return jax.tree.unflatten(structure, [next(left) if x is None else x for x in leaves])


def forth(step: Step, x: Any, added: Any, xp: Any = jnp) -> Any:
    """The new coordinate of a block, by NumPy or JAX; ``added`` is the sum of the terms."""
    for name, a, b in step.maps:
        x = MAPS[name][0](xp, x, a, b)
    x = x if step.scale is None else x * step.scale.value.astype(x.dtype)
    return x + added


def back(step: Step, x: Any, added: Any, xp: Any = jnp) -> Any:
    """The inverse of `forth`."""
    x = x - added
    x = x if step.scale is None else x / step.scale.value.astype(x.dtype)
    for name, a, b in reversed(step.maps):
        x = MAPS[name][1](xp, x, a, b)
    return x


def _term(term, leaves, names, like):
    leg, dtype = term.leg, like.dtype
    operands: list[Any] = [term.array.value.astype(dtype), list(leg.vector)]
    for factor in leg.factors:
        leaf = leaves[find_leaf(factor.leaf, names)].astype(dtype)
        operands += [factor.raised(part_of(leaf, factor.block)), list(factor.names)]
    kept = [name for name in leg.out if name is not None]
    step = jnp.einsum(*operands, kept, precision=jax.lax.Precision.HIGHEST)
    rest = [i for i, name in enumerate(leg.out) if name is None]
    return leg.coefficient * jnp.expand_dims(step, rest)


def in_coordinates(
    base: LinearAction | ShiftAction, steps: Steps
) -> LinearAction | ShiftAction | PulledBack:
    """An action on what ``steps`` make of the parameters, as an action on the parameters.

    Only the steps that matter to it are kept; where none does, or where it is the same table in
    either coordinates, it is an action by legs.
    """
    moved = {leg.leaf for leg in base.legs}
    seen = set(moved)
    for leg in base.legs:
        seen |= {x.leaf for x in (leg.gains if isinstance(leg, Leg) else leg.factors)}
    kept: list[Step] = []
    for step in reversed(steps):
        if step.leaf in seen or set(step.reads) & moved:
            kept.insert(0, step)
            seen |= {step.leaf, *step.reads}
            if set(step.reads) & moved:
                moved.add(step.leaf)
    if not kept:
        return base
    plain = _by_legs(base, kept)
    return PulledBack(base, tuple(kept)) if plain is None else plain


def _by_legs(base, steps):
    """The same action by legs of the parameters themselves; None where it is none."""
    at = {step.leaf: step for step in steps}
    if any(step.terms and not step.summed for step in steps) or len(at) < len(steps):
        return None
    if isinstance(base, ShiftAction):
        legs = [_shifting(leg, at) for leg in base.legs]
        if None in legs:
            return None
        beside = [leg for one in base.legs for leg in _taking_back(one, at)]
        return replace(base, legs=(*legs, *beside))
    moving = [_moving(leg, base.factors[leg.factor], at) for leg in base.legs]
    beside = [leg for one in base.legs for leg in _alike(one, at)]
    kept = [leg for leg in moving if leg is not None]
    return LinearAction(base.group, (*kept, *beside)) if len(kept) == len(moving) else None


def _alike(leg, at):
    """Of a leg on a sum: the same on what else is summed, which is a symmetry as well."""
    step = at.get(leg.leaf)
    if step is None or step.block != leg.block:
        return
    for block, axes in step.summed:
        rank = len(axes)
        move = lambda a, axes=axes, rank=rank: axes[a % rank]
        axis = leg.axis
        axis = tuple(map(move, axis)) if isinstance(axis, tuple) else axis
        axis = move(axis) if isinstance(axis, int) else axis
        gains = tuple(replace(g, axes=tuple(map(move, g.axes))) for g in leg.gains)
        yield replace(leg, block=block, axis=axis, gains=gains)


def _taking_back(leg, at):
    """Of a leg that shifts what is summed beside the first block: that one makes up for it."""
    step = at.get(leg.leaf)
    if step is None:
        return
    for block, axes in step.summed:
        if block == leg.block:
            sizes = zip(leg.out, block.shape, strict=True)
            times = [n for i, (name, n) in enumerate(sizes) if name is None and i not in axes]
            yield replace(
                leg,
                block=step.block,
                out=tuple(leg.out[a] for a in axes),
                coefficient=-leg.coefficient * float(np.prod(times)),
            )


def _moving(leg, group, at):
    """A leg by which a group moves a leaf as it moves the new coordinate; None if there is none."""
    step = at.get(leg.leaf)
    gains = [_inside(gain, at) for gain in leg.gains]
    gone = [g for g in leg.gains if g.leaf in at and at[g.leaf].summed]
    if gone or None in gains or (step is not None and not _commute(step, group)):
        return None
    return replace(leg, gains=tuple(gains))


def _commute(step, group):
    """Whether a change of coordinates commutes with all that a group does along axes."""
    if step.summed:
        return True
    kind = type(group.group if isinstance(group, Power) else group)
    if kind is Permutation:
        return step.scale is None
    return not step.maps and kind in (PositiveScaling, SignFlip)


def _line(leaf, block, at):
    """(slope, offset) of a new coordinate; None where it is no such function of the leaf."""
    step = at.get(leaf)
    if step is None:
        return 1.0, 0.0
    if step.summed:
        return 1.0, 0.0
    affine = len(step.maps) == 1 and step.maps[0][0] == "affine"
    fits = affine and step.scale is None and step.block == block
    return step.maps[0][1:] if fits else None


def _inside(factor, at):
    """A gain or factor of a new coordinate, as one of the leaf."""
    line = _line(factor.leaf, factor.block, at)
    if line is None:
        return None
    slope, offset = line
    return replace(factor, scale=factor.scale * slope, offset=factor.scale * offset + factor.offset)


def _shifting(leg, at):
    line = _line(leg.leaf, leg.block, at)
    factors = [_inside(factor, at) for factor in leg.factors]
    if any(f.leaf in at and at[f.leaf].summed for f in leg.factors):
        return None
    if line is None or None in factors:
        return None
    return replace(leg, coefficient=leg.coefficient / line[0], factors=tuple(factors))

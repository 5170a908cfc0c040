"""A list of symmetries as a table of factors, for computing in float64 on the host.

Every factor sees each place that it moves as an array (fibres, n, k): one element of its group for
each fibre, acting on the axis of size n. This file and `_places.py` alone know what a `Leg` looks
like.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._checks import is_floating, require
from ..actions import LinearAction, PulledBack, ShiftAction
from ..actions._linear import find_leaf, leaf_names
from ..discovery import Symmetry
from ..groups import (
    AbstractGroup,
    ComplexScaling,
    FixingOnes,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Power,
    SignFlip,
    Translation,
    power_of,
)
from ._gauges import find_gauges
from ._places import Place, Step, overlap

KINDS = {
    Permutation: "permutation",
    SignFlip: "sign",
    PositiveScaling: "scale",
    ComplexScaling: "complex",
    GeneralLinear: "linear",
    Orthogonal: "orthogonal",
    Translation: "shift",
}
"""How an element is held: indices, signs, scales, complex numbers, matrices or steps."""


@dataclass(frozen=True)
class Factor:
    """One group of one symmetry, with all the places that it moves."""

    symmetry: int
    number: int
    group: AbstractGroup
    places: tuple[Place, ...] = ()
    steps: tuple[Step, ...] = ()
    sizes: tuple[int, ...] = ()

    @functools.cached_property
    def kind(self) -> str:
        """How its elements are held, see `KINDS`."""
        return KINDS[type(base_group(self.group))]

    @functools.cached_property
    def order(self) -> tuple[int, int]:
        """When it acts, see `order_of`."""
        return order_of(self.group)

    @functools.cached_property
    def leaves(self) -> tuple[int, ...]:
        """The leaves that it moves, each once."""
        return tuple(dict.fromkeys(p.leaf for p in self.places or self.steps))

    @functools.cached_property
    def count(self) -> int:
        """How many fibres there are, each with an element of its own."""
        return self.group.count if isinstance(self.group, Power) else 1

    @functools.cached_property
    def n(self) -> int:
        """How many rows the element of a fibre has; 1 for a scale of whole leaves."""
        return getattr(base_group(self.group), "n", None) or 1

    def identity(self) -> np.ndarray:
        """The identity, as the host holds it: fibre by fibre."""
        if self.kind == "permutation":
            return np.tile(np.arange(self.n), (self.count, 1))
        if self.kind in ("linear", "orthogonal"):
            return np.tile(np.eye(self.n), (self.count, 1, 1))
        one = np.zeros if self.kind == "shift" else np.ones
        return one((self.count, self.n), complex if self.kind == "complex" else float)

    def read(self, g: Any) -> np.ndarray:
        """An element as the public group holds it, as the host holds it."""
        g = np.asarray(g)
        if self.kind == "complex":
            g = g[..., 0] + 1j * g[..., 1]
        like = self.identity()
        return g.reshape(like.shape).astype(like.dtype)

    def write(self, h: np.ndarray) -> np.ndarray:
        """The inverse of `read`."""
        if self.kind == "complex":
            h = np.stack([np.real(h), np.imag(h)], axis=-1)
        h = h.reshape(jax.eval_shape(self.group.identity).shape)
        return h.astype(np.int32) if self.kind == "permutation" else h


@dataclass(frozen=True)
class Table:
    """The factors of all symmetries and the shapes of the leaves."""

    factors: tuple[Factor, ...]
    shapes: tuple[tuple[int, ...], ...]

    def touching(self, leaf: int) -> tuple[int, ...]:
        """The factors that move a leaf."""
        return tuple(i for i, f in enumerate(self.factors) if leaf in f.leaves)

    @functools.cached_property
    def twice(self) -> set[tuple[int, int]]:
        """The (factor, leaf) where a factor moves the same entries at two places.

        As the weight of a recurrence: rows and columns move together, and what stands in a row says
        nothing while the columns are not known.
        """
        return {
            (i, p.leaf)
            for i, factor in enumerate(self.factors)
            for p, q in itertools.combinations(factor.places, 2)
            if overlap(p, q)
        }

    @functools.cached_property
    def weights(self) -> dict[int, float]:
        """Weights of the leaves that shifts move, the lower the more it is made up from others.

        A bias that makes up for what is added to weights or to other biases counts little beside
        these: the vectors are read off one after the other where they stand alone.
        """
        steps = [s for f in self.factors for s in f.steps]
        depth = {s.leaf: 0 for s in steps}
        for _ in range(3):
            before = dict(depth)
            for s in steps:
                read = [1 + before[leaf] for leaf, *_ in s.others if leaf in before]
                depth[s.leaf] = max(depth[s.leaf], *read, 0)
        return {leaf: 1e-3**d for leaf, d in depth.items()}

    @functools.cached_property
    def gauged(self) -> dict[int, Place]:
        """Scales and signs that the entries of one vector can fix, see `find_gauges`."""
        return find_gauges(self.factors, self.shapes)

    @functools.cached_property
    def carriers(self) -> dict[tuple[int, int], tuple[Place, Place]]:
        """For a permutation i and a factor j whose rows it moves, a place of each that shows it."""
        found = {}
        for i, factor in enumerate(self.factors):
            if factor.kind != "permutation" or factor.n < 2:
                continue
            shift = np.roll(factor.identity(), 1, axis=1)
            for j, other in enumerate(self.factors):
                pairs = [(p, q) for p in factor.places for q in other.places if p.leaf == q.leaf]
                pairs.sort(key=lambda pair: math.prod(self.shapes[pair[0].leaf]))
                for p, q in pairs if i != j else ():
                    sources = row_sources(shift, p, q, self.shapes[p.leaf])
                    if sources is not None and (np.diff(sources.ravel()) != 1).any():
                        found[i, j] = (p, q)
                        break
        return found

    def sources(self, i: int, j: int, h: np.ndarray) -> np.ndarray:
        """The number of the row of j that a permutation of i brings to each row of j."""
        p, q = self.carriers[i, j]
        sources = row_sources(h, p, q, self.shapes[p.leaf])
        assert sources is not None
        return sources


def row_sources(
    h: np.ndarray, place: Place, own: Place, shape: tuple[int, ...]
) -> np.ndarray | None:
    """For every row of ``own`` after a permutation at ``place``, the row that it was before.

    None where the permutation does not map rows to rows.
    """
    raw = replace(own, mirror=False, gains=())
    empty = {own.leaf: np.full(shape, -1)}
    fibres, n, k = raw.unfold(empty).shape
    numbers = np.broadcast_to(np.arange(fibres * n).reshape(fibres, n, 1), (fibres, n, k))
    labels = {own.leaf: raw.fold(numbers, empty)}
    moved = np.take_along_axis(place.unfold(labels), h[..., None], axis=1)
    rows = raw.unfold({own.leaf: place.fold(moved, labels)})
    same = (rows == rows[..., :1]).all() and (rows >= 0).all()
    return rows[..., 0] if same else None


def order_of(group: AbstractGroup) -> tuple[int, int]:
    """When a group acts: permutations first, then scales and matrices, then translations.

    Permutations of blocks come before those inside the blocks, of which there are more.
    """
    base = base_group(group)
    if isinstance(base, Permutation):
        return 0, group.count if isinstance(group, Power) else 1
    return (2 if isinstance(base, Translation) else 1), 0


def acts_after(other: Factor, factor: Factor) -> bool:
    """Whether ``other`` comes later in the order of the factors of an element."""
    return other.order > factor.order


def moving_actions(
    symmetries: Sequence[Symmetry],
) -> list[LinearAction | ShiftAction | PulledBack]:
    """The actions of resolved symmetries; raises ValueError unless every one is made of legs,
    if it be in other coordinates.
    """
    actions = []
    for i, symmetry in enumerate(symmetries):
        require(
            isinstance(action := symmetry.action, LinearAction | ShiftAction | PulledBack),
            f"`symmetries[{i}]` ('{symmetry.name}') must act through legs, as linear_action makes "
            f"it, got {type(action).__name__}.",
        )
        actions.append(action)
    return actions


def make_table(symmetries: Sequence[Symmetry], params: PyTree) -> Table:
    """The table of symmetries on parameters; raises ValueError where they do not fit.

    Actions in other coordinates have no factors: nothing is solved for them.
    """
    factors: list[Factor] = []
    rows = zip(symmetries, moving_actions(symmetries), strict=True)
    for i, (symmetry, action) in enumerate(rows):
        if isinstance(action, PulledBack):
            continue
        if isinstance(action, ShiftAction):
            steps = tuple(_step_of(leg, params) for leg in action.legs)
            factors.append(Factor(i, 0, action.group, (), steps, action.sizes))
            continue
        positions = action.places(params)
        for number, group in enumerate(action.factors):
            base = base_group(group)
            require(
                type(base) in KINDS,
                f"`symmetries[{i}]` ('{symmetry.name}') has the group {group}, which has no "
                "solver here.",
            )
            legs = [
                (leg, at)
                for leg, at in zip(action.legs, positions, strict=True)
                if leg.factor == number
            ]
            if isinstance(base, Translation):
                sizes, steps = _plain_steps(legs, params)
                factors.append(Factor(i, number, group, (), steps, sizes))
            else:
                places = tuple(_place_of(leg, at, group, params) for leg, at in legs)
                factors.append(Factor(i, number, group, places))
    return Table(tuple(factors), tuple(np.shape(leaf) for leaf in jax.tree.leaves(params)))


def base_group(group: AbstractGroup) -> AbstractGroup:
    """The group of one fibre, on the coordinates that it moves."""
    group = group.group if isinstance(group, Power) else group
    return group.group if isinstance(group, FixingOnes) else group


def _place_of(leg, at, group, params):
    names = leaf_names(params)
    one = group.group if isinstance(group, Power) else group
    return Place(
        at,
        leg.axes,
        leg.representation,
        group.count if isinstance(group, Power) else 1,
        leg.block,
        isinstance(one, FixingOnes),
        tuple((find_leaf(gain.leaf, names), gain) for gain in leg.gains),
    )


def _step_of(leg, params):
    names = leaf_names(params)
    others = tuple((find_leaf(f.leaf, names), f) for f in leg.factors)
    return Step(find_leaf(leg.leaf, names), leg.block, leg.vector, leg.out, leg.coefficient, others)


def _plain_steps(legs, params):
    """The legs of a plain translation as steps, and the sizes of its element."""
    leaves, sizes, steps = jax.tree.leaves(params), (), []
    for leg, at in legs:
        shape = leaves[at].shape if leg.block is None else leg.block.shape
        axes = [a % len(shape) for a in leg.axes]
        sizes = tuple(shape[a] for a in axes)
        out = tuple(axes.index(a) if a in axes else None for a in range(len(shape)))
        sign = power_of(leg.representation)
        steps.append(Step(at, leg.block, tuple(range(len(axes))), out, sign))
    return sizes, tuple(steps)


def host_leaves(params: PyTree) -> tuple[np.ndarray, ...]:
    """Every floating leaf in float64, other leaves as they are."""
    return tuple(
        np.asarray(leaf).astype(np.float64) if is_floating(leaf) else np.asarray(leaf)
        for leaf in jax.tree.leaves(params)
    )


def move(factor: Factor, h: np.ndarray, x: np.ndarray, place: Place) -> np.ndarray:
    """An element applied to a place, seen as (fibres, n, k)."""
    kind, covector = factor.kind, place.power < 0
    if kind == "permutation":
        return np.take_along_axis(x, h[..., None], axis=1)
    if kind == "complex":
        z = 1 / h.conj() if covector else h
        return from_complex(z[..., None] * to_complex(x))
    if kind == "linear":
        return np.linalg.solve(h.mT, x) if covector else h @ x
    if kind == "orthogonal":
        return h @ x
    return (h**place.power)[..., None] * x


def compose(factor: Factor, h: np.ndarray, g: np.ndarray) -> np.ndarray:
    """H after g."""
    if factor.kind == "permutation":
        return np.take_along_axis(g, h, axis=1)
    if factor.kind == "shift":
        return h + g
    return h @ g if factor.kind in ("linear", "orthogonal") else h * g


def invert(factor: Factor, h: np.ndarray) -> np.ndarray:
    """The inverse element."""
    if factor.kind == "permutation":
        return np.argsort(h, axis=1)
    if factor.kind == "linear":
        return np.linalg.inv(h)
    if factor.kind == "orthogonal":
        return h.mT
    return -h if factor.kind == "shift" else 1 / h


def to_complex(x: np.ndarray) -> np.ndarray:
    """(fibres, 2n, k) real as (fibres, n, k) complex: pairs of coordinates (2j, 2j + 1)."""
    return x[:, 0::2] + 1j * x[:, 1::2]


def from_complex(z: np.ndarray) -> np.ndarray:
    """The inverse of `to_complex`."""
    pairs = np.stack([np.real(z), np.imag(z)], axis=2)
    return pairs.reshape(z.shape[0], 2 * z.shape[1], z.shape[2])

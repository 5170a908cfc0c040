"""A list of symmetries as a table of factors, for computing in float64 on the host.

Every factor sees each place that it moves as an array (fibres, n, k): one element of its group for
each fibre, acting on the axis of size n. This file alone knows what a `Leg` looks like.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PyTree

from .._checks import is_floating, require
from ..actions import LinearAction
from ..discovery import Symmetry
from ..groups import (
    AbstractGroup,
    ComplexScaling,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Representation,
    SignFlip,
    Translation,
    power_of,
)

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
class Place:
    """Where a factor acts: an axis of a leaf (None: the whole leaf), and how."""

    leaf: int
    axis: int | None
    representation: Representation

    @property
    def power(self) -> float:
        """The power of a scale; 1 for a vector and -1 for a covector."""
        return power_of(self.representation)

    def unfold(self, leaf: np.ndarray) -> np.ndarray:
        """The leaf as (fibres, n, k)."""
        if self.axis is None:
            return leaf.reshape(1, 1, -1)
        front = np.moveaxis(leaf, self.axis, 0)
        return front.reshape(1, front.shape[0], -1)

    def fold(self, x: np.ndarray, leaf: np.ndarray) -> np.ndarray:
        """The leaf with new values at this place."""
        if self.axis is None:
            return x.reshape(leaf.shape)
        front = np.moveaxis(leaf, self.axis, 0).shape
        return np.moveaxis(x.reshape(front), 0, self.axis)


@dataclass(frozen=True)
class Factor:
    """One group of one symmetry, with all the places that it moves."""

    symmetry: int
    number: int
    group: AbstractGroup
    places: tuple[Place, ...]

    @property
    def kind(self) -> str:
        """How its elements are held, see `KINDS`."""
        return KINDS[type(self.group)]

    @property
    def rank(self) -> int:
        """The order in which factors act: permutations, then matrices, then translations."""
        return {"permutation": 0, "shift": 2}.get(self.kind, 1)

    @property
    def leaves(self) -> tuple[int, ...]:
        """The leaves that it moves, each once."""
        return tuple(dict.fromkeys(p.leaf for p in self.places))

    @property
    def n(self) -> int:
        """How many rows its element has; 1 for a scale of whole leaves."""
        return getattr(self.group, "n", None) or 1

    def identity(self) -> np.ndarray:
        """The identity, as the host holds it."""
        if self.kind == "permutation":
            return np.arange(self.n)[None]
        if self.kind in ("linear", "orthogonal"):
            return np.eye(self.n)[None]
        one = np.zeros((1, self.n)) if self.kind == "shift" else np.ones((1, self.n))
        return one.astype(complex) if self.kind == "complex" else one

    def read(self, g: np.ndarray) -> np.ndarray:
        """An element as the public group holds it, as the host holds it."""
        g = np.asarray(g)
        if self.kind == "permutation":
            return g.reshape(self.identity().shape)
        g = g.astype(np.float64)
        if self.kind == "complex":
            return (g[..., 0] + 1j * g[..., 1]).reshape(self.identity().shape)
        return g.reshape(self.identity().shape)

    def write(self, h: np.ndarray) -> np.ndarray:
        """The inverse of `read`."""
        if self.kind == "permutation":
            return h[0].astype(np.int32)
        if self.kind == "complex":
            return np.stack([np.real(h[0]), np.imag(h[0])], axis=-1)
        return h.reshape(()) if getattr(self.group, "n", None) is None else h[0]


@dataclass(frozen=True)
class Table:
    """The factors of all symmetries and the shapes of the leaves."""

    factors: tuple[Factor, ...]
    shapes: tuple[tuple[int, ...], ...]

    def touching(self, leaf: int) -> tuple[int, ...]:
        """The factors that move a leaf."""
        return tuple(i for i, f in enumerate(self.factors) if leaf in f.leaves)


def linear_actions(symmetries: Sequence[Symmetry]) -> list[LinearAction]:
    """The actions; raises ValueError unless every one is made of legs."""
    actions = []
    for i, symmetry in enumerate(symmetries):
        require(
            isinstance(symmetry, Symmetry),
            f"`symmetries[{i}]` must be a symjax.Symmetry, got {type(symmetry).__name__}.",
        )
        require(
            isinstance(action := symmetry.action, LinearAction),
            f"`symmetries[{i}]` ('{symmetry.name}') must act through legs, as linear_action makes "
            f"it, got {type(action).__name__}.",
        )
        if isinstance(action, LinearAction):
            actions.append(action)
    return actions


def make_table(symmetries: Sequence[Symmetry], params: PyTree) -> Table:
    """The table of symmetries on parameters; raises ValueError where they do not fit."""
    leaves = jax.tree.leaves(params)
    factors = []
    for i, (symmetry, action) in enumerate(
        zip(symmetries, linear_actions(symmetries), strict=True)
    ):
        positions = action.places(params)
        for number, group in enumerate(action.factors):
            require(
                type(group) in KINDS,
                f"`symmetries[{i}]` ('{symmetry.name}') has the group {group}, which has no "
                "solver here.",
            )
            require(
                not any(leg.block or leg.gains for leg in action.legs),
                f"`symmetries[{i}]` ('{symmetry.name}') moves parts of leaves or between gains, "
                "which has no solver here.",
            )
            places = tuple(
                Place(position, _one_axis(leg, symmetry), leg.representation)
                for leg, position in zip(action.legs, positions, strict=True)
                if leg.factor == number
            )
            factors.append(Factor(i, number, group, places))
    return Table(tuple(factors), tuple(np.shape(leaf) for leaf in leaves))


def _one_axis(leg, symmetry) -> int | None:
    if isinstance(leg.axis, tuple):
        raise ValueError(
            f"The symmetry '{symmetry.name}' moves several axes as one, which has no solver here."
        )
    return leg.axis


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
    if kind == "shift":
        return x + place.power * h[..., None]
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

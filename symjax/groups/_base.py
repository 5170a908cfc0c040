"""What every group offers, and what their implementations share."""

import abc
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from .._checks import is_concrete, require
from ..linalg import NO_PATH, ONE_EXPONENTIAL

Representation: TypeAlias = Literal["vector", "covector"] | float
Element: TypeAlias = PyTree[Array | np.ndarray]
Algebra: TypeAlias = PyTree[Float[Array | np.ndarray, "..."]]


class AbstractGroup(eqx.Module):
    """A group of parameter transformations, with its algebra and its action on one axis.

    Laws: `compose` is associative, with `identity` and `inverse`; ``compose(g, h)`` is g after h;
    ``exp(log(g)) = g`` wherever `log` is not NaN.

    Example:
        >>> group = GeneralLinear(3)
        >>> g = group.random(jax.random.key(0))
        >>> bool(jnp.allclose(group.compose(g, group.inverse(g)), group.identity(), atol=1e-5))
        True
    """

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """The dimension of the group as a manifold; 0 for a finite group."""

    @property
    @abc.abstractmethod
    def number_of_components(self) -> int | float:
        """How many connected components the group has."""

    @abc.abstractmethod
    def identity(self, dtype: Any = None) -> Element:
        """The identity element."""

    @abc.abstractmethod
    def compose(self, g: Element, h: Element) -> Element:
        """The product g h: first h, then g."""

    @abc.abstractmethod
    def inverse(self, g: Element) -> Element:
        """The inverse element; NaN where g is not an element (a singular matrix, a zero scale)."""

    @abc.abstractmethod
    def exp(self, m: Algebra) -> Element:
        """The exponential of an algebra element."""

    @abc.abstractmethod
    def log(self, g: Element) -> Algebra:
        """The real principal logarithm; NaN where there is none."""

    @abc.abstractmethod
    def random(self, key: Key[Array, ""], *, scale: float = 1.0, dtype: Any = None) -> Element:
        """Exp of a random algebra element for a continuous group, so in the identity component.

        A finite group gives a uniform element, whatever the scale.
        """

    @abc.abstractmethod
    def random_algebra(
        self, key: Key[Array, ""], *, scale: float = 1.0, dtype: Any = None
    ) -> Algebra:
        """A Gaussian algebra element whose spectral norm is about 2 ``scale`` at any size."""

    @abc.abstractmethod
    def component(self, g: Element) -> Any:
        """Which connected component holds g; labels are only compared.

        A hashable integer or tuple of integers for concrete elements, an integer array under a
        transformation. Two elements lie in one component iff their labels are equal.
        """

    @abc.abstractmethod
    def contains(self, g: Element) -> Bool[Array, "..."]:
        """Whether arrays of the right shape are an element, up to rounding."""

    @abc.abstractmethod
    def act(
        self, g: Element, x: Array, representation: Representation, inverse: Element | None = None
    ) -> Array:
        """Move the first axis of x, of shape (n, k), by one element; ``inverse`` if it is known."""

    @abc.abstractmethod
    def act_algebra(self, m: Algebra, x: Array, representation: Representation) -> Array:
        """The derivative of ``act(exp(t m), x)`` at t = 0."""

    @abc.abstractmethod
    def connecting_logs(self, g: Element) -> tuple[Algebra, Algebra, Int[Array, "..."]]:
        """(rotation, stretch, method) with exp(rotation) exp(stretch) = g.

        The rotation acts by isometries. Method 0: rotation = 0, the stretch is the principal
        logarithm; 1: a polar pair; 2: g is not in the identity component, both are NaN.
        """

    @abc.abstractmethod
    def spectrum(self, m: Algebra) -> tuple[Array, Array, Array]:
        """Extreme eigenvalues of the symmetric part of m, and the norm of its skew part."""

    @abc.abstractmethod
    def growth(self, m: Algebra) -> Float[Array, ""]:
        """A rate r with |m^k| at most about r^k for k of 3 and more."""

    @abc.abstractmethod
    def compress(self, x: Float[Array, "n k"]) -> Float[Array, "n j"]:
        """A smaller array with the same inner products of all vector fields m x."""


class AbstractDerivedGroup(AbstractGroup):
    """A group that multiplies as ``group`` does, and moves an axis in a way of its own."""

    group: eqx.AbstractVar[AbstractGroup]

    def compose(self, g, h):
        return self.group.compose(g, h)

    def inverse(self, g):
        return self.group.inverse(g)

    def exp(self, m):
        return self.group.exp(m)

    def log(self, g):
        return self.group.log(g)

    def component(self, g):
        return self.group.component(g)


def default_dtype(dtype: Any) -> Any:
    return jnp.zeros(()).dtype if dtype is None else jnp.dtype(dtype)


def component_label(component: Int[Array, "..."]) -> Any:
    """A component label: hashable when concrete, the array itself under a transformation."""
    return _hashable(np.asarray(component).tolist()) if is_concrete(component) else component


def _hashable(label: Any) -> Any:
    return tuple(map(_hashable, label)) if isinstance(label, list) else label


def one_exponential(
    log: Float[Array, "..."], axes: int
) -> tuple[Float[Array, "..."], Float[Array, "..."], Int[Array, "..."]]:
    """`connecting_logs` of a group whose identity component is reached by its logarithm alone.

    ``axes`` is the number of axes of one algebra element; a batch may stand in front of them.
    """
    exists = jnp.isfinite(log).all(axis=tuple(range(-axes, 0)))
    return jnp.zeros_like(log), log, jnp.where(exists, ONE_EXPONENTIAL, NO_PATH)


def power_of(representation: Representation) -> float:
    """The power of a scale that a representation stands for."""
    return {"vector": 1.0, "covector": -1.0}.get(representation, representation)  # type: ignore


def is_vector(representation: Representation, group: str) -> bool:
    """Whether a leg is a vector; refuses powers where the group has none."""
    require(
        representation in ("vector", "covector"),
        f"`representation` must be 'vector' or 'covector' for {group}, got {representation!r}; "
        "powers are for scalings.",
    )
    return representation == "vector"

"""What every group offers, and what their implementations share."""

import abc
import functools
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from .._checks import is_concrete, require
from ..linalg import NO_PATH, ONE_EXPONENTIAL
from ..linalg._norms import norm

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

    n: eqx.AbstractVar[int | None]
    """The size of the group, as in GL(n); None where it has none."""

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
        """A random element, of any component.

        A component at random, each as likely as any other, times exp of a random algebra element;
        for a finite group a uniform element, whatever the scale. An element of the identity
        component is ``group.exp(group.random_algebra(key, scale=scale))``.
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

    def majorant(
        self, m: Algebra, x: Float[Array, "n k"], representation: Representation
    ) -> Float[Array, "n k"]:
        """Entry by entry at least |exp(m) y|, for every y with |y| <= x.

        No vector grows faster than the largest eigenvalue of the symmetric part of m says, whatever
        the group; a group that knows more says so.
        """
        low, high, _ = self.spectrum(m)
        fastest = jnp.maximum(high * power_of(representation), low * power_of(representation))
        columns = jnp.exp(fastest) * jax.vmap(norm, in_axes=1)(x)
        return jnp.broadcast_to(columns[None], x.shape)

    @abc.abstractmethod
    def growth(self, m: Algebra) -> Float[Array, ""]:
        """A rate r with |m^k| at most about r^k for k of 3 and more."""

    @abc.abstractmethod
    def compress(self, x: Float[Array, "n k"]) -> Float[Array, "n j"]:
        """A smaller array with the same inner products of all vector fields m x."""

    # What a group may leave out: who asks for it is refused.

    def project(self, m: Algebra) -> Algebra:
        """The orthogonal projection of arrays shaped like an algebra element onto the algebra.

        Skew matrices for O(n), everything for GL(n). Gradients, tangents of orbits and charges are
        taken with respect to all entries of such arrays, and projected.

        Raises NotImplementedError where a group does not say what its algebra is.
        """
        raise self._lacks("project", "tangents of orbits, charges and distances to an orbit")

    def symmetric(self, m: Algebra) -> Algebra:
        """The part of an algebra element that generates symmetric maps, or constants.

        What is left generates rotations, which change no norm.

        Raises NotImplementedError where a group does not say what that is.
        """
        raise self._lacks("symmetric", "points of least norm")

    def _lacks(self, method: str, use: str) -> NotImplementedError:
        return NotImplementedError(
            f"The group {type(self).__name__} does not define `{method}`, which {use} need; see "
            f"symjax.groups.AbstractGroup.{method}."
        )

    # What holds for every group that is not a product, and that most need not touch.

    @property
    def notation(self) -> str:
        """The group in the notation of reports, such as GL(4)^2; its class and fields if unsaid."""
        return str(self)

    @property
    def axis_size(self) -> int | None:
        """How many entries an axis must have to be moved; None for a group of whole leaves."""
        return self.n

    @property
    def is_linear(self) -> bool:
        """Whether elements move an axis by linear maps: whether random ones leave 0 where it is."""
        return all(_fixes_zero(group) for group in self.factors)

    @property
    def factors(self) -> tuple["AbstractGroup", ...]:
        """The groups that move axes: those of a product, else the group itself."""
        return (self,)

    def entries(self, g: Element) -> tuple[Element, ...]:
        """The entry of an element (or algebra element) for each of ``factors``."""
        return (g,)

    def element(self, entries: tuple[Element, ...]) -> Element:
        """The inverse of ``entries``."""
        (g,) = entries
        return g


@functools.cache
def _fixes_zero(group: AbstractGroup) -> bool:
    """Whether random elements of a group, and of its algebra, leave an axis of zeros alone."""
    with jax.ensure_compile_time_eval():
        x = jnp.zeros((group.axis_size or 1, 1))
        moved = group.act(group.random(jax.random.key(1)), x, "vector")
        pushed = group.act_algebra(group.random_algebra(jax.random.key(2)), x, "vector")
        return not bool(jnp.any(moved != 0) | jnp.any(pushed != 0))


class AbstractDerivedGroup(AbstractGroup):
    """A group that multiplies as ``group`` does, and moves an axis in a way of its own."""

    group: eqx.AbstractVar[AbstractGroup]

    @property
    def is_linear(self):
        return self.group.is_linear

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

    def project(self, m):
        return self.group.project(m)

    def symmetric(self, m):
        return self.group.symmetric(m)


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


def notation_of(letter: str, n: int | None) -> str:
    """A power of a group of one entry: R+^16."""
    return letter if n in (None, 1) else f"{letter}^{n}"


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

"""Groups of a network's parameters: small static data with pure functions.

An element and an algebra element are arrays (tuples of arrays for a product), so they vmap; every
method takes leading batch axes. A group also knows how its element moves *one axis* of an array:
that is all an action needs (see `symjax.actions`).

The *representation* says how: ``"vector"`` is x -> g x, ``"covector"`` is x -> g^-T x (what a
layer that reads the axis does), and a number p, for scalings only, is x -> g^p x.
"""

import abc
import math
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from . import linalg
from ._checks import is_concrete, require
from .linalg._precision import mm

Representation: TypeAlias = Literal["vector", "covector"] | float
Element: TypeAlias = PyTree[Array]
Algebra: TypeAlias = PyTree[Float[Array, "..."]]

#: What `AbstractGroup.connecting_logs` reports: how an element is reached from the identity.
ONE_EXPONENTIAL, TWO_EXPONENTIALS, NO_PATH = 0, 1, 2


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
        """Which connected component holds g; 0 (all zeros) is not always the identity's label.

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


def _default(dtype: Any) -> Any:
    return jnp.zeros(()).dtype if dtype is None else jnp.dtype(dtype)


def _positive_size(n: int) -> None:
    require(isinstance(n, int) and n >= 1, f"`n` must be a positive integer, got {n!r}.")


def _label(component: Int[Array, "..."]) -> Any:
    """A component label: hashable when concrete, the array itself under a transformation."""
    return _hashable(np.asarray(component).tolist()) if is_concrete(component) else component


def _hashable(label: Any) -> Any:
    return tuple(map(_hashable, label)) if isinstance(label, list) else label


def _sign(representation: Representation) -> float:
    """The power of a scale that a representation stands for."""
    return {"vector": 1.0, "covector": -1.0}.get(representation, representation)  # type: ignore


def _plain(representation: Representation, group: str) -> bool:
    """Whether a leg is a vector; refuses powers where the group has none."""
    require(
        representation in ("vector", "covector"),
        f"`representation` must be 'vector' or 'covector' for {group}, got {representation!r}; "
        "powers are for scalings.",
    )
    return representation == "vector"


def _eigenvalue_range(m: Array) -> tuple[Array, Array, Array]:
    symmetric = jnp.linalg.eigvalsh((m + m.mT) / 2)
    skew = (m - m.mT) / 2
    squared = jnp.linalg.eigvalsh(mm(skew.mT, skew))[..., -1]
    return symmetric[..., 0], symmetric[..., -1], jnp.sqrt(jnp.maximum(squared, 0))


def _power_growth(m: Array) -> Array:
    # max(|M^3|^(1/3), |M^4|^(1/4)) bounds every |M^k|^(1/k), k >= 6 or so, and unlike |M| it is
    # close to the spectral radius: a Gaussian M of size 100 needs 2 steps with it, 5 with |M|_F.
    square = mm(m, m)
    cubed, fourth = mm(square, m), mm(square, square)
    frobenius = lambda a: jnp.sqrt(jnp.sum(a * a, axis=(-2, -1)))
    return jnp.maximum(frobenius(cubed) ** (1 / 3), frobenius(fourth) ** (1 / 4))


def _compress_rows(x: Array) -> Array:
    n, k = x.shape
    # A thin QR of the transpose: x = r^T q^T with orthonormal q, so |m x| = |m r^T|. Below twice
    # the size the factorisation costs more than it saves.
    return x if k < 2 * n else jnp.linalg.qr(x.T, mode="r").T


def _row_scaled_lu(g: Array) -> tuple[Array, tuple[Array, Array]]:
    # Rows are scaled to size one first, so that diag(1, 1e-10) does not look singular.
    rows = jnp.abs(g).max(axis=-1, keepdims=True)
    return rows, jax.scipy.linalg.lu_factor(g / rows)


def _is_regular(rows: Array, lu: Array) -> Bool[Array, "..."]:
    pivots = jnp.abs(jnp.diagonal(lu, axis1=-2, axis2=-1))
    # Elimination of a singular matrix leaves a pivot of about eps; a regular one has |1/cond|.
    large_enough = pivots.min(-1) > 4 * jnp.finfo(lu.dtype).eps * pivots.max(-1)
    return large_enough & jnp.isfinite(rows).all((-2, -1)) & jnp.isfinite(pivots).all(-1)


class GeneralLinear(AbstractGroup):
    """GL(n): invertible matrices, dimension n^2, two components told apart by sign det.

    ``n`` None stands for the size of whatever element is given: what does not need a size works.
    """

    n: int | None = eqx.field(static=True)

    def __check_init__(self):
        if self.n is not None:
            _positive_size(self.n)

    def _size(self):
        require(self.n is not None, "`n` is open in GeneralLinear(None): name the size.")
        return self.n

    @property
    def dimension(self):
        return self._size() ** 2

    @property
    def number_of_components(self):
        return 2

    def identity(self, dtype=None):
        return jnp.eye(self._size(), dtype=_default(dtype))

    def compose(self, g, h):
        return mm(g, h)

    def inverse(self, g):
        inverse = jnp.linalg.inv(g)
        return jnp.where(self.contains(g)[..., None, None], inverse, jnp.nan)

    def exp(self, m):
        return linalg.expm(m)

    def log(self, g):
        return linalg.logm(g)

    def random(self, key, *, scale=1.0, dtype=None):
        return self.exp(self.random_algebra(key, scale=scale, dtype=dtype))

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        n = self._size()
        return jax.random.normal(key, (n, n), _default(dtype)) * (scale / math.sqrt(n))

    def component(self, g):
        return _label((jnp.linalg.slogdet(g)[0] < 0).astype(jnp.int32))

    def contains(self, g):
        rows, (lu, _) = _row_scaled_lu(g)
        return _is_regular(rows, lu)

    def act(self, g, x, representation, inverse=None):
        if _plain(representation, "GeneralLinear"):
            return mm(g, x)
        if inverse is not None:
            return mm(inverse.mT, x)
        rows, (lu, pivots) = _row_scaled_lu(g)
        moved = jax.scipy.linalg.lu_solve((lu, pivots), x, trans=1) / rows
        return jnp.where(_is_regular(rows, lu), moved, jnp.nan)

    def act_algebra(self, m, x, representation):
        return mm(m, x) if _plain(representation, "GeneralLinear") else -mm(m.mT, x)

    def connecting_logs(self, g):
        return linalg.connecting_logs(g)

    def spectrum(self, m):
        return _eigenvalue_range(m)

    def growth(self, m):
        return _power_growth(m)

    def compress(self, x):
        return _compress_rows(x)


class Orthogonal(AbstractGroup):
    """O(n): orthogonal matrices; the algebra is the skew matrices; two components."""

    n: int = eqx.field(static=True)

    def __check_init__(self):
        _positive_size(self.n)

    @property
    def dimension(self):
        return self.n * (self.n - 1) // 2

    @property
    def number_of_components(self):
        return 2

    def identity(self, dtype=None):
        return jnp.eye(self.n, dtype=_default(dtype))

    def compose(self, g, h):
        return mm(g, h)

    def inverse(self, g):
        return g.mT

    def exp(self, m):
        return linalg.expm(m)

    def log(self, g):
        rotation = (jnp.linalg.slogdet(g)[0] > 0)[..., None, None]
        safe = jnp.where(rotation, g, jnp.eye(self.n, dtype=g.dtype))
        return jnp.where(rotation, linalg.log_rotation(safe), jnp.nan)

    def random(self, key, *, scale=1.0, dtype=None):
        return self.exp(self.random_algebra(key, scale=scale, dtype=dtype))

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        normal = jax.random.normal(key, (self.n, self.n), _default(dtype))
        return (normal - normal.mT) * (scale / math.sqrt(2 * self.n))

    def component(self, g):
        return _label((jnp.linalg.slogdet(g)[0] < 0).astype(jnp.int32))

    def contains(self, g):
        defect = jnp.abs(mm(g.mT, g) - jnp.eye(self.n, dtype=g.dtype)).max(axis=(-2, -1))
        # Rounding of a product of n terms, times 100 for elements that were composed often.
        return defect <= 100 * self.n * jnp.finfo(g.dtype).eps

    def act(self, g, x, representation, inverse=None):
        del inverse
        _plain(representation, "Orthogonal")
        return mm(g, x)

    def act_algebra(self, m, x, representation):
        _plain(representation, "Orthogonal")
        return mm(m, x)

    def connecting_logs(self, g):
        stretch = self.log(g)
        method = jnp.where(jnp.isfinite(stretch).all((-2, -1)), ONE_EXPONENTIAL, NO_PATH)
        return jnp.zeros_like(stretch), stretch, method

    def spectrum(self, m):
        return _eigenvalue_range(m)

    def growth(self, m):
        return _power_growth(m)

    def compress(self, x):
        return _compress_rows(x)


class PositiveScaling(AbstractGroup):
    """(R+)^n: one positive scale per coordinate; without ``n``, one scale for a whole array.

    The algebra element is the logarithm of the scales.
    """

    n: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.n is not None:
            _positive_size(self.n)

    @property
    def _shape(self):
        return () if self.n is None else (self.n,)

    def _each(self, flags):
        return flags if self.n is None else flags.all(-1)

    @property
    def dimension(self):
        return 1 if self.n is None else self.n

    @property
    def number_of_components(self):
        return 1

    def identity(self, dtype=None):
        return jnp.ones(self._shape, _default(dtype))

    def compose(self, g, h):
        return g * h

    def inverse(self, g):
        return jnp.where(g > 0, 1 / g, jnp.nan)

    def exp(self, m):
        return jnp.exp(m)

    def log(self, g):
        positive = g > 0
        return jnp.where(positive, jnp.log(jnp.where(positive, g, jnp.ones_like(g))), jnp.nan)

    def random(self, key, *, scale=1.0, dtype=None):
        return self.exp(self.random_algebra(key, scale=scale, dtype=dtype))

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        return scale * jax.random.normal(key, self._shape, _default(dtype))

    def component(self, g):
        return _label(jnp.zeros(g.shape[: g.ndim - len(self._shape)], jnp.int32))

    def contains(self, g):
        return self._each(jnp.isfinite(g) & (g > 0))

    def act(self, g, x, representation, inverse=None):
        del inverse
        return self.act_algebra(jnp.where(g > 0, g, jnp.nan) ** _sign(representation), x, 1.0)

    def act_algebra(self, m, x, representation):
        scale = m * _sign(representation)
        return scale * x if self.n is None else scale[:, None] * x

    def connecting_logs(self, g):
        stretch = self.log(g)
        method = jnp.where(self._each(jnp.isfinite(stretch)), ONE_EXPONENTIAL, NO_PATH)
        return jnp.zeros_like(stretch), stretch, method

    def spectrum(self, m):
        low, high = (m, m) if self.n is None else (m.min(-1), m.max(-1))
        return low, high, jnp.zeros_like(low)

    def growth(self, m):
        return jnp.abs(m).max()

    def compress(self, x):
        squares = jnp.sum(x * x, axis=None if self.n is None else 1)
        return jnp.sqrt(squares).reshape(-1, 1)


class ComplexScaling(AbstractGroup):
    """(C*)^n: a nonzero complex scale for each of n pairs of coordinates (2j, 2j+1).

    This is the commutant of n rotations by different angles, as in rotary embeddings. Elements are
    (..., n, 2), real and imaginary part; algebra elements are (..., n, 2), log modulus and angle.
    """

    n: int = eqx.field(static=True)

    def __check_init__(self):
        _positive_size(self.n)

    @property
    def dimension(self):
        return 2 * self.n

    @property
    def number_of_components(self):
        return 1

    def identity(self, dtype=None):
        return jnp.broadcast_to(jnp.array([1.0, 0.0], _default(dtype)), (self.n, 2))

    def compose(self, g, h):
        (a, b), (c, d) = (g[..., 0], g[..., 1]), (h[..., 0], h[..., 1])
        return jnp.stack([a * c - b * d, a * d + b * c], axis=-1)

    def inverse(self, g):
        modulus = jnp.sum(g * g, axis=-1, keepdims=True)
        return jnp.where(modulus > 0, g * jnp.array([1.0, -1.0], g.dtype) / modulus, jnp.nan)

    def exp(self, m):
        angle = m[..., 1]
        return jnp.exp(m[..., :1]) * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)

    def log(self, g):
        nonzero = jnp.any(g != 0, axis=-1)
        safe = jnp.where(nonzero[..., None], g, jnp.array([1.0, 0.0], g.dtype))
        a, b = safe[..., 0], safe[..., 1]
        logs = jnp.stack([jnp.log(a * a + b * b) / 2, jnp.arctan2(b, a)], axis=-1)
        return jnp.where(nonzero[..., None], logs, jnp.nan)

    def random(self, key, *, scale=1.0, dtype=None):
        return self.exp(self.random_algebra(key, scale=scale, dtype=dtype))

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        return scale * jax.random.normal(key, (self.n, 2), _default(dtype))

    def component(self, g):
        return _label(jnp.zeros(g.shape[:-2], jnp.int32))

    def contains(self, g):
        return (jnp.isfinite(g).all(-1) & jnp.any(g != 0, axis=-1)).all(-1)

    def act(self, g, x, representation, inverse=None):
        del inverse
        if not _plain(representation, "ComplexScaling"):
            # (a + bi)^-T as a real 2 x 2 matrix is (a + bi) / |a + bi|^2.
            modulus = jnp.sum(g * g, axis=-1, keepdims=True)
            g = jnp.where(modulus > 0, g / modulus, jnp.nan)
        return self._rotate(g, x)

    def act_algebra(self, m, x, representation):
        sign = 1.0 if _plain(representation, "ComplexScaling") else -1.0
        return self._rotate(m * jnp.array([sign, 1.0], m.dtype), x)

    def _rotate(self, z, x):
        pairs = x.reshape(self.n, 2, -1)
        even, odd, (a, b) = pairs[:, 0], pairs[:, 1], (z[:, :1], z[:, 1:])
        return jnp.stack([a * even - b * odd, b * even + a * odd], axis=1).reshape(x.shape)

    def connecting_logs(self, g):
        stretch = self.log(g)
        method = jnp.where(jnp.isfinite(stretch).all((-2, -1)), ONE_EXPONENTIAL, NO_PATH)
        return jnp.zeros_like(stretch), stretch, method

    def spectrum(self, m):
        return m[..., 0].min(-1), m[..., 0].max(-1), jnp.abs(m[..., 1]).max(-1)

    def growth(self, m):
        return jnp.sqrt(jnp.sum(m * m, axis=-1).max())

    def compress(self, x):
        return x


class _AbstractFiniteGroup(AbstractGroup):
    """A finite group: its algebra is {0}, held as one scalar so that "no logarithm" can be NaN."""

    @abc.abstractmethod
    def _is_identity(self, g: Element) -> Bool[Array, "..."]:
        """Whether g is the identity."""

    @property
    def dimension(self):
        return 0

    def exp(self, m):
        # A NaN algebra element (no logarithm) cannot be told from 0 in an integer element.
        identity = self.identity()
        return jnp.broadcast_to(identity, (*jnp.shape(m), *identity.shape))

    def log(self, g):
        zero = jnp.zeros((), _default(None))
        return jnp.where(self._is_identity(g), zero, jnp.nan)

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        del key, scale
        return jnp.zeros((), _default(dtype))

    def act_algebra(self, m, x, representation):
        del representation
        return x * m.astype(x.dtype)

    def connecting_logs(self, g):
        stretch = self.log(g)
        method = jnp.where(jnp.isfinite(stretch), ONE_EXPONENTIAL, NO_PATH)
        return jnp.zeros_like(stretch), stretch, method

    def spectrum(self, m):
        return jnp.zeros_like(m), jnp.zeros_like(m), jnp.zeros_like(m)

    def growth(self, m):
        return jnp.zeros_like(m)

    def compress(self, x):
        return x


class Permutation(_AbstractFiniteGroup):
    """S_n: elements are integer arrays (..., n) of indices, acting by (g.x)_i = x_{g[i]}."""

    n: int = eqx.field(static=True)

    def __check_init__(self):
        _positive_size(self.n)

    @property
    def number_of_components(self):
        return math.factorial(self.n)

    def identity(self, dtype=None):
        del dtype
        return jnp.arange(self.n)

    def compose(self, g, h):
        return jnp.take_along_axis(h, g, axis=-1)

    def inverse(self, g):
        return jnp.argsort(g, axis=-1)

    def random(self, key, *, scale=1.0, dtype=None):
        del scale, dtype
        return jax.random.permutation(key, self.n)

    def component(self, g):
        return _label(g)

    def contains(self, g):
        return (jnp.sort(g, axis=-1) == jnp.arange(self.n, dtype=g.dtype)).all(-1)

    def act(self, g, x, representation, inverse=None):
        del inverse
        _plain(representation, "Permutation")
        return x[g]

    def _is_identity(self, g):
        return (g == jnp.arange(self.n, dtype=g.dtype)).all(-1)


class SignFlip(_AbstractFiniteGroup):
    """(Z/2)^n: elements are arrays (..., n) of +1 and -1."""

    n: int = eqx.field(static=True)

    def __check_init__(self):
        _positive_size(self.n)

    @property
    def number_of_components(self):
        return 2**self.n

    def identity(self, dtype=None):
        return jnp.ones(self.n, _default(dtype))

    def compose(self, g, h):
        return g * h

    def inverse(self, g):
        return g

    def random(self, key, *, scale=1.0, dtype=None):
        del scale
        return jax.random.rademacher(key, (self.n,), _default(dtype))

    def component(self, g):
        return _label((g < 0).astype(jnp.int32))

    def contains(self, g):
        return (jnp.abs(g) == 1).all(-1)

    def act(self, g, x, representation, inverse=None):
        del inverse
        _plain(representation, "SignFlip")
        return g[:, None] * x

    def _is_identity(self, g):
        return (g == 1).all(-1)


class Translation(AbstractGroup):
    """R^n: elements are vectors, composed by addition; a covector leg moves the other way."""

    n: int = eqx.field(static=True)

    def __check_init__(self):
        _positive_size(self.n)

    @property
    def dimension(self):
        return self.n

    @property
    def number_of_components(self):
        return 1

    def identity(self, dtype=None):
        return jnp.zeros(self.n, _default(dtype))

    def compose(self, g, h):
        return g + h

    def inverse(self, g):
        return -g

    def exp(self, m):
        return m

    def log(self, g):
        return g

    def random(self, key, *, scale=1.0, dtype=None):
        return self.random_algebra(key, scale=scale, dtype=dtype)

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        return scale * jax.random.normal(key, (self.n,), _default(dtype))

    def component(self, g):
        return _label(jnp.zeros(g.shape[:-1], jnp.int32))

    def contains(self, g):
        return jnp.isfinite(g).all(-1)

    def act(self, g, x, representation, inverse=None):
        del inverse
        return x + self.act_algebra(g, x, representation)

    def act_algebra(self, m, x, representation):
        step = m if _plain(representation, "Translation") else -m
        return jnp.broadcast_to(step[:, None], x.shape)

    def connecting_logs(self, g):
        method = jnp.where(self.contains(g), ONE_EXPONENTIAL, NO_PATH)
        return jnp.zeros_like(g), g, method

    def spectrum(self, m):
        raise ValueError("A translation is affine: it has no spectrum.")

    def growth(self, m):
        return jnp.zeros((), m.dtype)

    def compress(self, x):
        return x


class Product(AbstractGroup):
    """A direct product: elements and algebra elements are tuples, one entry per factor."""

    groups: tuple[AbstractGroup, ...]

    def __init__(self, groups):
        self.groups = tuple(groups)
        for i, group in enumerate(self.groups):
            require(
                isinstance(group, AbstractGroup),
                f"`groups[{i}]` must be a symjax group, got {type(group).__name__}.",
            )

    def _map(self, name, *tuples, **options):
        for entries in tuples:
            require(
                isinstance(entries, tuple | list) and len(entries) == len(self.groups),
                f"An element of a product of {len(self.groups)} groups is a tuple of "
                f"{len(self.groups)} entries, got {type(entries).__name__}"
                + (f" of {len(entries)}." if isinstance(entries, tuple | list) else "."),
            )
        rows = zip(self.groups, *tuples, strict=True)
        return tuple(getattr(group, name)(*row, **options) for group, *row in rows)

    @property
    def dimension(self):
        return sum(group.dimension for group in self.groups)

    @property
    def number_of_components(self):
        return math.prod(group.number_of_components for group in self.groups)

    def identity(self, dtype=None):
        return self._map("identity", dtype=dtype)

    def compose(self, g, h):
        return self._map("compose", g, h)

    def inverse(self, g):
        return self._map("inverse", g)

    def exp(self, m):
        return self._map("exp", m)

    def log(self, g):
        return self._map("log", g)

    def random(self, key, *, scale=1.0, dtype=None):
        return self._map("random", self._keys(key), scale=scale, dtype=dtype)

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        return self._map("random_algebra", self._keys(key), scale=scale, dtype=dtype)

    def _keys(self, key):
        return tuple(jax.random.split(key, len(self.groups))) if self.groups else ()

    def component(self, g):
        labels = self._map("component", g)
        if is_concrete(g):
            return labels
        return jnp.concatenate([jnp.atleast_1d(label) for label in labels])

    def contains(self, g):
        flags = self._map("contains", g)
        return jnp.stack(flags).all(0) if flags else jnp.array(True)

    def act(self, g, x, representation, inverse=None):
        raise ValueError("A product moves an axis through its factors: name one in the leg.")

    def act_algebra(self, m, x, representation):
        raise ValueError("A product moves an axis through its factors: name one in the leg.")

    def connecting_logs(self, g):
        rows = self._map("connecting_logs", g)
        rotations, stretches, methods = zip(*rows, strict=True) if rows else ((), (), ())
        worst = jnp.stack(methods).max(0) if methods else jnp.array(ONE_EXPONENTIAL)
        return tuple(rotations), tuple(stretches), worst

    def spectrum(self, m):
        raise ValueError("A product has one spectrum per factor.")

    def growth(self, m):
        raise ValueError("A product has one growth rate per factor.")

    def compress(self, x):
        raise ValueError("A product moves an axis through its factors.")

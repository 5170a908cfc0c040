"""Groups of scales: positive ones, and complex ones on pairs of coordinates."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._checks import nan_unless, require_count, require_key
from ..linalg._norms import norm
from ._base import (
    AbstractGroup,
    component_label,
    default_dtype,
    is_vector,
    notation_of,
    one_exponential,
    power_of,
)


class PositiveScaling(AbstractGroup):
    """(R+)^n: one positive scale per coordinate; without ``n``, one scale for a whole array.

    The algebra element is the logarithm of the scales.
    """

    n: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.n is not None:
            require_count("n", self.n)

    @property
    def notation(self):
        return notation_of("R+", self.n)

    @property
    def _shape(self):
        return () if self.n is None else (self.n,)

    @property
    def dimension(self):
        return 1 if self.n is None else self.n

    @property
    def is_linear(self):
        return True

    @property
    def number_of_components(self):
        return 1

    def identity(self, dtype=None):
        return jnp.ones(self._shape, default_dtype(dtype))

    def compose(self, g, h):
        return g * h

    def inverse(self, g):
        return jnp.where(g > 0, 1 / g, jnp.nan)

    def exp(self, m):
        return jnp.exp(m)

    def log(self, g: Array):
        positive = g > 0
        return jnp.where(positive, jnp.log(jnp.where(positive, g, jnp.ones_like(g))), jnp.nan)

    def random(self, key, *, scale=1.0, dtype=None):
        return self.exp(self.random_algebra(key, scale=scale, dtype=dtype))

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        require_key(key)
        return scale * jax.random.normal(key, self._shape, default_dtype(dtype))

    def component(self, g):
        return component_label(jnp.zeros(g.shape[: g.ndim - len(self._shape)], jnp.int32))

    def contains(self, g):
        inside = jnp.isfinite(g) & (g > 0)
        return inside if self.n is None else inside.all(-1)

    def act(self, g: Array, x, representation, inverse=None):
        del inverse
        return self.act_algebra(jnp.where(g > 0, g, jnp.nan) ** power_of(representation), x, 1.0)

    def act_algebra(self, m, x, representation):
        scale = m * power_of(representation)
        return scale * x if self.n is None else scale[:, None] * x

    def connecting_logs(self, g):
        return one_exponential(self.log(g), axes=len(self._shape))

    def spectrum(self, m):
        low, high = (m, m) if self.n is None else (m.min(-1), m.max(-1))
        return low, high, jnp.zeros_like(low)

    def majorant(self, m, x, representation):
        # Each entry grows at its own rate, however small it is.
        return self.act_algebra(jnp.exp(m * power_of(representation)), x, 1.0)

    def growth(self, m):
        return jnp.abs(m).max()

    def compress(self, x):
        # Row by row in units of its own: the square of a small one underflows.
        rows = x.reshape(1 if self.n is None else self.n, -1)
        return jax.vmap(norm)(rows)[:, None]

    def project(self, m):
        return m

    def symmetric(self, m):
        return m


class ComplexScaling(AbstractGroup):
    """(C*)^n: a nonzero complex scale for each of n pairs of coordinates (2j, 2j+1).

    This is the commutant of n rotations by different angles, as in rotary embeddings. Elements are
    (..., n, 2), real and imaginary part; algebra elements are (..., n, 2), log modulus and angle.
    """

    n: int = eqx.field(static=True)

    def __check_init__(self):
        require_count("n", self.n)

    @property
    def notation(self):
        return notation_of("C*", self.n)

    @property
    def axis_size(self):
        return 2 * self.n

    @property
    def dimension(self):
        return 2 * self.n

    @property
    def is_linear(self):
        return True

    @property
    def number_of_components(self):
        return 1

    def identity(self, dtype=None):
        return jnp.broadcast_to(jnp.array([1.0, 0.0], default_dtype(dtype)), (self.n, 2))

    def compose(self, g, h):
        (a, b), (c, d) = (g[..., 0], g[..., 1]), (h[..., 0], h[..., 1])
        return jnp.stack([a * c - b * d, a * d + b * c], axis=-1)

    def inverse(self, g):
        return _signed(_over_square(g), 1.0, -1.0)

    def exp(self, m):
        angle = m[..., 1]
        return jnp.exp(m[..., :1]) * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)

    def log(self, g: Array):
        nonzero = jnp.any(g != 0, axis=-1)
        g = jnp.where(nonzero[..., None], g, 1.0)
        scale, unit = _unit(g)
        squares = jnp.sum(unit * unit, axis=-1)
        angle = jnp.arctan2(unit[..., 1], unit[..., 0])
        logs = jnp.stack([jnp.log(scale[..., 0]) + jnp.log(squares) / 2, angle], axis=-1)
        return nan_unless(nonzero[..., None], logs)

    def random(self, key, *, scale=1.0, dtype=None):
        return self.exp(self.random_algebra(key, scale=scale, dtype=dtype))

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        require_key(key)
        return scale * jax.random.normal(key, (self.n, 2), default_dtype(dtype))

    def component(self, g):
        return component_label(jnp.zeros(g.shape[:-2], jnp.int32))

    def contains(self, g):
        return (jnp.isfinite(g).all(-1) & jnp.any(g != 0, axis=-1)).all(-1)

    def act(self, g, x, representation, inverse=None):
        del inverse
        if not is_vector(representation, "ComplexScaling"):
            # (a + bi)^-T as a real 2 x 2 matrix is (a + bi) / |a + bi|^2.
            g = _over_square(g)
        return self._rotate(g, x)

    def act_algebra(self, m, x, representation):
        sign = 1.0 if is_vector(representation, "ComplexScaling") else -1.0
        return self._rotate(_signed(m, sign, 1.0), x)

    def _rotate(self, z, x):
        pairs = x.reshape(self.n, 2, -1)
        even, odd, (a, b) = pairs[:, 0], pairs[:, 1], (z[:, :1], z[:, 1:])
        return jnp.stack([a * even - b * odd, b * even + a * odd], axis=1).reshape(x.shape)

    def connecting_logs(self, g):
        return one_exponential(self.log(g), axes=2)

    def spectrum(self, m):
        return m[..., 0].min(-1), m[..., 0].max(-1), jnp.abs(m[..., 1]).max(-1)

    def majorant(self, m, x, representation):
        pairs = 2**0.5 * x.reshape(self.n, 2, -1).max(axis=1)
        grown = jnp.exp(m[:, :1] * power_of(representation)) * pairs
        return jnp.repeat(grown, 2, axis=0)

    def growth(self, m):
        return jnp.sqrt(jnp.sum(m * m, axis=-1).max())

    def compress(self, x):
        return x

    def project(self, m):
        return m

    def symmetric(self, m):
        return _signed(m, 1.0, 0.0)


def _unit(pairs):
    """A power of two near the modulus of every pair, and the pair over it: squares of it are safe.

    0 where a pair is 0. No derivative goes into the power, which cancels in whatever is computed.
    """
    largest = jax.lax.stop_gradient(jnp.abs(pairs).max(-1, keepdims=True))
    reach = -jnp.finfo(pairs.dtype).minexp
    exponent = jnp.round(jnp.log2(jnp.where(largest > 0, largest, 1.0)))
    exponent = jnp.where(jnp.isfinite(exponent), jnp.clip(exponent, -reach, reach), 0)
    power = lambda k: jnp.ldexp(jnp.ones((), pairs.dtype), k.astype(jnp.int32))
    return power(exponent), pairs * power(-exponent)


def _over_square(pairs):
    """Every pair over the square of its modulus; NaN where it is 0."""
    scale, unit = _unit(pairs)
    squares = jnp.sum(unit * unit, axis=-1, keepdims=True)
    nonzero = squares > 0
    return nan_unless(nonzero, unit / jnp.where(nonzero, squares, 1.0) / scale)


def _signed(pairs, first, second):
    return jnp.stack([first * pairs[..., 0], second * pairs[..., 1]], axis=-1)

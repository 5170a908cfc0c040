"""Finite groups: permutations and sign flips."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._checks import is_floating, require_count, require_key
from ._base import (
    AbstractGroup,
    Element,
    component_label,
    default_dtype,
    is_vector,
    notation_of,
    one_exponential,
)


class _AbstractFiniteGroup(AbstractGroup):
    """A finite group: its algebra is {0}, held as one scalar so that "no logarithm" can be NaN."""

    @abc.abstractmethod
    def _is_identity(self, g: Element) -> Bool[Array, "..."]:
        """Whether g is the identity."""

    @property
    def is_linear(self):
        return True

    @property
    def dimension(self):
        return 0

    def exp(self, m):
        # NaN, for no logarithm, gives the identity too: the integers of a permutation hold no NaN.
        identity = self.identity(jnp.result_type(m))
        return jnp.broadcast_to(identity, (*jnp.shape(m), *identity.shape))

    def log(self, g):
        zero = jnp.zeros((), g.dtype if is_floating(g) else default_dtype(None))
        return jnp.where(self._is_identity(g), zero, jnp.nan)

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        del key, scale
        return jnp.zeros((), default_dtype(dtype))

    def act_algebra(self, m, x, representation):
        del representation
        return x * m.astype(x.dtype)

    def connecting_logs(self, g):
        return one_exponential(self.log(g), axes=0)

    def spectrum(self, m):
        return jnp.zeros_like(m), jnp.zeros_like(m), jnp.zeros_like(m)

    def growth(self, m):
        return jnp.zeros_like(m)

    def compress(self, x):
        return x

    def project(self, m):
        return jnp.zeros_like(m)

    def symmetric(self, m):
        return jnp.zeros_like(m)


class Permutation(_AbstractFiniteGroup):
    """S_n: elements are integer arrays (..., n) of indices, acting by (g.x)_i = x_{g[i]}."""

    n: int = eqx.field(static=True)

    def __check_init__(self):
        require_count("n", self.n)

    @property
    def notation(self):
        return f"S({self.n})"

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
        require_key(key)
        del scale, dtype
        return jax.random.permutation(key, self.n)

    def component(self, g):
        return component_label(g)

    def contains(self, g):
        return self._is_identity(jnp.sort(g, axis=-1))

    def act(self, g, x, representation, inverse=None):
        del inverse
        is_vector(representation, "Permutation")
        return x[g]

    def _is_identity(self, g):
        return (g == jax.lax.broadcasted_iota(g.dtype, g.shape, g.ndim - 1)).all(-1)


class SignFlip(_AbstractFiniteGroup):
    """(Z/2)^n: elements are arrays (..., n) of +1 and -1."""

    n: int = eqx.field(static=True)

    def __check_init__(self):
        require_count("n", self.n)

    @property
    def notation(self):
        return notation_of("Z2", self.n)

    @property
    def number_of_components(self):
        return 2**self.n

    def identity(self, dtype=None):
        return jnp.ones(self.n, default_dtype(dtype))

    def compose(self, g, h):
        return g * h

    def inverse(self, g):
        return g

    def random(self, key, *, scale=1.0, dtype=None):
        require_key(key)
        del scale
        return jax.random.rademacher(key, (self.n,), default_dtype(dtype))

    def component(self, g):
        return component_label((g < 0).astype(jnp.int32))

    def contains(self, g):
        return (jnp.abs(g) == 1).all(-1)

    def act(self, g, x, representation, inverse=None):
        del inverse
        is_vector(representation, "SignFlip")
        return g[:, None] * x

    def _is_identity(self, g):
        return (g == 1).all(-1)

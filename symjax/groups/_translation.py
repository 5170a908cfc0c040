"""Translations."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .._checks import require_count, require_key
from ._base import (
    AbstractGroup,
    component_label,
    default_dtype,
    is_vector,
    notation_of,
    one_exponential,
)


class Translation(AbstractGroup):
    """R^n: elements are vectors, composed by addition; a covector leg moves the other way."""

    n: int = eqx.field(static=True)

    def __check_init__(self):
        require_count("n", self.n)

    @property
    def notation(self):
        return notation_of("R", self.n)

    @property
    def dimension(self):
        return self.n

    @property
    def is_linear(self):
        return False

    @property
    def number_of_components(self):
        return 1

    def identity(self, dtype=None):
        return jnp.zeros(self.n, default_dtype(dtype))

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
        require_key(key)
        return scale * jax.random.normal(key, (self.n,), default_dtype(dtype))

    def component(self, g):
        return component_label(jnp.zeros(g.shape[:-1], jnp.int32))

    def contains(self, g):
        return jnp.isfinite(g).all(-1)

    def act(self, g, x, representation, inverse=None):
        del inverse
        return x + self.act_algebra(g, x, representation)

    def act_algebra(self, m, x, representation):
        step = m if is_vector(representation, "Translation") else -m
        return jnp.broadcast_to(step[:, None], x.shape)

    def connecting_logs(self, g):
        return one_exponential(g, axes=1)

    def spectrum(self, m):
        raise ValueError("A translation is affine: it has no spectrum.")

    def growth(self, m):
        return jnp.zeros((), m.dtype)

    def compress(self, x):
        return x

    def project(self, m):
        return m

    def symmetric(self, m):
        return m  # a constant field, which changes a norm like a symmetric map

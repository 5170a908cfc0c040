"""The part of a matrix group that leaves the vector of ones alone."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import require
from ._base import AbstractDerivedGroup, AbstractGroup
from ._matrices import GeneralLinear, Orthogonal


class FixingOnes(AbstractDerivedGroup):
    """The matrices diag(1, g) in an orthonormal basis whose first vector is proportional to ones.

    ``group`` is Orthogonal(n - 1) or GeneralLinear(n - 1). This is what the mean of a LayerNorm
    leaves of O(n) or GL(n): elements fix the vector of ones, and so does their transpose.
    """

    group: AbstractGroup
    n: int = eqx.field(static=True)

    def __init__(self, group: GeneralLinear | Orthogonal):
        require(
            isinstance(group, GeneralLinear | Orthogonal) and group.n is not None,
            f"`group` must be an Orthogonal or GeneralLinear group with a size, got {group}.",
        )
        self.group, self.n = group, (group.n or 0) + 1

    @property
    def notation(self):
        return f"{self.group.notation} beside ones"

    @property
    def dimension(self):
        return self.group.dimension

    @property
    def number_of_components(self):
        return self.group.number_of_components

    def identity(self, dtype=None):
        return self.group.identity(dtype)

    def random(self, key, *, scale=1.0, dtype=None):
        return self.group.random(key, scale=scale, dtype=dtype)

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        return self.group.random_algebra(key, scale=scale, dtype=dtype)

    def contains(self, g):
        return self.group.contains(g)

    def act(self, g, x, representation, inverse=None):
        y = reflect_ones(x)
        moved = self.group.act(g, y[1:], representation, inverse)
        return reflect_ones(jnp.concatenate([y[:1], moved]))

    def act_algebra(self, m, x, representation):
        moved = self.group.act_algebra(m, reflect_ones(x)[1:], representation)
        return reflect_ones(jnp.concatenate([jnp.zeros_like(x[:1]), moved]))

    def connecting_logs(self, g):
        return self.group.connecting_logs(g)

    def spectrum(self, m):
        low, high, skew = self.group.spectrum(m)
        return jnp.minimum(low, 0), jnp.maximum(high, 0), skew

    def growth(self, m):
        return self.group.growth(m)

    def compress(self, x):
        return self.group.compress(x)


def reflect_ones(x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """The reflection that exchanges the first unit vector with ones / sqrt(n), along axis 0."""
    n = x.shape[0]
    mirror = jnp.full((n,), -1 / n**0.5, x.dtype).at[0].add(1)
    square = 2 - 2 / n**0.5  # |mirror|^2
    along = jnp.tensordot(mirror, x, 1)
    return x - mirror.reshape(-1, *[1] * (x.ndim - 1)) * (2 / square * along)[None]

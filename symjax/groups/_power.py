"""Powers of one group: an element per head, expert or layer."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .._checks import require_count, require_key
from ._base import AbstractDerivedGroup, AbstractGroup


class Power(AbstractDerivedGroup):
    """G^count, as one group: entries of its elements have a leading axis of size ``count``.

    It moves an axis of count * n entries as count blocks, each by an element of its own.
    """

    group: AbstractGroup
    count: int = eqx.field(static=True)

    def __init__(self, group: AbstractGroup, count: int):
        require_count("count", count)
        self.group, self.count = group, count

    @property
    def n(self) -> int | None:
        """The sizes of the copies, added up."""
        return None if self.group.n is None else self.count * self.group.n

    @property
    def axis_size(self):
        size = self.group.axis_size
        return None if size is None else self.count * size

    @property
    def notation(self):
        inner = self.group.notation
        return f"({inner})^{self.count}" if "^" in inner else f"{inner}^{self.count}"

    @property
    def dimension(self):
        return self.count * self.group.dimension

    @property
    def number_of_components(self):
        return self.group.number_of_components**self.count

    def identity(self, dtype=None):
        one = self.group.identity(dtype)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.count, *x.shape)), one)

    def random(self, key, *, scale=1.0, dtype=None):
        require_key(key)
        draw = lambda k: self.group.random(k, scale=scale, dtype=dtype)
        return jax.vmap(draw)(jax.random.split(key, self.count))

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        require_key(key)
        draw = lambda k: self.group.random_algebra(k, scale=scale, dtype=dtype)
        return jax.vmap(draw)(jax.random.split(key, self.count))

    def contains(self, g):
        return self.group.contains(g).all(-1)

    def act(self, g, x, representation, inverse=None):
        if inverse is None:
            move = lambda e, y: self.group.act(e, y, representation)
            return self._each(move, x, g)
        move = lambda e, y, i: self.group.act(e, y, representation, i)
        return self._each(move, x, g, inverse)

    def act_algebra(self, m, x, representation):
        return self._each(lambda e, y: self.group.act_algebra(e, y, representation), x, m)

    def _each(self, move, x, g, *more):
        blocks = x.reshape(self.count, -1, x.shape[-1])
        return jax.vmap(move)(g, blocks, *more).reshape(x.shape)

    def connecting_logs(self, g):
        rotation, stretch, method = self.group.connecting_logs(g)
        return rotation, stretch, method.max(-1)

    def spectrum(self, m):
        low, high, skew = self.group.spectrum(m)
        return low.min(-1), high.max(-1), skew.max(-1)

    def majorant(self, m, x, representation):
        return self._each(lambda e, y: self.group.majorant(e, y, representation), x, m)

    def growth(self, m):
        return jnp.max(jax.vmap(self.group.growth)(m))

    def compress(self, x):
        blocks = jax.vmap(self.group.compress)(x.reshape(self.count, -1, x.shape[-1]))
        return blocks.reshape(x.shape[0], -1)

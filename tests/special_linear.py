"""SL(n), written as a user would write it: one class by the recipe of CONTRIBUTING."""

import equinox as eqx
import jax.numpy as jnp

from symjax import groups


class SpecialLinear(groups.AbstractGroup):
    """SL(n): the matrices of determinant 1; its algebra is the matrices of trace 0."""

    whole: groups.GeneralLinear
    n: int = eqx.field(static=True)

    def __init__(self, n):
        self.whole, self.n = groups.GeneralLinear(n), n

    @property
    def dimension(self):
        return self.n**2 - 1

    @property
    def number_of_components(self):
        return 1

    def identity(self, dtype=None):
        return self.whole.identity(dtype)

    def compose(self, g, h):
        return self.whole.compose(g, h)

    def inverse(self, g):
        return self.whole.inverse(g)

    def exp(self, m):
        return self.whole.exp(m)

    def log(self, g):
        return self.whole.log(g)

    def random(self, key, *, scale=1.0, dtype=None):
        return self.exp(self.random_algebra(key, scale=scale, dtype=dtype))

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        return self.project(self.whole.random_algebra(key, scale=scale, dtype=dtype))

    def component(self, g):
        # Of the elements there is one kind; where none is, as in GL(n).
        return self.whole.component(g)

    def contains(self, g):
        size = jnp.maximum(1.0, jnp.abs(g).max(axis=(-2, -1))) ** self.n
        return jnp.abs(jnp.linalg.det(g) - 1) <= 1e3 * self.n * jnp.finfo(g.dtype).eps * size

    def act(self, g, x, representation, inverse=None):
        return self.whole.act(g, x, representation, inverse)

    def act_algebra(self, m, x, representation):
        return self.whole.act_algebra(m, x, representation)

    def connecting_logs(self, g):
        return self.whole.connecting_logs(g)

    def spectrum(self, m):
        return self.whole.spectrum(m)

    def growth(self, m):
        return self.whole.growth(m)

    def compress(self, x):
        return self.whole.compress(x)

    def project(self, m):
        trace = jnp.trace(m, axis1=-2, axis2=-1)[..., None, None]
        return m - trace / self.n * jnp.broadcast_to(jnp.eye(self.n, dtype=m.dtype), m.shape)

    def symmetric(self, m):
        return (m + m.mT) / 2

"""Direct products."""

import math

import jax
import jax.numpy as jnp

from .._checks import is_concrete, require, require_key
from ..linalg import ONE_EXPONENTIAL
from ._base import AbstractGroup


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
    def n(self) -> None:
        """None: every factor has a size of its own."""
        return None

    @property
    def notation(self):
        return " x ".join(group.notation for group in self.groups) or "1"

    @property
    def factors(self):
        return self.groups

    def entries(self, g):
        return tuple(g)

    def element(self, entries):
        return tuple(entries)

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

    def project(self, m):
        return self._map("project", m)

    def symmetric(self, m):
        return self._map("symmetric", m)

    def _keys(self, key):
        require_key(key)
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

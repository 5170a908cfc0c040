"""One model of the zoo: how it is built, and which symmetries it has and has not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Case:
    """A small model with the symmetries that it is known to have.

    ``build(key)`` gives ``(apply, params, inputs)`` at generic parameters. ``dimension`` is
    #params - rank of the output Jacobian, by the formulas of the table of symmetries; with
    ``equality`` False it is only a lower bound of that number (deep ReLU networks), and with
    ``numeric`` False the Jacobian does not say the truth (stop_gradient, comparisons, saturation
    outside of the sampled range, float32 inside) and ``dimension`` is what really leaves the
    outputs unchanged.

    ``permutations`` are the sizes of the symmetric groups, ``signs`` the number of independent sign
    flips, both outside of linear and orthogonal groups; None where not recorded.
    ``approximate`` is the dimension if the epsilon of the norms were zero. ``frozen`` are the
    leaves that no symmetry may move, ``forbidden`` the names of group classes that must not appear.
    """

    name: str
    build: Callable[[jax.Array], tuple[Callable, Any, tuple]]
    dimension: int
    equality: bool = True
    numeric: bool = True
    permutations: tuple[int, ...] | None = None
    signs: int | None = None
    approximate: int | None = None
    frozen: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


def generator(key):
    """NumPy's generator, seeded by a key: nothing is compiled to build a model."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def draw(rng, shape, dtype=None):
    """Normal numbers, in JAX's default dtype."""
    return jnp.asarray(rng.standard_normal(shape), dtype or jnp.zeros(()).dtype)


def leaf(rng, shape, dtype=None):
    """A generic leaf: a normal matrix, or a vector whose entries are neither small nor large.

    A gain near zero hides what is behind it from the Jacobian, a large bias switches a unit off.
    """
    if sum(size > 1 for size in shape) > 1:
        return 0.8 * draw(rng, shape, dtype)
    signs = rng.choice([-1.0, 1.0], shape)
    return jnp.asarray(signs * rng.uniform(0.3, 0.7, shape), dtype or jnp.zeros(()).dtype)


def normal(key, **shapes):
    """A dictionary of generic leaves."""
    rng = generator(key)
    return {name: leaf(rng, shape) for name, shape in shapes.items()}


def generic(key, tree):
    """The same tree, arrays or only their shapes, with every floating leaf at a generic value."""
    rng = generator(key)

    def fill(x):
        if not hasattr(x, "dtype"):
            return x
        if jnp.issubdtype(x.dtype, jnp.floating):
            return leaf(rng, x.shape, x.dtype)
        return jnp.zeros(x.shape, x.dtype)

    return jax.tree.map(fill, tree)


def model(apply, *input_shapes, **shapes):
    """A builder from a function of a dictionary of leaves and normal inputs."""

    def build(key):
        rng = generator(key)
        inputs = tuple(draw(rng, shape) for shape in input_shapes)
        return apply, {name: leaf(rng, shape) for name, shape in shapes.items()}, inputs

    return build

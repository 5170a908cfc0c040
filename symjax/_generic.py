"""Parameters and inputs that hide nothing: no zero bias, no gain of one, no special value.

Drawn by NumPy on the host, so that nothing is compiled for them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from ._checks import is_floating, require_key


def generator(key: Key[Array, ""]) -> np.random.Generator:
    """NumPy's generator, seeded by a key."""
    require_key(key)
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())


def generic_params(params: PyTree, rng: np.random.Generator) -> PyTree:
    """The parameters away from any special value, of about the size they have.

    A leaf of one sign (gains, variances) is multiplied by random positive numbers and keeps its
    sign; any other gets normal noise of half its root mean square, a zero leaf of 1/2. Leaves that
    are not floating stay; an abstract leaf becomes normal numbers.
    """
    # NumPy makes a number of an array without axes when it computes with it.
    new = lambda x: np.asarray(_perturb(x, rng), x.dtype)
    return jax.tree.map(lambda x: new(x) if is_floating(x) else x, params)


def _perturb(x, rng):
    noise = rng.standard_normal(x.shape)
    if isinstance(x, jax.ShapeDtypeStruct):
        return 0.5 * noise
    values = np.asarray(x, np.float64)
    if values.size and (np.all(values > 0) or np.all(values < 0)):
        return values * np.exp(0.5 * noise)
    size = np.sqrt(np.mean(values**2)) if values.size else 0
    return values + 0.5 * (size or 1.0) * noise


def random_inputs(inputs: PyTree, number: int, rng: np.random.Generator) -> PyTree:
    """A batch of ``number`` random inputs, a new first axis on every leaf.

    Floating inputs are normal, every other one three times as large, so that units with a kink are
    seen on both sides of it. Integers are uniform between the least and the greatest given; other
    leaves (booleans, keys) and abstract integers are repeated as they are, the latter as zeros.
    """
    return jax.tree.map(lambda x: _draw(x, number, rng), inputs)


def _draw(x, number, rng):
    shape = (number, *jnp.shape(x))
    if is_floating(x):
        scale = 1 + 2 * (np.arange(number) % 2)
        noise = rng.standard_normal(shape)
        return (scale.reshape(-1, *[1] * (len(shape) - 1)) * noise).astype(x.dtype)
    if isinstance(x, jax.ShapeDtypeStruct):
        return np.zeros(shape, x.dtype)
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.integer) and x.size:
        values = np.asarray(x)
        return rng.integers(values.min(), values.max() + 1, shape, x.dtype)
    return jnp.broadcast_to(x, shape)


def concrete_inputs(inputs: PyTree, rng: np.random.Generator) -> PyTree:
    """The inputs as they are; abstract ones become random."""
    abstract = lambda x: isinstance(x, jax.ShapeDtypeStruct)
    return jax.tree.map(lambda x: _draw(x, 1, rng)[0] if abstract(x) else x, inputs)

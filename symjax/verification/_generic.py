"""Parameters and inputs that hide nothing: no zero bias, no gain of one, no special value."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from .._checks import is_floating


def generic_params(params: PyTree, key: Key[Array, ""]) -> PyTree:
    """The parameters away from any special value, of about the size they have.

    A leaf of one sign (gains, variances) is multiplied by random positive numbers and keeps its
    sign; any other gets normal noise of half its root mean square, a zero leaf of 1/2. Leaves that
    are not floating stay; an abstract leaf becomes normal numbers.
    """
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves)) if leaves else []
    return jax.tree.unflatten(structure, [_perturb(x, k) for x, k in zip(leaves, keys, strict=True)])


def _perturb(x, key):
    if not is_floating(x):
        return x
    noise = jax.random.normal(key, x.shape, x.dtype)
    if isinstance(x, jax.ShapeDtypeStruct):
        return 0.5 * noise
    size = jnp.sqrt(jnp.mean(x**2))
    added = x + 0.5 * jnp.where(size > 0, size, 1.0).astype(x.dtype) * noise
    one_sign = jnp.all(x > 0) | jnp.all(x < 0)
    return jnp.where(one_sign, x * jnp.exp(0.5 * noise), added)


def random_inputs(inputs: PyTree, number: int, key: Key[Array, ""]) -> PyTree:
    """A batch of ``number`` random inputs, a new first axis on every leaf.

    Floating inputs are normal, every other one three times as large, so that units with a kink are
    seen on both sides of it. Integers are uniform between the least and the greatest given; other
    leaves (booleans, keys) and abstract integers are repeated as they are, the latter as zeros.
    """
    leaves, structure = jax.tree.flatten(inputs)
    keys = jax.random.split(key, len(leaves)) if leaves else []
    drawn = [_draw(x, number, k) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def _draw(x, number, key):
    shape = (number, *jnp.shape(x))
    if is_floating(x):
        scale = 1 + 2 * (jnp.arange(number) % 2)
        scale = scale.reshape(-1, *[1] * (len(shape) - 1)).astype(x.dtype)
        return scale * jax.random.normal(key, shape, x.dtype)
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.zeros(shape, x.dtype)
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.integer) and x.size:
        return jax.random.randint(key, shape, jnp.min(x), jnp.max(x) + 1, x.dtype)
    return jnp.broadcast_to(x, shape)


def concrete_inputs(inputs: PyTree, key: Key[Array, ""]) -> PyTree:
    """The inputs as they are; abstract ones become random."""
    abstract = lambda x: isinstance(x, jax.ShapeDtypeStruct)
    drawn = random_inputs(inputs, 1, key)
    return jax.tree.map(lambda x, d: d[0] if abstract(x) else x, inputs, drawn)

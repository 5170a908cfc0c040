"""Products at full precision: on GPU and TPU the default of float32 is TF32 or bfloat16."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._checks import is_floating


def mm(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """``a @ b`` at the highest precision of the device."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def einsum(subscripts: str, *operands: Float[Array, "..."]) -> Float[Array, "..."]:
    """``jnp.einsum`` at the highest precision of the device."""
    return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST)


def computing_dtype(*dtypes: jnp.dtype) -> jnp.dtype:
    """The dtype to compute numbers of several dtypes in: the widest, and float32 at least."""
    return max((jnp.dtype(d) for d in (*dtypes, jnp.float32)), key=lambda d: jnp.finfo(d).bits)


def widen(tree: PyTree) -> PyTree:
    """Half-precision leaves as float32, all others as they are."""
    one = lambda x: x.astype(computing_dtype(x.dtype)) if is_floating(x) else x
    return jax.tree.map(one, tree)

"""How far apart two models are as functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._checks import require, require_callable


def require_measurable(
    approximate: bool, apply: Callable[..., PyTree] | None, inputs: Any
) -> tuple[Any, ...]:
    """The inputs as a tuple; ValueError where a change is owed and cannot be measured."""
    require(
        (apply is None) == (inputs is None),
        "`apply` and `inputs` belong together: give both, or neither.",
    )
    require(
        apply is not None or not approximate,
        "`approximate` symmetries change the function: give `apply` and `inputs` too, so that "
        "the result can say by how much.",
    )
    if apply is not None:
        require_callable("apply", apply)
    return inputs if isinstance(inputs, tuple) else (inputs,)


def function_change(
    apply: Callable[..., PyTree] | None, inputs: tuple[Any, ...], before: PyTree, after: PyTree
) -> Float[Array, ""] | None:
    """|f(after) - f(before)| / |f(before)| over all outputs; None without a function.

    Absolute where the outputs are 0. Outputs that are not numbers of a continuum (labels) count as
    an infinite change where they differ. Works under jit.
    """
    if apply is None:
        return None
    squares, dtype = [jnp.zeros(()), jnp.zeros(())], jnp.zeros(()).dtype
    square = lambda v: jnp.sum(jnp.abs(v).astype(dtype) ** 2)
    rows = [jax.tree.leaves(apply(params, *inputs)) for params in (before, after)]
    for x, y in zip(*rows, strict=True):
        if not jnp.issubdtype(x.dtype, np.inexact):
            gap, size = jnp.where(jnp.array_equal(x, y), 0.0, jnp.inf), jnp.zeros(())
        else:
            gap, size = square(y - x), square(x)
        squares = [s + v for s, v in zip(squares, (gap, size), strict=True)]
    gap, size = squares
    return jnp.sqrt(gap / jnp.where(size > 0, size, 1))

"""The homeomorphism between GL^(l - 1) and the minimum of a square linear network."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._checks import describe, is_concrete, is_floating, require, require_finite
from ..linalg._precision import mm, widen


def linear_chart(
    g: Sequence[Float[ArrayLike, "h h"]], x: Float[ArrayLike, "h h"], y: Float[ArrayLike, "h h"]
) -> tuple[Float[Array, "h h"], ...]:
    """The minimum (g_1 X^-1, g_2, ..., g_(l-1), Y g_1^-1 ... g_(l-1)^-1) of |Y - W_l ... W_1 X|^2.

    Eq. (10), with the order of its product mended: a homeomorphism from the (l - 1)-tuples of
    invertible matrices onto the minimum, for invertible X and Y. So a set of minima is connected
    where its tuples are, and the minimum has as many components as the group, 2^(l - 1); the signs
    of det(g_i) tell them apart. For l >= 3 it is not the orbit map of `deep_linear_action`.
    Under jit a singular matrix gives numbers that are not finite.

    Raises ValueError for arguments that are not square matrices of one size and dtype, and (outside
    jit) for a NaN or a singular one.

    Paper: Prop. 4.1.
    Paper: Cor. 3.2.
    Paper: Cor. 3.3.

    Example:
        >>> two = 2 * jnp.eye(2)
        >>> w = linear_chart((two,), jnp.eye(2), jnp.eye(2))
        >>> (w[1] @ w[0]).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    g, (x, y) = _square("g", tuple(g), x, y), map(jnp.asarray, (x, y))
    last = widen(y)
    for step in g:
        last = _over(last, step)
    return (_over(g[0], x).astype(x.dtype), *g[1:], last.astype(y.dtype))


def inverse_linear_chart(
    weights: Sequence[Float[ArrayLike, "h h"]], x: Float[ArrayLike, "h h"]
) -> tuple[Float[Array, "h h"], ...]:
    """The tuple g with linear_chart(g, x, y) = weights: (W_1 X, W_2, ..., W_(l-1)).

    Raises ValueError as `linear_chart` does.

    Example:
        >>> one = jnp.ones((1, 1))
        >>> inverse_linear_chart((3 * one, one / 3), one)[0].tolist()
        [[3.0]]
    """
    weights = _square("weights", tuple(weights), x)
    require(len(weights) >= 2, f"`weights` must hold at least two, got {len(weights)}.")
    return (mm(weights[0], jnp.asarray(x)), *weights[1:-1])


def _over(a, b):
    """The quotient a b^-1, widened: half precision has no factorisations."""
    return jnp.linalg.solve(widen(b).T, widen(a).T).T


def _square(name, matrices, x, y=None):
    """The tuple as arrays; ValueError unless all are invertible, of the size and dtype of x."""
    require(len(matrices) >= 1, f"`{name}` must hold at least one matrix, got none.")
    named = [("x", x), *([] if y is None else [("y", y)])]
    named += [(f"{name}[{i}]", a) for i, a in enumerate(matrices)]
    shape = (x.shape[0],) * 2
    for label, a in named:
        require(
            is_floating(a) and a.shape == shape and a.dtype == x.dtype,
            f"`{label}` must be a {x.dtype} matrix of shape {shape}, got {describe(a)}.",
        )
        require_finite(label, a)
        if is_concrete(a):
            regular = np.linalg.matrix_rank(np.asarray(a, np.float64)) == len(a)
            require(bool(regular), f"`{label}` must be invertible.")
    return tuple(jnp.asarray(a) for a in matrices)

"""All critical points of a polynomial on [0, 1], with no eigenvalues and no grid.

Between two neighbouring roots of its derivative a polynomial is monotone and has at most one root,
which bisection finds. So the roots of p^(n-1), which is linear, separate those of p^(n-2), and so
on down to p': a fixed number of vectorised bisections, that lower to every device. An interval
without a sign change contributes its right end, which does no harm: a point too many among the
separators is still a separator.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..linalg._precision import mm


def critical_points(coefficients: Float[Array, " c"]) -> Float[Array, " c"]:
    """A sorted set of points of [0, 1] that has 0, 1 and every critical point among them.

    ``coefficients`` are those of sum_j c_j T_j(2 t - 1), degree n = len - 1 >= 1. The answer has
    n + 1 points, some of which may be no critical points. NaN coefficients give some of [0, 1].
    """
    degree = coefficients.size - 1
    step = jnp.asarray(_derivative(degree), coefficients.dtype)

    def differentiate(c, _):
        c = mm(step, c)
        # Only signs matter: scaling keeps high derivatives from overflow.
        largest = jnp.max(jnp.abs(c))
        c = c / jnp.where(largest > 0, largest, 1.0)
        return c, c

    _, derivatives = jax.lax.scan(differentiate, coefficients, None, length=degree)
    # n intervals, all but the first empty at 1. Each order down splits off at most one more, so
    # the last of them stays empty until it is needed, and may be dropped.
    ends = jnp.concatenate([jnp.zeros(1), jnp.ones(degree)]).astype(coefficients.dtype)

    def separate(points, c):
        low, high = points[:-1], points[1:]
        roots = _bisect(c, low, high)
        return jnp.concatenate([points[:1], roots[:-1], points[-1:]]), None

    # From the constant derivative of order n, which has no root, down to the first.
    return jax.lax.scan(separate, ends, derivatives, reverse=True)[0]


def _bisect(c, low, high):
    """The root of the polynomial in each interval where its sign changes, else the right end."""
    rises = _evaluate(c, low) < 0
    crosses = rises == (_evaluate(c, high) >= 0)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        before = (_evaluate(c, middle) < 0) == rises
        return jnp.where(before, middle, low), jnp.where(before, high, middle)

    # One bit an iteration, from an interval of at most 1.
    steps = math.ceil(-math.log2(float(jnp.finfo(low.dtype).eps))) + 2
    left, right = jax.lax.fori_loop(0, steps, halve, (low, high))
    return jnp.where(crosses, (left + right) / 2, high)


def _evaluate(c, t):
    """sum_j c_j T_j(2 t - 1) at each t, by Clenshaw's recurrence."""
    x = 2 * t - 1

    def body(state, coefficient):
        b1, b2 = state
        return (coefficient + 2 * x * b1 - b2, b1), None

    zero = jnp.zeros_like(x)
    (b1, b2), _ = jax.lax.scan(body, (zero, zero), c[1:], reverse=True)
    return c[0] + x * b1 - b2


@functools.cache
def _derivative(degree):
    """The matrix from coefficients to those of the derivative (up to the factor of 2 t - 1)."""
    matrix = np.zeros((degree + 1, degree + 1))
    for j in range(1, degree + 1):
        for i in range(j - 1, -1, -2):
            matrix[i, j] = 2 * j if i else j
    return matrix

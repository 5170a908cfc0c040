"""Speed and curvature at many times for the price of a few: interpolation in Chebyshev points.

Both are analytic on a stretch of a curve. The last coefficients, measured against the smallest
sample, say whether the points were enough for every digit; where they were not, as near a sharp
peak, the functions themselves are evaluated at all times.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..linalg._precision import mm

# Points of the interpolation: enough for a curve with |M|_2 = 1.
_POINTS = {32: 12, 64: 24}
# Last coefficients in units of eps times the smallest sample: below this they are rounding.
_TAIL = 16


def fill(
    old: Float[Array, " T"],
    times: Float[Array, " T"],
    evaluate: Callable[[Float[Array, " N"]], Float[Array, " N"]],
    start: Float[Array, ""],
    end: Float[Array, ""],
) -> Float[Array, " T"]:
    """``old`` with the values at all times in [start, end] filled in.

    Each number is read and written once: with thousands of times that is what counts.
    """

    def exactly(interval: Array, old: Array) -> Array:
        inside = (times >= interval[0]) & (times <= interval[1])
        found: Array = evaluate(jnp.clip(times, interval[0], interval[1]))
        return jnp.where(inside, found, old)

    interval = jnp.stack([start, end])
    points, eps = _POINTS[jnp.finfo(times.dtype).bits], jnp.finfo(times.dtype).eps
    if times.shape[0] <= 2 * points:
        return exactly(interval, old)
    nodes, to_chebyshev, to_powers = (jnp.asarray(x, times.dtype) for x in _matrices(points))
    half = (end - start) / 2
    samples = evaluate(start + half * (nodes + 1))
    coefficients = mm(to_chebyshev, samples)
    # NaN, of a curve at rest, is not smooth either.
    smooth = jnp.abs(coefficients[-2:]).max() <= _TAIL * eps * samples.min()
    place = (times - start) * (1 / jnp.where(half > 0, half, jnp.ones_like(half))) - 1
    value: Array = horner(mm(to_powers, coefficients), place)
    filled = jnp.where(jnp.abs(place) <= 1 + 8 * eps, value, old)
    # A loop of one turn or none: in a batch of smooth curves nothing more is computed. What it
    # computes from is carried, or the compiler would move it out of the loop.
    none = jnp.asarray([1, 0], times.dtype)
    carry = (jnp.where(smooth, none, interval), filled)
    unfinished = lambda carry: carry[0][0] <= carry[0][1]
    return jax.lax.while_loop(unfinished, lambda carry: (none, exactly(*carry)), carry)[1]


def horner(coefficients: Float[Array, " N"], x: Float[Array, " T"]) -> Float[Array, " T"]:
    """The polynomial with these coefficients, lowest order first."""
    value = jnp.zeros_like(x)
    for c in coefficients[::-1]:
        value = value * x + c
    return value


def _matrices(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chebyshev points on [-1, 1], values there to coefficients, and those to powers' ones."""
    angles = np.pi * (np.arange(points) + 0.5) / points
    to_chebyshev = 2 / points * np.cos(np.outer(np.arange(points), angles))
    to_chebyshev[0] /= 2
    columns = [np.polynomial.chebyshev.cheb2poly(row) for row in np.eye(points)]
    to_powers = np.stack([np.pad(c, (0, points - len(c))) for c in columns], axis=1)
    return np.cos(angles), to_chebyshev, to_powers

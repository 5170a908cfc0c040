"""Speed and curvature at many times for the price of a few: interpolation in Chebyshev points.

Both are analytic on a stretch of a curve. The last coefficients, measured against the smallest
sample, say whether the points were enough for every digit; where they were not, as near a sharp
peak, the functions themselves are evaluated at all times.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

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
    wanted: Bool[Array, ""],
) -> Float[Array, " T"]:
    """``old`` with the values at all times from start to end filled in, where that is wanted.

    Each number is read and written once: with thousands of times that is what counts.
    """

    def exactly(interval: Array, old: Array) -> Array:
        inside = (times >= interval[0]) & (times <= interval[1])
        found: Array = evaluate(jnp.clip(times, interval[0], interval[1]))
        return jnp.where(inside, found, old)

    none = jnp.asarray([1, 0], times.dtype)
    ends = jnp.stack([jnp.minimum(start, end), jnp.maximum(start, end)])
    interval = jnp.where(wanted, ends, none)
    points, eps = _POINTS[jnp.finfo(times.dtype).bits], jnp.finfo(times.dtype).eps
    if times.shape[0] <= 2 * points:
        return exactly(interval, old)
    nodes, to_chebyshev, to_powers = (jnp.asarray(x, times.dtype) for x in _matrices(points))
    half = (end - start) / 2
    samples = evaluate(start + half * (nodes + 1))
    coefficients = mm(to_chebyshev, samples)
    # NaN, of a curve at rest, is not smooth either.
    smooth = jnp.abs(coefficients[-2:]).max() <= _TAIL * eps * samples.min()
    place = (times - start) * (1 / jnp.where(half != 0, half, jnp.ones_like(half))) - 1
    # Where the polynomial is used its last coefficient is rounding: it served the test above.
    value: Array = horner(mm(to_powers, coefficients[:-1]), place)
    # Where it is not used it must not reach beyond the ends either, to values that stand.
    filled = jnp.where(jnp.abs(place) <= jnp.where(wanted & smooth, 1 + 8 * eps, -1), value, old)
    # A loop of one turn or none: in a batch of smooth curves nothing more is computed. What it
    # computes from is carried, or the compiler would move it out of the loop.
    carry = (jnp.where(smooth, none, interval), filled)
    unfinished = lambda carry: anywhere(carry[0][0] <= carry[0][1])
    return jax.lax.while_loop(unfinished, lambda carry: (none, exactly(*carry)), carry)[1]


@jax.custom_batching.custom_vmap
def anywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """The flag, or under vmap whether it holds anywhere in the batch.

    A loop that asks this instead of the flag goes on for the whole batch, and has to leave alone
    what is finished. In return vmap does not copy all that the loop carries in every turn.
    """
    return flag


@anywhere.def_vmap
def _anywhere_in_batch(size: int, batched: list[bool], flags: Array) -> tuple[Array, bool]:
    del size, batched
    return anywhere(flags.any(axis=0)), False


def horner(coefficients: Float[Array, " N"], x: Float[Array, " T"]) -> Float[Array, " T"]:
    """The polynomial with these coefficients, lowest order first."""
    value = jnp.broadcast_to(coefficients[-1], x.shape)
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


def _matrices(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chebyshev points on [-1, 1], values there to coefficients, all but the last to powers'."""
    angles = np.pi * (np.arange(points) + 0.5) / points
    to_chebyshev = 2 / points * np.cos(np.outer(np.arange(points), angles))
    to_chebyshev[0] /= 2
    columns = [np.polynomial.chebyshev.cheb2poly(row) for row in np.eye(points - 1)]
    to_powers = np.stack([np.pad(c, (0, points - 1 - len(c))) for c in columns], axis=1)
    return np.cos(angles), to_chebyshev, to_powers

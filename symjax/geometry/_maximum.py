"""The largest curvature on [0, 1], sampled and refined."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import require
from ..curves import Curve
from ._frame import log_curvature_slope, time_dtype, widened
from ._pointwise import curvature

_GRID = 16


def max_curvature(
    curve: Curve, *, evaluations: int = 24
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(max of kappa over [0, 1], the time where it is attained), from at most ``evaluations``.

    A grid of 16 times with values and slopes of log kappa finds the cell with the highest peak (by
    the cubic that matches them); then d/dt log kappa = <n, gamma'''>/|n|^2 - 3 mu is solved for
    zero. Sampled and refined, not certified: see `certify` for a proved upper bound. The value
    differentiates (the peak does not move to first order); the time does not, its derivative is
    returned as zero. NaN for a constant curve; (0, 0) on a straight line.

    Raises ValueError for fewer than 18 evaluations.

    Example:
        >>> ellipse = lambda t: jnp.array([2 * jnp.cos(3 * t - 1), jnp.sin(3 * t - 1)])
        >>> value, t = max_curvature(ellipse)
        >>> round(value.item(), 4), round(t.item(), 4)
        (2.0, 0.3333)
    """
    require(
        evaluations >= _GRID + 2,
        f"`evaluations` must be at least {_GRID + 2} (a grid of {_GRID} and two more), "
        f"got {evaluations}.",
    )
    curve = widened(curve)
    return _maximum(curve, evaluations - _GRID - 1, time_dtype(curve))


@eqx.filter_jit
def _maximum(curve, steps, dtype):
    peak = _locate(jax.lax.stop_gradient(eqx.filter(curve, eqx.is_array)), curve, steps, dtype)
    return curvature(curve, peak), peak


def _locate(arrays, curve, steps, dtype):
    curve = eqx.combine(arrays, eqx.filter(curve, eqx.is_array, inverse=True))
    evaluate = lambda t: log_curvature_slope(curve, t)
    grid = jnp.linspace(0, 1, _GRID, dtype=dtype)
    # A straight line has log kappa = -inf everywhere and no slope: the first time will do.
    values: Array
    slopes: Array
    values, slopes = jax.lax.map(evaluate, grid)
    slopes = jnp.where(jnp.isfinite(slopes), slopes, 0.0)
    heights, places = jax.vmap(_cubic_peak)(
        grid[:-1], grid[1:], values[:-1], values[1:], slopes[:-1], slopes[1:]
    )
    cell = jnp.argmax(jnp.where(jnp.isfinite(heights), heights, -jnp.inf))
    best = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))
    inner = _solve(evaluate, grid, values, slopes, cell, places[cell], steps)
    best_value, best_time = values[best], grid[best]
    return jnp.where(inner[0] > best_value, inner[1], best_time)


def _cubic_top(h: Array, fa: Array, fb: Array, da: Array, db: Array) -> tuple[Array, Array]:
    """Where, as a fraction of h, the cubic with given end values and slopes has its maximum."""
    da, db, rise = da * h, db * h, fb - fa
    # On s in [0, 1]: f(s) = fa + da s + c2 s^2 + c3 s^3.
    c2, c3 = 3 * rise - 2 * da - db, da + db - 2 * rise
    root = jnp.sqrt(jnp.maximum(c2 * c2 - 3 * c3 * da, 0))
    # The root where the slope falls, written without cancellation for either sign of c2.
    top = jnp.where(c2 > 0, -(c2 + root) / jnp.where(c3 == 0, 1, 3 * c3), da / (root - c2))
    return top, fa + top * (da + top * (c2 + top * c3))


def _cubic_peak(
    a: Array, b: Array, fa: Array, fb: Array, da: Array, db: Array
) -> tuple[Array, Array]:
    """Height and place of the peak that slopes of opposite sign announce in [a, b]."""
    top, height = _cubic_top(b - a, fa, fb, da, db)
    inside = (da > 0) & (db < 0) & (top >= 0) & (top <= 1)
    place = a + jnp.where(inside, top, 0.5) * (b - a)
    return jnp.where(inside, height, jnp.maximum(fa, fb)), place


def _solve(evaluate, grid, values, slopes, cell, start, steps):
    """The best (log kappa, t) met while solving slope = 0 in one cell.

    A cubic through the last two points or, when they are close, a secant of their slopes, kept
    inside the bracket; the cubic through the bracket's ends where that leaves it.
    """

    def step(state, _):
        a, b, last, best, t = state
        value, slope = evaluate(t)
        here = jnp.stack([t, value, slope])
        best = jnp.where(value > best[0], jnp.stack([value, t]), best)
        rising = slope > 0
        a, b = jnp.where(rising, here, a), jnp.where(rising, b, here)
        _, middle = _cubic_peak(a[0], b[0], a[1], b[1], a[2], b[2])
        h = t - last[0]
        top, _ = _cubic_top(h, last[1], value, last[2], slope)
        # Values that differ by rounding say nothing: below this step only slopes are used.
        secant = last[2] / (last[2] - slope)
        guess = last[0] + h * jnp.where(jnp.abs(h) < 1e-3, secant, top)
        fits = (guess > a[0]) & (guess < b[0])
        return (a, b, here, best, jnp.where(fits, guess, middle)), None

    end = lambda i: jnp.stack([grid[i], values[i], slopes[i]])
    nothing = jnp.stack([jnp.full_like(start, -jnp.inf), start])
    left, right = end(cell), end(cell + 1)
    nearest = jnp.where(start - left[0] < right[0] - start, left, right)
    state, _ = jax.lax.scan(step, (left, right, nearest, nothing, start), length=steps)
    return state[3]

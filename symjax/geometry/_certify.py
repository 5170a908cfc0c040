"""Rigorous upper bounds of curvature, length and total curvature on [0, 1].

Everything rests on a few numbers of the generator: how far its symmetric part spreads and how large
its skew part is. They bound how fast log |gamma'| and log |n| can bend between samples, so each
sample speaks for a whole cell (docs/theory.md, "Certified curvature").
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import require, require_count
from ..curves import Curve
from ..groups import NO_PATH, power_of
from ..linalg._norms import norm
from ._frame import (
    derivatives,
    field,
    is_linear_curve,
    moving_part,
    perpendicular,
    time_dtype,
)


class Certificate(eqx.Module):
    """Upper bounds over [0, 1] that hold between the samples as well; inf where none was found."""

    max_curvature: Float[Array, ""]
    length: Float[Array, ""]
    total_curvature: Float[Array, ""]


def certify(curve: Curve, cells: int = 16) -> Certificate:
    """Upper bounds of max curvature, length and total curvature of a symmetry curve over [0, 1].

    ``cells`` equal cells, one sample in each. With the symmetric part of the generator spreading
    over w and a skew part of norm k, the bounds exceed the truth by a factor of about
    1 + (max(w, k) / cells)^2: take 16 max(w, k) cells. A small relative allowance, sqrt(eps),
    covers rounding. inf where a cell is too long to say anything; NaN where there is no curve or it
    does not move. Works for exponential curves and for the two exponentials of a connecting curve.

    Raises ValueError for curves without such a bound (any callable, eq. (6), translations, legs
    with gains): use `max_curvature`, which is sampled, and call it so.

    Example:
        >>> from symjax import exponential_curve, rescaling_action
        >>> w = (jnp.ones(2), jnp.ones(2))
        >>> curve = exponential_curve(rescaling_action(1), w, jnp.array(1.0))
        >>> bool(certify(curve).max_curvature >= max_curvature(curve)[0])
        True
    """
    require(
        is_linear_curve(curve)
        and curve.action.group.is_linear
        and not any(leg.gains for leg in curve.action.legs),
        "`curve` must be an exponential or connecting curve of an action that is linear in the "
        "parameters; for other curves no rigorous bound is known: use max_curvature (sampled).",
    )
    require_count("cells", cells)
    return _certify(curve, cells, time_dtype(curve))


@eqx.filter_jit
def _certify(curve, cells, dtype):
    centres = (jnp.arange(cells, dtype=dtype) + 0.5) / cells
    half = 0.5 / cells
    bound = _exponential_cell if curve.rotation is None else _polar_cell
    kappa, parts, turns = jax.lax.map(lambda t: bound(curve, t, half), centres)
    allowance: float = 1 + float(jnp.finfo(dtype).eps) ** 0.5
    # An undefined bound is no bound; but where there is no curve the answer is NaN.
    exists: Array = jnp.array(True) if curve.method is None else curve.method != NO_PATH
    exists = exists & jnp.isfinite(norm(derivatives(curve, centres[0], 1)[0]))

    def close(x: Array) -> Array:
        return jnp.where(exists, jnp.where(jnp.isnan(x), jnp.inf, x) * allowance, jnp.nan)

    return Certificate(close(kappa.max()), close(parts.sum()), close(turns.sum()))


def _spectrum(action, m):
    """Extreme eigenvalues of the symmetric part of the field, and the norm of its skew part."""
    entries = action.group.entries(m)
    rows = {}
    for leg in action.legs:
        low, high, skew = action.factors[leg.factor].spectrum(entries[leg.factor])
        power = power_of(leg.representation)
        if power < 0:
            low, high = high, low
        old = rows.get(leg.leaf, (0.0, 0.0, 0.0))
        # A leaf moved on two sides is a Kronecker sum: eigenvalues add.
        new = (low * power, high * power, skew * abs(power))
        rows[leg.leaf] = tuple(x + y for x, y in zip(old, new, strict=True))
    lows, highs, skews = (jnp.stack(column) for column in zip(*rows.values(), strict=True))
    return lows.min(), highs.max(), skews.max()


def _exponential_cell(curve, centre, r):
    action, _ = moving_part(curve)
    low, high, k = _spectrum(action, curve.stretch)
    w = high - low
    # Bounds of (log |z|)'' along z = e^{tA} z_0, valid for every z_0.
    upper = w * w / 2 + w * k
    lower = jnp.where(k <= w, -k * k / 2, w * w / 2 - w * k)
    velocity, acceleration, jerk = derivatives(curve, centre, 3)
    normal, mu, speed = perpendicular(acceleration, velocity)
    size = norm(normal)
    turning = size > 0
    safe = jnp.where(turning, size, jnp.ones_like(size))
    # n(t) = e^{(t - c)A} n_c, and A n_c = gamma''' - mu gamma''.
    slope = sum(
        jnp.sum(n / safe * ((j - mu * a) / safe))
        for n, a, j in zip(normal, acceleration, jerk, strict=True)
    )
    kappa = size / speed / speed
    grows = lambda x, rate, bend: jnp.exp(rate * x + bend * x * x / 2)
    edges = lambda rate, bend: r / 2 * (grows(-r, rate, bend) + 2 + grows(r, rate, bend))
    worst = jnp.exp(jnp.abs(slope - 2 * mu) * r + (upper - 2 * lower) * r * r / 2)
    turn = kappa * speed * edges(slope - mu, upper - lower)
    return (
        jnp.where(turning, kappa * worst, kappa),
        speed * edges(mu, upper),
        jnp.where(turning, turn, 0.0 * kappa),
    )


def _polar_cell(curve, centre, r):
    # |gamma'| = |D1 z| and |n| <= |(D2 - mu D1) z| with z = e^{tB} w, D1 = A + B and
    # D2 = A^2 + 2AB + B^2; z is linear in t up to r^2/2 |B^2 z_c| e^{|B| r}.
    action, leaves = moving_part(curve)
    rotate, stretch = field(action, curve.rotation), field(action, curve.stretch)
    add = lambda x, y: jax.tree.map(jnp.add, x, y)
    first = lambda z: add(rotate(z), stretch(z))
    second = lambda z: add(rotate(first(z)), first(stretch(z)))
    norms = [_norm_bound(action, m) for m in (curve.rotation, curve.stretch)]
    z = action.flow(curve.generators(centre)[1:], leaves)
    step = stretch(z)
    remainder = r * r / 2 * norm(stretch(step)) * jnp.exp(norms[1] * r)
    velocity, drift = first(z), first(step)
    _, mu, _ = perpendicular(second(z), velocity)
    bend = lambda x: tuple(a - mu * v for a, v in zip(second(x), first(x), strict=True))
    normal, normal_drift = bend(z), bend(step)
    d1 = norms[0] + norms[1]
    d2 = d1 * d1 + jnp.abs(mu) * d1
    ends = lambda u, du: (norm(_shift(u, du, -r)), norm(_shift(u, du, r)))
    slowest = _smallest_on_segment(velocity, drift, r) - d1 * remainder
    left, right = ends(velocity, drift)
    longest = r / 2 * (left + 2 * norm(velocity) + right) + 2 * r * d1 * remainder
    largest = jnp.maximum(*ends(normal, normal_drift)) + d2 * remainder
    positive = slowest > 0
    safe = jnp.where(positive, slowest, jnp.ones_like(slowest))
    kappa = jnp.where(positive, largest / safe / safe, jnp.inf)
    turn = jnp.where(positive, 2 * r * largest / safe, jnp.inf)
    return kappa, longest, turn


def _norm_bound(action, m):
    low, high, skew = _spectrum(action, m)
    return jnp.maximum(jnp.abs(low), jnp.abs(high)) + skew


def _shift(u, du, s):
    return tuple(x + s * dx for x, dx in zip(u, du, strict=True))


def _smallest_on_segment(u, du, r):
    """Min |u + s du| over |s| <= r, exactly."""
    squared = sum(jnp.sum(x * x) for x in du)
    product = sum(jnp.sum(x * y) for x, y in zip(u, du, strict=True))
    moving = squared > 0
    s = jnp.where(moving, -product / jnp.where(moving, squared, 1), 0.0)
    return norm(_shift(u, du, jnp.clip(s, -r, r)))

"""Rigorous upper bounds of curvature, length and total curvature on [0, 1].

Everything rests on a few numbers of the generator: how far its symmetric part spreads and how large
its skew part is. They bound how fast log |gamma'| and log |n| can bend between samples, so each
sample speaks for a whole cell (docs/theory.md, "Certified curvature"). What rounding may have done
to a sample is bounded beside it (`symjax.geometry._rounding`) and counted in.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import nan_unless, require, require_count
from .._results import AbstractResult
from ..actions import ShiftAction
from ..curves import Curve, SymmetryCurve
from ..groups import NO_PATH
from ..linalg._norms import norm
from ._frame import (
    derivatives,
    field,
    is_linear_curve,
    moving_part,
    perpendicular,
    time_dtype,
    widened,
)
from ._rounding import few_eps, product_error, sample_error, spectrum


class Certificate(AbstractResult):
    """Upper bounds over [0, 1] that hold between the samples as well; inf where none was found."""

    max_curvature: Float[Array, ""]
    length: Float[Array, ""]
    total_curvature: Float[Array, ""]


def certify(curve: Curve, cells: int = 16) -> Certificate:
    """Upper bounds of max curvature, length and total curvature of a symmetry curve over [0, 1].

    ``cells`` equal cells, one sample in each. With the symmetric part of the generator spreading
    over w and a skew part of norm k, the bounds exceed the truth by a factor of about
    1 + (max(w, k) / cells)^2: take 16 max(w, k) cells.

    Rounding is counted in: a relative sqrt(eps) for what is added and multiplied, and in each
    sample a bound of the error of the terms that cancel, which is what is left of the curvature
    next to a straight line: it is then eps times what the terms amount to, not 0. inf where a cell
    is too long, or its sample too uncertain, to say anything, as where a generic part of the
    weights may grow by more than 1 / eps; NaN where there is no curve or it does not move (its
    length is then 0). Works for exponential curves, for the two exponentials of a connecting curve
    and for shifts, which draw straight lines.

    Raises ValueError for curves without such a bound (any callable, eq. (6), translations,
    legs with gains): use
    `max_curvature`, which is sampled, and call it so.

    Example:
        >>> from symjax import exponential_curve, rescaling_action
        >>> w = (jnp.ones(2), jnp.ones(2))
        >>> curve = exponential_curve(rescaling_action(1), w, jnp.array(1.0))
        >>> bool(certify(curve).max_curvature >= max_curvature(curve)[0])
        True
    """
    action: Any = curve.action if isinstance(curve, SymmetryCurve) else None
    straight = isinstance(action, ShiftAction)
    require(
        straight
        or (
            is_linear_curve(curve)
            and action.group.is_linear
            and not any(leg.gains for leg in action.legs)
        ),
        "`curve` must be an exponential or connecting curve of an action that is linear in the "
        "parameters; for other curves no proved bound is known: use max_curvature (sampled).",
    )
    require_count("cells", cells)
    curve = widened(curve)
    return _certify_line(curve) if straight else _certify(curve, cells, time_dtype(curve))


@eqx.filter_jit
def _certify_line(curve):
    # What a shift adds depends on leaves that do not move: gamma' is constant.
    length = norm(derivatives(curve, jnp.zeros((), time_dtype(curve)), 1)[0])
    moves = jnp.where(length > 0, 0.0, jnp.nan)
    return Certificate(moves, length * _allowance(length.dtype), moves)


def _allowance(dtype):
    return 1 + float(jnp.finfo(dtype).eps) ** 0.5


@eqx.filter_jit
def _certify(curve, cells, dtype):
    centres = (jnp.arange(cells, dtype=dtype) + 0.5) / cells
    half = 0.5 / cells
    bound = _exponential_cell if curve.rotation is None else _polar_cell
    kappa, parts, turns, still = jax.lax.map(lambda t: bound(curve, t, half), centres)
    # An undefined bound is no bound; but where there is no curve the answer is NaN.
    exists: Array = jnp.array(True) if curve.method is None else curve.method != NO_PATH
    exists = exists & jnp.isfinite(norm(derivatives(curve, centres[0], 1)[0]))

    def close(x: Array, defined: Array) -> Array:
        bounded = jnp.where(jnp.isnan(x), jnp.inf, x) * _allowance(dtype)
        return nan_unless(exists & defined, bounded)

    moves = ~still.all()
    total: Array = parts.sum()
    length: Array = jnp.where(moves, total, jnp.zeros_like(total))
    return Certificate(
        close(kappa.max(), moves), close(length, jnp.array(True)), close(turns.sum(), moves)
    )


def _exponential_cell(curve, centre, r):
    action, leaves = moving_part(curve)
    s = spectrum(action, leaves, curve.stretch)
    w, k = s.high - s.low, s.skew
    # Bounds of (log |z|)'' along z = e^{tA} z_0, valid for every z_0.
    upper = w * w / 2 + w * k
    lower = jnp.where(k <= w, -k * k / 2, w * w / 2 - w * k)
    velocity, acceleration, jerk = derivatives(curve, centre, 3)
    normal, mu, speed = perpendicular(acceleration, velocity)
    size = norm(normal)
    turning = size > 0
    safe = jnp.where(turning, size, jnp.ones_like(size))
    # n(t) = (A - mu) gamma'(t) = e^{(t - c)A} n(c), whatever the number mu.
    slope = sum(
        jnp.sum(n / safe * ((j - mu * a) / safe))
        for n, a, j in zip(normal, acceleration, jerk, strict=True)
    )
    # The true gamma' and n at the centre are those of the sample up to these.
    error, point = sample_error(action, leaves, curve.stretch, centre)
    error = s.norm * error + product_error(action, leaves) * s.norm * point
    apart = jnp.maximum(jnp.abs(s.high - mu), jnp.abs(mu - s.low)) + k
    normal_error = apart * error + (product_error(action, leaves) + few_eps(speed)) * (
        s.norm * speed
    )
    slowest = speed - error
    certain = slowest > 0
    slowest = jnp.where(certain, slowest, jnp.ones_like(slowest))
    # A Rayleigh quotient of a vector that is off by an angle is off by w times its sine.
    unsure_mu = w * error / slowest
    unsure = unsure_mu + w * jnp.where(turning, jnp.minimum(normal_error / safe, 1.0), 1.0)
    slope = jnp.clip(slope, s.low, s.high)
    largest = size + normal_error
    grows = lambda x, rate, bend: jnp.exp(rate * x + bend * x * x / 2)
    edges = lambda rate, bend: r / 2 * (grows(-r, rate, bend) + 2 + grows(r, rate, bend))
    worst = jnp.exp(
        (jnp.abs(slope - 2 * mu) + unsure_mu + unsure) * r + (upper - 2 * lower) * r * r / 2
    )
    found = (
        largest / slowest / slowest * worst,
        (speed + error) * edges(mu, upper) * jnp.exp(unsure_mu * r),
        largest / slowest * edges(slope - mu, upper - lower) * jnp.exp(unsure * r),
    )
    found = (jnp.where(certain, found[0], jnp.inf), found[1], jnp.where(certain, found[2], jnp.inf))
    return *found, (speed == 0) & (error == 0)


def _polar_cell(curve, centre, r):
    # |gamma'| = |D1 z| and |n| <= |(D2 - mu D1) z| with z = e^{tB} w, D1 = A + B and
    # D2 = A^2 + 2AB + B^2; z is linear in t up to r^2/2 |B^2 z_c| e^{|B| r}.
    action, leaves = moving_part(curve)
    rotate, stretch = (field(action, m, leaves) for m in (curve.rotation, curve.stretch))
    add = lambda x, y: jax.tree.map(jnp.add, x, y)
    first = lambda z: add(rotate(z), stretch(z))
    second = lambda z: add(rotate(first(z)), first(stretch(z)))
    norms = [spectrum(action, leaves, m).norm for m in (curve.rotation, curve.stretch)]
    z = action.flow(curve.generators(centre)[1:], leaves)
    error, point = sample_error(action, leaves, curve.stretch, centre)
    # What z is off by, and what rounding adds to each product with A or B, in units of |z|.
    error = error + (2 * product_error(action, leaves) + few_eps(point)) * point
    step = stretch(z)
    remainder = r * r / 2 * (norm(stretch(step)) + norms[1] ** 2 * error) * jnp.exp(norms[1] * r)
    remainder = remainder + error * jnp.exp(norms[1] * r)
    velocity, drift = first(z), first(step)
    _, mu, speed = perpendicular(second(z), velocity)
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
    return kappa, longest, turn, (speed == 0) & (d1 * error == 0)


def _shift(u, du, s):
    return tuple(x + s * dx for x, dx in zip(u, du, strict=True))


def _smallest_on_segment(u, du, r):
    """Min |u + s du| over |s| <= r, exactly."""
    squared = sum(jnp.sum(x * x) for x in du)
    product = sum(jnp.sum(x * y) for x, y in zip(u, du, strict=True))
    moving = squared > 0
    s = jnp.where(moving, -product / jnp.where(moving, squared, 1), 0.0)
    return norm(_shift(u, du, jnp.clip(s, -r, r)))

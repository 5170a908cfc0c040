"""Speed and normal acceleration of e^{tA} e^{tB} w at many times for the price of a few.

Around a point c, gamma'(c + s) = sum_k s^k v_k with v_k = A^k gamma'(c) / k!. All that geometry
needs are inner products of the v_k: one small Gram matrix turns every time into the value of a few
short polynomials, and its diagonal says how far from c the series may be trusted. Nothing of size
times x parameters exists, and the number of times hardly matters. The curve is walked from its
first time to its last; the same rows give the point where the next series starts, so that a short
curve that starts at t = 0 needs no matrix exponential at all.

The one danger is cancellation: |n| may be far smaller than |gamma''|. So the direction of v_0 is
split off first, and the Gram matrix holds only what is at right angles to it; then
|gamma' ^ gamma''|^2 is a sum in which nothing large cancels.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..actions import LinearAction
from ..groups import Algebra, power_of
from ..linalg._precision import einsum, mm
from ._frame import Frame, Leaves, field

# Terms of the series: fewer mean shorter steps. These were the cheapest measured.
_TERMS = {32: 12, 64: 20}
_MOST_STEPS = 2**14


class _Series(eqx.Module):
    """Rows of the Taylor series of a curve in u = (t - c) / unit, flattened over the leaves."""

    velocities: Float[Array, "K P"]
    accelerations: Float[Array, "J P"] | None
    drift: Float[Array, "K P"]  # of the derivative of e^{tB} w, which is what is walked
    scale: Float[Array, ""]  # by which all rows were divided, so that no square overflows


def frames(
    action: LinearAction,
    leaves: Leaves,
    rotation: Algebra | None,
    stretch: Algebra,
    times: Float[Array, " T"],
) -> Frame:
    """The frames of exp(t rotation) exp(t stretch).leaves at all times."""
    low, high = times.min(), times.max()
    rate = _rate(action, stretch).astype(times.dtype)
    unit = 1 / jnp.where(rate > 0, rate, jnp.ones_like(rate))

    def unfinished(carry):
        steps, start, *_ = carry
        # The first step is always made: of a single time, of NaN.
        return (steps == 0) | ((start < high) & (steps < _MOST_STEPS))

    def walk(carry):
        steps, start, point, speed, normal = carry
        series = _series(action, rotation, stretch, point, unit)
        evaluate, reach = _expand(series, unit)
        end = jnp.minimum(start + reach * unit, high)
        here = evaluate((jnp.minimum(times, end) - start) / unit)
        # Later times hold the frame at the end until their own step comes.
        keep = lambda new, old: jnp.where(times >= start, new, old)
        point = _advance(series, point, (end - start) / unit, unit)
        return steps + 1, end, point, keep(here.speed, speed), keep(here.normal, normal)

    nothing = jnp.full_like(times, jnp.nan)
    start = _start(action, leaves, stretch, low)
    carry = (jnp.zeros((), jnp.int32), low, start, nothing, nothing)
    _, end, _, speed, normal = jax.lax.while_loop(unfinished, walk, carry)
    reached = jnp.isnan(end) | (times <= end)
    return Frame(jnp.where(reached, speed, jnp.nan), jnp.where(reached, normal, jnp.nan))


def _rate(action, m):
    entries = action._entries(m)
    rates = {}
    for leg in action.legs:
        power = abs(power_of(leg.representation))
        growth = power * action.factors[leg.factor].growth(entries[leg.factor])
        rates[leg.leaf] = rates.get(leg.leaf, 0) + growth
    return jnp.stack(list(rates.values())).max()


def _start(action, leaves, stretch, low):
    """e^{low B} w. A loop of one turn or none: at low = 0, the usual case, nothing is computed."""

    def flow(carry):
        scaled = jax.tree.map(lambda e: e * low.astype(e.dtype), stretch)
        return jnp.zeros_like(low), action.flow((scaled,), leaves)

    return jax.lax.while_loop(lambda carry: carry[0] != 0, flow, (low, leaves))[1]


def _advance(series, point, u, unit):
    """The point u units further: each leaf plus the integral of its rows."""
    orders = jnp.arange(1, series.drift.shape[0] + 1, dtype=u.dtype)
    moved = _flat(point) + series.scale * mm(unit * u**orders / orders, series.drift)
    sizes = np.cumsum([leaf.size for leaf in point])[:-1]
    parts = jnp.split(moved, sizes)
    return tuple(p.reshape(x.shape) for p, x in zip(parts, point, strict=True))


def _expand(series, unit):
    """(u -> frame at distance u, how far that is true), from inner products of the rows."""
    if series.accelerations is None:
        along, across = _split(series.velocities)
        gram = einsum("jp,kp->jk", across, across)
        order = jnp.arange(1, along.shape[0], dtype=along.dtype)
        coefficients = (along, order * along[1:], *_products_of_derivative(gram))
        sizes, units = (_sizes(along, gram),), series.scale / unit
    else:
        terms = series.velocities.shape[0]
        along, across = _split(jnp.concatenate([series.velocities, series.accelerations]))
        gram = einsum("jp,kp->jk", across, across)
        blocks = (gram[:terms, :terms], gram[:terms, terms:], gram[terms:, terms:])
        vv, va, aa = map(_antidiagonals, blocks)
        coefficients = (along[:terms], along[terms:], vv, va, aa)
        sizes, units = jnp.split(_sizes(along, gram), [terms]), series.scale

    def evaluate(u):
        frame = _evaluate(*coefficients, u)
        return Frame(series.scale * frame.speed, units * frame.normal)

    return evaluate, _reach(sizes)


def _sizes(along, gram):
    return jnp.sqrt(along * along + jnp.maximum(jnp.diagonal(gram), 0))


def _reach(sizes: Sequence[Array]) -> Array:
    """The distance up to which the last rows do not exceed rounding error of the largest.

    At most as many units as there are rows: further out the rows that were left out might grow.
    """
    eps, terms = jnp.finfo(sizes[0].dtype).eps, sizes[0].shape[0]
    # Two rows, for series whose odd or even rows vanish.
    orders = jnp.arange(terms - 2, terms, dtype=sizes[0].dtype)
    reach = jnp.asarray(terms, sizes[0].dtype)
    for rows in sizes:
        last = rows[-2:]
        ratio = eps * rows.max() / jnp.where(last > 0, last, jnp.ones_like(last))
        bound = jnp.where(last > 0, ratio ** (1 / orders), jnp.inf)
        reach = jnp.minimum(reach, bound.min())
    return reach


def _series(action, rotation, stretch, point, unit):
    shrink = lambda tree, k: tuple((unit / (k + 1)).astype(z.dtype) * z for z in tree)
    terms, apply = _TERMS[jnp.finfo(unit.dtype).bits], field(action, stretch)
    if rotation is None:
        first, scale = _scaled((action.generator(stretch, point),))
        rows = [*first]
        for k in range(terms):
            rows.append(shrink(apply(rows[-1]), k))
        velocities = jnp.stack([_flat(row) for row in rows])
        return _Series(velocities, None, velocities, scale)
    return _polar_series(action, rotation, stretch, point, shrink, terms)


def _polar_series(action, rotation, stretch, point, shrink, terms):
    """Rows of gamma' and of gamma'' in the frame that turns with e^{tA}."""
    rotate, apply = field(action, rotation), field(action, stretch)
    add = lambda x, y: jax.tree.map(jnp.add, x, y)
    velocities, accelerations, drift = [], [], []
    start = (action.generator(rotation, point), action.generator(stretch, point))
    (turned, following), scale = _scaled(start)
    for k in range(terms + 1):
        first = add(turned, following)  # (A + B) z
        next_turned, next_following = rotate(following), apply(following)
        second = add(rotate(first), add(next_turned, next_following))  # A (A+B) z + (A+B) B z
        velocities.append(_flat(first))
        accelerations.append(_flat(second))
        drift.append(_flat(following))
        turned, following = shrink(next_turned, k), shrink(next_following, k)
    return _Series(jnp.stack(velocities), jnp.stack(accelerations), jnp.stack(drift), scale)


def _scaled(trees):
    largest = jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(trees)]).max()
    scale = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    return jax.tree.map(lambda leaf: leaf / scale.astype(leaf.dtype), trees), scale


def _flat(leaves):
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def _split(rows):
    """(Components along the first row, what is across it)."""
    # Products rather than reductions: on CPU a sum over a (terms, parameters) array costs more
    # than the whole series.
    size = jnp.sqrt(mm(rows[0], rows[0]))
    axis = rows[0] / jnp.where(size > 0, size, jnp.ones_like(size))
    along = mm(rows, axis)
    return along, rows - along[:, None] * axis[None, :]


def _evaluate(p, q, vv, va, aa, x):
    """Speed and normal acceleration from polynomials in x.

    p and q are the components of V and A along an axis; vv, va, aa the inner products of what is
    across it.
    """
    p, q, vv, va, aa = (_horner(c, x) for c in (p, q, vv, va, aa))
    squared_speed = p * p + jnp.maximum(vv, 0)
    # |V ^ A|^2, in the planes with the axis and in those across it.
    wedge = (p * p * aa - 2 * p * q * va + q * q * vv) + (vv * aa - va * va)
    moving = squared_speed > 0
    safe = jnp.where(moving, squared_speed, jnp.ones_like(squared_speed))
    normal = jnp.sqrt(jnp.maximum(wedge, 0) / safe)
    return Frame(jnp.sqrt(squared_speed), jnp.where(moving, normal, 0.0))


def _antidiagonals(gram: Float[Array, "K K"]) -> Float[Array, " 2*K-1"]:
    """Coefficients of <sum x^j y_j, sum x^k z_k> from the inner products <y_j, z_k>."""
    j, k = np.indices(gram.shape)
    selector = (j + k)[..., None] == np.arange(2 * gram.shape[0] - 1)
    selector = jnp.asarray(selector.reshape(gram.size, -1), gram.dtype)
    return mm(gram.reshape(-1), selector)


def _products_of_derivative(gram):
    """Coefficients of |Y|^2, <Y, Y'> and |Y'|^2 for Y = sum x^k y_k."""
    orders = np.arange(gram.shape[0])
    squared = _antidiagonals(gram)
    degrees = jnp.arange(1, squared.shape[0], dtype=gram.dtype)
    weighted = gram * jnp.asarray(np.outer(orders, orders), gram.dtype)
    return squared, degrees * squared[1:] / 2, _antidiagonals(weighted[1:, 1:])


def _horner(coefficients, x):
    value = jnp.zeros_like(x)
    for c in coefficients[::-1]:
        value = value * x + c
    return value

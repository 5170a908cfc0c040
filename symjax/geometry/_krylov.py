"""Speed and normal acceleration of e^{tA} e^{tB} w at many times for the price of a few.

Around the middle c of an interval, gamma'(c + s) = sum_k s^k v_k with v_k = A^k gamma'(c) / k!.
All that geometry needs are inner products of the v_k: one small Gram matrix turns every time into
the value of a few short polynomials. Nothing of size times x parameters exists, and the number of
times hardly matters.

The one danger is cancellation: |n| may be far smaller than |gamma''|. So the direction of v_0 is
split off first, and the Gram matrix holds only what is at right angles to it; then
|gamma' ^ gamma''|^2 is a sum in which nothing large cancels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..actions import LinearAction
from ..groups import Algebra, power_of
from ..linalg._precision import einsum, mm
from ._frame import Frame, Leaves, field

# Terms of the series, and the largest rate x half-width for which they reach rounding error:
# radius^terms / terms! = eps. Fewer terms mean more intervals; these were the cheapest measured.
_TERMS = {32: 10, 64: 18}
_RADIUS = {32: 0.9, 64: 1.0}
_MOST_INTERVALS = 2**14


def frames(
    action: LinearAction,
    leaves: Leaves,
    rotation: Algebra | None,
    stretch: Algebra,
    times: Float[Array, " T"],
) -> Frame:
    """The frames of exp(t rotation) exp(t stretch).leaves at all times."""
    bits = jnp.finfo(times.dtype).bits
    low, span = times.min(), times.max() - times.min()
    rate = _rate(action, stretch).astype(times.dtype)
    count = jnp.ceil(rate * span / (2 * _RADIUS[bits]))
    count = jnp.clip(jnp.where(jnp.isfinite(count), count, 1), 1, _MOST_INTERVALS)
    # A single time has no span; then any positive half-width will do.
    half = jnp.where(span > 0, span / (2 * count), 1 / (1 + rate))
    index = jnp.clip(jnp.floor((times - low) / (2 * half)), 0, count - 1)

    def interval(carry):
        j, speed, normal = carry
        centre = low + (2 * j + 1) * half
        x = jnp.clip((times - centre) / half, -1, 1)
        here = _interval(action, leaves, rotation, stretch, centre, half, x, _TERMS[bits])
        pick = lambda new, old: jnp.where(index == j, new, old)
        return j + 1, pick(here.speed, speed), pick(here.normal, normal)

    zero = jnp.zeros_like(times)
    start = (jnp.zeros((), times.dtype), zero, zero)
    _, speed, normal = jax.lax.while_loop(lambda carry: carry[0] < count, interval, start)
    return Frame(speed, normal)


def _rate(action, m):
    entries = action._entries(m)
    rates = {}
    for leg in action.legs:
        power = abs(power_of(leg.representation))
        growth = power * action.factors[leg.factor].growth(entries[leg.factor])
        rates[leg.leaf] = rates.get(leg.leaf, 0) + growth
    return jnp.stack(list(rates.values())).max()


def _interval(action, leaves, rotation, stretch, centre, half, x, terms):
    scaled = jax.tree.map(lambda e: e * centre.astype(e.dtype), stretch)
    point = action.flow((scaled,), leaves)
    if rotation is None:
        velocities = _series(action, stretch, point, half, terms)
        scale, along, across = _split(velocities)
        order = jnp.arange(1, terms + 1, dtype=along.dtype)
        products = _products_of_derivative(einsum("jp,kp->jk", across, across))
        frame = _evaluate(along, order * along[1:], *products, x)
        # The derivative was taken in x = s / half.
        return Frame(scale * frame.speed, scale / half * frame.normal)
    velocities, accelerations = _polar_series(action, rotation, stretch, point, half, terms)
    scale, along, across = _split(jnp.concatenate([velocities, accelerations]))
    gram = einsum("jp,kp->jk", across, across)
    blocks = (gram[:terms, :terms], gram[:terms, terms:], gram[terms:, terms:])
    frame = _evaluate(along[:terms], along[terms:], *map(_antidiagonals, blocks), x)
    return Frame(scale * frame.speed, scale * frame.normal)


def _series(action, m, point, half, terms):
    """Rows v_k half^k, k = 0..terms, of gamma'(c + s)."""
    apply = field(action, m)
    rows = [action.generator(m, point)]
    for k in range(terms):
        scale = half / (k + 1)
        rows.append(tuple(scale.astype(z.dtype) * z for z in apply(rows[-1])))
    return jnp.stack([_flat(row) for row in rows])


def _polar_series(action, rotation, stretch, point, half, terms):
    """Rows of gamma' and of gamma'' in the frame that turns with e^{tA}."""
    rotate, apply = field(action, rotation), field(action, stretch)
    add = lambda x, y: jax.tree.map(jnp.add, x, y)
    velocities, accelerations = [], []
    turned, following = action.generator(rotation, point), action.generator(stretch, point)
    for k in range(terms):
        first = add(turned, following)  # (A + B) z
        next_turned, next_following = rotate(following), apply(following)
        second = add(rotate(first), add(next_turned, next_following))  # A (A+B) z + (A+B) B z
        velocities.append(_flat(first))
        accelerations.append(_flat(second))
        shrink = lambda tree, k=k: jax.tree.map(lambda e: e * (half / (k + 1)), tree)
        turned, following = shrink(next_turned), shrink(next_following)
    return jnp.stack(velocities), jnp.stack(accelerations)


def _flat(leaves):
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def _split(rows):
    """(scale, components along the first row, what is across it), rows divided by the scale."""
    # Products rather than reductions: on CPU a sum over a (terms, parameters) array costs more
    # than the whole series.
    largest = jnp.abs(rows[0]).max()
    scale = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    rows = rows / scale
    size = jnp.sqrt(mm(rows[0], rows[0]))
    axis = rows[0] / jnp.where(size > 0, size, jnp.ones_like(size))
    along = mm(rows, axis)
    return scale, along, rows - along[:, None] * axis


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

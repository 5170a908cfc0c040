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
from ..groups import Algebra
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
        power = abs(leg.representation) if isinstance(leg.representation, float | int) else 1
        growth = power * action.factors[leg.factor].growth(entries[leg.factor])
        rates[leg.leaf] = rates.get(leg.leaf, 0) + growth
    return jnp.stack(list(rates.values())).max()


def _interval(action, leaves, rotation, stretch, centre, half, x, terms):
    scaled = jax.tree.map(lambda e: e * centre.astype(e.dtype), stretch)
    point = action.flow((scaled,), leaves)
    if rotation is None:
        v, a = _series(action, stretch, point, half, terms)
    else:
        v, a = _polar_series(action, rotation, stretch, point, half, terms)
    return _evaluate(v, a, x)


def _series(action, m, point, half, terms):
    """Rows v_k half^k and the rows of the derivative."""
    apply = field(action, m)
    rows = [action.generator(m, point)]
    for k in range(terms):
        scale = half / (k + 1)
        rows.append(tuple(scale.astype(z.dtype) * z for z in apply(rows[-1])))
    flat = jnp.stack([_flat(row) for row in rows])
    order = jnp.arange(1, terms + 1, dtype=flat.dtype)[:, None]
    return flat, order * flat[1:] / half


def _polar_series(action, rotation, stretch, point, half, terms):
    rotate, apply = field(action, rotation), field(action, stretch)
    add = lambda x, y: jax.tree.map(jnp.add, x, y)
    velocities, accelerations = [], []
    z, following = point, action.generator(stretch, point)
    turned = action.generator(rotation, point)
    for k in range(terms):
        first = add(turned, following)  # (A + B) z
        next_turned = rotate(following)
        second = add(rotate(first), add(next_turned, apply(following)))  # A(A+B)z + (A+B)Bz
        velocities.append(_flat(first))
        accelerations.append(_flat(second))
        shrink = lambda tree, k=k: jax.tree.map(lambda e: e * (half / (k + 1)), tree)
        z, turned = shrink(following), shrink(next_turned)
        following = apply(z)
    return jnp.stack(velocities), jnp.stack(accelerations)


def _flat(leaves):
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def _evaluate(v, a, x):
    """|V|, and the part of |A| at right angles to V, for V = sum x^k v_k and A = sum x^k a_k."""
    scale = jnp.abs(v).max()
    scale = jnp.where(scale > 0, scale, jnp.ones_like(scale))
    v, a = v / scale, a / scale
    size = jnp.sqrt(jnp.sum(v[0] * v[0]))
    axis = v[0] / jnp.where(size > 0, size, jnp.ones_like(size))
    along_v, along_a = mm(v, axis), mm(a, axis)
    v, a = v - along_v[:, None] * axis, a - along_a[:, None] * axis
    vv, va, aa = (_antidiagonals(y, z) for y, z in ((v, v), (v, a), (a, a)))
    p, q = _horner(along_v, x), _horner(along_a, x)
    vv, va, aa = (_horner(c, x) for c in (vv, va, aa))
    squared_speed = p * p + jnp.maximum(vv, 0)
    # |V ^ A|^2 in the axis and across it.
    wedge = (p * p * aa - 2 * p * q * va + q * q * vv) + (vv * aa - va * va)
    moving = squared_speed > 0
    safe = jnp.where(moving, squared_speed, jnp.ones_like(squared_speed))
    normal = jnp.sqrt(jnp.maximum(wedge, 0) / safe)
    return Frame(scale * jnp.sqrt(squared_speed), scale * jnp.where(moving, normal, 0.0))


def _antidiagonals(y: Float[Array, "J P"], z: Float[Array, "K P"]) -> Float[Array, " J+K-1"]:
    """Coefficients of <sum x^j y_j, sum x^k z_k>."""
    gram = einsum("jp,kp->jk", y, z)
    j, k = np.indices(gram.shape)
    selector = (j + k)[..., None] == np.arange(gram.shape[0] + gram.shape[1] - 1)
    return einsum("jk,jki->i", gram, jnp.asarray(selector, gram.dtype))


def _horner(coefficients, x):
    value = jnp.zeros_like(x)
    for c in coefficients[::-1]:
        value = value * x + c
    return value

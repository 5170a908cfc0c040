"""Speed and normal acceleration of e^{tA} e^{tB} w at many times for the price of a few.

Around a point c, gamma'(c + s) = sum_k s^k v_k with v_k = A^k gamma'(c) / k!. All that geometry
needs are inner products of the v_k: one small Gram matrix turns every time into the value of a few
short polynomials, and its diagonal says how far from c the series may be trusted. Nothing of size
times x parameters exists, and the number of times hardly matters. The curve is walked away from
t = 0, where rounding errors are those of w, to its last time and then to its first; the same rows
give the point where the next series starts, so that a short curve needs no matrix exponential.

Two things must not get lost. |n| may be far smaller than |gamma''|: so the direction of v_0 is
split off first, and the Gram matrix holds only what is at right angles to it, in a unit of its own;
then |gamma' ^ gamma''|^2 is a sum in which nothing large cancels. And a part of the weights may be
far smaller than the others and grow until it is all there is. The norms of the rows say nothing of
it: a step is never so long that the series of e^{sA} itself is cut off, whatever it acts on.
"""

import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import nans
from ..actions import LinearAction
from ..groups import Algebra, power_of
from ..linalg._precision import mm
from ._frame import Frame, Leaves, as_frame, field
from ._interpolate import anywhere, fill, horner
from ._overlaps import largest_sum

# Terms of the series: fewer mean shorter steps. These were the cheapest measured.
_TERMS = {32: 11, 64: 20}
# The longest step in units of 1 / rate: what the last rows leave out of the derivative of e^u and
# e^-u is at most a few eps of them.
_LONGEST = {32: 1.25, 64: 1.5}
# The largest entry of the rows. As large as the products of rows allow, so that an entry far below
# it does not underflow when it is divided by factorials.
_LARGEST = {32: 2.0**32, 64: 2.0**300}
# Where less than this share of the rows is across the axis, it is split off twice.
_SMALL = 2.0**-7
_MOST_STEPS = 2**14


class _Series(eqx.Module):
    """Taylor series of a curve in u = (t - c) / unit, flattened over the leaves, row by row.

    A row of gamma' is ``along`` times the axis, the direction of the first row, plus ``across``.
    """

    axis: Float[Array, " P"]
    along: Float[Array, " K"]
    across: Float[Array, "K P"]
    acceleration: tuple[Float[Array, " K"], Float[Array, "K P"]] | None
    drift: Float[Array, "K P"] | None  # of the derivative of e^{tB} w, where that is not gamma'
    scale: Float[Array, ""]  # by which all rows were divided, so that no square overflows
    largest: Float[Array, ""]  # the largest entry of the rows then


def frames(
    action: LinearAction,
    leaves: Leaves,
    rotation: Algebra | None,
    stretch: Algebra,
    times: Float[Array, " T"],
) -> Frame:
    """The frames of exp(t rotation) exp(t stretch).leaves at all times."""
    low, high = times.min(), times.max()
    origin = jnp.clip(jnp.zeros_like(low), low, high)
    first = _start(action, leaves, stretch, origin)
    rate = _rate(action, leaves, stretch).astype(times.dtype)
    # Where the powers of A vanish any unit will do.
    span = jnp.where(high > low, high - low, jnp.ones_like(low))
    unit = jnp.where(rate > 0, 1 / jnp.where(rate > 0, rate, 1), span)

    def unfinished(carry):
        steps, back, start, *_ = carry
        left = jnp.where(back, start > low, (start < high) | (low < origin))
        # The first step is always made: of a single time, of NaN.
        return (steps == 0) | (left & (steps < _MOST_STEPS))

    def walk(carry):
        steps, back, start, point, frame = carry
        walking = unfinished(carry)
        # From its last time the walk returns to its origin, once, and goes on to its first.
        turning = ~back & (start >= high) & (low < origin)
        back |= turning
        start = jax.lax.select(turning, origin, start)
        point = jax.tree.map(lambda x, y: jnp.where(turning, x, y), first, point)
        series = _series(action, rotation, stretch, point, unit)
        evaluate, reach = _expand(series, unit)
        step = reach * unit
        end = jnp.where(back, jnp.maximum(start - step, low), jnp.minimum(start + step, high))
        at = lambda t: evaluate((t - start) / unit)
        frame = Frame(
            fill(frame.speed, times, lambda t: at(t).speed, start, end, walking),
            fill(frame.curvature, times, lambda t: at(t).curvature, start, end, walking),
        )
        point = _advance(series, point, (end - start) / unit, unit)
        return steps + walking.astype(steps.dtype), back, end, point, frame

    nothing = nans(times.shape, times.dtype)
    carry = (jnp.zeros((), jnp.int32), jnp.asarray(False), origin, first, Frame(nothing, nothing))
    return jax.lax.while_loop(lambda carry: anywhere(unfinished(carry)), walk, carry)[-1]


def _rate(action, leaves, m):
    entries = action.group.entries(m)
    rates = [
        abs(power_of(leg.representation)) * action.factors[leg.factor].growth(entries[leg.factor])
        for leg in action.legs
    ]
    return largest_sum(action, leaves, rates)


def _start(action, leaves, stretch, time):
    """e^{time B} w. A loop of one turn or none: at 0, the usual case, nothing is computed."""

    def flow(carry):
        time, leaves = carry
        scaled = jax.tree.map(lambda e: e * time.astype(e.dtype), stretch)
        return jnp.zeros_like(time), action.flow((scaled,), leaves)

    return jax.lax.while_loop(lambda carry: carry[0] != 0, flow, (time, leaves))[1]


def _advance(series, point, u, unit):
    """The point u units further: each leaf plus the integral of its rows."""
    orders = jnp.arange(1, series.across.shape[0] + 1, dtype=u.dtype)
    weights = unit * u**orders / orders
    if series.drift is None:
        moved = mm(weights, series.along) * series.axis + mm(weights, series.across)
    else:
        moved = mm(weights, series.drift)
    sizes = np.cumsum([leaf.size for leaf in point])[:-1]
    parts = jnp.split(_flat(point) + series.scale * moved, sizes)
    return tuple(p.reshape(x.shape) for p, x in zip(parts, point, strict=True))


def _expand(series, unit):
    """(u -> frame at distance u, how far that is true), from inner products of the rows.

    What is along the axis is measured in ``largest``, what is across it in the largest entry there.
    """
    second = series.acceleration
    across = [series.across] if second is None else [series.across, second[1]]
    wide = functools.reduce(jnp.maximum, [jnp.abs(x).max() for x in across])
    wide = jnp.where(wide > 0, wide, jnp.ones_like(wide))
    ratio = wide / series.largest
    products = lambda x, y: _products(x, y) / wide / wide
    along = series.along / series.largest
    if second is None:
        gram = products(series.across, series.across)
        order = jnp.arange(1, along.shape[0], dtype=along.dtype)
        coefficients = (along, order * along[1:], *_products_of_derivative(gram))
        sizes, units = (_sizes(along, gram, ratio),), 1 / unit
    else:
        along_a, across_a = second[0] / series.largest, second[1]
        pairs = (series.across, series.across), (series.across, across_a), (across_a, across_a)
        vv, va, aa = (products(x, y) for x, y in pairs)
        coefficients = (along, along_a, *map(_antidiagonals, (vv, va, aa)))
        sizes, units = (_sizes(along, vv, ratio), _sizes(along_a, aa, ratio)), 1.0

    def evaluate(u):
        p, q, vv, va, aa = (horner(c, u) for c in coefficients)
        speed, normal = _speed_and_normal(p, q, vv, va, aa, ratio)
        size = series.scale * series.largest
        return as_frame(size * speed, size * (units * normal))

    return evaluate, _reach(sizes)


def _sizes(along, gram, ratio):
    return jnp.sqrt(along * along + ratio * ratio * jnp.maximum(jnp.diagonal(gram), 0))


def _reach(sizes: Sequence[Array]) -> Array:
    """The distance up to which the last rows do not exceed rounding error of the largest.

    At most `_LONGEST` units: further out the series of a small part, which no norm sees, is wrong.
    """
    eps, terms = jnp.finfo(sizes[0].dtype).eps, sizes[0].shape[0]
    # Two rows, for series whose odd or even rows vanish.
    orders = jnp.arange(terms - 2, terms, dtype=sizes[0].dtype)
    reach = jnp.asarray(_LONGEST[jnp.finfo(sizes[0].dtype).bits], sizes[0].dtype)
    for rows in sizes:
        last = rows[-2:]
        ratio = eps * rows.max() / jnp.where(last > 0, last, jnp.ones_like(last))
        bound = jnp.where(last > 0, ratio ** (1 / orders), jnp.inf)
        reach = jnp.minimum(reach, bound.min())
    return reach


def _series(action, rotation, stretch, point, unit):
    apply = field(action, stretch, point)
    shrink = lambda tree, factor: tuple(factor.astype(z.dtype) * z for z in tree)
    terms = _TERMS[jnp.finfo(unit.dtype).bits] + 1
    if rotation is None:
        (first,), scale, largest = _scaled((action.generator(stretch, point),))
        axis = _direction(_flat(first))

        def step(row, factor):
            return shrink(apply(row), factor), _split(axis, _flat(row))

        rows = _rows(step, first, unit, terms)
        ((along, across),) = _split_again(axis, [rows], largest)
        return _Series(axis, along, across, None, None, scale, largest)
    # Rows of gamma' and of gamma'' in the frame that turns with e^{tA}: (A + B) z, and
    # A (A + B) z + (A + B) B z.
    rotate = field(action, rotation, point)
    add = lambda x, y: jax.tree.map(jnp.add, x, y)
    start = (action.generator(rotation, point), action.generator(stretch, point))
    start, scale, largest = _scaled(start)
    axis = _direction(_flat(add(*start)))

    def polar_step(state, factor):
        turned, following = state
        first = add(turned, following)
        after = rotate(following), apply(following)
        second = add(rotate(first), add(*after))
        found = _split(axis, _flat(first)), _split(axis, _flat(second)), _flat(following)
        return tuple(shrink(tree, factor) for tree in after), found

    *parts, drift = _rows(polar_step, start, unit, terms)
    (along, across), second = _split_again(axis, parts, largest)
    return _Series(axis, along, across, second, drift, scale, largest)


def _rows(step, state, unit, terms):
    """What ``step`` finds in each of its turns, stacked.

    A loop that writes into one buffer: a scan under vmap, or the rows written out, would hold
    them several times over.
    """
    like = jax.eval_shape(step, state, unit)[1]
    buffers = jax.tree.map(lambda x: jnp.zeros((terms, *x.shape), x.dtype), like)

    def turn(k, carry):
        state, buffers = carry
        state, found = step(state, unit / (k + 1).astype(unit.dtype))
        return state, jax.tree.map(lambda b, x: b.at[k].set(x), buffers, found)

    return jax.lax.fori_loop(0, terms, turn, (state, buffers))[1]


def _products(x, y):
    """The inner products <x_j, y_k>, k by k: one product of both would copy a transpose."""
    put = lambda k, gram: gram.at[:, k].set(mm(x, y[k]))
    return jax.lax.fori_loop(0, len(y), put, jnp.zeros((len(x), len(y)), x.dtype))


def _scaled(trees):
    """The trees divided by a scale that leaves `_LARGEST` at most, the scale, what is left."""
    top = jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(trees)]).max()
    info = jnp.finfo(top.dtype)
    # Not below what divides without underflow, where all is small.
    scale = jnp.maximum(top / _LARGEST[info.bits], 16 * float(info.tiny))
    scaled = jax.tree.map(lambda leaf: leaf / scale.astype(leaf.dtype), trees)
    return scaled, scale, jnp.where(top > 0, top / scale, jnp.ones_like(top))


def _flat(leaves):
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def _direction(row):
    size = jnp.sqrt(mm(row, row))
    return row / jnp.where(size > 0, size, jnp.ones_like(size))


def _split(axis, row):
    """(Component along the axis, what is across it)."""
    along = mm(row, axis)
    return along, row - along * axis


def _split_again(axis, parts, largest):
    """The (along, across) of all rows, split once more where what is across is small.

    What the first split leaves along the axis is rounding of the size of the rows. A loop of one
    turn or none, as usually nothing is to be done.
    """
    wide = functools.reduce(jnp.maximum, [jnp.abs(across).max() for _, across in parts])
    small = wide < _SMALL * largest

    def split(carry):
        again, parts = carry
        rests = [jnp.where(again, mm(across, axis), 0.0) for _, across in parts]
        found = [
            (along + rest, across - jnp.outer(rest, axis))
            for (along, across), rest in zip(parts, rests, strict=True)
        ]
        return jnp.zeros_like(again), found

    return jax.lax.while_loop(lambda carry: anywhere(carry[0]), split, (small, parts))[1]


def _speed_and_normal(p, q, vv, va, aa, ratio) -> tuple[Array, Array]:
    """Speed and normal acceleration from polynomials in x.

    p and q are the components of V and A along an axis; vv, va, aa the inner products of what is
    across it, whose unit is ``ratio`` times that of p and q.
    """
    squared: Array = ratio * ratio
    squared_speed: Array = p * p + squared * jnp.maximum(vv, 0)
    # |V ^ A|^2, in the planes with the axis and in those across it.
    wedge = (p * p * aa - 2 * p * q * va + q * q * vv) + squared * (vv * aa - va * va)
    moving = squared_speed > 0
    safe = jnp.where(moving, squared_speed, jnp.ones_like(squared_speed))
    normal: Array = ratio * jnp.sqrt(jnp.maximum(wedge, 0) / safe)
    return jnp.sqrt(squared_speed), jnp.where(moving, normal, jnp.zeros_like(normal))


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

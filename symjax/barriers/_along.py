"""The loss along a curve, and the height of its barrier."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._checks import describe, is_floating, require, require_real_number
from ..curves import Curve

Loss = Callable[[PyTree], Float[Array, ""]]

_PEAKS = 3


def loss_along(loss: Loss, curve: Curve, ts: Float[Array, " T"]) -> Float[Array, " T"]:
    """loss(curve(t)) for every t of ``ts``, one point of the curve at a time.

    ``curve`` is any callable t -> parameters and ``loss`` any function of them with a scalar value.
    Neither the forward nor the reverse pass keeps parameters per time.

    Raises ValueError for ``ts`` that is not a one-dimensional floating array, or a loss that is
    not a floating scalar.

    Example:
        >>> loss_along(jnp.sum, lambda t: t * jnp.ones(3), jnp.array([0.0, 0.5, 1.0])).tolist()
        [0.0, 1.5, 3.0]
    """
    ts = jnp.asarray(ts)
    require(
        ts.ndim == 1 and is_floating(ts),
        f"`ts` must be a one-dimensional floating array, got {describe(ts)}.",
    )
    _abstract_value(loss, curve, ts.dtype)
    return jax.lax.map(jax.checkpoint(lambda t: loss(curve(t))), ts)


def barrier(loss: Loss, curve: Curve, *, samples: int = 64) -> Float[Array, ""]:
    """The barrier of a curve on [0, 1]: how far the loss rises above the line between its ends.

    max over t of L(gamma(t)) - (1 - t) L(gamma(0)) - t L(gamma(1)), which is at least 0. The excess
    is taken at ``samples`` + 1 equal steps, and then refined by golden section around the three
    highest peaks, to the square root of eps in t (the value is then exact to rounding). It is never
    below the largest sample; a peak narrower than 1 / ``samples`` can be missed, as sampling does.
    A loss that reaches +inf at a sample or at an end has the barrier inf; a NaN anywhere makes it
    NaN.

    Differentiable once, in forward and reverse mode, in whatever ``loss`` and ``curve`` close over:
    at a maximum the place may be held fixed (second derivatives leave its motion out).

    Raises ValueError for fewer than 2 ``samples`` or a loss that is not a floating scalar.

    Example:
        >>> loss = lambda w: (w[0] * w[1] - 1) ** 2
        >>> round(float(barrier(loss, lambda t: jnp.stack([1 + 3 * t, 1 - 0.75 * t]))), 6)
        0.316406
    """
    require(samples >= 2, f"`samples` must be at least 2, got {samples}.")
    dtype = jnp.result_type(float)
    value = _abstract_value(loss, curve, dtype)

    ends = jax.lax.map(lambda t: loss(curve(t)), jnp.arange(2, dtype=dtype))

    # Compared with a number, as an infinity of our own would stop jax_debug_infs.
    endless = (ends > float(jnp.finfo(ends.dtype).max)).any()
    finite = jnp.where(endless, 0.0, ends)  # infinity has no line to be above of

    def excess(t):
        height = loss(curve(t))
        s = t.astype(height.dtype)
        return height - (1 - s) * finite[0] - s * finite[1]

    # The search is over numbers only: what carries derivatives is made constant first.
    pure, constants = jax.closure_convert(excess, jnp.asarray(1, dtype))
    constants = jax.lax.stop_gradient(constants)
    place, found, _ = highest_point(lambda t: pure(t, *constants), samples, dtype, value.dtype)
    height = excess(place)
    # Compiled apart, the two may differ by a rounding error: keep the larger.
    bounded = jnp.isfinite(found) & jnp.isfinite(height)
    short = jnp.where(bounded, found, 0.0) - jnp.where(bounded, height, 0.0)
    lift = jax.lax.stop_gradient(jnp.maximum(short, 0.0))
    worst = jnp.where(bounded, height + lift, jnp.maximum(height, found))
    worst = jnp.maximum(worst, 0.0)
    return jnp.where(endless & ~jnp.isnan(worst), jnp.inf, worst)


def highest_point(
    excess: Callable[[Float[Array, ""]], Float[Array, ""]],
    samples: int,
    dtype: jnp.dtype,
    value_dtype: jnp.dtype,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " samples"]]:
    """The place and the value of the maximum of a function on [0, 1], and its samples."""
    ts = jnp.linspace(0, 1, samples + 1, dtype=dtype)
    heights: Array = jax.lax.map(excess, ts)
    left = jnp.concatenate([heights[:1], heights[:-1]])
    right = jnp.concatenate([heights[1:], heights[-1:]])
    # Between two samples of infinity there is nothing to refine, and no maximum to bracket.
    peaked = (
        (heights >= left) & (heights >= right) & (heights <= float(jnp.finfo(heights.dtype).max))
    )
    peaks = jnp.where(peaked, heights, float(jnp.finfo(heights.dtype).min))
    _, candidates = jax.lax.top_k(peaks, min(_PEAKS, samples + 1))

    def refine(i):
        low, high = ts[jnp.maximum(i - 1, 0)], ts[jnp.minimum(i + 1, samples)]
        return _golden_section(excess, low, high, steps=_steps(samples, dtype))

    places, values = jax.lax.map(refine, candidates)
    places = jnp.concatenate([ts, places])
    values = jnp.concatenate([heights, values])
    best = jnp.argmax(values)
    return places[best], values[best].astype(value_dtype), heights


def _steps(samples, dtype):
    """Golden-section steps from a bracket of 2 / samples to the square root of eps."""
    ratio = float(jnp.finfo(dtype).eps) ** 0.5 * samples / 2
    return max(1, math.ceil(math.log(ratio) / math.log((math.sqrt(5) - 1) / 2)))


def _golden_section(f, low, high, *, steps):
    """The place and the height of a local maximum in a bracket."""
    golden = (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)

    def body(_, state):
        low, high, left, right, at_left, at_right = state
        shrink = at_left > at_right  # the maximum is left of `right`
        low, high = jnp.where(shrink, low, left), jnp.where(shrink, right, high)
        kept, at_kept = jnp.where(shrink, left, right), jnp.where(shrink, at_left, at_right)
        new = jnp.where(shrink, high - golden * (high - low), low + golden * (high - low))
        at_new = f(new)
        left, right = jnp.where(shrink, new, kept), jnp.where(shrink, kept, new)
        at_left, at_right = (
            jnp.where(shrink, at_new, at_kept),
            jnp.where(shrink, at_kept, at_new),
        )
        return low, high, left, right, at_left, at_right

    # Mapped rather than called twice: the loss is compiled once.
    at_left, at_right = jax.lax.map(f, jnp.stack([left, right]))
    state = (low, high, left, right, at_left, at_right)
    _, _, left, right, at_left, at_right = jax.lax.fori_loop(0, steps, body, state)
    return jnp.where(at_left > at_right, left, right), jnp.maximum(at_left, at_right)


def _abstract_value(loss, curve, dtype):
    """Raise ValueError unless loss(curve(t)) is one real number; its abstract value."""
    value = jax.eval_shape(lambda t: loss(curve(t)), jax.ShapeDtypeStruct((), dtype))
    require_real_number("loss", value)
    return value

"""Exact barriers between networks that differ by a positive rescaling of the last two layers."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import nan_unless
from .._results import AbstractResult
from ..bounds._numbers import Number, as_floats, require_at_least, require_positive
from ..bounds._rescaling import log_peak, log_peak_slope, peak_place

_NEWTON_STEPS = 12


class RescalingBarrier(AbstractResult):
    """The maximum of the loss on a chord (``value``) and where it is (``alpha``)."""

    alpha: Float[Array, "..."]
    value: Float[Array, "..."]


def rescaling(degree: Number, m: Number, y_norm: Number) -> RescalingBarrier:
    """The exact maximum of the loss on the chord from (W_{l-1}, W_l) to (m W_{l-1}, m^-k W_l).

    The loss is |Y - W_l sigma(W_{l-1} f)|^2 with sigma(c z) = c^k sigma(z) for c > 0 (the paper
    asks it for all real c, which ReLU fails), k = ``degree``. At a point of zero loss with
    |Y| = ``y_norm`` the loss at alpha is (phi - 1)^2 |Y|^2,
    phi = (1 - alpha + alpha m^-k)(1 - alpha + alpha m)^k, which is largest at

        alpha = (k p - q) / ((k + 1) p q),  phi = k^k (p + q)^(k + 1) / ((k + 1)^(k + 1) p q^k),

    p = m - 1, q = 1 - m^-k. It grows without bound with |log m|; the degree-one value is
    ((m - 1)^2 / 4m)^2 |Y|^2 at 1/2. More generally at a CRITICAL point with loss L0, give the norm
    of W_l sigma(W_{l-1} f) for ``y_norm``: the value is then the loss minus L0. Computed from log m
    without cancellation, near m = 1 and for m that overflows m^k alike (the value is inf only
    where it exceeds the dtype).

    Scalars or arrays that broadcast, of one dtype. ``degree`` and ``m`` that are not positive give
    NaN, and ValueError where concrete.

    Paper: Prop. 5.3.

    Example:
        >>> at_four = rescaling(degree=1.0, m=4.0, y_norm=1.0)
        >>> round(float(at_four.alpha), 6), round(float(at_four.value), 6)
        (0.5, 0.316406)
    """
    require_positive(degree=degree, m=m)
    require_at_least(0, y_norm=y_norm)
    (k, scale, y), dtype = as_floats(degree=degree, m=m, y_norm=y_norm)
    k = nan_unless(k > 0, k)
    # The logarithm is accurate near 1 as well; log1p(m - 1) is less so on some devices.
    u = jnp.log(nan_unless(scale > 0, scale))
    rise = jnp.expm1(log_peak(k, u))
    return RescalingBarrier(peak_place(k, u).astype(dtype), ((y * rise) ** 2).astype(dtype))


def rescaling_witness(degree: Number, barrier: Number, y_norm: Number) -> Float[Array, "..."]:
    """The smallest m > 1 whose chord reaches a barrier: rescaling(degree, m, y_norm).value = it.

    One root of an increasing function, found by a fixed number of Newton steps kept in a bracket;
    its derivatives, of any order, are those of the implicit function. A barrier of 0 gives
    m = 1 (with derivative 0, where it does not exist), and a ``y_norm`` of 0, for which no m
    reaches a positive barrier, inf, as does an m that exceeds the dtype.

    Arguments and failures as in `rescaling`; ``barrier`` >= 0.

    Example:
        >>> round(float(rescaling_witness(degree=1.0, barrier=1.0, y_norm=1.0)), 5)
        5.82843
    """
    require_positive(degree=degree)
    require_at_least(0, barrier=barrier, y_norm=y_norm)
    (k, height, y), dtype = as_floats(degree=degree, barrier=barrier, y_norm=y_norm)
    valid = (k > 0) & (height >= 0) & (y >= 0)
    ordinary = valid & (height > 0) & (y > 0)
    k = jnp.where(ordinary, k, 1.0)
    level = jnp.log1p(jnp.sqrt(jnp.where(ordinary, height, 1.0)) / jnp.where(ordinary, y, 1.0))
    u = _root(k, level)
    special = jnp.where(~ordinary & (height > 0), jnp.inf, 1.0)
    m = nan_unless(valid, jnp.where(ordinary, jnp.exp(u), special))
    return m.astype(dtype)


@jax.custom_jvp
def _root(k, level):
    """The u > 0 with log_peak(k, u) = level."""
    # log phi <= k u, and <= k (k + 1) u^2 / 8 (Hoeffding); at the midpoint it is at least
    # k u - (k + 1) log 2.
    low = jnp.maximum(level / k, jnp.sqrt(8 * level / (k * (k + 1))))
    high = jnp.maximum((level + (k + 1) * math.log(2)) / k, low)
    # Both can be tight: widened, so that rounding does not put the root outside.
    low, high = 0.999 * low, 1.001 * high

    def step(_, state):
        low, high, u = state
        short = log_peak(k, u) - level
        low, high = jnp.where(short < 0, u, low), jnp.where(short < 0, high, u)
        new = u - short / log_peak_slope(k, u)
        # The function is convex: Newton lands right of the root and then descends to it.
        new = jnp.where((new >= low) & (new <= high), new, (low + high) / 2)
        return low, high, new

    return jax.lax.fori_loop(0, _NEWTON_STEPS, step, (low, high, low))[2]


@_root.defjvp
def _root_jvp(primals, tangents):
    (k, level), (dk, dlevel) = primals, tangents
    u = _root(k, level)
    moved = jax.jvp(lambda k: log_peak(k, u), (k,), (dk,))[1]
    return u, (dlevel - moved) / log_peak_slope(k, u)


def paper_rescaling(degree: Number, barrier: Number, y_norm: Number) -> Float[Array, "..."]:
    """The m < 1 of the paper's proof, m = (2^(k + 1) (sqrt(b) / |Y| + 1) - 1)^(-1 / k).

    The loss at the midpoint of the chord then exceeds b, for every k > 0. As printed the exponent
    is k instead of -1/k, and the claim fails for k < 1. Farther from 1 than it need be: compare
    `rescaling_witness`. Arguments and failures as there; a ``y_norm`` of 0 gives 0.

    Example:
        >>> m = paper_rescaling(degree=0.5, barrier=100.0, y_norm=1.0)
        >>> round(float(m), 8), bool(rescaling(0.5, m, 1.0).value > 100.0)
        (0.00110281, True)
    """
    require_positive(degree=degree)
    require_at_least(0, barrier=barrier, y_norm=y_norm)
    (k, height, y), dtype = as_floats(degree=degree, barrier=barrier, y_norm=y_norm)
    k = nan_unless(k > 0, k)
    none = y == 0
    grow = jnp.log1p(jnp.sqrt(height) / jnp.where(none, 1.0, y))
    bits = (k + 1) * math.log(2)
    m = jnp.exp(-(bits + grow + jnp.log(1 - jnp.exp(-bits - grow))) / k)
    return jnp.where(none, 0.0 * m, m).astype(dtype)  # 0 * m: NaN of bad arguments stays

"""How far a chord can be from its curve, from a few numbers: curvature, length, turning.

Everywhere: a curve from p to q of length L, curvature at most kappa and total curvature K, a chord
of length d = |q - p|, and the distance from (1 - alpha) p + alpha q to the nearest point of the
curve. Upper bounds of kappa, L and K may be given for the numbers themselves.

All of them are numbers that were measured, and rounded. Where a bound hardly depends on that it is
taken as it is: what is off by a few eps moves the value by a few eps. Where it is ill-conditioned
it is widened: kappa and d may be off by 2 eps each where kappa d is close to 2, L and d by
sqrt(eps) where one is close to the other. That covers the tolerance of `symjax.length`, and the
rounding of d = |q - p| down to d = sqrt(eps) |p|.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..linalg._norms import safe_sqrt
from ._bound import AbstractBound, hypothesis
from ._numbers import Number, as_floats, require_at_least, require_unit_interval


class CurvatureDeviation(AbstractBound):
    """The bound of `chord_deviation`; ``chord_fits`` is kappa d <= 2, ``length_fits`` is L >= d
    and L below the length of the major arc.
    """

    value: Float[Array, "..."]
    alpha_inside: Bool[Array, "..."] = hypothesis()
    chord_fits: Bool[Array, "..."] = hypothesis()
    length_fits: Bool[Array, "..."] = hypothesis()


class LengthDeviation(AbstractBound):
    """The bound of `length_chord_deviation`; ``length_fits`` is L >= d."""

    value: Float[Array, "..."]
    alpha_inside: Bool[Array, "..."] = hypothesis()
    length_fits: Bool[Array, "..."] = hypothesis()


class TurningDeviation(AbstractBound):
    """The bound of `total_curvature_chord_deviation`; ``turning_fits`` is 0 <= K < pi."""

    value: Float[Array, "..."]
    alpha_inside: Bool[Array, "..."] = hypothesis()
    turning_fits: Bool[Array, "..."] = hypothesis()


class EndDeviation(AbstractBound):
    """The bound of `trivial_chord_deviation`."""

    value: Float[Array, "..."]
    alpha_inside: Bool[Array, "..."] = hypothesis()


def chord_deviation(max_curvature: Number, chord: Number, length: Number) -> CurvatureDeviation:
    """The farthest that any point of the chord can be from the curve: dmax of Theorem 6.2.

    dmax = (1 - sqrt(1 - (kappa d / 2)^2)) / kappa, written without cancellation; 0 for kappa = 0.
    It is attained on the minor arc of a circle. As printed the theorem is false: the major arc of a
    circle, whose midpoint is d/2 away, violates it. It is true, and proved, with two hypotheses:
    ``chord_fits``, kappa d <= 2, and ``length_fits``, L <= pi / kappa or
    L < (2 / kappa)(pi - arcsin(kappa d / 2)), the length of the major arc. The second test keeps a
    margin of the square root of eps, which costs nothing: a curve of curvature kappa is either no
    longer than the minor arc or no shorter than the major one. kappa and d may be off by 2 eps
    each: near kappa d = 2, where that moves the value by sqrt(eps), it is the largest of them.

    Scalars or arrays that broadcast, of one dtype, all >= 0. Where a hypothesis fails, and for NaN,
    the value is +inf and ``holds`` is False. Raises ValueError for a concrete negative argument.

    Paper: Thm. 6.2.

    Example:
        >>> minor = chord_deviation(max_curvature=1.0, chord=1.0, length=1.1)
        >>> round(float(minor.value), 4), bool(minor.holds)
        (0.134, True)
        >>> major = chord_deviation(max_curvature=1.0, chord=1.0, length=5.3)
        >>> float(major.value), bool(major.length_fits)
        (inf, False)
    """
    return chord_deviation_at(0.5, max_curvature, chord, length)


def chord_deviation_at(
    alpha: Number, max_curvature: Number, chord: Number, length: Number
) -> CurvatureDeviation:
    """The farthest that the point (1 - alpha) p + alpha q of the chord can be from the curve.

    h(alpha) = sqrt(R^2 - d^2 (alpha - 1/2)^2) - sqrt(R^2 - d^2 / 4), R = 1 / kappa, under the
    hypotheses of `chord_deviation`, which is h(1/2). Sharp for every alpha on the minor arc of a
    circle. An alpha outside [0, 1] fails ``alpha_inside``; ValueError where it is concrete.

    Example:
        >>> float(chord_deviation_at(0.0, 1.0, 1.0, 1.1).value)
        0.0
    """
    require_unit_interval(alpha=alpha)
    require_at_least(0, max_curvature=max_curvature, chord=chord, length=length)
    (a, kappa, d, long), dtype = as_floats(
        alpha=alpha, max_curvature=max_curvature, chord=chord, length=length
    )
    half = kappa * d / 2
    chord_fits = (kappa >= 0) & (d >= 0) & (half <= 1)
    half = jnp.where(chord_fits, half, 0.0)
    length_fits = _at_least_chord(long, d, dtype) & _below_major_arc(kappa * long, half, dtype)
    # R factored out of both roots, and their difference made a quotient: nothing cancels.
    leg = half * (2 * a - 1)
    # 1 - half may be off by the rounding of half: the least that it can be.
    rest = 1 - half * (1 + 4 * float(jnp.finfo(dtype).eps))
    roots = safe_sqrt((1 - leg) * (1 + leg)) + safe_sqrt(rest * (1 + half))
    value = 2 * half * d * a * (1 - a) / jnp.where(roots > 0, roots, 1.0)
    return CurvatureDeviation.guarded(
        value,
        dtype,
        alpha_inside=(a >= 0) & (a <= 1),
        chord_fits=chord_fits,
        length_fits=length_fits,
    )


def _below_major_arc(turn, half, dtype):
    margin = 1 + 8 * _rounding(dtype)
    return (turn <= jnp.pi) | (turn * margin < 2 * (jnp.pi - jnp.arcsin(half)))


def _rounding(dtype):
    """What a length may be off by, relative to it."""
    return float(jnp.finfo(dtype).eps) ** 0.5


def _at_least_chord(length, chord, dtype):
    # A straight line's measured length may come out below its chord by rounding.
    return (chord >= 0) & (length >= chord * (1 - _rounding(dtype)))


def length_chord_deviation(alpha: Number, chord: Number, length: Number) -> LengthDeviation:
    """A bound of the deviation at alpha from the length alone: the curve lies in an ellipsoid.

    sqrt((L^2 - d^2) / 4 (1 - 4 x^2 / L^2)), x = d (alpha - 1/2). Needs L >= d only, any curvature,
    corners too. Sharp at alpha = 1/2 on a two-edge polygon. Arguments and failures as in
    `chord_deviation_at`.

    Near a straight line the value is the root of a small difference of two measured numbers, which
    rounding changes: the bound is that of a length larger by sqrt(eps) of it (1.5e-8 in float64,
    3.5e-4 in float32). A length below the chord by no more than that counts as the chord's own, so
    that the value never falls below 0.7 eps^(1/4) d at the middle; one that is shorter still is
    of no curve, and ``length_fits`` is False.

    Example:
        >>> round(float(length_chord_deviation(0.5, chord=3.0, length=5.0).value), 2)
        2.0
    """
    require_unit_interval(alpha=alpha)
    require_at_least(0, chord=chord, length=length)
    (a, d, long), dtype = as_floats(alpha=alpha, chord=chord, length=length)
    length_fits = _at_least_chord(long, d, dtype)
    long: Array = jnp.maximum(long, d) * (1 + _rounding(dtype))
    ratio = d * (2 * a - 1) / jnp.where(long > 0, long, 1.0)
    ratio = jnp.where(length_fits, ratio, 0.0)
    value = safe_sqrt(long - d) * safe_sqrt(long + d) * safe_sqrt((1 - ratio) * (1 + ratio)) / 2
    return LengthDeviation.guarded(
        value, dtype, alpha_inside=(a >= 0) & (a <= 1), length_fits=length_fits
    )


def total_curvature_chord_deviation(
    total_curvature: Number, chord: Number, alpha: Number = 0.5
) -> TurningDeviation:
    """A bound of the deviation from the total curvature K < pi alone, corners included.

    The curve lies in the lens of points that see the chord under an angle of at least pi - K, whose
    half width is (d / 2) tan(K / 2) at alpha = 1/2 and
    d (sqrt(1 - (2 alpha - 1)^2 sin^2 K) - cos K) / (2 sin K) at alpha. It does not depend on scale
    and needs no bound of the curvature at a point: K may hold the angles of corners. Arguments and
    failures as in `chord_deviation_at`.

    Example:
        >>> round(float(total_curvature_chord_deviation(jnp.pi / 2, chord=2.0).value), 6)
        1.0
    """
    require_unit_interval(alpha=alpha)
    require_at_least(0, total_curvature=total_curvature, chord=chord)
    (a, turn, d), dtype = as_floats(alpha=alpha, total_curvature=total_curvature, chord=chord)
    turning_fits = (turn >= 0) & (turn < jnp.pi) & (d >= 0)
    turn = jnp.where(turning_fits, turn, 0.0)
    sine, cosine, side = jnp.sin(turn), jnp.cos(turn), 2 * a - 1
    root = safe_sqrt((1 - side * sine) * (1 + side * sine))
    # Each form is free of cancellation on its own side of K = pi / 2.
    wide = cosine < 0
    below = root + cosine
    narrow_value = 2 * a * (1 - a) * sine / jnp.where(wide | (below <= 0), 1.0, below)
    wide_value = (root - cosine) / (2 * jnp.where(wide, sine, 1.0))
    return TurningDeviation.guarded(
        d * jnp.where(wide, wide_value, narrow_value),
        dtype,
        alpha_inside=(a >= 0) & (a <= 1),
        turning_fits=turning_fits,
    )


def trivial_chord_deviation(alpha: Number, chord: Number) -> EndDeviation:
    """min(alpha, 1 - alpha) d: the ends of the chord are on the curve. Failures as in the others.

    Example:
        >>> float(trivial_chord_deviation(0.25, chord=2.0).value)
        0.5
    """
    require_unit_interval(alpha=alpha)
    require_at_least(0, chord=chord)
    (a, d), dtype = as_floats(alpha=alpha, chord=chord)
    value = jnp.minimum(a, 1 - a) * d
    return EndDeviation.guarded(value, dtype, alpha_inside=(a >= 0) & (a <= 1) & (d >= 0))

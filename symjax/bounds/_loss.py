"""How high the loss on a chord can be, once its distance h from a curve of level c is bounded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .._checks import describe, require
from ..curves import Curve
from ._bound import AbstractBound, hypothesis
from ._numbers import Number, as_floats, require_at_least


class ChordLoss(AbstractBound):
    """A bound of |L(w) - c| on a chord; ``deviation_holds`` is that of the deviation it came from,
    ``tube_covers`` is that the constants were taken on a tube at least as wide as the deviation.
    """

    value: Float[Array, "..."]
    deviation_holds: Bool[Array, "..."] = hypothesis()
    tube_covers: Bool[Array, "..."] = hypothesis()


def chord_loss(
    lipschitz: Number, deviation: AbstractBound, tube_radius: Number = jnp.inf
) -> ChordLoss:
    """|L(w) - c| <= C_L h for w on a chord within h of a curve where the loss is c.

    As printed, C_L is a Lipschitz constant on the whole space, which no polynomial loss has. It is
    enough, and what is asked here, that C_L holds on the tube of radius ``tube_radius`` about the
    curve and that h <= tube_radius. ``deviation`` is any bound of this module on the distance, for
    one alpha or for the whole chord. Where it fails, or the tube is too thin, the value is +inf.

    Raises ValueError for a ``deviation`` that is not a bound or a concrete negative constant.

    Paper: Eq. (9).

    Example:
        >>> near = chord_deviation(max_curvature=1.0, chord=1.0, length=1.1)
        >>> round(float(chord_loss(2.0, near).value), 4)
        0.2679
    """
    require_at_least(0, lipschitz=lipschitz, tube_radius=tube_radius)
    slope, tube, (h, inside, dtype) = _arguments(deviation, tube_radius, lipschitz=lipschitz)
    return _chord_loss(slope * h, dtype, h, inside, tube)


def smooth_chord_loss(
    smoothness: Number,
    deviation: AbstractBound,
    gradient_norm: Number = 0.0,
    tube_radius: Number = jnp.inf,
) -> ChordLoss:
    """|L(w) - c| <= G h + (beta / 2) h^2: second order in h where the curve is made of minima.

    ``smoothness`` is beta, a bound of the spectral norm of the Hessian of L on the tube of radius
    ``tube_radius`` about the curve; ``gradient_norm`` is G, a bound of |grad L| on the curve, 0 for
    critical points. For minima also L(w) >= c. Otherwise as `chord_loss`.

    Example:
        >>> near = chord_deviation(max_curvature=1.0, chord=1.0, length=1.1)
        >>> round(float(smooth_chord_loss(2.0, near).value), 4)
        0.0179
    """
    require_at_least(0, smoothness=smoothness, gradient_norm=gradient_norm, tube_radius=tube_radius)
    beta, tube, (h, inside, dtype) = _arguments(deviation, tube_radius, smoothness=smoothness)
    slope, _, _ = _arguments(deviation, tube_radius, gradient_norm=gradient_norm)
    return _chord_loss(slope * h + beta / 2 * h**2, dtype, h, inside, tube)


def two_layer_chord_loss(
    x_norm: Number, weight_norm: Number, deviation: AbstractBound
) -> ChordLoss:
    """L(w) <= |X|_2^2 (Omega h + h^2 / 2)^2 for |Y - U V X|^2 near a curve of zero loss.

    ``x_norm`` is the spectral norm of X and ``weight_norm`` is Omega, a bound over the curve of
    sqrt(|U|_2^2 + |V|_2^2). No supremum of a Hessian is needed. Failures as in `chord_loss`.

    Example:
        >>> near = chord_deviation(max_curvature=1.0, chord=1.0, length=1.1)
        >>> round(float(two_layer_chord_loss(1.0, 2.0, near).value), 4)
        0.0767
    """
    require_at_least(0, x_norm=x_norm, weight_norm=weight_norm)
    scale, tube, (h, inside, dtype) = _arguments(deviation, jnp.inf, x_norm=x_norm)
    omega, _, _ = _arguments(deviation, jnp.inf, weight_norm=weight_norm)
    return _chord_loss((scale * h * (omega + h / 2)) ** 2, dtype, h, inside, tube)


def _arguments(deviation, tube_radius, **constant):
    require(
        isinstance(deviation, AbstractBound),
        f"`deviation` must be a bound such as chord_deviation(...), got {describe(deviation)}.",
    )
    # The whole space has no radius: no infinity is computed with.
    radius = {} if _is_everywhere(tube_radius) else {"tube_radius": tube_radius}
    (h, number, *tube), dtype = as_floats(deviation=deviation.value, **constant, **radius)
    inside = jnp.broadcast_to(deviation.holds, h.shape)
    # A failed deviation is +inf: it is replaced before it meets a product, and so its slope is 0.
    return number, tube, (jnp.where(inside, h, 0.0), inside, dtype)


def _is_everywhere(tube_radius):
    return isinstance(tube_radius, float) and tube_radius == float("inf")


def _chord_loss(value, dtype, h, inside, tube):
    covers = h <= tube[0] if tube else h >= 0
    return ChordLoss.guarded(value, dtype, deviation_holds=inside, tube_covers=covers)


def asymptotic_chord_loss(
    loss: Callable[[PyTree], Float[Array, ""]], curve: Curve, alpha: Number = 0.5
) -> Float[Array, "..."]:
    """The leading term of L - c on the chord of a short curve of minima; NOT a bound.

    (alpha^2 (1 - alpha)^2 / 8) gamma''^T H gamma'' with the Hessian H and gamma'' at t = 1/2: the
    limit, relative to the truth, as the curve shrinks (exp(t s M) as s -> 0). ``curve`` is a twice
    differentiable callable t -> parameters, ``loss`` a twice differentiable function of them. It
    costs one Hessian-vector product. No hypothesis is checked.

    Example:
        >>> loss = lambda w: (w[0] * w[1] - 1) ** 2
        >>> curve = lambda t: jnp.stack([jnp.exp(0.1 * t), jnp.exp(-0.1 * t)])
        >>> exact = loss((curve(0.0) + curve(1.0)) / 2)
        >>> bool(jnp.abs(asymptotic_chord_loss(loss, curve) / exact - 1) < 1e-2)
        True
    """
    (a,), _ = as_floats(alpha=alpha)
    velocity = lambda t: jax.jvp(curve, (t,), (jnp.ones_like(t),))[1]
    half = jnp.asarray(0.5, a.dtype)
    bend = jax.jvp(velocity, (half,), (jnp.ones_like(half),))[1]
    push = jax.jvp(jax.grad(loss), (curve(half),), (bend,))[1]
    products = jax.tree.map(lambda u, v: jnp.sum(u * v), bend, push)
    stiffness = jax.tree.reduce(jnp.add, products)
    return (a * (1 - a)).astype(stiffness.dtype) ** 2 / 8 * stiffness

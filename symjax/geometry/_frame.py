"""Derivatives of a curve at one time, and what geometry needs of them.

An exponential curve e^{tA} w has gamma' = A gamma, gamma'' = A^2 gamma, gamma''' = A^3 gamma: two
or three applications of the generator, never a derivative of a matrix exponential. On
e^{tA} e^{tB} w, with e^{tA} an isometry, all is measured in the frame that rotates with e^{tA}.
Any other curve is differentiated by nested forward mode.
"""

from collections.abc import Callable
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import is_floating, require, require_callable
from .._results import AbstractResult
from ..actions import LinearAction, PulledBack, ShiftAction, compress
from ..curves import AbstractCurve, Curve, SymmetryCurve
from ..groups import NO_PATH, Algebra
from ..linalg._norms import norm
from ..linalg._precision import computing_dtype, mm

Leaves: TypeAlias = tuple[Array, ...]


def is_linear_curve(curve: Curve) -> bool:
    """Whether a curve is drawn by an action that is linear (or affine) in the parameters."""
    return isinstance(curve, SymmetryCurve) and isinstance(curve.action, LinearAction)


def time_dtype(curve: Curve) -> jnp.dtype:
    """The widest computing dtype among the leaves of a curve's points."""
    return computing_dtype(*point_dtypes(curve))


def point_dtypes(curve: Curve) -> list[jnp.dtype]:
    """The floating dtypes of the leaves of a curve's points."""
    require_callable("curve", curve)
    points = eqx.filter_eval_shape(curve, jax.ShapeDtypeStruct((), jnp.zeros(()).dtype))
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(points) if is_floating(leaf)]
    require(len(dtypes) > 0, "`curve` must return parameters with at least one floating leaf.")
    return dtypes


def widened(curve: Curve) -> Curve:
    """A curve of this package in the widest dtype of its numbers, and float32 at least.

    Half-precision weights and algebra elements are exact in float32; what is computed from them is
    not rounded back. Any other callable is left as it is.
    """
    if not isinstance(curve, AbstractCurve):
        return curve
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(curve) if is_floating(leaf)]
    dtype = computing_dtype(*dtypes)
    cast = lambda leaf: leaf.astype(dtype) if is_floating(leaf) else leaf
    return jax.tree.map(cast, curve)


def moving_part(curve: SymmetryCurve) -> tuple[LinearAction, Leaves]:
    """The action of a curve on the leaves that move, shrunk by isometries."""
    assert isinstance(curve.action, LinearAction)  # see is_linear_curve
    action, leaves = compress(*curve.action.restrict(curve.params))
    dtype = computing_dtype(*(leaf.dtype for leaf in leaves))
    return action, tuple(leaf.astype(dtype) for leaf in leaves)


def field(action: LinearAction, m: Algebra, point: Leaves) -> Callable[[Leaves], Leaves]:
    """The vector field A of an algebra element, on vectors that are tangent at ``point``."""
    if action.group.is_linear and not any(leg.gains for leg in action.legs):
        return lambda z: action.generator(m, z)
    # The constant part of an affine generator is gone, and gains are those of the point: a tangent
    # vector is 0 where they are, as they do not move.
    generate = lambda w: action.generator(m, w)
    return lambda z: jax.jvp(generate, (point,), (z,))[1]


def derivatives(curve: Curve, t: Float[Array, ""], order: int) -> list[Leaves]:
    """The first derivatives of a curve at t, as tuples of leaves; leaves at rest are left out."""
    if not isinstance(curve, SymmetryCurve) or isinstance(curve.action, ShiftAction | PulledBack):
        return _taylor(curve, t, order)
    if not isinstance(curve.action, LinearAction):
        return _derivatives_in_the_group(curve, t, order)
    action, leaves = moving_part(curve)
    if curve.rotation is None:
        point = action.flow(curve.generators(t), leaves)
        result = [action.generator(curve.stretch, point)]
        step = field(action, curve.stretch, point)
        for _ in range(order - 1):
            result.append(step(result[-1]))
        return result
    return _polar_derivatives(curve, action, leaves, t, order)


def _polar_derivatives(curve, action, leaves, t, order):
    # gamma^(n) = e^{tA} D_n z with z = e^{tB} w, D_1 = A + B, D_{n+1} z = A D_n z + D_n B z.
    point = action.flow(curve.generators(t)[1:], leaves)
    first = [action.generator(curve.rotation, point), action.generator(curve.stretch, point)]
    rotate, stretch = (field(action, m, point) for m in (curve.rotation, curve.stretch))
    add = lambda x, y: jax.tree.map(jnp.add, x, y)

    def apply(n, z):
        if n == 1:
            return add(rotate(z), stretch(z))
        return add(rotate(apply(n - 1, z)), apply(n - 1, stretch(z)))

    velocity = add(*first)
    result = [velocity]
    for n in range(1, order):
        result.append(add(rotate(result[-1]), apply(n, first[1])))
    keep = lambda x: jnp.where(curve.method == NO_PATH, jnp.nan, x)
    return [jax.tree.map(keep, r) for r in result]


def _derivatives_in_the_group(curve, t, order):
    # The map is not an action, so gamma'' is not A^2 gamma. But g(t + s) = e^{sA} g(t) e^{sB}
    # to any order in s, and the powers of A and B are exact: no derivative of an exponential.
    group = curve.action.group
    parts = curve.generators(t)
    left = curve.rotation
    g = [group.exp(part) for part in parts]

    def element(s):
        series = lambda m: _exponential_series(m, s, order)
        right = group.compose(g[-1], series(curve.stretch))
        return right if left is None else group.compose(group.compose(series(left), g[0]), right)

    return _taylor(lambda s: curve.action(element(s), curve.params), jnp.zeros_like(t), order)


def _exponential_series(m, s, order):
    term = total = jnp.eye(m.shape[-1], dtype=m.dtype)
    for k in range(1, order + 1):
        term = mm(term, m * (s / k))
        total = total + term
    return total


def _taylor(curve, t, order):
    def floating(s):
        leaves = [x for x in jax.tree.leaves(curve(s)) if is_floating(x)]
        dtype = computing_dtype(*(x.dtype for x in leaves))
        return tuple(x.astype(dtype) for x in leaves)

    result, function = [], floating
    for _ in range(order):
        function = _derivative(function)
        result.append(function(t))
    return result


def _derivative(function):
    return lambda s: jax.jvp(function, (s,), (jnp.ones_like(s),))[1]


class Frame(AbstractResult):
    """Speed |gamma'| and curvature |gamma'' - mu gamma'| / |gamma'|^2 of a curve at a time."""

    speed: Float[Array, "..."]
    curvature: Float[Array, "..."]


def as_frame(speed: Float[Array, "..."], normal: Float[Array, "..."]) -> Frame:
    """The frame of a speed and a normal acceleration; a curve at rest has no curvature: NaN."""
    moving = speed > 0
    safe = jnp.where(moving, speed, jnp.ones_like(speed))
    return Frame(speed, jnp.where(moving, normal / safe / safe, jnp.nan))


def perpendicular(a: Leaves, v: Leaves) -> tuple[Leaves, Float[Array, ""], Float[Array, ""]]:
    """(a - mu v, mu, |v|): the part of a at right angles to v, without a difference of squares."""
    speed = norm(v)
    safe = jnp.where(speed > 0, speed, jnp.ones_like(speed))
    unit = tuple(x / safe for x in v)
    along = sum(jnp.sum(x * y) for x, y in zip(a, unit, strict=True))
    rest = tuple(x - along * u for x, u in zip(a, unit, strict=True))
    # Once more: what is left along v is rounding of the size of a, not of the result.
    again = sum(jnp.sum(x * y) for x, y in zip(rest, unit, strict=True))
    return tuple(x - again * u for x, u in zip(rest, unit, strict=True)), along / safe, speed


def frame_at(curve: Curve, t: Float[Array, ""]) -> Frame:
    """The frame of any curve at one time."""
    velocity, acceleration = derivatives(curve, t, 2)
    normal, _, speed = perpendicular(acceleration, velocity)
    return as_frame(speed, norm(normal))


def log_curvature_slope(
    curve: Curve, t: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(log kappa, d/dt log kappa) = (log |n| - 2 log |v|, <n, j>/|n|^2 - 3 mu), j = gamma'''."""
    velocity, acceleration, jerk = derivatives(curve, t, 3)
    n, mu, speed = perpendicular(acceleration, velocity)
    size = norm(n)
    safe = jnp.where(size > 0, size, jnp.ones_like(size))
    along = sum(jnp.sum(x / safe * (y / safe)) for x, y in zip(n, jerk, strict=True))
    return jnp.log(size) - 2 * jnp.log(speed), along - 3 * mu

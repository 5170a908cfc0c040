"""Speed and curvature of a curve at given times."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import require
from ..curves import Curve
from ..groups import NO_PATH
from . import _krylov
from ._frame import Frame, frame_at, is_linear_curve, moving_part, time_dtype, widened


def frames(curve: Curve, t: Float[Array, "..."] | float) -> Frame:
    """The frames of any curve at a scalar time or at an array of times."""
    t = jnp.asarray(t)
    require(t.ndim <= 1, f"`t` must be a scalar or have shape (T,), got shape {t.shape}.")
    require(
        jnp.issubdtype(t.dtype, jnp.floating) or t.ndim == 0,
        f"`t` must be floating, got {t.dtype}.",
    )
    curve = widened(curve)
    t = t.astype(time_dtype(curve))
    return frame_at(curve, t) if t.ndim == 0 else _frames_at_many(curve, t)


@eqx.filter_jit  # so that a call outside jit is compiled once per structure
def _frames_at_many(curve, times):
    return _shared(curve, times) if is_linear_curve(curve) else _one_by_one(curve, times)


def _one_by_one(curve, times):
    # Mapped, not vmapped, and recomputed in reverse mode: one point of the curve at a time.
    return jax.lax.map(jax.checkpoint(lambda t: frame_at(curve, t)), times)


@eqx.filter_custom_jvp
def _shared(curve, times):
    action, leaves = moving_part(curve)
    if not leaves:
        return _one_by_one(curve, times)
    result = _krylov.frames(action, leaves, curve.rotation, curve.stretch, times)
    if curve.method is None:
        return result
    keep = lambda x: jnp.where(curve.method == NO_PATH, jnp.nan, x)
    return jax.tree.map(keep, result)


@_shared.def_jvp
def _shared_jvp(primals, tangents):
    # The loop over intervals has a traced length, which reverse mode refuses; the derivative goes
    # through the plain formula at each time, a test says that the two agree.
    value = _shared(*primals)
    _, tangent = eqx.filter_jvp(_one_by_one, primals, tangents)
    return value, tangent


def speed(curve: Curve, t: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """|gamma'(t)|, the norm over all leaves, at a scalar t or at times of shape (T,).

    Over an array of times an exponential curve shares its work, and nothing of size times x
    parameters is kept. The inner product is the plain one of the parameters as given: it is not
    invariant under reparametrising the network.

    Raises ValueError for times of another rank or integer times.

    Example:
        >>> speed(chord(jnp.zeros(2), jnp.array([3.0, 4.0])), 0.5).item()
        5.0
    """
    return frames(curve, t).speed


def curvature(curve: Curve, t: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """kappa(t) = |gamma'' - mu gamma'| / |gamma'|^2 with mu = <gamma', gamma''> / |gamma'|^2.

    t is a scalar or of shape (T,). It is |T'| / |gamma'| of Sec. 6.2 without the difference of
    squares that loses digits. NaN at zero speed (a constant curve has no curvature); exactly 0 on
    a straight line. The plain inner product of the parameters is used. Curves that no action
    draws (any callable) are differentiated by nested forward mode.

    Raises ValueError for times of another rank or integer times.

    Paper: Sec. 6.2.

    Example:
        >>> circle = lambda t: jnp.array([jnp.cos(t), jnp.sin(t)]) / 4
        >>> round(curvature(circle, 0.3).item(), 5)
        4.0
    """
    return frames(curve, t).curvature

"""The matrix exponential, of one matrix and along a ray."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import describe, is_floating, nan_unless, require
from ._arguments import each_matrix, square_matrices
from ._frechet import expm_frechet
from ._precision import einsum, mm
from ._taylor import (
    exponential,
    has_digits,
    late_squarings,
    norm,
    power_norm,
    power_of_two,
    square_with_factor,
    squarings,
)

# A path is cut at multiples of 1/8 of its longest time.
_CUTS = 8
_DEGREE = {64: 18, 32: 12}


def expm(a: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """The exponential of every matrix of a batch.

    exp(a) = sum_k a^k / k!, by scaling, a Taylor polynomial and squaring. The relative error grows
    like |a| eps: a rotation by 100 rad is right to 1e-13 in float64 and 2e-5 in float32. Half
    precision is computed in float32. Differentiable to any order, forward and reverse.

    The spectrum may be as wide as it likes: what overflows or vanishes on the way does not matter.
    Where the exponential itself overflows, entries are infinite or NaN; NaN also where ``a`` is not
    finite, or so large, 1/eps beside a multiple of the identity, that no digit could be right.

    Raises ValueError unless ``a`` is a floating array of shape (..., n, n).

    Example:
        >>> turn = jnp.array([[0.0, -jnp.pi], [jnp.pi, 0.0]])
        >>> bool(jnp.allclose(expm(turn), -jnp.eye(2), atol=1e-5))
        True
    """
    return _expm(square_matrices("a", a)).astype(a.dtype)


@jax.custom_jvp
def _expm(a):
    return each_matrix(exponential, a)


@_expm.defjvp
def _expm_jvp(primals, tangents):
    (a,), (e,) = primals, tangents
    return _expm(a), expm_frechet(a, e)


def expm_path(m: Float[Array, "... n n"], ts: Float[Array, " T"]) -> Float[Array, "... T n n"]:
    """exp(t m) for every time of ``ts`` (T,), times of either sign, sharing their work.

    The powers of m and the exponentials at the multiples of max|t|/8 are computed once; each time
    then costs few products, whatever |m| is. Accuracy, dtypes and overflow as for `expm`.

    Raises ValueError unless ``m`` is a floating array of shape (..., n, n) and ``ts`` a floating
    array of shape (T,).

    Example:
        >>> path = expm_path(jnp.zeros((2, 2)), jnp.linspace(0.0, 1.0, 5))
        >>> path.shape
        (5, 2, 2)
    """
    wide = square_matrices("m", m)
    require(
        is_floating(ts) and ts.ndim == 1,
        f"`ts` must be a floating array of times of shape (T,), got {describe(ts)}.",
    )
    return _expm_path(wide, ts.astype(wide.dtype)).astype(m.dtype)


@jax.custom_jvp
def _expm_path(m, ts):
    # The shared work pays for itself from about twice as many times as there are cuts.
    if ts.shape[0] < 2 * _CUTS:
        return _expm(_ray(m, ts))
    return _shared_paths(m, ts)


@_expm_path.defjvp
def _expm_path_jvp(primals, tangents):
    ray, direction = jax.jvp(_ray, primals, tangents)
    return _expm_path(*primals), expm_frechet(ray, direction)


def _ray(m, ts):
    return einsum("t,...ij->...tij", ts, m)


@jax.jit  # so that a call outside jit is compiled once
def _shared_paths(m, ts):
    n = m.shape[-1]
    path = jax.vmap(_shared_path, (0, None))(m.reshape(-1, n, n), ts)
    return path.reshape(*m.shape[:-2], ts.shape[0], n, n)


def _shared_path(m, ts):
    """exp(t m) = exp(r m) exp(j h m), j an integer and r the rest of t, of the same sign.

    Were their signs opposite, exp(r m) could be large where the product is small: a heat kernel
    would drown in its rounding errors.
    """
    longest = jnp.max(jnp.abs(ts))
    step = jnp.where(longest > 0, longest, jnp.ones_like(longest)) / _CUTS
    cut = jnp.trunc(ts / step)
    # One step forward and one backward are two more short times; their powers reach every cut.
    short = _short_times(
        m * step, jnp.concatenate([ts / step - cut, jnp.asarray([1, -1], m.dtype)])
    )
    near, steps = short[:-2], short[-2:]
    identity = jnp.broadcast_to(jnp.eye(m.shape[-1], dtype=m.dtype), steps.shape)
    multiply = lambda power, _: (power := mm(power, steps), power)
    powers = jax.lax.scan(multiply, identity, None, length=_CUTS)[1]
    far = jnp.concatenate([powers[::-1, 1], identity[:1], powers[:, 0]])
    return mm(near, far[cut.astype(jnp.int32) + _CUTS])


def _short_times(m, ts):
    """exp(t m) for |t| <= 1 by one polynomial for all times, squared where |m| is large."""
    n, degree = m.shape[-1], _DEGREE[64 if jnp.finfo(m.dtype).bits == 64 else 32]
    mean = jnp.trace(m) / n
    m = m - mean * jnp.eye(n, dtype=m.dtype)
    unit = norm(m)
    direction = m / jnp.where(unit > 0, unit, jnp.ones_like(unit))
    powers = jax.lax.scan(lambda p, _: (mm(p, direction), p), direction, None, length=degree)[1]
    size = unit * power_norm(*powers[:3])
    s = squarings(size)
    scaled = ts * (unit * power_of_two(-s, m.dtype))
    # t^k / k! as running products of t / k.
    weights = [scaled]
    for k in range(2, degree + 1):
        weights.append(weights[-1] * scaled / k)
    path = mm(jnp.stack(weights, axis=1), powers.reshape(degree, n * n)).reshape(-1, n, n)
    path = square_with_factor(path, s, late_squarings(size), mean * ts)
    return nan_unless(has_digits(size), path)

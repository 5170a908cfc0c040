"""Polar factors, and a skew logarithm of every rotation."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import nan_unless
from ._arguments import square_matrices
from ._frechet import solve_frechet
from ._precision import mm

# Rotations within half a radian of pi take the other formula: -cos(0.5).
_NEAR_PI = -0.8775825618903728


def polar(g: Float[Array, "... n n"]) -> tuple[Float[Array, "... n n"], Float[Array, "... n n"]]:
    """The polar factors (q, p) of every matrix: g = q p.

    q is orthogonal (det q = sign det g), p symmetric positive semidefinite with p^2 = g^T g. For a
    singular g, q is one of many and has no derivative (NaN or infinite); for a g that is not finite
    both are NaN. Half precision is computed in float32.

    Raises ValueError unless ``g`` is a floating array of shape (..., n, n).

    Example:
        >>> q, p = polar(jnp.array([[0.0, -2.0], [3.0, 0.0]]))
        >>> [round(x, 5) for x in jnp.diagonal(p).tolist()]
        [3.0, 2.0]
    """
    wide = square_matrices("g", g)
    q = _orthogonal_factor(wide)
    p = mm(q.mT, wide)
    return q.astype(g.dtype), ((p + p.mT) / 2).astype(g.dtype)


@jax.custom_jvp
def _orthogonal_factor(g):
    u, _, vt = jnp.linalg.svd(_finite_or_nan(g))
    return mm(u, vt)


@_orthogonal_factor.defjvp
def _orthogonal_factor_jvp(primals, tangents):
    (g,), (e,) = primals, tangents
    q = _orthogonal_factor(g)
    p = mm(q.mT, g)
    p = (p + p.mT) / 2
    # q' = q w with w skew and w p + p w the skew part of q^T e, doubled.
    right = mm(q.mT, e)
    values, basis = jnp.linalg.eigh(jax.lax.stop_gradient(p))

    def solve(_, b):
        inner = mm(basis.mT, mm(b, basis)) / (values[..., :, None] + values[..., None, :])
        return mm(basis, mm(inner, basis.mT))

    sylvester = lambda w: mm(w, p) + mm(p, w)
    w = jax.lax.custom_linear_solve(sylvester, right - right.mT, solve, symmetric=True)
    return q, mm(q, w)


def _finite_or_nan(g: Array) -> Array:
    """One bad number spoils its own matrix, for certain and on every backend."""
    good = jnp.isfinite(g).all((-2, -1), keepdims=True)
    return nan_unless(good, g)


def log_rotation(q: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """A real skew logarithm of every rotation: exp(log_rotation(q)) = q.

    The eigenvalues have imaginary parts in [-pi, pi]. It exists for every q in SO(n): eigenvalues
    -1 come in pairs, and each pair is a turn by pi in a plane, chosen by rounding where q does not
    determine it. NaN where ``q`` is not finite or its determinant is negative; a q that is not
    orthogonal gives the logarithm of no matrix in particular. Half precision is computed in
    float32. The derivative is along SO(n); where two angles add up to 2 pi there is none.

    Raises ValueError unless ``q`` is a floating array of shape (..., n, n).

    Example:
        >>> log = log_rotation(-jnp.eye(2))
        >>> round(abs(log[0, 1].item()), 5)
        3.14159
    """
    return _log_rotation(square_matrices("q", q)).astype(q.dtype)


@jax.custom_jvp
def _log_rotation(q: Array) -> Array:
    sign, _ = jnp.linalg.slogdet(q)
    usable = (sign > 0)[..., None, None] & jnp.isfinite(q).all((-2, -1), keepdims=True)
    eye = jnp.broadcast_to(jnp.eye(q.shape[-1], dtype=q.dtype), q.shape)
    log: Array = _skew_log(jnp.where(usable, q, eye))[0]
    return nan_unless(usable, log)


@jax.jit  # so that a call outside jit is compiled once
def _skew_log(q: Array) -> tuple[Array, Array]:
    """A skew logarithm, and at most how far the largest angle is from pi: less if several are near.

    In the eigenbasis of the symmetric part a turn by theta is cos(theta) I + sin(theta) J.
    """
    cosine: Array
    cosine, basis = jnp.linalg.eigh((q + q.mT) / 2)
    sine = mm(basis.mT, mm((q - q.mT) / 2, basis))
    near = cosine < _NEAR_PI
    # Eigenvalues come in pairs, in ascending order; a pair stays together on the border.
    count = near.sum(-1, keepdims=True) // 2 * 2
    near = jnp.broadcast_to(jnp.arange(q.shape[-1]), near.shape) < count
    both = near[..., :, None] & near[..., None, :]
    # (theta / sin theta) times the skew part; near pi, pi J - (arcsin s / s) times it.
    sign = jnp.where(near, -1.0, 1.0).astype(q.dtype)
    factor = sign * _angle_ratio(sign * cosine)
    log = (factor[..., :, None] + factor[..., None, :]) / 2 * sine
    turn, gap = _complex_structure(sine, both)
    log = log + jnp.where(both, math.pi * turn, 0.0)
    log = mm(basis, mm(log, basis.mT))
    return (log - log.mT) / 2, gap


def _angle_ratio(cosine: Array) -> Array:
    """The ratio theta / sin(theta), by its series near 0."""
    cosine = jnp.clip(cosine, -1.0, 1.0)
    gap = 1 - cosine
    small = gap < 1e-3
    angle = jnp.arccos(jnp.where(small, 0.0, cosine))
    series = 1 + gap * (1 / 3 + gap * (2 / 15 + gap * (2 / 35 + gap * 8 / 315)))
    return jnp.where(small, series, angle / jnp.sin(angle))


def _complex_structure(sine: Array, both: Array) -> tuple[Array, Array]:
    """J skew with J^2 = -1 and J |sine| = sine on the marked block: its orthogonal polar factor.

    Second, its smallest singular value, which is double, or less: sqrt(2) over the inverse's norm.

    Where sine vanishes a tiny pairing of coordinates decides. Newton's iteration keeps a matrix
    skew, which singular vectors of tiny singular values do not.
    """
    n = sine.shape[-1]
    even = jnp.arange(0, n - 1, 2)
    pairing = jnp.zeros((n, n), sine.dtype).at[even, even + 1].set(1.0)
    pairing = jnp.broadcast_to(pairing - pairing.T, sine.shape)
    eye = jnp.broadcast_to(jnp.eye(n, dtype=sine.dtype), sine.shape)
    start = jnp.where(both, sine + (jnp.finfo(sine.dtype).eps / 16) * pairing, eye)

    def step(x, _):
        inverse = jnp.linalg.inv(x)
        size = lambda a: jnp.sqrt(jnp.sum(a * a, axis=(-2, -1), keepdims=True))
        largest = size(inverse)
        scale = jnp.sqrt(largest / size(x))
        x = (scale * x + inverse.mT / scale) / 2
        return jnp.where(both, (x - x.mT) / 2, x), largest

    # 1e-17 to 1 takes nine steps with this scaling; three more for spectra in between.
    factor, sizes = jax.lax.scan(step, start, None, length=14)
    return factor, math.sqrt(2) / sizes[0, ..., 0, 0]


@jax.custom_jvp
def principal_rotation_log(q: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The principal logarithm of one rotation; NaN where an angle is pi to rounding."""
    log: Array
    log, gap = _skew_log(q)
    return nan_unless(gap > 8 * q.shape[-1] * jnp.finfo(q.dtype).eps, log)


@principal_rotation_log.defjvp
def _principal_rotation_log_jvp(primals, tangents):
    log = principal_rotation_log(*primals)
    return log, _turn_derivative(log, *primals, *tangents)


@_log_rotation.defjvp
def _log_rotation_jvp(primals, tangents):
    (q,), (e,) = primals, tangents
    log = _log_rotation(q)
    turn = mm(q.mT, e)
    along = mm(q, (turn - turn.mT) / 2)
    return log, solve_frechet(log, q, along, _turn_derivative)


def _turn_derivative(log, q, e):
    """The x with L(log, x) = e, for log skew and e = q w; x is skew where w is.

    With ad = [log, .], x = (ad/2) w + (ad/2) coth(ad/2) w, and the second term is a function of the
    two angles of each entry in the basis where log^2 is diagonal.
    """
    w = mm(q.mT, e)
    values, basis = jnp.linalg.eigh(mm(log, log))
    angle = jnp.sqrt(jnp.maximum(-values, 0.0))
    inside = lambda x: mm(basis.mT, mm(x, basis))
    block, turn = inside(log), inside(w)
    plus = _half_cot(angle[..., :, None] + angle[..., None, :])
    minus = _half_cot(angle[..., :, None] - angle[..., None, :])
    product = angle[..., :, None] * angle[..., None, :]
    # It multiplies terms of the size of ab, so that it may be rough where ab is below rounding.
    apart = product > jnp.finfo(q.dtype).eps
    safe = jnp.where(apart, product, 1.0)
    # (f(a+b) - f(a-b)) / (ab) -> -1/3 as a and b vanish, for f(x) = (x/2) cot(x/2).
    slope = jnp.where(apart, (plus - minus) / safe, -1 / 3)
    even = (plus + minus) / 2 * turn + slope / 2 * mm(block, mm(turn, block))
    return mm(log, w) / 2 - mm(w, log) / 2 + mm(basis, mm(even, basis.mT))


def _half_cot(x: Array) -> Array:
    small = jnp.abs(x) < 1e-2
    half = jnp.where(small, 1.0, x) / 2
    return jnp.where(small, 1 - x * x / 12 - x**4 / 720, half * jnp.cos(half) / jnp.sin(half))

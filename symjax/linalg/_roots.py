"""The numerical core of `logm`: square roots until a series converges.

One matrix at a time; callers vmap. With c = (x - 1)/(x + 1), log x = 2 artanh c and
sqrt x = (1 + c) / sqrt(1 - c^2). So each round computes c, and either sums the series of artanh or
takes a root, of 1 - c^2, by the Denman-Beavers iteration and at last by a polynomial.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._checks import nan_unless
from ._balance import balancing, triangular_order
from ._polar import principal_rotation_log
from ._precision import mm
from ._taylor import add_identity, power_of_two, repeated_square
from ._triangular import permuted_triangular_log

_MAX_ROOTS = 14
_MAX_STEPS = 30

# exp(artanh(c) / 2), |artanh(c)| <= 0.9, to rounding, with some to spare for a c that is nonnormal.
_CHECK_TERMS = 16
# c^2 of this size needs 49 terms for artanh in float64, 20 in float32.
_SERIES_REACH = 0.5
_SERIES_TERMS = {64: 49, 32: 20}
# e of this size needs degree 19 for 1/sqrt(1 - e) in float64, 8 in float32.
_ROOT_REACH = 0.17
_ROOT_TERMS = {64: 20, 32: 9}
# Products x y above this are iterated as the pair: in the single x y a part far smaller than the
# largest would drown in rounding errors.
_PAIR_ABOVE = 100.0
# An eigenvalue turned so far by rounding is on no certain side of the negative axis.
_TURNED = 0.25
# |e^L - a| / |a| of a logarithm that is believed.
_RESIDUAL = {64: 1e-6, 32: 1e-3}


def logarithm(a: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """(log a, |exp(log a) - a| / |a|): NaN where there is no principal log or it is in doubt.

    Triangular matrices, the permuted ones too, have a way of their own and an error of 0.
    """
    eye = jnp.eye(a.shape[-1], dtype=a.dtype)
    rounds, triangular = triangular_order(a)
    exponent, x, usable = _unit(a)
    back = balancing(x)
    shift, x, regular = _centre(x / back)
    usable &= jnp.where(triangular, jnp.all(jnp.diagonal(a) > 0), regular)
    x = jnp.where(usable & ~triangular, x, eye)
    c, square, halvings = _cayley_of_root(x)
    series = _artanh(c, square)
    # Of the matrix that was given: what balancing makes small may be large there.
    size = lambda x: jnp.max(jnp.abs(back * x))
    error = size(_exponential(series, halvings) - x) / size(x)
    lost = ~(error <= _RESIDUAL[_bits(a)])
    log, error = _instead(lost, _rotation, x, power_of_two(halvings + 1, a.dtype) * series, error)
    log = back * log + (exponent + shift).astype(a.dtype) * math.log(2) * eye
    known = lambda a: (permuted_triangular_log(a, rounds), jnp.zeros_like(error))
    log, error = _instead(usable & triangular, known, a, log, error)
    return nan_unless(usable & jnp.isfinite(log).all(), log), error


def _exponential(series, halvings):
    """exp(2^(halvings + 1) series): what the logarithm should be the logarithm of."""
    # Without the identity a rounding error is relative to a small matrix: exp - I is squared.
    terms = [0.0] + [1 / math.factorial(k) for k in range(1, _CHECK_TERMS)]
    return add_identity(repeated_square(_polynomial(terms, series / 2), halvings + 2))


def _instead(where, f, a, log, error):
    """f(a) where it is wanted, otherwise the (log, error) that there is.

    A loop of one turn or none: nothing is computed for a batch in which it is wanted nowhere.
    """
    once = lambda carry: (jnp.zeros_like(where), *f(carry[1]))
    # Carried is a matrix until it is its logarithm: what a loop does not change is moved out of it.
    carry = (where, jnp.where(where, a, log), error)
    return jax.lax.while_loop(lambda carry: carry[0], once, carry)[1:]


def _rotation(x):
    """The logarithm of a rotation by nearly pi, which the roots lose, from its eigenbasis."""
    n = x.shape[-1]
    # How far x is from orthogonal is how far it is from the exponential of the result.
    defect = _frobenius(mm(x.T, x) - jnp.eye(n, dtype=x.dtype)) / math.sqrt(n)
    orthogonal = defect <= 16 * math.sqrt(n) * jnp.finfo(x.dtype).eps
    return nan_unless(orthogonal, principal_rotation_log(x)), defect


def _frobenius(x):
    """The root of the sum of squares."""
    return jnp.sqrt(_sum_of_squares(x))


def _sum_of_squares(x):
    """The squared Frobenius norm."""
    return jnp.sum(x * x, axis=(-2, -1))


def _bits(a):
    return 64 if jnp.finfo(a.dtype).bits == 64 else 32


def _unit(a: Array) -> tuple[Array, Array, Array]:
    """An integer k, a/2^k with entries of size one, and whether a is finite and not 0.

    A power of two scales without rounding, so that a matrix near I keeps every digit.
    """
    largest = jnp.max(jnp.abs(a))
    usable = jnp.isfinite(largest) & (largest > 0)
    k = _exponent(jnp.where(usable, jnp.log2(largest), 0.0), a.dtype)
    return (
        k,
        jnp.where(usable, a * power_of_two(-k, a.dtype), jnp.eye(a.shape[-1], dtype=a.dtype)),
        usable,
    )


def _centre(a: Array) -> tuple[Array, Array, Array]:
    """An integer k, a/2^k with |det| near 1, and whether det a > 0, beyond rounding."""
    sign, logdet = _signed_logdet(a)
    known = jnp.isfinite(logdet)
    k = _exponent(jnp.where(known, logdet / (a.shape[-1] * math.log(2)), 0.0), a.dtype)
    return k, a * power_of_two(-k, a.dtype), known & (sign > 0)


def _exponent(log2, dtype):
    """The nearest integer k with 2^k and 2^-k normal numbers; subnormal ones are scaled so far."""
    reach = -jnp.finfo(dtype).minexp
    return jnp.clip(jnp.round(log2), -reach, reach).astype(jnp.int32)


def _signed_logdet(a):
    """The sign of det a, 0 where a is singular to rounding, and log |det a|."""
    n = a.shape[-1]
    lu, swaps, _ = jax.lax.linalg.lu(jax.lax.stop_gradient(a))
    pivots = jax.lax.slice(lu.reshape(-1), (0,), (n * n,), (n + 1,))
    # A pivot is the largest that is left of its column: rounding errors alone, if it is dependent.
    columns = jnp.abs(a).max(0)
    regular = (jnp.abs(pivots) > 4 * n * jnp.finfo(a.dtype).eps * columns).all()
    odd = jnp.sum(swaps != jnp.arange(n, dtype=swaps.dtype)) + jnp.sum(pivots < 0)
    sign = jnp.where(odd % 2 == 0, 1.0, -1.0).astype(a.dtype)
    return jnp.where(regular, sign, 0.0), jnp.sum(jnp.log(jnp.abs(pivots)))


def _cayley_of_root(a):
    """The c of a^(1/2^k), c^2, and k, the smallest for which the series of artanh c converges fast.

    A root is a loop of one turn or none, so that c and its size are compiled at one place only.
    """

    def step(state):
        x, _, _, roots, _ = state
        c = _cayley(x)
        square = mm(c, c)
        # NaN, from a singular matrix on the way, ends both loops.
        more = _beyond_series(square) & (roots < _MAX_ROOTS)
        # In a batch the loops run on for matrices that are done: x stays what it is for them, so
        # that c is small again and its root fast. What a loop does not change is moved out of it.
        rooted = lambda carry: (jnp.zeros_like(more), jnp.zeros_like(c), _root(carry[1]))
        x = jax.lax.while_loop(lambda carry: carry[0], rooted, (more, c, x))[2]
        return x, c, square, jnp.where(more, roots + 1, roots), more

    start = (a, a, a, jnp.asarray(0), jnp.asarray(True))
    _, c, square, roots, _ = jax.lax.while_loop(lambda state: state[4], step, start)
    return c, square, roots


def _cayley(x):
    eye = jnp.eye(x.shape[-1], dtype=x.dtype)
    # A solve, not a product with an inverse: on a wide spectrum that loses half of the digits.
    return jnp.linalg.solve(x + eye, x - eye)


def _beyond_series(b):
    """Whether |b^k| may exceed reach^k for k of 12 and more, which the tail of the series is."""
    square = mm(b, b)
    fourth = mm(square, square)
    fifth = mm(fourth, b)
    # Powers and the Frobenius norm: close to the largest eigenvalue whatever n is.
    over = lambda power, k: _sum_of_squares(power) > _SERIES_REACH ** (2 * k)
    return over(fourth, 4) | over(fifth, 5)


def _root(c):
    """The principal square root of x = (1 + c)/(1 - c); NaN where rounding alone may decide it.

    Near the negative axis a step takes sums of numbers that nearly cancel. ``turned`` is the angle
    by which rounding may have turned an eigenvalue of xy so far; every step doubles angles.
    """
    eye = jnp.eye(c.shape[-1], dtype=c.dtype)
    pair = eye[None] + jnp.asarray([[[1]], [[-1]]], c.dtype) * c[None]
    # Of an x with an eigenvalue near -1, c is 2 over its distance.
    (x, y), turned = _iterate_pair(pair, _rounding(_size(c)))
    x, m, turned = _iterate_product(x, mm(x, y), turned)
    return nan_unless(turned < _TURNED, mm(x, _inverse_root(eye - m)))


def _iterate_pair(pair, turned):
    """Denman-Beavers for (x, y): x/sqrt(xy) and y/sqrt(xy) do not change, and xy tends to 1."""

    def step(state):
        pair, turned, noise, steps = state
        inverses = jnp.linalg.inv(pair)
        sizes, inverse_sizes = _size(pair), _size(inverses)
        turned = 2 * (turned + jnp.max(noise * inverse_sizes))
        # The scale that makes the terms of both sums equally large.
        scale = jnp.sqrt(jnp.sqrt(jnp.prod(inverse_sizes) / jnp.prod(sizes)))
        noise = _rounding(scale * sizes + inverse_sizes[::-1] / scale)
        return (scale * pair + inverses[::-1] / scale) / 2, turned, noise, steps + 1

    def big(state):
        pair, _, _, steps = state
        sizes = _sum_of_squares(pair) / pair.shape[-1]
        return (jnp.prod(sizes) > _PAIR_ABOVE**2) & (steps < _MAX_STEPS)

    start = (pair, turned, _rounding(_size(pair)), 0)
    pair, turned, _, _ = jax.lax.while_loop(big, step, start)
    return pair, turned


def _iterate_product(x, m, turned):
    """The same iteration for x and m = xy, with one inverse instead of two."""
    eye = jnp.eye(x.shape[-1], dtype=x.dtype)
    width = math.sqrt(x.shape[-1])

    def step(state):
        x, m, turned, noise, _, steps = state
        inverse = jnp.linalg.inv(m)
        size, inverse_size = _size(m), _size(inverse)
        turned = 2 * (turned + noise * inverse_size)
        scale = jnp.sqrt(inverse_size / size)
        noise = _rounding(jnp.sqrt(size * inverse_size) + width) / 2
        root = jnp.sqrt(scale)
        x = (root / 2) * (x + mm(x, inverse) / scale)
        m = eye / 2 + (scale * m + inverse / scale) / 4
        return x, m, turned, noise, beyond_root(eye - m), steps + 1

    def beyond_root(e):
        # A nonnormal e may be larger than its square is.
        over = lambda power, k: _sum_of_squares(power) > _ROOT_REACH ** (2 * k)
        return over(e, 1) & over(mm(e, e), 2)

    far = lambda state: state[4] & (state[5] < _MAX_STEPS)
    # The first step is always made: m = 1 - c^2 of a c that is large.
    start = (x, m, turned, _rounding(_size(m) + width), jnp.asarray(True), 0)
    x, m, turned, _, _, _ = jax.lax.while_loop(far, step, start)
    return x, m, turned


def _size(x):
    """The Frobenius norm, of which nothing depends that has a derivative."""
    return _frobenius(jax.lax.stop_gradient(x))


def _rounding(size):
    """How large the rounding errors of a sum of terms of this size may be, in some units."""
    return 4 * jnp.finfo(size.dtype).eps * size


def _inverse_root(e):
    """(1 - e)^(-1/2) by its series."""
    return _polynomial([math.comb(2 * k, k) / 4**k for k in range(_ROOT_TERMS[_bits(e)])], e)


def _artanh(c, square):
    terms = [1 / (2 * k + 1) for k in range(_SERIES_TERMS[_bits(c)])]
    return mm(c, _polynomial(terms, square))


def _polynomial(coefficients, x):
    """A polynomial of a matrix in about 2 sqrt(terms) products (Paterson and Stockmeyer).

    The loops are scans: unrolled, they compile for seconds.
    """
    n, width = x.shape[-1], math.isqrt(len(coefficients))
    padded = coefficients + [0.0] * (-len(coefficients) % width)
    blocks = jnp.asarray(padded, x.dtype).reshape(-1, width)
    eye = jnp.eye(n, dtype=x.dtype)
    last, powers = jax.lax.scan(lambda p, _: (mm(p, x), p), eye, None, length=width)
    sums = mm(blocks, powers.reshape(width, n * n)).reshape(-1, n, n)
    add = lambda total, block: (mm(total, last) + block, None)
    return jax.lax.scan(add, sums[-1], sums[:-1], reverse=True)[0]

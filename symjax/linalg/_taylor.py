"""The numerical core of `expm`: scaling, a Taylor polynomial in few products, squaring.

One matrix at a time; callers vmap. The polynomials are those of Bader, Blanes and Casas (Computing
the matrix exponential with an optimized Taylor polynomial approximation, 2019): degree 18 in five
products, degree 12 in four. There is no denominator, hence no solve.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._precision import mm

# Taylor's backward error is below the unit roundoff up to these norms (same paper, table 1).
_REACH = {64: 1.0908637192900361, 32: 1.461661507209034}

#: No digit of a rotation is left after 2^60; a norm above that gives NaN.
MAX_SQUARINGS = 60

# Row i holds the coefficients of I, A, A^2, A^3, A^6 in the factor B_i.
_DEGREE_18 = (
    (0.0, -0.10036558103014462001, -0.00802924648241156960, -0.00089213849804572995, 0.0),
    (
        0.0,
        0.39784974949964507614,
        1.36783778460411719922,
        0.49828962252538267755,
        -0.00063789819459472330,
    ),
    (
        -10.9676396052962062593,
        1.68015813878906197182,
        0.05717798464788655127,
        -0.00698210122488052084,
        0.00003349750170860705,
    ),
    (
        -0.09043168323908105619,
        -0.06764045190713819075,
        0.06759613017704596460,
        0.02955525704293155274,
        -0.00001391802575160607,
    ),
    (0.0, 0.0, -0.09233646193671185927, -0.01693649390020817171, -0.00001400867981820361),
)

# Row i holds the coefficients of I, A, A^2, A^3 in the factor B_i.
_DEGREE_12 = (
    (0.0, 0.46932117595418237389, -0.20099424927047284052, -0.04623946134063071740),
    (
        5.31597895759871264183,
        1.19926790417132231573,
        0.01179296240992997031,
        0.01108844528519167989,
    ),
    (
        0.18188869982170434744,
        0.05502798439925399070,
        0.09351590770535414968,
        0.00610700528898058230,
    ),
    (0.0, -0.13181061013830184015, -0.02027855540589259079, -0.00675951846863086359),
)


def norm(a: Float[Array, "n n"]) -> Float[Array, ""]:
    """The largest absolute column sum."""
    return jnp.abs(a).sum(0).max()


def reach(dtype: jnp.dtype) -> float:
    """The norm up to which the polynomial is exact to rounding."""
    return _REACH[64 if jnp.finfo(dtype).bits == 64 else 32]


def squarings(size: Float[Array, ""]) -> Int[Array, ""]:
    """How often a matrix of this size must be halved to come within `reach`, rounded up."""
    size = jax.lax.stop_gradient(size)
    exponent = jnp.ceil(jnp.log2(jnp.maximum(size / reach(size.dtype), 1.0)))
    # NaN and infinity must not become an undefined integer; the result is NaN there anyway.
    return jnp.where(exponent <= MAX_SQUARINGS, exponent, 0.0).astype(jnp.int32)


def power_norm(
    a: Float[Array, "n n"], square: Float[Array, "n n"], cube: Float[Array, "n n"]
) -> Float[Array, ""]:
    """A size d with |a^k| at most about d^k for all k of 2 and more.

    Far below the norm for a nonnormal matrix, which then needs fewer squarings.
    """
    # cube root by exp and log: a power of a traced zero would have an infinite derivative.
    root = jnp.maximum(jnp.sqrt(norm(square)), jnp.cbrt(norm(cube)))
    return jnp.minimum(norm(a), root)


def exponential(a: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """exp(a) of one matrix; NaN where a is not finite or too large to have a correct digit."""
    n = a.shape[-1]
    mean = jnp.trace(a) / n
    a = a - mean * jnp.eye(n, dtype=a.dtype)
    square = mm(a, a)
    cube = mm(square, a)
    size = power_norm(*jax.lax.stop_gradient((a, square, cube)))
    s = squarings(size)
    scale = jnp.exp2(-s.astype(a.dtype))
    # e^mean goes in before the squarings: afterwards infinity times zero could hide a number.
    result = _polynomial(a * scale, square * scale**2, cube * scale**3) * jnp.exp(mean * scale)
    result = repeated_square(result, s)
    return jnp.where(size <= 2.0**MAX_SQUARINGS, result, jnp.nan)


def repeated_square(x: Float[Array, "... n n"], times: Int[Array, ""]) -> Float[Array, "... n n"]:
    """x squared ``times`` times."""
    return jax.lax.while_loop(
        lambda carry: carry[0] < times, lambda carry: (carry[0] + 1, mm(carry[1], carry[1])), (0, x)
    )[1]


def _polynomial(a, square, cube):
    if jnp.finfo(a.dtype).bits == 64:
        powers = (a, square, cube, mm(cube, cube))
        b1, b2, b3, b4, b5 = (_combine(row, powers) for row in _DEGREE_18)
        ninth = mm(b1, b5) + b4
        return b2 + mm(b3 + ninth, ninth)
    b1, b2, b3, b4 = (_combine(row, (a, square, cube)) for row in _DEGREE_12)
    sixth = b3 + mm(b4, b4)
    return b1 + mm(b2 + sixth, sixth)


def _combine(row, powers):
    eye = jnp.eye(powers[0].shape[-1], dtype=powers[0].dtype)
    return sum(c * p for c, p in zip(row, (eye, *powers), strict=True) if c)

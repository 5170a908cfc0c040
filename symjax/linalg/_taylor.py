"""The numerical core of `expm`: scaling, a Taylor polynomial in few products, squaring.

One matrix at a time; callers vmap. The polynomials are those of Bader, Blanes and Casas (Computing
the matrix exponential with an optimized Taylor polynomial approximation, 2019): degree 18 in five
products, degree 12 in four. There is no denominator, hence no solve.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._checks import nan_unless
from ._precision import mm

# Taylor's backward error is below the unit roundoff up to these norms (same paper, table 1).
_REACH = {64: 1.0908637192900361, 32: 1.461661507209034}

_LAST = 4

# Row i holds the coefficients of A, A^2, A^3, A^6 in the factor B_i; the constants are apart.
_DEGREE_18 = (
    (-0.10036558103014462001, -0.00802924648241156960, -0.00089213849804572995, 0.0),
    (
        0.39784974949964507614,
        1.36783778460411719922,
        0.49828962252538267755,
        -0.0006378981945947233,
    ),
    (1.68015813878906197182, 0.05717798464788655127, -0.00698210122488052084, 3.349750170860705e-5),
    (-0.06764045190713819075, 0.0675961301770459646, 0.02955525704293155274, -1.391802575160607e-5),
    (0.0, -0.09233646193671185927, -0.01693649390020817171, -1.400867981820361e-5),
)
_GAMMA_18 = -0.09043168323908105619
_BETA_18 = -10.9676396052962062593 + _GAMMA_18

# Row i holds the coefficients of A, A^2, A^3 in the factor B_i.
_DEGREE_12 = (
    (0.46932117595418237389, -0.20099424927047284052, -0.0462394613406307174),
    (1.19926790417132231573, 0.01179296240992997031, 0.01108844528519167989),
    (0.0550279843939925407, 0.09351590770535414968, 0.0061070052889805823),
    (-0.13181061013830184015, -0.02027855540589259079, -0.00675951846863086359),
)
_GAMMA_12 = 0.18188869982170434744
_BETA_12 = 5.31597895759871264183 + _GAMMA_12


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
    return jnp.where(has_digits(size), exponent, 0.0).astype(jnp.int32)


def has_digits(size: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether an exponential of this size has a correct digit: its relative error is size * eps."""
    return size * jnp.finfo(size.dtype).eps < 1


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
    scale = power_of_two(-s, a.dtype)
    z = _polynomial(a * scale, square * scale**2, cube * scale**3)
    # A few squarings at least with the identity: a small result keeps its digits.
    x = square_with_factor(z, s, jnp.minimum(s, jnp.maximum(_LAST, late_squarings(size))), mean)
    return nan_unless(has_digits(size), x)


def late_squarings(size: Float[Array, ""]) -> Int[Array, ""]:
    """How many squarings before the end e^a and e^-a are representable, for a of this size.

    With a factor e^mean apart, exp(a - mean I) of a wide spectrum overflows though exp(a) does not.
    So the two come together so early that neither alone leaves the numbers that there are.
    """
    room = math.log(jnp.finfo(size.dtype).max) / 2
    return squarings(size * (reach(size.dtype) / room))


def square_with_factor(
    z: Float[Array, "*batch n n"],
    s: Int[Array, ""],
    last: Int[Array, ""],
    mean: Float[Array, "*#batch"],
) -> Float[Array, "*batch n n"]:
    """(I + z)^(2^s) e^mean, the factor going in with the ``last`` of the squarings still to come.

    It goes in by halves: where all of it underflows, the product need not.
    """
    z = repeated_square(z, s - last)
    half = jnp.exp(mean * power_of_two(-last - 1, z.dtype))[..., None, None]
    x = add_identity(z) * half * half
    return jax.lax.fori_loop(0, last, lambda _, x: mm(x, x), x)


def power_of_two(exponent: Int[Array, "..."], dtype: jnp.dtype) -> Float[Array, "..."]:
    """2^exponent, a normal number, from its bits: `jnp.exp2` rounds, what `jnp.ldexp` does is long.

    What is squared s times sees a rounding error 2^s-fold.
    """
    info = jnp.finfo(dtype)
    word = jnp.int64 if info.bits == 64 else jnp.int32
    biased = exponent.astype(word) + (info.maxexp - 1)
    return jax.lax.bitcast_convert_type(biased << info.nmant, dtype)


def repeated_square(z: Float[Array, "... n n"], times: Int[Array, ""]) -> Float[Array, "... n n"]:
    """(I + z)^(2^times) - I.

    Without the identity a rounding error is relative to z, and half as large on a rotation.
    """
    return jax.lax.while_loop(
        lambda carry: carry[0] < times,
        lambda carry: (carry[0] + 1, 2 * carry[1] + mm(carry[1], carry[1])),
        (jnp.zeros_like(times), z),
    )[1]


def add_identity(z: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """I + z."""
    return z + jnp.broadcast_to(jnp.eye(z.shape[-1], dtype=z.dtype), z.shape)


def _polynomial(a, square, cube):
    """The Taylor polynomial of exp, without its first term I."""
    if jnp.finfo(a.dtype).bits == 64:
        powers = (a, square, cube, mm(cube, cube))
        b1, b2, b3, b4, b5 = (_combine(row, powers) for row in _DEGREE_18)
        v = mm(b1, b5) + b4
        u, beta, gamma = b3 + v, _BETA_18, _GAMMA_18
    else:
        b1, b2, b3, b4 = (_combine(row, (a, square, cube)) for row in _DEGREE_12)
        v = b3 + mm(b4, b4)
        u, beta, gamma = b2 + v, _BETA_12, _GAMMA_12
        b2 = b1
    # (beta I + u)(gamma I + v) - I, since beta gamma = 1.
    return b2 + (mm(u, v) + (beta * v + gamma * u))


def _combine(row, powers):
    first, *rest = [c * p for c, p in zip(row, powers, strict=True) if c]
    return sum(rest, start=first)

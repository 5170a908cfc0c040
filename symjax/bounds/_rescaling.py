"""The factor phi by which a chord between rescaled networks multiplies the output.

Between (W_{l-1}, W_l) and (m W_{l-1}, m^-k W_l), with u = log m, the point at alpha has the output
phi times that of the ends, phi = (1 - alpha + alpha m^-k)(1 - alpha + alpha m)^k. log phi is
concave in alpha and 0 at both ends. Everything here is in terms of u, so that no m overflows.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def log_peak(degree: Float[Array, "..."], u: Float[Array, "..."]) -> Float[Array, "..."]:
    """The logarithm of the maximum of phi over alpha in [0, 1]: accurate near u = 0 too."""
    alpha = peak_place(degree, u)
    return degree * _log_mean(alpha, u) + _log_mean(alpha, -degree * u)


def log_peak_slope(degree: Float[Array, "..."], u: Float[Array, "..."]) -> Float[Array, "..."]:
    """d/du of `log_peak`: k times a difference of two means, taken without cancellation."""
    alpha = peak_place(degree, u)
    odds = jnp.log(alpha) - jnp.log(1 - alpha)
    high, low = odds + u, odds - degree * u
    gap = -jnp.expm1(-(1 + degree) * u)
    return degree * jax.nn.sigmoid(high) * jax.nn.sigmoid(-low) * gap


def peak_place(degree: Float[Array, "..."], u: Float[Array, "..."]) -> Float[Array, "..."]:
    """The alpha where phi is largest: (k p - q) / ((k + 1) p q), p = m - 1, q = 1 - m^-k.

    Written 1/2 + (g(k u) - g(u)) / ((k + 1) u) with g(z) = (z / 2) coth(z / 2), so that the
    difference is small where the two terms are close.
    """
    nonzero = u != 0
    by = jnp.where(nonzero, u, 1.0)
    shift = (_half_coth(degree * by) - _half_coth(by)) / ((degree + 1) * by)
    # At u = 0 the slope is kept, so that derivatives at m = 1 are right as well.
    return 0.5 + jnp.where(nonzero, shift, (degree - 1) / 12 * u)


def _half_coth(z: Array) -> Array:
    """(z / 2) coth(z / 2) - 1 = z^2 / 12 - z^4 / 720 + ..."""
    small = jnp.abs(z) < 0.5
    near = jnp.where(small, z, 0.0) ** 2
    # Bernoulli numbers B_2n / (2n)!; the first one left out adds less than 1e-15.
    coefficients = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000)
    series = jnp.zeros_like(near)
    for c in reversed(coefficients):
        series = (series + c) * near
    far = jnp.where(small, 2.0, z) / 2
    return jnp.where(small, series, far / jnp.tanh(far) - 1)


def _log_mean(alpha: Array, u: Array) -> Array:
    """log((1 - alpha) e^{-alpha u} + alpha e^{(1 - alpha) u}) >= 0: all its terms are positive."""
    small = jnp.abs(u) < 1
    near = jnp.where(small, u, 0.0)
    excess = (1 - alpha) * _exp_rest(-alpha * near) + alpha * _exp_rest((1 - alpha) * near)
    far = jnp.where(small, 1.0, u)
    total = jnp.logaddexp(jnp.log(1 - alpha), jnp.log(alpha) + far)
    return jnp.where(small, jnp.log1p(excess), total - alpha * far)


@jax.custom_jvp
def _exp_rest(z: Array) -> Array:
    """e^z - 1 - z for |z| <= 1 by its series, to relative rounding error: never negative."""
    tail = jnp.zeros_like(z)
    for n in range(18, 2, -1):
        tail = (1 + tail) * z / n
    return z**2 / 2 * (1 + tail)


@_exp_rest.defjvp
def _exp_rest_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    rest = _exp_rest(z)
    return rest, (rest + z) * dz

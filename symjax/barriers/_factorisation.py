"""How far the midpoint of two factorisations of a matrix can be from all factorisations."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._checks import nan_unless, require, require_matrices
from .._results import AbstractResult
from ..bounds._numbers import Number, as_floats, require_at_least, require_positive
from ..linalg._norms import norm, safe_sqrt
from ..linalg._precision import computing_dtype, mm


class FactorisationDistance(AbstractResult):
    """A lower bound ``value`` of a distance; ``holds`` is its hypothesis, that W_1 W_2 != 0."""

    value: Float[Array, "..."]
    holds: Bool[Array, "..."]


def factorisation_distance(
    w1: Float[Array, "a h"], w2: Float[Array, "h b"], beta: Number
) -> FactorisationDistance:
    """How far the midpoint of two factorisations of A = W_1 W_2 is from all of them, at least.

    The two are (W_1 / beta, beta W_2) and (beta W_1, W_2 / beta), their midpoint c (W_1, W_2) with
    c = (beta + 1 / beta) / 2. From any (V_1, V_2) with V_1 V_2 = A it is at least

        sqrt(c^2 w^2 + 2 (c^2 - 1) |A|) - c w,   w^2 = |W_1|_2^2 + |W_2|_2^2,

    away, which grows without bound with beta. The paper's argument ("cannot approach
    simultaneously") is no proof, and its (22)-(23) have W_2 on the wrong side; this is the
    quantitative form. It asks only A != 0, not that A be square and invertible; for A = 0 the value
    is 0 and ``holds`` False. ``beta`` > 0, a scalar or an array.

    Raises ValueError for matrices that do not chain or a concrete ``beta`` that is not positive.

    Paper: Prop. 5.5.

    Example:
        >>> round(float(factorisation_distance(jnp.eye(2), jnp.eye(2), beta=4.0).value), 4)
        1.3508
    """
    require_positive(beta=beta)
    (b,), w, a, dtype = _factorisation(w1, w2, beta=beta)
    b = nan_unless(b > 0, b)
    c, sine = (b + 1 / b) / 2, (b - 1) * (b + 1) / (2 * b)  # c^2 - 1 = sine^2
    gain = 2 * sine**2 * a
    below = c * w + safe_sqrt((c * w) ** 2 + gain)
    value = gain / jnp.where(below > 0, below, 1.0)
    return FactorisationDistance(value.astype(dtype), jnp.broadcast_to(a > 0, b.shape))


def factorisation_witness(
    w1: Float[Array, "a h"], w2: Float[Array, "h b"], distance: Number
) -> Float[Array, "..."]:
    """The beta > 1 at which `factorisation_distance` reaches a distance: Prop. 5.5's two points.

    In closed form; +inf where W_1 W_2 = 0. Arguments as there, ``distance`` >= 0.

    Example:
        >>> beta = factorisation_witness(jnp.eye(2), jnp.eye(2), distance=10.0)
        >>> round(float(factorisation_distance(jnp.eye(2), jnp.eye(2), beta).value), 4)
        10.0
    """
    require_at_least(0, distance=distance)
    (d,), w, a, dtype = _factorisation(w1, w2, distance=distance)
    possible = a > 0
    a = jnp.where(possible, a, 1.0)
    # With e = c - 1: 2 a e^2 + 2 (2 a - d w) e - d (2 w + d) = 0, by the form without cancellation.
    half, rest = 2 * a - d * w, d * (2 * w + d)
    root = safe_sqrt(half**2 + 2 * a * rest)
    stable = rest / jnp.where(half > 0, half + root, 1.0)
    e = jnp.where(half > 0, stable, (root - half) / (2 * a))
    beta = 1 + e + safe_sqrt(e * (2 + e))
    return jnp.where(possible, beta, jnp.inf).astype(dtype)


def identity_factorisation_distance(n: int, beta: Number) -> Float[Array, "..."]:
    """The exact distance of `factorisation_distance` for W_1 = W_2 = I of size n.

    sqrt(2 n) (c - 1) for 1 <= c <= 2 and sqrt(n (c^2 - 2)) for c >= 2, c = (beta + 1 / beta) / 2.

    Example:
        >>> float(identity_factorisation_distance(2, 1.0))
        0.0
    """
    require_positive(beta=beta)
    (b,), dtype = as_floats(beta=beta)
    b = nan_unless(b > 0, b)
    c = (b + 1 / b) / 2
    near = (2.0 * n) ** 0.5 * (b - 1) ** 2 / (2 * b)
    far = float(n) ** 0.5 * safe_sqrt(jnp.where(c > 2, c**2 - 2, 2.0))
    return jnp.where(c > 2, far, near).astype(dtype)


def _factorisation(w1, w2, **number):
    require_matrices("w1", {"w1": w1, "w2": w2})
    require(w1.shape[1] == w2.shape[0], f"`w1` and `w2` do not chain: {w1.shape} and {w2.shape}.")
    dtype = w1.dtype
    compute = computing_dtype(dtype)
    w1, w2 = w1.astype(compute), w2.astype(compute)
    values, _ = as_floats(**{k: jnp.asarray(v).astype(compute) for k, v in number.items()})
    norms = [jnp.linalg.norm(a, 2) for a in (w1, w2)]
    w = safe_sqrt(norms[0] ** 2 + norms[1] ** 2)
    return values, w, norm(mm(w1, w2)), dtype

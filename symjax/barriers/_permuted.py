"""A pair of zero-loss points with a barrier between them whatever the hidden permutation."""

import functools
import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._checks import describe, require, require_finite, require_matrices, require_positive
from .._results import AbstractResult
from ..bounds._numbers import Number, as_floats, require_at_least
from ..linalg._norms import norm, safe_sqrt
from ..linalg._precision import computing_dtype, mm

_ENUMERATED = 8
_AT_ONCE = 512


class PermutedWitness(AbstractResult):
    """The result of `permuted_witness`.

    ``m`` is the scale, +inf where not ``holds``; ``separation`` is min over P of |W_l P S| where
    ``enumerated``, else a lower bound of it; ``ranks_overlap`` is rank W_l + rank S > n,
    ``homogeneous`` that sigma is sigma(1) z^k or sigma(-1) |z|^k where it was tried: at Z, Z/2, 4Z.
    """

    m: Float[Array, ""]
    separation: Float[Array, ""]
    ranks_overlap: Bool[Array, ""]
    separated: Bool[Array, ""]
    homogeneous: Bool[Array, ""]
    enumerated: bool = eqx.field(static=True)

    @property
    def holds(self) -> Bool[Array, ""]:
        """Whether every hypothesis is certified: then the claim holds at ``m`` and above."""
        return self.separated & self.homogeneous & jnp.isfinite(self.m)


def permuted_witness(
    w_last: Float[Array, "o n"],
    z: Float[Array, "n k"],
    sigma: Callable[[Array], Array],
    barrier: Number,
    *,
    degree: float = 1.0,
    y: Float[Array, "o k"] | None = None,
) -> PermutedWitness:
    """A scale m from which on every permutation of the hidden units leaves the midpoint above b.

    For a point W of the loss |Y - W_l S|^2, S = sigma(Z), Z = W_{l-1} f, and its rescaled copy
    W' = (m W_{l-1}, W_l / m^k) of the same loss, for every permutation P the loss half-way,

        |Y - 2^-(k+1) (W_l + W_l P / m^k) sigma(Z + m P^-1 Z)|^2 > |Y - W_l S|^2 + b,

    at the m given here and every larger one. With mu = min_P |W_l P S|, w = |W_l|_2,
    R = 2^(k+1) (sqrt(b + |Y - W_l S|^2) + |Y - 2^-(k+1) W_l S|) and a = max |sigma(+-1)|,

        k >= 1:  m = max(1, w D / mu + ((R + w D) / mu)^(1/k)),
                 D^2 = k^2 a^2 sum over samples j of (2 max_i |Z_ij|)^(2k-2) |Z_j|^2,
        k < 1:   m = max(1, ((R + 2 w D) / mu)^(1/k)),    D = 2^(1-k) a | |Z|^k |.

    sigma acts on entries, is continuous, and homogeneous of degree k > 0 for positive factors
    (ReLU, leaky ReLU, the identity: k = 1; a square or squared ReLU: k = 2). ``y`` are the labels;
    without them W is at zero loss, Y = W_l S. The paper prints the second point without its prime,
    and then P = I gives 0; its constants are for k = 1 only; corrected here. The hypothesis is
    mu > 0, for this W. It is decided by trying every P for n <= 8; for larger n by the lower bound
    mu^2 >= sum_i of the i-th smallest eigenvalue of W_l^T W_l times the i-th largest of S S^T,
    positive just where rank W_l + rank S > n. Where it is not certified (for n > 8 it may still be
    true) ``m`` is +inf and ``holds`` False.

    Differentiable where no two permutations tie. Raises ValueError for matrices that do not chain,
    a degree that is not positive and a concrete negative ``barrier``.

    Paper: Prop. 5.4.

    Example:
        >>> held = permuted_witness(jnp.ones((1, 2)), jnp.ones((2, 1)), jax.nn.relu, barrier=1.0)
        >>> bool(held.holds), round(float(held.m), 3)
        (True, 7.0)
        >>> w, z = jnp.array([[1.0, -1.0, 0.0]]), jnp.array([[0.0], [1.0], [1.0]])
        >>> float(permuted_witness(w, z, jax.nn.relu, barrier=1.0).m)
        inf
    """
    _check(w_last, z, y)
    require_at_least(0, barrier=barrier)
    require_positive("degree", degree)
    n, dtype = z.shape[0], w_last.dtype
    compute = computing_dtype(dtype)
    w, z = w_last.astype(compute), z.astype(compute)
    s = sigma(z)
    (height,), _ = as_floats(barrier=jnp.asarray(barrier, compute))
    of_w, of_s = (jnp.linalg.svd(a, compute_uv=False) for a in (w, s))
    of_w, of_s = _certain(of_w, w.shape), _certain(of_s, s.shape)
    ranks_overlap = jnp.sum(of_w > 0) + jnp.sum(of_s > 0) > n
    enumerated = n <= _ENUMERATED
    separation = _smallest_product(w, s) if enumerated else _product_bound(of_w, of_s, n)
    # Rounding of the products themselves: below this the minimum may be zero.
    floor = 4 * n * float(jnp.finfo(compute).eps) * norm(w) * norm(s)
    separated = separation > floor
    output = mm(w, s)
    y = output if y is None else y.astype(compute)
    loss = jnp.sum((y - output) ** 2)
    half = 2.0 ** -(degree + 1)
    need = (safe_sqrt(height + loss) + norm(y - half * output)) / half
    sides = jnp.abs(sigma(jnp.array([1.0, -1.0], compute)))
    change = jnp.max(of_w) * jnp.max(sides) * _modulus(z, degree)
    m = _scale(need, change, jnp.where(separated, separation, 1.0), degree)
    return PermutedWitness(
        m=jnp.where(separated, m, jnp.inf).astype(dtype),
        separation=separation.astype(dtype),
        ranks_overlap=ranks_overlap,
        separated=separated,
        homogeneous=_is_homogeneous(sigma, z, s, degree),
        enumerated=enumerated,
    )


def _check(w_last, z, y):
    require_matrices("w_last", {"w_last": w_last, "z": z})
    require_finite("w_last", w_last)
    require_finite("z", z)
    require(
        w_last.shape[1] == z.shape[0],
        f"`w_last` (o, n) and `z` (n, k) do not chain: {w_last.shape} and {z.shape}.",
    )
    shape = (w_last.shape[0], z.shape[1])
    require(
        y is None or (y.shape == shape and y.dtype == w_last.dtype),
        f"`y` must have shape {shape} and the dtype of `w_last`, got {describe(y)}.",
    )


def _certain(singular_values, shape):
    """Singular values less their rounding error, so that what is positive is certainly so."""
    error = max(shape) * float(jnp.finfo(singular_values.dtype).eps) * jnp.max(singular_values)
    return jnp.maximum(singular_values - error, 0.0)


def _product_bound(of_w, of_s, n):
    """Sqrt of the minimum of |W Q S|^2 over orthogonal Q: smallest paired with largest."""
    ascending = jnp.sort(jnp.zeros(n, of_w.dtype).at[: min(n, of_w.size)].set(of_w[:n]))
    descending = jnp.zeros(n, of_s.dtype).at[: min(n, of_s.size)].set(of_s[:n])
    return safe_sqrt(jnp.sum((ascending * descending) ** 2))


def _smallest_product(w, s):
    """Min over all permutations P of |W P S|, each product formed (at most 8! of them)."""
    # |W P S| is kept by orthogonal maps of the rows of W and the columns of S: shrink both.
    if w.shape[0] > w.shape[1]:
        w = jnp.linalg.qr(w, mode="r")
    if s.shape[1] > s.shape[0]:
        s = jnp.linalg.qr(s.T, mode="r").T
    size = lambda p: norm(mm(w, s[p]))
    table = jnp.asarray(_permutations(w.shape[1]))
    return jnp.min(jax.lax.map(size, table, batch_size=min(_AT_ONCE, table.shape[0])))


@functools.cache
def _permutations(n):
    return np.array(list(itertools.permutations(range(n))), np.int32)


def _modulus(z, degree):
    """D with |sigma(P Z + Z / m) - sigma(P Z)| <= a D m^-min(k, 1) for every P and m >= 1."""
    size = jnp.where(z == 0, 1.0, jnp.abs(z))  # powers of zero have no derivative
    if degree < 1:
        powers = size**degree * (z != 0).astype(z.dtype)
        return 2 ** (1 - degree) * norm(powers)
    twice = 2 * jnp.max(jnp.where(z == 0, 0.0, size), axis=0, keepdims=True)
    weighted: Array = jnp.where(twice > 0, twice, 1.0) ** (degree - 1) * z
    return degree * norm(weighted)


def _scale(need, change, separation, degree):
    """The m >= 1 from which on mu m^k > R + w D (m^(k - min(k, 1)) + 1)."""
    if degree < 1:
        return jnp.maximum(((need + 2 * change) / separation) ** (1 / degree), 1.0)
    rest = ((need + change) / separation) ** (1 / degree)
    return jnp.maximum(change / separation + rest, 1.0)


def _is_homogeneous(sigma, z, s, degree):
    """Whether sigma is what two of its values and the degree make of it, near and at ``z``."""
    sides = sigma(jnp.array([1.0, -1.0], z.dtype))
    tolerance = 16 * float(jnp.finfo(z.dtype).eps) * max(degree, 1.0)
    flags = []
    for c in (0.5, 1.0, 4.0):
        predicted = jnp.where(z > 0, sides[0], sides[1]) * jnp.abs(c * z) ** degree
        error = jnp.abs((s if c == 1 else sigma(c * z)) - predicted)
        flags.append(jnp.all(error <= tolerance * jnp.abs(predicted)))
    return flags[0] & flags[1] & flags[2]

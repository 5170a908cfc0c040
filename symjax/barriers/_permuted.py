"""A pair of zero-loss points with a barrier between them whatever the hidden permutation."""

import functools
import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._checks import describe, is_floating, require, require_finite
from ..bounds._numbers import (
    Number,
    as_floats,
    computing_dtype,
    frobenius,
    require_at_least,
    safe_sqrt,
)
from ..linalg._precision import mm

_ENUMERATED = 8
_AT_ONCE = 512


class PermutedWitness(eqx.Module):
    """The result of `permuted_witness`.

    ``m`` is the scale, +inf where not ``holds``; ``separation`` is min over P of |W_l P S| where
    ``enumerated``, else a lower bound of it; ``ranks_overlap`` is rank W_l + rank S > n,
    ``homogeneous`` that sigma(c z) = c sigma(z) at the c > 0 that were tried.
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
    lipschitz: Number = 1.0,
) -> PermutedWitness:
    """A scale m from which on no permutation of the hidden units brings the midpoint below b.

    At a zero-loss point W of |Y - W_l sigma(Z)|^2, Z = W_{l-1} f, and its rescaled copy
    W' = (m W_{l-1}, W_l / m), for every permutation P

        |Y - (W_l + W_l P / m) sigma(Z + m P^-1 Z) / 4|^2 > b,
        m >= max(1, (4 / mu)(sqrt(b) + 3/4 |Y| + 1/2 |W_l|_2 L |Z|)),  mu = min_P |W_l P S|,

    S = sigma(Z). sigma acts on entries, is Lipschitz with constant L = ``lipschitz``, and
    homogeneous of degree one for c > 0 (ReLU, leaky ReLU, the identity: L = 1). The paper prints
    the second point without its prime, and then P = I gives 0; corrected here. Its hypothesis is
    mu > 0, for this W. It is decided by trying every P for n <= 8; for larger n by the lower bound
    mu^2 >= sum_i of the i-th smallest eigenvalue of W_l^T W_l times the i-th largest of S S^T,
    positive just where rank W_l + rank S > n. Where it is not certified (for n > 8 it may still be
    true) ``m`` is +inf and ``holds`` False. |Y| is |W_l S|, the loss being zero.

    Differentiable where no two permutations tie. Raises ValueError for matrices that do not chain
    and a concrete negative ``barrier`` or ``lipschitz``.

    Paper: Prop. 5.4.

    Example:
        >>> held = permuted_witness(jnp.ones((1, 2)), jnp.ones((2, 1)), jax.nn.relu, barrier=1.0)
        >>> bool(held.holds), round(float(held.m), 3)
        (True, 7.0)
        >>> w, z = jnp.array([[1.0, -1.0, 0.0]]), jnp.array([[0.0], [1.0], [1.0]])
        >>> float(permuted_witness(w, z, jax.nn.relu, barrier=1.0).m)
        inf
    """
    for name, a in (("w_last", w_last), ("z", z)):
        require(
            is_floating(a) and a.ndim == 2 and a.dtype == w_last.dtype,
            f"`{name}` must be a matrix, of one floating dtype for both, got {describe(a)}.",
        )
        require_finite(name, a)
    n = z.shape[0]
    require(
        w_last.shape[1] == n,
        f"`w_last` (o, n) and `z` (n, k) do not chain: {w_last.shape} and {z.shape}.",
    )
    require_at_least(0, barrier=barrier, lipschitz=lipschitz)
    dtype = w_last.dtype
    compute = computing_dtype(dtype)
    w, z = w_last.astype(compute), z.astype(compute)
    s = sigma(z)
    (height, slope), _ = as_floats(
        barrier=jnp.asarray(barrier, compute), lipschitz=jnp.asarray(lipschitz, compute)
    )
    of_w, of_s = (jnp.linalg.svd(a, compute_uv=False) for a in (w, s))
    w_norm = jnp.max(of_w)
    of_w, of_s = _certain(of_w, w.shape), _certain(of_s, s.shape)
    ranks_overlap = jnp.sum(of_w > 0) + jnp.sum(of_s > 0) > n
    enumerated = n <= _ENUMERATED
    separation = _smallest_product(w, s) if enumerated else _product_bound(of_w, of_s, n)
    # Rounding of the products themselves: below this the minimum may be zero.
    floor = 4 * n * float(jnp.finfo(compute).eps) * frobenius(w) * frobenius(s)
    separated = separation > floor
    y_norm = frobenius(mm(w, s))
    need = jnp.sqrt(height) + 0.75 * y_norm + 0.5 * w_norm * slope * frobenius(z)
    m = jnp.maximum(4 * need / jnp.where(separated, separation, 1.0), 1.0)
    return PermutedWitness(
        m=jnp.where(separated, m, jnp.inf).astype(dtype),
        separation=separation.astype(dtype),
        ranks_overlap=ranks_overlap,
        separated=separated,
        homogeneous=_is_homogeneous(sigma, z, s),
        enumerated=enumerated,
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
    norm = lambda p: frobenius(mm(w, s[p]))
    table = jnp.asarray(_permutations(w.shape[1]))
    return jnp.min(jax.lax.map(norm, table, batch_size=min(_AT_ONCE, table.shape[0])))


@functools.cache
def _permutations(n):
    return np.array(list(itertools.permutations(range(n))), np.int32)


def _is_homogeneous(sigma, z, s):
    tolerance = 16 * float(jnp.finfo(z.dtype).eps)
    flags = [
        jnp.all(jnp.abs(sigma(c * z) - c * s) <= tolerance * jnp.abs(c * s)) for c in (0.5, 4.0)
    ]
    return flags[0] & flags[1]

"""The exact barrier of a chord between deep linear networks: a polynomial and all its peaks."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import require, require_finite, require_matrices, require_same_tree
from .._results import AbstractResult
from ..linalg._precision import computing_dtype, mm
from ._roots import critical_points


class LinearBarrier(AbstractResult):
    """The maximum of the loss on a chord (``value``) and where it is (``alpha``)."""

    alpha: Float[Array, ""]
    value: Float[Array, ""]


def linear_chord(
    weights_a: Sequence[Float[Array, "_ _"]],
    weights_b: Sequence[Float[Array, "_ _"]],
    x: Float[Array, "n k"],
    y: Float[Array, "m k"],
) -> LinearBarrier:
    """The exact maximum over the chord of the loss |W_l ... W_1 X - Y|^2 of a deep linear network.

    On the chord from (A_1, ..., A_l) to (B_1, ..., B_l) the loss is a polynomial of degree 2 l in
    alpha. Its values at 2 l + 1 Chebyshev points determine it, the roots of its derivative are all
    isolated (see `symjax.barriers._roots`), and the loss itself is taken at the best one: there is
    no grid that a narrow peak could slip through. Exact means to rounding: two peaks that differ by
    less than about 1e-12 (float64, 1e-4 in float32) of the largest loss may be taken for each
    other. For two layers W_2 = U g^-1, W_1 = g V apart by g, at a critical point, it is
    L0 + |U (g - I) g^-1 (g - I) V X|^2 / 16 at 1/2.

    Differentiable: ``alpha`` by the implicit function theorem where the maximum is inside [0, 1]
    and not degenerate, ``value`` to second order there. For depths up to 16 in float64.

    Raises ValueError for weights that differ in number or shape or do not chain from x to y, and
    (outside jit) NaN; under jit NaN gives NaN. A loss that exceeds the dtype is inf.

    Example:
        >>> one = jnp.ones((1, 1))
        >>> peak = linear_chord((one, one), (4 * one, one / 4), x=one, y=one)
        >>> round(float(peak.alpha), 5), round(float(peak.value), 6)
        (0.5, 0.316406)
    """
    a, b, x, y, dtype = _checked(weights_a, weights_b, x, y)

    def loss(alpha):
        output = x
        for p, q in zip(a, b, strict=True):
            output = mm((1 - alpha) * p + alpha * q, output)
        return jnp.sum((output - y) ** 2)

    degree = 2 * len(a)
    nodes, transform = _chebyshev(degree)
    nodes = jnp.asarray(nodes, x.dtype)
    samples = jax.lax.stop_gradient(jax.lax.map(jax.checkpoint(loss), nodes))
    scale = jnp.max(jnp.abs(samples))
    values = samples / jnp.where(scale > 0, scale, 1.0)
    coefficients = mm(jnp.asarray(transform, x.dtype), values)
    candidates = critical_points(coefficients)
    # The loss itself decides between the candidates, not its interpolant; and where it overflows,
    # so that there is none, the nodes do.
    heights = jnp.concatenate([jax.lax.map(loss, candidates), samples])
    alpha = jnp.concatenate([candidates, nodes])[jnp.argmax(heights)]
    alpha = jax.lax.stop_gradient(alpha)
    alpha = _polish(loss, alpha)
    return LinearBarrier(alpha.astype(dtype), loss(alpha).astype(dtype))


def _polish(loss, alpha):
    """One Newton step where the maximum is interior: it carries the derivatives of the place."""
    slope = lambda t: jax.jvp(loss, (t,), (jnp.ones_like(t),))[1]
    first, second = jax.jvp(slope, (alpha,), (jnp.ones_like(alpha),))
    bent = (second < 0) & (alpha > 0) & (alpha < 1)
    step = -first / jnp.where(bent, second, -1.0)
    # A longer step would be noise at a flat top, and is not taken.
    small = bent & (jnp.abs(step) < min(1e-3, float(jnp.finfo(alpha.dtype).eps) ** (1 / 3)))
    return jnp.clip(alpha + jnp.where(small, step, 0.0), 0.0, 1.0)


@functools.cache
def _chebyshev(degree):
    """The Chebyshev points on [0, 1], and the matrix from values there to coefficients."""
    angles = np.pi * (2 * np.arange(degree + 1) + 1) / (2 * (degree + 1))
    orders = np.arange(degree + 1)
    transform = 2 / (degree + 1) * np.cos(orders[:, None] * angles)
    transform[0] /= 2
    return (1 + np.cos(angles)) / 2, transform


def _checked(weights_a, weights_b, x, y):
    a, b = tuple(weights_a), tuple(weights_b)
    require_same_tree("weights_a", a, "weights_b", b)
    require(len(a) >= 1, "`weights_a` must hold at least one matrix, got none.")
    require_matrices("x", {"x": x, "y": y, **{f"weights_a[{i}]": w for i, w in enumerate(a)}})
    rows = x.shape[0]
    for i, w in enumerate(a):
        require(
            w.shape[1] == rows,
            f"`weights_a[{i}]` {w.shape} does not chain: it meets {rows} rows.",
        )
        rows = w.shape[0]
    require(
        y.shape == (rows, x.shape[1]),
        f"`y` must have shape {(rows, x.shape[1])}, got {y.shape}.",
    )
    for name, tree in (("weights_a", a), ("weights_b", b), ("x", x), ("y", y)):
        require_finite(name, tree)
    compute = computing_dtype(x.dtype)
    a, b = (tuple(w.astype(compute) for w in ws) for ws in (a, b))
    return a, b, x.astype(compute), y.astype(compute), x.dtype

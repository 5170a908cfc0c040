"""Pairs of factorisations of one matrix: Prop. 5.5 and Lemma 5.1 built."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._checks import describe, is_floating, require, require_finite
from .._results import AbstractResult
from ..actions import deep_linear_action, rescaling_action
from ..barriers import factorisation_distance, factorisation_witness, linear_chord
from ..bounds._numbers import Number, all_true
from ..curves import Chord, connecting_curve
from ..linalg._norms import norm
from ..linalg._precision import computing_dtype, mm, widen
from ._pair import Pair, make_pair, where_held

Layers = tuple[Float[Array, "_ _"], ...]


def factorised_pair(w1: Float[Array, "a h"], w2: Float[Array, "h b"], distance: Number) -> Pair:
    """Two factorisations of A = W_1 W_2 whose midpoint is far from every factorisation of A.

    p = (W_1 / beta, beta W_2) and q = (beta W_1, W_2 / beta), joined by (e^s W_1, e^-s W_2),
    |s| <= log beta. ``barrier`` is a lower bound, proved and not sampled, of the distance from
    their midpoint to {V_1 V_2 = A}; beta is chosen so that it is the ``distance`` asked for. The
    paper's argument for it is no proof; see `symjax.barriers.factorisation_distance`.

    ``hypotheses``: ``product`` (A != 0). Raises ValueError for matrices that do not chain, and a
    concrete ``distance`` below 0.

    Example:
        >>> pair = factorised_pair(jnp.eye(2), jnp.eye(2), distance=10.0)
        >>> round(float(pair.barrier), 4)
        10.0
        >>> bool(jnp.allclose(pair.q[0] @ pair.q[1], jnp.eye(2), atol=1e-6))
        True
    """
    beta = factorisation_witness(w1, w2, distance)
    possible = jnp.isfinite(beta)
    beta = jnp.where(possible, beta, 1.0)
    action = rescaling_action(1)
    p, q = action(1 / beta, (w1, w2)), action(beta, (w1, w2))
    return make_pair(
        p,
        q,
        connecting_curve(action, p, beta**2),
        alpha=jnp.full((), 0.5, beta.dtype),
        barrier=factorisation_distance(w1, w2, beta).value,
        scale=beta,
        hypotheses={"product": possible},
    )


class OppositePair(AbstractResult):
    """The result of `opposite_pair`: as a `symjax.topology.Pair`, but no curve joins p and q."""

    p: Layers
    q: Layers
    chord: Chord
    alpha: Float[Array, ""]
    barrier: Float[Array, ""]
    hypotheses: dict[str, Bool[Array, ""]]

    @property
    def holds(self) -> Bool[Array, ""]:
        """Whether every hypothesis held."""
        return all_true(self.hypotheses.values())


def opposite_pair(
    weights: Sequence[Float[Array, "_ _"]],
    x: Float[Array, "n k"],
    y: Float[Array, "m k"],
    *,
    layer: int = 1,
    g: Float[Array, "h h"] | None = None,
) -> OppositePair:
    """A minimum of a linear network and its image g . W, det g < 0, in another component.

    g acts at hidden layer ``layer`` (1 is the first). Without g it is the reflection of the first
    hidden unit; a swap of two units does as well. No curve of zero loss joins the two;
    ``barrier`` is the exact maximum of the loss on the chord, at ``alpha`` (see
    `symjax.barriers.linear_chord`). The least height of any path is `LinearMinimum.barrier`.

    ``hypotheses``: ``zero_loss`` (W_l ... W_1 X = Y up to rounding), ``full_rank`` (the rank of Y
    is the width of that layer, its singular values being above rounding: with a smaller rank a
    reflection stays in the component), ``reflects`` (det g < 0). Raises ValueError for weights that
    do not chain and a layer that does not exist.

    Example:
        >>> pair = opposite_pair((jnp.eye(2), jnp.eye(2)), jnp.eye(2), jnp.eye(2))
        >>> bool(pair.holds), float(pair.barrier)
        (True, 1.0)
    """
    weights = tuple(weights)
    require(
        isinstance(layer, int) and 1 <= layer < len(weights),
        f"`layer` must be one of the {len(weights) - 1} hidden layers, from 1, got {layer!r}.",
    )
    h = weights[layer - 1].shape[0]
    g = _reflection(h, weights[0].dtype) if g is None else g
    group = [jnp.eye(w.shape[0], dtype=w.dtype) for w in weights[:-1]]
    group[layer - 1] = g
    q = deep_linear_action(_widths(weights))(tuple(group), weights)
    peak = linear_chord(weights, q, x, y)  # this checks all shapes
    output = _product(weights, x)
    error = _rounding(weights, x)
    values = jnp.linalg.svd(y.astype(output.dtype), compute_uv=False)
    wide = min(y.shape) >= h
    hypotheses = {
        "zero_loss": norm(output - y.astype(output.dtype)) <= error,
        "full_rank": jnp.asarray(wide) & (values[min(h, values.size) - 1] > error),
        "reflects": jnp.linalg.slogdet(widen(g))[0] < 0,
    }
    barrier = where_held(hypotheses, peak.value)
    return OppositePair(weights, q, Chord(weights, q), peak.alpha, barrier, hypotheses)


def reflected_pair(
    p: Layers, q: Layers, x: Float[Array, "h h"], y: Float[Array, "h h"], *, g: Array | None = None
) -> Pair:
    """Two minima (W_1, W_2) that no curve joins, and the curve that does once g has moved one.

    For square two-layer linear networks with invertible X and Y the sign of det W_1 names the
    component. If it differs between p and q, then for every g with det g < 0 the point g . p =
    (g W_1, W_2 g^-1) is joined to q by a curve of zero loss; for h > 1 g can be a swap of two
    units, and the default is the reflection of the first. The pair is (g . p, q) with that curve.
    The paper's proof says det(g) < 0 where it means det(g_1) < 0.

    ``barrier`` is the exact maximum of the loss on the chord from g . p to q. ``hypotheses``:
    ``zero_loss`` (of both, up to rounding), ``apart`` (det W_1 has different signs, both certain),
    ``reflects`` (det g < 0). Where one fails the curve may be NaN. Raises ValueError for matrices
    that are not square or of one size.

    Paper: Lemma 5.1.

    Example:
        >>> p = (jnp.eye(2), jnp.diag(jnp.array([-1.0, 1.0])))
        >>> q = (p[1], p[0])
        >>> swap = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> pair = reflected_pair(p, q, jnp.eye(2), p[1], g=swap)
        >>> v, u = pair.curve(0.5)
        >>> bool(pair.holds), bool(jnp.allclose(u @ v, p[1], atol=1e-6))
        (True, True)
    """
    h = x.shape[0]
    g = _reflection(h, x.dtype) if g is None else g
    named = {"p[0]": p[0], "p[1]": p[1], "q[0]": q[0], "q[1]": q[1], "x": x, "y": y, "g": g}
    for name, a in named.items():
        require(
            is_floating(a) and a.shape == (h, h) and a.dtype == x.dtype,
            f"`{name}` must be a square matrix like `x` ({describe(x)}), got {describe(a)}.",
        )
        require_finite(name, a)
    action = deep_linear_action((h, h, h))
    moved = action((g,), p)
    peak = linear_chord(moved, q, x, y)
    fits = [norm(_product(w, x) - widen(y)) <= _rounding(w, x) for w in (p, q)]
    signs = [_certain_sign(w[0]) for w in (p, q)]
    join = jnp.linalg.solve(widen(moved[0]).T, widen(q[0]).T).T
    return make_pair(
        moved,
        q,
        connecting_curve(action, moved, (join,)),
        alpha=peak.alpha,
        barrier=peak.value,
        scale=jnp.ones_like(peak.value),
        hypotheses={
            "zero_loss": fits[0] & fits[1],
            "apart": signs[0] * signs[1] < 0,
            "reflects": jnp.linalg.slogdet(widen(g))[0] < 0,
        },
    )


def _reflection(h, dtype):
    return jnp.diag(jnp.asarray(np.r_[-1.0, np.ones(h - 1)], dtype))


def _widths(weights):
    return (weights[0].shape[1], *(w.shape[0] for w in weights))


def _product(weights, x):
    dtype = computing_dtype(x.dtype)
    output = x.astype(dtype)
    for w in weights:
        output = mm(w.astype(dtype), output)
    return output


def _rounding(weights, x):
    """A bound of the rounding error of the output, with room for weights that were solved for.

    Half precision is computed in float32; what it adds is that each matrix is rounded to it once.
    """
    scale = norm(widen(x))
    for w in weights:
        scale = scale * norm(widen(w))
    eps, own = (float(jnp.finfo(d).eps) for d in (scale.dtype, x.dtype))
    stored = (1 - own / 2) ** -(len(weights) + 2) - 1 if own > eps else 0.0
    return (64 * max(x.shape) * eps + stored) * scale


def _certain_sign(w):
    """The sign of the determinant, 0 where the smallest singular value is within rounding."""
    wide = widen(w)
    values = jnp.linalg.svd(wide, compute_uv=False)
    sure = values[-1] > w.shape[0] * float(jnp.finfo(w.dtype).eps) * values[0]
    return jnp.linalg.slogdet(wide)[0] * sure.astype(wide.dtype)

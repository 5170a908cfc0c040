"""Pairs of minima apart by a rescaling of the last two layers: Props 5.3, 5.4 and 5.6 built."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from .._checks import describe, is_floating, require, require_matrices
from .._results import AbstractResult
from ..actions import rescaling_action
from ..barriers import PermutedWitness, permuted_witness, rescaling, rescaling_witness
from ..bounds import OrbitLoss, orbit_loss
from ..bounds._numbers import Number, require_at_least
from ..curves import Chord, connecting_curve
from ..linalg._norms import norm, safe_sqrt
from ..linalg._precision import computing_dtype, mm
from ._pair import Pair, make_pair

Network = Callable[[PyTree, Float[Array, "n k"]], Float[Array, "m k"]]


def rescaled_pair(
    apply: Network,
    params: PyTree,
    x: Float[Array | np.ndarray, "n k"],
    y: Float[Array | np.ndarray, "m k"],
    *,
    degree: float,
    barrier: Number,
) -> Pair:
    """A second minimum on the same curve whose chord rises by exactly a prescribed barrier.

    ``apply(params, x)`` is any network that ends in W_l sigma(W_{l-1} f), sigma homogeneous of
    ``degree`` k for c > 0, where W_{l-1} and W_l are the last two leaves of ``params``. The second
    point is (m W_{l-1}, m^-k W_l), the curve (m^t W_{l-1}, m^-kt W_l), of constant loss. The curve
    of the paper's proof, (1 - t) W + t W', is the chord itself and leaves the minimum.

    Nothing asks that the loss be zero, or the point critical: on the chord the output is phi Yhat,
    Yhat = ``apply(params, x)``, so with s = phi - 1 the loss |Y - phi Yhat|^2 is above that of the
    ends by s^2 |Yhat|^2 - 2 s <Y - Yhat, Yhat>, for a trained network too. m is the smallest scale
    above 1 for which this reaches ``barrier``, and 1 for 0.

    ``hypotheses``: ``output`` (Yhat != 0), ``homogeneous`` (the output at q is that at p, and on
    the chord, at alpha, phi times it: what the formulas need of sigma and the degree). Where one
    fails ``barrier`` is NaN. Raises ValueError for shapes that do not fit, a degree that is not
    positive and a concrete ``barrier`` below 0.

    See `symjax.barriers.rescaling` for the numbers alone.

    Example:
        >>> from symjax import networks
        >>> w = (jnp.eye(2), jnp.ones((1, 2)))
        >>> relu = networks.two_layer(jax.nn.relu)
        >>> pair = rescaled_pair(relu, w, jnp.eye(2), jnp.ones((1, 2)), degree=1.0, barrier=4.5)
        >>> bool(pair.holds), round(float(pair.barrier), 3)
        (True, 4.5)
        >>> loss = networks.squared_loss(relu, jnp.eye(2), jnp.ones((1, 2)))
        >>> round(float(loss(pair.chord(pair.alpha))), 3), bool(loss(pair.curve(0.3)) < 1e-8)
        (4.5, True)
    """
    require_at_least(0, barrier=barrier)
    output, size, pull = _measured(apply, params, x, y)
    height = jnp.asarray(barrier, output.dtype)
    # The positive root of size^2 s^2 - 2 pull s = barrier, without cancellation.
    root = safe_sqrt(pull**2 + height * size**2)
    positive = size > 0
    square = jnp.where(positive, size, 1.0) ** 2
    below = jnp.where(root > pull, root - pull, 1.0)
    s = jnp.where(pull > 0, (pull + root) / square, height / below)
    s = jnp.where(height > 0, s, 0.0)
    m = rescaling_witness(degree, jnp.where(positive, s, 1.0) ** 2, 1.0)
    return _moved(apply, params, x, output, degree, m, pull)


class BoundedPair(AbstractResult):
    """The result of `bounded_pair`: the pair and the ``bound``, a `symjax.bounds.OrbitLoss`."""

    pair: Pair
    bound: OrbitLoss


def bounded_pair(
    apply: Network,
    params: PyTree,
    x: Float[Array | np.ndarray, "n k"],
    y: Float[Array | np.ndarray, "m k"],
    *,
    degree: float,
    max_norm: Number,
    share: float = 0.99,
) -> BoundedPair:
    """The highest chord from a minimum within its rescaling orbit, all norms below a limit.

    For every c = ``max_norm`` there is a b(c) that no chord from W to a point of its orbit with all
    |W'_i| < c reaches: the value of ``bound``. (The paper says "for some c"; it is every c.) The
    pair shows that b(c) is the best such number: its q is the point at the ``share`` of log m of
    the better end of the orbit, and as the share goes to 1 its barrier goes to b(c).

    Norms are Frobenius, of each leaf. Network and hypotheses as in `rescaled_pair`, the loss need
    not be zero, barrier and bound are above the loss of the ends; further ``not_vacuous`` (some
    point of the orbit is below the limit) and ``other_layers_fit``. Where one fails the barrier is
    NaN and the bound +inf. Raises ValueError as `rescaled_pair` does, and for a share outside
    (0, 1).

    Example:
        >>> from symjax import networks
        >>> one = jnp.ones((1, 1))
        >>> found = bounded_pair(networks.linear, (one, one), one, one, degree=1.0, max_norm=4.0)
        >>> round(float(found.bound.value), 4), round(float(found.pair.barrier), 4)
        (0.3164, 0.3021)
    """
    require(0 < share < 1, f"`share` must be between 0 and 1, got {share}.")
    output, size, pull = _measured(apply, params, x, y)
    norms = [norm(leaf.astype(output.dtype)) for leaf in jax.tree.leaves(params)]
    bound = orbit_loss(
        degree,
        norms[-2],
        norms[-1],
        jnp.asarray(max_norm, output.dtype),
        size,
        other_norm=jnp.max(jnp.stack(norms[:-2])) if norms[2:] else jnp.zeros_like(size),
    )
    inside = bound.holds
    ends = jnp.where(inside, jnp.stack([bound.m_low, bound.m_high]), 1.0)
    heights = _rise(rescaling(degree, ends, 1.0).value, size, pull)
    bound = eqx.tree_at(lambda b: b.value, bound, jnp.where(inside, jnp.max(heights), jnp.inf))
    m = jnp.exp(share * jnp.log(ends[jnp.argmax(heights)]))
    return BoundedPair(_moved(apply, params, x, output, degree, m, pull, bound.hypotheses), bound)


def _measured(apply, params, x, y):
    """The output, its size, and <y - output, output>, in the dtype to compute in."""
    output = apply(params, x)
    require(
        is_floating(output) and is_floating(y) and output.shape == y.shape,
        f"`y` must be like the network's output, {describe(output)}, got {describe(y)}.",
    )
    output = output.astype(computing_dtype(output.dtype))
    residual = y.astype(output.dtype) - output
    return output, norm(output), jnp.sum(residual * output)


def _rise(squared, size, pull):
    """How far the chord is above its ends, from s^2: convex in s, so no more than at the ends."""
    return jnp.maximum(squared * size**2 - 2 * safe_sqrt(squared) * pull, 0.0)


def _moved(apply, params, x, output, degree, m, pull, more_hypotheses=None) -> Pair:
    """The pair at a scale m, and whether the network is what the formulas take it for."""
    action, size = rescaling_action(degree), norm(output)
    peak = rescaling(degree, m, 1.0)
    q = action(m, params)
    at_q, at_peak = apply(q, x), apply(Chord(params, q)(peak.alpha), x)
    grown = (1 + safe_sqrt(peak.value)) * output
    # Scales enter by powers of k, and a network adds some hundred roundings of its own.
    tolerance = 1024 * (1 + degree) * float(jnp.finfo(at_q.dtype).eps)
    near = lambda a, b: norm(a.astype(b.dtype) - b) <= tolerance * norm(b)
    held = {"output": size > 0, "homogeneous": near(at_q, output) & near(at_peak, grown)}
    return make_pair(
        params,
        q,
        connecting_curve(action, params, m),
        alpha=peak.alpha,
        barrier=_rise(peak.value, size, pull),
        scale=m,
        hypotheses=held | (more_hypotheses or {}),
    )


class PermutedPair(AbstractResult):
    """The result of `permuted_pair`: the pair, and the ``witness`` that decides the hypothesis."""

    pair: Pair
    witness: PermutedWitness

    @property
    def certified(self) -> Bool[Array, ""]:
        """The hypothesis is proved, and with it the barrier at every permutation."""
        return self.witness.holds

    @property
    def violated(self) -> Bool[Array, ""]:
        """Some permutation of the hidden units sends all that the last layer reads to 0."""
        return ~self.witness.separated & self.witness.enumerated

    @property
    def undecidable(self) -> Bool[Array, ""]:
        """Too many hidden units to try all permutations, and ranks that prove nothing."""
        return ~self.witness.separated & (not self.witness.enumerated)

    def permuted_chord(self, permutation: Array) -> Chord:
        """The chord from p to q with its hidden units permuted, an array of indices."""
        prev, last = self.pair.q
        return Chord(self.pair.p, (prev[permutation], last[:, permutation]))


def permuted_pair(
    w_prev: Float[Array, "h d"],
    w_last: Float[Array, "o h"],
    features: Float[Array, "d k"],
    sigma: Callable[[Array], Array],
    barrier: Number,
    *,
    degree: float = 1.0,
    y: Float[Array, "o k"] | None = None,
) -> PermutedPair:
    """Two points of one loss whose midpoint is above a barrier whatever the hidden permutation.

    p = (W_{l-1}, W_l) reads ``features`` f and has the loss |Y - W_l sigma(W_{l-1} f)|^2, zero
    without labels ``y``; q = (m W_{l-1}, W_l / m^k), k = ``degree``, with the m of
    `symjax.barriers.permuted_witness`, which has the conditions on sigma. At alpha = 1/2 the loss
    on the chord from p to q with its hidden units in any order exceeds that of p by more than
    ``barrier``. The printed statement is false: without primes on the second point it speaks of the
    chord from p to itself.

    The hypothesis is that no permutation P makes W_l P sigma(W_{l-1} f) vanish. It is ``certified``
    by trying all for up to 8 units or by ranks beyond; else ``violated``, or ``undecidable`` at
    this size. Where it is not certified q is p and the barrier NaN. The pair's ``barrier`` is a
    lower bound. Raises ValueError for matrices that do not chain.

    Example:
        >>> ones = jnp.ones((2, 1))
        >>> found = permuted_pair(jnp.eye(2), ones.T, ones, jax.nn.relu, barrier=1.0)
        >>> bool(found.certified), round(float(found.pair.scale), 3)
        (True, 7.0)
    """
    require_matrices("w_last", {"w_last": w_last, "w_prev": w_prev, "features": features})
    require(
        w_prev.shape[1] == features.shape[0],
        f"`w_prev` {w_prev.shape} and `features` {features.shape} do not chain.",
    )
    dtype = computing_dtype(w_prev.dtype)
    z = mm(w_prev.astype(dtype), features.astype(dtype)).astype(w_prev.dtype)
    witness = permuted_witness(w_last, z, sigma, barrier, degree=degree, y=y)
    m = jnp.where(witness.holds, witness.m, 1.0).astype(w_prev.dtype)
    action, p = rescaling_action(degree), (w_prev, w_last)
    pair = make_pair(
        p,
        action(m, p),
        connecting_curve(action, p, m),
        alpha=jnp.full((), 0.5, m.dtype),
        barrier=jnp.asarray(barrier, m.dtype),
        scale=m,
        hypotheses={"separated": witness.separated, "homogeneous": witness.homogeneous},
    )
    return PermutedPair(pair, witness)

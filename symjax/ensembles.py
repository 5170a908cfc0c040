"""Families of models from one model, and whether an ensemble of them is any use."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from ._checks import (
    describe,
    is_floating,
    require,
    require_concrete,
    require_count,
    require_finite,
    require_key,
    require_positive,
)
from ._orbits import Acting, orbit_of, scaled
from ._results import AbstractResult
from .actions import data_action
from .bounds import output_change
from .linalg import expm
from .linalg._precision import computing_dtype
from .verification._change import function_change, require_measurable


def curve_family(curve: Callable[[Array], PyTree], ts: Float[Array, " members"]) -> PyTree:
    """The points of a curve as one family: every leaf gets a leading axis of members.

    Raises ValueError for times that are not one floating row.

    Example:
        >>> from symjax import chord
        >>> curve_family(chord(jnp.zeros(2), jnp.ones(2)), jnp.linspace(0.0, 1.0, 3)).tolist()
        [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]
    """
    require(callable(curve), f"`curve` must be callable, got {describe(curve)}.")
    require(
        is_floating(ts) and ts.ndim == 1,
        f"`ts` must be a one-dimensional floating array, got {describe(ts)}.",
    )
    return jax.vmap(curve)(ts)


def orbit_family(
    symmetries: Acting,
    params: PyTree,
    *,
    key: Key[Array, ""],
    members: int,
    scale: float = 0.5,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
) -> PyTree:
    """Random points of the orbit patch around a model, as one family; the first is the model.

    Members are exp(m).params with Gaussian m of spectral norm about 2 ``scale``. All are one
    function: they differ in everything that depends on the coordinates (weights, quantised or
    pruned or merged copies, fine-tuning), and in no output. See `data_family` for members that
    differ off the data.

    Symmetries that hold only up to a norm's epsilon are left out. With ``approximate`` they are
    used, the members are no longer one function, and what comes back is the pair (family, change):
    for each member how much the outputs ``apply(params, *inputs)`` change, relative to their norm.

    Raises ValueError where no symmetry is continuous, ``members`` is below 1, or ``scale`` is not
    positive.

    Example:
        >>> import symjax
        >>> w = (jnp.ones((2, 1)), jnp.ones((1, 2)))
        >>> family = orbit_family(
        ...     symjax.neuron_rescaling_action(2), w, key=jax.random.key(0), members=3
        ... )
        >>> [x.shape for x in family]
        [(3, 2, 1), (3, 1, 2)]
    """
    require_key(key)
    require_count("members", members)
    require_positive("scale", scale)
    inputs = require_measurable(approximate, apply, inputs)
    orbit = orbit_of(symmetries, approximate)

    def member(key, size):
        dtype = jax.tree.leaves(orbit.zero(params))[0].dtype
        return orbit.move(scaled(orbit.random(key, scale=scale, dtype=dtype), size), params)

    sizes = jnp.ones(members).at[0].set(0.0)
    family = jax.vmap(member)(jax.random.split(key, members), sizes)
    if not approximate:
        return family
    return family, jax.vmap(lambda p: function_change(apply, inputs, params, p))(family)


class DataFamily(AbstractResult):
    """Members of `data_family`, and how much each changes the outputs on the data it was given."""

    params: tuple[Float[Array, "members h n"], Float[Array, "members m h"]]
    change: Float[Array, " members"]
    """|outputs - member's outputs| on x, over all samples."""
    bound: Float[Array, ""]
    """What the change cannot exceed (Prop. 6.1): the norm of the outputs."""


def data_family(
    sigma: Callable[[Array], Array],
    params: tuple[Float[Array, "h n"], Float[Array, "m h"]],
    x: Float[Array, "n k"],
    *,
    key: Key[Array, ""],
    members: int,
    scale: float = 0.1,
) -> DataFamily:
    """Members that agree on x as far as they can, by eq. (6), and differ elsewhere.

    (g V, U sigma(VX) sigma(gVX)^+) for random g = exp(M), |M| about 2 ``scale``. With at most as
    many samples as hidden units, in general position, the change on x is 0 to rounding; with more
    it is bounded by `symjax.bounds.output_change`, and reported. Off the data nothing is promised:
    that is where the diversity comes from. Each member costs one pseudo-inverse and no training.

    Raises ValueError for shapes that do not chain, ``members`` below 1, or a ``scale`` that is not
    positive.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 3))
        >>> w = (jax.random.normal(jax.random.key(1), (4, 2)), jnp.ones((1, 4)))
        >>> family = data_family(jnp.tanh, w, x, key=jax.random.key(2), members=5)
        >>> bool((family.change < 1e-4 * family.bound).all())
        True
    """
    require_key(key)
    require_count("members", members)
    require_positive("scale", scale)
    v, u = params
    h = v.shape[0]
    action = data_action(sigma, x)
    noise = jax.random.normal(key, (members, h, h), v.dtype) * (scale / h**0.5)

    def member(m):
        g = expm(m)
        change = output_change(u, v, g, x, sigma)
        return action(g, params), change.change, change.value

    family, change, bound = jax.vmap(member)(noise)
    return DataFamily(family, change, bound[0])


class EnsembleReport(AbstractResult):
    """Numbers of an ensemble on held-out data, beside those of its members."""

    accuracy: Float[Array, ""]
    nll: Float[Array, ""]
    """The mean negative log-likelihood of the labels, in nats."""
    brier: Float[Array, ""]
    """The mean squared distance of the probabilities from the one-hot labels, 0 to 2."""
    ece: Float[Array, ""]
    """The expected calibration error: mean |confidence - accuracy| over bins of confidence."""
    disagreement: Float[Array, ""]
    """The share of samples that two different members label differently, over all pairs."""
    member_accuracy: Float[Array, " members"]
    member_nll: Float[Array, " members"]


def evaluate_ensemble(
    logits: Float[Array, "members samples classes"],
    labels: Int[Array, " samples"],
    *,
    bins: int = 15,
) -> EnsembleReport:
    """Accuracy, likelihood, calibration and disagreement of an ensemble of classifiers.

    The ensemble's probabilities are the mean of its members'. The calibration error uses ``bins``
    equal bins of the largest probability; it depends on their number. With one member the
    disagreement is 0. Logits in half precision are computed, and reported, in float32.

    Raises ValueError for shapes that do not fit, no samples, ``bins`` below 1, or (outside jit)
    labels that are no class or logits that are not finite.

    Example:
        >>> logits = jnp.array([[[4.0, 0.0], [0.0, 4.0]], [[4.0, 0.0], [4.0, 0.0]]])
        >>> report = evaluate_ensemble(logits, jnp.array([0, 1]))
        >>> float(report.disagreement), report.member_accuracy.tolist()
        (0.5, [1.0, 0.5])
    """
    require(
        is_floating(logits) and logits.ndim == 3 and min(logits.shape) >= 1,
        f"`logits` must be a floating array (members, samples, classes), got {describe(logits)}.",
    )
    require(
        labels.shape == logits.shape[1:2] and jnp.issubdtype(labels.dtype, jnp.integer),
        f"`labels` must be {logits.shape[1]} integers, got {describe(labels)}.",
    )
    require_count("bins", bins)
    members, _, classes = logits.shape
    require_finite("logits", logits)
    require_concrete(
        lambda: (labels >= 0) & (labels < classes),
        lambda: f"`labels` must be 0 to {classes - 1}, got {labels.min()} to {labels.max()}.",
        labels,
    )
    # A sum of many numbers in half precision stops growing, so half precision is widened.
    logits = logits.astype(computing_dtype(logits.dtype))
    logs = jax.nn.log_softmax(logits)
    mean = jax.nn.logsumexp(logs, axis=0) - jnp.log(jnp.asarray(members, logits.dtype))
    votes = jnp.argmax(logits, -1)
    hits = jnp.argmax(mean, -1) == labels
    onehot = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    likelihood = lambda log: -jnp.mean(jnp.sum(log * onehot, -1))
    # Two draws without replacement agree with probability sum_c n_c (n_c - 1) / (M (M - 1)).
    counts = jnp.sum(jax.nn.one_hot(votes, classes, dtype=logits.dtype), 0)
    agree = jnp.sum(counts * (counts - 1), -1) / max(members * (members - 1), 1)
    return EnsembleReport(
        accuracy=jnp.mean(hits.astype(logits.dtype)),
        nll=likelihood(mean),
        brier=jnp.mean(jnp.sum((jnp.exp(mean) - onehot) ** 2, -1)),
        ece=_calibration_error(jnp.exp(jnp.max(mean, -1)), hits, bins),
        disagreement=jnp.mean(1 - agree) if members > 1 else jnp.zeros((), logits.dtype),
        member_accuracy=jnp.mean((votes == labels[None]).astype(logits.dtype), -1),
        member_nll=jax.vmap(likelihood)(logs),
    )


def _calibration_error(confidence, hits, bins):
    which = jnp.clip((confidence * bins).astype(jnp.int32), 0, bins - 1)
    excess = confidence - hits.astype(confidence.dtype)
    sums = jnp.zeros(bins, confidence.dtype).at[which].add(excess)
    return jnp.sum(jnp.abs(sums)) / confidence.shape[0]

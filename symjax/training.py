"""Optax minima to start from, one or a batch, and how far from a minimum they are."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from ._checks import require, require_count, require_key, require_same_tree
from ._optimisers import Loss, Params, permissive, require_trainable, stepped
from ._results import AbstractResult
from .curves import AbstractCurve, bezier_curve
from .linalg._precision import computing_dtype, mm


class Minimum(AbstractResult):
    """Where an optimiser stopped, and how far from a minimum that is."""

    params: Params
    """The parameters, with the structure, shapes and dtypes of the start."""
    loss: Float[Array, ""]
    """The loss at ``params``."""
    initial_loss: Float[Array, ""]
    """The loss at the start."""
    gradient_norm: Float[Array, ""]
    """The norm of the loss's gradient at ``params``, over all leaves."""
    relative_gradient_norm: Float[Array, ""]
    """``gradient_norm`` divided by its value at the start: what the tolerance is about."""
    steps: Int[Array, ""]
    """The number of steps that were taken."""
    converged: Bool[Array, ""]
    """Whether the tolerance or the target was reached; False for a loss that became NaN."""


def minimise(
    loss: Loss,
    params: Params,
    *,
    optimiser: optax.GradientTransformation,
    steps: int = 10_000,
    tolerance: float = 1e-5,
    target: float = -math.inf,
) -> Minimum:
    """Follow an Optax optimiser until the gradient is small against its value at the start.

    Stops at |grad loss(w)| <= tolerance |grad loss(w_0)|, or at loss(w) <= target, and then
    ``converged`` is True. Otherwise it stops after ``steps`` steps, or where the loss is no longer
    finite. ``tolerance=0`` asks for all the steps. Any Optax optimiser will do, ``optax.lbfgs()``
    and `optax.contrib.sam` included; what is reported is about the point that is handed back, which
    for sharpness-aware steps may be one of the worse points that they visit. To train several
    networks, vmap this function: each stops on its own tolerance. Half-precision parameters are
    trained in float32 and cast back, and the loss and gradient reported are those of the rounded
    parameters. The loop has no reverse-mode derivative.

    Raises ValueError for a leaf that is not a floating-point array, a NaN in concrete parameters, a
    loss that is not one real number, a tolerance below the dtype's machine epsilon, or a negative
    number of steps.

    Example:
        >>> import optax
        >>> from symjax import training
        >>> bowl = lambda w: jnp.sum((w - 3.0) ** 2)
        >>> found = training.minimise(bowl, jnp.zeros(2), optimiser=optax.sgd(0.25))
        >>> [round(float(w), 3) for w in found.params], bool(found.converged)
        ([3.0, 3.0], True)
    """
    require_trainable(loss, {"params": params}, steps, tolerance)
    start = jax.tree.map(lambda w: w.astype(computing_dtype(w.dtype)), params)
    searching = permissive(optimiser)
    initial_loss, gradient = jax.value_and_grad(loss)(start)
    initial = optax.tree.norm(gradient)
    carry = (start, searching.init(start), initial_loss, gradient, jnp.zeros((), jnp.int32))

    def arrived(value, gradient):
        small = (optax.tree.norm(gradient) <= tolerance * initial) & (tolerance > 0)
        return small | (value <= target)

    def unfinished(carry):
        _, _, value, gradient, step = carry
        return ~arrived(value, gradient) & jnp.isfinite(value) & (step < steps)

    def advance(carry):
        w, state, value, gradient, step = carry
        updates, state = stepped(searching, loss, w, state, value, gradient)
        w = optax.apply_updates(w, updates)
        return w, state, *_value_and_gradient(loss, w, state), step + 1

    w, _, value, gradient, step = jax.lax.while_loop(unfinished, advance, carry)
    rounded = jax.tree.map(lambda a, b: a.astype(b.dtype), w, params)
    if any(a.dtype != b.dtype for a, b in zip(*map(jax.tree.leaves, (w, params)), strict=True)):
        widened = jax.tree.map(lambda a, b: a.astype(b.dtype), rounded, w)
        value, gradient = jax.value_and_grad(loss)(widened)
    norm = optax.tree.norm(gradient)
    relative = jnp.where(initial > 0, norm / jnp.where(initial > 0, initial, 1.0), norm)
    return Minimum(
        params=rounded,
        loss=jnp.asarray(value),
        initial_loss=initial_loss,
        gradient_norm=norm,
        relative_gradient_norm=relative,
        steps=step,
        converged=arrived(value, gradient),
    )


class LastLayer(AbstractResult):
    """The best last weight for given features, and how much the loss at hand exceeds its loss."""

    weights: Float[Array, "m h"]
    """The minimiser of \\|U S - Y\\|^2 over U that is nearest to the given U."""
    excess: Float[Array, ""]
    """\\|U S - Y\\|^2 minus its minimum over U: zero exactly where U is optimal."""


def solve_last_layer(
    u: Float[Array, "m h"],
    features: Float[Array, "h k"],
    y: Float[Array, "m k"],
    *,
    rtol: float | None = None,
) -> LastLayer:
    """Solve the last layer of |U S - Y|^2 exactly, S the features that it reads.

    With R = Y - U S the nearest optimal weight is U + R S^+, and the loss falls by |R S^+ S|^2.
    It polishes a trained network, and for a loss that is a sum of squares it says how far from a
    minimum over the last weight the training stopped. Singular values of S below ``rtol`` times
    the largest count as zero; the default is max(h, k) times machine epsilon.

    Raises ValueError where the three shapes do not agree.

    Example:
        >>> from symjax import training
        >>> best = training.solve_last_layer(jnp.zeros((1, 1)), jnp.ones((1, 2)), jnp.ones((1, 2)))
        >>> round(float(best.weights[0, 0]), 6), round(float(best.excess), 6)
        (1.0, 2.0)
    """
    (m, h), k = u.shape, features.shape[-1]
    require(
        features.shape == (h, k) and y.shape == (m, k),
        f"`features` must be (h, k) and `y` (m, k) with `u` (m, h) = {u.shape}; got "
        f"{features.shape} and {y.shape}.",
    )
    dtype = computing_dtype(u.dtype)
    u_, s, y_ = (a.astype(dtype) for a in (u, features, y))
    left, values, right = jnp.linalg.svd(s, full_matrices=False)
    cut = max(h, k) * float(jnp.finfo(dtype).eps) if rtol is None else rtol
    kept = values > cut * values[0]
    # R S^+ = (R right^T) / values left^T, and R S^+ S has the norm of the kept coordinates.
    coordinates = mm(y_ - mm(u_, s), right.T) * kept[None, :].astype(dtype)
    step = mm(coordinates / jnp.where(kept, values, 1.0)[None, :], left.T)
    return LastLayer((u_ + step).astype(u.dtype), jnp.sum(coordinates**2).astype(u.dtype))


def train_curve(
    loss: Loss,
    start: Params,
    end: Params,
    *,
    key: Key[Array, ""],
    optimiser: optax.GradientTransformation,
    steps: int = 10_000,
    bends: int = 1,
    family: Callable[[Sequence[Params]], AbstractCurve] = bezier_curve,
) -> AbstractCurve:
    """Train the inner points of a curve between two networks (Garipov et al. 2018).

    Minimises E loss(curve(t)), t uniform on [0, 1], by one stochastic gradient step per drawn t.
    The ends stay fixed and the ``bends`` inner points start evenly spaced on the chord. ``family``
    makes a curve of its points: ``bezier_curve`` or ``polygonal_chain``. This is the general
    baseline; where a symmetry is known the closed-form ``connecting_curve`` replaces it.

    Raises ValueError where the ends differ in structure, shape or dtype, hold a NaN or a leaf that
    is not floating, or ``steps`` or ``bends`` is out of range.

    Example:
        >>> import optax
        >>> from symjax import training
        >>> ring = lambda w: (jnp.sum(w**2) - 1.0) ** 2
        >>> a, b = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
        >>> bent = training.train_curve(
        ...     ring, a, b, key=jax.random.key(0), optimiser=optax.adam(0.01), steps=500
        ... )
        >>> bool(ring(bent(0.5)) < 0.1 * ring((a + b) / 2))
        True
    """
    require_key(key)
    require_count("bends", bends)
    require_same_tree("start", start, "end", end)
    require_trainable(loss, {"start": start, "end": end}, steps)
    searching = permissive(optimiser)

    def on_chord(a):
        return jax.tree.map(lambda p, q: (1 - a) * p + a * q, start, end)

    def sampled_loss(inner, t):
        return loss(family([start, *inner, end])(t))

    def advance(step, carry):
        inner, state = carry
        dtype = jnp.result_type(*jax.tree.leaves(start))
        t = jax.random.uniform(jax.random.fold_in(key, step), (), dtype)
        here = lambda points: sampled_loss(points, t)
        value, gradient = jax.value_and_grad(here)(inner)
        updates, state = stepped(searching, here, inner, state, value, gradient)
        return optax.apply_updates(inner, updates), state

    inner = [on_chord((i + 1) / (bends + 1)) for i in range(bends)]
    inner, _ = jax.lax.fori_loop(0, steps, advance, (inner, searching.init(inner)))
    return family([start, *inner, end])


def _value_and_gradient(loss: Loss, params: Params, state: optax.OptState):
    """The loss and its gradient, taken from the state where a line search has left them there."""
    stored = [optax.tree.get_all_with_path(state, name) for name in ("value", "grad")]
    if all(len(found) == 1 and found[0][1] is not None for found in stored):
        return optax.value_and_grad_from_state(loss)(params, state=state)
    return jax.value_and_grad(loss)(params)

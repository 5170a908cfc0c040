"""Running statistics of a merged model, computed anew."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks import (
    is_concrete,
    is_floating,
    path_name,
    require,
    require_finite,
    require_same_tree,
)
from ..linalg._precision import computing_dtype

LONG_RUN = 2**30
"""What counters of updates are set to: then 1 - momentum^count, for short runs, is 1."""


def reset_statistics(
    update: Callable[[PyTree, PyTree], PyTree], state: PyTree, batches: Iterable[PyTree]
) -> PyTree:
    """The running statistics of a model on data: batch norm after merging.

    The average of two models' running means and variances is not that of the average model, which
    therefore must see data again. ``update(state, batch) -> state`` runs the merged model in
    training mode, where it normalises by the batch, and returns its new running statistics
    s <- m s + (1 - m) statistic(batch). The momentum m need not be known: two calls, from all 0 and
    from all 1, give it and the statistic, exactly up to eps / (1 - m). What comes back is the mean
    of the statistics over the batches; for variances this leaves out how the batches' means differ,
    so make the batches large. Counters that an update raises by one are set to 2^30.

    Works for any framework; under jit the checks of values are skipped.

        # Equinox: BatchNorm(..., mode="batch") (or "ema" with a state as eqx.nn.make_with_state
        # made it); vmapped over the batch with its axis name
        update = lambda state, x: jax.vmap(
            merged, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)[1]
        # Flax NNX: graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
        def update(stats, x):
            model = nnx.merge(graph, params, stats)
            model.train()
            model(x)
            return nnx.state(model, nnx.BatchStat)
        # Flax Linen
        update = lambda stats, x: model.apply(
            {"params": params, "batch_stats": stats}, x, True, mutable=["batch_stats"]
        )[1]["batch_stats"]

    Raises ValueError for no batches, a state without a floating array, or (outside jit) a leaf that
    is not a running average with a momentum in [0, 1), as in a model that is not in training mode.

    Example:
        >>> update = lambda s, x: {"mean": 0.9 * s["mean"] + 0.1 * x.mean(0)}
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> reset = reset_statistics(update, {"mean": jnp.zeros(2)}, [x])
        >>> [round(m, 4) for m in reset["mean"].tolist()]
        [2.0, 3.0]
    """
    batches = list(batches)
    require(len(batches) > 0, "`batches` is empty; expected at least one batch of data.")
    require(
        any(map(is_floating, jax.tree.leaves(state))),
        "`state` holds no floating array; expected running statistics.",
    )
    fill = lambda value: jax.tree.map(
        lambda x: jnp.full_like(x, value) if is_floating(x) else x, state
    )
    total, after = None, state
    for batch in batches:
        after, other = update(fill(0.0), batch), update(fill(1.0), batch)
        require_same_tree("state", state, "update(state, batch)", after)
        slopes = jax.tree.map(_slope, other, after)
        momentum = jax.tree.map(jnp.median, slopes)
        _check(state, after, slopes)
        statistic = jax.tree.map(
            lambda x, m: x / (1 - m).astype(x.dtype) if is_floating(x) else x, after, momentum
        )
        total = statistic if total is None else jax.tree.map(_add, total, statistic)
    finish = lambda new, x, old: (
        (x / len(batches)).astype(new.dtype) if is_floating(new) else _counted(new, old)
    )
    return jax.tree.map(finish, after, total, state)


def _slope(from_one, from_zero):
    """The derivative of an update in its own state: one and the same number all over a leaf."""
    if not is_floating(from_one):
        return jnp.zeros(())
    return (from_one - from_zero).astype(computing_dtype(from_one.dtype))


def _add(x, y):
    return x + y if is_floating(x) else x


def _counted(new, old):
    if not (hasattr(new, "dtype") and jnp.issubdtype(new.dtype, jnp.integer)):
        return new
    return jnp.where(new == old + 1, jnp.asarray(LONG_RUN, new.dtype), new)


def _check(state, after, slopes):
    """ValueError where a concrete leaf is not a running average."""
    require_finite("update(state, batch)", after)
    flat = jax.tree_util.tree_flatten_with_path(state)[0]
    rows = zip(flat, jax.tree.leaves(after), jax.tree.leaves(slopes), strict=True)
    for (path, leaf), value, slope in rows:
        if not is_floating(leaf) or not is_concrete(slope) or not slope.size:
            continue
        m, value, slope = (
            np.median(slope),
            np.abs(np.asarray(value, slope.dtype)),
            np.asarray(slope),
        )
        rounding = 16 * float(jnp.finfo(leaf.dtype).eps) * (1 + value)
        require(
            -rounding.max() <= m < 1 and (np.abs(slope - m) <= (1 - m) / 100 + rounding).all(),
            f"`update` treats `state` leaf '{path_name(path)}' with momenta from {slope.min():.4g} "
            f"to {slope.max():.4g}; expected a running average with one in [0, 1). Is the model in "
            "training mode, does it normalise by the batch, and is every leaf a batch statistic?",
        )

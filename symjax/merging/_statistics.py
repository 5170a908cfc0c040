"""Running statistics of a merged model, computed anew."""

import functools
import re
from collections.abc import Callable, Iterable, Sequence

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
    update: Callable[[PyTree, PyTree], PyTree],
    state: PyTree,
    batches: Iterable[PyTree],
    *,
    sizes: Sequence[float] | None = None,
) -> PyTree:
    """The running statistics of a model on data: batch norm after merging.

    The average of two models' running means and variances is not that of the average model, which
    therefore must see data again. ``update(state, batch) -> state`` runs the merged model in
    training mode, where it normalises by the batch, and returns its new running statistics
    s <- m s + (1 - m) statistic(batch). The momentum m need not be known: two calls, from all 0 and
    from all 1, give it and the statistic, exactly up to eps / (1 - m).

    What comes back are the statistics of all samples: means weighted by the sizes of the batches,
    and variances with the variance of the batches' means added, where a leaf and its mean are told
    by their names ("var" and "mean", "running_var" and "running_mean", "moving_variance" and
    "moving_mean") or stand as Equinox's `State` holds them; any other leaf is a weighted mean. In
    deeper layers each batch normalises itself, so make the batches large. ``sizes`` are the samples
    in each batch; left out, they are the lengths of the batches' first axes, which must then be all
    that differs between two batches. Half-precision statistics are computed in float32. Counters
    that an update raises by one are set to 2^30.

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

    Raises ValueError for no batches, batches whose sizes cannot be told, a state without a floating
    array, or (outside jit) a leaf that is not a running average with a momentum in [0, 1), as in a
    model that is not in training mode, or whose precision does not tell the momentum.

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
    weights = _weights(batches, sizes)
    fill = lambda value: jax.tree.map(
        lambda x: jnp.full(x.shape, value, computing_dtype(x.dtype)) if is_floating(x) else x, state
    )
    rows, after = [], None
    for batch in batches:
        # A wider state beside a batch in half precision: as if promotion were JAX's own.
        with jax.numpy_dtype_promotion("standard"):
            after, other = update(fill(0.0), batch), update(fill(1.0), batch)
        widened = jax.tree.map(_widen, after)
        require_same_tree("state", fill(0.0), "update(state, batch)", widened)
        slopes = jax.tree.map(_slope, other, after)
        momentum = jax.tree.map(jnp.median, slopes)
        _check(after, slopes)
        rows.append(
            jax.tree.map(
                lambda x, m: x / (1 - m).astype(x.dtype) if is_floating(x) else x, widened, momentum
            )
        )
    pooled = _pooled(rows, weights)
    finish = lambda new, x, old: x.astype(old.dtype) if is_floating(old) else _counted(new, old)
    return jax.tree.map(finish, after, pooled, state)


def _weights(batches, sizes):
    """The share of each batch in all samples."""
    if sizes is None:
        shapes = [[jnp.shape(x) for x in jax.tree.leaves(batch)] for batch in batches]
        same = all(row == shapes[0] for row in shapes)
        rest = [[shape[1:] for shape in row] for row in shapes]
        lengths = [{shape[0] for shape in row if shape} for row in shapes]
        require(
            same or (all(row == rest[0] for row in rest) and all(len(n) == 1 for n in lengths)),
            "`batches` differ in more than the length of their first axis: say the samples in each "
            f"by `sizes`. Their shapes are {shapes[0]} and "
            f"{next((row for row in shapes if row != shapes[0]), None)}.",
        )
        sizes = [1] * len(batches) if same else [n.pop() for n in lengths]
    counts = np.asarray(sizes, float)
    require(
        counts.shape == (len(batches),) and bool(np.isfinite(counts).all() and (counts > 0).all()),
        f"`sizes` must be {len(batches)} positive numbers, one for each batch, got {sizes!r}.",
    )
    return counts / counts.sum()


def _pooled(rows, weights):
    """The statistics of all samples, from those of each batch."""
    mean = lambda *xs: functools.reduce(
        jnp.add, (w * x for w, x in zip(weights.tolist(), xs, strict=True))
    )
    average = lambda *xs: mean(*xs) if is_floating(xs[0]) else xs[0]
    pooled = jax.tree.map(average, *rows)
    flat = jax.tree_util.tree_flatten_with_path(pooled)[0]
    leaves, columns = [x for _, x in flat], list(zip(*map(jax.tree.leaves, rows), strict=True))
    for i, j in _pairs(flat):
        # The law of total variance: the mean of the variances and the variance of the means.
        apart = mean(*((x - leaves[j]) ** 2 for x in columns[j]))
        leaves[i] = leaves[i] + apart.astype(leaves[i].dtype)
    return jax.tree.unflatten(jax.tree.structure(pooled), leaves)


def _pairs(flat):
    """(variance, mean) among named leaves, by their positions."""
    names = [path_name(path) for path, _ in flat]
    place = {name: i for i, name in enumerate(names)}
    for i, (path, x) in enumerate(flat):
        parts = names[i].split("/")
        spots = [k for k, part in enumerate(parts) if "var" in part.lower()]
        partners = [
            place.get("/".join([*parts[:k], _mean_of(parts[k]), *parts[k + 1 :]])) for k in spots
        ]
        if _is_second_of_state(path):
            partners.append(i - 1)
        for j in partners:
            if j is not None and is_floating(x) and flat[j][1].shape == x.shape:
                yield i, j
                break


def _mean_of(name):
    """The name of a mean beside that of its variance."""
    return re.sub("variance|var", "mean", name, count=1, flags=re.IGNORECASE)


def _is_second_of_state(path):
    """Whether a leaf is the second of a tuple in a container that names nothing: Equinox's State.

    Its batch norms hold (mean, variance) there.
    """
    keys = jax.tree_util.FlattenedIndexKey, jax.tree_util.SequenceKey
    return (
        len(path) >= 2
        and all(isinstance(key, kind) for key, kind in zip(path[-2:], keys, strict=True))
        and path[-1].idx == 1
    )


def _widen(x):
    return x.astype(computing_dtype(x.dtype)) if is_floating(x) else x


def _slope(from_one, from_zero):
    """The derivative of an update in its own state: one and the same number all over a leaf."""
    return _widen(from_one) - _widen(from_zero) if is_floating(from_one) else jnp.zeros(())


def _counted(new, old):
    if not (hasattr(new, "dtype") and jnp.issubdtype(new.dtype, jnp.integer)):
        return new
    return jnp.where(new == old + 1, jnp.asarray(LONG_RUN, new.dtype), new)


def _check(after, slopes):
    """ValueError where a concrete leaf is not a running average."""
    require_finite("update(state, batch)", after)
    flat = jax.tree_util.tree_flatten_with_path(after)[0]
    rows = zip(flat, jax.tree.leaves(slopes), strict=True)
    for (path, leaf), slope in rows:
        if not is_floating(leaf) or not is_concrete(slope) or not slope.size:
            continue
        m, value, slope = (
            np.median(slope),
            np.abs(np.asarray(leaf, slope.dtype)),
            np.asarray(slope),
        )
        eps = float(jnp.finfo(leaf.dtype).eps)
        rounding = 16 * eps * (1 + value)
        require(
            -rounding.max() <= m < 1 and (np.abs(slope - m) <= (1 - m) / 100 + rounding).all(),
            f"`update` treats `state` leaf '{path_name(path)}' with momenta from {slope.min():.4g} "
            f"to {slope.max():.4g}; expected a running average with one in [0, 1). Is the model in "
            "training mode, does it normalise by the batch, and is every leaf a batch statistic?",
        )
        require(
            eps <= 0.01 * (1 - m),
            f"`update` rounds `state` leaf '{path_name(path)}' to {leaf.dtype}, too coarse for a "
            f"momentum of {m:.4g}: keep running statistics in float32.",
        )

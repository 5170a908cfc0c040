"""REPAIR: hidden units of a merged model with the mean and spread that its parents' have."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval
from jaxtyping import Array, Float, PyTree

from .._checks import describe, is_floating, require, require_same_tree
from ..actions import Leg
from ..actions._linear import find_leaf, leaf_names
from ..linalg._precision import computing_dtype

Preactivations = Callable[[PyTree], Mapping[str, Float[Array, "... _"]]]


def repair(
    preactivations: Preactivations,
    params: PyTree,
    params_a: PyTree,
    params_b: PyTree,
    units: Mapping[str, Sequence[Leg]],
    *,
    alpha: float | Array = 0.5,
) -> PyTree:
    """The merged model with hidden units rescaled to its parents' statistics (Jordan et al. 2023).

    Averaging makes hidden units vary less than in either parent, more so with depth. Every unit of
    z = W x + b is given back the mean (1 - alpha) mean_A + alpha mean_B and the standard deviation
    (1 - alpha) std_A + alpha std_B, by scaling its row of W and b and shifting b, one layer
    after another. B must be aligned with A first (`symjax.match`).

    ``preactivations(params)`` runs the model on data and returns, for each name, what a linear
    layer computes, units along the last axis (move the channels of a convolution there). ``units``
    maps the same names to the legs that write it: one `symjax.Leg` for the weight, with the axis of
    its units, and one for the bias if there is one. Their order does not matter: a layer is mended
    after those that it depends on, as the program of ``preactivations`` tells; where several stand
    in one leaf, which it cannot tell apart, they are gone through as many times as there are.
    Without a bias only the spread can be mended. A unit that is constant on the data keeps its
    scale. Works under jit, and vmap over ``alpha``.

    Raises ValueError for models that differ in structure, a name that ``preactivations`` does not
    return, empty data, sizes that do not fit, a leg that is conjugated by gains, or two names that
    move the same entries of a leaf.

    Example:
        >>> from symjax import Leg
        >>> x = jnp.linspace(-1.0, 1.0, 11)
        >>> hidden = lambda p: {"z": x[:, None] * p["w"][None] + p["b"][None]}
        >>> a = {"b": jnp.array([1.0]), "w": jnp.array([2.0])}
        >>> b = {"b": jnp.array([3.0]), "w": jnp.array([-2.0])}
        >>> merged = {"b": jnp.array([2.0]), "w": jnp.array([0.5])}
        >>> mended = repair(hidden, merged, a, b, {"z": [Leg("w", 0), Leg("b", 0)]})
        >>> [round(float(v[0]), 5) for v in (mended["w"], mended["b"])]
        [2.0, 2.0]
    """
    require_same_tree("params_a", params_a, "params_b", params_b)
    require_same_tree("params", params, "params_a", params_a)
    places = _places(preactivations, params, units)
    order = _order(preactivations, params, places)
    # Parents that are constants of a program would be run by its compiler, which takes minutes.
    params_a, params_b = jax.lax.optimization_barrier((params_a, params_b))
    a, b = (_moments(preactivations(p), units) for p in (params_a, params_b))
    alpha = jnp.asarray(alpha)
    require(alpha.ndim == 0, f"`alpha` must be one number, got {describe(alpha)}.")
    between = lambda x, y: x + alpha.astype(x.dtype) * (y - x)
    targets = jax.tree.map(between, a, b)

    def mend(i, leaves):
        # One trace for all layers: each round measures all of them and corrects one.
        turn = turns[i]
        found = _moments(preactivations(jax.tree.unflatten(structure, leaves)), units)
        for number, (name, legs) in enumerate(units.items()):
            changed = _corrected(leaves, places[name], legs, found[name], targets[name])
            for place, leaf in changed.items():
                leaves = [
                    jnp.where(turn == number, leaf, old) if at == place else old
                    for at, old in enumerate(leaves)
                ]
        return leaves

    leaves, structure = jax.tree.flatten(params)
    turns = jnp.asarray(order, jnp.int32)
    mended = jax.lax.fori_loop(0, len(order), mend, leaves)
    touched = {place for row in places.values() for place in row}
    kept = [x if i in touched else y for i, (x, y) in enumerate(zip(mended, leaves, strict=True))]
    return jax.tree.unflatten(structure, kept)


def _moments(values, units):
    """Mean and standard deviation of each unit over everything else."""

    def one(z):
        z = z.reshape(-1, z.shape[-1]).astype(computing_dtype(z.dtype))
        mean = z.mean(0)
        return mean, jnp.sqrt(jnp.mean((z - mean[None]) ** 2, 0))

    return {name: one(values[name]) for name in units}


def _corrected(leaves, places, legs, found, target):
    """The leaves that write these units, so that their moments become the target."""
    (mean, std), (goal, spread) = found, target
    tiny = float(jnp.finfo(std.dtype).eps) * (jnp.abs(mean) + spread)
    kept, one = std > tiny, jnp.ones_like(std)
    scale = jax.lax.select(kept, spread / jax.lax.select(kept, std, one), one)
    changed = {}
    for number, (place, leg) in enumerate(zip(places, legs, strict=True)):
        leaf = leaves[place].astype(computing_dtype(leaves[place].dtype))
        rows = leg.read(leaf)
        rows = scale[:, None].astype(rows.dtype) * rows
        if number == 1:  # the bias: z -> scale (z - mean) + goal
            rows = rows + (goal - scale * mean)[:, None].astype(rows.dtype)
        changed[place] = leg.write(leaf, rows).astype(leaves[place].dtype)
    return changed


def _places(preactivations, params, units):
    require(len(units) > 0, "`units` must name at least one layer, got none.")
    values = jax.eval_shape(preactivations, params)
    names, leaves, places = leaf_names(params), jax.tree.leaves(params), {}
    for name, legs in units.items():
        require(
            name in values,
            f"`units` names {name!r}, which `preactivations` does not return: {sorted(values)}.",
        )
        require(
            is_floating(values[name]) and len(values[name].shape) >= 2,
            f"`preactivations` must return a floating array (..., units) for {name!r}, got "
            f"{describe(values[name])}.",
        )
        require(
            math.prod(values[name].shape[:-1]) > 0,
            f"`preactivations` returns no samples for {name!r}, got {describe(values[name])}; "
            "expected data to take the mean and spread of.",
        )
        require(
            len(legs) in (1, 2) and all(isinstance(leg, Leg) and not leg.gains for leg in legs),
            f"`units[{name!r}]` must be a Leg for the weight and one for the bias, without gains.",
        )
        places[name] = [find_leaf(leg.leaf, names) for leg in legs]
        for i, (place, leg) in enumerate(zip(places[name], legs, strict=True)):
            rows = jax.eval_shape(leg.read, leaves[place]).shape
            wanted = values[name].shape[-1]
            require(
                rows[0] == wanted and (i == 0 or rows[1] == 1),
                f"`units[{name!r}][{i}]` moves {rows[0]} rows of {rows[1]} of leaf {leg.leaf!r}; "
                f"expected {wanted} rows" + (" of 1, a bias." if i else "."),
            )
    _require_apart(units, places, leaves)
    return places


def _order(preactivations, params, places):
    """The numbers of the names, each after those that it depends on.

    Where names depend on each other as far as the leaves show, all of them are repeated as often as
    there are: after k rounds the first k are right, whatever their order.
    """
    names, number = list(places), len(places)
    reads = _leaves_read(preactivations, params, names)
    before = np.eye(number, dtype=bool)
    for i, j in itertools.product(range(number), repeat=2):
        before[i, j] |= bool(reads[names[j]] & set(places[names[i]]))
    for k in range(number):  # everything by way of k
        before |= before[:, k : k + 1] & before[k : k + 1]
    together = before & before.T
    firsts = sorted({int(row.argmax()) for row in together}, key=lambda i: (before[:, i].sum(), i))
    groups = [np.flatnonzero(together[i]).tolist() for i in firsts]
    return [i for group in groups for _ in group for i in group]


def _leaves_read(preactivations, params, names):
    """For each name, the positions of the leaves that its values depend on."""
    program, shape = jax.make_jaxpr(preactivations, return_shape=True)(params)
    paths = jax.tree_util.tree_flatten_with_path(shape)[0]
    owners = [path[0].key for path, _ in paths]
    reads = {}
    for name in names:
        wanted = [owner == name for owner in owners]
        _, used = partial_eval.dce_jaxpr(program.jaxpr, wanted)
        reads[name] = {i for i, is_used in enumerate(used) if is_used}
    return reads


def _require_apart(units, places, leaves):
    """ValueError where two names move the same entries: no order would mend both."""
    owner = {}
    for name, legs in units.items():
        for place, leg in zip(places[name], legs, strict=True):
            numbers = np.arange(math.prod(leaves[place].shape)).reshape(leaves[place].shape)
            with jax.ensure_compile_time_eval():
                entries = np.asarray(leg.read(jnp.asarray(numbers))).ravel()
            for other, taken in owner.get(place, []):
                require(
                    other == name or not np.isin(entries, taken).any(),
                    f"`units[{name!r}]` and `units[{other!r}]` both move entries of leaf "
                    f"{leg.leaf!r}; expected units of their own.",
                )
            owner.setdefault(place, []).append((name, entries))

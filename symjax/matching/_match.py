"""The group element that brings one model nearest to another."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from .._checks import (
    is_concrete,
    is_floating,
    path_name,
    require,
    require_key,
    require_same_tree,
)
from .._results import printed
from ..actions import PulledBack
from ..discovery import Acting, Symmetry, resolve
from ..linalg._precision import computing_dtype
from ..verification._change import function_change, require_measurable
from ._activations import push_activations
from ._collect import SOLVED, Activations
from ._elements import Element
from ._search import (
    ROUGH,
    SAME,
    anchored,
    balanced,
    descend,
    isometries,
    shuffled,
    squared_distance,
)
from ._solvers import FLOOR, add
from ._state import element_error, pull_back, start, with_shifts
from ._straight import Straight, straightened
from ._table import host_leaves, make_table
from ._units import find_units


@dataclasses.dataclass(frozen=True)
class Match:
    """What `match` found (host-only).

    Attributes:
        element: one group element for each symmetry that was used, in their order: the exact ones,
            or with ``approximate`` all; see `apply_element`.
        params: the parameters of B, moved; by ``element`` up to ``element_error``.
        before: the distance from A to B, over all floating leaves.
        after: the distance from A to the moved B; never more than ``before``, up to rounding.
        iterations: sweeps over all symmetries of the start that won.
        converged: whether its last sweep changed nothing.
        element_error: how far ``element`` applied to B is from ``params``, relative to their norm:
            rounding, in float64; ``notes`` warns where it is not.
        start: which start won: "as given", "anchored" or "restart 1", ...
        change: how much the outputs of B change, relative to their norm, measured on the inputs
            that were given with ``apply``; None without.
        notes: what a reader of the numbers must know, such as a group that the weights do not fix.
    """

    element: Element
    params: PyTree
    before: float
    after: float
    iterations: int
    converged: bool
    start: str
    element_error: float
    notes: tuple[str, ...] = ()
    change: float | None = None

    __repr__ = printed


def match(
    symmetries: Acting,
    params_a: PyTree,
    params_b: PyTree,
    *,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    by: Literal["weights", "activations"] = "weights",
    approximate: bool = False,
    activations: Mapping[int, tuple[Array, Array]] | None = None,
    restarts: int = 4,
    key: Key[Array, ""] | None = None,
) -> Match:
    """The element g of all the symmetries that brings g.B nearest to A, with g.B (host-only).

    min over g of |A - g.B|, by coordinate descent: permutations by linear assignment, orthogonal
    matrices by Procrustes, scales by the exact minimum of one variable, matrices of GL by least
    squares and Gauss-Newton steps, signs, phases and translations exactly, one after the other
    until nothing improves. The distance is not convex in g, so there are several starts. "As given"
    is B itself. The others first bring both models to the smallest norm on their orbits, which is
    convex, so that only isometries are left, and match these: "anchored" takes the symmetries in
    the order in which they can be known, from the inputs and outputs inwards; each of the
    ``restarts`` begins at random permutations, drawn with ``key``.

    The function of B does not change: symmetries that hold only up to a norm's epsilon are left
    out, see `symjax.discovery.resolve`. With ``approximate`` they are used like the others, and
    ``change`` and a note say what that did to the outputs ``apply(params, *inputs)``; ``inputs`` is
    their tuple, or a single one. With ``apply`` alone the change is measured as well.

    With ``by="activations"`` permutations, signs, rotations and matrices of GL are matched on what
    their axes hold when ``apply`` runs on ``inputs``, a list of batches, each a tuple of inputs or
    a single one. Where a symmetry's axis stands is found by evaluating the program at moved
    parameters; second moments are summed over the batches and no activation is stored. Permutations
    maximise the correlations of units, summed over all values that hold them; signs are those of
    the correlations; rotations solve Procrustes' problem and matrices least squares on the values
    themselves. One that stands beside others (the units of a head) waits until these are known.
    Scales, phases and translations are matched on the weights after that.

    ``activations`` maps the number of a symmetry (among those used) to a pair of arrays
    (samples, n): what its axis holds in A and in B on the same inputs. That symmetry is then
    matched on these (activation matching) and the others on the weights. Everything is computed in
    float64 with NumPy.

    The paper's Prop. 5.2 needs such permutations and its discussion asks for them.

    Raises ValueError for parameters of different structure, naming the first leaf that differs; for
    a NaN; for no symmetries; for ``approximate`` without ``apply``; for activations that do not fit
    or that do not determine the element; with ``by="activations"``, without ``apply`` and
    ``inputs``, or where a symmetry's axis stands in no value of the program alone, as in a scan.

    Example:
        >>> import symjax
        >>> from symjax import Leg, Permutation, Symmetry
        >>> action = symjax.linear_action(Permutation(2), [Leg(0, 0), Leg(1, 1)])
        >>> a = (jnp.array([[1.0], [2.0]]), jnp.array([[3.0, 4.0]]))
        >>> b = (jnp.array([[2.0], [1.0]]), jnp.array([[4.0, 3.0]]))
        >>> found = symjax.match([Symmetry("units", action, ("0", "1"))], a, b)
        >>> found.element[0].tolist(), found.after
        ([1, 0], 0.0)
    """
    require(
        by in ("weights", "activations"), f"`by` must be 'weights' or 'activations', got {by!r}."
    )
    batches = None
    if by == "activations":
        require(
            apply is not None and inputs is not None,
            "`by='activations'` needs `apply` and `inputs`, whose activations are compared.",
        )
        require(not activations, "`activations` are collected with `by='activations'`: give one.")
        batches = batches_of(inputs)
        inputs = batches[0]
    inputs = require_measurable(approximate, apply, inputs)
    symmetries = resolve(symmetries, approximate)
    require_matchable(symmetries, "params_a", params_a, "params_b", params_b, restarts)
    collect = None
    if batches is not None:
        collect = lambda table, state: _by_activations(
            apply, batches, table, symmetries, params_a, params_b, state
        )
    found = match_resolved(
        symmetries, params_a, params_b, activations or {}, restarts, key, collect
    )
    change = function_change(apply, inputs, params_b, found.params)
    if change is None:
        return found
    notes = (*found.notes, *approximation(symmetries, [change]))
    return dataclasses.replace(found, change=float(change), notes=notes)


def batches_of(inputs: Any) -> list[tuple[Any, ...]]:
    """Batches of inputs, each as a tuple; a tuple or an array is a single batch."""
    single = isinstance(inputs, tuple | dict) or hasattr(inputs, "dtype")
    found = [inputs] if single else list(inputs)
    require(len(found) > 0, "`inputs` holds no batch; expected one at least.")
    return [batch if isinstance(batch, tuple) else (batch,) for batch in found]


def _by_activations(apply, batches, table, symmetries, params_a, params_b, state):
    """The state matched to A on what the program holds, and the factors that are decided so."""
    holds = Activations(apply, table, symmetries, params_a, batches)
    device = lambda moved: public_params(table, moved, params_b)
    state, _, left = holds.matched(params_a, state, device)
    for i in left:
        factor = table.factors[i]
        name = symmetries[factor.symmetry].name
        require(
            factor.n == 1 and factor.kind == "permutation",
            f"`by='activations'` cannot match '{name}' ({factor.group.notation}): no value of the "
            "program that depends on the inputs is moved by it alone and determines it. Leave this "
            "symmetry out, or match it on weights.",
        )
    return state, [i for i, f in enumerate(table.factors) if f.kind in SOLVED]


def match_resolved(
    symmetries, params_a, params_b, activations, restarts, key, collect=None
) -> Match:
    """`match` by a tuple of symmetries, whatever they rest on, on models that fit."""
    # Activations are collected from the model itself, whose leaves are as they are.
    straight = (
        straightened(symmetries, params_a) if collect is None else Straight(tuple(symmetries), {})
    )
    symmetries = straight.symmetries
    table = make_table(symmetries, params_a)
    random = np.random.default_rng(np.asarray(jax.random.key_data(checked_key(key))).ravel())
    given_a, given_b = host_leaves(params_a), host_leaves(params_b)
    target, leaves = straight.forth(given_a), straight.forth(given_b)
    floating = [i for i, leaf in enumerate(jax.tree.leaves(params_a)) if is_floating(leaf)]

    given, free = push_activations(table, symmetries, start(table, leaves), activations)
    if collect is not None:
        given, solved = collect(table, given)
        free = [i for i in free if i not in solved]
    state, sweeps, converged, name = fit(table, target, given, free, floating, restarts, random)
    state = with_shifts(table, leaves, state)
    error = element_error(table, leaves, state)
    own = dataclasses.replace(state, leaves=straight.back(state.leaves))
    return Match(
        public_element(table, symmetries, state, params_b),
        moved := public_params(table, own, params_b),
        squared_distance(given_a, given_b, floating) ** 0.5,
        squared_distance(given_a, host_leaves(moved), floating) ** 0.5,
        sweeps,
        converged,
        name,
        error,
        (
            *not_reached(error),
            *_at_rest(symmetries),
            *_undetermined(table, symmetries, target, "A"),
            *_undetermined(table, symmetries, leaves, "B"),
        ),
    )


def fit(table, target, given, free, floating, restarts, random):
    """The state nearest to the target over all starts, its sweeps, if it settled, its start."""
    best, size = None, squared_distance(target, tuple(0 * x for x in target), floating)
    search = functools.partial(
        descend, table, find_units(table, free), target, free=free, isometric=False, random=random
    )
    for name, before, state in _starts(table, target, given, free, restarts, random):
        state, sweeps, _ = search(state, still=ROUGH)
        distance = squared_distance(target, state.leaves, floating)
        if best is None or distance < best[0]:
            best = distance, name, state, before + sweeps
        if best[0] <= SAME**2 * size:
            break
    assert best is not None
    _, name, state, before = best
    state, sweeps, converged = search(state)
    return state, sweeps + before, converged, name


def checked_key(key: Key[Array, ""] | None) -> Key[Array, ""]:
    """The key, or the default one; ValueError for what is none."""
    key = jax.random.key(0) if key is None else key
    require_key(key)
    return key


def require_matchable(
    symmetries: Sequence[Symmetry], name_a: str, a: PyTree, name_b: str, b: PyTree, restarts: int
) -> None:
    """Raise ValueError unless two models can be matched by these symmetries."""
    require(
        len(symmetries) > 0,
        "`symmetries` must hold at least one; approximate ones count only with `approximate`.",
    )
    require(
        isinstance(restarts, int) and restarts >= 0,
        f"`restarts` must be a number of restarts, 0 or more, got {restarts!r}.",
    )
    for path, leaf in jax.tree_util.tree_flatten_with_path(a)[0]:
        require(
            hasattr(leaf, "dtype") or isinstance(leaf, int | float | complex),
            f"`{name_a}` must be a tree of arrays, and leaf '{path_name(path)}' is a "
            f"{type(leaf).__name__}: match the `params` that an adapter returns, not the model.",
        )
    require_same_tree(name_a, a, name_b, b)
    require(
        is_concrete(a, b),
        "matching runs on the host: call it outside jit, on concrete parameters.",
    )
    _require_finite(name_a, a)
    _require_finite(name_b, b)


def _require_finite(name, params):
    # On the host: `require_finite` compiles a program for every shape of a leaf.
    paths = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    for path, leaf in zip(paths, host_leaves(params), strict=True):
        require(
            leaf.dtype.kind != "f" or bool(np.isfinite(leaf).all()),
            f"`{name}` holds a NaN or an infinity at leaf '{path}'; expected finite numbers.",
        )


def _starts(table, target, given, free, restarts, random):
    """Each start with its name and the sweeps over isometries that it took."""
    isometric = isometries(table, free)
    units = find_units(table, isometric)
    level = with_shifts(table, target, balanced(table, start(table, target), free))
    begin = balanced(table, given, free)
    if not isometric:
        restarts = 0
    for number in range(1 + restarts):
        if number == 0:
            state = anchored(table, units, level.leaves, begin, free=free)
        else:
            state = shuffled(table, begin, free, random)
        state, sweeps, _ = descend(
            table, units, level.leaves, state, free=isometric, isometric=True, random=random
        )
        name = f"restart {number}" if number else "anchored"
        yield name, sweeps, pull_back(table, state, level)
    yield "as given", 0, given


def public_element(table, symmetries, state, params):
    """The element as the groups hold it, in the dtype of the parameters."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params) if is_floating(leaf)]
    dtype = computing_dtype(*dtypes)
    entries = [[] for _ in symmetries]
    for factor, h in zip(table.factors, state.element, strict=True):
        g = factor.write(h)
        entries[factor.symmetry].append(jnp.asarray(g, None if g.dtype.kind == "i" else dtype))
    return tuple(
        symmetry.group.element(tuple(entry)) if entry else symmetry.group.identity(dtype)
        for symmetry, entry in zip(symmetries, entries, strict=True)
    )


def public_params(table, state, params):
    """The moved parameters in the dtypes of ``params``; a leaf that none moves is the same one."""
    leaves, structure = jax.tree.flatten(params)
    moved = [
        jnp.asarray(here.astype(leaf.dtype)) if table.touching(i) else leaf
        for i, (leaf, here) in enumerate(zip(leaves, state.leaves, strict=True))
    ]
    return jax.tree.unflatten(structure, moved)


def approximation(symmetries, changes):
    """A note where symmetries were used that hold only approximately."""
    names = ", ".join(f"'{s.name}'" for s in symmetries if not s.exact)
    if names:
        size = max(float(change) for change in changes)
        yield f"{names} hold only approximately: the outputs change by {size:.1e} (relative)."


def not_reached(error):
    """A note where the element does not lead to the parameters that are handed back."""
    if error > SAME:
        yield (
            f"`element` applied to B is {error:.1g} (relative) from `params`: some of its factors "
            "do not commute and were not told apart. Use `params`, not `element`."
        )


def _at_rest(symmetries):
    """A note for what is not solved for."""
    names = [s.name for s in symmetries if isinstance(s.action, PulledBack)]
    if names:
        yield (
            f"{len(names)} of {len(symmetries)} symmetries act in other coordinates "
            f"({', '.join(dict.fromkeys(names))}); they are left at their identity."
        )


def _undetermined(table, symmetries, leaves, model):
    """A note for every matrix group whose places have fewer directions than it moves."""
    for factor in table.factors:
        if factor.kind != "linear":
            continue
        for sign, word in ((1, "writes"), (-1, "reads")):
            places = [p.unfold(leaves) for p in factor.places if p.power * sign > 0]
            if not places:
                continue
            values = np.linalg.eigvalsh(add(x @ x.mT for x in places))
            rank = int((values > FLOOR * np.maximum(values[..., -1:], 1e-300)).sum(-1).min())
            if rank < values.shape[-1]:
                yield (
                    f"'{symmetries[factor.symmetry].name}': what {word} this axis in {model} has "
                    f"rank {rank} of {values.shape[-1]}; the element is not determined there."
                )

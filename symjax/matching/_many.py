"""Matching more than two models: all to one of them, then each to the mean of the others."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from .._checks import is_floating, require
from .._results import printed
from ..discovery import Acting, Symmetry, resolve
from ..verification._change import function_change, require_measurable
from ._elements import Element
from ._match import (
    approximation,
    checked_key,
    match_resolved,
    not_reached,
    public_element,
    public_params,
    require_matchable,
)
from ._search import SAME, squared_distance
from ._state import State, element_error, push, start, with_shifts
from ._table import Table, host_leaves, make_table

SETTLED = 1e-5
"""A round that lowers the sum of squares by less than this part of it is the last one."""


@dataclasses.dataclass(frozen=True)
class ManyMatch:
    """What `match_many` found (host-only).

    Attributes:
        elements: for each model, the element that brings it into the coordinates of the reference,
            whose own is the identity.
        params: the models, each moved by its element.
        mean: the mean of ``params``; a leaf that is not floating is the reference's.
        before: the sum of |model - mean|^2 over the models as given.
        history: the same sum once all are matched to the reference, and after each round; it never
            increases.
        converged: whether the last round changed nothing, up to 1e-5, or left nothing to change;
            without rounds, whether the matches to the reference converged.
        notes: what a reader of the numbers must know, as in `Match`.
        change: for each model how much its outputs change, as in `Match`; None without ``apply``.
    """

    elements: tuple[Element, ...]
    params: tuple[PyTree, ...]
    mean: PyTree
    before: float
    history: Float[np.ndarray, " rounds_and_one"]
    converged: bool
    notes: tuple[str, ...] = ()
    change: tuple[float, ...] | None = None

    __repr__ = printed


def match_many(
    symmetries: Acting,
    models: Sequence[PyTree],
    *,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
    reference: int = 0,
    rounds: int = 10,
    restarts: int = 4,
    key: Key[Array, ""] | None = None,
) -> ManyMatch:
    """Elements that bring several models into one set of coordinates, and their mean (host-only).

    First each model is matched to ``models[reference]``. Then, in each of at most ``rounds``, one
    model after the other is matched to the mean of all the others, and is moved where that lowers
    the sum of |g_i.B_i - mean|^2: coordinate descent, until a round lowers it by less than 1e-5 of
    it. ``rounds=0`` leaves every model matched to the reference alone. The reference never moves:
    it keeps scales from shrinking all models together.

    The elements are consistent around every cycle, because all lead to one place: model j in the
    coordinates of model i is g_i^-1 g_j B_j, ``apply_element(symmetries, g_i,
    apply_element(symmetries, g_j, B_j), inverse=True)``, and by way of a third model it is the
    same. ``restarts`` and ``key`` as in `match`, which does each step, and so are ``approximate``,
    ``apply`` and ``inputs``; like its distance, the sum is not convex, and nothing promises the
    least one.

    Raises ValueError for fewer than two models, models of different structure, naming the first
    leaf that differs, a NaN, or options out of range.

    Example:
        >>> import symjax
        >>> from symjax import Leg, Permutation, Symmetry
        >>> action = symjax.linear_action(Permutation(2), [Leg(0, 0), Leg(1, 1)])
        >>> a = (jnp.array([[1.0], [2.0]]), jnp.array([[3.0, 4.0]]))
        >>> b = (jnp.array([[2.2], [1.2]]), jnp.array([[4.0, 3.0]]))
        >>> c = (jnp.array([[2.4], [1.4]]), jnp.array([[4.0, 3.0]]))
        >>> found = match_many([Symmetry("units", action, ("0", "1"))], [a, b, c])
        >>> [round(w.item(), 3) for w in found.mean[0]], [g[0].tolist() for g in found.elements]
        ([1.2, 2.2], [[0, 1], [1, 0], [1, 0]])
    """
    inputs = require_measurable(approximate, apply, inputs)
    symmetries = resolve(symmetries, approximate)
    _check(symmetries, models, reference, rounds, restarts)
    leaves = jax.tree.leaves(models[0])
    search = _Problem(
        symmetries,
        models,
        restarts,
        checked_key(key),
        make_table(symmetries, models[0]),
        [host_leaves(model) for model in models],
        [i for i, leaf in enumerate(leaves) if is_floating(leaf)],
    )
    others = [k for k in range(len(models)) if k != reference]
    begin = states = [start(search.table, origin) for origin in search.origins]
    converged = True
    for k in others:
        states, done = search.move(states, k, states[reference].leaves, 0, always=True)
        converged &= done
    history = [search.spread(states)]
    for number in range(rounds):
        if converged := history[-1] <= SAME**2 * search.size(states):
            break
        for k in others:
            rest = [s.leaves for i, s in enumerate(states) if i != k]
            states, _ = search.move(states, k, search.mean(rest), 1 + number)
        history.append(search.spread(states))
        if converged := history[-2] - history[-1] <= SETTLED * history[-2]:
            break
    found = search.result(states, reference, search.spread(begin), history, converged)
    pairs = zip(models, found.params, strict=True)
    changes = (function_change(apply, inputs, p, q) for p, q in pairs)
    change = tuple(float(c) for c in changes if c is not None)
    if not change:
        return found
    notes = (*found.notes, *approximation(symmetries, change))
    return dataclasses.replace(found, change=change, notes=notes)


def _check(symmetries, models, reference, rounds, restarts):
    require(
        isinstance(models, Sequence) and len(models) >= 2,
        "`models` must be a sequence of at least two models, got "
        + (f"{len(models)}." if isinstance(models, Sequence) else f"{type(models).__name__}."),
    )
    require(
        isinstance(reference, int) and 0 <= reference < len(models),
        f"`reference` must be the number of one of {len(models)} models, got {reference!r}.",
    )
    require(
        isinstance(rounds, int) and rounds >= 0,
        f"`rounds` must be a number of rounds, 0 or more, got {rounds!r}.",
    )
    for k, model in enumerate(models):
        require_matchable(symmetries, "models[0]", models[0], f"models[{k}]", model, restarts)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """What all steps share: the models, also in float64, and how one of them is moved."""

    symmetries: tuple[Symmetry, ...]
    models: Sequence[PyTree]
    restarts: int
    key: Key[Array, ""]
    table: Table
    origins: list[tuple[np.ndarray, ...]]
    floating: list[int]

    def move(self, states, k, target, number, *, always=False):
        """Model k matched to a target and moved by what was found, if it comes nearer to it."""
        key = jax.random.fold_in(self.key, number * len(states) + k)
        there, here = self.params(k, target), self.params(k, states[k].leaves)
        found = match_resolved(self.symmetries, there, here, {}, self.restarts, key)
        state = _moved(self.table, self.origins[k], states[k], found.element, self.symmetries)
        distance = lambda s: squared_distance(target, s.leaves, self.floating)
        if always or distance(state) < distance(states[k]):
            states = [*states[:k], state, *states[k + 1 :]]
        return states, found.converged

    def params(self, k, leaves):
        """Leaves in float64 as parameters in the dtypes of model k."""
        own, structure = jax.tree.flatten(self.models[k])
        rows = enumerate(zip(own, leaves, strict=True))
        cast = [jnp.asarray(x.astype(w.dtype)) if i in self.floating else w for i, (w, x) in rows]
        return jax.tree.unflatten(structure, cast)

    def mean(self, rows):
        """The mean of the floating leaves of several models; other leaves are the first's."""
        pairs = enumerate(zip(*rows, strict=True))
        # A mean of numbers is a NumPy scalar: leaves are arrays, of no axis too.
        return [np.asarray(np.mean(x, axis=0) if i in self.floating else x[0]) for i, x in pairs]

    def spread(self, states):
        """The sum of |model - mean|^2."""
        mean = self.mean([s.leaves for s in states])
        return sum(squared_distance(mean, s.leaves, self.floating) for s in states)

    def size(self, states):
        """The sum of |model|^2."""
        zero = [0 * x for x in states[0].leaves]
        return sum(squared_distance(zero, s.leaves, self.floating) for s in states)

    def result(self, states, reference, before, history, converged):
        """What the caller gets."""
        table, rows = self.table, list(zip(self.origins, states, self.models, strict=True))
        notes = {}
        for origin, state, _ in rows:
            notes |= dict.fromkeys(not_reached(element_error(table, origin, state)))
        return ManyMatch(
            tuple(public_element(table, self.symmetries, s, model) for _, s, model in rows),
            tuple(public_params(table, s, model) for _, s, model in rows),
            self.params(reference, self.mean([s.leaves for s in states])),
            before,
            np.array(history),
            converged,
            tuple(notes),
        )


def _moved(
    table: Table,
    origin: Sequence[np.ndarray],
    state: State,
    element: Element,
    symmetries: Sequence[Symmetry],
) -> State:
    """A state moved by an element on top of its own, and the one element that does both."""
    factors = list(table.factors)
    for i in sorted(range(len(factors)), key=lambda i: factors[i].order):
        factor = factors[i]
        g = element[factor.symmetry]
        part = symmetries[factor.symmetry].group.entries(g)[factor.number]
        state = push(table, state, i, factor.read(part))
    return with_shifts(table, origin, state)

"""Learned matching of several models, and the mean that belongs to it."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from .._checks import is_floating, require, require_key, require_same_tree
from .._results import printed
from ..discovery import Acting, resolve
from ._chord import Chord, Divergence, Objective, end_change, exactness, split_batches
from ._elements import Element
from ._learn import learn, without_static
from ._match import public_element, public_params
from ._relative import push_all
from ._state import start, with_shifts
from ._table import host_leaves, make_table


@dataclasses.dataclass(frozen=True)
class LearnedMany:
    """What `learn_many` found (host-only).

    Attributes:
        params: the models, each moved along its orbit.
        elements: what moves each of the given models there, see `apply_element`.
        mean: the average of ``params``.
        before, after: how far the loss of the plain and of the learned average is above the mean
            loss of the models, on held-out data; for an objective without a loss the mean
            divergence of the average from the models. Never more ``after`` than ``before``.
        end_errors: how much the outputs (the losses, without outputs) of each model change on the
            held-out data, relative to their size.
        notes: what a reader of the numbers must know.
    """

    params: tuple[PyTree, ...]
    elements: tuple[Element, ...]
    mean: PyTree
    before: float
    after: float
    end_errors: tuple[float, ...]
    notes: tuple[str, ...] = ()

    __repr__ = printed


def learn_many(
    objective: Objective,
    symmetries: Acting,
    models: Sequence[PyTree],
    batches: Iterable[Any],
    *,
    key: Key[Array, ""],
    held_out: Iterable[Any] | None = None,
    divergence: Divergence = "softmax",
    approximate: bool = False,
    **options: Any,
) -> LearnedMany:
    """Several models moved along their orbits until their average is good (host-only).

    One after the other: the average of the first k, which is a model like any other, is matched
    with the next by `learn`; what moves the average moves the k models too, as the action is
    linear in the parameters, and the next average is theirs and the new one's. Where the learned
    average is no better than the plain one on the held-out data, the models come back as given.
    The other arguments are those of `learn`.

    Raises ValueError for fewer than two models, and where `learn` does.

    Example, three networks with one ReLU unit of another scale each:
        >>> import symjax
        >>> apply = lambda p, x: p["u"] * jax.nn.relu(p["v"] * x)
        >>> models = [{"v": jnp.array([c]), "u": jnp.array([1 / c])} for c in (0.25, 1.0, 4.0)]
        >>> batches = jax.random.uniform(jax.random.key(0), (8, 4))
        >>> loss = lambda p, x: jnp.mean((apply(p, x) - x) ** 2)
        >>> found = learn_many(
        ...     loss, symjax.find_symmetries(apply, models[0], batches[0]), models, batches,
        ...     key=jax.random.key(1), steps=20)
        >>> found.before > 0.5, found.after < 1e-6
        (True, True)
    """
    require_key(key)
    models = tuple(models)
    require(len(models) >= 2, f"`models` must hold two models or more, got {len(models)}.")
    for i, model in enumerate(models[1:], 1):
        require_same_tree("models[0]", models[0], f"models[{i}]", model)
    hide, show = without_static(models[0])
    models = tuple(map(hide, models))
    seen = lambda params, batch: objective(show(params), batch)
    symmetries = resolve(symmetries, approximate)
    train, held = split_batches(batches, held_out)
    table = make_table(symmetries, models[0])
    states = [start(table, host_leaves(model)) for model in models]
    device = lambda i: public_params(table, states[i], models[i])
    mean, notes = models[0], []
    for k in range(1, len(models)):
        found = learn(
            seen,
            symmetries,
            mean,
            models[k],
            train,
            key=jax.random.fold_in(key, k),
            held_out=held,
            divergence=divergence,
            approximate=approximate,
            **options,
        )
        notes += [f"models[{k}]: {note}" for note in found.notes]
        for i in range(k + 1):
            element = found.element if i == k else found.element_a
            states[i] = _pushed(table, symmetries, states[i], element)
        mean = _average([device(i) for i in range(k + 1)])
    states = [
        with_shifts(table, host_leaves(model), state)
        for model, state in zip(models, states, strict=True)
    ]
    moved = [device(i) for i in range(len(models))]
    chord = Chord(seen, divergence)
    before, after = (_height(chord, models, m, held) for m in (_average(models), mean))
    ends = jax.jit(chord.ends)
    errors = [
        end_change([ends(m, m, x) for x in held], [ends(n, n, x) for x in held])[0]
        for m, n in zip(models, moved, strict=True)
    ]
    if not after <= before or max(errors) > exactness(models[0]):
        notes.append("Nothing was better on held-out data than the average of the models as given.")
        states = [start(table, host_leaves(model)) for model in models]
        moved, mean, after, errors = list(models), _average(models), before, [0.0] * len(models)
    rows = zip(states, models, strict=True)
    return LearnedMany(
        tuple(map(show, moved)),
        tuple(public_element(table, symmetries, state, model) for state, model in rows),
        show(mean),
        before,
        after,
        tuple(errors),
        tuple(notes),
    )


def _pushed(table, symmetries, state, element):
    """The state moved by a public element."""
    rows = {}
    for i, factor in enumerate(table.factors):
        group: Any = symmetries[factor.symmetry].group
        rows[i] = factor.read(group.entries(element[factor.symmetry])[factor.number])
    return push_all(table, state, rows)


def _average(models):
    mean = lambda *x: sum(x[1:], x[0]) / len(x) if is_floating(x[0]) else x[0]
    return jax.tree.map(mean, *models)


def _height(chord, models, mean, batches) -> float:
    """How far the loss of the mean is above that of the models, or how far its outputs are."""

    @jax.jit
    def one(mean, batch):
        loss, outputs = chord.parts(mean, batch)
        found = []
        for model in models:
            own = chord.parts(model, batch)
            if loss is None:
                found.append(chord.apart(outputs, own[1], own[1], jnp.zeros((), outputs.dtype)))
            else:
                found.append(loss - own[0])
        return sum(found[1:], found[0]) / len(found)

    found = float(np.mean([float(one(mean, batch)) for batch in batches]))
    return found if np.isfinite(found) else float("inf")

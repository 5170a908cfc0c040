"""Learned matching: the element that makes the chord between two models low, on data."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from .._checks import (
    is_concrete,
    require,
    require_callable,
    require_count,
    require_key,
    require_same_tree,
)
from .._results import printed
from ..discovery import Acting, resolve
from ._chord import (
    EXACT,
    TIMES,
    Chord,
    Divergence,
    Judge,
    Objective,
    end_change,
    exactness,
    require_objective,
    split_batches,
)
from ._collect import Activations
from ._elements import Element
from ._learning import Learned, Learner, default_optimiser
from ._match import public_element, public_params, require_matchable
from ._relative import model_dtype, push_all, push_coordinates
from ._solvers import assign, pairs_of
from ._starts import starts
from ._state import State, element_error, start, with_shifts
from ._table import Table, host_leaves, make_table

CHECKS = 20
"""How often the chord is judged on held-out data while it is learned."""

FLIPS = 12
"""How many discrete moves are tried."""

_TRAINING = (
    "`minimise='loss'` lets the chord fall below its ends, which is training in disguise: with as "
    "many directions as an orbit has, it fits the labels of the batches and not the models (0 % of "
    "the barrier on the data it learned on, 29 % on data held out). Leave `minimise='excess'`, "
    "which stops at the line between the ends' losses, or let `objective` return (loss, outputs) "
    "to distil both ends. `allow_training=True` does it all the same."
)


@dataclasses.dataclass(frozen=True)
class LearnedMatch:
    """What `learn` found (host-only).

    Attributes:
        params_a, params_b: the two models, moved along their orbits, whose chord was judged lowest.
        element_a, element: what moves the given A and B there, see `apply_element`.
        before, after: the barrier of the chord on held-out data: how far the mean loss rises above
            the line between the ends (the divergence from the ends' outputs, for an objective
            without a loss). Never more ``after`` than ``before``.
        train_before, train_after: the same on the batches that were learned on.
        end_errors: how much the outputs (the losses, without outputs) of A and of B change on the
            held-out data, relative to their size: at most 1,000 eps (a tenth, in half precision).
        element_error: how far the elements applied to A and B are from the moved parameters,
            relative; the larger of the two.
        start: which start was learned from ("balanced", "weights", "activations"), or "as given"
            where nothing was found to be better than what was handed in.
        steps: how many steps of the optimiser were taken, those of all starts together.
        history: a row (step, mean of the minimised objective, barrier on held-out data) per check.
        notes: what a reader of the numbers must know.
    """

    params_a: PyTree
    params_b: PyTree
    element_a: Element
    element: Element
    before: float
    after: float
    train_before: float
    train_after: float
    end_errors: tuple[float, float]
    element_error: float
    start: str
    steps: int
    history: tuple[tuple[int, float, float], ...]
    notes: tuple[str, ...] = ()

    __repr__ = printed


def learn(
    objective: Objective,
    symmetries: Acting,
    params_a: PyTree,
    params_b: PyTree,
    batches: Iterable[Any],
    *,
    key: Key[Array, ""],
    held_out: Iterable[Any] | None = None,
    divergence: Divergence = "softmax",
    permutations: Literal["sinkhorn", "fixed"] = "sinkhorn",
    steps: int = 1000,
    points: int = 4,
    optimiser: optax.GradientTransformation | None = None,
    patience: int = 8,
    minimise: Literal["excess", "loss"] = "excess",
    allow_training: bool = False,
    approximate: bool = False,
) -> LearnedMatch:
    """Two models moved along their orbits until the loss between them is low (host-only).

    `match` makes two models near, which for networks trained apart is the wrong aim: their average
    can still be as bad as a constant. Here an element of the symmetries is learned on the chord
    itself, so that every point (1 - t) A + t g.B works, and the functions of both ends stay.

    ``objective(params, batch)`` returns a loss (one real number), or outputs (an array) that are to
    stay between those of the ends, or both as (loss, outputs). At random points t of the chord, on
    a random batch, this is minimised:

        max(0, loss - (1 - t) loss_A - t loss_B) + divergence(outputs; outputs_A, outputs_B, t)

    The loss counts only above the line between the ends: below it the chord would be trained.
    ``divergence`` is "softmax" (KL of the mixture of the ends' softmax over the last axis),
    "squares" (the mean square from the line between the outputs), or a function (outputs,
    outputs_a, outputs_b, t) -> one number.

    Both models are first moved into one slice of their orbits, that of least norm, where gains are
    absorbed and circuits balanced. All symmetries there act linearly for every value of the
    parameters, so (1 - t) gA.A + t gB.B = gA.((1 - t) A + t (gA^-1 gB).B): a second moving side
    reaches nothing that one does not, and one relative element is learned, on B. It starts at the
    identity, at `match` on weights, and at activations where ``objective`` shows them; each is
    learned from for a tenth of the steps, and the best goes on. Scales learn their logarithms,
    matrices a Cayley transform, translations their vectors; permutations a Sinkhorn projection of
    falling temperature that ends in an assignment (``permutations="fixed"`` keeps those of the
    start); signs, and coordinates of matrices (their other components), are flipped where that
    lowers the objective.

    ``batches`` are trees of arrays of one shape; the last quarter is ``held_out`` unless named. The
    held-out data decide which of about 20 checks is the best and when to stop (after ``patience``
    checks without gain), so a third set is needed to measure the outcome without any selection.
    ``optimiser`` is Adam at 0.02, gradients clipped at norm 1; the updates are multiplied by a
    factor that falls to 0 in the last phase.

    Where nothing is better than the models as given, these come back and ``notes`` say so; where
    the objective becomes NaN, the best before it.

    Raises ValueError for an objective that fails, does not depend on the parameters or is NaN at an
    end; for batches of several shapes; for models of different structure, naming the first leaf;
    for no symmetries; and for ``minimise="loss"``, unless ``allow_training``: fitting the labels
    along an orbit is training in disguise, and does not hold on other data.

    Example, two networks with one ReLU unit of another scale each, whose average is wrong:
        >>> import symjax
        >>> apply = lambda p, x: p["u"] * jax.nn.relu(p["v"] * x)
        >>> a = {"v": jnp.array([4.0]), "u": jnp.array([0.25])}
        >>> b = {"v": jnp.array([0.25]), "u": jnp.array([4.0])}
        >>> batches = jax.random.uniform(jax.random.key(0), (8, 4))
        >>> loss = lambda p, x: jnp.mean((apply(p, x) - x) ** 2)
        >>> found = learn(
        ...     loss, symjax.find_symmetries(apply, a, batches[0]), a, b, batches,
        ...     key=jax.random.key(1), steps=40)
        >>> found.before > 1.0, found.after < 1e-6
        (True, True)
    """
    require_key(key)
    require_count("steps", steps)
    require_count("points", points)
    require_count("patience", patience)
    require(
        permutations in ("sinkhorn", "fixed"),
        f"`permutations` must be 'sinkhorn' or 'fixed', got {permutations!r}.",
    )
    require(
        minimise in ("excess", "loss"), f"`minimise` must be 'excess' or 'loss', got {minimise!r}."
    )
    require(minimise == "excess" or allow_training, _TRAINING)
    symmetries = resolve(symmetries, approximate)
    require_same_tree("params_a", params_a, "params_b", params_b)
    require(
        is_concrete(params_a, params_b, batches),
        "`learn` runs on the host: call it outside jit, on concrete parameters and batches.",
    )
    train, held = split_batches(batches, held_out)
    require_callable("objective", objective)
    hide, show = without_static(params_a)
    given = hide(params_a), hide(params_b)
    require_matchable(symmetries, "params_a", given[0], "params_b", given[1], 0)
    chord = Chord(lambda p, batch: objective(show(p), batch), divergence, minimise == "loss")
    table = make_table(symmetries, given[0])
    moving = sorted({leaf for f in table.factors for leaf in f.leaves})
    require_objective(chord, "params_a", given[0], train[0], moving)
    optimiser = default_optimiser() if optimiser is None else optimiser
    search = _Search(chord, table, symmetries, given, train, held, optimiser, points, steps, key)
    search.all(permutations == "sinkhorn", patience)
    found = search.result()
    return dataclasses.replace(found, params_a=show(found.params_a), params_b=show(found.params_b))


def without_static(params: PyTree):
    """(hide, show): leaves that are no arrays (functions of a module) as zeros, and put back."""
    static = {i: x for i, x in enumerate(jax.tree.leaves(params)) if not hasattr(x, "dtype")}

    def replaced(tree, values):
        if not static:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        return jax.tree.unflatten(structure, [values.get(i, x) for i, x in enumerate(leaves)])

    hide = lambda tree: replaced(tree, dict.fromkeys(static, jnp.zeros((), jnp.int32)))
    return hide, lambda tree: replaced(tree, static)


@dataclasses.dataclass
class _Best:
    """The lowest chord so far: both states, the coordinates that move B on, and its barrier."""

    name: str
    a: State
    b: State
    coordinates: dict[str, Array]
    barrier: float
    height: float


class _Search:
    """The phases of learning, and what they found."""

    def __init__(
        self, chord, table, symmetries, models, train, held, optimiser, points, steps, key
    ):
        self.table: Table = table
        self.symmetries, self.models = symmetries, models
        a, b = models
        self.judge = Judge(chord)
        self.train, self.held = train, held
        self.train_ends = self.judge.ends(a, b, train)
        self.held_ends = self.judge.ends(a, b, held)
        self._require_finite_ends()
        self.learner = Learner(chord, table, symmetries, train, self.train_ends, optimiser, points)
        self.dtype = model_dtype(models[0])
        self.every = max(1, steps // CHECKS)
        self.rounds, self.key = max(1, steps // self.every), key
        self.leaves = host_leaves(a), host_leaves(b)
        self.taken, self.history, self.notes = 0, [], []
        curve = self.judge.curve(a, b, held, self.held_ends, TIMES)
        given = start(table, self.leaves[0]), start(table, self.leaves[1])
        self.given = self.best = _Best("as given", *given, {}, curve.barrier, curve.height)

    def _require_finite_ends(self):
        for name, i in (("params_a", 0), ("params_b", 1)):
            for ends in (*self.train_ends, *self.held_ends):
                for pair in (ends.losses, ends.outputs):
                    require(
                        pair is None or bool(jnp.isfinite(pair[i]).all()),
                        f"`objective` is NaN or infinite at `{name}` itself.",
                    )

    def all(self, permuting: bool, patience: int) -> None:
        """Every start for a while, then the best of them to the end."""
        random = np.random.default_rng(np.asarray(jax.random.key_data(self.key)).ravel())
        trials = []
        holds = Activations(
            self.judge.chord.objective,
            self.table,
            self.symmetries,
            self.models[0],
            [(batch,) for batch in self.train],
        )
        device = lambda state: self.device(state, 1)
        for name, a, b in starts(self.table, *self.leaves, random, holds, device):
            learned = self.learner.start(self.dtype)
            self.consider(name, a, b, learned.coordinates)
            rounds = max(1, self.rounds // 10) if learned.coordinates else 0
            learned = self.rounds_of(name, a, b, learned, rounds)
            trials.append((self.score(a, b, learned.coordinates), name, a, b, learned))
        score, name, a, b, learned = min(trials, key=lambda row: row[0])
        if permuting and any(f.kind == "permutation" and f.n > 1 for f in self.table.factors):
            b, learned = self.permuted(score, name, a, b, learned)
        b = self.flipped(name, a, b, learned)
        if learned.coordinates:
            self.rounds_of(name, a, b, learned, self.rounds, patience)

    def device(self, state: State, i: int) -> PyTree:
        """A state as parameters, in the dtypes of the models."""
        return public_params(self.table, state, self.models[i])

    def consider(self, name, a, b, coordinates) -> bool:
        """Judge a chord on held-out data, and keep it if it is the lowest."""
        moved = self.learner.moved(coordinates, self.device(b, 1))
        curve = self.judge.curve(self.device(a, 0), moved, self.held, self.held_ends, TIMES)
        self.latest = curve.barrier
        better = (curve.barrier, curve.height) < (self.best.barrier, self.best.height)
        if better:
            self.best = _Best(name, a, b, coordinates, curve.barrier, curve.height)
        return better

    def score(self, a, b, coordinates) -> float:
        """How high the chord is on (some of) the batches that are learned on."""
        some = slice(0, max(4, len(self.held)))
        moved = self.learner.moved(coordinates, self.device(b, 1))
        data, ends = self.train[some], self.train_ends[some]
        return self.judge.curve(self.device(a, 0), moved, data, ends, TIMES).height

    def rounds_of(self, name, a, b, learned, rounds, patience=None) -> Learned:
        """Some rounds of steps with permutations held; with patience they are the last ones."""
        a_here, b_here, state, idle = self.device(a, 0), self.device(b, 1), None, 0
        for number in range(rounds):
            progress = (number + np.arange(self.every) / self.every) / rounds
            rates = (1 + np.cos(np.pi * progress)) / 2 if patience else 0 * progress + 1
            chunk = self.step(learned, state, a_here, b_here, progress, rates)
            learned, state = chunk.learned, chunk.state
            idle = 0 if self.consider(name, a, b, learned.coordinates) else idle + 1
            self.record(chunk)
            if not chunk.finite or idle == patience:
                break
        return learned

    def permuted(self, score, name, a, b, learned) -> tuple[State, Learned]:
        """Some rounds with permutations learned; what the best assignment leaves of B."""
        a_here, b_here, state = self.device(a, 0), self.device(b, 1), None
        best = score, b, learned
        both = Learned(learned.coordinates, self.logits(a, b))
        rounds = max(1, self.rounds // 2)
        for number in range(rounds):
            progress = (number + np.arange(self.every) / self.every) / rounds
            chunk = self.step(both, state, a_here, b_here, progress, 0 * progress + 1)
            both, state = chunk.learned, chunk.state
            hard = {int(i): assign(np.asarray(x, np.float64)) for i, x in both.logits.items()}
            trial = push_all(self.table, b, hard)
            now = self.score(a, trial, both.coordinates)
            if now < best[0]:
                best = now, trial, Learned(both.coordinates, {})
            self.consider(name, a, trial, both.coordinates)
            self.record(chunk)
            if not chunk.finite:
                break
        return best[1], best[2]

    def logits(self, a: State, b: State):
        """For every permutation how alike the rows of A and B are, from -1 to 1."""
        found = {}
        for i, factor in enumerate(self.table.factors):
            if factor.kind == "permutation" and factor.n > 1:
                pairs = [p[1:] for p in pairs_of(factor, a.leaves, b.leaves)]
                size = lambda z: np.sqrt(sum(np.sum(x * x, -1) for x in z))
                overlap = sum(x @ y.mT for x, y in pairs)
                norms = size([p[0] for p in pairs])[..., :, None]
                norms = norms * size([p[1] for p in pairs])[..., None, :]
                found[str(i)] = jnp.asarray(overlap / np.maximum(norms, 1e-300), self.dtype)
        return found

    def flipped(self, name, a, b, learned) -> State:
        """The state after those discrete moves that lower the objective."""
        flips = self.learner.flips(
            learned.coordinates, self.device(a, 0), self.device(b, 1), tries=FLIPS
        )
        if flips:
            b = push_all(self.table, b, flips)
            self.consider(name, a, b, learned.coordinates)
        return b

    def step(self, learned, state, a, b, progress, rates):
        """One round of steps."""
        self.key, key = jax.random.split(self.key)
        return self.learner.run(learned, state, key, a, b, progress, rates)

    def record(self, chunk) -> None:
        """A row of the history; a note where the objective was NaN."""
        self.taken += len(chunk.values)
        self.history.append((self.taken, float(np.mean(chunk.values)), self.latest))
        if not chunk.finite:
            self.notes.append(
                f"The objective or its slope was NaN or infinite before step {self.taken}: "
                "learning stopped, and the best that was found until then is returned."
            )

    def result(self) -> LearnedMatch:
        """The best chord, if its ends are still the functions that they were."""
        best, errors = self.checked() if self.best.name != "as given" else (self.given, (0.0, 0.0))
        a, b = models = self.models
        if best.name == "as given":
            self.notes.append("Nothing was better on held-out data than the models as given.")
        else:
            a, b = self.device(best.a, 0), self.device(best.b, 1)
        train = lambda a, b: self.judge.curve(a, b, self.train, self.train_ends, TIMES).barrier
        rows = zip(self.leaves, (best.a, best.b), strict=True)
        return LearnedMatch(
            a,
            b,
            public_element(self.table, self.symmetries, best.a, models[0]),
            public_element(self.table, self.symmetries, best.b, models[1]),
            self.given.barrier,
            best.barrier,
            train(models[0], models[1]),
            train(a, b),
            errors,
            max(element_error(self.table, leaves, state) for leaves, state in rows),
            best.name,
            self.taken,
            tuple(self.history),
            tuple(self.notes),
        )

    def checked(self) -> tuple[_Best, tuple[float, float]]:
        """The best chord, moved in float64, and the errors of its ends; else the models as given.

        As given where an end changed, or where the chord is higher than it was without rounding.
        """
        state = push_coordinates(self.table, self.best.b, self.best.coordinates)
        a = with_shifts(self.table, self.leaves[0], self.best.a)
        b = with_shifts(self.table, self.leaves[1], state)
        moved = self.device(a, 0), self.device(b, 1)
        curve = self.judge.curve(moved[0], moved[1], self.held, self.held_ends, TIMES)
        errors = end_change(self.held_ends, self.judge.ends(moved[0], moved[1], self.held))
        if max(errors) > exactness(self.models[0]):
            self.notes.append(
                f"The ends changed by {max(errors):.1e}, more than {EXACT} eps: what was found is "
                "not returned. A wider dtype may help."
            )
            return self.given, (0.0, 0.0)
        if curve.barrier > self.given.barrier:
            return self.given, (0.0, 0.0)
        best = _Best(self.best.name, a, b, {}, curve.barrier, curve.height)
        return best, errors

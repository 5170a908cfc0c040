"""One representative for all models that a whole group makes of one another (host-only)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._checks import is_concrete, require, require_finite
from .._results import printed
from ..discovery import Acting, resolve
from ..matching._elements import Element
from ..matching._match import public_element, public_params
from ..matching._search import balanced, unsettled
from ..matching._solvers import add
from ..matching._state import State, element_error, push, start, with_shifts
from ..matching._table import Factor, Table, host_leaves, make_table, to_complex
from ..verification._change import function_change, require_measurable

SIGNED = ("linear", "orthogonal", "sign", "complex")
"""Kinds of factors that still have signs (or phases) to choose once rows are in order."""


CLEAR = 1e-6
"""A choice by a smaller relative margin than this is not one that two models share."""


SETTLED = 1e-5
"""Balancing ends where the norm falls by 1e-13, and so its steps are below 1e-6, at a minimum."""


@dataclasses.dataclass(frozen=True)
class Representative:
    """The representative of a model modulo its symmetries (host-only).

    Attributes:
        params: the representative.
        element: what moves the given model there, for `symjax.matching.apply_element`.
        margin: how clearly the conventions decided, relative: the least gap between two norms or
            eigenvalues that were put in order, and the least size of a sum that chose a sign.
        undecided: the symmetries (numbers in the list) of which something was not decided: no
            convention could be asked, its margin is below 1e-6, where rounding may choose
            differently for two models of one orbit, or the norm has no minimum that was reached.
        element_error: how far ``element`` takes the model from ``params``, relative to their norm:
            rounding, in float64.
        change: how much the outputs change, relative to their norm; None without ``apply``.
    """

    params: PyTree
    element: Element
    margin: float
    undecided: tuple[int, ...]
    element_error: float
    change: float | None = None

    __repr__ = printed


def representative(
    symmetries: Acting,
    params: PyTree,
    *,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
) -> Representative:
    """A point that depends only on the orbit, by convention; modulo the whole group (host-only).

    First the norm is made least over scales and matrices (`minimum_norm`) and over translations,
    where a leaf that makes up for what is added to others counts little; isometries are left. Then,
    in this order:

    - matrices of GL(n) and O(n): rows become the eigenvectors of the Gram matrix X X^T of all that
      the group moves, by falling eigenvalue;
    - permutations: units by falling norm of all that moves with them;
    - signs, and the signs of those eigenvectors: the sum of cubes of a row is made positive, over
      leaves that no undecided sign moves, from the inputs and outputs inwards, and never over one
      where columns turn with the rows, as the weight of a recurrence; phases of complex scalings:
      the sum of z |z|^2 is made real and positive.

    Two generic models on one orbit have the same representative, to about 1e-7: scales are balanced
    to that. Where eigenvalues or norms are equal (``margin`` near 0) conventions cannot decide: at
    symmetric initialisations, and where a matrix group acts on fewer dimensions than its size, as
    in a linear network with a hidden layer wider than its output: the orbit of such weights is not
    closed. Computed in float64 with NumPy.

    Symmetries that hold only up to a norm's epsilon are left out, and the numbers in ``undecided``
    count those that are used, unless ``approximate``: then the function changes, and ``change``
    says by how much the outputs ``apply(params, *inputs)`` do, as in `symjax.match`.

    Raises ValueError under jit, for NaN, or where `symjax.match` would.

    Example:
        >>> from symjax import Leg, Permutation, Symmetry, linear_action
        >>> swap = Symmetry("units", linear_action(Permutation(2), [Leg(0, 0), Leg(1, 1)]), ())
        >>> w = (jnp.array([[1.0], [2.0]]), jnp.array([[3.0, 4.0]]))
        >>> [x.tolist() for x in representative([swap], w).params]
        [[[2.0], [1.0]], [[4.0, 3.0]]]
    """
    require(
        is_concrete(params),
        "`representative` runs on the host: call it outside jit, on concrete parameters.",
    )
    require_finite("params", params)
    inputs = require_measurable(approximate, apply, inputs)
    symmetries = resolve(symmetries, approximate)
    table = make_table(symmetries, params)
    leaves = host_leaves(params)
    state = balanced(table, start(table, leaves), range(len(table.factors)))
    moving = unsettled(table, state, SETTLED)
    margins: dict[int, float] = {}
    for kinds in (("linear", "orthogonal"), ("permutation",)):
        for i, factor in enumerate(table.factors):
            if factor.kind in kinds:
                h, margin = _ordered(factor, state)
                state = push(table, state, i, h)
                margins[i] = min(margin, margins.get(i, 1.0))
    state, waiting = _with_signs(table, state, margins)
    undecided = moving | waiting | {i for i, margin in margins.items() if not margin >= CLEAR}
    state = with_shifts(table, leaves, state)
    moved = public_params(table, state, params)
    change = function_change(apply, inputs, params, moved)
    return Representative(
        moved,
        public_element(table, symmetries, state, params),
        min(margins.values(), default=1.0),
        tuple(sorted({table.factors[i].symmetry for i in undecided})),
        element_error(table, leaves, state),
        None if change is None else float(change),
    )


def _ordered(factor: Factor, state: State) -> tuple[np.ndarray, float]:
    """The isometry that puts the rows of a factor in order, and the least relative gap."""
    rows = [p.unfold(state.leaves) for p in factor.places]
    if factor.kind == "permutation":
        sizes = add(np.sum(x**2, axis=-1) for x in rows)
        h = np.argsort(-sizes, axis=-1, kind="stable")
        return h, _gap(np.take_along_axis(sizes, h, axis=-1))
    values, vectors = np.linalg.eigh(add(x @ x.mT for x in rows))
    return vectors.mT[:, ::-1].copy(), _gap(values[:, ::-1])


def _gap(falling: np.ndarray) -> float:
    if falling.shape[-1] < 2:
        return 1.0
    return float(np.min(-np.diff(falling, axis=-1) / np.maximum(falling[..., :1], 1e-300)))


def _with_signs(table: Table, state: State, margins: dict[int, float]) -> tuple[State, set[int]]:
    """The state with every sign chosen that can be, and the factors where none could."""
    waiting = {i for i, f in enumerate(table.factors) if f.kind in SIGNED}
    while ready := {i: places for i in waiting if (places := _known(table, i, waiting))}:
        i = min(ready)
        h, margin = _signs(table.factors[i], ready[i], state)
        state = push(table, state, i, h)
        margins[i] = min(margin, margins.get(i, 1.0))
        waiting.discard(i)
    return state, waiting


def _known(table: Table, i: int, waiting: set[int]):
    """The places of a factor on leaves that no other undecided factor moves, nor itself twice.

    In the weight of a recurrence its columns turn with its rows.
    """
    others = {leaf for j in waiting - {i} for leaf in table.factors[j].leaves}
    places = table.factors[i].places
    return [p for p in places if p.leaf not in others and (i, p.leaf) not in table.twice]


def _signs(factor: Factor, places, state: State) -> tuple[np.ndarray, float]:
    """The signs (or phases) that make an odd statistic of each row positive."""
    rows = [p.unfold(state.leaves) for p in places]
    if factor.kind == "complex":
        rows = [to_complex(x) for x in rows]
    odd = add(np.sum(x * np.abs(x) ** 2, axis=-1) for x in rows)
    size = add(np.sum(np.abs(x) ** 3, axis=-1) for x in rows)
    margin = float(np.min(np.abs(odd) / np.maximum(size, 1e-300)))
    if factor.kind == "complex":
        return np.where(np.abs(odd) > 0, np.exp(-1j * np.angle(odd)), 1), margin
    signs = np.where(odd < 0, -1.0, 1.0)
    return (signs if factor.kind == "sign" else signs[..., None] * np.eye(factor.n)), margin

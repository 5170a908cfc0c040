"""Hypotheses about the gains of norms: not folded before the stream was turned, or folded and left.

Beside a gain that is not constant, what a norm reads has fewer symmetries. So B is asked once more
as if the gains that it shares with A were ones: if an element of that model's larger group explains
everything else, the gains are what fails.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..discovery import find_symmetries, resolve
from ..matching._table import make_table
from ._explain import Explanation, Problem, explain
from ._outputs import Outputs, relative

CLEAR = 1e-4
"""A gain is one that fails where leaving it in changes outputs by more than this, relative."""


@dataclass(frozen=True)
class GainsFail:
    """An explanation that holds but for some gains; ``wrong`` are names of all leaves that fail."""

    gains: tuple[str, ...]
    reason: str
    wrong: tuple[str, ...]


def candidates(problem: Problem, names: Sequence[str]) -> list[int]:
    """Leaves like gains that A and B share: of one sign, not constant, with a vector's axes."""
    found = []
    for i, tolerance in problem.tolerance.items():
        x = problem.a[i]
        gain = x.size > 1 and x.ndim <= 2 and (np.all(x > 0) or np.all(x < 0)) and np.ptp(x) > 0
        if gain and np.allclose(x, problem.b[i], rtol=tolerance, atol=0):
            found.append(i)
    return found


def not_folded(
    problem: Problem,
    names: Sequence[str],
    apply: Callable[..., PyTree],
    params: PyTree,
    inputs: tuple[Any, ...],
    outputs: Outputs,
    random: np.random.Generator,
) -> GainsFail | None:
    """Gains that were left in while the rest was moved as if they were ones."""
    gains = candidates(problem, names)
    if not gains:
        return None
    structure = jax.tree.structure(params)
    leaves = dict(zip(names, jax.tree.leaves(params), strict=True))
    pinned = {names[i]: np.ones_like(np.asarray(leaves[names[i]])) for i in gains}

    def without(rest, *inputs):
        whole = {k: jnp.asarray(v, _dtype(rest)) for k, v in pinned.items()} | rest
        return apply(jax.tree.unflatten(structure, [whole[name] for name in names]), *inputs)

    rest = {name: x for name, x in leaves.items() if name not in pinned}
    try:
        symmetries = resolve(find_symmetries(without, rest, *inputs))
    except (TypeError, ValueError):
        return None
    order = sorted(rest)
    at = {name: i for i, name in enumerate(names)}
    pick = lambda xs: tuple(xs[at[name]] for name in order)
    inner = Problem(
        make_table(symmetries, rest),
        pick(problem.a),
        pick(problem.b),
        {k: problem.tolerance[at[n]] for k, n in enumerate(order) if at[n] in problem.tolerance},
    )
    one = explain(inner, random)[0]
    moved = dict(zip(order, one.state.leaves, strict=True))
    guilty = tuple(
        name for name in pinned if _fails(name, pinned, leaves, moved, names, structure, outputs)
    )
    if not guilty:
        return None
    listed = ", ".join(f"'{name}'" for name in guilty)
    return GainsFail(
        guilty,
        f"{listed} not folded, or left behind: the other leaves are moved by an element that keeps "
        "the function only where these are constant (a rotation beside such a norm). "
        "Fold a gain into the weights that read it before rotating; a gain behind a norm that "
        "writes into the stream cannot be folded, only kept out of rotations.",
        (*guilty, *(order[i] for i in sorted(one.wrong))),
    )


def _fails(name, pinned, leaves, moved, names, structure, outputs):
    """Whether the element changes the function when this gain, and no other, is as it is."""
    rows = []
    for rest in (leaves, moved):
        whole = {**rest, **pinned, name: leaves[name]}
        rows.append(outputs.rows(jax.tree.unflatten(structure, [whole[n] for n in names])))
    return not relative(*rows) <= CLEAR


def folded_and_left(
    problem: Problem, names: Sequence[str], random: np.random.Generator
) -> tuple[GainsFail, Explanation] | None:
    """Gains that are in the weights of B and still stand where they stood: they act twice."""
    gains = [i for i in candidates(problem, names) if problem.a[i].ndim == 1]
    if not gains:
        return None
    ones = tuple(np.ones_like(x) if i in gains else x for i, x in enumerate(problem.b))
    other = Problem(problem.table, problem.a, ones, problem.tolerance)
    one = explain(other, random)[0]
    guilty = tuple(names[i] for i in gains if i not in one.wrong)
    if not guilty:
        return None
    listed = ", ".join(f"'{name}'" for name in guilty)
    fail = GainsFail(
        guilty,
        f"{listed} folded and left: the weights of B hold these gains already. Set them to ones.",
        (*guilty, *(names[i] for i in sorted(one.wrong))),
    )
    return fail, one


def _dtype(rest):
    return next(x.dtype for x in rest.values() if jnp.issubdtype(x.dtype, jnp.floating))

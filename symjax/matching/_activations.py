"""Matching on what a hidden axis holds, instead of on weights."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Array

from .._checks import describe, require
from ..discovery import Symmetry
from ._places import Place
from ._solvers import FLOOR, nearest
from ._state import State, push
from ._table import Table


def push_activations(
    table: Table,
    symmetries: Sequence[Symmetry],
    state: State,
    activations: Mapping[int, tuple[Array, Array]],
) -> tuple[State, list[int]]:
    """The state with some symmetries matched on activations, and the factors left to the weights.

    The element minimises |Z_a - g Z_b| over the samples, where Z holds one sample per column.
    """
    fixed = []
    for number, pair in activations.items():
        require(
            number in range(len(symmetries)),
            f"`activations` has the key {number!r}; expected the number of one of "
            f"{len(symmetries)} symmetries.",
        )
        own = [i for i, f in enumerate(table.factors) if f.symmetry == number]
        require(
            len(own) == 1,
            f"`activations[{number}]`: '{symmetries[number].name}' is a product of {len(own)} "
            "groups; activations are for a single one.",
        )
        factor = table.factors[own[0]]
        require(
            factor.kind != "shift" and not any(p.mirror for p in factor.places),
            f"`activations[{number}]`: there is no solver for {factor.group} on activations.",
        )
        a, b = _samples(number, pair, factor)
        x, y = (z.T.reshape(factor.count, -1, len(z)) for z in (a, b))
        h = nearest(factor, [(Place(0, (0,), "vector", factor.count), x, y)])
        if factor.kind == "linear":
            _require_determined(number, "A", a)
            _require_determined(number, "B", b)
            condition = np.linalg.cond(h).max()
            require(
                bool(condition < FLOOR**-0.5),
                f"`activations[{number}]` gives a matrix of condition number {condition:.1e}: the "
                "two do not determine an invertible one.",
            )
        state = push(table, state, own[0], h)
        fixed += own
    return state, [i for i in range(len(table.factors)) if i not in fixed]


def _samples(number, pair, factor):
    require(
        isinstance(pair, tuple | list) and len(pair) == 2,
        f"`activations[{number}]` must be a pair of arrays (samples, n), one for each model.",
    )
    n = factor.count * (2 * factor.n if factor.kind == "complex" else factor.n)
    arrays = [np.asarray(z).astype(np.float64) for z in pair]
    require(
        all(z.ndim == 2 and z.shape[1] == n for z in arrays) and arrays[0].shape == arrays[1].shape,
        f"`activations[{number}]` must be two arrays of one shape (samples, {n}), got "
        f"{describe(pair[0])} and {describe(pair[1])}.",
    )
    require(len(arrays[0]) > 0, f"`activations[{number}]` is empty: it has no samples.")
    require(
        all(np.isfinite(z).all() for z in arrays),
        f"`activations[{number}]` holds a NaN or an infinity; expected finite numbers.",
    )
    return arrays


def _require_determined(number, model, z):
    singular = np.linalg.svd(z, compute_uv=False)
    rank = int((singular > FLOOR**0.5 * max(singular[0], 1e-300)).sum())
    require(
        rank == z.shape[1],
        f"`activations[{number}]` of model {model} is rank-deficient: rank {rank} of {z.shape[1]} "
        f"from {len(z)} samples. No element of GL is determined by it: give more samples, or "
        "match this symmetry on weights.",
    )

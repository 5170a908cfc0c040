"""Where learned matching starts: both models in the slice of least norm, matched there or not."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import PyTree

from ._collect import Activations
from ._search import anchored, balanced, descend, isometries
from ._state import State, start
from ._table import Table
from ._units import find_units

SWEEPS = 50
"""Of coordinate descent on weights: it is only a start."""


def starts(
    table: Table,
    leaves_a: Sequence[np.ndarray],
    leaves_b: Sequence[np.ndarray],
    random: np.random.Generator,
    activations: Activations,
    device: Callable[[State], PyTree],
) -> Iterator[tuple[str, State, State]]:
    """(name, A, B) for every start: balanced, then matched by isometries on weights or activations.

    What activations do not decide is matched on weights after them.
    """
    free = range(len(table.factors))
    a, b = (balanced(table, start(table, x), free) for x in (leaves_a, leaves_b))
    yield "balanced", a, b
    isometric = isometries(table, free)
    if not isometric:
        return
    units = find_units(table, isometric)
    refine = lambda state, free, units: descend(
        table,
        units,
        a.leaves,
        state,
        free=free,
        isometric=True,
        random=random,
        still=1e-4,
        sweeps=SWEEPS,
    )[0]
    yield "weights", a, refine(anchored(table, units, a.leaves, b, free=free), isometric, units)
    matched, solved, _ = activations.matched(device(a), b, device, isometric=True)
    if solved:
        left = [i for i in isometric if i not in solved]
        yield "activations", a, refine(matched, left, find_units(table, left))

"""Rows evaluated on the graph that was read, at small sizes: exact ones, and ones up to epsilon."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ._graph import Graph, Node
from ._graph_model import GraphModel
from ._report import Symmetry
from ._small_sizes import Sizes, SmallLeaves

#: The most entries of an index set (a layer norm of two sees only which is larger); fewer where the
#: model would still be too large.
MOST_ENTRIES = 3, 2
#: What one node costs beside its arithmetic, in operations.
OVERHEAD = 50_000.0


@dataclass(frozen=True)
class Reading:
    """What was read of a model: its live nodes (before any was put together), names and shapes."""

    graph: Graph
    nodes: list[Node]
    names: Sequence[str]
    shapes: Sequence[tuple[int, ...]]
    #: By the identity of an action: the one that it is in the coordinates that the graph reads.
    bases: dict[int, Any] = field(default_factory=dict)

    def small(self, allowed: float, *, loose: bool) -> GraphModel:
        """The graph at the largest sizes with which an evaluation takes no more operations.

        Raises ArithmeticError where there are none.
        """
        tensors = [t for t in self.graph.tensors if t.kind == "leaf"]
        for most in MOST_ENTRIES:
            leaves = SmallLeaves(tensors, self.names, self.shapes, Sizes(most))
            model = GraphModel(self.nodes, self.graph.outputs, leaves, loose=loose)
            work = model.operations(OVERHEAD)
            if work <= allowed:
                return model
        raise ArithmeticError(f"its graph takes about {work:.0e} operations, too")


def small_rows(
    rows: Sequence[Symmetry], leaves: SmallLeaves, bases: dict[int, Any]
) -> tuple[list[tuple[Symmetry, Symmetry]], list[Symmetry]]:
    """(rows with what they are at small sizes, those that are nothing there)."""
    small, left = [], []
    for row in rows:
        try:
            action = leaves.action(bases.get(id(row.action), row.action))
            small.append((row, replace(row, action=action)))
        except NotImplementedError:
            left.append(row)
    return small, left


def arguments(
    model: GraphModel, seed: int, *, positive: bool
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Leaves and inputs at random; positive ones are in the domain of roots, and no unit is off."""
    rng, scale = np.random.default_rng(seed), model.scale()
    length = model.leaves.length
    draw = lambda shape: rng.uniform(0.2, 1.5, shape) if positive else rng.standard_normal(shape)
    leaves = {name: scale[name] * draw(length[name]) for name in model.leaves.blocks}
    return leaves, [draw(model.sizes.shape(t)) for t in model.inputs]

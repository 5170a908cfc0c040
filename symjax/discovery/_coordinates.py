"""Virtual leaves: what a model sees of a leaf, in the place of the leaf.

Four things may stand between a leaf and all that reads it, and each is a change of coordinates:
a function of one number (1 + w, exp w, softplus w), a constant for each entry (a fixed scale), and
a bias that takes up constants, b + k g in the place of b where a constant k stands before a gain g,
as the statistics of a frozen norm do, and a sum along an index. The graph is rewritten so that the
new coordinate is a leaf, and every channel reads it as one; `in_coordinates` of the actions pulls
back what is found.

A leaf with a reader that sees it otherwise is left as it is. What is positive by its nature stands
behind a function of degree one, so that it may be scaled but not be negated, shifted or mixed.
"""

from collections.abc import Sequence

from ..actions import Step
from ._biases import Biases
from ._bijections import Bijections
from ._graph import Graph
from ._linear_images import Constants, Sums

#: What one change makes visible the next may use.
ROUNDS = 3


def virtual_leaves(
    graph: Graph, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> list[Step]:
    """Put new coordinates in the place of leaves; the steps that compute them (in place)."""
    steps: list[Step] = []
    for _ in range(ROUNDS):
        before = len(steps)
        for change in (Bijections, Biases, Constants, Sums):
            change(graph, names, shapes, steps).run()
        if len(steps) == before:
            break
    return steps

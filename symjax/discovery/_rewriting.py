"""Rewriting a graph so that a function of a leaf becomes a leaf: what every change needs."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..actions import Block, Step
from ._evaluation import function_of
from ._graph import Graph, LeafBlock, Node, Tensor
from ._rules_elementwise import Traits

#: Of positive numbers: it passes factors, and nothing else that it could pass is one of them.
POSITIVE = Traits(Fraction(1))
#: Constants up to this are numbers; larger ones stand for infinity in a mask.
LARGEST = 1e6


def place_of(
    at: LeafBlock, rank: int, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> tuple[str, Block | None, list[int]]:
    """(leaf, block, axis of each position) of a block of a leaf with so many positions."""
    shape = shapes[at.leaf]
    whole = all(
        offset == 0 and slots in (((n, 1),), ()) and (n == 1 or slots)
        for (offset, slots), n in zip(at.axes, shape, strict=True)
    )
    if whole:
        axes = [a for a, (_, slots) in enumerate(at.axes) for _ in slots]
        return names[at.leaf], None, axes
    block = Block(tuple(o for o, _ in at.axes), tuple(s for _, s in at.axes))
    return names[at.leaf], block, list(range(rank))


def seeing(node: Node, operands: list, image: str) -> Node:
    """A node for what another makes: the numbers of a leaf, or the positive ones that it has."""
    if image == "all":
        return Node("linear", node.out, node.out_labels, operands, (1.0,))
    return Node("pointwise", node.out, node.out_labels, operands, traits=POSITIVE, name="positive")


class Rewriting:
    """Changes of the coordinates of one graph."""

    def __init__(
        self,
        graph: Graph,
        names: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        steps: list[Step],
    ):
        self.graph, self.names, self.shapes = graph, names, shapes
        self.steps = steps  # so far
        self._look()

    def _look(self):
        self.live = self.graph.live_nodes()
        self.readers: dict[int, list[Node]] = {}
        for node in self.live:
            for tensor, _ in node.operands:
                self.readers.setdefault(tensor.number, []).append(node)
        held = [*self.graph.outputs, *self.graph.stacked]
        held += [t for ts in self.graph.unknown.values() for t in ts]
        self.held = {t.number for t in held}

    def _place(self, tensor):
        assert tensor.leaf is not None
        return place_of(tensor.leaf, len(tensor.atoms), self.names, self.shapes)

    def _virtual(self, leaf: Tensor) -> Tensor:
        """A leaf in the place of another, which is none from now on."""
        made = self.graph.tensor(
            leaf.atoms, "leaf", leaf=leaf.leaf, has_params=True, narrow=leaf.narrow
        )
        leaf.kind, leaf.leaf = "replaced", None
        return made

    def _write(self, node: Node, new: Node) -> None:
        """Put a node in the place of another that makes the same tensor."""
        self.graph.nodes[self.graph.nodes.index(node)] = new
        new.out.node = new

    def _in_order(self, node: Node, before: int) -> None:
        """Bring nodes that were added at the end to where they are used."""
        nodes = self.graph.nodes
        new = nodes[before:]
        del nodes[before:]
        at = nodes.index(node)
        nodes[at:at] = new


def value_of(tensor: Tensor) -> np.ndarray | None:
    """The numbers of a tensor that depends on constants alone; None where they are not known."""
    if tensor.kind == "constant":
        value = tensor.value
        known = value is not None and np.asarray(value).dtype.kind in "fiub"
        return np.asarray(value, np.float64) if known else None
    node = tensor.node
    if node is None or tensor.has_params or tensor.has_data:
        return None
    values = [value_of(t) for t, _ in node.operands]
    if any(v is None for v in values) or any(len(set(x)) < len(x) for _, x in node.operands):
        return None
    with np.errstate(all="ignore"):
        return _computed(node, values)


def _computed(node, values):
    out = node.out_labels
    if node.kind == "product" and not node.frozen:
        (a, b), (x, y) = values, (labels for _, labels in node.operands)
        there = set(x) | set(y)
        if not set(out) <= there:
            return None
        return node.coefficients[0] * np.einsum(a, list(x), b, list(y), list(out))
    if node.summed:
        return None
    rows = [
        laid_out(v, labels, out, range(len(out)), len(out))
        for v, (_, labels) in zip(values, node.operands, strict=True)
    ]
    sizes = tuple(a.size for a in node.out.atoms)
    if node.kind == "linear":
        total = sum(c * v for c, v in zip(node.coefficients, rows, strict=True))
        return np.broadcast_to(total, sizes)
    if node.kind == "pointwise" and not getattr(node.traits, "narrowing", False):
        f = function_of(node)
        return None if f is None else np.broadcast_to(np.asarray(f(*rows), np.float64), sizes)
    return None


def laid_out(value, names, labels, axes, rank):
    """An array with its axes where some labels stand, and of size one elsewhere."""
    value = np.asarray(value)
    order = sorted(range(len(names)), key=lambda i: list(labels).index(names[i]))
    place = dict(zip(labels, axes, strict=True))
    sizes = [1] * rank
    for i in range(len(names)):
        sizes[place[names[i]]] = value.shape[i]
    return value.transpose(order).reshape(sizes)

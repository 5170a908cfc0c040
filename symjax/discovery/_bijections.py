"""Leaves that are read through a bijection of one number alone: 1 + w, exp w, softplus w."""

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from ..actions import Step
from ._evaluation import evaluate
from ._graph import Node, Tensor, constant_number
from ._probing import Composite, composites
from ._rewriting import LARGEST, POSITIVE, Rewriting, seeing
from ._rules_elementwise import Traits

Map = tuple[str, float, float]

#: Functions of one number that are bijections: where they may be applied, and what comes out:
#: every number ("all") or every positive one ("positive").
BIJECTIONS = {
    ("exp", "all"): "positive",
    ("log", "all"): "all",
    ("log", "positive"): "all",
    ("log1p", "all"): "all",
    ("log1p", "positive"): "positive",
    ("expm1", "positive"): "positive",
    ("sinh", "all"): "all",
    ("sinh", "positive"): "positive",
    ("asinh", "all"): "all",
    ("asinh", "positive"): "positive",
}


class Bijections(Rewriting):
    """Changes by functions of one number."""

    def run(self) -> None:
        """Leaves that are read through a bijection of one number alone."""
        self._look()
        sources: dict[int, list[Composite]] = {}
        for composite in composites(self.graph):
            if composite.source.kind == "leaf":
                sources.setdefault(composite.source.number, []).append(composite)
        for found in sources.values():
            leaf = found[0].source
            inside = {node.out.number for c in found for node in c.nodes}
            readers = self.readers.get(leaf.number, [])
            if leaf.number in self.held or any(n.out.number not in inside for n in readers):
                continue
            if not (self._by_one(leaf, found) or self._by_exponentials(leaf, found)):
                continue
            self._look()

    def _by_one(self, leaf, found):
        """One bijection, through which all composites see the leaf."""
        chains = [_chain(c) for c in found]
        ends = [
            (end, maps, image)
            for end, maps, image in chains[0]
            if all(any(end is other for other, _, _ in chain) for chain in chains)
            and not _is_multiple(maps)
        ]
        if not ends or any(t.number in self.held for t in _before(found[0], ends[-1][0])):
            return False
        end, maps, image = ends[-1]
        self._replace(leaf, maps, [(end, image, 1.0, 0.0)])
        return True

    def _by_exponentials(self, leaf, found):
        """Several exponentials of multiples of one leaf: powers of one of them."""
        rows: dict[int, tuple] = {}
        for composite in found:
            end, maps = next(
                ((e, m) for e, m, _ in _chain(composite) if m[-1][0] == "exp"), (None, ())
            )
            fits = [name for name, _, _ in maps] in (["exp"], ["affine", "exp"])
            if (
                end is None
                or not fits
                or any(t.number in self.held for t in _before(composite, end))
            ):
                return False
            slope, offset = maps[0][1:] if len(maps) == 2 else (1.0, 0.0)
            rows[end.number] = end, "positive", slope, offset
        self._replace(leaf, (("exp", 0.0, 0.0),), list(rows.values()))
        return True

    def _replace(self, leaf, maps, ends):
        name, block, _ = self._place(leaf)
        new = self._virtual(leaf)
        self.steps.append(Step(name, block, tuple(maps)))
        for end, image, power, offset in ends:
            old, operands = end.node, [(new, end.node.out_labels)]
            if image == "all" or (power == 1 and offset == 0):
                self._write(old, seeing(old, operands, image))
                continue
            before = len(self.graph.nodes)
            made = self.graph.add(
                "pointwise", old.out_labels, operands, traits=POSITIVE, name="positive"
            )
            if power != 1:
                traits = Traits(Fraction(power).limit_denominator(1000))
                made = self.graph.add(
                    "pointwise",
                    old.out_labels,
                    [(made, old.out_labels)],
                    traits=traits,
                    name="power",
                )
            self._in_order(old, before)
            factor = (float(np.exp(offset)),)
            self._write(old, Node("linear", end, old.out_labels, [(made, old.out_labels)], factor))


def _chain(composite: Composite) -> list[tuple[Tensor, tuple[Map, ...], str]]:
    """The tensors that are a bijection of the source and that all the rest is made of, in order.

    Each with the functions that lead there, and which numbers come out.
    """
    result: list[tuple[Tensor, tuple[Map, ...], str]] = []
    maps: tuple[Map, ...] = ()
    image, at = "all", composite.source
    for nodes in _segments(composite):
        step = _map(nodes, at, image)
        if step is None:
            break
        new, image = step
        maps, at = _joined(maps, new), nodes[-1].out
        result.append((at, maps, image))
    return result


def _joined(maps, new):
    """Functions after functions; of two affine ones in a row one is made."""
    (name, a, b), *_ = new
    if maps and name == maps[-1][0] == "affine":
        _, c, d = maps[-1]
        return (*maps[:-1], ("affine", a * c, a * d + b))
    return (*maps, *new)


def _segments(composite: Composite) -> Iterable[list[Node]]:
    """The nodes of a composite, cut after those through which all paths lead."""
    nodes, start = composite.nodes, 0
    position = {node.out.number: i for i, node in enumerate(nodes)}
    for k in range(len(nodes)):
        reads = [
            position.get(t.number, -1)
            for node in nodes[k + 1 :]
            for t, _ in node.operands
            if t is composite.source or t.number in position
        ]
        if all(i >= k for i in reads):
            yield list(nodes[start : k + 1])
            start = k + 1


def _before(composite, end):
    """The tensors of a composite before one of them."""
    found = []
    for node in composite.nodes:
        if node.out is end:
            return found
        found.append(node.out)
    return found


def _map(nodes, source, image) -> tuple[tuple[Map, ...], str] | None:
    """(functions, what comes out) of some nodes, where they are bijections; else None."""
    if len(nodes) > 1:
        return _softplus(nodes, source, image)
    (node,) = nodes
    if node.kind == "linear":
        slope = sum(
            c for (t, _), c in zip(node.operands, node.coefficients, strict=True) if t is source
        )
        offset = sum(
            c * (constant_number(t) or 0.0)
            for (t, _), c in zip(node.operands, node.coefficients, strict=True)
            if t is not source
        )
        if not slope or not abs(offset) < LARGEST:
            return None
        if image == "positive" and (offset or slope < 0):
            return None
        return (("affine", float(slope), float(offset)),), image
    if node.kind == "pointwise" and len(node.operands) == 1:
        after = BIJECTIONS.get((node.name, image))
        return None if after is None else (((node.name, 0.0, 0.0),), after)
    return None


def _softplus(nodes, source, image):
    """Log(1 + exp x), however it is written, by evaluating it."""
    if image != "all":
        return None
    points = np.concatenate([np.linspace(-30, 30, 121), np.linspace(-3, 3, 61)])
    value, error = evaluate(nodes, source, points)
    for sign in (1.0, -1.0):
        right = sign * np.logaddexp(sign * points, 0.0)
        allowed = 4 * error + 1e-14 * np.abs(right) + 1e-300
        if np.all(np.isfinite(value)) and np.all(np.abs(value - right) <= allowed):
            return None if sign < 0 else ((("softplus", 0.0, 0.0),), "positive")
    return None


def _is_multiple(maps):
    """Whether functions only multiply, which every channel sees through."""
    return all(name == "affine" and not b for name, _, b in maps)

"""Leaves that are read through a constant of each entry alone, or through their sum."""

import numpy as np

from ..actions import Constant, Factor, ShiftLeg, Step, Term
from ._graph import Atom, LeafBlock, Node
from ._rewriting import LARGEST, Rewriting, laid_out, seeing, value_of


class Constants(Rewriting):
    """Changes by a constant factor or summand of each entry."""

    def run(self) -> None:
        """Leaves that are read through a constant factor or summand of each entry alone."""
        self._look()
        for node in list(self.live):
            for i, (tensor, labels) in enumerate(node.operands):
                if len(node.operands) != 2 or node.out.node is not node:
                    continue
                leaf, image = self._seen(tensor)
                if leaf is not None and self._through(node, i):
                    self._constant(node, leaf, image, labels, i)
                    break

    def _seen(self, tensor):
        """(leaf, which numbers it has) where a tensor is a leaf and nothing else reads that."""
        image = "all"
        while len(self.readers.get(tensor.number, ())) == 1 and tensor.number not in self.held:
            node = tensor.node
            if tensor.kind == "leaf":
                return tensor, image
            if node is None or len(node.operands) != 1 or node.operands[0][1] != node.out_labels:
                break
            if node.kind == "pointwise" and node.name == "positive":
                image = "positive"
            elif node.kind != "linear" or node.coefficients != (1.0,):
                break
            ((tensor, _),) = node.operands
        return None, image

    def _through(self, node, i):
        _, labels = node.operands[i]
        other, names = node.operands[1 - i]
        return (
            (node.kind == "linear" or (node.kind == "product" and not node.frozen))
            and sorted(labels) == sorted(node.out_labels)
            and len(set(labels)) == len(labels)
            and set(names) <= set(labels)
            and not other.has_params
            and not other.has_data
            and len(names) > 0
        )

    def _constant(self, node, leaf, image, labels, i):
        other, names = node.operands[1 - i]
        value = value_of(other)
        if value is not None and image == "positive":
            factor = node.kind == "product" and np.all(value * node.coefficients[0] > 0)
            value = value if factor else None
        if value is None or not np.all(np.isfinite(value)) or np.max(np.abs(value)) > LARGEST:
            return
        if node.kind == "product" and not np.all(value):
            return
        name, block, axes = self._place(leaf)
        rank = len(leaf.atoms) if block is not None else len(self.shapes[leaf.leaf.leaf])
        spread = laid_out(value, names, labels, axes, rank)
        if node.kind == "product":
            spread = spread * node.coefficients[0]
            step = Step(name, block, (), Constant(spread))
        else:
            slope = node.coefficients[i]
            maps = () if slope == 1 else (("affine", slope, 0.0),)
            out = tuple(range(rank))
            leg = ShiftLeg(name, out, out, node.coefficients[1 - i], (), block)
            sizes = [1] * rank
            for axis, atom in zip(axes, leaf.atoms, strict=True):
                sizes[axis] = atom.size
            term = Term(leg, Constant(np.broadcast_to(spread, sizes)))
            step = Step(name, block, maps, None, (term,))
        new = self._virtual(leaf)
        self.steps.append(step)
        self._write(node, seeing(node, [(new, labels)], image))
        self._look()


class Sums(Rewriting):
    """Changes by which the first entry along an index is the sum of all."""

    def run(self) -> None:
        """Leaves that are read through their sum along some index alone.

        The first entry along it becomes the sum, and nothing reads the others.
        """
        self._look()
        for leaf in [t for t in self.graph.tensors if t.kind == "leaf"]:
            path = self._summed(leaf)
            if path is not None:
                self._sum(leaf, *path)
                self._look()

    def _summed(self, leaf):
        """(nodes from a leaf to a sum, coefficient, positions that are summed); None without."""
        at, tensor, path = list(range(len(leaf.atoms))), leaf, []
        factor = 1.0
        while len(readers := self.readers.get(tensor.number, [])) == 1:
            (node,) = readers
            operands = [(i, x) for i, (t, x) in enumerate(node.operands) if t is tensor]
            if (
                tensor.number in self.held
                or node.kind not in ("linear", "sum")
                or len(operands) > 1
            ):
                return None
            ((number, labels),) = operands
            if len(set(labels)) < len(labels):
                return None
            gone = node.summed & set(labels)
            own = dict(zip(labels, at, strict=True))
            factor *= node.coefficients[number]
            path.append((node, number))
            where = {p for x in gone if (p := own[x]) is not None}
            if where:
                sizes = dict(zip(labels, (a.size for a in tensor.atoms), strict=True))
                factor *= float(np.prod([sizes[x] for x in gone if own[x] is None]))
                return path, factor, sorted(where), [own.get(x) for x in node.out_labels]
            if gone:
                return None
            at, tensor = [own.get(x) for x in node.out_labels], node.out
        return None

    def _sum(self, leaf, path, factor, where, at):
        *_, (last, _) = path
        first, number = path[0]
        others = [x for i, x in enumerate(first.operands) if i != number]
        if len(path) > 1 and others:
            covered = {x for _, labels in others for x in labels}
            if not set(first.out_labels) <= covered:
                return
        assert leaf.leaf is not None
        leaves, terms = [], []
        block = leaf.leaf
        for k, p in enumerate(where):
            # The entries that are the first along the indices before, and not along this one.
            starts = {q: (0, 1) for q in where[:k]} | {p: (1, None)}
            leaves.append(self._part(leaf, block, starts))
        new = self._part(leaf, block, {p: (0, 1) for p in where})
        place = self._place
        name, own_block, _ = place(new)
        summed = []
        for other in leaves:
            terms.append(self._whole_sum(new, other))
            _, inner, _ = place(other)
            position = {id(a.find()): i for i, a in enumerate(other.atoms)}
            # The parts of a leaf have the axes of their positions, in order.
            summed.append((inner, tuple(position[id(a.find())] for a in new.atoms)))
        leaf.kind, leaf.leaf = "replaced", None
        whole = own_block is None or any(inner is None for inner, _ in summed)
        alike = () if whole else tuple(summed)
        self.steps.append(Step(name, own_block, (), None, tuple(terms), alike))
        kept = [p for p in range(len(leaf.atoms)) if p not in where]
        labels = [last.out_labels[at.index(p)] for p in kept]
        operands, coefficients = [(new, tuple(labels))], [factor]
        before = len(self.graph.nodes)
        if others or len(path) > 1:
            rest = self._without(path)
            if rest is not None:
                operands.append((rest, last.out_labels))
                coefficients.append(1.0)
        self._in_order(last, before)
        node = Node("linear", last.out, last.out_labels, operands, tuple(coefficients))
        self._write(last, node)

    def _without(self, path):
        """The sum at the end of a path without the leaf at its beginning; None if that is all."""
        tensor = None
        for k, (node, number) in enumerate(path):
            rows = [
                (x if i != number else (tensor, x[1]), c)
                for i, (x, c) in enumerate(zip(node.operands, node.coefficients, strict=True))
                if i != number or tensor is not None
            ]
            if not rows:
                continue
            operands, coefficients = zip(*rows, strict=True)
            del k
            tensor = self.graph.add(
                node.kind, node.out_labels, operands, {}, coefficients=coefficients
            )
        return tensor

    def _part(self, leaf, block, ranges):
        """A leaf of the entries of a block whose positions are in some ranges."""
        axes, atoms, p = [], [], 0
        for offset, slots in block.axes:
            kept = []
            for n, stride in slots:
                start, stop = ranges.get(p, (0, None))
                count_ = (n if stop is None else stop) - start
                offset += start * stride
                if p not in ranges or count_ > 1:
                    kept.append((count_, stride))
                    key = (*leaf.atoms[p].key, "rest", leaf.number)
                    atoms.append(leaf.atoms[p] if p not in ranges else Atom(key, count_))
                p += 1
            axes.append((offset, tuple(kept)))
        return self.graph.tensor(
            atoms,
            "leaf",
            leaf=LeafBlock(block.leaf, tuple(axes)),
            has_params=True,
            narrow=leaf.narrow,
        )

    def _whole_sum(self, new, other):
        """What a leaf adds to another whose index sets are among its own: its sum along others."""
        target, block, axes = self._place(new)
        source, inner, places = self._place(other)
        rank = len(other.atoms) if inner else len(self.shapes[other.leaf.leaf])
        ids = {id(a.find()): i for i, a in enumerate(other.atoms)}
        names = {axis: i for i, axis in enumerate(places)}
        labels = tuple(names.get(i, len(names) + i) for i in range(rank))
        size = len(new.atoms) if block else len(self.shapes[new.leaf.leaf])
        out: list[int | None] = [None] * size
        for axis, atom in zip(axes, new.atoms, strict=True):
            out[axis] = ids[id(atom.find())]
        leg = ShiftLeg(target, (), tuple(out), 1.0, (Factor(source, labels, inner),), block)
        return Term(leg, Constant(np.ones(())))

"""Angles: rotations of pairs of blocks, which the cosines and sines of rotary embeddings let pass.

Two blocks A and B of a leaf with the same index sets may turn into each other: dA = -phi B and
dB = phi A, with an unknown function phi of some of the indices. A node carries the derivative
forward, as a combination of tensors: those that are there (A cos - B sin turns into A sin + B cos,
which is computed as well), found again by what they are made of, or ones that are only named here.
"""

from fractions import Fraction
from itertools import combinations
from typing import Any

from ._elimination import Relations, Row, independent
from ._graph import Node, Tensor
from ._monomials import fraction
from ._scales import kind_of, subsets

Unknown = tuple[int, int, frozenset]  # two blocks of a leaf, and positions
Form = dict[Any, Row]  # what the derivative is a combination of


class Phases:
    """The equations of the angles of a list of nodes."""

    def __init__(self, nodes: list[Node], outputs: list[Tensor]):
        self.relations = Relations()
        #: Of tensors: a number that stands for what they are made of, negative but for those that
        #: are not read any further; of structures: their number; of numbers of sums: the terms.
        self.keys: dict[int, int] = {}
        self.interned: dict[Any, int] = {}
        self.terms: dict[int, tuple] = {}
        #: Sums that are computed, by each of their terms: (terms, key, rank, first coefficient).
        self.sums: dict[Any, list[tuple]] = {}
        self.forms: dict[int, Form] = {}
        self.unknowns: set[Unknown] = set()
        self.tensors = {t.number: t for node in nodes for t, _ in node.sides}
        self.pairs = self._pairs()
        if not self.pairs:
            return
        for node in nodes:
            self._name(node)
        for node in nodes:
            self._node(node)
        for tensor in outputs:
            self.relations.vanish(self.form(tensor))

    def _pairs(self):
        """Pairs of blocks of one leaf that differ in their offset along one axis only."""
        groups: dict[tuple, list[Tensor]] = {}
        for tensor in self.tensors.values():
            if tensor.leaf is not None:
                classes = tuple(a.find().key for a in tensor.atoms)
                groups.setdefault((tensor.leaf.leaf, classes), []).append(tensor)
        result = []
        for group in groups.values():
            if len(group) <= 8:
                result += [p for p in combinations(group, 2) if joint_axis(*p) is not None]
        return result

    # -- what a tensor is made of ---------------------------------------------------------------

    def _intern(self, structure: Any) -> int:
        return self.interned.setdefault(structure, -1 - len(self.interned))

    def key(self, tensor: Tensor) -> int:
        """A number that two tensors share only if they are equal."""
        if tensor.number not in self.keys:
            key = tensor.number
            if tensor.kind == "constant" and tensor.value is not None:
                classes = tuple(a.find().key for a in tensor.atoms)
                value = tensor.value
                key = self._intern(("constant", value.tobytes(), str(value.dtype), classes))
            self.keys[tensor.number] = key
        return self.keys[tensor.number]

    def _sum(self, items: tuple) -> int:
        key = self._intern(("sum", items))
        self.terms[key] = items
        return key

    def _name(self, node):
        position = {label: i for i, label in enumerate(node.out_labels)}
        places = tuple(range(len(node.out_labels)))
        if node.kind == "linear":
            total: dict = {}
            for (tensor, labels), c in zip(node.operands, node.coefficients, strict=True):
                key, own = self.key(tensor), tuple(range(len(labels)))
                for (inner, at), value in self.terms.get(key, (((key, own), Fraction(1)),)):
                    name = inner, tuple(position[labels[p]] for p in at)
                    total[name] = total.get(name, Fraction(0)) + value * fraction(c)
            items = tuple(sorted((k, v) for k, v in total.items() if v))
            if items:
                key = self.keys[node.out.number] = self._sum(items)
                first = items[0][1]
                scaled = tuple((k, v / first) for k, v in items)
                if len(items) > 1:
                    self.sums.setdefault(items[0][0], []).append((scaled, key, len(places), first))
        elif node.kind == "product" and not node.frozen:
            rows = [(self.key(t), labels) for t, labels in node.operands]
            key, coefficient = self._product_key(node, rows)
            if coefficient != 1:
                key = self._sum((((key, places), coefficient),))
            self.keys[node.out.number] = key

    def _product_key(self, node, rows):
        """(what a product of factors is made of, a number that stands before it)."""
        position = {label: i for i, label in enumerate(node.out_labels)}
        coefficient, named = fraction(node.coefficients[0]), []
        for key, labels in rows:
            while len(self.terms.get(key, ())) == 1:
                ((key, places), value) = self.terms[key][0]
                labels, coefficient = tuple(labels[p] for p in places), coefficient * value
            named.append((key, tuple(position.get(x, ("summed", x)) for x in labels)))
        named.sort(key=lambda row: (row[0], [x for x in row[1] if not _gone(x)]))
        order: dict = {}
        count = lambda x: ("summed", order.setdefault(x, len(order))) if _gone(x) else x
        rows = tuple((key, tuple(map(count, labels))) for key, labels in named)
        return self._intern(("product", rows)), coefficient

    # -- forms ----------------------------------------------------------------------------------
    # A form's key is ((what, its labels), labels that the angle depends on).

    def form(self, tensor: Tensor) -> Form:
        """The derivative of a tensor, in its positions."""
        if tensor.number not in self.forms:
            form: Form = {}
            for a, b in self.pairs:
                if tensor not in (a, b):
                    continue
                other, sign = (b, -1) if tensor is a else (a, 1)
                places = tuple(range(len(tensor.atoms)))
                for subset in subsets(len(places)):
                    unknown = (a.number, b.number, subset)
                    self.unknowns.add(unknown)
                    row = {unknown: Fraction(sign)}
                    form[(self.key(other), places), subset] = row
            self.forms[tensor.number] = form
        return self.forms[tensor.number]

    def _add(self, total, key, row, factor: Fraction | int = 1):
        self.relations.combine(total.setdefault(key, {}), row, factor)

    def _node(self, node):
        live = [(i, t, labels) for i, (t, labels) in enumerate(node.operands) if self.form(t)]
        form: Form = {}
        if not live:
            self.forms[node.out.number] = form
            return
        position = {label: i for i, label in enumerate(node.out_labels)}
        if node.kind == "linear":
            form = self._linear(node, live, position)
        elif node.kind == "product" and not node.frozen:
            form = self._product(node, live, position)
        else:
            for _, tensor, _ in live:
                self.relations.vanish(self.form(tensor))
        reduced = {k: self.relations.reduce(row) for k, row in form.items()}
        self.forms[node.out.number] = {k: row for k, row in reduced.items() if row}

    def _linear(self, node, live, position):
        total: Form = {}
        for i, tensor, labels in live:
            for ((key, places), subset), row in self.form(tensor).items():
                at = lambda p, x=labels: position[x[p]]
                own = tuple(range(len(places)))
                for (inner, mine), value in self.terms.get(key, (((key, own), Fraction(1)),)):
                    name = (inner, tuple(at(places[q]) for q in mine)), frozenset(map(at, subset))
                    self._add(total, name, row, fraction(node.coefficients[i]) * value)
        return self._folded(total)

    def _folded(self, total):
        """Sums that are computed somewhere, in the place of their terms."""
        result: Form = {}
        by_angle: dict = {}
        for (name, subset), row in total.items():
            if row:
                by_angle.setdefault(subset, {})[name] = row
        for subset, rows in by_angle.items():
            while (folded := self._fold(rows)) is not None:
                name, row, used = folded
                self._add(result, (name, subset), row)
                rows = {k: r for k, r in rows.items() if k not in used}
            for name, row in rows.items():
                self._add(result, (name, subset), row)
        return result

    def _fold(self, rows):
        """(sum that is computed, its angle, the terms of it) where some terms make one up."""
        if len(rows) < 2:
            return None
        for scaled, key, rank, first in [x for k in rows for x in self.sums.get(k, ())]:
            if not all(k in rows for k, _ in scaled):
                continue
            pivot, rest = scaled[0], scaled[1:]
            for name, value in rest:
                # Only one angle turns the whole sum.
                row = dict(rows[name])
                self.relations.combine(row, rows[pivot[0]], -value)
                self.relations.add(row)
            new: Row = {}
            self.relations.combine(new, rows[pivot[0]], 1 / first)
            return (key, tuple(range(rank))), new, {k for k, _ in scaled}
        return None

    def _product(self, node, live, position):
        total: Form = {}
        label_at = lambda x: position.get(x, ("summed", x))
        for i, tensor, labels in live:
            for ((key, places), subset), row in self.form(tensor).items():
                other, beside = node.operands[1 - i]
                rows = [(key, tuple(labels[p] for p in places)), (self.key(other), beside)]
                angle = frozenset(label_at(labels[p]) for p in subset)
                key_out, coefficient = self._product_key(node, rows)
                if any(map(_gone, angle)):
                    # The angle differs along what is summed; say along which index set.
                    inside = [p for p in subset if labels[p] not in position]
                    classes = kind_of(tensor, inside)
                    if not self._told_apart(node, classes):
                        self.relations.add(row)
                        continue
                    key_out = self._intern(("inside", key_out, classes))
                outer = frozenset(x for x in angle if not isinstance(x, tuple))
                places_out = tuple(range(len(node.out_labels)))
                self._add(total, ((key_out, places_out), outer), row, coefficient)
        return total

    def _told_apart(self, node, classes):
        """Whether each of some index sets is that of one summed label only."""
        labels = {
            x: a.find().key
            for t, names in node.operands
            for x, a in zip(names, t.atoms, strict=True)
            if x in node.summed
        }
        return all(list(labels.values()).count(key) == 1 for key in classes)

    # -- solutions ------------------------------------------------------------------------------

    def solutions(self) -> dict[tuple, list[Row]]:
        """Per kind of index sets: a basis of coefficients of the pairs of blocks."""
        unknowns = sorted(self.unknowns, key=repr)
        kind = {u: kind_of(self.tensors[u[0]], u[2]) for u in unknowns}
        found = {k: independent(rows) for k, rows in self.relations.solutions(kind).items()}
        return {k: rows for k, rows in found.items() if rows}


def _gone(label):
    return isinstance(label, tuple)


def joint_axis(a: Tensor, b: Tensor) -> int | None:
    """The axis of a leaf along which alone two of its blocks differ, and by their offset."""
    assert a.leaf is not None
    assert b.leaf is not None
    pairs = list(zip(a.leaf.axes, b.leaf.axes, strict=True))
    different = [i for i, (x, y) in enumerate(pairs) if x != y]
    same_shape = all(x[1] == y[1] for x, y in pairs)
    return different[0] if len(different) == 1 and same_shape else None

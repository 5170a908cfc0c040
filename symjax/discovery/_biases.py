"""Biases that take up what constants make of the parameters before them: frozen norms."""

from itertools import count
from typing import Any

import numpy as np

from ..actions import Constant, Factor, ShiftLeg, Step, Term
from ._graph import Node, Tensor
from ._identities import resolve_factor
from ._rewriting import LARGEST, Rewriting, value_of

Names = tuple[int, ...]
Row = tuple[float, tuple[tuple[Tensor, Names], ...]]  # a coefficient, and factors with names

#: Sums of more terms than this, and deeper ones, are not written out.
MOST_ROWS, MOST_DEPTH = 24, 40

SUMS = ("linear", "sum")
"""Nodes that add up what they read."""


class _Refused(Exception):
    """This is no change of coordinates."""


class Biases(Rewriting):
    """Changes of a bias by what depends on constants and other leaves."""

    def run(self) -> None:
        """Biases that take up what constants make of the parameters before them."""
        self._look()
        self._find_bare()
        for node in list(self.live):
            there = node.out.node is node and node.kind == "linear"
            if there and node.out.has_data and len(node.operands) > 1:
                try:
                    self._bias(node)
                except _Refused:
                    continue
                self._look()
                self._find_bare()

    def _find_bare(self):
        """The tensors with data that have a summand without, by number: only these are taken apart.

        Each is asked once, where streams that meet again are reached by exponentially many ways.
        """
        self.bare: set[int] = set()
        for node in self.live:
            there = [not t.has_data or t.number in self.bare for t, _ in node.operands]
            if all(there) if node.kind == "product" else node.kind in SUMS and any(there):
                self.bare.add(node.out.number)

    def _bias(self, node):
        names = count(max(node.out_labels, default=-1) + 1)
        rows = self._rows(node.out, tuple(node.out_labels), names, 0)
        moving = [row for row in rows if any(t.has_data for t, _ in row[1])]
        rest = [row for row in rows if not any(t.has_data for t, _ in row[1])]
        bare = [row for row in rest if self._is_bias(row, node)]
        if not bare or not moving:
            raise _Refused
        bias = bare[0]
        others = [row for row in rest if row is not bias]
        if not any(map(_is_constant, others)) or not any(
            _is_scalable(factors[0][0]) for _, factors in moving
        ):
            raise _Refused
        coefficient, ((leaf, own),) = bias
        terms = [t for k, f in others for t in self._term(leaf, own, k / coefficient, f)]
        if not any(np.any(t.array.value) for t in terms):
            raise _Refused
        name, block, _ = self._place(leaf)
        before = len(self.graph.nodes)
        operands = [self._product(row, node) for row in moving]
        self._in_order(node, before)
        new = self._virtual(leaf)
        self.steps.append(Step(name, block, (), None, tuple(terms)))
        operands.append((new, own))
        coefficients = (*(row[0] for row in moving), coefficient)
        self._write(node, Node("linear", node.out, node.out_labels, operands, coefficients))

    def _is_bias(self, row, node):
        _, factors = row
        if len(factors) != 1 or factors[0][0].kind != "leaf":
            return False
        leaf, own = factors[0]
        if len(set(own)) < len(own) or not set(own) <= set(node.out_labels):
            return False
        while leaf is not node.out:  # read here and nowhere else
            readers = self.readers.get(leaf.number, [])
            if len(readers) != 1 or leaf.number in self.held:
                return False
            leaf = readers[0].out
        return True

    def _rows(self, tensor, own: Names, names, depth) -> list[Row]:
        """A tensor as a sum of products; what has no summand without data stays as it is."""
        whole: list[Row] = [(1.0, ((tensor, own),))]
        node = tensor.node
        if node is None or depth > MOST_DEPTH:
            return whole
        if tensor.has_data and tensor.number not in self.bare:
            return whole
        at = dict(zip(node.out_labels, own, strict=True))
        for label in node.summed:
            at[label] = next(names)
        renamed = [(t, tuple(at[x] for x in labels)) for t, labels in node.operands]
        rows: list[Row] = []
        if node.kind == "linear":
            for (t, inner), c in zip(renamed, node.coefficients, strict=True):
                rows += [(c * k, f) for k, f in self._rows(t, inner, names, depth + 1)]
        elif node.kind == "product" and not node.frozen and tensor.has_data:
            (a, b) = renamed
            if a[0].has_data and b[0].has_data:
                return whole
            data, other = (a, b) if a[0].has_data else (b, a)
            gone = {at[x] for x in node.summed}
            for k, f in self._rows(*data, names, depth + 1):
                k = k * node.coefficients[0] * self._missing(gone, node, at, [*f, other])
                rows.append((k, (*f, other)))
        elif node.kind == "product" and not node.frozen and not tensor.has_data:
            (a, b) = (self._rows(t, inner, names, depth + 1) for t, inner in renamed)
            c = node.coefficients[0]
            rows = [(c * x * y, (*f, *g)) for x, f in a for y, g in b]
        elif node.kind == "sum":
            gone = {at[x] for x in node.summed}
            for k, f in self._rows(*renamed[0], names, depth + 1):
                k = k * node.coefficients[0] * self._missing(gone, node, at, f)
                rows.append((k, f))
        else:
            return whole
        if len(rows) > MOST_ROWS:
            raise _Refused
        if depth and not any(map(_is_constant, rows)):
            return whole
        return rows

    def _missing(self, gone, node, at, factors):
        """How often a product is added that does not depend on summed names."""
        there = {n for _, names in factors for n in names}
        sizes = {at[x]: a.size for t, ls in node.operands for x, a in zip(ls, t.atoms, strict=True)}
        return float(np.prod([sizes[n] for n in gone - there]))

    def _product(self, row, node):
        """A tensor, with its names, that is a row but for its coefficient."""
        (cur, own), *factors = row[1]
        out = set(node.out_labels)
        gains = [f for f in factors if set(f[1]) <= out]
        rest = self._folded([f for f in factors if not set(f[1]) <= out])
        for i, (t, names) in enumerate(rest):
            later = {n for _, ns in rest[i + 1 :] for n in ns} | out
            keep = tuple(dict.fromkeys(n for n in (*own, *names) if n in later))
            cur = self.graph.add("product", keep, [(cur, own), (t, names)], coefficients=(1.0,))
            own = keep
        if not set(own) <= out:
            keep = tuple(n for n in own if n in out)
            cur = self.graph.add("sum", keep, [(cur, own)], coefficients=(1.0,))
            own = keep
        if gains:
            gain = gains[0]
            for t, names in gains[1:]:
                keep = tuple(dict.fromkeys((*gain[1], *names)))
                made = self.graph.add("product", keep, [gain, (t, names)], coefficients=(1.0,))
                gain = made, keep
            keep = tuple(dict.fromkeys((*own, *gain[1])))
            cur = self.graph.add("product", keep, [(cur, own), gain], coefficients=(1.0,))
            own = keep
        return cur, own

    def _folded(self, factors):
        """Factors in order, constants multiplied into what they are then contracted with."""
        rest = list(factors)
        for i in reversed(range(len(rest) - 1)):
            (constant, names), (t, others) = rest[i : i + 2]
            known = not constant.has_params and not t.has_data
            if known and set(names) <= set(others):
                made = self.graph.add(
                    "product", others, [(constant, names), (t, others)], coefficients=(1.0,)
                )
                rest[i : i + 2] = [(made, others)]
        return rest

    def _term(self, leaf, own, coefficient, factors) -> list[Term]:
        """What a row adds to a bias, as contractions of leaves with one constant array each."""
        result = []
        for k, parts in _polynomial(factors):
            result.append(self._one_term(leaf, own, coefficient * k, parts))
        return result

    def _one_term(self, leaf, own, coefficient, parts):
        numbers: dict[Any, int] = {}
        name = lambda n: numbers.setdefault(n, len(numbers))
        arrays = [(_number_array(t), names) for t, names in parts if not t.has_params]
        rows, used = [], []
        for t, names in parts:
            if not t.has_params:
                continue
            made = resolve_factor(t) if t.kind != "leaf" else None
            source = t if made is None else made.leaf
            if source.kind != "leaf" or source is leaf:
                raise _Refused
            assert source.leaf is not None
            where, block, axes = self._place(source)
            rank = len(source.atoms) if block else len(self.shapes[source.leaf.leaf])
            at = dict(zip(axes, names, strict=True))
            labels = tuple(
                name(at[i]) if i in at else name(("one", len(rows), i)) for i in range(rank)
            )
            factor = Factor(where, labels, block)
            if made is not None:
                whole = made.power, made.absolute, made.scale, made.offset
                factor = Factor(where, labels, block, *whole)
            rows.append(factor)
            used += names
        kept = tuple(dict.fromkeys(n for _, ns in arrays for n in ns))
        operands: list[Any] = [x for a, ns in arrays for x in (a, [name(n) for n in ns])]
        array = np.einsum(*operands, [name(n) for n in kept]) if arrays else np.ones(())
        if not set(n for n in (*kept, *used) if n in own) <= set(own):
            raise _Refused
        target, block, axes = self._place(leaf)
        rank = len(leaf.atoms) if block is not None else len(self.shapes[leaf.leaf.leaf])
        out: list[int | None] = [None] * rank
        there = {*kept, *used}
        for axis, n in zip(axes, own, strict=True):
            out[axis] = name(n) if n in there else None
        vector = tuple(name(n) for n in kept)
        leg = ShiftLeg(target, vector, tuple(out), float(coefficient), tuple(rows), block)
        return Term(leg, Constant(array))


def _number_array(tensor: Tensor) -> np.ndarray:
    """The numbers of a constant tensor; refused where they are not known, or stand for infinity."""
    value = value_of(tensor)
    if value is None or not np.all(np.abs(value) <= LARGEST):
        raise _Refused
    return value


def _is_constant(row: Row) -> bool:
    """Whether a row has no data, and a constant."""
    tensors = [t for t, _ in row[1]]
    return not any(t.has_data for t in tensors) and any(not t.has_params for t in tensors)


def _polynomial(factors) -> list[Row]:
    """A product of tensors without data, as a sum of products of leaves and constants."""
    fresh = count(10**6)
    result: list[Row] = [(1.0, ())]
    for tensor, names in factors:
        rows = _of_leaves(tensor, names, fresh, 0)
        result = [(a * b, (*f, *g)) for a, f in result for b, g in rows]
        if len(result) > MOST_ROWS:
            raise _Refused
    return result


def _of_leaves(tensor, own, fresh, depth) -> list[Row]:
    if tensor.kind == "leaf" or not tensor.has_params or resolve_factor(tensor) is not None:
        return [(1.0, ((tensor, own),))]
    node = tensor.node
    if node is None or depth > MOST_DEPTH:
        raise _Refused
    at = dict(zip(node.out_labels, own, strict=True))
    for label in node.summed:
        at[label] = next(fresh)
    renamed = [(t, tuple(at[x] for x in labels)) for t, labels in node.operands]
    if node.kind == "linear":
        return [
            (c * k, f)
            for (t, names), c in zip(renamed, node.coefficients, strict=True)
            for k, f in _of_leaves(t, names, fresh, depth + 1)
        ]
    if node.kind == "product" and not node.frozen:
        (a, b) = (_of_leaves(t, names, fresh, depth + 1) for t, names in renamed)
        c = node.coefficients[0]
        return [(c * x * y, (*f, *g)) for x, f in a for y, g in b]
    if node.kind == "pointwise" and node.name == "positive":
        return _of_leaves(*renamed[0], fresh, depth + 1)
    raise _Refused


def _is_scalable(tensor: Tensor) -> bool:
    """Whether a factor before what makes a tensor could come out of it."""
    node = tensor.node
    if node is None:
        return tensor.kind == "carry"
    if node.kind == "linear" and len(node.operands) == 1:
        return _is_scalable(node.operands[0][0])
    return node.kind != "pointwise" or getattr(node.traits, "degree", None) is not None

"""Virtual leaves: what a model sees of a leaf, in the place of the leaf.

Three things may stand between a leaf and all that reads it, and each is a change of coordinates:
a function of one number (1 + w, exp w, softplus w), a constant for each entry (a fixed scale), and
a bias that takes up constants, b + k g in the place of b where a constant k stands before a gain g,
as the statistics of a frozen norm do. The graph is rewritten so that the new coordinate is a leaf,
and every channel reads it as one; `symjax.actions.in_coordinates` pulls back what is found.

A leaf with a reader that sees it otherwise is left as it is. What is positive by its nature stands
behind a function of degree one, so that it may be scaled but not be negated, shifted or mixed.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import count
from typing import Any

import numpy as np

from ..actions import Block, Constant, Factor, ShiftLeg, Step, Term
from ._evaluation import evaluate, function_of
from ._graph import Graph, LeafBlock, Node, Tensor, constant_number
from ._identities import resolve_factor
from ._probing import Composite, composites
from ._rules_elementwise import Traits

Names = tuple[int, ...]
Row = tuple[float, tuple[tuple[Tensor, Names], ...]]  # a coefficient, and factors with names
Map = tuple[str, float, float]

#: Of positive numbers: it passes factors, and nothing else that it could pass is one of them.
POSITIVE = Traits(Fraction(1))
#: Constants up to this are numbers; larger ones stand for infinity in a mask.
LARGEST = 1e6
#: Sums of more terms than this, and deeper ones, are not written out.
MOST_ROWS, MOST_DEPTH = 24, 40
#: What one change makes visible the next may use.
ROUNDS = 3
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


class _Refused(Exception):
    """This is no change of coordinates."""


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


def virtual_leaves(
    graph: Graph, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> list[Step]:
    """Put new coordinates in the place of leaves; the steps that compute them (in place)."""
    change = _Change(graph, names, shapes)
    for _ in range(ROUNDS):
        before = len(change.steps)
        change.functions()
        change.biases()
        change.constants()
        if len(change.steps) == before:
            break
    return change.steps


class _Change:
    """The changes of the coordinates of one graph."""

    def __init__(self, graph: Graph, names: Sequence[str], shapes: Sequence[tuple[int, ...]]):
        self.graph, self.names, self.shapes = graph, names, shapes
        self.steps: list[Step] = []
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

    # -- functions of one number ----------------------------------------------------------------

    def functions(self) -> None:
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
            if end is None or not fits or any(t.number in self.held for t in _before(composite, end)):
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
            if image == "all":
                self._write(old, Node("linear", end, old.out_labels, operands, (1.0,)))
                continue
            if power == 1 and offset == 0:
                self._write(
                    old,
                    Node(
                        "pointwise", end, old.out_labels, operands, traits=POSITIVE, name="positive"
                    ),
                )
                continue
            before = len(self.graph.nodes)
            made = self.graph.add(
                "pointwise", old.out_labels, operands, traits=POSITIVE, name="positive"
            )
            if power != 1:
                traits = Traits(Fraction(power).limit_denominator(1000))
                made = self.graph.add(
                    "pointwise", old.out_labels, [(made, old.out_labels)], traits=traits, name="power"
                )
            self._in_order(old, before)
            factor = (float(np.exp(offset)),)
            self._write(old, Node("linear", end, old.out_labels, [(made, old.out_labels)], factor))

    def _in_order(self, node: Node, before: int) -> None:
        """Bring nodes that were added at the end to where they are used."""
        nodes = self.graph.nodes
        new = nodes[before:]
        del nodes[before:]
        at = nodes.index(node)
        nodes[at:at] = new

    # -- constants ------------------------------------------------------------------------------

    def constants(self) -> None:
        """Leaves that are read through a constant factor or summand of each entry alone."""
        self._look()
        for node in list(self.live):
            for i, (leaf, labels) in enumerate(node.operands):
                if leaf.kind == "leaf" and len(node.operands) == 2 and self._through(node, i):
                    self._constant(node, leaf, labels, *node.operands[1 - i], i)

    def _through(self, node, i):
        leaf, labels = node.operands[i]
        other, names = node.operands[1 - i]
        return (
            (node.kind == "linear" or (node.kind == "product" and not node.frozen))
            and len(self.readers[leaf.number]) == 1
            and leaf.number not in self.held
            and sorted(labels) == sorted(node.out_labels)
            and len(set(labels)) == len(labels)
            and set(names) <= set(labels)
            and not other.has_params
            and not other.has_data
            and len(names) > 0
        )

    def _constant(self, node, leaf, labels, other, names, i):
        value = _value(other)
        if value is None or not np.all(np.isfinite(value)) or np.max(np.abs(value)) > LARGEST:
            return
        if node.kind == "product" and not np.all(value):
            return
        name, block, axes = self._place(leaf)
        rank = len(leaf.atoms) if block is not None else len(self.shapes[leaf.leaf.leaf])
        spread = _laid_out(value, names, labels, axes, rank)
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
        self._write(node, Node("linear", node.out, node.out_labels, [(new, labels)], (1.0,)))
        self._look()

    # -- biases ---------------------------------------------------------------------------------

    def biases(self) -> None:
        """Biases that take up what constants make of the parameters before them."""
        self._look()
        for node in list(self.live):
            there = node.out.node is node and node.kind == "linear"
            if there and node.out.has_data and len(node.operands) > 1:
                try:
                    self._bias(node)
                except _Refused:
                    continue
                self._look()

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
        if not any(map(_is_constant, others)) or not any(_is_scalable(factors[0][0]) for _, factors in moving):
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
        sizes = {
            at[x]: a.size for t, ls in node.operands for x, a in zip(ls, t.atoms, strict=True)
        }
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
            cur = self.graph.add(
                "product", keep, [(cur, own), (t, names)], coefficients=(1.0,)
            )
            own = keep
        if not set(own) <= out:
            keep = tuple(n for n in own if n in out)
            cur = self.graph.add("sum", keep, [(cur, own)], coefficients=(1.0,))
            own = keep
        gain = gains[0] if gains else None
        for t, names in gains[1:]:
            keep = tuple(dict.fromkeys((*gain[1], *names)))
            made = self.graph.add("product", keep, [gain, (t, names)], coefficients=(1.0,))
            gain = made, keep
        if gain is not None:
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
        arrays = [(_value(t), names) for t, names in parts if not t.has_params]
        if any(x is None or not np.all(np.isfinite(x)) for x, _ in arrays):
            raise _Refused
        if any(x.size and np.max(np.abs(x)) > LARGEST for x, _ in arrays):
            raise _Refused
        rows, used = [], []
        for t, names in parts:
            if not t.has_params:
                continue
            made = resolve_factor(t) if t.kind != "leaf" else None
            source = t if made is None else made.leaf
            if source.kind != "leaf" or source is leaf:
                raise _Refused
            where, block, axes = self._place(source)
            rank = len(source.atoms) if block else len(self.shapes[source.leaf.leaf])
            at = dict(zip(axes, names, strict=True))
            labels = tuple(name(at[i]) if i in at else name(("one", len(rows), i)) for i in range(rank))
            power = () if made is None else (made.power, made.absolute, made.scale, made.offset)
            rows.append(Factor(where, labels, block, *power))
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


def _value(tensor: Tensor) -> np.ndarray | None:
    """The numbers of a tensor that depends on constants alone; None where they are not known."""
    if tensor.kind == "constant":
        value = tensor.value
        known = value is not None and np.asarray(value).dtype.kind in "fiub"
        return np.asarray(value, np.float64) if known else None
    node = tensor.node
    if node is None or tensor.has_params or tensor.has_data:
        return None
    values = [_value(t) for t, _ in node.operands]
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
        _laid_out(v, labels, out, range(len(out)), len(out))
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


def _laid_out(value, names, labels, axes, rank):
    """An array with its axes where some labels stand, and of size one elsewhere."""
    value = np.asarray(value)
    order = sorted(range(len(names)), key=lambda i: list(labels).index(names[i]))
    place = dict(zip(labels, axes, strict=True))
    sizes = [1] * rank
    for i in range(len(names)):
        sizes[place[names[i]]] = value.shape[i]
    return value.transpose(order).reshape(sizes)


# -- chains of functions ------------------------------------------------------------------------


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

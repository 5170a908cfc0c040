"""The graph of a model evaluated on numbers, with every index set at size 2 or 3.

It is an oracle for what discovery lists where the model itself is too large, or has no numbers: it
computes what the nodes say and asks none of the channels. Functions are what their names say. Where
a node says less than what the model computes, any function that is as the node says will do: what
`mix` moves along indices is mixed by random numbers, a table's rows are read where whole numbers
hash to, and functions that are not known are a wave of a sum.
"""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ._evaluation import function_of
from ._graph import Node, Tensor
from ._monomials import fraction
from ._rules_elementwise import Traits
from ._scales import is_small_constant, norm_epsilons
from ._small_sizes import Sizes, SmallLeaves, weights

Row = tuple[np.ndarray, tuple[int, ...]]  # an array with a label for each axis

#: So often a loop is gone round.
TURNS = 3


class GraphModel:
    """Evaluates the nodes of a graph, given the flat arrays of the leaves and then the inputs.

    With ``loose`` as if the epsilons of norms were 0.
    """

    def __init__(
        self, nodes: Sequence[Node], outputs: Sequence[Tensor], leaves: SmallLeaves, *, loose: bool
    ):
        self.nodes, self.outputs, self.leaves, self.loose = nodes, outputs, leaves, loose
        self.sizes: Sizes = leaves.sizes
        self.eps = float(np.finfo(np.float64).eps)
        self.epsilons = norm_epsilons(list(nodes)) if loose else set()
        known = {t.number: t for node in nodes for t, _ in node.sides}
        known |= {t.number: t for t in outputs}
        self.inputs = [t for t in known.values() if t.kind == "input" or _is_unread(t)]
        self.constants = {
            t.number: self._constant(t)
            for t in known.values()
            if t.kind == "constant" and t.value is not None
        }
        self.ties = {n.operands[0][0].number: n for n in nodes if n.name == "carry"}
        self.drawn: dict[Any, np.ndarray] = {}

    def __call__(self, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs, at every turn of the loops."""
        names = list(self.leaves.blocks)
        flat = dict(zip(names, arguments, strict=False))
        self.given = {
            t.number: self.leaves.read(t, flat[name])
            for name, blocks in self.leaves.blocks.items()
            for t in blocks
        }
        rest = arguments[len(names) :]
        self.given |= {t.number: x for t, x in zip(self.inputs, rest, strict=True)}
        self.states: dict[int, np.ndarray] = {}
        results = []
        with np.errstate(all="ignore"):
            for turn in range(TURNS if self.ties else 1):
                self.values = self.given | self.constants
                for node in self.nodes:
                    if node.name != "carry":
                        shape = self.sizes.shape(node.out)
                        value = np.asarray(getattr(self, "_" + node.kind)(node), np.float64)
                        self.values[node.out.number] = np.broadcast_to(value, shape)
                results += [self.look(t) for t in self.outputs]
                self.states = {n: self._carried(node, 2, turn) for n, node in self.ties.items()}
        return results

    def look(self, tensor: Tensor) -> Any:
        """The value of a tensor."""
        if tensor.number in self.values:
            return self.values[tensor.number]
        if tensor.kind != "carry" or tensor.number not in self.ties:
            raise NotImplementedError(f"a {tensor.kind} without a value")
        if tensor.number in self.states:
            return self.states[tensor.number]
        return self._carried(self.ties[tensor.number], 1, 0)

    def _carried(self, node, which, turn):
        """What a loop carries: what it starts from (1) or what its body makes of it (2)."""
        labels = node.operands[0][1]
        tensor, own = node.operands[which]
        value = self.look(tensor)
        for axis in reversed(range(len(own))):
            if own[axis] not in labels:  # the layers of the loop: one after the other
                value = np.take(value, turn % value.shape[axis], axis)
        kept = tuple(x for x in own if x in labels)
        return np.broadcast_to(
            _spread((value, kept), labels), self.sizes.shape(node.operands[0][0])
        )

    def _constant(self, tensor):
        value = np.asarray(tensor.value)
        if value.dtype.kind not in "fiub":
            raise NotImplementedError(f"constants of type {value.dtype}")
        value = value.astype(np.float64)
        if tensor.names is not None:  # the numbers of the entries that are kept
            return np.arange(len(self.sizes.entries(tensor.names)), dtype=np.float64)
        if not value.ndim:
            return np.float64(fraction(float(value))) if np.isfinite(value) else value
        return value[np.ix_(*map(self.sizes.entries, tensor.atoms))]

    def _rows(self, node) -> list[Row]:
        return [(self.look(t), labels) for t, labels in node.operands]

    def _random(self, node, what, make):
        key = id(node), what
        if key not in self.drawn:
            self.drawn[key] = make(np.random.default_rng([node.out.number, *what]))
        return self.drawn[key]

    # -- nodes --------------------------------------------------------------------------------

    def _linear(self, node):
        rows = zip(self._rows(node), node.coefficients, node.operands, strict=True)
        return sum(
            float(fraction(c)) * _spread(row, node.out_labels)
            for row, c, (tensor, _) in rows
            if not self._is_epsilon(node, tensor)
        )

    def _is_epsilon(self, node, tensor):
        return id(node) in self.epsilons and is_small_constant(tensor)

    def _sum(self, node):
        return self._contracted(node, self._rows(node), node.summed)

    def _product(self, node):
        rows = self._rows(node)
        if not node.frozen:
            return self._contracted(node, rows, node.summed)
        # A convolution: each entry of the output meets each entry of the kernel at one place of
        # the input; where there is padding, not at every one.
        first, second = (set(labels) & node.summed & node.frozen for _, labels in rows)
        new = node.frozen - node.summed
        size = self._label_sizes(node)
        labels = (*sorted(new), *sorted(first), *sorted(second))
        outer = [size[x] for x in (*sorted(new), *sorted(second))]

        def make(rng):
            count = int(np.prod([size[x] for x in sorted(first)]))
            place = np.eye(count)[rng.integers(0, count, outer)]
            if node.traits == "padded":
                place *= rng.integers(0, 2, outer)[..., None]
            place = np.moveaxis(place, -1, len(new))
            return place.reshape([size[x] for x in labels])

        rows.append((self._random(node, (0,), make), labels))
        return self._contracted(node, rows, node.summed - first)

    def _contracted(self, node, rows, weighted):
        weight = weights(self.sizes, node.sides)
        factor = float(fraction(node.coefficients[0]))
        factor *= float(np.prod([weight[x] for x in weighted]))
        return factor * _einsum(rows, node.out_labels)

    def _pointwise(self, node):
        values = [_spread(row, node.out_labels) for row in self._rows(node)]
        if getattr(node.traits, "narrowing", False):
            return values[0] if self.loose else values[0] + 0.1 * np.sin(3 * values[0])
        f = function_of(node)
        return _wave(values) if f is None else np.asarray(f(*values), np.float64)

    def _equal(self, node):
        rows = [
            _spread(row, node.out_labels)
            for row, (t, _) in zip(self._rows(node), node.operands, strict=True)
            if not self._is_epsilon(node, t)
        ]
        if node.name == "select":
            which, cases = _chosen(rows[0], len(rows) - 1), rows[1:]
            result = np.broadcast_arrays(*cases)[0]
            for i, x in enumerate(cases[1:], 1):
                result = np.where(which == i, x, result)
            return result
        if node.name == "clamp" and len(rows) == 3:
            return np.minimum(np.maximum(rows[1], rows[0]), rows[2])
        if node.name in ("max", "min"):
            return functools.reduce(np.maximum if node.name == "max" else np.minimum, rows)
        return sum(rows) / len(rows)

    def _reduce(self, node):
        rows = self._rows(node)
        gone = [[a for a, x in enumerate(labels) if x in node.summed] for _, labels in rows]
        if node.name in ("argmax", "argmin"):
            flat = [
                np.moveaxis(x, g, range(len(g))).reshape(-1, *_rest(x, g))
                for (x, _), g in zip(rows, gone, strict=True)
            ]
            kept = [tuple(i for i in labels if i not in node.summed) for _, labels in rows]
            spread = [
                np.stack([np.asarray(_spread((x, k), node.out_labels)) for x in f])
                for f, k in zip(flat, kept, strict=True)
            ]
            whole = np.concatenate(
                [np.broadcast_to(s, (len(s), *_common(spread))) for s in spread], axis=0
            )
            return getattr(np, node.name)(whole, axis=0)
        reduce, join = {
            "reduce_min": (np.min, np.minimum),
            "reduce_prod": (np.prod, np.multiply),
            "reduce_and": (lambda x, axis: np.min(x != 0, axis), np.logical_and),
            "reduce_or": (lambda x, axis: np.max(x != 0, axis), np.logical_or),
        }.get(node.name, (np.max, np.maximum))
        return functools.reduce(join, [_reduced(node, row, reduce) for row in rows])

    def _mix(self, node):
        """Random weights along what is mixed; what a constant becomes is as the node says."""
        rows = self._rows(node)
        if node.out.names is not None and len(rows) == 1:
            return self._largest(node, *rows[0])
        guides = [x for i, x in enumerate(rows) if i in node.guides]
        rows = [_sorted(node, x) for i, x in enumerate(rows) if i not in node.guides]
        gain = float(fraction(node.coefficients[0])) if node.coefficients else None
        mixed = self._mixed(node, rows, gain, 0)
        if guides:
            share = np.sin(sum(_reduced(node, row, np.sum) for row in guides)) ** 2
            mixed = mixed + share * (self._mixed(node, rows, gain, 1) - mixed)
        if node.traits is None:
            return mixed
        if node.traits == Traits(Fraction(1)):
            return mixed + 0.3 * self._range(node, rows)
        if node.traits.degree == 0:
            return np.sign(self._mixed(node, rows, 0.0, 2))
        if node.traits.degree is not None:
            return np.abs(mixed) ** float(node.traits.degree)
        return np.sin(1.3 * mixed + 0.4)

    def _largest(self, node, x, labels):
        """The numbers of the largest entries, one after the other along what is new."""
        gone = [labels.index(i) for i in labels if i in node.summed]
        new = [i for i in node.out_labels if i not in labels]
        kept = tuple(i for i in labels if i not in node.summed)
        order = np.argsort(-np.moveaxis(x, gone, [0]), axis=0) if len(gone) == 1 else None
        if order is None or len(new) > 1:
            raise NotImplementedError("numbers of entries along several index sets")
        size = self._label_sizes(node)[new[0]] if new else 1
        order = np.take(order, np.arange(size) % len(order), axis=0)
        value = (order, (*new, *kept)) if new else (order[0], kept)
        return _spread(value, node.out_labels).astype(np.float64)

    def _mixed(self, node, rows, gain, which):
        size, total = self._label_sizes(node), 0.0
        new = sorted(node.frozen & set(node.out_labels))

        def make(rng):
            made = []
            for _, labels in rows:
                old = [x for x in labels if x in node.summed]
                made.append(rng.uniform(0.2, 1.0, [size[x] for x in (*old, *new)]))
            sums = sum(m.reshape(-1, *[size[x] for x in new]).sum(0) for m in made)
            if gain == 0:
                count = sum(m.size for m in made) // max(1, np.asarray(sums).size)
                return [m - sums / count for m in made]
            return made if gain is None else [gain * m / sums for m in made]

        for (x, labels), m in zip(rows, self._random(node, (which,), make), strict=True):
            old = tuple(i for i in labels if i in node.summed)
            kept = tuple(i for i in node.out_labels if i in labels or i in new)
            value = _einsum([(x, labels), (m, (*old, *new))], kept)
            total = total + _spread((value, kept), node.out_labels)
        return total

    def _range(self, node, rows):
        ends = [
            functools.reduce(join, [_reduced(node, row, reduce) for row in rows])
            for reduce, join in ((np.max, np.maximum), (np.min, np.minimum))
        ]
        return ends[0] - ends[1]

    def _gather(self, node):
        (index, names), *tables = self._rows(node)
        if set(names) & node.summed:
            raise NotImplementedError("rows that are looked up along a sum")
        labels, sizes = node.out_labels, self._label_sizes(node)
        index = np.asarray(_spread((index, names), labels))
        rows = []
        for x, own in tables:
            looked = [i for i in own if i in node.summed]
            row = (
                (lambda n, k: index.astype(np.int64) % n)
                if node.named
                else (lambda n, k: _hashed(index, n, k))
            )
            at = [
                row(sizes[i], looked.index(i))
                if i in looked
                else np.arange(sizes[i]).reshape([-1 if j == i else 1 for j in labels])
                for i in own
            ]
            rows.append(x[tuple(np.broadcast_arrays(*at))] if at else x)
        which = _hashed(index, len(rows), 7)
        result = rows[0]
        for i, x in enumerate(rows[1:], 1):
            result = np.where(which == i, x, result)
        return result

    def _label_sizes(self, node):
        return {
            label: len(self.sizes.entries(atom))
            for tensor, labels in node.sides
            for label, atom in zip(labels, tensor.atoms, strict=True)
        }

    # -- places and cost ------------------------------------------------------------------------

    def scale(self) -> dict[str, float]:
        """By leaf: a size of its entries at which sums of products with them are about 1."""
        result: dict[str, float] = {}
        names = {t.number: name for name, ts in self.leaves.blocks.items() for t in ts}
        for node in self.nodes:
            if node.kind == "product":
                weight = weights(self.sizes, node.sides)
                for tensor, labels in node.operands:
                    summed = float(np.prod([weight[x] for x in node.summed & set(labels)]))
                    if tensor.number in names:
                        name = names[tensor.number]
                        result[name] = max(result.get(name, 1.0), summed)
        return {name: 1 / result.get(name, 1.0) for name in self.leaves.blocks}

    def operations(self, overhead: float) -> float:
        """About how many operations one evaluation takes."""
        sizes = [
            float(np.prod(list(self._label_sizes(node).values()), dtype=float))
            for node in self.nodes
        ]
        return (TURNS if self.ties else 1) * sum(overhead + 4 * n for n in sizes)


def _is_unread(tensor):
    return tensor.kind == "constant" and tensor.value is None


def _spread(row: Row, labels: Sequence[int]) -> np.ndarray:
    """An array with its axes where some labels are, and of size one where it has none."""
    x, own = row
    if len(set(own)) < len(own) or not set(own) <= set(labels):
        raise NotImplementedError("an operand with other labels than its node")
    x = np.transpose(x, [own.index(i) for i in labels if i in own])
    sizes = iter(np.shape(x))
    return np.reshape(x, [next(sizes) if i in own else 1 for i in labels])


def _reduced(node: Node, row: Row, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """An operand without the labels that its node sums over."""
    x, labels = row
    gone = tuple(a for a, i in enumerate(labels) if i in node.summed)
    kept = tuple(i for i in labels if i not in node.summed)
    return _spread((reduce(x, axis=gone), kept), node.out_labels)


def _einsum(rows: Sequence[Row], out: Sequence[int]) -> np.ndarray:
    numbers: dict[int, int] = {}
    own = [[numbers.setdefault(i, len(numbers)) for i in labels] for _, labels in rows]
    operands: list[Any] = [x for (a, _), labels in zip(rows, own, strict=True) for x in (a, labels)]
    kept = [i for i in out if i in numbers]
    return np.asarray(_spread((np.einsum(*operands, [numbers[i] for i in kept]), tuple(kept)), out))


def _sorted(node: Node, row: Row) -> Row:
    """An operand of `mix`, put in order along labels that are not frozen: no order counts."""
    x, labels = row
    axes = [a for a, i in enumerate(labels) if i in node.summed - node.frozen]
    front = np.moveaxis(x, axes, range(len(axes)))
    flat = front.reshape(-1, *front.shape[len(axes) :])
    return np.moveaxis(np.sort(flat, 0).reshape(front.shape), range(len(axes)), axes), labels


def _wave(values: Sequence[np.ndarray]) -> np.ndarray:
    """A function of several numbers with no property."""
    total = sum((0.7 + 0.31 * i) * x for i, x in enumerate(values))
    return np.sin(total + 0.4) + 0.3 * np.cos(1.7 * total)


def _chosen(x: np.ndarray, count: int) -> np.ndarray:
    """Which case a number chooses: itself where it is one, else some."""
    near = np.round(x)
    fits = (np.abs(x - near) < 1e-6) & (near >= 0) & (near < count)
    return np.where(fits, near, _hashed(x, count, 3)).astype(int)


def _hashed(x: np.ndarray, count: int, k: int) -> np.ndarray:
    """A number below ``count`` that depends on x alone, and on whole numbers as if at random."""
    x = np.where(np.isfinite(x), x, 0.0)
    return np.floor(np.abs(x) * (17.37 + 1.93 * k) + 0.29).astype(np.int64) % count


def _rest(x, gone):
    return [n for a, n in enumerate(np.shape(x)) if a not in gone]


def _common(arrays):
    return np.broadcast_shapes(*(a.shape[1:] for a in arrays))

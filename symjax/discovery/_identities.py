"""What is known of sums of activations, whatever the inputs: softmax rows, centred vectors.

`Identities.functional` answers: what is the sum over some labels of a tensor times weights? The
entries of a softmax sum to one, those of x - mean(x) to zero, with a gain g and bias b after that
the sum weighted by 1/g is the sum of b/g. It is found by symbolic algebra on the graph.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ._graph import Node, Tensor, constant_number
from ._monomials import (
    ONE,
    Monomial,
    Polynomial,
    add_into,
    canonical,
    fraction,
    is_summed,
    is_via,
)
from ._rules_elementwise import Traits

RECIPROCAL = Traits(Fraction(-1), 1)
#: Functions of a leaf that may stand as a factor of a shift: (power, of the absolute value).
POWERS = {"abs": (1.0, True), "sqrt": (0.5, False), "rsqrt": (-0.5, False)}


@dataclass(frozen=True)
class LeafPower:
    """A leaf, ``scale * leaf + offset`` to a power, or the absolute value of it."""

    leaf: Tensor
    power: float = 1.0
    absolute: bool = False
    scale: float = 1.0
    offset: float = 0.0


def resolve_factor(tensor: Tensor) -> LeafPower | None:
    """What a factor of a shift is made of: a leaf, or a root or modulus of a leaf and a constant.

    Its indices are those of the leaf, in the same order. None where it is anything else.
    """
    if tensor.kind == "leaf":
        return LeafPower(tensor)
    node = tensor.node
    if node is None or tensor.has_data or node.kind != "pointwise" or node.name not in POWERS:
        return None
    inner, labels = node.operands[0]
    scale, offset = 1.0, 0.0
    if labels == node.out_labels and inner.node is not None and inner.node.kind == "linear":
        offset, moving = 0.0, []
        for row, c in zip(inner.node.operands, inner.node.coefficients, strict=True):
            value = constant_number(row[0])
            if value is None:
                moving.append((row, c))
            else:
                offset += c * value
        if len(moving) != 1 or moving[0][0][1] != inner.node.out_labels:
            return None
        ((inner, _), scale) = moving[0]
    if labels != node.out_labels or inner.kind != "leaf":
        return None
    return LeafPower(inner, *POWERS[node.name], scale, offset)


#: Of one tensor so many weighted sums are looked for, by weights of so many factors.
MOST_SUMS, MOST_FACTORS = 32, 8

Form = dict[Any, Fraction]  # of monomials, and of symbols for sums that are not known


def _moved(form: Form | None, position: dict) -> Form | None:
    """A form with other labels; None where one of its labels has no counterpart."""
    if form is None:
        return None
    result: Form = {}
    for key, c in form.items():
        used = key.labels if isinstance(key, Monomial) else {p for _, p in key[-1]}
        if any(position.get(p) is None for p in used):
            return None
        if isinstance(key, Monomial):
            new = key.rename(lambda p: position[p])
        else:
            new = (*key[:-1], tuple(sorted((i, position[p]) for i, p in key[-1])))
        add_into(result, {new: c})
    return result


def _is_contraction(node: Node) -> bool:
    return node.kind == "product" and bool(node.summed) and not node.frozen


def _contraction(node: Node, kept: dict[int, int]) -> Form:
    """A product, summed over all labels but those that are kept (at some positions), as a symbol.

    A contraction of which an index is then summed is the same contraction with that index dropped.
    """
    order: dict[int, int] = {}
    rows = tuple(
        (t.number, tuple(order.setdefault(x, len(order)) for x in labels))
        for t, labels in node.operands
    )
    pairs = tuple(sorted((order[x], p) for x, p in kept.items()))
    return {("contraction", rows, pairs): fraction(node.coefficients[0])}


class Identities:
    """Questions about sums of tensors, answered once each.

    A question is a generator: it yields the questions that it leads to, and gets their answers.
    """

    def __init__(self):
        self.known: dict = {}
        self.sums: dict[int, int] = {}  # asked for, by tensor
        self.given_up: dict[int, Tensor] = {}  # where a sum had too many weights, or factors

    def _answer(self, *question):
        # On a list of our own: a deep model leads to more questions than Python nests calls.
        waiting, asked, answer = [], question, None
        while question not in self.known:
            if asked in self.known:
                answer = self.known[asked]
            else:
                waiting.append((asked, getattr(self, asked[0])(*asked[1:])))
                answer = None
            try:
                asked = waiting[-1][1].send(answer)
            except StopIteration as end:
                asked, _ = waiting.pop()
                self.known[asked] = end.value
        return self.known[question]

    def parameters(self, tensor: Tensor) -> Polynomial | None:
        """A tensor as a polynomial of leaves (labels are its positions); None if it is not."""
        return self._answer("_parameters", tensor)

    def _parameters(self, tensor):
        value = constant_number(tensor)
        if value is not None:
            if not math.isfinite(value):
                return None
            return {ONE: fraction(value)} if value else {}
        if tensor.kind == "leaf" or resolve_factor(tensor) is not None:
            return {canonical([(tensor.number, 1, tuple(range(len(tensor.atoms))))]): Fraction(1)}
        node = tensor.node
        if node is None or tensor.has_data or node.kind not in ("linear", "product", "pointwise"):
            return None
        parts = []
        for operand, labels in node.operands:
            inner = yield "_parameters", operand
            if inner is None or len(inner) > 4:
                return None
            parts.append({m.rename(lambda p, x=labels: x[p]): c for m, c in inner.items()})
        total: Polynomial = {}
        if node.kind == "linear":
            for part, coefficient in zip(parts, node.coefficients, strict=True):
                add_into(total, part, fraction(coefficient))
        elif node.kind == "product" and not node.summed and not node.frozen:
            for a, x in parts[0].items():
                for b, y in parts[1].items():
                    add_into(total, {a.times(b): x * y * fraction(node.coefficients[0])})
        elif node.kind == "pointwise" and node.traits == RECIPROCAL and len(parts[0]) == 1:
            ((only, coefficient),) = parts[0].items()
            if any(isinstance(n, tuple) for _, _, names in only.factors for n in names):
                return None
            inverse = canonical([(w, -p, names) for w, p, names in only.factors])
            total = {inverse: 1 / coefficient}
        else:
            return None
        position = {label: i for i, label in enumerate(node.out_labels)}
        return {m.rename(lambda x: position[x]): c for m, c in total.items()}

    def functional(
        self, tensor: Tensor, gone: frozenset[int], weight: Monomial = ONE
    ) -> Polynomial | None:
        """The sum of a tensor times a weight over some positions; None if it is not known.

        Labels are positions of the tensor. The result is a polynomial of leaves.
        """
        if tensor.narrow:
            return None
        form = self._answer("_form", tensor, gone, weight)
        symbolic = form is None or any(isinstance(k, tuple) for k in form)
        return None if symbolic else form

    def _form(self, tensor, gone, weight):
        """As `functional`, with symbols (tuples) for sums that are not known themselves."""
        count = self.sums[tensor.number] = self.sums.get(tensor.number, 0) + 1
        if count > MOST_SUMS or len(weight.factors) > MOST_FACTORS:
            self.given_up[tensor.number] = tensor
            return None
        polynomial = yield "_parameters", tensor
        if polynomial is not None:
            total: Form = {}
            for m, c in polynomial.items():
                add_into(total, {m.times(weight).sum_over(set(gone)): c})
            return total
        node = tensor.node
        found = None
        if node is not None and node.kind == "linear":
            found = yield from self._of_linear(node, gone, weight)
        elif node is not None and node.kind == "product" and not node.frozen:
            found = yield from self._of_product(node, gone, weight)
        if found is None and weight == ONE and node is not None and _is_contraction(node):
            kept = {x: p for p, x in enumerate(node.out_labels) if p not in gone}
            found = _contraction(node, kept)
        if found is None and weight == ONE:
            kept = tuple((p, p) for p in range(len(tensor.atoms)) if p not in gone)
            found = {("sum", tensor.number, gone, kept): Fraction(1)}
        return found

    def _inside(self, node, position_set, weight, operand):
        """Positions and weight of the output, as those of an operand."""
        _, labels = operand
        own = {label: i for i, label in enumerate(labels)}
        gone = [node.out_labels[p] for p in position_set]
        wanted = {node.out_labels[p] for p in weight.labels}
        if not wanted <= set(own):
            return None
        moved = weight.rename(lambda p: own[node.out_labels[p]])
        return frozenset(own[x] for x in gone if x in own), moved, [x for x in gone if x not in own]

    def _outside(self, node, form, operand):
        """A form in positions of an operand, as one in positions of the output."""
        position = {label: i for i, label in enumerate(node.out_labels)}
        return _moved(form, {p: position.get(x) for p, x in enumerate(operand[1])})

    def _of_linear(self, node, gone, weight):
        total: dict = {}
        for operand, coefficient in zip(node.operands, node.coefficients, strict=True):
            inside = self._inside(node, gone, weight, operand)
            if inside is None:
                return None
            own, moved, missing = inside
            sizes = {
                x: node.out.atoms[p].size for p, x in enumerate(node.out_labels) if x in missing
            }
            count = 1
            for size in sizes.values():
                count *= size
            if own:
                form = yield "_form", operand[0], own, moved
            elif moved == ONE:
                form = yield "_symbols", operand[0]
            else:
                form = None
            form = self._outside(node, form, operand) if form else form
            if form is None:
                return None
            add_into(total, form, fraction(coefficient) * count)
        return total

    def _symbols(self, tensor):
        """A tensor as a multiple of the sum of another, where it is one.

        A symbol ends in pairs (index of what is summed, position of the tensor).
        """
        polynomial = yield "_parameters", tensor
        if polynomial is not None:
            return polynomial
        factor, node = Fraction(1), tensor.node
        at = {p: p for p in range(len(tensor.atoms))}  # position here -> position of the first
        while node is not None and node.kind == "linear" and len(node.operands) == 1:
            factor *= fraction(node.coefficients[0])
            tensor, labels = node.operands[0]
            at = {i: at[node.out_labels.index(x)] for i, x in enumerate(labels)}
            node = tensor.node
        if node is not None and node.kind == "sum":
            inner, labels = node.operands[0]
            gone = frozenset(i for i, x in enumerate(labels) if x in node.summed)
            pairs = {i: at[node.out_labels.index(x)] for i, x in enumerate(labels) if i not in gone}
            form = _moved((yield "_form", inner, gone, ONE), pairs)
            if form is not None:
                total: Form = {}
                add_into(total, form, factor * fraction(node.coefficients[0]))
                return total
        if node is not None and _is_contraction(node):
            form = _contraction(node, {x: at[i] for i, x in enumerate(node.out_labels)})
            return {key: factor * c for key, c in form.items()}
        return {("tensor", tensor.number, tuple(sorted(at.items()))): factor}

    def _of_product(self, node: Node, gone, weight):
        if node.summed:
            return None
        coefficient = fraction(node.coefficients[0])
        labels = {node.out_labels[p] for p in gone}
        for a, b in ((0, 1), (1, 0)):
            rest, factor = node.operands[a], node.operands[b]
            inside = self._inside(node, gone, ONE, rest)
            if inside is None or inside[2]:
                continue
            if not labels & set(factor[1]):
                found = yield from self._beside(node, rest, factor, inside[0], weight)
            else:
                found = yield from self._weighted(node, rest, factor, inside[0], weight)
            if found is not None:
                total: Form = {}
                add_into(total, found, coefficient)
                return total
        return None

    def _beside(self, node, rest, factor, own, weight):
        """Sum (rest * factor), the factor being constant along what is summed."""
        moved = self._inside(node, frozenset(), weight, rest)
        if moved is None:
            return None
        reciprocal = factor[0].node
        if (
            weight == ONE
            and reciprocal is not None
            and reciprocal.kind == "pointwise"
            and reciprocal.traits == RECIPROCAL
        ):
            inner, labels = reciprocal.operands[0]
            # The divisor's labels in this node, index by index of what it is a sum of.
            named = {x: factor[1][i] for i, x in enumerate(reciprocal.out_labels)}
            below = yield "_symbols", inner
            below = _moved(below, {p: named[x] for p, x in enumerate(labels)})
            above = _moved((yield "_form", rest[0], own, ONE), dict(enumerate(rest[1])))
            if above and above == below:
                return {ONE: Fraction(1)}
        form = yield "_form", rest[0], own, moved[1]
        return {} if form == {} else None

    def _weighted(self, node, rest, factor, own, weight):
        """Sum (rest * factor * weight), the factor being made of parameters."""
        polynomial = yield "_parameters", factor[0]
        if polynomial is None or len(polynomial) != 1:
            return None
        ((only, coefficient),) = polynomial.items()
        position = {label: i for i, label in enumerate(rest[1])}
        here = only.rename(lambda p: factor[1][p])
        whole = here.times(weight.rename(lambda p: node.out_labels[p]))
        if not whole.labels <= set(position):
            return None
        form = yield "_form", rest[0], own, whole.rename(lambda x: position[x])
        form = self._outside(node, form, rest) if form is not None else None
        if form is None:
            return None
        total: Form = {}
        add_into(total, form, coefficient)
        return total

    def weights(self, tensor: Tensor, position: int) -> list[Monomial]:
        """Weights along a position for which a weighted sum of a tensor may be known.

        Their labels are positions of the tensor: the given one, and others that a gain has.
        """
        found, total = [ONE], ONE
        at = {p: p for p in range(len(tensor.atoms))}  # position here -> position of the first
        while tensor.node is not None:
            if len(total.factors) > MOST_FACTORS:
                self.given_up[tensor.number] = tensor
                break
            names = {x: at[p] for p, x in enumerate(tensor.node.out_labels) if p in at}
            label = next(x for x, p in names.items() if p == position)
            step = self._along(tensor.node, label, names)
            if step is None:
                break
            (tensor, labels), weight = step
            at = {i: names[x] for i, x in enumerate(labels) if x in names}
            if weight != ONE:
                total = total.times(weight)
                found.append(total)
        return found

    def _along(self, node, label, names):
        """(operand, weight): where the sum along a label goes on, and one over the gain beside."""
        if node.kind == "linear":
            rows = [x for x in node.operands if label in x[1] and x[0].has_data]
            return (rows[0], ONE) if rows else None
        if node.kind != "product" or node.summed:
            return None
        for rest, (factor, others) in (node.operands, node.operands[::-1]):
            if label not in rest[1]:
                continue
            if label not in others:
                return rest, ONE
            polynomial = self.parameters(factor)
            if polynomial is None or len(polynomial) != 1 or not set(others) <= set(names):
                continue
            (gain,) = polynomial
            names_of = [n for _, _, ns in gain.factors for n in ns]
            if not any(is_summed(n) or is_via(n) for n in names_of):
                place = gain.rename(lambda p, others=others: names[others[p]])
                return rest, canonical([(w, -p, ns) for w, p, ns in place.factors])
        return None

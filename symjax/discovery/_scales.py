"""Scales and signs: every way to multiply entries of the parameters that the output cannot see.

The logarithm of the factor of a tensor is a *form*: for every subset of its indices an unknown
function of those indices alone. A leaf has one unknown per subset; each node gives linear equations
between forms, the same for every value of the indices, so that one rational null space holds every
diagonal symmetry at once. Over the field of two elements, with odd for "degree one", the same
equations give the signs.
"""

from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations
from typing import Any

from ._elimination import Relations, Row, echelon
from ._graph import TIES, Node, Tensor, constant_number
from ._rules_elementwise import NOTHING, Traits

#: A set of labels; for the row of a table that was looked up there stands ("via", number of
#: the array of whole numbers, its labels, index set of the rows).
Subset = frozenset
Unknown = tuple[int, frozenset]  # the number of a tensor, and a set of its positions
Form = dict[Subset, Row]


def subsets(count: int) -> Iterable[frozenset]:
    """All sets of positions below ``count``."""
    return (frozenset(c) for r in range(count + 1) for c in combinations(range(count), r))


class Scales:
    """The equations of the scales (``modulus`` 0) or of the signs (2) of a list of nodes.

    With ``loose`` as if the epsilons of norms were 0; with ``casts`` as if casts rounded nothing.
    """

    def __init__(
        self,
        nodes: list[Node],
        outputs: list[Tensor],
        modulus: int,
        loose: bool,
        casts: bool = False,
    ):
        self.modulus, self.casts = modulus, casts
        self.relations = Relations(modulus)
        self.forms: dict[int, Form] = {}
        self.unknowns: dict[Unknown, Tensor] = {}
        self.epsilons = norm_epsilons(nodes) if loose else set()
        for node in nodes:
            self.read(node)
        for tensor in outputs:
            self.relations.vanish(self.form(tensor))

    # -- forms --------------------------------------------------------------------------------

    def form(self, tensor: Tensor) -> Form:
        """The form of a tensor, by sets of its positions."""
        if tensor.number not in self.forms:
            form: Form = {}
            if tensor.kind in ("leaf", "carry"):
                for subset in subsets(len(tensor.atoms)):
                    unknown = (tensor.number, subset)
                    self.unknowns[unknown] = tensor
                    if not _repeats(tensor, subset):
                        form[subset] = {unknown: Fraction(1)}
                    else:
                        self.relations.add({unknown: Fraction(1)})
            self.forms[tensor.number] = form
        return self.forms[tensor.number]

    def _labelled(self, tensor: Tensor, labels: tuple[int, ...]) -> Form:
        return {_renamed(key, labels): row for key, row in self.form(tensor).items()}

    def _set_out(self, node: Node, form: Form) -> None:
        position = {label: i for i, label in enumerate(node.out_labels)}
        self.forms[node.out.number] = {
            _renamed(key, position): row for key, row in form.items() if row
        }

    def _without(self, form: Form, gone: set[int]) -> Form:
        """What is left of a form where it must not depend on some labels."""
        touched = {key: row for key, row in form.items() if _labels(key) & gone}
        self.relations.vanish(touched)
        return {key: row for key, row in form.items() if key not in touched}

    def _times(self, form: Form, degree: Fraction) -> Form:
        result = {}
        for key, row in form.items():
            new: Row = {}
            self.relations.combine(new, row, degree)
            result[key] = new
        return result

    # -- nodes --------------------------------------------------------------------------------

    def degree(self, traits: Traits | str | None, name: str) -> Fraction | None:
        """The degree of a function, or its parity; None where it has none. None is linear."""
        if traits is None:
            return Fraction(1)
        if isinstance(traits, str):
            return None if self.modulus else Fraction(1)
        if traits.narrowing:
            return Fraction(1) if self.modulus or self.casts else None
        if self.modulus:
            return None if traits.parity is None else Fraction(traits.parity)
        return traits.degree

    def read(self, node: Node) -> None:
        """Enter the equations of a node, and the form of what it makes."""
        guides = [x for i, x in enumerate(node.operands) if i in node.guides]
        rest = [x for i, x in enumerate(node.operands) if i not in node.guides]
        for tensor, _ in guides:
            self.relations.vanish(self.form(tensor))
        self._set_out(node, getattr(self, "_" + node.kind)(node, rest))

    def _linear(self, node, operands):
        forms = [
            self._labelled(t, labels)
            for t, labels in operands
            if not (id(node) in self.epsilons and is_small_constant(t))
        ]
        return self._same(forms)

    def _same(self, forms):
        for form in forms[1:]:
            self.relations.equate(forms[0], form)
        return forms[0] if forms else {}

    def _product(self, node, operands):
        result: Form = {}
        for tensor, labels in operands:
            for key, row in self._labelled(tensor, labels).items():
                self.relations.combine(result.setdefault(key, {}), row)
        return self._without(result, node.summed)

    def _sum(self, node, operands):
        return self._without(self._labelled(*operands[0]), node.summed)

    def _pointwise(self, node, operands):
        degree = self.degree(node.traits or NOTHING, node.name)
        forms = [self._labelled(t, labels) for t, labels in operands]
        if degree is None or len(forms) > 1:
            for form in forms:
                self.relations.vanish(form)
            return {}
        return self._times(forms[0], degree) if degree else {}

    def _equal(self, node, operands):
        degree = self.degree(node.traits, node.name)
        forms = [
            self._labelled(t, labels)
            for t, labels in operands
            if not self._ignored(t, node)
            and not (id(node) in self.epsilons and is_small_constant(t))
        ]
        if degree is None:
            for form in forms:
                self.relations.vanish(form)
            return {}
        if node.name in TIES:
            self._same(forms)
            return {}
        return self._same(forms)

    def _ignored(self, tensor, node):
        value = constant_number(tensor)
        if value is None:
            return False
        return value == 0 or (value in (float("inf"), float("-inf")) and not self.modulus)

    def _reduce(self, node, operands):
        degree = self.degree(node.traits, node.name)
        if self.modulus or node.traits == NOTHING:
            degree = None
        forms = [self._without(self._labelled(*x), node.summed) for x in operands]
        if degree is None:
            for form in forms:
                self.relations.vanish(form)
            return {}
        form = self._same(forms)
        return form if degree else {}

    def _mix(self, node, operands):
        degree = self.degree(node.traits, node.name)
        if node.traits is not None and self.modulus:
            degree = None
        gone = set(node.frozen) | node.summed
        forms = [self._without(self._labelled(*x), gone) for x in operands]
        if degree is None:
            for form in forms:
                self.relations.vanish(form)
            return {}
        form = self._same(forms)
        return self._times(form, degree) if degree else {}

    def _gather(self, node, operands):
        index, labels = node.operands[0]
        forms = [self._labelled(*x) for x in operands]
        rows = node.summed
        if len(operands) > 1 or len(rows) > 1:
            # Rows that lie in several index sets: nothing may depend on which is read.
            return self._same([self._without(form, rows) for form in forms])
        atoms = dict(zip(operands[0][1], operands[0][0].atoms, strict=True))
        via = {p: ("via", index.number, tuple(labels), atoms[p].find().key) for p in rows}
        through = lambda p: via[p] if p in via else p
        result = {Subset(map(through, key)): row for key, row in forms[0].items()}
        # A row that is looked up by numbers that were looked up in the same table.
        touched = {k for k in result for p in k if _via(p) and set(p[2]) & rows}
        self.relations.vanish({k: result[k] for k in touched})
        return {k: r for k, r in result.items() if k not in touched}

    # -- solutions ----------------------------------------------------------------------------

    def solutions(self) -> dict[tuple, list[Row]]:
        """Per kind of index sets (a sorted tuple of their identities): a basis on the leaves.

        A row gives the exponent of every leaf unknown of that kind.
        """
        kind = {u: kind_of(tensor, u[1]) for u, tensor in self.unknowns.items()}
        result = {}
        for name, solutions in self.relations.solutions(kind).items():
            rows = [
                {u: c for u, c in row.items() if self.unknowns[u].kind == "leaf"}
                for row in solutions
            ]
            rows = echelon([row for row in rows if row], self.modulus)
            if rows:
                result[name] = rows
        return result


def kind_of(tensor: Tensor, positions: Iterable[int]) -> tuple:
    """The identities of the index sets at some positions, sorted."""
    return tuple(sorted((tensor.atoms[p].find().key for p in positions), key=repr))


def norm_epsilons(nodes: list[Node]) -> set[int]:
    """The nodes that add a small constant to what a root or a reciprocal is then taken of."""
    roots = {Fraction(1, 2), Fraction(-1, 2), Fraction(-1)}
    found, wanted = set(), set()
    for node in reversed(nodes):
        traits = node.traits
        if node.kind == "pointwise" and isinstance(traits, Traits) and traits.degree in roots:
            wanted.add(node.operands[0][0].number)
        elif node.out.number in wanted and node.kind in ("linear", "equal"):
            if any(is_small_constant(t) for t, _ in node.operands):
                found.add(id(node))
            elif len(node.operands) == 1:
                wanted.add(node.operands[0][0].number)
    return found


def is_small_constant(tensor: Tensor) -> bool:
    """Whether a tensor is a norm's epsilon: a positive number of at most 1e-2."""
    value = constant_number(tensor)
    return value is not None and 0 < value <= 1e-2


def _via(token: Any) -> bool:
    return isinstance(token, tuple)


def _renamed(key: Subset, labels: Any) -> Subset:
    name = lambda p: (*p[:2], tuple(labels[i] for i in p[2]), p[3]) if _via(p) else labels[p]
    return Subset(map(name, key))


def _labels(key: Subset) -> set:
    return {label for p in key for label in (p[2] if _via(p) else (p,))}


def _repeats(tensor, subset):
    classes = [tensor.atoms[p].find() for p in subset]
    return len(set(map(id, classes))) < len(classes)

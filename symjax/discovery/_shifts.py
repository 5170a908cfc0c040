"""Shifts: what may be added to the parameters so that the output does not change.

As with scales, every leaf has unknowns; here an unknown is the coefficient of a monomial, a free
function of some of the leaf's indices, times other leaves where another leaf has to make up for it
(b_2 -= W_2 v). A node carries monomials forward; whatever meets a function that is not linear must
vanish. Which products of leaves are needed is found on the way: a sum of a leaf with something that
has been shifted offers the leaf what was found there, and the model is walked again.
"""

from collections.abc import Iterable
from fractions import Fraction

from ._elimination import Relations, Row, independent
from ._graph import TIES, Node, Tensor, constant_number, leaves_of
from ._identities import Identities, resolve_factor
from ._monomials import (
    Monomial,
    canonical,
    fraction,
    is_via,
)
from ._rules_elementwise import NOTHING, Traits
from ._scales import kind_of, subsets
from ._unseen import Unseen, is_unseen

Form = dict[Monomial, Row]
Unknown = tuple[int, Monomial]

#: Constants this large stand for infinity in a mask: what is added to them drowns.
INFINITE = 1e9
#: No more products than this are offered to a leaf.
MOST_MONOMIALS = 60
#: Products of more factors than this, and sums of more products than this many and the nodes, are
#: not followed: they must be zero.
MOST_FACTORS, MOST_TERMS = 16, 60
#: The model is walked again while shifts are offered or refuted, but not more often than this.
MOST_WALKS = 20
#: A loop multiplies what it carries at every step, so it would be offered powers of a leaf without
#: end. The highest of them, which no other step takes away, is zero: few are enough.
MOST_POWER = 4


class Shifts:
    """The equations of the shifts of a list of nodes."""

    def __init__(self, nodes: list[Node], outputs: list[Tensor], stacked: list[Tensor]):
        self.nodes, self.outputs, self.stacked = nodes, outputs, stacked
        self.identities = Identities()
        self.offered: dict[int, dict[Monomial, None]] = {}
        self.tensors = {t.number: t for node in nodes for t, _ in node.sides}
        self.tensors |= {t.number: t for t in outputs}
        self.unseen = Unseen(nodes)
        for _ in range(MOST_WALKS):
            before = sum(map(len, self.offered.values()))
            self._walk()
            refuted = self.unseen.refute(self.relations)
            if not refuted and sum(map(len, self.offered.values())) == before:
                break
        else:
            self.unseen.forget()
            self._walk()
            held = [self.tensors[n] for n in (*self.offered, *self.forms) if n in self.tensors]
            self._name("shifts that take too many walks", held)
        for tensor in self.identities.given_up.values():
            self.given_up.setdefault("sums with too many weights", set()).update(leaves_of(tensor))

    def _walk(self):
        self.relations = Relations()
        self.given_up: dict[str, set[int]] = {}  # what was too long to follow: leaves
        self.forms: dict[int, Form] = {}
        self.unknowns: set[Unknown] = set()
        self.products: list[tuple[Node, Form, Form]] = []
        self.product_index: dict[Unknown, list[int]] | None = None
        for node in self.nodes:
            guides = [x for i, x in enumerate(node.operands) if i in node.guides]
            rest = [x for i, x in enumerate(node.operands) if i not in node.guides]
            for tensor, _ in guides:
                self.relations.vanish(self.form(tensor))
            form = getattr(self, "_" + node.kind)(node, rest)
            position = {label: i for i, label in enumerate(node.out_labels)}
            form = {
                m.rename(lambda x, p=position: p[x]): row
                for m, row in ((m, self.relations.reduce(r)) for m, r in form.items())
                if row
            }
            if len(form) > MOST_TERMS + len(self.nodes):
                self._give_up("shifts that are sums of too many products", form)
                form = {}
            self.forms[node.out.number] = form
        for tensor in self.outputs:
            self.relations.vanish(self.form(tensor))
        for tensor in self.stacked:
            # An unseen shift is another one in each step, which a stack of steps would show.
            form = self.forms.get(tensor.number, {})
            self.relations.vanish({m: row for m, row in form.items() if is_unseen(m)})

    def _give_up(self, why: str, form: Form) -> None:
        self.relations.vanish(form)
        self._name(why, [self.tensors[u[0]] for row in form.values() for u in row])

    def _name(self, why: str, tensors: Iterable[Tensor]) -> None:
        """Enter the leaves among some tensors as those that something may have been missed for."""
        leaves = {t.leaf.leaf for t in tensors if t.leaf is not None}
        if leaves:
            self.given_up.setdefault(why, set()).update(leaves)

    # -- forms --------------------------------------------------------------------------------

    def form(self, tensor: Tensor) -> Form:
        """The shift of a tensor, by monomials in its positions."""
        if tensor.number not in self.forms:
            form: Form = {}
            if tensor.kind in ("leaf", "carry"):
                own = [*_free_functions(tensor), *self.offered.get(tensor.number, ())]
                for monomial in self.unseen.among(tensor, own):
                    unknown = (tensor.number, monomial)
                    self.unknowns.add(unknown)
                    form[monomial] = {unknown: Fraction(1)}
            self.forms[tensor.number] = form
        return self.forms[tensor.number]

    def _labelled(self, tensor: Tensor, labels: tuple[int, ...]) -> Form:
        return {m.rename(lambda p: labels[p]): row for m, row in self.form(tensor).items()}

    def _add(self, total: Form, monomial: Monomial, row: Row, factor: Fraction | int = 1) -> None:
        self.relations.combine(total.setdefault(monomial, {}), row, factor)

    def _same(self, forms):
        for form in forms[1:]:
            self.relations.equate(forms[0], form)
        return forms[0] if forms else {}

    def _without(self, form: Form, gone: set[int]) -> Form:
        self.relations.vanish({m: row for m, row in form.items() if m.labels & gone})
        return {m: row for m, row in form.items() if not m.labels & gone}

    # -- nodes --------------------------------------------------------------------------------

    def _linear(self, node, operands):
        forms = [self._labelled(t, labels) for t, labels in operands]
        self._offer(operands, forms)
        total: Form = {}
        for form, coefficient in zip(forms, node.coefficients, strict=True):
            for m, row in form.items():
                self._add(total, m, row, fraction(coefficient))
        return total

    def _offer(self, operands, forms):
        """To each leaf that is added to something: the monomials of what it is added to."""
        if len(operands) < 2:
            return
        for i, (tensor, labels) in enumerate(operands):
            leaf, names = _bare_leaf(tensor, labels)
            if leaf is None:
                continue
            position = {x: p for p, x in enumerate(names) if x is not None}
            held = self.offered.setdefault(leaf.number, {})
            for j, form in enumerate(forms):
                for m, row in form.items():
                    suits = m.labels <= set(position) and not any(map(is_via, m.free))
                    suits = suits and not is_unseen(m)
                    if j == i or not suits or not self.relations.reduce(row):
                        continue
                    again = leaf.kind == "carry" and any(p > MOST_POWER for _, p, _ in m.factors)
                    if again or not self._of_leaves(m):
                        continue
                    new = m.rename(lambda x, p=position: p[x])
                    if new in held or new in _free_functions(leaf):
                        continue
                    if len(held) < MOST_MONOMIALS:
                        held[new] = None
                    else:
                        moved = [self.tensors[u[0]] for u in row]
                        self._name("shifts by too many products", [leaf, *moved])

    def _of_leaves(self, monomial):
        return bool(monomial.others) and all(
            what in self.tensors and resolve_factor(self.tensors[what]) is not None
            for what, _, _ in monomial.others
        )

    def _sum(self, node, operands):
        total: Form = {}
        tensor, labels = operands[0]
        sizes = dict(zip(labels, (a.size for a in tensor.atoms), strict=True))
        for m, row in self._labelled(tensor, labels).items():
            self._summed(node, total, m, row, node.summed, sizes, fraction(node.coefficients[0]))
        return total

    def _summed(self, node, total, m, row, gone, sizes, factor):
        """Add the sum of a monomial over labels to a form."""
        if len(m.factors) > MOST_FACTORS:
            self._give_up("shifts through too many factors", {m: row})
            return
        for label in gone - m.labels:
            factor *= sizes[label]
        inside = m.labels & gone
        if any(is_via(n) and set(n[2]) & inside for n in m.free):
            self.relations.add(row)
            return
        for known, value in self._simplified(m, inside).items():
            self._add(total, known, row, factor * value)

    def _simplified(self, m, gone):
        """The sum of a monomial over labels, with what is known of sums of activations."""
        if not gone:
            return {m: Fraction(1)}
        if not set(m.shift[2]) & gone:
            data = [f for f in m.others if self.tensors[f[0]].has_data and set(f[2]) & gone]
            if len(data) == 1 and data[0][1] == 1:
                found = self._known_sum(m, data[0], gone)
                if found is not None:
                    return found
        return {m.sum_over(gone): Fraction(1)}

    def _known_sum(self, m, factor, gone):
        what, _, names = factor
        position = {n: p for p, n in enumerate(names)}
        beside = [f for f in m.others if f is not factor and set(f[2]) & gone]
        if any(not set(f[2]) <= set(position) for f in beside) or not gone <= set(position):
            return None
        weight = canonical([(w, p, tuple(position[n] for n in ns)) for w, p, ns in beside])
        known = self.identities.functional(
            self.tensors[what], frozenset(position[x] for x in gone), weight
        )
        if known is None:
            return None
        rest = Monomial(tuple(f for f in m.factors if f is not factor and f not in beside))
        return {
            canonical([*rest.times(k.rename(lambda p: names[p])).factors]): c
            for k, c in known.items()
        }

    def _product(self, node, operands):
        forms = [self._labelled(t, labels) for t, labels in operands]
        total: Form = {}
        factor = fraction(node.coefficients[0])
        sizes = {x: a.size for t, labels in operands for x, a in zip(labels, t.atoms, strict=True)}
        self._seed(node, operands)
        self.products.append((node, forms[0], forms[1]))
        if all(any(map(is_unseen, form)) for form in forms):
            for form in forms:
                self.relations.vanish({m: row for m, row in form.items() if is_unseen(m)})
        for i, j in ((0, 1), (1, 0)):
            live = {m: self.relations.reduce(row) for m, row in forms[i].items()}
            live = {m: row for m, row in live.items() if row}
            if not live:
                continue
            if node.frozen:
                self._convolved(node, total, live, operands[i], operands[j], factor)
                continue
            for other, value in self._symbol(*operands[j]).items():
                for m, row in live.items():
                    whole = m.times(other)
                    self._summed(node, total, whole, row, node.summed, sizes, factor * value)
        return total

    def _symbol(self, tensor, labels):
        """A factor as a polynomial of leaves, or as itself."""
        polynomial = self.identities.parameters(tensor)
        if polynomial is not None:
            return {m.rename(lambda p: labels[p]): c for m, c in polynomial.items()}
        return {canonical([(tensor.number, 1, labels)]): Fraction(1)}

    def _convolved(self, node, total, live, moved, other, factor):
        """A convolution: the shift must be constant in space, and without padding stays so.

        A kernel that is shifted adds sums over windows of its signal, which are not followed.
        """
        (tensor, labels), (kernel, names) = moved, other
        own_space = set(labels) & set(node.frozen)
        if moved is not node.operands[0] or kernel.has_data or node.traits == "padded":
            self.relations.vanish(live)
            return
        gone = node.summed & set(names)
        sizes = dict(zip(labels, (a.size for a in tensor.atoms), strict=True))
        for m, row in live.items():
            if m.labels & own_space:
                self.relations.add(row)
                continue
            for symbol, value in self._symbol(kernel, names).items():
                whole = m.times(symbol)
                left = (node.summed & set(labels)) - own_space
                self._summed(node, total, whole, row, gone | left, sizes, factor * value)

    def _seed(self, node, operands):
        """Offer a weight the shifts that an identity of the activations makes invisible."""
        if node.frozen:
            return
        for (tensor, labels), (x, names) in (operands, operands[::-1]):
            both = node.summed & set(labels) & set(names)
            if tensor.kind != "leaf" or not x.has_data or len(both) != 1:
                continue
            (label,) = both
            place, own = labels.index(label), names.index(label)
            rest = [p for p in range(len(labels)) if p != place]
            for weight in self.identities.weights(x, own):
                beside = {names[p] for p in weight.labels}
                if label not in beside or not beside - {label} <= set(labels) - node.summed:
                    continue
                if self.identities.functional(x, frozenset({own}), weight) is None:
                    continue
                shape = weight.rename(lambda p, x=names, w=labels: w.index(x[p]))
                free = [(("shift", kind_of(tensor, rest)), 1, tuple(_by_kind(tensor, rest)))]
                held = self.offered.setdefault(tensor.number, {})
                held[canonical([*free, *shape.factors])] = None

    def _pointwise(self, node, operands):
        for x in operands:
            self.relations.vanish(self._labelled(*x))
        return {}

    def _equal(self, node, operands):
        forms = [
            self._labelled(t, labels)
            for t, labels in operands
            if not abs(constant_number(t) or 0.0) >= INFINITE
        ]
        if node.name != "carry":
            same = self._same(forms)
            return {} if node.name in TIES else same
        self._offer(operands, forms)
        (state, labels), *_ = operands
        self._same([self.unseen.rest(state, labels, form) for form in forms])
        return {}

    def _reduce(self, node, operands):
        traits = node.traits or NOTHING
        forms = [self._without(self._labelled(*x), node.summed) for x in operands]
        if traits == NOTHING:
            for form in forms:
                self.relations.vanish(form)
            return {}
        form = self._same(forms)
        return form if traits.degree else {}

    def _mix(self, node, operands):
        gone = set(node.frozen) | node.summed
        forms = [self._without(self._labelled(*x), gone) for x in operands]
        if not node.coefficients and node.traits != Traits(Fraction(0)):
            for form in forms:
                self.relations.vanish(form)
            return {}
        form = self._same(forms)
        if not node.coefficients:
            return {}
        total: Form = {}
        for m, row in form.items():
            self._add(total, m, row, fraction(node.coefficients[0]))
        return total

    def _gather(self, node, operands):
        index, labels = node.operands[0]
        if len(operands) > 1:
            return self._same([self._without(self._labelled(*x), node.summed) for x in operands])
        rows, total = node.summed, {}
        if len(rows) > 1:
            return self._without(self._labelled(*operands[0]), rows)
        via = ("via", index.number, tuple(labels))
        for m, row in self._labelled(*operands[0]).items():
            change = lambda n: via if n in rows else n
            if any(is_via(n) and set(n[2]) & rows for n in m.free):
                self.relations.add(row)
                continue
            factors = [(w, p, tuple(map(change, names))) for w, p, names in m.factors]
            self._add(total, canonical(factors), row)
        return total

    # -- solutions ----------------------------------------------------------------------------

    def solutions(self) -> dict[tuple, list[Row]]:
        """Per kind of the free function: a basis of coefficients of the leaves' monomials."""
        kinds = {u: u[1].shift[0][1] for u in sorted(self.unknowns, key=repr)}
        result = {}
        for kind, solutions in self.relations.solutions(kinds).items():
            rows = [r for r in solutions if self._is_a_shift(r)]
            on_leaves = [
                {u: c for u, c in row.items() if self.tensors[u[0]].kind == "leaf"} for row in rows
            ]
            rows = independent([r for r in on_leaves if r and self._factors_rest(r)])
            if rows:
                result[kind] = rows
        return result

    def _factors_rest(self, row):
        """Whether no leaf that moves stands as a factor."""
        moved = {number for number, _ in row}
        factors = [self.tensors[what] for _, m in row for what, _, _ in m.others]
        resolved = [resolve_factor(t) for t in factors]
        return not any(f is None or f.leaf.number in moved for f in resolved)

    def _is_a_shift(self, solution):
        """Whether no product has both of its factors shifted: then nothing is of second order."""
        moved = lambda form: any(
            sum(c * solution[u] for u, c in row.items() if u in solution)
            or any(is_unseen(u[1]) for u in row)
            for row in form
        )
        touched = {i for u in solution for i in self._products_of().get(u, ())}
        for i in touched:
            _, a, b = self.products[i]
            if a and b and moved(a.values()) and moved(b.values()):
                return False
        return True

    def _products_of(self):
        """Unknown -> the numbers of the products both of whose factors may be shifted."""
        if self.product_index is None:
            self.product_index = {}
            for i, (_, a, b) in enumerate(self.products):
                if a and b:
                    for u in {u for form in (a, b) for row in form.values() for u in row}:
                        self.product_index.setdefault(u, []).append(i)
        return self.product_index


def _by_kind(tensor, positions):
    return sorted(positions, key=lambda p: repr(tensor.atoms[p].find().key))


def _free_functions(tensor: Tensor) -> list[Monomial]:
    """The monomials that are a function of some of the indices alone."""
    result = []
    for subset in subsets(len(tensor.atoms)):
        classes = {tensor.atoms[p].find().key for p in subset}
        if len(classes) == len(subset):
            key = ("shift", kind_of(tensor, subset))
            result.append(canonical([(key, 1, tuple(_by_kind(tensor, subset)))]))
    return result


def _bare_leaf(tensor, labels):
    """(leaf, label of each of its positions or None) of a tensor that is a leaf's entries."""
    while tensor.node is not None:
        node = tensor.node
        name = dict(zip(node.out_labels, labels, strict=True))
        if node.kind == "gather" and len(node.operands) == 2:
            inner, inner_labels = node.operands[1]
        elif node.kind == "linear" and len(node.operands) == 1:
            inner, inner_labels = node.operands[0]
        else:
            return None, ()
        tensor, labels = inner, tuple(name.get(x) for x in inner_labels)
    return (tensor, labels) if tensor.kind in ("leaf", "carry") else (None, ())

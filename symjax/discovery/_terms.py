"""Arithmetic on terms (tensors with named indices): it writes the nodes of the graph.

A sum over a product is written as one contraction, and a sum moves through a multiple: so the
square of a norm, however it was programmed, is the contraction of a vector with itself.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ._graph import Atom, Graph, constant_number
from ._values import Place, Term

Names = tuple[Place, ...]

#: So many gains are taken out of a product; what is multiplied by itself again and again has more
#: of them at each turn.
MOST_WEIGHTS = 8


def _labelled(terms: Sequence[Term], extra: Iterable[Place] = ()):
    names = list(dict.fromkeys([p for _, places in terms for p in places] + list(extra)))
    labels = {p: i for i, p in enumerate(names)}
    return labels, [(t, tuple(labels[p] for p in places)) for t, places in terms]


def scalar(graph: Graph, value: Any) -> Term:
    """A constant number."""
    return graph.tensor((), "constant", value=np.asarray(value)), ()


def number(term: Term) -> float | None:
    """The number that a term is, if it is a constant one."""
    return constant_number(term[0])


def is_zero(term: Term) -> bool:
    """Whether a term is the constant zero."""
    return number(term) == 0


def apply(
    graph: Graph,
    kind: str,
    terms: Sequence[Term],
    keep: Names | None = None,
    new: dict[Place, Atom] | None = None,
    frozen: Iterable[Place] = (),
    renumbered: Iterable[Place] = (),
    **fields: Any,
) -> Term:
    """A node of any kind on terms; ``keep`` names the indices of the output (default: all)."""
    labels, operands = _labelled(terms, new or {})
    keep = tuple(labels) if keep is None else keep
    numbers = lambda places: frozenset(labels[p] for p in places if p in labels)
    fields["frozen"] = numbers(frozen)
    if renumbered:
        fields["renumbered"] = numbers(renumbered)
    made = None if new is None else {labels[p]: atom for p, atom in new.items()}
    out = graph.add(kind, [labels[p] for p in keep], operands, made, **fields)
    return out, keep


def linear(graph: Graph, terms: Sequence[Term], coefficients: Sequence[float]) -> Term:
    """The sum of multiples of terms; a term that lacks an index is repeated along it."""
    rows = [(t, c) for t, c in zip(terms, coefficients, strict=True) if c != 0 and not is_zero(t)]
    if not rows:
        return scalar(graph, 0.0)
    if len(rows) == 1 and rows[0][1] == 1:
        return rows[0][0]
    names = tuple(dict.fromkeys(p for t, _ in rows for p in t[1]))
    if len(rows) == 2:
        variance = _variance(graph, *rows) or _variance(graph, *rows[::-1])
        if variance is not None:
            return variance
    kept, values = zip(*rows, strict=True)
    return apply(graph, "linear", kept, names, coefficients=tuple(map(float, values)))


def product(
    graph: Graph,
    a: Term,
    b: Term,
    drop: Iterable[Place] = (),
    coefficient: float = 1.0,
    frozen: Iterable[Place] = (),
    new: dict[Place, Atom] | None = None,
) -> Term:
    """Coefficient a b, summed over the indices in ``drop``."""
    drop = set(drop)
    for x, y in ((a, b), (b, a)):
        factor = number(x)
        if factor is not None and not new and not drop - set(y[1]):
            term = total(graph, y, [p for p in y[1] if p in drop])
            return linear(graph, [term], [factor * coefficient])
    weights: list[tuple[Term, float]] = []
    while not drop and not new:
        if len(weights) == MOST_WEIGHTS:
            if (a[0].has_data and _factors(b)) or (b[0].has_data and _factors(a)):
                graph.miss("products with too many weights", [a[0], b[0]])
            break
        if a[0].has_data and (inner := _factors(b)):
            b, weight, factor = inner
        elif b[0].has_data and (inner := _factors(a)):
            a, weight, factor = inner
        else:
            break
        weights.append((weight, factor))
    if weights:
        result = apply(graph, "product", [a, b], _all(a, b), coefficients=(1.0,))
        weights[0] = weights[0][0], weights[0][1] * coefficient
        for weight, factor in reversed(weights):
            keep = _all(result, weight)
            result = apply(graph, "product", [result, weight], keep, coefficients=(factor,))
        return result
    names: Names = tuple(dict.fromkeys([*a[1], *b[1], *(new or {})]))
    keep = tuple(p for p in names if p not in drop)
    return apply(graph, "product", [a, b], keep, new, frozen, coefficients=(float(coefficient),))


def _all(a: Term, b: Term) -> Names:
    return tuple(dict.fromkeys([*a[1], *b[1]]))


def _factors(term: Term) -> tuple[Term, Term, float] | None:
    """(data, parameters, coefficient) of a product of the two, entry by entry.

    x * (r * gain) is then written (x * r) * gain, as a norm is elsewhere.
    """
    node = term[0].node
    if node is None or node.kind != "product" or node.summed or node.frozen:
        return None
    names = dict(zip(node.out_labels, term[1], strict=True))
    first, second = ((t, tuple(names[i] for i in labels)) for t, labels in node.operands)
    for data, weight in ((first, second), (second, first)):
        if data[0].has_data and weight[0].has_params and not weight[0].has_data:
            return data, weight, node.coefficients[0]
    return None


def total(graph: Graph, term: Term, drop: Iterable[Place], coefficient: float = 1.0) -> Term:
    """Coefficient times the sum over the indices in ``drop``."""
    drop = list(drop)
    if not drop:
        return linear(graph, [term], [coefficient])
    tensor, places = term
    node = tensor.node
    if node is not None and node.kind == "product":
        names = dict(zip(node.out_labels, places, strict=True))
        inner = lambda i: names.get(i, ("summed", i))
        a, b = [(t, tuple(inner(i) for i in labels)) for t, labels in node.operands]
        frozen = [inner(i) for i in node.frozen]
        already = {inner(i) for i in node.summed}
        if not node.frozen:
            scale = coefficient * node.coefficients[0]
            return product(graph, a, b, already | set(drop), scale, frozen)
    if node is not None and node.kind == "linear" and len(node.operands) == 1:
        names = dict(zip(node.out_labels, places, strict=True))
        inner, labels = node.operands[0]
        term = inner, tuple(names[i] for i in labels)
        return total(graph, term, drop, coefficient * node.coefficients[0])
    keep = tuple(p for p in places if p not in drop)
    return apply(graph, "sum", [term], keep, coefficients=(float(coefficient),))


def _variance(graph, first, second):
    """mean(x^2) - mean(x)^2 written as the mean of (x - mean(x))^2; None where it is not that.

    The two are the same number, but only the second shows that it does not see a shift of x.
    """
    square, mean = _squared(*first), _squared(*second)
    if square is None or mean is None or square[2] <= 0 or not square[3] or mean[3]:
        return None
    x, names, weight, gone = square
    middle, outer, factor, _ = mean
    sums = _multiple(middle, outer)
    node = sums[0].node
    if node is None or node.kind != "sum" or node.operands[0][0] is not x:
        return None
    scale = sums[2] * node.coefficients[0]
    inner = dict(zip(node.out_labels, sums[1], strict=True))
    where = tuple(inner.get(i, names[k]) for k, i in enumerate(node.operands[0][1]))
    count = 1
    for k, place in enumerate(names):
        count *= x.atoms[k].size if place in gone else 1
    kept = all(i in inner or names[k] in gone for k, i in enumerate(node.operands[0][1]))
    close = lambda a, b: abs(a - b) <= 1e-6 * abs(b)
    # weight (sum x^2) + factor scale^2 (sum x)^2 with weight = 1/n c, factor scale^2 = -c / n^2.
    if where != names or not kept or not close(-factor * scale**2 * count, weight):
        return None
    if {p for k, p in enumerate(names) if node.operands[0][1][k] in inner} & gone:
        return None
    average = linear(graph, [(sums[0], sums[1])], [1 / (count * node.coefficients[0])])
    centred = linear(graph, [(x, names), average], [1.0, -1.0])
    return product(graph, centred, centred, gone, weight)


def _multiple(tensor, names):
    """(tensor, names, factor) of a multiple of a tensor."""
    factor = 1.0
    while tensor.node is not None and tensor.node.kind == "linear":
        node = tensor.node
        if len(node.operands) != 1:
            break
        at = dict(zip(node.out_labels, names, strict=True))
        tensor, labels = node.operands[0]
        names = tuple(at[i] for i in labels)
        factor *= node.coefficients[0]
    return tensor, names, factor


def _squared(term, coefficient):
    """(x, names, factor, summed names) where a term is a multiple of the square of x, summed."""
    tensor, names, factor = _multiple(*term)
    node = tensor.node
    if node is None or node.kind != "product" or node.frozen:
        return None
    (a, left), (b, right) = node.operands
    if a is not b or left != right:
        return None
    at = dict(zip(node.out_labels, names, strict=True))
    places = tuple(at.get(i, ("square", i)) for i in left)
    gone = {p for p in places if p[0] == "square"}
    return a, places, coefficient * factor * node.coefficients[0], gone

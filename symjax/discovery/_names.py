"""Whole numbers that name entries of an index set: what `top_k` and `argmax` point to.

Where they are used only to look up, to count or to mark the entries that they name, no entry is
told apart: experts may be renumbered, with the columns of their router. `Tensor.names` says which
index set, `Node.named` which operands a node renumbers with it. All else that uses such a number
takes it as it is, which tells the entries apart.
"""

from typing import Any

import numpy as np

from . import _terms as terms
from ._graph import Atom, Tensor, unite
from ._values import Term, Value

#: Functions of one number that are injective, or so but for single points: no ties come of them.
INJECTIVE = frozenset(
    [
        *["exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sqrt", "rsqrt", "cbrt"],
        *["erf", "sinh", "asinh", "atan", "neg", "div", "power", "sin", "cos"],
    ]
)


def named_by(value: Value, axis: int) -> tuple[Atom | None, bool]:
    """The index set that numbers of entries along an axis name (None where they name no one set).

    And whether entries may be equal: these are told apart by their numbers.
    """
    segments = value.axes[axis].segments
    if value.axes[axis].free or len(segments) != 1 or len(segments[0].slots) != 1:
        return None, False
    atom = segments[0].slots[0][0]
    return atom, not all(_differ(t, atom) for t, _ in value.blocks.values())


def _differ(tensor: Tensor, atom: Atom) -> bool:
    """Whether entries along an index set differ, but for places of measure zero."""
    while True:
        if tensor.kind == "leaf":
            return True
        node = tensor.node
        if node is None or atom.find() not in [a.find() for a in tensor.atoms]:
            return False
        rows = [t for t, _ in node.operands if atom.find() in [a.find() for a in t.atoms]]
        if node.kind == "product" and len(rows) == 1 and not node.frozen:
            # A number beside it is not zero, but for places of measure zero.
            (tensor,) = rows
            beside = [t for t, _ in node.operands if t is not tensor]
            if not tensor.has_params or not all(map(_is_generic, beside)):
                return False
        elif node.kind == "linear" and rows:
            # What is added is another parameter, or nothing along the index set.
            (tensor, *more) = sorted(rows, key=lambda t: not t.has_data)
            if not all(t.kind == "leaf" for t in more):
                return False
        elif node.kind == "pointwise" and node.name in INJECTIVE and len(node.operands) == 1:
            (tensor,) = rows
        else:
            return False


def _is_generic(tensor: Tensor) -> bool:
    """Whether a factor is zero on single points at most: an input, a leaf, or smooth in these."""
    answers: dict[int, bool] = {}
    waiting = [tensor]
    while waiting:
        here = waiting[-1]
        parts = (
            [t for i, (t, _) in enumerate(here.node.operands) if i not in here.node.guides]
            if (here.node is not None)
            else []
        )
        missing = [t for t in parts if t.number not in answers]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        answers[here.number] = _smooth(here, [answers[t.number] for t in parts])
    return answers[tensor.number]


def _smooth(tensor, parts):
    node = tensor.node
    if node is None:
        nonzero = tensor.value is not None and bool(np.all(tensor.value != 0))
        return tensor.kind in ("leaf", "input") or (tensor.kind == "constant" and nonzero)
    if node.kind == "linear":
        return any(parts)
    return all(parts) and (node.kind != "pointwise" or node.name in INJECTIVE)


def same_entries(tensor: Tensor, rows: Atom) -> bool:
    """Make the rows of a table those that numbers name; False where they name no such rows."""
    if tensor.names is None or tensor.names.size != rows.size:
        return False
    unite(tensor.names, rows)
    return True


def marked(graph: Any, row: list[Term], name: str) -> Term | None:
    """Numbers compared with all the entries that they name: a one where they are the same."""
    for a, b in (row, row[::-1]):
        names, value = a[0].names, b[0].value
        if names is None or name not in ("eq", "ne") or b[0].kind != "constant" or value is None:
            continue
        if value.shape == (names.size,) and np.array_equal(value, np.arange(names.size)):
            unite(names, b[0].atoms[0])
            every = graph.tensor(b[0].atoms, "constant", value=value, names=b[0].atoms[0])
            both = tuple(dict.fromkeys([*a[1], *b[1]]))
            rows = [a, (every, b[1])]
            return terms.apply(
                graph, "linear", rows, both, coefficients=(1.0, -1.0), named=frozenset({0, 1})
            )
    return None

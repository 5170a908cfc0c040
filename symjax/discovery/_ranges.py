"""Between which numbers the entries of an array lie, whatever the inputs and the parameters are.

So much is known of whole numbers that a program makes itself: positions that are counted, what
`top_k` points to, truth values. Rows of a table outside of it are never read, and comparisons with
numbers outside of it are decided.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from . import _terms as terms
from ._graph import Node, Tensor
from ._values import Term

Range = tuple[float, float]
TRUTH = frozenset(["eq", "ne", "lt", "le", "gt", "ge", "is_finite", "reduce_and", "reduce_or"])
#: Whole numbers beyond this may wrap around.
LARGEST = 2.0**31


MOST_DEPTH = 12
"""Numbers that are made in more steps than this are not followed."""


def range_of(tensor: Tensor) -> Range | None:
    """The smallest and the largest number that an entry can be; None where it is not known."""
    return _range(tensor, MOST_DEPTH, {})


def _range(tensor, depth, known):
    """`range_of`, each tensor asked once at each depth: there are many ways to it."""
    place = tensor.number, depth
    if place not in known:
        known[place] = _found(tensor, depth, known)
    return known[place]


def _found(tensor, depth, known):
    if tensor.names is not None:
        return 0.0, tensor.names.size - 1.0
    if tensor.kind == "constant" and tensor.value is not None and tensor.value.dtype.kind in "iub":
        return (
            (float(np.min(tensor.value)), float(np.max(tensor.value)))
            if (tensor.value.size)
            else None
        )
    node = tensor.node
    if node is None or not depth:
        return None
    if node.name in TRUTH:
        return 0.0, 1.0
    parts = []
    for i, (operand, _) in enumerate(node.operands):
        if i not in node.guides:
            part = _range(operand, depth - 1, known)
            if part is None:
                return None
            parts.append(part)
    found = _combined(node, parts) if parts else None
    return found if found is not None and max(map(abs, found)) < LARGEST else None


def _combined(node: Node, parts: list[Range]) -> Range | None:
    integral = all(float(c).is_integer() for c in node.coefficients)
    if node.kind == "linear" and integral:
        ends = [sorted((c * a, c * b)) for c, (a, b) in zip(node.coefficients, parts, strict=True)]
        return sum(a for a, _ in ends), sum(b for _, b in ends)
    if node.kind == "product" and integral and not node.summed and not node.frozen:
        ends = [node.coefficients[0] * a * b for a in parts[0] for b in parts[1]]
        return min(ends), max(ends)
    low, high = min(a for a, _ in parts), max(b for _, b in parts)
    if node.kind == "mix" and node.name == "cumsum":
        count = math.prod(
            atom.size
            for tensor, labels in node.operands
            for atom, x in zip(tensor.atoms, labels, strict=True)
            if x in node.summed
        )
        return min(low, count * low), max(high, count * high)
    if node.kind == "equal" or (node.kind == "pointwise" and node.name in ("and", "or", "not")):
        return (low, high) if node.kind == "equal" or (low >= 0 and high <= 1) else None
    return None


def _ends(term: Term) -> Range | None:
    number = terms.number(term)
    return range_of(term[0]) if number is None else (number, number)


def fits(term: Term, dtype: Any) -> bool:
    """Whether a cast to a dtype of whole numbers changes no entry."""
    ends = range_of(term[0]) if jnp.issubdtype(dtype, jnp.integer) else None
    return ends is not None and jnp.iinfo(dtype).min <= ends[0] <= ends[1] <= jnp.iinfo(dtype).max


def decided(row: list[Term], name: str) -> bool | None:
    """What a comparison says where the ranges of its sides decide it."""
    if all(terms.number(t) is None for t in row):
        return None
    left, right = map(_ends, row)
    if left is None or right is None:
        return None
    (a, b), (c, d) = left, right
    below, above = b < c, a > d
    return {
        "lt": True if below else False if a >= d else None,
        "le": True if b <= c else False if above else None,
        "gt": True if above else False if b <= c else None,
        "ge": True if a >= d else False if below else None,
        "eq": False if below or above else None,
        "ne": True if below or above else None,
    }[name]


def without_bounds(row: list[Term], name: str) -> list[Term]:
    """The operands of a maximum or minimum, without numbers that no entry of another exceeds."""
    if len(row) != 2:
        return row
    for one, other in (row, row[::-1]):
        number, ends = terms.number(one), _ends(other)
        if number is not None and terms.number(other) is None and ends is not None:
            if number <= ends[0] if name == "max" else number >= ends[1]:
                return [other]
    return row

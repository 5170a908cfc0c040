"""What is wrong with a leaf that no element explains: the plain relations, tried one by one."""

from collections.abc import Sequence

import numpy as np

from ..matching._state import apply_to
from ..matching._table import invert
from ._explain import Explanation, Problem, residual
from ._words import factor_words, place_words

SLACK = 8.0
"""A relation holds to this multiple of a leaf's tolerance: a fitted constant has its own error."""


def reasons(problem: Problem, one: Explanation, names: Sequence[str]) -> list[str]:
    """A sentence for each leaf that is wrong."""
    back = _inverse(problem, one)
    return [_reason(problem, one, back, i, names) for i in sorted(one.wrong)]


NOTHING = "is explained by no element"


def is_unexplained(reason: str) -> bool:
    """Whether a sentence says only that a leaf is wrong."""
    return NOTHING in reason


def _reason(problem, one, back, i, names):
    a, b, expected = problem.a[i], problem.b[i], one.state.leaves[i]
    close = lambda x, y: residual(x, y) <= SLACK * problem.tolerance[i]
    moving = [
        (factor, words)
        for factor, h in zip(problem.table.factors, one.state.element, strict=True)
        if i in factor.leaves and (words := factor_words(factor, h, 1e-4))
    ]
    if close(a, b) and moving:
        factor, words = moving[0]
        others = [names[j] for j in factor.leaves if j != i]
        return (
            f"'{names[i]}' was left behind: it is as in A, but the element that moves "
            f"{place_words(others)} moves it too ({words})."
        )
    for x, y in ((expected, b), (a, back[i])):
        if found := _relation(x, y, close, problem, names):
            alone = found.endswith(("order", "rest"))
            return f"'{names[i]}' {found}{_with(problem, one, i, names) if alone else ''}."
    product = _product(problem, i, names)
    size = float(np.linalg.norm(b - expected) / (np.linalg.norm(b) or 1.0))
    return product or (
        f"'{names[i]}' {NOTHING}: it differs by {size:.2g} of its norm"
        f"{_with(problem, one, i, names)}."
    )


def _with(problem, one, i, names):
    """What should have moved with a leaf, by a group that the element leaves alone."""
    rows = list(zip(problem.table.factors, one.state.element, strict=True))
    for factor, h in sorted(rows, key=lambda row: row[0].kind != "permutation"):
        kinds = ("permutation", "shift", "linear", "complex")
        if i in factor.leaves and factor.kind in kinds and len(factor.leaves) <= 8:
            rest = [names[j] for j in factor.leaves if j not in one.wrong]
            if rest and not factor_words(factor, h, 1e-4):
                group = {"permutation": "a permutation", "shift": "a shift"}.get(
                    factor.kind, "a change of basis"
                )
                return f"; {group} of it must go with {place_words(rest)}"
    return ""


def _relation(x, y, close, problem, names):
    """How y comes from x by a plain operation; "" where by none that is known."""
    if not np.any(x) or not np.any(y):
        return "" if np.any(y) else "is zero"
    c = float(np.sum(x * y) / np.sum(x * x))
    if c and close(y, c * x):
        return f"is {c:.4g} times what it should be{_root(c, x.shape)}"
    for axis in range(x.ndim):
        if found := _along(x, y, axis, close, problem, names):
            return found
    if x.ndim == 2 and x.shape[0] == x.shape[1] and close(y, x.T):
        return "is transposed"
    return ""


def _along(x, y, axis, close, problem, names):
    """The relations that single out an axis."""
    if x.ndim > 1 and close(y, x - x.mean(axis, keepdims=True)):
        return (
            f"has its mean over axis {axis} subtracted, which only a norm that subtracts the mean "
            "(LayerNorm, not RMSNorm) does not see"
        )
    x, y = (np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1) for v in (x, y))
    if x.shape[1] > 1:
        d = np.sum(x * y, 1) / np.maximum(np.sum(x * x, 1), 1e-300)
        if close(y, d[:, None] * x):
            return f"is multiplied along axis {axis} by {_vector(d, problem, names, close)}"
    order = _rows(x, y)
    if order is not None and close(y, x[order]):
        return f"has its entries along axis {axis} in another order"
    if min(x.shape) > 1 and close(x.T @ x, y.T @ y):
        return f"is rotated along axis {axis} without the rest"
    return ""


def _rows(x, y):
    """The order of rows of x that makes y, if each has one nearest by far."""
    if len(x) > 4096 or len(x) < 2:
        return None
    gaps = np.sum(x**2, 1)[None] - 2 * y @ x.T
    order = np.argmin(gaps, 1)
    return (
        order if len(set(order.tolist())) == len(x) and (order != np.arange(len(x))).any() else None
    )


def _root(c, shape):
    """A factor that is the square root of a rank, as a rank-stabilised adapter's scale is off."""
    for n in sorted(set(shape)):
        for value, words in ((n**0.5, f"sqrt({n})"), (n**-0.5, f"1 / sqrt({n})")):
            if n > 1 and abs(abs(c) / value - 1) < 1e-3:
                return f", {words}: the scale of a rank-stabilised adapter is alpha / sqrt(rank)"
    return ""


def _vector(d, problem, names, close):
    """A vector that multiplies, by the name of the leaf that it is."""
    for i in problem.tolerance:
        for values, word in (
            (problem.a[i], "'{}'"),
            (1 / np.where(problem.a[i], problem.a[i], 1), "1 / '{}'"),
        ):
            if values.size == d.size and np.allclose(values.ravel(), d, rtol=1e-3, atol=0):
                return word.format(names[i]) + ": it was folded twice, or not at all"
    return f"a vector from {d.min():.3g} to {d.max():.3g}"


def _product(problem, i, names):
    """Two factors that are known by their product alone, where this is another one."""
    for factor in problem.table.factors:
        if factor.kind != "linear" or i not in factor.leaves or len(factor.places) != 2:
            continue
        one, other = factor.places
        if one.power * other.power > 0 or one.leaf == other.leaf:
            continue
        value = lambda leaves, p=one, q=other: p.unfold(leaves).mT @ q.unfold(leaves)
        x, y = value(problem.a), value(problem.b)
        c = float(np.sum(x * y) / (np.sum(x * x) or 1.0))
        pair = (
            f"'{names[one.leaf]}' and '{names[other.leaf]}' count by their product alone, and that"
        )
        if c and residual(y, c * x) <= SLACK * problem.tolerance[i]:
            return f"{pair} is {c:.4g} times A's{_root(c, (factor.n,))}."
        gap = float(np.linalg.norm(y - x) / (np.linalg.norm(x) or 1.0))
        return (
            f"{pair} differs by {gap:.2g} of its norm, as it does where the factors are averaged "
            "instead of the products."
        )
    return ""


def _inverse(problem, one):
    """The leaves of B in the coordinates of A."""
    leaves, table = list(problem.b), problem.table
    rows = zip(table.factors, one.state.element, strict=True)
    for factor, h in sorted(rows, key=lambda row: row[0].order, reverse=True):
        leaves = apply_to(factor, invert(factor, h), leaves)
    return leaves

"""An element of a table in words."""

import itertools
import re
from collections.abc import Sequence

import numpy as np

from ..matching._table import Factor, Table

MOST_NAMED = 4


def element_words(
    table: Table, element: Sequence[np.ndarray], names: Sequence[str], close: float
) -> tuple[str, ...]:
    """A sentence for each factor that is not the identity, up to ``close``."""
    said = []
    for factor, h in zip(table.factors, element, strict=True):
        words = factor_words(factor, h, close)
        if words:
            said.append(f"{place_words(sorted(names[i] for i in factor.leaves))}: {words}")
    return tuple(said)


def place_words(leaves: Sequence[str]) -> str:
    """Leaves by what their names share, and what not."""
    parts = [re.split(r"(?<=[./])", name) for name in leaves]
    shared = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))
    prefix = "".join(column[0] for column in shared) if len(leaves) > 1 else ""
    rest = [name[len(prefix) :] for name in leaves]
    listed = ", ".join(rest[:MOST_NAMED]) + (
        f", ... ({len(rest)} in all)" * (len(rest) > MOST_NAMED)
    )
    return f"{prefix.rstrip('./')} ({listed})" if prefix else listed


def factor_words(factor: Factor, h: np.ndarray, close: float) -> str:
    """What an element does, in words; "" for the identity."""
    h, identity = np.asarray(h), factor.identity()
    gaps = np.abs(h - identity).reshape(len(h), -1).max(axis=1, initial=0)
    fibres = np.flatnonzero(gaps > (0 if factor.kind == "permutation" else close))
    if not len(fibres):
        return ""
    return _KINDS[factor.kind](factor, h[fibres]) + _of(fibres, len(h))


def _of(fibres, count):
    if count == 1:
        return ""
    if len(fibres) == count:
        return f", in each of {count} blocks"
    listed = ", ".join(map(str, fibres[:MOST_NAMED])) + ", ..." * (len(fibres) > MOST_NAMED)
    return f", in block{'s' * (len(fibres) > 1)} {listed}"


def _permutation(factor, h):
    moved = [np.flatnonzero(row != np.arange(factor.n)) for row in h]
    if len(h) == 1 and len(moved[0]) == 2:
        return f"{moved[0][0]} and {moved[0][1]} of {factor.n} exchanged"
    return f"{max(map(len, moved))} of {factor.n} permuted"


def _scale(factor, h):
    low, high = (f"{x:.3g}" for x in (np.min(h), np.max(h)))
    return f"scaled by {low}" if low == high else f"scaled by {low} to {high}"


def _sign(factor, h):
    return f"{int(np.sum(h < 0))} of {h.size} signs flipped"


def _linear(factor, h):
    return f"GL({factor.n}), condition {np.max(np.linalg.cond(h)):.3g}"


def _orthogonal(factor, h):
    turned = np.max(np.abs(np.angle(np.linalg.eigvals(h))))
    mirrored = " with a reflection" * bool((np.linalg.det(h) < 0).any())
    return f"O({factor.n}), turned by up to {np.degrees(turned):.3g} degrees{mirrored}"


def _complex(factor, h):
    turned = np.degrees(np.max(np.abs(np.angle(h))))
    low, high = np.min(np.abs(h)), np.max(np.abs(h))
    return f"pairs scaled by {low:.3g} to {high:.3g} and turned by up to {turned:.3g} degrees"


def _shift(factor, h):
    return f"shifted by up to {np.max(np.abs(h)):.3g}"


_KINDS = {
    "permutation": _permutation,
    "scale": _scale,
    "sign": _sign,
    "linear": _linear,
    "orthogonal": _orthogonal,
    "complex": _complex,
    "shift": _shift,
}

"""Whether arrays are an element of a list of symmetries, and what is wrong with them if not."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import describe, require, require_concrete
from ..discovery import Symmetry
from ..groups import (
    ComplexScaling,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Power,
    SignFlip,
    Translation,
)
from ._table import base_group, moving_actions

EXPECTED = {
    Permutation: "each of 0, ..., n - 1 once",
    SignFlip: "+1 or -1 in every entry",
    PositiveScaling: "positive finite numbers",
    ComplexScaling: "pairs of finite numbers that are not both 0",
    GeneralLinear: "an invertible matrix",
    Orthogonal: "an orthogonal matrix, up to rounding",
    Translation: "finite numbers",
}


def check_element(symmetries: Sequence[Symmetry], element: Any) -> None:
    """Raise ValueError unless the element has one entry of the right kind for each symmetry.

    Structure and shapes are always looked at, numbers where they are concrete.
    """
    moving_actions(symmetries)
    require(
        isinstance(element, tuple | list) and len(element) == len(symmetries),
        f"`element` must have one entry for each of {len(symmetries)} symmetries, got "
        f"{type(element).__name__}"
        + (f" of {len(element)}" if isinstance(element, tuple | list) else "")
        + " (approximate symmetries have one only with `approximate`).",
    )
    for i, (symmetry, g) in enumerate(zip(symmetries, element, strict=True)):
        like = jax.eval_shape(symmetry.group.identity)
        got, want = jax.tree.structure(g), jax.tree.structure(like)
        same = got == want and all(
            jnp.shape(x) == y.shape
            for x, y in zip(jax.tree.leaves(g), jax.tree.leaves(like), strict=True)
        )
        require(
            same,
            f"`element[{i}]` is not an element of {symmetry.group} ('{symmetry.name}'): expected "
            f"{_shapes(like)}, got {_shapes(g)}.",
        )
        _require_member(f"element[{i}]", symmetry, symmetry.group, g)


def _require_member(place, symmetry, group, g):
    if len(group.factors) != 1 or group.factors[0] is not group:
        for k, (factor, part) in enumerate(zip(group.factors, group.entries(g), strict=True)):
            _require_member(f"{place}[{k}]", symmetry, factor, part)
        return
    kind, g = type(base_group(group)), jnp.asarray(g)
    says = f"`{place}` is not an element of {group} ('{symmetry.name}'): expected "
    says += EXPECTED.get(kind, "what the group contains")
    require(
        kind is not Permutation or jnp.issubdtype(g.dtype, jnp.integer),
        f"{says}, as integers, got {describe(g)}.",
    )
    require_concrete(
        lambda: group.contains(g), lambda: f"{says}, got {_fault(group, np.asarray(g))}.", g
    )


def _fault(group, g):
    """What is wrong with numbers that are not an element."""
    if isinstance(group, Power):
        outside = ~np.asarray(group.group.contains(jnp.asarray(g)))
        k = int(np.argmax(outside))
        return f"in block {k} {_fault(group.group, g[k])}"
    if g.dtype.kind != "i" and not np.isfinite(g.astype(np.float64)).all():
        return "a NaN or an infinity"
    kind, numbers = type(base_group(group)), g.astype(np.float64)
    if kind is GeneralLinear:
        return f"a matrix of condition number {np.linalg.cond(numbers):.1e}"
    if kind is Orthogonal:
        return f"|g^T g - 1| of up to {np.abs(numbers.T @ numbers - np.eye(len(g))).max():.1e}"
    return np.array2string(g, threshold=8)


def _shapes(tree):
    return ", ".join(describe(x) for x in jax.tree.leaves(tree)) or "nothing"

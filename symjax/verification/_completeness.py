"""Do the symmetries explain every direction that no output sees?"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, PyTree

from .._checks import is_floating, path_name, require
from ..discovery import Acting, resolve
from ._redundancy import Redundancy, flatten, jacobian, summary


@dataclass(frozen=True)
class Completeness:
    """Tangent vectors of actions beside the null space of the output Jacobian (host-only).

    ``explained`` is the dimension of the tangents that lie in the null space, ``missing`` what is
    left of it, and ``shortfall`` the share of each leaf in the null vectors that no action gives,
    largest first. ``false`` names the actions with a tangent that changes the outputs, with the
    size of the change in units of the largest that a direction of that length can make.
    ``skipped`` names the symmetries that were given as approximate.
    """

    redundancy: Redundancy
    explained: int
    shortfall: dict[str, float]
    false: dict[str, float]
    skipped: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """How many directions no action explains."""
        return int(self.redundancy) - self.explained

    @property
    def certain(self) -> bool:
        """Whether the rank that the count rests on can be trusted."""
        return self.redundancy.certain

    @property
    def complete(self) -> bool:
        """Whether every direction is explained and no action is false; see ``certain``."""
        return self.missing == 0 and not self.false

    def __str__(self) -> str:
        lines = [str(self.redundancy), f"explained {self.explained}, missing {self.missing}"]
        lines += [f"  {share:4.0%} of it in {leaf}" for leaf, share in self.shortfall.items()]
        lines += [f"FALSE: {name} changes outputs by {e:.0e}" for name, e in self.false.items()]
        lines += [f"approximate, not counted: {name}" for name in self.skipped]
        return "\n".join(lines)

    __repr__ = __str__


def completeness(
    symmetries: Acting,
    apply: Callable[..., PyTree],
    params: PyTree,
    *inputs: Any,
    key: Key[Array, ""] | None = None,
    approximate: bool = False,
) -> Completeness:
    """Compare the tangents of actions with what no output sees, at generic parameters (host-only).

    Symmetries that hold only up to a norm's epsilon are left out and named in ``skipped``; with
    ``approximate`` they are held to the same standard as the others, and ``false`` says what they
    change. Limits and errors are those of `redundancy`, whose rank this rests on.

    Example:
        >>> weights = (jnp.ones((2, 3)), jnp.ones((3, 2)))
        >>> linear = lambda w, x: w[1] @ (w[0] @ x)
        >>> report = completeness([deep_linear_action((3, 2, 3))], linear, weights, jnp.ones(3))
        >>> report.explained, report.missing, report.complete
        (4, 0, True)
    """
    everything = resolve(symmetries, approximate=True)
    for i, s in enumerate(everything):
        require(
            s.action.is_group_action,
            f"`symmetries[{i}]` is not a group action: it has no tangents of its own.",
        )
    key = jax.random.key(0) if key is None else key
    exact = resolve(everything, approximate)
    skipped = () if approximate else tuple(s.name for s in everything if not s.exact)
    found = jacobian(apply, params, inputs, key)
    count = summary(found)
    tolerance = math.sqrt(np.finfo(found.factor.dtype).eps)
    left, values, right = np.linalg.svd(found.factor)
    null = right[count.rank :]
    false, inside = {}, [np.zeros((0, null.shape[1]), null.dtype)]
    for s, rows in zip(exact, _tangents(exact, found.params, key), strict=True):
        rows = _unit(rows / found.sizes)
        change = np.linalg.norm(rows @ found.factor.T, axis=1) / values[0]
        true = change <= 10 * tolerance
        inside.append(rows[true])
        if not true.all():
            false[s.name] = float(change.max())
    spanned = _span(np.concatenate(inside) @ null.T, tolerance)
    rest = _complement(spanned, len(null)) @ null
    del left
    return Completeness(count, len(spanned), _shares(rest, found.params), false, skipped)


def _tangents(symmetries, params, key):
    """For each action more random tangents than its group has dimensions."""
    dtype = np.result_type(*(x.dtype for x in jax.tree.leaves(params) if is_floating(x)))
    actions = [s.action for s in symmetries]

    @jax.jit
    def draw(params, key):
        found = []
        for i, action in enumerate(actions):
            number = action.group.dimension + 4 if action.group.dimension else 0

            def one(key, action=action):
                m = action.group.random_algebra(key, dtype=dtype)
                return flatten(action.generator(m, params), dtype)[0]

            keys = jax.random.split(jax.random.fold_in(key, i), number)
            found.append(jax.vmap(one)(keys) if number else None)
        return found

    size = sum(x.size for x in jax.tree.leaves(params) if is_floating(x))
    return [np.zeros((0, size), dtype) if r is None else np.asarray(r) for r in draw(params, key)]


def _unit(rows):
    """Rows of unit length; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _span(rows, tolerance):
    """An orthonormal basis of the rows."""
    if not rows.size:
        return rows[:0]
    _, values, right = np.linalg.svd(rows, full_matrices=False)
    return right[values > tolerance * max(values[0], 1e-300)]


def _complement(basis, size):
    """An orthonormal basis of what is orthogonal to an orthonormal basis."""
    if not len(basis):
        return np.eye(size, dtype=basis.dtype)
    return np.linalg.svd(basis, full_matrices=True)[2][len(basis) :]


def _shares(rows, params):
    """The share of each leaf in the squared length of some vectors, largest first."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    leaves = [(path_name(path), x.size) for path, x in leaves if is_floating(x)]
    ends = np.cumsum([size for _, size in leaves])[:-1]
    energy = [float((part**2).sum()) for part in np.split(rows, ends, axis=1)]
    shares = {name: e / len(rows) for (name, _), e in zip(leaves, energy, strict=True) if e > 1e-6}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))

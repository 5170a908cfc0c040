"""How many directions of the parameters no output sees: the count that owes nothing to symmetry."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Key, PyTree

from .._checks import is_floating, require, require_callable, require_floating_leaves
from .._generic import generator, generic_params, random_inputs
from ..linalg._precision import computing_dtype

MOST_PARAMETERS = 6000  # beyond it the singular values take minutes
ENTRIES_AT_ONCE = 2**24  # of the Jacobian


class Redundancy(int):
    """#params - rank, a number that says what it rests on (host-only).

    ``parameters``, ``rank``, ``inputs`` and ``rows`` (inputs times outputs) are the sizes; ``gap``
    is the ratio of the last singular value that counts to the first that does not, and ``rest``
    that first one, of the largest; ``seen`` says whether some output depends on every entry of each
    leaf that matters at all (units that are switched off are not seen); ``saturated`` says whether
    half of the inputs gave the same rank, so that more of them would not raise it;
    ``derivatives_agree`` says whether the Jacobian agrees with differences of the outputs, which
    `jax.lax.stop_gradient` and rounding break.
    ``certain`` is a gap of at least 1000 in float64, with a rest that is rounding, from inputs that
    see everything and are enough, with derivatives that agree.
    """

    parameters: int
    rank: int
    inputs: int
    rows: int
    gap: float
    rest: float
    seen: bool
    saturated: bool
    dtype: str
    derivatives_agree: bool

    @property
    def certain(self) -> bool:
        """Whether the rank can be trusted."""
        return not self.doubts

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why it is not certain, in words."""
        rounding = 1000 * float(np.finfo(self.dtype).eps) * math.sqrt(self.rows)
        told = {
            f"{self.dtype} ranks are rough: enable float64": self.dtype == "float64",
            "no clear gap at the cut": self.gap >= 1000,
            "no output sees some entries of a leaf at these inputs": self.seen,
            "what does not count is more than rounding": self.rest <= rounding,
            "more inputs give a higher rank": self.saturated,
            "the Jacobian is not the outputs' derivative": self.derivatives_agree,
        }
        return tuple(doubt for doubt, cleared in told.items() if not cleared)

    def __str__(self) -> str:
        doubts = self.doubts
        return (
            f"redundancy {int(self)} = {self.parameters} parameters - rank {self.rank} "
            f"({self.rows} outputs of {self.inputs} inputs, gap {self.gap:.0e}, "
            + ("certain)" if self.certain else f"uncertain: {'; '.join(doubts)})")
        )

    __repr__ = __str__


@dataclass(frozen=True)
class Jacobian:
    """A square factor R of the Jacobian J at generic parameters: |R v| = |J D v| for every v.

    D is diagonal, with the ``sizes`` of the parameters: the root mean square of the leaf that each
    stands in. In these units a change is relative, and what undoes a layer's scale in another one
    (c W_1, W_2 / c) changes nothing. A column is never scaled by its own size, which may be all
    rounding. ``half`` is the same factor from half of the inputs.
    """

    factor: np.ndarray
    half: np.ndarray
    sizes: np.ndarray
    params: PyTree
    inputs: int
    rows: int
    derivatives_agree: bool


def redundancy(
    apply: Callable[..., PyTree], params: PyTree, *inputs: Any, key: Key[Array, ""] | None = None
) -> Redundancy:
    """#params - rank of the Jacobian of the outputs over many random inputs (host-only).

    Taken at generic parameters near ``params``, in units of the root mean square of each leaf, and
    at more outputs times inputs than there are parameters. For an analytic model this is the
    dimension of the set of parameters with the same function; for ReLU networks of three layers and
    more it may vary from place to place. Any key gives the same number, up to bad luck, so there is
    a default. The cut is at the square root of eps of the largest singular value. What it rests on
    is in the fields of the result.

    Raises ValueError for more than 6000 parameters, or outputs that are not floating-point.

    Example:
        >>> weights = (jnp.ones((2, 3)), jnp.ones((3, 2)))
        >>> count = redundancy(lambda w, x: w[1] @ (w[0] @ x), weights, jnp.ones(3))
        >>> int(count), count.rank  # the change of basis of two hidden units
        (4, 8)
    """
    return summary(jacobian(apply, params, inputs, key))


def summary(found: Jacobian) -> Redundancy:
    """The redundancy that a Jacobian shows."""
    values = np.linalg.svd(found.factor, compute_uv=False)
    eps = np.finfo(values.dtype).eps
    rank = int(np.sum(values > math.sqrt(eps) * values[0])) if values[0] > 0 else 0
    result = Redundancy(len(values) - rank)
    result.parameters, result.rank = len(values), rank
    result.inputs, result.rows = found.inputs, found.rows
    result.gap = _gap(values, rank, eps)
    result.rest = float(values[rank] / values[0]) if rank < len(values) and rank else 0.0
    result.seen = _all_seen(found)
    result.saturated = _pivoted_rank(found.half, eps) >= rank
    result.dtype, result.derivatives_agree = values.dtype.name, found.derivatives_agree
    return result


def _all_seen(found):
    """Whether each leaf has no zero column in the Jacobian, or nothing else; and not all have."""
    columns = np.abs(found.factor).max(axis=0, initial=0) > 0
    leaves = [x.size for x in jax.tree.leaves(found.params) if is_floating(x)]
    rows = np.split(columns, np.cumsum(leaves)[:-1])
    return bool(columns.any()) and all(row.all() or not row.any() for row in rows)


def _pivoted_rank(a, eps):
    """The rank by a QR factorisation with pivots, which costs a part of the singular values."""
    diagonal = np.abs(np.diagonal(scipy.linalg.qr(a, mode="r", pivoting=True)[0]))
    # It may miss the least singular value by a factor of the size, here never by a gap of 1000.
    return int(np.sum(diagonal > math.sqrt(eps) * diagonal[:1].max(initial=0)))


def _gap(values, rank, eps):
    if rank == 0:
        return math.inf
    following = values[rank] if rank < len(values) else 0.0
    return float(values[rank - 1] / max(following, eps * values[0]))


def jacobian(
    apply: Callable[..., PyTree],
    params: PyTree,
    inputs: tuple[Any, ...],
    key: Key[Array, ""] | None = None,
) -> Jacobian:
    """The Jacobian at generic parameters over random inputs, reduced to a square factor."""
    require_callable("apply", apply)
    require_floating_leaves(params)
    require(
        bool(jax.tree.leaves(inputs)), "`inputs` must hold an array: the rank is over many inputs."
    )
    rng = generator(jax.random.key(0) if key is None else key)
    floating = [x for x in jax.tree.leaves(params) if is_floating(x)]
    size = sum(x.size for x in floating)
    require(
        size <= MOST_PARAMETERS,
        f"`params` holds {size} numbers; the rank of the Jacobian is for at most "
        f"{MOST_PARAMETERS}: take the same architecture with smaller widths.",
    )
    dtype = computing_dtype(*(x.dtype for x in floating))
    params = generic_params(params, rng)
    vector, restore = flatten(params, dtype)
    outputs = lambda w, x: _floating_vector(apply(restore(w), *x), dtype)
    width = jax.eval_shape(outputs, vector, inputs).size
    require(width > 0, "`apply` gives no floating-point output.")
    number = 64 + math.ceil(3 * size / width)
    batch = random_inputs(inputs, number, rng)
    factor, half = _factor(outputs, vector, batch, number, width)
    sizes = leaf_sizes(params, factor.dtype)
    agree = _derivatives_agree(outputs, vector, batch, sizes, rng)
    return Jacobian(factor * sizes, half * sizes, sizes, params, number, number * width, agree)


def leaf_sizes(params: PyTree, dtype: Any) -> np.ndarray:
    """For every floating parameter the root mean square of its leaf; 1 for a leaf of zeros."""
    rows = []
    for x in jax.tree.leaves(params):
        if is_floating(x):
            values = np.asarray(x, np.float64)
            size = np.sqrt(np.mean(values**2)) if values.size else 0.0
            rows.append(np.full(values.size, size if size > 0 else 1.0, dtype))
    return np.concatenate(rows)


def flatten(params: PyTree, dtype: Any) -> tuple[Any, Callable[[Array], PyTree]]:
    """The floating leaves as one vector of one dtype, and the way back."""
    leaves, structure = jax.tree.flatten(params)
    moved = [x for x in leaves if is_floating(x)]
    cuts = np.cumsum([0, *(x.size for x in moved)]).tolist()

    def restore(vector):
        pieces = itertools.pairwise(cuts)
        parts = [
            vector[slice(*next(pieces))].reshape(x.shape).astype(x.dtype) if is_floating(x) else x
            for x in leaves
        ]
        return jax.tree.unflatten(structure, parts)

    numpy = np if all(isinstance(x, np.ndarray) for x in moved) else jnp
    return numpy.concatenate([x.reshape(-1).astype(dtype) for x in moved]), restore


def _floating_vector(outputs, dtype):
    parts = [x.reshape(-1).astype(dtype) for x in jax.tree.leaves(outputs) if is_floating(x)]
    return jnp.concatenate(parts) if parts else jnp.zeros(0, dtype)


def _factor(outputs, vector, batch, number, width):
    """R of a QR factorisation of the Jacobian, a chunk of inputs at a time; and of half of them."""
    size = vector.size
    chunk = min(math.ceil(number / 2), max(1, ENTRIES_AT_ONCE // (width * size)))
    factor = half = np.zeros((0, size), vector.dtype)
    rows = _rows(outputs, vector, jax.tree.map(lambda x: x[0], batch), width)
    for start in range(0, number, chunk):
        # the last chunk reaches back, so that one shape is compiled; rows twice change no rank
        start = min(start, number - chunk)
        found = rows(vector, jax.tree.map(lambda x, at=start: x[at : at + chunk], batch))
        stacked = np.concatenate([factor, np.asarray(found).reshape(-1, size)])
        require(bool(np.isfinite(stacked).all()), "`apply` has a derivative that is not finite.")
        factor = np.asarray(np.linalg.qr(stacked, "r")) if len(stacked) > size else stacked
        if start < number / 2:
            half = factor
    return factor, half


def _rows(outputs, vector, one, width):
    """The Jacobians of a batch, by the mode that is cheaper and that the model allows."""

    def batched(mode):
        return jax.jit(jax.vmap(mode(outputs), in_axes=(None, 0)))

    if vector.size <= width:
        return batched(jax.jacfwd)
    try:
        jax.eval_shape(jax.jacrev(outputs), vector, one)
    except ValueError:  # a while loop has no reverse mode
        return batched(jax.jacfwd)
    return batched(jax.jacrev)


def _derivatives_agree(outputs, vector, batch, sizes, rng):
    """Whether central differences along one direction are what the derivative says.

    The median over the inputs, as a kink may lie between the two ends for a few of them.
    """
    direction = sizes * rng.standard_normal(vector.shape).astype(vector.dtype)
    step = float(np.finfo(vector.dtype).eps) ** (1 / 3)

    @jax.jit
    def both(vector, batch):
        def one(x):
            slope = jax.jvp(lambda w: outputs(w, x), (vector,), (direction,))[1]
            ends = [outputs(vector + sign * step * direction, x) for sign in (1, -1)]
            error = (ends[0] - ends[1]) / (2 * step) - slope
            return jnp.linalg.norm(error), jnp.linalg.norm(slope)

        return jax.vmap(one)(batch)

    error, slope = map(np.asarray, both(vector, jax.tree.map(lambda x: x[:16], batch)))
    return bool(np.median(error) <= 0.01 * np.median(slope) + 100 * step)

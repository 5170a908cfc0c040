"""How many components the minimum of a linear residual network has."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Real

from .._checks import require, require_count
from .._results import AbstractResult
from ._linear import linear_minimum
from ._ranks import Rank, as_matrix, rank_of, rounding


class ResidualMinimum(AbstractResult):
    """The result of `residual_minimum`.

    ``count`` is exact, or None where it is not known or a rank is not decided; ``reason`` says
    which rule gave it, or why there is none. ``block_counts`` are the components of the invertible
    blocks. ``rank_x`` and ``rank_z`` are the ranks of x, and of y restricted to the row space of x;
    the margins say how many times their nearest singular value is from the threshold of zero.
    """

    count: int | None
    reason: str
    block_counts: tuple[int, ...]
    rank_x: int
    rank_z: int
    margin_x: float
    margin_z: float
    undecided: bool


def residual_minimum(
    n: int,
    blocks: Sequence[Sequence[int]],
    x: Real[ArrayLike, "n k"],
    y: Real[ArrayLike, "m k"],
    epsilon: float = 1.0,
    *,
    tolerance: float | None = None,
) -> ResidualMinimum:
    """The number of components of the minimum of a linear residual network.

    The loss is |Y - W_out B_r ... B_1 X|^2 with blocks B = epsilon I + W_d ... W_1 of size n, each
    given by the tuple of its hidden widths: () for one matrix, (h,) for two. W_out has shape (m, n)
    and follows the blocks, so the paper's network W_3 (W_2 W_1 X + epsilon X) of n = 1 is
    ``residual_minimum(1, ((1,),), x, y, epsilon)``. With Z = Y restricted to the row space of X:

    - rank X = rank Z = n: every block is invertible at a minimum and W_out follows from them. The
      count is the product over the blocks of 1 + max(1, 2^(q - 1)), q the number of ones among n
      and the block's hidden widths: 3 for n = h = 1, otherwise 2 for a block of two matrices.
    - Z = 0, for any blocks: 1 (shrink W_out to 0).
    - rank X < n or rank Z < n, one block of any depth: 1.
    - epsilon = 0, or no block with a hidden width: the network is linear, `linear_minimum` counts.
    - rank X < n or rank Z < n with several blocks: not known (conjectured 1), None.

    The paper's proposition is right; its proof inverts the wrong map in (12). A rank is decided by
    singular values relative to the largest, with ``tolerance`` (default: ten times the rounding of
    the dtype and size) between zero and not zero; where one is within ten times of it and the
    possible ranks differ in the count, the count is None and ``undecided`` True. NumPy, host-only.

    Raises ValueError for sizes that do not fit, widths that are not positive integers, and NaN.

    Paper: Prop. 4.3.

    Example:
        >>> one = jnp.ones((1, 1))
        >>> residual_minimum(1, ((1,),), one, one).count
        3
        >>> residual_minimum(1, ((1,),), one, one, epsilon=0.0).count
        4
        >>> residual_minimum(2, ((1,), (3,)), jnp.eye(2), jnp.diag(jnp.array([1.0, 0.0]))).reason
        'not known: rank Z < n with more than one block'
    """
    blocks = _checked_blocks(n, blocks)
    x, y = as_matrix("x", x), as_matrix("y", y)
    require(x.shape[0] == n, f"`x` must have n = {n} rows, got shape {x.shape}.")
    require(
        y.shape[1] == x.shape[1] and y.size > 0,
        f"`y` {y.shape} must have as many columns as `x` {x.shape}, at least one, and a row.",
    )
    require(bool(np.isfinite(epsilon)), f"`epsilon` must be a finite number, got {epsilon}.")
    _, of_x, rows = np.linalg.svd(x, full_matrices=False)
    rank_x = rank_of(of_x, of_x[0], rounding(x, tolerance))
    # Against the size of all of y: what x sees of it may be rounding alone.
    size, relative = float(np.linalg.norm(y, 2)), rounding(y, tolerance)
    rank_z = rank_of(np.linalg.svd(y @ rows[: rank_x.high].T, compute_uv=False), size, relative)
    if epsilon == 0 or not any(blocks):
        # Without a hidden width, epsilon only translates the weights.
        inner = [w for hidden in blocks for w in (*hidden, n)]
        linear = linear_minimum((n, *inner, y.shape[0]), x, y, tolerance=tolerance)
        count, undecided = linear.count, linear.count is None
        reason = f"the network is linear: {linear.reason}"
    else:
        options = {_rule(n, blocks, *ranks) for ranks in _possible(rank_x, rank_z)}
        undecided = len({count for count, _ in options}) > 1
        count, reason = (None, UNDECIDED) if undecided else min(options, key=lambda o: o[1])
    return ResidualMinimum(
        count=count,
        reason=reason,
        block_counts=tuple(_block_count(n, hidden) for hidden in blocks),
        rank_x=rank_x.high,
        rank_z=rank_z.high,
        margin_x=rank_x.margin,
        margin_z=rank_z.margin,
        undecided=undecided,
    )


UNDECIDED = "undecided: a singular value is too near to zero, and the count depends on it"


def _possible(rank_x: Rank, rank_z: Rank):
    """The pairs of ranks that the singular values leave open; rank Z is at most rank X."""
    pairs = itertools.product(
        range(rank_x.low, rank_x.high + 1), range(rank_z.low, rank_z.high + 1)
    )
    return [(a, min(a, b)) for a, b in pairs]


def _rule(n: int, blocks: tuple[tuple[int, ...], ...], rank_x: int, rank_z: int):
    """The count, None where it is not known, and the clause of the theorem that says so.

    Proofs beyond the paper's case, for one block M = epsilon I + W_d ... W_1 of any depth:

    - A point with M X of lower rank than X can be moved, through W_1 alone and with a W_out that
      stays bounded, to one where the ranks agree: the kernel of M X is matched by the range of
      W_d ... W_2. If rank X < n those points are all but a set of codimension 2 or more.
    - rank X = n > rank Z: det M > 0 is connected, and each component of det M < 0 reaches it
      through a singular M with a bounded W_out = Z M^-1: with a hidden width of 1, M = epsilon I +
      u v^T, after u is turned into the kernel of Z; else by M = epsilon diag(1, ..., 1, t).
    """
    if rank_z == 0:
        return 1, "Z = 0: shrink W_out to 0"
    if rank_x == rank_z == n:
        return math.prod(_block_count(n, b) for b in blocks), "rank Z = n: invertible blocks"
    lost = "rank X < n" if rank_x < n else "rank Z < n"
    if len(blocks) == 1:
        return 1, f"{lost}, one block"
    return None, f"not known: {lost} with more than one block"


def _block_count(n: int, hidden: tuple[int, ...]) -> int:
    """The components of {det(epsilon I + W_d ... W_1) != 0}: one positive, the others negative."""
    ones = [n, *hidden].count(1)
    return 1 + max(1, 2 ** (ones - 1)) if ones else 2


def _checked_blocks(n, blocks):
    require_count("n", n)
    positive = lambda w: isinstance(w, int) and w >= 1
    chains = isinstance(blocks, Sequence) and all(isinstance(b, Sequence) for b in blocks)
    require(
        chains and len(blocks) >= 1 and all(positive(w) for b in blocks for w in b),
        "`blocks` must be one or more tuples of positive hidden widths, such as ((3,), (2, 2)), "
        f"got {blocks!r}.",
    )
    return tuple(tuple(b) for b in blocks)

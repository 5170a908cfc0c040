"""The minimum of a two-layer linear network with a penalty on the squares of its weights."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike, Real

from .._checks import is_concrete, require
from .._results import AbstractResult
from ._linear import checked_data
from ._linear_label import Weights, checked_weights
from ._ranks import rank_of, rounding


class FrameLabel(AbstractResult):
    """The component of the minimum nearest to a point.

    ``sign`` is the orientation of the frame, +1 or -1, and 1 where the minimum is connected.
    ``distance`` is that to the minimum, over all weights; it is certain (``decided``) that the
    other component is farther where it is below ``reach``, half the distance between the two.
    """

    sign: int
    decided: bool
    distance: float
    reach: float


class RegularisedMinimum(AbstractResult):
    """The minimum of |Y - W_2 W_1 X|^2 + penalty (|W_1|^2 + |W_2|^2); see `regularised_minimum`.

    ``count`` is the number of components, None where it is too near to a tie to decide; ``k`` is
    the rank of the product, ``value`` the least loss, ``margin`` (sigma_k - penalty) / sigma_1 at
    the last singular value kept, and ``tie_gap`` (sigma_k - sigma_(k+1)) / sigma_1 where the cap
    cut the rank, inf where it did not.
    """

    count: int | None = eqx.field(static=True)
    reason: str = eqx.field(static=True)
    value: float = eqx.field(static=True)
    k: int = eqx.field(static=True)
    margin: float = eqx.field(static=True)
    tie_gap: float = eqx.field(static=True)
    widths: tuple[int, ...] = eqx.field(static=True)
    left: np.ndarray
    scale: np.ndarray
    right: np.ndarray

    def label(self, params: Weights) -> FrameLabel:
        """The component nearest to a point: the orientation of the frame Q nearest to it.

        A minimum is W_1 = Q D V^T, W_2 = U D Q^T with Q in the Stiefel manifold V_k(R^h), D =
        sqrt(sigma - penalty) and U, V the singular vectors that are kept. At a tie the distance is
        that to the minima with these ones, so an upper bound. Host-only.
        """
        w1, w2 = checked_weights("params", params, self.widths)
        require(is_concrete(w1, w2), "`params` must be known values, not traced ones.")
        w1, w2 = np.asarray(w1, np.float64), np.asarray(w2, np.float64)
        a, b = (w1 @ self.right) * self.scale, (w2.T @ self.left) * self.scale
        u, _, vt = np.linalg.svd(a + b, full_matrices=False)
        frame = u @ vt
        near = [(frame * self.scale) @ self.right.T, (self.left * self.scale) @ frame.T]
        distance = math.hypot(np.linalg.norm(w1 - near[0]), np.linalg.norm(w2 - near[1]))
        if self.count != 2:
            return FrameLabel(1, self.count == 1, distance, math.inf)
        # The nearest frame of the other orientation turns over its shortest axis, in W_1 and W_2.
        reach = math.sqrt(2) * float(self.scale[-1])
        sign = int(np.sign(np.linalg.det(frame)))
        return FrameLabel(sign, distance < reach, distance, reach)

    def connected(self, p: Weights, q: Weights) -> bool | None:
        """Whether two minima lie in one component; None where a label is not decided."""
        a, b = self.label(p), self.label(q)
        return a.sign == b.sign if a.decided and b.decided else None


def regularised_minimum(
    widths: Sequence[int],
    x: Real[ArrayLike, "n k"],
    y: Real[ArrayLike, "m k"],
    penalty: float,
    *,
    tolerance: float | None = None,
) -> RegularisedMinimum:
    """The minimum of |Y - W_2 W_1 X|^2 + penalty (|W_1|^2 + |W_2|^2), for X X^T = I.

    With sigma the singular values of Y X^T and k = #{sigma_j > penalty}, capped at the hidden width
    h, the minimum is the Stiefel manifold V_k(R^h) of orthonormal k-frames: one component for k < h
    (k = 0 included) and two, the orientations, for k = h; one again where the cap cuts a tie,
    sigma_h = sigma_(h+1) > penalty. Its value is sum_(j<=k) (2 penalty sigma_j - penalty^2) +
    sum_(j>k) sigma_j^2, and what of Y is outside the row space of X.

    Differences below ``tolerance`` times the largest singular value (default: ten times the
    rounding of the data's dtype and size) count as zero; within ten times of it on either side they
    are not decided, and where that matters the count is None. host-only.

    Raises ValueError for anything but three widths, an X whose rows are not orthonormal (no closed
    form is known to us), a penalty that is not positive, and data that do not fit.

    Example:
        >>> import numpy as np
        >>> minimum = regularised_minimum((2, 2, 2), np.eye(2), np.diag([3.0, 2.0]), 1.0)
        >>> minimum.count, minimum.value
        (2, 8.0)
        >>> regularised_minimum((2, 2, 2), np.eye(2), np.diag([3.0, 2.0]), 2.5).count
        1
    """
    widths, x, y = checked_data(widths, x, y, tolerance)
    require(len(widths) == 3, f"`widths` must be three, (d_0, h, d_2), got {widths}.")
    require(
        math.isfinite(penalty) and penalty > 0,
        f"`penalty` must be positive and finite, got {penalty}.",
    )
    relative = max(rounding(x, tolerance), rounding(y, tolerance))
    x, y = x.astype(np.float64), y.astype(np.float64)
    off = float(np.abs(x @ x.T - np.eye(len(x))).max())
    require(
        off <= relative,
        f"`x` must have orthonormal rows (X X^T = I), it is off by {off:.3g}: for other data the "
        "minimum is not known in closed form.",
    )
    left, sigma, right = np.linalg.svd(y @ x.T, full_matrices=False)
    outside = float(np.sum((y - y @ x.T @ x) ** 2))
    count, reason = _count(sigma, penalty, widths[1], relative)
    threshold = relative * max(float(sigma[0]), penalty)
    k = min(int((sigma - penalty > threshold).sum()), widths[1])
    value = float(np.sum(2 * penalty * sigma[:k] - penalty**2) + np.sum(sigma[k:] ** 2)) + outside
    capped = k == widths[1] and k < len(sigma) and sigma[k] - penalty > threshold
    return RegularisedMinimum(
        count,
        reason,
        value,
        k,
        float((sigma[k - 1] - penalty) / sigma[0]) if k else math.inf,
        float((sigma[k - 1] - sigma[k]) / sigma[0]) if capped and k else math.inf,
        widths,
        left[:, :k],
        np.sqrt(sigma[:k] - penalty),
        right[:k].T,
    )


def _count(sigma: Any, penalty: float, h: int, relative: float) -> tuple[int | None, str]:
    """(count or None, why)."""
    scale = max(float(sigma[0]), penalty)
    positive = lambda value: rank_of(np.array([max(float(value), 0.0)]), scale, relative)
    if h > len(sigma):
        return 1, "the frame has fewer vectors than the hidden layer is wide"
    kept = positive(sigma[h - 1] - penalty)
    if kept.high == 0:
        return 1, "the frame has fewer vectors than the hidden layer is wide"
    if h < len(sigma):
        tie, beyond = positive(sigma[h - 1] - sigma[h]), positive(sigma[h] - penalty)
        if tie.high == 0 and beyond.low == 1:
            return 1, "the cap cuts a tie, which joins the two orientations"
        if not tie.sure:
            return None, f"sigma_{h} and sigma_{h + 1} may be equal"
    if not kept.sure:
        return None, f"sigma_{h} may equal the penalty"
    return 2, "the two orientations of a frame as large as the hidden layer"

"""The minimum of a deep linear network: its components, and the way from one point to another."""

import math
from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike, Real

from .._checks import checked_widths, is_concrete, require
from .._results import AbstractResult
from ._linear_data import LinearData, Margins, analyse
from ._linear_label import LinearLabel, Weights, checked_weights, label
from ._linear_permutations import LinearPermutations, permute
from ._path import LinearPath, linear_path
from ._ranks import as_matrix


class LinearHeight(AbstractResult):
    """The least height that every path between two minima must reach, and some path does.

    ``value`` is measured from the minimum, ``level`` is the loss there; NaN where a label is not
    decided.
    """

    value: float
    level: float


class LinearMinimum(AbstractResult):
    """The minimum of |Y - W_l ... W_1 X|^2 over weights (W_1, ..., W_l); see `linear_minimum`.

    ``count`` is the number of its path components, None where a rank or a tie is too near to its
    tolerance to decide; ``reason`` says why it is that, ``value`` is the least loss, ``margins``
    the ranks and gaps that the count rests on.
    """

    widths: tuple[int, ...] = eqx.field(static=True)
    count: int | None = eqx.field(static=True)
    reason: str = eqx.field(static=True)
    value: float = eqx.field(static=True)
    margins: Margins = eqx.field(static=True)
    data: LinearData

    def label(self, params: Weights) -> LinearLabel:
        """The component that a point belongs to, as one sign for each critical layer.

        For a point that is a minimum only nearly (what an optimiser returns) the signs are those
        of the one component that a path can reach from it below the barrier; they are ``decided``
        where the loss is below that barrier, by Theorem M of docs/theory.md, rounding included.
        Under jit and vmap everything is computed in the dtype of the weights, float32 at least;
        outside, in float64 on the host.
        """
        return label(self.data, checked_weights("params", params, self.widths))

    def connected(self, p: Weights, q: Weights) -> bool | None:
        """Whether two minima lie in one component; None where a label is not decided."""
        a, b = self._labels(p, q)
        return a == b if bool(a.decided) and bool(b.decided) else None

    def permutations(self, p: Weights, q: Weights, *, align: bool = False) -> LinearPermutations:
        """The fewest permutations of hidden units that bring p into the component of q.

        Prop. 5.2 corrected, for all widths. Each critical layer of width at least 2 whose sign
        differs gets one transposition, and every other layer the identity; at a tie, where opposite
        labels are one component, that is at most floor(b / 2) layers. No permutation changes the
        sign of a layer of width 1: these are listed in ``sign_flips``, since negating the layer
        (W_i and W_(i+1)) does. With ``align`` every layer is also permuted towards q, by linear
        assignment with the parity that its sign needs: a good choice, not a proven best one.

        The result unpacks as (permuted p, permutations): index arrays, one for each hidden layer,
        as elements of `Permutation`. Raises ValueError where a label is not decided.
        """
        a, b = self._labels(p, q)
        for name, own in (("p", a), ("q", b)):
            self._require_decided(name, own)
        return permute(self.margins, (tuple(p), tuple(a)), (tuple(q), tuple(b)), align)

    def barrier(self, p: Weights, q: Weights) -> LinearHeight:
        """The exact minimax height between two minima: Theorem M of docs/theory.md.

        0 within a component; sigma_r'^2 - sigma_(r'+1)^2 where all signs differ and row and column
        space of the product can turn (r_x > r' and d_l > r'), since all flip at once when they come
        back from half a turn; else sigma_r'^2, the price of a product of rank r' - 1.
        """
        a, b = self._labels(p, q)
        if not (bool(a.decided) and bool(b.decided)):
            return LinearHeight(math.nan, math.nan)
        opposite = all(s != r for s, r in zip(a, b, strict=True))
        value = 0.0 if a == b else self.data.height(flip=opposite)
        return LinearHeight(value, self.value + value)

    def path(self, p: Weights, q: Weights, *, tolerance: float | None = None) -> LinearPath:
        """A path of constant loss between two minima of one component, on [0, 1].

        For every pair of points, rank-deficient and ill-conditioned weights included; at a tie the
        product turns too. The result says its largest sampled product error. Points whose product
        is off by more than ``tolerance``, relative to the best one (default: the square root of
        their dtype's eps) are refused; a larger ``tolerance`` admits what an optimiser returns.

        Raises ValueError for points of different components, with their labels, and for points
        that are no minima, with how far they are from one.
        """
        a, b = self._labels(p, q)
        for name, own in (("p", a), ("q", b)):
            self._require_decided(name, own)
        require(
            a == b,
            f"`p` and `q` lie in different components, with labels {a} and {b} in layers "
            f"{self.margins.layers}; no path of constant loss joins them.",
        )
        path = linear_path(self.data, tuple(p), tuple(q))
        eps = float(np.finfo(path.turns[0].basis.dtype).eps)
        allowed = eps**0.5 if tolerance is None else tolerance
        for name, off in (("p", path.start_error), ("q", path.end_error)):
            require(
                bool(off <= allowed),
                f"`{name}` is no minimum: its product is off by {off:.3g} of the best one, "
                f"more than `tolerance` = {allowed:.3g}.",
            )
        return path

    def _labels(self, p, q):
        p, q = (checked_weights(n, w, self.widths) for n, w in (("p", p), ("q", q)))
        require(
            is_concrete(p, q),
            "`p` and `q` must be known values: only `label` and the points of a path work under "
            "jit and vmap.",
        )
        return label(self.data, p), label(self.data, q)

    def _require_decided(self, name, own):
        require(
            self.count is not None,
            f"the components are not decided: {self.reason}. Give a `tolerance` that settles it.",
        )
        require(bool(own.decided), f"`{name}` is not known to be a minimum: {own.why()}.")


def linear_minimum(
    widths: Sequence[int],
    x: Real[ArrayLike, "n k"],
    y: Real[ArrayLike, "m k"],
    *,
    tolerance: float | None = None,
) -> LinearMinimum:
    """The minimum of |Y - W_l ... W_1 X|^2 for any widths (d_0, ..., d_l) and any data.

    With X = U diag(s) V^T of rank r_x, Ytilde = Y V, r' = min(r_x, d_1, ..., d_l), rho =
    min(rank Ytilde, r') and b the number of hidden layers of width rho > 0, the minimum has

    - 2^b components, one for each vector of signs det(W_i ... W_1 V_rho) over those layers,
    - except where rank Ytilde > r' and sigma_r' = sigma_(r'+1): then the product may turn, which
      flips all signs at once, and there are 2^(b - 1) (1 for b = 0).

    This is Theorem L of docs/theory.md: the corollary that counts 2^(l - 1) is its case of square
    invertible X, Y and W_i. Singular values below ``tolerance`` times the largest (default: ten
    times the rounding of the data's dtype and size) count as zero and gaps below it as ties; within
    ten times of it on either side they are not decided, and where that matters the count is None.
    Data are analysed on the host, so host-only; the labels and the points of paths work under jit
    and vmap. For a network with biases the same holds for centred X and Y.

    Prop. 5.2 is false as printed: the permutations are on the wrong sides and lack inverses.
    Multiplying two neighbouring layers is a continuous map of minima, onto that of the shorter
    network where the layer between is no bottleneck: that one has no more components.

    Raises ValueError for widths, x or y that do not fit, are empty, or hold a NaN.

    Paper: Prop. 3.4.
    Paper: Cor. 4.2.
    Paper: Prop. 5.2.

    Example:
        >>> import numpy as np
        >>> minimum = linear_minimum((2, 2, 2), np.eye(2), np.diag([3.0, 2.0]))
        >>> minimum.count
        2
        >>> p = (np.eye(2), np.diag([3.0, 2.0]))
        >>> q = (np.diag([1.0, -1.0]), np.diag([3.0, -2.0]))
        >>> minimum.connected(p, q), minimum.barrier(p, q).value
        (False, 4.0)
        >>> moved, permutations = minimum.permutations(p, q)
        >>> permutations[0].tolist(), round(float(minimum.path(moved, q).error), 6)
        ([1, 0], 0.0)
    """
    widths, x, y = checked_data(widths, x, y, tolerance)
    data = analyse(widths, x, y, tolerance)
    return LinearMinimum(data.widths, data.count, data.reason, data.value, data.margins, data)


def checked_data(
    widths: Sequence[int], x: ArrayLike, y: ArrayLike, tolerance: float | None
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Widths and data of a linear network; ValueError where they do not fit one another."""
    widths = checked_widths(widths)
    x, y = as_matrix("x", x), as_matrix("y", y)
    for name, a, rows, end in (("x", x, widths[0], "first"), ("y", y, widths[-1], "last")):
        require(a.size > 0, f"`{name}` must have rows and columns, got shape {a.shape}.")
        require(
            a.shape[0] == rows,
            f"`{name}` must have as many rows as the {end} width, {rows}, got shape {a.shape}.",
        )
    require(
        x.shape[1] == y.shape[1],
        f"`x` and `y` must have one column per sample each, got {x.shape[1]} and {y.shape[1]}.",
    )
    require(
        tolerance is None or 0 < tolerance < 1,
        f"`tolerance` must lie between 0 and 1, got {tolerance}.",
    )
    return widths, x, y

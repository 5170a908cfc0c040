"""Ranks that say how sure they are: what every count of components rests on (host-only)."""

import numpy as np
from jaxtyping import ArrayLike

from .._checks import describe, is_floating, require
from .._results import AbstractResult

_BAND = 10.0


class Rank(AbstractResult):
    """The rank of a matrix, as far as its singular values decide it.

    It lies between ``low`` and ``high``. ``margin`` is how many times the nearest singular value is
    from the threshold between zero and not zero, on either side; within ten times of it the rank is
    not decided and ``low`` < ``high``.
    """

    low: int
    high: int
    margin: float

    @property
    def sure(self) -> bool:
        """Whether no singular value is too near to the threshold."""
        return self.low == self.high


def rank_of(singular_values: np.ndarray, scale: float | np.floating, relative: float) -> Rank:
    """The number of singular values that are not zero: above ``relative`` times ``scale``."""
    threshold = relative * scale
    if threshold == 0:  # a zero matrix, whose singular values are zero as well
        return Rank(0, 0, float("inf"))
    ratio = np.asarray(singular_values, float) / threshold
    with np.errstate(divide="ignore"):
        margin = np.exp(np.abs(np.log(ratio))).min(initial=np.inf)
    return Rank(int((ratio > _BAND).sum()), int((ratio >= 1 / _BAND).sum()), float(margin))


def rounding(a: np.ndarray, tolerance: float | None) -> float:
    """The relative size below which a singular value is rounding, unless ``tolerance`` says it."""
    return 10 * max(a.shape) * float(np.finfo(a.dtype).eps) if tolerance is None else tolerance


def as_matrix(name: str, a: ArrayLike) -> np.ndarray:
    """A finite real matrix of the host, in its own dtype; half precisions become float32."""
    a = np.asarray(a)
    if a.dtype.kind in "iub":
        a = a.astype(np.float64)
    require(is_floating(a) and a.ndim == 2, f"`{name}` must be a real matrix, got {describe(a)}.")
    a = a.astype(np.float32) if a.dtype.itemsize < 4 else a
    require(
        bool(np.isfinite(a).all()),
        f"`{name}` holds a NaN or an infinity; expected finite numbers.",
    )
    return a

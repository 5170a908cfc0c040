"""What a deep linear network's data decide: ranks, ties, the number of components (host-only).

With X = U diag(s) V^T of rank r_x the loss is |Y - Z V^T|^2, where Z = W_l ... W_2 (W_1 U diag(s))
is the product in reduced coordinates: it sees neither the rest of W_1, nor Y outside row(X).
"""

import dataclasses
import math

import equinox as eqx
import numpy as np

from .._results import AbstractResult
from ._ranks import rank_of, rounding


class Margins(AbstractResult):
    """The numbers that a count of components rests on.

    ``r_x`` is the rank of x, ``rank`` that of Ytilde = Y restricted to the row space of x,
    ``r_prime`` = min(r_x, d_1, ..., d_l) the largest rank a product can have and ``rho`` =
    min(rank, r_prime) the rank at the minimum. ``layers`` are the critical ones: those 0 < i < l
    with d_i = rho (none for rho = 0); there are ``b``. ``gap`` is sigma_rho / sigma_(rho+1), inf
    where there is no such sigma; ``tie_gap`` is (sigma_r' - sigma_(r'+1)) / sigma_1, zero at a tie,
    and ``tied`` says whether the cut was taken to be one. ``tolerance`` is the size,
    relative to sigma_1, below which a singular value or a gap counts as rounding; within ten times
    of it neither way is sure.
    """

    r_x: int
    rank: int
    rho: int
    r_prime: int
    b: int
    layers: tuple[int, ...]
    gap: float
    tie_gap: float
    tied: bool
    tolerance: float


class LinearData(eqx.Module):
    """The data in reduced coordinates, from the singular value decompositions of X and Ytilde.

    ``encode`` = U diag(s) and ``decode`` = diag(1/s) U^T turn W_1 into its seen part and back.
    ``target`` is Ytilde = left diag(sigma) right^T; ``outside`` is |Y|^2 outside row(X).
    """

    widths: tuple[int, ...] = eqx.field(static=True)
    encode: np.ndarray
    decode: np.ndarray
    target: np.ndarray
    left: np.ndarray
    sigma: np.ndarray
    right: np.ndarray
    outside: float
    margins: Margins = eqx.field(static=True)
    count: int | None = eqx.field(static=True)
    reason: str = eqx.field(static=True)

    @property
    def best(self) -> np.ndarray:
        """A product of least loss: the truncation of the target to rank rho."""
        rho = self.margins.rho
        return (self.left[:, :rho] * self.sigma[:rho]) @ self.right[:, :rho].T

    @property
    def value(self) -> float:
        """The least loss."""
        return self.outside + float(np.sum(self.sigma[self.margins.rho :] ** 2))

    def sigma_at(self, j: int) -> float:
        """sigma_j, counted from 1; zero beyond the last, infinite for j = 0."""
        return math.inf if j == 0 else float(self.sigma[j - 1]) if j <= len(self.sigma) else 0.0

    @property
    def rotatable(self) -> bool:
        """Whether row(Z) and col(Z) can both turn, so that all labels may flip at once."""
        m = self.margins
        return m.r_x > m.r_prime and self.widths[-1] > m.r_prime

    def height(self, flip: bool) -> float:
        """How high a path must climb that changes some labels, or (``flip``) all of them."""
        m = self.margins
        low = self.sigma_at(m.r_prime + 1) if flip and self.rotatable else 0.0
        return 0.0 if m.tied and flip else self.sigma_at(m.r_prime) ** 2 - low**2

    @property
    def certificate(self) -> float:
        """The excess loss below which a point's label is certain (Theorem M of docs/theory.md)."""
        m = self.margins
        if m.rho == 0:
            return math.inf
        if m.b == 0:  # nothing to tell apart: here the product keeps its rank
            return self.sigma_at(m.rho) ** 2
        return self.height(flip=not m.tied)


def analyse(
    widths: tuple[int, ...], x: np.ndarray, y: np.ndarray, tolerance: float | None
) -> LinearData:
    """Reduce the data, decide the ranks, and count."""
    relative = max(rounding(x, tolerance), rounding(y, tolerance))
    x, y = x.astype(np.float64), y.astype(np.float64)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    rank_x = rank_of(s, s[0], relative)
    # Where the rank of X is not sure, both readings must give one count.
    readings = [
        _reading(widths, y, u, s, vt, r, relative) for r in range(rank_x.low, rank_x.high + 1)
    ]
    counts = {r.count for r in readings}
    chosen = readings[-1]
    if counts == {chosen.count}:
        return chosen
    reason = f"the rank of x is not sure, between {rank_x.low} and {rank_x.high}"
    return dataclasses.replace(chosen, count=None, reason=reason)


def _reading(widths, y, u, s, vt, r_x, relative):
    """The analysis for one rank of X."""
    u, s, v = u[:, :r_x], s[:r_x], vt[:r_x].T
    target = y @ v
    rest = y - target @ v.T
    left, sigma, right_t = np.linalg.svd(target, full_matrices=False)
    size = np.linalg.norm(y, 2)
    # The row space of X is known to eps cond(X): it turns what of Y is outside it.
    condition = s[0] / s[-1] if r_x else 1.0
    scale = size + condition * np.linalg.norm(rest)
    count, reason, rank, tied = _count(widths, r_x, sigma, scale, relative)
    r_prime = min(r_x, *widths[1:])
    rho = min(rank, r_prime)
    layers = tuple(i for i in range(1, len(widths) - 1) if rho > 0 and widths[i] == rho)
    at = lambda j: float(sigma[j]) if j < len(sigma) else 0.0
    gap = at(rho - 1) / at(rho) if rho and at(rho) > 0 else math.inf
    cut = at(r_prime - 1) - at(r_prime) if rho == r_prime > 0 else math.inf
    tie_gap = cut / at(0) if rho else math.inf
    margins = Margins(
        r_x, rank, rho, r_prime, len(layers), layers, gap, tie_gap, tied,
        float(relative * (scale / at(0) if at(0) > 0 else 1.0)),
    )  # fmt: skip
    return LinearData(
        widths, u * s, (u / s).T, target, left, sigma, right_t.T, float(np.sum(rest**2)),
        margins, count, reason,
    )  # fmt: skip


def _count(widths, r_x, sigma, scale, relative):
    """(count or None, why, rank of the target, whether there is a tie at the cut)."""
    r_prime = min(r_x, *widths[1:])
    rank = rank_of(sigma, scale, relative)
    threshold = relative * scale
    nearest = int((sigma > threshold).sum()) if threshold > 0 else 0
    b = sum(d == r_prime for d in widths[1:-1])
    if r_prime == 0 or rank.high < r_prime:
        return 1, "the rank at the minimum is below every width", nearest, False
    cut = sigma[r_prime - 1] - (sigma[r_prime] if r_prime < len(sigma) else 0.0)
    gap = rank_of(np.array([cut]), scale, relative)  # its rank: 1 for a gap, 0 for a tie
    tied = rank.low > r_prime and bool(cut <= threshold)
    if b == 0:
        return 1, "no hidden layer is as narrow as the rank at the minimum", nearest, tied
    if rank.low < r_prime:
        return None, f"sigma_{r_prime} may be zero", nearest, tied
    if rank.high <= r_prime:
        return 2**b, f"2^{b}: one sign for each critical layer", nearest, False
    if not gap.sure:
        return None, f"sigma_{r_prime} and sigma_{r_prime + 1} may be equal", nearest, tied
    if tied:
        return 2 ** (b - 1), f"2^({b} - 1): a tie joins opposite labels", nearest, True
    return 2**b, f"2^{b}: one sign for each critical layer", nearest, False

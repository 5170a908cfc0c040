"""Which component of the minimum of a deep linear network a point belongs to."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from .._checks import describe, is_concrete, is_floating, require, require_finite
from .._results import AbstractResult
from ..linalg._precision import computing_dtype, mm
from ._linear_data import LinearData
from ._path_turn import Either

Weights: TypeAlias = tuple[Any, ...]
"""(W_1, ..., W_l), of NumPy or of JAX."""


class LinearLabel(AbstractResult):
    """The component that a point belongs to, and the numbers that say how sure that is.

    ``signs`` holds sign det(H_i V) for the critical layers i, H_i = W_i ... W_1 and V the right
    singular vectors of the best product; where opposite labels are one component (a tie at the
    cut) the first sign is made +1. They are certain (``decided``) where the loss exceeds its
    minimum by less than ``height``, rounding included: ``excess`` is that difference and
    ``rounding`` bounds its error and that of rounding in the signs. Iterating, ``len`` and
    ``numpy.asarray`` give the signs; two labels are equal where both are decided and agree.
    """

    signs: Int[Either, " b"]
    decided: Bool[Either, ""]
    excess: Float[Either, ""]
    height: Float[Either, ""]
    rounding: Float[Either, ""]

    def __iter__(self) -> Iterator[int]:
        return iter(np.asarray(self.signs).tolist())

    def __len__(self) -> int:
        return len(self.signs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return np.asarray(self.signs, dtype)

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, LinearLabel):
            return NotImplemented
        return bool(self.decided) and bool(other.decided) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        if not is_concrete(self) or self.decided.shape:  # under jit, and a batch of labels
            return repr(self)
        signs = "(" + ", ".join(f"{s:+d}" for s in self) + ")"
        return signs if self.decided else f"undecided, nearest {signs}, {self.why()}"

    def why(self) -> str:
        """The comparison that decides, in words."""
        return (
            f"loss above the minimum {float(self.excess):.3g} (+- {float(self.rounding):.1g}) "
            f"against a height of {float(self.height):.3g}"
        )


def checked_weights(name: str, params: Any, widths: tuple[int, ...]) -> Weights:
    """The weights as a tuple; ValueError unless they have the widths and are finite."""
    weights = tuple(params)
    require(
        len(weights) == len(widths) - 1,
        f"`{name}` must hold {len(widths) - 1} matrices for widths {widths}, got {len(weights)}.",
    )
    for i, w in enumerate(weights):
        shape = (widths[i + 1], widths[i])
        require(
            is_floating(w) and w.shape == shape,
            f"`{name}[{i}]` must be a real matrix of shape {shape}, got {describe(w)}.",
        )
    require_finite(name, weights)
    return weights


def reduced(data: LinearData, weights: Weights) -> tuple[Any, tuple[Any, ...]]:
    """(namespace, weights with W_1 in reduced coordinates): float64 NumPy for known values."""
    if is_concrete(weights):
        wide = tuple(np.asarray(w, np.float64) for w in weights)
        return np, (wide[0] @ data.encode, *wide[1:])
    dtype = computing_dtype(*(w.dtype for w in weights))
    wide = tuple(w.astype(dtype) for w in weights)
    return jnp, (mm(wide[0], jnp.asarray(data.encode, dtype)), *wide[1:])


def product_of(weights: tuple[Any, ...], times: Any = np.matmul) -> Any:
    """W_l ... W_1."""
    z = weights[0]
    for w in weights[1:]:
        z = times(w, z)
    return z


def chain(xp: Any, weights: tuple[Any, ...], frame: Any, *, mode: str = "reduced") -> list[Any]:
    """Bases Q_1, ..., Q_(l-1) with W_i Q_(i-1) = Q_i C_i, C_i upper triangular, diagonal >= 0.

    Q_0 = ``frame`` has orthonormal columns, so Q_i spans H_i frame. Each step is backward stable:
    the result is that of weights changed by rounding, however ill-conditioned H_i is. With mode
    "complete" each Q_i has a basis of the complement behind it.
    """
    times, rho = _times(xp), frame.shape[1]
    bases = []
    for w in weights[:-1]:
        q, c = xp.linalg.qr(times(w, frame), mode=mode)
        flip = xp.where(xp.diagonal(c) < 0, -1.0, 1.0).astype(q.dtype)
        frame = q[:, :rho] * flip[None, :]
        bases.append(frame if mode == "reduced" else xp.concatenate([frame, q[:, rho:]], axis=1))
    return bases


def signs_of(xp: Any, bases: list[Any], layers: tuple[int, ...]) -> Any:
    """The labels sign det(H_i V) from the bases of `chain`, whose triangles have det >= 0."""
    signs = [xp.linalg.slogdet(bases[i - 1])[0] for i in layers]
    return xp.stack(signs) if signs else xp.zeros(0)


def label(data: LinearData, weights: Weights) -> LinearLabel:
    """See `LinearMinimum.label`."""
    xp, chained = reduced(data, weights)
    times, dtype = _times(xp), chained[0].dtype
    constant = lambda a: xp.asarray(a, dtype=dtype)
    m, z = data.margins, product_of(chained, times)
    off = z - constant(data.best)
    # |Y - Z|^2 - |Y - best|^2 without a difference of large numbers.
    missing = constant(data.target - data.best)
    excess = xp.sum(off * off) - 2 * xp.sum(missing * off)
    encode = xp.sqrt(xp.sum(constant(data.encode) ** 2))
    moved = _rounding(xp, chained, xp.sqrt(xp.sum(constant(weights[0]) ** 2)) * encode)
    distance = xp.sqrt(xp.sum((z - constant(data.target)) ** 2))
    rounding = (2 * distance + moved) * moved
    if m.b == 0:
        signs = xp.zeros(0)
    else:
        # At a tie the k-plane is free: the point's own product says which one it is.
        frame = xp.linalg.svd(z)[2][: m.rho].T if m.tied else constant(data.right[:, : m.rho])
        signs = signs_of(xp, chain(xp, chained, frame), m.layers)
        signs = signs * signs[0] if m.tied else signs
    height = xp.asarray(data.certificate, dtype=dtype)
    sure = (excess + rounding < height) & (data.count is not None)
    return LinearLabel(
        signs.astype("int32"), sure, xp.asarray(excess), height, xp.asarray(rounding)
    )


def _rounding(xp, weights, first):
    """To first order how far rounding moves the product: each W_i by a few n eps |W_i|.

    The signs are those of weights so perturbed, since each step of `chain` is backward stable.
    ``first`` is the size of W_1 and the data, as they were before they were multiplied.
    """
    times, size = _times(xp), lambda a: xp.sqrt(xp.sum(a * a))
    below, above = [weights[0]], [weights[-1]]
    for w in weights[1:-1]:
        below.append(times(w, below[-1]))
    for w in weights[-2:0:-1]:
        above.append(times(above[-1], w))
    above = above[::-1]
    total = first * (size(above[0]) if len(weights) > 1 else 1.0)
    for i in range(1, len(weights)):
        after = size(above[i]) if i + 1 < len(weights) else 1.0
        total = total + after * size(weights[i]) * size(below[i - 1])
    n = max(max(w.shape) for w in weights)
    return 4 * n * float(jnp.finfo(weights[0].dtype).eps) * total


def _times(xp: Any) -> Any:
    return np.matmul if xp is np else mm

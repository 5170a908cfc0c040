"""Explicit paths of constant loss between minima of a deep linear network.

In orthonormal bases that follow the singular vectors V through the layers (`chain`), a minimum is
W_i = [Q_i, N_i] [[C_i, E_i], [0, F_i]] [Q_(i-1), N_(i-1)]^T with C_i upper triangular of positive
diagonal, and the product is diag(sigma) in the first block and zero elsewhere. Conjugating with
diagonal matrices of powers of s scales every entry of the triangles by a power of s and leaves the
product as it is; at s = 0 only the diagonals of the C_i are left. So a path has three parts: s from
1 to 0 at the one end; turn the Q_i and move the diagonals, whose product is sigma, along their
logarithms; s from 0 to 1 at the other end. No matrix is inverted and no rank but that of the
product is asked for, no weight's norm grows beyond those of the ends, so that rounding is that of
the ends, rank-deficient and ill-conditioned weights included.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import nan_unless, require_unit_time, scalar_time
from .._results import printed
from ..curves import AbstractCurve
from ..linalg._precision import computing_dtype, mm
from ._linear_data import LinearData
from ._linear_label import Weights, chain, product_of, reduced, signs_of
from ._path_turn import Either, Turn, block_turn, still, turn_between

_SAMPLES = 16


class PathEnd(eqx.Module):
    """One end: bases of all layers, what vanishes at s = 0, logs of the diagonals, W_1 unseen."""

    bases: tuple[Float[Either, "_ _"], ...]
    vanishing: Weights
    logs: tuple[Float[Either, " rho"], ...]
    unseen: Float[Either, "d_1 d_0"]


class LinearPath(AbstractCurve):
    """A path in the minimum of a deep linear network from ``start`` (t = 0) to ``end`` (t = 1).

    It is analytic on each third of [0, 1]. ``error`` is the largest error of W_l ... W_1 X relative
    to the best one, over ``samples`` times along the path; ``start_error`` and ``end_error`` are
    those of the ends as given: from a point that is a minimum only nearly, the path goes down to
    the minimum in its first third. As a continuous image of [0, 1] it stays in one component.

    Paper: Thm. 3.1.
    """

    start: Weights
    end: Weights
    first: PathEnd
    last: PathEnd
    turns: tuple[Turn, ...]
    rho: int = eqx.field(static=True)
    error: Float[Either, ""] | float  # a float on the host, before the path is finished
    start_error: Float[Either, ""] | float
    end_error: Float[Either, ""] | float
    samples: int = eqx.field(static=True)

    __repr__ = printed

    def __call__(self, t: Float[Array, ""] | float) -> Weights:
        """The weights at a scalar t in [0, 1]; NaN outside (ValueError outside jit)."""
        t = scalar_time(t)
        require_unit_time(t)
        dtype = self.turns[0].basis.dtype
        weights = _weights(self, t.astype(dtype), jnp)
        inside = (t >= 0) & (t <= 1)
        # The ends themselves, bit by bit.
        ends = lambda w, p, q: jnp.where(t == 0, p, jnp.where(t == 1, q, w))
        pick = lambda w, p, q: nan_unless(inside, ends(w, p, q))
        return tuple(
            pick(w.astype(p.dtype), p, q)
            for w, p, q in zip(weights, self.start, self.end, strict=True)
        )


def _weights(path: LinearPath, t: Any, xp: Any) -> list[Any]:
    """The weights at t, of a path in any namespace: the sum of the middle and of both ends."""
    times = np.matmul if xp is np else mm
    clip = lambda s: xp.clip(s, 0.0, 1.0)
    down, middle, up = clip(1 - 3 * t), clip(3 * t - 1), clip(3 * t - 2)
    frames = [turn(middle, xp) for turn in path.turns]
    weights = []
    for i in range(1, len(frames)):
        logs = [end.logs[i - 1] for end in (path.first, path.last)]
        diagonal = xp.exp((1 - middle) * logs[0] + middle * logs[1])
        w = times(frames[i] * diagonal[None, :], frames[i - 1].T)
        for end, s in ((path.first, down), (path.last, up)):
            power = xp.asarray(_powers(end, i, path.rho), dtype=w.dtype)
            scaled = end.vanishing[i - 1] * s**power
            w = w + times(times(end.bases[i], scaled), end.bases[i - 1].T)
        weights.append(w)
    weights[0] = weights[0] + (1 - t) * path.first.unseen + t * path.last.unseen
    return weights


def _powers(end: PathEnd, i: int, rho: int) -> np.ndarray:
    """The power of s by which each entry of layer i vanishes.

    Conjugation with D = diag(1, s, s^2, ...) gives k - j in the triangle; the block E_i may then
    take any common power times D^-1 that differs by one from layer to layer, because the blocks
    F_i take s each. What is zero but for rounding takes s.
    """
    rows, columns = end.vanishing[i - 1].shape
    j, k = np.arange(rows)[:, None], np.arange(columns)[None, :]
    triangle = np.maximum(np.abs(k - j), 1)
    corner = rho - j + len(end.logs) - i
    inside = (j < rho) & (k < rho)
    return np.where(inside, triangle, np.where((j < rho) & (k >= rho), corner, 1)).astype(float)


def linear_path(data: LinearData, p: Weights, q: Weights) -> LinearPath:
    """The path between two points of one component."""
    ends, frames, signs = [], [], None
    for weights in (p, q):
        end, planes, own = _end(data, weights, signs)
        signs = own if signs is None else signs
        ends.append(end)
        frames.append(planes)
    turns = _turns(data, ends, frames)
    # In reduced coordinates until here: W_1 = (its seen part) decode + (its unseen part).
    back = data.decode.T
    turns[0] = eqx.tree_at(lambda t: t.basis, turns[0], back @ turns[0].basis)
    first, last = (eqx.tree_at(lambda e: e.bases[0], end, back @ end.bases[0]) for end in ends)
    dtype = jax.dtypes.canonicalize_dtype(np.result_type(*(w.dtype for w in (*p, *q))))
    compute = np.dtype(computing_dtype(dtype))
    cast = lambda tree: jax.tree.map(lambda a: np.asarray(a, compute), tree)
    path = LinearPath(
        p, q, cast(first), cast(last), cast(tuple(turns)), data.margins.rho, 0.0, 0.0, 0.0, 0
    )
    return _finished(_with_errors(data, path))


def _end(data: LinearData, weights: Weights, wanted: Any) -> tuple[PathEnd, Any, Any]:
    """(one end in reduced coordinates, its plane at a tie, its labels): labels as wanted."""
    rho, layers = data.margins.rho, data.margins.layers
    _, chained = reduced(data, weights)
    plane = _plane(data, product_of(chained))
    bases, signs = _bases(data, chained, plane)
    if wanted is not None and layers and not np.array_equal(signs, wanted):
        # At a tie: the other orientation of the same plane.
        plane[:, 0] *= -1
        bases, signs = _bases(data, chained, plane)
    triangles = [b.T @ w @ a for w, a, b in zip(chained, bases[:-1], bases[1:], strict=True)]
    logs = [np.log(np.diagonal(c)[:rho]) for c in triangles[:-1]]
    logs.append(np.log(data.sigma[:rho]) - sum(logs, np.zeros(rho)))
    for c, log in zip(triangles, logs, strict=True):
        c[range(rho), range(rho)] -= np.exp(log)
    unseen = np.asarray(weights[0], np.float64)
    unseen = unseen - chained[0] @ data.decode
    return PathEnd(tuple(bases), tuple(triangles), tuple(logs), unseen), plane, signs


def _tied_block(data: LinearData) -> tuple[int, int]:
    """(first, one past the last) index of the singular values equal to the one at the cut."""
    m = data.margins
    if not m.tied:
        return m.rho, m.rho
    slack = m.tolerance * data.sigma[0]
    near = np.flatnonzero(np.abs(data.sigma - data.sigma[m.rho - 1]) <= slack)
    return int(near[0]), int(near[-1]) + 1


def _plane(data: LinearData, product: np.ndarray) -> np.ndarray:
    """A basis of R^m whose first columns span the plane of this product (empty without a tie)."""
    low, high = _tied_block(data)
    block = data.left[:, low:high].T @ product @ data.right[:, low:high]
    return np.linalg.eigh(block + block.T)[1][:, ::-1]


def _bases(data: LinearData, chained: Any, plane: np.ndarray) -> tuple[list[np.ndarray], Any]:
    """Orthonormal bases of every layer, the part that carries the product first; the labels."""
    rho = data.margins.rho
    right, left = (_whole(_turned(data, side, plane)[:, :rho]) for side in (data.right, data.left))
    inner = chain(np, chained, right[:, :rho], mode="complete")
    signs = signs_of(np, [q[:, :rho] for q in inner], data.margins.layers)
    return [right, *inner, left], signs


def _turned(data: LinearData, vectors: np.ndarray, plane: np.ndarray) -> np.ndarray:
    low, high = _tied_block(data)
    return np.concatenate([vectors[:, :low], vectors[:, low:high] @ plane], axis=1)


def _whole(frame: np.ndarray) -> np.ndarray:
    """An orthonormal basis whose first columns are those of the frame."""
    complement = np.linalg.qr(frame, mode="complete")[0][:, frame.shape[1] :]
    return np.concatenate([frame, complement], axis=1)


def _turns(data: LinearData, ends: list[PathEnd], planes: list[np.ndarray]) -> list[Turn]:
    """How each layer's frame turns from the one end to the other."""
    rho, (low, high) = data.margins.rho, _tied_block(data)
    inner = [
        turn_between(a, b, rho)
        for a, b in zip(ends[0].bases[1:-1], ends[1].bases[1:-1], strict=True)
    ]
    if not data.margins.tied:
        return [still(data.right[:, :rho]), *inner, still(data.left[:, :rho])]
    turn = turn_between(planes[0], planes[1], rho - low)
    outer = [block_turn(v[:, :low], v[:, low:high], turn) for v in (data.right, data.left)]
    return [outer[0], *inner, outer[1]]


def _with_errors(data: LinearData, path: LinearPath) -> LinearPath:
    """The path with its largest product error, sampled in the dtype that it is computed in."""
    rho = data.margins.rho
    part = (1 - np.cos(np.pi * np.arange(_SAMPLES + 1) / _SAMPLES)) / 2
    times = np.unique(np.concatenate([(k + part) / 3 for k in range(3)]))
    given = [tuple(np.asarray(w, np.float64) for w in ws) for ws in (path.start, path.end)]
    encoded = lambda ws: (np.asarray(ws[0], np.float64) @ data.encode, *ws[1:])
    # A best product of zero has no scale: then that of the data, for weights of size 1 or more.
    scale = max(np.prod([max(1.0, float(np.linalg.norm(w))) for w in ws]) for ws in given)
    size = np.linalg.norm(data.best) or scale * np.linalg.norm(data.encode) or 1.0
    # The frames of the ends are in the coordinates of x; here they are needed in the reduced ones.
    right = eqx.tree_at(lambda t: t.basis, path.turns[0], data.encode.T @ path.turns[0].basis)

    def error(weights, t):
        middle = np.clip(3 * t - 1, 0, 1)
        v, u = right(middle, np), path.turns[-1](middle, np)
        best = (u * data.sigma[None, :rho]) @ v.T
        return float(np.linalg.norm(product_of(encoded(weights)) - best) / size)

    dtype = path.turns[-1].basis.dtype
    inner = [error(_weights(path, dtype.type(t), np), t) for t in times[1:-1]]
    start, end = error(given[0], 0.0), error(given[1], 1.0)
    worst = max([*inner, start, end])
    return LinearPath(
        path.start, path.end, path.first, path.last, path.turns, path.rho,
        worst, start, end, len(times),
    )  # fmt: skip


def _finished(path: LinearPath) -> LinearPath:
    """The same path with its arrays on the device."""
    return jax.tree.map(jnp.asarray, path)

"""Turning one orthonormal frame into another, as rotations of planes (host-only to build)."""

from typing import Any, TypeAlias

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..linalg._precision import mm

Either: TypeAlias = Any
"""An array of NumPy, while a path is built, or of JAX."""


class Turn(eqx.Module):
    """A path of frames: basis (cos(u angles) start + sin(u angles) turned), u from 0 to 1."""

    basis: Float[Either, "d n"]
    start: Float[Either, "n rho"]
    turned: Float[Either, "n rho"]
    angles: Float[Either, " n"]

    def __call__(self, u: Any, xp: Any) -> Any:
        """The frame at u, in NumPy or in JAX."""
        angle = (u * self.angles)[:, None]
        inside = xp.cos(angle) * self.start + xp.sin(angle) * self.turned
        return self.basis @ inside if xp is np else mm(self.basis, inside)


def still(frame: np.ndarray) -> Turn:
    """A frame that does not move."""
    rho = frame.shape[1]
    return Turn(frame, np.eye(rho), np.zeros((rho, rho)), np.zeros(rho))


def block_turn(fixed: np.ndarray, block: np.ndarray, turn: Turn) -> Turn:
    """Fixed columns, followed by a frame that turns within the span of ``block``."""
    a, (n, rho) = fixed.shape[1], turn.start.shape
    start, turned = np.zeros((a + n, a + rho)), np.zeros((a + n, a + rho))
    start[:a, :a], start[a:, a:], turned[a:, a:] = np.eye(a), turn.start, turn.turned
    basis = np.concatenate([fixed, block @ turn.basis], axis=1)
    return Turn(basis, start, turned, np.concatenate([np.zeros(a), turn.angles]))


def turn_between(p: np.ndarray, q: np.ndarray, rho: int) -> Turn:
    """From the first rho columns of one orthonormal basis to those of another, by a rotation.

    The other columns are free, and taken so that the rotation turns little. With none free, the
    determinants of the two must agree.
    """
    left, _, right = np.linalg.svd(q[:, rho:].T @ p[:, rho:])
    if rho < len(p) and np.linalg.det(left @ right) * np.linalg.det(q) * np.linalg.det(p) < 0:
        left[:, -1] *= -1
    target = np.concatenate([q[:, :rho], q[:, rho:] @ left @ right], axis=1)
    basis, angles, partner = rotation_planes(target @ p.T)
    start = basis.T @ p[:, :rho]
    return Turn(basis, start, partner @ start, angles)


def rotation_planes(rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(basis, angles, J): rotation = basis (cos(angles) + sin(angles) J) basis^T, J its planes.

    Pairs of eigenvalues -1 are turns by pi, in planes that the rotation does not determine.
    """
    from scipy.linalg import schur  # where it is used: `import symjax` is quicker without

    n = len(rotation)
    angles, partner = np.zeros(n), np.zeros((n, n))
    if n == 0:
        return np.zeros((0, 0)), angles, partner
    blocks, basis = schur(rotation, output="real")[:2]
    backwards, j = [], 0
    while j < n:
        if j + 1 < n and blocks[j + 1, j] != 0:
            _join(angles, partner, j, j + 1, np.arctan2(blocks[j + 1, j], blocks[j, j]))
            j += 2
        else:
            if blocks[j, j] < 0:
                backwards.append(j)
            j += 1
    for i, k in zip(backwards[::2], backwards[1::2], strict=True):
        _join(angles, partner, i, k, np.pi)
    return basis, angles, partner


def _join(angles, partner, i, j, angle):
    angles[[i, j]] = angle
    partner[j, i], partner[i, j] = 1.0, -1.0

"""Curves of any action in NumPy, in float64: points, speed and curvature by code of its own."""

import numpy as np
import scipy.linalg

import symjax
from symjax.actions import ShiftAction
from tests.discovery._reference import entries, part, shifted


def algebra(group, m):
    """The matrix of an algebra element."""
    match group:
        case symjax.Power():
            parts = [algebra(group.group, x) for x in np.asarray(m, np.float64)]
            return scipy.linalg.block_diag(*parts)
        case symjax.FixingOnes():
            n = group.n
            mirror = np.eye(n)[0] - np.ones(n) / n**0.5
            basis = np.eye(n) - 2 * np.outer(mirror, mirror) / (mirror @ mirror)
            return basis @ scipy.linalg.block_diag(0.0, np.asarray(m, np.float64)) @ basis.T
        case symjax.PositiveScaling():
            return np.diag(np.atleast_1d(np.asarray(m, np.float64)))
        case symjax.ComplexScaling():
            return scipy.linalg.block_diag(*([[a, -b], [b, a]] for a, b in np.asarray(m, float)))
    return np.asarray(m, np.float64)


def represented(matrix, how):
    """The matrix with which a leg moves its rows."""
    powers = {"vector": matrix, "covector": -matrix.T}
    return powers[how] if how in powers else how * matrix


class Curve:
    """exp(t m).leaves of a table of legs; leaves are named as the legs name them."""

    def __init__(self, action, leaves, m):
        product = isinstance(action.group, symjax.Product)
        factors, parts = (action.group.groups, m) if product else ((action.group,), (m,))
        matrices = [
            algebra(g, x) if g.dimension else None for g, x in zip(factors, parts, strict=True)
        ]
        self.leaves = {k: np.asarray(x).astype(np.float64) for k, x in leaves.items()}
        self.rows = [
            (leg, represented(matrices[leg.factor], leg.representation))
            for leg in action.legs
            if matrices[leg.factor] is not None
        ]

    def _applied(self, leg, matrix, leaf):
        """What a leg makes of its part of a leaf, and where that is."""
        where = entries(leg.block, leaf.shape)
        rows, gains = leaf.reshape(-1)[where], 1.0
        for gain in leg.gains:
            axes = [a % rows.ndim for a in gain.axes]
            values = part(self.leaves[gain.leaf], gain.block).transpose(np.argsort(axes))
            values = values.reshape([n if a in axes else 1 for a, n in enumerate(rows.shape)])
            gains = gains * (gain.scale * values + gain.offset) ** gain.power
        scaled = rows / gains
        if leg.axis is None:
            return where, gains * (matrix[0, 0] * scaled)
        front = np.moveaxis(scaled, leg.axes, range(len(leg.axes)))
        flat = matrix @ front.reshape(matrix.shape[0], -1)
        return where, gains * np.moveaxis(flat.reshape(front.shape), range(len(leg.axes)), leg.axes)

    def point(self, t):
        moved = dict(self.leaves)
        for leg, matrix in self.rows:
            where, new = self._applied(leg, scipy.linalg.expm(t * matrix), moved[leg.leaf])
            full = moved[leg.leaf].reshape(-1).copy()
            full[where] = new
            moved[leg.leaf] = full.reshape(moved[leg.leaf].shape)
        return moved

    def field(self, leaves):
        result = {k: np.zeros(x.size) for k, x in leaves.items()}
        for leg, matrix in self.rows:
            where, new = self._applied(leg, matrix, leaves[leg.leaf])
            result[leg.leaf][where] += new
        return {k: x.reshape(leaves[k].shape) for k, x in result.items()}

    def frame(self, t):
        """(Speed, curvature) at one time."""
        flat = lambda leaves: np.concatenate([x.ravel() for x in leaves.values()])
        velocity = self.field(self.point(t))
        v, a = flat(velocity), flat(self.field(velocity))
        speed = np.linalg.norm(v)
        unit = v / speed
        normal = a - (a @ unit) * unit
        normal -= (normal @ unit) * unit
        return speed, np.linalg.norm(normal) / speed**2

    def measured(self, count=257):
        """(Length, largest curvature, speeds, curvatures) at ``count`` equal steps of [0, 1]."""
        times = np.linspace(0, 1, count)
        speeds, curvatures = np.array([self.frame(t) for t in times]).T
        return scipy.integrate.simpson(speeds, x=times), curvatures.max(), speeds, curvatures


class _Fixed:
    def __init__(self, vector):
        self.vector = vector

    def standard_normal(self, shape):
        return 2 * np.asarray(self.vector, np.float64).reshape(shape)


def shift_length(action: ShiftAction, leaves, m):
    """How far a shift by m moves the leaves."""
    moved = shifted(action, leaves, _Fixed(m))
    return np.sqrt(sum(((x - leaves[k]) ** 2).sum() for k, x in moved.items()))

"""Curves of any action in NumPy, in float64: points, speed and curvature by code of its own."""

import numpy as np
import scipy.linalg

import symjax
from symjax.actions import ShiftAction


def entries(block, shape):
    """The flat numbers of the entries of a block, as an array of the block's shape."""
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    if block is None:
        return numbers
    rows = []
    for start, pairs in zip(block.starts, block.parts, strict=True):
        row = np.array(start)
        for size, stride in pairs:
            row = np.add.outer(row, stride * np.arange(size))
        rows.append(row.reshape(-1))
    return numbers[np.ix_(*rows)].reshape([n for pairs in block.parts for n, _ in pairs])


def part(leaf, block):
    return leaf.astype(np.float64).reshape(-1)[entries(block, leaf.shape)]


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


def shift_length(action: ShiftAction, leaves, m):
    """How far a shift by m moves the leaves."""
    vector, steps = np.asarray(m, np.float64).reshape(action.sizes), {}
    for leg in action.legs:
        operands = [vector, list(leg.vector)]
        for factor in leg.factors:
            inner = factor.scale * part(leaves[factor.leaf], factor.block) + factor.offset
            inner = np.abs(inner) if factor.absolute else inner
            operands += [inner**factor.power, list(factor.names)]
        step = np.einsum(*operands, [n for n in leg.out if n is not None])
        step = np.expand_dims(step, [i for i, n in enumerate(leg.out) if n is None])
        full = steps.setdefault(leg.leaf, np.zeros(leaves[leg.leaf].size))
        full[entries(leg.block, leaves[leg.leaf].shape)] += leg.coefficient * step
    return np.sqrt(sum((x**2).sum() for x in steps.values()))

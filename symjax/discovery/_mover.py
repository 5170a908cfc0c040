"""Random elements of actions and how they move arrays: what the tables say, by other code.

The actions themselves are JAX; this is NumPy, shares nothing with them, compiles nothing, and
computes in float64.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..actions import Block, LinearAction, PulledBack, ShiftAction
from ..actions._pullback import back, forth
from ..groups import (
    AbstractGroup,
    ComplexScaling,
    FixingOnes,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Power,
    SignFlip,
)

Leaves = dict[str, np.ndarray]
#: Moves the rows of a matrix, as a representation says.
Mover = Callable[[np.ndarray, Any], np.ndarray]
#: Of groups with no more components than this, elements can be drawn from each.
MOST_COMPONENTS = 8


@dataclass(frozen=True)
class Draw:
    """How elements are drawn: ``size`` below one asks for elements that near to the identity.

    ``reflected`` asks for negative determinants where a group has them. Permutations and signs are
    never the identity, but where ``size`` is below one. ``component`` asks a group that has few
    components for an element of one of these, by its number (modulo how many there are).
    """

    rng: np.random.Generator
    size: float = 1.0
    reflected: bool = False
    component: int | None = None

    def among(self, count: float) -> int | None:
        """The number of the component, of so many; None where any will do."""
        few = self.component is not None and self.size >= 1 and count <= MOST_COMPONENTS
        return self.component % int(count) if few and self.component is not None else None


def move(actions: Iterable[Any], leaves: Leaves, draw: Draw) -> Leaves:
    """The leaves moved by a random element of each action, one after the other."""
    moved = dict(leaves)
    for action in actions:
        moved |= _moved(action, moved, draw)
    return moved


def _moved(action, leaves, draw):
    match action:
        case PulledBack():
            return pulled_back(action, leaves, draw)
        case ShiftAction():
            return shifted(action, leaves, draw)
        case LinearAction():
            return multiplied(action, leaves, draw)
    raise NotImplementedError(f"no element of {type(action).__name__}")


def pulled_back(action: PulledBack, leaves: Leaves, draw: Draw) -> Leaves:
    """The leaves that an action in other coordinates moves."""
    point = dict(leaves)
    for step in action.steps:
        point |= _changed(step, point, forth)
    point |= _moved(action.base, point, draw)
    for step in reversed(action.steps):
        point |= _changed(step, point, back)
    return {str(name): point[str(name)] for name in action.moved}


def _changed(step, leaves, how):
    name = str(step.leaf)
    leaf = leaves[name]
    where = entries(step.block, leaf.shape)
    x = leaf.reshape(-1)[where]
    added = np.zeros(x.shape)
    for term in step.terms:
        added = added + _added(term.leg, term.array.value, leaves)
    x = how(step, x, added, np)
    return {name: _with(leaf, where, x)}


def multiplied(action: LinearAction, leaves: Leaves, draw: Draw) -> Leaves:
    """The leaves that a linear action moves; what stands in gains is read before anything moves."""
    movers = [element(group, draw) for group in action.factors]
    moved: Leaves = {}
    for leg in action.legs:
        name = str(leg.leaf)
        leaf = moved.get(name, leaves[name])
        where = entries(leg.block, leaf.shape)
        rows = leaf.reshape(-1)[where]
        gains = _gains(leg, leaves, rows.ndim, rows.shape)
        matrix = np.moveaxis(rows / gains, leg.axes, range(len(leg.axes)))
        count = int(np.prod([rows.shape[a] for a in leg.axes]))
        new = movers[leg.factor](matrix.reshape(count, -1), leg.representation)
        new = gains * np.moveaxis(new.reshape(matrix.shape), range(len(leg.axes)), leg.axes)
        moved[name] = _with(leaf, where, new)
    return moved


def _gains(leg, leaves, rank, shape):
    gains = np.ones(shape) if leg.gains else 1.0
    for gain in leg.gains:
        axes = [a % rank for a in gain.axes]
        values = _part(leaves[str(gain.leaf)], gain.block).transpose(np.argsort(axes))
        values = values.reshape([n if a in axes else 1 for a, n in enumerate(shape)])
        gains = gains * (gain.scale * values + gain.offset) ** gain.power
    return gains


def shifted(action: ShiftAction, leaves: Leaves, draw: Draw) -> Leaves:
    """The leaves to which a shift adds something."""
    vector, moved = 0.5 * draw.size * draw.rng.standard_normal(action.sizes), {}
    for leg in action.legs:
        name = str(leg.leaf)
        leaf = moved.get(name, leaves[name])
        where = entries(leg.block, leaf.shape)
        moved[name] = _with(leaf, where, leaf.reshape(-1)[where] + _added(leg, vector, leaves))
    return moved


def _added(leg, vector, leaves):
    """What a leg of a shift adds to its block."""
    operands: list[Any] = [vector, list(leg.vector)]
    for factor in leg.factors:
        inner = factor.scale * _part(leaves[str(factor.leaf)], factor.block) + factor.offset
        inner = np.abs(inner) if factor.absolute else inner
        operands += [inner**factor.power, list(factor.names)]
    step = np.einsum(*operands, [n for n in leg.out if n is not None])
    step = np.expand_dims(step, [i for i, n in enumerate(leg.out) if n is None])
    return leg.coefficient * step


def entries(block: Block | None, shape: tuple[int, ...]) -> np.ndarray:
    """The flat numbers of the entries of a block, as an array of the block's shape."""
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    if block is None:
        return numbers
    rows = []
    for start, part in zip(block.starts, block.parts, strict=True):
        row = np.array(start)
        for size, stride in part:
            row = np.add.outer(row, stride * np.arange(size))
        rows.append(row.reshape(-1))
    return numbers[np.ix_(*rows)].reshape([n for part in block.parts for n, _ in part])


def _part(leaf, block):
    return leaf.reshape(-1)[entries(block, leaf.shape)]


def _with(leaf, where, new):
    full = leaf.reshape(-1).copy()
    full[where] = new
    return full.reshape(leaf.shape)


# -- elements ---------------------------------------------------------------------------------


def element(group: AbstractGroup, draw: Draw) -> Mover:
    """A random element, far from singular: what it does to the rows of a matrix.

    Raises NotImplementedError for a group that is not among those that discovery lists.
    """
    n = getattr(group, "n", None) or 1
    rng, size, near = draw.rng, draw.size, draw.size < 1
    which = draw.among(group.number_of_components)
    match group:
        case Power():
            each, rest = int(min(group.group.number_of_components, 1 << 30)), which
            draws = []
            for _ in range(group.count):
                rest, digit = (None, None) if rest is None else divmod(rest, each)
                draws.append(replace(draw, component=digit))
            return _side_by_side([element(group.group, own) for own in draws])
        case FixingOnes():
            return _beside_ones(n, _matrix_of(group.group, draw))
        case GeneralLinear() | Orthogonal():
            return _by_matrix(_matrix_of(group, draw))
        case Permutation():
            order = np.arange(n) if near else rng.permutation(n)
            if which is not None:
                order = np.array(list(itertools.permutations(range(n)))[which])
            elif not near and np.array_equal(order, np.arange(n)):
                order = np.roll(order, 1)
            return lambda x, how: x[order]
        case SignFlip():
            signs = rng.choice([-1.0, 1.0], n)
            signs[rng.integers(n)] = -1.0
            if which is not None:
                signs = 1.0 - 2.0 * (which >> np.arange(n) & 1)
            return lambda x, how: x if near else signs[:, None] * x
        case PositiveScaling():
            logs = 0.5 * size * rng.standard_normal(n)
            power = lambda how: (
                {"vector": 1.0, "covector": -1.0}[how] if isinstance(how, str) else how
            )
            return lambda x, how: np.exp(power(how) * logs)[:, None] * x
        case ComplexScaling():
            logs = rng.standard_normal(n) + 1j * rng.standard_normal(n)
            return _by_complex(np.exp(0.5 * size * logs))
    raise NotImplementedError(f"no element of {group}")


def _matrix_of(group, draw):
    """A random matrix of GL(n) or O(n)."""
    n = int(group.n)  # a group of discovery has a size
    # Of standard deviation 1 / sqrt(n) its norm is about 2, so that no inverse is large.
    normal = draw.size * draw.rng.standard_normal((n, n)) / np.sqrt(n)
    match group:
        case GeneralLinear():
            g = np.eye(n) + 0.3 * normal
        case Orthogonal():
            skew = normal - normal.T  # Cayley: a rotation
            g = np.linalg.solve(np.eye(n) + skew, np.eye(n) - skew)
        case _:
            raise NotImplementedError(f"no matrix of {group}")
    which = draw.among(group.number_of_components)
    if draw.reflected if which is None else which:
        g[:, 0] *= -1
    return g


def _by_matrix(g):
    def act(x, how):
        return g @ x if how == "vector" else np.linalg.solve(g.T, x)

    return act


def _beside_ones(n, inner):
    """A matrix on the hyperplane of sum zero, which leaves the vector of ones as it is."""
    columns = np.concatenate([np.ones((n, 1)), np.eye(n)[:, 1:]], axis=1)
    basis = np.linalg.qr(columns)[0][:, 1:]
    return _by_matrix(basis @ inner @ basis.T + 1 / n)


def _by_complex(z):
    """Pairs of rows as real and imaginary parts; the inverse transpose of z is 1 / conj(z)."""

    def act(x, how):
        pairs = x.reshape(len(z), 2, -1)
        factor = (z if how == "vector" else 1 / z.conj())[:, None]
        new = factor * (pairs[:, 0] + 1j * pairs[:, 1])
        return np.stack([new.real, new.imag], axis=1).reshape(x.shape)

    return act


def _side_by_side(movers):
    def act(x, how):
        blocks = x.reshape(len(movers), -1, x.shape[-1])
        return np.stack([f(y, how) for f, y in zip(movers, blocks, strict=True)]).reshape(x.shape)

    return act

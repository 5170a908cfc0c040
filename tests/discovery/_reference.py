"""The action of a random element, in NumPy: what the tables of discovery say, by other code.

Nothing is compiled here, so the whole zoo can be moved in seconds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import symjax
from symjax.actions import ShiftAction


def changes(symmetries, apply, params, inputs):
    """The largest change of an output under a random element of each, at the outputs' scale."""
    rng = np.random.default_rng(0)

    @jax.jit
    def outputs(params):
        leaves = jax.tree.leaves(apply(params, *inputs))
        return [x for x in leaves if hasattr(x, "dtype")]

    wide = lambda params: [np.asarray(x, np.float64) for x in outputs(params)]
    before = wide(params)
    scale = max((np.abs(x).max() for x in before if x.size), default=1.0)
    for s in symmetries:
        after = wide(move(s.action, params, rng))
        moved = [np.max(np.abs(a - b)) for a, b in zip(before, after, strict=True) if a.size]
        yield s, max(moved, default=0.0) / max(scale, 1e-6)


def coarsest(params):
    """The eps of the coarsest floating dtype of some parameters."""
    dtypes = [x.dtype for x in jax.tree.leaves(params) if hasattr(x, "dtype")]
    return max(float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.floating))


def move(action, params, rng):
    """The parameters moved by a random element of an action."""
    flat, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
    leaves = {name: np.asarray(x) for name, (_, x) in zip(names, flat, strict=True)}
    change = shifted if isinstance(action, ShiftAction) else multiplied
    moved = change(action, leaves, rng)
    result = [
        moved[n].astype(x.dtype) if n in moved else x for n, (_, x) in zip(names, flat, strict=True)
    ]
    return jax.tree.unflatten(structure, result)


def entries(block, shape):
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


def part(leaf, block):
    return leaf.astype(np.float64).reshape(-1)[entries(block, leaf.shape)]


def multiplied(action, leaves, rng):
    """Each leg multiplies a matrix of rows; what stands in gains is read before anything moves."""
    drawn, moved = element(action.group, rng), {}
    for leg in action.legs:
        leaf = moved.get(leg.leaf, leaves[leg.leaf]).astype(np.float64)
        where = entries(leg.block, leaf.shape)
        rows = leaf.reshape(-1)[where]
        gains = np.ones(rows.shape)
        for gain in leg.gains:
            axes = [a % rows.ndim for a in gain.axes]
            values = part(leaves[gain.leaf], gain.block).transpose(np.argsort(axes))
            values = values.reshape([n if a in axes else 1 for a, n in enumerate(rows.shape)])
            gains = gains * (gain.scale * values + gain.offset) ** gain.power
        matrix = np.moveaxis(rows / gains, leg.axes, range(len(leg.axes)))
        size = int(np.prod([rows.shape[a] for a in leg.axes]))
        flat = representation(drawn, leg.representation) @ matrix.reshape(size, -1)
        new = flat.reshape(matrix.shape)
        new = gains * np.moveaxis(new, range(len(leg.axes)), leg.axes)
        full = leaf.reshape(-1).copy()
        full[where] = new
        moved[leg.leaf] = full.reshape(leaf.shape)
    return moved


def representation(g, how):
    if how in ("vector", "covector"):
        return g if how == "vector" else np.linalg.inv(g).T
    return np.diag(np.diag(g) ** how)


def element(group, rng):
    """A random element as a matrix."""
    normal = lambda n: 0.5 * rng.standard_normal((n, n))
    n = getattr(group, "n", None)
    match group:
        case symjax.Power():
            return scipy.linalg.block_diag(*(element(group.group, rng) for _ in range(group.count)))
        case symjax.FixingOnes():
            basis = scipy.linalg.orth(np.eye(n) - 1 / n)
            return basis @ element(group.group, rng) @ basis.T + 1 / n
        case symjax.GeneralLinear():
            return scipy.linalg.expm(normal(n)) * rng.choice([-1.0, 1.0])
        case symjax.Orthogonal():
            return np.linalg.qr(normal(n))[0] * rng.choice([-1.0, 1.0])
        case symjax.Permutation():
            order = rng.permutation(n)
            same = np.array_equal(order, np.arange(n))
            return np.eye(n)[np.roll(order, int(same))]
        case symjax.SignFlip():
            signs = rng.choice([-1.0, 1.0], n)
            signs[rng.integers(n)] = -1.0
            return np.diag(signs)
        case symjax.PositiveScaling():
            return np.diag(np.exp(0.5 * rng.standard_normal(n or 1)))
        case symjax.ComplexScaling():
            pairs = np.exp(0.5 * (rng.standard_normal(n) + 1j * rng.standard_normal(n)))
            return scipy.linalg.block_diag(*([[z.real, -z.imag], [z.imag, z.real]] for z in pairs))
    raise AssertionError(group)


def shifted(action, leaves, rng):
    """Each leg adds a contraction of one vector with leaves."""
    vector, moved = 0.5 * rng.standard_normal(action.sizes), {}
    for leg in action.legs:
        operands = [vector, list(leg.vector)]
        for factor in leg.factors:
            inner = factor.scale * part(leaves[factor.leaf], factor.block) + factor.offset
            inner = np.abs(inner) if factor.absolute else inner
            operands += [inner**factor.power, list(factor.names)]
        step = np.einsum(*operands, [n for n in leg.out if n is not None])
        step = np.expand_dims(step, [i for i, n in enumerate(leg.out) if n is None])
        full = moved.get(leg.leaf, leaves[leg.leaf]).astype(np.float64).reshape(-1)
        where = entries(leg.block, leaves[leg.leaf].shape)
        full[where] += leg.coefficient * step
        moved[leg.leaf] = full.reshape(leaves[leg.leaf].shape)
    return moved

"""How much a model's compiled program changes under random elements of what discovery lists."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from symjax.discovery._mover import Draw, move


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
    for number, s in enumerate(symmetries):
        after = wide(moved(s.action, params, Draw(rng, reflected=bool(number % 2))))
        largest = [np.max(np.abs(a - b)) for a, b in zip(before, after, strict=True) if a.size]
        yield s, max(largest, default=0.0) / max(scale, 1e-6)


def moved(action, params, draw):
    """Parameters moved by a random element of an action."""
    flat, structure = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
    floating = lambda x: hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
    leaves = {
        n: np.asarray(x, np.float64) for n, (_, x) in zip(names, flat, strict=True) if floating(x)
    }
    new = move([action], leaves, draw)
    result = [
        new[n].astype(x.dtype) if n in new and new[n] is not leaves[n] else x
        for n, (_, x) in zip(names, flat, strict=True)
    ]
    return jax.tree.unflatten(structure, result)


def coarsest(params):
    """The eps of the coarsest floating dtype of some parameters."""
    dtypes = [x.dtype for x in jax.tree.leaves(params) if hasattr(x, "dtype")]
    return max(float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.floating))


def redundancy(apply, params, *inputs):
    """The number of parameters minus the rank of the outputs' Jacobian."""
    flat, back = jax.flatten_util.ravel_pytree(params)
    leaves = lambda v: jax.tree.leaves(apply(back(v), *inputs))
    outputs = lambda v: jnp.concatenate([y.ravel() for y in leaves(v)])
    sizes = np.linalg.svd(np.asarray(jax.jacfwd(outputs)(flat)), compute_uv=False)
    return flat.size - int(np.sum(sizes > 1e-9 * sizes[0]))

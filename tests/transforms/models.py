"""Models with symmetries that several tests of this part share, and NumPy references for them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import Leg, PositiveScaling, networks

X = jax.random.normal(jax.random.key(10), (3, 20))
Y = jax.random.normal(jax.random.key(11), (2, 20))


def linear_case(dtype=jnp.float64):
    """A deep linear network with GL(4) x GL(3): (symmetry, parameters, loss)."""
    w = networks.random_weights(jax.random.key(0), (3, 4, 3, 2), dtype=dtype)
    loss = networks.squared_loss(networks.linear, X.astype(dtype), Y.astype(dtype))
    return symjax.deep_linear_action((3, 4, 3, 2)), w, lambda p: loss(p) / 20


def relu_case(dtype=jnp.float64):
    """A ReLU network whose five hidden units can be rescaled."""
    w = networks.random_weights(jax.random.key(1), (3, 5, 2), dtype=dtype)
    loss = networks.squared_loss(
        networks.homogeneous(jax.nn.relu), X.astype(dtype), Y.astype(dtype)
    )
    return symjax.neuron_rescaling_action(5), w, lambda p: loss(p) / 20


def mlp_case(dtype=jnp.float64):
    """An Equinox ReLU MLP with biases and two hidden layers, one symmetry each, as parameters."""
    model = eqx.nn.MLP(3, 2, 4, 2, activation=jax.nn.relu, key=jax.random.key(2))
    params, static = eqx.partition(model, eqx.is_array)
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    x, y = X.astype(dtype), Y.astype(dtype)
    loss = lambda p: jnp.mean((jax.vmap(eqx.combine(p, static))(x.T) - y.T) ** 2)
    layer = lambda i: symjax.linear_action(
        PositiveScaling(4),
        [
            Leg(f"layers/{i}/weight", 0),
            Leg(f"layers/{i}/bias", 0),
            Leg(f"layers/{i + 1}/weight", 1, "covector"),
        ],
    )
    return (layer(0), layer(1)), params, loss


CASES = {"linear": linear_case, "relu": relu_case, "mlp": mlp_case}
# Derivatives of a matrix exponential take long to compile.
LINEAR_SLOW = [pytest.param("linear", marks=pytest.mark.slow), "relu", "mlp"]


def tangent_matrix(symmetry, params):
    """The generators of a basis of the algebra, as columns: the dense tangent map, in NumPy."""
    actions = symmetry if isinstance(symmetry, tuple) else (symmetry,)
    flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    columns = []
    for action in actions:
        zero = jax.tree.map(
            lambda x: np.zeros(x.shape), action.group.random_algebra(jax.random.key(0))
        )
        entries, structure = jax.tree.flatten(zero)
        for i, entry in enumerate(entries):
            for j in range(entry.size):
                unit = [np.zeros(e.shape) for e in entries]
                unit[i].flat[j] = 1.0
                m = jax.tree.unflatten(structure, [jnp.asarray(u) for u in unit])
                columns.append(flat(action.generator(m, params)))
    return np.stack(columns, 1)


def flat(tree):
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])

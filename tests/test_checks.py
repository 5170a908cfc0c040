"""Wrong keys, and two models that are not alike, are named by every function that takes them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import symjax
from symjax import Leg, Permutation, Symmetry, canonical, ensembles, matching, merging, training
from symjax._checks import require_key, require_same_tree

SWAP = Symmetry("units", symjax.linear_action(Permutation(2), [Leg(0, 0), Leg(1, 1)]), ("0", "1"))
SCALE = symjax.neuron_rescaling_action(2)
W = (jnp.ones((2, 3)), jnp.ones((3, 2)))
X = jnp.ones(3)
apply = lambda w, x: w[1] @ jax.nn.relu(w[0] @ x)
square = lambda w: jnp.sum(w[0] ** 2)

WITH_KEY = {
    "match": lambda key: symjax.match([SWAP], W, W, key=key),
    "match_many": lambda key: matching.match_many([SWAP], [W, W], key=key),
    "verify": lambda key: symjax.verify(SCALE, apply, W, X, key=key),
    "verify_all": lambda key: symjax.verify_all([SCALE], apply, W, X, key=key),
    "redundancy": lambda key: symjax.redundancy(apply, W, X, key=key),
    "completeness": lambda key: symjax.completeness([SCALE], apply, W, X, key=key),
    "audit": lambda key: canonical.audit(SCALE, square, W, key=key),
    "orbit_family": lambda key: ensembles.orbit_family(SCALE, W, key=key, members=2),
    "data_family": lambda key: ensembles.data_family(jnp.tanh, W, X[:, None], key=key, members=2),
    "train_curve": lambda key: training.train_curve(
        square, W, W, key=key, optimiser=optax.sgd(0.1), steps=1
    ),
    "random": lambda key: symjax.GeneralLinear(2).random(key),
    "random permutation": lambda key: Permutation(2).random(key),
    "random_algebra": lambda key: symjax.groups.Product([symjax.Translation(2)]).random_algebra(
        key
    ),
    "random power": lambda key: symjax.Power(symjax.PositiveScaling(2), 3).random(key),
    "random_weights": lambda key: symjax.networks.random_weights(key, (3, 2)),
}


@pytest.mark.parametrize("name", WITH_KEY)
def test_what_is_no_key_is_named(name):
    for wrong in (0, None, 1.5, jnp.zeros(2), jax.random.split(jax.random.key(0), 2)):
        if wrong is None and name in ("match", "match_many", "redundancy", "completeness"):
            continue  # these have a default
        with pytest.raises(ValueError, match="`key` must be one key"):
            WITH_KEY[name](wrong)


def test_keys_of_both_kinds_are_keys_also_when_traced():
    require_key(jax.random.key(0))
    require_key(jax.random.PRNGKey(0))
    jax.jit(require_key)(jax.random.key(0))
    jax.vmap(require_key)(jax.random.split(jax.random.key(0), 3))


SMALL = (jnp.ones((1, 3)), jnp.ones((3, 1)))
TWO_MODELS = {
    "match": lambda a, b: symjax.match([SWAP], a, b),
    "match_many": lambda a, b: matching.match_many([SWAP], [a, b]),
    "refine": lambda a, b: matching.refine(SCALE, square, a, b),
    "chord": symjax.chord,
    "bezier_curve": lambda a, b: symjax.bezier_curve([a, a, b]),
    "orbit_distance": lambda a, b: canonical.orbit_distance(SCALE, a, b),
    "repair": lambda a, b: merging.repair(lambda p: {}, a, a, b, {}),
    "transport": lambda a, b: merging.transport_task_vector([SWAP], (), a, b),
    "linear_chord": lambda a, b: symjax.barriers.linear_chord(a, b, jnp.eye(3), jnp.eye(3)),
    "train_curve": lambda a, b: training.train_curve(
        square, a, b, key=jax.random.key(0), optimiser=optax.sgd(0.1), steps=1
    ),
}


@pytest.mark.parametrize("name", TWO_MODELS)
def test_models_of_two_widths_are_told_by_a_leaf_and_two_shapes(name):
    with pytest.raises(ValueError, match=r"leaf '0': float32\[2,3\] and float32\[1,3\]"):
        TWO_MODELS[name](W, SMALL)


def test_the_leaf_is_named_also_where_static_data_of_the_containers_differ():
    nets = [eqx.nn.MLP(4, 3, width, 1, key=jax.random.key(0)) for width in (16, 8)]
    a, b = (symjax.from_equinox(net, lambda m, x: m(x))[1] for net in nets)
    said = r"`a` and `b` differ at leaf 'layers/0/weight': float32\[16,4\] and float32\[8,4\]"
    with pytest.raises(ValueError, match=said):
        require_same_tree("a", a, "b", b)
    with pytest.raises(ValueError, match="Their leaves agree") as raised:
        require_same_tree("a", [np.zeros(3)] * 100, "b", (np.zeros(3),) * 100)
    assert len(str(raised.value)) < 500

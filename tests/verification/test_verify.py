"""verify: true actions hold, and each hypothesis is broken once by an action of its own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import Leg, Permutation, PositiveScaling, SignFlip, Translation, linear_action

from ..helpers import eps

KEY = jax.random.key(0)
WEIGHTS = {
    "w1": jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)), jnp.float32),
    "b1": jnp.zeros(4),
    "w2": jnp.asarray(np.random.default_rng(1).standard_normal((2, 4)), jnp.float32),
}
X = jnp.array([0.3, -1.0, 0.5])


def network(sigma):
    return lambda p, x: p["w2"] @ sigma(p["w1"] @ x + p["b1"])


RELU = network(jax.nn.relu)
ROWS = [Leg("w1", 0), Leg("b1", 0)]
SCALES = linear_action(PositiveScaling(4), [*ROWS, Leg("w2", 1, "covector")])
UNITS = linear_action(Permutation(4), [*ROWS, Leg("w2", 1)])
WITHOUT_BIAS = linear_action(PositiveScaling(4), [Leg("w1", 0), Leg("w2", 1, "covector")])


def failing(found):
    return [name for name, true in found.hypotheses.items() if not true]


def test_true_actions_hold_in_one_compilation():
    for found in symjax.verify_all([SCALES, UNITS], RELU, WEIGHTS, X, key=KEY):
        assert found.holds, found
        assert 0 <= found.output_change <= 50
        assert max(found.composition, found.inverse, found.identity) <= 50
        assert "holds" in str(found)


def test_a_false_action_is_caught_by_the_outputs_alone():
    found = symjax.verify(SCALES, network(jax.nn.gelu), WEIGHTS, X, key=KEY)
    assert failing(found) == ["outputs_unchanged"]
    assert "FAILS (outputs_unchanged)" in str(found)
    assert symjax.verify(UNITS, network(jax.nn.gelu), WEIGHTS, X, key=KEY).holds


def test_zero_biases_hide_a_failure_unless_parameters_are_randomised():
    assert not symjax.verify(WITHOUT_BIAS, RELU, WEIGHTS, X, key=KEY).holds
    assert symjax.verify(WITHOUT_BIAS, RELU, WEIGHTS, X, key=KEY, randomise=False).holds


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_change_is_in_units_of_eps(dtype, x64):
    # a flipped sign changes the output w by 2 w
    action = linear_action(SignFlip(1), [Leg(0, 0)])
    params = (jnp.ones(1, dtype),)
    found = symjax.verify(action, lambda p: p[0], params, key=KEY)
    assert found.output_change == pytest.approx(2 / eps(dtype), rel=1e-6)


def test_one_scale_for_a_layer():
    legs = [Leg("w1", None, 1.0), Leg("b1", None, 1.0), Leg("w2", None, -1.0)]
    assert symjax.verify(linear_action(PositiveScaling(), legs), RELU, WEIGHTS, X, key=KEY).holds


def test_a_random_flip_is_not_the_identity_by_chance():
    action = linear_action(SignFlip(1), [Leg("u", 0), Leg("v", 0)])
    params = {"u": jnp.ones(1), "v": jnp.ones(1)}
    for seed in range(4):
        key = jax.random.key(seed)
        assert symjax.verify(action, lambda p: p["u"] * p["v"], params, key=key).moved


def test_a_map_that_is_no_group_action_has_no_axioms():
    action = symjax.data_action(jax.nn.sigmoid, jnp.asarray(np.eye(3, 2), jnp.float32))
    params = (WEIGHTS["w1"], WEIGHTS["w2"])
    apply = lambda p, x: p[1] @ jax.nn.sigmoid(p[0] @ x)
    # two samples and four hidden units: the outputs at those samples do not change
    found = symjax.verify(action, apply, params, jnp.eye(3, 2), key=KEY, tolerance=2000)
    assert found.composition is None
    assert found.holds, found
    assert "not a group action" in str(found)


class Broken(eqx.Module):
    """PositiveScaling(4) with a map of the parameters that is not its action."""

    move: object
    group: PositiveScaling = PositiveScaling(4)
    is_group_action: bool = True

    def __call__(self, g, params):
        return self.move(g, params)


@pytest.mark.parametrize(
    ("move", "names"),
    [
        (lambda g, p: p, ["moved"]),
        (lambda g, p: (p[0].astype(jnp.float16),), ["same_tree", "in_group", "finite", "moved"]),
        (lambda g, p: (p[0] * g + 0 * p[0] + 1,), ["group_action"]),
        (lambda g, p: (p[0] / jnp.zeros(4),), ["finite"]),
    ],
    ids=["still", "dtype", "not an action", "infinite"],
)
def test_each_hypothesis_is_broken_by_an_action_of_its_own(move, names):
    constant = lambda p: 0 * jnp.ones(2) + 1
    found = symjax.verify(Broken(move), constant, (jnp.ones(4),), key=KEY)
    assert not found.holds
    assert set(names) <= set(failing(found))


def test_whole_number_outputs_must_be_equal():
    action = linear_action(Translation(4), [Leg(0, 0)])
    params = (jnp.arange(4.0),)
    assert not symjax.verify(action, lambda p: jnp.argsort(p[0]), params, key=KEY, scale=5.0).holds


def test_abstract_parameters_and_inputs_are_drawn():
    params, x = jax.eval_shape(lambda: (WEIGHTS, X))
    assert symjax.verify(SCALES, RELU, params, x, key=KEY).holds


@pytest.mark.usefixtures("x64")
def test_outputs_are_judged_by_the_dtype_that_the_model_computes_in():
    """Float32 inside of float64: its rounding is no change, and a change of 1e-3 is one."""
    rng = np.random.default_rng(0)
    params = {"a": rng.standard_normal((3, 5)), "b": rng.standard_normal((5, 2))}
    x = rng.standard_normal((7, 3))
    single = lambda w: jnp.asarray(w, jnp.float32)

    def inside(p, x, shift=0.0):
        h = jax.nn.relu(single(x) @ single(p["a"]))
        return (h @ single(p["b"])).astype(jnp.float64) + shift * p["a"].sum()

    action = symjax.linear_action(
        symjax.PositiveScaling(5), [symjax.Leg("a", 1), symjax.Leg("b", 0, "covector")]
    )
    with jax.numpy_dtype_promotion("standard"):
        found = symjax.verify(action, inside, params, x, key=jax.random.key(0))
        assert found.holds, found
        assert found.output_change < 50
        moved = lambda p, x: inside(p, x, 1e-3)
        assert not symjax.verify(action, moved, params, x, key=jax.random.key(0)).holds

"""Natural mistakes of a first hour: each is refused in words that say what to write instead."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import symjax
from symjax.discovery import Symmetry

MODEL = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
ACTION = symjax.neuron_rescaling_action(3)
PAIR = (jnp.ones((3, 2)), jnp.ones((2, 3)))
UNITS = [Symmetry("units", ACTION, ("0", "1"))]


class Normed(eqx.Module):
    linear: eqx.nn.Linear
    norm: eqx.nn.BatchNorm

    def __init__(self, key):
        self.linear = eqx.nn.Linear(2, 3, key=key)
        self.norm = eqx.nn.BatchNorm(3, "batch", mode="batch")

    def __call__(self, x, state):
        return self.norm(self.linear(x), state)


@pytest.mark.parametrize("seed", [0, 7])
def test_a_seed_for_a_key_is_answered_with_the_key_of_that_seed(seed):
    calls = [
        lambda: ACTION.group.random(seed),
        lambda: symjax.match(UNITS, PAIR, PAIR, key=seed),
        lambda: symjax.verify(ACTION, lambda p, x: x, PAIR, jnp.ones(2), key=seed),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"such as jax.random.key\({seed}\), got int {seed}"):
            call()


def test_models_of_two_dtypes_are_refused_with_the_cast():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PAIR)
    with pytest.raises(
        ValueError, match=r"float32.* and bfloat16.*cast one model .*astype"
    ) as said:
        symjax.match(UNITS, PAIR, half)
    cast = "jax.tree.map(lambda x, y: y.astype(x.dtype), a, b)"
    assert cast in str(said.value)
    same = eval(cast, {"jax": jax, "a": PAIR, "b": half})
    assert symjax.match(UNITS, PAIR, same).after == 0
    wide = (jnp.ones((4, 2)), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"differ at leaf") as said:
        symjax.match(UNITS, PAIR, wide)
    assert "cast" not in str(said.value)


def test_a_model_in_the_place_of_its_parameters_is_named():
    with pytest.raises(ValueError, match=r"`params_a` must be a tree of arrays.*adapter returns"):
        symjax.match(UNITS, MODEL, MODEL)


def test_inputs_in_the_place_of_call_are_named():
    with pytest.raises(ValueError, match=r"`call` must be a function .*apply\(params, \*inputs\)"):
        symjax.from_equinox(MODEL, jnp.ones((4, 2)))


def test_parameters_in_the_place_of_a_curve_are_named():
    for function in (symjax.length, symjax.max_curvature):
        with pytest.raises(ValueError, match="`curve` must be a function, got a tuple"):
            function(PAIR)


def test_batch_norm_without_its_state_is_answered_with_the_call_that_works():
    model, state = eqx.nn.make_with_state(Normed)(jax.random.key(0))
    x = jnp.arange(10.0).reshape(5, 2)
    apply, params = symjax.from_equinox(model, lambda model, x: jax.vmap(model)(x))
    with pytest.raises(TypeError, match="state") as said:
        symjax.find_symmetries(apply, params, x)
    note = next(n for n in said.value.__notes__ if "state" in n)
    call = eval(note[note.index("lambda") : note.index(". With")], {"jax": jax, "state": state})
    apply, params = symjax.from_equinox(model, call)
    assert apply(params, x).shape == (5, 3)

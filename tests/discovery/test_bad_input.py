"""Mistakes that users make: each is refused with the argument's name."""

import equinox as eqx
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax.discovery import actions_from_permutation_spec, permutation_spec

KEY = jax.random.key(0)
X = np.ones(2, np.float32)
PARAMS = {"v": np.ones((4, 2), np.float32), "u": np.ones((3, 4), np.float32)}
OTHER = {"w": np.ones((4, 2), np.float32)}
NUMBERS = {"a": 1.0, "b": np.ones(2, np.float32)}
WHOLE = PARAMS | {"v": np.ones((4, 2), np.int32)}
ACTION = symjax.linear_action(
    symjax.PositiveScaling(4), [symjax.Leg("v", 0), symjax.Leg("u", 1, "covector")]
)
ONE = symjax.Symmetry("rescaling", ACTION, ("v", "u"))
DATA = symjax.data_action(jnp.tanh, jnp.ones((2, 5)))


def mlp(p, x):
    return p["u"] @ jax.nn.relu(p["v"] @ x)


nothing = lambda p, x: None
verify = lambda *args: symjax.verify(*args, key=KEY)
imported = lambda spec: actions_from_permutation_spec(spec, PARAMS)

MISTAKES = {
    "arguments the wrong way round": (
        lambda: symjax.find_symmetries(PARAMS, mlp, X),
        "`apply` must be a function, got a dict",
    ),
    "no parameters": (
        lambda: symjax.find_symmetries(mlp, {}, X),
        "`params` must hold at least one floating array, got no leaf",
    ),
    "parameters that are whole numbers": (
        lambda: symjax.find_symmetries(mlp, {"v": np.ones(2, np.int32)}, X),
        r"`params` must hold at least one floating array, got int32\[2\]",
    ),
    "a Python number": (
        lambda: symjax.find_symmetries(lambda p, x: p["a"] * x + p["b"], NUMBERS, X),
        "`params` leaf 'a' is the Python number 1.0",
    ),
    "no output": (
        lambda: symjax.find_symmetries(nothing, PARAMS, X),
        "`apply` must return an array, got None",
    ),
    "several to verify": (
        lambda: verify([ONE, ONE], mlp, PARAMS, X),
        "`action` must be an action or a Symmetry, got list",
    ),
    "a group to verify": (
        lambda: verify(symjax.Permutation(4), mlp, PARAMS, X),
        "`action` must be an action or a Symmetry, got Permutation",
    ),
    "parameters of another model": (
        lambda: verify(ONE, mlp, OTHER, X),
        r"`params` has no leaf 'v'; its leaves are \['w'\]",
    ),
    "an integer leaf": (
        lambda: verify(ONE, mlp, WHOLE, X),
        "`params` leaf 'v' must be a floating array to be moved",
    ),
    "an output that is not an array": (
        lambda: verify(ONE, lambda p, x: "text", PARAMS, X),
        "`apply` must return an array",
    ),
    "a seed for a key": (
        lambda: symjax.verify(ONE, mlp, PARAMS, X, key=0),
        "`key` must be one key, such as",
    ),
    "a name for actions": (
        lambda: symjax.verify_all(["units"], mlp, PARAMS, X, key=KEY),
        r"`actions\[0\]` must be an action, a symjax.Symmetry, or an iterable of these, got str",
    ),
    "no inputs to draw": (
        lambda: symjax.redundancy(lambda p: p["v"], PARAMS),
        "`inputs` must hold an array",
    ),
    "a parameter that is NaN": (
        lambda: symjax.redundancy(mlp, jax.tree.map(lambda x: x * np.nan, PARAMS), X),
        "`apply` has a derivative that is not finite",
    ),
    "no floating output": (
        lambda: symjax.redundancy(nothing, PARAMS, X),
        "`apply` gives no floating-point output",
    ),
    "a dictionary of symmetries": (
        lambda: symjax.completeness({"units": ONE}, mlp, PARAMS, X),
        "`symmetries` must be an action, a symjax.Symmetry, or an iterable of these, got dict",
    ),
    "the curve of a permutation": (
        lambda: symjax.exponential_curve(
            symjax.linear_action(symjax.Permutation(4), ACTION.legs), PARAMS, jnp.ones(4)
        ),
        r"got shape \(4,\); it is finite and has no curves",
    ),
    "the curve of a group": (
        lambda: symjax.exponential_curve(symjax.PositiveScaling(4), PARAMS, jnp.ones(4)),
        "`action` must be an action or a Symmetry, got PositiveScaling",
    ),
    "not a group action": (
        lambda: symjax.completeness([DATA], mlp, PARAMS, X),
        r"`symmetries\[0\]` is not a group action",
    ),
    "a spec that is a list": (
        lambda: imported([("v", ("P", None))]),
        "`spec` must be a dictionary of leaf to axis names, got list",
    ),
    "a row that is a name": (
        lambda: imported({"v": "P"}),
        "`spec` must have a tuple of names for the leaf 'v', got 'P'",
    ),
    "a spec that moves integers": (
        lambda: actions_from_permutation_spec({"v": ("P", None)}, WHOLE),
        r"`spec` moves the leaf 'v', which is int32\[4,2\] and not floating",
    ),
    "a spec for another model": (
        lambda: permutation_spec(imported({"v": ("P", None)}), OTHER),
        r"`params` has no leaf 'v'; its leaves are \['w'\]",
    ),
    "one for a spec": (
        lambda: permutation_spec(PARAMS, PARAMS),
        "`symmetries` must be an action, a symjax.Symmetry, or an iterable of these, got",
    ),
    "a model without arrays": (
        lambda: symjax.from_equinox(eqx.nn.Identity()),
        "`model` holds no floating-point array",
    ),
    "variables for a module": (
        lambda: symjax.from_linen(PARAMS, {"params": PARAMS}),
        "`module` must be a flax.linen.Module, got dict",
    ),
    "a module without parameters": (
        lambda: symjax.from_linen(flax.linen.Dense(2), {"params": {}}),
        "`variables` holds no parameters",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        call()


def test_verify_says_that_numbers_are_not_finite():
    report = verify(ONE, mlp, PARAMS, X * np.nan)
    assert not report.holds
    assert not report.hypotheses["finite"]


def test_a_compiled_model_has_the_same_symmetries():
    plain, compiled = (symjax.find_symmetries(f, PARAMS, X) for f in (mlp, jax.jit(mlp)))
    assert plain.as_dict() == compiled.as_dict()


def test_an_error_inside_the_model_carries_a_hint():
    with pytest.raises(TypeError) as caught:
        symjax.find_symmetries(mlp, PARAMS)
    assert "from_equinox, from_nnx, from_linen, from_torch" in caught.value.__notes__[0]


def test_a_symmetry_has_curves_as_its_action_has():
    of_action = symjax.exponential_curve(ACTION, PARAMS, jnp.ones(4))
    of_symmetry = symjax.exponential_curve(ONE, PARAMS, jnp.ones(4))
    assert jax.tree.structure(of_action) == jax.tree.structure(of_symmetry)

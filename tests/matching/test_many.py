import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import GeneralLinear, Leg, Translation, matching

from ..helpers import relative_error
from .models import draw_element, forward, mlp, mlp_symmetries, symmetry

WIDTHS = (4, 6, 5, 3)
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "linear": lambda z: z}


def flat(params):
    return np.concatenate([np.ravel(np.asarray(w, np.float64)) for w in jax.tree.leaves(params)])


def spread(models):
    """The sum of squared distances to the mean, from the pairs: no mean in it."""
    rows = [flat(m) for m in models]
    pairs = itertools.combinations(rows, 2)
    return sum(np.sum((a - b) ** 2) for a, b in pairs) / len(rows)


@pytest.mark.parametrize(
    ("activation", "widths"), [("relu", WIDTHS), ("tanh", WIDTHS), ("linear", (6, 4, 5))]
)
def test_models_on_one_orbit_are_all_brought_to_the_reference(activation, widths):
    symmetries = mlp_symmetries(widths, activation)
    a = mlp(jax.random.key(0), widths)
    models = [
        matching.apply_element(symmetries, draw_element(jax.random.key(k), symmetries), a)
        for k in range(3)
    ]
    found = matching.match_many(symmetries, models, reference=1)
    assert found.converged
    for params in (*found.params, found.mean):
        assert relative_error(params, models[1]) < 1e-5  # rounding at condition 10 or so
    assert found.params[1] is models[1] or relative_error(found.params[1], models[1]) == 0
    assert found.history[-1] < 1e-9 * found.before


@pytest.mark.parametrize(
    ("activation", "widths"), [("relu", WIDTHS), ("tanh", WIDTHS), ("linear", (4, 3, 5))]
)
def test_different_models_come_nearer_round_by_round(activation, widths):
    symmetries = mlp_symmetries(widths, activation)
    models = [mlp(jax.random.key(k), widths) for k in range(4)]
    found = matching.match_many(symmetries, models, rounds=30, restarts=1)
    assert found.converged
    assert found.before == pytest.approx(spread(models), rel=1e-6)
    assert found.history[-1] == pytest.approx(spread(found.params), rel=1e-5)
    assert (np.diff(found.history) <= 1e-12 * found.history[0]).all()
    assert found.history[-1] < found.history[0] < found.before
    np.testing.assert_allclose(
        flat(found.mean), np.mean([flat(p) for p in found.params], axis=0), atol=1e-6
    )
    # The elements lead there, and the functions stay.
    apply, x = forward(ACTIVATIONS[activation]), jax.random.normal(jax.random.key(9), (16, 4))
    for model, g, params in zip(models, found.elements, found.params, strict=True):
        there = matching.apply_element(symmetries, g, model)
        assert relative_error(there, params) < 1e-5
        assert relative_error(apply(params, x), apply(model, x)) < 1e-4
    # Around a cycle of three nothing has moved.
    at = models[1]
    for i, j in ((2, 1), (3, 2), (1, 3)):  # model j's coordinates to model i's
        middle = matching.apply_element(symmetries, found.elements[j], at)
        at = matching.apply_element(symmetries, found.elements[i], middle, inverse=True)
    assert relative_error(at, models[1]) < 1e-4


def test_without_rounds_each_is_matched_to_the_reference():
    symmetries = mlp_symmetries(WIDTHS, "relu")
    models = [mlp(jax.random.key(k), WIDTHS) for k in range(3)]
    found = matching.match_many(symmetries, models, rounds=0, restarts=0)
    for model, params in zip(models[1:], found.params[1:], strict=True):
        alone = symjax.match(symmetries, models[0], model, restarts=0)
        # Sweeps in another order: a sweep that gains 1e-7 of the square is the last one.
        distance = np.linalg.norm(flat(params) - flat(models[0]))
        assert distance == pytest.approx(alone.after, rel=1e-5)
    assert len(found.history) == 1


def test_three_models_are_as_near_as_any_permutations_bring_them():
    # (2, 3, 2): 6 permutations for two of the three, so 36 combinations, each tried.
    widths = (2, 3, 2)
    symmetries = mlp_symmetries(widths, "relu")[:1]
    every = list(itertools.permutations(range(3)))
    for seed in range(4):
        models = [mlp(jax.random.key(10 * seed + k), widths) for k in range(3)]
        moved = [
            [flat(matching.apply_element(symmetries, (jnp.array(p),), m)) for p in every]
            for m in models[1:]
        ]
        best = min(spread([models[0], b, c]) for b, c in itertools.product(*moved))
        found = matching.match_many(symmetries, models)
        assert found.history[-1] == pytest.approx(best, rel=1e-5)


def test_translations_and_changes_of_basis_are_composed(key):
    symmetries = [
        symmetry("shift", Translation(3), [Leg("b", 0)]),
        symmetry("basis", GeneralLinear(3), [Leg("w", 0), Leg("b", 0), Leg("r", 1, "covector")]),
    ]
    draw = lambda k: {
        "b": jax.random.normal(k, (3,)),
        "r": jax.random.normal(k, (2, 3)),
        "w": jax.random.normal(k, (3, 6)),
    }
    models = [draw(jax.random.key(k)) for k in range(3)]
    found = matching.match_many(symmetries, models, restarts=0, rounds=3)
    for model, g, params in zip(models, found.elements, found.params, strict=True):
        assert relative_error(matching.apply_element(symmetries, g, model), params) < 1e-4
    assert found.notes == ()


def test_other_leaves_are_those_of_the_reference():
    legs = [Leg("w", 0), Leg("v", 1, "covector")]
    basis = [symmetry("basis", GeneralLinear(2), legs)]
    draw = lambda k: {
        "steps": jnp.asarray(k),
        "v": jnp.full((3, 2), 1.0 + k, jnp.bfloat16),
        "w": jnp.eye(2, dtype=jnp.bfloat16),
    }
    found = matching.match_many(basis, [draw(k) for k in range(2)], reference=1, restarts=0)
    assert int(found.mean["steps"]) == 1
    assert found.mean["v"].dtype == found.params[0]["w"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": lambda m: m[:1]}, "at least two models, got 1"),
        ({"models": lambda m: 3}, "at least two models, got int"),
        ({"models": lambda m: [*m, mlp(jax.random.key(0), (4, 6, 7, 3))]}, r"models\[3\].*'1/b'"),
        ({"models": lambda m: [m[0], jax.tree.map(lambda w: w * jnp.nan, m[1])]}, "NaN"),
        ({"reference": lambda m: 3}, "`reference` must be the number of one of 3 models"),
        ({"rounds": lambda m: -1}, "`rounds` must be"),
        ({"restarts": lambda m: -1}, "`restarts` must be"),
        ({"symmetries": lambda m: []}, "at least one"),
    ],
)
def test_bad_input_is_refused(change, message):
    models = [mlp(jax.random.key(k), WIDTHS) for k in range(3)]
    given = {"symmetries": mlp_symmetries(WIDTHS, "relu"), "models": models}
    given |= {name: make(models) for name, make in change.items()}
    with pytest.raises(ValueError, match=message):
        matching.match_many(**given)

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import symjax
from symjax import Leg, Orthogonal, Permutation, PositiveScaling, Product, matching

from ..helpers import eps, relative_error, slow_among
from .models import forward, mlp, mlp_symmetries, symmetry

CHAIN = [
    symmetry("first", PositiveScaling(), [Leg(0, None), Leg(1, None, "covector")]),
    symmetry("second", PositiveScaling(), [Leg(1, None), Leg(2, None, "covector")]),
]
A, B = (1.0, 1.3, 0.8), (2.5, 0.4, 1.5)
TIMES = np.arange(1, 6) / 6


def chain_loss(w):
    return (w[0] * w[1] * w[2] - 1) ** 2


def mean_on_chord(logs, samples=TIMES):
    """The chain's mean loss after scales e^u, e^v between its three numbers, in NumPy."""
    u, v = np.exp(logs)
    moved = np.array([B[0] * u, B[1] * v / u, B[2] / v])
    line = [(1 - t) * np.array(A) + t * moved for t in samples]
    return np.mean([(np.prod(w) - 1) ** 2 for w in line])


def test_two_scales_are_those_that_scipy_finds(x64):
    a, b = (tuple(map(jnp.asarray, w)) for w in (A, B))
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-2, 600))
    found = jax.jit(
        lambda a, b: matching.refine(CHAIN, chain_loss, a, b, steps=600, optimiser=optimiser)
    )(a, b)
    best = scipy.optimize.minimize(mean_on_chord, np.zeros(2), tol=1e-12)
    assert float(found.before) == pytest.approx(mean_on_chord(np.zeros(2)), rel=1e-12)
    assert float(found.after) == pytest.approx(best.fun, rel=1e-6)
    # The mean is flat at its minimum, so the place is known to the square root of that.
    np.testing.assert_allclose(np.log(np.array(found.element)), best.x, atol=2e-3)
    logs = np.log(np.array(found.element))
    assert float(found.after) == pytest.approx(mean_on_chord(logs), rel=1e-10)
    assert float(chain_loss(found.params)) == pytest.approx(float(chain_loss(b)), rel=1e-12)


def test_one_scale_with_one_sample_is_the_best_midpoint(x64):
    # (1, 1) and (c 2, 0.8 / c): the midpoint's product is (1 + 2c)(1 + 0.8 / c) / 4.
    scale = [symmetry("scale", PositiveScaling(), [Leg(0, None), Leg(1, None, "covector")])]
    product = lambda u: (1 + 2 * np.exp(u)) * (1 + 0.8 * np.exp(-u)) / 4
    best: Any = scipy.optimize.minimize_scalar(lambda u: (product(u) - 1.2) ** 2, (-0.5, -0.4))
    a, b = (jnp.ones(()), jnp.ones(())), (jnp.asarray(2.0), jnp.asarray(0.8))
    run = lambda **how: matching.refine(
        scale, lambda w: (w[0] * w[1] - 1.2) ** 2, a, b, samples=1, **how
    )
    found = run(steps=400)
    assert float(found.after) == pytest.approx(best.fun, abs=1e-10)
    # From an element that was given, and it is composed with: half of the way is left.
    again = run(steps=1, element=(found.element[0],))
    assert float(again.before) == pytest.approx(float(found.after), rel=1e-9)
    assert float(again.after) <= float(again.before)


def test_nothing_to_improve_stays():
    # The chord from a model to itself has the least loss there is: 0 everywhere.
    a = mlp(jax.random.key(0), (3, 4, 2))
    symmetries = mlp_symmetries((3, 4, 2), "relu")
    x = jax.random.normal(jax.random.key(1), (16, 3))
    apply = forward(jax.nn.relu)
    loss = lambda p: jnp.mean((apply(p, x) - apply(a, x)) ** 2)
    found = eqx.filter_jit(matching.refine)(symmetries, loss, a, a, steps=20)
    assert float(found.after) == float(found.before)
    assert relative_error(found.params, a) == 0
    assert found.element[0].tolist() == [0, 1, 2, 3]
    assert found.element[1].tolist() == [1, 1, 1, 1]


@functools.cache
def refined(activation):
    """Two models of different functions, matched and refined, with what the tests look at."""
    widths = (3, 4, 2)
    symmetries = mlp_symmetries(widths, activation)
    apply = forward(jax.nn.relu if activation == "relu" else lambda z: z)
    a, b = mlp(jax.random.key(0), widths), mlp(jax.random.key(1), widths)
    x = jax.random.normal(jax.random.key(2), (32, 3))
    loss = lambda p: jnp.mean((apply(p, x) - apply(a, x)) ** 2)
    matched = symjax.match(symmetries, a, b)
    found = eqx.filter_jit(matching.refine)(symmetries, loss, a, b, element=matched.element)
    return symmetries, apply, x, b, matched, found


@pytest.mark.parametrize("activation", slow_among(["relu", "linear"], "linear"))
def test_a_match_gets_better_and_keeps_the_function(activation):
    symmetries, apply, x, b, matched, found = refined(activation)
    assert float(found.after) < 0.99 * float(found.before)
    assert float(found.after) == float(jnp.min(found.losses))
    assert found.losses.shape == (101,)
    there = matching.apply_element(symmetries, found.element, b)
    assert relative_error(there, found.params) < 1e-6
    np.testing.assert_allclose(apply(found.params, x), apply(b, x), rtol=1e-3, atol=1e-4)
    for i, s in enumerate(symmetries):
        if isinstance(s.group, Permutation):
            assert found.element[i].tolist() == matched.element[i].tolist()


def test_refined_elements_are_saved_like_any_other(tmp_path):
    symmetries, *_, found = refined("linear")
    matching.save_element(tmp_path / "g.npz", symmetries, found.element)
    back = matching.load_element(tmp_path / "g.npz", symmetries)
    assert relative_error(back, found.element) == 0


def test_rotations_stay_rotations_and_products_act_factor_by_factor(key):
    legs = [Leg("w", 0, "vector", 0), Leg("v", 0, "vector", 1), Leg("v", 1, "vector", 0)]
    group = Product([Orthogonal(3), Permutation(2)])
    both = [symmetry("both", group, legs)]
    draw = lambda k: {"v": jax.random.normal(k, (2, 3)), "w": jax.random.normal(k, (3, 5))}
    a, b = draw(key), draw(jax.random.key(5))
    start = (group.identity()[0], jnp.array([1, 0]))
    # Convex in the parameters, so the chord's mean is least where the two are near.
    distance = lambda p: jnp.sum((p["w"] - a["w"]) ** 2) + jnp.sum((p["v"] - a["v"]) ** 2)
    found = eqx.filter_jit(matching.refine)(both, distance, a, b, element=(start,), steps=60)
    rotation, swapped = found.element[0]
    assert float(found.after) < 0.9 * float(found.before)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=30 * eps(jnp.float32))
    assert swapped.tolist() == [1, 0]


def test_pairs_are_refined_in_one_program():
    pairs = jnp.array([[2.5, 0.4, 1.5], [0.5, 3.0, 0.7]])
    a = tuple(jnp.asarray(x) for x in A)
    traced = []

    def loss(w):
        traced.append(None)
        return chain_loss(w)

    one = lambda b: matching.refine(CHAIN, loss, a, tuple(b), steps=5)
    batch = jax.jit(jax.vmap(one))
    found = batch(pairs)
    assert found.losses.shape == (2, 6)
    seen = len(traced)
    batch(2 * pairs)
    assert len(traced) == seen <= 4  # shapes of the loss (twice), value, gradient
    for i in range(2):
        np.testing.assert_allclose(one(pairs[i]).losses, found.losses[i], rtol=1e-5)


def test_a_loss_that_is_not_a_number_is_told():
    a = tuple(jnp.asarray(x) for x in A)
    found = matching.refine(CHAIN, lambda w: jnp.nan * w[0], a, a, steps=2)
    assert bool(jnp.isnan(found.after))
    assert [float(g) for g in found.element] == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "`steps` must be a positive integer"),
        ({"samples": 0}, "`samples` must be a positive integer"),
        ({"optimiser": 0.1}, "`optimiser` must be an optax.GradientTransformation"),
        ({"element": (jnp.ones(()),)}, "one entry for each of 2 symmetries"),
        ({"params_b": tuple(jnp.ones(2) for _ in A)}, "differ at leaf '0'"),
        ({"loss": lambda w: jnp.ones(2)}, "`loss` must return one real number"),
        ({"symmetries": [symmetry("swap", Permutation(2), [Leg(0, 0)])]}, "continuous"),
    ],
)
def test_bad_input_is_refused(change, message):
    a = tuple(jnp.asarray(x) for x in A)
    given = {"symmetries": CHAIN, "loss": chain_loss, "params_a": a, "params_b": a} | change
    with pytest.raises(ValueError, match=message):
        matching.refine(**given)

"""completeness: what is missing, in which leaves, and which action is false."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import GeneralLinear, Leg, Permutation, PositiveScaling, Translation, linear_action
from symjax.discovery import Symmetry

pytestmark = pytest.mark.usefixtures("x64")
LEGS = [Leg("w1", 0), Leg("b1", 0), Leg("w2", 1, "covector")]
SHAPES = {"w1": (2, 3), "b1": (2,), "w2": (3, 2), "b2": (3,)}


def model(sigma=lambda z: z):
    rng = np.random.default_rng(0)
    params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in SHAPES.items()}
    apply = lambda p, x: p["w2"] @ sigma(p["w1"] @ x + p["b1"]) + p["b2"]
    return apply, params, jnp.ones(3)


def test_gl_without_the_bias_shift_is_short_by_the_biases():
    report = symjax.completeness([linear_action(GeneralLinear(2), LEGS)], *model())
    assert (report.redundancy, report.explained, report.missing) == (6, 4, 2)
    assert not report.complete
    assert not report.false
    # what is orthogonal to GL's tangents is mostly in b1 and b2; the shares add up to one
    assert sum(report.shortfall.values()) == pytest.approx(1)
    assert report.shortfall["b1"] + report.shortfall["b2"] > 0.5
    assert "missing 2" in str(report)


def test_an_action_given_twice_explains_once():
    actions = [linear_action(PositiveScaling(2), LEGS)] * 2
    report = symjax.completeness(actions, *model(jax.nn.relu))
    assert (report.explained, report.missing, report.complete) == (2, 0, True)
    assert report.redundancy.certain


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_the_scales_of_layers_do_not_matter(scale):
    apply, params, x = model(jax.nn.relu)
    moved = params | {n: scale * params[n] for n in ("w1", "b1")} | {"w2": params["w2"] / scale}
    report = symjax.completeness([linear_action(PositiveScaling(2), LEGS)], apply, moved, x)
    assert (report.explained, report.missing, report.complete) == (2, 0, True)
    assert report.certain


def test_a_false_action_is_named_and_explains_nothing():
    false = Symmetry("wrong", linear_action(GeneralLinear(2), LEGS), ("w1", "b1", "w2"))
    report = symjax.completeness([false], *model(jax.nn.relu))
    assert list(report.false) == ["wrong"]
    assert report.false["wrong"] > 1e-3
    assert not report.complete
    assert "FALSE: wrong" in str(report)


def test_finite_groups_have_no_tangents_and_approximate_symmetries_are_skipped():
    units = linear_action(Permutation(2), [*LEGS[:2], Leg("w2", 1)])
    shift = Symmetry("shift", linear_action(Translation(2), [Leg("b1", 0)]), ("b1",), exact=False)
    report = symjax.completeness([units, shift], *model(jnp.tanh))
    assert (report.redundancy, report.explained, report.complete) == (0, 0, True)
    assert report.skipped == ("shift",)

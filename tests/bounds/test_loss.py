"""Loss bounds on chords, against exact losses of two-layer linear networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import barriers, bounds


def short_curve(scale, h=4, seed=0):
    """A curve of zero-loss two-layer linear networks, its loss and its generator's scale."""
    rng = np.random.default_rng(seed)
    v, u = rng.normal(size=(h, h)) / 2, rng.normal(size=(h, h)) / 2
    x, m = rng.normal(size=(h, h)), rng.normal(size=(h, h))
    y = u @ v @ x
    loss = lambda w: jnp.sum((w[1] @ w[0] @ x - y) ** 2)
    action = symjax.deep_linear_action((h, h, h))
    curve = symjax.exponential_curve(
        action, (jnp.asarray(v), jnp.asarray(u)), (jnp.asarray(scale * m / np.linalg.norm(m, 2)),)
    )
    return curve, loss, x


def chord_losses(curve, loss):
    straight = symjax.chord(curve(0.0), curve(1.0))
    return jax.lax.map(lambda t: loss(straight(t)), jnp.linspace(0, 1, 201))


@pytest.mark.usefixtures("x64")
def test_eq_9_lipschitz_on_a_tube_bounds_the_loss_on_the_chord():
    for scale in (0.1, 0.5):
        curve, loss, x = short_curve(scale)
        near = bounds.sampled_chord_deviation(curve, times=513)
        # A Lipschitz constant on the tube, by |grad| <= 2 |X|^2 (Om + r)(Om r + r^2 / 2), r = h.
        norms = jax.lax.map(
            lambda t, curve=curve: sum(jnp.linalg.norm(w, 2) ** 2 for w in curve(t)),
            jnp.linspace(0, 1, 101),
        )
        omega, r = 1.01 * float(jnp.max(norms)) ** 0.5, float(near.value)
        size = np.linalg.norm(x, 2)
        lipschitz = 2 * size**2 * (omega + r) * (omega * r + r**2 / 2)
        largest = float(jnp.max(chord_losses(curve, loss)))
        bound = bounds.chord_loss(lipschitz, near, tube_radius=r)
        assert bool(bound.holds)
        assert largest <= float(bound.value)
        # The bounds that use more are smaller, and hold as well.
        by_layers = bounds.two_layer_chord_loss(size, omega, near)
        smooth = bounds.smooth_chord_loss(2 * size**2 * ((omega + r) ** 2 + omega * r + r**2), near)
        assert largest <= float(by_layers.value) <= float(bound.value)
        assert largest <= float(smooth.value)
        # On a thinner tube the constant says nothing.
        assert np.isinf(bounds.chord_loss(lipschitz, near, tube_radius=r / 2).value)


def test_lipschitz_bound_fails_outside_its_tube_and_with_its_deviation():
    near = bounds.chord_deviation(1.0, 1.0, 1.1)
    thin = bounds.chord_loss(1.0, near, tube_radius=0.1)
    assert not bool(thin.tube_covers)
    assert np.isinf(thin.value)
    major = bounds.chord_deviation(1.0, 1.0, 5.3)
    lost = bounds.chord_loss(1.0, major)
    assert not bool(lost.deviation_holds)
    assert np.isinf(lost.value)
    assert bool(lost.tube_covers)
    for bound in (
        bounds.smooth_chord_loss(1.0, major),
        bounds.two_layer_chord_loss(1.0, 1.0, major),
    ):
        assert np.isinf(bound.value)


def test_second_order_bound_of_a_quadratic_bowl_is_attained():
    # L = |w - p|^2 about a curve that is one point away: distance h, loss h^2, beta = 2, G = 0.
    near = bounds.chord_deviation(jnp.array([0.5, 1.0]), 1.0, 1.1)
    np.testing.assert_allclose(bounds.smooth_chord_loss(2.0, near).value, near.value**2, rtol=1e-6)
    slanted = bounds.smooth_chord_loss(2.0, near, gradient_norm=3.0)
    np.testing.assert_allclose(slanted.value, 3 * near.value + near.value**2, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_asymptotic_loss_is_approached_as_the_curve_shrinks():
    errors = []
    for scale in (0.1, 0.02):
        curve, loss, _ = short_curve(scale)
        predicted = bounds.asymptotic_chord_loss(loss, curve, jnp.linspace(0, 1, 201))
        exact = chord_losses(curve, loss)
        errors.append(float(jnp.max(jnp.abs(predicted - exact)) / jnp.max(exact)))
    assert errors[0] < 0.05
    assert errors[1] < errors[0] / 4


def test_gradients_are_zero_where_a_hypothesis_fails_and_finite_elsewhere():
    value = lambda length: bounds.chord_loss(2.0, bounds.chord_deviation(1.0, 1.0, length)).value
    assert float(jax.grad(value)(5.3)) == 0.0
    value = lambda kappa: (
        bounds.smooth_chord_loss(2.0, bounds.chord_deviation(kappa, 1.0, 1.1)).value
    )
    assert float(jax.grad(value)(1.0)) > 0
    assert float(jax.grad(value)(3.0)) == 0.0


def test_bad_arguments():
    with pytest.raises(ValueError, match="`deviation` must be a bound"):
        bounds.chord_loss(1.0, 0.5)
    with pytest.raises(ValueError, match="`lipschitz` must be at least 0"):
        bounds.chord_loss(-1.0, bounds.chord_deviation(1.0, 1.0, 1.1))


def test_debugging_flags_see_nothing_in_good_input():
    """The default tube is the whole space, and no infinity is computed with."""
    with jax.debug_nans(True), jax.debug_infs(True):
        near = bounds.chord_deviation(1.0, 1.0, 1.1)
        found = [
            bounds.chord_loss(2.0, near),
            bounds.smooth_chord_loss(2.0, near),
            bounds.two_layer_chord_loss(1.0, 2.0, near),
            bounds.length_chord_deviation(0.5, 1.0, 1.1),
            bounds.total_curvature_chord_deviation(1.0, 1.0),
            bounds.best_chord_deviation(0.5, 1.0, max_curvature=1.0, length=1.1),
            bounds.orbit_loss(1.0, 1.0, 1.0, 4.0, 1.0),
        ]
        assert all(bool(bound.holds) for bound in found)
        m = barriers.rescaling_witness(1.0, 1.0, 1.0)
    assert float(m) > 1

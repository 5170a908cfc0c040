"""The loss along curves and their barriers, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import barriers, networks
from tests.helpers import eps


def scalar_loss(w):
    return (w[0] * w[1] - 1) ** 2


def scalar_chord(m):
    return lambda t: jnp.stack([1 - t + m * t, 1 - t + t / m])


@pytest.mark.usefixtures("x64")
def test_barrier_of_a_scalar_chord_is_the_closed_form():
    height = jax.jit(lambda m: barriers.barrier(scalar_loss, scalar_chord(m)))
    for m in (1.0, 1.01, 4.0, 1e3):
        np.testing.assert_allclose(height(m), ((m - 1) ** 2 / (4 * m)) ** 2, rtol=1e-13, atol=1e-16)


@pytest.mark.usefixtures("x64")
def test_narrow_and_rival_peaks():
    # Two peaks of nearly one height between samples: the higher one, which the samples rank lower.
    peaks = lambda t: (
        jnp.exp(-(((t - 0.2503) / 0.02) ** 2)) + 1.001 * jnp.exp(-(((t - 0.7578) / 0.02) ** 2))
    )
    found = barriers.barrier(lambda w: w, peaks, samples=32)
    np.testing.assert_allclose(found, 1.001, rtol=1e-12)
    samples = barriers.loss_along(lambda w: w, peaks, jnp.linspace(0, 1, 33))
    assert float(found) >= float(jnp.max(samples))


@pytest.mark.usefixtures("x64")
def test_the_line_between_the_ends_is_subtracted():
    tilted = lambda t: 3 + 5 * t + 4 * t * (1 - t)
    np.testing.assert_allclose(barriers.barrier(lambda w: w, tilted), 1.0, rtol=1e-14)
    valley = lambda t: 3 + 5 * t - 4 * t * (1 - t)
    assert float(barriers.barrier(lambda w: w, valley)) == 0.0


@pytest.mark.usefixtures("x64")
def test_derivatives_in_curve_and_loss():
    height = jax.jit(lambda m, c: barriers.barrier(lambda w: c * scalar_loss(w), scalar_chord(m)))
    by_m, by_c = jax.grad(height, (0, 1))(4.0, 2.0)
    m = 4.0
    np.testing.assert_allclose(by_c, ((m - 1) ** 2 / (4 * m)) ** 2, rtol=1e-12)
    slope = 2 * 2 * ((m - 1) ** 2 / (4 * m)) * (m**2 - 1) / (4 * m**2)
    np.testing.assert_allclose(by_m, slope, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(lambda m: height(m, 2.0), (4.0,), (1.0,))[1], by_m)


@pytest.mark.slow
def test_symmetry_curves_have_no_barrier_and_their_chords_do(key):
    action = symjax.deep_linear_action((3, 4, 2))
    weights = networks.random_weights(key, (3, 4, 2))
    x = jax.random.normal(key, (3, 8))
    loss = networks.squared_loss(networks.linear, x, networks.linear(weights, x))
    curve = symjax.exponential_curve(action, weights, action.group.random_algebra(key))
    straight = symjax.chord(curve(0.0), curve(1.0))
    height = jax.jit(lambda curve: barriers.barrier(loss, curve, samples=16))
    scale = float(jnp.sum(networks.linear(weights, x) ** 2))
    assert float(height(curve)) < 1e3 * eps(jnp.float32) ** 2 * scale
    exact = barriers.linear_chord(curve(0.0), curve(1.0), x, networks.linear(weights, x))
    np.testing.assert_allclose(height(straight), exact.value, rtol=1e-3)
    many = jax.vmap(lambda m: barriers.barrier(scalar_loss, scalar_chord(m), samples=4))
    assert many(jnp.array([2.0, 4.0])).shape == (2,)


def test_loss_along_keeps_no_parameters_per_time():
    big = jnp.ones(100_000)
    compiled = jax.jit(
        lambda big, ts: barriers.loss_along(lambda w: jnp.sum(w**2), lambda t: t * big, ts)
    )
    temporary = lambda n: (
        compiled.lower(big, jnp.zeros(n)).compile().memory_analysis().temp_size_in_bytes
    )
    assert temporary(1000) <= temporary(10) + 2**16
    np.testing.assert_allclose(compiled(big, jnp.array([0.0, 2.0])), [0.0, 4e5], rtol=1e-5)


def test_nan_is_passed_on():
    assert np.isnan(barriers.barrier(lambda w: w, lambda t: jnp.log(t - 0.5)))


def test_bad_arguments():
    with pytest.raises(ValueError, match="`ts` must be a one-dimensional floating array"):
        barriers.loss_along(jnp.sum, lambda t: t * jnp.ones(2), jnp.arange(3))
    with pytest.raises(ValueError, match="`loss` must return one real number"):
        barriers.loss_along(lambda w: w, lambda t: t * jnp.ones(2), jnp.zeros(3))
    with pytest.raises(ValueError, match="`loss` must return one real number"):
        barriers.barrier(lambda w: w, lambda t: t * jnp.ones(2))
    with pytest.raises(ValueError, match="`samples`"):
        barriers.barrier(jnp.sum, lambda t: t * jnp.ones(2), samples=1)


def test_a_loss_that_reaches_infinity_has_an_infinite_barrier():
    """On samples, between them, at an end; NaN only where the loss is NaN."""
    line = symjax.chord(jnp.zeros(()), jnp.ones(()))
    height = lambda loss: float(barriers.barrier(loss, line))
    endless = lambda where: lambda p: jnp.where(where(p), jnp.inf, p)
    for where in (
        lambda p: jnp.abs(p - 0.5) < 0.1,
        lambda p: p > 0.9,
        lambda p: p == 0.0,
        lambda p: (p == 0.0) | (p == 1.0),
        lambda p: p >= 0.0,
    ):
        assert height(endless(where)) == np.inf
    assert np.isnan(height(lambda p: jnp.where(p > 0.9, jnp.nan, jnp.inf)))
    assert np.isnan(height(lambda p: jnp.where(p == 0.0, jnp.inf, jnp.nan)))
    # A loss that falls without end inside is no barrier.
    assert height(lambda p: jnp.where(jnp.abs(p - 0.5) < 0.1, -jnp.inf, 0 * p)) == 0.0
    # float32 ends at 3e38: the product of the weights, squared, is beyond it half-way.
    one = jnp.ones((1, 1))
    ends = (1e15 * one, 1e-15 * one), (1e-15 * one, 1e15 * one)
    exact = barriers.linear_chord(*ends, x=one, y=one)
    assert float(exact.value) == np.inf
    assert 0 < float(exact.alpha) < 1

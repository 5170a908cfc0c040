"""Bands go round hills, and say how high they really are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import symjax
from symjax import barriers, networks
from symjax.bands import geodesic_chain, nudged_elastic_band


def ring(w):
    return (jnp.sum(w**2) - 1.0) ** 2


def test_band_goes_round_the_hill_for_a_batch_of_pairs():
    angles = jnp.array([1.0, 2.0])
    a = jnp.tile(jnp.array([[1.0, 0.0]]), (2, 1))
    b = jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)
    solve = jax.jit(
        jax.vmap(
            lambda p, q: nudged_elastic_band(
                ring, p, q, optimiser=optax.sgd(0.05), steps=500, images=9, samples=32
            )
        )
    )
    band = solve(a, b)
    assert solve._cache_size() == 1
    for i in range(2):
        points = np.stack([np.asarray(p[i]) for p in band.curve.points])
        assert np.array_equal(points[0], a[i])
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=0.02)
        gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        np.testing.assert_allclose(gaps, gaps.mean(), rtol=0.05)
        # Between images on the circle the chord sags by 1 - cos(half the angle).
        sag = (1 - np.cos(float(angles[i]) / 20) ** 2) ** 2
        assert float(band.height[i]) == pytest.approx(sag, rel=0.2)
        assert float(band.height[i]) > 3 * float(band.at_images[i].max())
        assert float(band.spacing[i]) == pytest.approx(gaps.max() / 32, rel=1e-4)


def exact_height(points, x, y):
    """The largest loss on a chain of linear networks: its polynomial's maximum, piece by piece."""
    piece = jax.jit(lambda a, b: barriers.linear_chord(a, b, x, y).value)
    return max(float(piece(a, b)) for a, b in itertools.pairwise(points))


def test_height_of_a_band_over_a_pass_is_not_below_the_pass(x64):
    # Widths (2, 1, 2), Y = diag(2, 1): two components of the minimum, and the lowest path between
    # them passes a loss of exactly 4. Sampled coarsely, a band reports less.
    x, y = jnp.eye(2), jnp.diag(jnp.array([2.0, 1.0]))
    loss = networks.squared_loss(networks.linear, x, y)
    half = (jnp.array([[2.0**0.5, 0.0]]), jnp.array([[2.0**0.5], [0.0]]))
    other = jax.tree.map(jnp.negative, half)
    # The chord runs through 0, a saddle of loss 5: a first image off it lets the band leave it.
    bent = (jnp.array([[2.0**0.5, 0.2]]), jnp.array([[2.0**0.5], [0.2]]))
    solve = jax.jit(
        lambda a, b: nudged_elastic_band(
            loss, a, b, optimiser=optax.adam(0.01), steps=3000, images=3
        )
    )
    band = solve(bent, other)
    exact = exact_height(band.curve.points, x, y)
    assert 4.0 <= exact < 4.02
    assert float(band.height) == pytest.approx(exact, rel=1e-12)
    # The samples alone were no further off than the jump between two of them.
    assert float(band.jump) < 0.05
    # Five samples in each of the four segments: the trap.
    coarse = jax.jit(jax.vmap(lambda t: loss(band.curve(t))))(jnp.linspace(0.0, 1.0, 21))
    assert float(coarse.max()) < 3.995 < 4.0 <= float(band.height)
    assert float(band.at_images.max()) < 3.99


def test_geodesic_moves_outputs_evenly(x64):
    w = networks.random_weights(jax.random.key(0), (2, 3, 2), dtype=jnp.float64)
    v = networks.random_weights(jax.random.key(1), (2, 3, 2), dtype=jnp.float64)
    f = lambda w: networks.linear(w, jnp.eye(2))
    chain = jax.jit(
        lambda a, b: geodesic_chain(f, a, b, optimiser=optax.adam(0.01), steps=1500, images=5)
    )(w, v)
    outputs = np.stack([np.asarray(f(p)) for p in chain.points])
    gaps = np.linalg.norm(np.diff(outputs, axis=0), axis=(1, 2))
    straight = np.linalg.norm(outputs[-1] - outputs[0])
    # Every product is reached by some weights, so the outputs can run straight.
    np.testing.assert_allclose(gaps, straight / 6, rtol=0.02)
    chord = jax.vmap(lambda t: f(symjax.chord(w, v)(t)))(jnp.linspace(0.0, 1.0, 7))
    on_chord = np.asarray(chord)
    assert gaps.sum() < 0.95 * np.linalg.norm(np.diff(on_chord, axis=0), axis=(1, 2)).sum()


def test_bad_input_is_named():
    a = jnp.array([1.0, 0.0])
    call = lambda **o: nudged_elastic_band(ring, a, a, optimiser=optax.sgd(0.1), **o)
    with pytest.raises(ValueError, match="`images` must be a positive integer, got 0"):
        call(images=0)
    with pytest.raises(ValueError, match="`samples` must be at least 2, got 1"):
        call(samples=1)
    with pytest.raises(ValueError, match="`start` and `end`"):
        nudged_elastic_band(ring, a, jnp.ones(3), optimiser=optax.sgd(0.1))
    with pytest.raises(ValueError, match="`images`"):
        geodesic_chain(lambda w: w, a, a, optimiser=optax.sgd(0.1), images=0)
    with pytest.raises(ValueError, match="`spring` must be a number of at least 0, got -1"):
        call(spring=-1.0)
    with pytest.raises(ValueError, match=r"`optimiser` must be an optax.Gradient.*got 'sgd'"):
        nudged_elastic_band(ring, a, a, optimiser="sgd")
    with pytest.raises(ValueError, match="`outputs` must return floating arrays, got int32"):
        geodesic_chain(lambda w: jnp.arange(3), a, a, optimiser=optax.sgd(0.1))

"""Sampled deviations against a circle and against curves with a known distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import bounds
from tests.helpers import eps


def circle(turn, radius=1.0):
    return lambda t: (radius * jnp.cos(turn * t), {"y": radius * jnp.sin(turn * t)[None]})


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("turn", [0.2, 1.0, np.pi, 4.0, 6.0])
def test_arcs_minor_and_major(turn):
    bound = jax.jit(lambda turn: bounds.sampled_chord_deviation(circle(turn)))(turn)
    half = turn / 2
    height, chord = 1 - np.cos(half), 2 * np.sin(half)
    # On a minor arc its height over the chord; on a major arc the ends may be nearer.
    alphas = np.linspace(0, 1, 2001)
    angles = np.linspace(0, turn, 4001)
    points = np.stack([np.cos(angles), np.sin(angles)], 1)
    on_chord = points[0] + alphas[:, None] * (points[-1] - points[0])
    true = np.sqrt(((on_chord[:, None] - points[None]) ** 2).sum(-1)).min(1).max()
    assert true - turn / 4000 <= float(bound.value) <= true + turn / 255
    if turn < np.pi:
        assert height <= float(bound.value) <= height * 1.001 + turn / 1000
    assert bool(bound.holds)
    assert float(bound.chord) == pytest.approx(abs(chord))


@pytest.mark.usefixtures("x64")
def test_bound_is_never_below_the_distance_and_closes_in():
    # A parabola over [0, 1] x {0}: above alpha = 1/2 the nearest point is straight up, 0.25 away.
    parabola = lambda t: jnp.stack([t, t * (1 - t)])
    values = [float(bounds.sampled_chord_deviation(parabola, times=n).value) for n in (9, 513)]
    assert all(v >= 0.25 for v in values)
    assert values[-1] - 0.25 < 1e-5
    at = bounds.sampled_chord_deviation_at(jnp.array([0.0, 0.5, 1.0]), parabola, times=513)
    np.testing.assert_allclose(at.value, [0.0, 0.25, 0.0], atol=1e-15)


@pytest.mark.slow
def test_symmetry_curves_of_parameters(key):
    action = symjax.deep_linear_action((3, 4, 2))
    w = (jax.random.normal(key, (4, 3)), jax.random.normal(key, (2, 4)))
    curve = symjax.exponential_curve(action, w, action.group.random_algebra(key, scale=0.1))
    bound = jax.jit(bounds.sampled_chord_deviation)(curve)
    p, q = curve(0.0), curve(1.0)
    alphas, times = np.linspace(0, 1, 101), np.linspace(0, 1, 201, dtype=np.float32)
    flat = lambda w: np.concatenate([np.ravel(leaf) for leaf in w])
    points = np.stack([flat(w) for w in zip(*jax.lax.map(curve, jnp.asarray(times)), strict=True)])
    on_chord = flat(p) + alphas[:, None] * (flat(q) - flat(p))
    true = np.sqrt(((on_chord[:, None] - points[None]) ** 2).sum(-1)).min(1).max()
    speed = np.linalg.norm(np.diff(points, axis=0), axis=1).max()
    assert true - speed <= float(bound.value) <= true + speed


def test_gradient_and_batch():
    value = jax.jit(
        lambda turn: bounds.sampled_chord_deviation(circle(turn), times=33, cells=64).value
    )
    slope = jax.grad(value)(1.0)
    assert float(slope) == pytest.approx(np.sin(0.5) / 2, rel=0.1)
    turns = jnp.linspace(0.5, 2.0, 4)
    np.testing.assert_allclose(
        jax.vmap(value)(turns), [value(t) for t in turns], rtol=32 * eps(jnp.float32)
    )


def test_integer_leaves_are_left_out_and_half_precision_is_kept():
    curve = lambda t: {"w": jnp.asarray(t, jnp.bfloat16) * jnp.ones(4, jnp.bfloat16),
                       "n": jnp.arange(3)}  # fmt: skip
    bound = bounds.sampled_chord_deviation(curve, times=5)
    assert bound.value.dtype == jnp.bfloat16
    # The nearest of five samples on a chord of length 2 is at most a quarter of it away.
    assert float(bound.value) <= 0.25 + 2 / 1024


def test_bad_curves():
    broken = bounds.sampled_chord_deviation(lambda t: jnp.log(t - 0.5))
    assert not bool(broken.holds)
    assert np.isinf(broken.value)
    with pytest.raises(ValueError, match="`times`"):
        bounds.sampled_chord_deviation(circle(1.0), times=1)
    with pytest.raises(ValueError, match="floating leaves"):
        bounds.sampled_chord_deviation(lambda t: jnp.arange(3))


def test_memory_does_not_grow_with_times():
    """Samples leave two numbers each: temporaries stay those of a few points of the curve."""
    big = jnp.ones(100_000)
    curve = lambda t: big * jnp.sin(t)

    def temporary(times):
        compiled = jax.jit(lambda: bounds.sampled_chord_deviation(curve, times=times)).lower()
        return compiled.compile().memory_analysis().temp_size_in_bytes

    assert temporary(1024) <= temporary(16) + 2**20

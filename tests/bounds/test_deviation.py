"""The deviation bounds against circles, polygons and random curves of bounded curvature."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from symjax import bounds
from tests.helpers import eps

at = jax.jit(bounds.chord_deviation_at)
whole = jax.jit(bounds.chord_deviation)


def arc(radius, half_angle):
    """Curvature, chord and length of the arc of a circle that turns by 2 half_angle."""
    return 1 / radius, 2 * radius * np.sin(half_angle), 2 * radius * half_angle


def random_curve(rng, dimension, turn, steps=1200):
    """A curve of curvature at most 1 and length ``turn``: its points, by integrating its tangent.

    The direction rotates by at most one step length per step, so the polygon's arcs are those of a
    curve of curvature <= 1.
    """
    step = turn / steps
    tangent = np.eye(dimension)[0]
    normal, points = np.eye(dimension)[1], [np.zeros(dimension)]
    for i in range(steps):
        if i % 200 == 0:
            normal = rng.normal(size=dimension)
            speed = rng.uniform(0.3, 1.0)
        aside = normal - (normal @ tangent) * tangent
        aside /= np.linalg.norm(aside)
        angle = speed * step
        # The chord of the circular step, then the tangent at its end.
        middle = np.cos(angle / 2) * tangent + np.sin(angle / 2) * aside
        points.append(points[-1] + middle * (2 * np.sin(angle / 2) / speed))
        tangent = np.cos(angle) * tangent + np.sin(angle) * aside
    return np.array(points)


def distances(points, alphas):
    """From the points of the chord to the nearest sample."""
    on_chord = points[0] + alphas[:, None] * (points[-1] - points[0])
    return np.sqrt(((on_chord[:, None] - points[None]) ** 2).sum(-1)).min(1)


@pytest.mark.usefixtures("x64")
def test_thm_6_2_holds_on_minor_arcs_sharply_and_refuses_major_arcs():
    for half_angle in (1e-6, 0.1, 0.5, 1.0, 1.5, np.pi / 2):
        for radius in (1e-3, 1.0, 50.0):
            bound = whole(*arc(radius, half_angle))
            # The height of the arc over its chord, 2 R sin^2(angle / 2): nothing is nearer.
            height = 2 * radius * np.sin(half_angle / 2) ** 2
            assert bool(bound.holds)
            np.testing.assert_allclose(bound.value, height, rtol=64 * eps(jnp.float64) ** 0.5)
            if half_angle < 1.5:
                np.testing.assert_allclose(bound.value, height, rtol=100 * eps(jnp.float64))
    for half_angle in (0.01, 0.1, 0.5, 1.0, 1.5, 1.57):
        kappa, chord, _ = arc(1.0, half_angle)
        bound = whole(kappa, chord, 2 * np.pi - 2 * half_angle)
        assert not bool(bound.holds)
        assert bool(bound.chord_fits)
        assert not bool(bound.length_fits)
        assert np.isinf(bound.value)
        # The printed bound would have been wrong there: the midpoint is half a chord away.
        assert float(whole(kappa, chord, 2 * half_angle).value) < np.sin(half_angle)
    too_long = whole(1.0, 2.1, 2.5)
    assert not bool(too_long.chord_fits)
    assert np.isinf(too_long.value)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_major_arcs_are_refused_through_rounding(x64, dtype):
    half_angle = np.linspace(1e-3, np.pi / 2 - 0.05, 400)
    rng = np.random.default_rng(0)
    noise = lambda: 1 + 4 * eps(dtype) * rng.uniform(-1, 1, half_angle.shape)
    kappa, chord = noise(), 2 * np.sin(half_angle) * noise()
    length = (2 * np.pi - 2 * half_angle) * noise()
    bound = whole(*(jnp.asarray(a, dtype) for a in (kappa, chord, length)))
    assert not bool(jnp.any(bound.holds))


@pytest.mark.usefixtures("x64")
def test_height_over_a_minor_arc_is_exact_at_every_alpha():
    alphas = np.linspace(0, 1, 33)
    for half_angle in (1e-4, 0.3, 1.2):
        kappa, chord, length = arc(2.0, half_angle)
        angles = np.linspace(-half_angle, half_angle, 20001)
        points = 2.0 * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        bound = at(alphas, kappa, chord, length)
        true = distances(points, alphas)
        assert bool(jnp.all(bound.holds))
        # The nearest point of the arc is at most h away and, the arc bending away, not much less.
        assert np.all(true <= np.asarray(bound.value) + half_angle * 2e-4)
        np.testing.assert_allclose(bound.value[16], true[16], rtol=1e-3)


@pytest.mark.usefixtures("x64")
@settings(max_examples=25, deadline=None)
@given(kappa=st.floats(1e-12, 1e3), sine=st.floats(1e-9, 0.999), alpha=st.floats(1e-9, 1))
def test_height_agrees_with_many_digits(kappa, sine, alpha):
    with jax.enable_x64(True):
        chord = 2 * sine / kappa
        value = float(at(alpha, kappa, chord, chord).value)
    with mpmath.workdps(60):
        radius, d, a = 1 / mpmath.mpf(kappa), mpmath.mpf(chord), mpmath.mpf(alpha)
        exact = mpmath.sqrt(radius**2 - d**2 * (a - 0.5) ** 2)
        exact -= mpmath.sqrt(radius**2 - d**2 / 4)
    # The condition number is 1 / (1 - sine); everything else is a handful of roundings.
    assert abs(value - float(exact)) <= 20 * eps(jnp.float64) / (1 - sine) * abs(float(exact))


@pytest.mark.usefixtures("x64")
def test_all_bounds_hold_on_random_curves():
    rng = np.random.default_rng(1)
    alphas = np.linspace(0, 1, 41)
    applicable = 0
    for case in range(24):
        length = rng.uniform(0.3, 3.6)
        points = random_curve(rng, 2 + case % 3, length)
        chord = np.linalg.norm(points[-1] - points[0])
        true = distances(points, alphas) - length / 1200  # the gap between samples
        curved = at(alphas, 1.0, chord, length)
        by_length = bounds.length_chord_deviation(alphas, chord, length)
        turning = bounds.total_curvature_chord_deviation(length, chord, alphas)
        ends = bounds.trivial_chord_deviation(alphas, chord)
        for bound in (curved, by_length, turning, ends):
            assert np.all(true <= np.asarray(bound.value) * (1 + 1e-9)), case
        applicable += bool(jnp.all(curved.holds))
    assert applicable >= 10


@pytest.mark.usefixtures("x64")
def test_length_bound_is_attained_by_a_two_edge_polygon():
    # Edges of length 5 over a base of 6: the apex is 4 above the middle.
    root = eps(jnp.float64) ** 0.5
    apex = float(bounds.length_chord_deviation(0.5, 6.0, 10.0).value)
    # From above: dh / h = L dL / (L^2 - d^2), for the allowance dL = sqrt(eps) L.
    assert 4.0 <= apex <= 4.0 * (1 + 100 / 64 * root * 1.01)
    # A length measured a rounding error below the chord, or equal to it, is one of a curve that
    # may bend by as much as rounding allows.
    widest = 3.0 * (2 * root) ** 0.5
    for length in (6.0, 6.0 * (1 - 1e-13), 6.0 * (1 - 1e-9)):
        near = bounds.length_chord_deviation(0.5, 6.0, length)
        assert bool(near.holds)
        assert widest <= float(near.value) <= widest * (1 + root)
    for length in (5.0, 6.0 * (1 - 2 * root)):
        assert not bool(bounds.length_chord_deviation(0.3, 6.0, length).holds)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_bounds_hold_for_measured_numbers(x64, dtype):
    """Arcs of circles, d as the difference of two rounded points, and L rounded: never below."""
    rng = np.random.default_rng(3)
    count = 400
    angle = 10 ** rng.uniform(-3 if eps(dtype) < 1e-3 else -1, np.log10(1.5), count)
    radius = 10 ** rng.uniform(-0.5, 1.5, count)  # no subnormal numbers of float16
    noise = lambda: 1 + eps(dtype) * rng.uniform(-1, 1, count)
    # Points of the size of the circle, each rounded: at most eps |p| / d is lost.
    rounding = eps(dtype) * radius * rng.uniform(-1, 1, count)
    kappa, chord, length = arc(radius, angle)
    true = 2 * radius * np.sin(angle / 2) ** 2
    chord, length, kappa = chord + rounding, length * noise(), kappa * noise()
    close = rounding <= eps(dtype) ** 0.5 * chord  # what the docstring covers
    numbers = [jnp.asarray(a, dtype) for a in (kappa, chord, length)]
    by_length = bounds.length_chord_deviation(jnp.asarray(0.5, dtype), *numbers[1:])
    assert np.all((np.asarray(by_length.value, float) >= true)[close & np.asarray(by_length.holds)])
    curved = whole(*numbers)
    # Well-conditioned: it moves as the numbers do, 2 |dd| / d and 20 eps.
    slack = 1 - 3 * np.abs(rounding) / chord - 20 * eps(dtype)
    held = np.asarray(curved.holds)
    assert np.all((np.asarray(curved.value, float) >= true * slack)[held])
    assert held.mean() > 0.5


@pytest.mark.usefixtures("x64")
def test_total_curvature_bound_is_attained_by_a_corner():
    # A corner of exterior angle K over the middle of the chord is d/2 tan(K/2) above it.
    turn = np.array([1e-9, 0.3, 1.0, np.pi / 2, 2.0, 3.0])
    bound = bounds.total_curvature_chord_deviation(turn, 3.0)
    assert bool(jnp.all(bound.holds))
    np.testing.assert_allclose(bound.value, 1.5 * np.tan(turn / 2), rtol=1e-13)
    for alpha in (0.0, 0.1, 0.8, 1.0):
        with mpmath.workdps(40):
            side = 2 * mpmath.mpf(alpha) - 1
            exact = [
                3 * (mpmath.sqrt(1 - side**2 * mpmath.sin(k) ** 2) - mpmath.cos(k))
                / (2 * mpmath.sin(k)) for k in map(mpmath.mpf, turn)
            ]  # fmt: skip
        value = bounds.total_curvature_chord_deviation(turn, 3.0, alpha).value
        # At the ends the lens closes, for K > pi/2 at a slope that doubles rounding in its root.
        np.testing.assert_allclose(value, [float(e) for e in exact], rtol=1e-12, atol=1e-7)
    assert not bool(bounds.total_curvature_chord_deviation(jnp.pi, 1.0).turning_fits)


def test_total_curvature_bound_fails_from_pi_on():
    bound = bounds.total_curvature_chord_deviation(jnp.array([3.0, 3.2]), 1.0)
    assert bound.holds.tolist() == [True, False]
    assert np.isinf(bound.value[1])


def test_straight_line_deviates_by_zero():
    assert float(whole(0.0, 3.0, 3.0).value) == 0.0
    assert float(whole(1e-30, 3.0, 3.0).value) == pytest.approx(1e-30 * 9 / 8)
    assert float(whole(1.0, 0.0, 0.0).value) == 0.0


def test_gradients_are_finite_everywhere():
    def value(kappa, chord, length):
        return whole(kappa, chord, length).value

    gradient = jax.grad(value, argnums=(0, 1, 2))
    cases = [(0.0, 1.0, 1.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.1), (1.0, 2.0, 3.0), (1.0, 3.0, 3.0),
             (1.0, 1.0, 6.0), (2.0, 1.0, jnp.pi / 2)]  # fmt: skip
    for case in cases:
        assert np.all(np.isfinite(gradient(*map(float, case)))), case
    step = 1e-3
    central = (value(1.0 + step, 1.0, 1.1) - value(1.0 - step, 1.0, 1.1)) / (2 * step)
    assert float(gradient(1.0, 1.0, 1.1)[0]) == pytest.approx(float(central), rel=1e-3)
    for alpha in (0.0, 0.5, 1.0):
        ends = jax.grad(lambda a, c, n: bounds.length_chord_deviation(a, c, n).value, (0, 1, 2))
        assert np.all(np.isfinite(ends(alpha, 1.0, 1.0)))
        lens = jax.grad(
            lambda k, c, a: bounds.total_curvature_chord_deviation(k, c, a).value, (0, 1, 2)
        )
        assert np.all(np.isfinite(lens(0.0, 1.0, alpha)))
        assert np.all(np.isfinite(lens(2.0, 1.0, alpha)))
        assert np.all(np.isfinite(lens(4.0, 1.0, alpha)))


def test_batches_and_vmap_agree_with_scalars():
    kappa, chord = jnp.linspace(0.1, 3.0, 7), jnp.asarray(0.9)
    batch = whole(kappa, chord, jnp.asarray(1.0))
    mapped = jax.vmap(whole, in_axes=(0, None, None))(kappa, chord, jnp.asarray(1.0))
    single = jnp.stack([whole(k, chord, jnp.asarray(1.0)).value for k in kappa])
    assert batch.value.shape == batch.holds.shape == (7,)
    np.testing.assert_array_equal(batch.value, single)
    np.testing.assert_array_equal(mapped.value, single)
    assert set(batch.hypotheses) == {"alpha_inside", "chord_fits", "length_fits"}


def test_dtypes_are_kept():
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        bound = whole(jnp.asarray(1.0, dtype), 1.0, jnp.asarray(1.1, dtype))
        assert bound.value.dtype == dtype
        np.testing.assert_allclose(float(bound.value), 0.1339746, rtol=2 * eps(dtype))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`chord` must be at least 0"):
        bounds.chord_deviation(1.0, -1.0, 1.0)
    with pytest.raises(ValueError, match="`alpha` must be in"):
        bounds.chord_deviation_at(1.5, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="one dtype, got `max_curvature` float32, `chord` float16"):
        bounds.chord_deviation(jnp.ones(()), jnp.ones((), jnp.float16), 1.0)
    with pytest.raises(ValueError, match="do not broadcast"):
        bounds.chord_deviation(jnp.ones(3), jnp.ones(2), 1.0)
    with pytest.raises(ValueError, match="`chord` must be real"):
        bounds.chord_deviation(1.0, jnp.asarray(1j), 1.0)
    hidden = at(jnp.asarray(1.5), 1.0, 1.0, 1.1)
    assert not bool(hidden.alpha_inside)
    assert np.isinf(hidden.value)
    unknown = whole(jnp.nan, 1.0, 1.1)
    assert np.isinf(unknown.value)
    assert not bool(unknown.holds)


def test_best_is_the_smallest_of_those_that_hold():
    alphas = jnp.linspace(0, 1, 9)
    known = {"max_curvature": 1.0, "length": 1.1, "total_curvature": 1.1}
    best = bounds.best_chord_deviation(alphas, 1.0, **known)
    each = [
        bounds.trivial_chord_deviation(alphas, 1.0),
        bounds.chord_deviation_at(alphas, 1.0, 1.0, 1.1),
        bounds.length_chord_deviation(alphas, 1.0, 1.1),
        bounds.total_curvature_chord_deviation(1.1, 1.0, alphas),
    ]
    np.testing.assert_array_equal(best.value, jnp.min(jnp.stack([b.value for b in each]), axis=0))
    assert bounds.SOURCES[int(best.source[4])] == "curvature"
    assert bool(jnp.all(best.holds))
    # Major arc: Theorem 6.2 withdraws, the ends are the nearest points, and that is exact.
    major = bounds.best_chord_deviation(0.5, 1.0, max_curvature=1.0, length=5.3)
    assert float(major.value) == 0.5
    assert bounds.SOURCES[int(major.source)] == "trivial"
    straight = bounds.best_chord_deviation(
        0.5, 3**0.5, max_curvature=100.0, length=5.0, curve=lambda t: jnp.ones(3) * t
    )
    assert bounds.SOURCES[int(straight.source)] == "sampled"

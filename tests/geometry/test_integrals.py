"""Length and total curvature against scipy's quadrature and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import symjax

from ..test_actions import weights

ACTION = symjax.deep_linear_action((3, 4, 2))


def curve_of_norm(size, seed=0):
    w = weights(jax.random.key(seed), (3, 4, 2), jnp.float64)
    m = jax.random.normal(jax.random.key(seed + 1), (4, 4))
    return symjax.exponential_curve(ACTION, w, (m * (size / jnp.linalg.norm(m, 2)),))


@pytest.mark.slow
def test_length_and_turning_against_scipy(x64):
    for size in (1.0, 3.0, 8.0):
        curve = curve_of_norm(size)
        point = jax.jit(lambda t, c=curve: (symjax.speed(c, t), symjax.curvature(c, t)))
        speed = lambda t, point=point: float(point(t)[0])
        turn = lambda t, point=point: float(point(t)[0] * point(t)[1])
        for ours, integrand in ((symjax.length, speed), (symjax.total_curvature, turn)):
            expected = scipy.integrate.quad(integrand, 0, 1, epsabs=1e-13, epsrel=1e-13)[0]
            np.testing.assert_allclose(ours(curve), expected, rtol=1e-11)


def test_sixteen_nodes_reach_1e_12_up_to_norm_3(x64):
    nodes, gauss = np.polynomial.legendre.leggauss(16)
    for seed in range(4):
        curve = curve_of_norm(3.0, seed)
        sixteen = 0.5 * jnp.sum(gauss * symjax.speed(curve, jnp.asarray((nodes + 1) / 2)))
        np.testing.assert_allclose(sixteen, symjax.length(curve), rtol=1e-12)


def test_rescaling_total_curvature_is_a_difference_of_angles(x64):
    """K = |atan(k y_0/x_0) - atan(k y_1/x_1)|."""
    k, x, y, s = 2.0, 0.5, 1.5, 2.0
    curve = symjax.exponential_curve(
        symjax.rescaling_action(k), (jnp.array([[x]]), jnp.array([[y]])), jnp.asarray(s)
    )
    end = np.arctan(k * y * np.exp(-k * s) / (x * np.exp(s)))
    expected = np.arctan(k * y / x) - end
    np.testing.assert_allclose(symjax.total_curvature(curve), expected, rtol=1e-11)


def test_a_polygon_is_refused_or_exact(x64):
    """A kink off the dyadic grid is never resolved to the tolerance: NaN, not a wrong number."""
    points = [jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([1.0, 3.0]), jnp.array([2.0, 3.0])]
    chain = symjax.polygonal_chain(points)
    assert jnp.isnan(symjax.length(chain, rtol=1e-13, cells=4))
    # Two kinks share 32 bisections, so 2^-15 of a cell is what is left of each.
    np.testing.assert_allclose(symjax.length(chain, rtol=1e-3), 5.0, rtol=1e-3)


@pytest.mark.slow
def test_derivative_of_the_length(x64):
    curve = curve_of_norm(3.0)
    m = curve.stretch[0]
    value = jax.jit(lambda m: symjax.length(symjax.exponential_curve(ACTION, curve.params, (m,))))
    step = jnp.zeros((4, 4)).at[1, 2].set(1e-6)
    slope = (value(m + step) - value(m - step)) / 2e-6
    np.testing.assert_allclose(jax.jit(jax.grad(value))(m)[1, 2], slope, rtol=1e-6)


@pytest.mark.slow
def test_float32_and_vmap():
    ms = jax.random.normal(jax.random.key(1), (3, 4, 4))
    w = weights(jax.random.key(0), (3, 4, 2), jnp.float32)
    one = lambda m: symjax.length(symjax.exponential_curve(ACTION, w, (m,)))
    batch = jax.jit(jax.vmap(one))(ms)
    assert batch.dtype == jnp.float32
    np.testing.assert_allclose(batch[1], one(ms[1]), rtol=1e-5)


def test_bad_options():
    line = symjax.chord(jnp.zeros(2), jnp.ones(2))
    with pytest.raises(ValueError, match="`rtol` must be at least 8 eps"):
        symjax.length(line, rtol=1e-9)
    with pytest.raises(ValueError, match="`cells`"):
        symjax.total_curvature(line, cells=0)

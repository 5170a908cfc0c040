"""max_curvature against dense sampling and closed forms; certify against both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

from ..helpers import eps
from ..test_actions import weights


@functools.cache
def study(widths, cells):
    """max_curvature, a dense reference and certificates for a batch of seeds, in one compile."""
    action = symjax.deep_linear_action(widths)
    dense = np.linspace(0, 1, 4001)
    close = np.linspace(-2.5e-4, 2.5e-4, 1001)

    def one(key, size):
        a, b = jax.random.split(key)
        m = action.group.random_algebra(b)
        m = tuple(e * size / jnp.linalg.norm(e, 2) for e in m)
        curve = symjax.exponential_curve(action, weights(a, widths, jnp.float64), m)
        value, t = symjax.max_curvature(curve)
        coarse = symjax.curvature(curve, jnp.asarray(dense))
        near = jnp.clip(jnp.asarray(dense)[jnp.argmax(coarse)] + jnp.asarray(close), 0, 1)
        fine = symjax.curvature(curve, near)
        reference = jnp.maximum(coarse.max(), fine.max())
        grid = coarse[:: 4000 // 64].max()  # a 64-cell grid
        certificate = symjax.certify(curve, cells)
        return (
            value,
            t,
            reference,
            grid,
            certificate,
            symjax.length(curve),
            (symjax.total_curvature(curve)),
        )

    return jax.jit(lambda keys, size: jax.lax.map(lambda k: one(k, size), keys))


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(1, 2, 1), (4, 5, 3)])
def test_maximum_to_1e_12_with_sharp_peaks(widths, x64):
    missed = 0.0
    for size in (1.0, 3.0, 8.0):
        keys = jax.random.split(jax.random.key(0), 40)
        value, t, reference, grid, certificate, length, turning = study(widths, 64)(keys, size)
        # The dense reference may itself be below the peak by (step 5e-7)^2: one-sided to 1e-12.
        assert float(((reference - value) / reference).max()) <= 1e-12
        assert bool((value <= reference * (1 + 1e-9)).all())
        assert bool(((t >= 0) & (t <= 1)).all())
        missed = max(missed, float((1 - grid / reference).max()))
        # Certificates bound everything from above ...
        assert bool((certificate.max_curvature >= reference).all())
        assert bool((certificate.length >= length).all())
        assert bool((certificate.total_curvature >= turning).all())
        if size <= 3:  # ... and tightly: 64 cells are more than 16 max(w, k)
            assert float((certificate.max_curvature / reference).max()) < 1.05
            assert float((certificate.length / length).max()) < 1.01
    if widths == (1, 2, 1):
        assert missed > 0.005  # what the refinement is for


def test_rescaling_maximum_is_the_closed_form(x64):
    """Unimodal with its top at t*; k = 1 gives 1/sqrt(2 |W_(l-1)| |W_l|)."""
    x, y, s = 0.5, 2.0, 2.0
    w = (jnp.array([[x]]), jnp.array([[y]]))
    curve = symjax.exponential_curve(symjax.rescaling_action(1), w, jnp.asarray(s))
    value, t = symjax.max_curvature(curve)
    np.testing.assert_allclose(value, 1 / np.sqrt(2 * x * y), rtol=1e-13)
    np.testing.assert_allclose(t, np.log(y / x) / (2 * s), atol=1e-7)
    k = 3.0
    curve = symjax.exponential_curve(symjax.rescaling_action(k), w, jnp.asarray(0.5))
    top = np.log((y / x) ** 2 * k**2 * (2 * k + 1) / (k + 2)) / (2 * 0.5 * (1 + k))
    assert top > 1  # beyond the end: the maximum is at t = 1
    value, t = symjax.max_curvature(curve)
    assert t == 1
    np.testing.assert_allclose(value, symjax.curvature(curve, 1.0), rtol=1e-13)


@pytest.mark.slow
def test_certificates_of_connecting_curves(x64):
    """Rotations are exact with one cell; polar pairs are bounded."""
    action = symjax.deep_linear_action((3, 4, 2))
    w = weights(jax.random.key(0), (3, 4, 2), jnp.float64)
    g = jnp.diag(jnp.array([-1.0, -2.0, 1.0, 3.0])) + 0.1 * jnp.eye(4, k=1)
    for element, cells, slack in ((g, 64, 1.01), (-g, 64, 1.01)):
        curve = symjax.connecting_curve(action, w, (element,))
        assert curve.method == 1
        certificate = symjax.certify(curve, cells)
        times = jnp.linspace(0, 1, 2001)
        reference = symjax.curvature(curve, times).max()
        assert reference <= certificate.max_curvature <= slack * reference
        assert symjax.length(curve) <= certificate.length <= slack * symjax.length(curve)
        turning = symjax.total_curvature(curve)
        # First order in the cell: the largest |n| of a cell over the smallest speed in it.
        assert turning <= certificate.total_curvature <= 1.02 * turning
    skew = jax.random.normal(jax.random.key(2), (4, 4))
    rotation = symjax.exponential_curve(action, w, (skew - skew.T,))
    one = symjax.certify(rotation, 1)
    np.testing.assert_allclose(one.length, symjax.length(rotation), rtol=1e-6)
    assert one.max_curvature >= symjax.curvature(rotation, 0.3)


def test_certificates_do_not_exist_for_other_curves():
    x = jnp.ones((3, 9))
    w = weights(jax.random.key(0), (3, 4, 2), jnp.float32)
    data = symjax.exponential_curve(symjax.data_action(jnp.tanh, x), w, jnp.eye(4))
    for curve in (symjax.chord(w, w), data, lambda t: w):
        with pytest.raises(ValueError, match="max_curvature"):
            symjax.certify(curve)
    action = symjax.deep_linear_action((3, 4, 2))
    with pytest.raises(ValueError, match="`cells`"):
        symjax.certify(symjax.exponential_curve(action, w, (jnp.eye(4),)), 0)
    with pytest.raises(ValueError, match="`evaluations`"):
        symjax.max_curvature(symjax.chord(w, w), evaluations=10)


def test_no_curve_no_number():
    w = weights(jax.random.key(0), (3, 4, 2), jnp.float32)
    scaling = symjax.neuron_rescaling_action(4)
    missing = symjax.connecting_curve(scaling, w, jnp.array([1.0, 1.0, 1.0, -1.0]))
    assert jnp.isnan(symjax.certify(missing).max_curvature)
    assert jnp.isnan(symjax.max_curvature(missing)[0])
    assert symjax.max_curvature(symjax.chord(w, jax.tree.map(jnp.negative, w)))[0] == 0


@pytest.mark.slow
def test_derivative_of_the_maximum(x64):
    action = symjax.deep_linear_action((2, 3, 2))
    w = weights(jax.random.key(3), (2, 3, 2), jnp.float64)
    value = jax.jit(lambda m: symjax.max_curvature(symjax.exponential_curve(action, w, (m,)))[0])
    m = jax.random.normal(jax.random.key(1), (3, 3))
    step = jnp.zeros((3, 3)).at[0, 1].set(1e-6)
    slope = (value(m + step) - value(m - step)) / 2e-6
    np.testing.assert_allclose(
        jax.jit(jax.grad(value))(m)[0, 1], slope, rtol=1e-5, atol=100 * eps(jnp.float64)
    )

"""Rescaling barriers against many digits, real networks and the paper's proof."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from symjax import barriers, networks
from tests.helpers import eps

rescaling = jax.jit(barriers.rescaling)
witness = jax.jit(barriers.rescaling_witness)
DEGREES = (0.3, 1.0, 2.0, 3.5, 12.0)


def exact(degree, m):
    """alpha and (phi - 1)^2 by the closed form, in 60 digits."""
    with mpmath.workdps(60):
        k, m = mpmath.mpf(float(degree)), mpmath.mpf(float(m))
        p, q = m - 1, 1 - m**-k
        alpha = (k * p - q) / ((k + 1) * p * q)
        phi = (1 - alpha + alpha * m**-k) * (1 - alpha + alpha * m) ** k
        return alpha, (phi - 1) ** 2


def zero_loss_network(key, activation, degree, dtype=jnp.float32):
    """Weights, inputs and labels with loss exactly that of rounding."""
    weights = networks.random_weights(key, (3, 5, 4, 2), dtype=dtype)
    x = jax.random.normal(jax.random.fold_in(key, 1), (3, 6), dtype)
    apply = networks.homogeneous(activation)
    return weights, x, apply(weights, x), apply


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("activation", "degree"),
    [(jax.nn.relu, 1.0), (lambda z: jax.nn.leaky_relu(z, 0.1), 1.0), (lambda z: z**3, 3.0)],
)
def test_prop_5_3_barrier_is_exact_and_unbounded_on_networks(key, activation, degree):
    weights, x, y, apply = zero_loss_network(key, activation, degree, jnp.float64)
    loss = networks.squared_loss(apply, x, y)
    along = jax.jit(lambda far: barriers.loss_along(
        loss, lambda t: jax.tree.map(lambda a, b: (1 - t) * a + t * b, weights, far),
        jnp.linspace(0, 1, 2001)))  # fmt: skip
    heights = []
    for m in (0.2, 0.9, 1.5, 4.0, 20.0):
        far = (*weights[:-2], m * weights[-2], m**-degree * weights[-1])
        losses = along(far)
        peak = rescaling(degree, m, jnp.linalg.norm(y))
        assert float(losses[-1]) < 1e-20 * float(jnp.sum(y**2))
        # The grid is 5e-4 fine: its best point is within the square of that of the maximum.
        np.testing.assert_allclose(np.max(losses), peak.value, rtol=1e-4)
        assert np.max(losses) <= float(peak.value) * (1 + 1e-10)
        assert abs(np.argmax(losses) / 2000 - float(peak.alpha)) <= 1e-3
        heights.append(float(peak.value))
    assert heights[4] > heights[3] > heights[2]
    # Without labels (|Y| = 0) the hypothesis fails: no scale gives a barrier.
    assert np.isinf(witness(degree, 1.0, 0.0))
    # No barrier is too high: the witness reaches it, and the paper's m exceeds it.
    for barrier in (1e-3, 1.0, 1e6):
        m = barriers.rescaling_witness(degree, barrier, jnp.linalg.norm(y))
        far = (*weights[:-2], m * weights[-2], m**-degree * weights[-1])
        np.testing.assert_allclose(np.max(along(far)), barrier, rtol=1e-4)
        m = barriers.paper_rescaling(degree, barrier, jnp.linalg.norm(y))
        far = (*weights[:-2], m * weights[-2], m**-degree * weights[-1])
        assert float(along(far)[1000]) > barrier


def test_rescaling_barrier_needs_labels_and_homogeneity(key):
    # Y = 0: nothing to lose on the chord, and no m gives a barrier.
    assert float(rescaling(1.0, 100.0, 0.0).value) == 0.0
    assert np.isinf(witness(1.0, 1.0, 0.0))
    # A sigmoid is not homogeneous: the rescaled network is no minimum, the formula not its barrier.
    weights, x, y, apply = zero_loss_network(key, jax.nn.sigmoid, 1.0)
    far = (*weights[:-2], 4 * weights[-2], weights[-1] / 4)
    assert float(networks.squared_loss(apply, x, y)(far)) > 1e-2 * float(jnp.sum(y**2))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_value_and_place_from_near_one_to_huge(x64, dtype):
    number = lambda a: jnp.asarray(a, dtype)
    for degree in DEGREES:
        for m in (1e-30, 1e-4, 0.3, 0.99, 1 - 1e-5, 1 + 1e-5, 1.01, 1.6, 2.7, 40.0, 1e9, 1e30):
            m = number(m)
            found = rescaling(number(degree), m, number(1.0))
            alpha, value = exact(number(degree), m)
            assert abs(float(found.alpha) - alpha) <= 4 * eps(dtype)
            if value > 1e-2 * float(jnp.finfo(dtype).max):
                assert np.isinf(found.value) or value < jnp.finfo(dtype).max
                continue
            # exp(log phi) multiplies the rounding of log phi; (phi - 1)^2 doubles it.
            growth = max(1.0, float(mpmath.log1p(mpmath.sqrt(value))))
            tolerance = 40 * eps(dtype) * growth * value + jnp.finfo(dtype).tiny
            assert abs(float(found.value) - value) <= tolerance, (degree, m)


@pytest.mark.usefixtures("x64")
def test_closed_forms_of_the_first_degrees():
    m = jnp.asarray([0.1, 3.0, 50.0])
    np.testing.assert_allclose(rescaling(1.0, m, 2.0).value, 4 * ((m - 1) ** 2 / (4 * m)) ** 2)
    np.testing.assert_allclose(witness(1.0, 1.0, 1.0), 3 + 2 * 2**0.5, rtol=4e-15)
    # Where a bound that brackets the root is the root to rounding.
    np.testing.assert_allclose(witness(1.0, rescaling(1.0, 1e20, 1.0).value, 1.0), 1e20, rtol=1e-13)
    np.testing.assert_allclose(witness(2.0, 1.0, 1.0), 1 + 3**0.5, rtol=4e-15)
    assert float(rescaling(2.0, 1.0, 1.0).value) == 0.0
    assert float(rescaling(2.0, 1.0, 1.0).alpha) == 0.5


@settings(max_examples=25, deadline=None)
@given(degree=st.floats(0.2, 8.0), barrier=st.floats(1e-6, 1e6), y_norm=st.floats(0.1, 100.0))
def test_witness_is_the_smallest_scale_and_paper_s_exceeds_the_barrier(degree, barrier, y_norm):
    with jax.enable_x64(True):
        m = witness(degree, barrier, y_norm)
        assert float(m) > 1
        # m is rounded: its logarithm is off by eps, and the value by a multiple that grows near 1.
        rtol = 100 * eps(jnp.float64) * (degree + 1) * (1 + 1 / float(m - 1) + float(jnp.log(m)))
        np.testing.assert_allclose(rescaling(degree, m, y_norm).value, barrier, rtol=rtol)
        smaller = 1 + 0.999 * (m - 1)
        assert float(rescaling(degree, smaller, y_norm).value) < barrier
        paper = barriers.paper_rescaling(degree, barrier, y_norm)
        assert float(paper) < 1
        midpoint = np.expm1(
            -(degree + 1) * np.log(2) + degree * np.log1p(paper) + np.log1p(paper**-degree)
        )
        # For a small degree it exceeds by a factor (1 + m)^k that is 1 to rounding.
        assert y_norm**2 * midpoint**2 > barrier * (1 - 1e-11)
        assert float(1 / paper) > float(m) * (1 - 1e-9) or degree != 1.0


@pytest.mark.usefixtures("x64")
def test_printed_exponent_fails_and_the_corrected_one_does_not():
    degree, barrier = 0.5, 100.0
    printed = (2 ** (degree + 1) * (barrier**0.5 + 1) - 1) ** degree
    assert float(rescaling(degree, printed, 1.0).value) < 0.1
    assert float(rescaling(degree, barriers.paper_rescaling(degree, barrier, 1.0), 1.0).value) > 100


def test_without_labels_the_printed_scale_is_0_and_stops_no_debug_flag():
    zero = jnp.zeros(())
    with jax.debug_nans(True), jax.debug_infs(True):
        for barrier in (0.0, 1.0):
            assert float(barriers.paper_rescaling(1.0, barrier, zero)) == 0


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("f", "at"),
    [
        (lambda k, b, y: witness(k, b, y), (2.0, 0.7, 1.3)),
        (lambda k, m, y: rescaling(k, m, y).value, (1.5, 3.0, 1.3)),
        (lambda k, m, y: rescaling(k, m, y).alpha, (2.5, 0.7, 1.0)),
    ],
)
def test_derivatives_of_first_and_second_order(f, at):
    f = jax.jit(lambda v, f=f: f(*v))
    at, step = jnp.asarray(at), 1e-5 * jnp.eye(3)
    gradient, hessian = jax.jit(jax.jacrev(f)), jax.jit(jax.jacfwd(jax.jacrev(f)))
    for i in range(3):
        central = (f(at + step[i]) - f(at - step[i])) / 2e-5
        np.testing.assert_allclose(gradient(at)[i], central, rtol=1e-6, atol=1e-9)
        second = (gradient(at + step[i]) - gradient(at - step[i])) / 2e-5
        np.testing.assert_allclose(hessian(at)[i], second, rtol=1e-5, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_derivatives_are_finite_where_nothing_moves():
    assert float(jax.grad(lambda m: rescaling(1.5, m, 1.0).value)(1.0)) == 0.0
    assert float(jax.grad(lambda m: rescaling(3.0, m, 1.0).alpha)(1.0)) == pytest.approx(1 / 6)
    assert np.isfinite(jax.grad(lambda b: witness(1.0, b, 1.0))(0.0))


def test_batches_dtypes_and_bad_arguments():
    m = jnp.array([1.5, 2.0, 8.0])
    batch = jax.vmap(rescaling, in_axes=(None, 0, None))(1.0, m, 1.0)
    np.testing.assert_allclose(batch.value, rescaling(1.0, m, 1.0).value, rtol=1e-6)
    half = rescaling(1.0, jnp.asarray(4.0, jnp.bfloat16), 1.0)
    assert half.value.dtype == half.alpha.dtype == jnp.bfloat16
    assert np.isnan(rescaling(1.0, -1.0, 1.0).value)
    assert np.isnan(witness(-1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="`m` must be positive"):
        barriers.rescaling(1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="`degree` must be positive"):
        barriers.rescaling_witness(0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="`barrier` must be at least 0"):
        barriers.paper_rescaling(1.0, -1.0, 1.0)

"""Prop. 6.1 on random networks, with its identity, and in the cases where it says more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import bounds, networks
from tests.helpers import eps

sigmoid = jax.nn.sigmoid
change_of = jax.jit(bounds.output_change, static_argnums=4)


def network(rng, m, h, n, k, dtype=np.float64):
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    return draw(m, h), draw(h, n), draw(h, h), draw(n, k)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prop_6_1_change_is_below_the_output_with_pythagoras(x64, dtype):
    rng = np.random.default_rng(0)
    for m, h, n, k in ((2, 3, 4, 9), (5, 8, 2, 20), (3, 2, 6, 2), (20, 30, 10, 90)):
        u, v, g, x = network(rng, m, h, n, k, dtype)
        found = change_of(u, v, g, x, sigmoid)
        assert bool(found.holds)
        assert float(found.margin) >= -4 * eps(dtype) * float(found.value)
        assert abs(float(found.residual)) <= 100 * eps(dtype)
        output = networks.two_layer(sigmoid)((v, u), x)
        np.testing.assert_allclose(found.value, np.linalg.norm(output), rtol=8 * eps(dtype))
        if dtype == np.float64:
            # The map of eq. (6) itself, where it is well conditioned.
            moved = symjax.data_action(sigmoid, x)(g, (v, u))
            change = np.linalg.norm(output - networks.two_layer(sigmoid)(moved, x))
            np.testing.assert_allclose(found.change, change, rtol=1e-7, atol=1e-9)
    # What is no number is no projection either.
    assert not bool(change_of(jnp.nan * u, v, g, x, sigmoid).holds)


@pytest.mark.usefixtures("x64")
def test_change_vanishes_for_few_samples_and_identity():
    rng = np.random.default_rng(1)
    u, v, g, x = network(rng, 3, 12, 5, 6)
    # rank sigma(gVX) = k = 6 < h: every row is in its row space.
    assert float(change_of(u, v, g, x, sigmoid).change) < 1e-12
    u, v, _, x = network(rng, 3, 4, 5, 20)
    assert float(change_of(u, v, jnp.eye(4), x, sigmoid).change) < 1e-12


@pytest.mark.usefixtures("x64")
def test_printed_statement_fails_for_oblique_projections_and_other_norms():
    """Errata E20: the two cases that the printed statement would cover, and that are false."""
    f, p = np.array([[1.0, 1.0]]), np.array([[1.0, -0.5]]).T @ np.array([[1.0, -0.5]]) / 1.25
    assert np.max(np.abs(f - f @ p)) > np.max(np.abs(f))
    oblique = np.array([[1.0, 3.0], [0.0, 0.0]])
    assert np.linalg.norm(np.eye(2) - oblique, 2) > 3
    # NaN parameters: under jit the flag goes down and the value is no number to trust.
    u, v, g, x = network(np.random.default_rng(2), 2, 3, 4, 5)
    broken = change_of(jnp.nan * u, v, g, x, sigmoid)
    assert not bool(broken.holds)
    assert np.isinf(broken.value)


@pytest.mark.usefixtures("x64")
def test_derivatives_are_those_of_finite_differences():
    rng = np.random.default_rng(3)
    u, v, g, x = network(rng, 2, 3, 4, 7)
    direction = jnp.asarray(rng.normal(size=(3, 3)))
    change = jax.jit(lambda s: change_of(u, v, g + s * direction, x, sigmoid).change)
    central = (change(1e-5) - change(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(change)(0.0), central, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(change, (0.0,), (1.0,))[1], central, rtol=1e-6)
    second = (jax.grad(change)(1e-5) - jax.grad(change)(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.hessian(change)(0.0), second, rtol=1e-5)
    # Padding: repeated zero singular values, where singular vectors have no derivative.
    pad = lambda a, rows, columns: jnp.pad(a, ((0, rows), (0, columns)))
    masked = lambda s: (
        change_of(
            pad(u, 0, 2), pad(v, 2, 0), pad(g + s * direction, 2, 2), x, lambda z: z * sigmoid(z)
        ).change
    )
    assert np.isfinite(jax.grad(masked)(0.0))


def test_zero_output_batches_half_precision_and_bad_arguments():
    u, v, g, x = network(np.random.default_rng(4), 2, 3, 4, 7, np.float32)
    still = change_of(0 * u, v, g, x, sigmoid)
    assert float(still.value) == float(still.change) == 0.0
    assert bool(still.holds)
    many = jax.vmap(lambda g: change_of(u, v, g, x, sigmoid))(jnp.stack([g, 2 * g]))
    assert many.value.shape == many.holds.shape == (2,)
    half = change_of(*(a.astype(jnp.bfloat16) for a in (u, v, g, x)), sigmoid)
    assert half.value.dtype == half.change.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"Expected `u` \(m, h\)"):
        bounds.output_change(u, v.T, g, x, sigmoid)
    with pytest.raises(ValueError, match="`g` must be a matrix"):
        bounds.output_change(u, v, g.astype(jnp.bfloat16), x, sigmoid)
    with pytest.raises(ValueError, match="`x` holds a NaN"):
        bounds.output_change(u, v, g, jnp.nan * x, sigmoid)

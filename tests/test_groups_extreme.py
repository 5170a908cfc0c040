"""Elements of GL(n) and of complex scales whose squares are beyond the numbers that there are."""

import jax.numpy as jnp
import numpy as np
import pytest

from symjax.groups import ComplexScaling, GeneralLinear

from .helpers import eps


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1.0, 1e200, 1e300])
def test_complex_scales_of_any_size(x64, size):
    group = ComplexScaling(2)
    numbers = size * np.array([3 - 4j, 1e-3 + 2j])
    pairs = lambda z: jnp.asarray(np.stack([z.real, z.imag], -1))
    g, tolerance = pairs(numbers), 16 * eps("float64")
    with np.errstate(over="ignore"):
        inverse = pairs(1 / (numbers / size) / size)
    np.testing.assert_allclose(group.inverse(g), inverse, rtol=tolerance)
    logs = pairs(np.log(numbers / size) + np.log(size))
    np.testing.assert_allclose(group.log(g), logs, rtol=tolerance)
    moved = group.act(g, jnp.ones((4, 1)), "covector")
    expected = np.ones(2) * (1 + 1j) / np.conj(numbers / size) / size
    np.testing.assert_allclose(moved.reshape(2, 2), pairs(expected), rtol=tolerance)
    assert group.contains(g)
    assert np.isnan(group.inverse(g.at[0].set(0))[0]).all()


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e300])
def test_general_linear_contains_regular_matrices_of_any_size(x64, size):
    group = GeneralLinear(2)
    regular = [[[1, 0], [0, size]], [[1, size], [1, 2 * size]], [[1, 1], [size, 2 * size]]]
    assert group.contains(jnp.asarray(regular)).all()
    singular = [[[1, size], [1, size]], [[size, 0], [0, 0]], [[1, np.inf], [0, 1]]]
    assert not group.contains(jnp.asarray(singular)).any()
    moved = group.act(jnp.array([[1, size], [1, 2 * size]]), jnp.array([[1.0], [size]]), "covector")
    np.testing.assert_allclose(moved, [[1.0], [0.0]], atol=8 * eps("float64"))

"""Prop. 5.6: the explicit b(c), against grids over the orbit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax import barriers, bounds

bound_of = jax.jit(bounds.orbit_loss)


@pytest.mark.usefixtures("x64")
def test_prop_5_6_is_the_supremum_over_the_bounded_orbit():
    for degree in (0.5, 1.0, 2.0, 3.0):
        for before, last, most in (
            (1.0, 1.0, 4.0),
            (2.0, 0.3, 5.0),
            (0.1, 3.0, 3.5),
            (6.0, 0.1, 5.0),
        ):
            bound = bound_of(degree, before, last, most, 1.7)
            assert bool(bound.holds)
            # Every scale whose norms are below c, to the last billionth.
            inside = np.linspace(1e-9, 1 - 1e-9, 2001)
            m = np.exp(np.log(bound.m_low) * (1 - inside) + np.log(bound.m_high) * inside)
            assert np.all(before * m < most)
            assert np.all(last * m**-degree < most)
            heights = barriers.rescaling(degree, jnp.asarray(m), 1.7).value
            assert np.all(np.asarray(heights) < float(bound.value))
            np.testing.assert_allclose(np.max(heights), bound.value, rtol=1e-6)
    # Norms whose product no scale can bring below c: nothing is claimed.
    assert np.isinf(bound_of(1.0, 3.0, 3.0, 2.9, 1.0).value)


def test_bound_is_vacuous_where_no_point_of_the_orbit_is_small():
    # |W_{l-1}| |W_l| = 9 is constant on the orbit: one of them is at least 3.
    bound = bound_of(1.0, 3.0, 3.0, 2.9, 1.0)
    assert bool(bound.vacuous)
    assert not bool(bound.not_vacuous)
    assert np.isinf(bound.value)
    other = bound_of(1.0, 1.0, 1.0, 4.0, 1.0, other_norm=5.0)
    assert not bool(other.other_layers_fit)
    assert np.isinf(other.value)
    assert bool(bound_of(1.0, 1.0, 1.0, 4.0, 1.0, other_norm=3.0).holds)


def test_batches_gradients_and_bad_arguments():
    most = jnp.array([1.5, 3.0, 0.5])
    bound = bound_of(1.0, 1.0, 1.0, most, 1.0)
    assert bound.holds.tolist() == [True, True, False]
    slope = jax.grad(lambda c: bound_of(1.0, 1.0, 1.0, c, 1.0).value)
    assert float(slope(3.0)) > 0
    assert float(slope(0.5)) == 0.0
    with pytest.raises(ValueError, match="`w_last_norm` must be positive"):
        bounds.orbit_loss(1.0, 1.0, 0.0, 1.0, 1.0)

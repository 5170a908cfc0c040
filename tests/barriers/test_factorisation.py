"""Prop. 5.5: distances to the set of factorisations, against a minimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from symjax import barriers


def distance_found(w1, w2, beta, tries, rng):
    """The distance from the midpoint to invertible factorisations that BFGS finds: from above."""
    n = w1.shape[0]
    c, a = (beta + 1 / beta) / 2, w1 @ w2

    def square(v):
        first = v.reshape(n, n)
        second = np.linalg.solve(first, a)
        return np.sum((first - c * w1) ** 2) + np.sum((second - c * w2) ** 2)

    starts = [np.ravel(c * w1), np.ravel(w1 / beta), np.ravel(w1 * beta)]
    starts += [np.ravel(w1 + rng.normal(size=(n, n))) for _ in range(tries)]
    return min(minimize(square, s, options={"gtol": 1e-10}).fun for s in starts) ** 0.5


@pytest.mark.usefixtures("x64")
def test_prop_5_5_midpoints_leave_every_neighbourhood_of_the_factorisations():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3):
        w1, w2 = (rng.normal(size=(n, n)) for _ in range(2))
        for beta in (1.3, 4.0, 20.0):
            found = barriers.factorisation_distance(jnp.asarray(w1), jnp.asarray(w2), beta)
            assert bool(found.holds)
            assert 0 < float(found.value) <= distance_found(w1, w2, beta, 4, rng) * (1 + 1e-6)
        # Any distance is reached, and by the beta that is claimed.
        for distance in (1e-9, 0.1, 10.0, 1e6):
            beta = barriers.factorisation_witness(jnp.asarray(w1), jnp.asarray(w2), distance)
            assert float(beta) > 1
            reached = barriers.factorisation_distance(jnp.asarray(w1), jnp.asarray(w2), beta).value
            # Near 1, beta itself rounds: (beta - 1)^2 is what the distance is made of.
            rounding = 1e-12 + 1e-15 / float(beta - 1)
            np.testing.assert_allclose(reached, distance, rtol=rounding)
    # For A = 0 nothing is claimed.
    zero = barriers.factorisation_distance(jnp.zeros((2, 2)), jnp.eye(2), 20.0)
    assert not bool(zero.holds)
    assert float(zero.value) == 0.0


@pytest.mark.usefixtures("x64")
def test_nothing_is_said_about_the_zero_matrix():
    w1, w2 = jnp.array([[1.0, 0.0]]), jnp.array([[0.0], [1.0]])
    found = barriers.factorisation_distance(w1, w2, 100.0)
    assert not bool(found.holds)
    assert float(found.value) == 0.0
    assert np.isinf(barriers.factorisation_witness(w1, w2, 1.0))


@pytest.mark.usefixtures("x64")
def test_identity_is_exact_and_above_the_bound():
    rng = np.random.default_rng(1)
    for n in (1, 2):
        for beta in (1.5, 3.0, 3.9, 10.0):
            exact = float(barriers.identity_factorisation_distance(n, beta))
            best = distance_found(np.eye(n), np.eye(n), beta, 12, rng)
            np.testing.assert_allclose(best, exact, rtol=1e-7)
            bound = barriers.factorisation_distance(jnp.eye(n), jnp.eye(n), beta).value
            assert float(bound) <= exact
    # The two forms meet at c = 2, and the distance grows like beta / 2.
    meeting = 2 + 3**0.5
    below, above = (
        barriers.identity_factorisation_distance(3, meeting * s) for s in (1 - 1e-9, 1 + 1e-9)
    )
    np.testing.assert_allclose(below, above, rtol=1e-8)


def test_transforms_batches_and_bad_arguments():
    w = jnp.asarray(np.random.default_rng(2).normal(size=(2, 2)), jnp.float32)
    betas = jnp.array([0.25, 1.0, 4.0])
    bounds = jax.jit(barriers.factorisation_distance)(w, w, betas)
    assert bounds.value.shape == bounds.holds.shape == (3,)
    np.testing.assert_allclose(bounds.value[0], bounds.value[2], rtol=1e-6)
    assert float(bounds.value[1]) == 0.0
    slope = jax.grad(lambda b: barriers.factorisation_distance(w, w, b).value)
    assert float(slope(4.0)) > 0
    assert float(slope(1.0)) == 0.0
    assert np.isfinite(jax.grad(lambda d: barriers.factorisation_witness(w, w, d))(1.0))
    half = barriers.factorisation_distance(w.astype(jnp.bfloat16), w.astype(jnp.bfloat16), 2.0)
    assert half.value.dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="`beta` must be positive"):
        barriers.factorisation_distance(w, w, 0.0)
    with pytest.raises(ValueError, match="do not chain"):
        barriers.factorisation_distance(w, w[:1], 2.0)

"""Prop. 5.4: every permutation is tried against the claimed scale."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax import barriers

relu = jax.nn.relu
leaky = lambda z: jax.nn.leaky_relu(z, 0.2)


def smallest_midpoint(w, z, sigma, m, degree=1, y=None):
    """min over P of the loss half-way between W and P.W', the last layers formed one by one."""
    y = w @ sigma(z) if y is None else y
    least = np.inf
    for p in itertools.permutations(range(z.shape[0])):
        matrix = np.eye(z.shape[0])[list(p)]
        middle = 0.5 * (w + w @ matrix / m**degree) @ sigma(0.5 * (z + m * matrix.T @ z))
        least = min(least, float(np.sum((y - np.asarray(middle)) ** 2)))
    return least


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_prop_5_4_no_permutation_brings_the_midpoint_below_the_barrier():
    rng = np.random.default_rng(0)
    decide = jax.jit(barriers.permuted_witness, static_argnums=2)
    for case in range(12):
        o, n, k = 2 + case % 2, 3, 2 + case % 3
        w, z = rng.normal(size=(o, n)), rng.normal(size=(n, k))
        sigma = (relu, leaky, lambda z: z)[case % 3]
        barrier = float(10.0 ** rng.uniform(-2, 3))
        found = decide(jnp.asarray(w), jnp.asarray(z), sigma, barrier)
        s = np.asarray(sigma(z))
        mu = min(np.linalg.norm(w @ s[list(p)]) for p in itertools.permutations(range(n)))
        assert bool(found.holds)
        np.testing.assert_allclose(found.separation, mu, rtol=1e-12)
        for factor in (1.0, 7.0):
            assert smallest_midpoint(w, z, sigma, factor * float(found.m)) > barrier
    # With a zero last layer every permutation gives 0: nothing is claimed.
    failed = barriers.permuted_witness(jnp.zeros((1, 3)), jnp.ones((3, 1)), relu, 1.0)
    assert not bool(failed.holds)
    assert np.isinf(failed.m)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("degree", "sigma"),
    [
        (2.0, np.square),
        (2.0, lambda z: np.where(z > 0, 1.0, -0.3) * z**2),
        (3.0, lambda z: z**3),
        (0.5, lambda z: np.where(z > 0, 1.0, -2.0) * np.abs(z) ** 0.5),
        (1.0, lambda z: np.maximum(z, 0.1 * z)),
    ],
)
def test_every_degree_and_points_away_from_zero_loss(degree, sigma):
    rng = np.random.default_rng(5)
    for case in range(6):
        w, z = rng.normal(size=(2, 4)), rng.normal(size=(4, 3))
        y = w @ sigma(z) + (case % 2) * rng.normal(size=(2, 3))
        barrier = float(10.0 ** rng.uniform(-2, 3))
        found = barriers.permuted_witness(
            *map(jnp.asarray, (w, z)),
            lambda z: jnp.asarray(sigma(np.asarray(z))),
            barrier,
            degree=degree,
            y=jnp.asarray(y),
        )
        assert bool(found.holds)
        loss = np.sum((y - w @ sigma(z)) ** 2)
        for factor in (1.0, 5.0, 100.0):
            m = factor * float(found.m)
            assert smallest_midpoint(w, z, sigma, m, degree, y) > loss + barrier


@pytest.mark.usefixtures("x64")
def test_permuted_hypothesis_fails_where_a_permutation_kills_the_output():
    w, z = np.array([[1.0, -1.0, 0.0]]), np.array([[0.0], [1.0], [1.0]])
    found = barriers.permuted_witness(jnp.asarray(w), jnp.asarray(z), relu, 1.0)
    assert not bool(found.holds)
    assert np.isinf(found.m)
    assert float(found.separation) == 0.0
    # And the claim is false: the best permutation keeps the midpoint at 1/4 for every m.
    for m in (10.0, 1e3, 1e6):
        assert smallest_midpoint(w, z, relu, m) == pytest.approx(0.25, rel=0.2)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_wide_layers_are_certified_by_ranks():
    rng = np.random.default_rng(1)
    w, z = jnp.asarray(rng.normal(size=(8, 12))), jnp.asarray(rng.normal(size=(12, 8)))
    found = barriers.permuted_witness(w, z, lambda z: z, 1.0)
    assert not found.enumerated
    assert bool(found.ranks_overlap)
    assert bool(found.holds)
    # A lower bound of what any permutation gives.
    for seed in range(50):
        p = np.random.default_rng(seed).permutation(12)
        assert float(found.separation) <= np.linalg.norm(w @ z[p])
    # Ranks 3 + 4 <= 12 certify nothing, though the claim may well be true.
    thin = barriers.permuted_witness(w[:3], z[:, :4], lambda z: z, 1.0)
    assert not bool(thin.ranks_overlap)
    assert not bool(thin.holds)
    assert np.isinf(thin.m)


def test_rank_bound_is_below_the_enumerated_minimum():
    rng = np.random.default_rng(2)
    for _ in range(5):
        w, s = rng.normal(size=(4, 6)), rng.normal(size=(6, 5))
        from symjax.barriers._permuted import _product_bound, _smallest_product

        w, s = jnp.asarray(w, jnp.float32), jnp.asarray(s, jnp.float32)
        bound = _product_bound(*(jnp.linalg.svd(a, compute_uv=False) for a in (w, s)), 6)
        assert 0 < float(bound) <= float(_smallest_product(w, s))


def test_activations_that_are_not_homogeneous_are_found_out():
    w, z = jnp.ones((1, 2)), jnp.ones((2, 1))
    assert not bool(barriers.permuted_witness(w, z, jnp.tanh, 1.0).homogeneous)
    assert not bool(barriers.permuted_witness(w, z, jnp.square, 1.0).holds)
    assert bool(barriers.permuted_witness(w, z, leaky, 1.0).homogeneous)


@pytest.mark.slow
def test_eight_units_gradient_and_batch():
    key = jax.random.key(3)
    w = jax.random.normal(key, (3, 8))
    z = jax.random.normal(jax.random.fold_in(key, 1), (8, 6))
    scale = jax.jit(lambda w: barriers.permuted_witness(w, z, relu, 1.0).m)
    assert np.isfinite(scale(w))
    slope = jax.grad(lambda b: barriers.permuted_witness(w[:, :3], z[:3], relu, b).m)(1.0)
    assert float(slope) > 0
    many = jax.vmap(lambda w: barriers.permuted_witness(w, z[:3], relu, 1.0).m)
    assert many(jnp.stack([w[:, :3], 2 * w[:, :3]])).shape == (2,)


def test_bad_arguments():
    with pytest.raises(ValueError, match="do not chain"):
        barriers.permuted_witness(jnp.ones((2, 3)), jnp.ones((2, 4)), relu, 1.0)
    with pytest.raises(ValueError, match="`z` must be a matrix"):
        barriers.permuted_witness(jnp.ones((2, 3)), jnp.ones((3, 4), jnp.int32), relu, 1.0)
    with pytest.raises(ValueError, match="`barrier` must be at least 0"):
        barriers.permuted_witness(jnp.ones((2, 3)), jnp.ones((3, 4)), relu, -1.0)
    with pytest.raises(ValueError, match="`degree` must be a positive number, got 0"):
        barriers.permuted_witness(jnp.ones((2, 3)), jnp.ones((3, 4)), relu, 1.0, degree=0)
    with pytest.raises(ValueError, match=r"`y` must have shape \(2, 4\)"):
        barriers.permuted_witness(jnp.ones((2, 3)), jnp.ones((3, 4)), relu, 1.0, y=jnp.ones((4, 2)))

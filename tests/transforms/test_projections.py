"""Updates lose exactly their component along the orbit, or keep nothing but it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import symjax
from symjax import Leg, Orthogonal, networks
from symjax.transforms import orbit_constrained, quotient_gradient

from ..helpers import assert_close, eps
from .models import CASES, flat, linear_case, tangent_matrix


def noise(params, seed):
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params)))
    leaves, structure = jax.tree.flatten(params)
    draws = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, draws)


@pytest.mark.parametrize("name", CASES)
def test_quotient_is_the_dense_projection(name, x64):
    symmetry, params, loss = CASES[name]()
    transform = quotient_gradient(symmetry)
    update = jax.jit(transform.update)
    # Widths above the rank leave a stabiliser: some columns are dependent.
    left, size, _ = np.linalg.svd(tangent_matrix(symmetry, params))
    basis = left[:, : np.sum(size > 1e-10 * size[0])]
    moves = np.abs(tangent_matrix(symmetry, params)).max(1) > 0
    for seed in range(3):
        u = noise(params, seed)
        projected, state = update(u, transform.init(params), params)
        expected = flat(u) - basis @ (basis.T @ flat(u))
        # Conjugate gradients reach rounding times the condition number, about 100 here.
        np.testing.assert_allclose(flat(projected), expected, atol=1e3 * eps(float))
        assert float(state.residual) < 1e2 * eps(float)
        assert float(state.along) == pytest.approx(
            np.linalg.norm(basis.T @ flat(u)) / np.linalg.norm(flat(u)[moves]), rel=1e-5
        )
    gradient = jax.grad(loss)(params)
    kept, state = update(gradient, transform.init(params), params)
    assert_close(kept, gradient, atol=1e3 * eps(float))
    assert float(state.along) < 1e-6
    assert update._cache_size() == 1


def test_quotient_with_a_stabiliser_and_skew_algebra(x64):
    # W has rank 2 and O(4) acts: one rotation does nothing, and non-skew matrices are no symmetry.
    w = (jax.random.normal(jax.random.key(0), (4, 2)),)
    action = symjax.linear_action(Orthogonal(4), [Leg(0, 0)])
    transform = quotient_gradient(action)
    u = noise(w, 1)
    projected, state = jax.jit(transform.update)(u, transform.init(w), w)
    columns = []
    for i in range(4):
        for j in range(i):
            skew = np.zeros((4, 4))
            skew[i, j], skew[j, i] = 1, -1
            columns.append((skew @ np.asarray(w[0])).ravel())
    matrix = np.stack(columns, 1)
    assert np.linalg.matrix_rank(matrix) == 5
    expected = flat(u) - matrix @ np.linalg.pinv(matrix) @ flat(u)
    np.testing.assert_allclose(flat(projected), expected, atol=1e2 * eps(float))
    assert float(state.residual) < 1e2 * eps(float)


@pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.bfloat16])
def test_dtypes_and_leaves_that_do_not_move_are_kept(dtype):
    action, w, _ = linear_case(dtype)
    params = {"moved": w, "other": jnp.ones(3, dtype), "none": None}
    legs = [
        Leg(f"moved/{leg.leaf}", leg.axis, leg.representation, leg.factor) for leg in action.legs
    ]
    action = symjax.linear_action(action.group, legs)
    transform = quotient_gradient(action)
    updates = jax.tree.map(jnp.ones_like, params)
    update = jax.jit(transform.update)
    projected, state = update(updates, transform.init(params), params)
    assert projected["other"].tolist() == [1.0] * 3
    assert {x.dtype for x in jax.tree.leaves(projected)} == {jnp.dtype(dtype)}
    assert float(state.residual) < 1e3 * eps(jnp.float32)
    constrained, _ = jax.jit(orbit_constrained(action).update)(updates, state, params)
    assert float(jnp.abs(constrained["other"]).max()) == 0
    assert {x.dtype for x in jax.tree.leaves(constrained)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("name", CASES)
def test_orbit_constrained_keeps_the_function_and_reaches_the_best_point(name, x64):
    symmetry, params, loss = CASES[name]()
    # The second objective: the norm. On the orbit its minimum is where the charges vanish.
    optimiser = optax.chain(optax.sgd(0.1), orbit_constrained(symmetry))

    @jax.jit
    def run(params):
        def step(carry, _):
            w, state = carry
            updates, state = optimiser.update(jax.tree.map(lambda x: 2 * x, w), state, w)
            w = optax.apply_updates(w, updates)
            return (w, state), optax.tree.norm(w)

        return jax.lax.scan(step, (params, optimiser.init(params)), None, 300)

    (found, _), norms = run(params)
    assert norms[-1] < 0.99 * np.linalg.norm(flat(params))
    assert np.all(np.diff(norms) < 1e2 * eps(float))
    charge = flat(symjax.transforms.charges(symmetry, found))
    assert np.abs(charge).max() < 1e-6
    # 300 steps, each rounding the parameters once.
    assert float(loss(found)) == pytest.approx(float(loss(params)), rel=300 * 10 * eps(float))


def test_orbit_constrained_is_bounded():
    action, w = symjax.rescaling_action(), (jnp.ones((1, 1)), jnp.ones((1, 1)))
    transform = orbit_constrained(action, radius=0.5)
    updates, _ = transform.update((jnp.full((1, 1), 1e3), jnp.zeros((1, 1))), transform.init(w), w)
    moved = optax.apply_updates(w, updates)
    assert float(jnp.log(moved[0][0, 0])) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.slow
def test_transforms_under_vmap_agree_with_a_loop(x64):
    symmetry = symjax.deep_linear_action((2, 2, 2))
    keys = jax.random.split(jax.random.key(3), 3)
    params = jax.vmap(lambda k: networks.random_weights(k, (2, 2, 2), dtype=jnp.float64))(keys)
    updates = jax.tree.map(lambda x: jnp.sin(7 * x), params)
    transform = quotient_gradient(symmetry)
    one = jax.jit(lambda u, w: transform.update(u, transform.init(w), w)[0])
    together = jax.jit(jax.vmap(one))(updates, params)
    for i in range(3):
        take = lambda tree, i=i: jax.tree.map(lambda x: x[i], tree)
        assert_close(one(take(updates), take(params)), take(together), atol=1e3 * eps(float))


def test_bad_input_is_named():
    action, w, _ = linear_case(jnp.float32)
    with pytest.raises(ValueError, match="`params` must be passed to update: quotient_gradient"):
        quotient_gradient(action).update(w, quotient_gradient(action).init(w))
    with pytest.raises(ValueError, match="`params` must be passed to update: orbit_constrained"):
        orbit_constrained(action).update(w, None)
    with pytest.raises(ValueError, match="`radius` must be a positive number, got 0"):
        orbit_constrained(action, radius=0)
    swap = symjax.linear_action(symjax.Permutation(4), [Leg(0, 0), Leg(1, 1)])
    with pytest.raises(ValueError, match="continuous symmetry; none of the 1 exact ones"):
        quotient_gradient([swap])
    with pytest.raises(ValueError, match=r"`symmetries\[1\]` must be an action.*got int"):
        quotient_gradient([action, 3])
    with pytest.raises(ValueError, match="DataAction"):
        quotient_gradient(symjax.data_action(jnp.tanh, jnp.ones((2, 3))))
    with pytest.raises(ValueError, match="`updates` must have the structure and shapes"):
        quotient_gradient(action).update(w[:1], None, w)

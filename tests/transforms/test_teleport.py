"""A jump keeps the loss to rounding and never ends in a worse place."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from symjax.transforms import teleport

from ..helpers import assert_close, eps
from .models import CASES, LINEAR_SLOW, linear_case, relu_case


def slope(loss, w):
    return float(optax.tree.norm(jax.grad(loss)(w)))


def curvature(loss, w):
    g = jax.grad(loss)(w)
    step = 1e-5
    shifted = lambda s: jax.grad(loss)(jax.tree.map(lambda x, d: x + s * step * d, w, g))
    bent = jax.tree.map(lambda a, b: (a - b) / (2 * step), shifted(1), shifted(-1))
    return float(optax.tree.vdot(g, bent) / optax.tree.vdot(g, g))


@pytest.mark.parametrize("name", LINEAR_SLOW)
def test_jump_raises_the_gradient_norm_and_keeps_the_loss(name, x64):
    symmetry, params, loss = CASES[name]()
    transform = optax.chain(optax.sgd(0.02), teleport(symmetry, every=2, steps=12, radius=0.7))
    update = jax.jit(lambda g, s, w: transform.update(g, s, w, value_fn=loss))
    state = transform.init(params)
    plain, w = optax.sgd(0.02), params
    for i in range(4):
        gradient = jax.grad(loss)(w)
        updates, state = update(gradient, state, w)
        straight = optax.apply_updates(w, plain.update(gradient, plain.init(w), w)[0])
        w = optax.apply_updates(w, updates)
        if i % 2 == 0:
            assert_close(w, straight, atol=2 * eps(float))
            continue
        assert float(loss(w)) == pytest.approx(float(loss(straight)), rel=1e3 * eps(float))
        assert slope(loss, w) > 1.1 * slope(loss, straight)
        assert float(state[-1].before) == pytest.approx(slope(loss, straight), rel=1e-5)
        assert float(state[-1].after) == pytest.approx(slope(loss, w), rel=1e-5)
    assert int(state[-1].count) == 4
    assert update._cache_size() == 1


def test_jump_stays_in_the_ball(x64):
    action, (v, u), loss = relu_case()
    transform = teleport(action, every=1, steps=20, radius=0.25)
    still = jax.tree.map(jnp.zeros_like, (v, u))
    updates, _ = jax.jit(lambda s, w: transform.update(s, transform.init(w), w, value_fn=loss))(
        still, (v, u)
    )
    logs = np.log(np.asarray(v + updates[0])[:, 0] / np.asarray(v)[:, 0])
    # The gradient norm of a homogeneous network grows without bound along the orbit.
    assert np.linalg.norm(logs) == pytest.approx(0.25, rel=1e-3)


def test_jump_lowers_the_curvature_along_the_gradient(x64):
    action, params, loss = relu_case()
    transform = teleport(action, every=1, steps=12, objective="curvature")
    still = jax.tree.map(jnp.zeros_like, params)
    updates, state = jax.jit(lambda s, w: transform.update(s, transform.init(w), w, value_fn=loss))(
        still, params
    )
    moved = optax.apply_updates(params, updates)
    assert float(loss(moved)) == pytest.approx(float(loss(params)), rel=1e3 * eps(float))
    before, after = curvature(loss, params), curvature(loss, moved)
    assert after < 0.98 * before  # this network is nearly balanced: there is little to gain
    # Float32 fields of the state, and a central difference with an error of about 1e-8.
    assert float(state.before) == pytest.approx(before, rel=1e-5)
    assert float(state.after) == pytest.approx(after, rel=1e-5)


def test_at_a_minimum_and_at_half_precision_nothing_breaks():
    action, params, _ = relu_case(jnp.bfloat16)
    flat_loss = lambda w: 0.0 * sum(jnp.sum(x.astype(jnp.float32)) for x in w)
    transform = teleport(action, every=1)
    updates, _ = transform.update(
        jax.tree.map(jnp.zeros_like, params), transform.init(params), params, value_fn=flat_loss
    )
    assert all(x.dtype == jnp.bfloat16 and not x.any() for x in updates)


def test_before_the_first_jump_nothing_stops_debug_nans():
    action, params, loss = relu_case(jnp.float32)
    transform = teleport(action, every=2, steps=1)
    still = jax.tree.map(jnp.zeros_like, params)
    with jax.debug_nans(True), jax.debug_infs(True):
        update = jax.jit(lambda s: transform.update(still, s, params, value_fn=loss)[1])
        first = update(jax.jit(transform.init)(params))
        second = update(first)
    assert first.change is None
    assert float(first.before) == float(first.after) == 0
    assert (int(first.jumps), int(second.jumps)) == (0, 1)
    assert float(second.before) == pytest.approx(slope(loss, params), rel=1e-5)


def test_bad_input_is_named():
    action, params, _ = linear_case(jnp.float32)
    with pytest.raises(ValueError, match="`every` must be a positive integer, got 0"):
        teleport(action, every=0)
    with pytest.raises(ValueError, match="`steps`"):
        teleport(action, every=1, steps=1.5)  # type: ignore
    with pytest.raises(ValueError, match="`radius`"):
        teleport(action, every=1, radius=-1)
    with pytest.raises(ValueError, match="`objective` must be 'gradient_norm'"):
        teleport(action, every=1, objective="sharpness")  # type: ignore
    transform = teleport(action, every=1)
    with pytest.raises(ValueError, match="`params` must be passed"):
        transform.update(params, transform.init(params))
    with pytest.raises(ValueError, match="`value_fn` must be passed to update"):
        transform.update(params, transform.init(params), params)

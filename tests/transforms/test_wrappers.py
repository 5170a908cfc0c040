"""Inside Optax's own wrappers: schedules over every number, and frozen leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import symjax
from symjax import Leg, PositiveScaling
from symjax.transforms import orbit_constrained, quotient_gradient, teleport, track_charges

from .models import flat, linear_case, tangent_matrix


def three_layers(dtype=jnp.float64):
    """Two hidden layers of ReLU units, each with scales of its own: a, b, c."""
    draw = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape, dtype)
    params = {"a": draw(0, 4, 3), "b": draw(1, 5, 4), "c": draw(2, 2, 5)}
    scales = [
        symjax.linear_action(PositiveScaling(n), [Leg(x, 0), Leg(y, 1, "covector")])
        for n, x, y in ((4, "a", "b"), (5, "b", "c"))
    ]
    return tuple(scales), params


def outputs(p, x):
    return p["c"] @ jax.nn.relu(p["b"] @ jax.nn.relu(p["a"] @ x))


def run(transform, params, gradient, steps=3):
    state, update = transform.init(params), jax.jit(transform.update)
    for _ in range(steps):
        updates, state = update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_a_schedule_of_the_radius_bounds_each_step(x64):
    action, w = symjax.rescaling_action(), (jnp.ones((1, 1)), jnp.ones((1, 1)))
    make = optax.inject_hyperparams(orbit_constrained, static_args=("symmetries",))
    far = lambda w: (jnp.full((1, 1), 1e3), jnp.zeros((1, 1)))
    halving = optax.exponential_decay(0.5, 1, 0.5)
    found, _ = run(make(action, radius=halving), w, far)
    assert float(jnp.log(found[0][0, 0])) == pytest.approx(0.5 + 0.25 + 0.125, rel=1e-12)
    for radius in (-1.0, 0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="`radius` must be a positive number"):
            orbit_constrained(action, radius=jnp.asarray(radius))
    below = jax.jit(lambda r: orbit_constrained(action, radius=r).update(far(w), None, w)[0])
    assert bool(jnp.isnan(below(jnp.asarray(-1.0))[0]).all())


def test_every_number_of_teleport_may_be_scheduled(x64):
    action, w = symjax.rescaling_action(), (jnp.full((1, 1), 1.1), jnp.ones((1, 1)))
    loss = lambda w: (w[0] * w[1])[0, 0] ** 2
    static = ("symmetries", "objective")
    make = optax.inject_hyperparams(teleport, static_args=static)
    scheduled = make(action, every=2, steps=lambda _: jnp.asarray(8), radius=lambda _: 1.0)
    plain = teleport(action, every=2, steps=8, radius=1.0)
    ends = []
    for transform in (scheduled, plain):
        p, state = w, transform.init(w)
        update = jax.jit(lambda g, s, p, t=transform: t.update(g, s, p, value_fn=loss))
        for _ in range(4):
            updates, state = update(jax.tree.map(lambda x: -0.1 * x, jax.grad(loss)(p)), state, p)
            p = optax.apply_updates(p, updates)
        ends.append(p)
    np.testing.assert_allclose(flat(ends[0]), flat(ends[1]), rtol=1e-12)
    assert np.abs(flat(ends[0]) - flat(w)).max() > 0.3
    with pytest.raises(ValueError, match="`every` must be a positive integer"):
        teleport(action, every=jnp.asarray(0))


@pytest.mark.parametrize(
    "wrap", ["masked", pytest.param("multi_transform", marks=pytest.mark.slow)]
)
def test_a_frozen_leaf_passes_through_and_the_symmetries_beside_it_work(wrap, x64):
    actions, params = three_layers()
    gradient = jax.tree.map(lambda x: jnp.sin(7 * x), params)

    def wrapped(transform):
        if wrap == "masked":
            return optax.masked(transform, {"a": True, "b": True, "c": False})
        labels = {"a": "moves", "b": "moves", "c": "stays"}
        return optax.multi_transform({"moves": transform, "stays": optax.identity()}, labels)

    transform = wrapped(quotient_gradient(actions))
    update = jax.jit(transform.update)
    found, _ = update(gradient, transform.init(params), params)
    assert found["c"].tolist() == gradient["c"].tolist()
    # The scales between a and b are projected away, those that move c are not.
    inner = {name: params[name] for name in "ab"}
    left, size, _ = np.linalg.svd(tangent_matrix(actions[0], inner), full_matrices=False)
    assert size.min() > 1e-6
    u = flat({name: gradient[name] for name in "ab"})
    np.testing.assert_allclose(
        flat({name: found[name] for name in "ab"}), u - left @ (left.T @ u), atol=1e-12
    )
    kept, _ = run(
        optax.chain(optax.sgd(0.1), wrapped(orbit_constrained(actions))), params, lambda p: p
    )
    x = jax.random.normal(jax.random.key(5), (3, 8))
    frozen = {**kept, "c": params["c"]}
    np.testing.assert_allclose(outputs(frozen, x), outputs(params, x), rtol=1e-10, atol=1e-12)
    assert float(jnp.abs(kept["a"] - params["a"]).max()) > 1e-3
    _, state = run(wrapped(track_charges(actions)), params, lambda p: p)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(state))


def test_positions_and_factors_of_a_product_are_those_of_the_whole_model(x64):
    action, w, _ = linear_case()
    mask = (True, True, False)
    transform = optax.masked(quotient_gradient(action), mask)
    updates = jax.tree.map(lambda x: jnp.cos(5 * x), w)
    found, _ = transform.update(updates, transform.init(w), w)
    assert found[2].tolist() == updates[2].tolist()
    first = symjax.deep_linear_action((3, 4, 3))  # what is left: the first hidden layer's GL
    expected, _ = quotient_gradient(first).update(updates[:2], None, w[:2])
    np.testing.assert_allclose(flat(found[:2]), flat(expected), atol=1e-12)


def test_a_frozen_branch_and_a_model_with_nothing_left_to_follow(x64):
    actions, params = three_layers()
    nested = {"in": {"a": params["a"]}, "b": params["b"]}
    action = symjax.linear_action(PositiveScaling(4), [Leg("in/a", 0), Leg("b", 1, "covector")])
    for transform, left in ((quotient_gradient(action), 1.0), (orbit_constrained(action), 0.0)):
        masked = optax.masked(transform, {"in": False, "b": True})
        found, state = masked.update(nested, masked.init(nested), nested)
        np.testing.assert_array_equal(found["in"]["a"], nested["in"]["a"])
        np.testing.assert_array_equal(found["b"], left * nested["b"])
        assert float(state.inner_state.along) == 0.0
    jump = optax.masked(teleport(actions, every=1), {"a": True, "b": True, "c": False})
    with pytest.raises(ValueError, match="put teleport outside"):
        jump.update(params, jump.init(params), params, value_fn=lambda p: 0.0)

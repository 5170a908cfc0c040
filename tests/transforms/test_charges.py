"""Charges are what theory says, stay under gradient flow, and drift by closed forms otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import symjax
from symjax import ComplexScaling, Leg, Orthogonal, Translation
from symjax.transforms import charge_drift, charges, track_charges

from ..helpers import eps
from .models import CASES, flat, linear_case, relu_case


def jit_charges(symmetry):
    return jax.jit(lambda w: charges(symmetry, w))


def test_charges_of_a_linear_network_are_the_balance_of_its_layers(x64):
    action, (a, b, c), _ = linear_case()
    first, second = jit_charges(action)((a, b, c))[0]
    np.testing.assert_allclose(first, a @ a.T - b.T @ b, atol=20 * eps(float))
    np.testing.assert_allclose(second, b @ b.T - c.T @ c, atol=20 * eps(float))


@pytest.mark.parametrize("degree", [1, 2, 0.5])
def test_charges_of_homogeneous_units(degree, x64):
    _, (v, u), _ = relu_case()
    (charge,) = charges(symjax.neuron_rescaling_action(5, degree), (v, u))
    expected = np.sum(np.square(v), 1) - degree * np.sum(np.square(u), 0)
    np.testing.assert_allclose(charge, expected, atol=20 * eps(float))


def test_charges_of_other_groups(x64):
    x = jax.random.normal(jax.random.key(0), (4, 3))
    rotation = symjax.linear_action(Orthogonal(4), [Leg(0, 0)])
    assert np.abs(charges(rotation, (x,))[0]).max() < 10 * eps(float)
    shift = symjax.linear_action(Translation(4), [Leg(0, 0)])
    np.testing.assert_allclose(charges(shift, (x,))[0], np.sum(x, 1), atol=10 * eps(float))
    turn = symjax.linear_action(ComplexScaling(2), [Leg(0, 0)])
    (charge,) = charges(turn, (x,))
    pairs = np.sum(np.square(np.reshape(x, (2, 2, 3))), (1, 2))
    np.testing.assert_allclose(charge, np.stack([pairs, 0 * pairs], 1), atol=10 * eps(float))


def flow(slope, params, step, steps):
    """Runge-Kutta of fourth order for w' = slope(w)."""
    add = lambda w, c, k: jax.tree.map(lambda x, y: x + c * y, w, k)

    def advance(_, w):
        k1 = slope(w)
        k2 = slope(add(w, step / 2, k1))
        k3 = slope(add(w, step / 2, k2))
        k4 = slope(add(w, step, k3))
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        return add(w, step, mean)

    return jax.lax.fori_loop(0, steps, advance, params)


@pytest.mark.parametrize("name", ["linear", "relu", pytest.param("mlp", marks=pytest.mark.slow)])
def test_gradient_flow_conserves_the_charges_and_weight_decay_shrinks_them(name, x64):
    symmetry, params, loss = CASES[name]()
    slope = lambda w, decay: jax.tree.map(lambda g, x: -g - decay * x, jax.grad(loss)(w), w)
    run = jax.jit(lambda w, decay: flow(lambda v: slope(v, decay), w, 2e-3, 500))
    before = flat(charges(symmetry, params))
    after = run(params, 0.0)
    assert float(loss(after)) < 0.9 * float(loss(params))
    # Local error of fifth order in the step; a ReLU's kinks cost one order of the step each.
    tolerance = 1e-10 if name == "linear" else 1e-5
    np.testing.assert_allclose(flat(charges(symmetry, after)), before, atol=tolerance)
    decayed = flat(charges(symmetry, run(params, 0.3)))
    np.testing.assert_allclose(decayed, np.exp(-2 * 0.3) * before, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_one_step_of_sgd_drifts_by_the_charge_of_the_gradient(name, x64):
    symmetry, params, loss = CASES[name]()
    gradient, eta = jax.grad(loss)(params), 0.1
    step = jax.tree.map(lambda g: -eta * g, gradient)
    first, second = jax.jit(lambda w, u: charge_drift(symmetry, w, u))(params, step)
    assert np.abs(flat(first)).max() < 50 * eps(float)
    np.testing.assert_allclose(
        flat(second), eta**2 * flat(jit_charges(symmetry)(gradient)), atol=10 * eps(float)
    )
    change = flat(jit_charges(symmetry)(optax.apply_updates(params, step)))
    change -= flat(jit_charges(symmetry)(params))
    np.testing.assert_allclose(change, flat(first) + flat(second), atol=50 * eps(float))


def run(optimiser, params, loss, steps):
    @jax.jit
    def scan(params):
        def step(carry, _):
            w, state = carry
            gradient = jax.grad(loss)(w)
            updates, state = optimiser.update(gradient, state, w)
            return (optax.apply_updates(w, updates), state), (gradient, updates)

        return jax.lax.scan(step, (params, optimiser.init(params)), None, steps)

    return scan(params)


def test_monitor_splits_the_drift_of_weight_decay_and_momentum(x64):
    symmetry, params, loss = linear_case()
    eta, decay, beta, steps = 0.02, 0.1, 0.9, 20
    each = lambda trees: [jax.tree.map(lambda x, i=i: x[i], trees) for i in range(steps)]
    compiled = jit_charges(symmetry)
    charge = lambda w: flat(compiled(w))

    # Decoupled weight decay: Q -> (1 - eta decay)^2 Q + eta^2 Q(grad), since <grad, A_m w> = 0.
    optimiser = optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(eta), track_charges(symmetry)
    )
    (w, state), (gradients, _) = run(optimiser, params, loss, steps)
    expected = charge(params)
    for gradient in each(gradients):
        expected = (1 - eta * decay) ** 2 * expected + eta**2 * charge(gradient)
    np.testing.assert_allclose(charge(w), expected, atol=1e-13)

    # Heavy ball: v <- beta v + g, w <- w - eta v. With p = <v, A_m w>, p <- beta (p - eta Q(v)).
    optimiser = optax.chain(optax.sgd(eta, momentum=beta), track_charges(symmetry))
    (w, state), (_, updates) = run(optimiser, params, loss, steps)
    expected, p, speed = charge(params), 0.0, 0.0
    for u in each(updates):
        p = beta * (p - eta * speed)
        speed = charge(u) / eta**2
        expected = expected - 2 * eta * p + eta**2 * speed
    np.testing.assert_allclose(charge(w), expected, atol=1e-13)
    monitor = state[-1]
    np.testing.assert_allclose(flat(monitor.initial), charge(params), atol=1e-15)
    np.testing.assert_allclose(charge(w) - charge(params), flat(monitor.drift), atol=1e-13)
    second = eta**2 * sum(charge(u) / eta**2 for u in each(updates))
    np.testing.assert_allclose(flat(monitor.second_order), second, atol=1e-13)
    relative = np.linalg.norm(charge(w) - charge(params)) / np.linalg.norm(charge(params))
    assert float(monitor.relative_drift) == pytest.approx(relative, rel=1e-10)


def test_monitor_changes_nothing_and_needs_parameters():
    symmetry, params, _ = relu_case(jnp.float32)
    monitor = track_charges(symmetry)
    updates, _ = monitor.update(params, monitor.init(params), params)
    assert updates is params
    with pytest.raises(ValueError, match="`params` must be passed to update: track_charges"):
        monitor.update(params, monitor.init(params))

"""The closed-form connecting curve against a Bezier curve trained between the same two minima.

The trained curve is that of Garipov et al. 2018: a quadratic Bezier curve, 10,000 steps of Adam on
the loss at a random t, the best of three learning rates by the barrier reached (its time is that of
one rate). Both start from the same ends and are evaluated at the same 33 times, compiled, on one
core, in float64; times are CPU seconds. The networks are the paper's figure 3(b), at its printed
sizes, and a network trained on scikit-learn's digits.

    python benchmarks/connecting_curve.py
"""

from _timing import best_of, machine, table  # isort: skip; it pins to one core

import argparse
import time

import jax
import jax.numpy as jnp
import optax

from symjax import barriers, networks
from symjax.actions import data_action, rescaling_action
from symjax.curves import chord, connecting_curve
from symjax.studies import digits
from symjax.training import minimise, solve_last_layer, train_curve

RATES = (1e-4, 3e-4, 1e-3)
TIMES = 33
STEPS = 10_000
IMAGES = 512


def leaky_relu(z):
    return jax.nn.leaky_relu(z, 0.01)


def figure3b(key):
    """A minimum of |U sigma(V X) - Y|^2: X (16, 8), 32 hidden units, Y (64, 8); and its loss."""
    for_x, for_y, for_w = jax.random.split(key, 3)
    x, y = jax.random.normal(for_x, (16, 8)), jax.random.normal(for_y, (64, 8))
    v, u = networks.random_weights(for_w, (16, 32, 64), dtype=jnp.float64)
    # With more hidden units than samples the last layer alone reaches a loss of zero.
    best = solve_last_layer(u, leaky_relu(v @ x), y)
    return networks.squared_loss(networks.two_layer(leaky_relu), x, y), (v, best.weights), x


def digits_network(key):
    """A ReLU network trained on the first digits until Adam's steps no longer help much."""
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    x, labels = jnp.asarray(images[:IMAGES].T / 16), jnp.asarray(targets[:IMAGES])

    def loss(params):
        scores = digits.logits(params, x).T
        return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()

    weights = networks.random_weights(key, digits.WIDTHS, scale=2**0.5, dtype=jnp.float64)
    start = {
        name: {"weight": w, "bias": jnp.zeros(len(w))}
        for name, w in zip(("first", "second", "last"), weights, strict=True)
    }
    train = jax.jit(
        lambda w: minimise(loss, w, optimiser=optax.adam(5e-3), steps=1000, tolerance=1e-4)
    )
    return loss, train(start).params


def cases():
    """Name, loss, action, parameters, group element."""
    keys = jax.random.split(jax.random.key(0), 4)
    loss, w, x = figure3b(keys[0])
    yield "figure 3(b), rescaling", loss, rescaling_action(1), w, jnp.asarray(3.0)
    action = data_action(leaky_relu, x)
    m = 0.3 * jax.random.normal(keys[1], (32, 32)) / 32**0.5
    yield "figure 3(b), eq. (6)", loss, action, w, action.group.exp(m)
    loss, w = digits_network(keys[2])
    action = digits.symmetry()
    yield "digits, rescaling", loss, action, w, action.group.random(keys[3])


def trained(loss, start, end, rate):
    """The Bezier curve for one learning rate and the seconds of its training, compiled."""
    run = jax.jit(
        lambda a, b, key: train_curve(loss, a, b, key=key, optimiser=optax.adam(rate), steps=STEPS)
    )
    compiled = run.lower(start, end, jax.random.key(1)).compile()
    began = time.process_time()
    curve = jax.block_until_ready(compiled(start, end, jax.random.key(1)))
    return curve, time.process_time() - began


def row(name, loss, action, w, g):
    ts = jnp.linspace(0.0, 1.0, TIMES)
    walk = jax.jit(lambda w, g: jax.lax.map(connecting_curve(action, w, g), ts))
    measure = jax.jit(lambda curve: barriers.barrier(loss, curve))
    curve = connecting_curve(action, w, g)
    seconds = best_of(walk, w, g, repeats=30)

    start, end = curve(0.0), curve(1.0)
    runs = {rate: trained(loss, start, end, rate) for rate in RATES}
    reached = {rate: float(measure(bezier)) for rate, (bezier, _) in runs.items()}
    best = min(reached, key=reached.get)
    bezier, training = runs[best]
    peer = training + best_of(jax.jit(lambda c: jax.lax.map(c, ts)), bezier)
    return {
        "curve": name,
        "loss at the ends": float(loss(start)),
        "closed form, ms": 1e3 * seconds,
        "Bezier, ms": 1e3 * peer,
        "times faster": peer / seconds,
        "barrier, closed form": float(measure(curve)),
        "barrier, Bezier": reached[best],
        "best rate": best,
        "barrier, chord": float(measure(chord(start, end))),
    }


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(machine())
    print(f"float64; Bezier curves: {STEPS} steps of Adam, best of the rates {RATES}")
    with jax.enable_x64(True):
        print(table([row(*case) for case in cases()]))


if __name__ == "__main__":
    main()

"""Bounds and barriers lower for CPU, CUDA and TPU."""

import jax
import jax.numpy as jnp
import pytest

from symjax import barriers, bounds

W1, W2, X = jnp.ones((3, 2)), jnp.ones((2, 3)), jnp.ones((2, 4))


def line(t):
    return {"w": t * jnp.ones(3)}


def total(w):
    return jnp.sum(w["w"] ** 2)


CASES = {
    "chord_deviation": lambda s: bounds.chord_deviation(s, 1.0, 1.1),
    "best_chord_deviation": lambda s: bounds.best_chord_deviation(
        0.5, s, max_curvature=1.0, length=1.1, total_curvature=1.1, curve=line
    ),
    "sampled_chord_deviation": lambda s: bounds.sampled_chord_deviation(lambda t: line(s * t)),
    "chord_loss": lambda s: bounds.chord_loss(s, bounds.chord_deviation(1.0, 1.0, 1.1)),
    "smooth_chord_loss": lambda s: bounds.smooth_chord_loss(
        s, bounds.chord_deviation(1.0, 1.0, 1.1)
    ),
    "two_layer_chord_loss": lambda s: bounds.two_layer_chord_loss(
        s, 1.0, bounds.chord_deviation(1.0, 1.0, 1.1)
    ),
    "asymptotic_chord_loss": lambda s: bounds.asymptotic_chord_loss(total, lambda t: line(s * t)),
    "orbit_loss": lambda s: bounds.orbit_loss(1.0, s, 1.0, 4.0, 1.0),
    "output_change": lambda s: bounds.output_change(s * W2, W1, jnp.eye(3), X, jax.nn.relu),
    "loss_along": lambda s: barriers.loss_along(total, lambda t: line(s * t), jnp.zeros(3)),
    "barrier": lambda s: barriers.barrier(total, lambda t: line(s * t)),
    "rescaling": lambda s: barriers.rescaling(1.0, s, 1.0),
    "rescaling_witness": lambda s: barriers.rescaling_witness(s, 1.0, 1.0),
    "paper_rescaling": lambda s: barriers.paper_rescaling(s, 1.0, 1.0),
    "permuted_witness": lambda s: barriers.permuted_witness(s * W2, W1, jax.nn.relu, 1.0),
    "factorisation_distance": lambda s: barriers.factorisation_distance(W1, s * W2, 2.0),
    "factorisation_witness": lambda s: barriers.factorisation_witness(W1, s * W2, 2.0),
    "linear_chord": lambda s: barriers.linear_chord((W1, W2), (s * W1, W2), X, X),
}


@pytest.mark.parametrize("name", CASES)
def test_lowers_for_every_platform_with_its_gradient(name):
    def values(s):
        leaves = jax.tree.leaves(CASES[name](s))
        return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]

    slopes = lambda s: jax.jvp(values, (s,), (jnp.ones_like(s),))
    exported = jax.export.export(jax.jit(slopes), platforms=("cpu", "cuda", "tpu"))(jnp.ones(()))
    assert exported.platforms == ("cpu", "cuda", "tpu")

"""What is said about a model does not depend on its coordinates, or it is said to be uncertain.

Each diagnostic is asked about a model and about what elements of large condition make of it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import canonical

WIDTHS = (3, 4, 2)
#: name: (the model, the action, an element of a given condition that moves (W_1, W_2))
GAUGES = {
    "linear": (
        lambda w, x: w[1] @ (w[0] @ x),
        symjax.deep_linear_action(WIDTHS),
        lambda q, size: q[0] @ np.diag(np.geomspace(size**-0.5, size**0.5, 4)) @ q[1],
    ),
    "relu": (
        lambda w, x: w[1] @ jax.nn.relu(w[0] @ x),
        symjax.neuron_rescaling_action(4),
        lambda q, size: np.diag(np.geomspace(1 / size, size, 4)),
    ),
}


def dimension(action, apply, w):
    found = canonical.orbit_dimension(action, w)
    return int(found.orbit), bool(found.certain)


def redundancy(action, apply, w):
    found = symjax.redundancy(apply, w, jnp.ones(w[0].shape[1]))
    return int(found), found.certain


def completeness(action, apply, w):
    found = symjax.completeness([action], apply, w, jnp.ones(w[0].shape[1]))
    return (found.explained, found.missing, found.complete), found.certain


def minimum_norm(action, apply, w):
    found = canonical.minimum_norm(action, w)
    return float(f"{float(found.norm):.6g}"), bool(found.converged)


def representative(action, apply, w):
    found = canonical.representative(action, w)
    return tuple(np.round(x, 4).tolist() for x in found.params), not found.undecided


DIAGNOSTICS = (dimension, redundancy, completeness, minimum_norm, representative)


@pytest.mark.slow
@pytest.mark.parametrize("ask", DIAGNOSTICS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", GAUGES)
def test_diagnostics_are_those_of_the_orbit(name, ask, x64):
    apply, action, element = GAUGES[name]
    rng = np.random.default_rng(1)
    w = (rng.standard_normal((4, 3)), rng.standard_normal((2, 4)))
    if ask in (minimum_norm, representative):
        # Wider than its ends, the linear network's orbit is not closed: no point is the shortest.
        w = (rng.standard_normal((4, 6)), rng.standard_normal((5, 4)))
    q = np.linalg.qr(rng.standard_normal((2, 4, 4)))[0]
    right, certain = ask(action, apply, tuple(map(jnp.asarray, w)))
    assert certain
    answers = []
    for size in (1e2, 1e4, 1e6):
        g = element(q, size)
        moved = (jnp.asarray(g @ w[0]), jnp.asarray(w[1] @ np.linalg.inv(g)))
        answer, certain = ask(action, apply, moved)
        assert answer == right or not certain, (size, answer, right)
        answers.append(certain)
    assert answers[0]

"""Activation matching from the program: what axes hold, and planted elements found by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import symjax
from symjax import matching

from .models import draw_element, forward, mlp, mlp_symmetries

WIDTHS = (4, 6, 5, 3)
X = [jax.random.normal(k, (32, WIDTHS[0])) for k in jax.random.split(jax.random.key(7), 3)]


@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
def test_planted_elements_of_a_perceptron_are_found_on_activations(activation):
    names = {"relu": jax.nn.relu, "tanh": jnp.tanh, "linear": lambda z: z}
    widths = (4, 3, 3, 3) if activation == "linear" else WIDTHS
    apply, symmetries = forward(names[activation]), mlp_symmetries(widths, activation)
    a = mlp(jax.random.key(0), widths)
    element = draw_element(jax.random.key(1), symmetries)
    b = matching.apply_element(symmetries, element, a)
    found = symjax.match(symmetries, a, b, apply=apply, inputs=X, by="activations", restarts=0)
    assert found.after < 1e-3 * found.before
    assert found.change < 1e-5
    for s, g, h in zip(symmetries, element, found.element, strict=True):
        if s.name.startswith("units"):
            back = s.group.compose(g, h)
            assert np.allclose(back, s.group.identity()), s.name


def test_units_are_those_of_the_largest_sum_of_correlations():
    apply, symmetries = forward(jax.nn.relu), mlp_symmetries((4, 6, 3), "relu")[:1]
    a, b = (mlp(k, (4, 6, 3)) for k in jax.random.split(jax.random.key(3)))
    found = symjax.match(symmetries, a, b, apply=apply, inputs=X, by="activations", restarts=0)
    # What the next layer reads: the units after the nonlinearity.
    x = np.concatenate(X)
    layers = [(np.asarray(p[0]["w"]), np.asarray(p[0]["b"])) for p in (a, b)]
    held = [np.maximum(x @ w.T + bias, 0) for w, bias in layers]
    total = np.nan_to_num(np.corrcoef(held[0].T, held[1].T)[:6, 6:])
    gain = lambda h: total[np.arange(6), np.asarray(h)].sum()
    best = linear_sum_assignment(total, maximize=True)[1]
    assert gain(found.element[0]) > gain(best) - 1e-4


def test_what_cannot_be_matched_on_activations_is_refused():
    symmetries = mlp_symmetries((4, 6, 3), "relu")[:1]
    a, b = (mlp(k, (4, 6, 3)) for k in jax.random.split(jax.random.key(3)))
    call = lambda **more: symjax.match(symmetries, a, b, by="activations", **more)
    with pytest.raises(ValueError, match="needs `apply` and `inputs`"):
        call()
    with pytest.raises(ValueError, match="holds no batch"):
        call(apply=forward(jax.nn.relu), inputs=[])
    blind = lambda p, x: x * jnp.sum(p[0]["w"])
    with pytest.raises(ValueError, match="cannot match 'units 0'"):
        call(apply=blind, inputs=X)
    with pytest.raises(ValueError, match="`by` must be"):
        symjax.match(symmetries, a, b, by="gradients")

"""The paper's networks against their formulas in NumPy, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax import networks

from .helpers import assert_close, eps

WIDTHS = (5, 4, 3, 2)


def leaky(z):
    return jnp.where(z > 0, z, 0.1 * z)


def numpy_leaky(z):
    return np.where(z > 0, z, 0.1 * z)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.usefixtures("x64")
def test_networks_are_their_formulas(key, dtype):
    params = networks.random_weights(key, WIDTHS, dtype=dtype)
    x = jax.random.normal(jax.random.key(1), (5, 7), dtype)
    w1, w2, w3 = (np.asarray(w, np.float64) for w in params)
    z = np.asarray(x, np.float64)
    # Three products of at most five terms each, all numbers of order one.
    atol = 50 * eps(dtype)
    assert_close(networks.linear(params, x), (w3 @ w2 @ w1 @ z).astype(dtype), atol=atol)
    expected = w3 @ numpy_leaky(w2 @ numpy_leaky(w1 @ z))
    assert_close(networks.homogeneous(leaky)(params, x), expected.astype(dtype), atol=atol)
    expected = w2 @ np.tanh(w1 @ z)
    assert_close(networks.two_layer(jnp.tanh)(params[:2], x), expected.astype(dtype), atol=atol)


def test_homogeneous_network_is_homogeneous(key):
    params = networks.random_weights(key, WIDTHS)
    x = jax.random.normal(jax.random.key(1), (5, 7))
    w1, w2, w3 = params
    square = networks.homogeneous(lambda z: z**2)
    # A power of two scales exactly, so the two outputs agree to the last bit.
    assert_close(square((w1, 2 * w2, w3 / 4), x), square(params, x))


def test_half_precision_is_computed_in_float32(key):
    params = networks.random_weights(key, (64, 64, 64), dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(1), (64, 3), jnp.bfloat16)
    output = networks.two_layer(jnp.tanh)(params, x)
    wide = tuple(w.astype(jnp.float32) for w in params)
    expected = networks.two_layer(jnp.tanh)(wide, x.astype(jnp.float32))
    assert_close(output, expected.astype(jnp.bfloat16))


def test_random_weights_have_the_stated_spread(key):
    w1, w2 = networks.random_weights(key, (400, 300, 200), scale=2.0)
    # The deviation of N samples is off by 1 / sqrt(2 N) of itself; five times that.
    assert np.std(w1) == pytest.approx(2 / 20, rel=5 / np.sqrt(2 * w1.size))
    assert np.std(w2) == pytest.approx(2 / np.sqrt(300), rel=5 / np.sqrt(2 * w2.size))


def test_squared_loss_is_the_sum_of_squares(key):
    params = networks.random_weights(key, (3, 2, 4))
    x, y = jnp.ones((3, 5)), jnp.zeros((4, 5))
    loss = networks.squared_loss(networks.linear, x, y)
    expected = np.sum(np.asarray(networks.linear(params, x), np.float64) ** 2)
    assert float(loss(params)) == pytest.approx(expected, rel=40 * eps(jnp.float32))


def test_widths_of_one_and_a_single_weight():
    assert networks.linear((jnp.full((1, 1), 3.0),), jnp.full((1, 1), 2.0)).tolist() == [[6.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: networks.linear(p[:1] + p[2:], x), r"`params\[1\]` must be a .* 4 columns"),
        (lambda p, x: networks.linear((), x), "`params` must hold at least one weight"),
        (lambda p, x: networks.linear(p, x[:, 0]), "`x` must be a real matrix"),
        (lambda p, x: networks.linear(p, x.astype(jnp.bfloat16)), "must be a bfloat16 matrix"),
        (lambda p, x: networks.linear((p[0].astype(jnp.int32),), x), "got int32"),
        (lambda p, x: networks.two_layer(leaky)(p, x), "the pair"),
        (lambda p, x: networks.random_weights(jax.random.key(0), (3,)), "`widths`"),
        (lambda p, x: networks.random_weights(jax.random.key(0), (3, 0)), "`widths`"),
        (
            lambda p, x: networks.random_weights(jax.random.key(0), (3, 1), dtype=jnp.int32),
            "`dtype`",
        ),
        (lambda p, x: networks.squared_loss(networks.linear, x, x)(p), "`y` must have the shape"),
    ],
)
def test_bad_input_is_named(key, call, message):
    params = networks.random_weights(key, WIDTHS)
    with pytest.raises(ValueError, match=message):
        call(params, jnp.ones((5, 7)))

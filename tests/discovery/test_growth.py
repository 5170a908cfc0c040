"""Discovery takes at most about the square of the length of a program: visits are counted.

A visit is a line executed inside of `symjax.discovery`: a number that no load of the machine moves.
"""

import os
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax


@pytest.fixture(autouse=True)
def biases_are_added_to_rows():
    with jax.numpy_rank_promotion("allow"):
        yield


ROOT = os.path.dirname(symjax.discovery.__file__)
X = np.ones((3, 4), np.float32)


def ones(*shape):
    return np.ones(shape, np.float32)


def visits(apply, params, *inputs):
    """How many lines discovery executes."""
    count = 0

    def line(frame, event, argument):
        nonlocal count
        count += event == "line"
        return line

    def call(frame, event, argument):
        return line if frame.f_code.co_filename.startswith(ROOT) else None

    sys.settrace(call)
    try:
        symjax.find_symmetries(apply, params, *inputs, check=False)
    finally:
        sys.settrace(None)
    return count


def norm(x, gain):
    y = x - x.mean(-1, keepdims=True)
    return y * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5) * gain


def nested(n):
    """Streams beside streams: the same tensors are reached by 2^n ways."""

    def apply(p, x):
        for w in p:
            y = jax.nn.relu(x @ w)
            x = x + y + jnp.tanh(y) + x
        return x

    return apply, [ones(4, 4)] * n, X


def fibonacci(n):
    def apply(p, x):
        a, b = x, x @ p["w"]
        for g in p["g"]:
            a, b = b, (a + b) * g + a
        return norm(b, 1.0) @ p["w"]

    return apply, {"w": ones(4, 4), "g": [ones(4)] * n}, X


def squares(n):
    def apply(p, x):
        for g in p:
            x = x * (x * g)
        return x

    return apply, [ones(4)] * n, X


def after_norms(n):
    """Norms on the stream itself: a weight of one is seen through all that are before it."""

    def apply(p, x):
        for l in p:
            x = norm(x + jax.nn.relu(x @ l["u"]) @ l["v"], l["g"])
        return x

    return apply, [{"u": ones(4, 4), "v": ones(4, 4), "g": ones(4)}] * n, X


def linear(n):
    def apply(p, x):
        for l in p:
            x = (x @ l["w"] + l["b"]) * l["g"]
        return x

    return apply, [{"w": ones(4, 4), "b": ones(4), "g": ones(4)}] * n, X


def skips(n):
    """A U-net: what goes down is read again on the way up."""

    def apply(p, x):
        kept = []
        for w in p["down"]:
            kept.append(x)
            x = jax.nn.relu(x @ w)
        for w in p["up"]:
            x = jax.nn.relu(jnp.concatenate([x, kept.pop()], -1) @ w)
        return x

    return apply, {"down": [ones(4, 4)] * n, "up": [ones(8, 4)] * n}, X


def scans(n):
    def apply(p, x):
        step = lambda x, l: (x + jax.nn.relu(norm(x, l["g"]) @ l["u"]), None)
        for l in p:
            x, _ = jax.lax.scan(step, x, l)
        return x

    return apply, [{"g": ones(2, 4), "u": ones(2, 4, 4)}] * n, X


def wide(n):
    """Members beside each other, each with an output of its own and in a sum."""

    def apply(p, x):
        outs = [jax.nn.relu(x @ l["u"]) @ l["v"] for l in p]
        return outs, sum(outs)

    return apply, [{"u": ones(4, 5), "v": ones(5, 2)}] * n, X


def foreign(n):
    """Blocks of Equinox."""
    keys = jax.random.split(jax.random.key(0), n)
    blocks = [
        (
            eqx.nn.LayerNorm(4),
            eqx.nn.MultiheadAttention(2, 4, use_value_bias=True, key=k),
            eqx.nn.MLP(4, 4, 8, 1, key=k),
        )
        for k in keys
    ]

    def call(blocks, x):
        for before, attention, after in blocks:
            y = jax.vmap(before)(x)
            x = x + attention(y, y, y)
            x = x + jax.vmap(after)(x)
        return x

    return *symjax.from_equinox(blocks, call), X


@pytest.mark.parametrize(
    ("model", "depth"),
    [
        (nested, 4),
        (fibonacci, 5),
        (squares, 5),
        (after_norms, 3),
        pytest.param(linear, 8, marks=pytest.mark.slow),
        (skips, 4),
        (scans, 2),
        (wide, 4),
        (foreign, 1),
    ],
)
def test_twice_the_depth_takes_at_most_four_times_the_visits(model, depth):
    once, twice = (visits(*model(n)) for n in (depth, 2 * depth))
    assert twice <= 4.2 * once

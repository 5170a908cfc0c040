"""Loops: recurrent cells, state spaces, while and fori loops."""

import jax
import jax.numpy as jnp

from ._case import Case, model


def scan_rnn(p, x):
    step = lambda h, u: (jnp.tanh(p["a"] @ h + p["b"] @ u + p["c"]), None)
    h = jax.lax.scan(step, jnp.zeros(3, x.dtype), x)[0]
    return p["out"] @ h


def two_biases(p, x):
    """The input's and the state's own bias, as several libraries have them; all states are read."""

    def step(h, u):
        h = jnp.tanh(p["a"] @ h + p["ca"] + p["b"] @ u + p["cb"])
        return h, p["out"] @ h

    return jax.lax.scan(step, jnp.zeros(3, x.dtype), x)[1]


def state_space(p, x):
    """A linear recurrence with a direct term."""

    def step(h, u):
        h = p["a"] @ h + p["b"] @ u
        return h, p["c"] @ h + p["d"] @ u

    return jax.lax.scan(step, jnp.zeros(3, x.dtype), x)[1]


def diagonal_state_space(p, x):
    def step(h, u):
        h = p["a"] * h + p["b"] @ u
        return h, p["c"] @ h

    return jax.lax.scan(step, jnp.zeros(3, x.dtype), x)[1]


def learnt_start(p, x):
    """A leaky recurrence from a learnt first state."""
    step = lambda h, u: (jax.nn.leaky_relu(p["a"] @ h + p["b"] @ u), None)
    return p["out"] @ jax.lax.scan(step, p["h"], x)[0]


def lstm(p, x):
    def step(carry, u):
        h, c = carry
        i, f, g, o = jnp.split(p["a"] @ h + p["b"] @ u + p["bias"], 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), None

    zero = jnp.zeros(3, x.dtype)
    return p["out"] @ jax.lax.scan(step, (zero, zero), x)[0][0]


def gru(p, x):
    def step(h, u):
        r, z = (jax.nn.sigmoid(p[f"a{g}"] @ h + p[f"b{g}"] @ u + p[f"c{g}"]) for g in "rz")
        n = jnp.tanh(p["bn"] @ u + p["cn"] + r * (p["an"] @ h))
        return (1 - z) * n + z * h, None

    return p["out"] @ jax.lax.scan(step, jnp.zeros(3, x.dtype), x)[0]


def looped(kind):
    """Three steps of s = s + B tanh(A s) by fori_loop or while_loop, between two linear maps."""

    def apply(p, x):
        body = lambda i, s: s + p["b"] @ jnp.tanh(p["a"] @ s)
        s = p["e"] @ x
        if kind == "fori":
            s = jax.lax.fori_loop(0, 3, body, s)
        else:
            last = lambda c: c[0] < 3
            s = jax.lax.while_loop(last, lambda c: (c[0] + 1, body(0, c[1])), (0, s))[1]
        return p["out"] @ s

    return model(apply, (4,), e=(3, 4), a=(4, 3), b=(3, 4), out=(3, 3))


def branches(p, x):
    """A leaky branch and a bilinear one, chosen by the input."""
    first = lambda x: p["w2"] @ jax.nn.leaky_relu(p["w1"] @ x)
    second = lambda x: p["down"] @ ((p["gate"] @ x) * jnp.tanh(p["up"] @ x))
    return jax.lax.cond(x[0] > 0, first, second, x)


CASES = (
    Case(
        "rnn",
        model(scan_rnn, (4, 2), a=(3, 3), b=(3, 2), c=(3,), out=(2, 3)),
        0,
        permutations=(3,),
        signs=3,
    ),
    Case(
        "rnn_two_biases",
        model(two_biases, (4, 2), a=(3, 3), b=(3, 2), ca=(3,), cb=(3,), out=(2, 3)),
        3,
        permutations=(3,),
        signs=3,
    ),
    Case("state_space", model(state_space, (6, 2), a=(3, 3), b=(3, 2), c=(2, 3), d=(2, 2)), 9),
    Case(
        "state_space_diagonal",
        model(diagonal_state_space, (4, 2), a=(3,), b=(3, 2), c=(2, 3)),
        3,
        permutations=(3,),
        signs=3,
    ),
    Case(
        "rnn_leaky_learnt_start",
        model(learnt_start, (4, 2), a=(3, 3), b=(3, 2), h=(3,), out=(2, 3)),
        3,
        permutations=(3,),
        signs=0,
    ),
    Case(
        "lstm",
        model(lstm, (4, 2), a=(12, 3), b=(12, 2), bias=(12,), out=(2, 3)),
        0,
        permutations=(3,),
        signs=3,
    ),
    Case(
        "gru",
        model(
            gru,
            (4, 2),
            out=(2, 3),
            **{f"{n}{g}": s for n, s in (("a", (3, 3)), ("b", (3, 2)), ("c", (3,))) for g in "rzn"},
        ),
        0,
        permutations=(3,),
        signs=3,
    ),
    Case("fori_loop", looped("fori"), 9, permutations=(4,), signs=4),
    Case("while_loop", looped("while"), 9, permutations=(4,), signs=4),
    Case(
        "cond",
        model(branches, (4,), w1=(3, 4), w2=(2, 3), gate=(3, 4), up=(3, 4), down=(2, 3)),
        3 + 3,
        permutations=(3, 3),
        signs=6,
    ),
)

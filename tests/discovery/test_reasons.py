"""What broke a symmetry is said, with what restores it; and what a symmetry holds up to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

relu = jax.nn.relu


@pytest.fixture(autouse=True)
def as_people_write():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def shapes(**sizes):
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in sizes.items()}


PARAMS = shapes(a=(3, 4), b=(4, 2), g=(4,), e=(7, 4), w=(4, 4))
X, IDS = jax.ShapeDtypeStruct((5, 3), jnp.float32), jax.ShapeDtypeStruct((5,), jnp.int32)
MEAN = np.arange(4, dtype=np.float32)


def frozen_norm(p, x, mean=MEAN):
    return relu((x @ p["a"] - mean) * p["g"]) @ p["b"]


def masked(p, x):
    return relu(x @ jnp.where(np.eye(3, 4) > 0, p["a"], 0)) @ p["b"]


def tied(p, i):
    return jnp.tanh(p["e"][i] @ p["w"]) @ p["e"].T


def untied(p, i):
    return jnp.tanh(p["e"][i] @ p["w"]) @ p["b"]


def step(p, x, z):
    return relu(0.1 * z @ p["w"] + x @ p["a"])


def to_a_fixed_point(p, x):
    far = lambda s: (jnp.abs(s[1] - s[0]).max() > 1e-6) & (s[2] < 20)
    first = jnp.zeros_like(x @ p["a"])
    go = lambda s: (s[1], step(p, x, s[1]), s[2] + 1)
    return jax.lax.while_loop(far, go, (first, step(p, x, first), 0))[1] @ p["b"]


def some_steps(p, x):
    return jax.lax.fori_loop(0, 9, lambda _, z: step(p, x, z), x @ p["a"]) @ p["b"]


def numbered(p, x):
    i = jnp.argmax(x @ p["a"], -1)
    return p["b"][i] * (i == 2)[:, None]


def marked(p, x):
    return jax.nn.one_hot(jnp.argmax(x @ p["a"], -1), 4) @ p["b"]


def equal(p, x):
    return jax.nn.one_hot(jnp.argmax(relu(x @ p["a"]), -1), 4) @ p["b"]


BROKEN = {
    frozen_norm: ("no permutation because of a constant of shape (4,) in `sub`", "state_as_"),
    masked: ("no permutation because of a constant of shape (3, 4) in `select_n`", "a mask treats"),
    tied: ("fewer symmetries because of a leaf that is both looked up", "with a copy of its own"),
    to_a_fixed_point: ("fewer symmetries because of a loop that goes on", "fixed number of steps"),
    numbered: ("no permutation because of the numbers of its entries, which", "jax.nn.one_hot"),
    equal: ("no permutation because of the numbers of its entries, which may be", "that differ"),
}
WHOLE = [untied, some_steps, marked, lambda p, x: frozen_norm(p, x, p["w"][0])]


@pytest.mark.parametrize("apply", BROKEN)
def test_what_broke_a_symmetry_is_said_with_what_restores_it(apply):
    found = symjax.find_symmetries(apply, PARAMS, IDS if apply is tied else X)
    reason, remedy = BROKEN[apply]
    assert reason in str(found)
    assert remedy in str(found)
    assert found.unknown == {}


@pytest.mark.parametrize("apply", WHOLE)
def test_where_nothing_is_broken_nothing_is_said(apply):
    found = symjax.find_symmetries(apply, PARAMS, IDS if apply is untied else X)
    assert found.why == {}
    assert " because of " not in str(found)


def test_what_a_symmetry_is_up_to_is_the_epsilon_of_a_norm_or_a_cast():
    def normed(p, x):
        h = x @ p["a"]
        return (h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-5) * p["g"]) @ p["b"]

    def half(p, x):
        return relu(x @ p["a"].astype(jnp.bfloat16)).astype(jnp.float32) @ p["b"]

    def both(p, x):
        return half({"a": p["a"], "b": p["b"]}, x) + normed(p, x)

    rows = lambda f, x: {
        (s.up_to, s.leaves) for s in symjax.find_symmetries(f, PARAMS, x).approximate
    }
    epsilon, cast = "a norm's epsilon", "the rounding of a cast"
    assert rows(normed, X) == {(epsilon, ("a",))}
    low = jax.ShapeDtypeStruct((5, 3), jnp.bfloat16)
    assert rows(half, low) == {(cast, ("a", "b"))}
    text = str(symjax.find_symmetries(half, PARAMS, low))
    assert "more up to the rounding of a cast" in text
    assert "epsilon" not in text
    assert "and 1 more up to a norm's epsilon" in str(symjax.find_symmetries(normed, PARAMS, X))
    assert all("epsilon" in up_to or "cast" in up_to for up_to, _ in rows(both, X))

"""Sparse mixtures of experts, in the ways that people write top-k: scales, and experts renumbered.

Every mixture here has two hidden units in each of four experts: eight scales, and two shifts of the
router, which is read by softmax or by the differences of what it gives.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

from ._reference import changes

pytestmark = pytest.mark.usefixtures("x64")
relu, E, K = jax.nn.relu, 4, 2


@pytest.fixture(autouse=True)
def as_people_write():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


RNG = np.random.default_rng(0)
PARAMS = {"g": (2, 4), "a": (4, 2, 2), "b": (4, 2, 3)}
PARAMS = {name: RNG.standard_normal(shape) for name, shape in PARAMS.items()}
X = RNG.standard_normal((40, 2))


def routed(p, x):
    return jax.lax.top_k(jax.nn.softmax(x @ p["g"]), K)


def every(p, x):
    return jnp.einsum("teh,eho->teo", relu(jnp.einsum("td,edh->teh", x, p["a"])), p["b"])


def marked(p, x):
    v, i = routed(p, x)
    gates = (jax.nn.one_hot(i, E) * (v / v.sum(-1, keepdims=True))[..., None]).sum(1)
    return jnp.einsum("te,teo->to", gates, every(p, x))


def looked_up(p, x):
    v, i = jax.lax.top_k(x @ p["g"], K)
    h = relu(jnp.einsum("bi,bkih->bkh", x, p["a"][i]))
    return jnp.einsum("bk,bkho,bkh->bo", jax.nn.softmax(v), p["b"][i], h)


def picked(p, x):
    v, i = routed(p, x)
    return (jnp.take_along_axis(every(p, x), i[..., None], 1) * v[..., None]).sum(1)


def scattered(p, x):
    l = x @ p["g"]
    v, i = jax.lax.top_k(l, K)
    gates = jnp.zeros_like(l).at[jnp.arange(len(x))[:, None], i].set(jax.nn.softmax(v))
    return jnp.einsum("te,teo->to", gates, every(p, x))


def scanned(p, x):
    v, i = routed(p, x)

    def step(out, expert):
        e, a, b = expert
        return out + jnp.where(i == e, v, 0).sum(-1)[:, None] * (relu(x @ a) @ b), None

    return jax.lax.scan(step, jnp.zeros((len(x), 3)), (jnp.arange(E), p["a"], p["b"]))[0]


def switched(p, x, capacity=20):
    gates = jax.nn.softmax(x @ p["g"])
    chosen = jax.nn.one_hot(jnp.argmax(gates, -1), E)
    place = ((jnp.cumsum(chosen, 0) - 1) * chosen).sum(-1).astype(int)
    send = chosen[..., None] * jax.nn.one_hot(place, capacity)[:, None]
    h = relu(jnp.einsum("tec,td,edh->ech", send, x, p["a"]))
    back = send * (gates * chosen).sum(-1)[:, None, None]
    return jnp.einsum("tec,ech,eho->to", back, h, p["b"])


def in_groups(p, x):
    """The rows of each expert one after the other, as for a ragged product."""
    v, i = routed(p, x)
    order = jnp.argsort(i.reshape(-1))
    sizes = jnp.bincount(i.reshape(-1), length=E)
    h = relu(jax.lax.ragged_dot(jnp.asarray(x)[order // K], p["a"], sizes))
    return jax.lax.ragged_dot(h, p["b"], sizes), order, v.reshape(-1)


def ragged(p, x):
    y, order, v = in_groups(p, x)
    return jax.ops.segment_sum(y * v[order][:, None], order // K, len(x))


def ragged_and_sorted_back(p, x):
    y, order, v = in_groups(p, x)
    return (y[jnp.argsort(order)] * v[:, None]).reshape(len(x), K, 3).sum(1)


def one_by_one(p, x):
    v, i = routed(p, x)
    gate = lambda e: jnp.where(i == e, v, 0).sum(-1)[:, None]
    return sum(gate(e) * (relu(x @ p["a"][e]) @ p["b"][e]) for e in range(E))


RENUMBERED = [marked, looked_up, picked, scattered, scanned, switched]
IN_ORDER = {
    ragged: "`cumsum`, which takes its entries in order",
    ragged_and_sorted_back: "`cumsum`, which takes its entries in order",
    one_by_one: "the numbers of its entries, which `eq` computes with",
}


def holds(apply, found, params=PARAMS, x=X):
    for s, change in changes(found.exact, apply, params, (x,)):
        assert change < 1e-11, f"{s.name} of {s.leaves} changes the output by {change:.1e}"
    assert (found.unknown, found.false) == ({}, ())


def renumbers(found, *leaves):
    return [s for s in found if s.name == "permutation" and s.leaves == leaves]


@pytest.mark.parametrize("apply", RENUMBERED)
def test_experts_have_scales_and_may_be_renumbered_with_the_columns_of_their_router(apply):
    found = symjax.find_symmetries(apply, PARAMS, X)
    holds(apply, found)
    assert (found.dimension, found.why) == (10, {})
    assert [s.group.number_of_components for s in renumbers(found, "a", "b", "g")] == [24]


@pytest.mark.parametrize("apply", IN_ORDER)
def test_what_takes_the_experts_in_order_is_named(apply):
    found = symjax.find_symmetries(apply, PARAMS, X)
    holds(apply, found)
    assert found.dimension == 10
    assert "g" in found.why[IN_ORDER[apply]]
    assert not renumbers(found, "a", "b", "g")


def test_each_group_of_a_ragged_product_has_scales_of_its_own():
    apply = lambda p, x, n: jax.lax.ragged_dot(relu(jax.lax.ragged_dot(x, p["a"], n)), p["b"], n)
    params, sizes = {"a": PARAMS["a"][:3], "b": PARAMS["b"][:3]}, jnp.array([10, 12, 14])
    found = symjax.find_symmetries(apply, params, X, sizes)
    assert (found.dimension, found.unknown, found.false) == (6, {}, ())


@pytest.mark.parametrize(
    ("gate", "kept"),
    [
        (lambda l: jax.nn.softmax(l), True),
        (lambda l: jax.nn.sigmoid(l), True),
        (lambda l: relu(l), False),
        (lambda l: jnp.where(l > 0.5, l, -1e9), False),
        (lambda l: jnp.round(l), False),
    ],
)
def test_entries_that_may_be_equal_are_told_apart_by_their_numbers(gate, kept):
    """Of equal ones `top_k` takes the first: then the order of the experts is seen."""

    def apply(p, x):
        _, i = jax.lax.top_k(gate(x @ p["g"]), K)
        return jnp.einsum("tko->to", jnp.take_along_axis(every(p, x), i[..., None], 1))

    found = symjax.find_symmetries(apply, PARAMS, X)
    holds(apply, found)
    assert bool(renumbers(found, "a", "b", "g")) == kept
    assert any("may be equal" in why for why in found.why) != kept


@pytest.mark.parametrize(
    "used",
    [
        lambda i, p: (i[:, 0] == 2).astype(float),
        lambda i, p: i[:, 0].astype(float),
        lambda i, p: jnp.where(i[:, 0] > 1, 1.0, 2.0),
        lambda i, p: p["b"][(i[:, 0] + 1) % E, 0, 0],
        lambda i, p: jnp.concatenate([p["b"], p["b"]])[i[:, 0], 0, 0],
        lambda i, p: p["c"][i[:, 0]],
        lambda i, p: jnp.arange(8.0)[i[:, 0]],
    ],
)
def test_a_number_that_is_used_as_a_number_keeps_the_order(used):
    def apply(p, x):
        _, i = routed(p, x)
        mixed = jnp.einsum("tko->to", jnp.take_along_axis(every(p, x), i[..., None], 1))
        return mixed * used(i, p)[:, None]

    params = PARAMS | {"c": jnp.asarray(RNG.standard_normal(5))}
    found = symjax.find_symmetries(apply, params, X)
    holds(apply, found, params)
    assert not renumbers(found, "a", "b", "g")


def test_heads_with_experts_of_their_own_renumber_them_together_at_most():
    """A table that every head reads at the numbers of every other head."""

    def apply(p, x):
        i = jnp.argmax(jnp.einsum("td,hde->the", x, p["g"]), -1)
        return p["t"][:, i].sum(0)  # (head of the table, token, head of the router)

    params = {"g": (2, 2, 3), "t": (2, 3)}
    params = {name: jnp.asarray(RNG.standard_normal(shape)) for name, shape in params.items()}
    found = symjax.find_symmetries(apply, params, X)
    holds(apply, found, params)


def test_large_mixtures_are_checked_by_what_was_read():
    shapes = {"g": (512, 64), "a": (64, 512, 2048), "b": (64, 2048, 512)}
    shape = lambda s: jax.ShapeDtypeStruct(s, jnp.float32)
    params = {name: shape(s) for name, s in shapes.items()}
    apply = lambda p, x: picked_of(p, x)

    def picked_of(p, x):
        v, i = routed(p, x)
        h = relu(jnp.einsum("bi,bkih->bkh", x, p["a"][i]))
        marks = jax.nn.one_hot(i, 64)
        return jnp.einsum("bk,bkho,bkh,bke->bo", v, p["b"][i], h, marks)

    found = symjax.find_symmetries(apply, params, shape((4096, 512)))
    assert (found.false, found.why) == ((), {})
    assert renumbers(found, "a", "b", "g")
    assert "the graph that was read" in found.checked


def test_rows_outside_of_what_whole_numbers_can_be_are_unused():
    """Positions that are counted from the tokens, as of RoBERTa: row 0 is never read."""

    def apply(p, tokens):
        real = (tokens != 1).astype(int)
        h = p["t"][jnp.cumsum(real, 1) * real + 1]
        return jnp.tanh(h) @ p["w"]

    params = {"t": (7, 3), "w": (3, 2)}
    params = {name: jnp.asarray(RNG.standard_normal(shape)) for name, shape in params.items()}
    tokens = jnp.asarray(RNG.integers(0, 4, (9, 5)))
    found = symjax.find_symmetries(apply, params, tokens)
    holds(apply, found, params, tokens)
    assert [(s.name, s.dimension) for s in found if s.dimension] == [("unused", 3)]


def test_a_loop_that_adds_up_is_a_sum_and_one_that_does_more_is_none():
    def apply(p, x, inner):
        def step(out, row):
            y = relu(x @ row["a"])
            if inner:  # what is added depends on what was added before, by way of another loop
                y = jax.lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h), y + out[:, :2])
            return out + y @ row["b"], None

        return jax.lax.scan(step, jnp.zeros((len(x), 3)), {n: p[n] for n in "ab"})[0]

    found = symjax.find_symmetries(lambda p, x: apply(p, x, False), PARAMS, X)
    assert "S(4)" in renumbers(found, "a", "b")[0].group.notation
    found = symjax.find_symmetries(lambda p, x: apply(p, x, True), PARAMS, X)
    assert found.false == ()
    assert not [s for s in found if "S(4)" in s.group.notation]

"""Lookups, scatters, loops' slices, transforms and solutions: what acts alike on the rest passes.

Every dimension is the number of parameters minus the rank of the outputs' Jacobian.
"""

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

from ._reference import changes, redundancy

pytestmark = pytest.mark.usefixtures("x64")
relu = jax.nn.relu


@pytest.fixture(autouse=True)
def as_people_write():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def weights(**shapes):
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}


def data(*shape):
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape))


def explains(apply, params, *inputs, true):
    """All the directions that there are, each of which holds."""
    found = symjax.find_symmetries(apply, params, *inputs)
    for s, change in changes(found.exact, apply, params, inputs):
        assert change < 1e-11, f"{s.name} of {s.leaves} changes the output by {change:.1e}"
    assert found.dimension == true, found
    assert not found.unknown
    return found


TWO = {"a": (2, 3), "b": (3, 4)}
IDS = jnp.array([0, 1, 2, 3, 4, 4, 3, 2, 1, 0])
SENDERS, RECEIVERS = np.array([0, 1, 2, 0, 3, 4]), np.array([1, 2, 0, 2, 4, 3])


def graph(reduce):
    def apply(p, x):
        h = jax.vmap(lambda x: reduce(relu(x[SENDERS] @ p["a"]), RECEIVERS, 5))(x)
        return h @ p["b"]

    return apply


def recurrence(p, x):
    u = x @ p["b"]
    a = jnp.broadcast_to(jnp.tanh(p["l"]), u.shape)
    _, h = jax.lax.associative_scan(lambda e, f: (f[0] * e[0], f[0] * e[1] + f[1]), (a, u), axis=1)
    return h @ p["c"]


def spectral(p, x):
    h = jnp.fft.rfft(x @ p["a"], axis=-2) * jnp.fft.rfft(p["k"], n=8, axis=0)
    return jnp.fft.irfft(h, n=8, axis=-2) @ p["b"]


def distances(p, x):
    """A table of relative positions: two of seven rows and all of a column are never read."""
    return jnp.einsum("bj,ij->bi", x, p["t"][jnp.arange(3)[:, None] - jnp.arange(3) + 2, 0])


def placed(index):
    """Rows of a table are added at known positions, and their means taken away."""

    def apply(p, x):
        h = x + p["a"][index]
        return relu(h - jnp.mean(h, axis=-1, keepdims=True)) @ p["b"]

    return apply


MODELS = {
    "pooled at a position": (
        lambda p, x, i: relu(x @ p["a"])[jnp.arange(60), i] @ p["b"],
        TWO,
        (data(60, 2, 2), jnp.arange(60) % 2),
        3,
    ),
    "vmapped pooling": (
        lambda p, x, i: jax.vmap(lambda h, k: h[k])(relu(x @ p["a"]), i) @ p["b"],
        TWO,
        (data(60, 2, 2), jnp.arange(60) % 2),
        3,
    ),
    "a table per member": (
        lambda p, i: jax.vmap(lambda t, w, i: t[i] @ w)(p["t"], p["w"], i),
        {"t": (3, 5, 2), "w": (3, 2, 4)},
        (jnp.stack([IDS] * 3),),
        12,
    ),
    "sum over edges": (graph(jax.ops.segment_sum), TWO, (data(9, 5, 2),), 3),
    "largest over edges": (graph(jax.ops.segment_max), TWO, (data(9, 5, 2),), 3),
    "relative positions": (distances, {"t": (7, 2)}, (data(30, 3),), 9),
    "positions, the same for all of a batch": (
        placed(np.broadcast_to(np.arange(4), (2, 4))),
        {"a": (4, 3), "b": (3, 1)},
        (data(20, 2, 4, 3),),
        4,
    ),
    "positions in windows": (
        placed(np.array([[0, 1, 2], [1, 2, 3]])),
        {"a": (5, 3), "b": (3, 1)},
        (data(20, 2, 3, 3),),
        4 + 3,  # the last row is never read
    ),
    "rows that constants name": (
        lambda p, x: x @ p["t"][np.array([[1, 1, 5, 6], [6, 5, 1, 1]])][0],
        {"t": (8, 3)},
        (data(30, 4),),
        15,
    ),
    "tile": (
        lambda p, x: relu(x @ jnp.tile(p["a"], (1, 2))) @ p["b"],
        {"a": (2, 3), "b": (6, 2)},
        (data(60, 2),),
        9,
    ),
    "device_put": (lambda p, x: relu(x @ jax.device_put(p["a"])) @ p["b"], TWO, (data(12, 2),), 3),
    "a recurrence in parallel": (
        recurrence,
        {"l": (3,), "b": (2, 3), "c": (3, 4)},
        (data(8, 5, 2),),
        3,
    ),
    "spectral": (spectral, {"a": (3, 3), "k": (4, 3), "b": (3, 3)}, (data(8, 8, 3),), 6),
    "a solution": (
        lambda p, x: jnp.linalg.solve(p["l"], x.T).T @ p["w"],
        {"l": (2, 2), "w": (2, 3)},
        (data(30, 2),),
        4,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_all_directions_are_found(name):
    apply, shapes, inputs, true = MODELS[name]
    params = weights(**shapes)
    assert redundancy(apply, params, *inputs) == true
    explains(apply, params, *inputs, true=true)


def test_a_triangular_solution_moves_with_its_matrix():
    """Scales of columns of L, and what is above its diagonal. (A triangular group acts too.)"""
    solve = lambda l, x: jax.scipy.linalg.solve_triangular(l, x.T, lower=True).T
    params = {"l": jnp.array([[1.3, 0.0], [0.4, 0.8]]), "w": data(2, 3)}
    explains(lambda p, x: solve(p["l"], x) @ p["w"], params, data(12, 2), true=3)


def test_an_embedding_of_equinox_reads_as_a_table():
    class Net(eqx.Module):
        table: eqx.nn.Embedding
        linear: eqx.nn.Linear

        def __call__(self, tokens):
            return jax.vmap(lambda t: self.linear(self.table(t)))(tokens)

    a, b = jax.random.split(jax.random.key(0))
    apply, params = symjax.from_equinox(
        Net(eqx.nn.Embedding(5, 3, key=a), eqx.nn.Linear(3, 6, key=b))
    )
    params = jax.tree.map(lambda v: v.astype(float), params)
    explains(apply, params, IDS, true=12)


@pytest.mark.parametrize("reverse", [False, True])
def test_slices_of_what_a_loop_stacks(reverse):
    """One step that is told apart costs none of the others; one that is not used costs nothing."""

    def step(h, w):
        h = h + relu(h @ w["a"]) @ w["b"]
        return h, h

    def apply(p, x, used):
        h, states = jax.lax.scan(step, x, p["l"], reverse=reverse)
        return h + states[1] @ p["c"] if used else h

    params = {"l": weights(a=(4, 3, 4), b=(4, 4, 3)), "c": data(3, 3)}
    explains(lambda p, x: apply(p, x, True), params, data(20, 3), true=16)
    found = explains(lambda p, x: apply(p, x, False), params, data(20, 3), true=16 + 9)
    assert len(found) == 3  # scales and permutations of all layers at once, and what is unused


def test_experts_chosen_by_top_k_have_scales_of_their_own():
    def apply(p, x):
        v, i = jax.lax.top_k(x @ p["g"], 2)
        h = relu(jnp.einsum("bi,bkih->bkh", x, p["a"][i]))
        return jnp.einsum("bk,bkho,bkh->bo", jax.nn.softmax(v), p["b"][i], h)

    explains(apply, weights(g=(2, 4), a=(4, 2, 2), b=(4, 2, 3)), data(40, 2), true=10)


def test_experts_of_a_top_k_gate_may_be_renumbered():
    """The largest logits are the same in any order, so they tell no expert apart."""

    def apply(p, x):
        l = x @ p["g"]
        kth = jax.lax.top_k(l, 2)[0][:, -1:]
        w = jax.nn.softmax(jnp.where(l >= kth, l, -jnp.inf), -1)
        h = relu(jnp.einsum("td,edh->eth", x, p["a"]))
        return jnp.einsum("te,eth,ehd->td", w, h, p["b"])

    params = weights(g=(2, 4), a=(4, 2, 2), b=(4, 2, 3))
    found = explains(apply, params, data(40, 2), true=10)
    kinds = [(s.name, s.leaves) for s in found]
    assert ("permutation", ("a", "b", "g")) in kinds
    by_number = lambda p, x: jax.lax.top_k(x @ p["g"], 2)[1].astype(float) @ p["b"][0, :, :2]
    found = symjax.find_symmetries(by_number, params, data(40, 2))
    assert not any(s.name == "permutation" and "g" in s.leaves for s in found)


MASK = np.array([[1, 0, 1], [0, 1, 1]])


@pytest.mark.parametrize(
    ("masked", "true"),
    [
        (lambda w: jnp.where(MASK == 1, w, 0), 2),
        (lambda w: w * MASK, 2),
        (lambda w: jnp.triu(w), 1),
        (lambda w: jnp.where(MASK == 1, w, w * w), 0),
        (lambda w: w * MASK + 0.1 * w, 0),
        (lambda w: w * MASK + (w * (1 - MASK)).sum(), 0),
    ],
)
def test_entries_behind_a_constant_mask_are_free(masked, true):
    apply = lambda p, x: jnp.tanh(x @ masked(p["w"])) @ p["o"]
    explains(apply, weights(w=(2, 3), o=(3, 4)), data(12, 2), true=true)


def test_what_the_masks_of_a_masked_network_hide():
    """As of MADE: masks without a pattern are listed box by box."""
    first = np.arange(3)[:, None] <= np.arange(5) % 3
    second = np.arange(5)[:, None] % 3 <= np.arange(3)
    apply = lambda p, x: jnp.tanh(x @ (p["a"] * first)) @ (p["b"] * second)
    params, hidden = weights(a=(3, 5), b=(5, 3)), int((~first).sum() + (~second).sum())
    assert redundancy(apply, params, data(40, 3)) == hidden
    found = explains(apply, params, data(40, 3), true=hidden)
    assert {s.name for s in found if s.dimension} == {"unused"}


def test_the_primitives_of_equinox_are_read_from_their_implementation():
    def apply(p, x):
        h = eqxi.nonbatchable(relu(x @ p["a"]))
        return h @ p["b"] * (1 + eqxi.unvmap_any(x > 0))

    def loop(p, x):
        step = lambda c: (c[0] + 1, c[1] + relu(c[1] @ p["a"]) @ p["b"])
        return eqxi.while_loop(lambda c: c[0] < 3, step, (0, x), kind="checkpointed", max_steps=4)

    explains(apply, weights(**TWO), data(12, 2), true=3)
    params = weights(a=(2, 3), b=(3, 2))
    found = symjax.find_symmetries(lambda p, x: loop(p, x)[1], params, data(12, 2))
    assert found.dimension == 3, found


def test_pieces_of_what_is_mixed_are_not_one():
    """A convolution gives two columns, the first of which comes again: b_1 stands for no other."""

    def apply(p, x):
        h = jnp.convolve(x, p["a"], mode="valid")
        return jnp.concatenate([h, h[:1]]) @ p["b"]

    params = weights(a=(2,), b=(3, 3))
    apply = jax.vmap(apply, in_axes=(None, 0))
    explains(apply, params, data(30, 3), true=4)  # one scale, and b_0 + v beside b_2 - v


def unused_root(h):
    return jnp.linalg.cholesky(h.T @ h)[0], h[::2, ::2]


def inside_jit(p, x):
    return jax.jit(lambda h: (h @ p["b"], unused_root(h)))(relu(x @ p["a"]))[0]


def inside_scan(p, x):
    def body(carry, row):
        h = relu(row[None] @ p["a"])
        return (carry[0] + h @ p["b"], carry[1] + unused_root(h)[0]), unused_root(h)

    return jax.lax.scan(body, (jnp.zeros((1, 4)), jnp.zeros(3)), x)[0][0]


def inside_cond(p, x):
    branch = lambda h: (h @ p["b"], unused_root(h))
    return jax.lax.cond(x[0, 0] > 0, branch, branch, relu(x @ p["a"]))[0]


@pytest.mark.parametrize("apply", [inside_jit, inside_scan, inside_cond])
def test_what_a_part_makes_and_nothing_reads_holds_nothing(apply):
    found = symjax.find_symmetries(apply, weights(**TWO), data(12, 2))
    assert (found.dimension, found.unknown) == (3, {})


def test_what_is_not_understood_and_not_used_holds_nothing():
    root = lambda p: jnp.linalg.cholesky(p["a"].T @ p["a"])[0, 0]
    apply = lambda p, x: relu(x @ p["a"]) @ p["b"] + root(p)
    held = symjax.find_symmetries(apply, weights(**TWO), data(12, 2))
    assert "cholesky" in str(held.unknown)
    unused = lambda p, x: (relu(x @ p["a"]) @ p["b"], jnp.linalg.qr(p["a"]))[0]
    explains(unused, weights(**TWO), data(12, 2), true=3)

"""Redundancy: closed forms, NumPy's rank of a Jacobian written by hand, and what it rests on.

The dimensions of the whole zoo are checked in tests/discovery/test_complete.py, slowly.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax.verification import _redundancy

from ..discovery.zoo import case


def linear(params, x):
    for w in params:
        x = w @ x
    return x


def normal(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.standard_normal(s), jnp.zeros(()).dtype) for s in shapes)


@pytest.mark.usefixtures("x64")
class TestInDoublePrecision:
    @pytest.mark.parametrize("widths", [(3, 2, 3), (3, 3, 3, 3), (4, 2, 2, 2, 5)])
    def test_a_linear_network_has_the_sum_of_squares_of_its_hidden_widths(self, widths):
        params = normal(*[(m, n) for n, m in itertools.pairwise(widths)])
        found = symjax.redundancy(linear, params, jnp.ones(widths[0]))
        assert found == sum(h * h for h in widths[1:-1])
        assert found.certain
        assert found.parameters == found.rank + found == sum(w.size for w in params)
        assert found.rows == found.inputs * widths[-1] > found.parameters

    def test_it_is_what_numpy_finds_for_a_jacobian_written_by_hand(self):
        # d(B A x) = dB (A x) + B dA x, so a row is [B (x) x^T | I (x) (A x)^T]
        a, b = normal((3, 5), (4, 3))
        x = np.random.default_rng(1).standard_normal((60, 5))
        rows = [np.hstack([np.kron(b, v), np.kron(np.eye(4), np.asarray(a) @ v)]) for v in x]
        rank = np.linalg.matrix_rank(np.concatenate(rows))
        found = symjax.redundancy(linear, (a, b), jnp.ones(5))
        assert (found.rank, found) == (rank, 27 - rank)

    def test_special_parameters_do_not_hide_the_rank(self):
        zeros = (jnp.zeros((3, 4)), jnp.zeros((4, 3)))
        assert symjax.redundancy(linear, zeros, jnp.ones(4)) == 9

    def test_another_key_gives_the_same_number(self):
        params = normal((4, 3), (2, 4))
        apply = lambda w, x: w[1] @ jax.nn.relu(w[0] @ x)
        counts = [
            symjax.redundancy(apply, params, jnp.ones(3), key=jax.random.key(k)) for k in (1, 2)
        ]
        assert counts == [4, 4]

    def test_the_scales_of_layers_and_units_do_not_matter(self):
        a, b = normal((6, 3), (2, 6))
        apply = lambda w, x: w[1] @ jax.nn.relu(w[0] @ x)
        for scales in (1e-6, 1e4, 1e8, jnp.logspace(-5, 5, 6)[:, None]):
            moved = (a * scales, b / jnp.reshape(jnp.asarray(scales), (1, -1)))
            found = symjax.redundancy(apply, moved, jnp.ones(3))
            assert found == 6
            assert found.certain, found

    @pytest.mark.parametrize("condition", [1e2, 1e5, 1e8])
    def test_another_basis_gives_the_same_number_or_says_that_it_does_not_know(self, condition):
        q = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 4, 4)))[0]
        g = q[0] @ np.diag(np.geomspace(condition**-0.5, condition**0.5, 4)) @ q[1]
        a, b = normal((4, 5), (5, 4))
        found = symjax.redundancy(linear, (g @ a, b @ np.linalg.inv(g)), jnp.ones(5))
        assert found == 16 or not found.certain

    def test_units_that_few_inputs_see_are_not_counted_with_certainty(self):
        # A unit whose bias lets one input in a thousand through: more inputs raise the rank.
        a, b = normal((6, 3), (2, 6))
        apply = lambda p, x: p["b"] @ jax.nn.relu(p["a"] @ x + 10 * p["c"])
        for bias in (-0.5, -1.0, -1.5, -2.0, -4.0):
            late = {"a": a, "c": jnp.full(6, bias), "b": b}
            found = symjax.redundancy(apply, late, jnp.ones(3))
            assert found == 6 or not found.certain, (bias, found)

    def test_what_a_softmax_does_not_see_is_no_column_of_rounding(self):
        # Each entry of the keys' bias is a direction that no output sees; none is of size zero.
        p = dict(zip("qkvb", normal((3, 2), (3, 2), (3, 2), (1, 2)), strict=True))

        def apply(p, x):
            q, k, v = x @ p["q"], 1e6 * (x @ p["k"] + p["b"]), x @ p["v"]
            return jax.nn.softmax(q @ k.T / 1e6) @ v

        found = symjax.redundancy(apply, p, jnp.ones((4, 3)))
        assert found == 4 + 2
        assert found.certain, found

    def test_chunks_give_the_same_number(self, monkeypatch):
        params = normal((2, 3), (3, 2))
        monkeypatch.setattr(_redundancy, "ENTRIES_AT_ONCE", 300)
        assert symjax.redundancy(linear, params, jnp.ones(3)) == 4

    def test_forward_mode_where_reverse_mode_does_not_exist(self):
        build = case("while_loop").build
        apply, params, inputs = build(jax.random.key(0))
        assert symjax.redundancy(apply, params, *inputs) == 9

    def test_whole_number_leaves_inputs_and_outputs(self):
        params = {"table": normal((5, 2))[0], "steps": jnp.arange(3), "name": "static"}

        def apply(p, ids):
            p = {name: x for name, x in p.items() if name != "name"}
            return p["table"][ids] @ p["table"][ids].T, ids

        # G G^T of a 5 x 2 table: O(2)
        params = {name: params[name] for name in ("table", "steps")}
        assert symjax.redundancy(apply, params, jnp.array([0, 4, 2])) == 1

    def test_a_stopped_gradient_is_noticed(self):
        apply, params, inputs = case("stop_gradient_of_a_leaf").build(jax.random.key(0))
        found = symjax.redundancy(apply, params, *inputs)
        assert found == 4
        assert not found.derivatives_agree
        assert not found.certain
        assert "derivative" in str(found)

    @pytest.mark.parametrize("name", ["relu", "tanh", "swiglu", "attention_bias", "layer_norm"])
    def test_a_few_of_the_zoo(self, name):
        assert_dimension(case(name))


def assert_dimension(model):
    apply, params, inputs = model.build(jax.random.key(0))
    found = symjax.redundancy(apply, params, *inputs)
    if model.equality:
        assert found == model.dimension
        assert found.gap > 1000
    else:
        assert found >= model.dimension


def test_single_precision_is_said_to_be_uncertain():
    found = symjax.redundancy(linear, normal((2, 3), (3, 2)), jnp.ones(3))
    assert found == 4
    assert found.dtype == "float32"
    assert not found.certain
    assert "enable float64" in str(found)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match=r"holds 6400 numbers; .* at most 6000"):
        symjax.redundancy(linear, (jnp.ones((80, 80)),), jnp.ones(80))
    with pytest.raises(ValueError, match="must hold at least one floating array"):
        symjax.redundancy(linear, (jnp.arange(3),), jnp.ones(3))
    with pytest.raises(ValueError, match="no floating-point output"):
        symjax.redundancy(lambda w, x: jnp.argmax(w[0] @ x), normal((2, 3)), jnp.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        symjax.redundancy(lambda w, x: jnp.sqrt(w[0] * 0.0) @ x, normal((2, 3)), jnp.ones(3))

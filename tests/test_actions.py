"""Actions: left-action law, invariance of the network, generator = derivative, bad input."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import symjax
from symjax import Leg
from symjax.actions import Block

from .helpers import assert_close, eps, relative_error, slow_among


def product(weights):
    result = weights[0]
    for w in weights[1:]:
        result = w @ result
    return result


def weights(key, widths, dtype):
    keys = jax.random.split(key, len(widths) - 1)
    shapes = zip(keys, widths[1:], widths[:-1], strict=True)
    return tuple(jax.random.normal(k, (m, n), dtype) / n**0.5 for k, m, n in shapes)


def cubed_relu(z):
    return jax.nn.relu(z) ** 3


def two_layer(sigma):
    return lambda params, x: params[1] @ sigma(params[0] @ x)


#: name -> (action, widths, output as a function of (params, x)).
CASES = {
    "linear": (symjax.deep_linear_action((3, 4, 2)), (3, 4, 2), lambda p, x: product(p) @ x),
    "deep": (
        symjax.deep_linear_action((3, 1, 4, 5, 2)),
        (3, 1, 4, 5, 2),
        lambda p, x: product(p) @ x,
    ),
    "rescaling": (symjax.rescaling_action(3), (3, 4, 2), two_layer(cubed_relu)),
    "neurons": (symjax.neuron_rescaling_action(4, 3), (3, 4, 2), two_layer(cubed_relu)),
    "relu": (symjax.neuron_rescaling_action(4), (3, 4, 2), two_layer(jax.nn.relu)),
    "permutation": (
        symjax.linear_action(symjax.Permutation(4), [Leg(0), Leg(1, 1, "covector")]),
        (3, 4, 2),
        two_layer(jax.nn.gelu),
    ),
    "signs": (
        symjax.linear_action(symjax.SignFlip(4), [Leg(0), Leg(1, 1, "covector")]),
        (3, 4, 2),
        two_layer(jnp.tanh),
    ),
    "orthogonal": (
        symjax.linear_action(symjax.Orthogonal(4), [Leg(0), Leg(1, 1, "covector")]),
        (3, 4, 2),
        lambda p, x: product(p) @ x,
    ),
    "complex": (
        symjax.linear_action(symjax.ComplexScaling(2), [Leg(0), Leg(1, 1, "covector")]),
        (3, 4, 2),
        lambda p, x: product(p) @ x,
    ),
}


@functools.cache
def laws(name, dtype):
    action, widths, output = CASES[name]
    group = action.group

    def residuals(key):
        k = jax.random.split(key, 5)
        params, x = weights(k[0], widths, dtype), jax.random.normal(k[1], (widths[0], 7), dtype)
        g, h = (group.random(i, scale=0.3, dtype=dtype) for i in k[2:4])
        m = group.random_algebra(k[4], scale=0.3, dtype=dtype)
        moved = action(g, params)
        flowed = action.flow((m,), params)
        _, slope = jax.jvp(
            lambda t: action(group.exp(jax.tree.map(lambda e: t * e, m)), params),
            (jnp.zeros((), dtype),),
            (jnp.ones((), dtype),),
        )
        slope = slope if group.dimension else jax.tree.map(jnp.zeros_like, params)
        far = lambda a, b: jnp.stack(
            [jnp.abs(p - q).max() for p, q in zip(a, b, strict=True)]
        ).max()
        return {
            "identity": far(action(group.identity(dtype), params), params),
            "left action": far(action(g, action(h, params)), action(group.compose(g, h), params)),
            "invariance": jnp.abs(output(moved, x) - output(params, x)).max(),
            "flow": far(flowed, action(group.exp(m), params)),
            "generator": far(action.generator(m, params), slope),
        }

    return jax.jit(residuals)


@pytest.mark.parametrize("dtype", slow_among([jnp.float64, jnp.float32], jnp.float32))
@pytest.mark.parametrize("name", slow_among(CASES, "deep"))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_laws_of_an_action(name, seed, dtype):
    with jax.enable_x64(True):
        for law, residual in laws(name, dtype)(jax.random.key(seed)).items():
            # Entries of size about one; scale 0.3 keeps the condition number of g below about 20.
            assert float(residual) <= 2000 * eps(dtype), law


def test_eq_1_left_action_of_the_deep_linear_group():
    """g.(W_1, ..., W_l) = (g_1 W_1, g_2 W_2 g_1^-1, ...), written out with numpy inverses."""
    action = symjax.deep_linear_action((2, 3, 3, 2))
    w = weights(jax.random.key(0), (2, 3, 3, 2), jnp.float32)
    g = action.group.random(jax.random.key(1), scale=0.3)
    a, b = (np.asarray(e, np.float64) for e in g)
    w1, w2, w3 = (np.asarray(e, np.float64) for e in w)
    expected = (a @ w1, b @ w2 @ np.linalg.inv(a), w3 @ np.linalg.inv(b))
    assert relative_error(action(g, w), expected) <= 100 * eps(jnp.float32)
    wrong_order = (w1 @ np.eye(2), a @ w2 @ np.linalg.inv(b), w3)
    assert relative_error(action(g, w), wrong_order) > 0.01


def test_leaves_at_rest_are_the_same_objects():
    action = symjax.rescaling_action()
    params = {"a": jnp.arange(3), "x": jnp.ones((2, 2)), "y": jnp.ones((2, 2))}
    moved = action(jnp.array(2.0), params)
    assert moved["a"] is params["a"]
    assert action.flow((jnp.array(1.0),), params)["a"] is params["a"]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtypes_are_kept(dtype):
    action = symjax.deep_linear_action((2, 3, 2))
    params = (jnp.ones((3, 2), dtype), jnp.ones((2, 3), dtype))
    for moved in (
        action(action.group.random(jax.random.key(0)), params),
        action.generator(action.group.random_algebra(jax.random.key(0)), params),
    ):
        assert [w.dtype for w in moved] == [dtype, dtype]


def test_half_precision_is_computed_in_float32():
    action = symjax.deep_linear_action((4, 4, 4))
    w = weights(jax.random.key(0), (4, 4, 4), jnp.float32)
    half = tuple(x.astype(jnp.bfloat16) for x in w)
    exact = tuple(x.astype(jnp.float32) for x in half)
    g = action.group.random(jax.random.key(1), scale=0.3)
    assert_close(action(g, half), tuple(x.astype(jnp.bfloat16) for x in action(g, exact)))


def test_an_equinox_model_is_a_pytree_like_any_other():
    mlp = eqx.nn.MLP(3, 2, 5, 2, key=jax.random.key(0))
    hidden = [
        leg
        for i in range(2)
        for leg in (
            Leg(f"layers/{i}/weight", 0, factor=i),
            Leg(f"layers/{i}/bias", 0, factor=i),
            Leg(f"layers/{i + 1}/weight", 1, "covector", factor=i),
        )
    ]
    action = symjax.linear_action(symjax.Product([symjax.PositiveScaling(5)] * 2), hidden)
    arrays, rest = eqx.partition(mlp, eqx.is_array)
    g = action.group.random(jax.random.key(1))
    moved = eqx.combine(action(g, arrays), rest)
    x = jnp.array([0.3, -1.0, 2.0])
    np.testing.assert_allclose(moved(x), mlp(x), rtol=1e-4, atol=1e-5)
    assert eqx.tree_equal(action(g, mlp), moved, rtol=1e-6, atol=1e-6)


def test_translation_legs():
    """b_1 + v, b_2 - v leave b_1 + b_2 alone; the generator's second application is zero."""
    action = symjax.linear_action(symjax.Translation(3), [Leg(0), Leg(1, 0, "covector")])
    params = (jnp.ones(3), jnp.arange(3.0))
    v = jnp.array([1.0, -2.0, 0.5])
    moved = action(v, params)
    np.testing.assert_allclose(moved[0] + moved[1], params[0] + params[1], rtol=1e-6)
    curve = symjax.exponential_curve(action, params, v)
    assert symjax.curvature(curve, 0.3) == 0
    expected = np.sqrt(2) * np.linalg.norm([1.0, -2.0, 0.5])
    np.testing.assert_allclose(symjax.speed(curve, jnp.array([0.0, 0.5])), expected, rtol=1e-6)


class TestEquationSix:
    key = jax.random.key(0)

    def make(self, k, h=5, dtype=jnp.float64):
        a, b, c = jax.random.split(self.key, 3)
        x = jax.random.normal(a, (3, k), dtype)
        params = (jax.random.normal(b, (h, 3), dtype), jax.random.normal(c, (2, h), dtype))
        return symjax.data_action(jax.nn.sigmoid, x), params, x

    def test_eq_6_against_numpy(self, x64):
        action, (v, u), x = self.make(9)
        g = action.group.exp(0.3 * jax.random.normal(self.key, (5, 5)))
        sigmoid = lambda z: 1 / (1 + np.exp(-z))
        before, after = (sigmoid(np.asarray(a @ x)) for a in (v, g @ v))
        expected = (np.asarray(g @ v), np.asarray(u) @ before @ np.linalg.pinv(after))
        assert relative_error(action(g, (v, u)), expected) <= 1e4 * eps(jnp.float64)

    def test_it_is_not_a_group_action(self, x64):
        action, params, _ = self.make(9)
        group = action.group
        g, h = (group.exp(0.5 * jax.random.normal(k, (5, 5))) for k in jax.random.split(self.key))
        assert not action.is_group_action
        twice = action(g, action(h, params))
        assert relative_error(twice, action(group.compose(g, h), params)) > 1e-3

    def test_the_identity_moves_the_parameters_with_few_samples(self, x64):
        few, params, x = self.make(3)
        one = jnp.eye(5)
        assert relative_error(few(one, params), params) > 1e-2
        # The output stays all the same: sigma(gVX) has full column rank.
        out = lambda p: p[1] @ jax.nn.sigmoid(p[0] @ x)
        np.testing.assert_allclose(out(few(one, params)), out(params), atol=1e-12)
        many, params, _ = self.make(9)
        assert relative_error(many(one, params), params) <= 1e4 * eps(jnp.float64)

    def test_generator(self, x64):
        action, params, _ = self.make(9)
        m = 0.1 * jax.random.normal(self.key, (5, 5))
        step = 1e-6
        there, back = (action(action.group.exp(s * m), params) for s in (step, -step))
        slope = tuple((a - b) / (2 * step) for a, b in zip(there, back, strict=True))
        assert relative_error(action.generator(m, params), slope) <= 1e-6

    def test_bad_input(self):
        with pytest.raises(ValueError, match="`x` must be a floating matrix"):
            symjax.data_action(jax.nn.sigmoid, jnp.ones(3))
        action, (v, u), _ = self.make(4, dtype=jnp.float32)
        with pytest.raises(ValueError, match="pair"):
            action(jnp.eye(5), (v,))
        with pytest.raises(ValueError, match="singular"):
            action(jnp.ones((5, 5)), (v, u))
        with pytest.raises(ValueError, match=r"`g` must have shape \(5, 5\)"):
            action(jnp.eye(4), (v, u))
        with pytest.raises(ValueError, match="with `x`"):
            action(jnp.eye(5), (v[:, :2], u))


class TestBadInput:
    action = symjax.deep_linear_action((2, 3, 2))
    params = (jnp.ones((3, 2)), jnp.ones((2, 3)))
    g = (jnp.eye(3),)

    @pytest.mark.parametrize(
        ("g", "message"),
        [
            (jnp.eye(3), "`g` must be a tuple"),
            ((jnp.eye(2),), "shape"),
            ((jnp.ones((3, 3)),), "singular"),
            ((jnp.full((3, 3), jnp.nan),), "not an element"),
        ],
    )
    def test_elements(self, g, message):
        with pytest.raises(ValueError, match=message):
            self.action(g, self.params)

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ((jnp.ones((4, 2)), jnp.ones((2, 3))), "leaf '0' must have size 3 along axis 0"),
            ((jnp.ones((3, 2)),), "1 leaves"),
            ((jnp.ones((3, 2), int), jnp.ones((2, 3))), "floating array to be moved, got int32"),
            ((jnp.ones((3, 2)), jnp.ones(3)), "axis 1"),
        ],
    )
    def test_parameters(self, params, message):
        with pytest.raises(ValueError, match=message):
            self.action(self.g, params)
        with pytest.raises(ValueError, match=message):  # shapes decide at trace time too
            jax.jit(self.action)(self.g, params)

    def test_values_under_jit_give_nan(self):
        moved = jax.jit(self.action)((jnp.ones((3, 3)),), self.params)
        assert jnp.isnan(moved[1]).all()
        scaled = jax.jit(symjax.rescaling_action())(jnp.array(-1.0), self.params)
        assert jnp.isnan(scaled[0]).all()

    def test_tables(self):
        with pytest.raises(ValueError, match="no leaf 'nope'"):
            symjax.linear_action(symjax.PositiveScaling(2), [Leg("nope")])(jnp.ones(2), self.params)
        with pytest.raises(ValueError, match="already moved"):
            symjax.linear_action(symjax.PositiveScaling(2), [Leg(0), Leg(0, 0, 2.0)])
        with pytest.raises(ValueError, match="factor"):
            symjax.linear_action(symjax.PositiveScaling(2), [Leg(0, factor=1)])
        with pytest.raises(ValueError, match=r"must be a symjax\.Leg"):
            symjax.linear_action(symjax.PositiveScaling(2), ["0"])
        with pytest.raises(ValueError, match="powers are for scalings"):
            symjax.linear_action(symjax.GeneralLinear(3), [Leg(0, 0, 2.0)])(jnp.eye(3), self.params)

    def test_widths_and_degrees(self):
        for widths in ((3,), (2, 0, 2), (2, 1.5, 2)):
            with pytest.raises(ValueError, match="`widths`"):
                symjax.deep_linear_action(widths)
        for degree in (0, -1, float("nan"), "k"):
            with pytest.raises(ValueError, match="`degree`"):
                symjax.rescaling_action(degree)


def test_permutations_of_parts_of_a_leaf_inside_of_a_loop():
    # XLA on CPU gets an in-place update of a gather of the same array wrong inside of a loop.
    starts = ((0, 0), (3, 0), (3, 2))
    blocks = [Block(start, (((3, 1),), ((2, 1),))) for start in starts]
    legs = [Leg(0, 0, block=block) for block in blocks[:2]] + [Leg(1, 0, block=blocks[2])]
    action = symjax.linear_action(symjax.Permutation(3), legs)
    elements = np.array([[2, 0, 1], [2, 1, 0], [0, 2, 1], [1, 0, 2]])
    leaves = np.arange(4 * 8 * 5.0, dtype=np.float32).reshape(4, 8, 5)

    expected = [leaves.copy(), leaves.copy()]
    for i, g in enumerate(elements):
        expected[0][i, 0:3, :2] = leaves[i, 0:3, :2][g]
        expected[0][i, 3:6, :2] = leaves[i, 3:6, :2][g]
        expected[1][i, 3:6, 2:4] = leaves[i, 3:6, 2:4][g]

    looped = jax.jit(lambda g, *p: jax.lax.map(lambda e: action(e[0], e[1]), (g, p)))
    assert_close(looped(elements, leaves, leaves), tuple(expected))

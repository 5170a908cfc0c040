"""Curves: ends, constant loss, the methods of a connecting curve, chords and chains, bad input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import symjax
from symjax.groups import NO_PATH, ONE_EXPONENTIAL, TWO_EXPONENTIALS

from .helpers import assert_close, eps, relative_error

ACTION = symjax.deep_linear_action((3, 4, 2))


def point(dtype=jnp.float64, h=4):
    a, b = jax.random.split(jax.random.key(0))
    return (jax.random.normal(a, (h, 3), dtype), jax.random.normal(b, (2, h), dtype))


def test_eq_4_exponential_curve_against_scipy(x64):
    w, m = point(), ACTION.group.random_algebra(jax.random.key(1))
    curve = jax.jit(lambda t: symjax.exponential_curve(ACTION, w, m)(t))
    for t in (-1.3, 0.0, 0.4, 2.0):
        g = scipy.linalg.expm(t * np.asarray(m[0]))
        expected = (g @ np.asarray(w[0]), np.asarray(w[1]) @ np.linalg.inv(g))
        assert relative_error(curve(t), expected) <= 1000 * eps(jnp.float64)
        np.testing.assert_allclose(curve(t)[1] @ curve(t)[0], w[1] @ w[0], atol=1e-12)
    assert_close(curve(0.0), w)


def test_eq_5_connecting_curve_ends_and_methods(x64):
    """The printed curve needs a real logarithm; where there is none, two exponentials or NaN."""
    h = 4
    rotation = np.asarray(
        ACTION.group.groups[0].exp(ACTION.group.random_algebra(jax.random.key(3))[0])
    )
    cases = {
        "identity": (np.eye(h), ONE_EXPONENTIAL),
        "near the identity": (rotation, ONE_EXPONENTIAL),
        "-I": (-np.eye(h), TWO_EXPONENTIALS),
        "diag(-1, -2, 1, 3)": (np.diag([-1.0, -2.0, 1.0, 3.0]), TWO_EXPONENTIALS),
        "even permutation": (np.eye(h)[[1, 0, 3, 2]], TWO_EXPONENTIALS),
        "det < 0": (np.diag([1.0, 1.0, 1.0, -1.0]), NO_PATH),
        "singular": (np.diag([1.0, 1.0, 1.0, 0.0]), NO_PATH),
    }
    w = point()
    connect = jax.jit(
        lambda g: (
            (curve := symjax.connecting_curve(ACTION, w, (g,))).method,
            [curve(t) for t in (0.0, 0.5, 1.0)],
        )
    )
    for name, (g, method) in cases.items():
        found, points = connect(jnp.asarray(g))
        assert int(found) == method, name
        if method == NO_PATH:
            assert all(bool(jnp.isnan(x).all()) for p in points for x in p), name
            continue
        there = (g @ np.asarray(w[0]), np.asarray(w[1]) @ np.linalg.inv(g))
        assert relative_error(points[0], w) <= 10 * eps(jnp.float64), name
        assert relative_error(points[2], there) <= 1e-12, name
        for u in points:
            np.testing.assert_allclose(u[1] @ u[0], w[1] @ w[0], atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_connecting_methods_are_data_under_vmap(x64):
    w = point()
    batch = jnp.stack([jnp.eye(4), -jnp.eye(4), jnp.diag(jnp.array([1.0, 1.0, 1.0, -1.0]))])
    curves = jax.vmap(lambda g: symjax.connecting_curve(ACTION, w, (g,)))(batch)
    assert curves.method.tolist() == [ONE_EXPONENTIAL, TWO_EXPONENTIALS, NO_PATH]


@pytest.mark.slow
def test_curvature_of_connecting_curves_under_vmap(x64):
    w = point()
    batch = jnp.stack([jnp.eye(4), -jnp.eye(4), jnp.diag(jnp.array([1.0, 1.0, 1.0, -1.0]))])
    values = jax.vmap(lambda g: symjax.curvature(symjax.connecting_curve(ACTION, w, (g,)), 0.5))(
        batch
    )
    assert np.isnan(np.asarray(values)).tolist() == [True, False, True]  # the first does not move


def test_connecting_finite_elements():
    action = symjax.linear_action(symjax.Permutation(4), [symjax.Leg(0)])
    w = point(jnp.float32)
    still = symjax.connecting_curve(action, w, jnp.arange(4))
    assert_close(still(0.5), w)
    swapped = symjax.connecting_curve(action, w, jnp.array([1, 0, 2, 3]))
    assert swapped.method == NO_PATH
    assert jnp.isnan(swapped(0.5)[0]).all()


def test_data_curve_starts_at_the_parameters_only_with_enough_samples(x64):
    w = point()
    x = jax.random.normal(jax.random.key(5), (3, 9))
    m = 0.5 * jax.random.normal(jax.random.key(6), (4, 4))
    curve = symjax.exponential_curve(symjax.data_action(jnp.tanh, x), w, m)
    assert relative_error(curve(0.0), w) <= 1e4 * eps(jnp.float64)
    few = symjax.exponential_curve(symjax.data_action(jnp.tanh, x[:, :2]), w, m)
    assert relative_error(few(0.0), w) > 0.01


def test_chord():
    p, q = point(jnp.float32), jax.tree.map(lambda x: 2 * x, point(jnp.float32))
    line = symjax.chord(p, q)
    assert_close(line(0.0), p)
    assert_close(line(1.0), q)
    assert_close(line(0.5), jax.tree.map(lambda x: 1.5 * x, p), rtol=1e-6)
    mixed = symjax.chord((jnp.ones(2), jnp.arange(2)), (jnp.zeros(2), jnp.arange(2)))
    assert mixed(0.5)[1].dtype == jnp.arange(2).dtype


def test_bezier_and_polygonal_chain():
    points = [jnp.zeros(2), jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])]
    bezier, chain = symjax.bezier_curve(points), symjax.polygonal_chain(points)
    a, b, c = (np.asarray(x) for x in points)
    for t in (0.0, 0.2, 0.5, 0.9, 1.0):
        np.testing.assert_allclose(
            bezier(t), (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c, rtol=1e-5, atol=1e-6
        )
        expected = a + 2 * t * (b - a) if t <= 0.5 else b + (2 * t - 1) * (c - b)
        np.testing.assert_allclose(chain(t), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_of_curves_is_a_pytree():
    w = point(jnp.float32)
    ms = jax.vmap(ACTION.group.random_algebra)(jax.random.split(jax.random.key(0), 3))
    make = lambda m: symjax.exponential_curve(ACTION, w, m)
    ends = jax.vmap(lambda c: c(1.0))(jax.vmap(make)(ms))
    one = make(jax.tree.map(lambda x: x[1], ms))(1.0)
    assert_close(jax.tree.map(lambda x: x[1], ends), one, rtol=1e-4, atol=1e-5)


class TestBadInput:
    def test_parameters(self):
        w, m = point(jnp.float32), ACTION.group.random_algebra(jax.random.key(1))
        with pytest.raises(ValueError, match="leaf '0' must have size 4"):
            symjax.exponential_curve(ACTION, (w[0][:3], w[1]), m)
        with pytest.raises(ValueError, match="floating array to be moved, got int32"):
            symjax.exponential_curve(ACTION, (w[0].astype(int), w[1]), m)
        with pytest.raises(ValueError, match="`params` holds a NaN or an infinity at leaf '1'"):
            symjax.exponential_curve(ACTION, (w[0], w[1] * jnp.nan), m)
        with pytest.raises(ValueError, match="`m` must have an entry of shape"):
            symjax.exponential_curve(ACTION, w, (jnp.eye(3),))
        with pytest.raises(ValueError, match="`m` holds a NaN"):
            symjax.exponential_curve(ACTION, w, (jnp.full((4, 4), jnp.nan),))

    def test_what_is_not_in_the_algebra(self):
        turn = symjax.linear_action(symjax.Orthogonal(3), [symjax.Leg("w", 0)])
        w, skew = {"w": jnp.eye(3)}, jnp.array([[0.0, 1, 2], [-1, 0, 3], [-2, -3, 0]])
        symjax.exponential_curve(turn, w, skew * (1 + jnp.finfo(skew.dtype).eps))
        symjax.exponential_curve(turn, w, symjax.Orthogonal(3).log(jax.scipy.linalg.expm(skew)))
        for m in (jnp.eye(3), skew.at[0, 1].add(1e-3), jnp.triu(skew)):
            with pytest.raises(ValueError, match="`m` must be in the Lie algebra of Orthogonal"):
                symjax.exponential_curve(turn, w, m)
            jax.eval_shape(lambda m: symjax.exponential_curve(turn, w, m)(1.0), m)
            with pytest.raises(ValueError, match="`m` must be in the Lie algebra of Orthogonal"):
                jax.eval_shape(lambda t, m=m: symjax.exponential_curve(turn, w, m)(t), 1.0)

    def test_times(self):
        scaling = symjax.neuron_rescaling_action(4)
        curve = symjax.connecting_curve(scaling, point(jnp.float32), 2 * jnp.ones(4))
        chain = symjax.polygonal_chain([jnp.zeros(1), jnp.ones(1)])
        bezier = symjax.bezier_curve([jnp.zeros(1), jnp.ones(1)])
        for c in (curve, chain, bezier):
            for t in (-0.1, 1.1):
                with pytest.raises(ValueError, match=r"`t` must lie in \[0, 1\]"):
                    c(t)
                assert all(jnp.isnan(x).all() for x in jax.tree.leaves(eqx.filter_jit(c)(t)))
            with pytest.raises(ValueError, match="`t` must be a scalar"):
                c(jnp.zeros(3))

    def test_trees(self):
        with pytest.raises(ValueError, match="differ at leaf '1'"):
            symjax.chord((jnp.ones(2), jnp.ones(3)), (jnp.ones(2), jnp.ones(4)))
        with pytest.raises(ValueError, match="same tree structure"):
            symjax.chord((jnp.ones(2),), [jnp.ones(2)])
        with pytest.raises(ValueError, match="`q` holds a NaN"):
            symjax.chord(jnp.ones(2), jnp.full(2, jnp.nan))
        with pytest.raises(ValueError, match="two or more"):
            symjax.bezier_curve([jnp.ones(2)])
        with pytest.raises(ValueError, match=r"points\[1\]"):
            symjax.polygonal_chain([jnp.ones(2), jnp.ones(3)])


@pytest.mark.slow
def test_a_whole_equinox_model_moves_along_a_curve():
    """Leaves that are not arrays, such as the activation, stay what they are."""
    mlp = eqx.nn.MLP(3, 2, 5, 1, activation=jax.nn.relu, key=jax.random.key(0))
    legs = [
        symjax.Leg("layers/0/weight", 0),
        symjax.Leg("layers/0/bias", 0),
        symjax.Leg("layers/1/weight", 1, "covector"),
    ]
    action = symjax.linear_action(symjax.PositiveScaling(5), legs)
    curve = symjax.exponential_curve(action, mlp, jnp.linspace(-1.0, 1.0, 5))
    line = symjax.chord(curve(0.0), curve(1.0))
    x = jnp.array([0.3, -1.0, 2.0])
    np.testing.assert_allclose(curve(1.0)(x), mlp(x), atol=1e-5)
    assert symjax.length(line) < symjax.length(curve) < symjax.certify(curve).length

"""Speed and curvature against nested forward mode, closed forms and each other."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import symjax
from symjax import Leg

from ..helpers import derivatives, eps, slow_among
from ..test_actions import weights

TIMES = np.linspace(0.0, 1.0, 6)


def nested_jacfwd(curve, t):
    """Speed and curvature from jax.jacfwd of the joint curve: shares no code with the library."""
    flat = lambda s: jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(curve(s))])
    velocity = jax.jacfwd(flat)
    v, a = velocity(t), jax.jacfwd(velocity)(t)
    speed = jnp.linalg.norm(v)
    return speed, jnp.linalg.norm(a - (v @ a) / (v @ v) * v) / speed**2


def exponential(m):
    """exp(m) by 60 terms of its series: compiles fast, and shares nothing with the library."""

    def add(carry, k):
        total, term = carry
        term = term @ m / k
        return (total + term, term), None

    one = jnp.eye(m.shape[0], dtype=m.dtype)
    (total, _), _ = jax.lax.scan(add, (one, one), jnp.arange(1.0, 61.0, dtype=m.dtype))
    return total


def joint_curve(params, stretches, rotations=()):
    """t -> all weights of exp(tA) exp(tB).w written out: g_i W_i g_(i-1)^-1, of matrices A, B."""

    def point(t):
        g = [exponential(t * m) for m in stretches]
        inverse = [exponential(-t * m) for m in stretches]
        for i, m in enumerate(rotations):
            g[i], inverse[i] = exponential(t * m) @ g[i], inverse[i] @ exponential(-t * m)
        w = list(params)
        for i, (forward, backward) in enumerate(zip(g, inverse, strict=True)):
            w[i], w[i + 1] = forward @ w[i], w[i + 1] @ backward
        return tuple(w)

    return point


@jax.jit
def ours(curve):
    """Speed and curvature over an array of times, and one by one."""
    times = jnp.asarray(TIMES, curve.params[0].dtype)
    many = symjax.speed(curve, times), symjax.curvature(curve, times)
    one = jax.lax.map(lambda t: (symjax.speed(curve, t), symjax.curvature(curve, t)), times)
    return many, one


@jax.jit
def nested(*arguments):
    """The same from the joint curve of float64 matrices."""
    curve = joint_curve(*arguments)
    return jax.lax.map(lambda t: nested_jacfwd(curve, t), jnp.asarray(TIMES))


def deep(*widths):
    return symjax.deep_linear_action(widths), widths, lambda m: m


def scaled(group, as_matrix):
    """A group on the hidden layer of a network, and its algebra as matrices."""
    action = symjax.linear_action(group, [Leg(0), Leg(1, 1, "covector")])
    return action, (3, 4, 2), lambda m: (as_matrix(m),)


def complex_matrix(m):
    blocks = [np.array([[a, -b], [b, a]]) for a, b in m]
    return scipy.linalg.block_diag(*blocks)


#: name -> (action, widths, algebra element -> one matrix per hidden layer).
CASES = {
    "depth 2": deep(3, 4, 2),
    "depth 3": deep(2, 3, 4, 2),
    "depth 4": deep(2, 3, 2, 3, 2),
    "depth 5": deep(2, 2, 3, 2, 3, 1),
    "wide data": deep(30, 3, 20),
    "width 1": deep(2, 1, 2),
    "orthogonal": scaled(symjax.Orthogonal(4), np.asarray),
    "scaling": scaled(symjax.PositiveScaling(4), np.diag),
    "complex": scaled(symjax.ComplexScaling(2), complex_matrix),
}


@pytest.mark.parametrize("name", slow_among(CASES, *(set(CASES) - {"orthogonal"})))
def test_sec_6_2_curvature_is_that_of_nested_jacfwd(name, x64):
    """Depths 2 to 5: the cross terms of a layer acted on from both sides are there."""
    action, widths, matrices = CASES[name]
    # The deep ones compile longest; float32 takes the same path at every depth.
    deepest = name in ("depth 4", "depth 5")
    for dtype in (jnp.float64,) if deepest else (jnp.float32, jnp.float64):
        for seed, scale in ((0, 0.5), (1, 2.0)):
            a, b = jax.random.split(jax.random.key(seed))
            w, m = weights(a, widths, dtype), action.group.random_algebra(b, dtype=dtype)
            m = jax.tree.map(lambda e, s=scale: e * jnp.asarray(s, e.dtype), m)
            exact = jax.tree.map(lambda x: np.asarray(x, np.float64), (w, m))
            expected = nested(exact[0], matrices(exact[1]))
            for found in ours(symjax.exponential_curve(action, w, m)):
                for x, y in zip(found, expected, strict=True):
                    assert x.dtype == dtype
                    # Derivatives of exp(tM) with |M| up to 4: amplification by e^4, times sums.
                    np.testing.assert_allclose(x, y, rtol=500 * eps(dtype))


@pytest.mark.slow
def test_many_times_are_as_exact_as_one(x64):
    """Smooth curves are interpolated, and curves with sharp peaks evaluated: both to rounding.

    On both sides of t = 0: a walk from -1 to 1 would amplify its first rounding by e^{2|M|}.
    """
    action = symjax.deep_linear_action((1, 2, 1))
    times = jnp.linspace(-1.0, 1.0, 101)

    def frames(curve, dtype):
        curve = jax.tree.map(lambda x: x.astype(dtype), curve)
        at = lambda t: (symjax.speed(curve, t), symjax.curvature(curve, t))
        return at(times.astype(dtype)), jax.lax.map(at, times.astype(dtype))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def errors(key, size):
        a, b = jax.random.split(key)
        (m,) = action.group.random_algebra(b, dtype=jnp.float32)
        m = m * (size / jnp.linalg.norm(m, 2))
        curve = symjax.exponential_curve(action, weights(a, (1, 2, 1), jnp.float32), (m,))
        many, exact = frames(curve, jnp.float64)
        far = lambda x: jnp.stack(
            [jnp.abs(p.astype(q.dtype) / q - 1).max() for p, q in zip(x, exact, strict=True)]
        )
        return far(many), *map(far, frames(curve, jnp.float32))

    for size in (0.3, 1.0, 3.0, 8.0):
        keys = jax.random.split(jax.random.key(0), 50)
        double, many, one = (x.max() for x in errors(keys, jnp.float32(size)))
        assert double <= 5e-13 * max(1, size)
        # Next to a sharp peak the curvature itself is ill-conditioned: 3e-3 in float32 at size 8.
        assert many <= max(5e-6, 2 * one)


@pytest.mark.slow
@pytest.mark.parametrize("count", [11, 101])
def test_nothing_else_in_a_batch_changes_a_curve(count):
    """To the bit: beside curves of one step and of many, at rest, of NaN, with sharp peaks."""
    action = symjax.deep_linear_action((1, 2, 1))
    times = jnp.linspace(-1.0, 1.0, count)

    @jax.jit
    @jax.vmap
    @jax.vmap
    def curves(w, m):
        curve = symjax.exponential_curve(action, w, (m,))
        return symjax.speed(curve, times), symjax.curvature(curve, times)

    size = jnp.asarray([0.3, 1.0, 3.0, 8.0, 30.0, 0.0, jnp.nan, 8.0])[:, None, None]
    w = jax.vmap(lambda key: weights(key, (1, 2, 1), jnp.float32))(
        jax.random.split(jax.random.key(0), 8)
    )
    m = size * jax.random.normal(jax.random.key(1), (8, 2, 2))
    nested = lambda x: x.reshape(2, 4, *x.shape[1:])
    together = curves(*jax.tree.map(nested, (w, m)))
    for i in range(8):
        alone = curves(*jax.tree.map(lambda x, i=i: nested(jnp.stack([x[i]] * 8)), (w, m)))
        for x, y in zip(together, alone, strict=True):
            np.testing.assert_array_equal(x.reshape(8, -1)[i], y.reshape(8, -1)[i])


@pytest.mark.slow
def test_zero_speed_is_nan_and_a_straight_line_is_zero():
    """Undefined where the curve rests; exactly 0, not rounding, on a line."""
    action = symjax.deep_linear_action((3, 4, 2))
    w = weights(jax.random.key(0), (3, 4, 2), jnp.float32)
    rest = symjax.exponential_curve(action, w, (jnp.zeros((4, 4)),))
    for t in (0.3, jnp.array([0.0, 1.0])):
        assert bool((symjax.speed(rest, t) == 0).all())
        assert bool(jnp.isnan(symjax.curvature(rest, t)).all())
        line = symjax.chord(w, jax.tree.map(jnp.negative, w))
        assert bool((symjax.curvature(line, t) == 0).all())
    # e^{tN} with N^2 = 0 draws the chord.
    nilpotent = jnp.zeros((4, 4)).at[0, 1].set(1.0)
    unipotent = symjax.exponential_curve(action, w, (nilpotent,))
    assert symjax.curvature(unipotent, 0.5) == 0


@pytest.mark.slow
def test_a_curve_that_is_not_finite_has_no_speed():
    """NaN stays NaN, at one time as at many, and so does the length: never 0."""
    action = symjax.deep_linear_action((2, 2, 2))
    w = (jnp.eye(2), jnp.eye(2))
    nowhere = symjax.connecting_curve(action, w, (jnp.diag(jnp.array([-1.0, 1.0])),))
    for curve in (nowhere, lambda t: t * jnp.array([1.0, jnp.nan])):
        assert jnp.isnan(symjax.speed(curve, 0.5))
        assert jnp.isnan(symjax.speed(curve, jnp.array([0.2, 0.5]))).all()
        assert jnp.isnan(symjax.curvature(curve, 0.5))
        assert jnp.isnan(symjax.length(curve))


def test_circle_helix_and_rescaling_closed_forms(x64):
    helix = lambda t: {"xy": 2 * jnp.stack([jnp.cos(t), jnp.sin(t)]), "z": jnp.atleast_1d(t)}
    np.testing.assert_allclose(symjax.curvature(helix, jnp.array([0.1, 0.7])), 2 / 5, rtol=1e-13)
    np.testing.assert_allclose(symjax.speed(helix, 0.3), np.sqrt(5), rtol=1e-14)
    # Closed form: kappa = k (k+1) x y / (x^2 + k^2 y^2)^(3/2).
    k, x0, y0, s = 3.0, 2.0, 0.7, 1.5
    w = (jnp.full((2, 2), x0 / 2), jnp.full((1, 4), y0 / 2))
    curve = symjax.exponential_curve(symjax.rescaling_action(k), w, jnp.asarray(s))
    t = np.linspace(0, 1, 5)
    x, y = x0 * np.exp(s * t), y0 * np.exp(-k * s * t)
    expected = k * (k + 1) * x * y / (x**2 + k**2 * y**2) ** 1.5
    np.testing.assert_allclose(symjax.curvature(curve, jnp.asarray(t)), expected, rtol=1e-12)


@pytest.mark.slow
def test_polar_connecting_curves(x64):
    """Two exponentials: the co-rotating frame against nested forward mode of the joint curve."""
    action = symjax.deep_linear_action((3, 4, 2))
    w = weights(jax.random.key(0), (3, 4, 2), jnp.float64)
    g = jnp.diag(jnp.array([-1.0, -2.0, 1.0, 3.0])) + 0.1 * jnp.eye(4, k=1)
    curve = symjax.connecting_curve(action, w, (g,))
    assert curve.method == 1
    inner = slice(1, -1)  # at the ends a connecting curve has no derivative from outside
    speed, kappa = (x[inner] for x in nested(w, curve.stretch, curve.rotation))
    many, one = ours(curve)
    np.testing.assert_allclose(many[0][inner], speed, rtol=1e-12)
    np.testing.assert_allclose(many[1][inner], kappa, rtol=1e-11)
    np.testing.assert_allclose(one[1][inner], kappa, rtol=1e-11)


def test_data_curves_are_not_differentiated_as_actions(x64):
    v, u = weights(jax.random.key(0), (3, 4, 2), jnp.float64)
    x = jax.random.normal(jax.random.key(1), (3, 12))
    m = 0.4 * jax.random.normal(jax.random.key(2), (4, 4))
    curve = symjax.exponential_curve(symjax.data_action(jnp.tanh, x), (v, u), m)

    def written_out(t):
        moved = exponential(t * m) @ v
        return moved, u @ jnp.tanh(v @ x) @ jnp.linalg.pinv(jnp.tanh(moved @ x))

    ours = jax.jit(lambda t: (symjax.speed(curve, t), symjax.curvature(curve, t)))(0.6)
    expected = jax.jit(lambda t: nested_jacfwd(written_out, t))(0.6)
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.slow
def test_forward_and_reverse_derivatives_agree_with_differences(x64):
    action = symjax.deep_linear_action((2, 3, 2))
    w = weights(jax.random.key(0), (2, 3, 2), jnp.float64)
    times, (m, step) = jnp.array([0.2, 0.9]), jax.random.normal(jax.random.key(1), (2, 3, 3))
    at = derivatives(
        lambda i, w, m, step: (
            lambda s: symjax.curvature(symjax.exponential_curve(action, w, (m + s * step,)), times)[
                i
            ]
        )
    )
    for i in range(2):
        before, here, after = (at(i, w, m, step, s) for s in (-1e-6, 0.0, 1e-6))
        np.testing.assert_allclose(here.forward, here.reverse, rtol=1e-9)
        np.testing.assert_allclose(here.forward, (after.value - before.value) / 2e-6, rtol=1e-6)


def test_cost_grows_with_the_moving_leaves_only():
    """1e6 more parameters at rest add nothing to the compiled work or memory."""

    def cost(rest):
        action = symjax.linear_action(symjax.GeneralLinear(4), [Leg("a"), Leg("b", 1, "covector")])
        params = {"a": jnp.ones((4, 3)), "b": jnp.ones((2, 4)), "rest": jnp.ones(rest)}
        times = jnp.linspace(0.0, 1.0, 16)
        run = lambda p, m: symjax.curvature(symjax.exponential_curve(action, p, m), times)
        compiled = jax.jit(run).lower(params, jnp.eye(4)).compile()
        analysis = compiled.cost_analysis()
        return analysis["flops"], compiled.memory_analysis().temp_size_in_bytes

    assert cost(10) == cost(1_000_000)


@pytest.mark.slow
def test_nothing_of_size_times_by_parameters_is_kept():
    action = symjax.deep_linear_action((32, 32, 32))
    w = weights(jax.random.key(0), (32, 32, 32), jnp.float32)

    def memory(count):
        times = jnp.linspace(0.0, 1.0, count)
        run = lambda w, m: symjax.curvature(symjax.exponential_curve(action, w, (m,)), times)
        compiled = jax.jit(run).lower(w, jnp.eye(32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    parameters = 2 * 32 * 32 * 4
    assert memory(4096) - memory(64) < 4096 * parameters / 20


def test_one_trace_for_every_value():
    action = symjax.deep_linear_action((2, 3, 2))
    w = weights(jax.random.key(0), (2, 3, 2), jnp.float32)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(m, times):
        return symjax.curvature(symjax.exponential_curve(action, w, (m,)), times)

    for scale in (0.1, 1.0, 30.0):  # one, two and many intervals of the series
        run(scale * jnp.eye(3), jnp.linspace(0.0, 1.0, 4))


def test_times_are_checked():
    line = symjax.chord(jnp.zeros(2), jnp.ones(2))
    with pytest.raises(ValueError, match="scalar or have shape"):
        symjax.speed(line, jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match="must be floating"):
        symjax.speed(line, jnp.arange(3))
    with pytest.raises(ValueError, match="floating leaf"):
        symjax.speed(lambda t: jnp.arange(3), 0.5)

"""Exact barriers of deep linear chords: against a minimiser, closed forms and hidden peaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import chebyshev
from scipy.optimize import minimize_scalar

from symjax import barriers
from symjax.barriers._roots import critical_points
from tests.helpers import eps

exact = jax.jit(barriers.linear_chord)


def networks(rng, depth, scale=0.6):
    widths = [3, *[4] * (depth - 1), 2]
    make = lambda: tuple(scale * rng.normal(size=(widths[i + 1], widths[i])) for i in range(depth))
    return make(), make(), rng.normal(size=(3, 5))


def chord_loss(a, b, x, y, t):
    for p, q in zip(a, b, strict=True):
        x = ((1 - t) * p + t * q) @ x
    return np.sum((x - y) ** 2)


def searched(a, b, x, y):
    """The maximum by a fine grid and a bounded minimiser around its best point."""
    loss = lambda t: chord_loss(a, b, x, y, t)
    ts = np.linspace(0, 1, 2001)
    values = [loss(t) for t in ts]
    i = int(np.argmax(values))
    ends = ts[max(i - 1, 0)], ts[min(i + 1, 2000)]
    found = minimize_scalar(
        lambda t: -loss(t), bounds=ends, method="bounded", options={"xatol": 1e-12}
    )
    return max(-found.fun, values[i])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("depth", [1, 2, 3, 5, 16])
def test_maximum_agrees_with_a_search(depth):
    rng = np.random.default_rng(depth)
    for case in range(3):
        a, b, x = networks(rng, depth)
        if case == 1:
            b = tuple(w + 0.3 * rng.normal(size=w.shape) for w in a)
        elif case == 2:
            b = (30 * a[0], *a[1:-1], a[-1] / 30) if depth > 1 else b
        y = np.linalg.multi_dot([*a[::-1], x]) if case else rng.normal(size=(2, 5))
        found = exact(*jax.tree.map(jnp.asarray, (a, b, x, y)))
        reference = searched(a, b, x, y)
        np.testing.assert_allclose(found.value, reference, rtol=1e-13 * depth + 1e-14)
        at = chord_loss(a, b, x, y, float(found.alpha))
        np.testing.assert_allclose(at, reference, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_general_linear_orbits_have_the_closed_form():
    """At any critical point: L0 + |U (g - I) g^-1 (g - I) V X|^2 / 16 at 1/2."""
    rng = np.random.default_rng(0)
    v, u, x = rng.normal(size=(3, 4)), rng.normal(size=(2, 3)), rng.normal(size=(4, 6))
    rest = np.eye(6) - np.linalg.pinv(x) @ x  # a residual that no change of U V can touch
    y = u @ v @ x + rng.normal(size=(2, 6)) @ rest
    g = np.eye(3) + 0.5 * rng.normal(size=(3, 3))
    inverse = np.linalg.inv(g)
    found = exact(*jax.tree.map(jnp.asarray, ((v, u), (g @ v, u @ inverse), x, y)))
    lift = u @ (g - np.eye(3)) @ inverse @ (g - np.eye(3)) @ v @ x
    np.testing.assert_allclose(found.value, np.sum((y - u @ v @ x) ** 2) + np.sum(lift**2) / 16)
    assert float(found.alpha) == pytest.approx(0.5)
    # Unipotent with square zero: the chord is a curve of minima.
    n = np.zeros((3, 3))
    n[0, 2] = 2.0
    far = (np.eye(3) + n) @ v, u @ (np.eye(3) - n)
    flat = exact(*jax.tree.map(jnp.asarray, ((v, u), far, x, u @ v @ x)))
    assert float(flat.value) < 1e-25


@pytest.mark.usefixtures("x64")
def test_scalar_networks_agree_with_the_rescaling_barrier():
    for m in (0.1, 3.0, 1e4):
        one = jnp.ones((1, 1))
        found = exact((one, one), (m * one, one / m), one, one)
        closed = barriers.rescaling(1.0, m, 1.0)
        np.testing.assert_allclose(found.value, closed.value, rtol=1e-12)
        np.testing.assert_allclose(found.alpha, closed.alpha, atol=1e-7)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("degree", [2, 8, 20, 32])
def test_no_critical_point_is_missed(degree):
    """Random polynomials, ones with clustered roots of the derivative, and decaying ones."""
    rng = np.random.default_rng(degree)
    find = jax.jit(critical_points)
    for case in range(12):
        if case % 3 == 0:
            c = rng.normal(size=degree + 1)
        elif case % 3 == 1:
            c = rng.normal(size=degree + 1) * 0.3 ** np.arange(degree + 1)
        else:
            roots = np.sort(rng.uniform(-1, 1, degree - 1))
            roots[1:2] = roots[0] + 1e-3
            c = chebyshev.chebint(chebyshev.chebfromroots(roots))
        points = np.asarray(find(jnp.asarray(c)))
        best = chebyshev.chebval(2 * points - 1, c).max()
        roots = chebyshev.chebroots(chebyshev.chebder(c))
        roots = roots.real[(np.abs(roots.imag) < 1e-6) & (np.abs(roots.real) <= 1)]
        grid = np.concatenate([roots, np.linspace(-1, 1, 4001)])
        reference = chebyshev.chebval(grid, c).max()
        assert reference - best <= 8 * eps(jnp.float64) * np.abs(c).sum()
        assert points[0] == 0
        assert points[-1] == 1
        assert np.all(np.diff(points) >= 0)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_derivatives_of_place_and_value():
    rng = np.random.default_rng(4)
    a, b, x = jax.tree.map(jnp.asarray, networks(rng, 3))
    y = a[2] @ a[1] @ a[0] @ x
    b = (4.0 * a[0], a[1] + 0.1 * b[1], a[2] / 4)
    direction = jnp.asarray(rng.normal(size=(4, 4)))
    along = jax.jit(lambda s: exact(a, (b[0], b[1] + s * direction, b[2]), x, y))
    assert 0.1 < float(along(0.0).alpha) < 0.9
    for name in ("value", "alpha"):
        f = jax.jit(lambda s, name=name: getattr(along(s), name))
        central = (f(1e-5) - f(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(f)(0.0), central, rtol=1e-5)
        np.testing.assert_allclose(jax.jvp(f, (0.0,), (1.0,))[1], central, rtol=1e-5)


def test_float32_batches_and_half_precision():
    rng = np.random.default_rng(5)
    a, b, x = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), networks(rng, 4))
    y = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)
    found = exact(a, b, x, y)
    wide = jax.tree.map(lambda w: np.asarray(w, np.float64), (a, b, x, y))
    np.testing.assert_allclose(found.value, searched(*wide), rtol=40 * eps(jnp.float32))
    mapped = jax.vmap(exact, in_axes=(None, 0, None, None))(
        a, jax.tree.map(lambda p, q: jnp.stack([p, q]), a, b), x, y
    )
    np.testing.assert_allclose(mapped.value[1], found.value, rtol=1e-5)
    half = exact(*jax.tree.map(lambda w: w.astype(jnp.bfloat16), (a, b, x, y)))
    assert half.value.dtype == half.alpha.dtype == jnp.bfloat16


def test_bad_arguments():
    w, x = (jnp.ones((2, 2)), jnp.ones((2, 2))), jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"`y` must have shape \(2, 3\)"):
        barriers.linear_chord(w, w, x, jnp.ones((3, 3)))
    with pytest.raises(ValueError, match="does not chain"):
        barriers.linear_chord(w, w, jnp.ones((4, 3)), x)
    with pytest.raises(ValueError, match="same tree structure"):
        barriers.linear_chord(w, w[:1], x, x)
    with pytest.raises(ValueError, match="`x` holds a NaN"):
        barriers.linear_chord(w, w, jnp.nan * x, x)
    assert np.isnan(exact(w, w, jnp.nan * x, x).value)

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from symjax.linalg import expm, expm_path

from ..helpers import relative_error

_expm, _path = jax.jit(expm), jax.jit(expm_path)


def _turn(angle):
    return jnp.array([[0, -angle], [angle, 0]])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 2e-5)])
def test_rotations_to_100_rad(x64, dtype, tolerance):
    angles = jnp.linspace(0.01, 100.0, 400).astype(dtype)
    turns = _expm(jax.vmap(_turn)(angles))
    exact = np.asarray(angles, np.float64)
    np.testing.assert_allclose(turns[:, 0, 0], np.cos(exact), rtol=0, atol=tolerance)
    np.testing.assert_allclose(turns[:, 1, 0], np.sin(exact), rtol=0, atol=tolerance)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 20.0])
def test_agrees_with_mpmath(x64, key, n, scale):
    a = scale * jax.random.normal(key, (n, n))
    with mpmath.workdps(80):
        exact = mpmath.expm(mpmath.matrix(np.asarray(a).tolist())).tolist()
    # The exponential of a matrix of size s is conditioned like s.
    assert relative_error(_expm(a), np.array(exact, np.float64)) <= 1e-15 * (10 + 5 * scale * n)


def test_small_and_large_results_are_not_confused(x64):
    np.testing.assert_allclose(_expm(jnp.diag(jnp.array([-2000.0, 0.0]))), np.diag([0, 1]))
    small = _expm(-300.0 * jnp.eye(2) + _turn(1.0))
    exact = np.exp(-300.0) * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    assert relative_error(small, exact) <= 1e-13
    assert not np.isfinite(_expm(jnp.diag(jnp.array([1000.0, 0.0])))).all()
    assert np.isnan(_expm(jnp.full((2, 2), jnp.nan))).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_path_agrees_with_expm(x64, key, dtype):
    m = 3 * jax.random.normal(key, (2, 5, 5), dtype)
    ts = jnp.linspace(-1.0, 2.0, 41).astype(dtype)
    one_by_one = _expm(jnp.einsum("t,bij->btij", ts, m))
    gap = jnp.linalg.norm(_path(m, ts) - one_by_one, axis=(-2, -1))
    size = jnp.linalg.norm(one_by_one, axis=(-2, -1))
    # |t m| is up to 30, and both are right to about |t m| eps.
    assert (gap <= 100 * jnp.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("f", [expm, lambda a: expm_path(a, jnp.linspace(0.0, 1.0, 20))])
def test_derivatives_against_differences(x64, key, f):
    a, e = jax.random.normal(key, (2, 4, 4))
    g = jax.jit(lambda s: jnp.sum(jnp.sin(f(a + s * e))))
    first, second = jax.jit(jax.grad(g)), jax.jit(jax.jacfwd(jax.grad(g)))
    h = 1e-5
    np.testing.assert_allclose(first(0.0), (g(h) - g(-h)) / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(second(0.0), (first(h) - first(-h)) / (2 * h), rtol=1e-6)


def test_a_bad_member_leaves_the_batch_alone(key):
    a = jax.random.normal(key, (3, 4, 4))
    value = jax.jit(lambda a: jax.vmap(jax.value_and_grad(lambda x: expm(x).sum()))(a))
    good, bad = value(a), value(a.at[1].set(jnp.nan))
    for x, y in zip(good, bad, strict=True):
        assert (x[::2] == y[::2]).all()


@pytest.mark.parametrize("f", [expm, lambda a: expm_path(a, jnp.ones(3))])
@pytest.mark.parametrize("a", [jnp.ones((2, 3)), jnp.ones(4), jnp.ones((2, 2), jnp.int32)])
def test_bad_arguments_are_named(f, a):
    with pytest.raises(ValueError, match=r"`[am]` must"):
        f(a)


def test_half_precision_is_computed_in_float32():
    a = _turn(jnp.bfloat16(1.0))
    assert expm(a).dtype == jnp.bfloat16
    assert (expm(a) == expm(a.astype(jnp.float32)).astype(jnp.bfloat16)).all()

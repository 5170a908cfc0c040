import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from symjax.linalg import expm, has_principal_log, logm

_logm, _expm = jax.jit(logm), jax.jit(expm)


def _error(x, y):
    return np.linalg.norm(np.asarray(x) - y) / np.linalg.norm(y)


def _orthogonal(n, seed=0):
    return scipy.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


@pytest.mark.parametrize("n", [1, 2, 5, 8, 32, 128])
@pytest.mark.parametrize("power", [0, 150, -150])
def test_log_of_an_exponential(x64, n, power):
    m = np.random.default_rng(n).normal(size=(n, n)) / np.sqrt(n)
    g = 10.0**power * scipy.linalg.expm(m)
    exact = m + power * np.log(10) * np.eye(n)
    log = _logm(jnp.asarray(g))
    assert _error(log, exact) <= 2e-13
    assert _error(_expm(log), g) <= 2e-13


@pytest.mark.parametrize("n", [2, 5, 32])
def test_near_identity_keeps_relative_accuracy(x64, n):
    e = np.random.default_rng(n).normal(size=(n, n)) * 1e-12
    g = np.eye(n) + e
    exact = (g - np.eye(n)) - (g - np.eye(n)) @ (g - np.eye(n)) / 2
    assert _error(_logm(jnp.asarray(g)), exact) <= 1e-14


@pytest.mark.parametrize("digits", [4, 8, 12])
@pytest.mark.parametrize("n", [2, 8, 32])
def test_positive_definite(x64, n, digits):
    values, basis = np.logspace(-digits, 0, n), _orthogonal(n)
    g = basis @ np.diag(values) @ basis.T
    exact = basis @ np.diag(np.log(values)) @ basis.T
    # The condition number of the logarithm is at most |g| / (smallest eigenvalue |log g|).
    floor = 50 * 2.2e-16 * np.linalg.norm(g) / (values[0] * np.linalg.norm(exact))
    log = _logm(jnp.asarray((g + g.T) / 2))
    assert _error(log, exact) <= max(2e-13, floor)
    assert _error(_expm(log), g) <= max(2e-13, floor)


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10])
def test_rotation_by_nearly_pi(x64, gap):
    angle = np.pi - gap
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    exact = np.array([[0, -1], [1, 0]]) * np.arctan2(turn[1, 0], turn[0, 0])
    basis = _orthogonal(4)
    log = _logm(jnp.asarray(basis @ scipy.linalg.block_diag(turn, np.eye(2)) @ basis.T))
    exact = basis @ scipy.linalg.block_diag(exact, np.zeros((2, 2))) @ basis.T
    # The condition number is 1/gap.
    assert _error(log, exact) <= max(2e-13, 50 * 2.2e-16 / gap)


def test_nan_where_there_is_none_and_only_there(x64):
    basis = _orthogonal(4)
    none = [
        -np.eye(4),
        np.diag([-1.0, -2, 3, 4]),
        np.diag([-1.0, 2, 3, 4]),
        basis @ np.diag([-1.0, -2, 3, 4]) @ basis.T,
        basis @ np.diag([0.0, 1, 2, 3]) @ basis.T,
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.diag([np.inf, 1, 1, 1]),
    ]
    good = scipy.linalg.expm(np.random.default_rng(0).normal(size=(4, 4)) / 2)
    batch = jnp.asarray(np.stack([good, *none]))
    alone = jnp.broadcast_to(batch[0], batch.shape)
    assert has_principal_log(batch).tolist() == [True] + [False] * len(none)
    log = _logm(batch)
    assert np.isnan(log[1:]).all()
    assert (log[0] == _logm(alone)[0]).all()
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(jnp.sin(logm(a)[0]))))
    assert (gradient(batch)[0] == gradient(alone)[0]).all()
    assert np.isfinite(gradient(batch)[0]).all()


def test_derivatives_against_differences(x64, key):
    m, e = jax.random.normal(key, (2, 4, 4)) / 2
    a = expm(m)
    g = jax.jit(lambda s: jnp.sum(jnp.sin(logm(a + s * e))))
    first, second = jax.jit(jax.grad(g)), jax.jit(jax.jacfwd(jax.grad(g)))
    forward = jax.jit(jax.jacfwd(g))
    h = 1e-5
    np.testing.assert_allclose(first(0.0), (g(h) - g(-h)) / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(first(0.0), forward(0.0), rtol=1e-9)
    np.testing.assert_allclose(second(0.0), (first(h) - first(-h)) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("a", [jnp.ones((2, 3)), jnp.ones((2, 2), jnp.int32)])
def test_bad_arguments_are_named(a):
    with pytest.raises(ValueError, match="`a` must"):
        logm(a)

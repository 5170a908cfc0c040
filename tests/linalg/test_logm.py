"""logm against mpmath, closed forms and SciPy; where there is no logarithm; derivatives."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg

from symjax.linalg import expm, has_principal_log, logm

from ..helpers import derivatives, eps, relative_error, slow_among

_logm, _expm = jax.jit(logm), jax.jit(expm)
EPS = eps(jnp.float64)
GAPS = (1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)


def rotation(n, rng):
    q = scipy.linalg.qr(rng.normal(size=(n, n)))[0]
    q[:, 0] *= np.sign(np.linalg.det(q))
    return q


def turn(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _nearly_pi(n, gap, rng, planes=1):
    turns = [turn(np.pi - (i + 1) * gap) for i in range(planes)]
    basis = rotation(n, rng)
    return basis @ scipy.linalg.block_diag(*turns, np.eye(n - 2 * planes)) @ basis.T


def _positive(n, digits, rng):
    basis = rotation(n, rng)
    g = basis @ np.diag(np.logspace(-digits, 0, n)) @ basis.T
    return (g + g.T) / 2


def matrices(n, seed=0):
    """{name: matrix}: every kind that has a principal logarithm."""
    rng = np.random.default_rng([n, seed])
    gauss = lambda: rng.normal(size=(n, n)) / np.sqrt(n)
    found = {f"exp of size {s}": scipy.linalg.expm(s * gauss()) for s in (0.3, 1, 3)}
    found |= {f"1e{k}": float(f"1e{k}") * scipy.linalg.expm(gauss()) for k in (150, -150)}
    found |= {f"I + {d}": np.eye(n) + d * gauss() for d in (1e-3, 1e-8, 1e-12)}
    if n > 1:
        found |= {f"SPD 1e{d}": _positive(n, d, rng) for d in (4, 8, 12)}
        found |= {f"pi - {gap}": _nearly_pi(n, gap, rng) for gap in GAPS}
        upper = lambda s: np.diag(rng.uniform(0.5, 2, n)) + s * np.triu(gauss(), 1)
        found |= {f"nonnormal {s}": upper(s) for s in (10, 100)}
        found["Jordan"] = np.eye(n) / 2 + np.eye(n, k=1)
        s = _positive(n, 3, rng) @ rotation(n, rng)
        found["similar to positive"] = np.linalg.solve(s, np.diag(rng.uniform(0.1, 10, n)) @ s)
        grades = np.logspace(-2, 2, n)
        found["graded"] = grades[:, None] * scipy.linalg.expm(gauss()) / grades
    if n > 2:
        skew = gauss()
        found["orthogonal"] = scipy.linalg.expm(1.5 * (skew - skew.T) / np.linalg.norm(skew, 2))
    if n > 3:
        found |= {f"twice pi - {gap}": _nearly_pi(n, gap, rng, 2) for gap in GAPS}
    return found


def condition(log, a):
    """The condition number of the logarithm, from the whole matrix of the exponential's L."""
    n = len(log)
    point = np.zeros((n * n, 2 * n, 2 * n))
    point[:, :n, :n] = point[:, n:, n:] = log
    point[:, :n, n:] = np.eye(n * n).reshape(n * n, n, n)
    derivative = np.asarray(_expm(point))[:, :n, n:].reshape(n * n, n * n)
    smallest = np.linalg.svd(derivative, compute_uv=False)[-1]
    return np.linalg.norm(a) / np.linalg.norm(log) / smallest


def mpmath_log(a):
    """The logarithm to some 50 digits, from eigenvalues and eigenvectors of 60."""
    with mpmath.workdps(60):
        values, basis = mpmath.eig(mpmath.matrix(a.tolist()))
        log = basis * mpmath.diag([mpmath.log(v) for v in values]) * mpmath.inverse(basis)
        return np.array(log.apply(mpmath.re).tolist(), float)


def jordan_log(n):
    """The logarithm of I/2 + N: of log(1/2) + log(I + 2 N) the series ends."""
    series = sum(-((-2) ** k) / k * np.eye(n, k=k) for k in range(1, n))
    return series - np.log(2) * np.eye(n)


def _floor(condition):
    return 2e-13 if condition < 100 else 50 * condition * EPS


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_agrees_with_mpmath(x64, n):
    found = matrices(n)
    logs = np.asarray(_logm(np.stack(list(found.values()))))
    ends = np.asarray(_expm(logs))
    for (name, a), log, end in zip(found.items(), logs, ends, strict=True):
        exact = jordan_log(n) if name == "Jordan" else mpmath_log(a)
        floor = _floor(condition(exact, a))
        assert relative_error(log, exact) <= floor, name
        # The exponential is conditioned like the size of its argument, here up to 350.
        assert relative_error(end, a) <= max(floor, EPS * np.linalg.norm(log)), name


@pytest.mark.parametrize("n", slow_among([32, 128], 128))
def test_large_matrices_against_closed_forms_and_scipy(x64, n):
    rng = np.random.default_rng(n)
    found = matrices(n)
    gauss = rng.normal(size=(n, n)) / np.sqrt(n)
    basis = rotation(n, rng)
    exact = {}
    for name, shift in (("1e150", 150), ("1e-150", -150), ("1", 0)):
        found[name] = 10.0**shift * scipy.linalg.expm(gauss)
        exact[name] = gauss + shift * np.log(10) * np.eye(n), 100.0
    for gap in GAPS:
        plane = np.zeros((n, n))
        plane[:2, :2] = [[0, gap - np.pi], [np.pi - gap, 0]]
        whole = scipy.linalg.block_diag(turn(np.pi - gap), np.eye(n - 2))
        found[f"pi - {gap}"] = basis @ whole @ basis.T
        exact[f"pi - {gap}"] = basis @ plane @ basis.T, n / gap
    for digits in (4, 8, 12):
        values = np.logspace(-digits, 0, n)
        g = basis @ np.diag(values) @ basis.T
        log = basis @ np.diag(np.log(values)) @ basis.T
        found[f"SPD 1e{digits}"] = (g + g.T) / 2
        # The condition number of the logarithm is at most |g| / (smallest eigenvalue |log g|).
        bound = np.linalg.norm(g) / (values[0] * np.linalg.norm(log))
        exact[f"SPD 1e{digits}"] = log, bound
    small = found["I + 1e-12"] - np.eye(n)
    exact["I + 1e-12"] = small - small @ small / 2, 10.0
    exact["orthogonal"] = scipy.linalg.logm(found["orthogonal"]).real, 10.0
    names = list(exact)
    batch = np.stack([found[name] for name in names])
    logs = np.asarray(_logm(batch))
    ends = np.asarray(_expm(logs))
    for name, a, log, end in zip(names, batch, logs, ends, strict=True):
        expected, relative = exact[name]
        assert relative_error(log, expected) <= max(2e-13, 50 * relative * EPS), name
        assert relative_error(end, a) <= max(2e-13, 50 * relative * EPS), name


def test_nan_where_there_is_none_and_only_there(x64):
    rng = np.random.default_rng(0)
    basis = rotation(4, rng)
    none = [
        -np.eye(4),
        np.diag([-1.0, -2, 3, 4]),
        np.diag([-1.0, 2, 3, 4]),
        basis @ np.diag([-1.0, -2, 3, 4]) @ basis.T,
        basis @ np.diag([-1.0, -1, 1, 1]) @ basis.T,
        np.eye(4)[[1, 0, 3, 2]],
        basis @ np.diag([0.0, 1, 2, 3]) @ basis.T,
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.diag([np.inf, 1, 1, 1]),
    ]
    good = scipy.linalg.expm(rng.normal(size=(4, 4)) / 2)
    batch = jnp.asarray(np.stack([good, _nearly_pi(4, 1e-12, rng), *none]))
    alone = jnp.broadcast_to(batch[0], batch.shape)
    assert jax.jit(has_principal_log)(batch).tolist() == [True, True] + [False] * len(none)
    value = jax.jit(jax.vmap(jax.value_and_grad(lambda a: jnp.sum(jnp.sin(logm(a))))))
    logs = _logm(batch)
    assert np.isnan(logs[2:]).all()
    assert (logs[0] == _logm(alone)[0]).all()
    for bad, without in zip(value(batch), value(alone), strict=True):
        assert (bad[0] == without[0]).all()
        assert np.isfinite(bad[0]).all()
    assert np.isnan(value(batch)[1][2:]).all()


@functools.cache
def _along():
    return derivatives(lambda a, e: lambda s: jnp.sum(jnp.sin(logm(a + s * e))))


@pytest.mark.parametrize("near_pi", [False, True])
def test_derivatives_against_differences(x64, key, near_pi):
    m, e = jax.random.normal(key, (2, 4, 4)) / 2
    near = jnp.asarray(_nearly_pi(4, 0.3, np.random.default_rng(1)))
    a = near if near_pi else _expm(m)
    h = 1e-5
    before, here, after = (_along()(a, e, s) for s in (-h, 0.0, h))
    slope = (after.value - before.value) / (2 * h)
    np.testing.assert_allclose(here.reverse, slope, rtol=1e-6)
    np.testing.assert_allclose(here.reverse, here.forward, rtol=1e-9)
    np.testing.assert_allclose(here.second, (after.reverse - before.reverse) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("a", [jnp.ones((2, 3)), jnp.ones((2, 2), jnp.int32)])
def test_bad_arguments_are_named(a):
    with pytest.raises(ValueError, match="`a` must"):
        logm(a)


def chebyshev_differentiation(n):
    """The n x n matrix that differentiates polynomials by their values at Chebyshev points."""
    x = np.cos(np.pi * np.arange(n) / (n - 1))
    ends = np.r_[2.0, np.ones(n - 2), 2.0] * (-1.0) ** np.arange(n)
    d = np.outer(ends, 1 / ends) / (np.subtract.outer(x, x) + np.eye(n))
    return d - np.diag(d.sum(1))


# How far rounding of the exponential moves the logarithm, relative, from mpmath in 60 digits.
@pytest.mark.parametrize(
    ("n", "condition", "times"), [(6, 2.2e3, 2), (7, 3.1e4, 32), (8, 8.2e5, 512)]
)
def test_strongly_nonnormal_matrices(x64, n, condition, times):
    """Nilpotent: the logarithm of the exponential is the matrix itself."""
    d = chebyshev_differentiation(n)
    with mpmath.workdps(60):
        exponential = np.array(mpmath.expm(mpmath.matrix(d.tolist())).tolist(), float)
    assert relative_error(_expm(d), exponential) <= 64 * EPS
    assert relative_error(_logm(exponential), d) <= times * condition * EPS

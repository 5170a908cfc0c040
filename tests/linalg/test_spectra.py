"""expm, logm and connecting_logs against mpmath over dtype, scale, spectrum and structure."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg

from symjax.linalg import (
    NO_PATH,
    ONE_EXPONENTIAL,
    connecting_logs,
    expm,
    expm_path,
    has_principal_log,
    logm,
)

from ..helpers import eps, relative_error
from .test_logm import rotation

_expm, _logm, _logs = jax.jit(expm), jax.jit(logm), jax.jit(connecting_logs)
_end = jax.jit(lambda m: expm_path(m, jnp.linspace(0.0, 1.0, 33).astype(m.dtype))[-1])
_N = 4
SPECTRA = {
    "narrow": [1.0, 0.3, -0.5, -1.0],
    "decaying": [0.0, -1.0, -300.0, -6000.0],
    "stiff": [-1.0, -1e2, -1e3, -3e4],
    "shifted": [-40.0, -41.0, -4000.0, -4001.0],
}
STRUCTURES = ("symmetric", "similar", "triangular", "blocks")


def _with_spectrum(values, structure, rng):
    n = len(values)
    noise = rng.normal(size=(n, n))
    if structure == "symmetric":
        q = rotation(n, rng)
        return q @ np.diag(values) @ q.T
    if structure == "similar":
        basis = np.eye(n) + noise / (2 * np.sqrt(n))
        return basis @ np.diag(values) @ np.linalg.inv(basis)
    coupling = np.triu(noise, 1) * np.ptp(values)
    if structure == "blocks":
        coupling[:2, :2] = coupling[2:, 2:] = 0
    return np.diag(values) + coupling


def _exact(f, a, digits=120):
    with mpmath.workdps(digits):
        result = f(mpmath.matrix(np.asarray(a, float).tolist()))
        return np.array(result.apply(mpmath.re).tolist(), float)


def _by_eigenvalues(f):
    def of(a):
        values, basis = mpmath.eig(a)
        return basis * mpmath.diag([f(v) for v in values]) * mpmath.inverse(basis)

    return of


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponentials(x64, dtype):
    rng = np.random.default_rng(0)
    for spectrum, structure in itertools.product(SPECTRA, STRUCTURES):
        a = jnp.asarray(_with_spectrum(SPECTRA[spectrum], structure, rng), dtype)
        exact = _exact(_by_eigenvalues(mpmath.exp), a)
        # The exponential is conditioned like the size of its argument, here a norm of n terms.
        bound = 4 * _N * eps(dtype) * (1 + float(jnp.linalg.norm(a)))
        assert relative_error(_expm(a), exact) <= bound, (spectrum, structure)
        assert relative_error(_end(a), exact) <= bound, (spectrum, structure)


@pytest.mark.parametrize(("n", "time"), [(20, 700.0), (12, 1e4)])
def test_the_heat_kernel_of_a_ring_becomes_uniform(n, time):
    ring = 2 * np.eye(n) - np.roll(np.eye(n), 1, 0) - np.roll(np.eye(n), -1, 0)
    a = jnp.asarray(-time * ring, jnp.float32)
    bound = 4 * time * eps("float32")
    for kernel in (expm(a), _end(a)):
        np.testing.assert_allclose(kernel, np.full((n, n), 1 / n), rtol=bound)


def test_the_derivative_of_a_wide_spectrum():
    a = jnp.diag(jnp.float32([0.0, -3000.0]))
    first = jax.grad(lambda a: expm(a)[0, 0])(a)
    np.testing.assert_allclose(first, np.diag([1.0, 0.0]), atol=3000 * eps("float32"))


def test_what_overflows_or_has_no_digit_says_so():
    assert not np.isfinite(expm(jnp.diag(jnp.float32([100.0, -3000.0])))[0, 0])
    assert np.isnan(expm(jnp.float32([[0.0, 1e9], [-1e9, 0.0]]))).all()


def _hard_logs():
    """{name: matrix}: triangular, graded and badly scaled ones, and blocks coupled one way."""
    rng = np.random.default_rng(1)
    gauss = scipy.linalg.expm(rng.normal(size=(2, 4, 4)) / 2)
    upper = lambda n, s: np.diag(rng.uniform(0.5, 2, n)) + s * np.triu(rng.normal(size=(n, n)), 1)
    grades = lambda k: np.logspace(-k, k, 4)
    close = np.diag([0.32346, 0.30089, 0.321, 0.30744]) + np.triu(np.full((4, 4), 3e4), 1)
    order = rng.permutation(4)
    scaled = lambda k, a: grades(k)[:, None] * a / grades(k)
    return {
        "close": close,
        "close, lower": close.T,
        "close, permuted": close[order][:, order],
        **{f"upper {s}": upper(5, s) for s in (1.0, 1e2, 1e6)},
        "wide": np.triu(np.ones((3, 3)), 1) + np.diag([1e-9, 1.0, 1e12]),
        "scaled 4": scaled(4, gauss[0]),
        "scaled 8": scaled(8, gauss[1]),
        "blocks": np.block([[gauss[0], 1e12 * gauss[1]], [np.zeros((4, 4)), gauss[1]]]),
    }


@pytest.mark.slow
def test_logarithms_of_hard_matrices(x64):
    for name, a in _hard_logs().items():
        exact = _exact(_by_eigenvalues(mpmath.log), a, 250)
        # SciPy is right to a few units where the matrix is triangular; so is this.
        assert relative_error(_logm(a), exact) <= 20 * len(a) * eps("float64"), name


def test_logarithms_in_closed_form(x64):
    shear = np.array([[1.0, 1e15], [0.0, 1.0]])
    np.testing.assert_allclose(_logm(shear), shear - np.eye(2), rtol=1e-14)
    values = np.array([1e300, 1.0, 1e-300])
    np.testing.assert_allclose(_logm(np.diag(values)), np.diag(np.log(values)), rtol=1e-15)
    for scale in (1e250, 1e-250):
        log = _logm(scale * np.array([[1.0, 2.0], [0.0, 1.0]]))
        exact = np.array([[np.log(scale), 2.0], [0.0, np.log(scale)]])
        np.testing.assert_allclose(log, exact, rtol=1e-14)


@pytest.mark.slow
def test_the_derivative_at_a_triangular_matrix_in_a_full_direction(x64):
    a, e = np.diag([1.0, 2.0, 0.5]) + np.triu(np.ones((3, 3)), 1), np.cos(np.arange(9.0))
    e = e.reshape(3, 3)
    slope = jax.jvp(logm, (jnp.asarray(a),), (jnp.asarray(e),))[1]
    # Away from triangular the other way computes the value.
    step = 1e-5
    np.testing.assert_allclose(
        slope, (_logm(a + step * e) - _logm(a - step * e)) / (2 * step), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("n", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_no_logarithm_is_claimed_next_to_minus_one(x64, n):
    rng = np.random.default_rng(n)
    noise = rng.normal(size=(300, n, n)) * 10.0 ** rng.uniform(-17, -14.5, (300, 1, 1))
    signs = np.ones(n)
    signs[0] = -1 if n % 2 else 1
    near = signs[:, None] * (noise - np.eye(n)) * np.where(n % 2, signs, 1)
    near[:, 0, 0] = np.where(n % 2, 1.0, near[:, 0, 0])
    found = np.asarray(has_principal_log(jnp.asarray(near)))
    for a, claimed in zip(near, found, strict=True):
        with mpmath.workdps(60):
            values = mpmath.eig(mpmath.matrix(a.tolist()), left=False, right=False)
        negative = any(mpmath.re(v) < 0 and abs(mpmath.im(v)) < 1e-40 for v in values)
        assert not (claimed and negative)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_exponentials_end_at_the_matrix_or_say_that_there_is_no_path(x64, dtype):
    rng = np.random.default_rng(2)
    digits = (3, 6, 7.5, 8, 10, 12, 14, 15, 15.5, 16, 17)
    found = [scipy.linalg.hilbert(4)]
    for c, _ in itertools.product(digits, range(6)):
        g = rotation(4, rng) @ np.diag(np.logspace(0, -c, 4)) @ rotation(4, rng)
        graded = np.logspace(0, -c / 2, 4)[:, None] * rng.normal(size=(4, 4))
        graded = graded * np.logspace(0, -c / 2, 4)
        graded[0] *= np.linalg.slogdet(graded)[0]
        found += [g, graded]
    g = jnp.asarray(np.stack(found), dtype)
    turn, stretch, method = _logs(g)
    reached = np.asarray(method) != NO_PATH
    end = np.asarray(_expm(turn) @ _expm(stretch))
    assert np.isfinite(end[reached]).all()
    assert np.isnan(np.asarray(turn)[~reached]).all()
    error = np.abs(end - g).max((1, 2)) / np.abs(g).max((1, 2))
    # The tolerance of one exponential, or |log p| eps of two: 40 with a factor for n.
    floor = {"float64": 5e-13, "float32": 5e-5}[dtype]
    assert error[reached].max() <= floor
    # The sign of a determinant survives being rounded to the dtype as far as its digits reach.
    known = {"float64": 10, "float32": 6}[dtype]
    assert reached[1 : 1 + 12 * digits.index(known)].all()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["jax_debug_nans", "jax_debug_infs"])
def test_good_input_passes_where_jax_looks_for_nan(x64, flag):
    g = jnp.array([[1.1, 0.2], [0.1, 0.9]])
    jax.clear_caches()
    jax.config.update(flag, True)
    try:
        assert connecting_logs(g)[2] == ONE_EXPONENTIAL
        for f in (expm, logm, lambda g: connecting_logs(-g)[1]):
            assert np.isfinite(jax.grad(lambda g, f=f: f(g).sum())(g)).all()
    finally:
        jax.config.update(flag, False)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from symjax.linalg import connecting_logs, expm, log_rotation, polar

from .test_logm import rotation, turn

_logs = jax.jit(connecting_logs)
_log_rotation = jax.jit(log_rotation)
_FLOOR = {"float64": 1e-12, "float32": 1e-5}


def _rotation(n, seed=0):
    return rotation(n, np.random.default_rng(seed))


def _wide():
    u, v = _rotation(4, 1), _rotation(4, 2)
    return u @ np.diag(np.logspace(-10, 0, 4)) @ v.T


_REACHED = {
    "-I": -np.eye(4),
    "diag(-1,-2)": np.diag([-1.0, -2, 1, 1]),
    "even permutation": np.eye(4)[[1, 0, 3, 2]],
    "three-cycle": np.eye(4)[[1, 2, 0, 3]],
    "condition 1e10": _wide(),
    **{
        f"pi - {gap}": scipy.linalg.block_diag(turn(np.pi - gap), np.eye(2))
        for gap in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14, 1e-16)
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_exponentials_reach_every_end(x64, dtype):
    g = jnp.asarray(np.stack(list(_REACHED.values())), dtype)
    rotation, stretch, method = _logs(g)
    assert set(method.tolist()) <= {0, 1}
    end = expm(rotation) @ expm(stretch)
    error = np.linalg.norm(end - g, axis=(1, 2)) / np.linalg.norm(g, axis=(1, 2))
    assert dict(zip(_REACHED, error <= _FLOOR[dtype], strict=True)) == dict.fromkeys(_REACHED, True)


def test_no_path_out_of_the_component():
    g = jnp.stack([jnp.diag(jnp.array([-1.0, 1.0])), jnp.zeros((2, 2)), jnp.full((2, 2), jnp.nan)])
    rotation, stretch, method = _logs(g)
    assert method.tolist() == [2, 2, 2]
    assert np.isnan(rotation).all()
    assert np.isnan(stretch).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "angles",
    [
        (np.pi, np.pi),
        (np.pi, np.pi - 0.3, np.pi - 1e-9, 1e-9),
        (np.pi - 0.5, np.pi - 0.49, 0.5, 0.0),
        (0.1, 3.0),
    ],
)
def test_log_rotation(x64, dtype, angles):
    n = 2 * len(angles)
    basis = _rotation(n)
    q = jnp.asarray(basis @ scipy.linalg.block_diag(*map(turn, angles)) @ basis.T, dtype)
    log = _log_rotation(q)
    assert (log == -log.mT).all()
    assert jnp.abs(expm(log) - q).max() <= 400 * jnp.finfo(dtype).eps


@pytest.mark.slow
def test_derivatives_against_differences(x64):
    start = jnp.asarray(_rotation(5) @ scipy.linalg.block_diag(turn(2.5), turn(1.0), 1.0))
    noise = jnp.asarray(np.random.default_rng(3).normal(size=(2, 5, 5)))
    weights, m = noise[0], noise[1] - noise[1].T
    turned = jnp.diag(jnp.array([-1.0, -2.0, 3.0, 1.0, 2.0]))  # det > 0, no principal logarithm
    h = 1e-5
    for f in (
        lambda s: log_rotation(polar(start)[0] @ expm(s * m)),
        lambda s: polar(start + s * noise[0])[1],
        lambda s: sum(connecting_logs(turned + 0.1 * s * noise[0])[:2]),
    ):
        g = jax.jit(lambda s, f=f: jnp.sum(jnp.sin(f(s)) * weights[: f(s).shape[0]]))
        first = jax.jit(jax.grad(g))
        np.testing.assert_allclose(first(0.1), (g(0.1 + h) - g(0.1 - h)) / (2 * h), rtol=1e-5)


def test_polar_factors(x64, key):
    g = jax.random.normal(key, (3, 5, 5))
    q, p = polar(g)
    np.testing.assert_allclose(q @ p, g, atol=1e-14)
    np.testing.assert_allclose(q.mT @ q, np.broadcast_to(np.eye(5), g.shape), atol=1e-14)
    assert (np.linalg.eigvalsh(p) > 0).all()


@pytest.mark.parametrize("f", [polar, log_rotation, connecting_logs])
def test_bad_arguments_are_named(f):
    with pytest.raises(ValueError, match=r"`[gq]` must"):
        f(jnp.ones((2, 3)))

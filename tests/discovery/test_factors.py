"""Factors of matrices: singular values do not see orthogonal matrices, and scales pass the others.

Every true number is that of the parameters minus the rank of the Jacobian.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

from ._reference import changes, redundancy

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
linalg = jnp.linalg


@pytest.fixture(autouse=True)
def as_people_write():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def weights(**shapes):
    return {name: jnp.asarray(RNG.standard_normal(shape)) for name, shape in shapes.items()}


def singular(w):
    return linalg.svd(w, compute_uv=False)


def per_head(p, x):
    return jnp.tanh(x[:, None] * singular(p["w"])) @ p["b"]


X = RNG.standard_normal((60, 3))
COMPLETE = {
    # Both sides of W turn: three and one.
    "singular values": (
        lambda p, x: jnp.tanh(x[:, :2] * singular(p["w"])) @ p["b"],
        {"w": (3, 2), "b": (2, 4)},
        4,
    ),
    "singular values of each of two": (per_head, {"w": (2, 3, 3), "b": (3, 1)}, 12),
    "spectral norm": (
        lambda p, x: jnp.tanh(x @ (p["w"] / linalg.norm(p["w"], 2))) @ p["b"],
        {"w": (3, 4), "b": (4, 4)},
        1,
    ),
    # The Gram matrix does not see W -> O W.
    "root of a Gram matrix": (
        lambda p, x: jnp.tanh(x[:, :2] @ linalg.cholesky(p["w"].T @ p["w"])) @ p["b"],
        {"w": (3, 2), "b": (2, 4)},
        3,
    ),
}
#: With what a triangular group or all similar matrices would add to the scales that are found.
SCALES = {
    "orthogonal factor": (
        lambda p, x: jnp.tanh(x @ linalg.qr(p["w"])[0]) @ p["b"],
        {"w": (3, 3), "b": (3, 4)},
        1,
        6,
    ),
    "eigenvectors": (
        lambda p, x: jnp.tanh(x @ linalg.eigh(p["w"] + p["w"].T)[1]) @ p["b"],
        {"w": (3, 3), "b": (3, 4)},
        3,
        6,
    ),
    "whitened": (
        lambda p, x: (
            jax.scipy.linalg.solve_triangular(
                linalg.cholesky(p["w"].T @ p["w"]), (x @ p["w"]).T, lower=True
            ).T
            @ p["b"]
        ),
        {"w": (3, 2), "b": (2, 4)},
        1,
        4,
    ),
}


def holds(apply, found, params):
    for s, change in changes(found.exact, apply, params, (X,)):
        assert change < 1e-10, f"{s.name} of {s.leaves} changes the output by {change:.1e}"
    assert found.false == ()


@pytest.mark.parametrize("name", COMPLETE)
def test_what_does_not_change_a_factor_is_found(name):
    apply, shapes, true = COMPLETE[name]
    params = weights(**shapes)
    assert redundancy(apply, params, X) == true
    found = symjax.find_symmetries(apply, params, X)
    holds(apply, found, params)
    assert found.dimension == true, found


@pytest.mark.parametrize("name", SCALES)
def test_of_other_factors_scales_are_found_and_they_are_named(name):
    apply, shapes, least, true = SCALES[name]
    params = weights(**shapes)
    assert redundancy(apply, params, X) == true
    found = symjax.find_symmetries(apply, params, X)
    holds(apply, found, params)
    assert found.dimension == least, found
    assert any("of which only scales are followed" in what for what in found.unknown)
    assert found.unknown.popitem()[1] == ("w",)


@pytest.mark.parametrize(
    "factor",
    [
        lambda w: linalg.qr(w)[0],
        lambda w: linalg.svd(w)[0],
        lambda w: linalg.eigh(w @ w.T)[1],
        lambda w: linalg.cholesky(w @ w.T),
        lambda w: linalg.slogdet(w)[1],
        singular,
    ],
)
def test_no_shift_no_sign_and_no_permutation_passes_a_factor_that_sees_it(factor):
    def apply(p, x):
        w = x.T @ jax.nn.relu(x @ p["a"] + p["c"])
        return jnp.tanh(x @ (factor(w) + w))

    params = weights(a=(3, 3), c=(3,))
    found = symjax.find_symmetries(apply, params, X)
    holds(apply, found, params)


def test_large_matrices_are_checked_by_what_was_read():
    shapes = {"w": (2048, 512), "b": (512, 128)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    apply = lambda p, x: jnp.tanh(x @ (p["w"] / linalg.norm(p["w"], 2))) @ p["b"]
    found = symjax.find_symmetries(apply, params, jax.ShapeDtypeStruct((4096, 2048), jnp.float32))
    assert (found.false, found.unknown, found.dimension) == ((), {}, 1)
    assert "the graph that was read" in found.checked

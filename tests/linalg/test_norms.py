"""The norm of a tree against Python's hypot, at sizes where a sum of squares would fail."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax.linalg._norms import norm, safe_sqrt

from ..helpers import eps

LARGE = float(jnp.finfo(jnp.float32).max) / 4
NORM = jax.jit(norm)


@pytest.mark.parametrize("size", [1.0, LARGE, 1 / LARGE])
def test_norm_neither_overflows_nor_underflows(size):
    tree = (jnp.float32([[1.0, -2.0], [0.5, 0.0]]) * size, jnp.float32([1.5]) * size)
    entries = np.concatenate([np.ravel(x) for x in tree]).astype(float)
    # five squares, a root and two products, each rounded once
    np.testing.assert_allclose(NORM(tree), math.hypot(*entries), rtol=8 * eps(jnp.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_of_what_is_not_finite_is_not(bad):
    tree = (jnp.float32([[1.0, bad], [0.5, 0.0]]), jnp.float32([1.5]))
    np.testing.assert_equal(float(NORM(tree)), bad)


def test_norm_and_root_have_slope_zero_at_zero():
    zero = (jnp.zeros((2, 2)), jnp.zeros((0, 3)))
    assert NORM(zero) == 0
    assert all((g == 0).all() for g in jax.tree.leaves(jax.grad(norm)(zero)))
    assert jax.grad(safe_sqrt)(0.0) == 0
    np.testing.assert_array_equal(safe_sqrt(jnp.float32([-1, 0, 4, np.nan])), [0, 0, 2, np.nan])

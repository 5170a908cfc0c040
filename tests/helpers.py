"""What several test files share: comparisons, rounding error, which parameters are slow."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def slow_among(names, *slow):
    """These parameters of a test, the named ones marked as slow."""
    return [pytest.param(x, marks=pytest.mark.slow) if x in slow else x for x in names]


def eps(dtype) -> float:
    return float(jnp.finfo(dtype).eps)


def assert_close(actual, expected, *, rtol=0.0, atol=0.0):
    """Trees agree in structure, shapes and dtypes; numbers agree; NaN only matches nothing."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, (a.shape, b.shape)
        assert a.dtype == b.dtype, (a.dtype, b.dtype)
        assert np.all(np.isfinite(a)), "not finite"
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def relative_error(actual, expected) -> float:
    """|actual - expected| / |expected|, norms over the whole tree."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    difference = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs))
    return float(difference / np.sqrt(sum(np.sum(b**2) for _, b in pairs)))


class Derivatives(NamedTuple):
    value: jax.Array
    reverse: jax.Array
    forward: jax.Array
    second: jax.Array


def derivatives(make):
    """(*arguments, s) -> all derivatives in s of the scalar function make(*arguments), one compile.

    The first by reverse and by forward mode, the second by forward over reverse.
    """

    @jax.jit
    def at(*args):
        *rest, s = args
        s = jnp.asarray(s)
        both = jax.value_and_grad(make(*rest))
        (value, reverse), (forward, second) = jax.jvp(both, (s,), (jnp.ones_like(s),))
        return Derivatives(value, reverse, forward, second)

    return at

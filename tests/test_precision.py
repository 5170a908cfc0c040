"""Public numerical functions that compile quickly, in four dtypes and under JAX's debug flags.

Each is right to the reach of its dtype, or it says what it does not take: the same function in
float64, on the same rounded numbers, is the reference. Under jax_debug_nans and jax_debug_infs it
raises nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .calls import GROUPS, calls
from .helpers import eps

HALF = ("bfloat16", "float16")
DTYPES = (*HALF, "float32", "float64")

# A result is computed in float32 at least and rounded once; what reads a curve in half precision
# reads rounded points. In float32 and float64 it is the rounding of some dozen operations.
ROUNDINGS = 32
# Those that compile in a moment.
QUICK = (
    "linalg.",
    "networks.",
    "bounds.chord_",
    "bounds.orbit_loss",
    "curves.chord",
    "barriers.r",
    "topology.linear_chart",
)
# Those that take seconds.
SLOW = ("topology.opposite_pair", "transforms.teleport")
# And under the debug flags too, where nothing is compiled as a whole.
SLOWEST = ("topology.bounded_pair", "topology.reflected_pair")
# Rounding decides which tries of the search are taken: in half precision the end is another one.
SEARCHED = {"transforms.teleport"}
# A state tells its numbers in float32.
TOLD_IN_FLOAT32 = {"transforms.teleport"}


@functools.cache
def table(dtype, wide=False):
    """All calls on numbers rounded to a dtype, in that dtype or in float64."""
    with jax.enable_x64(True):
        last = jnp.float64 if wide else dtype
        array = lambda x: jnp.asarray(jnp.asarray(x, dtype), last)
        return calls(array)


NAMES = [name for name in calls(jnp.asarray) if name.startswith(QUICK)]
NAMES.remove("networks.random_weights")  # it takes no array


def slow(names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def floating(x):
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def array_leaves(tree):
    return [x for x in jax.tree.leaves(tree) if hasattr(x, "dtype")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*NAMES, *slow(SLOW + SLOWEST)])
def test_a_function_is_right_to_the_reach_of_its_dtype(name, dtype, x64):
    function, args = table(dtype)[name]
    actual = array_leaves(function(*args))
    for leaf in filter(floating, actual):
        # A number about a half-precision model may be told in the float32 that it is computed in.
        also = "float32" if dtype in HALF or name in TOLD_IN_FLOAT32 else dtype
        assert leaf.dtype in (dtype, also)
    if name in SEARCHED and dtype in HALF:
        assert all(jnp.isfinite(x).all() for x in actual if floating(x))
        return
    wide, same = table(dtype, wide=True)[name]
    expected = array_leaves(wide(*same))
    for a, b in zip(actual, expected, strict=True):
        if not floating(a):
            assert np.array_equal(a, b)
            continue
        reach = ROUNDINGS * max(eps(dtype), eps(a.dtype))
        a, b = np.asarray(a, np.float64), np.asarray(b)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_array_equal(np.isinf(a), np.isinf(b))
        finite = np.isfinite(b)
        # All arguments are of size one, so what is smaller is a difference of such numbers.
        size = max(1.0, np.linalg.norm(b[finite]))
        assert np.linalg.norm(a[finite] - b[finite]) <= reach * size


@pytest.mark.parametrize("name", [*NAMES, *SLOW, *slow(SLOWEST)])
def test_good_input_raises_nothing_under_debug_flags(name):
    function, args = calls(lambda x: jnp.asarray(x, jnp.float32))[name]
    with jax.debug_nans(True), jax.debug_infs(True):
        jax.block_until_ready(array_leaves(function(*args)))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group}")
def test_a_group_takes_elements_in_half_precision(group, x64):
    g = group.random(jax.random.key(1), scale=0.3, dtype=jnp.bfloat16)
    wide = jax.tree.map(lambda x: x.astype(jnp.float64) if floating(x) else x, g)
    assert bool(group.contains(g))
    assert group.component(g) == group.component(wide)
    inverse, expected = group.inverse(g), group.inverse(wide)
    assert jax.tree.map(lambda x: x.dtype, inverse) == jax.tree.map(lambda x: x.dtype, g)
    for a, b in zip(jax.tree.leaves(inverse), jax.tree.leaves(expected), strict=True):
        # One rounding, at the end.
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b), rtol=eps("bfloat16"))

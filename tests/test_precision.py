"""Every public function that takes arrays, in four dtypes and under JAX's debug flags.

Each is right to the reach of its dtype, or it says what it does not take: the same function in
float64, on the same rounded numbers, is the reference. Under jax_debug_nans and jax_debug_infs it
raises nothing.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .calls import GROUPS, calls
from .helpers import eps
from .host_calls import WITHOUT_ARRAYS, host_calls
from .public_names import public_objects

HALF = ("bfloat16", "float16")
DTYPES = (*HALF, "float32", "float64")

# A result is computed in float32 at least and rounded once; what reads a curve in half precision
# reads rounded points. In float32 and float64 it is the rounding of some dozen operations.
ROUNDINGS = 32
# More, where the result is an upper bound with an allowance for rounding, or the end of an
# optimisation whose steps magnify.
CONDITION = {
    "geometry.certify": 200,
    "merging.averaging_forecast": 400,
    "bands.geodesic_chain": 100,
    "canonical.minimum_norm": 100,
    "barriers.barrier": 10,  # 0, the difference of two losses of 16
}
# The rounding of a length beside a chord is eps, of what lies between them its square root.
WIDENED = {"bounds.length_chord_deviation", "bounds.best_chord_deviation"}
# What a draw gives differs from dtype to dtype: here only that it is finite and of the right dtype.
DRAWN = {
    "canonical.audit",
    "ensembles.data_family",
    "ensembles.orbit_family",
    "training.train_curve",
}
# Where half precision is refused, and the words that say so.
REFUSED = {
    # The loss of half-precision data is asked at the float32 weights that training keeps.
    "training.minimise": "must be a (bfloat16|float16) matrix",
}
# The gap of a rank is a number over its rounding.
EXACT_ALONE = {"canonical.orbit_dimension"}
# How many steps a solver takes depends on rounding.
COUNTS_STEPS = {"canonical.minimum_norm"}
# A rank below float64 is said to be rough: `certain` is False, and the number may be another.
ROUGH = {"verification.redundancy", "verification.completeness"}
# Which bound is the smallest may change with the allowance for rounding.
CHOOSES = {"bounds.best_chord_deviation"}
# Those that compile in a moment, or not at all; the others are slow tests.
QUICK = (
    "linalg.expm",
    "linalg.has",
    "linalg.log_rotation",
    "linalg.polar",
    "networks.",
    "bounds.chord_",
    "bounds.orbit_loss",
    "curves.chord",
    "barriers.r",
    "topology.linear_",
    "topology.orbit_components",
    "topology.regularised_minimum",
    "topology.residual_minimum",
    "topology.two_layer_orbit_components",
    "discovery.",
    "canonical.representative",
    "matching.match",
    "matching.load_element",
)
# Rounding decides which tries of the search are taken: in half precision the end is another one.
SEARCHED = {"transforms.teleport"}
# A state tells its numbers in float32.
TOLD_IN_FLOAT32 = {
    "transforms.teleport",
    "transforms.quotient_gradient",
    "transforms.orbit_constrained",
}


@functools.cache
def table(dtype, wide=False):
    """All calls on numbers rounded to a dtype, in that dtype or in float64."""
    with jax.enable_x64(True):
        last = jnp.float64 if wide else dtype
        array = lambda x: jnp.asarray(jnp.asarray(x, dtype), last)
        return calls(array)


def slow_unless_quick(names):
    return [n if n.startswith(QUICK) else pytest.param(n, marks=pytest.mark.slow) for n in names]


NAMES = slow_unless_quick(name for name in calls(jnp.asarray) if name != "networks.random_weights")
HOST_NAMES = slow_unless_quick(host_calls(jnp.asarray))


# Under the debug flags nothing is compiled as a whole: those that loop take minutes.
DEBUGGED = slow_unless_quick(
    name
    for name in calls(jnp.asarray)
    if name.startswith((*QUICK, "linalg.", "topology.", "transforms.teleport"))
    and name != "networks.random_weights"
)


@functools.cache
def host_table(dtype, wide=False):
    """All calls on the host, on numbers rounded to a dtype, in that dtype or in float64."""
    with jax.enable_x64(True):
        last = jnp.float64 if wide else dtype
        return host_calls(lambda x: jnp.asarray(jnp.asarray(x, dtype), last))


def floating(x):
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def array_leaves(tree):
    return [x for x in jax.tree.leaves(tree) if hasattr(x, "dtype")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_function_is_right_to_the_reach_of_its_dtype(name, dtype, x64):
    function, args = table(dtype)[name]
    if dtype in HALF and name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            function(*args)
        return
    actual = array_leaves(function(*args))
    for leaf in filter(floating, actual):
        # A number about a half-precision model may be told in the float32 that it is computed in.
        also = "float32" if dtype in HALF or name in TOLD_IN_FLOAT32 else dtype
        assert leaf.dtype in (dtype, also)
    if name in DRAWN or (name in SEARCHED and dtype in HALF):
        assert all(jnp.isfinite(x).all() for x in actual if floating(x))
        return
    wide, same = table(dtype, wide=True)[name]
    expected = array_leaves(wide(*same))
    for a, b in zip(actual, expected, strict=True):
        if not floating(a):
            # In fewer digits less is certain: a flag may fall.
            fell = a.dtype == bool and dtype in HALF and not (a & ~b).any()
            assert name in COUNTS_STEPS | CHOOSES or fell or np.array_equal(a, b)
            continue
        if name in EXACT_ALONE:
            continue
        rounding = max(eps(dtype), eps(a.dtype))
        rounding = rounding**0.5 if name in WIDENED else rounding
        reach = ROUNDINGS * CONDITION.get(name, 1) * rounding
        a, b = np.asarray(a, np.float64), np.asarray(b)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_array_equal(np.isinf(a), np.isinf(b))
        finite = np.isfinite(b)
        # All arguments are of size one, so what is smaller is a difference of such numbers.
        size = max(1.0, np.linalg.norm(b[finite]))
        assert np.linalg.norm(a[finite] - b[finite]) <= reach * size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HOST_NAMES)
def test_a_function_of_the_host_is_right_to_the_reach_of_its_dtype(name, dtype, x64):
    actual, expected = host_table(dtype)[name](), host_table(dtype, wide=True)[name]()
    if name in ROUGH and dtype != "float64":
        assert not actual[-1]
        return
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for a, b in pairs:
        if not floating(b) and not isinstance(b, float):
            assert np.array_equal(a, b)
            continue
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        size = max(1.0, np.linalg.norm(b))
        assert np.linalg.norm(a - b) <= ROUNDINGS * eps(dtype) * size


def test_every_public_function_that_takes_arrays_has_a_row():
    functions = {
        name.removeprefix("symjax.")
        for name, value in public_objects().items()
        if inspect.isroutine(value) or hasattr(value, "__wrapped__")
    }
    # Adapters give back the model's own arrays; studies and figures have a dtype of their own.
    apart = {n for n in functions if n.startswith(("adapters.", "plotting.", "studies."))}
    rows = set(calls(jnp.asarray)) | set(host_calls(jnp.asarray)) | WITHOUT_ARRAYS
    assert functions - apart == rows


@pytest.mark.parametrize("name", DEBUGGED)
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

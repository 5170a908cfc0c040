"""Parameters of primitives that change what they mean: read, or refused, never passed over."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

from ._reference import changes

pytestmark = pytest.mark.usefixtures("x64")


def weights(**shapes):
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}


def data(*shape):
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape))


def checked(apply, params, *inputs):
    """The symmetries, all of which hold."""
    found = symjax.find_symmetries(apply, params, *inputs)
    for s, change in changes(found.exact, apply, params, inputs):
        assert change < 1e-12, f"{s.name} of {s.leaves} changes the output by {change:.1e}"
    return found


def test_a_cast_that_loses_digits_of_data_is_no_identity():
    """Else x - mean(x) is thought to be centred, and ids to name the same rows."""
    params = weights(w=(9, 2))

    def centred(rounded):
        return lambda p, x: (x - rounded(x.mean(-1, keepdims=True))) @ p["w"]

    assert checked(centred(lambda m: m), params, 5 * data(4, 9)).dimension == 2
    for dtype in (jnp.int32, jnp.bfloat16, jnp.float16, jnp.float32, bool):
        rounded = centred(lambda m, t=dtype: m.astype(t).astype(float))
        assert checked(rounded, params, 5 * data(4, 9)).dimension == 0
    reduced = lambda m: jax.lax.reduce_precision(m, exponent_bits=4, mantissa_bits=52)
    assert checked(centred(reduced), params, 1e3 * data(4, 9)).dimension == 0

    ids = jnp.arange(0, 400, 20, dtype=jnp.uint32)
    tables = weights(a=(500, 2), b=(500, 2))
    read = lambda cast: lambda p, i: p["a"][i] * p["b"][cast(i)]
    assert checked(read(lambda i: i.astype(jnp.uint8)), tables, ids).dimension == 2
    assert checked(read(lambda i: i.astype(jnp.uint64)), tables, ids).dimension == 1000


def test_what_is_sorted_by_data_is_told_apart_by_them():
    params, z = weights(a=(3, 2), u=(2, 3)), data(2, 5)

    def by_keys(p, keys, z):
        _, h = jax.lax.sort((keys, p["a"] @ z), dimension=1, num_keys=1)
        return p["u"] @ jax.nn.relu(h)

    found = checked(by_keys, params, data(3, 5), z)
    assert (found.dimension, set(found.unknown)) == (0, {"sort"})
    same = lambda p, keys, z: by_keys(p, jnp.broadcast_to(keys, (3, 5)), z)
    assert checked(same, params, data(1, 5), z).dimension == 3


def test_the_largest_along_an_axis():
    if "axis" not in inspect.signature(jax.lax.top_k).parameters:
        pytest.skip("this JAX has no such argument")
    params, z = weights(a=(3, 4), u=(2, 3)), data(4, 5)
    few = lambda p, z: jax.lax.top_k(jnp.maximum(p["a"] @ z, 0.0), 3, axis=0)[0].T @ p["u"].T
    assert checked(few, params, z).dimension == 1
    other = lambda p, z: p["u"] @ jax.lax.top_k(jnp.maximum(p["a"] @ z, 0.0), 3, axis=1)[0]
    assert checked(other, params, z).dimension == 3


def test_a_product_that_is_rounded_is_rounded():
    params, mean = weights(w=(5, 2)), jnp.full((5, 1), 0.2)

    def centred(dtype):
        dot = lambda x: jnp.matmul(x, mean, preferred_element_type=dtype).astype(x.dtype)
        return lambda p, x: (x - dot(x)) @ p["w"]

    assert checked(centred(jnp.float32), params, data(4, 5)).dimension == 0
    assert (
        checked(lambda p, x: x.mean(1, keepdims=True) @ p["w"][:1], params, data(4, 5)).unknown
        == {}
    )


def test_a_program_that_is_not_simply_called_is_not_read_as_one():
    pallas = pytest.importorskip("jax.experimental.pallas")

    def kernel(a, b, out):
        out[...] = jnp.cumsum(a[...], 0) * b[...]

    def apply(p):
        shape = jax.ShapeDtypeStruct((3,), p["a"].dtype)
        return pallas.pallas_call(kernel, out_shape=shape, interpret=True)(p["a"], p["b"])

    found = symjax.find_symmetries(apply, weights(a=(3,), b=(3,)), check=False)
    assert len(found) == 0
    assert set(found.unknown) == {"pallas_call"}


def test_a_kernel_that_is_shifted_adds_sums_over_windows():
    """Of the signal, which no bias that is the same everywhere makes up for."""

    def apply(p, x):
        signal, kernel = p["a"].reshape(1, 1, 6), p["k"].reshape(1, 1, 3)
        y = jax.lax.conv_general_dilated(signal, kernel, (1,), "VALID").reshape(-1)
        return x * (y + p["b"])

    params = {"a": jnp.ones(6), "k": jnp.ones(3), "b": jnp.ones(1)}
    found = symjax.find_symmetries(apply, params, jnp.ones(4))
    shifts = {s.leaves for s in found if s.name == "shift"}
    assert (shifts, found.false, found.dimension) == ({("a", "b")}, (), 2)

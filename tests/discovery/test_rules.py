"""Parameters of primitives that change what they mean: read, or refused, never passed over."""

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

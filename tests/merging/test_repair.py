"""Repaired units have the moments that REPAIR asks for, measured by a forward pass in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax import Leg
from symjax.actions import Block
from symjax.merging import repair

from ..matching.models import mlp

WIDTHS = (4, 6, 5, 3)
UNITS = {f"layer {i}": [Leg(f"{i}/w", 0), Leg(f"{i}/b", 0)] for i in range(2)}
X = np.asarray(jax.random.normal(jax.random.key(9), (50, 4)))


def hidden(layers, relu=jax.nn.relu, x=X):
    """Pre-activations of the hidden layers, in JAX or NumPy."""
    found, z = {}, x
    for i, layer in enumerate(layers[:-1]):
        found[f"layer {i}"] = z @ layer["w"].T + layer["b"][None]
        z = relu(found[f"layer {i}"])
    return found


def moments(layers):
    plain = jax.tree.map(lambda w: np.asarray(w, np.float64), layers)
    values = hidden(plain, lambda z: np.maximum(z, 0), X.astype(np.float64))
    return {n: np.stack([z.mean(0), z.std(0)]) for n, z in values.items()}


def average(a, b, t=0.5):
    return jax.tree.map(lambda x, y: (1 - t) * x + t * y, a, b)


def test_every_layer_has_the_moments_between_its_parents():
    a, b = (mlp(jax.random.key(i), WIDTHS) for i in (0, 1))
    mend = jax.jit(lambda p, t: repair(hidden, p, a, b, UNITS, alpha=t))
    for t in (0.0, 0.3, 1.0):
        mended = mend(average(a, b, t), t)
        want = average(moments(a), moments(b), t)
        got = moments(mended)
        for name in UNITS:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(mended[-1]["w"], average(a, b, t)[-1]["w"])
    # Averaging itself loses spread: this is what it is for.
    assert (
        moments(average(a, b))["layer 1"][1] < average(moments(a), moments(b))["layer 1"][1]
    ).all()


def test_the_order_of_the_names_does_not_matter():
    widths = (4, 6, 5, 7, 3)
    a, b = (mlp(jax.random.key(i), widths) for i in (0, 1))
    want, middle = average(moments(a), moments(b)), average(a, b)
    for order in ((0, 1, 2), (2, 0, 1), (2, 1, 0)):
        units = {f"layer {i}": [Leg(f"{i}/w", 0), Leg(f"{i}/b", 0)] for i in order}
        got = moments(jax.jit(lambda p, u=units: repair(hidden, p, a, b, u))(middle))
        for name in units:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)


def test_layers_that_are_stacked_in_one_leaf_are_repaired_in_any_order():
    def stacked(p):
        z, found = jnp.asarray(X), {}
        for i in range(3):
            z = (jax.nn.relu(z) if i else z) @ p["w"][i].T + p["b"][i][None]
            found[f"layer {i}"] = z
        return found

    def make(seed):
        w, b = (jax.random.normal(jax.random.key(seed + k), (3, 4, 4)) for k in (0, 5))
        return {"w": 0.5 * w, "b": 0.3 * b[:, 0]}

    def legs(i):
        whole = ((4, 1),)
        weight = Block((i, 0, 0), (((1, 1),), whole, whole))
        return [Leg("w", 1, block=weight), Leg("b", 1, block=Block((i, 0), (((1, 1),), whole)))]

    measure = lambda p: {n: np.stack([z.mean(0), z.std(0)]) for n, z in stacked(p).items()}
    a, b = make(0), make(1)
    want = average(measure(a), measure(b))
    units = {f"layer {i}": legs(i) for i in (2, 1, 0)}
    got = measure(repair(stacked, average(a, b), a, b, units))
    for name in units:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)


def test_parts_of_a_leaf_half_precision_and_dead_units():
    # One leaf holds two layers' rows, (6, 2); the second layer's first unit is constant.
    low = Leg("w", 0, block=Block((0, 0), (((3, 1),), ((2, 1),))))
    high = Leg("w", 0, block=Block((3, 0), (((3, 1),), ((2, 1),))))
    x = jax.random.normal(jax.random.key(0), (40, 2))
    hidden = lambda p: {
        "low": x @ p["w"][:3].T.astype(x.dtype),
        "high": x @ p["w"][3:].T.astype(x.dtype),
    }
    make = lambda k: {"w": jax.random.normal(jax.random.key(k), (6, 2)).at[3].set(0.0)}
    a, b = make(1), make(2)
    mended = repair(hidden, average(a, b), a, b, {"low": [low], "high": [high]})
    spread = lambda p: np.asarray(x, np.float64) @ np.asarray(p["w"], np.float64).T
    want = (spread(a).std(0) + spread(b).std(0)) / 2
    np.testing.assert_allclose(spread(mended).std(0), want, rtol=1e-4, atol=1e-6)
    assert mended["w"][3].tolist() == [0.0, 0.0]
    half = lambda p: jax.tree.map(lambda w: w.astype(jnp.bfloat16), p)
    rounded = repair(hidden, half(average(a, b)), half(a), half(b), {"low": [low], "high": [high]})
    assert rounded["w"].dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded["w"].astype(jnp.float32), mended["w"], rtol=0.03, atol=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": {}}, "`units` must name at least one layer"),
        ({"units": {"layer 9": UNITS["layer 0"]}}, "'layer 9', which `preactivations` does not"),
        ({"units": {"layer 0": ["0/w"]}}, r"`units\['layer 0'\]` must be a Leg"),
        ({"units": {"layer 0": [Leg("0/w", 1)]}}, r"\[0\]` moves 4 rows.*expected 6 rows"),
        ({"units": {"layer 0": [Leg("0/b", 0), Leg("0/w", 0)]}}, r"\[1\].*a bias"),
        ({"units": {"layer 0": [Leg("9/w", 0)]}}, "no leaf '9/w'"),
        ({"params_b": mlp(jax.random.key(0), (4, 7, 5, 3))}, "leaf '0/b'"),
        ({"alpha": jnp.ones(2)}, "`alpha` must be one number"),
        (
            {
                "preactivations": lambda p: {n: hidden(p)["layer 0"] for n in ("one", "two")},
                "units": {"one": UNITS["layer 0"], "two": UNITS["layer 0"]},
            },
            r"`units\['two'\]` and `units\['one'\]` both move entries of leaf '0/w'",
        ),
        ({"preactivations": lambda p: hidden(p, x=X[:0])}, "no samples for 'layer 0'"),
    ],
)
def test_bad_input_is_named(change, message):
    a = mlp(jax.random.key(0), WIDTHS)
    same = {"params": a, "params_a": a, "params_b": a}
    call = {"preactivations": hidden, "units": UNITS} | same | change
    with pytest.raises(ValueError, match=message):
        repair(**call)

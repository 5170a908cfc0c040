"""Running statistics are those of the data, whatever framework and momentum kept them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax.merging import reset_statistics


class Net(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    second: eqx.nn.Linear
    last: eqx.nn.BatchNorm

    def __init__(self, key, mode, momentum):
        keys = jax.random.split(key)
        self.first = eqx.nn.Linear(3, 4, key=keys[0])
        self.second = eqx.nn.Linear(4, 2, key=keys[1])
        self.norm, self.last = (
            eqx.nn.BatchNorm(n, "batch", momentum=momentum, mode=mode) for n in (4, 2)
        )

    def __call__(self, x, state):
        z, state = self.norm(self.first(x), state)
        return self.last(self.second(jax.nn.relu(z)), state)


def numpy_statistics(x, layers, eps=1e-5):
    """Mean and variance before each norm, in training mode: the data normalise themselves."""
    found, z = [], np.asarray(x, np.float64)
    for w, b in layers:
        z = z @ np.asarray(w, np.float64).T + np.asarray(b, np.float64)
        mean, var = z.mean(0), z.var(0)
        found.append((mean, var))
        z = np.maximum((z - mean) / np.sqrt(var + eps), 0)
    return found


@pytest.mark.parametrize(("mode", "momentum"), [("batch", 0.99), ("ema", 0.9)])
def test_equinox_state_becomes_the_statistics_of_the_data(mode, momentum):
    model, state = eqx.nn.make_with_state(Net)(jax.random.key(0), mode, momentum)
    x = 2 * jax.random.normal(jax.random.key(1), (64, 3)) + 1

    @eqx.filter_jit
    def run(model, x, state):
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    update = lambda s, batch: run(model, batch, s)[1]
    reset = reset_statistics(update, state, [x])
    expected = numpy_statistics(
        x, [(model.first.weight, model.first.bias), (model.second.weight, model.second.bias)]
    )
    for norm, moments in zip((model.norm, model.last), expected, strict=True):
        index = norm.batch_state_index if mode == "batch" else norm.ema_state_index
        for got, want in zip(reset.get(index), moments, strict=True):
            # 1 - m is known to eps / (1 - m), float32
            np.testing.assert_allclose(got, want, rtol=3e-5, atol=1e-5)
    # Inference with them is what training mode computes on these data.
    trained, _ = run(model, x, reset if mode == "batch" else state)
    with jax.numpy_dtype_promotion("standard"):  # Equinox raises a float to its integer counter
        inferred, _ = run(eqx.nn.inference_mode(model), x, reset)
    np.testing.assert_allclose(inferred, trained, atol=1e-4)


def test_flax_statistics_and_several_batches():
    nnx = pytest.importorskip("flax.nnx")

    class Flax(nnx.Module):
        def __init__(self, rngs):
            self.first, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.first(x))

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        graph, params, stats = nnx.split(Flax(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)

        def update(stats, x):
            model = nnx.merge(graph, params, stats)
            model.train()
            model(x)
            return nnx.state(model, nnx.BatchStat)

        x = jax.random.normal(jax.random.key(1), (40, 3))
        reset = reset_statistics(update, stats, [x[:20], x[20:]])
    kernel, bias = (np.asarray(params["first"][n].get_value()) for n in ("kernel", "bias"))
    z = np.asarray(x) @ kernel + bias
    halves = (z[:20], z[20:])
    mean, var = (
        np.mean([f(h) for h in halves], 0) for f in (lambda h: h.mean(0), lambda h: h.var(0))
    )
    np.testing.assert_allclose(reset["norm"]["mean"].get_value(), mean, rtol=3e-5, atol=1e-5)
    np.testing.assert_allclose(reset["norm"]["var"].get_value(), var, rtol=3e-5, atol=1e-5)


def test_it_works_under_jit_on_a_batch_of_models():
    update = lambda s, x: {"mean": 0.9 * s["mean"] + 0.1 * x.mean(0), "count": s["count"] + 1}
    state = {"mean": jnp.zeros((2, 3)), "count": jnp.zeros(2, jnp.int32)}
    x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    reset = jax.jit(jax.vmap(lambda s, x: reset_statistics(update, s, [x])))(state, x)
    np.testing.assert_allclose(reset["mean"], np.asarray(x).mean(1), atol=1e-5)
    assert reset["count"].tolist() == [2**30, 2**30]


@pytest.mark.parametrize(
    ("update", "state", "batches", "message"),
    [
        (lambda s, x: s, {"m": jnp.zeros(2)}, [], "`batches` is empty"),
        (lambda s, x: s, {"n": jnp.zeros(2, int)}, [1], "no floating array"),
        (lambda s, x: s, {"m": jnp.zeros(2)}, [1], "leaf 'm' with momenta from 1 to 1"),
        (lambda s, x: {"k": s["m"]}, {"m": jnp.zeros(2)}, [1], "same tree structure"),
        (lambda s, x: {"m": s["m"] * jnp.nan}, {"m": jnp.zeros(2)}, [1], "NaN"),
        (lambda s, x: {"m": s["m"] * jnp.array([0.9, 0.5])}, {"m": jnp.zeros(2)}, [1], "momenta"),
    ],
)
def test_bad_input_is_named(update, state, batches, message):
    with pytest.raises(ValueError, match=message):
        reset_statistics(update, state, batches)

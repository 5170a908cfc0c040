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
        reset = reset_statistics(update, stats, [x[:20], x[20:37], x[37:]])
    kernel, bias = (np.asarray(params["first"][n].get_value()) for n in ("kernel", "bias"))
    z = np.asarray(x) @ kernel + bias
    # Of the first layer, which no other one normalises: as if all samples were one batch.
    np.testing.assert_allclose(reset["norm"]["mean"].get_value(), z.mean(0), rtol=3e-5, atol=1e-5)
    np.testing.assert_allclose(reset["norm"]["var"].get_value(), z.var(0), rtol=3e-5, atol=1e-5)


OUTLIER = 5 + np.random.default_rng(0).normal(size=(129, 3))
OUTLIER[128] = 100.0
MOMENTS = ("mean", "var"), ("running_mean", "running_var"), ("moving_mean", "moving_variance")


@pytest.mark.parametrize("names", MOMENTS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_small_last_batch_counts_by_its_samples(names, dtype):
    mean, var = names

    def update(state, batch):
        x = batch["x"]
        # 7/8 is exact in every dtype: what is left is the rounding of the samples.
        old = lambda name: 0.875 * state[name]
        return {mean: old(mean) + 0.125 * x.mean(0), var: old(var) + 0.125 * x.var(0)}

    state = {mean: jnp.zeros(3, dtype), var: jnp.ones(3, dtype)}
    samples = jnp.asarray(OUTLIER, jnp.float32)
    batches = [{"x": x} for x in (samples[:64], samples[64:128], samples[128:])]
    reset = reset_statistics(update, state, batches)
    assert reset[mean].dtype == dtype
    reach = 2 * max(float(jnp.finfo(dtype).eps), 1e-5)
    wide = {name: np.asarray(x, np.float64) for name, x in reset.items()}
    np.testing.assert_allclose(wide[mean], OUTLIER.mean(0), rtol=reach)
    np.testing.assert_allclose(wide[var], OUTLIER.var(0), rtol=reach)


@pytest.mark.parametrize("mode", ["batch", "ema"])
def test_equinox_pairs_of_mean_and_variance_are_pooled(mode):
    class Norm(eqx.Module):
        norm: eqx.nn.BatchNorm

        def __init__(self):
            self.norm = eqx.nn.BatchNorm(3, "batch", momentum=0.9, mode=mode)

    model, state = eqx.nn.make_with_state(Norm)()
    run = eqx.filter_jit(
        jax.vmap(model.norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    )
    x = jnp.asarray(OUTLIER, jnp.float32)
    reset = reset_statistics(lambda s, b: run(b, s)[1], state, [x[:64], x[64:128], x[128:]])
    index = model.norm.batch_state_index if mode == "batch" else model.norm.ema_state_index
    mean, var = reset.get(index)
    np.testing.assert_allclose(mean, OUTLIER.mean(0), rtol=3e-5)
    np.testing.assert_allclose(var, OUTLIER.var(0), rtol=3e-5)


def test_sizes_are_asked_for_where_shapes_do_not_tell_them():
    # Time comes first: only the second axis, of samples, differs.
    update = lambda s, x: {"mean": 0.9 * s["mean"] + 0.1 * x.mean((0, 1))}
    state, x = {"mean": jnp.zeros(3)}, jnp.asarray(OUTLIER, jnp.float32)
    batches = [jnp.stack([b, b]) for b in (x[:128], x[128:])]
    with pytest.raises(ValueError, match="say the samples in each by `sizes`"):
        reset_statistics(update, state, batches)
    reset = reset_statistics(update, state, batches, sizes=[128, 1])
    np.testing.assert_allclose(reset["mean"], OUTLIER.mean(0), rtol=3e-5)
    for sizes in ([1], [1, -1], [1, np.nan]):
        with pytest.raises(ValueError, match="`sizes` must be 2 positive numbers"):
            reset_statistics(update, state, batches, sizes=sizes)


def test_a_state_that_the_update_rounds_too_coarsely_is_refused():
    keep = lambda s, x: {"m": (0.99 * s["m"] + 0.01 * x.mean(0)).astype(jnp.bfloat16)}
    with pytest.raises(ValueError, match="too coarse for a momentum"):
        reset_statistics(keep, {"m": jnp.zeros(2, jnp.bfloat16)}, [jnp.ones((4, 2))])


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

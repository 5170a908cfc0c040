"""Adapters: the same outputs as the framework's own call, and the same model back."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import symjax
from symjax._checks import path_name

from .helpers import assert_close

KEY = jax.random.key(0)


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def names(params):
    return {path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]}


def same(apply, params, model, *inputs):
    assert_close(apply(params, *inputs), model(*inputs))
    assert_close(jax.jit(apply)(params, *inputs), model(*inputs), atol=1e-5)


EQUINOX = {
    "MLP": (lambda: eqx.nn.MLP(3, 2, 4, 1, key=KEY), (3,)),
    "Linear": (lambda: eqx.nn.Linear(3, 2, key=KEY), (3,)),
    "Conv1d": (lambda: eqx.nn.Conv1d(2, 3, 2, key=KEY), (2, 5)),
    "LayerNorm": (lambda: eqx.nn.LayerNorm(4), (4,)),
    "RMSNorm": (lambda: eqx.nn.RMSNorm(4), (4,)),
    "GRUCell": (lambda: eqx.nn.GRUCell(3, 2, key=KEY), (3,), (2,)),
    "MultiheadAttention": (
        lambda: eqx.nn.MultiheadAttention(2, 4, key=KEY),
        (3, 4),
        (3, 4),
        (3, 4),
    ),
}


@pytest.mark.parametrize("layer", EQUINOX)
def test_equinox_layers(layer):
    make, *shapes = EQUINOX[layer]
    model = make()
    apply, params = symjax.from_equinox(model)
    same(apply, params, model, *map(lambda shape: normal(*shape), shapes))
    assert eqx.tree_equal(apply.restore(params), model)
    assert all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(params))


def test_equinox_lstm_cell_whose_state_is_a_pair():
    model = eqx.nn.LSTMCell(3, 2, key=KEY)
    apply, params = symjax.from_equinox(model)
    state = (jnp.ones(2), jnp.zeros(2))
    assert_close(apply(params, jnp.ones(3), state), model(jnp.ones(3), state))


@pytest.mark.parametrize("as_parameters", [True, False])
def test_equinox_batch_norm_with_its_state(as_parameters):
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch")
    x = normal(5, 3)
    run = lambda norm, state, x: jax.vmap(
        norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None)
    )(x, state)[0]
    if as_parameters:
        apply, params = symjax.from_equinox((norm, state), lambda pair, x: run(*pair, x))
        assert len(jax.tree.leaves(params)) == 4
    else:
        apply, params = symjax.from_equinox(norm, lambda norm, x: run(norm, state, x))
        assert names(params) == {"weight", "bias"}
    assert_close(apply(params, x), run(norm, state, x))
    back = apply.restore(params)
    assert eqx.tree_equal(back, (norm, state) if as_parameters else norm)


RNGS = lambda: nnx.Rngs(0)
NNX = {
    "Linear": (lambda: nnx.Linear(3, 2, rngs=RNGS()), (3,)),
    "LinearGeneral": (lambda: nnx.LinearGeneral(3, (2, 2), rngs=RNGS()), (3,)),
    "Conv": (lambda: nnx.Conv(2, 3, (2,), rngs=RNGS()), (1, 5, 2)),
    "LayerNorm": (lambda: nnx.LayerNorm(4, rngs=RNGS()), (4,)),
    "MultiHeadAttention": (lambda: nnx.MultiHeadAttention(2, 4, decode=False, rngs=RNGS()), (3, 4)),
}


@pytest.mark.parametrize("layer", NNX)
def test_nnx_layers(layer):
    make, shape = NNX[layer]
    model = make()
    apply, params = symjax.from_nnx(model)
    same(apply, params, model, normal(*shape))
    assert_close(apply.restore(params)(normal(*shape)), model(normal(*shape)))


def test_nnx_batch_norm_keeps_its_statistics_to_itself():
    model = nnx.BatchNorm(3, rngs=RNGS())
    x = normal(5, 3)
    apply, params = symjax.from_nnx(model)
    assert names(params) == {"scale/value", "bias/value"}
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat))
    trained = jax.jit(apply)(params, x)
    assert_close(jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat)), before)
    assert_close(trained, model(x), atol=1e-6)

    model.eval()
    apply, params = symjax.from_nnx(model, state_as_parameters=True)
    assert names(params) == {f"{n}/value" for n in ("scale", "bias", "mean", "var")}
    assert_close(apply(params, x), model(x))


class Small(linen.Module):
    """A convolution, a batch norm and a dense layer."""

    train: bool = True

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(3, (2, 2))(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not self.train)(x))
        return linen.Dense(2)(x.mean((1, 2)))


@pytest.mark.parametrize("train", [True, False])
def test_linen_module_with_batch_statistics(train):
    module, x = Small(train), normal(2, 4, 4, 1)
    variables = module.init(KEY, x)
    expected = module.apply(variables, x, mutable=["batch_stats"])[0]
    apply, params = symjax.from_linen(module, variables)
    assert "Conv_0/kernel" in names(params)
    assert_close(jax.jit(apply)(params, x), expected, atol=1e-6)
    assert_close(apply.restore(params), variables)

    apply, params = symjax.from_linen(module, variables, state_as_parameters=True)
    assert {"params/Conv_0/kernel", "batch_stats/BatchNorm_0/mean"} <= names(params)
    assert_close(jax.jit(apply)(params, x), expected, atol=1e-6)
    assert_close(apply.restore(params), variables)


def test_linen_call_says_how_to_run():
    module = linen.Dense(2)
    variables = module.init(KEY, jnp.ones(3))
    apply, params = symjax.from_linen(module, variables, lambda m, x: 2 * m(x))
    assert_close(apply(params, jnp.ones(3)), 2 * module.apply(variables, jnp.ones(3)))


def test_what_is_no_model_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="no floating-point array"):
        symjax.from_equinox(eqx.nn.Lambda(jnp.tanh))
    with pytest.raises(ValueError, match=r"a tuple, which cannot be called: pass `call`"):
        symjax.from_equinox((eqx.nn.LayerNorm(2), None))
    with pytest.raises(ValueError, match=r"got Linear; for Flax there are from_nnx"):
        symjax.from_equinox(nnx.Linear(2, 3, rngs=RNGS()))
    with pytest.raises(ValueError, match=r"holds no nnx.Param"):
        symjax.from_nnx(nnx.Dropout(0.5, rngs=RNGS()))
    with pytest.raises(ValueError, match=r"collection 'params', got the keys \['kernel'\]"):
        symjax.from_linen(linen.Dense(2), {"kernel": jnp.ones((3, 2))})


@pytest.mark.parametrize(
    ("module", "extra", "adapt"),
    [
        ("flax.nnx", "flax", symjax.from_nnx),
        ("torch", "torch", symjax.from_torch),
        ("torchax", "torch", symjax.from_torch),
        ("keras", "keras", symjax.from_keras),
    ],
)
def test_a_missing_extra_is_said_with_what_to_do(monkeypatch, module, extra, adapt):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "symjax.adapters._torchax", raising=False)
    with pytest.raises(ImportError, match=rf"pip install \S+.* extra `{extra}`"):
        adapt(None)

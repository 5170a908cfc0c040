"""Layers of Equinox, Flax NNX and Flax Linen, through the adapters, at generic parameters."""

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
from flax import nnx

from symjax import adapters

from ._case import Case, draw, generator, generic
from ._norms import rotations

LEAKY = lambda z: jax.nn.leaky_relu(z, 0.1)
tanh = eqx.nn.Lambda(jnp.tanh)


def equinox(make, *input_shapes, call=None):
    """A builder from a function of a key that makes an Equinox model."""

    def build(key):
        model = generic(key, eqx.filter_eval_shape(make, key))
        rng = generator(key)
        return *adapters.from_equinox(model, call), tuple(draw(rng, s) for s in input_shapes)

    return build


def sequential(*makers):
    """A maker of eqx.nn.Sequential; each layer takes a key or is a layer already."""

    def make(key):
        keys = jax.random.split(key, len(makers))
        layers = [
            m if isinstance(m, eqx.Module) else m(k) for m, k in zip(makers, keys, strict=True)
        ]
        return eqx.nn.Sequential(layers)

    return make


dense = lambda n, m, bias=True: lambda key: eqx.nn.Linear(n, m, use_bias=bias, key=key)
conv = lambda n, m, size: lambda key: eqx.nn.Conv1d(n, m, size, key=key)


def batch_norm_network(key):
    first, second = jax.random.split(key)
    norm = lambda: eqx.nn.BatchNorm(4, "batch", eps=0.0, mode="batch")
    return (dense(3, 4)(first), *eqx.nn.make_with_state(norm)(), dense(4, 2)(second))


def run_batch_norm(model, x):
    """Linear, batch norm, tanh, linear on a batch; the batch norm is trained, not evaluated."""
    first, norm, state, last = model
    mapped = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    z, _ = mapped(jax.vmap(first)(x), state)
    return jax.vmap(last)(jnp.tanh(z))


def batch_norm_inference(key):
    """The same with running statistics, which are parameters here."""

    def evaluate(model, x):
        first, norm, state, last = model
        z, _ = eqx.nn.inference_mode(norm)(first(x), state)
        return last(jnp.tanh(z))

    build = equinox(batch_norm_network, (3,), call=evaluate)
    apply, params, inputs = build(key)
    positive = lambda x: jnp.abs(x) + 0.1  # variances; the mean may be positive as well
    state = jax.tree.map(positive, params[2])
    return apply, (*params[:2], state, params[3]), inputs


def recurrent(cell):
    def make(key):
        first, second = jax.random.split(key)
        return cell(2, 3, key=first), dense(3, 2)(second)

    def run(model, x):
        layer, readout = model
        zero = jnp.zeros(3, x.dtype)
        start = (zero, zero) if cell is eqx.nn.LSTMCell else zero
        h = jax.lax.scan(lambda h, u: (layer(u, h), None), start, x)[0]
        return readout(h[0] if cell is eqx.nn.LSTMCell else h)

    return equinox(make, (4, 2), call=run)


def attention(key):
    return eqx.nn.MultiheadAttention(2, 6, qk_size=2, vo_size=2, key=key)


def from_nnx(make, *input_shapes, call=None, dtype=None):
    """A builder from a function of nnx.Rngs that makes an NNX model; in JAX's default dtype."""

    def build(key):
        graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
        apply, params = adapters.from_nnx(
            nnx.merge(graph, generic(key, in_one_dtype(state, dtype))), call
        )
        rng = generator(key)
        return promoting(apply), params, tuple(draw(rng, s, dtype) for s in input_shapes)

    return build


def in_one_dtype(tree, dtype):
    """Statistics are float32 whatever the parameters are: give every shape one dtype."""
    dtype = dtype or jnp.zeros(()).dtype
    floating = lambda s: jnp.issubdtype(s.dtype, jnp.floating)
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, dtype) if floating(s) else s, tree)


def promoting(apply):
    """Flax mixes float32 statistics with float64 inputs, which strict promotion refuses."""

    def promoted(params, *inputs):
        with jax.numpy_dtype_promotion("standard"):
            return apply(params, *inputs)

    return promoted


def layers(*makers):
    """Each maker takes the keyword arguments of NNX: the dtype of the parameters and the rngs."""

    def make(rngs):
        options = {"param_dtype": jnp.zeros(()).dtype, "rngs": rngs}
        return nnx.Sequential(*[m(**options) for m in makers])

    return make


NNX = lambda cls, *sizes, **options: lambda **more: cls(*sizes, **options, **more)
FUNCTION = lambda f: lambda **_: f


def nnx_attention(rngs):
    return nnx.MultiHeadAttention(2, 6, 4, decode=False, rngs=rngs)


class ResNet(linen.Module):
    """A stem and one block of two convolutions with batch norm, mean pooling and a dense layer."""

    @linen.compact
    def __call__(self, x):
        def norm():
            return linen.BatchNorm(use_running_average=False, param_dtype=x.dtype)

        def convolution():
            return linen.Conv(3, (2, 2), use_bias=False, param_dtype=x.dtype)

        s = LEAKY(norm()(convolution()(x)))
        y = LEAKY(norm()(convolution()(s)))
        y = norm()(convolution()(y))
        s = LEAKY(s + y)
        return linen.Dense(2, param_dtype=x.dtype)(s.mean((1, 2)))


def resnet(key):
    module, x = ResNet(), draw(generator(key), (2, 4, 4, 2))
    init = promoting(lambda key, x: module.init(key, x))
    apply, params = adapters.from_linen(module, generic(key, jax.eval_shape(init, key, x)))
    return promoting(apply), params, (x,)


CASES = (
    Case(
        "eqx_mlp",
        equinox(lambda key: eqx.nn.MLP(3, 2, 4, 1, key=key), (3,)),
        4,
        permutations=(4,),
        signs=0,
    ),
    Case(
        "eqx_mlp_gelu",
        equinox(lambda key: eqx.nn.MLP(3, 2, 4, 2, jax.nn.gelu, key=key), (3,)),
        0,
        permutations=(4, 4),
        signs=0,
    ),
    Case("eqx_linear", equinox(sequential(dense(3, 2), dense(2, 3)), (3,)), 6, permutations=()),
    Case(
        "eqx_conv",
        equinox(sequential(conv(2, 3, 2), eqx.nn.Lambda(LEAKY), conv(3, 2, 2)), (2, 6)),
        3,
        permutations=(3,),
        signs=0,
    ),
    Case(
        "eqx_batch_norm",
        equinox(batch_norm_network, (7, 3), call=run_batch_norm),
        8 + 8,  # the running statistics are not read while training: they are free
        permutations=(4,),
    ),
    Case("eqx_batch_norm_inference", batch_norm_inference, 16, permutations=(4,)),
    Case(
        "eqx_layer_norm",
        equinox(sequential(dense(3, 4), eqx.nn.LayerNorm(4, eps=1e-3), dense(4, 3), tanh), (3,)),
        4 + 2 * 4 + 3 + rotations(3),
        approximate=5 + 2 * 4 + 3 + rotations(3),
    ),
    Case(
        "eqx_rms_norm",
        equinox(
            sequential(
                dense(4, 4),
                eqx.nn.RMSNorm(4, eps=1e-3, use_bias=False),
                dense(4, 5),
                tanh,
                dense(5, 2),
            ),
            (4,),
        ),
        4 + rotations(4),
        approximate=4 + rotations(4) + 1,
    ),
    Case(
        "eqx_attention",
        equinox(attention, (4, 6), call=lambda model, x: model(x, x, x)),
        16,
        permutations=(2,),
    ),
    Case("eqx_lstm", recurrent(eqx.nn.LSTMCell), 0, permutations=(3,), signs=3),
    Case("eqx_gru", recurrent(eqx.nn.GRUCell), 0, permutations=(3,), signs=3),
    Case(
        "nnx_linear",
        from_nnx(layers(NNX(nnx.Linear, 3, 4), FUNCTION(LEAKY), NNX(nnx.Linear, 4, 2)), (3,)),
        4,
        permutations=(4,),
        signs=0,
    ),
    Case(
        "nnx_linear_general",
        from_nnx(
            layers(
                NNX(nnx.LinearGeneral, 3, (2, 2)),
                FUNCTION(LEAKY),
                NNX(nnx.LinearGeneral, (2, 2), 2, axis=(-2, -1)),
            ),
            (3,),
        ),
        4,
    ),
    Case(
        "nnx_conv",
        from_nnx(
            layers(NNX(nnx.Conv, 2, 3, (2,)), FUNCTION(LEAKY), NNX(nnx.Conv, 3, 2, (2,))),
            (1, 5, 2),
        ),
        3,
        permutations=(3,),
    ),
    Case(
        "nnx_batch_norm",
        from_nnx(
            layers(
                NNX(nnx.Linear, 3, 4),
                NNX(nnx.BatchNorm, 4, epsilon=0.0, use_running_average=False),
                FUNCTION(jnp.tanh),
                NNX(nnx.Linear, 4, 2),
            ),
            (7, 3),
        ),
        8,
        permutations=(4,),
        signs=8,
    ),
    Case(
        "nnx_layer_norm",
        from_nnx(
            layers(
                NNX(nnx.Linear, 3, 4),
                NNX(nnx.LayerNorm, 4, epsilon=1e-3),
                NNX(nnx.Linear, 4, 3),
                FUNCTION(jnp.tanh),
            ),
            (3,),
        ),
        4 + 2 * 4 + 3 + rotations(3),
        approximate=5 + 2 * 4 + 3 + rotations(3),
    ),
    # its softmax is in float32 whatever the inputs are, so that is the dtype of the model
    Case(
        "nnx_attention",
        from_nnx(nnx_attention, (4, 6), dtype=jnp.float32),
        2 * (4 + 2 + 4 + 2),
        numeric=False,
        permutations=(2,),
    ),
    # exact: the gains before each leaky unit, one set for the block and one for the stream
    Case("linen_resnet", resnet, 6, equality=False, approximate=15, permutations=(3, 3)),
)

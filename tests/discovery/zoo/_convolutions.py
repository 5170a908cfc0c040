"""Convolutions: plain, strided, grouped, depthwise; pooling; a residual block with batch norm."""

import jax
import jax.numpy as jnp

from ._case import Case, model
from ._norms import standardise

LEAKY = lambda z: jax.nn.leaky_relu(z, 0.1)


def convolve(x, w, stride=1, groups=1, padding="SAME"):
    """x is (channels, height, width) and w (out, in / groups, height, width)."""
    return jax.lax.conv_general_dilated(
        x[None], w, (stride, stride), padding, feature_group_count=groups
    )[0]


def pool(x, start, op):
    return jax.lax.reduce_window(x, start, op, (1, 2, 2), (1, 2, 2), "VALID")


def max_pool(x):
    return pool(x, -jnp.inf, jax.lax.max)


def average_pool(x):
    return pool(x, 0.0, jax.lax.add) / 4


def two_convolutions(sigma, stride=1, after=lambda x: x, bias=True):
    def apply(p, x):
        y = convolve(x, p["w1"], stride)
        y = after(sigma(y + p["b1"][:, None, None] if bias else y))
        return convolve(y, p["w2"]) + (p["b2"][:, None, None] if bias else 0.0)

    biases = {"b1": (4,), "b2": (4,)} if bias else {}
    return model(apply, (4, 4, 4), w1=(4, 4, 2, 2), w2=(4, 4, 1, 1), **biases)


def separable(p, x):
    """Pointwise, depthwise, pointwise, with nothing between."""
    y = convolve(convolve(x, p["w1"]), p["depthwise"], groups=3)
    return convolve(y, p["w2"])


def grouped(p, x):
    y = convolve(convolve(x, p["w1"]), p["grouped"], groups=2)
    return convolve(y, p["w2"])


def flattened(p, x):
    """Convolution, leaky units, pooling, and a dense layer on the flattened features."""
    y = average_pool(LEAKY(convolve(x, p["w1"]) + p["b1"][:, None, None]))
    return p["w2"] @ y.reshape(-1)


def residual_block(p, x):
    """Two convolutions with batch norm beside the identity; x is (batch, channels, h, w)."""
    c = lambda x, w: jax.vmap(lambda one: convolve(one, w))(x)
    per_channel = lambda v: v[None, :, None, None]
    norm = lambda i, y: (
        standardise(y, (0, 2, 3)) * per_channel(p[f"g{i}"]) + per_channel(p[f"s{i}"])
    )
    stream = jax.nn.relu(norm(0, c(x, p["w0"])))
    y = jax.nn.relu(norm(1, c(stream, p["w1"])))
    stream = jax.nn.relu(stream + norm(2, c(y, p["w2"])))
    return stream.mean((2, 3)) @ p["out"]


CASES = (
    Case("conv_linear", two_convolutions(lambda x: x), 16 + 4, permutations=(), signs=0),
    Case("conv_tanh", two_convolutions(jnp.tanh), 0, permutations=(4,), signs=4),
    Case("conv_relu_strided", two_convolutions(jax.nn.relu, 2), 4, permutations=(4,), signs=0),
    Case("conv_relu_max_pool", two_convolutions(LEAKY, 1, max_pool), 4, permutations=(4,)),
    # a maximum commutes with positive scales and with shifts
    Case("conv_max_pool", two_convolutions(lambda x: x, 1, max_pool), 4 + 4, permutations=(4,)),
    Case("conv_average_pool", two_convolutions(lambda x: x, 1, average_pool), 16 + 4),
    Case(
        "conv_separable",
        model(separable, (4, 4, 4), w1=(3, 4, 1, 1), depthwise=(3, 1, 2, 2), w2=(4, 3, 1, 1)),
        3 + 3,
        permutations=(3,),
        signs=6,
    ),
    Case(
        "conv_grouped",
        model(grouped, (4, 4, 4), w1=(4, 4, 1, 1), grouped=(4, 2, 2, 2), w2=(4, 4, 1, 1)),
        2 * 4 + 2 * 4,
    ),
    Case(
        "conv_flattened",
        model(flattened, (2, 4, 4), w1=(3, 2, 2, 2), b1=(3,), w2=(2, 12)),
        3,
        permutations=(3,),
        signs=0,
    ),
    # scales of w0, w1, w2 by their norms (9), of the inner and of the residual channels (3 + 3)
    Case(
        "conv_residual_block",
        model(
            residual_block,
            (3, 2, 4, 4),
            w0=(3, 2, 2, 2),
            w1=(3, 3, 2, 2),
            w2=(3, 3, 2, 2),
            out=(3, 2),
            **{f"{n}{i}": (3,) for n in "gs" for i in (0, 1, 2)},
        ),
        9 + 6,
        equality=False,
        permutations=(3, 3),
    ),
)

"""Two layers and more: linear, homogeneous, odd, even and gated units."""

import functools

import jax
import jax.numpy as jnp

from ._case import Case, model

RELU = jax.nn.relu
LEAKY = functools.partial(jax.nn.leaky_relu, negative_slope=0.1)


def two_layer(sigma, n=3, h=4, m=2, bias=True):
    def apply(p, x):
        z = p["w1"] @ x
        y = p["w2"] @ sigma(z + p["b1"] if bias else z)
        return y + p["b2"] if bias else y

    shapes = {"w1": (h, n), "w2": (m, h)} | ({"b1": (h,), "b2": (m,)} if bias else {})
    return model(apply, (n,), **shapes)


def deep(sigma, widths, bias=True):
    depth = len(widths) - 1

    def apply(p, x):
        for i in range(1, depth + 1):
            x = p[f"w{i}"] @ x
            x = x + p[f"b{i}"] if bias else x
            x = sigma(x) if i < depth else x
        return x

    shapes = {f"w{i + 1}": (widths[i + 1], widths[i]) for i in range(depth)}
    shapes |= {f"b{i + 1}": (widths[i + 1],) for i in range(depth)} if bias else {}
    return model(apply, (widths[0],), **shapes)


def gated(sigma, d=4, ff=3, m=4):
    apply = lambda p, x: p["down"] @ (sigma(p["gate"] @ x) * (p["up"] @ x))
    return model(apply, (d,), gate=(ff, d), up=(ff, d), down=(m, ff))


def fused_gated(p, x):
    gate, up = jnp.split(p["both"] @ x, 2)
    return p["down"] @ (jax.nn.silu(gate) * up)


def residual(sigma, stream):
    """s = E x, s = stream(s + B sigma(A s)), out = P s."""

    def apply(p, x):
        s = stream(p["e"] @ x)
        s = stream(s + p["b"] @ sigma(p["a"] @ s))
        return p["p"] @ s

    return model(apply, (4,), e=(3, 4), a=(5, 3), b=(3, 5), p=(4, 3))


def maxout(p, x):
    first, second = (p[f"w{i}"] @ x + p[f"b{i}"] for i in (1, 2))
    return p["out"] @ jnp.maximum(first, second) + p["b"]


def concatenated(p, x):
    hidden = RELU(p["w1"] @ x + p["b1"])
    return p["w2"] @ jnp.concatenate([x, hidden]) + p["b2"]


def prelu(p, x):
    z = p["w1"] @ x + p["b1"]
    return p["w2"] @ jnp.where(z > 0, z, p["slope"] * z)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def own_gradient(z, slope):
    """A leaky unit whose derivative is clipped, which its outputs do not show."""
    return jnp.where(z > 0, z, slope * z)


own_gradient.defvjp(
    lambda z, slope: (own_gradient(z, slope), z),
    lambda slope, z, g: (jnp.clip(g, -1, 1) * jnp.where(z > 0, 1.0, slope),),
)


identity = lambda z: z

CASES = (
    # h^2 + h: a bottleneck, so that no stabiliser is subtracted
    Case("linear", two_layer(identity, 3, 2, 3), 2**2 + 2, permutations=(), signs=0),
    Case("linear_deep", deep(identity, (3, 2, 2, 3), bias=False), 4 + 4, permutations=()),
    Case("linear_deep_bias", deep(identity, (5, 3, 3, 4)), 18 + 6, permutations=(), signs=0),
    Case("relu", two_layer(RELU), 4, permutations=(4,), signs=0),
    Case("leaky", two_layer(LEAKY), 4, permutations=(4,), signs=0),
    # its Jacobian is the one that it was given
    Case(
        "custom_vjp",
        two_layer(lambda z: own_gradient(z, 0.1)),
        4,
        numeric=False,
        permutations=(4,),
        signs=0,
    ),
    Case("relu_squared", two_layer(lambda z: RELU(z) ** 2), 4, permutations=(4,), signs=0),
    Case("cube", two_layer(lambda z: z**3), 4, permutations=(4,), signs=4),
    Case("abs", two_layer(jnp.abs), 4, permutations=(4,), signs=4),
    Case("square_vector_output", two_layer(jnp.square, 6, 3, 4, False), 3, signs=3),
    # the quadratic form mixes units by O(p, q): 10 by the Jacobian, 4 of them are scalings
    Case("square_scalar_output", two_layer(jnp.square, 4, 4, 1, False), 4, equality=False),
    Case("relu_deep", deep(RELU, (3, 4, 3, 2)), 7, equality=False, permutations=(4, 3), signs=0),
    Case("leaky_deep", deep(LEAKY, (3, 4, 3, 2)), 7, equality=False, permutations=(4, 3)),
    Case("relu_squared_deep", deep(lambda z: RELU(z) ** 2, (3, 3, 3, 2)), 6, equality=False),
    Case("tanh", two_layer(jnp.tanh), 0, permutations=(4,), signs=4),
    Case("tanh_deep", deep(jnp.tanh, (3, 4, 3, 2)), 0, permutations=(4, 3), signs=7),
    Case("erf", two_layer(jax.lax.erf), 0, permutations=(4,), signs=4),
    Case("sin", two_layer(jnp.sin), 0, permutations=(4,), signs=4),
    Case("softsign", two_layer(jax.nn.soft_sign), 0, permutations=(4,), signs=4),
    Case("sigmoid", two_layer(jax.nn.sigmoid), 0, permutations=(4,)),
    Case("softplus", two_layer(jax.nn.softplus), 0, permutations=(4,), signs=0),
    Case("exponential", two_layer(jnp.exp), 4, permutations=(4,), signs=0),
    Case("swiglu", gated(jax.nn.silu), 3, permutations=(3,), signs=3),
    Case("geglu", gated(jax.nn.gelu), 3, permutations=(3,), signs=3),
    Case("reglu", gated(RELU), 6, permutations=(3,), signs=3),
    Case("bilinear_glu", gated(identity, 6, 3, 4), 6, permutations=(3,), signs=6),
    Case(
        "swiglu_fused",
        model(fused_gated, (4,), both=(6, 4), down=(4, 3)),
        3,
        permutations=(3,),
        signs=3,
    ),
    Case("residual_linear_readers", residual(jnp.tanh, identity), 9, permutations=(5,), signs=5),
    Case("residual_leaky_stream", residual(LEAKY, LEAKY), 3 + 5, equality=False),
    Case(
        "maxout",
        model(maxout, (3,), w1=(3, 3), w2=(3, 3), b1=(3,), b2=(3,), out=(3, 3), b=(3,)),
        3 + 3,
        permutations=(3,),
    ),
    Case(
        "skip_by_concatenation",
        model(concatenated, (3,), w1=(4, 3), b1=(4,), w2=(2, 7), b2=(2,)),
        4,
        permutations=(4,),
        signs=0,
    ),
    Case(
        "prelu",
        model(prelu, (3,), w1=(4, 3), b1=(4,), slope=(4,), w2=(2, 4)),
        4,
        permutations=(4,),
    ),
)

"""Models in which a careless tool finds a symmetry that is not there, or misses the one that is."""

import jax
import jax.numpy as jnp

from ._case import Case, model

RELU = jax.nn.relu
LEAKY = lambda z: jax.nn.leaky_relu(z, 0.1)
SHAPES = {"w1": (4, 3), "b1": (4,), "w2": (2, 4)}


def hidden(change, sigma=RELU, **more):
    """W2 change(sigma(W1 x + b1)) with something done to the hidden units."""

    def apply(p, x):
        return p["w2"] @ change(sigma(p["w1"] @ x + p["b1"]))

    return model(apply, (3,), **SHAPES, **more)


def with_params(apply, **more):
    return model(apply, (3,), **SHAPES, **more)


plain = lambda p, x: p["w2"] @ RELU(p["w1"] @ x + p["b1"])


def exposed(p, x):
    """The hidden layer is an output as well."""
    z = RELU(p["w1"] @ x + p["b1"])
    return p["w2"] @ z, z


def partly_exposed(p, x):
    z = RELU(p["w1"] @ x + p["b1"])
    return p["w2"] @ z, z[0]


def stopped(p, x):
    return plain(p, x) + jax.lax.stop_gradient(p["w1"]).sum()


def stopped_inside(p, x):
    z = RELU(p["w1"] @ x + p["b1"])
    return p["w2"] @ (z + jnp.tanh(jax.lax.stop_gradient(z)))


def shape_only(p, x):
    return plain(p, x) + jnp.zeros(p["like"].shape[0])


def dropped(p, x):
    keep = jax.random.bernoulli(jax.random.key(3), 0.5, (4,))
    return p["w2"] @ jnp.where(keep, LEAKY(p["w1"] @ x + p["b1"]), 0.0)


def narrowed(p, x):
    """The hidden units pass through a narrower dtype: a scale changes the rounding."""
    z = RELU(p["w1"] @ x + p["b1"])
    return p["w2"] @ z.astype(jnp.bfloat16).astype(z.dtype)


def rounded(p, x):
    z = RELU(p["w1"] @ x + p["b1"])
    return p["w2"] @ (z + z.astype(jnp.int32).astype(z.dtype))


def compared(p, x):
    z = p["w1"] @ x + p["b1"]
    return p["w2"] @ jnp.where(z > 0.3, z, 0.0)


def indicator(p, x):
    z = RELU(p["w1"] @ x + p["b1"])
    return p["w2"] @ (z * (z > z.mean(keepdims=True)).astype(z.dtype))


def chosen(p, x):
    """The largest unit answers alone."""
    z = RELU(p["w1"] @ x + p["b1"])
    return p["w2"][:, jnp.argmax(z)] * z.max(keepdims=True)


def twice(p, x):
    """One matrix is two layers."""
    return p["out"] @ jnp.tanh(p["w"] @ jnp.tanh(p["w"] @ x))


def twice_linear(p, x):
    return p["w"] @ (p["w"] @ x)


def two_roles(p, x):
    """One matrix in front of a homogeneous and of an inhomogeneous unit."""
    z = p["w1"] @ x + p["b1"]
    return p["w2"] @ RELU(z) + p["w3"] @ jax.nn.gelu(z)


def bias_reused(p, x):
    return plain(p, x) + p["b1"][:2]


def shared_bias(p, x):
    return p["w2"] @ RELU(p["w1"] @ x + jnp.broadcast_to(p["b"], (4,)))


def squared_norm(p, x):
    """A sum of squares of rectified units: no rotation passes the rectifier."""
    return (RELU(p["w1"] @ x + p["b1"]) ** 2).sum(keepdims=True)


def mean_subtracted(p, x):
    """Mean subtraction, then division by the norm: a layer norm that is written by hand."""
    z = p["w"] @ x
    z = z - z.mean(keepdims=True)
    return p["reader"] @ (z / jnp.linalg.norm(z))


def counted(z):
    return z * (1.0 + jnp.arange(4.0))


CONSTANT = (1.0, 2.0, -1.0, 0.5)

CASES = (
    Case("gelu", hidden(lambda z: z, jax.nn.gelu), 0, permutations=(4,), signs=0),
    Case("silu", hidden(lambda z: z, jax.nn.silu), 0, permutations=(4,), signs=0),
    Case(
        "relu_sum_of_squares",
        model(squared_norm, (3,), w1=(4, 3), b1=(4,)),
        0,
        permutations=(4,),
        forbidden=("Orthogonal", "GeneralLinear"),
    ),
    Case(
        "mean_subtracted",
        model(mean_subtracted, (5,), w=(4, 5), reader=(5, 4)),
        # column sums of w and row sums of the reader are invisible; rotations of the hyperplane
        5 + 5 + 3 + 1,
    ),
    Case("hidden_is_output", with_params(exposed), 0, frozen=("w1", "b1"), permutations=()),
    Case("one_unit_is_output", with_params(partly_exposed), 3, permutations=(3,)),
    Case(
        "scaled_by_constants",
        hidden(lambda z: z * jnp.array(CONSTANT, z.dtype)),
        4,
        permutations=(),
    ),
    Case("scaled_by_iota", hidden(counted), 4, permutations=()),
    Case("one_unit_shifted", hidden(lambda z: z.at[0].add(1.0)), 3, permutations=(3,)),
    Case(
        "one_unit_masked",
        hidden(lambda z: jnp.where(jnp.arange(4) > 0, z, 0.0)),
        4 + 2 + 3,
        permutations=(3,),
    ),
    Case("dropout_by_a_fixed_key", with_params(dropped), 0, numeric=False, equality=False),
    # a constant matrix mixes the units: the scales are still there, in another basis of w2
    Case("cumulative_sum", hidden(jnp.cumsum), 1, equality=False, permutations=()),
    Case("sorted", hidden(jnp.sort, LEAKY), 1),
    Case("reversed", hidden(lambda z: z[::-1]), 4, permutations=(4,)),
    Case("rolled", hidden(lambda z: z + jnp.roll(z, 1)), 1, equality=False),
    Case("largest_answers", with_params(chosen), 1, equality=False),
    Case("stop_gradient_of_a_leaf", with_params(stopped), 0, numeric=False, permutations=(4,)),
    Case("stop_gradient_inside", with_params(stopped_inside), 0, numeric=False),
    Case("shape_only", with_params(shape_only, like=(2,)), 4 + 2, permutations=(4,)),
    Case("narrow_dtype", with_params(narrowed), 0, numeric=False),
    Case("rounded_to_integers", with_params(rounded), 0, numeric=False),
    Case("compared_with_a_constant", with_params(compared), 0, numeric=False),
    Case("compared_with_the_mean", with_params(indicator), 1, equality=False),
    Case("saturated_far_away", hidden(lambda z: jnp.minimum(z, 100.0)), 0, numeric=False),
    Case("relu_six", hidden(lambda z: z, jax.nn.relu6), 0, numeric=False, permutations=(4,)),
    Case(
        "one_matrix_two_layers",
        model(twice, (3,), w=(3, 3), out=(2, 3)),
        0,
        permutations=(),
        signs=1,  # tanh(-w tanh(-w x)) = tanh(w tanh(w x))
    ),
    Case("one_matrix_two_layers_linear", model(twice_linear, (3,), w=(3, 3)), 0, signs=1),
    Case("two_roles", with_params(two_roles, w3=(2, 4)), 0, permutations=(4,), signs=0),
    Case("bias_reused", with_params(bias_reused), 2, permutations=(2,), signs=0),
    Case(
        "shared_bias", model(shared_bias, (3,), w1=(4, 3), b=(1,), w2=(2, 4)), 1, permutations=(4,)
    ),
)

"""Normalisation: of a batch, a layer, a root mean square, groups of channels, a weight's rows."""

import jax
import jax.numpy as jnp

from ._case import Case, model

LEAKY = lambda z: jax.nn.leaky_relu(z, 0.1)


def standardise(x, axes, eps=0.0):
    """Zero mean and unit variance over some axes; an epsilon of 0 leaves no trace."""
    centred = x - x.mean(axes, keepdims=True)
    variance = (centred**2).mean(axes, keepdims=True)
    return centred / jnp.sqrt(variance + eps if eps else variance)


def layer_norm(x, gain=None, bias=None, eps=0.0):
    """Layer norm of one vector."""
    x = standardise(x, 0, eps)
    x = x if gain is None else x * gain
    return x if bias is None else x + bias


def rms_norm(x, gain=None, eps=0.0):
    """Division of one vector by its root mean square."""
    square = (x**2).mean(keepdims=True)
    x = x / jnp.sqrt(square + eps if eps else square)
    return x if gain is None else x * gain


def batch_norm(sigma, eps=0.0):
    def apply(p, x):
        z = standardise(x @ p["w1"].T + p["b1"][None], 0, eps)
        return sigma(z * p["gain"][None] + p["shift"][None]) @ p["w2"].T + p["b2"][None]

    shapes = {"w1": (4, 3), "w2": (2, 4), "b2": (2,)}
    return model(apply, (7, 3), **shapes, **dict.fromkeys(("b1", "gain", "shift"), (4,)))


def batch_norm_inference(p, x):
    z = (p["w1"] @ x + p["b1"] - p["mean"]) / jnp.abs(p["deviation"])
    return p["w2"] @ jnp.tanh(z * p["gain"] + p["shift"])


def between(norm, eps=0.0, gains=()):
    """stream = W x + b, a norm, a linear reader, tanh and an output layer."""

    def apply(p, x):
        z = norm(p["w"] @ x + p["b"], *(p[g] for g in gains), eps=eps)
        return p["out"] @ jnp.tanh(p["reader"] @ z + p["b_reader"])

    shapes = {"w": (5, 5), "b": (5,), "reader": (4, 5), "b_reader": (4,), "out": (2, 4)}
    return model(apply, (5,), **shapes, **dict.fromkeys(gains, (5,)))


def normed_units(p, x):
    return p["out"] @ jnp.tanh(layer_norm(p["w"] @ x + p["b"], p["gain"], p["shift"]))


def group_norm(p, x):
    """Two groups of two channels over five positions."""
    z = (p["w"] @ x + p["b"][:, None]).reshape(2, 2, 5)
    z = standardise(z, (1, 2)).reshape(4, 5)
    return p["out"] @ jnp.tanh(z * p["gain"][:, None] + p["shift"][:, None]).mean(1)


def weight_norm(p, x):
    rows = p["v"] / jnp.sqrt((p["v"] ** 2).sum(1, keepdims=True))
    return p["w2"] @ jnp.tanh((p["g"][:, None] * rows) @ x + p["b"])


def unit_sphere(p, x):
    z = p["w"] @ x
    return p["reader"] @ (z / jnp.linalg.norm(z))


def prototypes(p, x):
    """Negative squared distances of an affine embedding to five centres."""
    z = p["w"] @ x + p["b"]
    return -((z[None] - p["centres"]) ** 2).sum(1)


rotations = lambda d: d * (d - 1) // 2

CASES = (
    # 2h by the norm, and gain and shift before a homogeneous unit
    Case("batch_norm_leaky", batch_norm(LEAKY), 12, permutations=(4,), signs=4),
    Case("batch_norm_tanh", batch_norm(jnp.tanh), 8, permutations=(4,), signs=8),
    Case("batch_norm_leaky_eps", batch_norm(LEAKY, 1e-3), 8, approximate=12, signs=4),
    # 4 for each of 4 channels: 9 numbers of which the affine map of the input keeps 4 + 1 (w2)
    Case(
        "batch_norm_inference_state_as_parameters",
        model(
            batch_norm_inference,
            (3,),
            w1=(4, 3),
            w2=(2, 4),
            **dict.fromkeys(("b1", "mean", "deviation", "gain", "shift"), (4,)),
        ),
        4 * 4,
        permutations=(4,),
    ),
    # input side 1 + n_in + 1; reader 2 d + rows; rotations of the hyperplane that the norm leaves,
    # as nothing else reads the stream
    Case("layer_norm", between(layer_norm, 0.0, ("gain", "shift")), 7 + 14 + rotations(4)),
    Case("layer_norm_eps", between(layer_norm, 1e-3, ("gain", "shift")), 26, approximate=27),
    Case("layer_norm_plain", between(layer_norm), 7 + 4 + rotations(4), signs=4),
    # units after the norm fix its coordinates: the input side alone
    Case(
        "layer_norm_tanh",
        model(
            normed_units, (3,), w=(5, 3), **dict.fromkeys(("b", "gain", "shift"), (5,)), out=(2, 5)
        ),
        1 + 3 + 1,
        permutations=(5,),
        signs=5 + 1,  # of each unit; of what the norm reads and its gain
    ),
    Case("rms_norm", between(rms_norm, 0.0, ("gain",)), 5 + 1 + rotations(5), signs=4 + 5),
    Case("rms_norm_plain", between(rms_norm), 1 + rotations(5), permutations=(4,), signs=4),
    Case("rms_norm_eps", between(rms_norm, 1e-3), rotations(5), approximate=1 + rotations(5)),
    Case(
        "group_norm",
        model(
            group_norm, (3, 5), w=(4, 3), out=(2, 4), **dict.fromkeys(("b", "gain", "shift"), (4,))
        ),
        4,
        permutations=(2, 2, 2),
        signs=2 + 4,
    ),
    Case(
        "weight_norm",
        model(weight_norm, (3,), v=(4, 3), g=(4,), b=(4,), w2=(2, 4)),
        4,
        permutations=(4,),
        signs=8,
    ),
    Case("unit_sphere", model(unit_sphere, (5,), w=(4, 5), reader=(5, 4)), 1 + rotations(4)),
    Case(
        "prototypes",
        model(prototypes, (4,), w=(3, 4), b=(3,), centres=(5, 3)),
        3 + rotations(3),
    ),
)

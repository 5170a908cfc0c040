"""Small models with hand-made symmetries, and random elements of their whole groups."""

import itertools

import jax

from symjax import (
    GeneralLinear,
    Leg,
    Permutation,
    PositiveScaling,
    SignFlip,
    Symmetry,
    linear_action,
)


def mlp(key, widths):
    """A multilayer perceptron as a list of {"b", "w"}; weights (out, in)."""
    layers = []
    for columns, rows in itertools.pairwise(widths):
        key, for_w, for_b = jax.random.split(key, 3)
        w = jax.random.normal(for_w, (rows, columns)) / columns**0.5
        layers.append({"b": 0.3 * jax.random.normal(for_b, (rows,)), "w": w})
    return layers


def forward(activation):
    """The MLP as a function of parameters and inputs (samples, features)."""

    def apply(layers, x):
        for layer in layers[:-1]:
            x = activation(x @ layer["w"].T + layer["b"][None])
        return x @ layers[-1]["w"].T + layers[-1]["b"][None]

    return apply


def symmetry(name, group, legs):
    return Symmetry(name, linear_action(group, legs), tuple(str(leg.leaf) for leg in legs))


def mlp_symmetries(widths, activation):
    """Per hidden layer: permutations with scales (relu) or signs (tanh), or GL (linear)."""
    found = []
    for i, h in enumerate(widths[1:-1]):
        legs = [Leg(f"{i}/w", 0), Leg(f"{i}/b", 0), Leg(f"{i + 1}/w", 1, "covector")]
        if activation == "linear":
            found.append(symmetry(f"basis {i}", GeneralLinear(h), legs))
            continue
        group = PositiveScaling(h) if activation == "relu" else SignFlip(h)
        found.append(symmetry(f"units {i}", Permutation(h), legs))
        found.append(symmetry(f"scales {i}", group, legs))
    return found


def draw_element(key, symmetries, scale=0.7):
    keys = jax.random.split(key, len(symmetries))
    return tuple(s.group.random(k, scale=scale) for k, s in zip(keys, symmetries, strict=True))

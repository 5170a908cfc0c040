"""Probed elementwise functions: what is found holds, and what only seems to be is not found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax.discovery._evaluation import evaluate
from symjax.discovery._graph import Graph, Node

from ._reference import changes, coarsest
from .zoo._case import model

RELU = jax.nn.relu
SHAPES = {"w1": (4, 3), "b1": (4,), "w2": (2, 4)}


def tanh_by_exponentials(z):
    return (jnp.exp(z) - jnp.exp(-z)) / (jnp.exp(z) + jnp.exp(-z))


def hidden(sigma):
    """One hidden layer with an activation."""
    apply = lambda p, x: p["w2"] @ sigma(p["w1"] @ x + p["b1"])
    return model(apply, (3,), **SHAPES)(jax.random.key(0))


def groups(symmetries):
    """Groups by the name of their class, the permutations of the units aside."""
    return {
        type(s.group).__name__: (s.group.n, bool(s.probed))
        for s in symmetries
        if not isinstance(s.group, symjax.Permutation)
    }


#: Activation, then the groups that act and whether they rest on a probed property.
FOUND = {
    "tanh by exponentials": (tanh_by_exponentials, {"SignFlip": (4, True)}),
    "hard tanh": (jax.nn.hard_tanh, {"SignFlip": (4, True)}),
    "hard tanh of a cube": (lambda z: jax.nn.hard_tanh(z**3), {"SignFlip": (4, True)}),
    "clip": (lambda z: jnp.clip(z, -2, 2), {"SignFlip": (4, True)}),
    "centred sigmoid": (lambda z: jax.nn.sigmoid(z) - 0.5, {"SignFlip": (4, True)}),
    "log cosh": (lambda z: jax.nn.softplus(2 * z) - z, {"SignFlip": (4, True)}),
    "even by a relu": (
        lambda z: z - 2 * RELU(z),
        {"PositiveScaling": (4, False), "SignFlip": (4, True)},
    ),
    "power by a logarithm": (
        lambda z: jnp.exp(1.5 * jnp.log(jnp.abs(z))),
        {"PositiveScaling": (4, True), "SignFlip": (4, False)},
    ),
    "identity by relus": (lambda z: RELU(z) - RELU(-z), {"GeneralLinear": (4, True)}),
    "identity by gelus": (lambda z: jax.nn.gelu(z) - jax.nn.gelu(-z), {"GeneralLinear": (4, True)}),
    # Read off the program, so not probed.
    "product": (lambda z: z * jnp.abs(z), {"PositiveScaling": (4, False), "SignFlip": (4, False)}),
    "leaky by select": (lambda z: jnp.where(z > 0, z, 0.1 * z), {"PositiveScaling": (4, False)}),
    "sine over": (lambda z: jnp.sin(z) / z, {"SignFlip": (4, False)}),
}

#: What a careless probe takes for odd, even, homogeneous or affine.
TRAPS = {
    "offset": lambda z: tanh_by_exponentials(z) + 1e-9,
    "relu6": jax.nn.relu6,
    "kink at one": lambda z: jnp.where(z > 1, 1.0, z**2),
    "kink at zero": lambda z: jnp.where(z > 0, z, z**3),
    "far clip": lambda z: jnp.minimum(RELU(z), 1e20),
    "narrow window": lambda z: jnp.where((z > 5) & (z < 5.001), 0.0, jnp.clip(z, -9, 9)),
    "period": lambda z: z + 0.1 * jnp.sin(jnp.pi * z) ** 2,
    "small even part": lambda z: jnp.clip(z, -1, 1) + 1e-6 * z**2,
    "even part far away": lambda z: jax.nn.hard_tanh(z) + RELU(z - 1e8),
    "nearly homogeneous": lambda z: jax.nn.softplus(1e6 * z) / 1e6,
    "nearly affine": lambda z: z + 1e-7 * jnp.tanh(z) ** 2,
    "value at zero": lambda z: jnp.where(z >= 0, 1.0, -1.0) * jax.nn.sigmoid(jnp.abs(z)),
    "cancelled": lambda z: ((z + z**2) + 1e25) - 1e25,
    "squareplus": jax.nn.squareplus,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FOUND)
def test_a_composite_is_found_to_be_what_it_is(name):
    sigma, expected = FOUND[name]
    apply, params, inputs = hidden(sigma)
    symmetries = symjax.find_symmetries(apply, params, *inputs, check=False)
    assert groups(symmetries) == expected
    for s, residual in changes(symmetries, apply, params, inputs):
        assert residual <= 1000 * coarsest(params), s


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_what_rests_on_a_probed_property_passes_verify(name):
    apply, params, inputs = hidden(FOUND[name][0])
    symmetries = symjax.find_symmetries(apply, params, *inputs)
    for found in symjax.verify_all(symmetries, apply, params, *inputs, key=jax.random.key(1)):
        assert found.holds, found


@pytest.mark.parametrize("name", TRAPS)
def test_a_function_that_only_seems_so_is_not_taken_for_it(name):
    apply, params, inputs = hidden(TRAPS[name])
    # The check would leave a false one out, and hide what was concluded.
    assert groups(symjax.find_symmetries(apply, params, *inputs, check=False)) == {}


def test_a_second_value_is_not_a_number():
    """Clips at parameters, a slope per unit, a threshold per sample: not functions of one value."""

    def apply(p, x):
        z = p["w1"] @ x + p["b1"]
        return p["w2"] @ (jnp.clip(z, -p["top"], p["top"] + 1) + jnp.minimum(z, x[0]) - z)

    params, inputs = {n: jnp.ones(s) for n, s in {**SHAPES, "top": (4,)}.items()}, jnp.ones(3)
    assert groups(symjax.find_symmetries(apply, params, inputs)) == {}


def test_a_probed_property_is_reported():
    apply, params, inputs = hidden(jax.nn.hard_tanh)
    symmetries = symjax.find_symmetries(apply, params, *inputs)
    (flip,) = (s for s in symmetries if s.name == "sign flip")
    assert flip.probed == ("odd gt/lt/select",)
    assert flip.as_dict()["probed"] == list(flip.probed)
    assert "exact, probed odd gt/lt/select" in str(symmetries)


def test_the_bound_of_the_rounding_holds_where_terms_cancel():
    """(exp(x) - 1) - x beside expm1 in NumPy's long double."""
    graph = Graph()
    x, one = graph.tensor((), "leaf"), graph.tensor((), "constant", value=np.asarray(1.0))
    nodes = []
    for kind, operands, fields in (
        ("pointwise", lambda: [x], {"name": "exp"}),
        ("linear", lambda: [nodes[0].out, one], {"coefficients": (1.0, -1.0)}),
        ("linear", lambda: [nodes[1].out, x], {"coefficients": (1.0, -1.0)}),
    ):
        out = graph.tensor((), "node")
        nodes.append(Node(kind, out, (), [(t, ()) for t in operands()], **fields))
    points = np.concatenate([-np.logspace(-12, 1, 200), np.logspace(-12, 1, 200)])
    value, error = evaluate(nodes, x, points)
    exact = np.expm1(points.astype(np.longdouble)) - points.astype(np.longdouble)
    assert np.all(np.abs(value - exact) <= error)
    assert np.all(error <= 30 * np.finfo(float).eps * (np.exp(points) + np.abs(points)))

"""What is too large to be evaluated is checked on the graph that was read, at small sizes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax.actions import Block, ShiftAction, linear_action
from symjax.discovery import Symmetry, _check, _find
from symjax.discovery._graph_model import GraphModel
from symjax.discovery._small_sizes import Sizes, SmallLeaves

from .test_check import FALSE, MLP, W, planted
from .zoo import CASES, case

BY_GRAPH = "by the graph that was read, with every index set at size 2 or 3"
SHAPES = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in W.items()}


@pytest.fixture
def too_large(monkeypatch):
    """Every model counts as too large to be evaluated."""
    monkeypatch.setattr(_check, "_work", lambda *args: 1e99)


def reading(monkeypatch, name):
    """(what was found, the reading, how to ask the model) of a model of the zoo."""
    seen = {}

    def spy(found, jaxpr, leaves, data, read):
        seen.update(found=found, read=read, model=(jaxpr, leaves, data))
        return found

    monkeypatch.setattr(_find, "checked", spy)
    apply, params, inputs = case(name).build(jax.random.key(0))
    symjax.find_symmetries(apply, params, *inputs)
    return seen["found"], seen["read"], seen["model"]


# -- true rows stay, false ones go --------------------------------------------------------------


def every_row_holds_on_the_graph(monkeypatch, names):
    for name in names:
        found, read, _ = reading(monkeypatch, name)
        for rows, loose in ((found.exact, False), (found.approximate, True)):
            if rows:
                assert _check._by_graph(rows, read, 1e12, loose=loose) == ([], BY_GRAPH), name


def test_what_is_found_in_the_zoo_holds_on_its_graphs(monkeypatch):
    every_row_holds_on_the_graph(monkeypatch, [c.name for c in CASES[::12]])


@pytest.mark.slow
def test_all_that_is_found_in_the_zoo_holds_on_its_graphs(monkeypatch):
    every_row_holds_on_the_graph(monkeypatch, [c.name for c in CASES])


@pytest.mark.usefixtures("too_large")
@pytest.mark.parametrize("name", FALSE)
def test_a_false_row_of_a_model_of_shapes_is_dropped_and_named(monkeypatch, name):
    group, legs = FALSE[name]
    leaves = tuple(leg.leaf for leg in legs)
    false = Symmetry("planted", linear_action(group, legs), leaves)
    honest = symjax.find_symmetries(MLP, SHAPES, jnp.ones(3))
    assert (honest.false, honest.checked) == ((), BY_GRAPH)
    planted(monkeypatch, false, shared=4 if name == "not linear" else 0)
    found = symjax.find_symmetries(MLP, SHAPES, jnp.ones(3))
    assert (found.false, found.items) == ((false,), honest.items)
    assert (found.dimension, found.overlap) == (honest.dimension, honest.overlap)
    assert f"FALSE, so left out: planted {group.notation}" in str(found)


def spoiled(symmetry, rng):
    """The symmetry without one of its legs."""
    legs, gone = symmetry.action.legs, rng.integers(len(symmetry.action.legs))
    legs = tuple(leg for i, leg in enumerate(legs) if i != gone)
    action, group = symmetry.action, symmetry.action.group
    shift = isinstance(action, ShiftAction)
    new = ShiftAction(group, legs, action.sizes) if shift else linear_action(group, legs)
    return dataclasses.replace(symmetry, action=new)


@pytest.mark.parametrize(
    "name",
    ["gpt2", "llama_scan", "linear_deep_bias", "attention_grouped_bias", "post_layer_norm"],
)
def test_a_row_without_a_leg_fails_on_the_graph_where_it_fails_on_the_model(monkeypatch, name):
    found, read, model = reading(monkeypatch, name)
    rng = np.random.default_rng(0)
    rows = [spoiled(s, rng) for s in found.exact if len(s.action.legs) > 1][:8]
    assert rows
    by_graph, _ = _check._by_graph(rows, read, 1e12, loose=False)
    by_model, _ = _check._by_model(rows, *model, 2)
    assert by_model
    assert [s in by_graph for s in rows] == [s in by_model for s in rows]


# -- up to a norm's epsilon ---------------------------------------------------------------------


def test_what_holds_up_to_epsilon_is_checked_without_the_epsilon(monkeypatch):
    norm = lambda x: x / jnp.sqrt((x**2).mean() + 1e-5)
    apply = lambda p, x: p["u"] @ norm(p["v"] @ x)
    found = symjax.find_symmetries(apply, W, jnp.ones(3))
    ((row,), false) = found.approximate, found.false
    assert (row.leaves, false) == (("v",), ())
    wrong = linear_action(symjax.PositiveScaling(), [symjax.Leg("u", None)])
    planted(monkeypatch, Symmetry("planted", wrong, ("u",), exact=False))
    found = symjax.find_symmetries(apply, W, jnp.ones(3))
    assert ([s.name for s in found.false], found.approximate) == (["planted"], (row,))


# -- the evaluation -----------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "name", ["relu_deep", "layer_norm", "attention_causal", "swiglu_fused", "group_norm", "tucker"]
)
def test_at_full_size_a_graph_computes_what_the_model_does(monkeypatch, name):
    _, read, _ = reading(monkeypatch, name)
    apply, params, inputs = case(name).build(jax.random.key(0))
    blocks = [t for t in read.graph.tensors if t.kind == "leaf"]
    leaves = SmallLeaves(blocks, read.names, read.shapes, Sizes(10**9))
    model = GraphModel(read.nodes, read.graph.outputs, leaves, loose=False)
    values = [flattened(leaves, name, params[name]) for name in read.names]
    data = [
        np.asarray(x).reshape(leaves.sizes.shape(t))
        for x, t in zip(inputs, model.inputs, strict=True)
    ]
    (expected,) = jax.tree.leaves(apply(params, *inputs))
    actual = np.concatenate([x.ravel() for x in model([*values, *data])])
    # The parameters are float64 here, but constants such as 1 / 3 of a float32 are read as meant.
    np.testing.assert_allclose(actual, np.ravel(expected), rtol=1e-12, atol=1e-12)


def flattened(leaves, name, array):
    """A leaf as the blocks of its flat array."""
    parts = []
    for tensor in leaves.blocks[name]:
        offsets, slots = zip(*tensor.leaf.axes, strict=True)
        rows = Block(offsets, slots).indices()
        parts.append(np.asarray(array)[np.ix_(*rows)].ravel())
    return np.concatenate(parts)


def test_a_transformer_of_shapes_is_checked_at_small_sizes():
    """Of the width of GPT-2, with a fused table of queries, keys and values."""
    shape = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32)
    params = {"qkv": shape(768, 2304), "o": shape(768, 768), "e": shape(50257, 768)}
    params |= {"w": shape(768, 3072), "v": shape(3072, 768), "b": shape(3072), "g": shape(768)}

    def norm(x):
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)

    def apply(p, ids):
        x = p["e"][ids]
        heads = lambda a: a.reshape(-1, 12, 64).transpose(1, 0, 2)
        q, k, v = map(heads, jnp.split(norm(x) * p["g"][None] @ p["qkv"], 3, -1))
        scores = jnp.where(jnp.tril(jnp.ones((1, 64, 64), bool)), q @ k.transpose(0, 2, 1), -1e9)
        x = x + (jax.nn.softmax(scores) @ v).transpose(1, 0, 2).reshape(-1, 768) @ p["o"]
        x = x + jax.nn.relu(norm(x) @ p["w"] + p["b"][None]) @ p["v"]
        return norm(x) @ p["e"].T

    found = symjax.find_symmetries(apply, params, jax.ShapeDtypeStruct((64,), jnp.int32))
    assert (found.checked, found.false) == (BY_GRAPH, ())
    groups = {(s.name, s.group.notation) for s in found}
    assert {("rescaling", "R+^3072"), ("permutation", "S(3072)")} <= groups


@pytest.mark.usefixtures("too_large")
def test_what_cannot_be_evaluated_on_a_graph_is_said(monkeypatch):
    apply = lambda p, x: MLP(p, x) * jnp.log(-1 - x[0] ** 2)
    found = symjax.find_symmetries(apply, SHAPES, jnp.ones(3))
    assert found.checked.startswith("not at all: the model takes about ")
    assert found.checked.endswith("no output of its graph is finite at random parameters")
    assert found.dimension == 4
    half = Block((0, 0), (((2, 1),), ((3, 1),)))
    apart = linear_action(symjax.PositiveScaling(2), [symjax.Leg("v", 0, block=half)])
    planted(monkeypatch, Symmetry("planted", apart, ("v",)))
    found = symjax.find_symmetries(MLP, SHAPES, jnp.ones(3))
    assert found.checked == f"{BY_GRAPH}; but for 1 row whose block was not read as such"

"""What discovery does not understand: it is named with its leaves, and nothing is raised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax.discovery import _identities, _reader, _shifts, _tables

from .zoo import case


@pytest.fixture(autouse=True)
def biases_are_added_to_rows():
    with jax.numpy_rank_promotion("allow"):
        yield


PARAMS = {
    "a": np.ones((3, 4), np.float32),
    "b": np.ones(4, np.float32),
    "c": np.ones((4, 2), np.float32),
}
X = np.ones((5, 3), np.float32)


def network(p, x):
    """The stream reads its own rows besides, so that every channel lists something."""
    return jax.nn.relu(x @ p["a"] + p["b"]) @ p["c"]


def failing(*args, **kwargs):
    raise KeyError("an error inside")


@pytest.mark.parametrize("name", ["dot_general", "add", "max", "broadcast_in_dim"])
def test_an_error_inside_a_rule_is_named_and_holds_its_operands(monkeypatch, name):
    monkeypatch.setitem(_reader.RULES, name, failing)
    found = symjax.find_symmetries(network, PARAMS, X)
    assert [k for k in found.unknown if name in k and "KeyError: 'an error inside'" in k]
    held = {leaf for leaves in found.unknown.values() for leaf in leaves}
    assert held
    assert not found.exact or not held & {leaf for s in found for leaf in s.leaves}
    assert 0 < found.lost <= 1
    assert "KeyError" in str(found)


def test_a_rule_that_gives_another_shape_is_not_believed(monkeypatch):
    rule = _reader.RULES["max"]

    def shorter(reader, equation, *values):
        value = rule(reader, equation, *values)
        return type(value)(value.axes[:1], value.blocks, value.dtype)

    monkeypatch.setitem(_reader.RULES, "max", shorter)
    found = symjax.find_symmetries(network, PARAMS, X)
    assert "max (TypeError: shape (5,) for float32[5,4])" in found.unknown
    assert not len(found)


def test_an_error_inside_a_loop_leaves_the_rest_as_it_is(monkeypatch):
    """The layers of the scan are held fixed, the network before it is not."""

    def model(p, x):
        y = jax.nn.relu(x @ p["a"]) @ p["c"]
        return jax.lax.scan(lambda y, w: (jnp.sin(y @ w), None), y, p["layers"])[0]

    monkeypatch.setitem(_reader.RULES, "sin", failing)
    params = PARAMS | {"layers": np.ones((3, 2, 2), np.float32)}
    found = symjax.find_symmetries(model, params, X)
    assert list(found.unknown) == ["sin (KeyError: 'an error inside')"]
    moving = [(s.name, s.leaves) for s in found if s.dimension and s.name != "unused"]
    assert moving == [("rescaling", ("a", "c"))]


CHANNELS = ["Scales", "Phases", "Shifts", "Spaces", "ShiftTables", "probe"]


@pytest.mark.parametrize("channel", CHANNELS)
def test_an_error_inside_a_channel_costs_that_channel(monkeypatch, channel):
    complete = symjax.find_symmetries(network, PARAMS, X)
    monkeypatch.setattr(_tables, channel, failing)
    found = symjax.find_symmetries(network, PARAMS, X)
    assert {s.name for s in found} <= {s.name for s in complete}
    assert any("KeyError: 'an error inside'" in name for name in found.unknown)
    assert found.lost == 1
    assert found.dimension <= complete.dimension
    if channel != "Scales":
        assert found.dimension == 4


def test_an_error_of_the_whole_gives_an_empty_table(monkeypatch):
    monkeypatch.setattr(_tables, "Assembly", failing)
    found = symjax.find_symmetries(network, PARAMS, X)
    assert not len(found)
    assert found.unknown == {"the whole model (KeyError: 'an error inside')": ("a", "b", "c")}
    assert found.lost == 1


def test_nothing_is_lost_where_all_is_understood():
    found = symjax.find_symmetries(network, PARAMS, X)
    assert found.unknown == {}
    assert found.lost == 0
    assert found.why == {}
    assert "not understood" not in str(found)


def test_a_constant_that_breaks_a_permutation_is_named():
    mean = np.arange(4, dtype=np.float32)

    def frozen(p, x):
        return jax.nn.relu(x @ p["a"] - mean) @ p["c"]

    found = symjax.find_symmetries(frozen, PARAMS, X)
    assert found.why == {"a constant of shape (4,) in `sub`": ("a", "c")}
    assert found.unknown == {}
    assert "no permutation because of a constant of shape (4,) in `sub`: a, c" in str(found)
    assert "state_as_parameters" in str(found)

    mask = np.eye(3, 4) > 0

    def masked(p, x):
        return jax.nn.relu(x @ jnp.where(mask, p["a"], 0)) @ p["c"]

    found = symjax.find_symmetries(masked, PARAMS, X)
    assert found.why == {"a constant of shape (3, 4) in `select_n`": ("a", "c")}


@pytest.mark.parametrize("half", [False, True])
def test_data_that_a_function_holds_cost_no_permutation(half):
    """They meet the first weights alone, as an input does; the hidden units are permuted."""
    cast = lambda p: jax.tree.map(lambda w: w.astype(jnp.bfloat16), p) if half else p
    data = jnp.asarray(np.random.default_rng(0).standard_normal(np.shape(X)), jnp.float32)
    given = data.astype(jnp.bfloat16) if half else data
    found = symjax.find_symmetries(lambda p: network(cast(p), given), PARAMS)
    assert (found.why, found.unknown) == ({}, {})
    assert [s.name for s in found if s.name == "permutation"]
    assert "no permutation because of" not in str(found)


CAPS = {
    "MOST_MONOMIALS": (_shifts, 0, "shifts by too many products", "linear_deep_bias"),
    "MOST_WALKS": (_shifts, 1, "shifts that take too many walks", "linear_deep_bias"),
    "MOST_SUMS": (_identities, 0, "sums with too many weights", "layer_norm"),
    "MOST_FACTORS": (_identities, 0, "sums with too many weights", "layer_norm"),
}


@pytest.mark.parametrize("name", CAPS)
def test_a_cap_that_is_reached_is_named_with_its_leaves(monkeypatch, name):
    module, value, why, model = CAPS[name]
    apply, params, inputs = case(model).build(jax.random.key(0))
    assert symjax.find_symmetries(apply, params, *inputs).unknown == {}
    monkeypatch.setattr(module, name, value)
    found = symjax.find_symmetries(apply, params, *inputs)
    assert list(found.unknown) == [why]
    assert found.unknown[why]
    assert found.lost > 0


def weighted(p, x):
    gain = jnp.tanh(x)
    for _ in range(9):
        gain = gain * p["g"]
    return (x * gain) @ p["a"]


BLOTS = np.random.default_rng(0).integers(0, 2, (20, 20)).astype(np.float32)
ROWS = np.cumsum(np.arange(12) % 2 + 2)
READ_IN_PIECES = {
    "products with too many weights": (weighted, {"g": (3,), "a": (3, 4)}, ("g",)),
    "a mask in too many pieces": (
        lambda p, x: jnp.where(np.arange(20) % 2 > 0, jnp.tanh(x @ p["a"] + p["g"]), 0) @ p["c"],
        {"a": (3, 20), "g": (20,), "c": (20, 2)},
        ("a", "g"),
    ),
    "rows in too many pieces": (
        lambda p, x: jnp.tanh(x @ p["a"]) @ p["c"][ROWS].T,
        {"a": (3, 4), "c": (40, 4)},
        ("c",),
    ),
    "entries that a mask hides, in too many boxes": (
        lambda p, x: jnp.tanh(x @ p["a"]) @ (p["c"] * BLOTS),
        {"a": (3, 20), "c": (20, 20)},
        ("c",),
    ),
}


@pytest.mark.parametrize("why", READ_IN_PIECES)
def test_what_falls_into_too_many_pieces_is_named_with_its_leaves(why):
    apply, shapes, leaves = READ_IN_PIECES[why]
    params = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    found = symjax.find_symmetries(apply, params, X)
    assert found.unknown == {why: leaves}


def test_a_loop_that_multiplies_what_it_carries_reaches_no_cap():
    apply, params, inputs = case("state_space_diagonal").build(jax.random.key(0))
    assert symjax.find_symmetries(apply, params, *inputs).unknown == {}


DTYPES = (jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64)


def norm(x, gain):
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * gain


MODELS = {
    "relu": network,
    "factor": lambda p, x: (x @ p["a"] * 2 + 0) @ p["c"],
    "tanh": lambda p, x: jnp.tanh(0.1 * (x @ p["a"] + p["b"])) @ p["c"],
    "clipped": lambda p, x: jnp.clip(x @ p["a"] + p["b"], -0.3, 0.3) @ p["c"],
    "sigmoid": lambda p, x: (jax.nn.hard_sigmoid(x @ p["a"]) - 0.5) @ p["c"],
    "sixth": lambda p, x: ((1 / 6) * jax.nn.relu6(x @ p["a"] + 3) - 0.5) @ p["c"],
    "norm": lambda p, x: norm(x @ p["a"], p["b"]) @ p["c"],
    "mean": lambda p, x: jnp.tanh(x @ p["a"] - (1 / 4) * (x @ p["a"]).sum(-1)[:, None]) @ p["c"],
    "softmax": lambda p, x: jax.nn.softmax(x @ p["a"] + p["b"]) @ p["c"],
    "masked": lambda p, x: (
        jax.nn.softmax(jnp.where(np.arange(4) < 2, x @ p["a"], jnp.finfo(x.dtype).min)) @ p["c"]
    ),
    "upcast": lambda p, x: (
        jax.nn.relu(
            (x @ p["a"]).astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
        ).astype(x.dtype)
        @ p["c"]
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("x64")
def test_a_table_does_not_depend_on_the_dtype(name):
    tables = []
    for dtype in DTYPES:
        cast = lambda x, dtype=dtype: jnp.asarray(x).astype(dtype)
        params = jax.tree.map(cast, PARAMS)
        found = symjax.find_symmetries(MODELS[name], params, cast(X), check=False)
        rows = sorted((s.name, str(s.group), s.leaves, s.exact) for s in found)
        tables.append((rows, found.dimension, found.unknown, found.why))
    assert tables[0][0]
    assert all(table == tables[0] for table in tables)


def test_complex_leaves_are_named_and_counted():
    def model(p, x):
        return jnp.real((x.astype(jnp.complex64) @ p["u"]) @ p["v"]) @ p["a"]

    u, v = np.ones((3, 4), np.complex64), np.ones((4, 3), np.complex64)
    found = symjax.find_symmetries(model, PARAMS | {"u": u, "v": v}, X)
    assert found.unknown == {"complex leaves": ("u", "v")}
    assert found.lost == 24 / (24 + 12 + 4 + 8)
    assert "not understood: complex leaves; held fixed: u, v" in str(found)
    alone = symjax.find_symmetries(lambda p, x: jnp.abs(p["u"]) @ x[0, :1], {"u": u[:, :1]}, X)
    assert (len(alone), alone.unknown, alone.lost) == (0, {"complex leaves": ("u",)}, 1)
    shapes = jax.eval_shape(lambda: PARAMS | {"u": u, "v": v})
    assert symjax.find_symmetries(model, shapes, X).unknown == found.unknown

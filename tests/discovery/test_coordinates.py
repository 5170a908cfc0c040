"""Virtual leaves: what a model sees of a leaf through a bijection, constants, or a sum.

The dimensions are held against the rank of the Jacobian, which knows nothing of any of this.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax.actions import PulledBack
from symjax.discovery._mover import Draw, move

MEAN, STD = np.array([0.3, -0.7, 1.1]), np.array([0.9, 1.4, 0.6])
CONSTANT = np.array([[0.7, 1.3, 2.0], [1.1, 0.6, 0.9]])


def _norm(h, p):
    return (h - MEAN) / STD * p["g"] + p["b"]


def _folded_norm(h, p):
    factor = p["g"] / np.sqrt(STD + 1e-5)
    return h * factor + (p["b"] - MEAN * factor)


def _members(p, x):
    member = lambda q: jax.nn.leaky_relu(x @ q["w"] + q["a"]) @ q["o"] + q["d"]
    return jax.vmap(member)(p).mean(0)


def _convolution(p, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(x, p["w"], (1, 1), "SAME", dimension_numbers=numbers)
    return jax.nn.relu(_norm(h, p)).mean((1, 2)) @ p["o"]


TANH = lambda p, x: jnp.tanh(x @ p["w"])
GAIN = {"w": (2, 3), "s": (3,), "o": (3, 4)}
NORM = {"w": (2, 3), "g": (3,), "b": (3,), "o": (3, 4)}
MEMBERS = {"w": (3, 2, 3), "a": (3, 3), "o": (3, 3, 2), "d": (3, 2)}
#: name: (model, shapes of leaves, shape of an input, dimension)
MODELS = {
    "1 + s": (lambda p, x: TANH(p, x) * (1 + p["s"]) @ p["o"], GAIN, (2,), 3),
    "exp": (lambda p, x: TANH(p, x) * jnp.exp(p["s"]) @ p["o"], GAIN, (2,), 3),
    "softplus": (
        lambda p, x: TANH(p, x) * jax.nn.softplus(2 * p["s"] - 1) @ p["o"],
        GAIN,
        (2,),
        3,
    ),
    "two exponentials": (
        lambda p, x: TANH(p, x) * jnp.exp(p["s"]) @ (jnp.exp(1 - 2 * p["s"])[:, None] * p["o"]),
        GAIN,
        (2,),
        3,
    ),
    "a constant for each weight": (
        lambda p, x: (x @ (CONSTANT.T @ CONSTANT * p["w"])) @ p["o"],
        {"w": (3, 3), "o": (3, 4)},
        (3,),
        9,
    ),
    "beside frozen weights": (
        lambda p, x: (x @ (CONSTANT.T @ CONSTANT + p["w"])) @ p["o"],
        {"w": (3, 3), "o": (3, 4)},
        (3,),
        9,
    ),
    "frozen norm": (lambda p, x: jax.nn.gelu(_norm(x @ p["w"], p)) @ p["o"], NORM, (2,), 3),
    "frozen norm, folded": (
        lambda p, x: jax.nn.gelu(_folded_norm(x @ p["w"], p)) @ p["o"],
        NORM,
        (2,),
        3,
    ),
    "frozen norm after a bias": (
        lambda p, x: jax.nn.gelu(_norm(x @ p["w"] + p["a"], p)) @ p["o"],
        NORM | {"a": (3,)},
        (2,),
        6,
    ),
    "frozen norm, convolution": (
        _convolution,
        NORM | {"w": (2, 2, 2, 3)},
        (4, 4, 2),
        6,
    ),
    "frozen norm without gain": (
        lambda p, x: (
            jnp.tanh(((jax.nn.relu(x @ p["w"] + p["a"]) - MEAN) / STD) @ p["v"] + p["b"]) @ p["o"]
        ),
        {"w": (2, 3), "a": (3,), "v": (3, 3), "b": (3,), "o": (3, 4)},
        (2,),
        3,
    ),
    "members of an ensemble": (_members, MEMBERS, (2,), 13),
    "positions, pooled": (
        lambda p, x: jnp.tanh((x @ p["w"] + p["e"]).mean(1) @ p["o"]),
        {"w": (3, 3), "e": (4, 3), "o": (3, 4)},
        (4, 3),
        18,
    ),
    "read raw as well": (
        lambda p, x: TANH(p, x) * jnp.exp(p["s"]) @ (p["o"] * jnp.cos(p["s"])[:, None]),
        GAIN,
        (2,),
        0,
    ),
}


def _promoting(apply):
    """A model that may spread a vector over rows, as models do."""

    def run(p, x):
        with jax.numpy_rank_promotion("allow"):
            return apply(p, x)

    return run


MODELS = {name: (_promoting(apply), *rest) for name, (apply, *rest) in MODELS.items()}


def _arguments(name, seed=0):
    _, shapes, shape, _ = MODELS[name]
    rng = np.random.default_rng(seed)
    params = {n: jnp.asarray(rng.standard_normal(s)) for n, s in shapes.items()}
    return params, jnp.asarray(2 * rng.standard_normal((60, *shape)))


@pytest.fixture(scope="module")
def tables():
    with jax.enable_x64(True):
        rows = {}
        for name, (apply, *_) in MODELS.items():
            params, x = _arguments(name)
            rows[name] = symjax.find_symmetries(apply, params, x), params, x
        return rows


@pytest.mark.parametrize("name", MODELS)
def test_the_dimension_is_that_of_the_jacobian(x64, tables, name):
    found, params, x = tables[name]
    apply, *_, right = MODELS[name]
    assert found.dimension == right
    assert not found.unknown
    assert not found.false
    assert found.checked.startswith("by the model")
    flat, back = jax.flatten_util.ravel_pytree(params)
    places = [flat + 0.2 * np.random.default_rng(i).standard_normal(flat.size) for i in range(3)]
    jacobian = jax.jit(jax.jacfwd(lambda v: apply(back(v), x).ravel()))
    ranks = [np.linalg.matrix_rank(np.asarray(jacobian(v)), rtol=1e-9) for v in places]
    # Units of ReLU that are off at all inputs hide directions; there are none at some place.
    assert flat.size - max(ranks) == (right if name != "read raw as well" else 3)


@pytest.mark.parametrize("name", ["softplus", "frozen norm"])
def test_a_pulled_back_action_is_one(x64, tables, name):
    found, params, x = tables[name]
    rows = [s for s in found if isinstance(s.action, PulledBack)]
    assert rows
    for row in symjax.verify_all(rows, MODELS[name][0], params, x, key=jax.random.key(0)):
        assert row.holds, row
    action = next(s.action for s in rows if s.dimension)
    m = action.group.random_algebra(jax.random.key(1), dtype=jnp.float64)
    step = 1e-5
    moved = [action.flow((t * m,), params) for t in (step, -step)]
    field = action.generator(m, params)
    for leaf in params:
        slope = (moved[0][leaf] - moved[1][leaf]) / (2 * step)
        # Central differences are right to step^2.
        np.testing.assert_allclose(field[leaf], slope, rtol=0, atol=1e-7)
        assert (leaf in [str(n) for n in action.moved]) == (moved[0][leaf] is not params[leaf])


def test_the_host_moves_as_the_action_does(x64, tables):
    """One random element of each group by NumPy: the leaves that move, and outputs unchanged."""
    for name in ("exp", "frozen norm, folded"):
        found, params, x = tables[name]
        apply = MODELS[name][0]
        leaves = {n: np.asarray(v) for n, v in params.items()}
        for s in found:
            moved = move([s.action], leaves, Draw(np.random.default_rng(0)))
            np.testing.assert_allclose(apply(moved, x), apply(leaves, x), atol=1e-13)
            changed = {n for n in leaves if not np.array_equal(leaves[n], moved[n])}
            assert changed <= set(s.leaves)


def test_statistics_that_are_moved_are_not_listed_as_units():
    """What is positive by its nature is neither negated nor mixed."""
    with jax.enable_x64(True):
        linear = _promoting(lambda p, x: (x @ p["w"]) * jnp.exp(p["s"]) @ p["o"])
        params = {n: jnp.ones(s) for n, s in GAIN.items()}
        found = symjax.find_symmetries(linear, params, jnp.ones((4, 2)))
        names = {s.name for s in found if "s" in s.leaves}
        assert names <= {"rescaling", "permutation", "change of basis"}


def test_matching_leaves_other_coordinates_at_rest(x64, tables):
    found, params, _ = tables["frozen norm"]
    other, _ = _arguments("frozen norm", seed=1)
    matched = symjax.match(found, params, other, key=jax.random.key(0))
    assert any("other coordinates" in note for note in matched.notes)
    assert matched.after <= matched.before
    moved = symjax.matching.apply_element(found, matched.element, other)
    for leaf in params:
        np.testing.assert_allclose(moved[leaf], matched.params[leaf], atol=1e-12)


def test_constants_that_are_known_to_float32_alone_give_no_false_row():
    """The variance's root is computed in float32 while tracing; the check is in float64."""
    mean, variance = jnp.asarray(MEAN, jnp.float32), jnp.asarray(STD, jnp.float32)

    def apply(p, x):
        factor = jax.lax.rsqrt(variance + 1e-5) * p["g"]
        return jax.nn.gelu((x @ p["w"] + p["a"] - mean) * factor + p["b"]) @ p["o"]

    shapes = NORM | {"a": (3,)}
    params = {n: jnp.ones(s, jnp.float32) for n, s in shapes.items()}
    found = symjax.find_symmetries(_promoting(apply), params, jnp.ones((4, 2), jnp.float32))
    assert not found.false
    assert not found.unknown

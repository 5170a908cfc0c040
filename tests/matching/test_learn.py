"""Learned matching: elements that lower the chord, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import linear_sum_assignment

import symjax
from symjax import Leg, PositiveScaling, Symmetry, linear_action, matching
from symjax.matching._relative import move_by, origin, push_coordinates, sinkhorn
from symjax.matching._state import start, with_shifts
from symjax.matching._table import host_leaves, make_table

from .models import draw_element, forward, mlp, mlp_symmetries

RELU = forward(jax.nn.relu)
WIDTHS = (3, 5, 4, 2)
EPS = float(jnp.finfo(jnp.float32).eps)


def squares(params, batch):
    x, y = batch
    z = RELU(params, x)
    return jnp.mean((z - y) ** 2), z


def problem(seed=0):
    """Two networks of one orbit up to a little noise, and batches of a third one's outputs."""
    key, for_noise, for_x = jax.random.split(jax.random.key(seed), 3)
    symmetries = mlp_symmetries(WIDTHS, "relu")
    a = mlp(key, WIDTHS)
    for_element = jax.random.split(jax.random.key(seed + 1), len(symmetries))
    element = tuple(
        s.group.random(k, scale=1.0) for s, k in zip(symmetries, for_element, strict=True)
    )
    b = matching.apply_element(symmetries, element, a)
    leaves, structure = jax.tree.flatten(b)
    keys = jax.random.split(for_noise, len(leaves))
    noisy = [x + 0.02 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    x = jax.random.normal(for_x, (8, 16, WIDTHS[0]))
    return symmetries, a, jax.tree.unflatten(structure, noisy), [(v, RELU(a, v)) for v in x]


def barrier(a, b, batches):
    """The barrier of the chord by itself: no code of the package."""
    ts = np.linspace(0, 1, 11)
    at = lambda t: jax.tree.map(lambda p, q: (1 - t) * p + t * q, a, b)
    heights = np.array(
        [np.mean([float(squares(at(t), batch)[0]) for batch in batches]) for t in ts]
    )
    return float(np.max(heights - (1 - ts) * heights[0] - ts * heights[-1]))


@pytest.fixture(scope="module")
def found():
    symmetries, a, b, batches = problem()
    result = matching.learn(
        squares, symmetries, a, b, batches, key=jax.random.key(3), divergence="squares", steps=200
    )
    return symmetries, a, b, batches, result


def test_the_chord_is_low_on_data_that_was_not_learned_on(found):
    _, a, b, batches, result = found
    assert np.isclose(result.before, barrier(a, b, batches[6:]), rtol=1e-4)
    assert np.isclose(
        result.after, barrier(result.params_a, result.params_b, batches[6:]), rtol=1e-2, atol=1e-6
    )
    assert result.after < 0.01 * result.before
    assert result.train_after < 0.01 * result.train_before
    fresh = jax.random.normal(jax.random.key(9), (4, 64, WIDTHS[0]))
    fresh = [(x, RELU(a, x)) for x in fresh]
    assert barrier(result.params_a, result.params_b, fresh) < 0.02 * barrier(a, b, fresh)


def test_both_ends_keep_their_functions_and_the_elements_lead_there(found):
    symmetries, a, b, batches, result = found
    for before, after, element in (
        (a, result.params_a, result.element_a),
        (b, result.params_b, result.element),
    ):
        x = jnp.concatenate([batch[0] for batch in batches])
        outputs = RELU(before, x)
        change = jnp.linalg.norm(RELU(after, x) - outputs) / jnp.linalg.norm(outputs)
        assert float(change) < 1000 * EPS
        moved = matching.apply_element(symmetries, element, before)
        for p, q in zip(jax.tree.leaves(moved), jax.tree.leaves(after), strict=True):
            assert p.dtype == q.dtype
            # Two roundings of products of a few scales.
            assert np.allclose(p, q, rtol=100 * EPS, atol=100 * EPS)
    assert max(result.end_errors) < 1000 * EPS
    assert result.element_error < 1e-12
    assert "before" in repr(result)


def unit(seed):
    """A network of one hidden ReLU unit, and what acts on it."""
    v, u = jax.random.uniform(jax.random.key(seed), (2, 1), minval=0.5, maxval=2.0)
    return {"u": u, "v": v}


def unit_objective(params, x):
    return jnp.mean((params["u"][None] * jax.nn.relu(params["v"][None] * x) - x) ** 2)


SCALE = [
    Symmetry("scale", linear_action(PositiveScaling(1), [Leg("v", 0), Leg("u", 0, "covector")]), ())
]
POINTS = jax.random.uniform(jax.random.key(0), (4, 8, 1))


def test_models_that_nothing_can_improve_come_back_as_given():
    a = {"u": jnp.ones(1), "v": jnp.ones(1)}
    result = matching.learn(unit_objective, SCALE, a, a, POINTS, key=jax.random.key(0), steps=2)
    assert result.start == "as given"
    assert result.before == result.after == 0
    assert result.params_b is a
    assert "as given" in result.notes[-1]


def test_a_loss_that_becomes_nan_ends_learning_with_the_best_so_far():
    lost = lambda updates, state, params=None: (jax.tree.map(lambda x: x * jnp.nan, updates), state)
    wild = optax.GradientTransformation(lambda params: (), lost)
    a, b = unit(1), unit(2)
    result = matching.learn(
        unit_objective, SCALE, a, b, POINTS, key=jax.random.key(0), steps=4, optimiser=wild
    )
    assert any("NaN" in note for note in result.notes)
    assert np.isfinite(result.after)
    assert result.after <= result.before
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.params_b))


BAD = {
    "does not depend on the parameters": dict(objective=lambda p, batch: jnp.sum(batch[0])),
    "does not depend on any leaf that the symmetries move": dict(
        objective=lambda p, batch: jnp.sum(p[2]["b"])
    ),
    "fails on `params_a` and `batches\\[0\\]`": dict(objective=lambda p, batch: p["none"]),
    "must return one real number": dict(objective=lambda p, batch: jnp.argmax(p[0]["b"])),
    "NaN or infinite at `params_b` itself": dict(
        objective=lambda p, batch: (
            jnp.log(p[0]["w"][0, 0] * 0 + jnp.sum(p[2]["w"]) * 0 - 1) + 0 * squares(p, batch)[0]
        )
    ),
    "training in disguise": dict(minimise="loss"),
    "`minimise` must be": dict(minimise="labels"),
    "`permutations` must be": dict(permutations="soft"),
    "`divergence` must be": dict(divergence="kl"),
    "expected batches of one structure and shape": dict(cut=True),
    "`batches` is empty": dict(batches=[]),
    "holds one batch": dict(one=True),
    "differ at leaf '0/": dict(other_b=True),
    "must hold at least one": dict(symmetries=[]),
    "`steps` must be a positive integer": dict(steps=0),
    "`key` must be one key": dict(key=3),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(message):
    given = dict(BAD[message])
    symmetries, a, b, batches = problem()
    arguments = dict(objective=squares, symmetries=symmetries, batches=batches)
    if given.pop("cut", None):
        batches[3] = (batches[3][0][:5], batches[3][1][:5])
    if given.pop("one", None):
        arguments["batches"] = batches[:1]
    if given.pop("other_b", None):
        b = mlp(jax.random.key(0), (3, 6, 4, 2))
    if "params_b" in message:
        message = "NaN or infinite at `params_a` itself"
    arguments |= given
    key = arguments.pop("key", jax.random.key(0))
    objective, symmetries, data = (arguments.pop(k) for k in ("objective", "symmetries", "batches"))
    with pytest.raises(ValueError, match=message):
        matching.learn(objective, symmetries, a, b, data, key=key, **arguments)


def test_a_batch_that_does_not_fit_the_model_is_refused():
    symmetries, a, b, batches = problem()
    wrong = [(x[:, :2], y) for x, y in batches]
    with pytest.raises(ValueError, match="`objective` fails"):
        matching.learn(squares, symmetries, a, b, wrong, key=jax.random.key(0))


def test_a_projection_has_unit_sums_and_cools_to_the_assignment():
    gain = jax.random.normal(jax.random.key(0), (2, 6, 6))
    warm = sinkhorn(gain, sweeps=200)
    assert np.allclose(warm.sum(-1), 1, atol=1e-5)
    assert np.allclose(warm.sum(-2), 1, atol=1e-5)
    # The fixed point is diag(u) exp(gain) diag(v): its log has the cross differences of the gain.
    crossed = lambda m: m[:, 1:, 1:] - m[:, :1, 1:] - m[:, 1:, :1] + m[:, :1, :1]
    assert np.allclose(crossed(jnp.log(warm)), crossed(gain), atol=1e-4)
    cold = np.asarray(sinkhorn(gain / 0.002, sweeps=500))
    for one, value in zip(cold, np.asarray(gain), strict=True):
        assert (one.argmax(1) == linear_sum_assignment(value, maximize=True)[1]).all()


def attention(params, x):
    """A block with LayerNorm, two heads, ReLU units and tanh units, of dict parameters."""
    p = params
    mean = x.mean(-1, keepdims=True)
    z = (x - mean) * jax.lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
    q, k, v = (jnp.einsum("td,hed->hte", z, p[n]) for n in ("q", "k", "v"))
    mixed = jnp.einsum("hts,hse->hte", jax.nn.softmax(jnp.einsum("hte,hse->hts", q, k)), v)
    z = jnp.einsum("hte,dhe->td", mixed, p["o"])
    z = z - z.mean(-1, keepdims=True)
    units = jax.nn.relu(z @ p["up"] + p["up_bias"][None])
    return jnp.tanh(units @ p["down"] + p["down_bias"][None]) @ p["read"]


def attention_params(key):
    shapes = dict(q=(2, 3, 6), k=(2, 3, 6), v=(2, 3, 6), o=(6, 2, 3), up=(6, 5), up_bias=(5,))
    shapes |= dict(down=(5, 4), down_bias=(4,), read=(4, 2))
    keys = jax.random.split(key, len(shapes))
    return {
        n: 0.5 * jax.random.normal(k, s) for (n, s), k in zip(shapes.items(), keys, strict=True)
    }


@pytest.mark.slow
def test_coordinates_move_parameters_as_the_elements_they_stand_for():
    params = attention_params(jax.random.key(0))
    symmetries = symjax.find_symmetries(attention, params, jnp.ones((4, 6))).exact
    table = make_table(symmetries, params)
    kinds = {f.kind for f in table.factors}
    assert {"linear", "scale", "shift"} <= kinds
    draw = iter(jax.random.split(jax.random.key(1), 100))
    coordinates = {
        i: 0.3 * jax.random.normal(next(draw), x.shape)
        for i, x in origin(table, jnp.float32).items()
    }
    moved = jax.jit(lambda c, p: move_by(table, symmetries, c, p, {}))(coordinates, params)
    x = jax.random.normal(jax.random.key(2), (4, 6))
    assert np.allclose(attention(moved, x), attention(params, x), atol=1e-4)
    state = push_coordinates(table, start(table, host_leaves(params)), coordinates)
    state = with_shifts(table, host_leaves(params), state)
    for p, q in zip(jax.tree.leaves(moved), state.leaves, strict=True):
        assert np.allclose(p, q, atol=1e-4)


@pytest.mark.slow
def test_a_transformer_of_dict_parameters_is_learned_and_keeps_its_function():
    a, b = (attention_params(k) for k in jax.random.split(jax.random.key(0)))
    batches = jax.random.normal(jax.random.key(5), (8, 4, 4, 6))
    objective = lambda p, x: (None, jax.vmap(lambda one: attention(p, one))(x))
    symmetries = symjax.find_symmetries(attention, a, batches[0, 0])
    result = matching.learn(
        objective, symmetries, a, b, batches, key=jax.random.key(3), divergence="squares", steps=200
    )
    assert result.after < 0.7 * result.before
    assert max(result.end_errors) < 1000 * EPS
    for before, after in ((a, result.params_a), (b, result.params_b)):
        old, new = objective(before, batches[0])[1], objective(after, batches[0])[1]
        assert float(jnp.linalg.norm(new - old) / jnp.linalg.norm(old)) < 1000 * EPS


@pytest.mark.slow
def test_a_module_with_functions_among_its_leaves_is_learned():
    a, b = (eqx.nn.MLP(3, 2, 5, 1, key=k) for k in jax.random.split(jax.random.key(0)))
    outputs = lambda model, x: jax.vmap(model)(x)
    batches = jax.random.normal(jax.random.key(1), (4, 16, 3))
    symmetries = symjax.find_symmetries(outputs, a, batches[0])
    result = matching.learn(
        outputs, symmetries, a, b, batches, key=jax.random.key(3), divergence="squares", steps=40
    )
    assert result.after < result.before
    x = batches[0]
    change = jnp.abs(outputs(result.params_b, x) - outputs(b, x)).max()
    assert float(change) < 1000 * EPS


@pytest.mark.slow
def test_several_models_have_a_mean_that_belongs_to_them():
    symmetries, a, b, batches = problem()
    c = matching.apply_element(symmetries, draw_element(jax.random.key(8), symmetries), b)
    found = matching.learn_many(
        squares,
        symmetries,
        [a, b, c],
        batches,
        key=jax.random.key(3),
        divergence="squares",
        steps=100,
    )
    mean = jax.tree.map(lambda *x: sum(x) / 3, *found.params)
    for p, q in zip(jax.tree.leaves(mean), jax.tree.leaves(found.mean), strict=True):
        assert np.allclose(p, q, rtol=10 * EPS, atol=10 * EPS)
    loss = lambda p: np.mean([float(squares(p, batch)[0]) for batch in batches[6:]])
    excess = loss(mean) - np.mean([loss(p) for p in (a, b, c)])
    assert np.isclose(found.after, excess, rtol=1e-3, atol=1e-6)
    assert found.after < 0.02 * found.before
    assert max(found.end_errors) < 1000 * EPS
    for model, moved, element in zip((a, b, c), found.params, found.elements, strict=True):
        again = matching.apply_element(symmetries, element, model)
        for p, q in zip(jax.tree.leaves(moved), jax.tree.leaves(again), strict=True):
            assert np.allclose(p, q, rtol=100 * EPS, atol=100 * EPS)


def test_one_model_is_not_several():
    symmetries, a, _, batches = problem()
    with pytest.raises(ValueError, match="two models or more"):
        matching.learn_many(squares, symmetries, [a], batches, key=jax.random.key(0))

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import GeneralLinear, Leg, Orthogonal, Permutation, SignFlip, Translation, matching

from ..discovery.zoo import case
from ..helpers import relative_error
from .models import draw_element, forward, mlp, mlp_symmetries, symmetry

RELU = (4, 6, 5, 3)
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "linear": lambda z: z}


def moved(symmetries, key, params):
    return matching.apply_element(symmetries, draw_element(key, symmetries), params)


@pytest.mark.parametrize(
    ("activation", "widths"), [("relu", RELU), ("tanh", RELU), ("linear", (6, 4, 3, 5))]
)
def test_a_planted_element_is_found(activation, widths):
    symmetries = mlp_symmetries(widths, activation)
    apply = jax.jit(forward(ACTIVATIONS[activation]))
    x = jax.random.normal(jax.random.key(1), (16, widths[0]))
    for seed in range(5):
        a = mlp(jax.random.key(seed), widths)
        b = moved(symmetries, jax.random.key(100 + seed), a)
        found = symjax.match(symmetries, a, b)
        assert found.converged
        assert relative_error(found.params, a) < 1e-5  # rounding of elements of condition 10 or so
        np.testing.assert_allclose(apply(found.params, x), apply(a, x), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(
            found.after, relative_error(found.params, a) * size(a), rtol=1e-3
        )


def size(params):
    return sum(np.sum(np.asarray(w, np.float64) ** 2) for w in jax.tree.leaves(params)) ** 0.5


def test_different_models_come_nearer_and_stay_the_same_function():
    symmetries = mlp_symmetries(RELU, "relu")
    a, b = mlp(jax.random.key(0), RELU), mlp(jax.random.key(1), RELU)
    found = symjax.match(symmetries, a, b)
    apply, x = forward(jax.nn.relu), jax.random.normal(jax.random.key(2), (16, 4))
    np.testing.assert_allclose(apply(found.params, x), apply(b, x), rtol=1e-4, atol=1e-5)
    assert found.after < 0.9 * found.before
    # Coordinate-wise optimal: no random element of one symmetry alone brings it nearer.
    for i in range(len(symmetries)):
        for seed in range(20):
            g = symmetries[i].group.random(jax.random.key(seed), scale=0.1)
            nearby = symmetries[i].action(g, found.params)
            assert relative_error(nearby, a) * size(a) >= found.after * (1 - 1e-5)


def test_more_symmetries_never_bring_less():
    a, b = mlp(jax.random.key(0), RELU), mlp(jax.random.key(1), RELU)
    symmetries = mlp_symmetries(RELU, "relu")
    permutations = symjax.match(symmetries[0::2], a, b)
    everything = symjax.match(symmetries, a, b)
    assert everything.after < permutations.after < permutations.before


def test_permutations_of_two_layers_are_as_good_as_all_of_them():
    # (3, 4, 2): 24 permutations, each tried.
    widths = (3, 4, 2)
    symmetries = mlp_symmetries(widths, "relu")[:1]
    a, b = mlp(jax.random.key(3), widths), mlp(jax.random.key(4), widths)
    every = [
        size(jax.tree.map(jnp.subtract, a, matching.apply_element(symmetries, (jnp.array(p),), b)))
        for p in np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1).T
        if len(set(p)) == 4
    ]
    np.testing.assert_allclose(symjax.match(symmetries, a, b).after, min(every), rtol=1e-6)


def test_a_rotated_stream_with_blocks_whose_units_move_too(key):
    # y = R (I + D2 f(D1 .)) E x: rotations of the stream, signed permutations of the hidden units.
    d, h, vocabulary = 5, 7, 11
    shapes = {"down": (d, h), "embed": (d, vocabulary), "read": (3, d), "up": (h, d)}
    keys = jax.random.split(key, len(shapes))
    a = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    stream = [Leg("embed", 0), Leg("down", 0), Leg("up", 1, "covector"), Leg("read", 1, "covector")]
    hidden = [Leg("up", 0), Leg("down", 1)]
    symmetries = [
        symmetry("stream", Orthogonal(d), stream),
        symmetry("signs", SignFlip(h), hidden),
        symmetry("units", Permutation(h), hidden),
    ]
    for seed in range(5):
        found = symjax.match(symmetries, a, moved(symmetries, jax.random.key(seed), a))
        assert relative_error(found.params, a) < 1e-5


def test_a_recurrence_whose_rows_and_columns_move_together(key):
    # h = tanh(A h + B x), out h: what a row of A says depends on which units its columns are.
    h = 6
    shapes = {"a": (h, h), "b": (h, 2), "out": (2, h)}
    keys = jax.random.split(key, len(shapes))
    a = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    hidden = [Leg("a", 0), Leg("a", 1), Leg("b", 0), Leg("out", 1)]
    symmetries = [
        symmetry("signs", SignFlip(h), hidden),
        symmetry("units", Permutation(h), hidden),
    ]
    for seed in range(5):
        found = symjax.match(symmetries, a, moved(symmetries, jax.random.key(seed), a))
        assert relative_error(found.params, a) == 0


@pytest.mark.parametrize("permuted", [True, False])
def test_signs_that_move_the_same_entries_are_found_together(permuted, key):
    # out tanh(gain norm(W x)): gain and W turn together, and W, gain's shift and out.
    h = 6
    shapes = {"gain": (h, 1), "out": (2, h), "shift": (h, 1), "w": (h, 3)}
    keys = jax.random.split(key, len(shapes))
    a = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    symmetries = [
        symmetry("before", SignFlip(h), [Leg("gain", 0), Leg("w", 0)]),
        symmetry("after", SignFlip(h), [Leg("w", 0), Leg("shift", 0), Leg("out", 1)]),
    ]
    legs = [Leg("gain", 0), Leg("w", 0), Leg("shift", 0), Leg("out", 1)]
    symmetries += [symmetry("units", Permutation(h), legs)] * permuted
    for seed in range(5):
        found = symjax.match(symmetries, a, moved(symmetries, jax.random.key(seed), a))
        assert relative_error(found.params, a) == 0


def test_translations_are_carried_through_changes_of_basis(key):
    w, b = jax.random.normal(key, (3, 6)), jnp.ones(3)
    a = {"b": b, "r": jax.random.normal(key, (2, 3)), "w": w}
    symmetries = [
        symmetry("shift", Translation(3), [Leg("b", 0)]),
        symmetry("basis", GeneralLinear(3), [Leg("w", 0), Leg("b", 0), Leg("r", 1, "covector")]),
    ]
    found = symjax.match(symmetries, a, moved(symmetries, jax.random.key(1), a))
    assert relative_error(found.params, a) < 1e-5


def test_activations_decide_where_they_are_given():
    symmetries = mlp_symmetries(RELU, "relu")
    a = mlp(jax.random.key(0), RELU)
    b = moved(symmetries, jax.random.key(1), a)
    x = jax.random.normal(jax.random.key(2), (50, 4))
    hidden = lambda p: jax.nn.relu(x @ p[0]["w"].T + p[0]["b"][None])
    found = symjax.match(symmetries, a, b, activations={0: (hidden(a), hidden(b))})
    # Scales are not known to it: the assignment is by inner products of unscaled activations.
    z_a, z_b = np.asarray(hidden(a)), np.asarray(hidden(b))
    best = np.trace(z_a.T @ z_b[:, found.element[0]])
    for seed in range(50):
        other = np.random.default_rng(seed).permutation(6)
        assert np.trace(z_a.T @ z_b[:, other]) <= best * (1 + 1e-6)


def test_linear_maps_are_found_from_activations():
    widths = (6, 4, 5)
    symmetries = mlp_symmetries(widths, "linear")
    a = mlp(jax.random.key(0), widths)
    b = moved(symmetries, jax.random.key(1), a)
    x = jax.random.normal(jax.random.key(2), (50, 6))
    hidden = lambda p: x @ p[0]["w"].T + p[0]["b"][None]
    found = symjax.match(symmetries, a, b, activations={0: (hidden(a), hidden(b))})
    assert relative_error(found.params, a) < 1e-5


def test_dtypes_and_other_leaves_stay():
    symmetries = mlp_symmetries(RELU, "relu")
    half = lambda k: jax.tree.map(lambda w: w.astype(jnp.bfloat16), mlp(jax.random.key(k), RELU))
    a, b = ({"net": half(k), "steps": jnp.arange(2)} for k in range(2))
    inside = [
        symmetry(
            s.name, s.group, [Leg(f"net/{g.leaf}", g.axis, g.representation) for g in s.action.legs]
        )
        for s in symmetries
    ]
    found = symjax.match(inside, a, b)
    assert jax.tree.map(lambda w: w.dtype, found.params) == jax.tree.map(lambda w: w.dtype, b)
    assert found.params["steps"] is b["steps"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s, a, b: (s, a, b[:-1]),
            r"same tree structure: leaf '2/b' .* is in `params_a` and not in",
        ),
        (
            lambda s, a, b: (s, a, [*b, b[0]]),
            "leaf '3/b' .* is in `params_b` and not in `params_a`",
        ),
        (lambda s, a, b: (s, a, tuple(b)), "same tree structure. Their leaves agree"),
        (lambda s, a, b: (s, [], []), "has no leaf '0/w'"),
        (lambda s, a, b: (s, a, [b[0] | {"w": jnp.ones((9, 4))}, *b[1:]]), "leaf '0/w'"),
        (lambda s, a, b: ([], a, b), "at least one"),
        (lambda s, a, b: (["x"], a, b), r"symmetries\[0\].*symjax.Symmetry"),
        (lambda s, a, b: (s, [a[0] | {"b": a[0]["b"] * jnp.nan}, *a[1:]], b), "NaN.*'0/b'"),
    ],
)
def test_bad_input_is_refused(change, message):
    a = mlp(jax.random.key(0), RELU)
    with pytest.raises(ValueError, match=message):
        symjax.match(*change(mlp_symmetries(RELU, "relu"), a, a))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((np.ones((0, 4)), np.ones((0, 4))), "empty"),
        ((np.ones((9, 4)), np.ones((9, 4))), "rank-deficient: rank 1 of 4"),
        ((np.ones((9, 3)), np.ones((9, 3))), r"\(samples, 4\)"),
        ((np.full((9, 4), np.nan), np.ones((9, 4))), "NaN"),
    ],
)
def test_bad_activations_are_refused(pair, message):
    widths = (6, 4, 5)
    a = mlp(jax.random.key(0), widths)
    with pytest.raises(ValueError, match=message):
        symjax.match(mlp_symmetries(widths, "linear"), a, a, activations={0: pair})


def test_a_rank_deficient_basis_is_said():
    widths = (2, 4, 5)  # weight and bias write at most rank 3 of the 4
    a, b = mlp(jax.random.key(0), widths), mlp(jax.random.key(1), widths)
    found = symjax.match(mlp_symmetries(widths, "linear"), a, b)
    assert any("rank 3 of 4" in note for note in found.notes)
    assert np.isfinite(found.after)
    assert found.after <= found.before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swiglu", "attention_grouped_bias", "llama", "gpt2"])
def test_an_element_of_found_symmetries_leads_to_the_params(name, x64):
    # gpt2 has 15 groups of translations, many of which do not commute.
    apply, a, inputs = case(name).build(jax.random.key(0))
    symmetries = symjax.find_symmetries(apply, a, *inputs).exact
    b = matching.apply_element(
        symmetries,
        [s.group.random(jax.random.key(i), scale=0.3) for i, s in enumerate(symmetries)],
        a,
    )
    found = symjax.match(symmetries, a, b)
    error = relative_error(matching.apply_element(symmetries, found.element, b), found.params)
    assert error < 1e-10  # rounding of a hundred products at scales up to e^2
    assert found.element_error < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draws", "name"),
    [
        *[(20, name) for name in ("relu_deep", "conv_residual_block", "gpt2", "llama_two_layers")],
        # Signs that overlap; rows and columns that move together; permutations inside groups.
        *[(5, name) for name in ("llama_tied", "qk_norm_gains", "qk_norm_gains_rotary", "rnn")],
        *[(5, name) for name in ("post_rms_norm", "eqx_batch_norm", "group_norm")],
        (5, "batch_norm_inference_state_as_parameters"),
    ],
)
def test_planted_elements_of_the_whole_group_are_recovered(draws, name):
    found = 0
    apply, a, inputs = case(name).build(jax.random.key(0))
    symmetries = symjax.find_symmetries(apply, a, *inputs).items
    for seed in range(draws):
        a = case(name).build(jax.random.key(seed))[1]
        element = draw_element(jax.random.key(100 + seed), symmetries, scale=0.5)
        b = matching.apply_element(symmetries, element, a)
        match = symjax.match(symmetries, a, b)
        again = matching.apply_element(symmetries, match.element, b)
        found += max(relative_error(match.params, a), relative_error(again, a)) < 1e-4
    assert found >= 0.95 * draws

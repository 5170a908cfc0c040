"""A task vector moves as the difference of the two models does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import Leg, Translation, matching
from symjax.merging import transport_task_vector

from ..discovery.zoo import case
from ..helpers import relative_error
from ..matching.models import draw_element, mlp, mlp_symmetries, symmetry

WIDTHS = (4, 6, 5, 3)


def both_moved(symmetries, element, base, tuned, **options):
    go = jax.jit(lambda p: matching.apply_element(symmetries, element, p, **options))
    return jax.tree.map(jnp.subtract, go(tuned), go(base))


@pytest.mark.slow
@pytest.mark.parametrize("inverse", [False, True])
def test_translations_cancel_and_small_differences_keep_their_digits(inverse):
    shift = symmetry("shift", Translation(3), [Leg("2/b", 0)])
    symmetries = [*mlp_symmetries(WIDTHS, "relu"), shift]
    base = mlp(jax.random.key(0), WIDTHS)
    # A difference in the last digits of float32, exact in float32.
    step = jax.tree.map(lambda w: jnp.round(w * 64) / 2**14, mlp(jax.random.key(1), WIDTHS))
    base = jax.tree.map(lambda w: jnp.round(w * 2**14) / 2**14, base)
    tuned = jax.tree.map(jnp.add, base, step)
    element = draw_element(jax.random.key(2), symmetries)
    move = jax.jit(lambda a, b: transport_task_vector(symmetries, element, a, b, inverse=inverse))
    moved = move(base, tuned)
    with jax.enable_x64(True):
        wide = lambda p: jax.tree.map(lambda w: np.asarray(w, np.float64), p)
        exact = both_moved(
            symmetries,
            tuple(g if g.dtype == jnp.int32 else np.asarray(g, np.float64) for g in element),
            *map(wide, (base, tuned)),
            inverse=inverse,
        )
    assert relative_error(moved, exact) < 1e-6
    assert (
        relative_error(both_moved(symmetries, element, base, tuned, inverse=inverse), exact) > 5e-6
    )
    # What an element moves by adding is not in the difference.
    only = transport_task_vector([shift], (jnp.full(3, 1e6),), base, tuned)
    assert relative_error(only, step) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attention_grouped_bias", "llama", "gpt2"])
def test_shifts_that_depend_on_weights_and_gains_of_norms(name, x64):
    apply, base, inputs = case(name).build(jax.random.key(0))
    symmetries = symjax.find_symmetries(apply, base, *inputs).exact
    _, other, _ = case(name).build(jax.random.key(1))
    tuned = jax.tree.map(lambda a, b: a + (0.1 * b).astype(a.dtype), base, other)
    element = tuple(s.group.random(jax.random.key(i), scale=0.3) for i, s in enumerate(symmetries))
    moved = transport_task_vector(symmetries, element, base, tuned)
    assert relative_error(moved, both_moved(symmetries, element, base, tuned)) < 1e-10
    # Added to the moved base it is the moved tuned model: the same function.
    there = matching.apply_element(symmetries, element, base)
    outputs = apply(jax.tree.map(jnp.add, there, moved), *inputs)
    assert relative_error(outputs, apply(tuned, *inputs)) < 1e-8


def test_integers_and_half_precision_stay():
    symmetries = mlp_symmetries(WIDTHS, "relu")
    inside = [
        symmetry(
            s.name, s.group, [Leg(f"net/{g.leaf}", g.axis, g.representation) for g in s.action.legs]
        )
        for s in symmetries
    ]
    half = lambda k: jax.tree.map(lambda w: w.astype(jnp.bfloat16), mlp(jax.random.key(k), WIDTHS))
    base, tuned = ({"net": half(k), "steps": jnp.arange(2)} for k in (0, 1))
    moved = transport_task_vector(inside, draw_element(jax.random.key(2), inside), base, tuned)
    assert jax.tree.map(lambda w: w.dtype, moved) == jax.tree.map(lambda w: w.dtype, base)
    assert moved["steps"].tolist() == [0, 0]


def test_bad_input_is_named():
    symmetries = mlp_symmetries(WIDTHS, "relu")
    a = mlp(jax.random.key(0), WIDTHS)
    element = draw_element(jax.random.key(2), symmetries)
    with pytest.raises(ValueError, match="`base` and `tuned` differ at leaf '0/b'"):
        transport_task_vector(symmetries, element, a, mlp(jax.random.key(0), (4, 7, 5, 3)))
    with pytest.raises(ValueError, match="`element` must have one entry for each of 4"):
        transport_task_vector(symmetries, element[:1], a, a)
    with pytest.raises(ValueError, match=r"`element\[0\]` is not an element of"):
        transport_task_vector(symmetries, element[::-1], a, a)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax import (
    ComplexScaling,
    GeneralLinear,
    Leg,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Power,
    Product,
    SignFlip,
    Translation,
    matching,
)

from ..helpers import relative_error
from .models import draw_element, mlp, mlp_symmetries, symmetry

WIDTHS = (4, 6, 5, 3)


def test_an_element_and_its_inverse_undo_each_other():
    symmetries = mlp_symmetries(WIDTHS, "relu")
    a = mlp(jax.random.key(0), WIDTHS)
    g = draw_element(jax.random.key(1), symmetries)
    there = matching.apply_element(symmetries, g, a)
    back = matching.apply_element(symmetries, g, there, inverse=True)
    assert relative_error(there, a) > 0.1
    assert relative_error(back, a) < 1e-6


def test_permutations_act_first_whatever_the_order():
    symmetries = mlp_symmetries(WIDTHS, "relu")[:2]
    a = mlp(jax.random.key(0), WIDTHS)
    units, scales = draw_element(jax.random.key(1), symmetries)
    expected = symmetries[1].action(scales, symmetries[0].action(units, a))
    for pick in ([0, 1], [1, 0]):
        chosen = [symmetries[i] for i in pick]
        element = tuple((units, scales)[i] for i in pick)
        assert relative_error(matching.apply_element(chosen, element, a), expected) == 0


def test_products_act_factor_by_factor():
    legs = [Leg("w", 0, "vector", 0), Leg("v", 0, "vector", 1)]
    both = symmetry("both", Product([Permutation(3), PositiveScaling(2)]), legs)
    params = {"v": jnp.ones((2, 1)), "w": jnp.arange(3.0)[:, None]}
    g = (jnp.array([2, 0, 1]), jnp.array([2.0, 3.0]))
    there = matching.apply_element([both], (g,), params)
    assert there["w"].ravel().tolist() == [2, 0, 1]
    assert there["v"].ravel().tolist() == [2, 3]


def test_identity_moves_nothing():
    symmetries = mlp_symmetries(WIDTHS, "tanh")
    a = mlp(jax.random.key(0), WIDTHS)
    same = matching.apply_element(symmetries, matching.identity_element(symmetries), a)
    assert relative_error(same, a) == 0


def test_saved_elements_come_back_bit_for_bit(tmp_path):
    symmetries = mlp_symmetries(WIDTHS, "relu")
    g = draw_element(jax.random.key(1), symmetries)
    matching.save_element(tmp_path / "g.npz", symmetries, g)
    back = matching.load_element(tmp_path / "g.npz", symmetries)
    for x, y in zip(jax.tree.leaves(g), jax.tree.leaves(back), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    assert [p.name for p in tmp_path.iterdir()] == ["g.npz"]


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, keep):
    symmetries = mlp_symmetries(WIDTHS, "relu")
    path = tmp_path / "g.npz"
    matching.save_element(path, symmetries, draw_element(jax.random.key(1), symmetries))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="truncated"):
        matching.load_element(path, symmetries)


def test_an_element_of_another_model_is_refused(tmp_path):
    symmetries = mlp_symmetries(WIDTHS, "relu")
    path = tmp_path / "g.npz"
    matching.save_element(path, symmetries, draw_element(jax.random.key(1), symmetries))
    with pytest.raises(ValueError, match=r"symmetry 1 is .*PositiveScaling"):
        matching.load_element(path, mlp_symmetries(WIDTHS, "tanh"))
    with pytest.raises(ValueError, match="4 symmetries"):
        matching.load_element(path, symmetries[:2])


def test_elements_of_the_wrong_group_are_refused():
    symmetries = mlp_symmetries((6, 4, 5), "linear")
    a = mlp(jax.random.key(0), (6, 4, 5))
    for element, message in (
        ((jnp.eye(3),), r"element\[0\]` is not an element of GeneralLinear"),
        ((), "one entry for each of 1 symmetries"),
        (jnp.eye(4), "one entry for each"),
    ):
        with pytest.raises(ValueError, match=message):
            matching.apply_element(symmetries, element, a)


ROTATION = np.array([[0.6, -0.8], [0.8, 0.6]], np.float32)
WRONG = [
    (GeneralLinear(2), np.ones((2, 2)), "an invertible matrix, got a matrix of condition"),
    (GeneralLinear(2), np.full((2, 2), np.nan), "got a NaN or an infinity"),
    (Orthogonal(2), 1.001 * ROTATION, "an orthogonal matrix.*got .* of up to 2.0e-03"),
    (Orthogonal(2), np.full((2, 2), np.inf), "got a NaN or an infinity"),
    (Permutation(3), np.array([0, 1, 1]), r"each of 0, ..., n - 1 once, got \[0 1 1\]"),
    (Permutation(3), np.array([1, 2, 3]), r"once, got \[1 2 3\]"),
    (Permutation(2), np.array([0.0, 1.0]), r"as integers, got float32\[2\]"),
    (PositiveScaling(2), np.array([1.0, -2.0]), r"positive finite numbers, got \[ 1. -2.\]"),
    (PositiveScaling(), np.array(0.0), "positive finite numbers, got 0."),
    (PositiveScaling(2), np.array([1.0, np.inf]), "got a NaN or an infinity"),
    (SignFlip(2), np.array([1.0, 0.5]), r"\+1 or -1 in every entry, got \[1.  0.5\]"),
    (ComplexScaling(2), np.zeros((2, 2)), "not both 0, got"),
    (Translation(2), np.array([1.0, np.nan]), "finite numbers, got a NaN"),
    (Power(Orthogonal(2), 2), np.stack([ROTATION, np.ones((2, 2))]), "got in block 1 "),
    (Power(Permutation(2), 2), np.array([[0, 0], [0, 1]]), r"got in block 0 \[0 0\]"),
]


@pytest.mark.parametrize(("group", "g", "message"), WRONG)
def test_numbers_outside_the_group_are_refused(tmp_path, group, g, message):
    one = symmetry("the units", group, [])
    outside = (jnp.asarray(g),)
    message = rf"`element\[0\]` is not an element of .*\('the units'\): expected .*{message}"
    with pytest.raises(ValueError, match=message):
        matching.apply_element([one], outside, {})
    with pytest.raises(ValueError, match=message):
        matching.apply_element([one], outside, {}, inverse=True)
    with pytest.raises(ValueError, match=message):
        matching.save_element(tmp_path / "g.npz", [one], outside)
    # In a product the factor is named, and the others pass.
    both = symmetry("the units", Product([Translation(1), group]), [])
    with pytest.raises(ValueError, match=message.replace(r"\[0\]`", r"\[0\]\[1\]`")):
        matching.apply_element([both], ((jnp.zeros(1), *outside),), {})


def test_a_file_with_numbers_outside_the_group_is_refused(tmp_path):
    symmetries = mlp_symmetries(WIDTHS, "relu")
    path = tmp_path / "g.npz"
    matching.save_element(path, symmetries, draw_element(jax.random.key(1), symmetries))
    with np.load(path) as file:
        stored = dict(file)
    stored["1/0"] = -stored["1/0"]
    np.savez(path, **stored)
    with pytest.raises(ValueError, match=r"g.npz' holds no element: `element\[1\]`.*'scales 0'"):
        matching.load_element(path, symmetries)


def test_under_jit_numbers_outside_the_group_give_nan():
    units = [
        symmetry("basis", GeneralLinear(2), [Leg("v", 1, "covector")]),
        symmetry("scales", PositiveScaling(3), [Leg("v", 0)]),
    ]
    params = {"v": jnp.ones((3, 2))}
    apply = jax.jit(lambda *g: matching.apply_element(units, g, params))
    assert bool(jnp.isnan(apply(jnp.zeros((2, 2)), jnp.ones(3))["v"]).all())
    assert bool(jnp.isnan(apply(jnp.eye(2), -jnp.ones(3))["v"]).all())


def test_applying_works_under_jit_and_vmap():
    symmetries = [symmetry("basis", GeneralLinear(2), [Leg(0, 0), Leg(1, 1, "covector")])]
    params = (jnp.ones((2, 3)), jnp.ones((3, 2)))
    batch = jnp.stack([jnp.eye(2), 2 * jnp.eye(2)])
    apply = jax.jit(jax.vmap(lambda g: matching.apply_element(symmetries, (g,), params)))
    w, v = apply(batch)
    assert w[:, 0, 0].tolist() == [1, 2]
    assert v[:, 0, 0].tolist() == [1, 0.5]

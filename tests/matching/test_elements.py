import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax import GeneralLinear, Leg, Permutation, PositiveScaling, Product, matching

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
    with pytest.raises(ValueError, match="not an element"):
        matching.apply_element(symmetries, (jnp.zeros((4, 4)),), a)


def test_applying_works_under_jit_and_vmap():
    symmetries = [symmetry("basis", GeneralLinear(2), [Leg(0, 0), Leg(1, 1, "covector")])]
    params = (jnp.ones((2, 3)), jnp.ones((3, 2)))
    batch = jnp.stack([jnp.eye(2), 2 * jnp.eye(2)])
    apply = jax.jit(jax.vmap(lambda g: matching.apply_element(symmetries, (g,), params)))
    w, v = apply(batch)
    assert w[:, 0, 0].tolist() == [1, 2]
    assert v[:, 0, 0].tolist() == [1, 0.5]

"""The zoo itself: it is large, named and buildable."""

import jax
import jax.numpy as jnp
import pytest

from .zoo import CASES, FAMILIES


def test_the_zoo_is_large_and_every_name_is_used_once():
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert all(len(cases) >= 10 for cases in FAMILIES.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_can_be_traced_and_names_the_leaves_it_freezes(family):
    for case in FAMILIES[family]:
        apply, params, inputs = case.build(jax.random.key(0))
        outputs = jax.tree.leaves(jax.eval_shape(apply, params, *inputs))
        assert outputs, case.name
        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
        names = {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves}
        assert set(case.frozen) <= names, case.name
        assert all(jnp.std(x) > 0 for _, x in leaves if x.size > 1), f"{case.name} is not generic"

"""Matching keeps the function of B on every model of the zoo, whatever `find_symmetries` lists."""

import jax
import numpy as np
import pytest

import symjax

from ..discovery._reference import coarsest
from ..discovery.zoo import FAMILIES

pytestmark = pytest.mark.usefixtures("x64")


#: Where rounding counts for more than 1000 eps. A scale before a batch norm has no best value where
#: the two rows look away from each other: it ends at 1e-6, where what the norm subtracts is 1e6
#: times as large as what is left, and its square where a variance is a difference of squares.
AMPLIFIED = {"eqx_batch_norm": 1e6, "nnx_batch_norm": 1e12}


def change(apply, p, q, inputs):
    """|f(q) - f(p)| / |f(p)| over all outputs, in NumPy."""
    rows = [
        np.concatenate(
            [np.asarray(x, np.complex128).ravel() for x in jax.tree.leaves(apply(w, *inputs))]
        )
        for w in (p, q)
    ]
    return np.linalg.norm(rows[1] - rows[0]) / max(np.linalg.norm(rows[0]), 1e-300)


def changed(models):
    """The models whose function a match changed, with by how much in eps."""
    for model in models:
        apply, a, inputs = model.build(jax.random.key(0))
        b = model.build(jax.random.key(1))[1]
        symmetries = symjax.find_symmetries(apply, a, *inputs)
        if not symmetries.exact:
            continue
        found = symjax.match(symmetries, a, b, restarts=0)
        eps = coarsest(b)
        size = change(apply, b, found.params, inputs) / eps
        if not size <= AMPLIFIED.get(model.name, 1000):
            yield f"{model.name}: {size:.0f} eps"


def test_a_match_keeps_the_function_of_b():
    # Models that have approximate symmetries too, and plain ones.
    models = [m for m in FAMILIES["norms"] if m.approximate is not None] + list(
        FAMILIES["dense"][:6]
    )
    assert list(changed(models)) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_match_keeps_the_function_of_b_on_the_whole_zoo(family):
    assert list(changed(FAMILIES[family])) == []

"""Matching keeps the function of B on every model of the zoo, whatever `find_symmetries` lists."""

import jax
import numpy as np
import pytest

import symjax

from ..discovery._reference import coarsest
from ..discovery.zoo import FAMILIES

pytestmark = pytest.mark.usefixtures("x64")


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
        if not size <= max(1000, 10 * rounding(apply, found.params, inputs) / eps):
            yield f"{model.name}: {size:.0f} eps"


def rounding(apply, p, inputs):
    """What the last digit of the parameters changes: a variance that is a difference amplifies."""
    rng = np.random.default_rng(0)

    def shake(x):
        if not hasattr(x, "dtype") or x.dtype.kind != "f":
            return x
        signs = rng.choice([-1.0, 1.0], x.shape)
        return (np.asarray(x) * (1 + signs * np.finfo(x.dtype).eps)).astype(x.dtype)

    return change(apply, p, jax.tree.map(shake, p), inputs)


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

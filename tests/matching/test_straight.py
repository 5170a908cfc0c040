"""Symmetries in other coordinates are matched there: planted elements are found again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax


def normed(params, x):
    scale = jnp.sqrt(params["variance"] + 1e-3)
    y = (x @ params["up"] - params["mean"][None]) / scale[None]
    return jax.nn.relu(y * params["gain"][None] + params["bias"][None]) @ params["down"]


def gained(params, x):
    return jax.nn.relu(x @ params["up"]) * (1 + params["gain"])[None] @ params["down"]


def logarithmic(params, x):
    return jax.nn.relu(x @ params["up"]) * jnp.exp(params["gain"])[None] @ params["down"]


def parameters(apply):
    rng = np.random.default_rng(0)
    names = ("variance", "mean", "gain", "bias") if apply is normed else ("gain",)
    leaves = {name: jnp.asarray(rng.uniform(0.2, 1, 5)) for name in names}
    up, down = rng.normal(size=(3, 5)), rng.normal(size=(5, 2))
    return leaves | {"up": jnp.asarray(up), "down": jnp.asarray(down)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("apply", [normed, gained, logarithmic])
def test_a_planted_element_in_other_coordinates_is_found_again(apply):
    a = parameters(apply)
    found = symjax.find_symmetries(apply, a, jnp.ones((4, 3)))
    keys = jax.random.split(jax.random.key(1), len(found))
    planted = tuple(s.group.random(k, scale=0.2) for s, k in zip(found, keys, strict=True))
    b = symjax.matching.apply_element(found, planted, a)
    assert "in coordinates" in str(found)
    matched = symjax.match(found, a, b, key=jax.random.key(0))
    assert not any("other coordinates" in note for note in matched.notes)
    assert matched.after <= 1e-5 * matched.before  # the search stops at a relative change of 1e-7
    moved = symjax.matching.apply_element(found, matched.element, b)
    for name, leaf in moved.items():
        np.testing.assert_allclose(leaf, matched.params[name], atol=1e-12)

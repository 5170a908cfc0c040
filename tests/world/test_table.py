"""Models that others wrote: outputs as the framework's, and how many of their symmetries are found.

A row is complete where the dimension found is the true one. The others carry the reason, and a
number that is found at least. More than the true one would be wrong, and is never allowed.
"""

import importlib.util
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
    pytest.skip("needs the extra world", allow_module_level=True)

import torch

from .models import TABLE, build

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the frameworks
EPS = np.finfo(np.float32).eps


def random_element(symmetries, params, key):
    """Parameters moved by an element of every exact symmetry, one after the other."""
    for i, symmetry in enumerate(s for s in symmetries if s.exact):
        element = symmetry.group.random(jax.random.fold_in(key, i), scale=0.1, dtype=jnp.float32)
        params = symmetry.action(element, params)
    return params


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name):
    row, module = TABLE[name], build(name)
    with warnings.catch_warnings(), torch.no_grad():
        expected = row.call(module, *map(torch.tensor, row.inputs)).numpy()
    apply, params = symjax.from_torch(module, row.call)
    run = jax.jit(apply)
    outputs = run(params, *row.inputs)
    size = np.abs(expected).max()
    assert np.abs(outputs - expected).max() <= 16 * EPS * size

    symmetries = symjax.find_symmetries(apply, params, *row.inputs)
    assert (row.found or row.true) <= symmetries.dimension <= row.true, row.missing
    moved = random_element(symmetries, params, jax.random.key(0))
    far = sum(float(jnp.abs(moved[k] - params[k]).sum()) for k in params)
    assert far > 0.05 * sum(float(jnp.abs(x).sum()) for x in params.values())
    change = np.abs(run(moved, *row.inputs) - outputs).max()
    assert change <= 25 * EPS * size


def test_every_incomplete_row_says_why():
    assert all(bool(row.missing) == (row.found is not None) for row in TABLE.values())
    assert all(row.found is None or row.found < row.true for row in TABLE.values())

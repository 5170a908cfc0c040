"""``symjax fingerprint SOURCE A``: a word for the function of a checkpoint, in any coordinates.

The word is a hash of a few numbers, rounded: the outputs on random inputs along random directions,
and the norms of the leaves in the coordinates that `symjax.canonical.representative` chooses, which
see what these inputs do not reach. The numbers are taken twice, the second time after a random
element of the whole group: how far they move is the noise, and a number that is nearer than that to
where it would be rounded the other way cannot be told.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from .._checks import is_floating, is_inexact
from ..canonical import representative
from ..discovery import find_symmetries
from ..studies._result import ALL_HELD, WRONG_CALL
from ._source import Source, open_source

STEP = 2.0**-8
"""To which numbers of size 1 are rounded: functions that differ by much less are one to it."""

DIRECTIONS = 6, 4
"""How many numbers there are of the outputs, and of the norms."""

LEAST = 40
"""Of eps: the noise that is reckoned with, whatever the second look says."""


@dataclass(frozen=True)
class Fingerprint:
    """Print a word that is equal for two checkpoints of one function in different coordinates."""

    source: tyro.conf.Positional[str]
    """SOURCE: a folder of Hugging Face, or FILE.py:NAME, which returns (apply, params, inputs)."""
    a: tyro.conf.Positional[Path]
    """A: a checkpoint of the model."""
    weights: Path | None = None
    """A checkpoint that is put into the parameters of SOURCE by name."""


def run(asked: Fingerprint) -> int:
    """Print the word, or why there is none, which is status 2."""
    model = open_source(asked.source, asked.weights)
    params = model.read(asked.a)
    found = find_symmetries(model.apply, model.params, *model.inputs)
    word, reason = fingerprint(model, found, params)
    if word is None:
        print(f"cannot tell: {reason}")
        return WRONG_CALL
    print(word)
    for what in found.unknown:
        print(f"of the outputs alone, for the model is not understood everywhere: {what}")
    return ALL_HELD


def fingerprint(model: Source, found: Any, params: Any) -> tuple[str | None, str]:
    """The word and "", or None and the reason."""
    eps = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(model.stored) if is_inexact(x))
    if eps > 1e-5:
        return None, "weights of 16 bits are rounded by about as much as two models differ"
    numbers = _numbers(model, found, params)
    again = _numbers(model, found, _elsewhere(found, params))
    if not np.isfinite([*numbers, *again]).all():
        return None, "the model's outputs are not finite numbers on its inputs"
    noise = float(np.abs(numbers - again).max())
    reach = max(2 * noise, LEAST * eps)
    if reach > STEP / 8:
        return None, (
            f"its numbers change by {noise:.2g} where it is moved by a random element of its own "
            "group"
        )
    cells = np.round(numbers / STEP)
    if (0.5 - np.abs(numbers / STEP - cells)).min() * STEP < reach:
        return None, "one of its numbers is too near to where it would be rounded the other way"
    return hashlib.sha256(cells.astype("<i8").tobytes()).hexdigest()[:32], ""


def _numbers(model, found, params):
    """The numbers that are rounded; each of size 1."""
    outputs = _flat(jax.jit(model.apply)(params, *model.inputs))
    draw = np.random.default_rng(0)
    seen = draw.standard_normal((DIRECTIONS[0], outputs.size)) @ outputs
    seen = np.append(seen / max(np.linalg.norm(outputs), 1e-300), np.log(np.linalg.norm(outputs)))
    if found.unknown:  # another checkpoint may differ by what was not found
        return seen
    moved = representative(found, params, approximate=True, apply=model.apply, inputs=model.inputs)
    sizes = np.array([np.linalg.norm(_flat(x)) for x in jax.tree.leaves(moved.params)])
    sizes = np.log(np.maximum(sizes / max(sizes.max(), 1e-300), 1e-3))
    signs = draw.choice([-1.0, 1.0], (DIRECTIONS[1], sizes.size))
    return np.append(seen, signs @ sizes / np.sqrt(sizes.size))


def _flat(tree):
    parts: list[np.ndarray] = [np.asarray(x).reshape(-1) for x in jax.tree.leaves(tree)]
    parts = [np.append(np.real(x), np.imag(x)) if np.iscomplexobj(x) else x for x in parts]
    return np.concatenate([x.astype(np.float64) for x in parts])


def _elsewhere(found, params):
    """The parameters moved by an element of every exact group, of any of its components."""
    dtype = jnp.result_type(*[x for x in jax.tree.leaves(params) if is_floating(x)])
    for i, s in enumerate(found.exact):
        key = jax.random.fold_in(jax.random.key(0), i)
        params = s.action(s.group.random(key, scale=0.3, dtype=dtype), params)
    return params

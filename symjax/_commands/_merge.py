"""``symjax merge SOURCE A B [C ...] --out M``: matched to A, then averaged."""

from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from .._checks import is_floating, require
from ..discovery import find_symmetries
from ..matching import match
from ..studies._result import ALL_HELD
from ._source import open_source


@dataclass(frozen=True)
class Merge:
    """Average checkpoints after each was matched to the first."""

    source: tyro.conf.Positional[str]
    """A folder of Hugging Face, or FILE.py:NAME: a function with (apply, params, inputs)."""
    models: tyro.conf.Positional[tuple[Path, ...]]
    """The checkpoints: A, B and more."""
    out: Path
    """The new checkpoint, of the format of A."""
    at: tuple[float, ...] = ()
    """The weight of each checkpoint; all alike without."""
    seed: int = 0
    """Seed of the search."""


def run(asked: Merge) -> int:
    """Match all to the first, average and write."""
    count = len(asked.models)
    require(count > 1, f"merge needs two checkpoints or more, got {count}.")
    weights = asked.at or (1 / count,) * count
    require(
        len(weights) == count and abs(sum(weights) - 1) < 1e-6,
        f"--at must be a weight for each of {count} checkpoints, of sum 1, got {asked.at}.",
    )
    require(not asked.out.exists(), f"--out must not exist yet: {asked.out}.")
    model = open_source(asked.source, shapes=True)
    first, *rest = (model.read(path) for path in asked.models)
    found = find_symmetries(model.apply, first, *model.inputs)
    total = jax.tree.map(lambda x: weights[0] * x if is_floating(x) else x, first)
    for path, w, params in zip(asked.models[1:], weights[1:], rest, strict=True):
        if found.exact:
            matched = match(found, first, params, key=jax.random.key(asked.seed))
            print(f"{path}: distance {matched.before:.4g}, matched {matched.after:.4g}")
            params = matched.params
        total = jax.tree.map(lambda s, x, w=w: s + w * x if is_floating(x) else s, total, params)
    model.write(asked.out, total, like=asked.models[0])
    return ALL_HELD

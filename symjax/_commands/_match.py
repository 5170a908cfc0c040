"""``symjax match SOURCE A B --out C``: B in the coordinates of A, with the element beside it."""

from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from .._checks import require
from ..discovery import find_symmetries
from ..matching import match, save_element
from ..studies._result import ALL_HELD
from ._source import open_source


@dataclass(frozen=True)
class Match:
    """Write B in the coordinates of A, and the element that takes it there beside it."""

    source: tyro.conf.Positional[str]
    """A folder of Hugging Face, or FILE.py:NAME: a function with (apply, params, inputs)."""
    a: tyro.conf.Positional[Path]
    """The checkpoint that says which coordinates."""
    b: tyro.conf.Positional[Path]
    """The checkpoint that is moved; its function does not change."""
    out: Path
    """The new checkpoint, of the format of B; its element is OUT.element.npz."""
    seed: int = 0
    """Seed of the search."""


def run(asked: Match) -> int:
    """Match, write and print how near they are."""
    beside = asked.out.with_name(asked.out.name + ".element.npz")
    for path in (asked.out, beside):
        require(not path.exists(), f"--out must not exist yet: {path}.")
    model = open_source(asked.source, shapes=True)
    a, b = model.read(asked.a), model.read(asked.b)
    found = find_symmetries(model.apply, a, *model.inputs)
    require(len(found.exact) > 0, "SOURCE has no exact symmetry, so there is nothing to match.")
    matched = match(found, a, b, key=jax.random.key(asked.seed))
    model.write(asked.out, matched.params, like=asked.b)
    save_element(beside, found, matched.element)
    print(f"distance from A to B: {matched.before:.4g}, to {asked.out}: {matched.after:.4g}")
    print(f"element: {beside}")
    for note in matched.notes:
        print(note)
    return ALL_HELD

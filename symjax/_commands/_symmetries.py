"""``symjax symmetries SOURCE``: the table of a model's symmetries."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..discovery import find_symmetries
from ..studies._result import ALL_HELD
from ._source import open_source


@dataclass(frozen=True)
class Symmetries:
    """Print the symmetries of a model's parameters."""

    source: tyro.conf.Positional[str]
    """A folder of Hugging Face, or FILE.py:NAME: a function with (apply, params, inputs)."""
    json: bool = False
    """Print all of it as JSON."""
    why: bool = False
    """Print what was not understood and what broke a symmetry, and not the table."""
    weights: Path | None = None
    """A checkpoint that is put into the parameters by name."""


def run(asked: Symmetries) -> int:
    """Find them and print them."""
    model = open_source(asked.source, asked.weights, shapes=True)
    found = find_symmetries(model.apply, model.params, *model.inputs)
    if asked.why:
        what = found.unknown | found.why
        found = found.as_dict() if asked.json else found
        print("\n".join(_why(what)) or "nothing that was seen broke a symmetry")
    print(json.dumps(found.as_dict(), indent=1) if asked.json else found)
    return ALL_HELD

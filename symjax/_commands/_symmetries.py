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
    """SOURCE: a folder of Hugging Face, or FILE.py:NAME, which returns (apply, params, inputs)."""
    json: bool = False
    """Print all of it as JSON."""
    why: bool = False
    """Print in place of the table what was not understood, and what broke a symmetry."""
    weights: Path | None = None
    """A checkpoint that is put into the parameters by name."""


def run(asked: Symmetries) -> int:
    """Find them and print them."""
    model = open_source(asked.source, asked.weights, shapes=True)
    found = find_symmetries(model.apply, model.params, *model.inputs)
    if asked.json:
        print(json.dumps(found.as_dict(), indent=1))
    elif asked.why:
        print("\n".join(found.reasons()) or "nothing that was seen broke a symmetry")
    else:
        print(found)
    return ALL_HELD

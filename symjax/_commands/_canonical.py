"""``symjax canonical SOURCE A --out C``: a checkpoint in coordinates that its function chooses."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from ..canonical import representative
from ..checkpoints._door import require_target
from ..discovery import find_symmetries
from ..studies._result import ALL_HELD
from ..verification._change import function_change
from ._source import open_source


@dataclass(frozen=True)
class Canonical:
    """Write the checkpoint A in coordinates that depend on its function alone."""

    source: tyro.conf.Positional[str]
    """SOURCE: a folder of Hugging Face, or FILE.py:NAME, which returns (apply, params, inputs)."""
    a: tyro.conf.Positional[Path]
    """A: a checkpoint of the model."""
    out: Path
    """The new checkpoint, of the same format as A."""
    weights: Path | None = None
    """A checkpoint that is put into the parameters of SOURCE by name."""


def run(asked: Canonical) -> int:
    """Move it, write it, and say what was left undecided."""
    require_target(asked.out, asked.a)
    model = open_source(asked.source, asked.weights)
    params = model.read(asked.a)
    found = find_symmetries(model.apply, model.params, *model.inputs)
    moved = representative(found, params)
    model.write(asked.out, moved.params, like=asked.a)
    change = function_change(model.apply, model.inputs, params, model.read(asked.out))
    print(f"{asked.out}: moved by {len(found.exact)} symmetries; outputs changed by {change:.2g}")
    for i in moved.undecided:
        s = found.exact[i]
        print(
            f"undecided: {s.name} {s.group.notation} of {', '.join(s.leaves[:4])}; another "
            "checkpoint of this function may come out differently there"
        )
    return ALL_HELD

"""``symjax check SOURCE A B``: is B the same function as A, and if not, which leaves are wrong?"""

from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from .._checks import require
from ..checkpoints import load
from ..checkpoints._put import TiedApart
from ..diagnosis import diagnose
from ..discovery import find_symmetries
from ..studies._result import ALL_HELD
from ._source import open_source

NOT_THE_SAME, COULD_NOT_TELL = 1, 2


@dataclass(frozen=True)
class Check:
    """Say whether B is the same function as A: exit 0 same, 1 not the same, 2 could not tell."""

    source: tyro.conf.Positional[str]
    """A folder of Hugging Face, or FILE.py:NAME: a function with (apply, params, inputs)."""
    a: tyro.conf.Positional[Path]
    """A checkpoint of the model."""
    b: tyro.conf.Positional[Path]
    """Another one, that is said to be the same function."""
    inputs: Path | None = None
    """A file of arrays that the model is run on, in the order of its arguments (.npz)."""
    seed: int = 0
    """Seed of the random inputs."""


def run(asked: Check) -> int:
    """Print the diagnosis."""
    model = open_source(asked.source, shapes=True)
    inputs = model.inputs if asked.inputs is None else tuple(load(asked.inputs).values())
    require(
        len(inputs) == len(model.inputs),
        f"--inputs must hold {len(model.inputs)} arrays, one for each argument of the model, "
        f"{asked.inputs} holds {len(inputs)}.",
    )
    a = model.read(asked.a)
    try:
        b = model.read(asked.b)
    except TiedApart as error:
        print(f"not the same function: {error}\nwrong: {', '.join(error.names)}")
        return NOT_THE_SAME
    found = find_symmetries(model.apply, a, *inputs)
    told = diagnose(found, model.apply, a, b, *inputs, key=jax.random.key(asked.seed))
    print(told)
    return {True: ALL_HELD, False: NOT_THE_SAME, None: COULD_NOT_TELL}[told.same]

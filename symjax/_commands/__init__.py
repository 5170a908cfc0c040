"""The commands about a model: each a form of words and what runs it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..studies._result import StudyError
from . import _canonical, _check, _fingerprint, _match, _merge, _symmetries
from ._words import parse


class Command(NamedTuple):
    """The words of a command, the dataclass of them, and its function, which gives the status."""

    words: str
    form: type
    run: Callable[[Any], int]


COMMANDS = {
    "symmetries": Command(
        "SOURCE [--json] [--why] [--weights FILE]", _symmetries.Symmetries, _symmetries.run
    ),
    "check": Command("SOURCE A B [--inputs FILE] [--seed SEED]", _check.Check, _check.run),
    "match": Command("SOURCE A B --out C [--seed SEED]", _match.Match, _match.run),
    "merge": Command("SOURCE A B [C ...] --out M [--at w w ...]", _merge.Merge, _merge.run),
    "canonical": Command("SOURCE A --out C [--weights FILE]", _canonical.Canonical, _canonical.run),
    "fingerprint": Command("SOURCE A [--weights FILE]", _fingerprint.Fingerprint, _fingerprint.run),
}


def describe_commands() -> str:
    """What the usage says of them: the words and the first line of each form."""
    rows = [f"{f'{name} {c.words}':<58}  {_about(c)}" for name, c in COMMANDS.items()]
    return "\n".join([*rows, "", *SOURCE_IS])


SOURCE_IS = (
    "SOURCE is a folder of Hugging Face (config.json and weights), or FILE.py:NAME, a function of",
    "yours that returns (apply, params, inputs); A, B and C are checkpoints.",
)


def _about(command):
    return (command.form.__doc__ or "").partition("\n")[0].rstrip(".")


def run_command(name: str, words: Sequence[str], prog: str) -> int:
    """Run one; what it says is wrong with its call or its files is a wrong call."""
    command = COMMANDS[name]
    asked = parse(command.form, list(words), prog)
    try:
        return command.run(asked)
    except (ValueError, ImportError) as error:
        raise StudyError(str(error)) from error

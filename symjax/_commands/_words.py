"""Words of the command line as dataclasses, and what is wrong with them in one line."""

import contextlib
import dataclasses
import io
import re
from typing import Any

import tyro

from ..studies._result import StudyError


def parse_all(forms: list[type], words: list[str], prog: str, about: str) -> list[Any]:
    """An instance of every form, from one flat list of options."""
    flat = tyro.conf.OmitArgPrefixes
    fields = [(form.__name__.lower(), flat[form]) for form in forms]
    together = dataclasses.make_dataclass("Options", fields, frozen=True)
    together.__doc__ = about
    parsed = parse(together, words, prog)
    return [getattr(parsed, name) for name, _ in fields]


def parse(form: type, words: list[str], prog: str, alone: bool = True) -> Any:
    """``tyro.cli`` with its error box told in one line; not ``alone``, among others' options."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            if not alone:
                return tyro.cli(form, prog=prog, args=words, return_unknown_args=True)[0]
            return tyro.cli(form, prog=prog, args=words)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise StudyError(f"{_one_line(said.getvalue())} See `{prog} --help`.") from None
    except ValueError as error:  # a value that the configuration itself refuses
        raise StudyError(str(error)) from None


def _one_line(box: str) -> str:
    """What tyro's box says: its words up to the first rule, and what it thinks was meant.

    Where the terminal cannot draw lines, the box is its title, a rule, and the same below.
    """
    parts = [""]
    for line in box.splitlines():
        if line.startswith(("╭", "╰")):
            continue
        words = line.strip("│ ")
        if re.fullmatch(r"[─-]+", words):
            parts.append("")
        else:
            parts[-1] = f"{parts[-1]} {words}".strip()
    if not box.startswith("╭"):
        del parts[0]
    meant = [part for part in parts if part.startswith("Perhaps you meant")]
    option = re.search(r"--[\w-]+", meant[0]) if meant else None
    return parts[0].rstrip(".") + "." + (f" Perhaps {option.group()}?" if option else "")

"""The command line: ``python -m symjax list | run STUDY | reproduce``."""

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from .studies import STUDIES
from .studies._reproduce import reproduce, watcher
from .studies._runner import StudyError, load, run_study

USAGE = """usage: python -m symjax list
       python -m symjax run STUDY [--OPTION VALUE ...] --out DIR [--overwrite]
       python -m symjax reproduce --out DIR [--seed SEED] [--overwrite]

list       name the studies
run        run one study; `python -m symjax run STUDY --help` names its options
reproduce  run all of the paper's studies and end with one table of its statements"""


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a result goes."""

    out: Path
    """Directory for the result; made where it does not exist."""
    overwrite: bool = False
    """Replace a result of another study, or write among other files."""


@dataclasses.dataclass(frozen=True)
class Reproduce(Target):
    """Run every study at its default size."""

    seed: int = 0
    """Seed of all randomness."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 a study failed, 2 a wrong call."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except StudyError as error:
        print(f"symjax: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("symjax: interrupted; nothing half-written was left", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    command, rest = words[0], words[1:]
    if command == "list":
        return _list(rest)
    if command == "run":
        return _run(rest)
    if command == "reproduce":
        target = _parse(Reproduce, rest, "python -m symjax reproduce")
        done = reproduce(target.out, seed=target.seed, overwrite=target.overwrite, watch=watcher())
        return 0 if done else 1
    raise StudyError(f"no command {command!r}; expected list, run or reproduce.")


def _list(rest: list[str]) -> int:
    if rest:
        raise StudyError(f"list takes no arguments, got {' '.join(rest)}.")
    width = max(map(len, STUDIES))
    for name, title in STUDIES.items():
        print(f"{name:<{width}}  {title}")
    return 0


def _run(rest: list[str]) -> int:
    if not rest or rest[0] in ("-h", "--help"):
        print(f"{USAGE}\n\nstudies: {', '.join(STUDIES)}")
        return 0
    if rest[0].startswith("-"):
        raise StudyError(f"run needs a study before {rest[0]}; one of {', '.join(STUDIES)}.")
    name = rest[0]
    module = load(name)
    config, target = _parse_run(module.Config, rest[1:], f"python -m symjax run {name}")
    run_study(name, config, target.out, overwrite=target.overwrite, progress=watcher()(name))
    print((target.out / "report.txt").read_text(), end="")
    print(f"\nwritten to {target.out}")
    return 0


def _parse_run(config: type, words: list[str], prog: str) -> tuple[Any, Target]:
    """The study's configuration and the target, from one flat list of options."""
    flat = tyro.conf.OmitArgPrefixes
    both = dataclasses.make_dataclass(
        "Options", [("config", flat[config]), ("target", flat[Target])], frozen=True
    )
    both.__doc__ = "Run one study and write its data, figure and report."
    parsed = _parse(both, words, prog)
    return parsed.config, parsed.target


def _parse(form: type, words: list[str], prog: str) -> Any:
    """``tyro.cli`` with its error box told in one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
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


if __name__ == "__main__":
    sys.exit(main())

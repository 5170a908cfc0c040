"""The command line: ``python -m symjax list | run STUDY | reproduce | draw | look``."""

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

from .studies import STUDIES
from .studies._reproduce import reproduce, watcher
from .studies._runner import How, StudyError, draw, follow, load, look, run_study

USAGE = """usage: python -m symjax list
       python -m symjax run STUDY [--OPTION VALUE ...] --out DIR [--resume | --overwrite]
       python -m symjax reproduce --out DIR [--seed SEED] [--resume | --overwrite]
       python -m symjax draw DIR [--to FILE]
       python -m symjax look DIR [--to FILE]

list       name the studies
run        run one study; `python -m symjax run STUDY --help` names its options.
           STUDY is a name of the list, or a file of your own such as mine.py
reproduce  run all of the paper's studies and end with one table of its statements
draw       draw the figure of a finished study again, from what is stored
look       write a page of a finished study that can be turned round, where it is in space"""


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where it runs, and what is kept between runs."""

    cache: Path | None = None
    """Directory for compiled programs; the next run of the same study then compiles nothing."""
    cpu_devices: int | None = None
    """Use this many cores, as one device each; jax itself takes the CPU as one device."""
    distributed: bool = False
    """Join the processes that `jax.distributed` finds (Slurm, TPU pods, or JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID): the same command in each of them."""

    def __post_init__(self):
        if self.cpu_devices is not None and self.cpu_devices < 1:
            raise ValueError(f"`cpu_devices` must be at least 1, got {self.cpu_devices}.")


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a result goes."""

    out: Path
    """Directory for the result; made where it does not exist."""


@dataclasses.dataclass(frozen=True)
class Reproduce(Target):
    """Run every study at its default size."""

    seed: int = 0
    """Seed of all randomness."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """Draw the figure of a finished study again, from what is stored."""

    folder: tyro.conf.Positional[Path]
    """Directory of the result."""
    to: Path | None = None
    """The figure's file, .png, .pdf or .svg; figure.png in the directory where none is given."""


@dataclasses.dataclass(frozen=True)
class Look:
    """Write a page of a finished study that can be turned round, from what is stored."""

    folder: tyro.conf.Positional[Path]
    """Directory of the result."""
    to: Path | None = None
    """The page's file; STUDY.html in the directory where none is given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 a study failed, 2 a wrong call."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(words)
    except StudyError as error:
        print(f"symjax: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        said = str(error) or "interrupted; nothing half-written was left"
        print(f"symjax: {said}", file=sys.stderr)
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
        target, how, machine = _parse_all(
            [Reproduce, How, Machine], rest, "python -m symjax reproduce", "Run every study."
        )
        _settle(machine)
        return 0 if reproduce(target.out, seed=target.seed, how=how, watch=watcher()) else 1
    if command == "draw":
        asked = _parse(Draw, rest, "python -m symjax draw")
        print(draw(asked.folder, asked.to))
        return 0
    if command == "look":
        asked = _parse(Look, rest, "python -m symjax look")
        print(look(asked.folder, asked.to))
        return 0
    raise StudyError(f"no command {command!r}; expected list, run, reproduce, draw or look.")


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
    config, target, how, machine = _parse_all(
        [module.Config, Target, How, Machine],
        rest[1:],
        f"python -m symjax run {name}",
        "Run one study and write its data, figure and report.",
    )
    _settle(machine)
    if jax.process_index():
        follow(name, config, how)
        return 0
    run_study(name, config, target.out, how, watcher()(name))
    print((target.out / "report.txt").read_text(), end="")
    print(f"\nwritten to {target.out}")
    return 0


def _settle(machine: Machine) -> None:
    """Set jax up; the command line may, the library never does."""
    if machine.cpu_devices is not None:
        jax.config.update("jax_num_cpu_devices", machine.cpu_devices)
    if machine.cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(machine.cache.absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if machine.distributed:
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            raise StudyError(f"--distributed: {error}") from error


def _parse_all(forms: list[type], words: list[str], prog: str, about: str) -> list[Any]:
    """An instance of every form, from one flat list of options."""
    flat = tyro.conf.OmitArgPrefixes
    fields = [(form.__name__.lower(), flat[form]) for form in forms]
    together = dataclasses.make_dataclass("Options", fields, frozen=True)
    together.__doc__ = about
    parsed = _parse(together, words, prog)
    return [getattr(parsed, name) for name, _ in fields]


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

"""The command line: ``python -m symjax list | run STUDY | reproduce | draw | look | verify``.

The commands about a model are in `symjax._commands`.
"""

import contextlib
import dataclasses
import io
import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import tyro

from ._commands import COMMANDS, describe_commands, run_command
from ._commands._words import parse, parse_all
from .studies import STUDIES
from .studies._bounds import check_options
from .studies._load import load
from .studies._reproduce import reproduce, watcher
from .studies._result import ALL_HELD, FAILED, INTERRUPTED, NOT_ALL_HELD, WRONG_CALL
from .studies._runner import How, StudyError, follow, run_study
from .studies._stored import draw, look
from .studies._together import end_all, join
from .studies._verify import require_whole

USAGE = """usage: python -m symjax list
       python -m symjax run STUDY [--OPTION VALUE ...] --out DIR [--resume | --overwrite]
       python -m symjax reproduce --out DIR [--seed SEED] [--resume | --overwrite]
       python -m symjax draw DIR [--to FILE] [--study FILE.py]
       python -m symjax look DIR [--to FILE] [--study FILE.py]
       python -m symjax verify DIR
       python -m symjax --version

list       name the studies
run        run one study; `python -m symjax run STUDY --help` names its options.
           STUDY is a name of the list, or a file of your own such as mine.py
reproduce  run all of the paper's studies and end with one table of its statements
draw       draw the figure of a finished study again, from what is stored
look       write a page of a finished study that can be turned round, where it is in space
verify     compare every file of a finished study with the checksums in its manifest

exit status: 0 every statement held (or failed, where it is known to), 1 a study failed,
             2 a wrong call, 3 done and not every statement held, 130 interrupted

about a model:
"""
USAGE += describe_commands()
MOST_DEVICES = 1024


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where it runs, and what is kept between runs."""

    cache: Path | None = None
    """Directory for compiled programs; the next run of the same study then compiles nothing."""
    cpu_devices: int | None = None
    """Use this many cores, as one device each; jax itself takes the CPU as one device."""
    distributed: bool = False
    """Join the processes that jax finds by itself (Slurm, TPU pods) or that the next three options
    name: the same command in each of them, but for --process."""
    coordinator: str | None = None
    """HOST:PORT of process 0, or JAX_COORDINATOR_ADDRESS; implies --distributed."""
    processes: int | None = None
    """How many processes there are, or JAX_NUM_PROCESSES; implies --distributed."""
    process: int | None = None
    """Which of them this is, from 0, or JAX_PROCESS_ID; implies --distributed."""

    def __post_init__(self):
        if self.cpu_devices is not None and not 1 <= self.cpu_devices <= MOST_DEVICES:
            raise ValueError(
                f"`cpu_devices` must be from 1 to {MOST_DEVICES}, got {self.cpu_devices}."
            )
        check_options(self)
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"`processes` must be at least 1, got {self.processes}.")
        if self.process is not None and not 0 <= self.process < (self.processes or 2**31):
            raise ValueError(
                f"`process` must be from 0 to `processes` - 1, got {self.process} of "
                f"{self.processes}."
            )
        if self.coordinator is not None and not re.fullmatch(r".+:\d{1,5}", self.coordinator):
            raise ValueError(f"`coordinator` must be HOST:PORT, got {self.coordinator!r}.")

    @property
    def several(self) -> bool:
        """Whether there are other processes to join."""
        named = (self.coordinator, self.processes, self.process)
        return self.distributed or any(value is not None for value in named)


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

    def __post_init__(self):
        check_options(self)


@dataclasses.dataclass(frozen=True)
class Verify:
    """Compare every file of a finished study with the checksums in its manifest."""

    folder: tyro.conf.Positional[Path]
    """Directory of the result."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """Draw the figure of a finished study again, from what is stored."""

    folder: tyro.conf.Positional[Path]
    """Directory of the result."""
    to: Path | None = None
    """The figure's file, .png, .pdf or .svg; figure.png in the directory where none is given."""
    study: Path | None = None
    """The file of a study of one's own, which is executed; it must be the one that was run."""


@dataclasses.dataclass(frozen=True)
class Look:
    """Write a page of a finished study that can be turned round, from what is stored."""

    folder: tyro.conf.Positional[Path]
    """Directory of the result."""
    to: Path | None = None
    """The page's file; STUDY.html in the directory where none is given."""
    study: Path | None = None
    """The file of a study of one's own, which is executed; it must be the one that was run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, which ``python -m symjax`` explains."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale may not know every letter
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except StudyError as error:
        return _say(str(error), WRONG_CALL)
    except BrokenPipeError:
        # Python would try to write what is left once more.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _say("the output was closed before all was printed.", FAILED)
    except MemoryError as error:
        return _say(f"out of memory: {error or 'no more can be had'}.", FAILED)
    except KeyboardInterrupt as error:
        said = str(error) or "interrupted; nothing half-written was left"
        print(f"symjax: {said}", file=sys.stderr)
        return INTERRUPTED


def _say(error: str, status: int) -> int:
    """One line on stderr, whatever is in the message."""
    with contextlib.suppress(OSError):
        print(f"symjax: error: {' '.join(error.split())}", file=sys.stderr)
    return status


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return ALL_HELD
    if words in (["-V"], ["--version"]):
        print(_versions())
        return ALL_HELD
    command, rest = words[0], words[1:]
    prog = f"python -m symjax {command}"
    if command in COMMANDS:
        return run_command(command, rest, prog)
    match command:
        case "list":
            return _list(rest)
        case "run":
            return _run(rest)
        case "reproduce":
            target, how, machine = parse_all(
                [Reproduce, How, Machine], rest, prog, "Run every study."
            )
            if machine.several:
                raise StudyError("reproduce runs in one process; `run` takes several.")
            _settle(machine)
            return reproduce(target.out, seed=target.seed, how=how, watch=watcher())
        case "draw":
            asked = parse(Draw, rest, prog)
            print(draw(asked.folder, asked.to, asked.study))
            return ALL_HELD
        case "look":
            asked = parse(Look, rest, prog)
            print(look(asked.folder, asked.to, asked.study))
            return ALL_HELD
        case "verify":
            stored = require_whole(parse(Verify, rest, prog).folder)
            print(f"{stored['title']}: all {len(stored['files'])} files are as they were written")
            return ALL_HELD
    of_studies = ("list", "run", "reproduce", "draw", "look", "verify")
    raise StudyError(
        f"no command {command!r}; expected one of {', '.join([*of_studies, *COMMANDS])}."
    )


def _versions() -> str:
    """One line that a report of a fault needs."""
    others = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy", "equinox"))
    system = f"{platform.system()} {platform.machine()}"
    ours = sys.modules["symjax"].__version__
    return f"symjax {ours} (Python {platform.python_version()}, {others}, {system})"


def _list(rest: list[str]) -> int:
    if rest:
        raise StudyError(f"list takes no arguments, got {' '.join(rest)}.")
    width = max(map(len, STUDIES))
    for name, title in STUDIES.items():
        print(f"{name:<{width}}  {title}")
    return ALL_HELD


def _run(rest: list[str]) -> int:
    if not rest or rest[0] in ("-h", "--help"):
        print(f"{USAGE}\n\nstudies: {', '.join(STUDIES)}")
        return ALL_HELD
    if rest[0].startswith("-"):
        raise StudyError(f"run needs a study before {rest[0]}; one of {', '.join(STUDIES)}.")
    if {"-h", "--help"} & set(rest):
        return _run_here(rest)
    # Joined first: a word that one process cannot read ends the others, too.
    _settle(parse(Machine, rest[1:], "python -m symjax run", alone=False))
    return end_all(lambda: _run_here(rest))


def _run_here(rest: list[str]) -> int:
    name = rest[0]
    module = load(name)
    config, target, how, _ = parse_all(
        [module.Config, Target, How, Machine],
        rest[1:],
        f"python -m symjax run {name}",
        "Run one study and write its data, figure and report.",
    )
    if jax.process_index():
        follow(name, config, how)
        return ALL_HELD
    result = run_study(name, config, target.out, how, watcher()(name))
    print((target.out / "report.txt").read_text(encoding="utf-8"), end="")
    print(f"\nwritten to {target.out}")
    return ALL_HELD if result.as_expected else NOT_ALL_HELD


def _settle(machine: Machine) -> None:
    """Set jax up; the command line may, the library never does."""
    if machine.cpu_devices is not None:
        jax.config.update("jax_num_cpu_devices", machine.cpu_devices)
    if machine.cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(machine.cache.absolute()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if machine.several:
        join(
            machine.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS"),
            _number(machine.processes, "JAX_NUM_PROCESSES"),
            _number(machine.process, "JAX_PROCESS_ID"),
        )


def _number(given: int | None, variable: str) -> int | None:
    """An option's number, or that of the variable which stands for it."""
    text = os.environ.get(variable)
    if given is not None or not text:
        return given
    if not text.isdecimal():
        raise StudyError(f"{variable} must be a whole number, got {text!r}.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

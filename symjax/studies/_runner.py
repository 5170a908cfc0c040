"""Run a study and put its result in a directory: in steps that survive a kill, and whole at last.

``out/unfinished`` holds the chunks committed so far; ``out`` itself shows a result when all of it
is there, manifest.json last.
"""

import contextlib
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from . import STUDIES
from ._dataset import Stored, finish, write_networks
from ._log import Log, replace_file, require_same
from ._look import page
from ._manifest import identity, manifest
from ._report import report
from ._result import Progress, Result, Statement, StudyError as StudyError
from ._sampling import Study, sample
from ._statistics import Running, Summary, exact, parse_until, table

UNFINISHED = "unfinished"
FAILED = -1
SECONDS_BETWEEN_TABLES = 10.0


@dataclasses.dataclass(frozen=True)
class How:
    """How a study is run; nothing here but ``until`` changes a number."""

    overwrite: bool = False
    """Replace a result of another study or an unfinished run, or write among other files."""
    resume: bool = False
    """Go on where a run of the same command ended; begin one where there is none."""
    chunk: int = 1024
    """Networks that are computed and committed together, rounded up to whole batches."""
    until: str = ""
    """NAME=ERROR[,...]: stop after the chunk that brings a mean's standard error down to this."""

    def __post_init__(self):
        if self.chunk < 1:
            raise ValueError(f"`chunk` must be at least 1, got {self.chunk}.")
        if self.overwrite and self.resume:
            raise ValueError("`overwrite` and `resume` exclude each other.")


def load(name: str) -> ModuleType:
    """The module of a study; StudyError for a name that is not one, or a missing package.

    A name that ends in .py is the file of a study of one's own.
    """
    if name.endswith(".py"):
        path = Path(full_name(name))
        if not path.is_file():
            raise StudyError(f"there is no file {path}.")
        return _from_source(path, path.read_bytes())
    if name not in STUDIES:
        close = difflib.get_close_matches(name, STUDIES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise StudyError(f"there is no study {name!r}.{hint} The studies: {', '.join(STUDIES)}.")
    module = importlib.import_module(f"{__package__}.{name}")
    for package in ("matplotlib", "zarr", *getattr(module, "REQUIRES", ())):
        if importlib.util.find_spec(package) is None:
            wanted = {"sklearn": "scikit-learn"}.get(package, package)
            raise StudyError(
                f"study {name!r} needs {wanted}: pip install 'symjax-symmetry[studies]'"
            )
    return module


def full_name(name: str) -> str:
    """The name under which a result is stored: a file's is its full path."""
    return str(Path(name).resolve()) if name.endswith(".py") else name


def title_of(module: ModuleType) -> str:
    """One line about a study; of one's own, the first line of the file's docstring."""
    package, _, name = module.__name__.rpartition(".")
    if package == __package__:
        return STUDIES[name]
    return (module.__doc__ or name).strip().splitlines()[0].rstrip(".")


@functools.cache  # a Config is an instance of one class, for as long as the file is the same
def _from_source(path: Path, source: bytes) -> ModuleType:
    module = ModuleType(f"_study_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and tyro look there
    exec(compile(source, str(path), "exec"), module.__dict__)
    parts = ("Config", "draw", *(() if hasattr(module, "run") else ("study", "conclude")))
    if missing := [part for part in parts if not hasattr(module, part)]:
        raise StudyError(f"{path} is no study: it has no {' and no '.join(missing)}.")
    return module


def networks_of(module: ModuleType, config: Any) -> Study:
    """What a study measures on networks; none for one that runs as a whole."""
    return module.study(config) if hasattr(module, "study") else Study()


def check_target(out: Path, name: str, overwrite: bool, ignore: Collection[str] = ()) -> None:
    """StudyError unless ``out`` is free, empty, or holds an earlier result of the same study."""
    if not out.exists():
        return
    if not out.is_dir():
        raise StudyError(f"--out {out} is a file; expected a directory to write to.")
    try:
        entries = os.listdir(out)
    except OSError as error:
        raise StudyError(f"--out {out} cannot be read: {error.strerror}.") from error
    if overwrite or all(entry in ignore or entry == UNFINISHED for entry in entries):
        return
    earlier = (_manifest_of(out) or {}).get("study")
    if earlier != name:
        holds = f"a result of {earlier!r}" if earlier else "files that are not a study's result"
        raise StudyError(f"--out {out} holds {holds}; choose another, or add --overwrite.")


def run_study(
    name: str, config: Any, out: Path, how: How | None = None, progress: Progress | None = None
) -> Result:
    """Run a study, then write data.zarr, figure.png, report.txt and manifest.json under ``out``.

    An error or an interrupt leaves ``out/unfinished`` with the networks that are done, for
    ``how.resume``; where there are none it leaves nothing. With `jax.distributed` initialised,
    process 0 calls this and every other one `follow`.

    Raises:
        StudyError: for a study that does not exist, an ``out`` that cannot be written or that holds
            something else, another run to resume, or a missing package; before any work is done.
    """
    module, out, how, name = load(name), Path(out), how or How(), full_name(name)
    progress = progress or (lambda fraction, message: None)
    study = networks_of(module, config)
    try:
        scalars = study.scalars()
        until = parse_until(how.until, scalars)
        log = Log(out / UNFINISHED, identity(name, config, study, until, how.chunk))
        check_target(out, name, how.overwrite)
        if how.resume and (earlier := _manifest_of(out)):
            require_same(out, earlier["identity"], log.identity)
            log.remove()
            agree(study.networks)
            return _finished(module, earlier, out)
        missing = [folder for folder in (out, *out.parents) if not folder.exists()]
        done = _open(log, how)
    except StudyError:
        agree(FAILED)
        raise
    try:
        wall, processor = time.perf_counter(), time.process_time()
        networks = _compute(study, log, done, how.chunk, until, progress)
        result = _write(log, module, config, networks, progress)
        seconds = {
            "wall_seconds": round(time.perf_counter() - wall, 2),
            # All threads together, and the same on a busy machine.
            "processor_seconds": round(time.process_time() - processor, 2),
        }
        means = {name: exact(result.data[name]) for name in scalars} if networks > 1 else {}
        _publish(log, out, title_of(module), config, result, seconds, means)
    except BaseException:
        if not log.exists():
            log.remove()
            with contextlib.suppress(OSError):
                for folder in missing:
                    folder.rmdir()
        raise
    progress(1.0, "done")
    return dataclasses.replace(result, data=Stored(out / "data.zarr"))


def follow(name: str, config: Any, how: How) -> None:
    """The part of every process but the first: compute along, write nothing.

    Raises:
        StudyError: where process 0 refused the run, and says why there.
    """
    study = networks_of(load(name), config)
    start = agree(0)
    if start == FAILED:
        raise StudyError("process 0 refused the run.")
    for _ in sample(study, start, how.chunk):
        if agree(0):
            break


def agree(value: int) -> int:
    """Process 0's value, on every process."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def draw(out: Path, to: Path | None = None) -> Path:
    """Draw the figure of a stored result again, from its arrays alone; returns where it is.

    Raises:
        StudyError: where ``out`` holds no result, or a damaged one, or ``to`` cannot be written.
    """
    _, module = _stored(out)
    figure = module.draw(Stored(Path(out) / "data.zarr"))
    to = Path(to or Path(out) / "figure.png")
    try:
        figure.savefig(to, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise StudyError(f"{to} cannot be written: {error}.") from error
    return to


def look(out: Path, to: Path | None = None) -> Path:
    """Write the page of a stored result that can be turned round, one HTML file; returns where.

    Raises:
        StudyError: as `draw`, for a study without such a page, and where Plotly is missing.
    """
    stored, module = _stored(out)
    name = Path(stored["study"]).stem
    if not hasattr(module, "look"):
        raise StudyError(
            f"nothing in {name} is three-dimensional; its figure is {Path(out) / 'figure.png'}."
        )
    if importlib.util.find_spec("plotly") is None:
        raise StudyError("look needs plotly: pip install 'symjax-symmetry[studies]'")
    try:
        panels = module.look(Stored(Path(out) / "data.zarr"))
    except KeyError as error:
        raise StudyError(
            f"{out} has no array {error}: an older version wrote it. Run the study again."
        ) from None
    to = Path(to or Path(out) / f"{name}.html")
    try:
        to.write_text(page(f"{name}: {stored['title']}", panels), encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{to} cannot be written: {error}.") from error
    return to


def _stored(out: Path) -> tuple[dict[str, Any], ModuleType]:
    """The manifest of a stored result, and the module of its study."""
    stored = _manifest_of(Path(out))
    if stored is None or "study" not in stored:
        raise StudyError(f"{out} holds no finished study.")
    return stored, load(stored["study"])


def _open(log: Log, how: How) -> int:
    """The networks that are there already: an earlier run's, or none in a new log."""
    if log.exists() and not how.overwrite:
        if not how.resume:
            raise StudyError(
                f"{log.folder} is of an unfinished run; add --resume to go on with it, or "
                "--overwrite to begin anew."
            )
        return log.check()
    log.begin()
    return 0


def _compute(
    study: Study,
    log: Log,
    done: int,
    chunk: int,
    until: dict[str, float],
    progress: Progress,
) -> int:
    """Commit chunk after chunk; returns how many networks there are at the end."""
    running, pace = Running(), _Pace(study.networks, next(iter(until), None))
    for start, piece in log.pieces():
        running.add(start, piece)
    if study.networks:
        progress(0.0, "compiling")
    try:
        start = agree(study.networks if running.meets(until) else done)
        for begin, piece in sample(study, start, chunk):
            try:
                log.commit(begin, piece)
            except StudyError:
                agree(True)
                raise
            running.add(begin, piece)
            progress(*pace.tell(running))
            if pace.table_is_due():
                names = {name: running[name] for name in running.names()}
                replace_file(log.folder / "progress.txt", table(names) + "\n")
            if agree(running.meets(until)):
                break
    except (KeyboardInterrupt, StudyError) as error:
        if not running.total:
            raise
        raise type(error)(
            f"{error or 'interrupted'} {running.total} of {study.networks} networks are safe in "
            f"{log.folder}; the same command with --resume goes on from there."
        ) from error
    return running.total


class _Pace:
    """How fast a run is and how long it still takes; the first piece holds the compilation."""

    def __init__(self, networks: int, quantity: str | None):
        self.networks, self.quantity = networks, quantity
        self.first: tuple[float, int] | None = None
        self.last_table = time.monotonic()

    def tell(self, running: Running) -> tuple[float, str]:
        """The fraction that is done, and in words the rate, the time left and one mean."""
        now, done = time.monotonic(), running.total
        words = [f"{done} of {self.networks}"]
        if self.first is None:
            self.first = now, done
        elif now > self.first[0]:
            rate = (done - self.first[1]) / (now - self.first[0])
            words.append(f"{rate:.3g}/s, {(self.networks - done) / rate:.0f} s left")
        name = self.quantity or next(iter(running.names()), None)
        if name is not None:
            words.append(f"{name} {running[name].mean:.4g} ± {running[name].standard_error:.2g}")
        return done / self.networks, ", ".join(words)

    def table_is_due(self) -> bool:
        """Whether the table of all means is old enough to be written again."""
        due = time.monotonic() - self.last_table > SECONDS_BETWEEN_TABLES
        if due:
            self.last_table = time.monotonic()
        return due


def _write(log: Log, module: ModuleType, config: Any, networks: int, progress: Progress) -> Result:
    """The arrays of all networks as one dataset, and what the study concludes from them."""
    work = log.folder / "result"
    shutil.rmtree(work, ignore_errors=True)
    try:
        write_networks(work / "data.zarr", log.pieces(), networks)
        if networks:
            result = module.conclude(config, Stored(work / "data.zarr"))
        else:
            result = module.run(config, progress)
        about = log.identity | {"title": title_of(module), "seed": config.seed}
        finish(work / "data.zarr", result.data, result.units, about)
    except OSError as error:
        raise StudyError(
            f"{work} cannot be written: {error.strerror or error}. All networks are safe; the same "
            "command with --resume writes them again."
        ) from error
    return dataclasses.replace(result, data=Stored(work / "data.zarr"))


def _finished(module: ModuleType, manifest: dict[str, Any], out: Path) -> Result:
    """The result that is stored in ``out``."""
    statements = [Statement(**row) for row in manifest["statements"]]
    units = {name: array["axes_and_unit"] for name, array in manifest["arrays"].items()}
    return Result(Stored(out / "data.zarr"), statements, module.draw, manifest["notes"], units)


def _publish(
    log: Log,
    out: Path,
    title: str,
    config: Any,
    result: Result,
    seconds: dict[str, float],
    means: dict[str, Summary],
) -> None:
    """Draw, report, and move all to ``out``; manifest.json goes first and comes last."""
    work = log.folder / "result"
    description = manifest(title, config, result, seconds, log.identity)
    description["means"] = {name: dataclasses.asdict(mean) for name, mean in means.items()}
    try:
        result.figure(result.data).savefig(work / "figure.png", dpi=150, bbox_inches="tight")
        (work / "report.txt").write_text(report(description, result, table(means) if means else ""))
        (work / "manifest.json").write_text(json.dumps(description, indent=2, default=str) + "\n")
        (out / "manifest.json").unlink(missing_ok=True)
        for entry in sorted(os.listdir(work), key=lambda entry: entry == "manifest.json"):
            if (out / entry).is_dir():
                shutil.rmtree(out / entry)
            os.replace(work / entry, out / entry)
    except OSError as error:
        raise StudyError(f"--out {out} cannot be written: {error.strerror or error}.") from error
    log.remove()


def _manifest_of(out: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((out / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None

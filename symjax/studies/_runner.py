"""Run a study and put its result in a directory: in steps that survive a kill, and whole at last.

``out/unfinished`` holds the chunks committed so far, and at last the whole result, until that is
moved to ``out``, manifest.json last.
"""

import dataclasses
import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ._bounds import check_options, require_disk
from ._dataset import Stored, finish, write_networks
from ._files import DISCARDED, MANIFEST, as_json, checksums, read_manifest, replace_file, sealed
from ._load import full_name, load, networks_of, title_of
from ._lock import NAME as LOCK, Lock
from ._log import PROGRESS, Log, require_same
from ._manifest import identity, manifest
from ._pieces import PUT_ASIDE, Kinds, Piece, arrays, no_exit
from ._report import report
from ._result import Data, Progress, Result, Statement, StudyError as StudyError
from ._sampling import Study, sample
from ._statistics import Running, exact, parse_until, table
from ._together import agree, agree_on, watch
from ._verify import require_whole

UNFINISHED = "unfinished"
OURS = (UNFINISHED, LOCK, DISCARDED)
"""What a run may leave in ``out`` beside a result."""
SECONDS_BETWEEN_TABLES = 10.0


@dataclasses.dataclass(frozen=True)
class How:
    """How a study is run; nothing here but ``until`` changes a number."""

    overwrite: bool = False
    """Write among files that are not of this study, and remove what an unfinished run left."""
    resume: bool = False
    """Go on where a run of the same command ended; begin one where there is none."""
    chunk: int = 1024
    """Networks that are computed and committed together, rounded up to whole batches."""
    until: str = ""
    """NAME=ERROR[,...]: stop after the chunk that brings a mean's standard error down to this."""

    def __post_init__(self):
        if self.chunk < 1:
            raise ValueError(f"`chunk` must be at least 1, got {self.chunk}.")
        check_options(self)
        if self.overwrite and self.resume:
            raise ValueError("`overwrite` and `resume` exclude each other.")


@dataclasses.dataclass(frozen=True)
class _Run:
    """One study with all that it is run with, checked."""

    module: ModuleType
    config: Any
    study: Study
    how: How
    until: dict[str, float]
    identity: dict[str, Any]

    @classmethod
    def of(cls, name: str, config: Any, how: How) -> "_Run":
        """StudyError for options, quantities or sizes that cannot be run."""
        module, name = load(name), full_name(name)
        try:
            check_options(config)
            study = networks_of(module, config)
            until = parse_until(how.until, study.scalars())
            study.require_room(how.chunk)
        except ValueError as error:
            raise StudyError(str(error)) from error
        about = identity(name, config, study, until, how.chunk)
        return cls(module, config, study, how, until, about)

    def require_disk(self, out: Path) -> None:
        """StudyError where the arrays of all networks do not fit on the disk."""
        if not self.until:  # or it may stop long before
            try:
                require_disk(self.study.bytes(), out, f"{self.study.networks} networks")
            except ValueError as error:
                raise StudyError(str(error)) from error


def check_target(out: Path, name: str, how: How, ignore: Collection[str] = ()) -> None:
    """StudyError unless ``out`` is free, empty, or holds an earlier result of the same study.

    To resume, what an unfinished run left will do: it was allowed to begin, and what it had begun
    to move to its place may lack a manifest.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise StudyError(f"--out {out} is a file; expected a directory to write to.")
    try:
        entries = os.listdir(out)
    except OSError as error:
        raise StudyError(f"--out {out} cannot be read: {error.strerror}.") from error
    if how.overwrite or (how.resume and UNFINISHED in entries):
        return
    if all(entry in ignore or entry in OURS for entry in entries):
        return
    earlier = (read_manifest(out) or {}).get("study")
    if earlier != name:
        holds = f"a result of {earlier!r}" if earlier else "files that are not a study's result"
        raise StudyError(f"--out {out} holds {holds}; choose another --out.")


def run_study(
    name: str, config: Any, out: Path, how: How | None = None, progress: Progress | None = None
) -> Result:
    """Run a study, then write data.zarr, figure.png, report.txt and manifest.json under ``out``.

    An error or an interrupt leaves ``out/unfinished`` with the networks that are done, for
    ``how.resume``; where there are none it leaves nothing. With `jax.distributed` initialised,
    process 0 calls this and every other one `follow`; one that fails ends the others.

    Raises:
        StudyError: for a study that does not exist, an ``out`` that cannot be written, that another
            process writes to or that holds something else, another run to resume, or a missing
            package, before any work is done; and for a study that returns what it must not.
    """
    out, how = Path(out), how or How()
    run = _Run.of(name, config, how)
    progress = progress or (lambda fraction, message: None)
    if out.exists() and not out.is_dir():
        raise StudyError(f"--out {out} is a file; expected a directory to write to.")
    run.require_disk(out)
    watch()
    agree_on(run.identity)
    with Lock(out):
        log = Log(out / UNFINISHED, run.identity)
        shutil.rmtree(out / DISCARDED, ignore_errors=True)
        if how.resume and _already_there(log, out):
            agree(run.study.networks)
            return _finished(run.module, out)
        done = _open(log, how, out)
        try:
            result = _run(run, log, done, out, progress)
        except BaseException:
            if not log.exists():
                log.remove()
            raise
    progress(1.0, "done")
    return result


def _already_there(log: Log, out: Path) -> bool:
    """Whether the result is whole in ``out``; moved there now, if that was all that was left."""
    if log.complete():
        stored = read_manifest(log.folder / "result") or {}
        require_same(log.folder, stored.get("identity", {}), log.identity)
        _publish(log, out)
    unfinished = log.exists()
    stored = read_manifest(out)
    if stored is None or "identity" not in stored:
        return False
    same = stored["identity"] == log.plain_identity
    if not unfinished:
        require_same(out, stored["identity"], log.identity)
    if not same:
        return False  # of another run, which the unfinished one is to replace
    try:
        require_whole(out)
    except StudyError:
        if unfinished:
            return False  # damaged, and the networks are at hand
        raise
    if not unfinished or log.owned():  # a rerun that was killed before it had begun leaves a folder
        log.remove()
    return True


def _open(log: Log, how: How, out: Path) -> int:
    """The networks that are there already: an earlier run's, or none in a new log."""
    if log.exists() and not how.overwrite:
        if not how.resume:
            raise StudyError(
                f"{log.folder} is of an unfinished run; add --resume to go on with it, or choose "
                "another --out."
            )
        return log.check()
    check_target(out, log.identity["study"], how)
    log.begin()
    return 0


def _run(run: _Run, log: Log, done: int, out: Path, progress: Progress) -> Result:
    wall, processor = time.perf_counter(), time.process_time()
    networks = _compute(run, log, done, progress)
    aside = {i: error for piece in log.pieces() for i, error in piece.aside.items()}
    result = _write(log, run, networks, aside, progress)
    seconds = {
        "wall_seconds": round(time.perf_counter() - wall, 2),
        # All threads together, and the same on a busy machine.
        "processor_seconds": round(time.process_time() - processor, 2),
    }
    _describe(log, run, result, seconds, aside)
    _publish(log, out)
    return dataclasses.replace(result, data=Stored(out / "data.zarr"))


def follow(name: str, config: Any, how: How) -> None:
    """The part of every process but the first: compute along, write nothing.

    Raises:
        StudyError: where this process was started with anything else than process 0.
    """
    run = _Run.of(name, config, how)
    watch()
    agree_on(run.identity)
    for _ in sample(run.study, agree(0), how.chunk):
        if agree(0):
            break


def _compute(run: _Run, log: Log, done: int, progress: Progress) -> int:
    """Commit chunk after chunk; returns how many networks there are at the end."""
    study, running, kinds = run.study, Running(), Kinds()
    pace = _Pace(study.networks, next(iter(run.until), None))
    for piece in log.pieces():
        _check(piece, kinds)
        running.add(piece)
    if study.networks:
        progress(0.0, "compiling")
    try:
        start = agree(study.networks if running.meets(run.until) else done)
        for piece in sample(study, start, run.how.chunk):
            _check(piece, kinds)
            log.commit(piece)
            running.add(piece)
            progress(*pace.tell(running))
            if pace.table_is_due():
                names = {name: running[name] for name in running.names()}
                replace_file(log.folder / PROGRESS, table(names) + "\n")
            if agree(running.meets(run.until)):
                break
    except (KeyboardInterrupt, StudyError) as error:
        if not running.total:
            raise
        raise type(error)(
            f"{error or 'interrupted'} {running.total} of {study.networks} networks are safe in "
            f"{log.folder}; the same command with --resume goes on from there."
        ) from error
    return running.total


def _check(piece: Piece, kinds: Kinds) -> None:
    """StudyError for a piece unlike the first one, and where no network of that can be measured."""
    where = f"networks {piece.start} to {piece.stop - 1}"
    if piece.rows:
        _ = kinds.check(piece.data, piece.rows, where)
    elif not piece.start:
        network, error = next(iter(piece.aside.items()))
        raise StudyError(f"{where}: none can be measured. Network {network}: {error}")


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


def _write(log: Log, run: _Run, networks: int, aside: dict[int, str], progress: Progress) -> Result:
    """The arrays of all networks as one dataset, and what the study concludes from them."""
    work = log.work
    shutil.rmtree(work, ignore_errors=True)
    try:
        data = (piece.data for piece in log.pieces())
        write_networks(work / "data.zarr", data, networks - len(aside))
        with no_exit("the result was concluded"):
            if run.study.networks:
                result = run.module.conclude(run.config, Stored(work / "data.zarr"))
            else:
                result = run.module.run(run.config, progress)
        more = _more(result, Stored(work / "data.zarr"), aside)
        about = run.identity | {"title": title_of(run.module), "seed": run.config.seed}
        finish(work / "data.zarr", more, result.units, about)
    except OSError as error:
        raise StudyError(
            f"{work} cannot be written: {error.strerror or error}. All networks are safe; the same "
            "command with --resume writes them again."
        ) from error
    statements = [s.without(len(aside)) if aside else s for s in result.statements]
    return dataclasses.replace(result, data=Stored(work / "data.zarr"), statements=statements)


def _more(result: Any, networks: Data, aside: dict[int, str]) -> dict[str, np.ndarray]:
    """The arrays that a study adds to those of its networks, and the numbers of those put aside."""
    if not isinstance(result, Result):
        raise StudyError(f"conclude returned {type(result).__name__}; expected a Result.")
    found = arrays(result.data, "conclude") if result.data else {}
    if twice := sorted(found.keys() & set(networks)):
        raise StudyError(f"conclude returned {', '.join(twice)}, which the networks have already.")
    if aside:
        found[PUT_ASIDE] = np.array(sorted(aside), np.int64)
    return found


def _finished(module: ModuleType, out: Path) -> Result:
    """The result that is stored in ``out``."""
    stored = read_manifest(out) or {}
    rows = [row | {"worst_margin": _number(row["worst_margin"])} for row in stored["statements"]]
    units = {name: array["axes_and_unit"] for name, array in stored["arrays"].items()}
    statements = [Statement(**row) for row in rows]
    return Result(Stored(out / "data.zarr"), statements, module.draw, stored["notes"], units)


def _number(stored: Any) -> float | None:
    return None if stored is None else float(stored)


def _describe(
    log: Log, run: _Run, result: Result, seconds: dict[str, float], aside: dict[int, str]
) -> None:
    """Draw, report, and write the manifest with the checksums of all; then the result is whole."""
    scalars = run.study.scalars() if run.study.networks > 1 else []
    means = {name: exact(result.data[name]) for name in scalars}
    about = manifest(title_of(run.module), run.config, result, seconds, log.identity, aside)
    about["means"] = {name: dataclasses.asdict(mean) for name, mean in means.items()}
    try:
        with no_exit("the figure was drawn"):
            figure = result.figure(result.data)
        figure.savefig(log.work / "figure.png", dpi=150, bbox_inches="tight")
        text = report(about, result, table(means) if means else "", aside)
        replace_file(log.work / "report.txt", text)
        about["files"] = checksums(log.work)
        replace_file(log.work / MANIFEST, as_json(sealed(about)))
        log.finish()
    except OSError as error:
        raise StudyError(
            f"{log.work} cannot be written: {error.strerror or error}. All networks are safe; the "
            "same command with --resume goes on from there."
        ) from error


def _publish(log: Log, out: Path) -> None:
    try:
        log.publish(out)
    except OSError as error:
        raise StudyError(
            f"--out {out} cannot be written: {error.strerror or error}. The result is safe in "
            f"{log.folder}; the same command with --resume moves it to its place."
        ) from error

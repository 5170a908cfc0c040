"""Run a study and put its result in a directory: all of it, or nothing."""

import contextlib
import difflib
import importlib
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import STUDIES
from ._manifest import manifest
from ._report import report
from ._result import Progress, Result


class StudyError(Exception):
    """Something the user can mend: a name, an option, a directory, a missing package."""


def load(name: str) -> ModuleType:
    """The module of a study; StudyError for a name that is not one, or a missing package."""
    if name not in STUDIES:
        close = difflib.get_close_matches(name, STUDIES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise StudyError(f"there is no study {name!r}.{hint} The studies: {', '.join(STUDIES)}.")
    module = importlib.import_module(f"{__package__}.{name}")
    for package in ("matplotlib", *getattr(module, "REQUIRES", ())):
        if importlib.util.find_spec(package) is None:
            wanted = {"sklearn": "scikit-learn"}.get(package, package)
            raise StudyError(
                f"study {name!r} needs {wanted}: pip install 'symjax-symmetry[studies]'"
            )
    return module


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
    if overwrite or all(entry in ignore or _is_stage(entry) for entry in entries):
        return
    try:
        earlier = json.loads((out / "manifest.json").read_text())["study"]
    except (OSError, ValueError, KeyError, TypeError):
        earlier = None
    if earlier != name:
        holds = f"a result of {earlier!r}" if earlier else "files that are not a study's result"
        raise StudyError(f"--out {out} holds {holds}; choose another, or add --overwrite.")


@contextlib.contextmanager
def stage(out: Path) -> Iterator[Path]:
    """A hidden directory on the file system of ``out``, removed at the end whatever happens.

    Making it before any work is what shows that ``out`` can be written.
    """
    home = out
    while not home.exists() and home != home.parent:
        home = home.parent
    try:
        work = Path(tempfile.mkdtemp(prefix=".symjax-", dir=home))
    except OSError as error:
        raise StudyError(f"--out {out} cannot be written: {error.strerror or error}.") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run_study(
    name: str, config: Any, out: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> Result:
    """Run a study, then write data.npz, figure.png, report.txt and manifest.json under ``out``.

    Files appear when all of them are ready; after an error or an interrupt ``out`` is as it was.

    Raises:
        StudyError: for a study that does not exist, an ``out`` that cannot be written or that holds
            something else, or a missing package; before any work is done.
    """
    module, out = load(name), Path(out)
    check_target(out, name, overwrite)
    with stage(out) as work:
        wall, processor = time.perf_counter(), time.process_time()
        result = module.run(config, progress or (lambda fraction, message: None))
        seconds = {
            "wall_seconds": round(time.perf_counter() - wall, 2),
            # All threads together, and the same on a busy machine.
            "processor_seconds": round(time.process_time() - processor, 2),
        }
        _write(work, name, config, result, seconds)
        publish(work, out)
    return result


def publish(work: Path, out: Path) -> None:
    """Move finished files to ``out``: one rename where it is new, file by file where it is not."""
    try:
        if not out.exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            _open_to_readers(work)
            os.rename(work, out)
            return
        (out / "manifest.json").unlink(missing_ok=True)
        for name in sorted(os.listdir(work), key=lambda name: name == "manifest.json"):
            os.replace(work / name, out / name)
    except OSError as error:
        raise StudyError(f"--out {out} cannot be written: {error.strerror or error}.") from error


def _write(work: Path, name: str, config: Any, result: Result, seconds: dict[str, float]) -> None:
    description = manifest(name, STUDIES[name], config, result, seconds)
    text = json.dumps(description, indent=2, default=str)
    # The description travels inside the arrays too, for a data.npz found on its own.
    with open(work / "data.npz", "wb") as file:
        np.savez_compressed(file, manifest=np.array(text), **result.data)  # pyright: ignore
    result.figure(result.data).savefig(work / "figure.png", dpi=150, bbox_inches="tight")
    (work / "report.txt").write_text(report(description, result))
    (work / "manifest.json").write_text(text + "\n")


def _open_to_readers(work: Path) -> None:
    """Give a directory made by mkdtemp (mode 700) the mode that mkdir would have given it."""
    umask = os.umask(0)
    os.umask(umask)
    work.chmod(0o777 & ~umask)


def _is_stage(name: str) -> bool:
    return name.startswith(".symjax-")

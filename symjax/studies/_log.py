"""The networks of a run that is not finished: one file per chunk, each there as a whole or not.

A chunk is an npz file: a zip, whose checksums show what is damaged. It is written beside its place,
flushed to the disk and renamed, so that a kill at any moment leaves whole chunks only. The log is
the list of these files, which must follow one another from network 0; ``manifest.json`` says which
run they belong to, and every file repeats it.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._result import Data, StudyError

MARK = "run"


@dataclasses.dataclass(frozen=True)
class Log:
    """The chunks of one run in one folder; ``identity`` is all that its numbers depend on."""

    folder: Path
    identity: dict[str, Any]

    @property
    def mark(self) -> str:
        """A short name of the run, carried by every chunk."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def exists(self) -> bool:
        """Whether a run has committed anything here; StudyError for somebody else's folder."""
        if not self.folder.exists():
            return False
        names = [name for name in os.listdir(self.folder) if not name.endswith(".part")]
        if names and not {"manifest.json", "result"} & set(names):
            raise StudyError(f"{self.folder} holds files that are not a study's; move it away.")
        return any(name.endswith(".npz") for name in names)

    def begin(self) -> None:
        """Make the folder, which shows that it can be written; what is left there goes."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with _told(self.folder):
            self.folder.mkdir(parents=True)
            replace_file(self.folder / "manifest.json", json.dumps(self.identity, indent=2) + "\n")

    def check(self) -> int:
        """Networks that are committed; StudyError for another run's chunks, gaps and damage."""
        require_same(self.folder, self._stored_identity(), self.identity)
        end = 0
        for start, stop, path in self._files():
            if start != end:
                raise StudyError(f"{self.folder} is damaged: networks {end} to {start} are missing")
            _ = self._read(path)
            end = stop
        return end

    def pieces(self) -> Iterator[tuple[int, Data]]:
        """The committed networks in order: (start, arrays)."""
        for start, _, path in self._files():
            yield start, self._read(path)

    def remove(self) -> None:
        """Remove the log, the last chunk first: what a kill leaves of it is a log again."""
        for path in sorted(self.folder.glob("*.npz"), reverse=True):
            path.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self, start: int, data: Data) -> None:
        """Add networks from ``start`` on; an error leaves what was committed as it was."""
        stop = start + len(next(iter(data.values())))
        path = self.folder / f"{start:010d}-{stop:010d}.npz"
        with _told(path):
            arrays: dict[str, Any] = {MARK: np.array(self.mark), **data}
            _replace(path, lambda file: np.savez(file, **arrays))

    def _stored_identity(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise StudyError(f"{self.folder}/manifest.json cannot be read: {error}.") from error

    def _files(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in sorted(self.folder.glob("*.npz")):
            try:
                start, stop = map(int, path.stem.split("-"))
            except ValueError:
                raise StudyError(f"{path} is not a chunk of this run; move it away.") from None
            found.append((start, stop, path))
        return found

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        try:
            with open(path, "rb") as file, np.load(file) as stored:
                data = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise StudyError(
                f"{path} is damaged ({error}). Remove it and the chunks after it to compute them "
                "again, or start anew with --overwrite."
            ) from error
        if str(data.pop(MARK, "")) != self.mark:
            raise StudyError(f"{path} is of another run; nothing was changed.")
        return data


def require_same(place: Path, stored: dict[str, Any], asked: dict[str, Any]) -> None:
    """StudyError that names what differs between a stored run and the one asked for."""
    stored, asked = _flat(stored), _flat(json.loads(json.dumps(asked)))
    differing = [
        f"{name} is {stored.get(name, 'absent')} there and {asked.get(name, 'absent')} here"
        for name in sorted(stored.keys() | asked.keys())
        if stored.get(name) != asked.get(name)
    ]
    if differing:
        raise StudyError(
            f"{place} is of another run: {'; '.join(differing)}. Nothing was changed. Repeat the "
            "command that began it, choose another --out, or start anew with --overwrite."
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in tree.items():
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def replace_file(path: Path, text: str) -> None:
    """Write a text file that is there as a whole or not at all."""
    _replace(path, lambda file: file.write(text.encode()))


def _replace(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file beside its place, flush it to the disk, and rename it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}.") from error

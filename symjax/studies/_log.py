"""The networks of a run that is not finished: one file per chunk, each there as a whole or not.

A chunk is an npz file: a zip, whose checksums show what is damaged. It is written beside its place,
flushed to the disk and renamed, so that a kill at any moment leaves whole chunks only. The log is
the list of these files, which must follow one another from network 0; ``manifest.json`` says which
run they belong to, and every file repeats it. ``result`` is the finished result, flushed as a whole
before it has that name: from then on the run is done, whatever still happens to it.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._files import (
    MANIFEST,
    as_json,
    differences,
    discard,
    flush,
    flush_tree,
    read_manifest,
    replace,
    replace_file,
    sealed,
    told,
)
from ._result import StudyError
from ._sampling import Piece

MARK, ASIDE, ERRORS, OF = "run", "aside", "errors", "="
"""Arrays of a chunk: its run, networks put aside, why; and before a quantity's name."""
RESULT, PART, PROGRESS = "result", "result.part", "progress.txt"


@dataclasses.dataclass(frozen=True)
class Log:
    """The chunks of one run in one folder; ``identity`` is all that its numbers depend on."""

    folder: Path
    identity: dict[str, Any]

    @property
    def mark(self) -> str:
        """A short name of the run, carried by every chunk."""
        return hashlib.sha256(as_json(self.identity).encode()).hexdigest()

    @property
    def work(self) -> Path:
        """Where the result is put together."""
        return self.folder / PART

    def exists(self) -> bool:
        """Whether a run has committed anything here; StudyError for somebody else's folder."""
        if not self.folder.exists():
            return False
        names = [name for name in os.listdir(self.folder) if not name.endswith(".part")]
        ours = {MANIFEST, RESULT, PROGRESS}
        foreign = [name for name in names if name not in ours and not name.endswith(".npz")]
        if foreign or (names and not {MANIFEST, RESULT} & set(names)):
            raise StudyError(f"{self.folder} holds files that are not a study's; move it away.")
        return RESULT in names or any(name.endswith(".npz") for name in names)

    def begin(self) -> None:
        """Make the folder, which shows that it can be written; what is left there goes."""
        with told(self.folder):
            discard(self.folder)
            self.folder.mkdir(parents=True)
            replace_file(self.folder / MANIFEST, as_json(sealed(self.identity)))
            flush(self.folder.parent)

    @property
    def plain_identity(self) -> dict[str, Any]:
        """The identity as it is read back."""
        return json.loads(as_json(self.identity))

    def owned(self) -> bool:
        """Whether what is here is of this very run."""
        try:
            self.require_own()
        except StudyError:
            return False
        return True

    def require_own(self) -> None:
        """StudyError where the folder is another run's."""
        stored = read_manifest(self.folder)
        if stored is None:
            raise StudyError(f"{self.folder}/{MANIFEST} cannot be read: it is missing.")
        require_same(self.folder, stored, self.identity)

    def check(self) -> int:
        """Networks that are committed; StudyError for another run's chunks, gaps and damage."""
        self.require_own()
        end = 0
        for start, stop, path in self._files():
            if start != end:
                raise StudyError(f"{self.folder} is damaged: networks {end} to {start} are missing")
            _ = self._read(start, stop, path)
            end = stop
        return end

    def pieces(self) -> Iterator[Piece]:
        """The committed networks in order."""
        for start, stop, path in self._files():
            yield self._read(start, stop, path)

    def remove(self) -> None:
        """Remove the log, all of it at once."""
        discard(self.folder)

    def commit(self, piece: Piece) -> None:
        """Add a piece; an error leaves what was committed as it was."""
        path = self.folder / f"{piece.start:010d}-{piece.stop:010d}.npz"
        with told(path):
            arrays: dict[str, Any] = {
                MARK: np.array(self.mark),
                ASIDE: np.array(sorted(piece.aside), np.int64),
                ERRORS: np.array([piece.aside[i] for i in sorted(piece.aside)], np.str_),
                # With something before them, names such as "file" are no arguments of savez.
                **{OF + name: values for name, values in piece.data.items()},
            }
            replace(path, lambda file: np.savez(file, **arrays))

    def complete(self) -> bool:
        """Whether the result is there as a whole, and not yet moved to its place."""
        return (self.folder / RESULT / MANIFEST).is_file()

    def finish(self) -> None:
        """Declare the result in `work` whole: flushed, then named by one rename."""
        flush_tree(self.work)
        os.rename(self.work, self.folder / RESULT)
        flush(self.folder)

    def publish(self, out: Path) -> None:
        """Move the whole result to ``out``, from wherever an earlier attempt was cut short.

        Its manifest goes first and comes last: who finds one finds all that it lists.
        """
        result = self.folder / RESULT
        if self.complete():
            (out / MANIFEST).unlink(missing_ok=True)
            flush(out)
            for name in sorted(os.listdir(result), key=lambda name: name == MANIFEST):
                if name == MANIFEST:
                    flush(out)
                if (out / name).is_dir() and not (out / name).is_symlink():
                    shutil.rmtree(out / name)
                os.replace(result / name, out / name)
            flush(out)
        self.remove()

    def _files(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in sorted(self.folder.glob("*.npz")):
            try:
                start, stop = map(int, path.stem.split("-"))
            except ValueError:
                raise StudyError(f"{path} is not a chunk of this run; move it away.") from None
            found.append((start, stop, path))
        return found

    def _read(self, start: int, stop: int, path: Path) -> Piece:
        try:
            with open(path, "rb") as file, np.load(file) as stored:
                found = {name: stored[name] for name in stored.files}
            mark, errors = str(found.pop(MARK)), found.pop(ERRORS).tolist()
            aside = dict(zip(found.pop(ASIDE).tolist(), errors, strict=True))
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise StudyError(
                f"{path} is damaged ({error}). Nothing was changed. Move it and the chunks after "
                "it to another folder, and --resume computes them again."
            ) from error
        if mark != self.mark:
            raise StudyError(f"{path} is of another run; nothing was changed.")
        data = {name.removeprefix(OF): values for name, values in found.items()}
        return Piece(start, stop, data, aside)


def require_same(place: Path, stored: dict[str, Any], asked: dict[str, Any]) -> None:
    """StudyError that names what differs between a stored run and the one asked for."""
    if differing := differences(stored, asked):
        raise StudyError(
            f"{place} is of another run: {'; '.join(differing)}. Nothing was changed. Repeat the "
            "command that began it, or choose another --out."
        )

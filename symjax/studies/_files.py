"""Files that are there as a whole or not at all, strict JSON, and checksums of what was written.

A file counts as written when its bytes are on the disk and not only in the system's memory, so it
is flushed, and so is the folder that names it. A manifest carries a checksum of itself and of every
file of its result: what was edited or damaged is seen, by people who mean no harm. It is no
signature.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._result import StudyError

MANIFEST = "manifest.json"
FORMAT = 2
"""Of manifests, logs and datasets; a change makes older ones another version's."""
DISCARDED = ".symjax-discarded"
"""What is about to be removed has this name first, so that no half of it is ever met."""


def plain(value: Any) -> Any:
    """As values that strict JSON has: NaN and infinities are the words ``NaN``, ``-Infinity``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def as_json(value: Any) -> str:
    """Strict JSON, indented, with a newline at its end."""
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"


def sealed(about: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with its format and a checksum of itself."""
    about = {"format": FORMAT} | {k: v for k, v in plain(about).items() if k != "checksum"}
    return about | {"checksum": _digest_of(about)}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in a folder, None where there is none.

    Raises:
        StudyError: for one that cannot be read, of another version, or edited.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict) or not isinstance(found.get("study"), str):
        raise StudyError(f"{path} is not of a study.")
    if found.get("format") != FORMAT:
        raise StudyError(
            f"{path} is of another version of symjax: its format is {found.get('format')!r}, this "
            f"version reads {FORMAT}."
        )
    about = {name: value for name, value in found.items() if name != "checksum"}
    if found.get("checksum") != _digest_of(about):
        raise StudyError(f"{path} was edited or is damaged: its checksum is not that of its text.")
    return found


def _digest_of(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a folder but its manifest."""
    found = {}
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST:
            found[name] = {"bytes": path.stat().st_size, "sha256": digest_of_file(path)}
    return found


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_tree(folder: Path) -> None:
    """Have every file and folder below one on the disk, and the folder itself."""
    for path in files_below(folder):
        flush(path)
    for below, _, _ in os.walk(folder, topdown=False):
        flush(Path(below))


def flush(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if (
            not path.is_dir()
        ):  # some network file systems flush names at once and refuse to be asked
            raise
    finally:
        os.close(handle)


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def replace_file(path: Path, text: str) -> None:
    """Write a text file that is there as a whole or not at all."""
    replace(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def replace(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file beside its place, flush it to the disk, and rename it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        flush(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def discard(folder: Path) -> None:
    """Remove a folder; a kill leaves all of it, or a rest under another name, and no half."""
    gone = folder.with_name(DISCARDED)
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def told(path: Path | str) -> Iterator[None]:
    """Tell an error of writing as one of the user's that names the place."""
    try:
        yield
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}.") from error


def differences(
    stored: dict[str, Any], asked: dict[str, Any], there: str = "there", here: str = "here"
) -> list[str]:
    """What two identities do not agree in, each in words."""
    stored, asked = (
        {k: v for k, v in _flat(json.loads(as_json(tree))).items() if k != "checksum"}
        for tree in (stored, asked)
    )
    return [
        f"{name} is {stored.get(name, 'absent')} {there} and {asked.get(name, 'absent')} {here}"
        for name in sorted(stored.keys() | asked.keys())
        if stored.get(name) != asked.get(name)
    ]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, value in plain(tree).items():
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found

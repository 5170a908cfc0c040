"""Files written beside their place and moved into it, and packages that read them."""

import contextlib
import importlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._checks import require


def package(name: str, extra: str) -> Any:
    """A package of an extra, or an ImportError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"This format needs the package {name.partition('.')[0]}: pip install "
            f"'symjax-symmetry[{extra}]'. (The import said: {error})"
        ) from error


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name beside ``path`` for what is being written, moved there by one rename at the end.

    Whatever goes wrong before leaves nothing, and ``path`` must not exist.
    """
    require_new(path)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        _settle(part)
        require_new(path)
        os.rename(part, path)
    except OSError as error:
        raise ValueError(f"`path` cannot be written: {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)


def require_new(path: Path) -> None:
    """ValueError unless a path can be made: it does not exist, and its folder can be written to."""
    require(not os.path.lexists(path), f"`path` exists: {path}; remove it or choose another name.")
    require(path.parent.is_dir(), f"`path` is in a folder that does not exist: {path}.")
    require(os.access(path.parent, os.W_OK), f"`path` is in a folder that is read-only: {path}.")


def _settle(part):
    """On the disk before it is moved, so that a machine that stops leaves no half of it."""
    for file in [part] if part.is_file() else part.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

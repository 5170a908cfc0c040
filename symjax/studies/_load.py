"""The module of a study, by its name or from a file of one's own."""

import difflib
import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from .._compatibility import install
from . import STUDIES
from ._files import digest_of_file
from ._pieces import in_words, no_exit
from ._result import StudyError
from ._sampling import Study

NEEDED = ("matplotlib", "zarr")
"""Packages without which no result can be written."""
EXTRA = install("studies")
"""What brings everything that a study needs."""


def load(name: str) -> ModuleType:
    """The module of a study; StudyError for a name that is not one, or a missing package.

    A name that ends in .py is the file of a study of one's own, and is executed.
    """
    if name.endswith(".py"):
        path = Path(full_name(name))
        if not path.is_file():
            raise StudyError(f"there is no file {path}.")
        _require_packages(name, NEEDED)
        return _from_source(path, path.read_bytes())
    if name not in STUDIES:
        close = difflib.get_close_matches(name, STUDIES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise StudyError(f"there is no study {name!r}.{hint} The studies: {', '.join(STUDIES)}.")
    _require_packages(name, NEEDED)
    module = importlib.import_module(f"{__package__}.{name}")
    _require_packages(name, getattr(module, "REQUIRES", ()))
    return module


def load_stored(stored: dict[str, Any], file: Path | None) -> ModuleType:
    """The module of a stored result's study; nothing that the result names is executed.

    For a study of one's own that is ``file``, which must be the one that made the result.

    Raises:
        StudyError: where a file is needed and not given, or is another one.
    """
    name = stored["study"]
    if name in STUDIES:
        if file is not None:
            raise StudyError(f"--study {file}: this is a result of {name!r}, which needs no file.")
        return load(name)
    if file is None:
        raise StudyError(
            f"this is a result of a study of one's own, {Path(name).name}; name its file with "
            "--study FILE.py. It is executed, so let it be one that you know."
        )
    if not file.is_file():
        raise StudyError(f"--study {file}: there is no such file.")
    if digest_of_file(file) != stored.get("identity", {}).get("file"):
        raise StudyError(f"--study {file} is not the file that made this result: it has changed.")
    return load(str(file))


def full_name(name: str) -> str:
    """The name under which a result is stored: a file's is its full path."""
    return str(Path(name).resolve()) if name.endswith(".py") else name


def title_of(module: ModuleType) -> str:
    """One line about a study; of one's own, the first line of the file's docstring."""
    package, _, name = module.__name__.rpartition(".")
    if package == __package__:
        return STUDIES[name]
    return ((module.__doc__ or "").strip() or name).splitlines()[0].rstrip(".")


def networks_of(module: ModuleType, config: Any) -> Study:
    """What a study measures on networks; none for one that runs as a whole.

    Raises:
        StudyError: for options that the study refuses.
    """
    if not hasattr(module, "study"):
        return Study()
    try:
        with no_exit("study(config) was called"):
            study = module.study(config)
    except (ValueError, MemoryError) as error:
        raise StudyError(f"study(config): {error or 'out of memory'}") from error
    if not isinstance(study, Study):
        raise StudyError(f"study(config) returned {type(study).__name__}; expected a Study.")
    return study


def _require_packages(study: str, packages: tuple[str, ...]) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            wanted = {"sklearn": "scikit-learn"}.get(package, package)
            raise StudyError(f"study {study!r} needs {wanted}: {EXTRA}") from None


@functools.cache  # a Config is an instance of one class, for as long as the file is the same
def _from_source(path: Path, source: bytes) -> ModuleType:
    module = ModuleType(f"_study_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and tyro look there
    try:
        with no_exit("its file was read"):
            exec(compile(source, str(path), "exec"), module.__dict__)
    except (SyntaxError, ImportError, ValueError) as error:
        raise StudyError(f"{path} cannot be read: {in_words(error)}.") from error
    parts = ("Config", "draw", *(() if hasattr(module, "run") else ("study", "conclude")))
    if missing := [part for part in parts if not hasattr(module, part)]:
        raise StudyError(f"{path} is no study: it has no {' and no '.join(missing)}.")
    return module

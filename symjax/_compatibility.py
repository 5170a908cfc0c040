"""What is looked at once, on import: a jaxlib that can hang, and a stranger of the same name.

Both only warn: the person may know better, and nothing here may break an import that works. No
JAX backend is started to find out. `install` is the command that brings an extra.
"""

import importlib.metadata
import os
import re
import shlex
import warnings
from collections.abc import Iterable
from pathlib import Path

# The name of ours to install, and that of an unrelated package which installs the same folder.
_OURS, _STRANGER = "symjax-symmetry", "symjax"
# Files of ours that removing or overwriting that package takes away.
_FILES = ("__init__.py", "actions/__init__.py", "curves.py", "groups/__init__.py", "py.typed")


def warn_of_trouble() -> None:
    """Warn of what is known to go wrong in this environment; silent in a sound one."""
    here = Path(__file__).parent
    for message in (
        hanging_jaxlib(_version("jaxlib"), os.environ.get("JAX_PLATFORMS", "")),
        collision(_files_of(_STRANGER), [f for f in _FILES if not (here / f).exists()]),
    ):
        if message:
            warnings.warn(message, RuntimeWarning, stacklevel=4)


def hanging_jaxlib(version: str | None, platforms: str) -> str | None:
    """What to say about a jaxlib whose CPU backend can wait for itself for ever; None for others.

    From 0.9.1 to 0.11.0 two batched LAPACK calls (solve, inv, svd, ...) that run at the same time
    in one compiled program block the pool of threads that they wait for. ``platforms`` is
    JAX_PLATFORMS: where it leaves out the CPU nothing can hang.
    """
    if version is None or (platforms and "cpu" not in platforms.lower().split(",")):
        return None
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    release = tuple(int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if not (0, 9, 1) <= release <= (0, 11, 0):
        return None
    return (
        f"jaxlib {version} can hang for ever on the CPU when two batched linear-algebra calls run "
        "at once (0.9.1 to 0.11.0 do). Install another: pip install "
        "'jax>=0.8,!=0.9.1,!=0.9.2,!=0.10.*,!=0.11.0', or set "
        "XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false."
    )


def collision(strangers: Iterable[str] | None, missing: Iterable[str]) -> str | None:
    """What to say where the unrelated package that is also called symjax is, or was, installed.

    ``strangers`` are the files that a distribution of that name says it owns, None where there is
    none; ``missing`` are files of ours that should be here.
    """
    missing = list(missing)
    shared = [f for f in strangers or () if f.startswith("symjax/")]
    if not missing and not shared:
        return None
    found = (
        f"An unrelated distribution named '{_STRANGER}' is installed and writes to the same folder"
        if shared
        else f"Files of symjax are missing ({', '.join(missing)}): another package overwrote it"
    )
    return (
        f"{found}. Mend it: pip uninstall -y {_STRANGER} {_OURS}, then install {_OURS} again from "
        "its source (see its README)."
    )


def install(extra: str) -> str:
    """The command that brings an extra's packages: by their names, so that it works from any index.

    The extra's own name would need symjax on the index, under the name of its distribution.
    """
    return "pip install " + " ".join(map(shlex.quote, _requirements(extra))).strip()


def _requirements(extra: str) -> list[str]:
    """What an extra asks for, the extras it names itself unfolded."""
    try:
        lines = importlib.metadata.requires(_OURS) or ()
    except importlib.metadata.PackageNotFoundError:  # a copy of the sources on the path
        return [f"{_OURS}[{extra}]"]
    found: dict[str, None] = {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        if re.search(rf"extra == ['\"]{extra}['\"]", marker) is None:
            continue
        inner = re.fullmatch(rf"{_OURS}\[(.+)\]", requirement.strip())
        names = [requirement.strip()]
        if inner:
            names = [n for e in inner[1].split(",") for n in _requirements(e.strip())]
        found |= dict.fromkeys(names)
    return list(found) or [f"{_OURS}[{extra}]"]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _files_of(name: str) -> list[str] | None:
    try:
        files = importlib.metadata.distribution(name).files
    except importlib.metadata.PackageNotFoundError:
        return None
    # A distribution that lists no files is still one that installs this folder.
    return [f.as_posix() for f in files] if files is not None else ["symjax/__init__.py"]


# Here, not in the package's __init__: it must come before the imports that a missing file breaks.
warn_of_trouble()

"""What a result says about itself: configuration, versions, device, and the meaning of arrays."""

import dataclasses
import datetime
import hashlib
import importlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ._files import FORMAT, digest_of_file
from ._result import Result
from ._sampling import Study

PACKAGES = (
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "zarr",
)
ERRORS = 1000
"""Networks put aside whose errors the manifest lists; the dataset has all their numbers."""


def identity(
    name: str, config: Any, study: Study, until: dict[str, float], chunk: int
) -> dict[str, Any]:
    """All that the bits of a study's arrays depend on: two runs agree in it or are two runs.

    The number of devices and processes is not among it.
    """
    device = jax.devices()[0]
    return {
        "study": name,
        "format": FORMAT,
        "configuration": dataclasses.asdict(config),
        # Where a run stops early is a matter of when it looks.
        "until": {**until, "chunk": chunk} if until else {},
        "batch": study.width,
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "processor": _processor() if device.platform == "cpu" else "",
        },
        "versions": {
            "symjax": importlib.import_module(__name__.split(".")[0]).__version__,
            **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")},
        },
        "sources": _digest_of_sources(),
        # Of a study of one's own, which no package holds.
        "file": digest_of_file(Path(name)) if name.endswith(".py") else "",
    }


def manifest(
    title: str,
    config: Any,
    result: Result,
    seconds: dict[str, float],
    identity: dict[str, Any],
    aside: Mapping[int, str],
) -> dict[str, Any]:
    """The description of a result, as plain values for JSON."""
    device = jax.devices()[0]
    arrays = {key: (array.shape, array.dtype) for key, array in result.data.items()}
    return {
        "study": identity["study"],
        "title": title,
        "seed": config.seed,
        "configuration": dataclasses.asdict(config),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **seconds,
        "versions": {"python": platform.python_version()} | _versions(),
        "git_revision": _revision(),
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "arrays": {
            key: {
                "shape": list(shape),
                "dtype": str(dtype),
                "axes_and_unit": result.units.get(key, ""),
            }
            for key, (shape, dtype) in arrays.items()
        },
        "statements": [dataclasses.asdict(statement) for statement in result.statements],
        "notes": result.notes,
        "put_aside": {
            "networks": len(aside),
            "errors": {str(i): aside[i] for i in sorted(aside)[:ERRORS]},
        },
        "identity": identity,
    }


def _processor() -> str:
    """The model of the processor, whose instructions decide the last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _digest_of_sources() -> str:
    """A digest of symjax's own source files: a revision, also where there is no repository."""
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {}
    for package in ("symjax-symmetry", *PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _revision() -> str | None:
    """The git revision of this package's sources, with -dirty; None outside its repository."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here.parent), *arguments],
            capture_output=True,
            check=True,
            text=True,
            timeout=10,
        ).stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository, which does not track it.
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--match=")
    except (OSError, subprocess.SubprocessError):
        return None

"""What a result says about itself: configuration, versions, device, and the meaning of arrays."""

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from ._result import Result

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "scikit-learn", "matplotlib")


def manifest(
    name: str, title: str, config: Any, result: Result, seconds: dict[str, float]
) -> dict[str, Any]:
    """The description of a result, as plain values for JSON."""
    device = jax.devices()[0]
    return {
        "study": name,
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
        },
        "arrays": {
            key: {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "axes_and_unit": result.units.get(key, ""),
            }
            for key, array in result.data.items()
        },
        "statements": [dataclasses.asdict(statement) for statement in result.statements],
        "notes": result.notes,
    }


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

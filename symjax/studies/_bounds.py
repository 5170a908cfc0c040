"""What is refused before any work: numbers out of range, and arrays that cannot fit."""

import dataclasses
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import require
from .._jaxprs import programs_of

COUNTS, SEEDS = 2**31, 2**32
"""Counts are indices of 32 bits; seeds that agree in their last 32 bits are one seed to jax."""


def check_options(config: Any) -> None:
    """ValueError for a field of a configuration whose number no study can use.

    Whole numbers are below 2^31 in size, seeds from 0 to 2^32 - 1, and other numbers are finite,
    unless the default is not.
    """
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        if name == "seed":
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(
                whole and 0 <= value < SEEDS,
                f"`seed` must be a whole number from 0 to 2^32 - 1, got {_short(value)}.",
            )
        elif isinstance(value, int) and not isinstance(value, bool):
            require(
                abs(value) < COUNTS, f"`{name}` must be below 2^31 in size, got {_short(value)}."
            )
        elif isinstance(value, float):
            default = field.default
            free = isinstance(default, float) and not math.isfinite(default)
            require(free or math.isfinite(value), f"`{name}` must be finite, got {value}.")


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, int) and abs(value) > 1e18 else repr(value)
    return text[:60]


def require_memory(needed: float, what: str) -> None:
    """ValueError where so many bytes are more than this machine's memory."""
    there = memory()
    require(
        needed <= there,
        f"{what} needs {in_bytes(needed)} of memory, and there are {in_bytes(there)}.",
    )


def require_disk(needed: float, folder: Path, what: str) -> None:
    """ValueError where so many bytes are more than what is free where ``folder`` is."""
    folder = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        there = shutil.disk_usage(folder).free
    except OSError:
        return
    require(
        needed <= there,
        f"{what} needs {in_bytes(needed)} on the disk of {folder}, and {in_bytes(there)} are free.",
    )


def memory() -> float:
    """Bytes of memory that this process may have at most: the machine's, or its group's limit."""
    there = math.inf
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            there = min(there, float(Path(limit).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    try:
        there = min(there, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        pass
    return there


def in_bytes(number: float) -> str:
    """A number of bytes in words, with the largest unit that leaves a number above 1."""
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} PB"


def largest_array(jaxpr: Any) -> int:
    """Bytes of the largest array that a traced program makes: it needs at least these."""
    found = 0
    for inner in _every(getattr(jaxpr, "jaxpr", jaxpr)):
        for equation in inner.eqns:
            found = max([found, *(_size(v.aval) for v in equation.outvars)])
    return found


def _every(jaxpr: Any) -> Iterator[Any]:
    yield jaxpr
    for equation in jaxpr.eqns:
        for inner in programs_of(equation):
            yield from _every(inner)


def _size(aval: Any) -> int:
    shape = getattr(aval, "shape", ())
    if not all(isinstance(n, int) for n in shape) or not hasattr(aval, "dtype"):
        return 0
    if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key):
        return math.prod(shape) * 8
    return math.prod(shape) * np.dtype(aval.dtype).itemsize

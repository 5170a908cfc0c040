"""Checkpoints in several files, with an index that says which array is in which."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._checks import require
from ._files import beside

INDEX = ".index.json"


def read(path: Path, read_one: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The arrays of all shards, in the order of the shards."""
    arrays: dict[str, Any] = {}
    for shard, names in shards(path).items():
        file = path.parent / shard
        require(file.is_file(), f"`path` names the shard {shard}, which does not exist: {path}.")
        found = read_one(file)
        wrong = sorted(set(found) ^ set(names))
        require(
            not wrong,
            f"`path` and its shard {shard} do not hold the same arrays: {wrong[:1]} is in one "
            f"of them ({path}).",
        )
        arrays |= found
    return arrays


def shards(path: Path) -> dict[str, list[str]]:
    """For each file that an index names, the arrays in it."""
    try:
        where = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        pairs = list(where.items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`path` is no index of shards: {path}: {error!r}.") from error
    files: dict[str, list[str]] = {}
    for name, shard in pairs:
        plain = isinstance(shard, str) and Path(shard).name == shard
        require(plain, f"`path` names a shard outside of its own folder, {shard!r}: {path}.")
        files.setdefault(shard, []).append(name)
    return files


def write(path: Path, arrays: dict[str, Any], like: Path, write_one: Callable[..., None]) -> None:
    """The same arrays in the same files as another index has them, the index last."""
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(beside(path))  # left last, so moved last
        for shard, names in shards(like).items():
            part = stack.enter_context(beside(path.parent / shard))
            write_one(part, {name: arrays[name] for name in names}, like.parent / shard)
        shutil.copyfile(like, index)

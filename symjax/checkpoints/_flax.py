"""Flax's ``.msgpack``: trees of arrays, by Flax itself."""

from pathlib import Path
from typing import Any

import numpy as np

from .._checks import require
from . import _tree
from ._files import package

EXTRA = "flax"


def read(path: Path) -> dict[str, Any]:
    """The arrays in the order of the file."""
    return {name: np.asarray(x) for name, _, _, x in _tree.leaves(_state(path))}


def write(path: Path, arrays: dict[str, Any], like: Path | None) -> None:
    """The arrays in a new file, as a tree with ``/`` in the names, or that of another."""
    narrow = [x.dtype.name for x in arrays.values() if x.dtype.kind == "V"]
    odd = [word for word in narrow if word != "bfloat16"]
    require(not odd, f"`params` has {odd[:1]}, which Flax writes and does not read.")
    tree = _tree.put_back(_state(like), arrays) if like else _tree.nested(arrays)
    # In place: a copy of it would be sorted.
    path.write_bytes(package("flax.serialization", EXTRA).msgpack_serialize(tree, in_place=True))


def _state(path):
    serialization = package("flax.serialization", EXTRA)
    try:
        tree = serialization.msgpack_restore(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # msgpack has its own, and NumPy's come through
        raise ValueError(f"`path` is no whole file of Flax: {path}: {error!r}.") from error
    require(isinstance(tree, dict), f"`path` holds no tree of arrays: {path}.")
    return tree

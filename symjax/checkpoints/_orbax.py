"""Folders of Orbax: trees of arrays, by Orbax itself."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._checks import first_line, require
from . import _tree
from ._files import package

EXTRA = "checkpoints"


def is_one(folder: Path) -> bool:
    """Whether a folder is a tree that Orbax saved."""
    return (folder / "_METADATA").is_file()


def read(path: Path) -> dict[str, Any]:
    """The arrays of the tree, on the host."""
    return {name: np.asarray(x) for name, _, _, x in _tree.leaves(_restored(path))}


def write(path: Path, arrays: dict[str, Any], like: Path | None) -> None:
    """The arrays in a new folder, as a tree with ``/`` in the names, or that of another."""
    empty = [name for name, x in arrays.items() if not x.size]
    require(not empty, f"`params` has an array without entries, which Orbax refuses: {empty[:1]}.")
    tree = _tree.put_back(_restored(like), arrays) if like else _tree.nested(arrays)
    with package("orbax.checkpoint", EXTRA).PyTreeCheckpointer() as orbax:
        orbax.save(path.absolute(), tree)


def _restored(path):
    ocp = package("orbax.checkpoint", EXTRA)
    try:
        with ocp.PyTreeCheckpointer() as orbax:
            known: Any = orbax.metadata(path.absolute())
            tree = known.item_metadata.tree
            return orbax.restore(path.absolute(), restore_args=jax.tree.map(_as_saved(ocp), tree))
    except Exception as error:  # of Orbax, of TensorStore, and of JSON
        raise ValueError(
            f"`path` is no whole checkpoint of Orbax: {path}: {first_line(error)}."
        ) from error


def _as_saved(ocp):
    """How a leaf is restored: an array as NumPy's, a number as it is."""
    is_number = lambda leaf: type(leaf).__name__ == "ScalarMetadata"
    array = ocp.RestoreArgs(restore_type=np.ndarray)
    return lambda leaf: ocp.RestoreArgs() if is_number(leaf) else array

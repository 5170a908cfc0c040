"""NumPy's ``.npz``. Dtypes like bfloat16, which NumPy's files do not know, are bytes there."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import require


def read(path: Path) -> dict[str, Any]:
    """The arrays in the order of the file; a pickled object is refused unread."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            require(hasattr(file, "files"), f"`path` is one array and no .npz: {path}.")
            return {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"`path` is no whole .npz of arrays: {path}: {error}") from error


def write(path: Path, arrays: dict[str, Any], like: Path | None) -> None:
    """The arrays in a new file, compressed where another is."""
    kind = zipfile.ZIP_STORED
    if like:
        with zipfile.ZipFile(like) as file:
            kind = next((x.compress_type for x in file.infolist()), kind)
    with zipfile.ZipFile(path, "w", kind, allowZip64=True) as file:
        for name, x in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, x, allow_pickle=False)

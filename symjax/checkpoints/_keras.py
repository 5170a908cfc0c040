"""Keras' ``.weights.h5`` and other files of HDF5, by their datasets."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ._files import package

EXTRA = "checkpoints"


def read(path: Path) -> dict[str, Any]:
    """The datasets of numbers by their paths."""
    with _opened(path, "r") as file:
        return {name: np.asarray(file[name][()]) for name in _datasets(file)}


def write(path: Path, arrays: dict[str, Any], like: Path | None) -> None:
    """A copy of another file with other numbers in it, or a new one with these alone."""
    if like:
        shutil.copyfile(like, path)
    with _opened(path, "r+" if like else "w") as file:
        for name, x in arrays.items():
            if like:
                file[name][()] = x
            else:
                file.create_dataset(name, data=x, track_order=True)


def _opened(path, mode):
    try:
        return package("h5py", EXTRA).File(path, mode)
    except OSError as error:
        raise ValueError(f"`path` is no whole file of HDF5: {path}: {error}.") from error


def _datasets(file):
    h5py, names = package("h5py", EXTRA), []

    def look(name, x):
        if isinstance(x, h5py.Dataset) and x.shape is not None and x.dtype.kind in "biufcV":
            names.append(name)

    file.visititems(look)
    return names

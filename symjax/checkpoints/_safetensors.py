"""Files of safetensors."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ._files import package

EXTRA = "checkpoints"
_NARROW = {  # which the package's NumPy half has no name for
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


def read(path: Path) -> dict[str, Any]:
    """The arrays in the order of the file."""
    safetensors = package("safetensors", EXTRA)
    try:
        with safetensors.safe_open(path, "np") as file:
            names = file.offset_keys()
            dtypes = {name: file.get_slice(name).get_dtype() for name in names}
            plain = {name: file.get_tensor(name) for name in names if dtypes[name] not in _NARROW}
        narrow = {name: _NARROW[x] for name, x in dtypes.items() if x in _NARROW}
        raw = dict(safetensors.deserialize(path.read_bytes())) if narrow else {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"`path` is no whole file of safetensors: {path}: {error}.") from error
    made = {
        name: np.frombuffer(raw[name]["data"], x).reshape(raw[name]["shape"])
        for name, x in narrow.items()
    }
    return {name: (made if name in made else plain)[name] for name in names}


def write(path: Path, arrays: dict[str, Any], like: Path | None) -> None:
    """The arrays in a new file, with the metadata of another."""
    safetensors = package("safetensors.numpy", EXTRA)
    try:
        safetensors.save_file(arrays, path, metadata(like) if like else None)
    except package("safetensors", EXTRA).SafetensorError as error:
        raise ValueError(f"`params` does not fit into safetensors: {error}.") from error


def metadata(path: Path) -> dict[str, str] | None:
    """The words that a file has beside its arrays."""
    with package("safetensors", EXTRA).safe_open(path, "np") as file:
        return file.metadata()

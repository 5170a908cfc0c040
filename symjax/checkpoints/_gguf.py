"""GGUF, for reading: numbers that are quantised there come out as float32."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ._files import package

EXTRA = "checkpoints"
_PLAIN = {"F64", "F32", "F16", "I8", "I16", "I32", "I64"}


def read(path: Path) -> dict[str, Any]:
    """The tensors in the order of the file, by the names that llama.cpp gives them."""
    gguf = package("gguf", EXTRA)
    try:
        return {x.name: _array(gguf, x) for x in gguf.GGUFReader(path).tensors}
    except (ValueError, KeyError, IndexError, NotImplementedError) as error:
        raise ValueError(f"`path` is no whole file of GGUF: {path}: {error}.") from error


def _array(gguf, x):
    if x.tensor_type.name in _PLAIN:
        return np.array(x.data)
    wide = gguf.quants.dequantize(x.data, x.tensor_type)
    return wide.astype(ml_dtypes.bfloat16) if x.tensor_type.name == "BF16" else wide

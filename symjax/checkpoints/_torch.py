"""PyTorch's ``.pt``, ``.pth``, ``.ckpt`` and ``.bin``: the weights alone, by torch itself.

A file of PyTorch is a pickle, and unpickling runs what the file says. With ``weights_only`` torch
interprets a few harmless instructions itself and refuses all others.
"""

import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from .._checks import first_line, require
from ._files import package
from ._tree import leaves

EXTRA = "torch"


def read(path: Path) -> dict[str, Any]:
    """The tensors by name; those of dictionaries inside have the names of both, with a dot."""
    return {name: _array(name, x) for name, _, _, x in _places(_state(path))}


def write(path: Path, arrays: dict[str, Any], like: Path | None) -> None:
    """The tensors in a new file, beside whatever else is in another; one array is one storage."""
    torch = package("torch", EXTRA)
    made = {id(x): _tensor(torch, x) for x in arrays.values()}
    tensors = {name: made[id(x)] for name, x in arrays.items()}
    state: Any = tensors
    if like:
        state = _state(like)
        for name, holder, key, old in list(_places(state)):
            new = tensors[name]
            holder[key] = torch.nn.Parameter(new, old.requires_grad) if _is_parameter(old) else new
    torch.save(state, path)


def _state(path):
    torch = package("torch", EXTRA)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"`path` is not a whole file of tensors alone, and nothing else is ever unpickled: "
            f"{path}: {first_line(error)}"
        ) from error
    require(isinstance(state, dict), f"`path` holds no dictionary of tensors: {path}.")
    return state


def _places(state):
    """(name, container, key, tensor) for the tensors in dictionaries and lists."""
    return leaves(state, package("torch", EXTRA).Tensor, ".")


def _is_parameter(x):
    return isinstance(x, package("torch", EXTRA).nn.Parameter)


def _array(name, x):
    torch = package("torch", EXTRA)
    require(
        x.layout is torch.strided and not x.is_quantized,
        f"`path` holds a tensor that is not dense, {name!r}.",
    )
    x = x.detach().resolve_conj().resolve_neg().contiguous()
    word = str(x.dtype).removeprefix("torch.")
    if word != "bfloat16" and not word.startswith("float8"):
        return x.numpy()
    whole = x.view(torch.int16 if x.element_size() == 2 else torch.uint8)  # NumPy lacks these
    return whole.numpy().view(getattr(ml_dtypes, word))


def _tensor(torch, x):
    if x.dtype.kind != "V":
        return torch.from_numpy(np.array(x.astype(x.dtype.newbyteorder("="), copy=False)))
    kind = getattr(torch, x.dtype.name, None)
    require(kind is not None, f"`params` has {x.dtype}, which PyTorch does not have.")
    return torch.from_numpy(x.view(f"i{x.dtype.itemsize}").copy()).view(kind)

"""`load` and `save`: the format by the name of the file, be it one file, several or a folder."""

import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._checks import describe, require
from . import _flax, _gguf, _keras, _numpy, _orbax, _safetensors, _sharded, _torch
from ._files import beside, require_new
from ._names import flat
from ._replace import replaced
from ._sharded import INDEX

FORMATS: dict[str, Any] = {
    ".safetensors": _safetensors,
    ".npz": _numpy,
    ".pt": _torch,
    ".pth": _torch,
    ".ckpt": _torch,
    ".bin": _torch,
    ".msgpack": _flax,
    ".h5": _keras,
    ".hdf5": _keras,
    ".gguf": _gguf,
}
"""By the end of a name; a name without one is a folder of Orbax."""
IN_FOLDERS = tuple(
    name + end
    for name in ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
    for end in ("", INDEX)
)
"""What the weights in a folder of Hugging Face are called, in the order in which it looks."""
OTHER_WEIGHTS = (".onnx", ".ot", ".tflite", ".pb", ".mlmodel", ".xml")
"""Not read here, and not copied beside weights that are not those any more."""


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name, in the order of the file, on the host.

    ``path`` is a file (``.safetensors``, ``.npz``, ``.pt``, ``.pth``, ``.ckpt``, ``.bin``,
    ``.msgpack``, ``.h5``, ``.gguf``), an index of several (``*.safetensors.index.json``), a folder
    of Orbax, or one of Hugging Face, whose weights are read. Every array has the dtype of the file;
    bfloat16 and narrower ones are those of ``ml_dtypes``, which JAX knows, too. NumPy's own files
    do not name these, and they are bytes there (``V2``). What GGUF has quantised is float32.

    No file is unpickled, so none can run anything: of PyTorch's, torch reads the weights alone.

    Raises ValueError for a path that does not exist or a file that is not whole. Raises ImportError
    where the package that reads the format is not installed, and says which.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "weights.npz"
        >>> save(file, {"dense": {"kernel": jnp.ones((2, 3))}})
        >>> {name: x.shape for name, x in load(file).items()}
        {'dense/kernel': (2, 3)}
    """
    return _read(weights_in(_existing(path, "path")))


def save(path: str | os.PathLike, params: PyTree, like: str | os.PathLike | None = None) -> None:
    """Write the arrays of a pytree as a checkpoint; the format is that of the name.

    The names are those of the leaves, such as ``layers/0/weight``. A name without an ending is a
    folder of Orbax. ``.gguf`` is only read.

    ``like`` is a checkpoint of the same format, in general the one that ``params`` come from: the
    new one has its names, their order, its dtypes and metadata, and loads where that one does. What
    it has and ``params`` lack (buffers) is copied, and a tied array that it stores twice is written
    twice. Where ``like`` is a folder, so is ``path`` (unless it names a file), and the other files
    in it are copied, but for weights in other formats.

    It is written beside and then moved into place: whatever goes wrong, nothing half is there.

    Raises ValueError for a path that exists or cannot be written; for names, shapes or dtypes that
    differ from those of ``like``; for what the format cannot hold. Raises ImportError as `load`.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> save(folder / "a.npz", {"w": jnp.ones(2), "b": jnp.zeros(2)})
        >>> save(folder / "b.npz", {"w": jnp.full(2, 7.0)}, like=folder / "a.npz")
        >>> {name: x.tolist() for name, x in load(folder / "b.npz").items()}
        {'b': [0.0, 0.0], 'w': [7.0, 7.0]}
    """
    path, like = Path(path), None if like is None else Path(like)
    arrays = {name: _on_host(name, x) for name, x in flat(params).items()}
    require_target(path, like)
    if like is None:
        with beside(path) as part:
            _format(path).write(part, arrays, None)
        return
    original = weights_in(like)
    arrays = replaced(_read(original), arrays)
    if not _is_folder_like(path, like):
        _write(path, arrays, original)
        return
    with beside(path) as part:
        shutil.copytree(like, part, ignore=_weights)
        _write(part / original.name, arrays, original)


def require_target(path: Path, like: Path | None) -> None:
    """ValueError unless `save` could write there: what can be said before there is anything."""
    require_new(path)
    written_with = _format(path)
    require(written_with is not _gguf, f"`path` must not be a .gguf, which is only read: {path}.")
    require(
        like is not None or not path.name.endswith(INDEX),
        f"`path` is an index, so `like` must say which array is in which file: {path}.",
    )
    if like is None or _is_folder_like(path, _existing(like, "like")):
        return
    original = weights_in(like)
    require(
        written_with is _format(original),
        f"`path` must be of the format of `like`, {original.name}, got {path.name}.",
    )


def _is_folder_like(path, like):
    """Whether a path stands for a folder, as that of another checkpoint."""
    is_file = path.name.endswith(INDEX) or path.suffix.lower() in FORMATS
    return weights_in(like) != like and not is_file


def weights_in(path: Path) -> Path:
    """The file (or index) with the weights of a checkpoint: itself, or the one in its folder."""
    if not path.is_dir() or _orbax.is_one(path):
        return path
    require(
        has_weights(path), f"`path` is a folder without weights ({', '.join(IN_FOLDERS)}): {path}."
    )
    return next(path / name for name in IN_FOLDERS if (path / name).is_file())


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights as Hugging Face calls them."""
    return any((folder / name).is_file() for name in IN_FOLDERS)


def _existing(path, name):
    path = Path(path)
    require(path.exists(), f"`{name}` does not exist: {path}.")
    return path


def _format(path: Path) -> Any:
    suffix = Path(path.name.removesuffix(INDEX)).suffix.lower()
    if _orbax.is_one(path) or not suffix:
        return _orbax
    require(
        suffix in FORMATS, f"`path` must end in one of {', '.join(FORMATS)}, got {path.name!r}."
    )
    return FORMATS[suffix]


def _read(path):
    reader = _format(path).read
    return _sharded.read(path, reader) if path.name.endswith(INDEX) else reader(path)


def _write(path, arrays, like):
    """The arrays at a path, as the weights ``like`` are written."""
    writer, sharded = _format(path).write, like.name.endswith(INDEX)
    if path.name.endswith(INDEX):
        require(sharded, f"`like` must be an index, as `path` is, got {like}.")
        _sharded.write(path, arrays, like, writer)
        return
    with beside(path) as part:
        writer(part, arrays, like.parent / next(iter(_sharded.shards(like))) if sharded else like)


def _on_host(name, x):
    """An array as NumPy has it, in the order of C; a scalar stays one."""
    require(
        isinstance(x, jax.Array | np.ndarray | np.generic),
        f"`params` must hold arrays, got {describe(x)} at leaf '{name}'.",
    )
    return np.asarray(jax.device_get(x), order="C")


def _weights(folder, names):
    """Which files of a folder are weights, or its own."""
    is_weights = lambda name: name.lower().endswith((*FORMATS, *OTHER_WEIGHTS, INDEX))
    return [name for name in names if name.startswith(".") or is_weights(name)]

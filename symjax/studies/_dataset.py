"""A finished study's arrays as one zarr group, which xarray opens as a Dataset.

zarr rather than netCDF: it is written piece by piece without holding an array whole, a full disk is
an ordinary error of a plain file, and one folder can be read from a disk or an object store. Every
array names its dimensions; checksums show what is damaged.
"""

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._pieces import joined
from ._result import Data, StudyError

FORMAT, ROWS = 3, 1 << 16
"""Version of zarr's format, and the networks in one file of an array."""


class Stored(Mapping[str, np.ndarray]):
    """The arrays of a zarr group, each read when it is asked for.

    Raises:
        StudyError: where it is not one, or an array is damaged or not all there.
    """

    def __init__(self, path: Path):
        import zarr

        self.path = path
        with _damaged(path):
            self._group = zarr.open_group(path, mode="r", zarr_format=FORMAT)
            self._names = sorted(self._group.array_keys())

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        with _damaged(self.path / name):
            array: Any = self._group[name]
            # zarr reads a file that is missing as zeros.
            if array.nchunks_initialized < array.nchunks:
                raise ValueError("a file is missing")
            return np.asarray(array[...])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write_networks(path: Path, pieces: Iterable[Data], networks: int) -> None:
    """Write the arrays of all networks; what is held at once is one piece and ``ROWS`` rows."""
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=FORMAT)
    arrays: dict[str, Any] = {}
    for start, rows in _joined(pieces):
        for name, values in rows.items():
            if name not in arrays:
                arrays[name] = _array(group, name, (networks, *values.shape[1:]), values.dtype)
            arrays[name][start : start + len(values)] = values


def finish(path: Path, more: Mapping[str, np.ndarray], units: dict[str, str], about: Any) -> None:
    """Add the arrays that are not per network, name all dimensions, and say what it is about."""
    import zarr

    group = zarr.open_group(path, mode="a", zarr_format=FORMAT)
    for name, values in more.items():
        array = _array(group, name, values.shape, values.dtype)
        array[...] = values
    sizes: dict[str, int] = {}
    for name in sorted(group.array_keys()):
        _describe(path / name / "zarr.json", units.get(name, ""), sizes)
    group.attrs.update(about)
    with warnings.catch_warnings():
        # Format 3 does not standardise the table of contents that xarray looks for first.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path, zarr_format=FORMAT)


def _array(group: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    from zarr.codecs import ZstdCodec

    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=tuple(min(ROWS, n) if i == 0 else n for i, n in enumerate(shape)),
        compressors=[ZstdCodec(level=1, checksum=True)],
        # All files are there, so that a missing one is seen.
        config={"write_empty_chunks": True},
    )


def _describe(path: Path, unit: str, sizes: dict[str, int]) -> None:
    """Put the dimensions' names and the meaning, ``(network, time) meaning``, into an array."""
    about = json.loads(path.read_text(encoding="utf-8"))
    axes, _, meaning = unit.removeprefix("(").partition(")")
    names = [axis.strip() for axis in axes.split(",") if axis.strip()]
    shape = about["shape"]
    if len(names) != len(shape):
        names = [f"axis_{size}" for size in shape]
    for i, (name, size) in enumerate(zip(names, shape, strict=True)):
        # One name has one length; another length is another dimension.
        if sizes.setdefault(name, size) != size:
            names[i] = f"{name}_{size}"
            sizes[names[i]] = size
    about["dimension_names"] = names
    about["attributes"] = {"long_name": meaning.strip()}
    path.write_text(json.dumps(about, indent=2), encoding="utf-8")


def _joined(pieces: Iterable[Data]) -> Iterator[tuple[int, Data]]:
    """The pieces joined to ``ROWS`` rows each, but for the last; with the row each begins at."""
    held: list[Data] = []
    begin = end = 0
    for piece in filter(None, pieces):
        held.append(piece)
        end += len(next(iter(piece.values())))
        while end - begin >= ROWS:
            whole = joined(held)
            yield begin, {name: values[:ROWS] for name, values in whole.items()}
            begin += ROWS
            held = [{name: values[ROWS:] for name, values in whole.items()}]
    if end > begin:
        yield begin, joined(held)


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise StudyError(f"{path} is not a study's data, or damaged: {error}.") from error

"""What a study measured on some networks, checked: the same names, shapes and dtypes everywhere."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ._result import Data, StudyError

PUT_ASIDE = "put_aside"
"""The array of the networks that could not be measured."""
LEGAL = re.compile(r"(?!__)[^\s/\\,=.\x00-\x1f][^/\\,=\x00-\x1f]{0,99}")
OnHost = Callable[[np.ndarray], Data]
"""From indices to the arrays of their networks, in the same order."""


class Piece(NamedTuple):
    """Networks ``start`` to ``stop``: arrays with one row for each that is not put aside.

    ``aside`` has the number and the error of every network that could not be measured.
    """

    start: int
    stop: int
    data: Data
    aside: Mapping[int, str]

    @property
    def rows(self) -> int:
        """How many networks were measured."""
        return self.stop - self.start - len(self.aside)


class Kinds:
    """Names, shapes and dtypes of the first arrays seen, which all later ones must have."""

    def __init__(self, names: tuple[str, ...] = ()):
        self._names, self._first = names, None

    def check(self, found: Any, rows: int, where: str) -> Data:
        """The arrays, as NumPy's.

        Raises:
            StudyError: for anything but ``rows`` rows of the names, shapes and dtypes seen first.
        """
        data = arrays(found, where)
        if missing := [name for name in self._names if name not in data]:
            raise StudyError(
                f"{where}: the study says that it measures {', '.join(missing)} and returned "
                f"{', '.join(data) or 'nothing'}."
            )
        for name, values in data.items():
            if values.ndim == 0 or len(values) != rows:
                raise StudyError(
                    f"{where}: the study returned {name!r} of shape {values.shape}; expected "
                    f"{rows} rows, one for each network."
                )
            if name in self._names and values.ndim != 1:
                raise StudyError(
                    f"{where}: the study returned {name!r} of shape {values.shape}; expected one "
                    "number for each network."
                )
        kinds = {name: (values.shape[1:], values.dtype) for name, values in data.items()}
        self._first = self._first or kinds
        for name in sorted(self._first.keys() | kinds.keys()):
            before, now = (_words(k.get(name)) for k in (self._first, kinds))
            if before != now:
                raise StudyError(
                    f"{where}: the study returned {name!r} as {now}, and for the networks before "
                    f"as {before}."
                )
        return data

    def empty(self) -> dict[str, np.ndarray]:
        """No rows of what was seen first."""
        first = self._first or {}
        return {name: np.empty((0, *shape), dtype) for name, (shape, dtype) in first.items()}


def arrays(found: Any, where: str) -> dict[str, np.ndarray]:
    """Named arrays of numbers, as NumPy's; StudyError for anything else."""
    if not isinstance(found, Mapping) or not found:
        raise StudyError(
            f"{where}: the study returned {type(found).__name__}; expected a dictionary of arrays."
        )
    return {legal(name, where): _array(name, values, where) for name, values in found.items()}


def legal(name: Any, where: str) -> str:
    """A name that a quantity may have, which is that of a folder as well."""
    if not isinstance(name, str) or not LEGAL.fullmatch(name) or name == PUT_ASIDE:
        raise StudyError(
            f"{where}: no quantity can be named {name!r}: expected at most 100 characters, none of "
            f"them '/', '\\', ',' or '=', and neither a dot first nor {PUT_ASIDE!r}."
        )
    return name


def _array(name: str, values: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise StudyError(f"{where}: {name!r} is no array: {error}.") from error
    if array.dtype.kind not in "biufc":
        raise StudyError(
            f"{where}: {name!r} has dtype {array.dtype}; expected numbers or truth values."
        )
    return array


def _words(kind: tuple[tuple[int, ...], np.dtype] | None) -> str:
    return "absent" if kind is None else f"{kind[1]} of shape {kind[0]} a network"


def measure_or_put_aside(
    on_host: OnHost, indices: np.ndarray, kinds: Kinds
) -> tuple[Data, dict[int, str]]:
    """The arrays of these networks but those that raise, and the errors of those.

    Halves of what raises are tried again, down to single networks.
    """
    try:
        with no_exit("measuring networks"):
            found = on_host(indices)
    except StudyError:
        raise
    except Exception as error:
        if len(indices) == 1:
            return kinds.empty(), {int(indices[0]): in_words(error)}
        middle = len(indices) // 2
        (a, aside), (b, more) = (
            measure_or_put_aside(on_host, half, kinds)
            for half in (indices[:middle], indices[middle:])
        )
        return joined([a, b]), aside | more
    where = f"networks {indices[0]} to {indices[-1]}"
    return kinds.check(found, len(indices), where), {}


def joined(pieces: list[Data]) -> Data:
    """The rows of all pieces that have any names."""
    pieces = [piece for piece in pieces if piece]
    if len(pieces) < 2:
        return pieces[0] if pieces else {}
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def in_words(error: BaseException) -> str:
    """An error in one line of at most 300 characters.

    Of one that holds a whole traceback, as those from compiled programs do, the line that ends it.
    """
    text = f"{type(error).__name__}: {error}"
    if "Traceback (most recent call last):" in text:
        _, _, below = text.partition("Traceback (most recent call last):")
        text = next((line for line in below.splitlines() if re.match(r"\w[\w.]*:", line)), text)
    return " ".join(text.split())[:300].rstrip(": ")


@contextlib.contextmanager
def no_exit(what: str) -> Iterator[None]:
    """Tell a study's call of sys.exit, which would pass for the end of the run."""
    try:
        yield
    except SystemExit as stop:
        raise StudyError(
            f"the study ended the program while {what}: exit({stop.code!r})."
        ) from None

"""Means with their standard errors, and quantiles, of what a study measures, while it runs.

Moments are exact: pieces are merged as they come. Quantiles while it runs are of every s-th
network, s doubling so that at most ``KEPT`` are kept, which is a fair sample since networks are
drawn independently; `exact` has those of all networks, from the stored arrays.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from ._pieces import Piece
from ._result import StudyError

KEPT = 8192
LEAST = 100
"""Values that a standard error must rest on before a run may stop because of it."""
QUANTILES = (0.05, 0.5, 0.95)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One quantity: its finite values, their number, mean, standard error and quantiles."""

    finite: int
    total: int
    mean: float
    standard_error: float
    quantiles: tuple[float, ...]


class Running:
    """Statistics of the quantities that are one number per network."""

    def __init__(self):
        self.total, self._rows, self._stride = 0, 0, 1
        # Number, mean and sum of squared deviations of the finite values.
        self._moments: dict[str, tuple[int, float, float]] = {}
        self._kept: dict[str, np.ndarray] = {}

    def add(self, piece: Piece) -> None:
        """Take in a piece; pieces come in order."""
        columns = {name: _real(v) for name, v in piece.data.items() if v.ndim == 1}
        first = -self._rows % self._stride
        for name, values in columns.items():
            finite = values[np.isfinite(values)]
            before = self._moments.get(name, (0, 0.0, 0.0))
            self._moments[name] = _merge(before, _moments(finite))
            earlier = self._kept.get(name, np.empty(0))
            self._kept[name] = np.concatenate([earlier, values[first :: self._stride]])
        self.total = piece.stop
        self._rows += piece.rows
        while any(len(kept) > KEPT for kept in self._kept.values()):
            self._stride *= 2
            self._kept = {name: kept[::2] for name, kept in self._kept.items()}

    def __getitem__(self, name: str) -> Summary:
        number, mean, squares = self._moments[name]
        return _summary(self._rows, (number, mean, squares), self._kept[name])

    def names(self) -> list[str]:
        """The quantities, in order."""
        return sorted(self._moments)

    def meets(self, until: Mapping[str, float]) -> bool:
        """Whether every standard error asked for is reached; False where none was asked for."""
        if not self.total:
            return False
        if not until.keys() <= self._moments.keys():
            return False
        found = [(self[name], wanted) for name, wanted in until.items()]
        return bool(found) and all(
            s.finite >= LEAST and s.standard_error <= wanted for s, wanted in found
        )


def exact(values: np.ndarray) -> Summary:
    """Statistics of all values of one quantity."""
    values = _real(values)
    return _summary(len(values), _moments(values[np.isfinite(values)]), values)


def parse_until(text: str, names: Iterable[str]) -> dict[str, float]:
    """Standard errors from ``name=value,name=value``.

    Raises:
        StudyError: for a quantity that does not exist, or a value that is not a positive number.
    """
    names, found = sorted(names), {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in names:
            raise StudyError(
                f"--until {part}: no quantity {name!r}; the quantities: {', '.join(names)}."
            )
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] < math.inf:
            raise StudyError(f"--until {part}: expected NAME=STANDARD_ERROR above 0 and finite.")
    return found


def table(summaries: Mapping[str, Summary]) -> str:
    """The statistics as aligned text, one quantity a line."""
    head = ["quantity", "finite", "mean", "std. error", *(f"{100 * q:g} %" for q in QUANTILES)]
    rows = [
        [name, str(s.finite), *(f"{v:.6g}" for v in (s.mean, s.standard_error, *s.quantiles))]
        for name, s in summaries.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in [head, *rows]
    )


def _real(values: np.ndarray) -> np.ndarray:
    """The values as floats; of complex ones their modulus."""
    values = np.asarray(values)
    return np.asarray(np.abs(values) if values.dtype.kind == "c" else values, float)


def _moments(values: np.ndarray) -> tuple[int, float, float]:
    if not len(values):
        return 0, 0.0, 0.0
    mean = float(values.mean())
    return len(values), mean, float(np.sum((values - mean) ** 2))


def _merge(a: tuple[int, float, float], b: tuple[int, float, float]) -> tuple[int, float, float]:
    number = a[0] + b[0]
    if number == 0:
        return a
    apart = b[1] - a[1]
    squares = a[2] + b[2] + apart**2 * a[0] * b[0] / number
    return number, a[1] + apart * b[0] / number, squares


def _summary(total: int, moments: tuple[int, float, float], values: np.ndarray) -> Summary:
    number, mean, squares = moments
    error = math.sqrt(squares / (number - 1) / number) if number > 1 else math.nan
    values = values[np.isfinite(values)]
    quantiles = np.quantile(values, QUANTILES) if len(values) else [math.nan] * len(QUANTILES)
    return Summary(
        number, total, mean if number else math.nan, error, tuple(float(q) for q in quantiles)
    )

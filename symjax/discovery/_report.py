"""What discovery returns: symmetries as data, and a table that a person can read."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, overload

from ..actions import Action
from ..groups import (
    AbstractGroup,
    ComplexScaling,
    FixingOnes,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Power,
    SignFlip,
    Translation,
)


@dataclass(frozen=True)
class Symmetry:
    """One group and the places that it moves, with what it rests on (host-only).

    ``exact`` is False where the symmetry holds only up to a norm's epsilon. ``probed`` names the
    elementwise functions whose property was found by evaluating them, not read off the program.
    """

    name: str
    action: Action
    leaves: tuple[str, ...]
    exact: bool = True
    probed: tuple[str, ...] = ()

    @property
    def group(self) -> AbstractGroup:
        """The group that acts."""
        return self.action.group

    @property
    def dimension(self) -> int:
        """The dimension of the group; 0 for a finite one."""
        return self.group.dimension

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "name": self.name,
            "group": describe_group(self.group),
            "dimension": self.dimension,
            "components": self.group.number_of_components,
            "leaves": list(self.leaves),
            "exact": self.exact,
            "probed": list(self.probed),
        }


@dataclass(frozen=True)
class Symmetries(Sequence[Symmetry]):
    """Every symmetry that was proved, in an order that does not matter (host-only).

    ``unknown`` maps each primitive that was not understood to the leaves that it made trivial.
    ``overlap`` is how many directions the listed exact groups share, so that
    ``dimension = sum of the dimensions - overlap`` counts each direction once.
    """

    items: tuple[Symmetry, ...]
    unknown: dict[str, tuple[str, ...]]
    overlap: int = 0

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Symmetry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Symmetry, ...]: ...
    def __getitem__(self, index):
        return self.items[index]

    @property
    def exact(self) -> tuple[Symmetry, ...]:
        """The symmetries that hold exactly."""
        return tuple(s for s in self.items if s.exact)

    @property
    def approximate(self) -> tuple[Symmetry, ...]:
        """The symmetries that hold only as far as a norm's epsilon is negligible."""
        return tuple(s for s in self.items if not s.exact)

    @property
    def dimension(self) -> int:
        """The number of independent directions of the exact symmetries."""
        return sum(s.dimension for s in self.exact) - self.overlap

    @property
    def approximate_dimension(self) -> int:
        """How many directions the approximate symmetries add to the exact ones."""
        return sum(s.dimension for s in self.approximate)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "symmetries": [s.as_dict() for s in self.items],
            "dimension": self.dimension,
            "approximate_dimension": self.approximate_dimension,
            "overlap": self.overlap,
            "unknown": {name: list(leaves) for name, leaves in self.unknown.items()},
        }

    def __str__(self) -> str:
        heading = ("symmetry", "group", "dim", "components", "holds", "leaves")
        rows = [heading, *(_row(s) for s in self.items)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(heading) - 1)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]
        lines.insert(1, "-" * max(map(len, lines)))
        lines.append(f"dimension {self.dimension}" + self._shared() + self._approximate())
        for name, leaves in self.unknown.items():
            lines.append(f"not understood: {name}; taken as trivial: {_shorten(leaves, 8)}")
        return "\n".join(lines)

    __repr__ = __str__

    def _shared(self):
        return f" (after {self.overlap} shared by two groups)" if self.overlap else ""

    def _approximate(self):
        extra = self.approximate_dimension
        return f", and {extra} more up to a norm's epsilon" if extra else ""


def _row(symmetry):
    holds = "exact" if symmetry.exact else "approximate"
    if symmetry.probed:
        holds += f", probed {_shorten(symmetry.probed, 2)}"
    return (
        symmetry.name,
        describe_group(symmetry.group),
        str(symmetry.dimension),
        describe_count(symmetry.group.number_of_components),
        holds,
        _shorten(symmetry.leaves, 4),
    )


def _shorten(names: Iterable[str], most: int) -> str:
    names = list(names)
    if len(names) <= most:
        return ", ".join(names)
    return ", ".join(names[: most - 1]) + f", ... ({len(names)} in all)"


def describe_count(count: float) -> str:
    """A count in at most eight characters: 24, 2^12 or 1e2456."""
    if count == math.inf:
        return "inf"
    count = int(count)
    if count < 10**6:
        return str(count)
    power = count.bit_length() - 1
    return f"2^{power}" if count == 1 << power else f"1e{int(math.log10(count))}"


def describe_group(group: AbstractGroup) -> str:
    """A group in the usual notation, such as GL(4)^2 or R+^16."""
    n = getattr(group, "n", None)
    match group:
        case Power():
            inner = describe_group(group.group)
            return f"({inner})^{group.count}" if "^" in inner else f"{inner}^{group.count}"
        case FixingOnes():
            return f"{describe_group(group.group)} beside ones"
        case GeneralLinear():
            return f"GL({n})"
        case Orthogonal():
            return f"O({n})"
        case Permutation():
            return f"S({n})"
    letter = _LETTERS.get(type(group))
    if letter is None:
        return str(group)
    return letter if n in (None, 1) else f"{letter}^{n}"


_LETTERS = {PositiveScaling: "R+", ComplexScaling: "C*", SignFlip: "Z2", Translation: "R"}

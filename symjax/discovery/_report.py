"""What discovery returns: symmetries as data, and a table that a person can read."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from .._results import html_table
from ..actions import PulledBack
from ..groups import AbstractGroup


@dataclass(frozen=True)
class Symmetry:
    """One group and the places that it moves, with what it rests on (host-only).

    ``exact`` is False where the symmetry holds only ``up_to`` something: a norm's epsilon, or the
    rounding of a cast. ``probed`` names the elementwise functions whose property was found by
    evaluating them, not read off the program.
    """

    name: str
    action: Any  # an `Action`, or a user's own callable with a group, which `verify` judges
    leaves: tuple[str, ...]
    exact: bool = True
    probed: tuple[str, ...] = ()
    up_to: str = ""

    @property
    def group(self) -> AbstractGroup:
        """The group that acts."""
        return self.action.group

    @property
    def dimension(self) -> int:
        """The dimension of the group; 0 for a finite one."""
        return self.group.dimension

    def __repr__(self) -> str:
        name, group, _, _, holds, leaves = _row(self)
        return f"Symmetry({name}: {group} moves {leaves}; {holds})"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "name": self.name,
            "group": self.group.notation,
            "dimension": self.dimension,
            "components": self.group.number_of_components,
            "leaves": list(self.leaves),
            "exact": self.exact,
            "up_to": self.up_to,
            "probed": list(self.probed),
        }


@dataclass(frozen=True)
class Symmetries(Sequence[Symmetry]):
    """Every symmetry that was proved, in an order that does not matter (host-only).

    ``unknown`` maps what was not understood (a primitive, with the error if its rule failed; a
    channel that failed; complex leaves) to the leaves that it concerns: these keep only symmetries
    that it cannot see. It is empty where nothing was missed. ``why`` maps what breaks symmetries
    that the architecture would have to the leaves that lack them: a constant array, or whole
    numbers that are used as such, where they alone keep an index set from being permuted; a tied
    leaf; a loop that goes on until a test is passed. What restores them is printed with it.
    ``overlap`` is how many directions the listed exact groups share, so that
    ``dimension = sum of the dimensions - overlap`` counts each direction once. ``sizes`` are the
    numbers of entries of the leaves. ``checked`` says by what the exact ones were evaluated (those
    up to epsilon by what was read, or it says that they were not), and ``false`` holds those that
    were refuted: errors of symjax, which are not among the items.
    """

    items: tuple[Symmetry, ...]
    unknown: dict[str, tuple[str, ...]]
    overlap: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    why: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checked: str = "not at all"
    false: tuple[Symmetry, ...] = ()

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
        """The symmetries that hold only as far as what they are ``up_to`` is negligible."""
        return tuple(s for s in self.items if not s.exact)

    @property
    def dimension(self) -> int:
        """The dimension of the exact symmetries as one group.

        Where elements of it leave the parameters as they are (in a wide linear layer, GL(n) acts on
        fewer than n^2 entries), fewer directions move them: `symjax.canonical.orbit_dimension`
        counts these at given parameters, and `most_directions` bounds their number at all.
        """
        return sum(s.dimension for s in self.exact) - self.overlap

    @property
    def most_directions(self) -> int:
        """A bound of the dimension of an orbit: no group gives more than the entries it moves."""
        moving = [s for s in self.exact if s.dimension]
        entries = lambda leaves: sum(self.sizes[name] for name in leaves)
        each = sum(min(s.dimension, entries(s.leaves)) for s in moving)
        together = entries({name for s in moving for name in s.leaves})
        return min(self.dimension, each, together)

    @property
    def approximate_dimension(self) -> int:
        """How many directions the approximate symmetries add to the exact ones."""
        return sum(s.dimension for s in self.approximate)

    @property
    def lost(self) -> float:
        """The share of the parameters in leaves that something concerns which was not understood.

        From 0, where nothing was missed, to 1.
        """
        held = {name for leaves in self.unknown.values() for name in leaves}
        entries = sum(self.sizes.values())
        return sum(self.sizes[name] for name in held) / entries if entries else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data: what JSON holds, and what treescope draws as a tree."""
        return {
            "symmetries": [s.as_dict() for s in self.items],
            "dimension": self.dimension,
            "most_directions": self.most_directions,
            "approximate_dimension": self.approximate_dimension,
            "overlap": self.overlap,
            "unknown": {name: list(leaves) for name, leaves in self.unknown.items()},
            "lost": self.lost,
            "why": {name: list(leaves) for name, leaves in self.why.items()},
            "checked": self.checked,
            "false": [s.as_dict() for s in self.false],
        }

    def __str__(self) -> str:
        rows = [_HEADING, *map(_row, self.items)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADING) - 1)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join([*lines, *self._below()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(_HEADING, map(_row, self.items), self._below())

    def _below(self):
        """What stands below the table, line by line."""
        lines = [f"group dimension {self.dimension}" + self._shared() + self._approximate()]
        if self.most_directions < self.dimension:
            lines.append(f"orbit dimension at most {self.most_directions}")
        lines += self._coordinates()
        lines += self.reasons()
        if not self.checked.startswith("by the model"):
            lines.append(f"checked {self.checked}")
        for s in self.false:
            lines.append(
                f"FALSE, so left out: {s.name} {s.group.notation} of "
                f"{_shorten(s.leaves, 8)}; this is an error of symjax: please report it"
            )
        return lines

    def reasons(self) -> list[str]:
        """What was not understood, what broke a symmetry and what restores it, line by line."""
        lines = []
        for name, leaves in self.unknown.items():
            lines.append(f"not understood: {name}; held fixed: {_shorten(leaves, 8)}")
        if self.unknown:
            lines.append(f"held fixed in all: {self.lost:.2%} of the parameters")
        for name, leaves in self.why.items():
            lines.append(f"{_lost(name)} because of {name}: {_shorten(leaves, 8)}")
        lines += [f"  ({remedy})" for remedy in remedies(self.why, self.approximate)]
        return lines

    def _coordinates(self):
        actions = [s.action for s in self.items if isinstance(s.action, PulledBack)]
        steps = {step.text(): None for action in actions for step in action.steps}
        if not steps:
            return []
        return [f"in coordinates: acts through {_shorten(steps, 6)}"]

    def _shared(self):
        return f" (after {self.overlap} shared by two groups)" if self.overlap else ""

    def _approximate(self):
        extra: dict[str, int] = {}
        for s in self.approximate:
            what = f"up to {s.up_to}" if s.up_to else "that hold approximately"
            extra[what] = extra.get(what, 0) + s.dimension
        return "".join(f", and {n} more {what}" for what, n in extra.items() if n)


#: What a symmetry is up to.
EPSILON, CAST = "a norm's epsilon", "the rounding of a cast"
TIED = "a leaf that is both looked up and multiplied with, as a tied embedding is"
TEST = "a loop that goes on until its values pass a test"
#: By how the name of what breaks a symmetry begins (or of what one is up to): what restores it.
REMEDIES = {
    "a constant": "if these are the statistics of a norm: `state_as_parameters=True` of the "
    "adapters makes them parameters; entries that a mask treats alike are permuted where it is "
    "made of slices",
    "the numbers of its entries, which may be equal": "what is chosen among equal entries depends "
    "on their order: choose among numbers that differ",
    "the numbers of its entries": "mark the entries with `jax.nn.one_hot`, or look them up with "
    "`jnp.take_along_axis`",
    "`": "an order of the entries is made there; entries that are marked and summed have none",
    TIED: "with a copy of its own, what multiplies has scales and shifts of its own",
    TEST: "with a fixed number of steps nothing has to pass the test",
    CAST: "computed in the dtype of the parameters, what is up to a cast is exact",
    EPSILON: "with an epsilon of 0, what is up to it is exact",
}


def remedies(why: Iterable[str], approximate: Iterable[Symmetry]) -> list[str]:
    """What restores symmetries that were lost, or hold only up to something."""
    causes = [*why, *(s.up_to for s in approximate)]
    first = lambda cause: next((start for start in REMEDIES if cause.startswith(start)), "")
    return [REMEDIES[start] for start in dict.fromkeys(map(first, causes)) if start]


def _lost(cause):
    return "fewer symmetries" if cause in (TIED, TEST) else "no permutation"


_HEADING = ("symmetry", "group", "dim", "components", "holds", "leaves")


def _row(symmetry):
    holds = "exact" if symmetry.exact else "approximate"
    if symmetry.probed:
        holds += f", probed {_shorten(symmetry.probed, 2)}"
    if isinstance(symmetry.action, PulledBack):
        holds += ", in coordinates"
    return (
        symmetry.name,
        symmetry.group.notation,
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

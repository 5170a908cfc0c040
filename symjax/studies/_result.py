"""What a study hands back: arrays, the statements it checked, and how to draw the arrays."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

Data: TypeAlias = Mapping[str, np.ndarray]
Progress: TypeAlias = Callable[[float, str], None]
"""Called as ``progress(fraction, message)`` with the fraction of the study's work that is done."""

ALL_HELD, FAILED, WRONG_CALL, NOT_ALL_HELD, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses: every statement came out as expected, a study failed, it was called wrongly, its
result is there and not every statement held, and it was interrupted."""


class StudyError(Exception):
    """Something the user can mend: a name, an option, a directory, a missing package."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """One row of the last table: a statement of the paper and what the study found.

    Attributes:
        name: the statement, such as ``Prop. 6.1``.
        held: whether it held wherever its hypotheses did. False whatever was passed where nothing
            was tried, where something is undefined, and where the worst margin is NaN.
        networks: how many networks (or points, as ``detail`` says) were tried.
        held_on: on how many of them it held.
        worst_margin: the margin nearest to failure: positive is room left, negative a violation,
            NaN one that could not be computed, and None that what is compared are whole numbers,
            which agree or do not.
        detail: in words, what was compared and in which units the margin is.
        undefined: on how many of those tried the comparison is undefined, as with NaN.
        expected: False for a statement that is known to be false; that it does not hold is then no
            failure of the study.

    Raises:
        ValueError: for numbers that do not add up.
    """

    name: str
    held: bool
    networks: int
    held_on: int
    worst_margin: float | None
    detail: str
    undefined: int = 0
    expected: bool = True

    def __post_init__(self):
        counts = (self.networks, self.held_on, self.undefined)
        if min(counts) < 0 or self.failed < 0:
            raise ValueError(
                f"statement {self.name!r}: `held_on` and `undefined` must add up to at most "
                f"`networks`, got {self.held_on} + {self.undefined} of {self.networks}."
            )
        if not self.decided:
            object.__setattr__(self, "held", False)

    @classmethod
    def of(
        cls,
        name: str,
        held: Any,
        margins: Any,
        detail: str,
        *,
        worst: float | None = math.inf,
        expected: bool = True,
    ) -> "Statement":
        """From one truth value a network; it is undefined where the margin of the network is NaN.

        ``margins`` has one number a network, or is None for a comparison of whole numbers.
        ``worst`` is the worst margin, where it is not the least of ``margins``.
        """
        held = np.asarray(held, bool).ravel()
        if margins is None:
            margins, worst = np.zeros(held.shape), None
        margins = np.asarray(margins, float).ravel()
        if margins.shape != held.shape:
            raise ValueError(
                f"statement {name!r}: `margins` must have one number for each of the {len(held)} "
                f"of `held`, got {len(margins)}."
            )
        defined = ~np.isnan(margins)
        if worst == math.inf:
            worst = float(margins[defined].min()) if defined.any() else math.nan
        kept = held & defined
        return cls(
            name,
            bool(kept.all()),
            len(held),
            int(kept.sum()),
            worst,
            detail,
            int((~defined).sum()),
            expected,
        )

    @property
    def failed(self) -> int:
        """On how many it did not hold, though it was defined there."""
        return self.networks - self.held_on - self.undefined

    @property
    def decided(self) -> bool:
        """Whether something was tried and all of it could be compared."""
        nan = self.worst_margin is not None and math.isnan(self.worst_margin)
        return self.networks > 0 and self.undefined == 0 and not nan

    @property
    def as_expected(self) -> bool:
        """Whether it held, or is known not to hold and was decided."""
        return self.held or (self.decided and not self.expected)

    @property
    def verdict(self) -> str:
        """In words, whether it held."""
        if self.held:
            return "held"
        if self.decided:
            return "did NOT hold" if self.expected else "did NOT hold, as expected"
        return "UNDEFINED" if self.networks else "NOT tried"

    def without(self, networks: int) -> "Statement":
        """The same, where so many more networks could not be measured: it is undefined on them."""
        more = {"networks": self.networks + networks, "undefined": self.undefined + networks}
        return dataclasses.replace(self, **more)


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of one study.

    Attributes:
        data: named arrays beside those of the networks; ``figure`` draws from all of them.
        statements: the statements checked, each with how it went.
        figure: draws the stored data alone, and returns a matplotlib Figure.
        notes: facts a reader of the numbers must know, one sentence each.
        units: for each array, its axes and unit in words, such as ``(network,) squared norm``.
    """

    data: Data
    statements: list[Statement]
    figure: Callable[[Data], Any]
    notes: list[str]
    units: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def as_expected(self) -> bool:
        """Whether every statement came out as expected."""
        return all(statement.as_expected for statement in self.statements)

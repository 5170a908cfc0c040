"""What a study hands back: arrays, the statements it checked, and how to draw the arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

Data: TypeAlias = Mapping[str, np.ndarray]
Progress: TypeAlias = Callable[[float, str], None]
"""Called as ``progress(fraction, message)`` with the fraction of the study's work that is done."""


class StudyError(Exception):
    """Something the user can mend: a name, an option, a directory, a missing package."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """One row of the last table: a statement of the paper and what the study found.

    Attributes:
        name: the statement, such as ``Prop. 6.1``.
        held: whether it held wherever its hypotheses did.
        networks: how many networks (or points, as ``detail`` says) were tried.
        held_on: on how many of them it held.
        worst_margin: the margin nearest to failure: positive is room left, negative a violation.
        detail: in words, what was compared and in which units the margin is.
    """

    name: str
    held: bool
    networks: int
    held_on: int
    worst_margin: float
    detail: str


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

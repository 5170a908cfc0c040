"""Results in words: the report of one study, and the table of all statements."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ._result import Result, Statement

SHOWN = 10
"""Networks put aside whose errors the report shows."""


def report(
    description: Mapping[str, Any], result: Result, means: str, aside: Mapping[int, str]
) -> str:
    """The text report of one study.

    ``means`` is a table of what was measured on the networks, ``aside`` has those it could not be
    measured on.
    """
    configuration = ", ".join(f"{k} = {v}" for k, v in description["configuration"].items())
    lines = [
        f"{description['study']}: {description['title']}",
        f"configuration: {configuration}",
        f"took {description['wall_seconds']:.1f} s on {description['device']['kind']}, "
        f"jax {description['versions'].get('jax', '?')}",
        "",
    ]
    for statement in result.statements:
        lines.append(f"{statement.name}: {counts(statement)}; worst margin {margin(statement)}")
        lines.extend(
            textwrap.wrap(statement.detail, 88, initial_indent="    ", subsequent_indent="    ")
        )
    if aside:
        lines.extend(["", f"Put aside, since they cannot be measured: {len(aside)} networks"])
        lines.extend(f"- network {i}: {aside[i]}" for i in sorted(aside)[:SHOWN])
        lines.extend(["- and more: see manifest.json"] if len(aside) > SHOWN else [])
    if result.notes:
        lines.extend(["", "Notes"])
    for note in result.notes:
        lines.extend(textwrap.wrap(note, 90, initial_indent="- ", subsequent_indent="  "))
    if means:
        lines.extend(["", "Means over the networks, of finite values", means])
    return "\n".join(lines) + "\n"


def counts(s: Statement) -> str:
    """The verdict in words, with how many were tried, held, failed and are undefined."""
    if s.held:
        return f"held on {s.held_on} of {s.networks}"
    return (
        f"{s.verdict}: tried {s.networks}, held {s.held_on}, failed {s.failed}, "
        f"undefined {s.undefined}"
    )


def margin(statement: Statement) -> str:
    """The worst margin to three digits; whole numbers that came out right have none."""
    worst = statement.worst_margin
    if worst is None:
        return "exact" if statement.held else "none"
    return "not a number" if math.isnan(worst) else f"{worst:.3g}"


def table(rows: Sequence[tuple[str, Statement]]) -> str:
    """All statements of several studies, aligned, with their counts and worst margins."""
    cells: list[tuple[str, ...]] = [
        ("statement", "study", "tried", "held", "failed", "undefined", "all", "worst margin")
    ]
    for study, s in rows:
        verdict = "yes" if s.held else "NO" if s.decided else "?"
        numbers = map(str, (s.networks, s.held_on, s.failed, s.undefined))
        cells.append((s.name, study, *numbers, verdict, margin(s)))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    numeric = {2, 3, 4, 5, 7}
    lines = [
        "  ".join(
            cell.rjust(width) if i in numeric else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

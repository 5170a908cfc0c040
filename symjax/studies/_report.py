"""Results in words: the report of one study, and the table of all statements."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from ._result import Result, Statement


def report(description: dict[str, Any], result: Result, means: str = "") -> str:
    """The text report of one study; ``means`` is a table of what was measured on the networks."""
    configuration = ", ".join(f"{k} = {v}" for k, v in description["configuration"].items())
    lines = [
        f"{description['study']}: {description['title']}",
        f"configuration: {configuration}",
        f"took {description['wall_seconds']:.1f} s on {description['device']['kind']}, "
        f"jax {description['versions'].get('jax', '?')}",
        "",
    ]
    for statement in result.statements:
        verdict = "held" if statement.held else "did NOT hold"
        lines.append(
            f"{statement.name}: {verdict} on {statement.held_on} of {statement.networks}; "
            f"worst margin {margin(statement)}"
        )
        lines.extend(
            textwrap.wrap(statement.detail, 88, initial_indent="    ", subsequent_indent="    ")
        )
    if result.notes:
        lines.extend(["", "Notes"])
    for note in result.notes:
        lines.extend(textwrap.wrap(note, 90, initial_indent="- ", subsequent_indent="  "))
    if means:
        lines.extend(["", "Means over the networks, of finite values", means])
    return "\n".join(lines) + "\n"


def margin(statement: Statement) -> str:
    """The worst margin to three digits; a count that came out right has none."""
    return "exact" if math.isnan(statement.worst_margin) else f"{statement.worst_margin:.3g}"


def table(rows: Sequence[tuple[str, Statement]]) -> str:
    """All statements of several studies, aligned: statement, study, tried, held, worst margin."""
    cells = [("statement", "study", "tried", "held on", "held", "worst margin")]
    for study, s in rows:
        verdict = "yes" if s.held else "NO"
        cells.append((s.name, study, str(s.networks), str(s.held_on), verdict, margin(s)))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    numeric = {2, 3, 5}
    lines = [
        "  ".join(
            cell.rjust(width) if i in numeric else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

"""Rows as an aligned table of text."""

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as aligned text; the keys of the first row are the columns."""
    columns = list(rows[0])
    cells = [columns, *([_text(row.get(c, "")) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(_pad(c, w) for c, w in zip(x, widths, strict=True)) + " |" for x in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _text(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _pad(text, width):
    return text.ljust(width)

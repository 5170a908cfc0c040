"""The picture of the README: the symmetries of a pretrained transformer, rows of one kind as one.

`python docs/table_picture.py` draws `docs/images/minilm.svg` from what the notebook
`pretrained_transformer` printed when it was executed.
"""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
NOTEBOOK = DOCS / "executed" / "pretrained_transformer.ipynb"
PICTURE = DOCS / "images" / "minilm.svg"
HEAD = ("symmetry", "group", "dimension", "holds", "leaves")
LAYER = re.compile(r"layer\.\d+\.")


def printed_table(notebook: Path) -> tuple[list[list[str]], str]:
    """The rows that the notebook printed, and the line with their sum."""
    cells = json.loads(notebook.read_text())["cells"]
    texts = ["".join(o["text"]) for c in cells for o in c.get("outputs", ()) if "text" in o]
    (text,) = (t for t in texts if t.startswith("symmetry"))
    lines = text.splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("group dimension"))
    return [re.split(r"  +", line.strip()) for line in lines[2:end]], lines[end]


def grouped(rows: list[list[str]]) -> Iterator[tuple[str, ...]]:
    """Rows of the same kind and group as one, with their number; leaves shortened to roles."""
    found: dict[tuple[str, ...], list] = {}
    for name, group, dim, _, holds, leaves in rows:
        names = re.sub(r" +\(\d+ in all\)", "", leaves).split(", ")
        found.setdefault((name, group, holds), []).append((int(dim), map(_role, names)))
    for (name, group, holds), members in found.items():
        times = f"{len(members)} x " if len(members) > 1 else ""
        roles = ", ".join(
            dict.fromkeys(role for _, each in members for role in each if role.strip(" ."))
        )
        yield name, times + group, f"{sum(dim for dim, _ in members):,}", holds, roles


def _role(leaf):
    """A leaf without its layer's number and without what every name has."""
    name = LAYER.sub("", leaf.removeprefix("encoder."))
    name = name.replace("attention.self.", "").replace("attention.output.", "attention ")
    return re.sub(r"\.(weight|bias)$", "", name).replace("_embeddings", "").replace(".", " ")


def svg(rows: list[tuple[str, ...]], total: str) -> str:
    """A table as a picture, in colours that are read on white and on black."""
    cut = lambda text: text if len(text) <= 58 else text[:55] + "..."
    rows = [(*row[:-1], cut(row[-1])) for row in rows]
    widths = [max(len(r[i]) for r in [HEAD, *rows]) for i in range(len(HEAD))]
    lines = [HEAD, *rows]
    size, step = 13, 22
    width = int(sum(w + 2 for w in widths) * size * 0.605) + 30
    height = step * (len(lines) + 3) + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{size}">',
        f'<rect width="{width}" height="{height}" rx="6" fill="#fbfbfd" stroke="#c5c9d5"/>',
    ]
    say = lambda x, y, text, style="": out.append(
        f'<text x="{x:.0f}" y="{y}" fill="#1c2230" xml:space="preserve" {style}>'
        f"{html.escape(text)}</text>"
    )
    say(16, step, "symjax.find_symmetries(minilm.embed, shapes, ids, mask)", 'font-weight="bold"')
    for i, line in enumerate(lines):
        x, y = 16.0, step * (i + 2) + 4
        for j, (word, w) in enumerate(zip(line, widths, strict=True)):
            text = word.rjust(w) if j == 2 else word
            say(x, y, text, 'font-weight="bold"' if i == 0 else "")
            x += (w + 2) * size * 0.605
    say(16, step * (len(lines) + 2) + 6, total, 'font-weight="bold"')
    return "\n".join([*out, "</svg>"]) + "\n"


if __name__ == "__main__":
    rows, total = printed_table(NOTEBOOK)
    PICTURE.write_text(svg(list(grouped(rows)), total))

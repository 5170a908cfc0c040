"""Whether a stored result is what was written: every file against the checksums in its manifest."""

from pathlib import Path
from typing import Any

from ._files import digest_of_file, files_below, read_manifest
from ._result import StudyError

SHOWN = 5


def verify(out: Path) -> tuple[dict[str, Any], list[str]]:
    """The manifest of a stored result, and what of its files is missing, damaged or too many.

    Raises:
        StudyError: where there is no result, or its manifest was edited or is of another version.
    """
    out = Path(out)
    stored = read_manifest(out)
    if stored is None or "files" not in stored:
        raise StudyError(f"{out} holds no finished study.")
    wrong = []
    for name, file in stored["files"].items():
        path = out / name
        try:
            if path.stat().st_size != file["bytes"] or digest_of_file(path) != file["sha256"]:
                wrong.append(f"{name} is not as it was written")
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
        except OSError as error:
            raise StudyError(f"{path} cannot be read: {error.strerror or error}.") from error
    # Other files beside a result are the user's; within the arrays they would be read as data.
    more = {path.relative_to(out).as_posix() for path in files_below(out / "data.zarr")}
    wrong.extend(f"{name} is not of the result" for name in sorted(more - stored["files"].keys()))
    return stored, wrong


def require_whole(out: Path) -> dict[str, Any]:
    """The manifest of a result that is as it was written; StudyError that names what is not."""
    stored, wrong = verify(out)
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise StudyError(
            f"{out} is damaged: {'; '.join(wrong[:SHOWN])}{more}. Nothing was changed."
        )
    return stored

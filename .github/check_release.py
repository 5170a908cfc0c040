"""What must agree before a release; prints the section of the changelog that is its notes.

``python .github/check_release.py v0.1.0 OWNER/NAME``. Standard library alone.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def notes(changelog: str, version: str) -> str:
    """The section of a version; ValueError where there is none, or where it is not dated."""
    section = re.search(
        rf"^## {re.escape(version)} \(([^)]*)\)\n(.*?)(?=^## |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    if section is None:
        raise ValueError(f"CHANGELOG.md has no section '## {version} (DATE)'.")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", section[1]):
        raise ValueError(f"CHANGELOG.md must date {version} (YYYY-MM-DD), got {section[1]!r}.")
    return section[2].strip()


def check(tag: str, repository: str, project: dict, changelog: str) -> str:
    """The notes of a release; ValueError where tag, version, address and changelog disagree."""
    version = project["version"]
    if tag != f"v{version}":
        raise ValueError(f"The tag is {tag!r}, and pyproject.toml says version {version}.")
    address = project["urls"]["Repository"]
    if not address.endswith(f"github.com/{repository}"):
        raise ValueError(f"This is {repository}; pyproject.toml and the docs say {address}.")
    return notes(changelog, version)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    try:
        print(check(*sys.argv[1:3], project, (ROOT / "CHANGELOG.md").read_text()))
    except ValueError as error:
        sys.exit(str(error))

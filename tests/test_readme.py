"""What the README tells a reader to type does what the README says."""

import contextlib
import io
import re
from pathlib import Path

import jax
import pytest

from symjax.studies import STUDIES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_example_prints_what_its_comments_say():
    (example,) = blocks("python")
    assert len([x for x in example.splitlines() if x and not x.startswith(("#", "print"))]) <= 12
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), jax.numpy_dtype_promotion("standard"):
        exec(compile(example, "README.md", "exec"), {})
    comments = [x.partition("  # ")[2] for x in example.splitlines() if x.startswith("print")]
    lines = printed.getvalue().splitlines()
    assert len(lines) == len(comments)
    for line, comment in zip(lines, comments, strict=True):
        said = [float(x) for x in NUMBER.findall(comment.partition(":")[0])]
        got = [float(x) for x in NUMBER.findall(line)]
        assert len(said) == len(got) >= 1
        for a, b in zip(said, got, strict=True):
            # What the comments round; a number at the size of rounding may be any such number.
            assert a == pytest.approx(b, rel=0.05) or max(abs(a), abs(b)) < 1e-13


def test_the_commands_are_the_ones_that_are_checked():
    commands = [x.strip() for x in blocks("bash")]
    assert (
        "python3 -m venv .venv && .venv/bin/pip install '.[studies]' && "
        ".venv/bin/python -m symjax reproduce --out results" in commands
    )
    tests = [x for x in commands if x.endswith("-m pytest")]
    assert tests == [
        "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/python -m pytest"
    ]
    assert tests[0] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_study_is_listed_with_its_own_words():
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", README, re.MULTILINE))
    assert {name: listed.get(name) for name in STUDIES} == dict(STUDIES)


def test_every_file_that_the_readme_shows_or_links_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert "docs/images/figure2.png" in targets
    missing = [x for x in targets if "://" not in x and not (ROOT / x).exists()]
    assert missing == []

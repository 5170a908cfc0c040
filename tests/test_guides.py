"""The guides of docs/: their code runs in order, and prints what the pages say that it prints."""

import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# Its frameworks are in an environment of their own, where .ci/run asks for this page alone.
NEEDS = {
    "frameworks": ("torch", "transformers", "keras", "haiku"),
    "pytorch": ("torch", "torchax"),
}
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if "```python" in p.read_text()]


def blocks(page, language):
    return [textwrap.dedent(m[2]) for m in BLOCK.findall(page.read_text()) if m[1] == language]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:jax.core:DeprecationWarning")  # what Haiku imports
@pytest.mark.usefixtures("as_a_reader_has_it")
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_code_of_a_page_prints_what_the_page_says(page):
    if not all(map(find_spec, NEEDS.get(page.stem, ()))):
        pytest.skip("needs the extra world")
    printed = []
    scope = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    code = blocks(page, "python")
    for block in code:
        exec(compile(block, str(page), "exec"), scope)
    lines = [x for block in code for x in block.splitlines() if x.startswith("print(")]
    said = [x.partition("  # ")[2].partition(": ")[0] for x in lines]
    assert len(said) == len(printed)
    assert [got for got, want in zip(printed, said, strict=True) if want] == [x for x in said if x]
    for table in blocks(page, "text"):
        assert table.strip() in printed


def test_there_is_a_page_for_every_question():
    assert {p.stem for p in PAGES} >= {
        *["start", "symmetries", "curves", "curvature", "chord", "connected", "matching"],
        *["merging", "studies"],
    }

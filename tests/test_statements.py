"""The statements of the paper: docstrings, tests and the README's index name the same ones.

A function that implements a statement ends the prose of its docstring in a line such as
``Paper: Prop. 5.3.``; its test is called ``test_prop_5_3...``; the index has one row for it.
"""

import ast
import importlib
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

import symjax

from .public_names import public_objects

ROOT = Path(__file__).resolve().parent.parent
TAG = re.compile(r"^\s*Paper:\s*(.+?)\.\s*$", re.MULTILINE)


class Row(NamedTuple):
    statement: str
    printed: str
    function: str
    test: str
    studies: str


def normalised(statement):
    """A statement as test names spell it: Prop. A.8 is prop_a_8, Eq. (6) is eq_6."""
    return "_".join(re.findall(r"[a-z]+|\d+", statement.lower()))


def definitions(path):
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.ClassDef)
    return [node for node in ast.walk(tree) if isinstance(node, functions)]


def tags():
    """Every (statement, name of the function that claims it) of the source."""
    return [
        (statement, node.name)
        for path in sorted(Path(symjax.__file__).parent.rglob("*.py"))
        for node in definitions(path)
        for statement in TAG.findall(ast.get_docstring(node) or "")
    ]


def named_tests():
    """Every (statement in its normalised form, file) of the tests."""
    name = re.compile(r"test_((?:prop|thm|eq|sec|cor|lemma)_(?:a|\d+)(?:_\d+)?)(?=_\D|$)")
    return [
        (match[1], str(path.relative_to(ROOT)))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in definitions(path)
        if (match := name.match(node.name))
    ]


def index():
    """The rows of the README's index of statements."""
    section = (ROOT / "README.md").read_text().partition("## Index of statements")[2]
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines[2:]]


ROWS = index()


def once(items):
    """The items as a set, after a check that none occurs twice."""
    counted = Counter(items)
    assert counted
    assert [item for item, count in counted.items() if count > 1] == []
    return set(counted)


def test_docstrings_and_index_name_the_same_statements():
    assert once(statement for statement, _ in tags()) == once(row.statement for row in ROWS)


def test_tests_and_index_name_the_same_statements():
    assert once(name for name, _ in named_tests()) == {normalised(row.statement) for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.statement)
def test_row_of_the_index(row):
    full = row.function.strip("`")
    module, _, function = full.rpartition(".")
    public = getattr(importlib.import_module(module), function)
    assert public in public_objects().values()
    assert dict(tags())[row.statement] == public.__name__ == function
    assert dict(named_tests())[normalised(row.statement)] == row.test.strip("`")
    assert row.printed
    for study in re.findall(r"`(\w+)`", row.studies):
        assert speaks_of(study, function, row.statement), f"{study} has nothing on this statement"


def speaks_of(study, function, statement):
    """Whether a study, or the one that it varies, uses the function or reports the statement."""
    text = Path(symjax.__file__).with_name("studies").joinpath(f"{study}.py").read_text()
    parents = re.findall(r"^from \.(figure\w+) import", text, re.MULTILINE)
    return (
        statement in text
        or re.search(rf"\b{function}\b", text) is not None
        or any(speaks_of(parent, function, statement) for parent in parents)
    )


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("Prop. 5.3", "prop_5_3"),
        ("Thm. 6.2", "thm_6_2"),
        ("Prop. A.8", "prop_a_8"),
        ("Eq. (6)", "eq_6"),
        ("Sec. 6.2", "sec_6_2"),
    ],
)
def test_normalised(statement, name):
    assert normalised(statement) == name
    assert TAG.findall(f"What.\n\nPaper: {statement}.\n\nExample:") == [statement]

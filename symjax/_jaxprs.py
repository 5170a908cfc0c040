"""The programs inside of a program: bodies of loops, branches, what is called."""

from collections.abc import Iterator
from typing import Any


def programs_of(equation: Any) -> Iterator[Any]:
    """The jaxprs, without their constants, that are parameters of an equation or in lists there."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner


def has_program(equation: Any) -> bool:
    """Whether a parameter of an equation is a program, or several."""
    return any(True for _ in programs_of(equation))

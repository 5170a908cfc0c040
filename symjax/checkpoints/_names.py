"""The names of arrays: those of a pytree, and how the names of two sides are paired."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from jaxtyping import PyTree

from .._checks import path_name, require

Names = Mapping[str, Sequence[str]]
"""For each array that is wanted, the names that it may have: tied ones have several."""


def flat(params: PyTree) -> dict[str, Any]:
    """The leaves of a pytree by their names, such as ``layers/0/weight``."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    named = {path_name(path): leaf for path, leaf in leaves}
    require(len(named) == len(leaves), "`params` must not have two leaves of one name.")
    return named


def paired(wanted: Names, held: Iterable[str], what: str) -> dict[str, list[str]]:
    """For each array that is wanted, the held names that are its own: one, or several if tied.

    Names agree as they are, or with ``/`` read as ``.``, or after one prefix (``model.``) is left
    out of all names of a side. Raises ValueError that names what is missing, with what is nearest;
    ``what`` says in it which side holds.
    """
    held = list(held)
    as_they_are = _found(wanted, {name: name for name in held})
    if all(as_they_are.values()):
        return as_they_are
    read = {_dotted(name): name for name in held}
    require(len(read) == len(held), f"{what} must not have names that differ only in / and '.'.")
    dotted = {name: [_dotted(other) for other in others] for name, others in wanted.items()}
    whole = [found for found in _readings(dotted, read) if all(found.values())]
    if len(whole) == 1:
        return whole[0]
    require(
        not whole, f"{what} holds the wanted arrays more than once, below prefixes that differ."
    )
    missing = [name for name, found in as_they_are.items() if not found]
    used = {name for found in as_they_are.values() for name in found}
    free = [name for name in held if name not in used]
    raise ValueError(
        f"{what} lacks {len(missing)} of {len(wanted)} arrays: {_with_nearest(missing, free)}."
    )


def _dotted(name):
    return name.replace("/", ".")


def _found(wanted, held):
    return {name: [held[x] for x in others if x in held] for name, others in wanted.items()}


def _readings(wanted, held):
    """What is found as it is, below each prefix of the held names, and without each of the wanted.

    A prefix is whole scopes, and every wanted name has to have it.
    """
    yield _found(wanted, held)
    first = next(iter(wanted.values()), [])
    prefixes = {name[: -len(x)] for x in first for name in held if name.endswith("." + x)}
    for prefix in sorted(prefixes):
        yield _found({k: [prefix + x for x in others] for k, others in wanted.items()}, held)
    for x in first:
        for cut in [i + 1 for i, letter in enumerate(x) if letter == "."]:
            prefix = x[:cut]
            if all(any(y.startswith(prefix) for y in others) for others in wanted.values()):
                strip = lambda others, p=prefix: [y.removeprefix(p) for y in others]
                yield _found({k: strip(others) for k, others in wanted.items()}, held)


def nearest(name: str, names: Iterable[str]) -> str:
    """The most similar name in quotes; empty where none is similar."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return repr(found[0]) if found else ""


def _with_nearest(missing, free):
    shown = []
    for name in missing[:3]:
        near = nearest(name, free)
        shown.append(f"{name!r} (nearest: {near})" if near else repr(name))
    return ", ".join(shown) + (f", ... ({len(missing)} in all)" if missing[3:] else "")

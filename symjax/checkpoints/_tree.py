"""Formats that hold a tree: its leaves by names with ``/`` between the keys."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .._checks import require

ARRAYS = (jax.Array, np.ndarray, np.generic)


def leaves(
    tree: Any, kinds: Any = ARRAYS, dot: str = "/", before: str = ""
) -> Iterator[tuple[str, Any, Any, Any]]:
    """(name, container, key, array) for the arrays in dictionaries and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, x in list(items):
        if isinstance(x, dict | list):
            yield from leaves(x, kinds, dot, f"{before}{key}{dot}")
        elif isinstance(x, kinds):
            yield f"{before}{key}", tree, key, x


def nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """The tree of which these are the names."""
    tree: dict[str, Any] = {}
    for name, x in arrays.items():
        *scopes, last = name.split("/")
        node = tree
        for scope in scopes:
            node = node.setdefault(scope, {})
            require(isinstance(node, dict), f"`params` has an array and a scope {scope!r} in one.")
        require(last not in node, f"`params` has an array and a scope of one name, {name!r}.")
        node[last] = x
    return tree


def put_back(tree: Any, arrays: dict[str, Any]) -> Any:
    """The tree of another checkpoint, changed in place to hold these."""
    for name, holder, key, old in list(leaves(tree)):
        holder[key] = arrays[name][()] if isinstance(old, np.generic) else arrays[name]
    return tree

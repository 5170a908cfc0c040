"""A checkpoint like another: its names, their order and dtypes, with other values."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._checks import describe, is_floating, require
from ._names import paired
from ._put import same_bits


def replaced(original: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of ``original`` in their order, with the values of ``new`` where it has them.

    An array that ``new`` lacks stays; but where it is a copy of one that ``new`` has (a tied leaf
    stored twice: same bits, and more than one number in them) it is a copy of the new one, too.
    """
    found = paired({name: [name] for name in new}, original, "`like`")
    into = {names[0]: new[name] for name, names in found.items()}
    require(len(into) == len(new), "`params` must not have two leaves for one array of `like`.")
    for name, x in into.items():
        old = original[name]
        require(
            np.shape(x) == np.shape(old) and _dtype(x, old) == old.dtype,
            f"`params` has {describe(x)} for {name!r}, where `like` has {describe(old)}; expected "
            "the same.",
        )
    left = [name for name in original if name not in into and _tells(original[name])]
    stored: dict[Any, list[str]] = {}
    for name in into if left else ():
        stored.setdefault(_bits(original[name]), []).append(name)
    for name in left:
        sources = stored.get(_bits(original[name]), [])
        require(
            all(same_bits(into[sources[0]], into[other]) for other in sources),
            f"`like` has copies of {name!r}, which `params` lacks, that are no copies any more: "
            f"{sources}; pass {name!r}, too.",
        )
        if sources:
            into[name] = into[sources[0]]
    return {name: into.get(name, x) for name, x in original.items()}


def _dtype(x, old):
    """The dtype as the format has it: NumPy's files know dtypes like bfloat16 as bytes alone."""
    raw = np.dtype(f"V{old.dtype.itemsize}")
    same = old.dtype == raw and x.dtype.kind == "V" and x.dtype.itemsize == raw.itemsize
    return old.dtype if same else x.dtype


def _tells(x):
    """Whether equality with another array is no accident: not all ones, zeros, or empty."""
    return is_floating(x) and x.size > 1 and bool(np.any(x != x.reshape(-1)[0]))


def _bits(x):
    return x.shape, x.dtype.str, hashlib.sha256(np.asarray(x, order="C").tobytes()).digest()

"""How results print: their numbers to three digits, and never the weights of a model.

Equinox prints ``f32[]`` for an array, which suits parameters and hides what a result is for. Every
result class has `printed` as its ``__repr__``: modules by `AbstractResult`, others by name.
"""

import dataclasses
import html
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ._checks import is_concrete

MOST_NUMBERS = 8
"""An array or a container of more entries is told by its shape and range, or by its size."""

WIDTH = 100


def printed(self: Any, *properties: str) -> str:
    """A dataclass or named tuple on one line, or a line per field where that is too long.

    ``properties`` are printed after the first field, once their values are known.
    """
    names = _field_names(self)
    if properties and _is_whole(self, names):
        names[1:1] = properties
    parts = [f"{name}={_value(getattr(self, name, None))}" for name in names]
    kind = type(self).__name__
    line = f"{kind}({', '.join(parts)})"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    return f"{kind}(\n" + "".join(f"  {_indented(part)},\n" for part in parts) + ")"


class AbstractResult(eqx.Module):
    """What a function found, as a pytree that prints its numbers."""

    def __repr__(self) -> str:
        return printed(self)


def html_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> str:
    """A table with notes below it, as a notebook shows it."""
    cells = lambda tag, row: "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
    lines = [f"<tr>{cells('th', heads)}</tr>", *(f"<tr>{cells('td', row)}</tr>" for row in rows)]
    below = [f"<p>{html.escape(note)}</p>" for note in notes]
    return "\n".join(["<table>", *lines, "</table>", *below])


def _field_names(result):
    if isinstance(result, tuple):
        return list(result._fields)  # type: ignore[attr-defined]
    return [field.name for field in dataclasses.fields(result)]


def _is_whole(result, names):
    """Whether every field has its value: JAX and Equinox put anything into the leaves."""
    leaves = jax.tree.leaves(result)
    return all(getattr(result, n) is not None for n in names) and all(map(_is_readable, leaves))


def _indented(text):
    return text.replace("\n", "\n  ")


def _value(value):
    if isinstance(value, jax.Array | np.ndarray):
        return _array(value)
    if isinstance(value, np.generic | numbers.Number):
        return _number(value)
    if isinstance(value, str) or value is None:
        return repr(value)
    if isinstance(value, eqx.Module) and type(value).__repr__ is eqx.Module.__repr__:
        return f"{type(value).__name__}(...)"  # a curve or an action, which would print weights
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        return repr(value)
    if isinstance(value, tuple | list | Mapping):
        return _container(value)
    name = getattr(value, "__name__", None)
    return f"<{name}>" if isinstance(name, str) else eqx.tree_pformat(value)[:WIDTH]


def _number(value):
    if isinstance(value, bool | np.bool | numbers.Integral):
        return str(value)
    return f"{value:.3g}"


def _array(value):
    if not _is_readable(value):
        return eqx.tree_pformat(value)
    x = np.asarray(value)
    if x.dtype.kind == "V":  # bfloat16, float8 and int4 are not NumPy's own
        x = x.astype(np.float32)
    if x.dtype.kind not in "biufc":
        return eqx.tree_pformat(value)
    if x.ndim == 0:
        return _number(x[()])
    if x.ndim == 1 and x.size <= MOST_NUMBERS:
        return "[" + ", ".join(map(_number, x)) + "]"
    return f"{value.dtype.name}[{','.join(map(str, x.shape))}]{_range(x)}"


def _is_readable(value):
    """Whether an array has values here: not traced, not donated, not on another machine."""
    if isinstance(value, np.ndarray):
        return True
    if not isinstance(value, jax.Array) or not is_concrete(value):
        return False
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.extended):
        return False
    return value.is_fully_addressable and not value.is_deleted()


def _range(x):
    """From where to where the numbers of an array lie, and how many are NaN."""
    if x.dtype.kind == "b":
        return f", {int(x.sum())} True"
    if x.dtype.kind == "c" or not x.size:
        return ""
    known = x[~np.isnan(x)]
    nans = x.size - known.size
    ends = f" from {_number(known.min())} to {_number(known.max())}" if known.size else ""
    return ends + (f", {nans} NaN" if nans else "")


def _container(value):
    arrays = [x for x in jax.tree.leaves(value) if hasattr(x, "shape")]
    entries = sum(math.prod(x.shape) for x in arrays)
    if any(x.shape for x in arrays):
        plural = "" if len(arrays) == 1 else "s"
        return f"<{len(arrays)} array{plural}, {entries} numbers>"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_value(v)}" for k, v in value.items()) + "}"
    items = list(map(_value, value))
    if len(items) > MOST_NUMBERS:
        items = [*items[: MOST_NUMBERS - 1], "...", items[-1]]
    if isinstance(value, list):
        return f"[{', '.join(items)}]"
    return f"({', '.join(items)}{',' * (len(items) == 1)})"

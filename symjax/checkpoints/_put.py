"""Arrays of a checkpoint into the parameters of a model, by name."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks import describe, is_floating, is_inexact, require
from ._names import flat, nearest, paired


class TiedApart(ValueError):
    """Two arrays of a checkpoint differ that are one parameter of the model; ``names`` has them."""

    def __init__(self, names: tuple[str, str]):
        super().__init__(
            f"`arrays` has different values for {names[0]!r} and {names[1]!r}, which are one "
            "parameter of the model (tied): a change of the one was not made in the other."
        )
        self.names = names


def put(
    params: PyTree, arrays: Mapping[str, Any], *, tied: Mapping[str, str] | None = None
) -> PyTree:
    """Parameters like ``params`` with the values of ``arrays``, leaf by leaf, by name (host-only).

    ``params`` is a pytree of arrays, or of `jax.ShapeDtypeStruct`; the name of a leaf is its path,
    as ``layers/0/weight``. Names agree as they are, with ``/`` read as ``.``, or after one prefix
    (``model.``) is left out of all names of a side. ``tied`` maps other names of a leaf to its own:
    a checkpoint may use any of them. Integers and booleans that ``params`` lacks (counters, tables
    of positions) are left out. Nothing is converted: float32 stays float32.

    Raises ValueError for a leaf that ``arrays`` lacks, with the name that is nearest; for floating
    arrays that no leaf takes; for shapes or dtypes that differ; for two names of one leaf with
    different values.

    Example:
        >>> params = {"dense": {"kernel": jnp.zeros((2, 3))}}
        >>> put(params, {"model.dense.kernel": jnp.ones((2, 3))})["dense"]["kernel"].sum().item()
        6.0
    """
    require(
        isinstance(arrays, Mapping),
        f"`arrays` must be a dictionary of arrays, got {type(arrays).__name__}.",
    )
    leaves = flat(params)
    others = {name: [name] for name in leaves}
    for other, name in (tied or {}).items():
        require(name in others, f"`tied` names {name!r}, which `params` does not have.")
        others[name].append(other)
    found = paired(others, arrays, "`arrays`")
    used = {name for names in found.values() for name in names}
    spare = [name for name in arrays if name not in used and is_inexact(arrays[name])]
    require(
        not spare,
        f"`arrays` has {len(spare)} arrays that no leaf of `params` takes: "
        f"{', '.join(map(repr, spare[:3]))}{', ...' if spare[3:] else ''}"
        + (f" (nearest leaf: {near})" if spare and (near := nearest(spare[0], leaves)) else "")
        + ". (If these are the statistics of a norm: `state_as_parameters=True` of the adapters "
        "makes them parameters.)",
    )
    values = [_one(leaf, arrays, found[name]) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(params), values)


def _one(leaf, arrays, names):
    """The value of a leaf, checked against it."""
    first = _as(leaf, arrays[names[0]])
    for other in names[1:]:
        if not same_bits(first, _as(leaf, arrays[other])):
            raise TiedApart((names[0], other))
    require(
        jnp.shape(first) == jnp.shape(leaf) and first.dtype == leaf.dtype,
        f"`arrays` has {describe(first)} for {names[0]!r}, where `params` has {describe(leaf)}.",
    )
    return first if isinstance(leaf, np.ndarray) else jnp.asarray(first)


def _as(leaf, x):
    """An array with the dtype of a leaf where it is bytes alone: NumPy's files say no more."""
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if x.dtype.kind == "V" and x.dtype.names is None and is_floating(leaf):
        is_raw = x.dtype == np.dtype(f"V{x.dtype.itemsize}")
        return x.view(leaf.dtype) if is_raw and x.dtype.itemsize == leaf.dtype.itemsize else x
    return x


def same_bits(x: Any, y: Any) -> bool:
    """Whether two arrays are the same, bit for bit."""
    x, y = np.asarray(x), np.asarray(y)
    same = x.shape == y.shape and x.dtype == y.dtype
    return same and x.tobytes() == y.tobytes()

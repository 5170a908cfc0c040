"""Elements of a list of symmetries: apply, check, save and load."""

import json
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks import require
from ..discovery import Acting, resolve
from ._membership import check_element
from ._table import moving_actions, order_of

Element: TypeAlias = tuple[Any, ...]
"""One group element for each symmetry of ``resolve(symmetries, approximate)``, in that order."""


def apply_element(
    symmetries: Acting,
    element: Element,
    params: PyTree,
    *,
    inverse: bool = False,
    approximate: bool = False,
) -> PyTree:
    """The parameters moved by one element of each symmetry; by their inverse if asked.

    The element has an entry for each symmetry of `symjax.discovery.resolve`: for the exact ones,
    and with ``approximate`` for all, as the function that made the element was asked.

    Permutations act first, then scalings, signs and matrices, then translations, whatever the order
    of the list: this is the order in which `match` hands an element back. Works under jit and vmap.

    Raises ValueError for an element of another number of symmetries, an entry whose structure or
    shape is not that of its group, and, outside jit, one that is not in its group: a singular
    matrix, one that is not orthogonal, indices that are no permutation, a scale that is not
    positive, a NaN. Under jit such an entry gives NaN or is not noticed.

    Example:
        >>> from symjax import Permutation, Leg, linear_action, Symmetry, matching
        >>> legs = [Leg(0, 0), Leg(1, 1)]
        >>> swap = Symmetry("hidden units", linear_action(Permutation(2), legs), ("0", "1"))
        >>> params = (jnp.array([[1.0], [2.0]]), jnp.array([[3.0, 4.0]]))
        >>> moved = matching.apply_element([swap], (jnp.array([1, 0]),), params)
        >>> [w.ravel().tolist() for w in moved]
        [[2.0, 1.0], [4.0, 3.0]]
    """
    symmetries = resolve(symmetries, approximate)
    check_element(symmetries, element)
    actions = moving_actions(symmetries)
    order = sorted({(order_of(g), i) for i, a in enumerate(actions) for g in a.group.factors})
    for rank, i in reversed(order) if inverse else order:
        action = actions[i]
        g: Any = _part(action.group, element[i], rank)
        params = action(action.group.inverse(g) if inverse else g, params)
    return params


def _part(group, g, rank):
    """The entries of a product that act at this point; the identity for the others."""
    rows = zip(group.factors, group.entries(g), group.entries(group.identity()), strict=True)
    return group.element(
        tuple(entry if order_of(one) == rank else nothing for one, entry, nothing in rows)
    )


def identity_element(
    symmetries: Acting, dtype: Any = None, *, approximate: bool = False
) -> Element:
    """The element that moves nothing; an entry for each symmetry, as in `apply_element`.

    Example:
        >>> from symjax import Leg, SignFlip, Symmetry, linear_action, matching
        >>> flips = Symmetry("signs", linear_action(SignFlip(2), [Leg(0, 0)]), ("0",))
        >>> [g.tolist() for g in matching.identity_element([flips])]
        [[1.0, 1.0]]
    """
    return tuple(s.group.identity(dtype) for s in resolve(symmetries, approximate))


def save_element(
    path: str | Path, symmetries: Acting, element: Element, *, approximate: bool = False
) -> None:
    """Write an element to an ``.npz`` file, with the names and groups that it belongs to (host).

    ``approximate`` says which symmetries it has entries for, as in `apply_element`.

    Raises ValueError for an element that is not one of these symmetries, as `apply_element`.

    Example:
        >>> import tempfile
        >>> from symjax import Leg, SignFlip, Symmetry, linear_action, matching
        >>> flips = Symmetry("signs", linear_action(SignFlip(2), [Leg(0, 0)]), ("0",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/element.npz"
        ...     matching.save_element(path, [flips], (jnp.array([1.0, -1.0]),))
        ...     matching.load_element(path, [flips])[0].tolist()
        [1.0, -1.0]
    """
    symmetries = resolve(symmetries, approximate)
    check_element(symmetries, element)
    arrays: dict[str, Any] = {}
    for i, g in enumerate(element):
        for k, x in enumerate(map(np.asarray, jax.tree.leaves(g))):
            # NumPy's files do not know bfloat16: its numbers are those of float32.
            arrays[f"{i}/{k}"] = x.astype(np.float32) if x.dtype.kind == "V" else x
            arrays[f"{i}/{k}/dtype"] = np.asarray(x.dtype.name)
    heading = np.frombuffer(json.dumps(_heading(symmetries)).encode(), np.uint8)
    # Written beside and renamed: a file of this name is whole or not there.
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, symmetries=heading, **arrays)
    partial.replace(path)


def load_element(path: str | Path, symmetries: Acting, *, approximate: bool = False) -> Element:
    """Read an element that `save_element` wrote, with the same ``approximate`` (host-only).

    Raises ValueError for a file that is truncated or is no such file, for an element of other
    symmetries, naming the first that differs, and for numbers that are not in their group.

    Example:
        >>> import tempfile
        >>> from symjax import Leg, SignFlip, Symmetry, linear_action, matching
        >>> flips = Symmetry("signs", linear_action(SignFlip(2), [Leg(0, 0)]), ("0",))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/element.npz"
        ...     matching.save_element(path, [flips], (jnp.array([1.0, -1.0]),))
        ...     matching.load_element(path, [flips])[0].tolist()
        [1.0, -1.0]
    """
    symmetries = resolve(symmetries, approximate)
    moving_actions(symmetries)
    try:
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        heading = json.loads(stored.pop("symmetries").tobytes())
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"`path` {str(path)!r} is truncated or is not an element saved by save_element: "
            f"{type(error).__name__}: {error}"
        ) from error
    expected = _heading(symmetries)
    require(
        len(heading) == len(expected),
        f"The element in {str(path)!r} is of {len(heading)} symmetries, `symmetries` has "
        f"{len(expected)}.",
    )
    for i, (got, want) in enumerate(zip(heading, expected, strict=True)):
        require(
            got == want,
            f"The element in {str(path)!r} is of another model: its symmetry {i} is {got}, "
            f"`symmetries[{i}]` is {want}.",
        )
    element = []
    for i, symmetry in enumerate(symmetries):
        structure = jax.tree.structure(jax.eval_shape(symmetry.group.identity))
        names = [f"{i}/{k}" for k in range(structure.num_leaves)]
        require(
            all(name in stored and f"{name}/dtype" in stored for name in names),
            f"`path` {str(path)!r} lacks entry {i} of its element.",
        )
        leaves = [_restored(stored[name], stored[f"{name}/dtype"]) for name in names]
        element.append(jax.tree.unflatten(structure, leaves))
    try:
        check_element(symmetries, tuple(element))
    except ValueError as error:
        raise ValueError(f"`path` {str(path)!r} holds no element: {error}") from error
    return tuple(element)


def _restored(x, dtype):
    return jnp.asarray(x, jax.dtypes.canonicalize_dtype(dtype.item()))


def _heading(symmetries):
    return [[s.name, str(s.group), list(s.leaves)] for s in symmetries]

"""State dict in, state dict out: several checkpoints brought into the coordinates of one."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from .._checks import require, require_callable
from ..checkpoints import put
from ..checkpoints._names import flat, paired
from ..discovery import find_symmetries
from ..matching import match


def align_state_dicts(
    source: tuple[Any, Any, Any],
    reference: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
    *,
    key: Key[Array, ""] | None = None,
) -> list[dict[str, np.ndarray]]:
    """The other checkpoints moved to where they are nearest to the reference (host-only).

    ``source`` is the model, ``(apply, params, inputs)``: its symmetries are found once. Checkpoints
    are flat dicts of arrays by the names of its leaves, as `symjax.checkpoints.put` reads them.
    Each comes back with its own names, their order and dtypes, as the same function: what averages
    weights can be called on the result. Names that the model does not have are left as they are.

    Raises ValueError for a source that is none, and for names or shapes that do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> a = {"up": jnp.array([[1.0, 2.0]]), "down": jnp.array([[3.0], [-1.0]])}
        >>> b = {"up": a["up"][:, ::-1], "down": a["down"][::-1]}
        >>> (aligned,) = align_state_dicts((apply, a, (jnp.ones((1, 1)),)), a, [b])
        >>> aligned["up"].tolist(), aligned["down"].tolist()
        ([[1.0, 2.0]], [[3.0], [-1.0]])
    """
    require(
        isinstance(source, tuple | list) and len(source) == 3,
        f"`source` must be (apply, params, inputs), got {type(source).__name__}.",
    )
    apply, params, inputs = source
    require_callable("source[0]", apply)
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    symmetries = find_symmetries(apply, params, *inputs)
    target = put(_like(params, reference), reference)
    aligned = []
    for other in others:
        given = put(_like(params, other), other)
        cast = jax.tree.map(lambda x, y: x.astype(y.dtype), given, target)
        moved = flat(match(symmetries, target, cast, key=key).params)
        own = paired({name: [name] for name in moved}, other, "`others`")
        new = {held: moved[name] for name, names in own.items() for held in names}
        aligned.append(
            {k: np.asarray(new[k]).astype(x.dtype) if k in new else x for k, x in other.items()}
        )
    return aligned


def _like(params, arrays):
    """The parameters' shapes with the dtypes of a checkpoint."""
    leaves = flat(params)
    own = paired({name: [name] for name in leaves}, arrays, "`arrays`")
    rows = [
        jax.ShapeDtypeStruct(np.shape(x), arrays[own[name][0]].dtype) for name, x in leaves.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(params), rows)

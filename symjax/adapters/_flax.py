"""Flax models, of both its module systems."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

from .._checks import require
from ._apply import Apply, calling, imported


def from_nnx(
    model: Any, call: Callable[..., Any] | None = None, *, state_as_parameters: bool = False
) -> tuple[Apply, PyTree]:
    """A Flax NNX model as ``(apply, params)``; the parameters are its `nnx.Param` variables.

    Batch statistics and other variables are held constant, and what a call writes to them is
    dropped; ``state_as_parameters`` makes the `nnx.BatchStat` variables parameters too. Call
    ``model.train()`` or ``model.eval()`` first to choose what the norms do.

    Raises ImportError without Flax (the extra ``flax``), ValueError for a model without parameters.

    Example:
        >>> from flax import nnx
        >>> apply, params = from_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> apply(params, jnp.ones(2)).shape
        (3,)
    """
    nnx = imported("flax.nnx", "Flax", "flax")
    kinds = (nnx.Param, nnx.BatchStat) if state_as_parameters else nnx.Param
    graph, params, rest = nnx.split(model, kinds, ...)
    require(bool(jax.tree.leaves(params)), "`model` holds no nnx.Param.")
    restore = lambda params: nnx.merge(graph, params, rest, copy=True)
    method = calling(call)
    run = lambda params, *inputs, **options: method(restore(params), *inputs, **options)
    return Apply(run, restore), params


def from_linen(
    module: Any,
    variables: PyTree,
    call: Callable[..., Any] | None = None,
    *,
    state_as_parameters: bool = False,
) -> tuple[Apply, PyTree]:
    """A Flax Linen module with its variables as ``(apply, params)``.

    The parameters are the collection ``"params"``, the other collections are held constant and
    what a call writes to them is dropped; ``state_as_parameters`` makes all collections parameters,
    under their names. ``call(bound, *inputs)`` says how to run the bound module.
    ``apply.restore(params)`` gives the variables.

    Raises ImportError without Flax (the extra ``flax``), ValueError where ``variables`` has no
    collection ``"params"``.

    Example:
        >>> from flax import linen
        >>> module = linen.Dense(3)
        >>> variables = module.init(jax.random.key(0), jnp.ones(2))
        >>> apply, params = from_linen(module, variables)
        >>> sorted(params), apply(params, jnp.ones(2)).shape
        (['bias', 'kernel'], (3,))
    """
    linen = imported("flax.linen", "Flax", "flax")
    require(
        isinstance(module, linen.Module),
        f"`module` must be a flax.linen.Module, got {type(module).__name__}.",
    )
    require(
        isinstance(variables, dict) and "params" in variables,
        f"`variables` must be a dictionary with the collection 'params', got {_kind(variables)}.",
    )
    require(bool(jax.tree.leaves(variables["params"])), "`variables` holds no parameters.")
    state = {name: tree for name, tree in variables.items() if name != "params"}

    def restore(params):
        return params if state_as_parameters else {"params": params, **state}

    written, method = list(state), calling(call)

    def run(params, *inputs, **options):
        return module.apply(restore(params), *inputs, **options, method=method, mutable=written)[0]

    return Apply(run, restore), variables if state_as_parameters else variables["params"]


def _kind(value):
    return f"the keys {sorted(value)}" if isinstance(value, dict) else type(value).__name__

"""Adapters: an Equinox, Flax NNX or Flax Linen model as ``(apply, params)``, and back.

The only module of the package that knows a framework. ``apply(params, *inputs)`` is a pure function
and ``params`` a pytree whose leaves are the parameters; ``apply.restore(params)`` is the model with
other parameters. Flax is imported when it is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from ._checks import require


@dataclass(frozen=True, eq=False)  # hashed by identity, as a function is: jax.jit(apply) works
class Apply:
    """A model without its parameters: ``apply(params, *inputs)`` runs it with some.

    ``restore(params)`` gives the framework's own object back. ``call`` is how the restored model is
    run, `None` for ``model(*inputs)``.
    """

    rest: PyTree
    merge: Callable[..., Any]
    call: Callable[..., Any] | None

    def restore(self, params: PyTree) -> Any:
        """The framework's model with these parameters."""
        return self.merge(params, self.rest)

    def __call__(self, params: PyTree, *inputs: Any, **options: Any) -> Any:
        """Run the model with these parameters."""
        model = self.restore(params)
        if self.call is None:
            return model(*inputs, **options)
        return self.call(model, *inputs, **options)


def from_equinox(model: PyTree, call: Callable[..., Any] | None = None) -> tuple[Apply, PyTree]:
    """An Equinox model as ``(apply, params)``; the parameters are its floating-point arrays.

    ``call(model, *inputs)`` says how to run the model where ``model(*inputs)`` does not: to map it
    over a batch, or with a state. A pair ``(model, state)`` makes the state's floating arrays
    parameters too; a state that ``call`` captures is constant.

    Raises ValueError for what is no Equinox model, or one without a floating-point array.

    Example:
        >>> mlp = eqx.nn.MLP(2, 1, 8, 1, key=jax.random.key(0))
        >>> apply, params = from_equinox(mlp)
        >>> apply(params, jnp.ones(2)).shape
        (1,)
        >>> apply.restore(params).layers[0].weight.shape
        (8, 2)
    """
    is_module = lambda x: isinstance(x, eqx.Module)
    require(
        any(map(is_module, jax.tree.leaves(model, is_leaf=is_module))),
        f"`model` must be an Equinox module or a pytree of them, got {type(model).__name__}; for "
        "Flax there are from_nnx and from_linen.",
    )
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    require(bool(jax.tree.leaves(params)), "`model` holds no floating-point array.")
    require(
        call is not None or callable(model),
        f"`model` is a {type(model).__name__}, which cannot be called: pass "
        "`call`, a function of the model and the inputs.",
    )
    return Apply(rest, eqx.combine, call), params


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
    nnx = _flax("nnx")
    kinds = (nnx.Param, nnx.BatchStat) if state_as_parameters else nnx.Param
    graph, params, rest = nnx.split(model, kinds, ...)
    require(bool(jax.tree.leaves(params)), "`model` holds no nnx.Param.")
    return Apply(rest, lambda params, rest: nnx.merge(graph, params, rest, copy=True), call), params


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
    linen = _flax("linen")
    require(
        isinstance(module, linen.Module),
        f"`module` must be a flax.linen.Module, got {type(module).__name__}.",
    )
    require(
        isinstance(variables, dict) and "params" in variables,
        f"`variables` must be a dictionary with the collection 'params', got {_kind(variables)}.",
    )
    require(bool(jax.tree.leaves(variables["params"])), "`variables` holds no parameters.")
    run = (lambda module, *inputs, **options: module(*inputs, **options)) if call is None else call
    state = {name: tree for name, tree in variables.items() if name != "params"}

    def call_with(variables, *inputs, **options):
        return module.apply(variables, *inputs, **options, method=run, mutable=list(state))[0]

    if state_as_parameters:
        return Apply(None, lambda params, rest: params, call_with), variables
    merge = lambda params, rest: {"params": params, **rest}
    return Apply(state, merge, call_with), variables["params"]


def _kind(value):
    return f"the keys {sorted(value)}" if isinstance(value, dict) else type(value).__name__


def _flax(name):
    try:
        import flax.linen
        import flax.nnx
    except ImportError as error:
        raise ImportError(
            "This adapter needs Flax: pip install 'symjax-symmetry[flax]'."
        ) from error
    return {"nnx": flax.nnx, "linen": flax.linen}[name]

"""An Equinox model: its floating-point arrays are the parameters."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from .._checks import require
from ._apply import Apply, calling

_STATE = (
    "This model keeps state (eqx.nn.BatchNorm and the like do): it is called with its state, and "
    "returns a new one, which is no output. Give `from_equinox` a `call` that says so: "
    "lambda model, x: jax.vmap(model, axis_name='batch', in_axes=(0, None), out_axes=(0, None))"
    "(x, state)[0]. With eqx.nn.inference_mode(model) the stored statistics are constants."
)


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
        "Flax there are from_nnx and from_linen, for PyTorch from_torch, for Keras from_keras.",
    )
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    require(bool(jax.tree.leaves(params)), "`model` holds no floating-point array.")
    require(
        call is not None or callable(model),
        f"`model` is a {type(model).__name__}, which cannot be called: pass "
        "`call`, a function of the model and the inputs.",
    )
    restore, method = lambda params: eqx.combine(params, rest), calling(call)
    is_state = lambda x: isinstance(x, eqx.nn.StateIndex)
    stateful = any(map(is_state, jax.tree.leaves(model, is_leaf=is_state)))

    def run(params, *inputs, **options):
        try:
            return method(restore(params), *inputs, **options)
        except Exception as error:
            if stateful:
                error.add_note(_STATE)
            raise

    return Apply(run, restore), params

"""A Keras 3 model on the JAX backend: its trainable variables, by their paths."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._checks import require
from ._apply import Apply, calling, imported, require_names


def from_keras(
    model: Any, call: Callable[..., Any] | None = None, *, state_as_parameters: bool = False
) -> tuple[Apply, PyTree]:
    """A Keras 3 model as ``(apply, params)``; ``params`` has the paths of its trainable variables.

    The parameters are a flat dictionary. The numbers in names that Keras made up count the layers
    of this model, not of the whole session, so two builds of a model have the same names. Variables
    that are not trained (statistics of norms, frozen layers) are held constant, and what a call
    writes to them is dropped; ``state_as_parameters`` makes the floating-point ones parameters too.
    ``call(model, *inputs)`` says how to run the model where ``model(*inputs)`` does not. Layers run
    as in prediction, unless ``call`` passes ``training=True``. ``apply.restore(params)`` is a new
    model.

    Raises ImportError without Keras (the extra ``keras``). Raises ValueError where Keras does not
    run on JAX, for what is no Keras layer, and for one without variables (not built yet).

    Example:
        >>> import os; os.environ["KERAS_BACKEND"] = "jax"
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> apply, params = from_keras(model)
        >>> sorted(params), apply(params, jnp.ones((4, 2))).shape
        (['dense/bias', 'dense/kernel'], (4, 3))
    """
    keras = imported("keras", "Keras 3", "keras")
    require(
        keras.config.backend() == "jax",
        f"Keras must run on JAX, and it runs on {keras.config.backend()}: set the environment "
        "variable KERAS_BACKEND=jax before Keras is imported.",
    )
    require(
        isinstance(model, keras.Layer),
        f"`model` must be a Keras model or layer, got {type(model).__name__}.",
    )
    require(bool(model.variables), "`model` has no variables; call it once, or model.build(shape).")
    names = _names(model)
    chosen = _parameters(model, state_as_parameters)
    require(bool(chosen), "`model` has no trainable variables.")
    trained = {names[id(v)]: v for v in chosen}
    params = {name: jnp.array(v.value, copy=True) for name, v in trained.items()}
    constants = [
        (v, jnp.array(v.value, copy=True))
        for v in model.variables
        if not any(v is t for t in chosen)
    ]
    shapes, method = {name: tuple(v.shape) for name, v in trained.items()}, calling(call)

    def run(params, *inputs, **options):
        require_names(params, shapes)
        values = [*((trained[name], jnp.asarray(x)) for name, x in params.items()), *constants]
        # Keras is written for JAX as it comes; a caller may have made it stricter.
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            keras.StatelessScope(state_mapping=values),
        ):
            return method(model, *inputs, **options)

    def restore(params):
        require_names(params, shapes)
        made = _copy(model)
        mine = {id(v): i for i, v in enumerate(model.variables)}
        for v, x in [*((trained[name], x) for name, x in params.items()), *constants]:
            made.variables[mine[id(v)]].assign(x)
        return made

    return Apply(run, restore), params


def _parameters(model, state_as_parameters):
    if not state_as_parameters:
        return model.trainable_variables
    return [v for v in model.variables if jnp.issubdtype(v.dtype, jnp.inexact)]


def _names(model):
    """A name for each variable (by identity): its path, with the numbers of this model alone.

    Keras numbers the layers of a session, so that the second model built has a ``dense_7``.
    """
    counts, renamed = {}, {}
    for layer in model._flatten_layers(include_self=False, recursive=True):
        base = re.sub(r"_\d+$", "", layer.name)
        made_up = base.replace("_", "") == type(layer).__name__.replace("_", "").lower()
        if made_up and layer.name not in renamed:
            counts[base] = counts.get(base, -1) + 1
            renamed[layer.name] = f"{base}_{counts[base]}" if counts[base] else base
    taken, names = {}, {}
    for v in model.variables:
        scopes = v.path.split("/")
        scopes = scopes[scopes[0] == model.name and len(scopes) > 1 :]
        name = "/".join(renamed.get(scope, scope) for scope in scopes)
        taken[name] = taken.get(name, 0) + 1  # two layers of a subclassed model may share a name
        names[id(v)] = name if taken[name] == 1 else f"{name}_{taken[name] - 1}"
    return names


def _copy(model):
    """Another model of the same configuration, with variables in the same order."""
    try:
        made = type(model).from_config(model.get_config())
        if not made.built:
            made.build_from_config(model.get_build_config())
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            f"`model` cannot be made again from its configuration ({error}): give its class a "
            "get_config."
        ) from error
    same = [v.shape for v in made.variables] == [v.shape for v in model.variables]
    require(same, "`model` made again from its configuration has other variables.")
    return made

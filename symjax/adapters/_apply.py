"""What every adapter returns beside the parameters, and how a missing framework is named."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from .._checks import describe, require
from .._compatibility import install


@dataclass(frozen=True, eq=False)  # hashed by identity, as a function is: jax.jit(apply) works
class Apply:
    """A model without its parameters: ``apply(params, *inputs)`` runs it with some.

    ``restore(params)`` gives the framework's own object back.
    """

    run: Callable[..., Any]
    rebuild: Callable[[PyTree], Any]

    def restore(self, params: PyTree) -> Any:
        """The framework's model with these parameters."""
        return self.rebuild(params)

    def __call__(self, params: PyTree, *inputs: Any, **options: Any) -> Any:
        """Run the model with these parameters."""
        return self.run(params, *inputs, **options)


def calling(call: Callable[..., Any] | None) -> Callable[..., Any]:
    """How a model is run: ``call(model, *inputs)``, or ``model(*inputs)`` where there is none."""
    if call is not None:
        require(
            callable(call),
            f"`call` must be a function of the model and its inputs, got {describe(call)}; inputs "
            "are given to what the adapter returns: apply(params, *inputs).",
        )
        return call
    return lambda model, *inputs, **options: model(*inputs, **options)


def imported(name: str, framework: str, extra: str) -> Any:
    """The module of a framework, or an ImportError that says which extra brings it."""
    try:
        return importlib.import_module(name)
    except (ImportError, AttributeError) as error:  # AttributeError: versions that do not fit
        raise ImportError(
            f"This adapter needs {framework}: {install(extra)} (this is the extra `{extra}` of "
            f"symjax-symmetry). The import said: {error}"
        ) from error


def require_names(params: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A flat dictionary with these names and shapes, or a ValueError that says what differs."""
    require(isinstance(params, Mapping), f"`params` must be a dictionary, got {describe(params)}.")
    wrong = sorted(set(params) ^ set(shapes), key=str)
    require(
        not wrong,
        f"`params` must have the {len(shapes)} names of the model's parameters; "
        f"{', '.join(map(repr, wrong[:5]))}{' ...' if wrong[5:] else ''} stand on one side only.",
    )
    for name, shape in shapes.items():
        got = jnp.shape(params[name])
        require(got == shape, f"`params[{name!r}]` must have the shape {shape}, got {got}.")

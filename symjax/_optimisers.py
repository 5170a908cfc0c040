"""What training and bands accept: which parameters, losses and optimisers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from ._checks import (
    describe,
    is_floating,
    path_name,
    require,
    require_finite,
    require_real_number,
)
from .linalg._precision import computing_dtype

Params = PyTree[Float[Array, "..."]]
Loss = Callable[[Params], Float[Array, ""]]


_REFUSALS = "unexpected keyword argument", "required keyword-only argument"


def permissive(
    optimiser: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser, also under strict promotion: Optax raises floats to integer powers.

    Its ``update`` may be given more than the optimiser takes.
    """
    require(
        isinstance(optimiser, optax.GradientTransformation),
        f"`optimiser` must be an optax.GradientTransformation, got {optimiser!r}.",
    )
    full = optax.with_extra_args_support(optimiser)

    def offered(updates, state, params, extra):
        # Most of Optax ignores what it does not know; a few (sharpness-aware steps, also inside of
        # a chain) refuse it, and are given less.
        refused = []
        for names in (("value", "grad", "value_fn"), ("grad_fn",), ()):
            given = {name: extra[name] for name in names if name in extra}
            try:
                return full.update(updates, state, params, **given)
            except TypeError as error:
                if not any(words in str(error) for words in _REFUSALS):
                    raise
                refused.append(error)
        raise ValueError(
            f"`optimiser` takes none of the arguments that Optax's optimisers do: {refused[0]}"
        ) from refused[0]

    def init(params):
        with jax.numpy_dtype_promotion("standard"):
            return full.init(params)

    def update(updates, state, params=None, **extra):
        with jax.numpy_dtype_promotion("standard"):
            return offered(updates, state, params, extra)

    return optax.GradientTransformationExtraArgs(init, update)


def stepped(
    searching: optax.GradientTransformationExtraArgs,
    objective: Callable[..., Float[Array, ""]],
    at: PyTree,
    state: PyTree,
    value: Float[Array, ""],
    gradient: PyTree,
) -> tuple[PyTree, PyTree]:
    """(updates, state) of a step of an optimiser, given all that one of Optax may ask for.

    Line searches call ``objective`` and its gradient at other points.
    """
    return searching.update(
        gradient,
        state,
        at,
        value=value,
        grad=gradient,
        value_fn=objective,
        grad_fn=lambda x, *_: jax.grad(objective)(x),
    )


def require_trainable(
    loss: Loss, named: dict[str, Params], steps: int, tolerance: float = 0.0
) -> None:
    """ValueError for starts (by argument), a loss or options that no optimiser can work with."""
    require(isinstance(steps, int) and steps >= 0, f"`steps` must be a count, got {steps!r}.")
    for name, params in named.items():
        leaves = jax.tree_util.tree_flatten_with_path(params)[0]
        require(len(leaves) > 0, f"`{name}` holds no arrays; expected at least one to train.")
        for path, leaf in leaves:
            require(
                is_floating(leaf),
                f"`{name}` leaf '{path_name(path)}' is {describe(leaf)}; expected a real "
                f"floating-point array. Keep integers and static data outside `{name}`.",
            )
        require_finite(name, params)
    leaves = jax.tree.leaves(named)
    reach = max(float(jnp.finfo(computing_dtype(leaf.dtype)).eps) for leaf in leaves)
    require(
        tolerance == 0 or tolerance >= reach,
        f"`tolerance` is {tolerance}, below the reach of the parameters' dtype: {reach:.1e}. Ask "
        "for more, use float64, or pass 0 to take all the steps.",
    )
    require_real_number("loss", jax.eval_shape(loss, next(iter(named.values()))))

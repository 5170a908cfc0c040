"""Teleportation: jump along the orbit to where the next steps do more."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from .._checks import require, require_count, require_positive
from .._orbits import Acting, ascend, dot, orbit_of
from .._results import printed
from ..verification._change import function_change, require_measurable
from ._common import is_masked, require_params, require_updates

Objective = Literal["gradient_norm", "curvature"]


class TeleportState(NamedTuple):
    """How many updates and jumps there were, and what the last jump did.

    Before the first jump, with ``jumps`` 0, the numbers are 0 and say nothing. Not NaN: a state
    that holds one would stop a training run under jax_debug_nans at its first update.
    """

    count: Int[Array, ""]
    jumps: Int[Array, ""]
    before: Float[Array, ""]
    """The gradient's norm, or the curvature along the gradient, where the jump started."""
    after: Float[Array, ""]
    """The same where it ended."""
    change: Float[Array, ""] | None
    """How much the last jump changed the outputs, relative; None without ``apply`` to measure it.
    """

    __repr__ = printed


def _slope_norm(loss, params):
    gradient = jax.grad(loss)(params)
    return jnp.sqrt(dot(gradient, gradient))


def _curvature(loss, params):
    gradient, bent = jax.jvp(jax.grad(loss), (params,), (jax.grad(loss)(params),))
    return dot(gradient, bent) / dot(gradient, gradient)


def teleport(
    symmetries: Acting,
    *,
    every: int | Int[Array, ""],
    steps: int | Int[Array, ""] = 8,
    radius: float | Float[Array, ""] = 1.0,
    objective: Objective = "gradient_norm",
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Every so many steps jump along the orbit: same loss, better place (Zhao et al. 2022).

    After each ``every``-th step comes a jump to exp(m).w with |m| <= ``radius``, where m climbs
    ``objective`` in the Lie algebra by ``steps`` tries: "gradient_norm" raises |grad L|,
    "curvature" lowers the curvature g^T H g / |g|^2 along the gradient g. A try that does not
    improve is not taken, so it never gets worse. It is a local search, not the best place of the
    orbit.

    Put it last in a chain, and pass the loss: ``update(grads, state, params, value_fn=loss)`` with
    loss(params) a scalar, as Optax's line searches want it. The step of the optimiser is taken
    first, then the jump; momenta are not moved along. Needs one gradient of the objective (a
    second, or third, derivative of the loss) per try. The three numbers may be traced
    (`optax.inject_hyperparams`): an ``every`` or ``steps`` below 1 then counts as 1, and
    with a ``radius`` that is not positive there is no jump.

    Symmetries that hold only up to a norm's epsilon are left out unless ``approximate``: then the
    loss is not the same, and the state says by how much a jump changed ``apply(params, *inputs)``.

    Raises ValueError where no symmetry is continuous, for options out of range, or where ``params``
    or ``value_fn`` is not passed to ``update``, or has masked leaves.

    Example:
        >>> import optax, symjax
        >>> loss = lambda w: (w[0] * w[1])[0, 0] ** 2
        >>> optimiser = optax.chain(optax.sgd(0.1), teleport(symjax.rescaling_action(), every=1))
        >>> w = (jnp.array([[1.1]]), jnp.array([[1.0]]))
        >>> updates, state = optimiser.update(
        ...     jax.grad(loss)(w), optimiser.init(w), w, value_fn=loss
        ... )
        >>> bool(state[-1].after > 1.2 * state[-1].before)
        True
    """
    inputs = require_measurable(approximate, apply, inputs)
    orbit = orbit_of(symmetries, approximate)
    require_count("every", every, traced=True)
    require_count("steps", steps, traced=True)
    require_positive("radius", radius)
    require(
        objective in ("gradient_norm", "curvature"),
        f"`objective` must be 'gradient_norm' or 'curvature', got {objective!r}.",
    )

    def jump(arrived: PyTree, loss):
        if objective == "gradient_norm":
            # The logarithm: a step of the search then does not depend on the scale of the loss.
            score = lambda w: jnp.log(_slope_norm(loss, w))
        else:
            score = lambda w: -_curvature(loss, w)
        # Where the loss overflows there is nothing better: half precision ends at 65504.
        finite = lambda w: (lambda s: jnp.where(s < jnp.inf, s, -jnp.inf))(score(w))
        _, target, after, before = ascend(orbit, finite, arrived, radius=radius, steps=steps)
        values = jnp.stack([before, after]).astype(jnp.float32)
        return target, jnp.exp(values) if objective == "gradient_norm" else -values

    # Any: Optax's type of a state leaves out None, which is a tree without leaves all the same.
    def init(params: PyTree) -> Any:
        del params
        none, zero = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
        return TeleportState(none, none, zero, zero, None if apply is None else zero)

    def update(updates, state, params=None, *, value_fn=None, **extra) -> Any:
        del extra
        params = require_params("teleport", params)
        require_updates(updates, params)
        require(
            callable(value_fn),
            "`value_fn` must be passed to update: teleport needs update(updates, state, params, "
            "value_fn=loss) to know the loss at other points.",
        )
        require(
            not any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked))),
            "`params` has masked leaves, and the loss is a function of all of them: put teleport "
            "outside of optax.masked.",
        )

        def teleported(u):
            arrived = optax.apply_updates(params, u)
            target, values = jump(arrived, value_fn)
            change = function_change(apply, inputs, arrived, target)
            change = None if change is None else change.astype(jnp.float32)
            rows = (orbit.select(tree, params) for tree in (target, params, u))
            moved = tuple((a - b).astype(x.dtype) for a, b, x in zip(*rows, strict=True))
            return moved, values, change

        def stayed(u):
            return orbit.select(u, params), jnp.stack([state.before, state.after]), state.change

        count = state.count + 1
        period = jnp.maximum(jnp.asarray(every, count.dtype), 1)
        due = count % period == 0
        moved, values, change = jax.lax.cond(due, teleported, stayed, updates)
        jumps = state.jumps + due.astype(state.jumps.dtype)
        state = TeleportState(count, jumps, values[0], values[1], change)
        return orbit.replace(updates, moved, params), state

    return optax.GradientTransformationExtraArgs(init, update)

"""Updates across the orbit only, or along it only."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from .._checks import require, require_positive
from .._orbits import Acting, in_ball, norm, orbit_of
from .._results import printed
from ..verification._change import function_change, require_measurable
from ._common import (
    filled,
    is_masked,
    masked_again,
    require_params,
    require_updates,
    visible,
)


class OrbitState(NamedTuple):
    """How the last update lay to the orbit, in float32; all 0 before the first.

    Not NaN: a state that holds one would stop a training run under jax_debug_nans.
    """

    along: Float[Array, ""]
    """The share of the update's norm, over the leaves that move, along the orbit: 0 to 1."""
    residual: Float[Array, ""]
    """How orthogonal the split is, relative: rounding where the least squares succeeded."""
    change: Float[Array, ""] | None
    """How much the last step changed the outputs, relative; None without ``apply`` to measure it.
    """

    __repr__ = printed


def _still(measured: bool = False) -> Any:
    """Before the first update, and where every symmetry moves a frozen leaf: no way to go.

    Any: Optax's type of a state leaves out None, which is a tree without leaves all the same.
    """
    zero = jnp.zeros((), jnp.float32)
    return OrbitState(zero, zero, zero if measured else None)


def _state(whole, rest, residual, change=None):
    # |A m|^2 = |u|^2 - |u - A m|^2, taken as a ratio and never negative.
    ratio = norm(rest) / jnp.where(norm(whole) > 0, norm(whole), 1.0)
    along = jnp.where(norm(whole) > 0, jnp.sqrt(jnp.maximum(1 - ratio**2, 0.0)), 0.0)
    change = None if change is None else change.astype(jnp.float32)
    return OrbitState(along.astype(jnp.float32), residual.astype(jnp.float32), change)


def quotient_gradient(
    symmetries: Acting, *, approximate: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Remove from each update its component along the orbit, where the function does not change.

    u -> u - A (A^T A)^+ A^T u with A the tangent map of the orbit at the parameters, solved in the
    algebra's coordinates by conjugate gradients: no matrix is formed, and the stabiliser does no
    harm. The gradient of an invariant loss has no such component; momentum, adaptive rescaling,
    noise and weight decay do, so this belongs after them. It is a first-order statement: a finite
    step still drifts along the orbit at second order. With ``approximate`` the component along
    symmetries that hold only up to a norm's epsilon goes too, and with it what little it did. Under
    `optax.masked` the symmetries that move or read a masked leaf are left out.

    Raises ValueError where no symmetry is continuous, or ``params`` is not passed to ``update``.

    Example:
        >>> import optax, symjax
        >>> optimiser = optax.chain(optax.adam(0.1), quotient_gradient(symjax.rescaling_action()))
        >>> w = (jnp.array([[2.0]]), jnp.array([[1.0]]))
        >>> grads = jax.grad(lambda w: (w[0] * w[1])[0, 0])(w)
        >>> (v, u), _ = optimiser.update(grads, optimiser.init(w), w)
        >>> round(float(2.0 * v[0, 0] - 1.0 * u[0, 0]), 5) + 0.0  # the orbit's direction is (2, -1)
        0.0
    """
    orbit = orbit_of(symmetries, approximate)

    def update(updates, state, params=None, **extra) -> Any:
        del state, extra
        params = require_params("quotient_gradient", params)
        require_updates(updates, params)
        updates, params = filled(updates), filled(params)
        seen = visible(orbit, params)
        if not seen.actions:
            return masked_again(updates), _still()
        whole = seen.select(updates, params)
        solved = seen.solve(whole, params)
        return (
            masked_again(seen.replace(updates, solved.rest, params)),
            _state(whole, solved.rest, solved.residual),
        )

    return optax.GradientTransformationExtraArgs(lambda params: _still(), update)


def orbit_constrained(
    symmetries: Acting,
    *,
    radius: float | Float[Array, ""] = 1.0,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Keep the parameters on their orbit: fine-tune a second objective, preserve the function.

    The update is replaced by exp(m).w - w, where A m is the projection of the update on the orbit's
    tangent space (least norm m). So whatever objective the optimiser before it follows (sparsity,
    quantisation, norm, flatness, nearness to another model), the network computes what it did.
    An m longer than ``radius`` is shortened to it. Leaves that do not move get a zero update. Put
    it last; rounding of the steps accumulates, one unit of the parameters' precision each.
    ``radius`` may be a traced number (`optax.inject_hyperparams`); one that is not positive then
    gives NaN. Under `optax.masked` the symmetries that move or read a masked leaf are left out, and
    nothing moves where none remains.

    Symmetries that hold only up to a norm's epsilon are left out unless ``approximate``: then the
    function moves, and the state says by how much each step changed ``apply(params, *inputs)``.

    Raises ValueError where no symmetry is continuous, ``radius`` is not positive, or ``params`` is
    not passed to ``update``.

    Example:
        >>> import optax, symjax
        >>> optimiser = optax.chain(optax.sgd(0.1), orbit_constrained(symjax.rescaling_action()))
        >>> w = (jnp.array([[2.0]]), jnp.array([[1.0]]))
        >>> state, update = optimiser.init(w), jax.jit(optimiser.update)
        >>> for _ in range(100):  # the least |v|^2 + |u|^2 with v u = 2
        ...     u, state = update(jax.tree.map(lambda x: 2 * x, w), state, w)
        ...     w = optax.apply_updates(w, u)
        >>> [round(float(x[0, 0]), 4) for x in w]
        [1.4142, 1.4142]
    """
    inputs = require_measurable(approximate, apply, inputs)
    orbit = orbit_of(symmetries, approximate)
    require_positive("radius", radius)

    def update(updates, state, params=None, **extra) -> Any:
        del state, extra
        params = require_params("orbit_constrained", params)
        require_updates(updates, params)
        hidden = any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked)))
        require(
            apply is None or not hidden,
            "`params` has masked leaves, and `apply` is a function of all of them: leave `apply` "
            "out under optax.masked.",
        )
        still = filled(jax.tree.map(jnp.zeros_like, updates))
        updates, params = filled(updates), filled(params)
        seen = visible(orbit, params)
        if not seen.actions:
            return masked_again(still), _still(apply is not None)
        whole = seen.select(updates, params)
        solved = seen.solve(whole, params)
        moved = seen.select(seen.move(in_ball(solved.value, radius), params), params)
        steps = jax.tree.map(jnp.subtract, moved, seen.select(params, params))
        change = function_change(apply, inputs, params, seen.replace(params, moved, params))
        return (
            masked_again(seen.replace(still, steps, params)),
            _state(whole, solved.rest, solved.residual, change),
        )

    init = lambda params: _still(apply is not None)
    return optax.GradientTransformationExtraArgs(init, update)

"""Refining a match by the loss on the straight line between the models."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from .._checks import is_floating, require, require_count, require_same_tree
from .._optimisers import permissive, stepped
from .._orbits import Orbit
from .._results import AbstractResult
from ..barriers import loss_along
from ..curves import chord
from ..discovery import Acting, resolve
from ..groups import AbstractGroup, Algebra
from ..linalg._precision import computing_dtype
from ..verification._change import function_change, require_measurable
from ._elements import Element, apply_element, identity_element
from ._membership import check_element


class Refinement(AbstractResult):
    """What `refine` found."""

    element: Element
    """One group element for each symmetry used: the given one, moved in its identity component."""
    params: PyTree
    """The parameters of B moved by ``element``."""
    before: Float[Array, ""]
    """The mean loss on the chord at the given element."""
    after: Float[Array, ""]
    """The mean loss on the chord at ``element``, the least of ``losses``."""
    losses: Float[Array, " steps_and_one"]
    """The mean loss at the given element and after each step."""
    change: Float[Array, ""] | None = None
    """How much the outputs of B change, relative to their norm; None without ``apply``."""


def refine(
    symmetries: Acting,
    loss: Callable[[PyTree], Float[Array, ""]],
    params_a: PyTree,
    params_b: PyTree,
    *,
    element: Element | None = None,
    steps: int = 100,
    samples: int = 5,
    optimiser: optax.GradientTransformation | None = None,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
) -> Refinement:
    """A match made better for merging: less loss on the straight line to A.

    `match` makes the distance small, which is a stand-in for what an average loses. This descends
    on the loss itself,
    min over xi of the mean over t of loss((1 - t) A + t (exp(xi) g).B),
    at t = k / (samples + 1), k = 1, ..., samples, where g is ``element`` (the one that `match`
    found; the identity if it is not given) and xi is in the Lie algebra of the continuous
    symmetries. Permutations and signs stay, and so do the function of B and the loss at both ends.
    The ``optimiser``, any of Optax's, takes ``steps`` steps from xi = 0; it is Adam at a rate
    of 0.01 unless given. The best point that it visited is kept, so the result is never worse than
    the start; it is a local minimum at best. ``after`` is NaN where every loss was.

    Symmetries that hold only up to a norm's epsilon are left out, and ``element`` has no entry for
    them (where nothing continuous is left, the given element comes back), unless ``approximate``:
    then the function of B changes, and ``change`` says by how much
    the outputs ``apply(params, *inputs)`` do, as in `match`.

    Works under jit and vmap, and compiles the loss and its gradient once.

    Raises ValueError for parameters that differ in structure, an element that is not one of the
    symmetries, a loss that is not a real scalar, options that are not positive, ``approximate``
    without ``apply`` and ``inputs``, or where no symmetry is continuous.

    Example:
        >>> import optax
        >>> import symjax
        >>> from symjax import Symmetry
        >>> scale = Symmetry("scale", symjax.rescaling_action(), ("0", "1"))
        >>> a = (jnp.array([[1.0]]), jnp.array([[1.0]]))
        >>> b = (jnp.array([[4.0]]), jnp.array([[0.25]]))
        >>> loss = lambda w: jnp.sum((w[1] @ w[0] - 1) ** 2)
        >>> found = refine([scale], loss, a, b, optimiser=optax.adam(0.1))
        >>> bool(found.before > 0.1), bool(found.after < 1e-8), round(float(found.element[0]), 2)
        (True, True, 0.25)
    """
    inputs = require_measurable(approximate, apply, inputs)
    given_ones = resolve(symmetries, approximate=True)
    require(
        any(s.group.dimension for s in given_ones),
        "`symmetries` must hold a continuous symmetry: nothing else can be refined.",
    )
    symmetries = resolve(given_ones, approximate)
    everything = {"approximate": True}  # of what was resolved
    require_same_tree("params_a", params_a, "params_b", params_b)
    require_count("steps", steps)
    require_count("samples", samples)
    dtype = computing_dtype(*(x.dtype for x in jax.tree.leaves(params_b) if is_floating(x)))
    given = identity_element(symmetries, dtype, **everything) if element is None else element
    check_element(symmetries, given)
    given = jax.tree.map(jnp.asarray, tuple(given))
    given = jax.tree.map(lambda x: x.astype(dtype) if is_floating(x) else x, given)
    moving = [i for i, s in enumerate(symmetries) if s.group.dimension]
    orbit = Orbit(tuple(symmetries[i].action for i in moving))
    searching = permissive(optax.adam(1e-2) if optimiser is None else optimiser)
    times = jnp.arange(1, samples + 1) / (samples + 1)

    def moved(xi):
        entries = list(given)
        for i, m in zip(moving, orbit.project(xi), strict=True):
            entries[i] = _after(symmetries[i].group, m, entries[i])
        return tuple(entries)

    def height(xi):
        there = apply_element(symmetries, moved(xi), params_b, **everything)
        return loss_along(loss, chord(params_a, there), times).mean()

    def step(carry, _):
        xi, state, best, least = carry
        value, slope = jax.value_and_grad(height)(xi)
        better = value < least
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), xi, best)
        updates, state = stepped(searching, height, xi, state, value, slope)
        xi = jax.tree.map(lambda x, u: x + u.astype(x.dtype), xi, updates)
        return (xi, state, best, jnp.where(better, value, least)), value

    zero = jax.tree.map(lambda x: x.astype(dtype), orbit.zero(params_b))
    infinite = jnp.full((), jnp.inf, jax.eval_shape(height, zero).dtype)
    start = (zero, searching.init(zero), zero, infinite)
    # A step evaluates before it moves: the last one only looks at what the one before it made.
    (_, _, best, _), losses = jax.lax.scan(step, start, length=steps + 1)
    found = moved(best)
    there = apply_element(symmetries, found, params_b, **everything)
    change = function_change(apply, inputs, params_b, there)
    return Refinement(found, there, losses[0], jnp.nanmin(losses), losses, change)


def _after(group: AbstractGroup, m: Algebra, g: Any) -> Any:
    """Exp(m) g; a finite factor of a product stays as it is."""
    rows = zip(group.factors, group.entries(m), group.entries(g), strict=True)
    after = lambda one, part, entry: one.compose(one.exp(part), entry) if one.dimension else entry
    return group.element(tuple(after(*row) for row in rows))

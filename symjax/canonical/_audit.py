"""Gauge audits: does a metric depend on the function, or on its coordinates?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from .._checks import require_count, require_key, require_positive, require_real_number
from .._orbits import Acting, Orbit, ascend, norm, orbit_of, scaled
from .._results import AbstractResult
from ..discovery import resolve
from ..groups import Algebra
from ..verification._change import function_change, require_measurable


class GaugeAudit(AbstractResult):
    """How far a metric moves while the function does not."""

    value: Float[Array, ""]
    """The metric at the given parameters."""
    low: Float[Array, ""]
    high: Float[Array, ""]
    """The least and largest value found for elements exp(m) with |m| <= radius."""
    jump: Float[Array, ""]
    """The largest change of the metric by random elements of the whole groups, of any component."""
    slope: Float[Array, ""]
    """|A^T grad| / (|grad| |w|), the relative derivative along the orbit: rounding if invariant."""
    invariant: Bool[Array, ""]
    """Whether neither ``slope``, ``jump`` nor any value found shows more than rounding."""
    element_low: tuple[Algebra, ...]
    element_high: tuple[Algebra, ...]
    """The m of the extremes, one entry per symmetry; the point is that of ``params_low``."""
    params_low: PyTree
    params_high: PyTree
    change: Float[Array, ""] | None = None
    """How much the outputs change at the worse of the two, relative; None without ``apply``."""


def audit(
    symmetries: Acting,
    metric: Callable[[PyTree], Float[Array, ""]],
    params: PyTree,
    *,
    key: Key[Array, ""],
    radius: float = 1.0,
    steps: int = 30,
    probes: int = 8,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
) -> GaugeAudit:
    """Is a number that you report about a model a property of its function, or of its coordinates?

    Looks for the elements exp(m), |m| <= ``radius``, that lower and raise ``metric`` (sharpness, a
    cosine, a merge score) most, by ``steps`` of gradient ascent from the identity and from
    ``probes`` random elements on the sphere of that radius, of which the best counts. Beside these,
    ``probes`` random elements are drawn of the whole groups: permutations, signs, reflections and
    whatever else no exponential reaches; ``jump`` is the most that they change the metric. What is
    found is reached, so a metric that moves is not invariant; the extremes are local, and
    ``invariant`` is a statement about the points that were looked at, to 1000 eps.

    Symmetries that hold only up to a norm's epsilon are left out unless ``approximate``: then the
    function moves too, and ``change`` says by how much the outputs ``apply(params, *inputs)`` do.

    Raises ValueError for a metric that is not a real scalar, options that are not positive, or
    where no symmetry is continuous.

    Example:
        >>> import symjax
        >>> w = (jnp.array([[2.0]]), jnp.array([[1.0]]))
        >>> look = lambda metric: audit(symjax.rescaling_action(), metric, w, key=jax.random.key(0))
        >>> bool(look(lambda w: jnp.sum(w[1] @ w[0])).invariant)
        True
        >>> round(float(look(lambda w: jnp.sum(w[0] ** 2)).high), 4)  # (2 e)^2
        29.5562
    """
    inputs = require_measurable(approximate, apply, inputs)
    symmetries = resolve(symmetries, approximate)
    orbit = orbit_of(symmetries, approximate=True)
    require_key(key)
    require_positive("radius", radius)
    require_count("steps", steps)
    require_count("probes", probes)
    require_real_number("metric", jax.eval_shape(metric, params))
    drawn, shaken = jax.random.split(key)
    value, gradient = jax.value_and_grad(metric)(params)
    covector, w = orbit.select(gradient, params), orbit.select(params, params)
    scale = norm(covector) * norm(w)
    slope = norm(orbit.pull(covector, params)) / jnp.where(scale > 0, scale, 1.0)
    probe = lambda k: _probe(orbit, metric, params, radius, slope.dtype, k)
    tried, places, seen = jax.lax.map(probe, jax.random.split(drawn, probes))
    actions = tuple(s.action for s in symmetries)
    anywhere = lambda k: metric(_anywhere(actions, params, slope.dtype, k))
    jump = jnp.max(jnp.abs(jax.lax.map(anywhere, jax.random.split(shaken, probes)) - value))

    def extreme(sign):
        score = lambda p: sign * metric(p)
        m, moved, best, _ = ascend(orbit, score, params, radius=radius, steps=steps)
        i = jnp.argmax(sign * seen)
        better = sign * seen[i] > best
        pick = lambda rows, old: jax.tree.map(lambda x, y: jnp.where(better, x[i], y), rows, old)
        moved = orbit.replace(params, pick(places, orbit.select(moved, params)), params)
        return pick(tried, m), moved, sign * jnp.maximum(sign * seen[i], best)

    (m_low, p_low, low), (m_high, p_high, high) = extreme(-1.0), extreme(1.0)
    eps = float(jnp.finfo(slope.dtype).eps)
    reach = 1000 * eps * jnp.maximum(jnp.abs(value), jnp.abs(high))
    still = ((high - low) <= reach) & (jump <= reach)
    changes = [function_change(apply, inputs, params, p) for p in (p_low, p_high)]
    measured = [change for change in changes if change is not None]
    return GaugeAudit(
        value=value,
        low=low,
        high=high,
        jump=jump,
        slope=slope,
        invariant=still & (slope <= 1000 * eps),
        element_low=m_low,
        element_high=m_high,
        params_low=p_low,
        params_high=p_high,
        change=jnp.stack(measured).max() if measured else None,
    )


def _anywhere(actions, params, dtype, key):
    """The parameters moved by a random element of every group, of any of its components."""
    for i, action in enumerate(actions):
        # Near the identity of its component, so that rounding stays small.
        g = action.group.random(jax.random.fold_in(key, i), scale=0.3, dtype=dtype)
        params = action(g, params)
    return params


def _probe(orbit: Orbit, metric, params, radius, dtype, key):
    """(m, the leaves that move, the metric there) at a random m of length ``radius``."""
    m = orbit.random(key, dtype=dtype)
    m = scaled(m, radius / norm(m))
    moved = orbit.move(m, params)
    return m, orbit.select(moved, params), metric(moved)

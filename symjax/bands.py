"""Chains of waypoints between two networks: nudged elastic bands, and geodesics of the outputs.

The general baselines beside `symjax.training.train_curve`; where a symmetry is known, the closed
form `symjax.connecting_curve` replaces them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from ._checks import describe, is_floating, require, require_count, require_same_tree
from ._optimisers import Loss, Params, permissive, require_trainable, stepped
from ._orbits import dot, norm
from ._results import AbstractResult
from .barriers._along import highest_point
from .curves import PolygonalChain


class Band(AbstractResult):
    """A band, and its energies sampled finely enough to be believed."""

    curve: PolygonalChain
    at_images: Float[Array, " images"]
    """The loss at the images, ends included. Its maximum says nothing about what is between."""
    height: Float[Array, ""]
    """The largest loss on the whole chain: sampled, and refined around the three highest peaks."""
    place: Float[Array, ""]
    """The t of ``height``."""
    spacing: Float[Array, ""]
    """The largest distance in parameters between two neighbouring samples."""
    jump: Float[Array, ""]
    """The largest difference of loss between two neighbouring samples: small means resolved."""


def nudged_elastic_band(
    loss: Loss,
    start: Params,
    end: Params,
    *,
    optimiser: optax.GradientTransformation,
    steps: int = 1000,
    images: int = 9,
    spring: float = 1.0,
    samples: int = 64,
) -> Band:
    """A path of low loss between two networks by a nudged elastic band (Draxler et al. 2018).

    ``images`` points start evenly on the chord. Each follows the component of the gradient across
    the band, while springs of stiffness ``spring`` hold equal distances along it; the band's
    direction at an image is towards its neighbour of higher loss. All images move at once, by
    any Optax optimiser. Then the whole chain is sampled at ``samples`` points in each segment and
    the highest peaks are refined, because the loss between images is what a coarse sampling hides:
    ``height`` is what the path costs, ``spacing`` and ``jump`` say how finely it was looked at.

    Jit it, and vmap it over pairs of networks.

    Raises ValueError where the ends differ in structure, shape or dtype, hold a NaN or a leaf that
    is not floating, or an option is out of range.

    Example:
        >>> import optax
        >>> ring = lambda w: (jnp.sum(w**2) - 1.0) ** 2
        >>> a, b = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
        >>> band = nudged_elastic_band(ring, a, b, optimiser=optax.sgd(0.05), steps=300)
        >>> bool(band.height < 0.05 * ring((a + b) / 2))
        True
    """
    require_same_tree("start", start, "end", end)
    require_trainable(loss, {"start": start, "end": end}, steps)
    require_count("images", images)
    require(
        isinstance(samples, int) and samples >= 2,
        f"`samples` must be at least 2, got {samples!r}.",
    )
    require(
        isinstance(spring, int | float) and 0 <= spring < float("inf"),
        f"`spring` must be a number of at least 0, got {spring!r}.",
    )
    searching = permissive(optimiser)
    slope = jax.value_and_grad(loss)
    ends = jax.lax.map(loss, jax.tree.map(lambda a, b: jnp.stack([a, b]), start, end))

    def advance(_, carry):
        inner, state = carry
        energies, gradients = jax.vmap(slope)(inner)
        heights = jnp.concatenate([ends[:1], energies, ends[1:]])
        chain = _with_ends(start, inner, end)
        forces = jax.vmap(functools.partial(_force, spring=spring))(
            jax.tree.map(lambda x: x[1:-1] - x[:-2], chain),
            jax.tree.map(lambda x: x[2:] - x[1:-1], chain),
            heights[2:] > heights[:-2],
            gradients,
        )
        updates, state = searching.update(forces, state, inner)
        return optax.apply_updates(inner, updates), state

    inner = _on_chord(start, end, images)
    inner, _ = jax.lax.fori_loop(0, steps, advance, (inner, searching.init(inner)))
    return _measured(loss, _with_ends(start, inner, end), images + 2, samples)


def _on_chord(start, end, images):
    """Points at equal steps between two ends, which are left out."""

    def between(a, b):
        t = (jnp.arange(1, images + 1, dtype=a.dtype) / (images + 1)).reshape(-1, *[1] * a.ndim)
        return (1 - t) * a[None] + t * b[None]

    return jax.tree.map(between, start, end)


def _with_ends(start, inner, end):
    join = lambda a, x, b: jnp.concatenate([a[None], x, b[None]])
    return jax.tree.map(join, start, inner, end)


def _force(back, ahead, uphill, gradient, *, spring):
    """What an optimiser should descend: the gradient across the band, and the spring along it."""
    along = jax.tree.map(lambda x, y: jnp.where(uphill, y, x), back, ahead)
    length = norm(along)
    unit = jax.tree.map(lambda x: x / jnp.where(length > 0, length, 1.0).astype(x.dtype), along)
    pull = -dot(gradient, unit) - spring * (norm(ahead) - norm(back))
    return jax.tree.map(lambda g, t: g + pull.astype(t.dtype) * t, gradient, unit)


def _through(chain, points):
    """The curve through stacked points; where an optimiser diverged they are NaN, and stay so."""
    return PolygonalChain(tuple(jax.tree.map(lambda x, i=i: x[i], chain) for i in range(points)))


def _measured(loss, chain, points, samples):
    curve = _through(chain, points)
    at_images = jax.lax.map(loss, chain)
    dtype = at_images.dtype
    on_curve = lambda t: loss(curve(t))
    cells = (points - 1) * samples
    # The first samples are the multiples of 1 / cells: every image is among them.
    place, height, heights = highest_point(on_curve, cells, dtype, dtype)
    steps = jax.vmap(norm)(jax.tree.map(lambda x: x[1:] - x[:-1], chain))
    return Band(
        curve, at_images, height, place, steps.max() / samples, jnp.abs(jnp.diff(heights)).max()
    )


def geodesic_chain(
    outputs: Callable[[Params], PyTree],
    start: Params,
    end: Params,
    *,
    optimiser: optax.GradientTransformation,
    steps: int = 1000,
    images: int = 9,
) -> PolygonalChain:
    """Waypoints whose outputs move evenly and as little as possible: a geodesic of functions.

    Minimises n sum_i |f(w_(i+1)) - f(w_i)|^2 over the ``images`` inner points, n the number of
    segments: the discrete energy of the path in the metric that the outputs pull back to the
    parameters. Its value is at least |f(end) - f(start)|^2, reached where the outputs run straight
    at constant speed. ``outputs`` maps parameters to an array or tree on fixed data; hand it square
    roots of probabilities for the Fisher-Rao metric. The distance between outputs says nothing
    about a loss between waypoints: measure it with `symjax.barriers.barrier`.

    Raises ValueError as `nudged_elastic_band` does.

    Example:
        >>> import optax
        >>> f = lambda w: w[0] * w[1]
        >>> a, b = jnp.array([2.0, 0.5]), jnp.array([0.5, 2.0])
        >>> chain = geodesic_chain(f, a, b, optimiser=optax.adam(0.01), steps=500)
        >>> bool(abs(f(chain(0.5)) - 1.0) < 0.05)  # on the chord it is 1.56
        True
    """
    require_same_tree("start", start, "end", end)
    require_count("images", images)
    values = jax.tree.leaves(jax.eval_shape(outputs, start))
    require(
        len(values) > 0 and all(map(is_floating, values)),
        f"`outputs` must return floating arrays, got {', '.join(map(describe, values))}.",
    )
    size = lambda w: dot(outputs(w), outputs(w))
    require_trainable(size, {"start": start, "end": end}, steps)
    searching = permissive(optimiser)

    def energy(inner):
        values = jax.vmap(outputs)(_with_ends(start, inner, end))
        moves = jax.tree.map(lambda x: x[1:] - x[:-1], values)
        return (images + 1) * dot(moves, moves)

    def advance(_, carry):
        inner, state = carry
        value, gradient = jax.value_and_grad(energy)(inner)
        updates, state = stepped(searching, energy, inner, state, value, gradient)
        return optax.apply_updates(inner, updates), state

    inner = _on_chord(start, end, images)
    inner, _ = jax.lax.fori_loop(0, steps, advance, (inner, searching.init(inner)))
    chain = _with_ends(start, inner, end)
    return _through(chain, images + 2)

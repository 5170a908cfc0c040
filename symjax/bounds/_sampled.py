"""How far a chord is from a curve that is given: a bound from samples, without derivatives."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._checks import is_floating, require, require_count
from ..curves import Curve
from ..linalg._norms import safe_sqrt
from ..linalg._precision import computing_dtype
from ._bound import AbstractBound, hypothesis
from ._numbers import Number, answer_dtype, as_floats, require_unit_interval

_CELLS_AT_ONCE = 64


class SampledDeviation(AbstractBound):
    """The bound of `sampled_chord_deviation`; ``alpha`` is where it is reached, ``chord`` is d."""

    value: Float[Array, "..."]
    alpha: Float[Array, "..."]
    chord: Float[Array, ""]
    finite: Bool[Array, "..."] = hypothesis()


def sampled_chord_deviation(
    curve: Curve, *, times: int = 256, cells: int = 1024
) -> SampledDeviation:
    """An upper bound of sup over alpha of the distance from the chord to the curve on [0, 1].

    The curve is any callable t -> parameters, its chord joins curve(0) to curve(1). It is met at
    ``times`` equal steps t_j, and each sample becomes two numbers: its place s_j along the chord
    and its distance r_j from the line. With f_j(alpha) = sqrt(r_j^2 + d^2 (s_j - alpha)^2), the
    value is the maximum over ``cells`` cells [a, b] of alpha of min_j max(f_j(a), f_j(b)).

    Rigorous up to rounding (a few eps times the size of the parameters): the minimum over samples
    is at least the distance, and f_j is convex, so its maximum on a cell is at an end. It exceeds
    the supremum by at most the gaps between samples and d / cells. Nothing is assumed about the
    curve, neither smooth nor continuous; no copy of the parameters is kept per sample. Under vmap
    one curve of a batch has a scalar bound. ``finite`` is False, and the value +inf, where a point
    is NaN or infinite.

    Raises ValueError for fewer than 2 ``times`` or 1 ``cells``, and for a curve without floating
    leaves.

    Example:
        >>> arc = lambda t: jnp.stack([jnp.cos(t * jnp.pi), jnp.sin(t * jnp.pi)])
        >>> round(float(sampled_chord_deviation(arc).value), 3)
        1.0
    """
    require(times >= 2, f"`times` must be at least 2, got {times}.")
    require_count("cells", cells)
    along, away, chord, dtype = _profile(curve, times)
    edges = jnp.linspace(0, 1, cells + 1, dtype=along.dtype)

    def worst(cell):
        # On [a, b] the end farther from s decides.
        gap = jnp.maximum(jnp.abs(along - cell[0]), jnp.abs(along - cell[1]))
        return jnp.min(_hypotenuse(away, gap, chord))

    bounds = jax.lax.map(
        worst, jnp.stack([edges[:-1], edges[1:]], axis=1), batch_size=min(cells, _CELLS_AT_ONCE)
    )
    cell = jnp.argmax(bounds)
    return SampledDeviation.guarded(
        bounds[cell],
        dtype,
        alpha=((edges[cell] + edges[cell + 1]) / 2).astype(dtype),
        chord=chord.astype(dtype),
        finite=jnp.isfinite(bounds[cell]),
    )


def sampled_chord_deviation_at(
    alpha: Number, curve: Curve, *, times: int = 256
) -> SampledDeviation:
    """An upper bound of the distance from (1 - alpha) curve(0) + alpha curve(1) to the curve.

    min_j |w_alpha - curve(t_j)| over ``times`` equal steps; alpha is a scalar or an array, and the
    curve is met once for all of them. Otherwise as `sampled_chord_deviation`.

    Example:
        >>> float(sampled_chord_deviation_at(0.5, lambda t: jnp.ones(3) * t, times=3).value)
        0.0
    """
    require(times >= 2, f"`times` must be at least 2, got {times}.")
    require_unit_interval(alpha=alpha)
    (a,), _ = as_floats(alpha=alpha)
    along, away, chord, dtype = _profile(curve, times)
    nearest = lambda one: jnp.min(_hypotenuse(away, jnp.abs(along - one), chord))
    flat = a.reshape(-1).astype(along.dtype)
    bounds = jax.lax.map(nearest, flat, batch_size=min(flat.size, _CELLS_AT_ONCE) or None)
    bounds = bounds.reshape(a.shape)
    return SampledDeviation.guarded(
        bounds,
        dtype,
        alpha=a.astype(dtype),
        chord=chord.astype(dtype),
        finite=jnp.isfinite(bounds) & (a >= 0) & (a <= 1),
    )


def _hypotenuse(away, gap, chord):
    return safe_sqrt(away**2 + (chord * gap) ** 2)


def _profile(curve, times):
    """The places along the chord and the distances from its line of the samples, with d."""
    example = jax.eval_shape(curve, jnp.asarray(0.0))
    kept = [leaf.dtype for leaf in jax.tree.leaves(example) if is_floating(leaf)]
    require(bool(kept), "`curve` must return parameters with floating leaves, got none.")
    dtype, compute = answer_dtype(*kept), computing_dtype(*kept)
    point = lambda t: _floating(curve(t), compute)
    start = point(jnp.asarray(0, compute))
    end = point(jnp.asarray(1, compute))
    across = [q - p for p, q in zip(start, end, strict=True)]
    chord = safe_sqrt(_inner(across, across))
    square = jnp.where(chord > 0, _inner(across, across), 1.0)

    # Checkpointed, so that a reverse pass keeps no parameters per sample either.
    @jax.checkpoint
    def place(t):
        offset = [z - p for z, p in zip(point(t), start, strict=True)]
        along = _inner(offset, across) / square
        rest = [z - along * e for z, e in zip(offset, across, strict=True)]
        return along, safe_sqrt(_inner(rest, rest))

    along, away = jax.lax.map(place, jnp.linspace(0, 1, times, dtype=compute))
    return along, away, chord, dtype


def _floating(params, dtype):
    return [leaf.astype(dtype) for leaf in jax.tree.leaves(params) if is_floating(leaf)]


def _inner(a, b):
    # Sums of elementwise products: always at full precision, whatever the device.
    return functools.reduce(jnp.add, [jnp.sum(x * y) for x, y in zip(a, b, strict=True)])

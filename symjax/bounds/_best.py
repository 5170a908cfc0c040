"""The smallest of all the deviation bounds whose hypotheses hold."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..curves import Curve
from ._bound import AbstractBound, hypothesis
from ._deviation import (
    chord_deviation_at,
    length_chord_deviation,
    total_curvature_chord_deviation,
    trivial_chord_deviation,
)
from ._numbers import Number, as_floats
from ._sampled import sampled_chord_deviation_at

SOURCES = ("trivial", "curvature", "length", "total_curvature", "sampled")


class BestDeviation(AbstractBound):
    """The bound of `best_chord_deviation`; ``source`` indexes `SOURCES`, the bound it came from."""

    value: Float[Array, "..."]
    source: Int[Array, "..."]
    alpha_inside: Bool[Array, "..."] = hypothesis()


def best_chord_deviation(
    alpha: Number,
    chord: Number,
    *,
    max_curvature: Number | None = None,
    length: Number | None = None,
    total_curvature: Number | None = None,
    curve: Curve | None = None,
) -> BestDeviation:
    """The pointwise minimum of every deviation bound that holds, from whatever is known.

    `trivial_chord_deviation` always; `chord_deviation_at` where ``max_curvature`` and ``length``
    are given; `length_chord_deviation` with ``length``; `total_curvature_chord_deviation` with
    ``total_curvature``; `sampled_chord_deviation_at` with ``curve`` itself. A bound whose
    hypotheses fail is +inf and so never wins. Arguments and errors as in those functions.

    Example:
        >>> best = best_chord_deviation(0.5, 1.0, max_curvature=1.0, length=5.3)
        >>> float(best.value), SOURCES[int(best.source)]
        (0.5, 'trivial')
    """
    bounds: dict[str, AbstractBound] = {"trivial": trivial_chord_deviation(alpha, chord)}
    if max_curvature is not None and length is not None:
        bounds["curvature"] = chord_deviation_at(alpha, max_curvature, chord, length)
    if length is not None:
        bounds["length"] = length_chord_deviation(alpha, chord, length)
    if total_curvature is not None:
        bounds["total_curvature"] = total_curvature_chord_deviation(total_curvature, chord, alpha)
    if curve is not None:
        bounds["sampled"] = sampled_chord_deviation_at(alpha, curve)
    values, dtype = as_floats(**{name: bound.value for name, bound in bounds.items()})
    stacked = jnp.stack(values)
    winner = jnp.argmin(stacked, axis=0)
    index = jnp.asarray([SOURCES.index(name) for name in bounds], winner.dtype)
    return BestDeviation.guarded(
        jnp.min(stacked, axis=0),
        dtype,
        source=index[winner],
        alpha_inside=jnp.broadcast_to(bounds["trivial"].holds, stacked.shape[1:]),
    )

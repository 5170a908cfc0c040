"""What bounds the generator of a curve, and what rounding can do to a sample of the curve.

Errors are bounded in norm, with constants that are those of the worst case: a product of n terms is
off by at most n eps times the product of the absolute values, which for matrices of spectral norm
|M| is n^(3/2) eps |M| |x|. The exponential of a matrix is off by that times 1 + |M|, and what is
off grows no faster than e^{tM} lets any vector grow.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..actions import LinearAction
from ..groups import Algebra, power_of
from ..linalg._norms import norm
from ._frame import Leaves
from ._overlaps import largest_sum, smallest_sum


class Spectrum(eqx.Module):
    """Extreme eigenvalues of the symmetric part of a vector field, and the norm of the skew part.

    The first two hold with their own rounding error.
    """

    low: Float[Array, ""]
    high: Float[Array, ""]
    skew: Float[Array, ""]

    @property
    def norm(self) -> Float[Array, ""]:
        """A bound of the spectral norm of the field."""
        return jnp.maximum(jnp.abs(self.low), jnp.abs(self.high)) + self.skew


def spectrum(action: LinearAction, leaves: Leaves, m: Algebra) -> Spectrum:
    """The spectrum of the vector field of an algebra element on all leaves."""
    entries, rows = action.group.entries(m), []
    for leg in action.legs:
        low, high, skew = action.factors[leg.factor].spectrum(entries[leg.factor])
        power = power_of(leg.representation)
        if power < 0:
            low, high = high, low
        size = jnp.maximum(jnp.abs(low), jnp.abs(high)) + skew
        unsure = _rows(action, leaves) * float(jnp.finfo(size.dtype).eps) * size
        unsure = jnp.where(high > low, unsure, 0.0)  # one scale: no eigenvalue was computed
        rows.append([low * power - unsure, high * power + unsure, skew * abs(power)])
    lows, highs, skews = zip(*rows, strict=True)
    return Spectrum(
        smallest_sum(action, leaves, lows),
        largest_sum(action, leaves, highs),
        largest_sum(action, leaves, skews),
    )


def few_eps(like: Float[Array, ""]) -> float:
    """What a handful of operations loses, relative to the largest of their terms."""
    return 16 * float(jnp.finfo(like.dtype).eps)


def _rows(action, leaves):
    """The most terms that one entry of a product with the generator has."""
    places = action.places(leaves)
    sizes = [
        math.prod(leg.rows(leaves[place].shape))
        for leg, place in zip(action.legs, places, strict=True)
    ]
    return max(sizes)


def product_error(action: LinearAction, leaves: Leaves) -> float:
    """The error of A x in units of |A| |x|."""
    eps = float(jnp.finfo(leaves[0].dtype).eps)
    return (_rows(action, leaves) ** 1.5 * len(action.legs) + 8) * eps


def sample_error(
    action: LinearAction, leaves: Leaves, m: Algebra, t: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(Bound of the error of e^{tA} w as computed, bound of |e^{tA} w|)."""
    scaled = jax.tree.map(lambda e: t.astype(e.dtype) * e, m)
    size = norm(action.majorant(scaled, tuple(jnp.abs(leaf) for leaf in leaves)))
    rate = t * spectrum(action, leaves, m).norm
    return 4 * product_error(action, leaves) * (1 + rate) * size, size

"""What every construction hands back: two minima, the ways between them, and the hypotheses."""

from typing import Any

from jaxtyping import Array, Bool, Float, PyTree

from .._checks import nan_unless
from .._results import AbstractResult
from ..bounds._numbers import all_true
from ..curves import AbstractCurve, Chord


class Pair(AbstractResult):
    """Two minima p and q, the curve of constant loss between them, and the straight line.

    ``barrier`` is how far the line rises above its ends, at ``alpha``; each construction says
    whether in loss or in distance, and whether exactly or at least. ``hypotheses`` says by name
    which held; where one failed ``barrier`` is NaN. ``scale`` is the m or beta that makes q from p,
    or 1.
    """

    p: PyTree
    q: PyTree
    curve: AbstractCurve
    chord: Chord
    alpha: Float[Array, ""]
    barrier: Float[Array, ""]
    scale: Float[Array, ""]
    hypotheses: dict[str, Bool[Array, ""]]

    @property
    def holds(self) -> Bool[Array, ""]:
        """Whether every hypothesis held."""
        return all_true(self.hypotheses.values())


def make_pair(p: PyTree, q: PyTree, curve: AbstractCurve, *, barrier: Array, **fields: Any) -> Pair:
    """The pair with its chord, and NaN for the barrier where a hypothesis failed."""
    height = where_held(fields["hypotheses"], barrier)
    return Pair(p=p, q=q, curve=curve, chord=Chord(p, q), barrier=height, **fields)


def where_held(hypotheses: dict[str, Bool[Array, ""]], value: Array) -> Array:
    """The value, NaN where a hypothesis failed."""
    return nan_unless(all_true(hypotheses.values()), value)

"""Components of the orbit of a two-layer network with a nonlinear activation."""

import math
from typing import Literal

import numpy as np
from jaxtyping import ArrayLike, Real

from .._checks import require
from .._results import AbstractResult
from ._ranks import as_matrix, rounding

_KINDS = ("homogeneous", "odd", "permutations")
_BAND = 10.0


class TwoLayerOrbit(AbstractResult):
    """The result of `two_layer_orbit_components`.

    ``count`` is that of the orbit, None where two neurons are too near to say whether they are the
    same. ``irreducible`` says that no neuron is zero and no two could be merged into one: only then
    can the whole minimum be this one orbit. ``dimension`` is that of the orbit; ``margin`` how many
    times the nearest difference of two neurons is from the threshold between same and different.
    """

    count: int | None
    dimension: int | None
    irreducible: bool
    margin: float


def two_layer_orbit_components(
    v: Real[ArrayLike, "h n"],
    u: Real[ArrayLike, "m h"],
    kind: Literal["homogeneous", "odd", "permutations"],
    *,
    degree: float = 1.0,
    tolerance: float | None = None,
) -> TwoLayerOrbit:
    """How many components the orbit of U sigma(V x) has under the symmetries of its activation.

    The neurons are the pairs of a row of V and a column of U. The group, and the count at a point
    whose h neurons are all different and not zero, are for ``kind``

    - "homogeneous" (ReLU, leaky ReLU; sigma(c z) = c^k sigma(z), c > 0, k = ``degree``): positive
      rescalings and permutations, h!; of dimension h
    - "odd" (tanh): sign flips and permutations, h! 2^h points
    - "permutations" (sigmoid, and any other): h! points.

    In general h! is divided by the factorial of how many neurons are the same up to rescaling or
    sign, and each zero neuron also takes away its sign flip: |pi_0(G)| / |image of the stabiliser|.
    **It is the count of the orbit**, not of the minimum: the minimum may hold other orbits, and
    with one neuron more than needed the h! pieces are joined. ``irreducible`` is necessary for the
    minimum to be this orbit and no more: every row of V and column of U is not zero, and no two
    rows of V are equal up to what the group allows. For scalar weights and y, x not 0,
    y = w_2 sigma(w_1 x) has 1 component of solutions for ReLU, if any, and 2 for leaky ReLU with a
    slope above 0. NumPy, host-only.

    Neurons are compared after each is divided by its size; ``tolerance`` (default: ten times the
    rounding of the dtype and size) is between same and different, and within ten times of it the
    count is None. Raises ValueError for matrices that do not chain, an unknown ``kind``, a degree
    that is not positive, and NaN.

    Example:
        >>> v, u = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), jnp.ones((1, 3))
        >>> two_layer_orbit_components(v, u, "homogeneous").count
        6
        >>> two_layer_orbit_components(v, u, "odd").count
        48
    """
    v, u = as_matrix("v", v), as_matrix("u", u)
    require(kind in _KINDS, f"`kind` must be one of {_KINDS}, got {kind!r}.")
    require(degree > 0, f"`degree` must be positive, got {degree}.")
    h = v.shape[0]
    require(
        u.shape[1] == h and h >= 1,
        f"`v` (h, n) and `u` (m, h) must share the hidden width, got {v.shape} and {u.shape}.",
    )
    relative = max(rounding(v, tolerance), rounding(u, tolerance))
    signed = kind == "odd"
    neurons = _standard(v.astype(float), u.astype(float), kind, degree)
    gaps = _differences(neurons, signed) / relative
    zero = ~np.any(neurons, axis=1)
    same = gaps < 1
    classes = {tuple(row) for row in same}
    stabiliser = math.prod(math.factorial(sum(c)) for c in classes)
    stabiliser *= 2 ** int(zero.sum()) if signed else 1
    pairs = gaps[np.triu_indices(h, 1)]
    with np.errstate(divide="ignore"):
        margin = float(np.exp(np.abs(np.log(pairs))).min(initial=np.inf))
    group = math.factorial(h) * (2**h if signed else 1)
    moved = 0 if kind != "homogeneous" else int((~zero).sum())
    sure = margin > _BAND
    rows = _standard(v.astype(float), np.zeros((0, h)), kind, degree)
    lone = _differences(rows, signed)[np.triu_indices(h, 1)] > relative * _BAND
    lively = np.any(v, axis=1).all() and np.any(u, axis=0).all()
    return TwoLayerOrbit(
        count=group // stabiliser if sure else None,
        dimension=moved if sure else None,
        irreducible=bool(lively and lone.all()),
        margin=margin,
    )


def _standard(v, u, kind, degree):
    """One row per neuron, a representative of its orbit under rescaling; zero neurons are zero."""
    if kind == "homogeneous":
        # The scale is carried from v into u; a neuron without v has its u in some direction.
        size, length = np.linalg.norm(v, axis=1), np.linalg.norm(u, axis=0)
        lively = size > 0
        scale = np.where(lively, size, 1.0)
        v, u = v / scale[:, None], u * scale**degree
        u = np.where(lively | (length == 0), u, u / np.where(length > 0, length, 1.0))
    # The units of V and of U are no business of the comparison.
    parts = [a / (np.linalg.norm(a, axis=1).max(initial=0) or 1.0) for a in (v, u.T)]
    return np.concatenate(parts, axis=1)


def _differences(neurons, signed):
    """|a - b| over the larger of the two sizes, for every two neurons; 0 where both are zero."""
    apart = lambda a: np.linalg.norm(neurons[:, None] - a[None], axis=2)
    gap = np.minimum(apart(neurons), apart(-neurons)) if signed else apart(neurons)
    size = np.linalg.norm(neurons, axis=1)
    larger = np.maximum(size[:, None], size[None])
    return gap / np.where(larger > 0, larger, 1.0)

"""Components of orbits: exact for linear networks and for two layers, bounds for any group."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from .._checks import require
from .._results import AbstractResult
from ..groups import AbstractGroup, Element
from ._ranks import as_matrix, rank_of, rounding


class OrbitComponents(AbstractResult):
    """The result of `orbit_components`.

    ``count`` is exact, or None where a rank is not decided. ``ranks[i, j]`` is the rank of
    W_j ... W_{i+1} (the width d_i for i = j), ``intervals[a, b]`` how often the interval [a, b] of
    layers occurs in the network taken apart into chains; ``margin`` is the least margin of a rank.
    """

    count: int | None
    ranks: Int[np.ndarray, "layers layers"]
    intervals: Int[np.ndarray, "layers layers"]
    margin: float

    @property
    def undecided(self) -> bool:
        """Whether a singular value is too near to zero to say."""
        return self.count is None


def orbit_components(
    weights: Sequence[Float[ArrayLike, "_ _"]], *, tolerance: float | None = None
) -> OrbitComponents:
    """The exact number of components of the orbit of a linear network under its hidden symmetries.

    GL(d_1) x ... x GL(d_{l-1}) acts by W_i -> g_i W_i g_{i-1}^-1 and has 2^(l-1) components. With
    r_ij = rank(W_j ... W_{i+1}) and r_ii = d_i, the network is a sum of chains, of which
    m_ab = r_ab - r_{a-1,b} - r_{a,b+1} + r_{a-1,b+1} reach from layer a to layer b. Those with
    1 <= a <= b <= l - 1 touch neither input nor output, so a reflection of one of them is in the
    stabiliser, and

        count = 2^(l - 1 - rank over F_2 of the intervals [a, b], as 0-1 vectors, with m_ab > 0).

    For l = 2 it is 2 if rank(UV) = rank U + rank V - h (Sylvester's bound is attained), else 1.
    A rank is decided by singular values against the product of the spectral norms of the factors,
    with ``tolerance`` (default: ten times the rounding of the dtype, the widths and the depth)
    between zero and not zero; where one is within ten times of it the count is None. NumPy,
    host-only.

    Raises ValueError for weights that do not chain, and NaN.

    Example:
        >>> full, thin = jnp.eye(2), jnp.diag(jnp.array([1.0, 0.0]))
        >>> orbit_components((full, full)).count, orbit_components((thin, thin)).count
        (2, 1)
    """
    require(
        isinstance(weights, Sequence),
        f"`weights` must be a sequence of matrices, got {type(weights).__name__}.",
    )
    chain = [as_matrix(f"weights[{i}]", w) for i, w in enumerate(weights)]
    require(len(chain) >= 1, "`weights` must hold at least one matrix, got none.")
    for i, (v, w) in enumerate(itertools.pairwise(chain), 1):
        require(
            w.shape[1] == v.shape[0],
            f"`weights[{i}]` {w.shape} does not chain: it meets {v.shape[0]} rows.",
        )
    widths = [chain[0].shape[1], *(w.shape[0] for w in chain)]
    ranks, margin, sure = _ranks(chain, widths, tolerance)
    earlier = np.pad(ranks, ((1, 0), (0, 0)))[:-1]
    later = np.pad(ranks, ((0, 0), (0, 1)))[:, 1:]
    wider = np.pad(earlier, ((0, 0), (0, 1)))[:, 1:]
    intervals = np.triu(ranks - earlier - later + wider)
    hidden = len(chain) - 1
    loose = [
        [int(a <= i <= b) for i in range(1, hidden + 1)]
        for a in range(1, hidden + 1)
        for b in range(a, hidden + 1)
        if intervals[a, b] > 0
    ]
    count = 2 ** (hidden - _binary_rank(loose)) if sure else None
    return OrbitComponents(count, ranks, intervals, margin)


def _ranks(chain, widths, tolerance):
    """All r_ij, the least margin, and whether every rank is decided."""
    ranks, margin, sure = np.diag(widths), np.inf, True
    for i in range(len(chain)):
        product, size, relative = np.eye(widths[i], dtype=chain[i].dtype), 1.0, 0.0
        for j in range(i, len(chain)):
            product = chain[j] @ product
            size *= float(np.linalg.norm(chain[j], 2))
            # Each factor adds its own rounding to the product's.
            relative += rounding(chain[j], tolerance)
            found = rank_of(np.linalg.svd(product, compute_uv=False), size, relative)
            ranks[i, j + 1] = found.high
            margin, sure = min(margin, found.margin), sure and found.sure
    return ranks, margin, sure


def _binary_rank(rows):
    """The rank over F_2 of rows of zeros and ones, by elimination on integers."""
    pivots = {}
    for row in rows:
        value = int("".join(map(str, row)), 2)
        while value and (top := value.bit_length()) in pivots:
            value ^= pivots[top]
        if value:
            pivots[value.bit_length()] = value
    return len(pivots)


def orbit_bound(group: AbstractGroup, stabiliser: Sequence[Element] = ()) -> int | float:
    """An upper bound of the number of components of any orbit of a group that acts continuously.

    An orbit is a continuous image of the group, so it has no more components than the group. The
    elements of ``stabiliser``, which fix the point, sharpen this: with S the subgroup of the
    group's components that they generate the bound is |pi_0(G)| / |S|. For an algebraic action (all
    of symjax's) it is exact once they meet every component that the whole stabiliser meets. An
    action that is not continuous can break the bound. inf for a group with infinitely many
    components. Elements are composed one by one, so host-only, and for small S.

    Raises ValueError for an entry of ``stabiliser`` that is not an element of the group.

    Paper: Cor. 3.6.

    Example:
        >>> hidden = Product([GeneralLinear(2), GeneralLinear(3)])
        >>> orbit_bound(hidden)
        4
        >>> reflection = (jnp.diag(jnp.array([1.0, -1.0])), jnp.eye(3))
        >>> orbit_bound(hidden, [reflection])  # where it fixes the point
        2
    """
    for i, g in enumerate(stabiliser):
        require(
            bool(np.all(group.contains(g))),
            f"`stabiliser[{i}]` is not an element of {group}.",
        )
    # Products of the elements, one of each component: they form a group, as it is finite.
    seen, waiting = {group.component(group.identity())}, list(stabiliser)
    while waiting:
        h = waiting.pop()
        if (label := group.component(h)) not in seen:
            seen.add(label)
            waiting += [group.compose(g, h) for g in stabiliser]
    total = group.number_of_components
    return total if math.isinf(total) else int(total) // len(seen)


def minimum_bound(*orbits: int | OrbitComponents | AbstractGroup) -> int | float:
    """An upper bound of the number of components of a set that is a union of orbits, or of pieces.

    A set has no more components than its pieces have together. Each piece is given by its number of
    components, by what `orbit_components` found, or by a group of which it is one orbit (then
    `orbit_bound`). A minimum that is a single orbit has no more components than the group; a
    minimum of several orbits can have more. There is no bound from below: {0, 1} x R+ under scaling
    of the second coordinate has two components and connected orbits, and the punctured plane under
    scaling by all numbers but 0 is connected while each of its orbits has two. Plain numbers,
    host-only.

    inf where an orbit is undecided or a group has infinitely many components. Raises ValueError for
    no piece at all, or one that is none of these.

    Paper: Cor. 3.7.
    Paper: Prop. 3.8.
    Paper: Prop. A.8.

    Example:
        >>> minimum_bound(GeneralLinear(3))
        2
        >>> minimum_bound(GeneralLinear(3), orbit_components((jnp.eye(3), jnp.eye(3))), 1)
        5
    """
    require(len(orbits) >= 1, "`orbits` must name at least one piece, got none.")
    return sum(_pieces(i, orbit) for i, orbit in enumerate(orbits))


def _pieces(i, orbit):
    if isinstance(orbit, AbstractGroup):
        return orbit_bound(orbit)
    if isinstance(orbit, OrbitComponents):
        return math.inf if orbit.count is None else orbit.count
    require(
        isinstance(orbit, int) and orbit >= 0,
        f"`orbits[{i}]` must be a number of components, an OrbitComponents or a group, "
        f"got {orbit!r}.",
    )
    return orbit

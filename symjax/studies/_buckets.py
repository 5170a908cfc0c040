"""Networks of many shapes in a handful of compiled programs: which shapes share a padded one."""

from collections.abc import Callable

import numpy as np

Cost = Callable[[np.ndarray], np.ndarray]
WASTE = 1.4
"""Cost with padding over cost without, of the networks that shapes are chosen for."""


def padded_shapes(shapes: np.ndarray, count: int | None, cost: Cost, multiple: int) -> np.ndarray:
    """At most ``count`` padded shapes that hold networks of these ``shapes``.

    ``shapes`` is (networks, dimensions) and ``cost`` maps (..., dimensions) to what one network of
    that shape costs. Sizes are rounded up to multiples of ``multiple``, since whole vectors are
    faster than ragged ones on a CPU. Every shape that occurs starts as a bucket, and the two
    buckets whose union adds the least cost become one, until there are ``count``, or with None as
    long as the cost stays within `WASTE` times that without padding. Where rounding alone costs
    more than that, nothing is joined.

    Raises:
        ValueError: where ``count`` is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"`buckets` must be at least 1, got {count}.")
    rounded = -(-shapes // multiple) * multiple
    corners, members = np.unique(rounded, axis=0, return_counts=True)
    added = np.stack([_added(corners, members, b, cost) for b in range(len(corners))])
    spare = np.inf if count else WASTE * cost(shapes).sum() - cost(rounded).sum()
    for _ in range(len(corners) - (count or 1)):
        kept, gone = divmod(int(added.argmin()), len(corners))
        spare -= added[kept, gone]
        if spare < 0:
            break
        corners[kept] = np.maximum(corners[kept], corners[gone])
        members[kept] += members[gone]
        members[gone] = 0
        added[gone] = added[:, gone] = np.inf
        added[kept] = added[:, kept] = _added(corners, members, kept, cost)
    return corners[members > 0]


def assign(shapes: np.ndarray, corners: np.ndarray, cost: Cost) -> np.ndarray:
    """For every network the cheapest padded shape that holds it, by number.

    Raises:
        ValueError: where a network fits none of them.
    """
    holds = (shapes[:, None] <= corners).all(axis=-1)
    if not holds.any(axis=-1).all():
        raise ValueError("`shapes` has a network that is larger than all of `corners`.")
    return np.where(holds, cost(corners).astype(float), np.inf).argmin(axis=1)


def wasted_arithmetic(
    shapes: np.ndarray, corners: np.ndarray, members: np.ndarray, cost: Cost
) -> float:
    """Arithmetic with padding over arithmetic without: 1 where nothing is wasted."""
    return float(cost(corners[members]).sum() / cost(shapes).sum())


def fit_to(array: np.ndarray | np.generic, shape: tuple[int, ...], fill: float = 0.0) -> np.ndarray:
    """The array's leading corner of the given shape, filled up where the array is smaller."""
    fitted = np.full(shape, fill, array.dtype)
    corner = tuple(slice(min(a, b)) for a, b in zip(array.shape, shape, strict=True))
    fitted[corner] = np.asarray(array)[corner]
    return fitted


def _added(corners: np.ndarray, members: np.ndarray, bucket: int, cost: Cost) -> np.ndarray:
    """The cost that joining a bucket with each other one adds; infinite where it cannot."""
    apart = members * cost(corners)
    union = cost(np.maximum(corners, corners[bucket])) * (members + members[bucket])
    possible = (members > 0) & (np.arange(len(corners)) != bucket)
    return np.where(possible, union - apart - apart[bucket], np.inf)

"""Networks of many shapes in a handful of compiled programs: which shapes share a padded one."""

from collections.abc import Callable

import numpy as np

Cost = Callable[[np.ndarray], np.ndarray]
WASTE = 2.0


def bucket_shapes(
    shapes: np.ndarray, count: int | None, cost: Cost, multiple: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Padded shapes for at most ``count`` buckets, and for every network the bucket it is in.

    ``shapes`` is (networks, dimensions) and ``cost`` maps (..., dimensions) to the arithmetic of
    one network of that shape. Every network starts in a bucket of its own, with sizes rounded up to
    a ``multiple``, since whole vectors are faster than ragged ones on a CPU. The two buckets whose
    merging adds the least padded arithmetic are merged until ``count`` are left; with None, as long
    as the arithmetic with padding stays below `WASTE` times that without.

    Raises:
        ValueError: where ``count`` is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"`buckets` must be at least 1, got {count}.")
    limit = WASTE * cost(shapes).sum()
    corners, members = np.unique(-(-shapes // multiple) * multiple, axis=0, return_inverse=True)
    members = members.reshape(-1)
    sizes = np.bincount(members)
    while len(corners) > (count or 1):
        a, b, added = _cheapest_merge(corners, sizes, cost)
        if count is None and np.sum(sizes * cost(corners)) + added >= limit:
            break
        corners[a] = np.maximum(corners[a], corners[b])
        sizes[a] += sizes[b]
        corners, sizes = np.delete(corners, b, axis=0), np.delete(sizes, b)
        members = np.where(members == b, a, members)
        members = members - (members > b)
    return corners, members


def wasted_arithmetic(
    shapes: np.ndarray, corners: np.ndarray, members: np.ndarray, cost: Cost
) -> float:
    """Arithmetic with padding over arithmetic without: 1 where nothing is wasted."""
    return float(cost(corners[members]).sum() / cost(shapes).sum())


def fit_to(array: np.ndarray, shape: tuple[int, ...], fill: float = 0.0) -> np.ndarray:
    """The array's leading corner of the given shape, filled up where the array is smaller."""
    fitted = np.full(shape, fill, array.dtype)
    corner = tuple(slice(min(a, b)) for a, b in zip(array.shape, shape, strict=True))
    fitted[corner] = array[corner]
    return fitted


def _cheapest_merge(corners: np.ndarray, sizes: np.ndarray, cost: Cost) -> tuple[int, int, float]:
    """The pair (a, b), a < b, of buckets whose union adds the least padded arithmetic, and that."""
    now = sizes * cost(corners)
    merged = cost(np.maximum(corners[:, None], corners[None])) * (sizes[:, None] + sizes[None])
    added = (merged - now[:, None] - now[None]).astype(float)
    added[np.tril_indices(len(corners))] = np.inf
    a, b = np.unravel_index(added.argmin(), added.shape)
    return int(a), int(b), float(added[a, b])

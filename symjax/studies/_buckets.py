"""Networks of many shapes in a handful of compiled programs: which shapes share a padded one."""

from collections.abc import Callable

import numpy as np

Cost = Callable[[np.ndarray], np.ndarray]


def bucket_shapes(shapes: np.ndarray, count: int, cost: Cost) -> tuple[np.ndarray, np.ndarray]:
    """Padded shapes for at most ``count`` buckets, and for every network the bucket it is in.

    ``shapes`` is (networks, dimensions) and ``cost`` maps (..., dimensions) to the arithmetic of
    one network of that shape. Every network starts in a bucket of its own; the two buckets whose
    merging adds the least padded arithmetic are merged until ``count`` are left.

    Raises:
        ValueError: where ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"`buckets` must be at least 1, got {count}.")
    corners, members = np.unique(shapes, axis=0, return_inverse=True)
    members = members.reshape(-1)
    sizes = np.bincount(members)
    while len(corners) > count:
        a, b = _cheapest_merge(corners, sizes, cost)
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


def round_up(shapes: np.ndarray, multiple: int = 8) -> np.ndarray:
    """Every size rounded up to a multiple: whole vectors are faster than ragged ones on a CPU."""
    return -(-shapes // multiple) * multiple


def fit_to(array: np.ndarray, shape: tuple[int, ...], fill: float = 0.0) -> np.ndarray:
    """The array's leading corner of the given shape, filled up where the array is smaller."""
    fitted = np.full(shape, fill, array.dtype)
    corner = tuple(slice(min(a, b)) for a, b in zip(array.shape, shape, strict=True))
    fitted[corner] = array[corner]
    return fitted


def _cheapest_merge(corners: np.ndarray, sizes: np.ndarray, cost: Cost) -> tuple[int, int]:
    """The pair (a, b), a < b, of buckets whose union adds the least padded arithmetic."""
    now = sizes * cost(corners)
    merged = cost(np.maximum(corners[:, None], corners[None])) * (sizes[:, None] + sizes[None])
    added = (merged - now[:, None] - now[None]).astype(float)
    added[np.tril_indices(len(corners))] = np.inf
    a, b = np.unravel_index(added.argmin(), added.shape)
    return int(a), int(b)

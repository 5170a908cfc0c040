"""Networks of many shapes in a handful of compiled programs: which shapes share a padded one."""

from collections.abc import Callable

import numpy as np

Cost = Callable[[np.ndarray], np.ndarray]
WASTE = 1.9
"""Padded over true arithmetic on average; below 2, so that few samples of 100 exceed that."""


def padded_shapes(shapes: np.ndarray, count: int | None, cost: Cost, multiple: int) -> np.ndarray:
    """At most ``count`` padded shapes for networks that are drawn as ``shapes`` are.

    ``shapes`` is (networks, dimensions) and ``cost`` maps (..., dimensions) to the arithmetic of
    one network of that shape. All networks start in one bucket; the cut of a bucket in two that
    saves the most arithmetic is made until there are ``count``, or with None until the padded
    arithmetic is below `WASTE` times that without padding, or no cut saves anything. Sizes are
    multiples of ``multiple``, since whole vectors are faster than ragged ones on a CPU.

    Raises:
        ValueError: where ``count`` is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"`buckets` must be at least 1, got {count}.")
    limit = 0 if count else WASTE * cost(shapes).sum()
    whole = -(-shapes.max(axis=0) // multiple) * multiple
    buckets = [(whole, shapes, *_best_cut(whole, shapes, cost, multiple))]
    while len(buckets) != count:
        padded = sum(len(members) * cost(corner) for corner, members, *_ in buckets)
        best = max(range(len(buckets)), key=lambda b: buckets[b][2])
        corner, members, saved, lower = buckets[best]
        if padded < limit or saved <= 0:
            break
        below = (members <= lower).all(axis=1)
        buckets[best : best + 1] = [
            (c, part, *_best_cut(c, part, cost, multiple))
            for c, part in ((corner, members[~below]), (lower, members[below]))
        ]
    return np.array([corner for corner, *_ in buckets])


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


def fit_to(array: np.ndarray, shape: tuple[int, ...], fill: float = 0.0) -> np.ndarray:
    """The array's leading corner of the given shape, filled up where the array is smaller."""
    fitted = np.full(shape, fill, array.dtype)
    corner = tuple(slice(min(a, b)) for a, b in zip(array.shape, shape, strict=True))
    fitted[corner] = array[corner]
    return fitted


def _best_cut(
    corner: np.ndarray, members: np.ndarray, cost: Cost, multiple: int
) -> tuple[float, np.ndarray]:
    """What the best cut of a bucket saves, and the padded shape of the networks below it."""
    best = 0.0, corner
    for axis in range(len(corner)):
        sizes = np.arange(multiple, corner[axis], multiple)
        if not len(sizes):
            continue
        lower = np.repeat(corner[None], len(sizes), axis=0)
        lower[:, axis] = sizes
        below = (members[:, axis] <= sizes[:, None]).sum(axis=1)
        saved = below * (cost(corner) - cost(lower))
        if saved.max() > best[0]:
            best = float(saved.max()), lower[saved.argmax()]
    return best

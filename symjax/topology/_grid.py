"""The independent checker: components of {f != 0} counted on a grid, by merges that are proofs."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from .._checks import require, require_count
from .._results import AbstractResult

Polynomial: TypeAlias = (
    Callable[[Float[np.ndarray, "points variables"]], Float[np.ndarray, " points"]]
    | Mapping[tuple[int, ...], float]
)
"""A function of points, or a coefficient per monomial: {(): 1.0, (0, 1): -2.0} is 1 - 2 x_0 x_1."""

_AT_ONCE = 2**16


class GridCount(AbstractResult):
    """The result of `count_by_grid`.

    ``count`` is the number of classes of grid points, ``by_sign`` the same for each vector of signs
    of the polynomials that occurs; ``points`` of them were classified, and ``left_out`` lie on
    f = 0 or too near to it for their sign to be sure.
    """

    count: int
    by_sign: dict[tuple[int, ...], int]
    points: int
    left_out: int


def count_by_grid(
    polynomials: Polynomial | Sequence[Polynomial],
    variables: int,
    *,
    magnitudes: Sequence[float] | np.ndarray = (0.6, 2.5),
    zero: bool = True,
    max_points: int = 5_000_000,
) -> GridCount:
    """Count the components of {x : f_1(x) != 0, ..., f_r(x) != 0} that meet a grid.

    For polynomials that are affine in each single variable, such as determinants of products of
    different matrices. On a line parallel to an axis each f_j is then affine, so between two points
    where all signs agree no f_j vanishes: the two lie in one component. Grid points are merged by
    this rule and no other, so two components are never merged: **the count is an upper bound of the
    number of components that meet the grid**, whatever the grid. It is exact for those once a proof
    or a formula gives the same number; a finer grid can only find more merges and meet more
    components. A component that is met by no point is not counted.

    Every coordinate runs over plus and minus each of ``magnitudes``, and 0 unless ``zero`` is
    False; they are stretched a little, otherwise on every axis, so that no point lies on f = 0 by
    accident. A polynomial is a table of coefficients or a function that maps points of shape
    (p, variables) to values of shape (p,), in float64 NumPy. To count {f > 0} alone, or any other
    choice of signs, read ``by_sign[(1,)]``. NumPy and SciPy, so host-only. Time and
    memory grow with ``variables`` times the number of points, 0.4 million points in 8 variables
    taking about a second.

    Raises ValueError for a polynomial that is seen, on some line of the grid, not to be affine; for
    values of a wrong shape or not finite; for fewer than three coordinates per axis; and for a grid
    of more than ``max_points`` points, with how many it would need.

    Example:
        >>> count_by_grid({(): 1.0, (0, 1): 1.0}, 2).count  # 1 + x y != 0
        3
        >>> import numpy as np
        >>> determinant = lambda x: np.linalg.det(x.reshape(-1, 2, 2))
        >>> count_by_grid(determinant, 4).by_sign
        {(-1,): 1, (1,): 1}
    """
    table = (
        [polynomials]
        if callable(polynomials) or isinstance(polynomials, Mapping)
        else [*polynomials]
    )
    axes = _axes(variables, magnitudes, zero, max_points)
    require(len(table) >= 1, "`polynomials` must hold at least one polynomial, got none.")
    code, sure = np.zeros([len(a) for a in axes], np.int64), True
    for j, polynomial in enumerate(table):
        values = _values(polynomial, axes, f"polynomials[{j}]")
        error = _rounding(values)
        _require_affine(values, error, axes, f"polynomials[{j}]")
        code = 2 * code + (values > 0)
        sure = sure & (np.abs(values) > error)
    return _classes(np.where(sure, code, -1), len(table))


def _axes(variables, magnitudes, zero, max_points):
    """The coordinates along each axis, in increasing order and symmetric about 0."""
    require_count("variables", variables)
    sizes = np.unique(np.asarray(magnitudes, float))
    require(
        sizes.ndim == 1 and bool(np.all(np.isfinite(sizes) & (sizes > 0))),
        f"`magnitudes` must be positive and finite numbers, got {magnitudes!r}.",
    )
    line = np.concatenate([-sizes[::-1], [0.0] if zero else [], sizes])
    require(
        len(line) >= 3,
        f"`magnitudes` must give at least 3 coordinates per axis (with `zero`), got {len(line)}: "
        "with two, every function looks affine.",
    )
    require(
        len(line) ** variables <= max_points,
        f"`variables` = {variables} with {len(line)} coordinates each need "
        f"{float(len(line)) ** variables:.3g} points, more than `max_points` = {max_points}: give "
        "fewer `magnitudes` or a larger `max_points`.",
    )
    golden = (math.sqrt(5) - 1) / 2
    return [line * (1 + 0.2 * ((i + 1) * golden % 1)) for i in range(variables)]


def _values(polynomial, axes, name):
    """The values at all points of the grid, one axis of the array per variable."""
    shape = [len(a) for a in axes]
    if isinstance(polynomial, Mapping):
        values = _table_values(polynomial, axes, name)
    else:
        require(callable(polynomial), f"`{name}` must be a function or a table of coefficients.")
        values = np.empty(math.prod(shape))
        for start in range(0, values.size, _AT_ONCE):
            index = np.arange(start, min(start + _AT_ONCE, values.size))
            places = np.unravel_index(index, shape)
            points = np.stack([a[i] for a, i in zip(axes, places, strict=True)], axis=1)
            part = np.asarray(polynomial(points))
            require(
                part.shape == index.shape,
                f"`{name}` must map points of shape {points.shape} to values of shape "
                f"{index.shape}, got {part.shape}.",
            )
            values[index] = part
    require(bool(np.isfinite(values).all()), f"`{name}` is not finite somewhere on the grid.")
    return values.reshape(shape)


def _table_values(table, axes, name):
    values = np.zeros([len(a) for a in axes])
    for monomial, coefficient in table.items():
        require(
            len(set(monomial)) == len(monomial) and all(0 <= i < len(axes) for i in monomial),
            f"`{name}` has the monomial {monomial}; expected different variables of "
            f"0, ..., {len(axes) - 1}: a power is not affine.",
        )
        factors = [
            axes[i].reshape([-1 if k == i else 1 for k in range(len(axes))]) for i in monomial
        ]
        values += coefficient * math.prod(factors, start=np.ones([1] * len(axes)))
    return values


def _rounding(values):
    """A bound for the rounding error of each value, a few hundred eps of its largest monomial.

    No monomial at x is larger than the largest |f| over the points (+-x_1, ..., +-x_v): it is the
    mean of f over them with signs. All of these are on the grid.
    """
    size = np.abs(values)
    for axis in range(values.ndim):
        size = np.maximum(size, np.flip(size, axis))
    # Below the smallest normal number rounding is no longer relative.
    return 2 * 2**8 * (np.finfo(float).eps * size + np.finfo(float).tiny)


def _require_affine(values, error, axes, name):
    """ValueError unless each value lies on the line through its two neighbours, on every axis."""
    for axis, places in enumerate(axes):
        inside = [np.take(values, range(k, k + len(places) - 2), axis) for k in range(3)]
        allowed = np.maximum.reduce(
            [np.take(error, range(k, k + len(places) - 2), axis) for k in range(3)]
        )
        share = (places[1:-1] - places[:-2]) / (places[2:] - places[:-2])
        share = share.reshape([-1 if k == axis else 1 for k in range(values.ndim)])
        off = np.abs(inside[1] - (1 - share) * inside[0] - share * inside[2])
        require(
            bool((off <= 4 * allowed).all()),
            f"`{name}` is not affine in variable {axis}: on a line of the grid it is off by "
            f"{off.max():.3g}. Merging by signs would then prove nothing.",
        )


def _classes(code, factors):
    """Union-find over neighbours of one code; -1 is left out."""
    # Imported here: a quarter of a second that `import symjax` need not spend.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    index = np.arange(code.size).reshape(code.shape)
    edges = []
    for axis, length in enumerate(code.shape):
        a, b = (np.take(code, range(k, length - 1 + k), axis) for k in (0, 1))
        # Along a line the signs change at most once each: neighbours are enough.
        same = (a == b) & (a >= 0)
        edges += [np.stack([np.take(index, range(k, length - 1 + k), axis)[same] for k in (0, 1)])]
    i, j = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(i.size, bool), (i, j)), shape=(code.size,) * 2)
    label = connected_components(graph, directed=False)[1]
    code = code.ravel()
    _, first = np.unique(label, return_index=True)
    kept, counts = np.unique(code[first][code[first] >= 0], return_counts=True)
    signs = [tuple(2 * ((int(c) >> k) & 1) - 1 for k in reversed(range(factors))) for c in kept]
    return GridCount(
        count=int(counts.sum()),
        by_sign=dict(zip(signs, map(int, counts), strict=True)),
        points=int((code >= 0).sum()),
        left_out=int((code < 0).sum()),
    )

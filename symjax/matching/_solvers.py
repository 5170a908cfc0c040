"""One solver for each kind of group: the element that brings some places nearest to others.

Each takes the pairs (place, a, x) of arrays (fibres, n, k) and minimises the sum of |a - g.x|^2
over g, exactly where there is a closed form. `compact` is the same over the compact part of the
group, the isometries; `balance` minimises the sum of |g.x|^2 itself.
"""

import functools
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from ._places import Place
from ._table import Factor, to_complex

Pair = tuple[Place, np.ndarray, np.ndarray]

FLOOR = 1e-12
"""Eigenvalues of a Gram matrix below this part of the largest count as zero (ratio 1e-6)."""

PULL = 1e-14
"""How strongly an element is drawn to the identity, as part of the largest squares that it moves.

Where nothing decides (a pruned head, a dead unit, what rounding left of one), it stays there. The
pull is on each step, not on their product, so that where something decides it fades away.
"""

NOISE = 1e-28
"""Sums of squares below this part of the largest that an element moves are rounding of zeros."""

WIDEST = float(np.log(1e6))
"""Scales are sought between 1e-6 and 1e6: beyond is no minimum, but an infimum at 0 or infinity."""

WORST = 1e8
"""No matrix with a larger product |g| |g^-1| is used."""


def pairs_of(
    factor: Factor,
    target: Sequence[np.ndarray],
    leaves: Sequence[np.ndarray],
    allowed: Collection[int] | None = None,
):
    """The (place, target, here) of a factor, on some of the leaves."""
    return [
        (p, p.unfold(target), p.unfold(leaves))
        for p in factor.places
        if allowed is None or p.leaf in allowed
    ]


def nearest(factor: Factor, pairs: Sequence[Pair]) -> np.ndarray:
    """The element of the group that minimises the sum of |a - g.x|^2 (of a scale, exactly)."""
    if factor.kind == "scale":
        return _nearest_scale(pairs)
    if factor.kind == "complex":
        return _nearest_complex(pairs)
    if factor.kind == "linear":
        return _nearest_linear(pairs)
    return compact(factor, pairs)


def compact(factor: Factor, pairs: Sequence[Pair]) -> np.ndarray:
    """The isometry in the group that minimises the sum of |a - g.x|^2."""
    if factor.kind == "scale":
        return factor.identity()
    if factor.kind == "complex":
        overlap = add(_complex_overlap(a, x) for _, a, x in pairs)
        return np.where(np.abs(overlap) > 0, np.exp(1j * np.angle(overlap)), 1)
    if factor.kind == "sign":
        return np.where(add(np.sum(a * x, axis=-1) for _, a, x in pairs) < 0, -1.0, 1.0)
    overlap = add(a @ x.mT for _, a, x in pairs)
    if factor.kind == "permutation":
        return assign(overlap)
    left, _, right = np.linalg.svd(overlap)
    return left @ right


def assign(gain: np.ndarray) -> np.ndarray:
    """For each fibre, the assignment i -> h[i] with the largest sum of gain[i, h[i]]."""
    return np.stack([linear_sum_assignment(one, maximize=True)[1] for one in gain])


def balance(factor: Factor, places: Sequence[tuple[Place, np.ndarray]]) -> np.ndarray:
    """The element that minimises the sum of |g.x|^2: the norm on an orbit has one minimum.

    It is one up to isometries: the sum is convex along exponential curves of symmetric generators.
    Where every leg of a scale has one sign of power the infimum is 0; then the mean square of what
    it moves is made 1, which is the minimum of the sum minus a multiple of log g.
    """
    if factor.kind == "scale" or factor.kind == "complex":
        return _balanced_scale(factor, places)
    if factor.kind == "linear":
        return _balanced_linear(places)
    return factor.identity()


def add(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """The sum of one or more arrays of one shape."""
    return functools.reduce(np.add, arrays)


def unit_gain(factor: Factor, place: Place, x: np.ndarray) -> np.ndarray:
    """The scale or sign that makes entries 1 in size, or positive; 1 for an entry of 0."""
    x = x[..., 0]
    if factor.kind == "sign":
        return np.where(x < 0, -1.0, 1.0)
    none = np.abs(x) <= FLOOR * np.abs(x).max(initial=0)
    return np.where(none, 1.0, np.abs(np.where(none, 1.0, x)) ** (-1 / place.power))


def _complex_overlap(a, x):
    return np.sum(to_complex(a) * to_complex(x).conj(), axis=-1)


# Scales: minimise f(u) = sum_l s_l c^(2 p_l) - 2 z(u) over c = e^u, with z = sum_l t_l c^(p_l) for
# a positive scale. A complex one turns all legs by one angle; the best one leaves z = |sum ...|.


def _nearest_scale(pairs):
    sums = lambda v: v.sum(axis=2)
    powers = np.array([p.power for p, _, _ in pairs])
    squares = np.stack([sums(x * x) for _, _, x in pairs])
    overlaps = np.stack([sums(a * x) for _, a, x in pairs])
    pull = PULL * squares.max(initial=0)
    return np.exp(_best_log(powers, squares + pull, overlaps + pull))


def _nearest_complex(pairs):
    powers = np.array([p.power for p, _, _ in pairs])
    squares = np.stack([np.sum(np.abs(to_complex(x)) ** 2, axis=-1) for _, _, x in pairs])
    overlaps = np.stack([_complex_overlap(a, x) for _, a, x in pairs])
    pull = PULL * squares.max(initial=0)
    squares, overlaps = squares + pull, overlaps + pull
    u = _best_log(powers, squares, overlaps)
    turned = np.sum(overlaps * np.exp(powers[:, None, None] * u), axis=0)
    return np.exp(u + 1j * np.angle(turned))


def _best_log(powers, squares, overlaps):
    """The global minimum in u of each unit: the best of a grid over all of it, then Newton.

    No minimum is worse than u = 0, so |sqrt(s) c^p - t / sqrt(s)|^2 is at most f(0) plus the sum of
    t^2 / s for each leg: an interval that holds the minimum. Where one side is open (all powers of
    one sign) there may be none: rows that look away from each other come nearer for ever as one
    shrinks, which brings nothing together and, before a norm, costs all digits. There u stays 0.
    """
    # A second axis holds several u for each unit: the points of the grid, or one.
    powers, squares, overlaps = powers[:, None, None, None], squares[:, None], overlaps[:, None]
    function = lambda u: _log_derivatives(u, powers, squares, overlaps)
    zero = np.zeros(squares.shape[1:])
    at_zero = function(zero)[0]
    low, high = _log_interval(powers, squares, np.abs(overlaps), at_zero)
    grid = low + (high - low) * np.linspace(0, 1, 65)[:, None, None]
    at = np.argmin(function(grid)[0], axis=0)[None]
    take = lambda i: np.take_along_axis(grid, np.clip(i, 0, 64), axis=0)
    low, high, u = take(at - 1), take(at + 1), take(at)
    for _ in range(30):
        _, slope, curvature = function(u)
        low, high = np.where(slope < 0, u, low), np.where(slope < 0, high, u)
        newton = u - slope / np.where(curvature > 0, curvature, np.inf)
        inside = (curvature > 0) & (newton >= low) & (newton <= high)
        u, before = np.where(inside, newton, (low + high) / 2), u
        if np.abs(u - before).max() < 1e-13:
            break
    attained = np.abs(u) < WIDEST
    return np.where(attained & (function(u)[0] < at_zero), u, zero)[0]


def _log_derivatives(u, powers, squares, overlaps):
    """f, f' and f'' at u, for every unit."""
    first, second = np.exp(powers * u), np.exp(2 * powers * u)
    z, dz, ddz = (np.sum(overlaps * powers**k * first, axis=0) for k in range(3))
    if np.iscomplexobj(z):
        size = np.maximum(np.abs(z), 1e-300)
        slope = (z.conj() * dz).real / size
        ddz = (np.abs(dz) ** 2 + (z.conj() * ddz).real - slope**2) / size
        z, dz = np.abs(z), slope
    value, slope, curvature = (
        np.sum((2 * powers) ** k * squares * second, axis=0) for k in range(3)
    )
    return value - 2 * z, slope - 2 * dz, curvature - 2 * ddz


def _log_interval(powers, squares, overlaps, at_zero):
    moved = squares > 0
    safe = np.where(moved, squares, 1.0)
    slack = np.maximum(at_zero + np.sum(np.where(moved, overlaps**2 / safe, 0), axis=0), 0)
    reach = np.where(moved, overlaps / safe + np.sqrt(slack / safe), np.inf)
    bound = np.log(np.maximum(reach, 1e-300)) / np.abs(powers)
    up = np.min(np.where(powers > 0, bound, WIDEST), axis=0)
    down = np.min(np.where(powers < 0, bound, WIDEST), axis=0)
    return -np.clip(down, 0, WIDEST) - 1e-3, np.clip(up, 0, WIDEST) + 1e-3


def _balanced_scale(factor, places):
    sums = lambda v: v.sum(axis=2)
    if factor.kind == "complex":
        sums = lambda v: np.sum(np.abs(to_complex(v)) ** 2, axis=-1)
    powers = np.array([p.power for p, _ in places])
    squares = np.stack([sums(x * x) if factor.kind == "scale" else sums(x) for _, x in places])
    shape = squares.shape[1:]
    squares = squares.reshape(len(places), -1)
    squares = np.where(squares > NOISE * squares.max(initial=0), squares, 0)
    sizes = np.array([x.size / squares.shape[1] for _, x in places])[:, None]
    towards = np.sign(powers)[:, None]
    one_sided = ~((squares * (towards > 0)).any(0) & (squares * (towards < 0)).any(0))
    # d/du: sum 2 p s c^2p - 2 w = 0, increasing in u; w = 0 where both signs pull.
    weight = np.sum(powers[:, None] * sizes * (squares > 0), axis=0) * one_sided
    u = np.zeros(squares.shape[1])
    for _ in range(60):
        terms = squares * np.exp(2 * powers[:, None] * u)
        slope = np.sum(powers[:, None] * terms, axis=0) - weight
        curvature = np.sum(2 * powers[:, None] ** 2 * terms, axis=0)
        step = np.clip(slope / np.where(curvature > 0, curvature, 1), -1, 1)
        u = u - step
        if np.abs(step).max() < 1e-14:
            break
    scale = np.exp(u).reshape(shape)
    return scale.astype(complex) if factor.kind == "complex" else scale


# GL: minimise |A - g X|^2 + |B - g^-T Y|^2, through the Gram matrices of the rows alone.


def _grams(pairs, vector):
    chosen = [(a, x) for p, a, x in pairs if (p.power > 0) == vector]
    if not chosen:
        shape = (len(pairs[0][2]), pairs[0][2].shape[1], pairs[0][2].shape[1])
        return np.zeros(shape), np.zeros(shape)
    return add(x @ x.mT for _, x in chosen), add(a @ x.mT for a, x in chosen)


def _nearest_linear(pairs):
    sx, ax, sy, by = *_grams(pairs, True), *_grams(pairs, False)
    identity = np.eye(sx.shape[-1])
    pull = PULL * max(np.trace(s, axis1=-2, axis2=-1).max() for s in (sx, sy)) * identity
    grams = sx, ax, sy, by = sx + pull, ax + pull, sy + pull, by + pull
    start = np.broadcast_to(identity, sx.shape)
    best = start, start, _linear_value(start, start, *grams)
    # Least squares on what writes the axis, or on what reads it: whichever leaves less.
    for jump in (_solve_right(ax, sx), np.linalg.pinv(_solve_right(by, sy)).mT):
        best = _keep_better(best, jump, grams)
    for _ in range(3):
        # With g = (1 + m) g0 to first order, m (g Sx g^T) + (g^-T Sy g^-1) m = residual.
        g, inverse, value = best
        gx, gy = g @ sx @ g.mT, inverse.mT @ sy @ inverse
        m = _sylvester(gy, gx, (ax @ g.mT - gx) - (by @ inverse - gy).mT)
        m = m / np.maximum(np.linalg.norm(m, axis=(-2, -1), keepdims=True), 1)
        for shorter in (0.5, 0.125, 0.03125):
            # The Cayley transform: exp(m) to second order, and invertible for |m| < 2.
            step = np.linalg.solve(identity - shorter * m, identity + shorter * m)
            best = _keep_better(best, step @ g, grams)
            if (best[2] < value).any():
                break
        if not (best[2] < value - 1e-14 * np.abs(value)).any():
            break
    return best[0]


def _linear_value(g, inverse, sx, ax, sy, by):
    trace = lambda a, b: np.sum(a * b, axis=(-2, -1))
    back = inverse.mT
    return trace(g @ sx, g) - 2 * trace(g, ax) + trace(back @ sy, back) - 2 * trace(back, by)


def _keep_better(best, candidate, grams):
    """(g, its inverse, value), fibre by fibre the candidate's where it is better and regular."""
    regular = np.isfinite(candidate).all((-2, -1)) & (np.linalg.slogdet(candidate)[0] != 0)
    candidate = np.where(regular[:, None, None], candidate, best[0])
    inverse = np.linalg.inv(candidate)
    value = _linear_value(candidate, inverse, *grams)
    size = np.linalg.norm(candidate, axis=(-2, -1)) * np.linalg.norm(inverse, axis=(-2, -1))
    better = regular & (size < WORST) & (value < best[2])
    chosen = better[:, None, None]
    return (
        np.where(chosen, candidate, best[0]),
        np.where(chosen, inverse, best[1]),
        np.where(better, value, best[2]),
    )


def _solve_right(b, s):
    """B s^-1 for a Gram matrix s, directions below the floor left out."""
    values, vectors = np.linalg.eigh(s)
    kept = values > FLOOR * np.maximum(values[..., -1:], 1e-300)
    inverse = np.where(kept, 1 / np.where(kept, values, 1), 0)
    return (b @ vectors * inverse[..., None, :]) @ vectors.mT


def _sylvester(left, right, rhs):
    """The m with left m + m right = rhs for semidefinite left and right."""
    (a, u), (b, v) = np.linalg.eigh(left), np.linalg.eigh(right)
    total = a[..., :, None] + b[..., None, :]
    kept = total > FLOOR * np.maximum(total.max((-2, -1), keepdims=True), 1e-300)
    rotated = u.mT @ rhs @ v
    return u @ np.where(kept, rotated / np.where(kept, total, 1), 0) @ v.mT


def _balanced_linear(places):
    pairs = [(p, x, x) for p, x in places]
    sx, sy = _grams(pairs, True)[0], _grams(pairs, False)[0]
    identity = np.broadcast_to(np.eye(sx.shape[-1]), sx.shape)
    sizes = np.stack([np.trace(s, axis1=-2, axis2=-1) for s in (sx, sy)])
    alive = (sizes > NOISE * sizes.max(initial=0)).all(0)[:, None, None]
    sx, sy = (_regular(np.where(alive, s, identity)) for s in (sx, sy))
    # P = g^T g solves P Sx P = Sy: the geometric mean of Sx^-1 and Sy.
    root = _power(sx, 0.5)
    back = _power(sx, -0.5)
    return np.where(alive, _power(back @ _power(root @ sy @ root, 0.5) @ back, 0.5), identity)


def _regular(s):
    """A Gram matrix, with a ridge where it is singular: there the norm has no smallest point."""
    values = np.linalg.eigvalsh(s)
    singular = values[..., 0] < FLOOR * values[..., -1]
    ridge = np.where(singular, 1e-3 * values[..., -1], 0)
    return s + ridge[..., None, None] * np.eye(s.shape[-1])


def _power(s, p):
    values, vectors = np.linalg.eigh(s)
    return (vectors * np.maximum(values, 1e-300)[..., None, :] ** p) @ vectors.mT

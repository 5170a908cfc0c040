"""The shortest point of an orbit, how large the orbit is, and how far apart two are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._checks import is_floating, require, require_count, require_finite, require_same_tree
from .._orbits import Acting, dot, in_ball, norm, orbit_of, scaled, widen
from .._results import AbstractResult
from ..verification._change import function_change, require_measurable

CERTAIN = 10.0
"""A rank is certain where no singular value is within this factor of the cut."""

ENTRIES_AT_ONCE = 2**22
"""Of the tangent map of an orbit."""

ROUNDS, LARGEST = 16, 6
"""Of scaling rows and columns; each takes the root of what is left of their sizes."""


class MinimumNorm(AbstractResult):
    """The shortest parameters of an orbit, and how near to them the search came."""

    params: PyTree
    norm: Float[Array, ""]
    """The norm of the leaves that move."""
    residual: Float[Array, ""]
    """|charges| / norm^2, which is 0 exactly at the minimum: see `symjax.transforms.charges`."""
    steps: Int[Array, ""]
    converged: Bool[Array, ""]
    change: Float[Array, ""] | None = None
    """How much the outputs change, relative to their norm; None without ``apply``."""


def minimum_norm(
    symmetries: Acting,
    params: PyTree,
    *,
    steps: int = 100,
    tolerance: float | None = None,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
) -> MinimumNorm:
    """The point of least norm on the orbit of the parameters: balanced weights.

    Newton's method in the algebra, re-centred at each step. The norm is convex along exponential
    curves of symmetric generators (Kempf and Ness 1979), so for linear actions the minimum is
    unique up to the part of the group that keeps norms, and is where the conserved charges of
    gradient flow vanish: W_1 W_1^T = W_2^T W_2, |row| = |column|. Where the orbit is not closed (a
    hidden unit with no input weights but output weights) the infimum is not attained in it, and the
    limit, a point outside the orbit, is what comes near; the function is the same there.

    Stops at a residual below ``tolerance`` (100 eps) or after ``steps``. Works under jit and vmap;
    has no reverse-mode derivative.

    Symmetries that hold only up to a norm's epsilon are left out unless ``approximate``: then the
    function changes, and ``change`` says by how much the outputs ``apply(params, *inputs)`` do.

    Raises ValueError where no symmetry is continuous, or (outside jit) for NaN.

    Example:
        >>> import symjax
        >>> w = (jnp.array([[8.0]]), jnp.array([[2.0]]))
        >>> found = minimum_norm(symjax.rescaling_action(), w)
        >>> [round(x.item(), 5) for x in found.params], bool(found.converged)
        ([4.0, 4.0], True)
    """
    inputs = require_measurable(approximate, apply, inputs)
    orbit = orbit_of(symmetries, approximate)
    require_count("steps", steps)
    require(
        tolerance is None or tolerance >= 0,
        f"`tolerance` must be 0 or more, got {tolerance}.",
    )
    require_finite("params", params)
    wide, zero = widen(params), orbit.zero(params)
    eps = float(jnp.finfo(norm(zero).dtype).eps)
    tolerance = 100 * eps if tolerance is None else tolerance
    place = lambda w: orbit.replace(wide, w, params)
    charge = lambda w: orbit.symmetric(orbit.pull(w, place(w)))
    size = lambda w: dot(w, w)

    def residual(w):
        return norm(charge(w)) / jnp.where(size(w) > 0, size(w), 1.0)

    def newton(w):
        slope = jax.linearize(charge, w)[1]
        hessian = lambda m: orbit.symmetric(slope(orbit.tangent(orbit.symmetric(m), place(w))))
        # Near the minimum each step gains the inner tolerance, at the least.
        inner = min(2 * orbit.dimension, 100)
        downhill = jax.tree.map(jnp.negative, charge(w))
        return jax.scipy.sparse.linalg.cg(hessian, downhill, tol=1e-4, maxiter=inner)[0]

    def advance(carry):
        w, k, _ = carry
        m = newton(w)
        at = lambda t: orbit.select(orbit.move(scaled(m, t), place(w)), params)
        # Rounding may lift the norm at the minimum itself.
        moved = _halved(at, w, lambda moved: size(moved) <= (1 + 4 * eps) * size(w))
        return moved, k + 1, residual(moved)

    start = orbit.select(params, params)
    w, k, rest = jax.lax.while_loop(
        lambda carry: (carry[2] > tolerance) & (carry[1] < steps),
        advance,
        (start, jnp.zeros((), jnp.int32), residual(start)),
    )
    found = orbit.replace(params, w, params)
    change = function_change(apply, inputs, params, found)
    return MinimumNorm(found, norm(w), rest, k, rest <= tolerance, change)


def _halved(at, w, fits):
    """The first of at(1), at(1/2), at(1/4), ... that fits, or the twentieth."""

    def halve(trial):
        t, _, j = trial
        return t / 2, at(t), j + 1

    unfit = lambda trial: (trial[2] == 0) | (~fits(trial[1]) & (trial[2] < 20))
    return jax.lax.while_loop(unfit, halve, (jnp.ones((), norm(w).dtype), w, 0))[1]


class OrbitDimension(AbstractResult):
    """How many directions of the group move the parameters, and how many do not."""

    orbit: Int[Array, ""]
    """The dimension of the orbit: the rank of the generators at the parameters."""
    stabiliser: Int[Array, ""]
    """The dimension of the group minus that of the orbit."""
    gap: Float[Array, ""]
    """How far the singular values that count are from those that do not, and from the cut."""

    @property
    def certain(self) -> Bool[Array, ""]:
        """Whether no singular value is within a factor of ten of the cut, on either side."""
        return self.gap >= CERTAIN


def orbit_dimension(
    symmetries: Acting, params: PyTree, *, approximate: bool = False
) -> OrbitDimension:
    """The dimensions of the orbit through the parameters and of the stabiliser there.

    The rank of the map from the algebra to tangent vectors, with rows (parameters) and columns
    (directions of the algebra) scaled to one size: the scales of layers and units do not change it.
    Singular values below 10 d eps of the largest count as 0, with d the dimension of the algebra's
    coordinates. In a basis of a hidden layer that is ill-conditioned they fall towards that cut;
    where one is within a factor of ten of it, ``gap`` is below 10 and ``certain`` is False.
    Directions that two symmetries share count once; approximate symmetries count if asked.

    Raises ValueError where no symmetry is continuous, or (outside jit) for NaN.

    Example:
        >>> import symjax
        >>> w = (jnp.array([[1.0], [0.0]]), jnp.array([[1.0, 0.0]]))  # the second unit is dead
        >>> found = orbit_dimension(symjax.neuron_rescaling_action(2), w)
        >>> int(found.orbit), int(found.stabiliser)
        (1, 1)
    """
    orbit = orbit_of(symmetries, approximate)
    require_finite("params", params)
    flat, unravel = ravel_pytree(orbit.zero(params))
    eps = float(jnp.finfo(flat.dtype).eps)
    column = lambda e: ravel_pytree(orbit.tangent(unravel(e), params))[0].astype(flat.dtype)
    values = jnp.linalg.svdvals(_reduced(column, flat))
    cut = 10 * flat.size * eps * values[0]
    counts = values > cut
    rank = jnp.sum(counts)
    least = jnp.min(jnp.where(counts, values, jnp.inf))
    most = jnp.max(jnp.where(counts, 0, values))
    below = jnp.where(most > cut / CERTAIN, _ratio(cut, most), jnp.inf)
    gap = jnp.minimum(_ratio(least, jnp.maximum(most, cut)), below)
    return OrbitDimension(rank, orbit.dimension - rank, gap)


def _ratio(x: Array, y: Array) -> Array:
    """X / y, and infinity for a y of 0."""
    return jnp.where(y > 0, x / jnp.where(y > 0, y, 1), jnp.inf)


def _root(sizes: Array) -> Array:
    """The roots of sizes; 1 for a size of 0."""
    return jnp.sqrt(jnp.where(sizes > 0, sizes, 1))


def _reduced(column, flat):
    """A square factor R of a linear map with rows and columns scaled: |R v| = |rows A columns v|.

    A QR factorisation, some rows of the map at a time, so that its square is never formed.
    """
    rows, columns = _equilibrated(column, flat)
    most = max(flat.size, ENTRIES_AT_ONCE // flat.size)
    chunk = min(most, rows.size)
    number = -(-rows.size // chunk)
    padded = lambda x: jnp.pad(x, (0, number * chunk - x.size))

    def advance(factor, start):
        def entries(i, c):
            image = padded(rows * column(c * jax.nn.one_hot(i, flat.size, dtype=flat.dtype)))
            return jax.lax.dynamic_slice(image, (start,), (chunk,))

        block = jax.lax.map(lambda args: entries(*args), (jnp.arange(flat.size), columns))
        return jnp.linalg.qr(jnp.concatenate([factor, block.T]), mode="r"), None

    zero = jnp.zeros((flat.size, flat.size), flat.dtype)
    return jax.lax.scan(advance, zero, chunk * jnp.arange(number))[0]


def _equilibrated(column, flat):
    """Factors for the rows and columns of a linear map that bring all of them to one norm.

    Ruiz's iteration: divide by the roots of the sizes, of both sides at once. First by the largest
    entries, whose squares neither overflow nor underflow afterwards; then by Euclidean norms, where
    the scaling that it comes to is one for all matrices that differ by scales of rows and columns.
    """
    rows, columns = jnp.ones(jax.eval_shape(column, flat).shape, flat.dtype), jnp.ones_like(flat)

    def again(k, carry):
        rows, columns = carry

        def look(found, args):
            i, c = args
            sizes = jnp.abs(rows * column(c * jax.nn.one_hot(i, flat.size, dtype=flat.dtype)))
            largest, squares = found
            found = jnp.maximum(largest, sizes), squares + sizes**2
            return found, (jnp.max(sizes), jnp.sum(sizes**2))

        none = jnp.zeros_like(rows), jnp.zeros_like(rows)
        found, (tops, sums) = jax.lax.scan(look, none, (jnp.arange(flat.size), columns))
        pick = lambda largest, squares: jax.lax.select(k < LARGEST, largest, jnp.sqrt(squares))
        return rows / _root(pick(*found)), columns / _root(pick(tops, sums))

    return jax.lax.fori_loop(0, ROUNDS, again, (rows, columns))


class OrbitDistance(AbstractResult):
    """Bounds on the distance from one model to the orbit of another."""

    lower: Float[Array, ""]
    """Rigorous, for any element: the distance over the leaves that nothing moves."""
    upper: Float[Array, ""]
    """Reached by ``params``."""
    params: PyTree
    """The nearest point found on the orbit of ``b``."""
    change: Float[Array, ""] | None = None
    """How much the outputs of b change on the way there, relative; None without ``apply``."""


def orbit_distance(
    symmetries: Acting,
    a: PyTree,
    b: PyTree,
    *,
    steps: int = 50,
    apply: Callable[..., PyTree] | None = None,
    inputs: Any = None,
    approximate: bool = False,
) -> OrbitDistance:
    """How far ``a`` is from the orbit of ``b``: min over g of |a - g.b|, bounded on both sides.

    The upper bound is reached from b by Gauss-Newton steps in the algebra (the projection of
    a - b on the orbit's tangent space, halved until it helps), so it is a local minimum within the
    identity component. Start from matched models (`symjax.match`) for permutations, signs and
    other components. ``approximate``, ``apply`` and ``inputs`` are those of `minimum_norm`.

    Raises ValueError for models of different structure, (outside jit) for NaN, or where no symmetry
    is continuous.

    Example:
        >>> import symjax
        >>> a, b = (jnp.ones((1, 1)), jnp.ones((1, 1))), (jnp.full((1, 1), 2.0), jnp.ones((1, 1)))
        >>> round(float(orbit_distance(symjax.rescaling_action(), a, b).upper), 4)  # (1.4142)^2
        0.5858
    """
    require_same_tree("a", a, "b", b)
    require_count("steps", steps)
    require_finite("a", a)
    require_finite("b", b)
    inputs = require_measurable(approximate, apply, inputs)
    orbit = orbit_of(symmetries, approximate)
    target = orbit.select(a, a)
    gap = lambda w: jax.tree.map(jnp.subtract, target, orbit.select(w, a))

    def advance(_, carry):
        w, step = carry
        m = orbit.solve(gap(w), w).value
        moved = orbit.move(scaled(in_ball(m, 1.0), step), w)
        better = norm(gap(moved)) < norm(gap(w))
        pick = lambda new, old: new if new is old else jnp.where(better, new, old)
        return jax.tree.map(pick, moved, w), jnp.where(better, jnp.minimum(2 * step, 1), step / 2)

    one = jnp.ones((), norm(target).dtype)
    wide, _ = jax.lax.fori_loop(0, steps, advance, (widen(b), one))
    places = set(orbit.places(a))
    rows = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    still = [(x, y) for i, (x, y) in enumerate(rows) if i not in places and is_floating(x)]
    rest = [widen(x) - widen(y) for x, y in still]
    lower = norm(rest) if rest else jnp.zeros((), one.dtype)
    upper = jnp.sqrt(norm(gap(wide)) ** 2 + lower.astype(one.dtype) ** 2)
    nearest = orbit.replace(b, orbit.select(wide, a), a)
    return OrbitDistance(lower, upper, nearest, function_change(apply, inputs, b, nearest))

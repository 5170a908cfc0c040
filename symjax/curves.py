"""Curves t -> parameters: exponential and connecting curves, chords, and the trained baselines.

A curve is a pytree, so a batch of curves vmaps and jit caches by structure. Any other callable
t -> pytree is a curve too, wherever one is asked for.
"""

import abc
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ._checks import (
    action_of,
    describe,
    is_floating,
    nan_unless,
    path_name,
    require,
    require_concrete,
    require_finite,
    require_same_tree,
    require_unit_time,
    scalar_time,
)
from .actions import Action
from .discovery import Symmetry
from .groups import NO_PATH, Algebra, Element
from .linalg._precision import computing_dtype

Curve: TypeAlias = Callable[[Float[Array, ""]], PyTree]
"""Whatever maps a time to parameters: curves of this module, and any other function."""


class AbstractCurve(eqx.Module):
    """A differentiable map from a scalar t to parameters."""

    @abc.abstractmethod
    def __call__(self, t: Float[Array, ""] | float) -> PyTree:
        """The point of the curve at t."""


class SymmetryCurve(AbstractCurve):
    """exp(t rotation) exp(t stretch) . params: the curve that an action draws from one point.

    ``rotation`` None is the identity. ``method`` says how a connecting curve was found: 0 one
    exponential, 1 the two of a polar pair, 2 not at all (all its points are NaN). It is None for an
    exponential curve, which is defined for every real t.
    """

    action: Action
    params: PyTree
    stretch: Algebra
    rotation: Algebra | None = None
    method: Int[Array, ""] | None = None

    def __call__(self, t: Float[Array, ""] | float) -> PyTree:
        """The point at a scalar t; a connecting curve is NaN outside [0, 1] (ValueError outside
        jit).
        """
        t = scalar_time(t)
        point = self.action.flow(self.generators(t), self.params)
        if self.method is None:
            return point
        require_unit_time(t)
        inside = (self.method != NO_PATH) & (t >= 0) & (t <= 1)
        keep = lambda new, old: new if new is old else nan_unless(inside, new)
        return jax.tree.map(keep, point, self.params)

    def generators(self, t: Float[Array, ""] | float) -> tuple[Algebra, ...]:
        """The algebra elements whose exponentials, in this order, move the base point to t.

        In the widest dtype of the algebra and the parameters, and float32 at least.
        """
        numbers = [x.dtype for x in jax.tree.leaves((self.stretch, self.params)) if is_floating(x)]
        dtype = computing_dtype(*numbers)
        scaled = lambda m: jax.tree.map(lambda e: jnp.asarray(t, dtype) * e.astype(dtype), m)
        parts = (self.stretch,) if self.rotation is None else (self.rotation, self.stretch)
        return tuple(scaled(part) for part in parts)


def exponential_curve(action: Action | Symmetry, params: PyTree, m: Algebra) -> SymmetryCurve:
    """gamma(t) = exp(t m) . params, for every real t.

    ``action`` is an action or a `Symmetry`. The loss is constant on the curve where the action is
    a symmetry. Parameters keep their dtypes.

    Raises ValueError for an algebra element or parameters that do not fit the action, integer
    leaves to be moved, or (where the values are known) NaN and an m outside of the algebra, such as
    a matrix that is not skew for a rotation.

    Paper: Eq. (4).

    Example:
        >>> action = deep_linear_action((2, 3, 2))
        >>> w = (jnp.ones((3, 2)), jnp.ones((2, 3)))
        >>> curve = exponential_curve(action, w, action.group.random_algebra(jax.random.key(0)))
        >>> v, u = curve(0.7)
        >>> bool(jnp.allclose(u @ v, w[1] @ w[0], atol=1e-5))
        True
    """
    acting = action_of(action)
    _require_fit(acting, params, m)
    require_finite("m", m)
    _require_in_algebra(acting.group, m)
    return SymmetryCurve(acting, params, m)


def connecting_curve(action: Action | Symmetry, params: PyTree, g: Element) -> SymmetryCurve:
    """A curve of constant loss from ``params`` (t = 0) to ``g . params`` (t = 1).

    As printed, eq. (5) is exp(t log g) . w; it needs a real logarithm, which some g of GL(n)
    lack, and of large random ones nearly all. Here, where the real principal logarithm exists it is
    that curve (``method`` 0); otherwise, for g = Q P in the identity component,
    exp(t log Q) exp(t log P) . w (``method`` 1); otherwise there is no curve inside the group and
    the points are NaN (``method`` 2), as for det g < 0 or a singular g. The method is data:
    it works under jit and vmap. t outside [0, 1] gives NaN, and ValueError outside jit.

    Raises ValueError as `exponential_curve` does.

    Paper: Eq. (5).

    Example:
        >>> action = deep_linear_action((2, 2, 2))
        >>> w = (jnp.eye(2), jnp.eye(2))
        >>> connecting_curve(action, w, (jnp.diag(jnp.array([-1.0, -2.0])),)).method.item()
        1
    """
    acting = action_of(action)
    # A logarithm that is rounded to half precision misses the end by that much.
    wide = lambda e: e.astype(computing_dtype(e.dtype)) if is_floating(e) else e
    rotation, stretch, method = acting.group.connecting_logs(jax.tree.map(wide, g))
    _require_fit(acting, params, stretch)
    return SymmetryCurve(acting, params, stretch, rotation, method)


def _require_fit(action, params, m):
    # Traced abstractly, so that shapes decide: nothing is computed here.
    eqx.filter_eval_shape(action.generator, m, params)
    require_finite("params", params)


def _require_in_algebra(group, m):
    require_concrete(
        lambda: _is_in_algebra(group, m),
        lambda: (
            f"`m` must be in the Lie algebra of {group}, so that its `project` leaves it as it "
            f"is; it does not leave the one that was given: {describe(jax.tree.leaves(m)[0])}."
        ),
        m,
    )


def _is_in_algebra(group, m):
    """Whether a group leaves an m as it is, up to rounding; True where it does not say."""
    try:
        nearest = group.project(m)
    except NotImplementedError:
        return jnp.array(True)
    inside = []
    for a, b in zip(jax.tree.leaves(m), jax.tree.leaves(nearest), strict=True):
        # Logarithms of n x n matrices, where such elements come from, are right to about n eps.
        eps = float(jnp.finfo(a.dtype).eps) if is_floating(a) else 0.0
        allowed = 100 * max(a.shape, default=1) * eps
        inside.append(jnp.all(jnp.abs(a - b) <= allowed * jnp.max(jnp.abs(a), initial=0)))
    return jnp.array(inside)


class Chord(AbstractCurve):
    """The straight line (1 - t) p + t q; see `chord`."""

    p: PyTree
    q: PyTree

    def __call__(self, t: Float[Array, ""] | float) -> PyTree:
        """The point at a scalar t; any real t, beyond [0, 1] the line goes on."""
        t = scalar_time(t)
        return jax.tree.map(lambda a, b: _mix(a, b, t), self.p, self.q)


def _mix(a, b, t):
    if not is_floating(a):
        return a
    dtype = computing_dtype(a.dtype)
    s = t.astype(dtype)
    return ((1 - s) * a.astype(dtype) + s * b.astype(dtype)).astype(a.dtype)


def chord(p: PyTree, q: PyTree) -> Chord:
    """The straight line from p (t = 0) to q (t = 1); leaves that are not floating stay p's.

    Raises ValueError where the trees differ in structure, shapes or dtypes, naming the leaf, or
    (outside jit) hold NaN.

    Example:
        >>> chord(jnp.zeros(2), jnp.ones(2))(0.25).tolist()
        [0.25, 0.25]
    """
    require_same_tree("p", p, "q", q)
    require_finite("p", p)
    require_finite("q", q)
    return Chord(p, q)


class BezierCurve(AbstractCurve):
    """A Bezier curve; see `bezier_curve`."""

    points: tuple[PyTree, ...]

    def __call__(self, t: Float[Array, ""] | float) -> PyTree:
        """The point at a scalar t in [0, 1]; NaN elsewhere, ValueError outside jit."""
        t = scalar_time(t)
        require_unit_time(t)
        degree = len(self.points) - 1
        weights = [math.comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)]
        return _weighted_sum(weights, self.points, (t >= 0) & (t <= 1))


class PolygonalChain(AbstractCurve):
    """A piecewise linear curve; see `polygonal_chain`."""

    points: tuple[PyTree, ...]

    def __call__(self, t: Float[Array, ""] | float) -> PyTree:
        """The point at a scalar t in [0, 1]; NaN elsewhere, ValueError outside jit."""
        t = scalar_time(t)
        require_unit_time(t)
        position = t * (len(self.points) - 1)
        weights = [jnp.maximum(0, 1 - jnp.abs(position - i)) for i in range(len(self.points))]
        return _weighted_sum(weights, self.points, (t >= 0) & (t <= 1))


def _weighted_sum(weights, points, inside):
    def combine(*leaves):
        if not is_floating(leaves[0]):
            return leaves[0]
        dtype = leaves[0].dtype
        wide = computing_dtype(dtype)
        terms = (w.astype(wide) * x.astype(wide) for w, x in zip(weights, leaves, strict=True))
        return nan_unless(inside, jnp.asarray(sum(terms))).astype(dtype)

    return jax.tree.map(combine, *points)


def _checked_points(points):
    points = tuple(points)
    require(len(points) >= 2, f"`points` must hold two or more parameter trees, got {len(points)}.")
    for i, point in enumerate(points):
        require_same_tree("points[0]", points[0], f"points[{i}]", point)
        require_finite(f"points[{i}]", point)
        for path, leaf in jax.tree_util.tree_flatten_with_path(point)[0]:
            require(
                hasattr(leaf, "dtype"),
                f"`points[{i}]` leaf '{path_name(path)}' is not an array: {describe(leaf)}.",
            )
    return points


def bezier_curve(points: Sequence[PyTree]) -> BezierCurve:
    """The Bezier curve of control points, the first and last being its ends (Garipov et al. 2018).

    The inner points are what `symjax.training.train_curve` trains.

    Raises ValueError for fewer than two points or trees that differ.

    Example:
        >>> bezier_curve([jnp.zeros(1), jnp.ones(1), jnp.zeros(1)])(0.5).tolist()
        [0.5]
    """
    return BezierCurve(_checked_points(points))


def polygonal_chain(points: Sequence[PyTree]) -> PolygonalChain:
    """The piecewise linear curve through points, at equal steps of t (Garipov et al. 2018).

    Raises ValueError for fewer than two points or trees that differ.

    Example:
        >>> polygonal_chain([jnp.zeros(1), jnp.ones(1), jnp.zeros(1)])(0.25).tolist()
        [0.5]
    """
    return PolygonalChain(_checked_points(points))

"""The orbit of parameters under one or more actions: its tangent map, and what is solved with it.

An algebra element here is a tuple with one entry for each action. Nothing of the size of parameters
times parameters is ever formed: the tangent map and its transpose are functions.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from ._checks import nan_unless, require
from .discovery import Acting as Acting, resolve
from .groups import Algebra
from .linalg._precision import computing_dtype, widen as widen


class Orbit(eqx.Module):
    """The continuous actions of a model, as one."""

    actions: tuple[Any, ...]

    @property
    def dimension(self) -> int:
        """The sum of the dimensions of the groups."""
        return sum(action.group.dimension for action in self.actions)

    def zero(self, params: PyTree) -> Algebra:
        """The zero of the algebra, in the dtype that the moved leaves are computed in."""
        leaves = jax.tree.leaves(params)
        dtype = computing_dtype(*(leaves[i].dtype for i in self.places(params)))
        draw = lambda group: group.random_algebra(jax.random.key(0), dtype=dtype)
        like = tuple(jax.eval_shape(draw, action.group) for action in self.actions)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)

    def random(self, key: Key[Array, ""], *, scale: float = 1.0, dtype: Any) -> Algebra:
        """A Gaussian element, the entry of each action as its group draws it."""
        keys = jax.random.split(key, len(self.actions))
        draw = lambda group, k: group.random_algebra(k, scale=scale, dtype=dtype)
        return tuple(draw(a.group, k) for a, k in zip(self.actions, keys, strict=True))

    def places(self, params: PyTree) -> tuple[int, ...]:
        """The positions of the leaves that move."""
        return tuple(sorted({i for action in self.actions for i in _places(action, params)}))

    def tangent(self, m: Algebra, params: PyTree) -> tuple[Array, ...]:
        """A m: the velocity of the moved leaves along m, half precision as float32."""
        wide = widen(params)
        m = self.project(m)
        fields = [a.generator(e, wide) for a, e in zip(self.actions, m, strict=True)]
        rows = [self.select(field, params) for field in fields]
        return tuple(functools.reduce(jnp.add, at) for at in zip(*rows, strict=True))

    def pull(self, moved: tuple[Array, ...], params: PyTree) -> Algebra:
        """A^T applied to vectors on the moved leaves."""
        transpose = jax.linear_transpose(lambda m: self.tangent(m, params), self.zero(params))
        return self.project(transpose(moved)[0])

    def solve(self, moved: tuple[Array, ...], params: PyTree) -> "Solution":
        """The least m that makes |A m - moved| least."""
        return least_squares(
            lambda m: self.tangent(m, params),
            lambda u: self.pull(u, params),
            moved,
            self.zero(params),
            steps=min(3 * self.dimension, 300),
        )

    def move(self, m: Algebra, params: PyTree) -> PyTree:
        """exp(m_last) ... exp(m_first) . params."""
        for action, entry in zip(self.actions, self.project(m), strict=True):
            params = action.flow((entry,), params)
        return params

    def select(self, tree: PyTree, params: PyTree) -> tuple[Array, ...]:
        """The leaves of a tree like the parameters that stand where leaves move, widened."""
        leaves = jax.tree.leaves(tree)
        return tuple(widen(leaves[i]) for i in self.places(params))

    def replace(self, tree: PyTree, moved: tuple[Array, ...], params: PyTree) -> PyTree:
        """A tree like the parameters with other values where leaves move, in its own dtypes."""
        leaves, structure = jax.tree.flatten(tree)
        for i, value in zip(self.places(params), moved, strict=True):
            leaves[i] = value.astype(leaves[i].dtype)
        return jax.tree.unflatten(structure, leaves)

    def project(self, m: Algebra) -> Algebra:
        """The nearest element of the algebra: skew matrices for O(n), everything for GL(n)."""
        return tuple(a.group.project(e) for a, e in zip(self.actions, m, strict=True))

    def symmetric(self, m: Algebra) -> Algebra:
        """The part that generates symmetric maps: what can change a norm."""
        return tuple(a.group.symmetric(e) for a, e in zip(self.actions, m, strict=True))


def orbit_of(symmetries: Acting, approximate: bool = False) -> Orbit:
    """The continuous ones among the given actions or symmetries, see `resolve`.

    Raises ValueError where there are none, or for one that is not a group action.
    """
    found = resolve(symmetries, approximate)
    for i, symmetry in enumerate(found):
        require(
            symmetry.action.is_group_action,
            f"`symmetries[{i}]` ('{symmetry.name}') must be a group action, got "
            f"{type(symmetry.action).__name__}.",
        )
    actions = tuple(s.action for s in found if s.group.dimension)
    kinds = "given" if approximate else "exact ones (`approximate` adds the others)"
    require(
        len(actions) > 0,
        f"`symmetries` must hold a continuous symmetry; none of the {len(found)} {kinds} is one.",
    )
    return Orbit(actions)


def _places(action: Any, params: PyTree) -> list[int]:
    """The leaves that an action moves: as it says, or those that come back as other objects."""
    if hasattr(action, "places"):
        return list(action.places(params))
    found = []

    def trace(tree):
        zero = action.group.random_algebra(jax.random.key(0), scale=0.0)
        moved = jax.tree.leaves(action.flow((zero,), tree))
        rows = enumerate(zip(moved, jax.tree.leaves(tree), strict=True))
        found.extend(i for i, (new, old) in rows if new is not old)

    eqx.filter_eval_shape(trace, params)
    return found


def dot(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """The inner product of two trees, in the widest dtype of their leaves."""
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    dtype = computing_dtype(*(x.dtype for x, _ in pairs))
    return sum((jnp.sum(x * y).astype(dtype) for x, y in pairs), jnp.zeros((), dtype))


def norm(a: PyTree) -> Float[Array, ""]:
    """The Euclidean norm of all leaves."""
    return jnp.sqrt(dot(a, a))


class Solution(eqx.Module):
    """A least-squares solution, and how far from one it is."""

    value: Algebra
    rest: tuple[Array, ...]
    """b - A m: what no direction of the orbit can reach."""
    residual: Float[Array, ""]
    """|A^T (b - A m)| / (|A| |b|), with an estimate of |A|: rounding where the solve succeeded."""
    steps: Int[Array, ""]


def least_squares(
    forward: Callable[[Algebra], tuple[Array, ...]],
    adjoint: Callable[[tuple[Array, ...]], Algebra],
    b: tuple[Array, ...],
    zero: Algebra,
    *,
    steps: int,
) -> Solution:
    """The least x that makes |A x - b| least, by conjugate gradients on A itself (CGLS).

    Unlike conjugate gradients on A^T A x = A^T b the residual is carried as b - A x, which keeps
    the digits that squaring the condition number would lose.
    """
    gradient = adjoint(b)
    size = dot(b, b)
    tiny = float(jnp.finfo(size.dtype).tiny)
    tolerance = (4 * float(jnp.finfo(size.dtype).eps)) ** 2
    axpy = lambda a, x, y: jax.tree.map(lambda p, q: a.astype(p.dtype) * p + q, x, y)

    def unfinished(carry):
        *_, gamma, largest, k = carry
        return (gamma > tolerance * largest * size) & (gamma > tiny) & (k < steps)

    def advance(carry):
        x, rest, direction, gamma, largest, k = carry
        image = forward(direction)
        stretch = dot(image, image)
        largest = jnp.maximum(largest, stretch / dot(direction, direction))
        alpha = gamma / jnp.maximum(stretch, tiny)
        x, rest = axpy(alpha, direction, x), axpy(-alpha, image, rest)
        gradient = adjoint(rest)
        new = dot(gradient, gradient)
        direction = axpy(new / gamma, direction, gradient)
        return x, rest, direction, new, largest, k + 1

    gamma = dot(gradient, gradient)
    start = (zero, b, gradient, gamma, jnp.zeros_like(gamma), jnp.zeros((), jnp.int32))
    x, rest, _, gamma, largest, k = jax.lax.while_loop(unfinished, advance, start)
    scale = jnp.sqrt(largest * size)
    residual = jnp.where(scale > 0, jnp.sqrt(gamma) / jnp.where(scale > 0, scale, 1), 0.0)
    return Solution(x, rest, residual, k)


def ascend(
    orbit: Orbit,
    score: Callable[[PyTree], Float[Array, ""]],
    params: PyTree,
    *,
    radius: float | Float[Array, ""],
    steps: int | Int[Array, ""],
) -> tuple[Algebra, PyTree, Float[Array, ""], Float[Array, ""]]:
    """Climb a score of exp(m).params inside the ball |m| <= radius, from m = 0.

    Gradient ascent with steps that double on success and shrink fourfold on failure; a step that
    does not raise the score is not taken, so the end is never below the start. Returns m, the
    moved parameters, the score there and the score at the start.
    """

    def at(m):
        moved = orbit.move(m, params)
        return score(moved), orbit.select(moved, params)

    slope: Callable[[Algebra], Any] = jax.value_and_grad(at, has_aux=True)

    def advance(k: Array, carry: Any):
        m, moved, value, gradient, step, trial, start = carry
        (new, there), slant = slope(trial)
        better = (new > value) | (k == 0)
        pick = lambda a, b: jax.tree.map(lambda x, y: jnp.where(better, x, y), a, b)
        m, moved, value, gradient = pick((trial, there, new, slant), (m, moved, value, gradient))
        factor = jnp.where(k == 0, 1.0, jnp.where(better, 2.0, 0.25)).astype(step.dtype)
        step = jnp.minimum(factor * step, radius)
        trial, start = ahead(m, gradient, step), jnp.where(k == 0, new, start)
        return m, moved, value, gradient, step, trial, start

    def ahead(m, gradient, step):
        size = norm(gradient)
        stride = step / jnp.where(size > 0, size, 1.0)
        longer = jax.tree.map(lambda x, g: x + stride.astype(x.dtype) * g, m, gradient)
        return in_ball(longer, radius)

    zero = orbit.zero(params)
    (value, moved), _ = jax.eval_shape(slope, zero)
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (value, moved))
    radius = jnp.asarray(radius, norm(zero).dtype)
    step = radius / 4
    carry = (zero, blank[1], blank[0], zero, step, zero, blank[0])
    # The first round is the start itself, so that the score is compiled once.
    rounds = steps + 1 if isinstance(steps, int) else jnp.maximum(steps, 1).astype(jnp.int32) + 1
    m, moved, value, *_, start = jax.lax.fori_loop(0, rounds, advance, carry)
    return m, orbit.replace(params, moved, params), value, start


def scaled(m: Algebra, factor: Float[Array, ""]) -> Algebra:
    """The element m times a number, every entry in its own dtype."""
    return jax.tree.map(lambda x: factor.astype(x.dtype) * x, m)


def in_ball(m: Algebra, radius: float | Float[Array, ""]) -> Algebra:
    """The element m, shortened so that |m| <= radius where it is longer; NaN unless 0 < radius."""
    size = norm(m)
    radius = jnp.asarray(radius, size.dtype)
    radius = nan_unless(radius > 0, radius)
    factor = jnp.where(size > radius, radius / jnp.where(size > radius, size, 1.0), 1.0)
    return scaled(m, jnp.where(jnp.isnan(radius), radius, factor))

"""The map of eq. (6), which depends on data and is not a group action."""

import functools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._checks import describe, is_floating, require, require_concrete
from ..groups import GeneralLinear
from ..linalg._precision import mm, widen


class DataAction(eqx.Module):
    """The map of eq. (6); see `data_action`."""

    sigma: Callable[[Array], Array] = eqx.field(static=True)
    x: Float[Array, "n k"]
    rtol: float | None = eqx.field(static=True, default=None)

    @property
    def is_group_action(self) -> bool:
        """False: g.(h.w) and (gh).w differ, and the identity moves w where k < h."""
        return False

    @property
    def group(self) -> GeneralLinear:
        """GL(h), its size open: the hidden width is that of the parameters."""
        return GeneralLinear(None)

    def __call__(
        self, g: Float[Array, "h h"], params: tuple[Float[Array, "h n"], Float[Array, "m h"]]
    ) -> tuple[Float[Array, "h n"], Float[Array, "m h"]]:
        """(g V, U sigma(VX) sigma(gVX)^+); NaN for a singular g under jit, ValueError outside."""
        v, u = self._check(g, params)
        require_concrete(
            lambda: self.group.contains(g),
            lambda: "`g` is singular or not finite; the map needs an invertible matrix.",
            g,
        )
        wide, x = widen(v), widen(self.x)
        moved = mm(g.astype(wide.dtype), wide)
        before, after = self.sigma(mm(wide, x)), self.sigma(mm(moved, x))
        last = mm(mm(widen(u), before), jnp.linalg.pinv(after, rtol=self.rtol))
        return moved.astype(v.dtype), last.astype(u.dtype)

    def generator(self, m: Float[Array, "h h"], params: PyTree) -> PyTree:
        """d/dt exp(t m).params at t = 0."""
        identity = jnp.eye(m.shape[0], dtype=m.dtype)
        return jax.jvp(lambda g: self(g, params), (identity,), (m,))[1]

    def flow(self, generators: Sequence[Float[Array, "h h"]], params: PyTree) -> PyTree:
        """(exp(m_1) exp(m_2) ...).params: one application to the product, which is what (5) says.

        Applying the factors in turn would give another point: the map is not a group action.
        """
        return self(functools.reduce(self.group.compose, map(self.group.exp, generators)), params)

    def _check(self, g, params):
        require(
            isinstance(params, tuple | list) and len(params) == 2,
            f"`params` must be the pair (V, U), got {type(params).__name__}.",
        )
        v, u = params
        for name, leaf in (("V", v), ("U", u)):
            require(
                is_floating(leaf) and leaf.ndim == 2,
                f"`params` leaf {name} must be a floating matrix, got {describe(leaf)}.",
            )
        h = v.shape[0]
        require(
            u.shape[1] == h and v.shape[1] == self.x.shape[0],
            f"`params` must be V (h, n) and U (m, h) with `x` (n, k), got V {v.shape}, "
            f"U {u.shape} and x {self.x.shape}.",
        )
        require(jnp.shape(g) == (h, h), f"`g` must have shape {(h, h)}, got {jnp.shape(g)}.")
        return v, u


def data_action(
    sigma: Callable[[Array], Array], x: Float[Array, "n k"], *, rtol: float | None = None
) -> DataAction:
    """The data-dependent map g.(V, U) = (g V, U sigma(VX) sigma(gVX)^+) on a two-layer network.

    ``x`` holds one sample per column. The network is U sigma(V X). This is not a group action: the
    composition law fails, and with fewer samples than hidden units the identity does not even fix
    the parameters (with rank sigma(VX) = h it does). The change of the output is bounded by
    `symjax.bounds.output_change`; it is zero where sigma(gVX) has rank k. ``rtol`` is the relative
    cut of the pseudo-inverse, whose default depends on the shape.

    Raises ValueError for an ``x`` that is not a floating matrix.

    Paper: Eq. (6).

    Example:
        >>> action = data_action(jax.nn.sigmoid, jnp.ones((2, 5)))
        >>> action.is_group_action
        False
    """
    require(
        is_floating(x) and x.ndim == 2,
        f"`x` must be a floating matrix with one sample per column, got {describe(x)}.",
    )
    return DataAction(sigma, x, rtol)

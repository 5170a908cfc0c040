"""Length and total curvature over [0, 1], to a requested tolerance."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import require, require_count
from ..curves import Curve
from ._frame import point_dtypes, time_dtype, widened
from ._pointwise import frames

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
# (curve, times) -> what is integrated, and what rounding may do to it over these times, in eps.
Integrand = Callable[[Curve, Float[Array, " T"]], tuple[Float[Array, " T"], Float[Array, ""]]]


def length(curve: Curve, *, rtol: float | None = None, cells: int = 32) -> Float[Array, ""]:
    """The length of a curve over [0, 1].

    Gauss-Legendre quadrature with 16 nodes a cell; cells are bisected where halving one changes its
    part most, until the estimated relative error is below ``rtol`` (1e-10 in float64, 1e-5 in
    float32 by default). Curves of this package with half-precision weights are computed in
    float32; any other callable that returns half precision has 8 eps of that. One cell reaches
    1e-12 for exponential curves with |M|_2 up to 3. NaN where ``cells`` cells do not reach the
    tolerance, as at a kink.

    Raises ValueError for a tolerance below 8 eps of the dtype, or fewer than one cell.

    Example:
        >>> round(length(lambda t: jnp.array([jnp.cos(t), jnp.sin(t)])).item(), 5)
        1.0
    """
    return _integral(_speed, curve, rtol, cells)


def total_curvature(
    curve: Curve, *, rtol: float | None = None, cells: int = 32
) -> Float[Array, ""]:
    """The integral of kappa over arc length, the angle by which the tangent turns over [0, 1].

    It does not change when the parameters are scaled. Options, NaN and errors as in `length`, but
    that an angle has a rounding error of its own: 16 eps for every factor of e by which the speed
    changes, which is what is left of a curve that is straight but for rounding.

    Example:
        >>> round(total_curvature(lambda t: jnp.array([jnp.cos(t), jnp.sin(t)])).item(), 5)
        1.0
    """
    return _integral(_turning, curve, rtol, cells)


def _speed(curve, times):
    return frames(curve, times).speed, jnp.zeros((), times.dtype)


def _turning(curve, times):
    frame = frames(curve, times)
    # Where gamma'' lies along gamma' it is what |gamma'| changes by, and its rounding error is what
    # the part across is wrong by.
    steep = jnp.log(frame.speed.max()) - jnp.log(frame.speed.min())
    return frame.curvature * frame.speed, jnp.where(jnp.isfinite(steep), steep, 0.0)


def _integral(integrand, curve, rtol, cells):
    curve = widened(curve)
    dtype = time_dtype(curve)
    eps = float(jnp.finfo(dtype).eps)
    coarsest = max(float(jnp.finfo(d).eps) for d in point_dtypes(curve))
    rtol = max(1e-10 if eps < 1e-10 else 1e-5, 8 * coarsest) if rtol is None else rtol
    require(
        rtol >= 8 * eps,
        f"`rtol` must be at least 8 eps = {8 * eps:.1e} for {dtype.name}, got {rtol}.",
    )
    require_count("cells", cells)
    return _adaptive(curve, integrand, rtol, cells, dtype)


@eqx.filter_jit
def _adaptive(curve, integrand, rtol, cells, dtype):
    integrand = _Static(integrand)

    @eqx.filter_custom_jvp
    def value(curve):
        edges, parts, errors, steep = _refine(integrand, curve, rtol, cells, dtype)
        total = parts.sum()
        return jnp.where(errors.sum() <= _tolerance(parts, steep, rtol), total, jnp.nan), edges

    @value.def_jvp
    def _value_jvp(primals, tangents):
        # Differentiated on the cells that were found: their position is not part of the answer.
        total, edges = value(*primals)
        on_cells = lambda c: jax.vmap(lambda e: _cell(integrand, c, e)[0])(edges).sum()
        _, tangent = eqx.filter_jvp(on_cells, primals, tangents)
        return (total, edges), (tangent, jnp.zeros_like(edges))

    return value(curve)[0]


class _Static(eqx.Module):
    function: Integrand = eqx.field(static=True)

    def __call__(self, curve, times):
        return self.function(curve, times)


def _cell(integrand, curve, edges):
    middle, half = edges.sum() / 2, (edges[1] - edges[0]) / 2
    nodes = middle + half * jnp.asarray(_NODES, edges.dtype)
    values, steep = integrand(curve, nodes)
    return half * jnp.sum(jnp.asarray(_WEIGHTS, edges.dtype) * values), steep


def _tolerance(parts, steep, rtol):
    return rtol * jnp.abs(parts.sum()) + 16 * jnp.finfo(steep.dtype).eps * steep.sum()


def _refine(integrand, curve, rtol, cells, dtype):
    """Edges, integrals, error estimates and steepness of up to ``cells`` cells, or empty ones."""

    def halves(edges):
        middle = edges.sum() / 2
        pair = jnp.stack([jnp.stack([edges[0], middle]), jnp.stack([middle, edges[1]])])
        return pair, jax.lax.map(lambda e: _cell(integrand, curve, e), pair)

    def measure(edges, whole):
        # The halves are what is kept: the true error is far below this difference.
        parts, steep = halves(edges)[1]
        return parts.sum(), jnp.abs(parts.sum() - whole), steep.sum()

    def bisect(state):
        edges, parts, errors, steep, used = state
        worst = jnp.argmax(errors)
        pair, (wholes, _) = halves(edges[worst])
        found = jax.lax.map(lambda args: measure(*args), (pair, wholes))
        put = lambda x, new: x.at[worst].set(new[0]).at[used].set(new[1])
        return put(edges, pair), *map(put, (parts, errors, steep), found), used + 1

    def unfinished(state):
        _, parts, errors, steep, used = state
        return (errors.sum() > _tolerance(parts, steep, rtol)) & (used < cells)

    unit = jnp.array([0.0, 1.0], dtype)
    start = measure(unit, _cell(integrand, curve, unit)[0])
    first = lambda x: jnp.zeros((cells, *x.shape), dtype).at[0].set(x)
    state = (first(unit), *map(first, start), jnp.array(1))
    return jax.lax.while_loop(unfinished, bisect, state)[:4]

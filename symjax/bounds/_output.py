"""How much the map of eq. (6) can change the output of a two-layer network."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._checks import require, require_finite, require_matrices
from ..linalg._norms import norm
from ..linalg._precision import computing_dtype, mm
from ._bound import AbstractBound, hypothesis


class OutputChange(AbstractBound):
    """The bound of `output_change` (``value``), with what it bounds.

    ``change`` is |U sigma(VX) - U' sigma(V'X)|, ``new_norm`` is |U' sigma(V'X)|, and ``residual``
    is that of the identity value^2 = new_norm^2 + change^2, relative to value^2: rounding error.
    ``projected`` is that the residual is small, that is, that an orthogonal projection was applied.
    """

    value: Float[Array, ""]
    change: Float[Array, ""]
    new_norm: Float[Array, ""]
    residual: Float[Array, ""]
    projected: Bool[Array, ""] = hypothesis()

    @property
    def margin(self) -> Float[Array, ""]:
        """The bound minus the change, never negative beyond rounding."""
        return self.value - self.change


def output_change(
    u: Float[Array, "m h"],
    v: Float[Array, "h n"],
    g: Float[Array, "h h"],
    x: Float[Array, "n k"],
    sigma: Callable[[Array], Array],
) -> OutputChange:
    """The output changes under g.(U, V) = (U sigma(VX) sigma(gVX)^+, gV) by at most its own norm.

    With F = U sigma(VX), the new output is F P with P = S^+ S the ORTHOGONAL projection on the row
    space of S = sigma(gVX), so |F - FP| <= |F| in every unitarily invariant norm (as printed the
    norm is any and the projection just a projection: false). In the Frobenius norm, used here, more
    is true: |F|^2 = |FP|^2 + |F - FP|^2. The change is 0 where the rows of F are in the row space
    of S, always so if S has rank k. The rank is cut at 10 max(h, k) eps, as in `data_action`; P
    is applied by an orthonormal basis, since the product of S^+ and S loses digits with the
    condition of S. Any g will do, singular ones too.

    All matrices of one floating dtype; differentiable where the rank is locally constant. NaN
    parameters give NaN, a value of +inf and ``holds`` False under jit, ValueError outside. Raises
    ValueError for shapes that do not chain.

    Paper: Prop. 6.1.

    Example:
        >>> u, v, x = jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.array([[1.0, -1.0]])
        >>> result = output_change(u, v, -jnp.eye(1), x, jax.nn.relu)
        >>> float(result.change), float(result.value)
        (1.0, 1.0)
    """
    _check_shapes(u, v, g, x)
    dtype = u.dtype
    compute = computing_dtype(dtype)
    u, v, g, x = (a.astype(compute) for a in (u, v, g, x))
    output = mm(u, sigma(mm(v, x)))
    moved = _project_rows(output, sigma(mm(g, mm(v, x))))
    value, new_norm = norm(output), norm(moved)
    change = norm(output - moved)
    scale = jnp.where(value > 0, value, 1.0)
    residual = 1 - (new_norm / scale) ** 2 - (change / scale) ** 2
    residual = jnp.where(value > 0, residual, 0.0 * value)
    tolerance = 100 * max(output.shape + x.shape) * float(jnp.finfo(compute).eps)
    return OutputChange.guarded(
        value,
        dtype,
        change=change.astype(dtype),
        new_norm=new_norm.astype(dtype),
        residual=residual.astype(dtype),
        projected=jnp.abs(residual) <= tolerance,
    )


def _check_shapes(u, v, g, x):
    matrices = {"u": u, "v": v, "g": g, "x": x}
    require_matrices("u", matrices)
    for name, a in matrices.items():
        require_finite(name, a)
    h = v.shape[0]
    require(
        u.shape[1] == h and g.shape == (h, h) and v.shape[1] == x.shape[0],
        "Expected `u` (m, h), `v` (h, n), `g` (h, h), `x` (n, k), got "
        f"{u.shape}, {v.shape}, {g.shape}, {x.shape}.",
    )


@jax.custom_jvp
def _project_rows(f, s):
    """F S^+ S, through an orthonormal basis of the row space of S."""
    _, size, rows = jnp.linalg.svd(s, full_matrices=False)
    cut = 10 * max(s.shape) * float(jnp.finfo(s.dtype).eps) * size[:1]
    rows = jnp.where((size > cut)[:, None], rows, 0.0)
    return mm(mm(f, rows.T), rows)


@_project_rows.defjvp
def _project_rows_jvp(primals, tangents):
    # d(S^+ S) = S^+ dS (I - P) + its transpose: no derivative of singular vectors, which do not
    # exist where singular values meet.
    (f, s), (df, ds) = primals, tangents
    projected = _project_rows(f, s)
    inverse = jnp.linalg.pinv(s)
    forward = mm(mm(f, inverse), ds)
    backward = mm(mm(f - projected, ds.T), inverse.T)
    tangent = forward - _project_rows(forward, s) + backward
    return projected, tangent + _project_rows(df, s)

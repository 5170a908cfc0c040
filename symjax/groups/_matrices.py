"""Groups of matrices: GL(n) and O(n)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .. import linalg
from .._checks import nan_unless, require_count, require_key
from ..linalg._precision import mm, widen
from ._base import (
    AbstractGroup,
    component_label,
    default_dtype,
    is_vector,
    one_exponential,
)


def _scaled_lu(g: Array) -> tuple[Array, Array, tuple[Array, Array], Bool[Array, "..."]]:
    """Sizes of the rows and columns, the LU factors of g without them, and whether g is regular.

    Without its sizes diag(1, 1e-300) does not look singular, nor does what other units make of a
    regular matrix. Like every factorisation, there is none in half precision.
    """
    g = widen(g)
    rows = _sizes(g, -1)
    columns = _sizes(g / rows, -2)
    lu, order = jax.scipy.linalg.lu_factor(g / rows / columns)
    pivots = jnp.abs(jnp.diagonal(lu, axis1=-2, axis2=-1))
    # Elimination of a singular matrix leaves a pivot of about eps; a regular one has |1/cond|.
    regular = pivots.min(-1) > 4 * jnp.finfo(lu.dtype).eps * pivots.max(-1)
    return rows, columns, (lu, order), regular & jnp.isfinite(g).all((-2, -1))


def _sizes(g, axis):
    # They cancel, so that no derivative goes in; what is 0 is singular whatever its size.
    sizes = jax.lax.stop_gradient(jnp.abs(g).max(axis=axis, keepdims=True))
    return jnp.where(sizes > 0, sizes, 1.0)


class _AbstractMatrixGroup(AbstractGroup):
    """A group of real n x n matrices with two components, told apart by the sign of det."""

    @property
    def is_linear(self):
        return True

    @property
    def number_of_components(self):
        return 2

    def compose(self, g, h):
        return mm(g, h)

    def exp(self, m):
        return linalg.expm(m)

    def random(self, key, *, scale=1.0, dtype=None):
        g = self.exp(self.random_algebra(key, scale=scale, dtype=dtype))
        # A reflection, or none: the key of the exponential alone would give it away.
        return g.at[..., 0, :].multiply(
            jax.random.rademacher(jax.random.fold_in(key, 1), (), g.dtype)
        )

    def component(self, g):
        return component_label((jnp.linalg.slogdet(widen(g))[0] < 0).astype(jnp.int32))

    def spectrum(self, m):
        m = widen(m)
        symmetric = jnp.linalg.eigvalsh((m + m.mT) / 2)
        skew = (m - m.mT) / 2
        squared = jnp.linalg.eigvalsh(mm(skew.mT, skew))[..., -1]
        return symmetric[..., 0], symmetric[..., -1], jnp.sqrt(jnp.maximum(squared, 0))

    def growth(self, m):
        # max(|M^3|^(1/3), |M^4|^(1/4)) bounds every |M^k|^(1/k), k >= 6 or so, and unlike |M| it
        # is close to the spectral radius: a Gaussian M of size 100 needs 2 steps with it, 5 with
        # |M|_F.
        square = mm(m, m)
        cubed, fourth = mm(square, m), mm(square, square)
        frobenius = lambda a: jnp.sqrt(jnp.sum(a * a, axis=(-2, -1)))
        return jnp.maximum(frobenius(cubed) ** (1 / 3), frobenius(fourth) ** (1 / 4))

    def compress(self, x):
        n, k = x.shape
        # A thin QR of the transpose: x = r^T q^T with orthonormal q, so |m x| = |m r^T|. Below
        # twice the size the factorisation costs more than it saves.
        return x if k < 2 * n else jnp.linalg.qr(widen(x).T, mode="r").T.astype(x.dtype)


class GeneralLinear(_AbstractMatrixGroup):
    """GL(n): invertible matrices, dimension n^2, two components told apart by sign det.

    ``n`` None stands for the size of whatever element is given: what does not need a size works.
    """

    n: int | None = eqx.field(static=True)

    def __check_init__(self):
        if self.n is not None:
            require_count("n", self.n)

    def _size(self) -> int:
        if self.n is None:
            raise ValueError("`n` is open in GeneralLinear(None): name the size.")
        return self.n

    @property
    def notation(self):
        return f"GL({self.n})"

    @property
    def dimension(self):
        return self._size() ** 2

    def identity(self, dtype=None):
        return jnp.eye(self._size(), dtype=default_dtype(dtype))

    def inverse(self, g):
        inverse = jnp.linalg.inv(widen(g)).astype(g.dtype)
        return jnp.where(self.contains(g)[..., None, None], inverse, jnp.nan)

    def log(self, g):
        return linalg.logm(g)

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        require_key(key)
        n = self._size()
        return jax.random.normal(key, (n, n), default_dtype(dtype)) * (scale / math.sqrt(n))

    def contains(self, g):
        return _scaled_lu(g)[-1]

    def act(self, g, x, representation, inverse=None):
        if is_vector(representation, "GeneralLinear"):
            return mm(g, x)
        if inverse is not None:
            return mm(inverse.mT, x)
        rows, columns, factors, regular = _scaled_lu(g)
        moved = jax.scipy.linalg.lu_solve(factors, widen(x) / columns.mT, trans=1) / rows
        return nan_unless(regular, moved).astype(x.dtype)

    def act_algebra(self, m, x, representation):
        return mm(m, x) if is_vector(representation, "GeneralLinear") else -mm(m.mT, x)

    def project(self, m):
        return m

    def symmetric(self, m):
        return (m + m.mT) / 2

    def connecting_logs(self, g):
        return linalg.connecting_logs(g)


class Orthogonal(_AbstractMatrixGroup):
    """O(n): orthogonal matrices; the algebra is the skew matrices; two components."""

    n: int = eqx.field(static=True)

    def __check_init__(self):
        require_count("n", self.n)

    @property
    def notation(self):
        return f"O({self.n})"

    @property
    def dimension(self):
        return self.n * (self.n - 1) // 2

    def identity(self, dtype=None):
        return jnp.eye(self.n, dtype=default_dtype(dtype))

    def inverse(self, g):
        return g.mT

    def log(self, g: Array):
        rotation = (jnp.linalg.slogdet(widen(g))[0] > 0)[..., None, None]
        safe = jnp.where(rotation, g, jnp.broadcast_to(jnp.eye(self.n, dtype=g.dtype), g.shape))
        return jnp.where(rotation, linalg.log_rotation(safe), jnp.nan)

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        require_key(key)
        normal = jax.random.normal(key, (self.n, self.n), default_dtype(dtype))
        return (normal - normal.mT) * (scale / math.sqrt(2 * self.n))

    def contains(self, g):
        one = jnp.broadcast_to(jnp.eye(self.n, dtype=g.dtype), g.shape)
        defect = jnp.abs(mm(g.mT, g) - one).max(axis=(-2, -1))
        # Rounding of a product of n terms, times 100 for elements that were composed often.
        return defect <= 100 * self.n * jnp.finfo(g.dtype).eps

    def act(self, g, x, representation, inverse=None):
        del inverse
        is_vector(representation, "Orthogonal")
        return mm(g, x)

    def act_algebra(self, m, x, representation):
        is_vector(representation, "Orthogonal")
        return mm(m, x)

    def project(self, m):
        return (m - m.mT) / 2

    def symmetric(self, m):
        return jnp.zeros_like(m)

    def connecting_logs(self, g):
        return one_exponential(self.log(g), axes=2)

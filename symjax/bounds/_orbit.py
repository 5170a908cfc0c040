"""How high the loss can be between points of one rescaling orbit whose norms are bounded."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._bound import AbstractBound, hypothesis
from ._numbers import Number, as_floats, require_at_least, require_positive
from ._rescaling import log_peak


class OrbitLoss(AbstractBound):
    """The bound of `orbit_loss`, over the scales ``m_low`` < m < ``m_high`` that the norms allow.

    ``not_vacuous`` is that there is such a scale, ``other_layers_fit`` that the layers which do not
    move are below the norm; either failing, no point of the orbit is below it.
    """

    value: Float[Array, "..."]
    m_low: Float[Array, "..."]
    m_high: Float[Array, "..."]
    not_vacuous: Bool[Array, "..."] = hypothesis()
    other_layers_fit: Bool[Array, "..."] = hypothesis()

    @property
    def vacuous(self) -> Bool[Array, "..."]:
        """Where no point of the orbit is below the norm, so that the statement says nothing."""
        return ~self.holds


def orbit_loss(
    degree: Number,
    w_prev_norm: Number,
    w_last_norm: Number,
    max_norm: Number,
    y_norm: Number,
    *,
    other_norm: Number = 0.0,
) -> OrbitLoss:
    """The smallest b(c) that the loss on a chord from W to a point of its orbit stays below.

    W is a zero-loss point of |Y - W_l sigma(W_{l-1} f)|^2 with sigma positively homogeneous of
    ``degree`` k; its orbit is (m W_{l-1}, m^-k W_l), m > 0. Over the points of the orbit with every
    |W'_i| < c = ``max_norm``, that is m_low < m < m_high with m_low = (|W_l| / c)^(1/k) and
    m_high = c / |W_{l-1}|,

        b(c) = |Y|^2 max((phi(m_low) - 1)^2, (phi(m_high) - 1)^2),

    phi(m) the maximum over the chord as in `symjax.barriers.rescaling`. It is the exact supremum
    and not attained. The paper says that some b exists for "some c"; this is the b of every c. Any
    norm that scales will do, the same for c and the weights; ``y_norm`` is Frobenius.
    ``other_norm`` is the largest norm of the layers that do not move. At a critical point with loss
    L0 > 0 take |W_l sigma(W_{l-1} f)| for ``y_norm``: the bound is then of the loss minus L0.

    Scalars or arrays that broadcast, of one dtype. Where the statement is vacuous the value is
    +inf. Raises ValueError for a concrete ``degree`` or norm of a weight that is not positive.

    Paper: Prop. 5.6.

    Example:
        >>> bound = orbit_loss(1.0, w_prev_norm=1.0, w_last_norm=1.0, max_norm=4.0, y_norm=1.0)
        >>> float(bound.m_high), round(float(bound.value), 6)
        (4.0, 0.316406)
    """
    require_positive(degree=degree, w_prev_norm=w_prev_norm, w_last_norm=w_last_norm)
    require_at_least(0, max_norm=max_norm, y_norm=y_norm, other_norm=other_norm)
    (k, before, last, most, y, other), dtype = as_floats(
        degree=degree,
        w_prev_norm=w_prev_norm,
        w_last_norm=w_last_norm,
        max_norm=max_norm,
        y_norm=y_norm,
        other_norm=other_norm,
    )
    low = (jnp.log(last) - jnp.log(most)) / k
    high = jnp.log(most) - jnp.log(before)
    not_vacuous = low < high
    other_layers_fit = other < most
    some = not_vacuous & other_layers_fit
    rise = jnp.maximum(
        jnp.expm1(log_peak(k, jnp.where(some, low, 0.0))),
        jnp.expm1(log_peak(k, jnp.where(some, high, 0.0))),
    )
    return OrbitLoss.guarded(
        (y * rise) ** 2,
        dtype,
        m_low=jnp.exp(low).astype(dtype),
        m_high=jnp.exp(high).astype(dtype),
        not_vacuous=not_vacuous,
        other_layers_fit=other_layers_fit,
    )

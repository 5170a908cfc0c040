"""Will averaging fail? A promise with its hypotheses, or a warning, before any of it is tried."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._checks import is_concrete, is_floating, require
from .._orbits import norm
from .._results import printed
from ..barriers import loss_along
from ..barriers._along import Curve, Loss
from ..bounds import (
    asymptotic_chord_loss,
    best_chord_deviation,
    chord_deviation,
    chord_loss,
)
from ..bounds._bound import AbstractBound, hypothesis
from ..bounds._deviation import CurvatureDeviation
from ..geometry import certify, length, max_curvature, total_curvature
from ..linalg._precision import computing_dtype

CHECKS = 9
"""Points of the curve at which the loss is looked at."""


class AveragingForecast(AbstractBound):
    """What `averaging_forecast` says; print it. ``value`` bounds the rise of the loss.

    Hypotheses: ``curvature_certified``, the numbers of the curve are proved bounds and not sampled;
    ``loss_constant``, the loss is the same at nine points of the curve (sampled), to
    ``tolerance`` / 10; ``lipschitz_given``, a constant came with the question; ``tube_covers``, it
    was taken on a tube at least as wide as the chord strays.
    """

    value: Float[Array, ""]
    tolerance: Float[Array, ""]
    deviation: Float[Array, ""]
    """No point of the chord is farther than this from the curve."""
    estimate: Float[Array, ""]
    """The leading term of the rise at the midpoint for a short curve of minima; not a bound."""
    needed: Float[Array, ""]
    """The promise holds where the loss has this Lipschitz constant within ``deviation``."""
    theorem: CurvatureDeviation
    """Theorem 6.2 alone, with its hypotheses; ``deviation`` is the least of all bounds known."""
    curvature_certified: Bool[Array, ""] = hypothesis()
    loss_constant: Bool[Array, ""] = hypothesis()
    lipschitz_given: Bool[Array, ""] = hypothesis()
    tube_covers: Bool[Array, ""] = hypothesis()

    @property
    def promised(self) -> Bool[Array, ""]:
        """Averaging cannot raise the loss by more than ``tolerance``: a theorem."""
        return self.value <= self.tolerance

    @property
    def warned(self) -> Bool[Array, ""]:
        """It will rise by more, as far as the leading term tells."""
        return ~self.promised & (self.estimate > self.tolerance)

    @property
    def failing(self) -> tuple[str, ...]:
        """The hypotheses of the bound that do not hold (host-only)."""
        return tuple(name for name, held in self.hypotheses.items() if not bool(held))

    def __str__(self) -> str:
        if not is_concrete(self) or self.value.shape:  # under jit, and a batch of forecasts
            return printed(self, "holds")
        word = "promised" if self.promised else "warning" if self.warned else "undecided"
        meaning = {
            "promised": f"the average's loss is at most {float(self.value):.3g} higher",
            "warning": f"the average's loss rises by about {float(self.estimate):.3g} "
            "(leading term, not a bound)",
            "undecided": f"no bound below the tolerance, and a leading term of "
            f"{float(self.estimate):.3g}",
        }[word]
        lines = [f"{word}: {meaning}; tolerance {float(self.tolerance):.3g}"]
        lines.append(f"the chord stays within {float(self.deviation):.3g} of the curve")
        unmet = [name for name, held in self.theorem.hypotheses.items() if not bool(held)]
        if unmet:
            lines.append(f"Theorem 6.2 says nothing here: {', '.join(unmet)} fails")
        if self.failing:
            lines.append(f"no promise: {', '.join(self.failing)} fails")
        if not self.promised:
            lines.append(f"a Lipschitz constant of {float(self.needed):.3g} there would promise it")
        return "\n".join(lines)

    __repr__ = __str__


def averaging_forecast(
    loss: Loss,
    curve: Curve,
    *,
    tolerance: float,
    lipschitz: float | None = None,
    tube_radius: float = jnp.inf,
    offset: float | Array = 0.0,
    cells: int = 64,
) -> AveragingForecast:
    """Whether averaging the ends of a symmetry curve will raise the loss by more than a tolerance.

    The chord is within h of the curve (Theorem 6.2 corrected, and the other bounds of
    `symjax.bounds`, from `symjax.certify`'s numbers), so the loss on it is at most C h above the
    curve's, where C = ``lipschitz`` holds within ``tube_radius`` of the curve (`chord_loss`, eq.
    (9)). Then averaging is *promised* to work. Where no such constant is known, ``needed`` says
    which one would do; where the leading term exceeds the tolerance, that is a *warning*; neither
    is undecided. ``offset`` is how far another model is from the curve's start, such as
    `symjax.matching.Match.after`: then the two averaged are that one and the curve's end, and h
    grows by it (the leading term leaves it out).

    A hypothesis that fails is a field, and the value then +inf. A curve that `symjax.certify` does
    not take is measured by sampling and fails ``curvature_certified``.

    Raises ValueError for a tolerance that is not positive, or a negative ``offset``,
    ``lipschitz`` or ``tube_radius``.

    Example:
        >>> import symjax
        >>> loss = lambda w: jnp.sum((w[1] * w[0] - 1) ** 2)
        >>> w = (jnp.ones((1, 1)), jnp.ones((1, 1)))
        >>> curve = lambda m: symjax.exponential_curve(symjax.rescaling_action(), w, jnp.array(m))
        >>> near = averaging_forecast(loss, curve(0.3), tolerance=0.05, lipschitz=1.0)
        >>> bool(near.promised), near.failing
        (True, ())
        >>> print(averaging_forecast(loss, curve(3.0), tolerance=0.05).failing)
        ('lipschitz_given',)
    """
    for name, value, least in (
        ("tolerance", tolerance, "positive"),
        ("lipschitz", 0.0 if lipschitz is None else lipschitz, "0 or more"),
        ("tube_radius", tube_radius, "0 or more"),
        ("offset", offset, "0 or more"),
    ):
        good = not is_concrete(value) or (value > 0 if name == "tolerance" else value >= 0)
        require(bool(good), f"`{name}` must be {least}, got {value}.")
    require(isinstance(cells, int) and cells >= 1, f"`cells` must be 1 or more, got {cells!r}.")
    numbers = _numbers(curve, cells)
    constants = (tolerance, 0.0 if lipschitz is None else lipschitz, tube_radius, offset)
    constants = tuple(map(jnp.asarray, constants))  # not static: other values, the same program
    return _forecast(loss, curve, numbers[:3], constants, numbers[3], lipschitz is not None)


@eqx.filter_jit
def _forecast(loss, curve, numbers, constants, certified, given):
    kappa, long, turn = numbers
    ends = [jax.tree.leaves(curve(jnp.asarray(t, long.dtype))) for t in (0.0, 1.0)]
    tolerance, lipschitz, tube_radius, offset = constants
    gap = norm([y - x for x, y in zip(*ends, strict=True) if is_floating(x)])
    theorem = chord_deviation(kappa, gap, long)
    best = best_chord_deviation(0.5, gap, max_curvature=kappa, length=long, total_curvature=turn)
    best = eqx.tree_at(lambda b: b.value, best, best.value + offset.astype(best.value.dtype))
    heights = loss_along(loss, curve, jnp.linspace(0.0, 1.0, CHECKS, dtype=long.dtype))
    dtype = computing_dtype(heights.dtype, best.value.dtype)
    heights = heights.astype(dtype)
    spread = jnp.max(jnp.abs(heights - heights[0]))
    allowed = tolerance.astype(dtype)
    bound = chord_loss(lipschitz.astype(dtype), best, tube_radius.astype(dtype))
    return AveragingForecast.guarded(
        bound.value + spread,
        dtype,
        tolerance=allowed,
        deviation=best.value,
        estimate=asymptotic_chord_loss(loss, curve),
        needed=jnp.maximum(allowed - spread, 0) / best.value.astype(dtype),
        theorem=theorem,
        curvature_certified=jnp.asarray(certified),
        loss_constant=spread <= allowed / 10,
        lipschitz_given=jnp.asarray(given),
        tube_covers=bound.tube_covers,
    )


def _numbers(curve, cells):
    """Curvature, length, total curvature, and whether they are upper bounds or sampled."""
    try:
        found = certify(curve, cells)
    except ValueError:  # a curve for which there is no certificate
        return max_curvature(curve)[0], length(curve), total_curvature(curve), False
    return found.max_curvature, found.length, found.total_curvature, True

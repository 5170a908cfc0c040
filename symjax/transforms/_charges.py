"""What a symmetry conserves under gradient flow, and how finite steps lose it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from .._orbits import Acting, Orbit, orbit_of, widen
from .._results import printed
from ..groups import Algebra
from ._common import filled, require_params, require_updates, visible


def charges(
    symmetries: Acting, params: PyTree, *, approximate: bool = False
) -> tuple[Algebra, ...]:
    """The quantities that the symmetries conserve under gradient flow, one tree per action.

    Q(w) is the covector m -> <w, A_m w> on the algebra, A_m the generator: for a change of basis
    W_1 W_1^T - W_2^T W_2, for a rescaling of hidden units |row|^2 - k |column|^2 (degree k), for a
    translation the sum of what is translated. Along w' = -grad L it is constant, because
    <grad L, A_m w> = 0, wherever A_m is a symmetric map or a constant; where it is skew (rotations)
    Q is 0. With weight decay, w' = -grad L - a w, a quadratic charge decays as exp(-2 a t).

    Symmetries that conjugate with other parameters (a norm's gain), or shift one parameter by a
    multiple of another, have generators of neither kind, and their Q drifts even under the flow:
    the first part of `charge_drift` at a gradient tells.

    Finite groups have none and are left out, and so are symmetries that hold only up to a norm's
    epsilon, unless ``approximate``: their charges are conserved as far as they hold.

    Raises ValueError where no symmetry is continuous.

    Example:
        >>> import symjax
        >>> w = (jnp.array([[3.0], [1.0]]), jnp.array([[2.0, 1.0]]))
        >>> charges(symjax.neuron_rescaling_action(2), w)[0].tolist()
        [5.0, 0.0]
    """
    return _charges(orbit_of(symmetries, approximate), params)


def _charges(orbit: Orbit, params: PyTree) -> tuple[Algebra, ...]:
    return orbit.pull(orbit.select(params, params), params) if orbit.actions else ()


def charge_drift(
    symmetries: Acting, params: PyTree, updates: PyTree, *, approximate: bool = False
) -> tuple[tuple[Algebra, ...], tuple[Algebra, ...]]:
    """The change of the charges by a finite step, in two parts: (first order, second order).

    Q(w + u) - Q(w) = DQ(w)[u] + Q(u) for quadratic charges, exactly. The first part is 0 for
    u = -eta grad L, to rounding: what it shows is momentum, weight decay, or an optimiser that
    rescales coordinates. The second is what plain SGD loses: eta^2 Q(grad L) in each step.
    ``approximate`` as in `charges`.

    Raises ValueError where no symmetry is continuous.

    Example:
        >>> import symjax
        >>> action = symjax.rescaling_action()
        >>> w = (jnp.array([[2.0]]), jnp.array([[1.0]]))
        >>> step = jax.tree.map(lambda g: -0.1 * g, jax.grad(lambda w: (w[0] * w[1])[0, 0])(w))
        >>> first, second = charge_drift(action, w, step)
        >>> round(float(first[0]), 6), round(float(second[0]), 6)
        (0.0, -0.03)
    """
    return _drift(orbit_of(symmetries, approximate), params, updates)


def _drift(orbit: Orbit, params: PyTree, updates: PyTree):
    if not orbit.actions:
        return (), ()
    w, u = orbit.select(params, params), orbit.select(updates, params)
    charge = lambda v: orbit.pull(v, orbit.replace(widen(params), v, params))
    slope = lambda v: jax.jvp(charge, (v,), (u,))[1]
    first, second = jax.jvp(slope, (w,), (u,))
    return first, jax.tree.map(lambda x: x / 2, second)


class ChargeState(NamedTuple):
    """What `track_charges` remembers: charge = initial + first_order + second_order."""

    initial: tuple[Algebra, ...]
    first_order: tuple[Algebra, ...]
    second_order: tuple[Algebra, ...]

    __repr__ = printed

    @property
    def drift(self) -> tuple[Algebra, ...]:
        """How far each charge is from where it started."""
        return jax.tree.map(jnp.add, self.first_order, self.second_order)

    @property
    def relative_drift(self) -> Float[Array, ""]:
        """The norm of the drift divided by that of the initial charges; inf where those are 0."""
        return optax.tree.norm(self.drift) / optax.tree.norm(self.initial)


def track_charges(
    symmetries: Acting, *, approximate: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Watch the charges of the symmetries drift, and why; updates pass through as they are.

    Put it last in a chain, where the updates are the step that is taken. Its `ChargeState` sums the
    two parts of `charge_drift` over all steps. See `charges` for what is conserved, and when,
    and for ``approximate``. Under `optax.masked` the symmetries that move or read a masked leaf are
    left out.

    Raises ValueError where no symmetry is continuous, or ``params`` is not passed to ``update``.

    Example:
        >>> import optax, symjax
        >>> optimiser = optax.chain(optax.sgd(0.1), track_charges(symjax.rescaling_action()))
        >>> w = (jnp.array([[2.0]]), jnp.array([[1.0]]))
        >>> grads = jax.grad(lambda w: (w[0] * w[1])[0, 0])(w)
        >>> _, state = optimiser.update(grads, optimiser.init(w), w)
        >>> round(float(state[-1].drift[0]), 6)
        -0.03
    """
    orbit = orbit_of(symmetries, approximate)

    def init(params):
        params = filled(params)
        initial = _charges(visible(orbit, params), params)
        zero = jax.tree.map(jnp.zeros_like, initial)
        return ChargeState(initial, zero, zero)

    def update(updates, state, params=None, **extra):
        del extra
        params = require_params("track_charges", params)
        require_updates(updates, params)
        whole, params = filled(updates), filled(params)
        parts = _drift(visible(orbit, params), params, whole)
        sums = jax.tree.map(jnp.add, (state.first_order, state.second_order), parts)
        return updates, ChargeState(state.initial, *sums)

    return optax.GradientTransformationExtraArgs(init, update)

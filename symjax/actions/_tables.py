"""The actions of the paper's networks, as tables of legs."""

from collections.abc import Sequence

from .._checks import checked_widths, require
from ..groups import GeneralLinear, PositiveScaling, Product, Representation
from ._legs import Leg
from ._linear import LinearAction, linear_action


def deep_linear_action(widths: Sequence[int]) -> LinearAction:
    """The change of basis of every hidden layer of a linear network.

    g.(W_1, ..., W_l) = (g_1 W_1, g_2 W_2 g_1^-1, ..., W_l g_(l-1)^-1), a left action of
    GL(d_1) x ... x GL(d_(l-1)). ``widths`` is (d_0, ..., d_l); parameters are the tuple of W_i of
    shape (d_i, d_(i-1)). The product W_l ... W_1 does not change.

    Raises ValueError unless there are at least two widths, all positive integers.

    Paper: Eq. (1).

    Example:
        >>> action = deep_linear_action((2, 3, 2))
        >>> action.group.dimension
        9
    """
    widths = checked_widths(widths)
    hidden = range(1, len(widths) - 1)
    sides: tuple[tuple[int, Representation], ...] = ((0, "vector"), (1, "covector"))
    legs = [Leg(i - 1 + side, side, how, i - 1) for i in hidden for side, how in sides]
    return linear_action(Product([GeneralLinear(widths[i]) for i in hidden]), legs)


def _require_degree(degree: float) -> None:
    require(
        isinstance(degree, int | float) and 0 < degree < float("inf"),
        f"`degree` must be a positive number, the k of sigma(cz) = c^k sigma(z), got {degree!r}.",
    )


def rescaling_action(degree: float = 1) -> LinearAction:
    """The rescaling of the last two layers around an activation with sigma(cz) = c^k sigma(z).

    m.(..., W_(l-1), W_l) = (..., m W_(l-1), m^-k W_l) for a scalar m > 0 and k = ``degree``. The
    parameters are any pytree whose last two leaves are W_(l-1) and W_l. As printed, Prop. 5.3 asks
    sigma(cz) = c^k sigma(z) for all real c, which excludes ReLU; positive c is all that is used.

    Raises ValueError for a degree that is not positive.

    Example:
        >>> action = rescaling_action(1)
        >>> [w.item() for w in action(jnp.array(2.0), (jnp.ones((1, 1)), jnp.ones((1, 1))))]
        [2.0, 0.5]
    """
    _require_degree(degree)
    legs = [Leg(-2, None, 1.0), Leg(-1, None, -float(degree))]
    return linear_action(PositiveScaling(), legs)


def neuron_rescaling_action(width: int, degree: float = 1) -> LinearAction:
    """One scale for each of ``width`` hidden units: (D W_(l-1), W_l D^-k) with D = diag(c), c > 0.

    The last two leaves of the parameters are W_(l-1), of shape (width, ...), and W_l, of shape
    (..., width). For leaves in other places, or biases, see `linear_action`.

    Raises ValueError for a width or a degree that is not positive.

    Example:
        >>> neuron_rescaling_action(5).group.dimension
        5
    """
    _require_degree(degree)
    return linear_action(PositiveScaling(width), [Leg(-2, 0, 1.0), Leg(-1, 1, -float(degree))])

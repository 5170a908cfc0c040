"""Actions: how an element of a group moves a pytree of parameters.

Nearly every symmetry of a network is linear in the parameters for a fixed element: the element
multiplies some axis of some leaves. Such an action is a table, not code: a group and a tuple of
`Leg`, and one `LinearAction` walks any table. Shifts of the parameters by products of others have a
table of their own, `ShiftAction`; `PulledBack` is either of them in other coordinates. The map of
eq. (6), which depends on data and is not a group action, has a class of its own.
"""

from ._data import DataAction as DataAction, data_action as data_action
from ._legs import Block as Block, Gain as Gain, Leg as Leg
from ._linear import (
    LinearAction as LinearAction,
    compress as compress,
    linear_action as linear_action,
)
from ._pullback import (
    Constant as Constant,
    PulledBack as PulledBack,
    Step as Step,
    Term as Term,
)
from ._shifts import Factor as Factor, ShiftAction as ShiftAction, ShiftLeg as ShiftLeg
from ._tables import (
    deep_linear_action as deep_linear_action,
    neuron_rescaling_action as neuron_rescaling_action,
    rescaling_action as rescaling_action,
)

Action = LinearAction | ShiftAction | PulledBack | DataAction

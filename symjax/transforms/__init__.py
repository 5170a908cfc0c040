"""Optax transformations that know the symmetries of the parameters.

Each takes one action, one `Symmetry`, or several, such as what `symjax.find_symmetries` returns (of
which the exact ones are used). All of them read the parameters, so pass ``params`` to ``update``.
They chain: put them after the optimiser, because they are about the step that is really taken.
"""

from ._charges import (
    ChargeState as ChargeState,
    charge_drift as charge_drift,
    charges as charges,
    track_charges as track_charges,
)
from ._projections import (
    OrbitState as OrbitState,
    orbit_constrained as orbit_constrained,
    quotient_gradient as quotient_gradient,
)
from ._teleport import TeleportState as TeleportState, teleport as teleport

"""One point for a whole orbit, how large the orbit is, how far apart two are, and gauge audits."""

from ._audit import GaugeAudit as GaugeAudit, audit as audit
from ._orbit import (
    MinimumNorm as MinimumNorm,
    OrbitDimension as OrbitDimension,
    OrbitDistance as OrbitDistance,
    minimum_norm as minimum_norm,
    orbit_dimension as orbit_dimension,
    orbit_distance as orbit_distance,
)
from ._representative import Representative as Representative, representative as representative

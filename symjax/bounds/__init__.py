"""It cannot be worse than this: the chord's distance from its curve, and the loss on the chord."""

from ._best import (
    SOURCES as SOURCES,
)
from ._best import (
    BestDeviation as BestDeviation,
)
from ._best import (
    best_chord_deviation as best_chord_deviation,
)
from ._bound import AbstractBound as AbstractBound
from ._deviation import (
    CurvatureDeviation as CurvatureDeviation,
)
from ._deviation import (
    EndDeviation as EndDeviation,
)
from ._deviation import (
    LengthDeviation as LengthDeviation,
)
from ._deviation import (
    TurningDeviation as TurningDeviation,
)
from ._deviation import (
    chord_deviation as chord_deviation,
)
from ._deviation import (
    chord_deviation_at as chord_deviation_at,
)
from ._deviation import (
    length_chord_deviation as length_chord_deviation,
)
from ._deviation import (
    total_curvature_chord_deviation as total_curvature_chord_deviation,
)
from ._deviation import (
    trivial_chord_deviation as trivial_chord_deviation,
)
from ._loss import (
    ChordLoss as ChordLoss,
)
from ._loss import (
    asymptotic_chord_loss as asymptotic_chord_loss,
)
from ._loss import (
    chord_loss as chord_loss,
)
from ._loss import (
    smooth_chord_loss as smooth_chord_loss,
)
from ._loss import (
    two_layer_chord_loss as two_layer_chord_loss,
)
from ._orbit import OrbitLoss as OrbitLoss
from ._orbit import orbit_loss as orbit_loss
from ._output import OutputChange as OutputChange
from ._output import output_change as output_change
from ._sampled import (
    SampledDeviation as SampledDeviation,
)
from ._sampled import (
    sampled_chord_deviation as sampled_chord_deviation,
)
from ._sampled import (
    sampled_chord_deviation_at as sampled_chord_deviation_at,
)

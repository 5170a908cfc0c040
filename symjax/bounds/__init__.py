"""It cannot be worse than this: the chord's distance from its curve, and the loss on the chord."""

from ._best import (
    SOURCES as SOURCES,
    BestDeviation as BestDeviation,
    best_chord_deviation as best_chord_deviation,
)
from ._bound import AbstractBound as AbstractBound
from ._deviation import (
    CurvatureDeviation as CurvatureDeviation,
    EndDeviation as EndDeviation,
    LengthDeviation as LengthDeviation,
    TurningDeviation as TurningDeviation,
    chord_deviation as chord_deviation,
    chord_deviation_at as chord_deviation_at,
    length_chord_deviation as length_chord_deviation,
    total_curvature_chord_deviation as total_curvature_chord_deviation,
    trivial_chord_deviation as trivial_chord_deviation,
)
from ._loss import (
    ChordLoss as ChordLoss,
    asymptotic_chord_loss as asymptotic_chord_loss,
    chord_loss as chord_loss,
    smooth_chord_loss as smooth_chord_loss,
    two_layer_chord_loss as two_layer_chord_loss,
)
from ._orbit import OrbitLoss as OrbitLoss, orbit_loss as orbit_loss
from ._output import OutputChange as OutputChange, output_change as output_change
from ._sampled import (
    SampledDeviation as SampledDeviation,
    sampled_chord_deviation as sampled_chord_deviation,
    sampled_chord_deviation_at as sampled_chord_deviation_at,
)

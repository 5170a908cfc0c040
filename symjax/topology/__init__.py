"""Can one get there at all: components of the minimum, explicit paths, heights between them."""

from ._factor_pairs import (
    OppositePair as OppositePair,
    factorised_pair as factorised_pair,
    opposite_pair as opposite_pair,
    reflected_pair as reflected_pair,
)
from ._grid import GridCount as GridCount, count_by_grid as count_by_grid
from ._linear import (
    LinearHeight as LinearHeight,
    LinearMinimum as LinearMinimum,
    linear_minimum as linear_minimum,
)
from ._linear_chart import (
    inverse_linear_chart as inverse_linear_chart,
    linear_chart as linear_chart,
)
from ._linear_data import Margins as Margins
from ._linear_label import LinearLabel as LinearLabel
from ._linear_permutations import LinearPermutations as LinearPermutations
from ._linear_regularised import (
    FrameLabel as FrameLabel,
    RegularisedMinimum as RegularisedMinimum,
    regularised_minimum as regularised_minimum,
)
from ._orbits import (
    OrbitComponents as OrbitComponents,
    minimum_bound as minimum_bound,
    orbit_bound as orbit_bound,
    orbit_components as orbit_components,
)
from ._pair import Pair as Pair
from ._path import LinearPath as LinearPath
from ._rescaled_pairs import (
    BoundedPair as BoundedPair,
    PermutedPair as PermutedPair,
    bounded_pair as bounded_pair,
    permuted_pair as permuted_pair,
    rescaled_pair as rescaled_pair,
)
from ._residual import (
    ResidualMinimum as ResidualMinimum,
    residual_minimum as residual_minimum,
)
from ._two_layer import (
    TwoLayerOrbit as TwoLayerOrbit,
    two_layer_orbit_components as two_layer_orbit_components,
)

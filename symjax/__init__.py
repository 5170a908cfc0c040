"""symjax: the symmetries of neural-network parameters, as curves, numbers and decisions."""

from . import geometry as geometry
from . import groups as groups
from . import linalg as linalg
from .actions import (
    Leg as Leg,
)
from .actions import (
    data_action as data_action,
)
from .actions import (
    deep_linear_action as deep_linear_action,
)
from .actions import (
    linear_action as linear_action,
)
from .actions import (
    neuron_rescaling_action as neuron_rescaling_action,
)
from .actions import (
    rescaling_action as rescaling_action,
)
from .curves import (
    bezier_curve as bezier_curve,
)
from .curves import (
    chord as chord,
)
from .curves import (
    connecting_curve as connecting_curve,
)
from .curves import (
    exponential_curve as exponential_curve,
)
from .curves import (
    polygonal_chain as polygonal_chain,
)
from .geometry import (
    certify as certify,
)
from .geometry import (
    curvature as curvature,
)
from .geometry import (
    length as length,
)
from .geometry import (
    max_curvature as max_curvature,
)
from .geometry import (
    speed as speed,
)
from .geometry import (
    total_curvature as total_curvature,
)
from .groups import (
    ComplexScaling as ComplexScaling,
)
from .groups import (
    GeneralLinear as GeneralLinear,
)
from .groups import (
    Orthogonal as Orthogonal,
)
from .groups import (
    Permutation as Permutation,
)
from .groups import (
    PositiveScaling as PositiveScaling,
)
from .groups import (
    Product as Product,
)
from .groups import (
    SignFlip as SignFlip,
)
from .groups import (
    Translation as Translation,
)

__version__ = "0.1.0"

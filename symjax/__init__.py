"""symjax: the symmetries of neural-network parameters, as curves, numbers and decisions."""

from . import (
    _compatibility as _compatibility,
    bands as bands,
    barriers as barriers,
    bounds as bounds,
    canonical as canonical,
    checkpoints as checkpoints,
    diagnosis as diagnosis,
    discovery as discovery,
    ensembles as ensembles,
    geometry as geometry,
    groups as groups,
    linalg as linalg,
    matching as matching,
    merging as merging,
    networks as networks,
    topology as topology,
    training as training,
    transforms as transforms,
)
from .actions import (
    Leg as Leg,
    data_action as data_action,
    deep_linear_action as deep_linear_action,
    linear_action as linear_action,
    neuron_rescaling_action as neuron_rescaling_action,
    rescaling_action as rescaling_action,
)
from .adapters import (
    from_equinox as from_equinox,
    from_keras as from_keras,
    from_linen as from_linen,
    from_nnx as from_nnx,
    from_torch as from_torch,
)
from .curves import (
    bezier_curve as bezier_curve,
    chord as chord,
    connecting_curve as connecting_curve,
    exponential_curve as exponential_curve,
    polygonal_chain as polygonal_chain,
)
from .diagnosis import Diagnosis as Diagnosis, diagnose as diagnose
from .discovery import (
    Symmetries as Symmetries,
    Symmetry as Symmetry,
    find_symmetries as find_symmetries,
)
from .geometry import (
    certify as certify,
    curvature as curvature,
    length as length,
    max_curvature as max_curvature,
    speed as speed,
    total_curvature as total_curvature,
)
from .groups import (
    ComplexScaling as ComplexScaling,
    FixingOnes as FixingOnes,
    GeneralLinear as GeneralLinear,
    Orthogonal as Orthogonal,
    Permutation as Permutation,
    PositiveScaling as PositiveScaling,
    Power as Power,
    Product as Product,
    SignFlip as SignFlip,
    Translation as Translation,
)
from .matching import match as match
from .verification import (
    completeness as completeness,
    redundancy as redundancy,
    verify as verify,
    verify_all as verify_all,
)

__version__ = "0.1.0"

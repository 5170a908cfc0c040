"""It can be this bad: loss along curves, exact barriers, worst-case pairs."""

from ._along import barrier as barrier, loss_along as loss_along
from ._factorisation import (
    FactorisationDistance as FactorisationDistance,
    factorisation_distance as factorisation_distance,
    factorisation_witness as factorisation_witness,
    identity_factorisation_distance as identity_factorisation_distance,
)
from ._linear import LinearBarrier as LinearBarrier, linear_chord as linear_chord
from ._permuted import PermutedWitness as PermutedWitness, permuted_witness as permuted_witness
from ._rescaling import (
    RescalingBarrier as RescalingBarrier,
    paper_rescaling as paper_rescaling,
    rescaling as rescaling,
    rescaling_witness as rescaling_witness,
)

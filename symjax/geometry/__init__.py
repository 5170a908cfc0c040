"""Speed, curvature and length of a curve; certified suprema."""

from ._certify import Certificate as Certificate
from ._certify import certify as certify
from ._integrals import length as length
from ._integrals import total_curvature as total_curvature
from ._maximum import max_curvature as max_curvature
from ._pointwise import curvature as curvature
from ._pointwise import speed as speed

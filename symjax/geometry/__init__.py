"""Speed, curvature and length of a curve; certified suprema."""

from ._certify import Certificate as Certificate, certify as certify
from ._integrals import length as length, total_curvature as total_curvature
from ._maximum import max_curvature as max_curvature
from ._pointwise import curvature as curvature, speed as speed

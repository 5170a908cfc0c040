"""Discovery: which symmetries does this model have? Read off its jaxpr, with no architecture named.

Everything here runs on the host. Symmetries are read off shapes alone; what is listed is then
evaluated at random parameters of these shapes.
"""

from ._find import find_symmetries as find_symmetries
from ._report import Symmetries as Symmetries, Symmetry as Symmetry
from ._resolve import Acting as Acting, resolve as resolve
from ._specs import (
    actions_from_permutation_spec as actions_from_permutation_spec,
    permutation_spec as permutation_spec,
)

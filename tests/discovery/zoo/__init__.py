"""The zoo: small models of every kind, each with the symmetries it is known to have.

Every case is a ``Case`` with a ``build(key) -> (apply, params, inputs)``. The families are files
of this folder; ``CASES`` is all of them and ``case(name)`` one.
"""

from . import (
    _attention,
    _convolutions,
    _dense,
    _frameworks,
    _norms,
    _recurrent,
    _structures,
    _transformers,
    _traps,
)
from ._case import Case as Case

FAMILIES = {
    "dense": _dense.CASES,
    "norms": _norms.CASES,
    "attention": _attention.CASES,
    "transformers": _transformers.CASES,
    "recurrent": _recurrent.CASES,
    "convolutions": _convolutions.CASES,
    "structures": _structures.CASES,
    "frameworks": _frameworks.CASES,
    "traps": _traps.CASES,
}
CASES = tuple(case for family in FAMILIES.values() for case in family)


def case(name: str) -> Case:
    """The case of this name."""
    return next(c for c in CASES if c.name == name)

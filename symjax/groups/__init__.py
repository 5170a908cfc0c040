"""Groups of a network's parameters: small static data with pure functions.

An element and an algebra element are arrays (tuples of arrays for a product), so they vmap; every
method takes leading batch axes. A group also knows how its element moves *one axis* of an array:
that is all an action needs (see `symjax.actions`).

The *representation* says how: ``"vector"`` is x -> g x, ``"covector"`` is x -> g^-T x (what a
layer that reads the axis does), and a number p, for scalings only, is x -> g^p x.
"""

from ..linalg import (
    NO_PATH as NO_PATH,
    ONE_EXPONENTIAL as ONE_EXPONENTIAL,
    TWO_EXPONENTIALS as TWO_EXPONENTIALS,
)
from ._base import (
    AbstractGroup as AbstractGroup,
    Algebra as Algebra,
    Element as Element,
    Representation as Representation,
    power_of as power_of,
)
from ._finite import Permutation as Permutation, SignFlip as SignFlip
from ._fixing import FixingOnes as FixingOnes
from ._matrices import GeneralLinear as GeneralLinear, Orthogonal as Orthogonal
from ._power import Power as Power
from ._product import Product as Product
from ._scalings import ComplexScaling as ComplexScaling, PositiveScaling as PositiveScaling
from ._translation import Translation as Translation

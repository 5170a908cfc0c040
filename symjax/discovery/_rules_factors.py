"""Factors of matrices: what a multiple of the matrix makes of them, and singular values.

Singular values do not see orthogonal matrices on either side, which is read off the trace of
(A^T A)^2: a linear map of rows or columns that leaves it for every A is orthogonal. Of the other
factors only scales are followed, and the report names them: more may act, such as the triangular
matrices that leave the orthogonal factor.
"""

from fractions import Fraction

from ._layout import Unsupported
from ._reader import Reader, rule
from ._rules_elementwise import Traits, pointwise
from ._rules_linear import contract
from ._rules_shape import mix
from ._values import Value, broadcast, rearrange

#: Of each output in order the power of a factor of the matrix that multiplies it.
DEGREES = {
    "cholesky": (Fraction(1, 2),),
    "qr": (Fraction(0), Fraction(1)),
    "eigh": (Fraction(0), Fraction(1)),
}


def _only_scales(reader: Reader, equation, x: Value, number: int, degree: Fraction) -> Value:
    """A factor of which only a scale of the whole matrix is followed."""
    out = equation.outvars[number].aval
    rank = len(x.axes)
    if len(out.shape) < rank:  # one number per column
        x = _corner(reader, x, out.shape[-1])
    sizes = {a: out.shape[a] for a in range(rank - 2, len(out.shape))}
    key = (*reader.path, "factor", number)
    # Neither a shift nor a sign is followed through it: it is no mean and no order.
    value = mix(
        reader, x, sizes, key, out.dtype, None, Traits(degree, 0), name=equation.primitive.name
    )
    what = f"{equation.primitive.name}, of which only scales are followed"
    for tensor, _ in value.blocks.values():
        if tensor.has_params:
            reader.graph.partly[tensor.number] = what, [t for t, _ in x.blocks.values()]
    return value


def _corner(reader, x, size):
    """A matrix seen as one axis: what depends on all of it has no row or column."""
    rank = len(x.axes)
    key = (*reader.path, "entries")
    mixed = mix(
        reader, x, {rank - 2: 1, rank - 1: size}, key, x.dtype, None, Traits(Fraction(1), 0)
    )
    kept = [a for a in range(rank) if a != rank - 2]
    return rearrange(mixed, kept, {})


@rule(*DEGREES)
def _factors(reader, equation, x):
    x = reader.lift(x)
    degrees = DEGREES[equation.primitive.name]
    if len(degrees) < len(equation.outvars):
        raise Unsupported
    return [
        _only_scales(reader, equation, x, i, d)
        for i, d in zip(range(len(equation.outvars)), degrees, strict=False)
    ]


@rule("svd")
def _svd(reader, equation, x):
    x = reader.lift(x)
    values = _singular_values(reader, x, equation.outvars[0].aval)
    rest = range(1, len(equation.outvars))
    return [values, *(_only_scales(reader, equation, x, i, Fraction(0)) for i in rest)]


def _singular_values(reader, x, out):
    rank = len(x.axes)
    batch = tuple(range(rank - 2))
    gram = contract(reader, x, x, ((rank - 2,), (rank - 2,)), (batch, batch), x.dtype)
    both = (rank - 2, rank - 1)
    trace = contract(reader, gram, gram, (both, both), (batch, batch), x.dtype)
    size = lambda row: pointwise(reader, row, Traits(Fraction(1, 4)), "power")
    root = reader.elementwise([trace], size, x.dtype)
    wide = broadcast(root, (*root.shape, 1), range(rank - 2))
    along = {rank - 2: out.shape[-1]}
    return mix(reader, wide, along, (*reader.path, "values"), out.dtype, name="svd")

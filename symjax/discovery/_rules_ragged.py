"""Products of rows with one matrix for each group of rows, as of experts: `ragged_dot`."""

import jax
import jax.numpy as jnp

from ._layout import Unsupported
from ._reader import rule
from ._rules_mapped import read_as


@rule("ragged_dot_general", "ragged_dot")
def _ragged_dot(reader, equation, *values):
    """Each row times the matrix that the sizes of the groups say: a lookup and a contraction."""
    p = equation.params
    numbers = p.get("ragged_dot_dimension_numbers")
    if len(values) != 3 or numbers is None or p.get("group_offset") is not None:
        raise Unsupported
    (contracted, batch), rank = numbers.dot_dimension_numbers, len(equation.invars[0].aval.shape)
    usual = (tuple(numbers.lhs_ragged_dimensions), tuple(numbers.rhs_group_dimensions)) == (
        (0,),
        (0,),
    )
    if (
        not usual
        or any(map(len, batch))
        or rank != 2
        or tuple(map(tuple, contracted))
        != (
            (1,),
            (1,),
        )
    ):
        raise Unsupported
    rows, matrices, sizes = map(reader.lift, values)
    count, groups = rows.shape[0], matrices.shape[0]
    # Products that the same sizes cut into groups read the same matrices.
    key = ("groups", count, *(t.number for t, _ in sizes.blocks.values()))
    if key not in reader.remembered:
        reader.remembered[key] = read_as(reader, lambda n: _groups(n, count, groups), [sizes])
    group, used = reader.remembered[key]
    dtype = equation.outvars[0].aval.dtype
    reader.path = (*reader.path, "product")
    product = lambda x, w, group, used: _product(x, w, group, used, dtype)
    return read_as(reader, product, [rows, matrices, group, used])


def _groups(sizes, count, groups):
    """(the group of each row, whether it is in one)."""
    with jax.numpy_rank_promotion("allow"):
        ends, row = jnp.cumsum(sizes), jnp.arange(count)
        group = jnp.sum(row[:, None] >= ends, axis=1)
        return [jnp.minimum(group, groups - 1), row < ends[-1]]


def _product(rows, matrices, group, used, dtype):
    numbers = ((1,), (1,)), ((0,), (0,))
    result = jax.lax.dot_general(rows, matrices[group], numbers, preferred_element_type=dtype)
    return [jnp.where(used[:, None], result, jnp.zeros((), dtype))]

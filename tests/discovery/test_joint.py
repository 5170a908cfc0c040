"""Equations that tie unknowns of several leaves: no partner is dropped, whatever reads them."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax.discovery._elimination import Relations, supported

from ._reference import changes

pytestmark = pytest.mark.usefixtures("x64")

ROWS, COLUMNS = 4, 3


def weights(**shapes):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def numbers(dtype, *shape, seed=0, most=ROWS):
    return jnp.asarray(np.random.default_rng(seed).integers(0, most, shape or (9,)), dtype)


def checked(apply, params, *inputs):
    """The symmetries, all of which hold."""
    params = jax.tree.map(jnp.asarray, params)
    found = symjax.find_symmetries(apply, params, *inputs)
    for s, change in changes(found.exact, apply, params, inputs):
        assert change < 1e-12, f"{s.name} of {s.leaves} changes the output by {change:.1e}"
    return found


TABLES = weights(a=(ROWS, COLUMNS), b=(ROWS, COLUMNS), c=(ROWS, COLUMNS))
FEW, TURNED = weights(a=(ROWS + 1, COLUMNS), b=(ROWS, COLUMNS)), weights(a=(2, 2, 3), b=(4, 3))
SHARED = {
    # Every entry has a scale, or a shift, of its own.
    "product": (lambda p, i, j: p["a"][i] * p["b"][i], 12 + 12),
    "sum": (lambda p, i, j: p["a"][i] + p["b"][i] * p["c"][i] + p["a"][j], 12),
    "difference": (lambda p, i, j: p["a"][i] - p["b"][i] + p["c"][j], 12 + 3),
    # The third table is read elsewhere: only a scale per column is common.
    "two reads": (lambda p, i, j: p["a"][i] * p["b"][i] * p["c"][j], 12 + 3),
    "three at once": (lambda p, i, j: p["a"][i] * p["b"][i] * p["c"][i], 24),
    "of one hidden layer": (lambda p, i, j: jax.nn.relu(p["a"][i]) * p["b"][i] - p["c"][j], 12),
    "by take": (lambda p, i, j: jnp.take(p["a"], i, axis=0) * jnp.take(p["b"], i, 0), 24),
    "a read of a read": (lambda p, i, j: (p["a"] * p["b"])[i] * p["c"][i], 24),
}


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int64, jnp.uint8, jnp.uint16])
def test_tables_that_the_same_numbers_read_are_tied_row_by_row(dtype):
    for name, (apply, dimension) in SHARED.items():
        found = checked(apply, TABLES, numbers(dtype, 9), numbers(dtype, 9, seed=1))
        assert found.dimension == dimension, name


def test_rows_of_two_numbers_of_rows_or_layouts_are_not_tied():
    for dtype in (jnp.int16, jnp.uint32):
        apply = lambda p, i: p["a"][i] * p["b"][i]
        assert checked(apply, FEW, numbers(dtype)).dimension == COLUMNS
        # The rows of a are two index sets, those of b are one or are in another order.
        apply = lambda p, i: p["a"].reshape(4, 3)[i] * p["b"][i]
        assert checked(apply, TURNED, numbers(dtype)).dimension == COLUMNS
        apply = lambda p, i: p["a"].reshape(4, 3)[i] * p["a"].transpose(1, 0, 2).reshape(4, 3)[i]
        checked(apply, TURNED, numbers(dtype))


def test_numbers_that_differ_are_not_the_same():
    ids = numbers(jnp.int32, 20, most=256)
    params = weights(a=(100, 2), b=(100, 2))
    wrapped = lambda p, i: p["a"][i] * p["b"][i.astype(jnp.int8)]
    assert checked(wrapped, params, ids).dimension == 2
    shifted = lambda p, i: p["a"][i] * p["b"][i + 1]
    assert checked(shifted, params, ids).dimension == 2


def test_what_fills_in_for_a_missing_row_does_not_move():
    ids, params = numbers(jnp.int32, 20, most=6), weights(a=(4, 3), b=(4, 3))
    missing = lambda p, i, fill: jnp.take(p["a"], i, axis=0, mode="fill", fill_value=fill)
    product = lambda fill: lambda p, i: missing(p, i, fill) * p["b"][jnp.clip(i, 0, 3)]
    assert checked(product(0), params, ids).dimension == COLUMNS
    assert checked(product(1.5), params, ids).dimension == 0
    summed = lambda fill: lambda p, i: missing(p, i, fill) + p["b"][0][None]
    assert checked(summed(0), params, ids).dimension == 9  # rows of b that are not read
    known = lambda p: p["a"][jnp.array([1, 9, 2, 2])] + p["b"][:1]
    assert checked(known, params).dimension >= 3 + 9


def test_tables_in_loops_and_under_vmap():
    params = weights(a=(2, ROWS, COLUMNS), b=(2, ROWS, COLUMNS), w=(COLUMNS, COLUMNS))

    def scanned(p, i):
        step = lambda h, t: (jnp.tanh(h @ p["w"]) + t[0][i] * t[1][i], None)
        return jax.lax.scan(step, jnp.zeros((9, COLUMNS)), (p["a"], p["b"]))[0]

    members = lambda p, i: jax.vmap(lambda a, b: a[i] * b[i])(p["a"], p["b"])
    for dtype in (jnp.int32, jnp.uint16):
        assert checked(scanned, params, numbers(dtype)).dimension == 24
        assert checked(members, params, numbers(dtype)).dimension == 24 + 9


def test_a_solution_of_two_kinds_is_in_no_basis():
    for modulus in (0, 2):
        relations = Relations(modulus)
        relations.add({"a": Fraction(1), "b": Fraction(1)})
        relations.add({"b": Fraction(1), "c": Fraction(1), "d": Fraction(1)})
        one = relations.solutions(dict.fromkeys("abcd", 1))
        assert len(one[1]) == 2
        kinds = relations.solutions({"a": 1, "b": 2, "c": 2, "d": 2, "e": 1})
        assert kinds[1] == [{"e": 1}]
        assert [set(row) for row in kinds[2]] == [{"c", "d"}]


def test_rows_with_few_entries_are_found_in_a_span():
    rows = [{"a": Fraction(1), "b": Fraction(2)}, {"b": Fraction(1), "c": Fraction(1)}]
    assert supported(rows, {"a", "b"}) == [rows[0]]
    assert supported(rows, {"a", "c"}) == [{"a": Fraction(-1, 2), "c": Fraction(1)}]
    assert supported(rows, {"a"}) == []

"""Products of tensors, summed: two are one monomial where their sums are the same number."""

import jax
import numpy as np
import pytest

import symjax
from symjax.discovery._monomials import canonical

from .fuzz import judge, program

SIZE = 3
#: The letters of a product's factors: free ones are capital.
PRODUCTS = (
    *("ab cb cd ed eA", "ab bA", "ab Ab", "ab ba", "ab bc ca", "ab cb ca", "ab bc cd da"),
    *(
        "ab cb cd ad",
        "ab ba cd dc",
        "ab bc ca de ef fd",
        "ab bc cd de ef fa",
        "ab cd ef",
        "ab ac ad",
    ),
    *("ab cb db", "ab ac bd", "Aa Ab bc", "ab bc cd dA", "ab cb cd Ad", "ab ab ab", "ab ab cd"),
)


def shuffled(text, rng):
    """The factors in another order, with other names of what is summed over."""
    names = {n: n if n.isupper() else ("sum", int(rng.integers(10**6))) for n in set(text)}
    factors = [(0, 1, tuple(names[n] for n in factor)) for factor in text.split()]
    return [factors[i] for i in rng.permutation(len(factors))]


def value(text):
    """The sum itself, by its free letters."""
    b = np.random.default_rng(0).standard_normal((SIZE, SIZE))
    factors, free = text.split(), sorted({n for n in text if n.isupper()})
    return (
        np.einsum(",".join(factors) + "->" + "".join(free), *[b] * len(factors)).round(9).tobytes()
    )


def test_monomials_are_equal_where_their_values_are():
    rng = np.random.default_rng(1)
    monomials = {}
    for text in PRODUCTS:
        forms = {canonical(shuffled(text, rng)) for _ in range(20)}
        assert len(forms) == 1, text
        (monomials[text],) = forms
    for a in PRODUCTS:
        for b in PRODUCTS:
            assert (monomials[a] == monomials[b]) == (value(a) == value(b)), (a, b)


def test_many_factors_that_nothing_tells_apart_take_no_long_time():
    star = [(0, 1, (("sum", 0), ("sum", i))) for i in range(1, 17)]
    assert canonical(star) == canonical(star[::-1])


@pytest.mark.usefixtures("x64")
def test_shifts_by_powers_of_one_matrix_are_counted_once():
    """A gradient inside gives a shift v, and (b b^T)^k v for every k: special cases of it."""
    made = program(193, "int32")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        found = symjax.find_symmetries(made.apply, made.params, *made.inputs)
        verdict = judge(made)
    assert sum(s.name == "shift" for s in found.exact) == 2
    assert not verdict.wrong
    assert found.dimension == verdict.dimension == 12

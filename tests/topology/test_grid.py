"""The grid counter against sets whose components are known, and what it must refuse."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from symjax.topology import count_by_grid


def determinant(n):
    return lambda x: np.linalg.det(x.reshape(-1, n, n))


@pytest.mark.parametrize("variables", [1, 2, 3, 5])
def test_orthants(variables):
    """The product of all coordinates, as one polynomial and as a factor for each."""
    whole = count_by_grid({tuple(range(variables)): 1.0}, variables)
    apart = count_by_grid([{(i,): -2.0} for i in range(variables)], variables)
    assert whole.count == apart.count == 2**variables
    assert whole.by_sign == {(-1,): 2 ** (variables - 1), (1,): 2 ** (variables - 1)}
    assert apart.by_sign == dict.fromkeys(itertools.product((-1, 1), repeat=variables), 1)
    # Five coordinates an axis, one of them 0, where every factor vanishes.
    assert (whole.points, whole.left_out) == (4**variables, 5**variables - 4**variables)


@pytest.mark.parametrize(
    ("n", "magnitudes", "zero"), [(1, (1.0,), True), (2, (0.5, 3.0), False), (3, (1.0,), True)]
)
def test_invertible_matrices(n, magnitudes, zero):
    found = count_by_grid(determinant(n), n * n, magnitudes=magnitudes, zero=zero)
    assert found.by_sign == {(-1,): 1, (1,): 1}
    # Two matrices apart: their signs are independent, by factors or by the product.
    if n < 3:
        first = lambda x: determinant(n)(x[:, : n * n])
        second = lambda x: determinant(n)(x[:, n * n :])
        assert count_by_grid([first, second], 2 * n * n).count == 4
        assert count_by_grid(lambda x: first(x) * second(x), 2 * n * n).count == 4


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(-0.4, 0.4),
    y=st.floats(-0.4, 0.4),
    c=st.floats(0.5, 3.0),
    d=st.sampled_from([-1, 1]),
)
def test_complement_of_a_hyperbola(x, y, c, d):
    """d (u - x)(v - y) = c has two branches, and so three regions: one between, two outside."""
    table = {(): d * x * y - c, (0,): -d * y, (1,): -d * x, (0, 1): d}
    found = count_by_grid(table, 2, magnitudes=np.geomspace(0.2, 20.0, 8))
    assert found.by_sign == {(-1,): 1, (1,): 2}
    # With c = 0 the branches meet, and four quadrants are left.
    found = count_by_grid(table | {(): d * x * y}, 2, magnitudes=np.geomspace(0.6, 20.0, 6))
    assert found.by_sign == {(-1,): 2, (1,): 2}


def test_a_table_and_a_function_of_the_same_polynomial_agree():
    rng = np.random.default_rng(0)
    table = {m: rng.normal() for k in range(4) for m in itertools.combinations(range(4), k)}
    function = lambda x: sum(c * np.prod(x[:, list(m)], axis=1) for m, c in table.items())
    assert count_by_grid(table, 4) == count_by_grid(function, 4)


def test_a_coarse_grid_meets_fewer_components_and_merges_fewer():
    table = {(): -1.0, (0, 1): 1.0}  # x y = 1
    assert count_by_grid(table, 2, magnitudes=(0.1, 0.2)).count == 1
    assert count_by_grid(table, 2).count == 3


def test_points_on_the_zero_set_are_left_out_and_never_merged():
    # (x - s)(y - 1) with s exactly the grid's coordinate: a column of points has no sign.
    stretch = 1 + 0.2 * (math.sqrt(5) - 1) / 2
    found = count_by_grid({(): stretch, (0,): -1.0, (1,): -stretch, (0, 1): 1.0}, 2,
                          magnitudes=(1.0, 4.0))  # fmt: skip
    assert found.left_out == 5
    assert found.count == 4


@pytest.mark.parametrize(
    ("polynomial", "message"),
    [
        (lambda x: x[:, 0] ** 2 - x[:, 1], r"polynomials\[0\]` is not affine in variable 0"),
        (lambda x: x[:, 0] + np.maximum(x[:, 1], 0), "not affine in variable 1"),
        (lambda x: 1e3 + x[:, 0] + 1e-6 * x[:, 1] ** 2, "not affine in variable 1"),
        (lambda x: x, "values of shape"),
        (lambda x: x[:, 0] / 0, "not finite"),
        ({(0, 0): 1.0}, "a power is not affine"),
        ({(2,): 1.0}, "different variables of 0, ..., 1"),
        (3.0, r"polynomials"),
        ([], "at least one polynomial"),
    ],
)
def test_what_would_prove_nothing_is_refused(polynomial, message):
    with np.errstate(divide="ignore", invalid="ignore"), pytest.raises(ValueError, match=message):
        count_by_grid([polynomial] if isinstance(polynomial, float) else polynomial, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variables": 0}, "`variables` must be a positive integer"),
        ({"variables": 30}, "`variables` = 30 with 5 coordinates each need 9.31e\\+20 points"),
        ({"magnitudes": (-1.0,)}, "`magnitudes` must be positive"),
        ({"magnitudes": (1.0,), "zero": False}, "at least 3 coordinates"),
        ({"variables": 4, "max_points": 100}, "more than `max_points` = 100"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        count_by_grid({(0,): 1.0}, **{"variables": 2, **options})

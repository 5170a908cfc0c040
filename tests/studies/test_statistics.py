"""Running statistics against NumPy on the whole, in pieces of any size."""

import numpy as np
import pytest

from symjax.studies._pieces import Piece
from symjax.studies._result import StudyError
from symjax.studies._statistics import KEPT, Running, exact, parse_until, table

RNG = np.random.default_rng(0)
VALUES = np.where(RNG.random(20_000) < 0.1, np.inf, 1e6 + RNG.normal(size=20_000))


def running(values, cuts):
    found = Running()
    for start, stop in zip([0, *cuts], [*cuts, len(values)], strict=True):
        piece = {"x": values[start:stop], "flag": values[start:stop] > 1e6}
        found.add(Piece(start, stop, piece | {"curve": np.zeros((stop - start, 3))}, {}))
    return found


@pytest.mark.parametrize("cuts", [[], [1, 7, 11_000], list(range(640, 20_000, 640))])
def test_moments_are_those_of_the_finite_values(cuts):
    found = running(VALUES, cuts)
    finite = VALUES[np.isfinite(VALUES)]
    assert found.names() == ["flag", "x"]
    x = found["x"]
    assert (x.finite, x.total) == (len(finite), len(VALUES))
    # A mean of 1e6 and a deviation of 1: the sum of squares itself would lose 12 of 16 digits.
    assert x.mean == pytest.approx(finite.mean(), rel=1e-14)
    assert x.standard_error == pytest.approx(finite.std(ddof=1) / len(finite) ** 0.5, rel=1e-9)
    assert found["flag"].mean == pytest.approx((VALUES > 1e6).mean(), rel=1e-12)
    # Quantiles of every fourth network: right to a few standard errors of a quantile.
    whole = exact(VALUES)
    assert whole.quantiles == pytest.approx(np.quantile(finite, (0.05, 0.5, 0.95)), rel=1e-14)
    errors = np.abs(np.subtract(x.quantiles, whole.quantiles))
    assert (errors < 5 / (KEPT / 4) ** 0.5).all()


def test_quantiles_are_of_a_bounded_sample_that_does_not_depend_on_the_pieces():
    samples = [running(VALUES, cuts)._kept["x"] for cuts in ([], [3], list(range(50, 20_000, 50)))]
    assert len(samples[0]) <= KEPT
    for sample in samples[1:]:
        np.testing.assert_array_equal(sample, samples[0])


def test_a_run_stops_on_enough_values_only():
    assert not Running().meets({"x": 1.0})
    assert not running(VALUES, []).meets({})
    assert not running(np.ones(50), []).meets({"x": 1.0})
    assert running(np.ones(150), []).meets({"x": 1e-9})
    assert not running(VALUES, []).meets({"x": 1.0, "flag": 1e-9})


def test_requests_are_parsed_and_the_table_is_aligned():
    assert parse_until("a=0.5,b=1e-3", ["b", "a"]) == {"a": 0.5, "b": 1e-3}
    assert parse_until("", []) == {}
    with pytest.raises(StudyError, match="no quantity 'c'; the quantities: a"):
        parse_until("c=1", ["a"])
    nothing = exact(np.full(3, np.nan))
    lines = table({"long name": exact(np.arange(5.0)), "x": nothing}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["long", "name", "5", "2", "0.707107", "0.2", "2", "3.8"]
    assert lines[2].split()[1:3] == ["0", "nan"]

"""Each solver against a search that shares no code with it."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from symjax import (
    ComplexScaling,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    SignFlip,
    Translation,
)
from symjax.actions import Factor as Power
from symjax.matching import _solvers
from symjax.matching._places import Place, Step
from symjax.matching._shifts import nearest_shifts
from symjax.matching._table import Factor, move

VECTOR, COVECTOR = Place(0, (0,), "vector"), Place(1, (0,), "covector")


def problem(n, seed, places=(VECTOR, COVECTOR), ks=(5, 3)):
    random = np.random.default_rng(seed)
    return [
        (p, random.normal(size=(1, n, k)), random.normal(size=(1, n, k)))
        for p, k in zip(places, ks, strict=True)
    ]


def value(factor, h, pairs):
    return sum(np.sum((a - move(factor, h, x, p)) ** 2) for p, a, x in pairs)


def factor_of(group):
    return Factor(0, 0, group, (VECTOR, COVECTOR))


@pytest.mark.parametrize("seed", range(3))
def test_permutation_and_signs_are_the_best_of_all(seed):
    pairs = problem(4, seed)
    factor = factor_of(Permutation(4))
    best = min(value(factor, np.array([p]), pairs) for p in itertools.permutations(range(4)))
    np.testing.assert_allclose(value(factor, _solvers.nearest(factor, pairs), pairs), best)
    factor = factor_of(SignFlip(4))
    signs = [np.array([s], float) for s in itertools.product((1, -1), repeat=4)]
    best = min(value(factor, s, pairs) for s in signs)
    np.testing.assert_allclose(value(factor, _solvers.nearest(factor, pairs), pairs), best)


@pytest.mark.parametrize("powers", [(1.0, -1.0), (1.0, -2.0), (1.0,), (3.0, 1.0, -1.0)], ids=str)
def test_scale_is_the_global_minimum(powers):
    places = [Place(i, (0,), p) for i, p in enumerate(powers)]
    pairs = problem(6, 1, places, [4] * len(powers))
    factor = Factor(0, 0, PositiveScaling(6), tuple(places))
    found = _solvers.nearest(factor, pairs)
    for unit in range(6):
        one = [(p, a[:, unit : unit + 1], x[:, unit : unit + 1]) for p, a, x in pairs]
        f = lambda u, one=one: value(factor, np.exp(np.array([[u]])), one)
        us = np.linspace(-13.8155, 13.8155, 4001)
        start = us[np.argmin([f(u) for u in us])]
        if start == us[0]:  # an infimum at scale 0 is no minimum
            assert found[0, unit] == 1
            continue
        best = scipy.optimize.minimize_scalar(
            f, bounds=(start - 0.01, start + 0.01), options={"xatol": 1e-12}
        )
        assert f(np.log(found[0, unit])) <= best.fun + 1e-12 * abs(best.fun)


def test_one_scale_for_whole_leaves():
    places = (Place(0, (), 1.0), Place(1, (), -1.0))
    random = np.random.default_rng(0)
    pairs = [(p, random.normal(size=(1, 1, 7)), random.normal(size=(1, 1, 7))) for p in places]
    factor = Factor(0, 0, PositiveScaling(), places)
    h = _solvers.nearest(factor, pairs)
    assert h.shape == (1, 1)
    for nearby in (0.999, 1.001):
        assert value(factor, h, pairs) < value(factor, h * nearby, pairs)


def test_complex_scale_is_a_minimum_over_modulus_and_angle():
    pairs = problem(6, 2)
    factor = factor_of(ComplexScaling(3))
    found = value(factor, _solvers.nearest(factor, pairs), pairs)
    f = lambda v: value(factor, np.exp(v[:3] + 1j * v[3:])[None], pairs)
    random = np.random.default_rng(0)
    starts = [np.r_[random.normal(size=3), random.uniform(-3, 3, 3)] for _ in range(20)]
    best = min(scipy.optimize.minimize(f, s, tol=1e-12).fun for s in starts)
    np.testing.assert_allclose(found, best, rtol=1e-9)


def test_orthogonal_is_procrustes():
    pairs = problem(4, 3, ks=(9, 6))
    factor = factor_of(Orthogonal(4))
    h = _solvers.nearest(factor, pairs)
    a = np.concatenate([a[0] for _, a, _ in pairs], axis=1)
    x = np.concatenate([x[0] for _, _, x in pairs], axis=1)
    expected = scipy.linalg.orthogonal_procrustes(x.T, a.T)[0].T
    np.testing.assert_allclose(h[0], expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_linear_is_a_local_minimum_and_no_worse_than_its_starts(seed):
    pairs = problem(3, seed, ks=(8, 7))
    factor = factor_of(GeneralLinear(3))
    h = _solvers.nearest(factor, pairs)
    for _ in range(40):  # one visit takes a few Gauss-Newton steps; a descent makes many
        pairs = [(p, a, move(factor, h, x, p)) for p, a, x in pairs]
        h = _solvers.nearest(factor, pairs)
    here = value(factor, np.eye(3)[None], pairs)
    f = lambda m: value(factor, scipy.linalg.expm(m.reshape(3, 3))[None], pairs)
    gradient = scipy.optimize.approx_fprime(np.zeros(9), f, 1e-6)
    assert np.abs(gradient).max() < 1e-4 * here
    assert scipy.optimize.minimize(f, np.zeros(9)).fun > here * (1 - 1e-6)


def test_linear_recovers_a_planted_matrix_from_either_side():
    random = np.random.default_rng(5)
    g = random.normal(size=(1, 4, 4))
    factor = factor_of(GeneralLinear(4))
    for places, ks in (((VECTOR, COVECTOR), (6, 6)), ((VECTOR,), (6,)), ((COVECTOR,), (6,))):
        pairs = [(p, move(factor, g, x, p), x) for p, _, x in problem(4, 6, places, ks)]
        np.testing.assert_allclose(_solvers.nearest(factor, pairs), g, rtol=1e-9, atol=1e-9)


def test_shift_is_least_squares():
    # b += v, c -= W v, as a bias before and after a linear layer.
    random = np.random.default_rng(7)
    w, b, c = random.normal(size=(3, 4)), random.normal(size=4), random.normal(size=3)
    steps = (
        Step(0, None, (0,), (0,), 1.0),
        Step(1, None, (0,), (1,), -1.0, ((2, Power(2, (1, 0))),)),
    )
    factor = Factor(0, 0, Translation(4), (), steps, (4,))
    other = Factor(1, 0, Translation(3), (), (Step(1, None, (0,), (0,), 1.0),), (3,))
    for factors, matrix in (
        ({5: factor}, np.block([[np.eye(4)], [-w]])),
        ({5: factor, 9: other}, np.block([[np.eye(4), np.zeros((4, 3))], [-w, np.eye(3)]])),
    ):
        for weights in ({0: 1.0, 1: 1.0}, {0: 2.0, 1: 0.5}):
            found = nearest_shifts(factors, [0 * b, 0 * c, w], [b, c, w], weights)
            scale = np.repeat([weights[0], weights[1]], [4, 3])
            gap = -np.concatenate([b, c]) * scale
            expected = np.linalg.lstsq(scale[:, None] * matrix, gap)[0]
            found = np.concatenate([v[0] for v in found.values()])
            np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize(
    "group", [PositiveScaling(4), ComplexScaling(2), GeneralLinear(4)], ids=str
)
def test_balance_is_the_smallest_norm(group):
    factor = factor_of(group)
    places = [(p, x) for p, _, x in problem(4, 8, ks=(6, 9))]
    norm = lambda h: sum(np.sum(move(factor, h, x, p) ** 2) for p, x in places)
    h = _solvers.balance(factor, places)
    least = norm(h)
    random = np.random.default_rng(0)
    for _ in range(50):
        if factor.kind == "linear":
            nearby = scipy.linalg.expm(1e-3 * random.normal(size=(4, 4)))[None] @ h
        else:
            nearby = h * np.exp(1e-3 * random.normal(size=h.shape))
        assert norm(nearby) >= least * (1 - 1e-14)
    if factor.kind == "linear":  # there what writes and what reads the axis have one Gram matrix
        (_, x), (_, y) = [(p, move(factor, h, x, p)[0]) for p, x in places]
        np.testing.assert_allclose(x @ x.T, y @ y.T, rtol=1e-9, atol=1e-9)


def test_balance_of_a_scale_with_one_side_makes_the_mean_square_one():
    place = Place(0, (0,), "vector")
    x = np.random.default_rng(0).normal(size=(1, 3, 50))
    factor = Factor(0, 0, PositiveScaling(3), (place,))
    moved = move(factor, _solvers.balance(factor, [(place, x)]), x, place)
    np.testing.assert_allclose(np.mean(moved**2, axis=2), 1, rtol=1e-12)

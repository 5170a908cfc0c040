"""Two-layer linear networks with a penalty: count, value and label of the minimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from symjax.topology import regularised_minimum

from .linear_cases import orthogonal

# Worked by hand from docs/theory.md: h, singular values of y, penalty, components, value.
TABLE = [
    (1, [2.0], 1.0, 2, 3.0),
    (1, [2.0], 3.0, 1, 4.0),
    (2, [3.0, 2.0], 1.0, 2, 8.0),
    (2, [3.0, 2.0], 2.5, 1, 12.75),
    (2, [3.0, 0.5], 1.0, 1, 5.25),
    (2, [3.0, 2.0], 4.0, 1, 13.0),
    (3, [3.0, 2.0], 1.0, 1, 8.0),
    (1, [3.0, 2.0], 0.5, 2, 6.75),
    (1, [2.0, 2.0], 0.5, 1, 5.75),
    (2, [3.0, 2.0, 2.0], 1.0, 1, 12.0),
    (2, [2.0, 2.0, 1.0], 0.5, 2, 4.5),
    (2, [3.0, 3.0, 3.0], 4.0, 1, 27.0),
    (2, [3.0, 2.0], 2.0, 1, 12.0),
    (2, [3.0, 0.0], 1.0, 1, 5.0),
    (1, [0.0], 1.0, 1, 0.0),
]


def loss(weights, y, penalty):
    w1, w2 = weights
    return np.sum((w2 @ w1 - y) ** 2) + penalty * (np.sum(w1**2) + np.sum(w2**2))


@pytest.mark.parametrize(("h", "sigma", "penalty", "count", "value"), TABLE)
def test_table(h, sigma, penalty, count, value):
    n, rng = len(sigma), np.random.default_rng(len(sigma))
    y = orthogonal(rng, n) @ np.diag(sigma) @ orthogonal(rng, n)
    minimum = regularised_minimum((n, h, n), np.eye(n), y, penalty)
    assert minimum.count == count
    np.testing.assert_allclose(minimum.value, value)
    assert regularised_minimum((n, h, n), np.eye(n), np.diag(sigma), penalty).count == count


def found_by_descent(rng, h, y, penalty):
    """A minimum that L-BFGS finds, which knows nothing of the closed form."""
    n = len(y)

    def value_and_gradient(z):
        w1, w2 = z[: h * n].reshape(h, n), z[h * n :].reshape(n, h)
        off = w2 @ w1 - y
        slope = [2 * w2.T @ off + 2 * penalty * w1, 2 * off @ w1.T + 2 * penalty * w2]
        return loss((w1, w2), y, penalty), np.concatenate([g.ravel() for g in slope])

    start = rng.normal(size=2 * h * n)
    options = {"ftol": 1e-16, "gtol": 1e-12, "maxiter": 5000}
    z = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
    return z[: h * n].reshape(h, n), z[h * n :].reshape(n, h)


@pytest.mark.parametrize(("h", "k"), [(2, 2), (3, 2), (1, 1)])
def test_descent_ends_on_the_minimum_in_each_component(h, k):
    rng = np.random.default_rng(h)
    y = orthogonal(rng, 3) @ np.diag([3.0, 2.0, 0.5]) @ orthogonal(rng, 3)
    minimum = regularised_minimum((3, h, 3), np.eye(3), y, 0.7)
    assert minimum.k == k
    points = [found_by_descent(rng, h, y, 0.7) for _ in range(12)]
    labels = [minimum.label(p) for p in points]
    for p, label in zip(points, labels, strict=True):
        np.testing.assert_allclose(loss(p, y, 0.7), minimum.value, rtol=1e-10)
        assert label.decided
        assert label.distance < 1e-5
    assert len({label.sign for label in labels}) == minimum.count
    # A permutation of hidden units is odd: it leads to the other component where there is one.
    if h >= 2:
        order = [1, 0, *range(2, h)]
        moved = points[0][0][order], points[0][1][:, order]
        assert minimum.connected(points[0], moved) == (minimum.count == 1)


def test_a_point_too_far_from_the_minimum_is_undecided():
    minimum = regularised_minimum((2, 2, 2), np.eye(2), np.diag([3.0, 2.0]), 1.0)
    label = minimum.label((np.zeros((2, 2)), np.zeros((2, 2))))
    assert not label.decided
    np.testing.assert_allclose((label.distance, label.reach), (6**0.5, 2**0.5))
    assert minimum.connected((np.eye(2), np.eye(2)), (np.zeros((2, 2)),) * 2) is None


def test_near_ties_are_undecided():
    eye = np.eye(2)
    assert regularised_minimum((2, 2, 2), eye, np.diag([3, 1 + 1e-14]), 1.0).count is None
    assert regularised_minimum((2, 1, 2), eye, np.diag([3, 3 - 1e-14]), 1.0).count is None
    # Where it does not matter there is a count.
    assert regularised_minimum((2, 3, 2), eye, np.diag([3, 1 + 1e-14]), 1.0).count == 1


def test_orthonormal_rows_and_what_is_outside_them():
    rng = np.random.default_rng(0)
    x = orthogonal(rng, 4)[:2]
    y = rng.normal(size=(2, 4))
    minimum = regularised_minimum((2, 2, 2), x, y, 0.1)
    inside = regularised_minimum((2, 2, 2), np.eye(2), y @ x.T, 0.1)
    outside = np.sum(y**2) - np.sum((y @ x.T) ** 2)
    np.testing.assert_allclose(minimum.value, inside.value + outside)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 2, 2), 2 * np.eye(2), np.eye(2), 1.0), "`x` must have orthonormal rows"),
        (((2, 2, 2, 2), np.eye(2), np.eye(2), 1.0), "`widths` must be three"),
        (((2, 2, 2), np.eye(2), np.eye(2), 0.0), "`penalty` must be positive"),
        (((2, 2, 3), np.eye(2), np.eye(2), 1.0), "`y` must have as many rows"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        regularised_minimum(*arguments)

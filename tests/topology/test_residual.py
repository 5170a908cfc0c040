"""Counts of residual minima against the grid, and against explicit paths where the count is 1."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from symjax.topology import count_by_grid, residual_minimum


def block_determinants(n, blocks, epsilon):
    """det(epsilon I + W_d ... W_1) of every block as functions of all weights, and their number."""
    functions, start = [], 0
    for hidden in blocks:
        chain = [n, *hidden, n]
        shapes = list(zip(chain[1:], chain[:-1], strict=True))

        def determinant(x, shapes=shapes, start=start):
            product, at = np.eye(n), start
            for rows, columns in shapes:
                product = x[:, at : at + rows * columns].reshape(-1, rows, columns) @ product
                at += rows * columns
            return np.linalg.det(epsilon * np.eye(n) + product)

        functions.append(determinant)
        start += sum(rows * columns for rows, columns in shapes)
    return functions, start


def by_grid(n, blocks, epsilon):
    functions, variables = block_determinants(n, blocks, epsilon)
    # Up to 8 variables; the smaller grid has no zero, so 4^8 points.
    options = {"magnitudes": (0.6, 3.0), "zero": variables < 8}
    return count_by_grid(functions, variables, **options).count


ONE_BLOCK = {
    (1, ()): 2,
    (1, (1,)): 3,
    (1, (1, 1)): 5,
    (1, (1, 1, 1)): 9,
    (1, (2,)): 2,
    (1, (3,)): 2,
    (1, (2, 1)): 3,
    (1, (2, 2)): 2,
    (1, (1, 2, 1)): 5,
    (2, (1,)): 2,
    (2, (2,)): 2,
    (2, (1, 1)): 3,
    (3, (1,)): 2,
    (2, (1, 2)): 2,
    (2, (2, 1)): 2,
}
SEVERAL = {
    (1, ((1,), (1,))): 9,
    (1, ((1,), (2,))): 6,
    (1, ((1, 1), (1,))): 15,
    (2, ((1,), (1,))): 4,
}
CASES = [(n, (b,), count) for (n, b), count in ONE_BLOCK.items()]
CASES += [(n, blocks, count) for (n, blocks), count in SEVERAL.items()]


@pytest.mark.parametrize(("n", "blocks", "count"), CASES)
def test_blocks_against_the_grid(n, blocks, count):
    rng = np.random.default_rng(n)
    for rows, epsilon in ((n, 1.0), (n + 1, -0.7)):
        found = residual_minimum(
            n, blocks, rng.normal(size=(n, 4)), rng.normal(size=(rows, 4)), epsilon
        )
        if any(blocks):
            assert found.reason == "rank Z = n: invertible blocks"
            assert np.prod(found.block_counts) == count
        assert found.count == count == by_grid(n, blocks, epsilon)
        assert (found.rank_x, found.rank_z) == (n, n)
        assert min(found.margin_x, found.margin_z) > 1e10


def test_prop_4_3_a_skip_joins_two_of_the_four_components():
    one = jnp.ones((1, 1))
    for epsilon in (1.0, -1.0, 0.5, -2.0, 3.0, 1e-3):
        assert residual_minimum(1, ((1,),), 2 * one, -one, epsilon).count == 3
        # The paper's bound needs no particular scale: the grid is stretched with epsilon.
        scale = abs(epsilon) ** 0.5
        count = count_by_grid(
            {(): epsilon, (0, 1): 1.0}, 2, magnitudes=(0.6 * scale, 2.5 * scale)
        ).count
        assert count == 3
    assert residual_minimum(1, ((1,),), one, one, epsilon=0.0).count == 4
    assert count_by_grid([{(0,): 1.0}, {(1,): 1.0}], 2).count == 4
    # X, Y != 0 is needed: with either zero the minimum is connected.
    assert residual_minimum(1, ((1,),), one, 0 * one).count == 1
    assert residual_minimum(1, ((1,),), 0 * one, one).count == 1


def test_nested_skips_in_one_dimension():
    """w_3 (w_2 (w_1 + e) + e): a translation of one weight away from w_3 (w_2 w_1 + e)."""
    f = {(): 1.0, (0,): 1.0, (0, 1): 1.0}
    assert count_by_grid(f, 2, magnitudes=(0.5, 1.7, 6.0)).count == 3


def test_a_target_of_lower_rank_joins_every_component():
    """The path of the proof, n = 2 and hidden widths 1, 1: W_out M = A all along, W_out bounded."""
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=2)
    kernel /= np.linalg.norm(kernel)
    a = np.outer(rng.normal(size=2), [-kernel[1], kernel[0]])
    found = residual_minimum(2, ((1, 1),), np.eye(2), a)
    assert (found.count, found.rank_z, found.block_counts) == (1, 1, (3,))
    for sign in (1.0, -1.0):  # the two components of det M < 0
        u, v = rng.normal(size=(2, 2))
        s = sign * 3.0
        v *= -sign * np.sign(u @ v) / abs(u @ v)  # s (v.u) = -3
        turn = np.arctan2(kernel[1], kernel[0]) - np.arctan2(u[1], u[0])
        weights = []
        for t in np.linspace(0, 1, 100):
            c, d = np.cos(t * turn), np.sin(t * turn)
            rotation = np.array([[c, -d], [d, c]])
            m = np.eye(2) + s * np.outer(rotation @ u, rotation @ v)
            weights.append(a @ np.linalg.inv(m))
            np.testing.assert_allclose(weights[-1] @ m, a, atol=1e-13)
            assert np.linalg.det(m) < -1
        # Now A u = 0: W_out = A solves for every s, through det M = 0 to s = 0.
        for t in np.linspace(1, 0, 50):
            m = np.eye(2) + t * s * np.outer(rotation @ u, rotation @ v)
            np.testing.assert_allclose(a @ m, a, atol=1e-13)
        np.testing.assert_allclose(weights[-1], a, atol=1e-13)
        assert np.abs(np.diff(weights, axis=0)).max() < 0.5


def test_too_few_samples_leave_one_component():
    """n = 2, one sample: M x vanishes nowhere on a generic segment, so W_out can follow."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1)), rng.normal(size=(2, 1))
    found = residual_minimum(2, ((1,),), x, y)
    assert (found.count, found.reason) == (1, "rank X < n, one block")
    sides = set()
    for _ in range(20):
        ends = [(rng.normal(size=(2, 1)) * 2, rng.normal(size=(1, 2)) * 2) for _ in range(2)]
        for t in np.linspace(0, 1, 101):
            w2, w1 = ((1 - t) * p + t * q for p, q in zip(*ends, strict=True))
            hidden = x + w2 @ (w1 @ x)
            assert np.linalg.norm(hidden) > 1e-3
            np.testing.assert_allclose(y @ np.linalg.pinv(hidden) @ hidden, y, atol=1e-10)
            sides.add(float(np.sign(np.linalg.det(np.eye(2) + w2 @ w1))))
    assert sides == {-1.0, 1.0}


def test_what_is_not_known_says_so():
    x, thin = np.eye(2), np.diag([1.0, 0.0])
    for blocks in (((1,), (1,)), ((2,), ()), ((1,), (2,), (3,))):
        assert residual_minimum(2, blocks, x, thin).count is None
        assert residual_minimum(2, blocks, x, thin).reason.startswith("not known: rank Z < n")
        assert residual_minimum(2, blocks, thin, x).reason.startswith("not known: rank X < n")
        # With fewer outputs than n the rank of Z is below n as well.
        assert residual_minimum(2, blocks, x, x[:1]).count is None
        assert residual_minimum(2, blocks, x, 0 * x).count == 1
        assert not residual_minimum(2, blocks, x, thin).undecided


def test_a_rank_that_is_not_decided():
    near = np.diag([1.0, 2e-14])
    found = residual_minimum(2, ((2,),), np.eye(2), near)
    assert found.undecided
    assert found.count is None
    assert found.margin_z < 10
    assert residual_minimum(2, ((2,),), near, np.eye(2)).undecided
    # Told where zero begins, it decides; and where it does not matter it never asked.
    assert residual_minimum(2, ((2,),), np.eye(2), near, tolerance=1e-17).count == 2
    assert residual_minimum(2, ((2,),), np.eye(2), near, tolerance=1e-9).count == 1
    assert residual_minimum(2, ((2,),), np.diag([1.0, 0.0]), near).count == 1


def test_a_network_without_a_skip_is_linear():
    rng = np.random.default_rng(0)
    x, y, thin = rng.normal(size=(2, 5)), rng.normal(size=(2, 5)), np.outer([1, 2], range(5))
    # Widths 2, 2, 2, 3, 2, 2 with data of rank 2: three hidden layers of that width.
    found = residual_minimum(2, ((2,), (3,)), x, y, epsilon=0.0)
    assert found.count == 8
    assert found.reason.startswith("the network is linear")
    # Without hidden widths epsilon translates the weights: two invertible blocks, or one class.
    assert residual_minimum(2, ((), ()), x, y).count == by_grid(2, ((), ()), 1.0) == 4
    assert residual_minimum(2, ((), ()), x, thin).count == 1
    # A bottleneck of one unit, and two equal singular values to choose from: opposite signs join.
    assert residual_minimum(2, ((1,),), np.eye(2), np.eye(2), epsilon=0.0).count == 1
    assert residual_minimum(2, ((1,),), np.eye(2), np.diag([2.0, 1.0]), epsilon=0.0).count == 2


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 4),
    blocks=st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=3),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_scale_basis_and_dtype_do_not_matter(n, blocks, scale, dtype):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 5)), rng.normal(size=(n, 5))
    left, right = (np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (n, 5))
    base = residual_minimum(n, blocks, x, y)
    other = residual_minimum(
        n, blocks, (scale * left @ x @ right).astype(dtype), (left @ y @ right).astype(dtype), -3.0
    )
    assert (base.count, base.reason) == (other.count, other.reason)
    assert base.count is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "`n` must be a positive integer"),
        ({"blocks": ()}, "`blocks` must be one or more tuples"),
        ({"blocks": ((0,),)}, "`blocks` must be"),
        ({"blocks": (3,)}, "`blocks` must be"),
        ({"x": np.ones((3, 2))}, "`x` must have n = 2 rows"),
        ({"y": np.ones((2, 3))}, "as many columns"),
        ({"y": np.ones((0, 2))}, "and a row"),
        ({"x": np.full((2, 2), np.nan)}, "`x` holds a NaN"),
        ({"y": np.ones(2)}, "`y` must be a real matrix"),
        ({"epsilon": np.inf}, "`epsilon` must be a finite number"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"n": 2, "blocks": ((1,),), "x": np.eye(2), "y": np.eye(2)} | change
    with pytest.raises(ValueError, match=message):
        residual_minimum(**arguments)

"""Components of the minimum of deep linear networks: counts, labels, permutations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import symjax
from symjax import topology
from symjax.topology import count_by_grid, linear_minimum

from ..helpers import assert_close
from ..test_actions import product
from .linear_cases import best_factors, conditioned, orthogonal, random_minimum


def diagonal(rows, columns, entries):
    """A matrix with these entries on its diagonal."""
    a = np.zeros((rows, columns))
    a[range(len(entries)), range(len(entries))] = entries
    return a


# Worked by hand from docs/theory.md: widths, singular values of x, of y, number of components. With
# x and y diagonal, Ytilde has the singular values of y in the coordinates that x sees, which
# are the first ones; r' = min(r_x, d_1, ..., d_l).
COUNTS = [
    # Square, invertible: 2^(l - 1).
    ((1, 1), [1], [1], 1),
    ((1, 1, 1), [1], [1], 2),
    ((1, 1, 1, 1), [1], [1], 4),
    ((1, 1, 1, 1, 1), [2], [-3], 8),
    ((2, 2), [1, 1], [3, 2], 1),
    ((2, 2, 2), [1, 1], [3, 2], 2),
    ((2, 2, 2, 2), [1, 1], [3, 2], 4),
    ((2, 2, 2), [1, 5], [2, 2], 2),
    ((3, 3, 3, 3, 3), [3, 2, 1], [3, 2, 1], 8),
    ((4,) * 7, [1, 1, 1, 1], [4, 3, 2, 1], 32),
    ((4,) * 9, [1, 1, 1, 1], [1, 1, 1, 1], 128),
    # Wider hidden layers are not critical.
    ((2, 3, 2), [1, 1], [3, 2], 1),
    ((2, 3, 2, 2), [1, 1], [3, 2], 2),
    ((2, 2, 5, 2), [1, 1], [3, 2], 2),
    ((2, 3, 4, 2), [1, 1], [3, 2], 1),
    ((2, 2, 3, 2, 2), [1, 1], [3, 2], 4),
    ((1, 2, 1), [1], [1], 1),
    ((1, 2, 1, 1), [1], [1], 2),
    ((1, 1, 2, 1, 1), [1], [1], 4),
    ((1, 9, 1, 9, 1), [1], [1], 2),
    # Bottlenecks.
    ((2, 1, 2), [1, 1], [2, 1], 2),
    ((3, 1, 3), [1, 1, 1], [3, 2, 1], 2),
    ((3, 2, 3), [1, 1, 1], [3, 2, 1], 2),
    ((3, 2, 2, 3), [1, 1, 1], [3, 2, 1], 4),
    ((3, 2, 5, 2, 3), [1, 1, 1], [3, 2, 1], 4),
    ((3, 1, 2, 3), [1, 1, 1], [3, 2, 1], 2),
    ((3, 1, 1, 1, 3), [1, 1, 1], [3, 2, 1], 8),
    ((5, 2, 3, 2, 4), [1, 1, 1, 1, 1], [4, 3, 2, 1], 4),
    ((4, 2, 4), [1, 1, 1, 1], [4, 4, 2, 2], 2),
    ((4, 3, 3, 4), [1, 1, 1, 1], [4, 3, 2, 0], 4),
    # Ties at the cut: all signs flip together.
    ((2, 1, 2), [1, 1], [1, 1], 1),
    ((2, 1, 1, 2), [1, 1], [1, 1], 2),
    ((2, 1, 1, 1, 2), [1, 1], [1, 1], 4),
    ((3, 2, 3), [1, 1, 1], [3, 2, 2], 1),
    ((3, 2, 2, 3), [1, 1, 1], [3, 2, 2], 2),
    ((3, 2, 2, 2, 3), [1, 1, 1], [1, 1, 1], 4),
    ((4, 2, 5, 2, 4), [1, 1, 1, 1], [2, 1, 1, 1], 2),
    ((3, 2, 2, 3), [1, 1, 1], [2, 2, 1], 4),
    ((4, 3, 3, 4), [1, 1, 1, 1], [3, 2, 2, 1], 4),
    ((3, 2, 3), [1, 1, 1], [-3, 2, -2], 1),
    ((3, 3, 3), [1, 1, 1], [2, 2, 2], 2),
    # A narrow input or output counts as a width of the product, not as a critical layer.
    ((1, 3, 3), [1], [2], 1),
    ((2, 2, 1), [1, 1], [1], 1),
    ((1, 1, 3), [1], [2], 2),
    ((3, 1, 1), [1, 1, 1], [2], 2),
    ((2, 2, 4), [1, 1], [2, 1], 2),
    ((4, 2, 2), [1, 1, 1, 1], [2, 1], 2),
    ((4, 3, 2, 3, 4, 1), [1, 1, 1, 1], [2], 1),
    # y of less rank than the layers are wide: nothing is critical.
    ((2, 2, 2), [1, 1], [1], 1),
    ((2, 2, 2, 2), [1, 1], [1, 0], 1),
    ((3, 3, 3, 3), [1, 1, 1], [2, 1], 1),
    ((3, 2, 3), [1, 1, 1], [2, 1], 2),
    ((3, 2, 2, 3), [1, 1, 1], [2], 1),
    ((3, 1, 2, 3), [1, 1, 1], [2], 2),
    ((3, 2, 1, 2, 1, 3), [1, 1, 1], [2], 4),
    # y = 0, and x = 0: a cone, or everything.
    ((1, 1, 1), [1], [0], 1),
    ((2, 2, 2, 2), [1, 1], [0], 1),
    ((3, 1, 3), [1, 1, 1], [0], 1),
    ((2, 2, 2), [0], [3, 2], 1),
    ((1, 1, 1, 1), [0], [1], 1),
    # x of less rank: what it does not see is free, and r' is its rank.
    ((2, 2, 2), [1], [3, 2], 1),
    ((2, 1, 2), [1], [3, 2], 2),
    ((3, 2, 3), [1, 1], [3, 2, 1], 2),
    ((3, 2, 2, 3), [1, 4], [3, 2, 2], 4),
    ((3, 2, 2, 3), [1], [3, 2, 1], 1),
    ((3, 1, 2, 1, 3), [7], [3, 2, 1], 4),
    ((3, 2, 2, 3), [1, 1], [2, 2, 2], 4),
    ((3, 1, 1, 3), [1, 1], [2, 2, 2], 2),
    ((4, 3, 2, 3, 4), [1, 1, 1], [3, 2, 2, 1], 1),
    ((4, 3, 2, 2, 4), [1, 1, 1], [3, 2, 2, 1], 2),
]


@pytest.mark.parametrize(("widths", "x", "y", "count"), COUNTS)
def test_count_of_the_table(widths, x, y, count):
    columns = max(widths[0], widths[-1]) + 1
    x, y = diagonal(widths[0], columns, x), diagonal(widths[-1], columns, y)
    assert linear_minimum(widths, x, y).count == count
    # The same data in other bases of input, output and samples, and in float32.
    rng = np.random.default_rng(len(widths) + count)
    samples = orthogonal(rng, columns)
    x, y = (orthogonal(rng, len(a)) @ a @ samples for a in (x, y))
    minimum = linear_minimum(widths, x, y)
    assert minimum.count == count
    assert linear_minimum(widths, np.float32(x), np.float32(y)).count == count
    residual = np.linalg.norm(y - product(random_minimum(rng, widths, x, y)) @ x) ** 2
    np.testing.assert_allclose(minimum.value, residual, atol=1e-24, rtol=1e-10)


def _det(z):
    """The determinant of 1 x 1 or 2 x 2 matrices, written out."""
    return z[:, 0, 0] if z.shape[1] == 1 else z[:, 0, 0] * z[:, 1, 1] - z[:, 0, 1] * z[:, 1, 0]


def _chain_det(*shapes):
    """The determinant of a product of matrices of these shapes, of the entries in a row."""
    sizes = np.cumsum([0, *(r * c for r, c in shapes)])

    def polynomial(points):
        parts = [
            points[:, a:b].reshape(-1, r, c)
            for a, b, (r, c) in zip(sizes[:-1], sizes[1:], shapes, strict=True)
        ]
        if len({*parts[0].shape[1:], *(w.shape[2] for w in parts)}) == 1:
            # Square: no determinant that is zero comes out as rounding of large numbers.
            return np.prod([_det(w) for w in parts], axis=0)
        z = parts[0]
        for w in parts[1:]:
            z = w @ z
        return _det(z)

    return polynomial, int(sizes[-1])


@pytest.mark.parametrize(
    "widths",
    [
        (1, 1, 1),
        (1, 1, 1, 1),
        (1, 1, 1, 1, 1),
        (1, 2, 1),
        (1, 3, 1),
        (1, 2, 1, 1),
        (1, 1, 2, 1),
        (1, 2, 2, 1),
        (1, 2, 1, 2, 1),
        (2, 2, 2),
        (2, 3, 2),
    ],
)
def test_count_agrees_with_the_grid(widths):
    # {W : det(W_l ... W_1) > 0} is the fibre over y times the connected GL+ of the outputs.
    n = widths[0]
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    polynomial, variables = _chain_det(*shapes)
    magnitudes = (1.0,) if variables > 8 else (0.6, 2.5)
    counted = count_by_grid(polynomial, variables, magnitudes=magnitudes)
    assert linear_minimum(widths, np.eye(n), np.eye(n)).count == counted.by_sign[(1,)]


def chart_of(rng, n, depth):
    """Random x, y, a tuple g and its minimum under the chart of eq. (10)."""
    x, y = rng.normal(size=(2, n, n))
    g = tuple(conditioned(rng, n, 10.0) for _ in range(depth - 1))
    return x, y, g, topology.linear_chart(g, x, y)


def test_prop_4_1_and_where_its_hypothesis_fails(x64):
    """The chart maps GL^(l - 1) onto the minimum, both ways; a singular x has none."""
    rng = np.random.default_rng(4)
    x, y, g, weights = chart_of(rng, 3, 4)
    np.testing.assert_allclose(product(weights) @ x, y, atol=1e-11)
    assert_close(topology.inverse_linear_chart(weights, x), tuple(map(jnp.asarray, g)), atol=1e-12)
    # Onto: the tuple of any minimum gives it back.
    w = tuple(map(jnp.asarray, random_minimum(rng, (3,) * 5, x, y)))
    back = topology.linear_chart(topology.inverse_linear_chart(w, x), x, y)
    assert_close(back, w, atol=1e-11)
    with pytest.raises(ValueError, match="`x` must be invertible"):
        topology.linear_chart(g, np.diag([1.0, 1.0, 0.0]), y)
    with pytest.raises(ValueError, match=r"`g\[0\]` must be a float64 matrix of shape \(3, 3\)"):
        topology.linear_chart((np.eye(2),), x, y)


def test_cor_3_2_and_where_its_hypothesis_fails(x64):
    """Two minima are connected if and only if their tuples are: all det(g_i) of the same signs.

    A map that is no homeomorphism (|det|) calls some connected that are not.
    """
    rng = np.random.default_rng(14)
    x, y, g, p = chart_of(rng, 2, 3)
    minimum = linear_minimum((2,) * 4, x, y)
    seen = set()
    for _ in range(20):
        h = tuple(conditioned(rng, 2, 10.0) for _ in range(2))
        q = topology.linear_chart(h, x, y)
        together = all(np.linalg.det(a) * np.linalg.det(b) > 0 for a, b in zip(g, h, strict=True))
        assert minimum.connected(p, q) == together
        seen.add(together)
    assert seen == {True, False}


def test_cor_3_3_and_where_its_hypothesis_fails():
    """As many components as the group, through the homeomorphism; a singular y has none."""
    rng = np.random.default_rng(15)
    x, y = rng.normal(size=(2, 2, 2))
    for depth in (2, 3, 5):
        group = symjax.Product([symjax.GeneralLinear(2)] * (depth - 1))
        assert linear_minimum((2,) * (depth + 1), x, y).count == group.number_of_components
        singular = np.diag([1.0, 0.0]) @ y
        assert linear_minimum((2,) * (depth + 1), x, singular).count < group.number_of_components


def test_prop_3_4_and_where_its_hypothesis_fails():
    """Two layers multiplied: an image of the minimum, of no more components if it is all of it."""
    checked, rng = 0, np.random.default_rng(16)
    for _ in range(200):
        widths = tuple(int(d) for d in rng.integers(1, 4, size=rng.integers(3, 7)))
        x, y = np.eye(widths[0], 3), rng.normal(size=(widths[-1], 3))
        i = int(rng.integers(1, len(widths) - 1))
        if widths[i] >= min(*widths[:i], *widths[i + 1 :]):
            shorter = (*widths[:i], *widths[i + 1 :])
            whole, image = (linear_minimum(d, x, y).count for d in (widths, shorter))
            assert image <= whole
            checked += 1
    assert checked > 50
    # Through a bottleneck the image is not the minimum of the shorter network, which has more.
    y = np.diag([2.0, 2.0, 1.0])
    assert linear_minimum((3, 1, 2, 3), np.eye(3), y).count == 1
    assert linear_minimum((3, 2, 3), np.eye(3), y).count == 2


def test_cor_4_2_and_where_its_hypothesis_fails():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 3))
    for depth in range(1, 7):
        assert linear_minimum((3,) * (depth + 1), x, y).count == 2 ** (depth - 1)
        # y of rank 2: connected at any depth.
        assert linear_minimum((3,) * (depth + 1), x, np.diag([1.0, 2, 0]) @ y).count == 1
    # All 2^(l - 1) vectors of signs occur.
    minimum = linear_minimum((3, 3, 3, 3), x, y)
    labels = {tuple(minimum.label(random_minimum(rng, (3,) * 4, x, y))) for _ in range(60)}
    assert labels == set(itertools.product((-1, 1), repeat=2))


def test_prop_5_2_and_where_its_hypothesis_fails():
    """Permutations as few as can be bring any minimum to any component; not for width 1."""
    rng = np.random.default_rng(1)
    for widths in ((3, 3, 3), (2,) * 6, (4, 3, 5, 3, 4)):
        x, y = rng.normal(size=(widths[0], 6)), rng.normal(size=(widths[-1], 6))
        minimum = linear_minimum(widths, x, y)
        for _ in range(5):
            p, q = (random_minimum(rng, widths, x, y) for _ in range(2))
            differing = sum(a != b for a, b in zip(minimum.label(p), minimum.label(q), strict=True))
            for align in (False, True):
                result = minimum.permutations(p, q, align=align)
                moved, permutations = result
                assert result.possible
                assert minimum.connected(moved, q)
                assert_close(product(moved), product(p), atol=1e-10 * np.linalg.norm(p[0]))
                if not align:
                    used = sum((g != np.arange(len(g))).any() for g in permutations)
                    assert used == differing
    one = np.ones((1, 1))
    minimum = linear_minimum((1, 1, 1), one, one)
    result = minimum.permutations((one, one), (-one, -one))
    assert not result.possible
    assert result.sign_flips == (1,)
    assert not minimum.connected(result.params, (-one, -one))


def test_fewest_permutations_at_a_tie():
    # Every vector of signs against every other: never more than floor(b / 2) layers.
    rng = np.random.default_rng(2)
    widths, x = (3, 2, 2, 2, 3), np.eye(3)
    minimum = linear_minimum(widths, x, x)
    points = [random_minimum(rng, widths, x, x, plane=orthogonal(rng, 3)) for _ in range(12)]
    for p, q in itertools.combinations(points, 2):
        moved, permutations = minimum.permutations(p, q)
        assert sum((g != np.arange(len(g))).any() for g in permutations) <= 1
        assert minimum.connected(moved, q)


def test_alignment_finds_the_permutation_that_was_applied():
    rng = np.random.default_rng(3)
    widths = (6, 6, 6, 6)
    x, y = np.eye(6), rng.normal(size=(6, 6))
    minimum = linear_minimum(widths, x, y)
    q = random_minimum(rng, widths, x, y)
    g, h = rng.permutation(6), rng.permutation(6)
    p = (q[0][g], q[1][h][:, g], q[2][:, h])
    moved, _ = minimum.permutations(p, q, align=True)
    for a, b in zip(moved, q, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_labels_are_signs_of_determinants(seed):
    rng = np.random.default_rng(seed)
    widths = tuple(int(d) for d in rng.integers(1, 5, size=rng.integers(3, 7)))
    x, y = rng.normal(size=(widths[0], 5)), rng.normal(size=(widths[-1], 5))
    p = random_minimum(rng, widths, x, y, where=int(rng.integers(-1, 1)))
    minimum = linear_minimum(widths, x, y)
    (_, sigma, right), s, u = best_factors(widths, x, y)
    h, expected = right * 1.0, []
    for w in (p[0] @ (u * s), *p[1:-1]):
        h = w @ h
        expected += [np.sign(np.linalg.det(h))] if len(h) == len(sigma) else []
    label = minimum.label(p)
    assert label.decided
    # The basis of row(Z) may be oriented otherwise: then every sign is the other one.
    assert list(label) in (expected, [-s for s in expected])
    assert len(label) == minimum.margins.b
    assert label.excess <= label.rounding


def test_a_label_under_jit_and_vmap_is_that_of_the_host(x64):
    rng = np.random.default_rng(5)
    widths = (3, 2, 4, 2, 3)
    for y in (np.diag([3.0, 2.0, 1.0]), np.eye(3)):
        minimum = linear_minimum(widths, np.eye(3), y)
        points = [random_minimum(rng, widths, np.eye(3), y) for _ in range(8)]
        batch = tuple(jnp.stack(w) for w in zip(*points, strict=True))
        labels = jax.jit(jax.vmap(minimum.label))(batch)
        expected = [tuple(minimum.label(p)) for p in points]
        assert [tuple(s) for s in labels.signs.tolist()] == expected
        assert labels.decided.all()
        single = jax.jit(jax.vmap(minimum.label))(
            jax.tree.map(lambda w: w.astype(jnp.float32), batch)
        )
        assert single.excess.dtype == jnp.float32
        assert [tuple(s) for s in single.signs.tolist()] == expected


@pytest.mark.parametrize(
    ("x", "y", "scale"),
    [
        ([1, 1], [1, 1e-14], "sigma_2 may be zero"),
        ([1, 1e-14], [1, 1], "rank of x"),
    ],
)
def test_a_rank_within_the_tolerance_is_undecided(x, y, scale):
    minimum = linear_minimum((2, 2, 2), np.diag(x), np.diag(y))
    assert minimum.count is None
    assert scale in minimum.reason
    p = (np.eye(2), np.eye(2))
    assert not minimum.label(p).decided
    assert minimum.connected(p, p) is None
    assert np.isnan(minimum.barrier(p, p).value)
    with pytest.raises(ValueError, match="not decided"):
        minimum.path(p, p)
    # Where every reading gives the same count, there is one.
    assert linear_minimum((2, 3, 2), np.eye(2), np.diag([1, 1e-14])).count == 1


def test_a_near_tie_is_undecided_until_a_tolerance_settles_it():
    y = np.diag([1.0, 1.0 - 1e-14])
    assert linear_minimum((2, 1, 2), np.eye(2), y).count is None
    assert linear_minimum((2, 1, 2), np.eye(2), y, tolerance=1e-10).count == 1
    assert linear_minimum((2, 1, 2), np.eye(2), np.diag([1.0, 1.0 - 1e-10])).count == 2


def test_margins_say_what_the_count_rests_on():
    m = linear_minimum((4, 2, 3, 2, 4), np.eye(4), np.diag([4.0, 3, 1, 0])).margins
    assert (m.r_x, m.rank, m.rho, m.r_prime, m.b, m.layers) == (4, 3, 2, 2, 2, (1, 3))
    np.testing.assert_allclose((m.gap, m.tie_gap), (3.0, 0.5))
    assert not m.tied


def test_points_far_from_the_minimum_are_undecided_and_say_by_how_much():
    minimum = linear_minimum((2, 2, 2), np.eye(2), np.diag([3.0, 2.0]))
    far = (np.eye(2), np.diag([3.0, -0.5]))
    label = minimum.label(far)
    assert not label.decided
    np.testing.assert_allclose((label.excess, label.height), (2.5**2, 4.0))
    assert minimum.connected(far, far) is None
    with pytest.raises(ValueError, match=r"`p` is not known to be a minimum: .* 6.25 .* 4"):
        minimum.path(far, far)
    near = (np.eye(2), np.diag([3.0, 1.9]))
    assert minimum.label(near).decided
    with pytest.raises(ValueError, match=r"`p` is no minimum: its product is off by 0.0277"):
        minimum.path(near, near)


ARGUMENTS = {
    "`widths` must be at least two": ((2,), np.eye(2), np.eye(2)),
    "`widths` must be at least two positive": ((2, 0, 2), np.eye(2), np.eye(2)),
    "`x` must have rows and columns": ((2, 2), np.zeros((2, 0)), np.zeros((2, 0))),
    "`x` must have as many rows as the first width, 3": ((3, 2), np.eye(2), np.eye(2)),
    "`y` must have as many rows as the last width, 3": ((2, 3), np.eye(2), np.eye(2)),
    "`x` and `y` must have one column per sample": ((2, 2), np.eye(2), np.ones((2, 3))),
    "`x` holds a NaN": ((2, 2), np.full((2, 2), np.nan), np.eye(2)),
    "`y` must be a real matrix": ((2, 2), np.eye(2), np.ones(2)),
}


@pytest.mark.parametrize("message", ARGUMENTS)
def test_bad_data_are_named(message):
    with pytest.raises(ValueError, match=message):
        linear_minimum(*ARGUMENTS[message])


def test_bad_weights_are_named():
    minimum = linear_minimum((2, 3, 2), np.eye(2), np.eye(2))
    good = (np.ones((3, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"`params` must hold 2 matrices"):
        minimum.label(good[:1])
    with pytest.raises(ValueError, match=r"`params\[1\]` must be a real matrix of shape \(2, 3\)"):
        minimum.label((good[0], good[0]))
    with pytest.raises(ValueError, match="`q` holds a NaN"):
        minimum.connected(good, (good[0], np.nan * good[1]))
    with pytest.raises(ValueError, match="must be known values"):
        jax.jit(lambda p: minimum.connected(p, p))(jax.tree.map(jnp.asarray, good))
    with pytest.raises(ValueError, match="`tolerance` must lie between"):
        linear_minimum((2, 2), np.eye(2), np.eye(2), tolerance=2.0)

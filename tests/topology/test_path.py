"""Paths in the minimum of linear networks, and the height of the passes between components."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from symjax.topology import linear_minimum

from ..test_actions import product
from .linear_cases import orthogonal, random_minimum


def matched(minimum, p, q):
    """p moved into the component of q: by permutations, or by a sign where the width is 1."""
    result = minimum.permutations(p, q)
    weights = list(result.params)
    for i in result.sign_flips:
        weights[i - 1], weights[i] = -weights[i - 1], -weights[i]
    return tuple(weights)


def random_data(rng, widths):
    """Data of random ranks, with ties and zeros now and then."""
    columns = int(rng.integers(1, 8))
    x, y = rng.normal(size=(widths[0], columns)), rng.normal(size=(widths[-1], columns))
    kind = rng.integers(6)
    if kind == 0:
        x[:, rng.integers(columns) :] = 0
    elif kind == 1:
        y = np.outer(y[:, 0], y[0])
    elif kind == 2:
        y = 0 * y
    elif kind == 3:
        columns = max(widths[0], widths[-1])
        x, y = np.eye(widths[0], columns), np.eye(widths[-1], columns)
    return x, y


def test_a_path_is_read_under_debug_nans():
    one, two = np.eye(2, dtype=np.float32), 2 * np.eye(2, dtype=np.float32)
    path = linear_minimum((2, 2, 2), one, one).path((one, one), (two, one / 2))
    with jax.debug_nans(True), jax.debug_infs(True):
        points = [path(t) for t in (0.0, 0.4, 1.0)]
    np.testing.assert_array_equal(points[0][0], one)
    np.testing.assert_allclose(points[1][1] @ points[1][0], one, atol=1e-6)
    np.testing.assert_array_equal(points[2][0], two)
    assert all(np.isnan(w).all() for w in eqx.filter_jit(path)(jnp.asarray(1.5)))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31))
def test_two_minima_of_one_component_are_joined_by_a_path(seed):
    """Whatever the widths, the ranks, the ties and the rank of the weights."""
    rng = np.random.default_rng(seed)
    widths = tuple(int(d) for d in rng.integers(1, 7, size=rng.integers(2, 7)))
    x, y = random_data(rng, widths)
    minimum = linear_minimum(widths, x, y)
    p, q = (
        random_minimum(rng, widths, x, y, where=int(rng.integers(-1, 1)), condition=10.0)
        for _ in range(2)
    )
    with jax.enable_x64(True):
        if not minimum.connected(p, q):
            with pytest.raises(ValueError, match=r"different components, with labels \([+-]1"):
                minimum.path(p, q)
            p = matched(minimum, p, q)
        assert minimum.connected(p, q)
        path = minimum.path(p, q)
    # Rounding, times the ratio of the weights' norms to that of their product.
    assert path.error < 1e-10
    assert max(float(path.start_error), float(path.end_error)) <= path.error


@pytest.mark.parametrize(
    ("widths", "rank", "tie", "condition"),
    [
        ((64,) * 9, 64, False, 10.0),
        ((64,) * 9, 20, False, 100.0),
        ((64,) * 3, 64, False, 1e6),
        ((64,) * 4, 20, False, 1e6),
        ((48, 33, 64, 33, 50), 48, False, 1e3),
        ((32, 16, 16, 24, 16, 32), 32, True, 1e3),
    ],
)
def test_paths_of_large_and_ill_conditioned_networks(widths, rank, tie, condition, x64):
    rng = np.random.default_rng(rank)
    x = np.eye(widths[0])
    y = rng.normal(size=(widths[-1], rank)) @ rng.normal(size=(rank, widths[0])) / 8
    y = orthogonal(rng, rank) if tie else y
    minimum = linear_minimum(widths, x, y)
    assert minimum.margins.tied == tie
    p, q = (random_minimum(rng, widths, x, y, condition=condition) for _ in range(2))
    path = minimum.path(matched(minimum, p, q), q)
    assert path.error < 1e-10


CASES = [
    ((3, 2, 4, 2, 3), np.diag([3.0, 2.0, 1.0])),
    ((3, 2, 2, 2, 3), np.eye(3)),
    ((3, 4, 4, 3), np.diag([2.0, 1.0, 0.0])),
]


@pytest.mark.parametrize(("widths", "y"), CASES, ids=["bottleneck", "tie", "rank"])
def test_thm_3_1_and_where_its_hypothesis_fails(widths, y, x64):
    """The path is a continuous image of [0, 1]: it keeps the loss and the component.

    Under jit and vmap, from p to q exactly. A curve with a jump (the hypothesis fails) leaves the
    component.
    """
    rng = np.random.default_rng(7)
    x = rng.normal(size=(3, 5)) if widths[1] == 4 else np.eye(3)
    y = y @ x
    minimum = linear_minimum(widths, x, y)
    p, q = (random_minimum(rng, widths, x, y) for _ in range(2))
    p = matched(minimum, p, q)
    path = minimum.path(p, q)
    times = jnp.linspace(0.0, 1.0, 1201)
    points = eqx.filter_jit(lambda c, t: jax.vmap(c)(t))(path, times)
    points = [np.asarray(w) for w in points]
    for w, a, b in zip(points, p, q, strict=True):
        np.testing.assert_array_equal(w[0], a)
        np.testing.assert_array_equal(w[-1], b)
    losses = np.sum((product(points) @ x - y) ** 2, axis=(1, 2))
    np.testing.assert_allclose(losses, minimum.value, atol=1e-12)
    # Continuous: every step is short, and halves with the spacing.
    step = lambda k: max(np.abs(np.diff(w[::k], axis=0)).max() for w in points)
    assert step(1) < 0.6 * step(2) < 0.36 * step(4) * 1.2
    labels = {tuple(minimum.label(w)) for w in zip(*(w[::100] for w in points), strict=True)}
    assert len(labels) == 1
    if minimum.margins.b:
        other = (p[0][[1, 0]], p[1][:, [1, 0]], *p[2:])
        assert not minimum.connected(p, other) or minimum.margins.b == 1


def test_a_tie_seen_through_data_that_are_mostly_out_of_reach(x64):
    """Y outside the rows of X makes the tolerance wider than the seen singular values have it."""
    rng = np.random.default_rng(17)
    x = np.concatenate([np.eye(3), np.zeros((3, 1))], axis=1)
    y = np.concatenate([np.diag([1.0, 1.0 + 3e-11, 1.0]), np.full((3, 1), 1e6)], axis=1)
    minimum = linear_minimum((3, 2, 2, 3), x, y)
    assert (minimum.count, minimum.margins.tied) == (2, True)
    p, q = (random_minimum(rng, (3, 2, 2, 3), x, y, plane=orthogonal(rng, 3)) for _ in range(2))
    assert minimum.path(matched(minimum, p, q), q).error < 1e-9


def test_a_path_in_float32_and_outside_its_interval():
    rng = np.random.default_rng(8)
    widths, x, y = (3, 3, 3), np.eye(3, dtype=np.float32), np.diag([3.0, 2.0, 1.0])
    minimum = linear_minimum(widths, x, np.float32(y))
    p, q = (
        tuple(jnp.asarray(w, jnp.float32) for w in random_minimum(rng, widths, np.eye(3), y))
        for _ in range(2)
    )
    path = minimum.path(matched(minimum, p, q), q)
    assert path.error < 1e-5
    assert {w.dtype for w in path(0.3)} == {jnp.dtype("float32")}
    assert all(jnp.isnan(w).all() for w in jax.jit(lambda t: path(t))(1.5))
    with pytest.raises(ValueError, match=r"`t` must lie in \[0, 1\]"):
        path(1.5)


def test_an_approximate_minimum_goes_down_first():
    """With a tolerance: the ends stay what they are, the middle is on the minimum."""
    rng = np.random.default_rng(9)
    widths, y = (3, 2, 3), np.diag([3.0, 2.0, 1.0])
    minimum = linear_minimum(widths, np.eye(3), y)
    p, q = (random_minimum(rng, widths, np.eye(3), y) for _ in range(2))
    p = tuple(w + 0.01 * rng.normal(size=w.shape) for w in matched(minimum, p, q))
    with pytest.raises(ValueError, match="`p` is no minimum"):
        minimum.path(p, q)
    path = minimum.path(p, q, tolerance=0.1)
    loss = lambda t: float(np.sum((product([np.asarray(w) for w in path(t)]) - y) ** 2))
    assert 1e-4 < path.start_error == path.error < 0.1
    assert loss(0.0) - minimum.value > 1e-5
    for t in (1 / 3, 0.5, 0.9):
        assert abs(loss(t) - minimum.value) < 1e-5


# Theorem M of docs/theory.md, worked by hand: the height for labels that all differ, and (where
# there are two critical layers) for one that differs.
HEIGHTS = [
    ((3, 3, 3), [3, 2, 0.5], 0.25, None),
    ((3, 3, 3, 3), [3, 2, 1.5], 2.25, 2.25),
    ((2, 1, 2), [2, 1], 3.0, None),
    ((2, 1, 1, 2), [2, 1], 3.0, 4.0),
    ((3, 2, 5, 2, 3), [3, 2, 1], 3.0, 4.0),
    ((3, 2, 2, 3), [3, 2, 2], 0.0, 4.0),
    ((2, 1, 2), [2, 0], 4.0, None),
    ((2, 2, 3), [3, 2], 4.0, None),
    ((3, 2, 2), [3, 2], 4.0, None),
    ((1, 1, 1, 1), [2], 4.0, 4.0),
]


def with_signs(minimum, q, layers):
    """q reflected at some critical layers: the same product, those labels changed."""
    weights = list(q)
    for i in layers:
        mirror = np.eye(len(weights[i - 1]))
        mirror[0, 0] = -1
        weights[i - 1], weights[i] = mirror @ weights[i - 1], weights[i] @ mirror
    return tuple(weights)


@pytest.mark.parametrize(("widths", "sigma", "all_differ", "one_differs"), HEIGHTS)
def test_heights_of_the_table(widths, sigma, all_differ, one_differs):
    rng = np.random.default_rng(10)
    columns = max(widths[0], widths[-1])
    x, y = np.eye(widths[0], columns), np.zeros((widths[-1], columns))
    y[range(len(sigma)), range(len(sigma))] = sigma
    minimum = linear_minimum(widths, x, y)
    q = random_minimum(rng, widths, x, y)
    layers = minimum.margins.layers
    assert minimum.barrier(q, q).value == 0
    height = minimum.barrier(with_signs(minimum, q, layers), q)
    np.testing.assert_allclose((height.value, height.level - minimum.value), all_differ)
    if one_differs is not None:
        height = minimum.barrier(with_signs(minimum, q, layers[:1]), q)
        np.testing.assert_allclose(height.value, one_differs)


def loss_maximum(vertices, y):
    """The exact largest |W_l ... W_1 - Y|^2 on a broken line: a polynomial on each segment."""
    degree = 2 * len(vertices[0])
    nodes = (1 - np.cos(np.pi * np.arange(degree + 1) / degree)) / 2
    worst = 0.0
    for p, q in itertools.pairwise(vertices):
        at = lambda t, p=p, q=q: np.sum(
            (product([(1 - t) * a + t * b for a, b in zip(p, q, strict=True)]) - y) ** 2
        )
        polynomial = np.polynomial.Polynomial.fit(nodes, [at(t) for t in nodes], degree, [0, 1])
        roots = polynomial.deriv().roots()
        inside = roots.real[(np.abs(roots.imag) < 1e-6) & (roots.real > 0) & (roots.real < 1)]
        worst = max([worst, *(at(t) for t in (0.0, 1.0, *inside))])
    return worst


def over_the_pass(minimum, widths, y, p, q):
    """An explicit broken line at the height sigma_r'^2: shrink sigma_r' to 0, cross, and grow."""
    r = minimum.margins.r_prime
    left = np.linalg.svd(y)[0][:, r - 1 : r]
    down = lambda w, s: (*w[:-1], w[-1] - (1 - s) * left @ (left.T @ w[-1]))
    low = product(down(q, 0.0))
    inner = linear_minimum(widths, np.eye(widths[0]), low)
    assert inner.count == 1
    crossing = inner.path(down(p, 0.0), down(q, 0.0))
    times = np.linspace(0, 1, 1501)
    points = jax.jit(jax.vmap(crossing))(jnp.asarray(times))
    middle = list(zip(*(np.asarray(w) for w in points), strict=True))
    return [p, *middle, q]


def by_half_a_turn(minimum, widths, y, p, q):
    """At the height sigma_r'^2 - sigma_(r'+1)^2: turn the r'-th singular vectors by pi; join."""
    r = minimum.margins.r_prime
    left, sigma, right = np.linalg.svd(y)
    a, b = sigma[r - 1], sigma[r]

    def turned(angle):
        u, v = np.eye(widths[-1]), np.eye(widths[0])
        block = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        u[r - 1 : r + 1, r - 1 : r + 1] = v[r - 1 : r + 1, r - 1 : r + 1] = block
        u, v = left @ u, right.T @ v
        scale = np.ones(widths[-1])
        scale[r - 1] = (a * np.cos(angle) ** 2 + b * np.sin(angle) ** 2) / a
        middle = [p[0] @ right.T @ v.T, *p[1:]]
        middle[-1] = u @ np.diag(scale) @ left.T @ middle[-1]
        return tuple(middle)

    turn = [turned(angle) for angle in np.linspace(0, np.pi, 200)]
    path = minimum.path(turn[-1], q)
    points = jax.jit(jax.vmap(path))(jnp.linspace(0.0, 1.0, 1501))
    return [*turn, *zip(*(np.asarray(w) for w in points), strict=True)]


def optimised(vertices, y, *, steps=400):
    """Bend a broken line downwards: descent on a soft maximum of its loss, finely sampled."""
    import optax

    inner = tuple(jnp.asarray(np.stack(w[1:-1])) for w in zip(*vertices, strict=True))
    ends = [tuple(jnp.asarray(w)[None] for w in vertices[i]) for i in (0, -1)]
    shares = jnp.linspace(0.0, 1.0, 17)[:, None, None, None]

    def energy(inner):
        line = [jnp.concatenate([a, w, b]) for a, w, b in zip(ends[0], inner, ends[1], strict=True)]
        on = [(1 - shares) * w[None, :-1] + shares * w[None, 1:] for w in line]
        loss = jnp.sum((product(on) - y[None, None]) ** 2, axis=(2, 3))
        return jax.nn.logsumexp(40.0 * loss) / 40.0

    optimiser = optax.adam(0.01)

    @jax.jit
    def run(inner):
        def step(carry, _):
            w, state = carry
            updates, state = optimiser.update(jax.grad(energy)(w), state, w)
            return (optax.apply_updates(w, updates), state), None

        return jax.lax.scan(step, (inner, optimiser.init(inner)), None, length=steps)[0][0]

    with jax.numpy_dtype_promotion("standard"):
        inner = run(inner)
    middle = list(zip(*(np.asarray(w) for w in inner), strict=True))
    return [vertices[0], *middle, vertices[-1]]


@pytest.mark.parametrize(
    ("widths", "sigma", "route"),
    [
        ((2, 2, 2), [2.0, 1.0], over_the_pass),
        ((2, 1, 2), [2.0, 1.0], by_half_a_turn),
        ((3, 2, 3), [2.0, 1.5, 1.0], by_half_a_turn),
        ((2, 2, 2, 2), [2.0, 1.0], over_the_pass),
    ],
)
def test_the_height_is_reached_and_never_undercut(widths, sigma, route, x64):
    """An explicit path reaches Theorem M's height, and no optimised one gets below it."""
    rng = np.random.default_rng(11)
    y = orthogonal(rng, len(sigma)) @ np.diag(sigma) @ orthogonal(rng, len(sigma))
    minimum = linear_minimum(widths, np.eye(widths[0]), y)
    q = random_minimum(rng, widths, np.eye(widths[0]), y)
    p = matched(minimum, random_minimum(rng, widths, np.eye(widths[0]), y), q)
    p = with_signs(minimum, p, minimum.margins.layers)
    level = minimum.barrier(p, q).level
    explicit = route(minimum, widths, y, p, q)
    assert level * (1 - 1e-9) <= loss_maximum(explicit, y) <= level * 1.01
    # From the chord, and from the explicit path thinned out.
    chord = [
        tuple(
            (1 - t) * a + t * b + 0.05 * rng.normal(size=a.shape) for a, b in zip(p, q, strict=True)
        )
        for t in np.linspace(0, 1, 14)
    ]
    for start in ([p, *chord[1:-1], q], explicit[:: len(explicit) // 13]):
        best = loss_maximum(optimised([p, *start[1:-1], q], y), y)
        assert best >= level * (1 - 1e-9)


def test_a_certified_label_is_that_of_the_minimum_below():
    """Descent from any point below the pass ends in the component that its label names."""
    rng = np.random.default_rng(12)
    widths, y = (2, 2, 2), np.diag([3.0, 2.0])
    minimum = linear_minimum(widths, np.eye(2), y)
    starts = [random_minimum(rng, widths, np.eye(2), y) for _ in range(200)]
    starts = [tuple(w + 0.4 * rng.normal(size=w.shape) for w in p) for p in starts]
    a, b = (np.stack(w) for w in zip(*starts, strict=True))
    for _ in range(4000):
        off = b @ a - y
        a, b = a - 0.01 * b.mT @ off, b - 0.01 * off @ a.mT
    checked = 0
    for p, q in zip(starts, zip(a, b, strict=True), strict=True):
        label, end = minimum.label(p), minimum.label(q)
        if label.decided and end.decided:
            checked += 1
            assert tuple(label) == tuple(end)
        assert bool(label.decided) == (float(label.excess) < 4.0 - float(label.rounding))
    assert checked > 60

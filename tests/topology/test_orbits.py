"""Components of orbits against sampled stabilisers, enumerated groups and explicit sets."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import symjax
from symjax.topology import (
    count_by_grid,
    minimum_bound,
    orbit_bound,
    orbit_components,
    residual_minimum,
    two_layer_orbit_components,
)


def chains(rng, depth, largest=2):
    """A random sum of chains in random bases: every way in which ranks can fail together."""
    density = rng.choice([0.0, 0.1, 0.5])
    present = [
        (a, b)
        for a in range(depth + 1)
        for b in range(a, depth + 1)
        for _ in range(rng.integers(0, largest + 1))
        if rng.random() < density
    ]
    # Every layer needs a unit.
    present += [(0, depth)]
    at = [[k for k, (a, b) in enumerate(present) if a <= i <= b] for i in range(depth + 1)]
    bases = [rng.normal(size=(len(units),) * 2) for units in at]
    weights = []
    for i in range(1, depth + 1):
        link = np.array([[float(k == j) for j in at[i - 1]] for k in at[i]])
        weights.append(bases[i] @ link @ np.linalg.inv(bases[i - 1]))
    return weights


def sampled_count(weights, rng, samples=200):
    """2^(l-1) over the number of sign vectors that elements 1 + E of the stabiliser have.

    E is in the stabiliser's linear space: E_1 W_1 = 0, E_i W_i = W_i E_{i-1}, W_l E_{l-1} = 0.
    """
    widths = [w.shape[0] for w in weights[:-1]]
    sizes = np.cumsum([0, *(d * d for d in widths)])
    columns = []
    for k in range(sizes[-1]):
        flat = np.zeros(sizes[-1])
        flat[k] = 1.0
        e = [flat[s : s + d * d].reshape(d, d) for s, d in zip(sizes[:-1], widths, strict=True)]
        rows = []
        for i, w in enumerate(weights):
            after = e[i] @ w if i < len(e) else np.zeros_like(w)
            before = w @ e[i - 1] if i else np.zeros_like(w)
            rows.append((after - before).ravel())
        columns.append(np.concatenate(rows))
    _, s, vh = np.linalg.svd(np.array(columns).T)
    space = vh[(s > 1e-9 * s.max()).sum() :]
    group = {0}  # sign vectors as bits; whatever products of the samples have
    for _ in range(samples):
        flat = space.T @ rng.normal(size=len(space)) * 10 ** rng.uniform(-1, 2)
        bits = 0
        for s, d in zip(sizes[:-1], widths, strict=True):
            reflects = np.linalg.slogdet(np.eye(d) + flat[s : s + d * d].reshape(d, d))[0] < 0
            bits = 2 * bits + int(reflects)
        group |= {bits ^ other for other in group}
    return 2 ** len(widths) // len(group)


def test_orbits_of_linear_networks_against_their_sampled_stabilisers():
    rng = np.random.default_rng(0)
    seen = set()
    for case in range(90):
        weights = chains(rng, depth=2 + case % 4)
        found = orbit_components(weights)
        assert found.count == sampled_count(weights, rng), [w.shape for w in weights]
        seen.add((len(weights), found.count))
    # All powers of two up to the group's own number.
    assert {(4, 1), (4, 2), (4, 4), (4, 8)} <= seen


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64]))
def test_two_layers_by_sylvester(seed, dtype):
    rng = np.random.default_rng(seed)
    n, h, m = rng.integers(1, 5, size=3)
    low = lambda a, b: rng.normal(size=(a, r := rng.integers(0, 4))) @ rng.normal(size=(r, b))
    v, u = low(h, n).astype(dtype), low(m, h).astype(dtype)
    v[rng.random(h) < 0.3] = 0
    found = orbit_components((v, u))
    rank = np.linalg.matrix_rank
    tol = 1e-4
    attained = rank(u @ v, tol) == rank(u, tol) + rank(v, tol) - h
    assert found.undecided or found.count == (2 if attained else 1)


def test_cor_3_6_no_more_components_than_the_group():
    rng = np.random.default_rng(1)
    for case in range(30):
        weights = chains(rng, depth=2 + case % 3)
        group = symjax.Product([symjax.GeneralLinear(w.shape[0]) for w in weights[:-1]])
        assert orbit_components(weights).count <= orbit_bound(group) == 2 ** (len(weights) - 1)
    # Where no neuron is used a reflection of it fixes the point; with it the bound is exact.
    thin = jnp.diag(jnp.array([1.0, 0.0]))
    reflection = jnp.diag(jnp.array([1.0, -1.0]))
    group = symjax.GeneralLinear(2)
    assert orbit_bound(group, [reflection]) == orbit_components((thin, thin)).count == 1
    # The action must be continuous. R acts on two pieces, x < 0 and x >= 1, by adding in the
    # coordinate that closes the gap: one orbit of two components, more than the one of R.
    close, open_ = (lambda x: x if x < 0 else x - 1), (lambda y: y if y < 0 else y + 1)
    move = lambda g, x: open_(g + close(x))
    assert move(1.5, move(2.0, -3.0)) == move(3.5, -3.0) == 1.5
    orbit = np.array([move(g, -3.0) for g in np.linspace(-5, 5, 1001)])
    pieces = 1 + (np.diff(orbit) > 0.9).sum()
    assert pieces == 2 > orbit_bound(symjax.Translation(1)) == 1


def test_cor_3_7_a_minimum_that_is_one_orbit():
    # W_2 W_1 = Y invertible: the orbit of GL_2, counted as {det W_1 != 0}.
    determinant = lambda x: np.linalg.det(x.reshape(-1, 2, 2))
    assert count_by_grid(determinant, 4).count <= minimum_bound(symjax.GeneralLinear(2)) == 2
    # With a skip the minimum is many orbits of the same GL_1, and has three components.
    one = jnp.ones((1, 1))
    assert residual_minimum(1, ((1,),), one, one).count > minimum_bound(symjax.GeneralLinear(1))


def test_prop_3_8_no_more_components_than_the_pieces():
    # {1 + x y != 0} is cut into {x y != 0} and the cross, which is connected.
    skip, cross = {(): 1.0, (0, 1): 1.0}, 1
    pieces = count_by_grid([skip, {(0,): 1.0}, {(1,): 1.0}], 2).count
    assert count_by_grid(skip, 2).count == 3 <= minimum_bound(pieces, cross) == 7
    # The pieces must be all of the set: two of four quadrants say nothing of it.
    assert count_by_grid({(0, 1): 1.0}, 2).count == 4 > minimum_bound(1, 1)
    open_end = orbit_components((np.eye(2), np.diag([1.0, 3e-14])))
    assert open_end.undecided
    assert minimum_bound(1, open_end) == math.inf


def test_prop_a_8_orbits_decide_nothing_from_below():
    # {0, 1} x R+: each orbit of the scalings is connected, the space is not. Its first coordinate
    # is continuous with values 0 and 1.
    scaling = symjax.PositiveScaling()
    assert minimum_bound(scaling) == 1
    assert minimum_bound(scaling, scaling) == 2
    # The punctured plane under all scalars but 0 is connected, its orbits are not: the group's two
    # components go to opposite rays, which a half turn joins outside the orbit.
    group = symjax.GeneralLinear(1)
    assert minimum_bound(group) == 2
    point = np.array([1.0, 2.0])
    orbit = np.array([g * point for g in (-3.0, -0.1, 0.1, 3.0)])
    assert len(np.unique(np.sign(orbit), axis=0)) == 2
    angles = np.linspace(0, np.pi, 50)
    half_turn = np.stack([[np.cos(a) - 2 * np.sin(a), np.sin(a) + 2 * np.cos(a)] for a in angles])
    np.testing.assert_allclose(half_turn[-1], -point, atol=1e-15)
    assert np.linalg.norm(half_turn, axis=1).min() > 1


def test_groups_with_many_components():
    neurons = symjax.Product([symjax.Permutation(3), symjax.SignFlip(3)])
    assert orbit_bound(neurons) == 48
    swap, cycle = jnp.array([1, 0, 2]), jnp.array([1, 2, 0])
    none = jnp.ones(3, int)
    assert orbit_bound(neurons, [(swap, none)]) == 24
    assert orbit_bound(neurons, [(swap, none), (cycle, none)]) == 8
    with pytest.raises(ValueError, match=r"`stabiliser\[0\]` is not an element"):
        orbit_bound(symjax.GeneralLinear(2), [jnp.zeros((2, 2))])


def enumerated(v, u, flips):
    """The number of different points of a finite orbit, one by one."""
    h = len(v)
    signs = itertools.product((1, -1), repeat=h) if flips else [(1,) * h]
    points = {
        tuple(
            np.concatenate([(s[:, None] * v)[list(p)].ravel(), (u * s)[:, list(p)].ravel()]) + 0.0
        )
        for s in map(np.array, signs)
        for p in itertools.permutations(range(h))
    }
    return len(points)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_two_layer_orbits_against_enumeration(seed, h):
    rng = np.random.default_rng(seed)
    # Small integers: equal, opposite and zero neurons are common.
    v, u = rng.integers(-1, 2, size=(h, 1)), rng.integers(-1, 2, size=(1, h))
    assert two_layer_orbit_components(v, u, "permutations").count == enumerated(v, u, False)
    assert two_layer_orbit_components(v, u, "odd").count == enumerated(v, u, True)
    # A rescaling orbit has one point with v = 0, u = +-1 or |v| = 1 for each neuron.
    for degree in (1.0, 2.0):
        c = 2.0 ** rng.integers(-2, 3, size=h)
        found = two_layer_orbit_components(
            c[:, None] * v, u / c**degree, "homogeneous", degree=degree
        )
        assert found.count == enumerated(v, u, False)
        assert found.dimension == ((v[:, 0] != 0) | (u[0] != 0)).sum()


def test_two_layer_orbit_of_different_neurons():
    rng = np.random.default_rng(0)
    v, u = rng.normal(size=(6, 3)), rng.normal(size=(2, 6))
    counts = {
        k: two_layer_orbit_components(v, u, k) for k in ("homogeneous", "odd", "permutations")
    }
    assert [c.count for c in counts.values()] == [720, 720 * 64, 720]
    assert [c.dimension for c in counts.values()] == [6, 0, 0]
    assert all(c.irreducible for c in counts.values())
    # Equal directions can be merged by a homogeneous activation, opposite ones by an odd one.
    v[1], v[3] = 2 * v[0], -v[2]
    irreducible = [two_layer_orbit_components(v, u, k).irreducible for k in counts]
    assert irreducible == [False, False, True]
    assert two_layer_orbit_components(v, u, "homogeneous").count == 720
    near = v.copy()
    near[5] = near[4] * (1 + 1e-14)
    u[:, 5] = u[:, 4]
    found = two_layer_orbit_components(near, u, "permutations")
    assert found.count is None
    assert not found.irreducible
    assert found.margin < 10


def positive_side(sigma, signs=(-1.0, 1.0)):
    """Which of the four quadrants of (w_1, w_2) hold a solution of 2 = w_2 sigma(w_1 3)."""
    return [
        (a, b)
        for a, b in itertools.product(signs, repeat=2)
        if any(abs(b * s * sigma(a * 3 * t) - 2) < 1e-9 for t in (0.5, 1.0, 5.0)
               for s in [2 / max(abs(sigma(a * 3 * t)), 1e-300)])
    ]  # fmt: skip


def test_scalar_networks():
    """y = w_2 sigma(w_1 x): in each quadrant the solutions are a graph over w_1, so connected."""
    assert len(positive_side(lambda z: max(z, 0.0))) == 1
    assert len(positive_side(lambda z: z if z > 0 else 0.1 * z)) == 2
    assert len(positive_side(lambda z: z)) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: orbit_components(()), "at least one matrix"),
        (lambda: orbit_components(3), "`weights` must be a sequence of matrices, got int"),
        (lambda: orbit_components((np.eye(2), np.eye(3))), r"`weights\[1\]` \(3, 3\) does not"),
        (lambda: orbit_components((np.eye(2) * np.nan,)), r"`weights\[0\]` holds a NaN"),
        (lambda: orbit_components((np.eye(2) * 1j,)), r"`weights\[0\]` must be a real matrix"),
        (lambda: minimum_bound(), "at least one piece"),
        (lambda: minimum_bound("two"), r"`orbits\[0\]` must be"),
        (lambda: two_layer_orbit_components(np.eye(2), np.eye(3), "odd"), "share the hidden width"),
        (lambda: two_layer_orbit_components(np.eye(2), np.eye(2), "even"), "`kind` must be one"),
        (
            lambda: two_layer_orbit_components(np.eye(2), np.eye(2), "homogeneous", degree=0.0),
            "`degree` must be positive",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

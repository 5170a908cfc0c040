"""Constructed pairs of minima: every claim against losses and products computed by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax import barriers
from symjax.topology import (
    bounded_pair,
    factorised_pair,
    linear_chart,
    opposite_pair,
    permuted_pair,
    reflected_pair,
    rescaled_pair,
)

TIMES = np.linspace(0, 1, 1001)
ACTIVATIONS = {
    1.0: lambda z: np.where(z > 0, z, 0.2 * z),
    3.0: lambda z: z**3,
    0.5: lambda z: np.sqrt(np.abs(z)),
}


def network(params, x, sigma=None):
    """W_3 sigma(W_2 tanh(W_1 x)): only the last activation is homogeneous."""
    w1, w2, w3 = params
    library = np if sigma is not None else jnp
    return w3 @ (sigma or (lambda z: z))(w2 @ library.tanh(w1 @ x))


def traced(degree):
    one = lambda z: jnp.where(z > 0, z, 0.2 * z)
    sigma = {1.0: one, 3.0: lambda z: z**3, 0.5: lambda z: jnp.sqrt(jnp.abs(z))}[degree]

    def apply(params, x):
        w1, w2, w3 = params
        return w3 @ sigma(w2 @ jnp.tanh(w1 @ x))

    return apply


def losses_along(p, q, x, y, sigma, times=TIMES):
    """The loss at (1 - t) p + t q, in NumPy."""
    points = [[(1 - t) * np.asarray(a) + t * np.asarray(b) for a, b in zip(p, q, strict=True)]
              for t in times]  # fmt: skip
    return np.array([np.sum((network(w, x, sigma) - y) ** 2) for w in points])


def drawn(seed):
    rng = np.random.default_rng(seed)
    params = tuple(rng.normal(size=s) for s in ((4, 3), (5, 4), (2, 5)))
    return params, rng.normal(size=(3, 6)), rng


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("degree", ACTIVATIONS)
def test_rescaled_pairs_reach_the_barrier_asked_for(degree):
    sigma, apply = ACTIVATIONS[degree], traced(degree)
    build = jax.jit(lambda w, x, y, b: rescaled_pair(apply, w, x, y, degree=degree, barrier=b))
    on_curve = jax.jit(lambda pair, t: pair.curve(t))
    for case, barrier in enumerate((0.0, 1e-2, 1.0, 1e5)):
        params, x, rng = drawn(case)
        fitted = network(params, x, sigma)
        # A perfect fit; a network that is no minimum at all; one that overshoots its labels.
        for y in (fitted, fitted + rng.normal(size=fitted.shape), 0.5 * fitted, 2 * fitted):
            pair = build(params, x, y, barrier)
            assert bool(pair.holds)
            assert float(pair.scale) >= 1
            assert (float(pair.scale) == 1) == (barrier == 0)
            start = np.sum((fitted - y) ** 2)
            # Losses are known to rounding: sums of squares of differences of rounded outputs.
            slack = 1e-12 * start + 1e-26 * np.sum(y**2)
            np.testing.assert_allclose(pair.barrier, barrier, rtol=1e-9, atol=slack)
            heights = losses_along(pair.p, pair.q, x, y, sigma) - start
            assert heights.max() <= barrier * (1 + 1e-9) + slack
            at_peak = losses_along(pair.p, pair.q, x, y, sigma, [float(pair.alpha)]) - start
            np.testing.assert_allclose(at_peak, barrier, rtol=1e-9, atol=slack)
            for t in (0.0, 0.3, 1.0):
                point = on_curve(pair, t)
                loss = np.sum((network(tuple(map(np.asarray, point)), x, sigma) - y) ** 2)
                np.testing.assert_allclose(loss, start, rtol=1e-9, atol=slack)
            for a, b in zip(on_curve(pair, 1.0), pair.q, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_rescaled_pairs_say_which_hypothesis_fails():
    params, x, _ = drawn(0)
    apply = traced(1.0)
    y = apply(params, x)
    wrong = rescaled_pair(apply, params, x, y, degree=2.0, barrier=1.0)
    smooth = rescaled_pair(
        lambda w, x: w[2] @ jax.nn.sigmoid(w[1] @ x), (jnp.eye(4), *params[1:]), jnp.eye(4),
        jnp.ones((2, 4)), degree=1.0, barrier=1.0,
    )  # fmt: skip
    zero = (*params[:2], 0 * params[2])
    silent = rescaled_pair(apply, zero, x, y, degree=1.0, barrier=1.0)
    for pair, name in ((wrong, "homogeneous"), (smooth, "homogeneous"), (silent, "output")):
        assert not bool(pair.hypotheses[name])
        assert not bool(pair.holds)
        assert np.isnan(pair.barrier)
    with pytest.raises(ValueError, match="`y` must be like the network's output"):
        rescaled_pair(apply, params, x, y[:1], degree=1.0, barrier=1.0)
    with pytest.raises(ValueError, match="`barrier` must be at least 0"):
        rescaled_pair(apply, params, x, y, degree=1.0, barrier=-1.0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("degree", [1.0, 3.0])
def test_bounded_pairs_come_as_near_to_the_bound_as_asked(degree):
    sigma, apply = ACTIVATIONS[degree], traced(degree)
    params, x, rng = drawn(3)
    limit = 2.5 * max(np.linalg.norm(w) for w in params)
    fitted = network(params, x, sigma)
    build = jax.jit(
        lambda w, y, c, share: bounded_pair(apply, w, x, y, degree=degree, max_norm=c, share=share),
        static_argnums=3,
    )
    for y in (fitted, fitted + rng.normal(size=fitted.shape)):
        found = build(params, y, limit, 0.9)
        bound, start = float(found.bound.value), np.sum((fitted - y) ** 2)
        low = (np.linalg.norm(params[2]) / limit) ** (1 / degree)
        high = limit / np.linalg.norm(params[1])
        highest = []
        for m in np.geomspace(low, high, 13)[1:-1]:
            q = (params[0], m * params[1], m**-degree * params[2])
            highest.append(losses_along(params, q, x, y, sigma, TIMES[::5]).max() - start)
        assert max(highest) < bound
        assert bool(found.pair.holds)
        assert max(float(jnp.linalg.norm(w)) for w in found.pair.q) < limit
        heights = losses_along(params, found.pair.q, x, y, sigma) - start
        np.testing.assert_allclose(heights.max(), found.pair.barrier, rtol=1e-3)
        near = build(params, y, limit, 0.9999)
        assert float(found.pair.barrier) < float(near.pair.barrier) < bound
        assert float(near.pair.barrier) > 0.998 * bound
    # Below the norm of a layer that does not move, or of both that do, nothing is claimed.
    for w, c, name in (
        ((100 * params[0], *params[1:]), limit, "other_layers_fit"),
        (params, 0.1 * limit, "not_vacuous"),
    ):
        found = build(w, fitted, c, 0.9)
        assert not bool(found.pair.hypotheses[name])
        assert np.isinf(found.bound.value)
        assert np.isnan(found.pair.barrier)
    with pytest.raises(ValueError, match="`share` must be between 0 and 1"):
        build(params, fitted, limit, 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_permuted_pairs_keep_their_barrier_under_every_permutation():
    rng = np.random.default_rng(0)
    relu = lambda z: np.maximum(z, 0)
    for barrier in (0.1, 50.0):
        w1, w2, f = rng.normal(size=(4, 3)), rng.normal(size=(2, 4)), rng.normal(size=(3, 5))
        found = permuted_pair(*map(jnp.asarray, (w1, w2, f)), jax.nn.relu, barrier)
        assert bool(found.certified)
        assert not bool(found.violated | found.undecidable)
        y = w2 @ relu(w1 @ f)
        for order in itertools.permutations(range(4)):
            a, b = found.permuted_chord(jnp.array(order))(0.5)
            assert np.sum((y - b @ relu(a @ f)) ** 2) > barrier
        a, b = found.pair.curve(0.6)
        np.testing.assert_allclose(b @ relu(a @ f), y, rtol=1e-12)
    # A squared ReLU, away from zero loss.
    y = y + rng.normal(size=y.shape)
    square = lambda z: jax.nn.relu(z) ** 2
    found = permuted_pair(*map(jnp.asarray, (w1, w2, f)), square, 2.0, degree=2, y=jnp.asarray(y))
    loss = lambda a, b: np.sum((y - b @ relu(a @ f) ** 2) ** 2)
    assert bool(found.certified)
    np.testing.assert_allclose(loss(*found.pair.curve(0.6)), loss(w1, w2), rtol=1e-11)
    for order in itertools.permutations(range(4)):
        assert loss(*found.permuted_chord(jnp.array(order))(0.5)) > loss(w1, w2) + 2.0


def test_permuted_pairs_say_what_is_not_certified():
    f = jnp.array([[0.0], [1.0], [1.0]])
    killed = permuted_pair(jnp.eye(3), jnp.array([[1.0, -1.0, 0.0]]), f, jax.nn.relu, 1.0)
    assert bool(killed.violated)
    thin = permuted_pair(jnp.eye(12), jnp.ones((1, 12)), jnp.ones((12, 1)), jax.nn.relu, 1.0)
    assert bool(thin.undecidable)
    for found in (killed, thin):
        assert not bool(found.certified)
        assert not bool(found.pair.hypotheses["separated"])
        assert np.isnan(found.pair.barrier)
        for a, b in zip(found.pair.p, found.pair.q, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"`w_prev` \(3, 3\) and `features` \(2, 1\) do not chain"):
        permuted_pair(jnp.eye(3), jnp.ones((1, 3)), jnp.ones((2, 1)), jax.nn.relu, 1.0)


@pytest.mark.usefixtures("x64")
def test_factorised_pairs_have_a_far_midpoint():
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    for distance in (0.5, 20.0):
        pair = factorised_pair(jnp.asarray(w1), jnp.asarray(w2), distance)
        np.testing.assert_allclose(pair.barrier, distance, rtol=1e-9)
        for t in (0.0, 0.4, 1.0):
            v1, v2 = pair.curve(t)
            np.testing.assert_allclose(v1 @ v2, w1 @ w2, rtol=1e-10, atol=1e-12)
        for a, b in zip(pair.curve(1.0), pair.q, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        # No nearer factorisation among those of the orbit near the midpoint.
        c1, c2 = pair.chord(0.5)
        for _ in range(50):
            g = np.eye(4) + 0.3 * rng.normal(size=(4, 4))
            gap = np.hypot(np.linalg.norm(c1 - w1 @ np.linalg.inv(g)), np.linalg.norm(c2 - g @ w2))
            assert gap > distance
    eye = jnp.eye(3)
    square = factorised_pair(eye, eye, 5.0)
    exact = barriers.identity_factorisation_distance(3, square.scale)
    assert float(square.barrier) <= float(exact)
    nothing = factorised_pair(0 * eye, eye, 5.0)
    assert not bool(nothing.hypotheses["product"])
    assert np.isnan(nothing.barrier)


def two_minima(rng, h, flip):
    """X, Y and two solutions of W_2 W_1 X = Y, of opposite sign of det W_1 if ``flip``."""
    x, y = rng.normal(size=(2, h, h))
    found = []
    for wanted in (1.0, -1.0 if flip else 1.0):
        w1 = rng.normal(size=(h, h))
        w1[0] *= wanted * np.sign(np.linalg.det(w1))
        found.append((w1, y @ np.linalg.inv(w1 @ x)))
    return x, y, *found


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("h", [1, 3])
def test_lemma_5_1_a_reflection_joins_what_was_apart(h):
    rng = np.random.default_rng(h)
    build = jax.jit(lambda p, q, x, y, g: reflected_pair(p, q, x, y, g=g))
    points = jax.jit(lambda pair, ts: jax.vmap(pair.curve)(ts))
    swap = np.eye(h)[[1, 0, *range(2, h)]] if h > 1 else -np.eye(1)
    for g in (swap, np.diag([-2.0] + [0.5] * (h - 1))):
        x, y, p, q = two_minima(rng, h, flip=True)
        pair = build(p, q, x, y, g)
        assert bool(pair.holds)
        np.testing.assert_array_equal(pair.p[0], g @ p[0])
        v, u = points(pair, jnp.asarray(TIMES[::50]))
        products = np.asarray(u @ v @ x)
        np.testing.assert_allclose(products, np.broadcast_to(y, products.shape), rtol=1e-7)
        assert len(np.unique(np.sign(np.linalg.det(v)))) == 1
        for end, target in zip((v[-1], u[-1]), q, strict=True):
            np.testing.assert_allclose(end, target, rtol=1e-8, atol=1e-9)
        line = [
            [
                (1 - t) * np.asarray(a) + t * np.asarray(b)
                for a, b in zip(pair.p, pair.q, strict=True)
            ]
            for t in TIMES[::10]
        ]
        losses = [np.sum((b @ a @ x - y) ** 2) for a, b in line]
        assert 0.9 * float(pair.barrier) <= max(losses) <= float(pair.barrier) * (1 + 1e-9)
    # A g that does not reflect, points that were not apart, a point that is no minimum.
    assert not bool(build(p, q, x, y, np.eye(h)).hypotheses["reflects"])
    assert np.isnan(points(build(p, q, x, y, np.eye(h)), jnp.asarray(TIMES[::50]))[0]).all()
    x, y, p, q = two_minima(rng, h, flip=False)
    same = build(p, q, x, y, g)
    assert not bool(same.hypotheses["apart"])
    off = build(p, (q[0], 1.01 * q[1]), x, y, g)
    assert not bool(off.hypotheses["zero_loss"])
    assert np.isnan(off.barrier)
    with pytest.raises(ValueError, match=r"`q\[1\]` must be a square matrix"):
        reflected_pair(p, (q[0], np.ones((h, h + 1))), x, y)


@pytest.mark.usefixtures("x64")
def test_opposite_pairs_are_minima_in_two_components():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 7))
    weights = tuple(rng.normal(size=s) for s in ((2, 3), (4, 2), (5, 4)))
    y = weights[2] @ weights[1] @ weights[0] @ x
    build = jax.jit(lambda w, x, y, g: opposite_pair(w, x, y, g=g))
    default = np.diag([-1.0, 1.0])
    pair = build(weights, x, y, default)
    assert bool(pair.holds)
    np.testing.assert_array_equal(pair.q[0], default @ weights[0])
    np.testing.assert_allclose(pair.q[2] @ pair.q[1] @ pair.q[0] @ x, y, rtol=1e-10, atol=1e-12)
    # The sign that no path of minima changes: det of W_1 on the row space of the product.
    basis = np.linalg.svd(weights[2] @ weights[1] @ weights[0])[2][:2].T
    signs = [np.linalg.slogdet(np.asarray(w[0]) @ basis)[0] for w in (pair.p, pair.q)]
    assert signs[0] == -signs[1]
    losses = []
    for t in TIMES[::20]:
        a, b, c = (
            (1 - t) * np.asarray(v) + t * np.asarray(w) for v, w in zip(pair.p, pair.q, strict=True)
        )
        losses.append(np.sum((c @ b @ a @ x - y) ** 2))
    assert 0.9 * float(pair.barrier) <= max(losses) <= float(pair.barrier) * (1 + 1e-9)
    assert not bool(build(weights, x, y, np.eye(2)).hypotheses["reflects"])
    assert not bool(build(weights, x, y + 0.1, default).hypotheses["zero_loss"])
    # Layer 2 is wider than the rank: reflecting there stays in the component.
    wide = jax.jit(lambda w, x, y: opposite_pair(w, x, y, layer=2))(weights, x, y)
    assert not bool(wide.hypotheses["full_rank"])
    with pytest.raises(ValueError, match="`layer` must be one of the 2 hidden layers"):
        opposite_pair(pair.p, x, y, layer=3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_decides_hypotheses_in_float32(dtype):
    one = jnp.eye(2, dtype=dtype)
    assert bool(opposite_pair((one, one), one, one).holds)
    off = opposite_pair((one, one), one, one * 0.9)
    # Each of the four matrices is rounded once, by a half unit: 0.04 in bfloat16, and not 0.1.
    assert not bool(off.hypotheses["zero_loss"])
    assert bool(jnp.isnan(off.barrier))
    chart = linear_chart((3 * one,), one, one)
    assert all(w.dtype == dtype for w in chart)
    np.testing.assert_array_equal(np.asarray(chart[1], float), np.eye(2) * float(dtype(1 / 3)))

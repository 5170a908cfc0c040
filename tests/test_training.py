"""Optimisers reach known minima, say how far they stopped, and refuse what they cannot train."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from symjax import networks
from symjax.curves import bezier_curve, polygonal_chain
from symjax.training import minimise, solve_last_layer, train_curve

from .helpers import assert_close, eps, slow_among

OPTIMISERS = {
    "sgd": optax.sgd(0.05),
    "momentum": optax.sgd(0.02, momentum=0.8),
    "adam": optax.adam(optax.exponential_decay(0.1, 100, 0.8)),
    "lbfgs": optax.lbfgs(),
}


X = jax.random.normal(jax.random.key(5), (3, 6))


def quadratic(w):
    """A bowl with curvatures 1, 4 and 9 and its minimum, 0, at (1, 2, 3)."""
    return 0.5 * jnp.sum(jnp.array([1.0, 4.0, 9.0]) * (w["a"] - jnp.array([1.0, 2.0, 3.0])) ** 2)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_reaches_the_minimum_of_a_bowl(name):
    start = {"a": jnp.zeros(3)}
    found = minimise(quadratic, start, optimiser=OPTIMISERS[name], steps=3000, tolerance=1e-4)
    assert bool(found.converged)
    assert 0 < int(found.steps) < 3000
    # The gradient is the curvature, at least 1, times the distance; at the start it is 28.2.
    distance = float(jnp.linalg.norm(found.params["a"] - jnp.array([1.0, 2.0, 3.0])))
    assert distance <= float(found.gradient_norm) * (1 + 1e-4) <= 29e-4
    assert float(found.relative_gradient_norm) <= 1e-4
    assert float(found.loss) == float(quadratic(found.params))


def sharpness_aware(**options):
    inner = optax.chain(optax.contrib.normalize(), optax.sgd(0.01))
    return optax.contrib.sam(optax.sgd(0.1), inner, sync_period=2, **options)


@pytest.mark.parametrize(
    "optimiser",
    [
        sharpness_aware(),
        pytest.param(sharpness_aware(opaque_mode=True), marks=pytest.mark.slow),
        pytest.param(optax.chain(sharpness_aware(), optax.scale(1.0)), marks=pytest.mark.slow),
    ],
    ids=["visible", "opaque", "chain"],
)
def test_sharpness_aware_steps_reach_the_bottom_of_a_bowl(optimiser):
    bowl = lambda w: jnp.sum((w - 3.0) ** 2)
    found = minimise(bowl, jnp.zeros(2), optimiser=optimiser, steps=200)
    # They circle the minimum at the radius of the inner step, 0.01.
    assert float(found.loss) <= 2 * 0.01**2
    np.testing.assert_allclose(found.gradient_norm, 2 * jnp.sqrt(found.loss), rtol=1e-5)


def test_an_optimiser_of_another_kind_is_named():
    odd = optax.GradientTransformationExtraArgs(lambda p: (), lambda u, s, p, *, other: (u, s))
    with pytest.raises(ValueError, match="`optimiser` takes none of the arguments"):
        minimise(jnp.sum, jnp.zeros(2), optimiser=odd, steps=2)


NETWORKS = {
    "linear": (networks.linear, (3, 4, 4, 2)),
    "two_layer": (networks.two_layer(jax.nn.sigmoid), (3, 8, 2)),
    "homogeneous": (networks.homogeneous(jax.nn.leaky_relu), (3, 8, 8, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_among(NETWORKS, "linear", "two_layer"))
def test_batches_of_the_papers_networks_reach_a_zero_loss(name):
    apply, widths = NETWORKS[name]
    teacher = networks.random_weights(jax.random.key(0), widths)
    loss = networks.squared_loss(apply, X, apply(teacher, X))
    train = partial(minimise, loss, optimiser=optax.lbfgs(), steps=1000, tolerance=5e-4)
    start = jax.vmap(lambda k: networks.random_weights(k, widths))(
        jax.random.split(jax.random.key(1), 3)
    )
    found = jax.jit(jax.vmap(train))(start)
    assert jax.tree.map(jnp.shape, found.params) == jax.tree.map(jnp.shape, start)
    assert found.converged.all()
    assert (found.loss < 1e-3 * jax.vmap(loss)(start)).all()
    assert len(set(found.steps.tolist())) > 1, "each network stops on its own tolerance"


def test_batch_agrees_with_one_network():
    start = jax.random.normal(jax.random.key(0), (3, 3))
    train = jax.jit(
        lambda w: minimise(quadratic, {"a": w}, optimiser=optax.sgd(0.1), tolerance=1e-3)
    )
    together = jax.vmap(train)(start)
    for i in range(3):
        alone = train(start[i])
        assert int(alone.steps) == int(together.steps[i])
        # Compiled twice, the hundred or so steps round differently in the last bits.
        assert_close(alone.params["a"], together.params["a"][i], atol=100 * eps(jnp.float32))


def test_stops_are_told_apart():
    start = {"a": jnp.zeros(3)}
    train = partial(minimise, quadratic, start)
    short = train(optimiser=optax.sgd(0.05), steps=3)
    assert (int(short.steps), bool(short.converged)) == (3, False)
    aimed = train(optimiser=optax.sgd(0.05), target=1.0)
    assert bool(aimed.converged)
    assert float(aimed.loss) <= 1.0
    diverged = train(optimiser=optax.sgd(10.0), steps=1000)
    assert int(diverged.steps) < 1000
    assert not bool(diverged.converged)
    assert not np.isfinite(float(diverged.loss))
    every = train(optimiser=optax.sgd(0.05), steps=500, tolerance=0)
    assert (int(every.steps), bool(every.converged)) == (500, False)


def test_start_at_a_minimum_takes_no_step():
    found = minimise(quadratic, {"a": jnp.array([1.0, 2.0, 3.0])}, optimiser=optax.adam(0.1))
    assert (int(found.steps), bool(found.converged)) == (0, True)
    assert float(found.relative_gradient_norm) == 0.0


def test_half_precision_is_trained_in_float32():
    # In bfloat16 a step of 1e-3 of the weight is lost to rounding; in float32 it is not.
    def loss(w):
        return jnp.sum((w.astype(jnp.float32) - 3.0) ** 2)

    found = minimise(loss, jnp.ones(2, jnp.bfloat16), optimiser=optax.sgd(2e-4), steps=20_000)
    assert found.params.dtype == jnp.bfloat16
    assert found.params.tolist() == [3.0, 3.0]
    assert float(found.loss) == 0.0


def test_last_layer_against_least_squares(x64):
    rng = np.random.default_rng(0)
    u, s, y = rng.normal(size=(4, 6)), rng.normal(size=(6, 9)), rng.normal(size=(4, 9))
    best = solve_last_layer(*map(jnp.asarray, (u, s, y)))
    expected = np.linalg.lstsq(s.T, y.T)[0].T
    assert_close(best.weights, expected, atol=1e-12)
    excess = np.sum((u @ s - y) ** 2) - np.sum((expected @ s - y) ** 2)
    # A difference of two sums of about 50 squares.
    assert float(best.excess) == pytest.approx(excess, rel=1e-12)


def test_last_layer_of_too_few_samples_moves_least(x64):
    rng = np.random.default_rng(1)
    u, s, y = rng.normal(size=(2, 6)), rng.normal(size=(6, 3)), rng.normal(size=(2, 3))
    best = solve_last_layer(*map(jnp.asarray, (u, s, y)))
    assert_close(best.weights @ s, y, atol=1e-12)
    assert_close(best.weights, u + (y - u @ s) @ np.linalg.pinv(s), atol=1e-12)
    again = solve_last_layer(best.weights, jnp.asarray(s), jnp.asarray(y))
    assert float(again.excess) < 1e-24


def test_last_layer_with_features_that_vanish():
    best = solve_last_layer(jnp.ones((2, 3)), jnp.zeros((3, 4)), jnp.ones((2, 4)))
    assert_close(best.weights, jnp.ones((2, 3)))
    assert float(best.excess) == 0.0


@pytest.mark.parametrize("family", [bezier_curve, polygonal_chain])
def test_trained_curve_goes_round_the_hill(family):
    # The minimum is the unit circle; between (1, 0) and (0, 1) the chord's middle has loss 1/4.
    def loss(w):
        return (jnp.sum(w**2) - 1.0) ** 2

    train = partial(
        train_curve, loss, optimiser=optax.adam(0.01), steps=1500, bends=2, family=family
    )
    a, b = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    curve = jax.jit(lambda a, b, k: train(a, b, key=k))(a, b, jax.random.key(0))
    assert_close((curve(0.0), curve(1.0)), (a, b), atol=eps(jnp.float32))
    losses = jax.vmap(lambda t: loss(curve(t)))(jnp.linspace(0.0, 1.0, 51))
    assert float(losses.max()) < 0.05


def bad(**changes):
    arguments = {"loss": quadratic, "params": {"a": jnp.zeros(3)}, "optimiser": optax.sgd(0.1)}
    arguments |= changes
    return lambda: minimise(arguments.pop("loss"), arguments.pop("params"), **arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (bad(params={"a": jnp.array([0.0, jnp.nan, 0.0])}), "`params` holds a NaN .* leaf 'a'"),
        (bad(params={"a": jnp.arange(3)}), "leaf 'a' is int32"),
        (bad(params={}), "no arrays"),
        (bad(tolerance=1e-9), "`tolerance` is 1e-09, below the reach"),
        (bad(tolerance=-1.0), "`tolerance`"),
        (bad(steps=-1), "`steps`"),
        (bad(steps=2.5), "`steps`"),
        (bad(loss=lambda w: w["a"]), "`loss` must return one real number"),
        (
            lambda: solve_last_layer(jnp.ones((2, 3)), jnp.ones((4, 5)), jnp.ones((2, 5))),
            "`features`",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end": jnp.ones(3)}, "`start` and `end`"),
        ({"end": jnp.array([1.0, jnp.nan])}, "`end` holds a NaN"),
        ({"bends": 0}, "`bends`"),
    ],
)
def test_bad_curve_is_named(changes, message):
    ends = {"start": jnp.ones(2), "end": jnp.ones(2)} | changes
    with pytest.raises(ValueError, match=message):
        train_curve(jnp.sum, key=jax.random.key(0), optimiser=optax.sgd(0.1), **ends)

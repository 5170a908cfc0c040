"""Figure 3(a): padding changes no number, training descends on every shape, Prop. 6.1 holds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from symjax.bounds import output_change
from symjax.studies import figure3a
from symjax.studies._buckets import wasted_arithmetic
from symjax.studies._moved_networks import (
    RANK_CUT,
    Shape,
    arithmetic,
    as_network,
    compiled_expm,
    compiled_training,
    draw_weights,
    lipschitz_estimate,
    move,
    pad_network,
)
from symjax.studies._sampling import measure
from symjax.studies.figure3a import Config

SMALL = {"networks": 12, "largest": 14, "steps": 40, "buckets": 2}
PADDED = Shape(14, 15, 16)
CUT = RANK_CUT["float32"]


def outcome_at(shape, weights, *, steps, element="gaussian"):
    """Train one network at a padded shape, move and measure it at its own."""
    dtype = str(weights[0].dtype)
    before, g = as_network(weights, 1.0), weights[-1]
    trained = compiled_training(shape, dtype)(pad_network(before, shape), np.int32(steps))
    (m, h), k = before.u.shape, before.y.shape[1]
    after = pad_network(jax.device_get(trained), Shape(m, h, k))
    return move(before, after, compiled_expm(15, dtype)(g) if element == "exponential" else g, CUT)


def numpy_training(weights, rate, steps):
    """Full-batch gradient descent of |U sigmoid(V X) - Y|^2 in V and U, derivatives by hand."""
    v, u, x, y, _ = weights
    for _ in range(steps):
        s = 1 / (1 + np.exp(-v @ x))
        r = 2 * (u @ s - y)
        v, u = v - rate * ((u.T @ r) * s * (1 - s)) @ x.T, u - rate * r @ s.T
    return v, u


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("element", ["gaussian", "exponential"])
def test_padded_networks_train_and_move_as_they_would_alone(element):
    """Kernel and padding against training V itself and `bounds.output_change`."""
    for index in range(3):
        weights = draw_weights(1, index, 2, 14, "float64")
        network = as_network(weights, 1.0)
        outcome = outcome_at(PADDED, weights, steps=40, element=element)
        v, u = numpy_training(weights, float(network.rate), 40)
        _, _, x, y, g = weights
        g = scipy.linalg.expm(g) if element == "exponential" else g
        expected = output_change(*map(jnp.asarray, (u, v, g, x)), jax.nn.sigmoid)
        # 40 steps of sums of at most 16 terms; the projection adds the condition of its basis.
        rtol = 1e-11
        scale = float(expected.value)
        assert outcome.output == pytest.approx(scale, rel=rtol)
        assert outcome.change == pytest.approx(float(expected.change), abs=rtol * scale)
        assert outcome.moved_output == pytest.approx(float(expected.new_norm), rel=rtol)
        residual = u @ (1 / (1 + np.exp(-v @ x))) - y
        assert outcome.loss_after == pytest.approx(np.sum(residual**2), rel=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-4), ("float64", 1e-11)])
def test_padding_changes_no_number_beyond_rounding(dtype, rtol):
    # Tolerances: 40 steps round differently with the shape; a few thousand epsilon of float32.
    with jax.enable_x64(dtype == "float64"):
        weights = draw_weights(3, 5, 2, 14, dtype)
        _, u, x, _, _ = weights
        shape = Shape(*u.shape, x.shape[1])
        assert all(size < padded for size, padded in zip(shape, PADDED, strict=True))
        exact, padded = (outcome_at(s, weights, steps=40) for s in (shape, PADDED))
        assert int(exact.rank) == int(padded.rank)
        for name in ("output", "moved_output", "change", "loss_before", "loss_after"):
            assert np.asarray(getattr(padded, name)).dtype == dtype
            scale = float(getattr(exact, "output" if name == "change" else name))
            assert abs(float(getattr(padded, name)) - float(getattr(exact, name))) <= rtol * scale


@pytest.mark.usefixtures("x64")
def test_padding_stays_where_it_was_put():
    weights = draw_weights(3, 5, 2, 14, "float64")
    before = pad_network(as_network(weights, 1.0), PADDED)
    after = compiled_training(PADDED, "float64")(before, np.int32(40))
    _, u, x, _, _ = weights
    (m, h), k = u.shape, x.shape[1]
    assert (np.asarray(after.z)[h:] == -1e4).all()
    assert (np.asarray(after.z)[:, k:] == -1e4).all()
    assert not np.asarray(after.u)[m:].any()
    assert not np.asarray(after.u)[:, h:].any()


def test_training_lowers_the_loss_on_every_shape():
    corners = itertools.product((2, 30), repeat=4)
    for m, h, n, k in corners:
        rng = np.random.default_rng(0)
        shapes = [(h, n), (m, h), (n, k), (m, k), (h, h)]
        scales = [n**-0.5, h**-0.5, 1, 1, 1]
        weights = tuple(
            (c * rng.standard_normal(s)).astype("float32")
            for c, s in zip(scales, shapes, strict=True)
        )
        outcome = outcome_at(Shape(30, 30, 30), weights, steps=200)
        assert outcome.loss_after < outcome.loss_before, (m, h, n, k)


def test_lipschitz_estimate_bounds_the_gauss_newton_norm():
    """Against the spectral norm of the Jacobian itself, entry by entry."""
    v, u, x, _, _ = draw_weights(0, 1, 4, 12, "float32")

    def output(params):
        return params[1] @ jax.nn.sigmoid(params[0] @ x)

    jacobian = jax.jacobian(output)((jnp.asarray(v), jnp.asarray(u)))
    rows = u.shape[0] * x.shape[1]
    jacobian = np.concatenate([np.asarray(j).reshape(rows, -1) for j in jacobian], axis=1)
    assert 2 * np.linalg.norm(jacobian, 2) ** 2 <= lipschitz_estimate(*u.shape, *x.shape)


def test_numbers_depend_on_seed_and_index_alone():
    """To the bit, whatever the chunk and the number of networks."""
    many = measure(figure3a.study(Config(**SMALL)), chunk=5)
    few = measure(figure3a.study(Config(**SMALL | {"networks": 7})))
    for name, values in few.items():
        np.testing.assert_array_equal(values, many[name][:7])
    other = measure(figure3a.study(Config(**SMALL, seed=1)))
    assert not np.array_equal(other["m"], many["m"])


def test_study_holds_and_compiles_once_a_bucket_and_a_violation_is_reported():
    config = Config(**SMALL)
    compiled_training.cache_clear()
    data = measure(figure3a.study(config), chunk=4)
    assert compiled_training.cache_info().misses == SMALL["buckets"]
    result = figure3a.conclude(config, data)
    assert [s.held for s in result.statements] == [True] * 3
    assert result.statements[0].networks == SMALL["networks"]
    assert result.statements[0].worst_margin > 0
    assert set(data) == set(result.units) == set(figure3a.study(config).scalars())
    assert len(data["rank"]) == SMALL["networks"]
    axes = result.figure(data).axes[0]
    assert "change" in axes.get_xlabel()
    broken = {**data, "change": data["change"].copy()}
    broken["change"][0] = 1.5 * data["output"][0]
    first = figure3a.conclude(config, broken).statements[0]
    assert (first.held, first.held_on) == (False, SMALL["networks"] - 1)
    assert first.worst_margin == pytest.approx(-0.5)


def test_the_default_shapes_waste_little_and_hold_every_network():
    """Of the figure's networks, which they are chosen for, and of 10^4 others."""
    config, sizes = Config(), np.random.default_rng(0).integers(2, 101, (10_000, 3))
    sizes[0] = config.largest
    own = figure3a._sizes(config, range(100))[:, [0, 1, 3]]
    for networks, first, shapes, waste in ((own, 0, 35, 1.5), (sizes, 100, 65, 1.9)):
        indices = np.arange(first, first + len(networks))
        corners, members = figure3a._padded(config, indices, networks)
        assert (corners[members] >= networks).all()
        assert wasted_arithmetic(networks, corners, members, arithmetic) < waste
        assert len(np.unique(members)) < shapes


@pytest.mark.parametrize(("largest", "shapes"), [(2, 1), (16, 2), (32, 15)])
def test_small_networks_share_few_shapes(largest, shapes):
    config, indices = Config(largest=largest), np.arange(400)
    sizes = figure3a._sizes(config, indices)[:, [0, 1, 3]]
    corners, members = figure3a._padded(config, indices, sizes)
    assert (corners[members] >= sizes).all()
    assert len(np.unique(members[:100])) <= shapes
    assert len(np.unique(corners, axis=0)) == len(corners)


def test_later_networks_share_a_program_with_the_first_ones():
    """Networks on both sides of the hundredth: to the bit in any chunks, a shape compiled once."""
    options = {"networks": 104, "largest": 4, "steps": 2}
    config = Config(**options)
    compiled_training.cache_clear()
    data = measure(figure3a.study(config))
    assert compiled_training.cache_info().misses == 1
    assert "number of padded shapes: 1" in " ".join(figure3a.conclude(config, data).notes)
    for name, values in measure(figure3a.study(config), chunk=51).items():
        np.testing.assert_array_equal(values, data[name])


@pytest.mark.parametrize(
    "option",
    [
        {"networks": 0},
        {"steps": 0},
        {"buckets": 0},
        {"largest": 1},
        {"rate": -1.0},
        {"element": "zero"},
        {"dtype": "float16"},
    ],
)
def test_bad_option_is_named(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}`"):
        Config(**option)

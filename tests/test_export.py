"""Everything public that computes can be exported for CPU, CUDA and TPU from any one of them.

A table gives each public function one small call; a test says that no function is missing from it.
Lowering is what is tested: a primitive that one of the platforms lacks fails here, on any machine.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import optax
import pytest

import symjax
from symjax import (
    bands,
    barriers,
    bounds,
    canonical,
    ensembles,
    geometry,
    linalg,
    merging,
    networks,
    topology,
    training,
    transforms,
)

from .public_names import public_objects

PLATFORMS = ("cpu", "cuda", "tpu")
NUMERICAL = (
    "actions",
    "bands",
    "barriers",
    "bounds",
    "canonical",
    "curves",
    "ensembles",
    "geometry",
    "linalg",
    "merging",
    "networks",
    "topology",
    "training",
    "transforms",
)
# `compress` is called by every geometry function on an action, `connecting_logs` by eq. (5).
THROUGH_OTHERS = {"actions.compress", "linalg.connecting_logs"}

SQUARE = 0.1 * jnp.arange(9.0).reshape(3, 3) + jnp.eye(3)
V, U, X, Y = jnp.ones((3, 2)), jnp.ones((2, 3)), jnp.ones((2, 4)), jnp.ones((2, 4))
PAIR = (V, U)
DEEP = symjax.deep_linear_action((2, 3, 2))
NEURONS = symjax.neuron_rescaling_action(3)
SCALES = [symjax.Symmetry("scales", NEURONS, ("0", "1"))]
SCALAR = jnp.asarray(0.5)
TIMES = jnp.linspace(0.0, 1.0, 5)
GROUPS = [
    symjax.GeneralLinear(3),
    symjax.Orthogonal(3),
    symjax.PositiveScaling(),
    symjax.PositiveScaling(3),
    symjax.ComplexScaling(2),
    symjax.Permutation(3),
    symjax.SignFlip(3),
    symjax.Translation(3),
    symjax.Product([symjax.GeneralLinear(2), symjax.PositiveScaling(3)]),
    symjax.Power(symjax.GeneralLinear(2), 3),
    symjax.FixingOnes(symjax.Orthogonal(2)),
]


def exponential(pair, m):
    return symjax.exponential_curve(DEEP, pair, (m,))


def connecting(pair, g):
    return symjax.connecting_curve(DEEP, pair, (g,))


def squared(pair):
    return networks.squared_loss(networks.linear, X, Y)(pair)


def on_curve(function):
    """A function of curves, as one of arrays."""
    return lambda pair, m: function(exponential(pair, m))


def at_half(curve):
    return curve(jnp.asarray(0.5))


def step(transform, **extra):
    """One update of a transformation that reads the parameters."""
    return lambda pair: transform.update(pair, transform.init(pair), pair, **extra)


def near():
    return bounds.chord_deviation(SCALAR, SCALAR, SCALAR)


CALLS = {
    "actions.linear_action": (
        lambda c, w: symjax.linear_action(symjax.PositiveScaling(3), [symjax.Leg(0, 0)])(c, w),
        (jnp.ones(3), V),
    ),
    "actions.deep_linear_action": (lambda g, w: DEEP((g,), w), (SQUARE, PAIR)),
    "actions.rescaling_action": (lambda m, w: symjax.rescaling_action(1)(m, w), (SCALAR, PAIR)),
    "actions.neuron_rescaling_action": (
        lambda c, w: symjax.neuron_rescaling_action(3)(c, w),
        (jnp.ones(3), PAIR),
    ),
    "actions.data_action": (
        lambda g, w: symjax.data_action(jax.nn.sigmoid, X)(g, w),
        (SQUARE, PAIR),
    ),
    "curves.exponential_curve": (on_curve(at_half), (PAIR, SQUARE)),
    "curves.connecting_curve": (lambda w, g: at_half(connecting(w, g)), (PAIR, SQUARE)),
    "curves.chord": (lambda p, q: at_half(symjax.chord(p, q)), (V, V)),
    "curves.bezier_curve": (lambda *p: at_half(symjax.bezier_curve(p)), (V, V, V)),
    "curves.polygonal_chain": (lambda *p: at_half(symjax.polygonal_chain(p)), (V, V, V)),
    "geometry.speed": (on_curve(lambda c: symjax.speed(c, TIMES)), (PAIR, SQUARE)),
    "geometry.curvature": (on_curve(lambda c: symjax.curvature(c, TIMES)), (PAIR, SQUARE)),
    "geometry.length": (on_curve(symjax.length), (PAIR, SQUARE)),
    "geometry.total_curvature": (on_curve(symjax.total_curvature), (PAIR, SQUARE)),
    "geometry.max_curvature": (on_curve(symjax.max_curvature), (PAIR, SQUARE)),
    "geometry.certify": (on_curve(symjax.certify), (PAIR, SQUARE)),
    "linalg.expm": (linalg.expm, (SQUARE,)),
    "linalg.expm_path": (linalg.expm_path, (SQUARE, TIMES)),
    "linalg.logm": (linalg.logm, (SQUARE,)),
    "linalg.has_principal_log": (linalg.has_principal_log, (SQUARE,)),
    "linalg.polar": (linalg.polar, (SQUARE,)),
    "linalg.log_rotation": (linalg.log_rotation, (jnp.eye(3),)),
    "bounds.chord_deviation": (bounds.chord_deviation, (SCALAR,) * 3),
    "bounds.chord_deviation_at": (bounds.chord_deviation_at, (SCALAR,) * 4),
    "bounds.length_chord_deviation": (bounds.length_chord_deviation, (SCALAR,) * 3),
    "bounds.total_curvature_chord_deviation": (
        bounds.total_curvature_chord_deviation,
        (SCALAR,) * 3,
    ),
    "bounds.trivial_chord_deviation": (bounds.trivial_chord_deviation, (SCALAR,) * 2),
    "bounds.sampled_chord_deviation": (on_curve(bounds.sampled_chord_deviation), (PAIR, SQUARE)),
    "bounds.sampled_chord_deviation_at": (
        on_curve(functools.partial(bounds.sampled_chord_deviation_at, SCALAR)),
        (PAIR, SQUARE),
    ),
    "bounds.best_chord_deviation": (
        lambda a, d, k: bounds.best_chord_deviation(a, d, max_curvature=k, length=d),
        (SCALAR,) * 3,
    ),
    "bounds.chord_loss": (lambda c: bounds.chord_loss(c, near()), (SCALAR,)),
    "bounds.smooth_chord_loss": (lambda c: bounds.smooth_chord_loss(c, near()), (SCALAR,)),
    "bounds.two_layer_chord_loss": (
        lambda c: bounds.two_layer_chord_loss(c, c, near()),
        (SCALAR,),
    ),
    "bounds.asymptotic_chord_loss": (
        on_curve(functools.partial(bounds.asymptotic_chord_loss, squared)),
        (PAIR, SQUARE),
    ),
    "bounds.orbit_loss": (bounds.orbit_loss, (SCALAR,) * 5),
    "bounds.output_change": (
        functools.partial(bounds.output_change, sigma=jax.nn.sigmoid),
        (U, V, SQUARE, X),
    ),
    "barriers.loss_along": (
        on_curve(lambda c: barriers.loss_along(squared, c, TIMES)),
        (PAIR, SQUARE),
    ),
    "barriers.barrier": (on_curve(functools.partial(barriers.barrier, squared)), (PAIR, SQUARE)),
    "barriers.rescaling": (barriers.rescaling, (SCALAR,) * 3),
    "barriers.rescaling_witness": (barriers.rescaling_witness, (SCALAR,) * 3),
    "barriers.paper_rescaling": (barriers.paper_rescaling, (SCALAR,) * 3),
    "barriers.permuted_witness": (
        lambda w, z, b: barriers.permuted_witness(w, z, jax.nn.relu, b),
        (U, jnp.ones((3, 4)), SCALAR),
    ),
    "barriers.factorisation_distance": (barriers.factorisation_distance, (U, V, SCALAR)),
    "barriers.factorisation_witness": (barriers.factorisation_witness, (U, V, SCALAR)),
    "barriers.identity_factorisation_distance": (
        functools.partial(barriers.identity_factorisation_distance, 3),
        (SCALAR,),
    ),
    "barriers.linear_chord": (barriers.linear_chord, (PAIR, PAIR, X, Y)),
    "networks.linear": (networks.linear, (PAIR, X)),
    "networks.two_layer": (networks.two_layer(jax.nn.sigmoid), (PAIR, X)),
    "networks.homogeneous": (networks.homogeneous(jax.nn.relu), (PAIR, X)),
    "networks.random_weights": (
        lambda seed: networks.random_weights(jax.random.key(seed), (2, 3, 2)),
        (jnp.asarray(0),),
    ),
    "networks.squared_loss": (squared, (PAIR,)),
    "topology.rescaled_pair": (
        lambda w, b: topology.rescaled_pair(networks.linear, w, X, Y, degree=1, barrier=b),
        (PAIR, SCALAR),
    ),
    "topology.bounded_pair": (
        lambda w, c: topology.bounded_pair(networks.linear, w, X, Y, degree=1, max_norm=c),
        (PAIR, SCALAR),
    ),
    "topology.permuted_pair": (
        lambda v, u, b: topology.permuted_pair(v, u, X, jax.nn.relu, b),
        (V, U, SCALAR),
    ),
    "topology.factorised_pair": (topology.factorised_pair, (U, V, SCALAR)),
    "topology.opposite_pair": (topology.opposite_pair, (PAIR, X, Y)),
    "topology.reflected_pair": (
        lambda p, q: topology.reflected_pair((p, q), (q, p), p, q),
        (SQUARE, SQUARE),
    ),
    "topology.linear_chart": (lambda g, x: topology.linear_chart((g,), x, x), (SQUARE, SQUARE)),
    "topology.inverse_linear_chart": (
        lambda w, x: topology.inverse_linear_chart((w, w), x),
        (SQUARE, SQUARE),
    ),
    "training.minimise": (
        lambda w: training.minimise(squared, w, optimiser=optax.sgd(0.1), steps=3),
        (PAIR,),
    ),
    "training.solve_last_layer": (training.solve_last_layer, (U, jnp.ones((3, 4)), Y)),
    "training.train_curve": (
        lambda p, q, seed: at_half(
            training.train_curve(
                squared, p, q, key=jax.random.key(seed), optimiser=optax.sgd(0.1), steps=3
            )
        ),
        (PAIR, PAIR, jnp.asarray(0)),
    ),
    "canonical.minimum_norm": (functools.partial(canonical.minimum_norm, DEEP), (PAIR,)),
    "canonical.orbit_dimension": (functools.partial(canonical.orbit_dimension, DEEP), (PAIR,)),
    "canonical.orbit_distance": (
        lambda p, q: canonical.orbit_distance(DEEP, p, q, steps=2),
        (PAIR, PAIR),
    ),
    "canonical.audit": (
        lambda w, seed: canonical.audit(NEURONS, squared, w, key=jax.random.key(seed), steps=2),
        (PAIR, jnp.asarray(0)),
    ),
    "merging.reset_statistics": (
        lambda s, x: merging.reset_statistics(lambda s, x: 0.9 * s + 0.1 * x.mean(1), s, [x]),
        (jnp.zeros(2), X),
    ),
    "merging.repair": (
        lambda p, q: merging.repair(
            lambda w: {"z": (w[0] @ X).T}, p, p, q, {"z": [symjax.Leg(0, 0)]}
        ),
        (PAIR, PAIR),
    ),
    "merging.transport_task_vector": (
        lambda p, q: merging.transport_task_vector(SCALES, (jnp.ones(3),), p, q),
        (PAIR, PAIR),
    ),
    "merging.averaging_forecast": (
        lambda w, m: merging.averaging_forecast(
            squared, symjax.exponential_curve(NEURONS, w, m), tolerance=1.0, cells=2
        ),
        (PAIR, jnp.ones(3)),
    ),
    "ensembles.curve_family": (
        lambda p, q: ensembles.curve_family(symjax.chord(p, q), TIMES),
        (PAIR, PAIR),
    ),
    "ensembles.orbit_family": (
        lambda w, seed: ensembles.orbit_family(NEURONS, w, key=jax.random.key(seed), members=2),
        (PAIR, jnp.asarray(0)),
    ),
    "ensembles.data_family": (
        lambda w, seed: ensembles.data_family(
            jax.nn.sigmoid, w, X, key=jax.random.key(seed), members=2
        ),
        (PAIR, jnp.asarray(0)),
    ),
    "ensembles.evaluate_ensemble": (
        ensembles.evaluate_ensemble,
        (jnp.ones((2, 3, 4)), jnp.arange(3)),
    ),
    "bands.nudged_elastic_band": (
        lambda p, q: at_half(
            bands.nudged_elastic_band(squared, p, q, optimiser=optax.sgd(0.1), steps=3).curve
        ),
        (PAIR, PAIR),
    ),
    "bands.geodesic_chain": (
        lambda p, q: at_half(
            bands.geodesic_chain(lambda w: w[1] @ w[0], p, q, optimiser=optax.sgd(0.1), steps=3)
        ),
        (PAIR, PAIR),
    ),
    "transforms.charges": (functools.partial(transforms.charges, DEEP), (PAIR,)),
    "transforms.charge_drift": (functools.partial(transforms.charge_drift, DEEP), (PAIR, PAIR)),
    "transforms.track_charges": (step(transforms.track_charges(DEEP)), (PAIR,)),
    "transforms.quotient_gradient": (step(transforms.quotient_gradient(DEEP)), (PAIR,)),
    "transforms.orbit_constrained": (step(transforms.orbit_constrained(DEEP)), (PAIR,)),
    "transforms.teleport": (
        step(transforms.teleport(NEURONS, every=1), value_fn=squared),
        (PAIR,),
    ),
}


def export(function, *args):
    return jax.export.export(jax.jit(function), platforms=PLATFORMS)(*args)


@pytest.mark.parametrize("name", CALLS)
def test_function_exports(name):
    function, args = CALLS[name]
    assert export(function, *args).platforms == PLATFORMS


def every_method(group, seed):
    """All that a group computes, as one function of a seed."""
    g = group.random(jax.random.key(seed))
    m = group.random_algebra(jax.random.key(seed + 1))
    return (
        group.compose(g, group.inverse(g)),
        group.exp(m),
        group.log(g),
        group.component(g),
        group.contains(g),
        group.connecting_logs(g),
        group.identity(),
    )


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group}")
def test_group_exports(group):
    exported = export(functools.partial(every_method, group), jnp.asarray(0))
    assert exported.platforms == PLATFORMS


def test_an_exported_function_computes_the_same():
    loaded = jax.export.deserialize(export(linalg.logm, SQUARE).serialize())
    assert jnp.array_equal(loaded.call(SQUARE), jax.jit(linalg.logm)(SQUARE))


@pytest.mark.parametrize("name", ["curvature", "speed", "length", "max_curvature"])
def test_gradient_of_geometry_exports(name):
    scalar = lambda pair, m: jnp.sum(
        jax.tree.leaves(
            getattr(geometry, name)(
                exponential(pair, m), *([TIMES] if name in ("curvature", "speed") else [])
            )
        )[0]
    )
    export(jax.grad(scalar), PAIR, SQUARE)


def test_the_table_covers_every_public_function_and_group():
    expected = {
        name.removeprefix("symjax.")
        for name, value in public_objects().items()
        if name.split(".")[1] in NUMERICAL
        and inspect.isroutine(value)
        and "host-only" not in value.__doc__
    }
    assert expected - THROUGH_OTHERS == set(CALLS)
    concrete = {
        value
        for name, value in public_objects().items()
        if name.startswith("symjax.groups.")
        and inspect.isclass(value)
        and not inspect.isabstract(value)
    }
    assert concrete == {type(group) for group in GROUPS}

"""A small call of everything public that computes, in any dtype, for tests of all of it.

`calls` is a table: export, dtypes and the accelerator benchmark read it, and
`test_export.test_the_table_covers_every_public_function_and_group` says that nothing is missing.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import symjax
from symjax import (
    bands,
    barriers,
    bounds,
    canonical,
    ensembles,
    linalg,
    merging,
    networks,
    topology,
    training,
    transforms,
)

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of arrays alone, and its arguments."""

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
DEEP = symjax.deep_linear_action((2, 3, 2))
NEURONS = symjax.neuron_rescaling_action(3)
SCALES = [symjax.Symmetry("scales", NEURONS, ("0", "1"))]


def exponential(pair, m):
    return symjax.exponential_curve(DEEP, pair, (m,))


def connecting(pair, g):
    return symjax.connecting_curve(DEEP, pair, (g,))


def on_curve(function):
    """A function of curves, as one of arrays."""
    return lambda pair, m: function(exponential(pair, m))


def step(transform, **extra):
    """One update of a transformation that reads the parameters."""
    return lambda pair: transform.update(pair, transform.init(pair), pair, **extra)


def calls(array: Callable[[np.ndarray], jax.Array]) -> dict[str, Call]:
    """Every public function by its name; ``array`` makes all numbers of a float64 NumPy array."""
    random = np.random.default_rng(0)
    normal = lambda *shape: array(random.normal(size=shape))
    half, times = array(np.asarray(0.5)), array(np.linspace(0.0, 1.0, 5))
    square = array(0.1 * np.arange(9.0).reshape(3, 3) + np.eye(3))
    rotation = array(np.linalg.qr(random.normal(size=(3, 3)))[0])
    c = array(np.array([0.5, 1.25, 2.0]))
    v, u, x, y, z = normal(3, 2), normal(2, 3), normal(2, 4), normal(2, 4), normal(3, 4)
    pair, other, logits = (v, u), (normal(3, 2), normal(2, 3)), normal(2, 3, 4)
    swap = np.array([1, 0, 2])
    squared = lambda pair: networks.squared_loss(networks.linear, x, y)(pair)
    at_half = lambda curve: curve(half)
    near = lambda: bounds.chord_deviation(half, half, half)
    return {
        "actions.linear_action": (
            lambda c, w: symjax.linear_action(symjax.PositiveScaling(3), [symjax.Leg(0, 0)])(c, w),
            (c, v),
        ),
        "actions.deep_linear_action": (lambda g, w: DEEP((g,), w), (square, pair)),
        "actions.rescaling_action": (lambda m, w: symjax.rescaling_action(1)(m, w), (half, pair)),
        "actions.neuron_rescaling_action": (
            lambda c, w: symjax.neuron_rescaling_action(3)(c, w),
            (c, pair),
        ),
        "actions.data_action": (
            lambda g, w: symjax.data_action(jax.nn.sigmoid, x)(g, w),
            (square, pair),
        ),
        "curves.exponential_curve": (on_curve(at_half), (pair, square)),
        "curves.connecting_curve": (lambda w, g: at_half(connecting(w, g)), (pair, square)),
        "curves.chord": (lambda p, q: at_half(symjax.chord(p, q)), (v, -v)),
        "curves.bezier_curve": (lambda *p: at_half(symjax.bezier_curve(p)), (v, v + v, -v)),
        "curves.polygonal_chain": (lambda *p: at_half(symjax.polygonal_chain(p)), (v, v + v, -v)),
        "geometry.speed": (on_curve(lambda c: symjax.speed(c, times)), (pair, square)),
        "geometry.curvature": (on_curve(lambda c: symjax.curvature(c, times)), (pair, square)),
        "geometry.length": (on_curve(symjax.length), (pair, square)),
        "geometry.total_curvature": (on_curve(symjax.total_curvature), (pair, square)),
        "geometry.max_curvature": (on_curve(symjax.max_curvature), (pair, square)),
        "geometry.certify": (on_curve(symjax.certify), (pair, square)),
        "linalg.expm": (linalg.expm, (square,)),
        "linalg.expm_path": (linalg.expm_path, (square, times)),
        "linalg.logm": (linalg.logm, (square,)),
        "linalg.has_principal_log": (linalg.has_principal_log, (square,)),
        "linalg.polar": (linalg.polar, (square,)),
        "linalg.log_rotation": (linalg.log_rotation, (rotation,)),
        "bounds.chord_deviation": (bounds.chord_deviation, (half,) * 3),
        "bounds.chord_deviation_at": (bounds.chord_deviation_at, (half,) * 4),
        "bounds.length_chord_deviation": (bounds.length_chord_deviation, (half,) * 3),
        "bounds.total_curvature_chord_deviation": (
            bounds.total_curvature_chord_deviation,
            (half,) * 3,
        ),
        "bounds.trivial_chord_deviation": (bounds.trivial_chord_deviation, (half,) * 2),
        "bounds.sampled_chord_deviation": (
            on_curve(bounds.sampled_chord_deviation),
            (pair, square),
        ),
        "bounds.sampled_chord_deviation_at": (
            on_curve(functools.partial(bounds.sampled_chord_deviation_at, half)),
            (pair, square),
        ),
        "bounds.best_chord_deviation": (
            lambda a, d, k: bounds.best_chord_deviation(a, d, max_curvature=k, length=d),
            (half,) * 3,
        ),
        "bounds.chord_loss": (lambda c: bounds.chord_loss(c, near()), (half,)),
        "bounds.smooth_chord_loss": (lambda c: bounds.smooth_chord_loss(c, near()), (half,)),
        "bounds.two_layer_chord_loss": (
            lambda c: bounds.two_layer_chord_loss(c, c, near()),
            (half,),
        ),
        "bounds.asymptotic_chord_loss": (
            on_curve(functools.partial(bounds.asymptotic_chord_loss, squared)),
            (pair, square),
        ),
        "bounds.orbit_loss": (bounds.orbit_loss, (half, half, half, 8 * half, half)),
        "bounds.output_change": (
            functools.partial(bounds.output_change, sigma=jax.nn.sigmoid),
            (u, v, square, x),
        ),
        "barriers.loss_along": (
            on_curve(lambda c: barriers.loss_along(squared, c, times)),
            (pair, square),
        ),
        "barriers.barrier": (
            on_curve(functools.partial(barriers.barrier, squared)),
            (pair, square),
        ),
        "barriers.rescaling": (barriers.rescaling, (half,) * 3),
        "barriers.rescaling_witness": (barriers.rescaling_witness, (half,) * 3),
        "barriers.paper_rescaling": (barriers.paper_rescaling, (half,) * 3),
        "barriers.permuted_witness": (
            lambda w, z, b: barriers.permuted_witness(w, z, jax.nn.relu, b),
            (u, z, half),
        ),
        "barriers.factorisation_distance": (barriers.factorisation_distance, (u, v, half)),
        "barriers.factorisation_witness": (barriers.factorisation_witness, (u, v, half)),
        "barriers.identity_factorisation_distance": (
            functools.partial(barriers.identity_factorisation_distance, 3),
            (half,),
        ),
        "barriers.linear_chord": (barriers.linear_chord, (pair, other, x, y)),
        "networks.linear": (networks.linear, (pair, x)),
        "networks.two_layer": (networks.two_layer(jax.nn.sigmoid), (pair, x)),
        "networks.homogeneous": (networks.homogeneous(jax.nn.relu), (pair, x)),
        "networks.random_weights": (
            lambda seed: networks.random_weights(jax.random.key(seed), (2, 3, 2)),
            (jnp.asarray(0),),
        ),
        "networks.squared_loss": (squared, (pair,)),
        "topology.rescaled_pair": (
            lambda w, b: topology.rescaled_pair(networks.linear, w, x, y, degree=1, barrier=b),
            (pair, half),
        ),
        "topology.bounded_pair": (
            lambda w, c: topology.bounded_pair(networks.linear, w, x, y, degree=1, max_norm=16 * c),
            (pair, half),
        ),
        "topology.permuted_pair": (
            lambda v, u, b: topology.permuted_pair(v, u, x, jax.nn.relu, b),
            (v, u, half),
        ),
        "topology.factorised_pair": (topology.factorised_pair, (u, v, half)),
        "topology.opposite_pair": (
            lambda w, x: topology.opposite_pair((w, w), x, w @ w @ x),
            (square, square),
        ),
        "topology.reflected_pair": (
            # The second point is the first with two units swapped.
            lambda w, x: topology.reflected_pair((w, w), (w[swap], w[:, swap]), x, w @ w @ x),
            (square, square),
        ),
        "topology.linear_chart": (lambda g, x: topology.linear_chart((g,), x, x), (square, square)),
        "topology.inverse_linear_chart": (
            lambda w, x: topology.inverse_linear_chart((w, w), x),
            (square, square),
        ),
        "training.minimise": (
            lambda w: training.minimise(squared, w, optimiser=optax.sgd(0.1), steps=3),
            (pair,),
        ),
        "training.solve_last_layer": (training.solve_last_layer, (u, z, y)),
        "training.train_curve": (
            lambda p, q, seed: at_half(
                training.train_curve(
                    squared, p, q, key=jax.random.key(seed), optimiser=optax.sgd(0.1), steps=3
                )
            ),
            (pair, other, jnp.asarray(0)),
        ),
        "canonical.minimum_norm": (functools.partial(canonical.minimum_norm, DEEP), (pair,)),
        "canonical.orbit_dimension": (functools.partial(canonical.orbit_dimension, DEEP), (pair,)),
        "canonical.orbit_distance": (
            lambda p, q: canonical.orbit_distance(DEEP, p, q, steps=2),
            (pair, other),
        ),
        "canonical.audit": (
            lambda w, seed: canonical.audit(NEURONS, squared, w, key=jax.random.key(seed), steps=2),
            (pair, jnp.asarray(0)),
        ),
        "merging.reset_statistics": (
            lambda s, x: merging.reset_statistics(lambda s, x: 0.9 * s + 0.1 * x.mean(1), s, [x]),
            (x[:, 0], x),
        ),
        "merging.repair": (
            lambda p, q: merging.repair(
                lambda w: {"z": (w[0] @ x).T}, p, p, q, {"z": [symjax.Leg(0, 0)]}
            ),
            (pair, other),
        ),
        "merging.transport_task_vector": (
            lambda p, q: merging.transport_task_vector(SCALES, (c,), p, q),
            (pair, other),
        ),
        "merging.averaging_forecast": (
            lambda w, m: merging.averaging_forecast(
                squared, symjax.exponential_curve(NEURONS, w, m), tolerance=1.0, cells=2
            ),
            (pair, c),
        ),
        "ensembles.curve_family": (
            lambda p, q: ensembles.curve_family(symjax.chord(p, q), times),
            (pair, other),
        ),
        "ensembles.orbit_family": (
            lambda w, seed: ensembles.orbit_family(NEURONS, w, key=jax.random.key(seed), members=2),
            (pair, jnp.asarray(0)),
        ),
        "ensembles.data_family": (
            lambda w, seed: ensembles.data_family(
                jax.nn.sigmoid, w, x, key=jax.random.key(seed), members=2
            ),
            (pair, jnp.asarray(0)),
        ),
        "ensembles.evaluate_ensemble": (
            ensembles.evaluate_ensemble,
            (logits, jnp.arange(3)),
        ),
        "bands.nudged_elastic_band": (
            lambda p, q: at_half(
                bands.nudged_elastic_band(squared, p, q, optimiser=optax.sgd(0.1), steps=3).curve
            ),
            (pair, other),
        ),
        "bands.geodesic_chain": (
            lambda p, q: at_half(
                bands.geodesic_chain(lambda w: w[1] @ w[0], p, q, optimiser=optax.sgd(0.1), steps=3)
            ),
            (pair, other),
        ),
        "transforms.charges": (functools.partial(transforms.charges, DEEP), (pair,)),
        "transforms.charge_drift": (
            functools.partial(transforms.charge_drift, DEEP),
            (pair, other),
        ),
        "transforms.track_charges": (step(transforms.track_charges(DEEP)), (pair,)),
        "transforms.quotient_gradient": (step(transforms.quotient_gradient(DEEP)), (pair,)),
        "transforms.orbit_constrained": (step(transforms.orbit_constrained(DEEP)), (pair,)),
        "transforms.teleport": (
            step(transforms.teleport(NEURONS, every=1), value_fn=squared),
            (pair,),
        ),
    }


def difference(actual: Any, expected: Any) -> tuple[float, int, list[str]]:
    """The worst relative difference of a leaf, NaN in the first alone, and what else is unlike.

    Norms over a leaf, and numbers that are infinite in both left out.
    """
    worst, nans, unlike = 0.0, 0, []
    if jax.tree.structure(actual) != jax.tree.structure(expected):
        return np.inf, 0, ["another structure"]
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        if not jnp.issubdtype(a.dtype, jnp.floating):
            if not np.array_equal(a, b):
                unlike.append(f"{a.tolist()} is not {b.tolist()}")
            continue
        a, b = a.astype(float), b.astype(float)
        nans += int((np.isnan(a) & ~np.isnan(b)).sum())
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        # not where they are the same: inf - inf warns, and a warning is an error under pytest
        apart = np.subtract(a, b, where=~same, out=np.zeros(np.shape(a)))
        size = np.where(np.isfinite(b), b, 0.0)
        worst = max(worst, float(np.linalg.norm(apart) / max(np.linalg.norm(size), 1e-300)))
    return worst, nans, unlike

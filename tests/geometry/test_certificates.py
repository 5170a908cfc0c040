"""Certificates, lengths and curvatures of every action that discovery finds, by other code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import Leg
from symjax.actions import Block, ShiftAction

from ..discovery.zoo import CASES, case
from ..helpers import eps, slow_among
from ._reference import Curve, shift_length


@jax.jit
def measured(curve, times):
    """What the library says; a curve without certificate has None for it."""
    try:
        certificate = symjax.certify(curve, 4)
    except ValueError:
        certificate = None
    return (
        certificate,
        symjax.length(curve),
        symjax.speed(curve, times),
        symjax.curvature(curve, times),
        symjax.curvature(curve, times[1]),
    )


def disagreements(action, params, m):
    """What the library says wrongly about exp(t m).params."""
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    leaves = {name(path): np.asarray(x, np.float64) for path, x in flat if hasattr(x, "dtype")}
    times = np.linspace(0, 1, 257)
    curve = symjax.exponential_curve(action, params, m)
    certificate, length, speed, curvature, one = measured(curve, jnp.asarray(times))
    if isinstance(action, ShiftAction):
        far = shift_length(action, leaves, m)
        right = certificate.length >= far * (1 - 1e-12) and abs(length / far - 1) < 1e-9
        straight = certificate.max_curvature == certificate.total_curvature == 0
        return [] if right and straight and np.all(curvature == 0) else [f"shift of {far}"]
    found, highest, speeds, curvatures = Curve(action, leaves, m).measured()
    turning = np.trapezoid(speeds * curvatures, times)
    wrong = []
    if certificate is not None:
        if not certificate.length >= found * (1 - 1e-9):
            wrong.append(f"certified length {certificate.length}, it is {found}")
        if not certificate.max_curvature >= highest * (1 - 1e-9):
            wrong.append(f"certified curvature {certificate.max_curvature}, it is {highest}")
        if not certificate.total_curvature >= turning * (1 - 1e-3):
            wrong.append(f"certified turning {certificate.total_curvature}, it is {turning}")
    if not abs(length / found - 1) < 1e-6:  # Simpson's rule
        wrong.append(f"length {length}, it is {found}")
    if not np.abs(speed / speeds - 1).max() < 1e-9:
        wrong.append("speed")
    # Next to a straight line the curvature is rounding of gamma'', here and there.
    floor = 1e-13 * np.abs(speeds).max()
    for ours, theirs in ((curvature, curvatures), (one, curvatures[1])):
        if not np.abs(ours - theirs).max() < 1e-7 * highest + floor / speeds.min() ** 2:
            wrong.append("curvature")
    return wrong


def algebra_element(action, scale=1.0):
    return action.group.random_algebra(jax.random.key(1), scale=scale, dtype=jnp.float64)


def unit_of_one_leaf():
    """A ReLU unit whose two weights are one leaf: two legs on two blocks of it."""
    x = jnp.linspace(0.1, 1.0, 7)
    found = symjax.find_symmetries(lambda p: p[1] * jax.nn.relu(p[0] * x), jnp.ones(2))
    return next(s.action for s in found if s.group.dimension)


def matrices_of_one_leaf():
    """A leaf of three (3, 3) matrices: two that one GL moves, one that another moves twice."""
    matrix = lambda start: Block((start, 0), (((3, 1),), ((3, 1),)))
    group = symjax.Product([symjax.GeneralLinear(3), symjax.GeneralLinear(3)])
    legs = [
        Leg("w", 0, "vector", 0, matrix(0)),
        Leg("w", 1, "covector", 0, matrix(3)),
        Leg("w", 0, "vector", 1, matrix(6)),
        Leg("w", 1, "covector", 1, matrix(6)),
        Leg("u", 1, "covector", 1),
    ]
    params = {"w": jax.random.normal(jax.random.key(0), (9, 3)), "u": jnp.ones((2, 3))}
    return symjax.linear_action(group, legs), params


def overlapping():
    """Scales of two parts of a vector that share entries."""
    legs = [
        Leg("w", 0, 1.0, 0, Block((0,), (((4, 1),),))),
        Leg("w", 0, -2.0, 0, Block((2,), (((4, 1),),))),
    ]
    params = {"w": jnp.arange(1.0, 8.0)}
    return symjax.linear_action(symjax.PositiveScaling(4), legs), params


@pytest.mark.slow
def test_legs_on_blocks_of_one_leaf(x64):
    action = unit_of_one_leaf()
    for size in (1.0, 4.0):
        m = jax.tree.map(lambda e, s=size: jnp.full_like(e, s), algebra_element(action))
        start = action(action.group.exp(jax.tree.map(lambda e: -e / 2, m)), jnp.ones(2))
        assert disagreements(action, start, m) == []
    for action, params in (matrices_of_one_leaf(), overlapping()):
        assert disagreements(action, params, algebra_element(action)) == []


@pytest.mark.slow
def test_disjoint_blocks_do_not_loosen_a_certificate(x64):
    """A hundred units of one leaf have the spectrum of one: their bounds do not add."""
    legs = [Leg("w", 0, p, 0, Block((i,), (((5, 20),),))) for i in range(20) for p in (1.0,)]
    action = symjax.linear_action(symjax.PositiveScaling(5), legs)
    params = {"w": jax.random.normal(jax.random.key(0), (100,))}
    curve = symjax.exponential_curve(action, params, algebra_element(action))
    assert symjax.certify(curve, 64).length <= 1.01 * symjax.length(curve)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_certificates_near_a_straight_line(dtype, x64):
    """M = a I + b G: |n| is rounding of gamma'' long before it is 0."""
    action = symjax.deep_linear_action((2, 3, 2))
    ours = jax.jit(lambda c: (symjax.certify(c, 1), symjax.certify(c), symjax.total_curvature(c)))
    for a, b in ((3.0, 1e-6), (0.01, 1e-8), (20.0, 1e-6), (5.0, 1e-3)):
        for seed in range(4):
            if a > 10 and dtype == jnp.float16:
                continue  # the weights overflow
            rng = np.random.default_rng(seed)
            m = jnp.asarray(a * np.eye(3) + b * rng.normal(size=(3, 3)), dtype)
            w = {0: jnp.asarray(rng.normal(size=(3, 2)), dtype), 1: jnp.zeros((2, 3), dtype)}
            curve = symjax.exponential_curve(action, tuple(w.values()), (m,))
            *certificates, turning = jax.tree.map(float, ours(curve))
            _, highest, speeds, curvatures = Curve(action, w, (m,)).measured(65)
            true = np.trapezoid(speeds * curvatures, dx=1 / 64)
            for certificate in certificates:
                assert certificate.max_curvature >= highest * (1 - 1e-6)
                assert certificate.total_curvature >= true * (1 - 1e-2)
            # An angle is right to the rounding of gamma'' beside gamma', a dozen eps per e-fold.
            assert abs(turning - true) <= 1e-2 * true + 16 * eps(jnp.float32) * (1 + a)


def spread(seed, dtype):
    """Scales of 4 units, with weights that spread over the decades of a dtype, and the truth.

    |gamma' ^ gamma''|^2 is a sum over pairs of entries, in which nothing cancels.
    """
    rng, n = np.random.default_rng(seed), 4
    decades, rate = (40, 60) if dtype == jnp.float64 else (22, 20)
    ends = lambda: rng.normal(size=n) * 10 ** rng.uniform(-decades, 0, n)
    m, x, y = (a.astype(dtype) for a in (rng.uniform(-rate, rate, n), ends(), ends()))
    rates = np.concatenate([m, -m]).astype(np.float64)
    first = np.abs(rates * np.concatenate([x, y]).astype(np.float64))
    times = np.linspace(-0.5, 1, 49).astype(dtype)
    v = first * np.exp(np.outer(times.astype(np.float64), rates))
    size = np.sqrt((v**2).sum(1))
    unit = v / size[:, None]
    pairs = unit[:, :, None] * unit[:, None] * (rates[:, None] - rates)
    curvature = np.sqrt((pairs**2).sum((1, 2)) / 2) / size
    return (jnp.asarray(x)[:, None], jnp.asarray(y)[None]), jnp.asarray(m), times, size, curvature


@pytest.mark.slow
@pytest.mark.parametrize("dtype", slow_among([jnp.float32, jnp.float64], jnp.float32))
def test_weights_that_spread_over_many_decades(dtype, x64):
    """What is below eps at the start and grows is there at the end, by scales and by matrices."""
    scales, matrices = symjax.neuron_rescaling_action(4), symjax.deep_linear_action((1, 4, 1))

    def both(action, w, m, times):
        curve = symjax.exponential_curve(action, w, m)
        return symjax.speed(curve, times), symjax.curvature(curve, times)

    by_scales = jax.jit(lambda w, m, t: both(scales, w, m, t))
    by_matrices = jax.jit(lambda w, m, t: both(matrices, w, (jnp.diag(m),), t))
    # float32 loses eps |M| t, of 40 units, in the exponent of a step.
    at_speed, at_top = (1e-9, 1e-7) if dtype == jnp.float64 else (2e-5, 1e-4)
    for seed in range(40):
        w, m, times, size, kappa = spread(seed, dtype)
        for ours in (by_scales, by_matrices):
            speed, curvature = ours(w, m, jnp.asarray(times))
            assert np.abs(np.asarray(speed, float) / size - 1).max() < at_speed, seed
            assert np.abs(np.asarray(curvature, float) - kappa).max() < at_top * kappa.max(), seed


@pytest.mark.slow
def test_debugging_flags_see_nothing_in_good_input():
    """Of NaN or infinity, in and outside of jit."""
    action, params = symjax.neuron_rescaling_action(2), (jnp.ones((2, 1)), jnp.ones((1, 2)))
    with jax.debug_nans(True), jax.debug_infs(True):
        curve = symjax.exponential_curve(action, params, jnp.array([1.0, -0.5]))
        times = jnp.linspace(0.0, 1.0, 5)
        numbers = [
            symjax.speed(curve, 0.5),
            symjax.curvature(curve, 0.5),
            symjax.curvature(curve, times),
            symjax.length(curve),
            symjax.total_curvature(curve),
            *symjax.max_curvature(curve),
            *jax.tree.leaves(symjax.certify(curve)),
        ]
    assert np.all(np.isfinite([float(jnp.sum(x)) for x in numbers]))


def kind(action):
    """What tells two tables of legs apart for the geometry."""
    if isinstance(action, ShiftAction):
        return ("shift",)
    group = action.group
    inner = group.group if isinstance(group, symjax.Power) else group
    shared = len({leg.leaf for leg in action.legs}) < len(action.legs)
    blocks, gains = any(leg.block for leg in action.legs), any(leg.gains for leg in action.legs)
    return (type(group), type(inner), shared, blocks, gains)


@pytest.mark.slow
def test_every_kind_of_action_of_the_zoo(x64):
    seen, wrong = set(), []
    for model in CASES:
        apply, params, inputs = case(model.name).build(jax.random.key(0))
        dtypes = {x.dtype for x in jax.tree.leaves(params) if hasattr(x, "dtype")}
        if dtypes != {jnp.dtype("float64")}:
            continue
        for s in symjax.find_symmetries(apply, params, *inputs, check=False):
            if s.group.dimension and kind(s.action) not in seen:
                seen.add(kind(s.action))
                found = disagreements(s.action, params, algebra_element(s.action, 0.5))
                wrong += [f"{model.name}, {s.name}: {what}" for what in found]
    assert wrong == []
    assert len(seen) >= 19

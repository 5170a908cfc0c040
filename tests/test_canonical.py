"""One point for each orbit, dimensions by rank, distances and audits, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import symjax
from symjax import Leg, Orthogonal, Translation
from symjax.canonical import audit, minimum_norm, orbit_dimension, orbit_distance

from .discovery._reference import Draw, coarsest, moved as moved_by
from .discovery.zoo import FAMILIES
from .helpers import assert_close, eps, slow_among
from .transforms.models import CASES, LINEAR_SLOW, flat, linear_case, relu_case, tangent_matrix


@pytest.mark.parametrize("name", LINEAR_SLOW)
def test_balanced_weights_are_the_same_from_every_point_of_an_orbit(name, x64):
    symmetry, params, loss = CASES[name]()
    actions = symmetry if isinstance(symmetry, tuple) else (symmetry,)
    find = jax.jit(lambda w: minimum_norm(symmetry, w))
    base = find(params)
    assert bool(base.converged)
    assert float(base.norm) <= np.linalg.norm(flat(params))
    for seed in range(3):
        moved = params
        for i, action in enumerate(actions):
            moved = action(action.group.random(jax.random.key(seed + 10 * i), scale=0.7), moved)
        found = find(moved)
        assert bool(found.converged)
        assert int(found.steps) < 40
        # Near the minimum the norm is flat: its error is the square of the residual's.
        assert float(found.norm) == pytest.approx(float(base.norm), rel=100 * eps(float))
        assert float(loss(found.params)) == pytest.approx(float(loss(params)), rel=1e-10)
        if name != "linear":  # for GL the minimum is one only up to rotations
            np.testing.assert_allclose(flat(found.params), flat(base.params), atol=1e-7)
    assert find._cache_size() == 1


def test_minimum_norm_in_closed_form(x64):
    # Two layers: min |W_1|^2 + |W_2|^2 at W_2 W_1 = P is twice the nuclear norm of P.
    action = symjax.deep_linear_action((3, 2, 4))
    w = symjax.networks.random_weights(jax.random.key(3), (3, 2, 4), dtype=jnp.float64)
    found = jax.jit(lambda w: minimum_norm(action, w))(w)
    nuclear = np.linalg.svd(np.asarray(w[1] @ w[0]), compute_uv=False).sum()
    assert float(found.norm) ** 2 == pytest.approx(2 * nuclear, rel=1e-10)
    np.testing.assert_allclose(
        found.params[0] @ found.params[0].T, found.params[1].T @ found.params[1], atol=1e-10
    )
    # A hidden unit scales to |row| = |column| = sqrt(|row| |column|).
    action, (v, u), _ = relu_case()
    found = jax.jit(lambda w: minimum_norm(action, w))((1e4 * v, 1e-4 * u))
    rows = np.linalg.norm(v, axis=1) * np.linalg.norm(u, axis=0)
    np.testing.assert_allclose(np.linalg.norm(found.params[0], axis=1) ** 2, rows, rtol=1e-9)
    shift = symjax.linear_action(Translation(4), [Leg(0, 0)])
    found = minimum_norm(shift, (jnp.arange(12.0).reshape(4, 3),))
    np.testing.assert_allclose(np.sum(found.params[0], 1), 0, atol=1e-9)


def test_minimum_norm_of_float32_keeps_dtype_and_dead_units_fade():
    action, (v, u), _ = relu_case(jnp.float32)
    find = jax.jit(lambda w: minimum_norm(action, w))
    assert bool(find((v, u)).converged)
    found = find((v.at[0].set(0.0), u))
    assert found.params[0].dtype == jnp.float32
    assert bool(found.converged)
    # Its share of the residual, |column|^2 / |w|^2, is below the tolerance of 100 eps.
    assert float(jnp.abs(found.params[1][:, 0]).max()) < 0.1 * float(jnp.abs(u[:, 0]).max())


def test_dimensions_are_ranks(x64):
    action, w, _ = linear_case()
    matrix = tangent_matrix(action, w)
    found = jax.jit(lambda w: orbit_dimension(action, w))(w)
    assert int(found.orbit) == np.linalg.matrix_rank(matrix) == 25 - int(found.stabiliser)
    assert int(found.stabiliser) > 0
    assert float(found.gap) > 1e5
    twice = jax.jit(lambda w: orbit_dimension([action, action], w))(w)
    assert int(twice.orbit) == int(found.orbit)
    turn = symjax.linear_action(Orthogonal(4), [Leg(0, 0)])
    found = jax.jit(lambda w: orbit_dimension(turn, w))(
        (w[0][:, :2],)
    )  # two vectors in R^4: SO(2) fixes them
    assert (int(found.orbit), int(found.stabiliser)) == (5, 1)


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
def test_dimensions_do_not_depend_on_the_coordinates(dtype, x64):
    """The rank is right in every basis of a hidden layer, or it is said not to be certain."""
    widths = (3, 5, 4, 2)
    w = symjax.networks.random_weights(jax.random.key(0), widths, dtype=jnp.float64)
    action = symjax.deep_linear_action(widths)
    right = np.linalg.matrix_rank(tangent_matrix(action, w))
    find = jax.jit(lambda w: orbit_dimension(action, w))
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 5, 5)))[0]
    sure = []
    for k in (0, 1, 2, 3, 4, 6):
        stretched = rotation[0] @ np.diag(np.logspace(-k / 2, k / 2, 5)) @ rotation[1]
        for g in (10.0**k * np.eye(5), np.diag(np.logspace(-k, k, 5)), stretched):
            moved = (jnp.asarray(g @ w[0]), jnp.asarray(w[1] @ np.linalg.inv(g)), w[2])
            found = find(tuple(x.astype(dtype) for x in moved))
            assert int(found.orbit) == right or not bool(found.certain), (k, found)
            sure.append(bool(found.certain))
    assert all(sure) if dtype == jnp.float64 else sum(sure) > len(sure) / 2


def test_distance_to_an_orbit_against_scipy(x64):
    action, b, _ = relu_case()
    c = jnp.array([0.5, 1.0, 2.0, 1.5, 0.7])
    find = jax.jit(lambda a, b: orbit_distance(action, a, b))
    same = find(b, action(c, b))
    assert float(same.upper) < 1e-7
    a = jax.tree.map(lambda x: x + 0.1 * jnp.sin(50 * x), b)
    found = find(a, action(c, b))

    def distance(logs):
        s = np.exp(logs)[:, None]
        v, u = np.asarray(b[0]) * s, np.asarray(b[1]) / s.T
        return np.sum((a[0] - v) ** 2) + np.sum((a[1] - u) ** 2)

    best = scipy.optimize.minimize(distance, np.zeros(5), tol=1e-14).fun ** 0.5
    assert float(found.upper) == pytest.approx(best, rel=1e-7)
    assert float(found.lower) == 0.0
    assert_close(
        symjax.networks.homogeneous(jax.nn.relu)(found.params, jnp.eye(3)),
        symjax.networks.homogeneous(jax.nn.relu)(b, jnp.eye(3)),
        atol=1e-12,
    )
    half = symjax.linear_action(symjax.PositiveScaling(5), [Leg(0, 0)])
    found = orbit_distance(half, a, b)
    assert float(found.lower) == pytest.approx(np.linalg.norm(a[1] - b[1]), rel=1e-12)


@pytest.mark.parametrize(
    "finite", slow_among(["permutation", "sign", "reflection"], "sign", "reflection")
)
def test_audit_asks_what_no_exponential_reaches(finite, x64):
    action, w, _ = relu_case()
    legs = [Leg(0, 0), Leg(1, 1)]
    group = {
        "permutation": symjax.Permutation(5),
        "sign": symjax.SignFlip(5),
        "reflection": Orthogonal(5),
    }[finite]
    blind = {  # does not see the scales of the units, nor rotations, but the finite part
        "permutation": lambda w: jnp.sum(jnp.arange(5.0) * _unit_sizes(w)),
        "sign": lambda w: jnp.sum(jnp.sign(w[0][:, 0]) * _unit_sizes(w)),
        "reflection": lambda w: jnp.linalg.det(w[0]),
    }[finite]
    fair = {
        "permutation": lambda w: jnp.sum(_unit_sizes(w)),
        "sign": lambda w: jnp.sum(_unit_sizes(w)),
        "reflection": lambda w: jnp.linalg.det(w[0]) ** 2,
    }[finite]
    if finite == "reflection":
        w = (jax.random.normal(jax.random.key(0), (5, 5)), w[1])
        actions = [symjax.linear_action(group, legs)]
    else:
        actions = [action, symjax.linear_action(group, legs)]
    look = lambda metric: jax.jit(lambda w: audit(actions, metric, w, key=jax.random.key(0)))(w)
    seen, same = look(blind), look(fair)
    assert not bool(seen.invariant)
    assert float(seen.jump) > 1e-3 * abs(float(seen.value))
    assert float(seen.high - seen.low) < 1e-10  # the identity component alone shows nothing
    assert bool(same.invariant)


def _unit_sizes(w):
    return jnp.sum(w[0] ** 2, 1) * jnp.sum(w[1] ** 2, 0)


def test_audit_tells_functions_from_coordinates(x64):
    action, w, loss = relu_case()
    look = lambda metric: jax.jit(
        lambda w: audit(action, metric, w, key=jax.random.key(0), radius=1.0)
    )(w)
    found = look(loss)
    assert bool(found.invariant)
    assert float(found.slope) < 1e-14
    assert float(found.high - found.low) < 1e-12
    found = look(lambda w: jnp.sum(w[0] ** 2))
    assert not bool(found.invariant)
    # The largest sum_i e^(2 m_i) r_i on |m| <= 1 is on the sphere: by SciPy, from five starts.
    rows = np.sum(np.square(w[0]), 1)
    fall = lambda m: -np.sum(np.exp(2 * m / np.linalg.norm(m)) * rows)
    raised = max(-scipy.optimize.minimize(fall, rng).fun for rng in 0.2 + np.eye(5))
    assert float(found.high) == pytest.approx(raised, rel=1e-3)
    assert float(found.low) < float(found.value) < float(found.high)
    assert np.linalg.norm(found.element_high[0]) <= 1 + 1e-12
    moved = action(jnp.exp(found.element_high[0]), w)
    assert_close(moved, found.params_high, atol=1e-12)
    assert float(loss(found.params_high)) == pytest.approx(float(loss(w)), rel=1e-12)


def planted(kind):
    """Symmetries of a model with biases, finite ones too, and its parameters."""
    sizes = (4, 3, 3, 3)  # no narrower than hidden layers: the orbits of GL are closed
    keys = jax.random.split(jax.random.key(7), 6)
    w = {f"w{i}": jax.random.normal(keys[i], (sizes[i + 1], sizes[i])) for i in range(3)}
    w |= {f"b{i}": jax.random.normal(keys[3 + i], (sizes[i + 1],)) for i in range(2)}
    symmetries = []
    for i in range(2):
        n = sizes[i + 1]
        legs = [Leg(f"w{i}", 0), Leg(f"b{i}", 0), Leg(f"w{i + 1}", 1, "covector")]
        groups = {
            "linear": [symjax.GeneralLinear(n)],
            "relu": [symjax.PositiveScaling(n), symjax.Permutation(n)],
            "tanh": [symjax.SignFlip(n), symjax.Permutation(n)],
        }[kind]
        for group in groups:
            name = f"{group} of layer {i}"
            symmetries.append(symjax.Symmetry(name, symjax.linear_action(group, legs), ()))
    return symmetries, w


@pytest.mark.parametrize("kind", ["linear", "relu", "tanh"])
def test_representative_is_one_for_the_whole_group(kind, x64):
    symmetries, w = planted(kind)
    base = symjax.canonical.representative(symmetries, w)
    assert base.undecided == ()
    assert base.margin > 1e-4
    again = symjax.matching.apply_element(symmetries, base.element, w)
    assert_close(again, base.params, atol=1e-9)
    for seed in range(5):
        moved = w
        for i, s in enumerate(symmetries):
            g = s.group.random(jax.random.key(100 * seed + i))
            if kind == "linear" and seed % 2:  # the component of negative determinant
                g = g.at[0].multiply(-1)
            moved = s.action(g, moved)
        assert np.abs(np.asarray(moved["w1"]) - np.asarray(w["w1"])).max() > 0.1
        found = symjax.canonical.representative(symmetries, moved)
        # The coordinate descent that balances scales stops at about 1e-7.
        assert_close(found.params, base.params, atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_units_of_a_recurrence_have_one_sign(seed, x64):
    # In w the columns flip with the rows: what decides is u, v, or nothing.
    rng = np.random.default_rng(seed)
    w = {n: rng.standard_normal(s) for n, s in (("w", (3, 3)), ("u", (3, 2)), ("v", (2, 3)))}
    for alone in (False, True):
        legs = [Leg("w", 0), Leg("w", 1)] + [Leg("u", 0), Leg("v", 1)] * (not alone)
        groups = (symjax.Permutation(3), symjax.SignFlip(3))
        actions = [symjax.linear_action(g, legs) for g in groups]
        g, order = np.diag(rng.choice([-1.0, 1.0], 3)), rng.permutation(3)
        moved = {"w": g @ w["w"] @ g, "u": g @ w["u"], "v": w["v"] @ g}
        moved = {
            "w": moved["w"][order][:, order],
            "u": moved["u"][order],
            "v": moved["v"][:, order],
        }
        moved = w | {"w": moved["w"]} if alone else moved
        a, b = (symjax.canonical.representative(actions, m) for m in (w, moved))
        assert a.undecided == b.undecided == ((1,) if alone else ())
        if not alone:
            for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
                np.testing.assert_allclose(x, y, atol=1e-12)


FAST = ("recurrent",)


@pytest.mark.parametrize("family", slow_among(FAMILIES, *(f for f in FAMILIES if f not in FAST)))
def test_representative_is_one_on_every_orbit_of_the_zoo(family, x64):
    """Or it names what is not decided; the elements are drawn and applied by other code."""
    wrong = []
    for model in FAMILIES[family]:
        apply, params, inputs = model.build(jax.random.key(0))
        symmetries = symjax.find_symmetries(apply, params, *inputs).exact
        if not symmetries:
            continue
        base = symjax.canonical.representative(symmetries, params)
        for seed in range(2):
            moved, draw = params, Draw(np.random.default_rng(seed), reflected=bool(seed % 2))
            for s in symmetries:
                moved = moved_by(s.action, moved, draw)
            found = symjax.canonical.representative(symmetries, moved)
            pairs = zip(jax.tree.leaves(base.params), jax.tree.leaves(found.params), strict=True)
            gaps = [
                np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max(initial=0)
                for x, y in pairs
                if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
            ]
            # Balancing stops at 1e-7, and the coarsest dtype of a leaf rounds the result.
            reach = 1e-5 if coarsest(params) < 1e-10 else 1e3 * coarsest(params)
            if max(gaps) > reach and not (base.undecided or found.undecided):
                wrong.append(f"{model.name}: {max(gaps):.1e}")
    assert wrong == []


def test_representative_says_what_it_could_not_decide():
    swap = symjax.Symmetry(
        "units", symjax.linear_action(symjax.Permutation(2), [Leg(0, 0), Leg(1, 1)]), ()
    )
    w = (jnp.array([[1.0], [-1.0]]), jnp.array([[3.0, 3.0]]))
    found = symjax.canonical.representative([swap], w)
    assert (found.margin, found.undecided) == (0.0, (0,))
    with pytest.raises(ValueError, match="`params` holds a NaN"):
        symjax.canonical.representative([swap], (w[0] * jnp.nan, w[1]))
    with pytest.raises(ValueError, match="runs on the host"):
        jax.jit(lambda w: symjax.canonical.representative([swap], w).params)(w)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, a, w: c.audit(a, size, w, key=jax.random.key(0), radius=-1.0), "`radius`"),
        (lambda c, a, w: c.audit(a, size, w, key=jax.random.key(0), steps=0), "`steps`"),
        (lambda c, a, w: c.audit(a, size, w, key=jax.random.key(0), probes=0), "`probes`"),
        (
            lambda c, a, w: c.audit(a, lambda w: w[0], w, key=jax.random.key(0)),
            "`metric` must return one real number, got float32",
        ),
        (lambda c, a, w: c.minimum_norm(a, (w[0] * jnp.nan, w[1])), "`params` holds a NaN"),
        (lambda c, a, w: c.minimum_norm(a, w, steps=0), "`steps`"),
        (lambda c, a, w: c.minimum_norm(a, w, tolerance=-1.0), "`tolerance`"),
        (lambda c, a, w: c.orbit_distance(a, w, w, steps=-2), "`steps`"),
        (
            lambda c, a, w: c.orbit_distance(a, w, (jnp.ones((1, 2)), w[1])),
            "`a` and `b` differ at leaf '0'",
        ),
        (lambda c, a, w: c.orbit_distance(a, w, (w[0], w[1] * jnp.nan)), "`b` holds a NaN"),
        (lambda c, a, w: c.orbit_dimension(a, (w[0], w[1] * jnp.nan)), "`params` holds a NaN"),
    ],
)
def test_options_and_values_out_of_range_are_named(call, message):
    w = (jnp.ones((1, 1)), jnp.ones((1, 1)))
    with pytest.raises(ValueError, match=message):
        call(symjax.canonical, symjax.rescaling_action(), w)


def size(w):
    return jnp.sum(w[0] ** 2)

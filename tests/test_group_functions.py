"""Every group crossed with every function that takes an action: right, or refused.

An action of a group on two leaves; the truth is NumPy's: tangents are differences of moved points,
ranks and projections are of the matrix that they span, and what the group keeps must be kept.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import symjax
from symjax import canonical, ensembles, groups, matching, transforms
from symjax.groups import AbstractGroup

from .special_linear import SpecialLinear


class Unnamed(SpecialLinear):
    """A group without the methods that may be left out."""

    project = AbstractGroup.project
    symmetric = AbstractGroup.symmetric

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        return SpecialLinear(self.n).random_algebra(key, scale=scale, dtype=dtype)


GROUPS = {
    "SL": SpecialLinear(3),
    "O": symjax.Orthogonal(3),
    "GL": symjax.GeneralLinear(2),
    "scaling": symjax.PositiveScaling(3),
    "one scale": symjax.PositiveScaling(),
    "complex": symjax.ComplexScaling(2),
    "translation": symjax.Translation(3),
    "SL^2": symjax.Power(SpecialLinear(2), 2),
    "O beside ones": symjax.FixingOnes(symjax.Orthogonal(3)),
    "SL x Z2": symjax.Product([SpecialLinear(2), symjax.SignFlip(2)]),
}
DEFAULT = {"SL"}
NAMES = [pytest.param(n, marks=[pytest.mark.slow] * (n not in DEFAULT)) for n in GROUPS]
SOLVED = {"GL", "O", "scaling", "one scale", "complex", "translation", "O beside ones"}
"""The groups that matching has solvers for."""


def size_of(group):
    return group.factors[0].axis_size or 3


@functools.cache
def setting(name):
    """(action, parameters): columns that the group moves, and rows that read them."""
    group = GROUPS[name]
    n, rng = size_of(group), np.random.default_rng(len(name))
    axis = (0, 1) if group.factors[0].axis_size else (None, None)
    legs = [symjax.Leg("v", axis[0]), symjax.Leg("u", axis[1], "covector")]
    if name == "translation":
        legs = legs[:1]
    action = symjax.linear_action(group, legs)
    return action, {
        "u": jnp.asarray(rng.normal(size=(2, n))),
        "v": jnp.asarray(rng.normal(size=(n, n + 1))),
    }


def kept(name, p):
    """Numbers that the group keeps: an orbit that is left changes one of them."""
    group = GROUPS[name].factors[0]
    v, u = np.asarray(p["v"], np.float64), np.asarray(p["u"], np.float64)
    if name == "translation":
        return np.concatenate([np.diff(v, axis=1).ravel(), u.ravel()])
    numbers = [(u @ v).ravel()]
    if name in ("O", "O beside ones"):
        numbers.append((v.T @ v).ravel())
    if isinstance(group, SpecialLinear):
        numbers.append([np.linalg.det(v @ v.T)])
    if isinstance(group, symjax.Power):
        blocks = v.reshape(group.count, -1, v.shape[1])
        pairs = zip(np.split(u, group.count, axis=1), blocks, strict=True)
        numbers = [(a @ b).ravel() for a, b in pairs]
        if isinstance(group.group, SpecialLinear):
            numbers.append(np.linalg.det(blocks @ blocks.transpose(0, 2, 1)))
    return np.concatenate(numbers)


def assert_kept(name, p, rtol=1e-8):
    __tracebackhide__ = True
    np.testing.assert_allclose(kept(name, p), kept(name, setting(name)[1]), rtol=rtol, atol=1e-9)


def flat(p):
    return np.concatenate([np.ravel(np.asarray(p[n], np.float64)) for n in sorted(p)])


@functools.cache
def algebra(name):
    """(a basis of the algebra as rows over its entries, their tangents at the parameters)."""
    action, p = setting(name)
    group = action.group
    keys = jax.random.split(jax.random.key(5), group.dimension)
    step = 1e-6

    @jax.jit
    @jax.vmap
    def move(key):
        m = group.random_algebra(key)
        scaled = lambda s: group.exp(jax.tree.map(lambda x: s * x, m))
        return m, action(scaled(step), p), action(scaled(-step), p)

    m, ahead, back = jax.device_get(move(keys))
    rows = np.stack(
        [np.concatenate([np.ravel(x[i]) for x in jax.tree.leaves(m)]) for i in range(len(keys))]
    )
    pick = lambda tree, i: {n: x[i] for n, x in tree.items()}
    ends = [[flat(pick(tree, i)) for i in range(len(keys))] for tree in (ahead, back)]
    return rows, (np.stack(ends[0]) - np.stack(ends[1])) / (2 * step)


@functools.cache
def computed(name):
    """What the functions that JAX compiles give, from one program."""
    action, p = setting(name)
    off = jax.tree.map(lambda x: 1.3 * x, p) | {"u": p["u"] / 1.2}

    def along(transform, steps):
        def one(carry, _):
            w, state = carry
            step = jax.tree.map(lambda x: -0.05 * (x + jnp.cos(3 * x)), w)
            updates, state = transform.update(step, state, w)
            return (optax.apply_updates(w, updates), state), None

        return jax.lax.scan(one, (p, transform.init(p)), length=steps)[0][0]

    @jax.jit
    def everything():
        near = action.flow((action.group.random_algebra(jax.random.key(1), scale=0.1),), p)
        return {
            "dimension": canonical.orbit_dimension(action, p).orbit,
            "charges": transforms.charges(action, p)[0],
            "quotient": transforms.quotient_gradient(action).update(p, None, p)[0],
            "constrained": along(transforms.orbit_constrained(action), 10),
            "on": canonical.orbit_distance(action, near, p, steps=20),
            "off": canonical.orbit_distance(action, off, p, steps=5),
            "family": ensembles.orbit_family(action, p, key=jax.random.key(2), members=3),
        }

    return jax.device_get(everything())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_functions_of_tangents_are_right(name, x64):
    (action, p), found = setting(name), computed(name)
    basis, tangents = algebra(name)
    rank = np.linalg.matrix_rank(tangents, tol=1e-6)
    assert np.linalg.matrix_rank(basis) == action.group.dimension
    assert int(found["dimension"]) == rank <= action.group.dimension
    # <Q, m> = <w, A_m w> for all m, with Q in the algebra.
    charge = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found["charges"])])
    expected = np.linalg.lstsq(basis, tangents @ flat(p), rcond=None)[0]
    np.testing.assert_allclose(charge, expected, rtol=1e-6, atol=1e-6)
    # What is left of an update is orthogonal to the orbit, and what went is along it.
    rest = flat(found["quotient"])
    along = np.linalg.lstsq(tangents.T, flat(p), rcond=1e-9)[0] @ tangents
    np.testing.assert_allclose(rest, flat(p) - along, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_functions_that_move_stay_on_the_orbit(name, x64):
    _, p = setting(name)
    found = computed(name)
    assert_kept(name, found["constrained"])
    assert np.abs(flat(found["constrained"]) - flat(p)).max() > 1e-3
    for i in range(3):
        assert_kept(name, {n: x[i] for n, x in found["family"].items()})
    for key in ("on", "off"):
        assert_kept(name, found[key].params)
    assert float(found["on"].upper) < 1e-6
    assert float(found["off"].upper) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_minimum_norm_is_a_critical_point_of_the_orbit(name, x64):
    action, p = setting(name)
    found = jax.jit(lambda p: canonical.minimum_norm(action, p))(p)
    assert bool(found.converged)
    assert_kept(name, found.params, rtol=1e-6)
    assert np.linalg.norm(flat(found.params)) <= np.linalg.norm(flat(p)) * (1 + 1e-12)
    # No element nearby makes it shorter.
    near = lambda k: action(
        action.group.exp(action.group.random_algebra(k, scale=1e-3)), found.params
    )
    moved = jax.device_get(jax.jit(jax.vmap(near))(jax.random.split(jax.random.key(3), 20)))
    sizes = [np.linalg.norm(flat({n: x[i] for n, x in moved.items()})) for i in range(20)]
    assert min(sizes) >= np.linalg.norm(flat(found.params)) * (1 - 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_curves_verification_and_reports_know_the_group(name, x64):
    action, p = setting(name)
    group = action.group
    g = group.exp(group.random_algebra(jax.random.key(4), scale=0.3))
    curve = symjax.connecting_curve(action, p, g)
    for t in (0.5, 1.0):
        assert_kept(name, curve(t))
    end = action(g, p)
    assert np.abs(flat(curve(1.0)) - flat(end)).max() < 1e-9
    straight = np.linalg.norm(flat(end) - flat(p))
    assert float(symjax.length(curve)) >= straight * (1 - 1e-9)
    apply = (
        (lambda p, x: p["v"][:, 1:] - p["v"][:, :-1]) if name == "translation" else _pairing(group)
    )
    row = symjax.verify(action, apply, p, jnp.ones(2), key=jax.random.key(0))
    assert row.holds, str(row)
    assert symjax.Symmetry("one", action, ("u", "v")).as_dict()["group"] == group.notation


def _pairing(group):
    """What every element keeps: the rows of u times the columns of v, block by block."""
    count = group.count if isinstance(group, symjax.Power) else 1
    cut = lambda x: x.reshape(count, -1, x.shape[-1])
    blocks = lambda p: zip(cut(p["u"].T), cut(p["v"]), strict=True)
    return lambda p, x: jnp.stack([u.T @ v for u, v in blocks(p)])


@pytest.mark.parametrize("name", NAMES)
def test_matching_keeps_the_orbit_or_refuses_the_group(name, x64):
    action, p = setting(name)
    target = jax.tree.map(lambda x: x + 0.1, p)
    if name not in SOLVED:
        with pytest.raises(ValueError, match="which has no solver here"):
            symjax.match(action, target, p)
        with pytest.raises(ValueError, match="which has no solver here"):
            canonical.representative(action, p)
    else:
        found = symjax.match(action, target, p)
        assert_kept(name, found.params, rtol=1e-6)
        assert found.after <= found.before * (1 + 1e-12)
        assert_kept(name, canonical.representative(action, p).params, rtol=1e-6)
    g = action.group.random(jax.random.key(0), scale=0.3)
    there = matching.apply_element(action, (g,), p)
    back = matching.apply_element(action, (g,), there, inverse=True)
    np.testing.assert_allclose(flat(back), flat(p), rtol=1e-9, atol=1e-9)


def test_a_group_that_does_not_say_is_refused(x64):
    group = Unnamed(3)
    action = symjax.linear_action(group, setting("SL")[0].legs)
    p = setting("SL")[1]
    calls = [
        lambda: canonical.orbit_dimension(action, p),
        lambda: canonical.minimum_norm(action, p),
        lambda: canonical.orbit_distance(action, p, p),
        lambda: canonical.audit(action, lambda p: jnp.sum(p["v"]), p, key=jax.random.key(0)),
        lambda: transforms.charges(action, p),
        lambda: transforms.quotient_gradient(action).update(p, None, p),
        lambda: transforms.orbit_constrained(action).update(p, None, p),
        lambda: ensembles.orbit_family(action, p, key=jax.random.key(0), members=2),
        lambda: matching.refine(action, lambda p: jnp.sum(p["v"]), p, p, steps=1),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="The group Unnamed does not define"):
            call()


def test_every_group_of_the_library_is_in_the_table():
    kinds = {type(g) for group in GROUPS.values() for g in (group, *group.factors)}
    public = {
        v for v in vars(groups).values() if isinstance(v, type) and issubclass(v, AbstractGroup)
    }
    # Permutations are finite: discovery's and matching's tests move along them.
    assert public - {AbstractGroup, symjax.Permutation} <= kinds
    assert math.isfinite(GROUPS["SL"].number_of_components)

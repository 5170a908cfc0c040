"""One reading of an argument `symmetries`, by every function that has one."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import symjax
from symjax import canonical, ensembles, matching, merging, transforms
from symjax.discovery import permutation_spec, resolve

from ..public_names import public_objects

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def apply(p, x):
    """A ReLU layer whose units scale exactly, behind a norm whose input scales approximately."""
    z = x @ p["in"]
    z = z / jnp.sqrt(jnp.mean(z * z, -1, keepdims=True) + 1e-2)
    return jax.nn.relu(z @ p["v"]) @ p["u"]


def model(seed):
    rng = np.random.default_rng(seed)
    shapes = {"in": (3, 4), "v": (4, 5), "u": (5, 2)}
    return {n: jnp.asarray(0.3 * rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


A, B = model(1), model(2)
FOUND = symjax.find_symmetries(apply, A, X)
EXACT = FOUND.exact
MEASURED = {"approximate": True, "apply": apply, "inputs": X}
LOSS = lambda p: jnp.sum((apply(p, X) - 1) ** 2)
SHAPE = lambda p: jnp.sum(p["in"] ** 2) + jnp.sum(p["v"] ** 2)


def change(params):
    """|f(params) - f(B)| / |f(B)|, by NumPy."""
    before, after = (np.asarray(apply(p, X), np.float64) for p in (B, params))
    return np.linalg.norm(after - before) / np.linalg.norm(before)


def step(transform, **extra):
    """Where one update of about the size of the weights leads from B, and the state after it."""
    grads = jax.tree.map(lambda x: -x, B)
    updates, state = transform.update(grads, transform.init(B), B, **extra)
    return optax.apply_updates(B, updates), state


def orbit_family(s, **options):
    family = ensembles.orbit_family(s, B, key=jax.random.key(0), members=2, **options)
    family, size = family if options else (family, None)
    return jax.tree.map(lambda x: x[1], family), None if size is None else size[1]


def constrained(s, **options):
    params, state = step(transforms.orbit_constrained(s, **options))
    return params, state.change


def teleported(s, **options):
    transform = transforms.teleport(s, every=1, **options)
    updates, state = transform.update(
        jax.tree.map(jnp.zeros_like, B), transform.init(B), B, value_fn=LOSS
    )
    return optax.apply_updates(B, updates), state.change


def of(found, many=False):
    size = found.change
    return (found.params[1], size and size[1]) if many else (found.params, size)


def audited(s, **options):
    found = canonical.audit(s, SHAPE, B, key=jax.random.key(0), steps=3, probes=2, **options)
    worse = max((found.params_low, found.params_high), key=change)
    return worse, found.change


MOVING = {
    "match": lambda s, **o: of(symjax.match(s, A, B, **o)),
    "match_many": lambda s, **o: of(matching.match_many(s, [A, B], rounds=1, **o), many=True),
    "refine": lambda s, **o: of(
        matching.refine(s, LOSS, A, B, steps=4, optimiser=optax.sgd(0.1), **o)
    ),
    "representative": lambda s, **o: of(canonical.representative(s, B, **o)),
    "minimum_norm": lambda s, **o: of(canonical.minimum_norm(s, B, steps=8, **o)),
    "orbit_distance": lambda s, **o: of(canonical.orbit_distance(s, A, B, steps=8, **o)),
    "audit": audited,
    "orbit_family": orbit_family,
    "orbit_constrained": constrained,
    "teleport": teleported,
}
"""(the parameters that B is moved to, the change that the result states)"""

ELEMENT = matching.identity_element(EXACT)
LOOKING = {
    "orbit_dimension": lambda s: canonical.orbit_dimension(s, B).orbit,
    "charges": lambda s: transforms.charges(s, B),
    "charge_drift": lambda s: transforms.charge_drift(s, B, B),
    "track_charges": lambda s: step(transforms.track_charges(s))[1].drift,
    "quotient_gradient": lambda s: step(transforms.quotient_gradient(s))[0],
    "apply_element": lambda s: matching.apply_element(s, ELEMENT, B),
    "identity_element": matching.identity_element,
    "transport_task_vector": lambda s: merging.transport_task_vector(s, ELEMENT, A, B),
    "permutation_spec": lambda s: permutation_spec(s, B),
    "diagnose": lambda s: symjax.diagnose(s, apply, B, B, X, key=jax.random.key(0)).same,
    "completeness": lambda s: symjax.completeness(s, apply, B, X[0]).explained,
}
FILES = {"save_element", "load_element"}
LEARNING = {"learn", "learn_many"}
"""These measure the ends' outputs themselves, and hand nothing back that changed them."""


def test_the_tables_hold_every_function_with_an_argument_symmetries():
    having = {
        name.rpartition(".")[2]: inspect.signature(value).parameters
        for name, value in public_objects().items()
        if ".studies." not in name
        and inspect.isroutine(value)
        and "symmetries" in inspect.signature(value).parameters
    }
    assert set(having) - {"resolve"} == set(MOVING) | set(LOOKING) | FILES | LEARNING
    for name, parameters in having.items():
        assert parameters["approximate"].default is False, name


def test_what_resolve_takes():
    action = EXACT[0].action
    assert 0 < len(EXACT) < len(FOUND)
    assert resolve(FOUND) == resolve(list(FOUND)) == resolve(s for s in FOUND) == EXACT
    assert resolve(FOUND, approximate=True) == tuple(FOUND)
    assert resolve([FOUND[:1], (iter(FOUND[1:]),)]) == EXACT
    assert resolve(EXACT[0]) == EXACT[:1]
    assert [s.action for s in resolve([action, EXACT[1:]])] == [s.action for s in EXACT]
    assert resolve(action)[0].leaves == tuple(dict.fromkeys(leg.leaf for leg in action.legs))
    assert resolve(()) == ()
    assert resolve(FOUND.approximate) == ()
    for wrong, place in ((3, ""), ([EXACT, ["units"]], r"\[1\]\[0\]"), ({"a": 1}, ""), (X, "")):
        with pytest.raises(ValueError, match=f"`symmetries{place}` must be an action"):
            resolve(wrong)
    with pytest.raises(ValueError, match="`approximate` must be True or False"):
        resolve(FOUND, 1e-3)


SLOW = {"audit", "teleport", "orbit_distance", "refine", "minimum_norm", "match_many"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MOVING]
)
def test_a_function_that_moves_does_so_along_exact_symmetries_unless_asked(name):
    call = MOVING[name]
    params, stated = call(s for s in FOUND)
    assert stated is None or jnp.isnan(stated)
    assert change(params) <= 1000 * np.finfo(np.float32).eps
    with pytest.raises(ValueError, match="give `apply` and `inputs` too"):
        call(FOUND, approximate=True)
    params, stated = call(FOUND, **MEASURED)
    assert change(params) > 1e-5, "the model is no test"
    assert float(stated) == pytest.approx(change(params), rel=1e-3)


@pytest.mark.parametrize("name", LOOKING)
def test_a_function_that_looks_leaves_approximate_symmetries_out(name):
    call = LOOKING[name]
    expected = jax.tree.leaves(call(EXACT))
    found = jax.tree.leaves(call([[s] for s in FOUND]))
    assert len(expected) == len(found)
    for x, y in zip(expected, found, strict=True):
        if hasattr(x, "dtype"):
            np.testing.assert_array_equal(x, y)
        else:
            assert x == y


def test_elements_belong_to_the_symmetries_that_were_used(tmp_path):
    exact, whole = symjax.match(FOUND, A, B), symjax.match(FOUND, A, B, **MEASURED)
    assert len(exact.element) == len(EXACT) < len(whole.element) == len(FOUND)
    assert "hold only approximately" in whole.notes[-1]
    assert not any("approximately" in note for note in exact.notes)
    for found, options in ((exact, {}), (whole, {"approximate": True})):
        moved = matching.apply_element(FOUND, found.element, B, **options)
        for name, value in moved.items():
            np.testing.assert_allclose(value, found.params[name], rtol=1e-3, atol=1e-4)
        matching.save_element(tmp_path / "g.npz", FOUND, found.element, **options)
        loaded = matching.load_element(tmp_path / "g.npz", FOUND, **options)
        assert len(loaded) == len(found.element)
    with pytest.raises(ValueError, match="approximate symmetries have one only with"):
        matching.apply_element(FOUND, whole.element, B)


@pytest.mark.slow
def test_verify_reports_approximate_rows_as_what_they_claim():
    rows = symjax.verify_all(FOUND, apply, B, X, key=jax.random.key(0))
    assert len(rows) == len(FOUND)
    for row, symmetry in zip(rows, FOUND, strict=True):
        assert row.holds
        assert row.status == ("exact" if symmetry.exact else "approximate")
        assert row.outputs_unchanged == symmetry.exact
    claimed = symjax.Symmetry("scale", FOUND.approximate[0].action, ())
    row = symjax.verify(claimed, apply, B, X, key=jax.random.key(0))
    assert row.status == "fails"
    assert "FAILS (outputs_unchanged)" in str(row)


def test_completeness_holds_approximate_rows_to_the_standard_when_asked():
    report = symjax.completeness(FOUND, apply, B, X[0])
    assert report.skipped == tuple(s.name for s in FOUND.approximate)
    assert not report.false
    report = symjax.completeness(FOUND, apply, B, X[0], approximate=True)
    assert set(report.false) == {s.name for s in FOUND.approximate}
    assert not report.skipped


@pytest.mark.slow
def test_a_generator_is_read_once():
    ordered = lambda p: (
        p["in"].sum() * jnp.sum(jnp.arange(5.0) * (p["v"] @ jnp.diag(p["u"][:, 0])).sum(0))
    )
    look = lambda s: canonical.audit(s, ordered, B, key=jax.random.key(0), steps=1, probes=2).jump
    assert float(look(s for s in FOUND)) == pytest.approx(float(look(EXACT)), rel=1e-5)
    assert float(look(EXACT)) > 1e-3

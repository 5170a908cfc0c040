"""The laws of every group, over sizes, dtypes, batch axes and samples near the identity."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings, strategies as st

import symjax
from symjax import groups

from .helpers import eps, slow_among
from .special_linear import SpecialLinear

SIZES = (1, 4)


def continuous(n):
    return [
        symjax.GeneralLinear(n),
        symjax.Orthogonal(n),
        symjax.PositiveScaling(n),
        symjax.PositiveScaling(),
        symjax.ComplexScaling(n),
        symjax.Translation(n),
        symjax.Product([symjax.GeneralLinear(n), symjax.PositiveScaling(n)]),
        symjax.Power(symjax.GeneralLinear(n), 3),
        symjax.FixingOnes(symjax.Orthogonal(n)),
        *([SpecialLinear(n)] if n > 1 else []),
    ]


def finite(n):
    return [symjax.Permutation(n), symjax.SignFlip(n), symjax.Power(symjax.Permutation(n), 3)]


def every_group():
    return [group for n in SIZES for group in continuous(n) + finite(n)]


def composite(n):
    """Groups made of others, which share their code: their laws but the axioms are slow tests."""
    power = [symjax.Power(symjax.GeneralLinear(n), 3)]
    return [*power, symjax.Product([symjax.GeneralLinear(n), symjax.PositiveScaling(n)])]


COMPOSITE = [group for n in SIZES for group in composite(n)]


def distance(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jnp.stack([jnp.max(jnp.abs(x - y)).astype(float) for x, y in pairs]).max()


def magnitude(*trees):
    return jnp.stack([jnp.max(jnp.abs(x)).astype(float) for x in jax.tree.leaves(trees)]).max()


def condition(g):
    squares = [x for x in jax.tree.leaves(g) if x.ndim >= 2 and x.shape[-1] == x.shape[-2]]
    return jnp.stack([jnp.linalg.cond(x) for x in squares]).max() if squares else 1.0


def together(f, xs):
    """f of each of xs, compiled once for all of them."""
    found = jax.vmap(f)(xs)
    return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(xs))]


@functools.cache
def residuals(group, dtype):
    """One compiled function of (key, scale): every law's residual and what rounding allows."""

    def laws(key, scale):
        draw = lambda k: (
            group.exp(scaled(group.random_algebra(k, dtype=dtype), scale))
            if group.dimension
            else group.random(k, dtype=dtype)
        )
        f, g, h = together(draw, jax.random.split(key, 3))
        one, compose = group.identity(dtype), group.compose
        # A product rounds by n eps of the sizes; an inverse also by the condition number.
        allowed = jnp.maximum(1.0, magnitude(f, g, h)) ** 3 * jnp.asarray(condition(g), float) ** 2
        found = jnp.stack(
            [
                distance(compose(compose(f, g), h), compose(f, compose(g, h))),
                distance(compose(one, g), g),
                distance(compose(g, one), g),
                distance(compose(g, group.inverse(g)), one),
                distance(compose(group.inverse(g), g), one),
            ]
        )
        return found / jnp.asarray(allowed, found.dtype), group.contains(g)

    return jax.jit(laws)


@functools.cache
def round_trips(group, dtype):
    def laws(key, scale):
        m = scaled(group.random_algebra(key, dtype=dtype), scale)
        g, half = together(lambda s: group.exp(scaled(m, s)), jnp.array([1.0, 0.5]))
        log = group.log(g)
        found = jnp.stack(
            [
                distance(log, m),
                distance(group.exp(log), g),
                distance(group.compose(half, half), g),
            ]
        )
        return found / (jnp.asarray(condition(g), found.dtype) * jnp.maximum(1.0, magnitude(g)))

    return jax.jit(laws)


def scaled(tree, factor):
    return jax.tree.map(lambda x: x * jnp.asarray(factor, x.dtype), tree)


in_dtypes = pytest.mark.parametrize(
    "dtype", slow_among([jnp.float64, jnp.float32], jnp.float32), ids=["float64", "float32"]
)
seeds = st.integers(0, 2**31 - 1)


@in_dtypes
@pytest.mark.parametrize("group", every_group(), ids=repr)
@settings(max_examples=8, deadline=None)
@given(seed=seeds, scale=st.sampled_from([1e-6, 0.3, 1.0]))
def test_group_axioms(group, seed, scale, dtype):
    with jax.enable_x64(True):
        found, contained = residuals(group, dtype)(jax.random.key(seed), scale)
        assert bool(contained)
        assert float(found.max()) <= 50 * eps(dtype)


@in_dtypes
@pytest.mark.parametrize(
    "group", slow_among([g for n in SIZES for g in continuous(n)], *COMPOSITE), ids=repr
)
@settings(max_examples=8, deadline=None)
@given(seed=seeds, scale=st.sampled_from([1e-6, 0.1, 0.3]))
def test_exp_and_log_round_trip(group, seed, scale, dtype):
    # Scales keep |m| below pi, where the principal logarithm inverts exp.
    with jax.enable_x64(True):
        found = round_trips(group, dtype)(jax.random.key(seed), scale)
        assert float(found.max()) <= 100 * eps(dtype)


def test_signs_keep_their_dtype(x64):
    group = symjax.SignFlip(2)
    g = group.random(jax.random.key(0), dtype=jnp.float32)
    assert {x.dtype for x in (g, group.log(g), group.exp(group.log(g)))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("group", [g for n in SIZES for g in continuous(n)], ids=repr)
def test_exponentials_lie_in_the_identity_component(group):
    g = group.exp(group.random_algebra(jax.random.key(0)))
    assert group.component(g) == group.component(group.identity())


@pytest.mark.parametrize("group", [g for g in every_group() if g.number_of_components <= 16])
def test_random_elements_are_drawn_from_every_component(group):
    keys = jax.random.split(jax.random.key(0), 40 * group.number_of_components)
    labels = jax.jit(jax.vmap(lambda k: jnp.ravel(group.component(group.random(k)))))(keys)
    _, counts = np.unique(labels, axis=0, return_counts=True)
    # Each is drawn 40 times in the mean, with a standard deviation of at most sqrt(40) = 6.3.
    assert len(counts) == group.number_of_components
    assert (abs(counts - 40) < 5 * 6.4).all()


@functools.cache
def algebra_laws(group, dtype):
    """One compiled function of a key: what `project` and `symmetric` break of what they promise."""

    def laws(key):
        one, two, rest = jax.random.split(key, 3)
        leaves, structure = jax.tree.flatten(group.random_algebra(key, dtype=dtype))
        draw = lambda key: structure.unflatten(
            [
                0.3 * jax.random.normal(k, x.shape, x.dtype)
                for k, x in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
            ]
        )
        a, b = draw(one), draw(two)
        project = group.project
        m = group.random_algebra(rest, dtype=dtype)
        rows = [
            distance(project(project(a)), project(a)),
            distance(project(m), m),
            abs(inner(difference(a, project(a)), project(b))),
        ]
        s = group.symmetric(project(a))
        rows += [distance(group.symmetric(s), s), distance(project(s), s)]
        if group.is_linear and group.axis_size is not None:
            x, y = (jax.random.normal(k, (group.axis_size, 3), dtype) for k in (one, two))
            for how in ("vector", "covector"):
                field = lambda m, x, how=how: group.act_algebra(m, x, how)
                turn = difference(project(a), s)
                rows.append(abs(inner(field(s, x), y) - inner(x, field(s, y))))
                rows.append(abs(inner(field(turn, x), y) + inner(x, field(turn, y))))
        return jnp.stack([r.astype(float) for r in rows]), group.contains(group.exp(project(a)))

    return jax.jit(laws)


def inner(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(jnp.sum(x * y) for x, y in pairs)


def difference(a, b):
    return jax.tree.map(jnp.subtract, a, b)


PROJECTED = [
    *[(group, jnp.float64) for group in continuous(4) + finite(4)],
    *[(group, jnp.float32) for group in (symjax.Orthogonal(3), SpecialLinear(3))],
    *[pytest.param(group, jnp.float32, marks=pytest.mark.slow) for group in every_group()],
]


@pytest.mark.parametrize(("group", "dtype"), PROJECTED)
def test_project_is_orthogonal_onto_the_algebra_and_symmetric_a_part_of_it(group, dtype):
    with jax.enable_x64(True):
        for seed in range(3):
            found, contained = algebra_laws(group, dtype)(jax.random.key(seed))
            assert bool(jnp.all(contained))
            # Sums of up to 48 products of numbers of order one.
            assert float(found.max()) <= 100 * eps(dtype)


class Bare(SpecialLinear):
    """A group that leaves out what may be left out, with translations for its action."""

    project = groups.AbstractGroup.project

    def random_algebra(self, key, *, scale=1.0, dtype=None):
        return SpecialLinear(self.n).random_algebra(key, scale=scale, dtype=dtype)

    def act(self, g, x, representation, inverse=None):
        return self.whole.act(g, x - 1, representation, inverse) + 1

    def act_algebra(self, m, x, representation):
        return self.whole.act_algebra(m, x - 1, representation)


def test_what_a_group_leaves_out_is_refused_and_not_guessed(x64):
    group = Bare(3)
    m = group.random_algebra(jax.random.key(0))
    with pytest.raises(NotImplementedError, match="The group Bare does not define `project`"):
        group.project(m)
    with pytest.raises(NotImplementedError, match=r"does not define `symmetric`.*least norm"):
        groups.AbstractGroup.symmetric(group, m)
    with pytest.raises(NotImplementedError, match="Bare does not define `project`"):
        symjax.Power(group, 2).project(m)
    # What holds for every group is asked of the group itself.
    assert not group.is_linear
    assert not symjax.Product([group, symjax.SignFlip(2)]).is_linear
    assert SpecialLinear(3).is_linear
    assert not symjax.Power(symjax.Translation(2), 2).is_linear
    assert group.notation == str(group)
    assert group.axis_size == 3
    assert symjax.Power(symjax.ComplexScaling(3), 2).axis_size == 12


def test_notation():
    gl, power = symjax.GeneralLinear(4), symjax.Power
    named = {
        "GL(4)": gl,
        "GL(4)^2": power(gl, 2),
        "O(3) beside ones": symjax.FixingOnes(symjax.Orthogonal(3)),
        "(R+^3)^2": power(symjax.PositiveScaling(3), 2),
        "R+": symjax.PositiveScaling(),
        "C*": symjax.ComplexScaling(1),
        "Z2^5": symjax.SignFlip(5),
        "S(5)": symjax.Permutation(5),
        "R^2": symjax.Translation(2),
        "GL(4) x Z2^5": symjax.Product([gl, symjax.SignFlip(5)]),
    }
    assert {name: group.notation for name, group in named.items()} == {n: n for n in named}


@pytest.mark.parametrize("group", slow_among(every_group(), *COMPOSITE), ids=repr)
def test_dimension_counts_the_algebra(group):
    """The rank of many random algebra elements is the dimension."""
    keys = jax.random.split(jax.random.key(0), group.dimension + 3)
    flat = lambda key: jnp.concatenate(
        [jnp.ravel(x) for x in jax.tree.leaves(group.random_algebra(key))]
    )
    assert np.linalg.matrix_rank(np.asarray(jax.vmap(flat)(keys))) == group.dimension


def test_number_of_components():
    assert symjax.GeneralLinear(3).number_of_components == 2
    assert symjax.Orthogonal(3).number_of_components == 2
    assert symjax.PositiveScaling(3).number_of_components == 1
    assert symjax.ComplexScaling(3).number_of_components == 1
    assert symjax.Permutation(4).number_of_components == 24
    assert symjax.SignFlip(4).number_of_components == 16
    assert symjax.Translation(4).number_of_components == 1
    product = symjax.Product([symjax.GeneralLinear(2)] * 3)
    assert product.number_of_components == 8


def test_components_of_random_finite_elements_are_all_reached():
    group = symjax.Permutation(3)
    labels = {group.component(group.random(jax.random.key(i))) for i in range(60)}
    assert len(labels) == math.factorial(3)
    signs = symjax.SignFlip(2)
    assert len({signs.component(signs.random(jax.random.key(i))) for i in range(40)}) == 4


def test_component_is_hashable_outside_jit_and_integer_inside():
    group = symjax.Product([symjax.GeneralLinear(2), symjax.SignFlip(2)])
    g = (jnp.diag(jnp.array([-1.0, 2.0])), jnp.array([1.0, -1.0]))
    assert {group.component(g): "a"} == {(1, (0, 1)): "a"}
    label = jax.jit(group.component)(g)
    assert jnp.issubdtype(label.dtype, jnp.integer)
    assert label.tolist() == [1, 0, 1]


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("kind", ["GeneralLinear", "Orthogonal"])
def test_batch_axes(kind, n):
    group = getattr(symjax, kind)(n)
    keys = jax.random.split(jax.random.key(3), 6)
    batch = jax.vmap(group.random)(keys).reshape(2, 3, n, n)
    assert group.compose(batch, batch).shape == batch.shape
    one_by_one = jnp.stack([group.inverse(g) for g in batch.reshape(6, n, n)])
    np.testing.assert_allclose(
        group.inverse(batch).reshape(6, n, n), one_by_one, rtol=1e-4, atol=1e-5
    )
    assert np.shape(group.component(batch)) == (2, 3)
    assert group.contains(batch).shape == (2, 3)


def test_complex_scaling_is_complex_multiplication():
    group = symjax.ComplexScaling(3)
    g, h = group.random(jax.random.key(0)), group.random(jax.random.key(1))
    as_complex = lambda z: np.asarray(z[..., 0]) + 1j * np.asarray(z[..., 1])
    expected = as_complex(g) * as_complex(h)
    np.testing.assert_allclose(as_complex(group.compose(g, h)), expected, rtol=1e-6)
    x = jax.random.normal(jax.random.key(2), (6, 2))
    z = np.asarray(x)[0::2] + 1j * np.asarray(x)[1::2]
    moved = np.asarray(group.act(g, x, "vector"))
    np.testing.assert_allclose(
        moved[0::2] + 1j * moved[1::2], as_complex(g)[:, None] * z, rtol=1e-5, atol=1e-6
    )


def test_complex_scaling_commutes_with_rotations_of_pairs():
    group = symjax.ComplexScaling(2)
    angle = np.array([0.7, -1.9])
    rotation = scipy.linalg.block_diag(
        *[np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angle]
    ).astype(np.float32)
    g = group.random(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (4, 3))
    there = group.act(g, jnp.asarray(rotation @ x), "vector")
    np.testing.assert_allclose(there, rotation @ group.act(g, x, "vector"), atol=1e-5)


@functools.cache
def moves(group):
    """One compiled function of a key: how far `act` is from a left action with its derivative."""
    step = 1e-6

    def laws(key):
        g, h = together(lambda k: group.random(k, scale=0.3), jax.random.split(key))
        m = group.random_algebra(key, scale=0.3)
        x = jax.random.normal(key, (group.axis_size or 1, 3))
        ahead, back = together(lambda s: group.exp(scaled(m, s)), jnp.array([step, -step]))
        found = []
        for how in ("vector", "covector"):
            act = lambda g, how=how: group.act(g, x, how)
            found.append(distance(act(group.compose(g, h)), group.act(g, act(h), how)))
            if group.dimension:
                slope = (act(ahead) - act(back)) / (2 * step)
                found.append(distance(slope, group.act_algebra(m, x, how)))
        return jnp.stack(found)

    return jax.jit(laws)


@pytest.mark.parametrize("group", slow_among(continuous(4) + finite(4), *COMPOSITE), ids=repr)
def test_act_is_a_left_action_and_act_algebra_its_derivative(group, x64):
    """A wrong order in `compose` is a group as well: only `act` tells."""
    if isinstance(group, symjax.Product):
        pytest.skip("a product acts through its factors")
    for seed in range(3):
        # Differences of numbers of order ten over 2e-6: their rounding is 1e-9.
        assert float(moves(group)(jax.random.key(seed)).max()) <= 1e-8


@pytest.mark.parametrize("group", slow_among(every_group(), *COMPOSITE), ids=repr)
def test_covector_pairs_with_vector(group):
    """<g^-T y, g x> = <y, x>: what makes the function invariant. Translations have no pairing."""
    if isinstance(group, symjax.Product | symjax.Translation):
        pytest.skip("a product acts through its factors, a translation has no pairing")
    x, y = jax.random.normal(jax.random.key(0), (2, group.axis_size or 1, 3))
    g = group.random(jax.random.key(1), scale=0.5)
    moved = jnp.sum(group.act(g, x, "vector") * group.act(g, y, "covector"))
    np.testing.assert_allclose(moved, jnp.sum(x * y), rtol=1e-4, atol=1e-4)
    known = group.act(g, y, "covector", group.inverse(g))
    np.testing.assert_allclose(known, group.act(g, y, "covector"), rtol=1e-3, atol=1e-4)


def test_singular_elements_give_nan_and_are_not_contained():
    gl = symjax.GeneralLinear(2)
    singular = jnp.array([[1.0, 2.0], [2.0, 4.0]])
    assert not gl.contains(singular)
    assert jnp.isnan(gl.inverse(singular)).all()
    assert jnp.isnan(gl.act(singular, jnp.eye(2), "covector")).all()
    assert gl.contains(jnp.diag(jnp.array([1.0, 1e-10])))  # badly scaled, not singular
    scale = symjax.PositiveScaling(2)
    assert not scale.contains(jnp.array([1.0, 0.0]))
    assert jnp.isnan(scale.inverse(jnp.array([0.0]))).all()
    assert jnp.isnan(scale.log(jnp.array([-1.0]))).all()
    assert jnp.isnan(symjax.ComplexScaling(1).log(jnp.zeros((1, 2)))).all()
    assert jnp.isnan(symjax.Permutation(2).log(jnp.array([1, 0])))
    assert symjax.Permutation(2).log(jnp.array([0, 1])) == 0
    assert jnp.isnan(symjax.Orthogonal(2).log(jnp.diag(jnp.array([1.0, -1.0])))).all()


def test_connecting_logs_name_their_method():
    gl = symjax.GeneralLinear(2)
    cases = jnp.stack(
        [jnp.eye(2), jnp.diag(jnp.array([-1.0, -2.0])), jnp.diag(jnp.array([1.0, -1.0]))]
    )
    rotation, stretch, method = gl.connecting_logs(cases)
    expected = [groups.ONE_EXPONENTIAL, groups.TWO_EXPONENTIALS, groups.NO_PATH]
    assert method.tolist() == expected
    product = gl.compose(gl.exp(rotation[1]), gl.exp(stretch[1]))
    np.testing.assert_allclose(product, cases[1], atol=1e-5)
    assert jnp.isnan(stretch[2]).all()


@pytest.mark.parametrize("n", [0, -1, 2.0])
def test_sizes_are_checked(n):
    for kind in ("GeneralLinear", "Orthogonal", "Permutation", "SignFlip", "Translation"):
        with pytest.raises(ValueError, match="`n` must be a positive integer"):
            getattr(symjax, kind)(n)
    with pytest.raises(ValueError, match="`count` must be a positive integer"):
        symjax.Power(symjax.SignFlip(2), n)


def test_products_check_their_entries():
    group = symjax.Product([symjax.GeneralLinear(2), symjax.GeneralLinear(3)])
    with pytest.raises(ValueError, match="tuple of 2 entries"):
        group.compose((jnp.eye(2),), (jnp.eye(2),))
    with pytest.raises(ValueError, match=r"groups\[0\]"):
        symjax.Product([3])
    with pytest.raises(ValueError, match="name the size"):
        symjax.GeneralLinear(None).identity()

"""What is listed is evaluated: false rows are dropped and named, and the evaluation is right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import symjax
from symjax.actions import ShiftAction, ShiftLeg
from symjax.discovery import Symmetry, _check, _find
from symjax.discovery._interpreter import Interpreter, host
from symjax.discovery._mover import Draw, element

from .zoo import case

W = {"v": jnp.ones((4, 3)), "u": jnp.ones((2, 4))}
MLP = lambda p, x: p["u"] @ jax.nn.relu(p["v"] @ x)


# -- false rows -------------------------------------------------------------------------------

#: Rows that change the output of a ReLU network, each with its group.
FALSE = {
    "one side only": (symjax.PositiveScaling(4), [symjax.Leg("v", 0)]),
    "not the inverse": (symjax.PositiveScaling(4), [symjax.Leg("v", 0), symjax.Leg("u", 1)]),
    "not linear": (symjax.GeneralLinear(4), [symjax.Leg("v", 0), symjax.Leg("u", 1, "covector")]),
    "a sign": (symjax.SignFlip(4), [symjax.Leg("v", 0), symjax.Leg("u", 1)]),
    "an input": (symjax.Permutation(3), [symjax.Leg("v", 1)]),
    "a rotation": (symjax.Orthogonal(2), [symjax.Leg("u", 0)]),
}


def planted(monkeypatch, row, shared=0):
    """Discovery that also lists a row, which shares directions with those there are."""
    honest = _find.tabulate

    def assemble(*args):
        found = honest(*args)
        return dataclasses.replace(found, items=(*found.items, row), overlap=found.overlap + shared)

    monkeypatch.setattr(_find, "tabulate", assemble)


@pytest.mark.parametrize("name", FALSE)
def test_a_false_row_is_dropped_and_named(monkeypatch, name):
    group, legs = FALSE[name]
    leaves = tuple(leg.leaf for leg in legs)
    false = Symmetry("planted", symjax.linear_action(group, legs), leaves)
    honest = symjax.find_symmetries(MLP, W, jnp.ones(3))
    assert honest.false == ()
    assert honest.checked == "by the model, in float64"
    planted(monkeypatch, false, shared=4 if name == "not linear" else 0)
    found = symjax.find_symmetries(MLP, W, jnp.ones(3))
    assert found.false == (false,)
    assert found.items == honest.items
    assert (found.dimension, found.overlap) == (honest.dimension, honest.overlap)
    assert f"FALSE, so left out: planted {group.notation}" in str(found)
    assert found.as_dict()["false"][0]["leaves"] == list(leaves)
    assert false in symjax.find_symmetries(MLP, W, jnp.ones(3), check=False).items


def test_a_false_shift_and_a_reflection_alone_are_seen(monkeypatch):
    """|det g| is left by the rotations, det g is not by reflections."""
    apply = lambda p, x: p["b"] + x, jnp.linalg.det
    shift = ShiftAction(symjax.Translation(2), (ShiftLeg("b", (0,), (0,)),), (2,))
    planted(monkeypatch, Symmetry("planted", shift, ("b",)))
    found = symjax.find_symmetries(apply[0], {"b": jnp.ones(2)}, jnp.ones(2))
    assert [s.name for s in found.false] == ["planted"]
    monkeypatch.undo()
    turn = symjax.linear_action(symjax.Orthogonal(3), [symjax.Leg("w", 0)])
    planted(monkeypatch, Symmetry("planted", turn, ("w",)))
    found = symjax.find_symmetries(lambda p: jnp.linalg.det(p["w"]), {"w": jnp.eye(3)})
    assert [s.name for s in found.false] == ["planted"]


@pytest.mark.parametrize(
    "name", ["linear_deep_bias", "layer_norm", "gpt2", "attention_grouped_bias"]
)
def test_dimension_and_overlap_stay_right_after_a_drop(monkeypatch, name):
    apply, params, inputs = case(name).build(jax.random.key(0))
    honest = symjax.find_symmetries(apply, params, *inputs)
    leaf = max(honest.sizes, key=honest.sizes.get)
    false = symjax.linear_action(symjax.PositiveScaling(), [symjax.Leg(leaf, None)])
    planted(monkeypatch, Symmetry("planted", false, (leaf,)))
    found = symjax.find_symmetries(apply, params, *inputs)
    assert [s.name for s in found.false] == ["planted"]
    assert (found.dimension, found.overlap) == (honest.dimension, honest.overlap)


# -- when and how -----------------------------------------------------------------------------


def test_shapes_keys_and_ids_are_enough():
    def apply(p, ids, key, on):
        h = p["e"][ids] * jax.random.normal(key, (5, 4))
        return jnp.where(on, h, -h) @ p["w"]

    params = {"e": jax.ShapeDtypeStruct((7, 4), jnp.float32)}
    params["w"] = jax.ShapeDtypeStruct((4, 3), jnp.float32)
    ids = jax.ShapeDtypeStruct((5,), jnp.int32)
    on = jax.ShapeDtypeStruct((), jnp.bool_)
    found = symjax.find_symmetries(apply, params, ids, jax.random.key(0), on)
    assert (found.dimension, found.checked) == (4, "by the model, in float64")


def test_a_model_that_computes_in_half_precision_is_checked_in_float64():
    apply = lambda p, x: MLP(jax.tree.map(lambda w: w.astype(jnp.bfloat16), p), x)
    found = symjax.find_symmetries(apply, W, jnp.ones(3, jnp.bfloat16))
    assert (found.checked, found.false) == ("by the model, in float64", ())


def test_what_jax_alone_can_compute_is_checked_as_well():
    def apply(p, x):
        kept = jax.vmap(lambda a: jnp.linalg.svd(a, compute_uv=False))(x)
        return MLP(p, kept[0]) + jnp.linalg.slogdet(x[0])[1]

    found = symjax.find_symmetries(apply, W, jnp.ones((2, 3, 3)))
    assert (found.dimension, found.checked) == (4, "by the model, in float64")


def test_above_a_size_the_check_is_left_out_and_says_so(monkeypatch):
    monkeypatch.setattr(_check, "ALLOWED", 10.0)
    found = symjax.find_symmetries(MLP, W, jnp.ones(3))
    assert found.checked.startswith("not at all: the model takes about ")
    assert str(found).splitlines()[-1] == f"checked {found.checked}"
    off = symjax.find_symmetries(MLP, W, jnp.ones(3), check=False)
    assert off.checked == "not at all"


def test_a_model_that_cannot_be_evaluated_is_not_checked_but_read():
    apply = lambda p, x: MLP(p, x) * jnp.log(-1 - x[0] ** 2)
    found = symjax.find_symmetries(apply, W, jnp.ones(3))
    assert found.checked == "not at all: ArithmeticError: no output is finite at random parameters"
    assert found.dimension == 4


# -- the evaluation ---------------------------------------------------------------------------


def _programs(x, i):
    """Uses of every primitive that is computed in NumPy; x is (4, 6), i whole numbers below 4."""
    image = x.reshape(1, 2, 3, 4)
    pos = jnp.abs(x) + 0.5
    small = jnp.tanh(x) * 0.9
    conv = lambda w, **how: lax.conv_general_dilated(image, w, **how)
    window = lambda start, f: lax.reduce_window(x, start, f, (2, 3), (1, 2), "SAME")
    yield [f(x) for f in (jnp.sin, jnp.cos, jnp.tan, jnp.sinh, jnp.cosh, jnp.tanh, jnp.exp)]
    yield [f(x) for f in (jnp.exp2, jnp.expm1, jnp.floor, jnp.ceil, jnp.round, jnp.sign, jnp.abs)]
    yield [f(pos) for f in (jnp.log, jnp.log1p, jnp.sqrt, lax.rsqrt, jnp.cbrt, lax.lgamma)]
    yield [f(small) for f in (jnp.arcsin, jnp.arccos, jnp.arctanh, lax.erf_inv)]
    yield [f(x) for f in (lax.erf, lax.erfc, jax.nn.sigmoid, jnp.arctan, jnp.arcsinh, jax.nn.gelu)]
    yield [lax.digamma(pos), lax.bessel_i0e(x), lax.bessel_i1e(x), jnp.arccosh(pos + 1)]
    yield [x**3, x**-2, pos**1.7, jnp.arctan2(x, pos), x % pos, x / pos, -x, lax.square(x)]
    yield [x > 0, x >= 0, x == x.T.reshape(4, 6), jnp.isfinite(x), ~(x > 0), (x > 0) | (x < -1)]
    yield [jnp.where(x > 0, x, 2.0), jnp.clip(x, -0.3, 0.4), lax.select_n(i, x[0, :4], x[1, :4])]
    yield [i // 2, i % 2, i << 2, i >> 1, i & 1, i ^ 3, ~i, i.astype(jnp.uint8) - jnp.uint8(2)]
    yield [x.astype(jnp.int32), (x > 0).astype(x.dtype), x.astype(bool), lax.round(x * 2)]
    yield [
        jnp.arange(4, dtype=i.dtype) * i,
        x.T,
        x[::2, 1:4],
        x[:, ::-1],
        jnp.stack([x, x]),
        jnp.split(x, 3, 1),
    ]
    yield [jnp.pad(x, ((1, 0), (0, 2))), lax.pad(x, 0.5, ((-1, 2, 1), (1, -2, 2)))]
    yield [
        lax.dynamic_slice(x, (i[0], i[1]), (2, 3)),
        lax.dynamic_update_slice(x, x[:2], (i[3], i[1])),
    ]
    yield [x.sum(0), x.prod(1), x.max(), x.min(1), (x > 0).all(0), (x > 0).any(1)]
    yield [x.argmax(1), x.argmin(0), jnp.cumsum(x, 0), jnp.cumprod(x, 1), lax.cummax(x, 1)]
    yield [lax.cumsum(x, 1, reverse=True), lax.cummin(x, 0), lax.cumlogsumexp(x, 0)]
    yield [x @ x.T, jnp.einsum("ij,kj->ijk", x, x), jnp.einsum("bij,bkj->bik", image[0], image[0])]
    yield [
        jnp.sort(x, 1),
        jnp.argsort(x, 0),
        lax.top_k(x, 3),
        lax.sort((i % 2, i, x[:, 0]), num_keys=2),
    ]
    yield [window(-jnp.inf, lax.max), window(0.0, lax.add), window(jnp.inf, lax.min)]
    yield [conv(x[:3, :4].reshape(3, 2, 1, 2), window_strides=(1, 1), padding="SAME")]
    yield [conv(x[:2, :6].reshape(2, 1, 2, 3), window_strides=(2, 1), padding=((1, 2), (0, 1)),
                lhs_dilation=(1, 2), rhs_dilation=(2, 1), feature_group_count=2)]  # fmt: skip
    yield [conv(x[:3, :4].reshape(1, 2, 2, 3), window_strides=(1, 1), padding="VALID",
                dimension_numbers=("NCHW", "HWIO", "NHWC"))]  # fmt: skip
    yield [x[i], x[i, i + 1], x[:, i], x.at[i].get(mode="clip"), jnp.take(x, i + 2, 0), x[i[0]]]
    yield [jnp.take_along_axis(x, x.argsort(1)[:, :2], 1), jax.vmap(lambda r, j: r[j])(x, i)]
    yield [x.at[i].add(1.0), x.at[:, 2].set(0.5), x.at[i, i].mul(2.0), x.at[i + 2].set(3.0)]
    yield [x.at[i].max(0.3), x.at[i].min(x[::-1]), jax.vmap(lambda r, j: r.at[j].set(9.0))(x, i)]
    yield [jax.ops.segment_sum(x, i % 2, 2), jnp.tile(x, (2, 1)), jnp.repeat(x, 2, 1)]
    yield [lax.reshape(x, (12, 2), (1, 0))]
    yield lax.scan(lambda c, r: (c + r.sum(), c * r), x[0, 0], x)
    yield lax.scan(lambda c, r: (c * 0.5 + r, c), x[0], x, reverse=True)
    yield lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x), (0, x))
    yield [lax.cond(i[0] > 0, jnp.sin, jnp.cos, x), lax.switch(i[1], [jnp.sin, jnp.cos], x)]
    yield [jax.grad(lambda x: jax.nn.relu(x @ x.T).sum())(x), jax.checkpoint(jnp.sin)(x)]
    yield [jax.random.normal(jax.random.key(0), (3,)), jax.vmap(lambda r: r - lax.psum(r, "b"),
           axis_name="b")(x), lax.reduce_precision(x, 11, 52)]  # fmt: skip
    yield [
        jax.grad(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID").sum())(
            x
        )
    ]


@pytest.mark.usefixtures("x64")
def test_the_interpreter_computes_what_jax_computes():
    rng = np.random.default_rng(0)
    arguments = jnp.asarray(rng.standard_normal((4, 6))), jnp.asarray([2, 0, 3, 1], jnp.int32)

    def everything(x, i):
        return [jax.tree.leaves(list(rows)) for rows in _programs(x, i)]

    expected = jax.tree.leaves(jax.jit(everything)(*arguments))
    interpreter = Interpreter(jax.make_jaxpr(everything)(*arguments))
    actual = interpreter([host(x) for x in arguments])
    assert interpreter.eps == np.finfo(np.float64).eps
    for number, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert (a.shape, a.dtype) == (e.shape, e.dtype), number
        np.testing.assert_allclose(a, e, rtol=1e-13, atol=1e-13, err_msg=str(number))


MATRICES = (
    symjax.GeneralLinear(3),
    symjax.Orthogonal(3),
    symjax.Permutation(4),
    symjax.SignFlip(3),
    symjax.PositiveScaling(3),
    symjax.ComplexScaling(2),
    symjax.FixingOnes(symjax.Orthogonal(2)),
    symjax.FixingOnes(symjax.GeneralLinear(3)),
    symjax.Power(symjax.Orthogonal(2), 3),
)


@pytest.mark.parametrize("group", MATRICES, ids=repr)
@pytest.mark.parametrize("reflected", [False, True])
def test_elements_are_in_their_group(group, reflected):
    """As matrices, by what defines the group; both representations, and nearly the identity."""
    rng = np.random.default_rng(0)
    n = group.n * (2 if isinstance(group, symjax.ComplexScaling) else 1)
    act = element(group, Draw(rng, reflected=reflected))
    g, dual = act(np.eye(n), "vector"), act(np.eye(n), "covector")
    np.testing.assert_allclose(g.T @ dual, np.eye(n), atol=1e-13)
    assert np.linalg.cond(g) < 100
    inner = getattr(group, "group", group)
    if isinstance(inner, symjax.Orthogonal):
        np.testing.assert_allclose(g.T @ g, np.eye(n), atol=1e-13)
    if isinstance(group, symjax.FixingOnes):
        np.testing.assert_allclose([g.sum(0), g.sum(1)], np.ones((2, n)), atol=1e-13)
    if isinstance(inner, symjax.Orthogonal | symjax.GeneralLinear):
        odd = reflected and (not isinstance(group, symjax.Power) or group.count % 2 == 1)
        assert (np.linalg.det(g) < 0) == odd
    if isinstance(group, symjax.Permutation):
        assert sorted(map(tuple, g)) == sorted(map(tuple, np.eye(n)))
    if isinstance(group, symjax.ComplexScaling):
        j = np.kron(np.eye(2), [[0, -1], [1, 0]])
        np.testing.assert_allclose(g @ j, j @ g, atol=1e-13)
    if isinstance(group, symjax.PositiveScaling):
        np.testing.assert_allclose(act(np.eye(n), 2.0), g @ g, atol=1e-13)
        assert np.all(np.diag(g) > 0)
    assert not np.allclose(g, np.eye(n))
    near = element(group, Draw(rng, 1e-6))(np.eye(n), "vector")
    np.testing.assert_allclose(near, np.eye(n), atol=1e-4)


FINITE = (
    symjax.Permutation(3),
    symjax.SignFlip(3),
    symjax.Power(symjax.Orthogonal(2), 3),
    symjax.Power(symjax.Permutation(2), 2),
)


@pytest.mark.parametrize("group", FINITE, ids=repr)
def test_of_few_components_every_one_is_drawn(group):
    """Told apart by the orders, the signs or the determinants of the blocks."""
    count, n = int(group.number_of_components), group.n
    seen = set()
    for number in range(count):
        g = element(group, Draw(np.random.default_rng(0), component=number))(np.eye(n), "vector")
        if isinstance(getattr(group, "group", None), symjax.Orthogonal):
            seen.add(tuple(np.linalg.det(g[i : i + 2, i : i + 2]) > 0 for i in range(0, n, 2)))
        else:
            seen.add(tuple(g.ravel()))
    assert len(seen) == count
    again = element(group, Draw(np.random.default_rng(0), component=count))(np.eye(n), "vector")
    first = element(group, Draw(np.random.default_rng(0), component=0))(np.eye(n), "vector")
    np.testing.assert_array_equal(again, first)


def test_a_component_that_chance_would_miss_is_seen(monkeypatch):
    """The output is left by even orders alone: half of the group, of six elements."""
    apply = lambda p: jnp.linalg.det(p["w"])
    order = symjax.linear_action(symjax.Permutation(3), [symjax.Leg("w", 0)])
    planted(monkeypatch, Symmetry("planted", order, ("w",)))
    assert [s.name for s in symjax.find_symmetries(apply, {"w": jnp.eye(3)}).false] == ["planted"]


def test_a_group_without_a_mover_is_refused():
    with pytest.raises(NotImplementedError, match="no element of"):
        element(symjax.Translation(2), Draw(np.random.default_rng(0)))

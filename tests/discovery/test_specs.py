"""Permutation specs: imported ones are true on an MLP and a residual network, and come back."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import linen

import symjax
from symjax.discovery import actions_from_permutation_spec, permutation_spec

from .zoo._case import generic

KEY = jax.random.key(0)
X = jnp.asarray([[0.3, -0.2, 1.0]])


class Mlp(linen.Module):
    @linen.compact
    def __call__(self, x):
        for width in (4, 5):
            x = linen.relu(linen.Dense(width)(x))
        return linen.Dense(2)(x)


class ResNet(linen.Module):
    """A stem, one residual block, pooling and a dense layer; batch norm from running statistics."""

    @linen.compact
    def __call__(self, x):
        norm = lambda: linen.BatchNorm(use_running_average=True)
        conv = lambda width: linen.Conv(width, (3, 3), use_bias=False)
        s = linen.relu(norm()(conv(3)(x)))
        y = linen.relu(norm()(conv(4)(s)))
        s = linen.relu(s + norm()(conv(3)(y)))
        return linen.Dense(2)(s.mean((1, 2)))


MLP_SPEC = {
    "Dense_0/kernel": (None, "P_0"),
    "Dense_0/bias": ("P_0",),
    "Dense_1/kernel": ("P_0", "P_1"),
    "Dense_1/bias": ("P_1",),
    "Dense_2/kernel": ("P_1", None),
    "Dense_2/bias": (None,),
}


def norm_rows(number, name):
    rows = {f"params/BatchNorm_{number}/{n}": (name,) for n in ("scale", "bias")}
    return rows | {f"batch_stats/BatchNorm_{number}/{n}": (name,) for n in ("mean", "var")}


RESNET_SPEC = {
    "params/Conv_0/kernel": (None, None, None, "P_0"),
    "params/Conv_1/kernel": (None, None, "P_0", "P_1"),
    "params/Conv_2/kernel": (None, None, "P_1", "P_0"),
    **norm_rows(0, "P_0"),
    **norm_rows(1, "P_1"),
    **norm_rows(2, "P_0"),
    "params/Dense_0/kernel": ("P_0", None),
    "params/Dense_0/bias": (None,),
}


def ones(module, x):
    """Variables of one: verify makes them generic, and variances stay positive."""
    shapes = jax.eval_shape(module.init, KEY, x)
    return jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes)


def mlp():
    module = Mlp()
    return *symjax.from_linen(module, ones(module, X)), X


def resnet():
    module, x = ResNet(), jnp.ones((1, 4, 4, 2))
    return *symjax.from_linen(module, ones(module, x), state_as_parameters=True), x


@pytest.mark.parametrize(("model", "spec"), [(mlp, MLP_SPEC), (resnet, RESNET_SPEC)])
def test_an_imported_spec_is_true_and_comes_back(model, spec):
    apply, params, x = model()
    symmetries = actions_from_permutation_spec(spec, params)
    sizes = {s.name: s.group.n for s in symmetries}
    assert sizes == ({"P_0": 4, "P_1": 5} if model is mlp else {"P_0": 3, "P_1": 4})
    for found in symjax.verify_all(symmetries, apply, params, x, key=KEY):
        assert found.holds, found
    assert renamed(permutation_spec(symmetries, params)) == renamed(spec)


def renamed(spec):
    """The rows by leaf, with the permutations named in the order in which they are met."""
    order = dict.fromkeys(name for leaf in sorted(spec) for name in spec[leaf] if name)
    number = {name: i for i, name in enumerate(order)}
    return {leaf: tuple(number.get(n) for n in row) for leaf, row in spec.items()}


def test_a_wrong_spec_is_caught_by_verify():
    apply, params, x = mlp()
    wrong = MLP_SPEC | {"Dense_1/bias": (None,)}
    first, second = symjax.verify_all(
        actions_from_permutation_spec(wrong, params), apply, params, x, key=KEY
    )
    assert first.holds
    assert not second.holds


def test_what_has_no_place_in_a_spec_is_left_out():
    params = generic(KEY, {"w": jnp.ones((4, 3)), "n": jnp.ones(())})
    scaling = symjax.linear_action(symjax.PositiveScaling(4), [symjax.Leg("w", 0)])
    symmetry = symjax.discovery.Symmetry("scaling", scaling, ("w",))
    assert permutation_spec([symmetry], params) == {"w": (None, None), "n": ()}


def test_a_spec_that_does_not_fit_is_refused():
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(4)}
    refused = lambda spec: actions_from_permutation_spec(spec, params)
    with pytest.raises(ValueError, match=r"names the leaf 'v'; `params` has the leaves"):
        refused({"v": ("P_0",)})
    with pytest.raises(ValueError, match=r"1 axes for the leaf 'w', which is float32\[4,3\]"):
        refused({"w": ("P_0",)})
    with pytest.raises(ValueError, match=r"'P_0' on axis 1 of 'w', of size 3, and on .* size 4"):
        refused({"w": ("P_0", "P_0")})


def test_equinox_paths_work_as_well():
    model = eqx.nn.MLP(3, 2, 4, 1, key=KEY)
    apply, params = symjax.from_equinox(model)
    spec = {"layers/0/weight": ("P", None), "layers/0/bias": ("P",), "layers/1/weight": (None, "P")}
    (symmetry,) = actions_from_permutation_spec(spec, params)
    assert symmetry.leaves == tuple(spec)
    assert symjax.verify(symmetry, apply, params, jnp.ones(3), key=KEY).holds

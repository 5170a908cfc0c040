"""Programs on several devices: read with the axes of the mesh as axes of their own.

The mesh is abstract, so one device is enough to trace; outputs come from the same body under vmap.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

import symjax

from ._reference import changes

pytestmark = pytest.mark.usefixtures("x64")

S = PartitionSpec
DEVICES = 2


def weights(**shapes):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def pair(body, axes, out, check_vma=True):
    """A body under shard_map, and under vmap; ``axes`` are those that are split, or None."""
    spec = lambda a: S() if a is None else S(*[None] * a, "d")
    sharded = jax.shard_map(
        body,
        mesh=AbstractMesh((DEVICES,), ("d",)),
        in_specs=tuple(map(spec, axes)),
        out_specs=spec(out),
        check_vma=check_vma,
    )

    def plain(*arrays):
        parts = [
            x if a is None else jnp.stack(jnp.split(x, DEVICES, a))
            for x, a in zip(arrays, axes, strict=True)
        ]
        every = jax.vmap(body, [None if a is None else 0 for a in axes], axis_name="d")(*parts)
        return every[0] if out is None else jnp.concatenate(list(every), out)

    call = lambda f: lambda p, *x: f(*p.values(), *x)
    return call(sharded), call(plain)


def checked(functions, params, *inputs):
    """The symmetries of the first function, all of which the second has."""
    params, inputs = jax.tree.map(jnp.asarray, (params, inputs))
    found = symjax.find_symmetries(functions[0], params, *inputs, check=False)
    for s, change in changes(found.exact, functions[1], params, inputs):
        assert change < 1e-12, f"{s.name} of {s.leaves} changes the output by {change:.1e}"
    return found


def sizes(found):
    return sorted(str(s.group) for s in found)


PARAMS = weights(a=(2, 6), b=(6, 2))
X = np.random.default_rng(1).standard_normal((4, 2))
psum = lambda x: jax.lax.psum(x, "d")
relu = jax.nn.relu
#: (body, how its operands and its output are split, dimension): a hidden layer of 2 x 3 units.
BODIES = {
    "sum over devices": (lambda a, b, x: psum(relu(x @ a) @ b), (1, 0, None), None, 6),
    "mean": (lambda a, b, x: jax.lax.pmean(relu(x @ a) @ b, "d"), (1, 0, None), None, 6),
    "gather": (
        lambda a, b, x: jax.lax.all_gather(relu(x @ a), "d", axis=1, tiled=True) @ b,
        (1, None, None),
        0,
        6,
    ),
    "scatter": (
        lambda a, b, x: jax.lax.psum_scatter(relu(x @ a) @ b, "d", tiled=True),
        (1, 0, None),
        0,
        6,
    ),
    "all to all": (
        lambda a, b, x: (
            jax.lax.all_to_all(relu(x @ a), "d", 0, 1, tiled=True)
            @ jax.lax.all_gather(b, "d", tiled=True)
        ),
        (1, 0, None),
        0,
        6,
    ),
    "neighbours": (
        lambda a, b, x: jax.lax.ppermute(relu(x @ a), "d", [(0, 1), (1, 0)]) @ b,
        (1, 0, None),
        1,
        3,
    ),
    "a number per device": (
        lambda a, b, x: psum(relu(x @ a + jax.lax.axis_index("d").astype(x.dtype)) @ b),
        (1, 0, None),
        None,
        0,
    ),
    "the largest": (lambda a, b, x: jax.lax.pmax(relu(x @ a), "d") @ b, (1, 0, None), 0, 3),
    "softmax of what a device has": (
        lambda a, b, x: jax.nn.softmax(x @ a) @ b,
        (1, 0, None),
        1,
        4,
    ),
    "a reshape of what a device has": (
        lambda a, b, x: psum(relu(x @ a).reshape(-1, 3, 1).sum(2) @ b),
        (1, 0, None),
        None,
        6,
    ),
    "in steps": (
        lambda a, b, x: jax.lax.scan(lambda h, _: (psum(relu(h @ a) @ b), None), x, None, 2)[0],
        (1, 0, None),
        None,
        6,
    ),
    "a branch": (
        lambda a, b, x: jax.lax.cond(x.sum() > 0, lambda: psum(relu(x @ a) @ b), lambda: 0 * x),
        (1, 0, None),
        None,
        6,
    ),
    "examples": (lambda a, b, x: relu(x @ a) @ b, (None, None, 0), 0, 6),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_mapped_over_the_devices(name):
    body, axes, out, dimension = BODIES[name]
    found = checked(
        pair(body, axes, out, check_vma=name not in ("gather", "the largest")), PARAMS, X
    )
    assert not found.unknown
    assert found.dimension == dimension


def test_units_of_two_devices_are_told_apart_where_they_are():
    body, axes, out, _ = BODIES["softmax of what a device has"]
    groups = sizes(checked(pair(body, axes, out), PARAMS, X))
    assert any("Permutation(n=3)" in g for g in groups)
    assert not any("Permutation(n=6)" in g for g in groups)


def test_meshes_of_two_axes_and_of_one_for_two():
    mesh = AbstractMesh((2, 3), ("x", "y"))
    body = lambda a, b, x: jax.lax.psum(relu(x @ a) @ b, ("x", "y"))
    specs = (S(None, ("y", "x")), S(("y", "x"), None), S())
    sharded = jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=S())
    apply = lambda p, x: sharded(p["a"], p["b"], x)
    plain = lambda p, x: relu(x @ p["a"]) @ p["b"]
    assert checked((apply, plain), PARAMS, X).dimension == 6
    crossed = (S(None, ("x", "y")), S(("y", "x"), None), S())
    sharded = jax.shard_map(body, mesh=mesh, in_specs=crossed, out_specs=S())
    order = np.arange(6).reshape(3, 2).T.reshape(-1)
    plain = lambda p, x: relu(x @ p["a"]) @ p["b"][order]
    assert checked((apply, plain), PARAMS, X).dimension in (0, 6)


def test_what_is_not_the_same_on_all_devices_is_not_understood():
    functions = pair(lambda a, b, x: relu(x @ a) @ b, (1, 0, None), None, check_vma=False)
    found = symjax.find_symmetries(functions[0], PARAMS, X, check=False)
    assert (found.dimension, set(found.unknown)) == (0, {"shard_map"})


def test_pmap_is_a_map_over_its_axis():
    params = weights(a=(1, 2, 3), b=(1, 3, 2))
    member = lambda a, b, x: jax.lax.pmean(relu(x @ a) @ b, "d")
    apply = lambda p, x: jax.pmap(member, "d", in_axes=(0, 0, None))(p["a"], p["b"], x)
    found = checked((apply, apply), params, X)
    assert found.dimension == 3
    assert not found.unknown

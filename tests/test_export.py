"""Everything public that computes can be exported for CPU, CUDA and TPU from any one of them.

Lowering is what is tested: a primitive that one of the platforms lacks fails here, on any machine.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import pytest

from symjax import geometry, linalg

from .calls import GROUPS, NUMERICAL, THROUGH_OTHERS, calls, exponential
from .public_names import public_objects

PLATFORMS = ("cpu", "cuda", "tpu")
CALLS = calls(lambda x: jnp.asarray(x, jnp.float32))
SQUARE = 0.1 * jnp.arange(9.0).reshape(3, 3) + jnp.eye(3)
PAIR, TIMES = (jnp.ones((3, 2)), jnp.ones((2, 3))), jnp.linspace(0.0, 1.0, 5)


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

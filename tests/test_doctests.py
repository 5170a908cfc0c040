"""The example in every public docstring runs, and every public function has one."""

import doctest
import importlib
import inspect
from importlib.util import find_spec

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import symjax

from .public_names import public_objects

OBJECTS = public_objects()
# Public in their module because other stages call them; not offered to users.
INTERNAL = {"symjax.actions.compress", "symjax.groups.power_of", "symjax.linalg.connecting_logs"}
# Skipped where the framework of another environment is absent (see tests/world).
FRAMEWORKS = {"symjax.adapters.from_torch": "torch", "symjax.adapters.from_keras": "keras"}
# Here a function's example is a figure or a study: the tests of plotting and studies show them.
SHOWN_ELSEWHERE = ("symjax.plotting.", "symjax.studies.")


def names_in_scope(name):
    """jax, jnp, eqx, the root of symjax, and the module that the object is public in."""
    module = vars(importlib.import_module(name.rpartition(".")[0]))
    return vars(symjax) | module | {"jax": jax, "jnp": jnp, "eqx": eqx}


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name, value in OBJECTS.items():
        for test in finder.find(value, name, globs=names_in_scope(name)):
            if test.examples:
                yield pytest.param(test, id=test.name)


@pytest.mark.parametrize("example", list(examples()))
def test_example(example):
    if not find_spec(FRAMEWORKS.get(example.name, "symjax")):
        pytest.skip("needs the extra world")
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    with jax.numpy_dtype_promotion("standard"):  # as a reader has it, and as Optax needs it
        runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_every_public_function_has_an_example():
    without = [
        name
        for name, value in OBJECTS.items()
        if inspect.isroutine(value)
        and ">>>" not in (value.__doc__ or "")
        and name not in INTERNAL
        and not name.startswith(SHOWN_ELSEWHERE)
    ]
    assert without == []

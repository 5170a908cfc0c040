"""How results print: the numbers that they hold, short, and as well under a trace or with NaN."""

import dataclasses
import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import bounds, merging, training
from symjax._results import AbstractResult, printed

from .public_names import public_objects

# What is not the answer of a function: it has weights or a description to print.
NOT_RESULTS = {
    "actions": "all",
    "adapters": "all",
    "groups": "all",
    "curves": "all",
    "studies": "all",
    "plotting": "all",
}
NUMBER = 0.0312449


def result_classes():
    found = {}
    for name, kind in public_objects().items():
        answer = inspect.isclass(kind) and not issubclass(kind, Exception)
        if answer and name.split(".")[1] not in NOT_RESULTS:
            found[name.removeprefix("symjax.")] = kind
    return found


OWN = {"bounds.AbstractBound", "discovery.Symmetry"}
RESULTS = result_classes()
FIELDS = {
    name: kind for name, kind in RESULTS.items() if "__str__" not in vars(kind) and name not in OWN
}


def fields(kind):
    """The fields that hold what was found: all but the hypotheses of a bound."""
    if hasattr(kind, "_fields"):
        return kind._fields
    return [f.name for f in dataclasses.fields(kind) if not f.metadata.get("hypothesis")]


def filled(kind, value):
    """A result with one value in every field; hypotheses hold."""
    if hasattr(kind, "_fields"):
        return kind(*(value for _ in kind._fields))
    result = object.__new__(kind)
    for field in dataclasses.fields(kind):
        true = jnp.asarray(True) if field.metadata.get("hypothesis") else value
        object.__setattr__(result, field.name, true)
    return result


def test_every_result_class_prints_by_the_one_function_or_in_its_own_words():
    for name, kind in RESULTS.items():
        own = "__str__" in vars(kind) or name in OWN
        assert own or issubclass(kind, AbstractResult) or kind.__repr__ is printed, name
        assert kind.__repr__ is not eqx.Module.__repr__, name


@pytest.mark.parametrize("name", FIELDS)
def test_a_result_prints_its_numbers_to_three_digits(name):
    for number in (
        NUMBER,
        jnp.asarray(NUMBER),
        np.float32(NUMBER),
        jnp.asarray(NUMBER, "bfloat16"),
    ):
        text = repr(filled(FIELDS[name], number))
        assert text.count("=0.0312") == len(fields(FIELDS[name]))
        assert text.startswith(FIELDS[name].__name__ + "(")


@pytest.mark.parametrize("name", FIELDS)
def test_a_result_is_printed_short_for_large_models_and_batches(name):
    if not issubclass(FIELDS[name], bounds.AbstractBound):
        weights = {"a": np.ones((200, 100)), "b": [jnp.ones((300, 20))] * 2}
        text = repr(filled(FIELDS[name], weights))
        assert text.count("<3 arrays, 32000 numbers>") == len(fields(FIELDS[name]))
    batch = jnp.linspace(0.5, 2.25, 10_000)
    text = repr(filled(FIELDS[name], batch.at[3].set(jnp.nan)))
    assert text.count("float32[10000] from 0.5 to 2.25, 1 NaN") == len(fields(FIELDS[name]))


@pytest.mark.parametrize("name", FIELDS)
def test_a_result_prints_under_a_trace_and_with_nan(name):
    kind, texts = FIELDS[name], []
    print_it = lambda x: (texts.append(repr(filled(kind, x))), x)[1]
    jax.jit(print_it)(jnp.ones(()))
    jax.vmap(print_it)(jnp.ones(3))
    jax.grad(print_it)(jnp.ones(()))
    assert all(text.count("=f32[]") == len(fields(kind)) for text in texts)
    assert len(texts) == 3
    nan = jnp.asarray(np.nan)
    with jax.debug_nans(True):
        assert "=nan" in repr(filled(kind, nan))
    # JAX puts anything at all into the leaves of a pytree
    repr(filled(kind, object()))
    repr(filled(kind, None))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (jnp.asarray([1, -2]), "[1, -2]"),
        (jnp.asarray([True, False]), "[True, False]"),
        (np.ones((2, 5), bool), "bool[2,5], 10 True"),
        (np.arange(12), "int64[12] from 0 to 11"),
        (np.full((3, 3), np.nan), "float64[3,3], 9 NaN"),
        (np.ones((3, 3), complex), "complex128[3,3]"),
        (np.zeros((0, 3)), "float64[0,3]"),
        (np.asarray(1 + 0.25j), "1+0.25j"),
        (jnp.asarray([0.5, -jnp.inf], jnp.float16), "[0.5, -inf]"),
        (jax.random.key(0), "key<fry>[]"),
        ("two words", "'two words'"),
        (("one",), "('one',)"),
        ([1.0, 2.0], "[1, 2]"),
        ({"loss": 0.12345}, "{'loss': 0.123}"),
        (tuple(range(100)), "(0, 1, 2, 3, 4, 5, 6, ..., 99)"),
        (jnp.tanh, "<tanh>"),
        (symjax.chord(jnp.ones(3), jnp.zeros(3)), "Chord(...)"),
        (np.int64(12345), "12345"),
    ],
)
def test_values(value, text):
    @dataclasses.dataclass
    class Found:
        value: object
        __repr__ = printed

    assert repr(Found(value)) == f"Found(value={text})"


def test_a_donated_array_has_no_numbers_left_to_print():
    x = jnp.ones((1, 3))
    result = training.LastLayer(x, jnp.asarray(0.5))
    x.delete()
    assert repr(result) == "LastLayer(weights=f32[1,3], excess=0.5)"


def test_a_bound_says_whether_it_holds():
    kept = bounds.chord_deviation(1.0, 1.0, 1.1)
    assert str(kept) == repr(kept)
    assert "(value=0.134, holds=True, " in repr(kept)
    assert "holds=False" in repr(bounds.chord_deviation(1.0, 1.0, 5.3))
    batch = jax.vmap(lambda d: bounds.trivial_chord_deviation(0.5, d))(jnp.asarray([1.0, jnp.nan]))
    assert repr(batch) == (
        "EndDeviation(value=[0.5, inf], holds=[True, False], alpha_inside=[True, False])"
    )


def test_a_sentence_is_the_numbers_under_a_trace_and_in_a_batch():
    loss = lambda w: jnp.sum((w[1] * w[0] - 1) ** 2)
    weights, texts = (jnp.ones((1, 1)), jnp.ones((1, 1))), []

    def forecast(m):
        curve = symjax.exponential_curve(symjax.rescaling_action(), weights, m)
        found = merging.averaging_forecast(loss, curve, tolerance=0.05, lipschitz=1.0, cells=2)
        texts.extend([str(found), repr(found)])
        return found

    single = forecast(jnp.asarray(0.3))
    batch = jax.vmap(forecast)(jnp.asarray([0.3, 3.0]))
    assert repr(single).startswith("promised: the average's loss is at most 0.0")
    assert "value=f32[]" in texts[-1]
    assert "holds=[True, " in str(batch)
    assert "holds=[True, " in repr(batch)


def test_a_nested_result_is_indented():
    found = symjax.topology.linear_minimum((3, 2, 3), np.eye(3), np.diag([3.0, 2.0, 1.0]))
    assert "  margins=Margins(\n    r_x=3," in repr(found)
    assert "data=<" not in repr(found)


def test_tables_are_tables_in_a_notebook():
    scales = symjax.Symmetry("a<b", symjax.neuron_rescaling_action(3), ("0", "1"))
    found = symjax.discovery.Symmetries((scales,), {}, sizes={"0": 6, "1": 6})
    assert "<th>symmetry</th>" in found._repr_html_()
    assert "<td>a&lt;b</td>" in found._repr_html_()
    assert "<p>group dimension 3</p>" in found._repr_html_()
    assert repr(scales) == f"Symmetry(a<b: {scales.group.notation} moves 0, 1; exact)"
    line = {"as given": symjax.chord(jnp.zeros(1), jnp.ones(1))}
    report = merging.merging_report(line, losses={"loss": lambda w: w[0] * (1 - w[0])})
    assert repr(report) == str(report)
    assert "<td>as given</td><td>1</td><td>0.0000</td><td>0.0000</td><td>0.2500</td>" in (
        report._repr_html_()
    )

"""What is found, beside the null space of the output Jacobian and under verify in float32."""

import jax
import pytest

import symjax

from .zoo import CASES, case

#: One or two of each family, with the groups of all kinds between them.
VERIFIED = (
    "linear_deep_bias",
    "relu_squared",
    "custom_vjp",
    "swiglu",
    "batch_norm_leaky",
    "layer_norm",
    "group_norm",
    "attention_grouped_bias",
    "gpt2",
    "llama",
    "lstm",
    "state_space",
    "while_loop",
    "cond",
    "conv_max_pool",
    "mixture_of_experts",
    "tucker",
    "eqx_attention",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", VERIFIED)
def test_every_symmetry_passes_verify_in_single_precision(name):
    apply, params, inputs = case(name).build(jax.random.key(0))
    symmetries = symjax.find_symmetries(apply, params, *inputs).exact
    assert symmetries
    for found in symjax.verify_all(symmetries, apply, params, *inputs, key=jax.random.key(1)):
        assert found.holds, found


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", [c for c in CASES if c.numeric], ids=lambda c: c.name)
def test_tangents_lie_in_the_null_space_and_are_as_many_as_is_said(model):
    apply, params, inputs = model.build(jax.random.key(0))
    symmetries = symjax.find_symmetries(apply, params, *inputs)
    report = symjax.completeness(symmetries, apply, params, *inputs)
    if model.equality:
        assert report.redundancy == model.dimension
        assert report.redundancy.gap > 1000
    else:
        assert report.redundancy >= model.dimension
    assert not report.false, report
    assert report.explained == symmetries.dimension, report

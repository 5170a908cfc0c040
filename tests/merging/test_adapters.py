"""Averages of LoRA adapters against dense sums of their products, computed here by other means."""

import jax.numpy as jnp
import numpy as np
import pytest

from symjax.merging import average_adapters

MODULE = "base_model.model.layers.0.q_proj"


def adapter(seed, r=4, alpha=8, dtype=jnp.float32, bias=False, shape=(6, 5), **config):
    rng = np.random.default_rng(seed)
    state = {
        f"{MODULE}.lora_A.weight": jnp.asarray(rng.normal(size=(r, shape[1])), dtype),
        f"{MODULE}.lora_B.weight": jnp.asarray(rng.normal(size=(shape[0], r)), dtype),
    }
    if bias:
        state[f"{MODULE}.lora_B.bias"] = jnp.asarray(rng.normal(size=shape[0]), dtype)
    given = {"peft_type": "LORA", "r": r, "lora_alpha": alpha, "target_modules": ["q_proj"]}
    return state, given | {"lora_bias": bias} | config


def delta(state, config):
    """What peft adds to the weight, and to the bias, by its own formula."""
    a, b = (np.asarray(state[f"{MODULE}.lora_{k}.weight"], np.float64) for k in "AB")
    r, alpha = config["r"], config["lora_alpha"]
    assert len(a) == r
    scale = alpha / r**0.5 if config.get("use_rslora") else alpha / r
    bias = np.asarray(state.get(f"{MODULE}.lora_B.bias", np.zeros(len(b))), np.float64)
    return scale * b @ a, scale * bias


def close(x, y):
    return np.abs(x - y).max() <= 32 * np.finfo(np.float32).eps * np.abs(y).max()


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"bias": True}])
def test_one_adapter_comes_back_and_several_average_their_products(options):
    a, b = adapter(0, **options), adapter(1, r=2, alpha=3)
    same = average_adapters([a], [1.0])
    assert all(same.state[k] is a[0][k] for k in a[0])
    assert same.config == a[1]
    mean = average_adapters([a, b], [0.25, 0.75])
    (da, ba), (db, bb) = delta(*a), delta(*b)
    got, bias = delta(*mean)
    assert close(got, 0.25 * da + 0.75 * db)
    if options.get("bias"):
        assert close(bias, 0.25 * ba + 0.75 * bb)
        assert mean.config["lora_bias"] is True


def test_an_adapter_in_two_coordinates_is_its_own_average():
    state, config = adapter(0)
    g = np.eye(4) + 0.3 * np.random.default_rng(5).normal(size=(4, 4))
    a, b = (np.asarray(state[f"{MODULE}.lora_{k}.weight"], np.float64) for k in "AB")
    other = {
        f"{MODULE}.lora_A.weight": jnp.asarray(g @ a, jnp.float32),
        f"{MODULE}.lora_B.weight": jnp.asarray(b @ np.linalg.inv(g), jnp.float32),
    }
    mean = average_adapters([(state, config), (other, config)], rank=4)
    assert mean.config["r"] == 4
    assert close(delta(*mean)[0], delta(state, config)[0])


def test_a_rank_is_the_nearest_product_of_that_rank():
    a, b = adapter(0), adapter(1)
    mean = average_adapters([a, b], rank=2)
    u, s, vt = np.linalg.svd((delta(*a)[0] + delta(*b)[0]) / 2)
    assert close(delta(*mean)[0], (u[:, :2] * s[:2]) @ vt[:2])
    assert mean.state[f"{MODULE}.lora_A.weight"].shape == (2, 5)


def test_negative_weights_and_modules_that_one_lacks():
    a, b = adapter(0), adapter(1)
    assert close(delta(*average_adapters([a, b], [1.0, -1.0]))[0], delta(*a)[0] - delta(*b)[0])
    other = {k.replace("q_proj", "v_proj"): x for k, x in b[0].items()}
    config = b[1] | {"target_modules": ["v_proj"]}
    mean = average_adapters([a, (other, config)], [0.5, 0.5])
    assert mean.config["target_modules"] == ["q_proj", "v_proj"]
    assert close(delta(*(mean.state, mean.config))[0], 0.5 * delta(*a)[0])


@pytest.mark.parametrize("variant", [{"use_dora": True}, {"kasa_config": {"beta": 1e-4}}])
def test_variants_whose_changes_do_not_add_are_refused(variant):
    one = adapter(0, **variant)
    assert average_adapters([one], [1.0]).config == one[1]
    with pytest.raises(ValueError, match=next(iter(variant))):
        average_adapters([one, adapter(1)])


def test_bad_input_is_named():
    a = adapter(0)
    with pytest.raises(ValueError, match="rank 4, its config says 8"):
        average_adapters([(a[0], a[1] | {"r": 8}), a])
    with pytest.raises(ValueError, match="different shapes"):
        average_adapters([a, adapter(1, shape=(7, 5))])
    with pytest.raises(ValueError, match="no LoRA factor"):
        average_adapters([(a[0] | {"x": jnp.ones(2)}, a[1]), a])
    with pytest.raises(ValueError, match="lora_B"):
        average_adapters([({k: v for k, v in a[0].items() if "_A" in k}, a[1]), a])
    with pytest.raises(ValueError, match="weights"):
        average_adapters([a, a], [1.0])

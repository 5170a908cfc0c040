"""`from_keras`: the model's own outputs, names that do not change, and the model back."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="needs the extra keras")
layers = keras.layers
pytestmark = pytest.mark.usefixtures("as_a_reader_has_it")  # Keras itself broadcasts


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def perceptron():
    stack = [layers.Dense(5, "relu"), layers.Dropout(0.5), layers.Dense(2)]
    return keras.Sequential([keras.Input((3,)), *stack])


def convolutional():
    image = keras.Input((6, 6, 2))
    x = layers.BatchNormalization(name="norm")(layers.SeparableConv2D(3, 3)(image))
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.ReLU()(x))))


def recurrent():
    return keras.Sequential([keras.Input((4, 3)), layers.GRU(2), layers.Dense(2)])


MODELS = {
    "perceptron": (perceptron, (4, 3)),
    "convolutional": (convolutional, (2, 6, 6, 2)),
    "recurrent": (recurrent, (2, 4, 3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_names_and_the_model_back(name):
    make, shape = MODELS[name]
    x = drawn(*shape)
    names = set()
    for _ in range(2):  # Keras counts the layers of the session, and the names do not
        model = make()
        apply, params = symjax.from_keras(model)
        names.add(tuple(params))
    assert len(names) == 1
    np.testing.assert_allclose(jax.jit(apply)(params, x), model(x), rtol=1e-5, atol=1e-6)
    moved = jax.tree.map(lambda leaf: leaf + 0.1, params)
    np.testing.assert_allclose(apply.restore(moved)(x), apply(moved, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(apply.restore(params)(x), model(x), rtol=1e-5, atol=1e-6)


def test_names_say_which_layer():
    _, params = symjax.from_keras(perceptron())
    assert list(params) == [f"{n}/{v}" for n in ("dense", "dense_1") for v in ("kernel", "bias")]
    _, params = symjax.from_keras(convolutional())
    assert "norm/gamma" in params


def test_statistics_are_constant_unless_they_are_asked_for():
    model, x = convolutional(), drawn(2, 6, 6, 2)
    assert "norm/moving_mean" not in symjax.from_keras(model)[1]
    apply, params = symjax.from_keras(model, state_as_parameters=True)
    moved = params | {"norm/moving_mean": params["norm/moving_mean"] + 1}
    assert np.abs(apply(moved, x) - apply(params, x)).max() > 1e-2
    before = np.asarray(model.get_layer("norm").moving_mean)
    training = symjax.from_keras(model, lambda m, x: m(x, training=True))
    training[0](training[1], x)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, before)


def test_the_model_may_change_afterwards():
    model, x = perceptron(), drawn(4, 3)
    apply, params = symjax.from_keras(model)
    before = apply(params, x)
    for v in model.variables:
        v.assign(np.zeros(v.shape))
    np.testing.assert_array_equal(apply(params, x), before)


def stacked():
    parts = [layers.LSTM(3, return_sequences=True), layers.LSTM(2), layers.Dense(2)]
    return keras.Sequential([keras.Input((4, 3)), *parts])


@pytest.mark.parametrize(
    ("make", "shape", "true"),
    [
        (perceptron, (4, 3), 5),  # a scale for each hidden unit
        (recurrent, (2, 4, 3), 4),  # both biases of two gates are only seen in their sum
        (stacked, (2, 4, 3), 0),  # permutations of units alone
    ],
)
def test_symmetries_are_those_of_the_layers(make, shape, true):
    apply, params = symjax.from_keras(make())
    assert symjax.find_symmetries(apply, params, drawn(*shape)).dimension == true


def test_what_cannot_be_used_is_refused():
    with pytest.raises(ValueError, match="must be a Keras model or layer, got int"):
        symjax.from_keras(3)
    with pytest.raises(ValueError, match=r"no variables; call it once, or model.build"):
        symjax.from_keras(keras.Sequential([layers.Dense(2)]))
    apply, params = symjax.from_keras(perceptron())
    with pytest.raises(ValueError, match="'dense/kernel' stand on one side only"):
        apply({k: v for k, v in params.items() if k != "dense/kernel"}, drawn(4, 3))
    with pytest.raises(ValueError, match=r"must have the shape \(5,\), got \(\)"):
        apply(params | {"dense/bias": jnp.zeros(())}, drawn(4, 3))


def test_another_backend_is_refused():
    code = "import symjax\ntry: symjax.from_keras(1)\nexcept ValueError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert "KERAS_BACKEND=jax before Keras is imported" in done.stdout

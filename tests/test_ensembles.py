"""Families hold what they promise; the numbers on held-out data are those of plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import networks
from symjax.ensembles import curve_family, data_family, evaluate_ensemble, orbit_family

from .helpers import eps
from .transforms.models import CASES, LINEAR_SLOW


@pytest.mark.parametrize("name", LINEAR_SLOW)
def test_members_of_an_orbit_are_one_function(name, x64):
    symmetry, params, loss = CASES[name]()
    family = jax.jit(lambda k: orbit_family(symmetry, params, key=k, members=4))(jax.random.key(0))
    losses = jax.jit(jax.vmap(loss))(family)
    np.testing.assert_allclose(losses, float(loss(params)), rtol=1e4 * eps(float))
    first = jax.tree.leaves(family)[0]
    assert np.array_equal(first[0], jax.tree.leaves(params)[0])
    assert np.abs(np.asarray(first)[1:] - np.asarray(first)[0]).max() > 0.05


@pytest.mark.slow
def test_data_family_agrees_on_the_data_only_where_it_can(x64):
    w = networks.random_weights(jax.random.key(0), (3, 6, 2), dtype=jnp.float64)
    x = jax.random.normal(jax.random.key(1), (3, 12), jnp.float64)
    apply = networks.two_layer(jax.nn.sigmoid)
    make = jax.jit(
        lambda x: data_family(jax.nn.sigmoid, w, x, key=jax.random.key(2), members=3, scale=0.3)
    )
    few, many = make(x[:, :5]), make(x)
    assert float((few.change / few.bound).max()) < 1e-8
    for family, seen in ((few, x[:, :5]), (many, x)):
        outputs = jax.vmap(lambda p, seen=seen: apply(p, seen))(family.params)
        change = np.linalg.norm(np.asarray(outputs) - np.asarray(apply(w, seen)), axis=(1, 2))
        np.testing.assert_allclose(change, family.change, atol=1e-8)
        assert np.all(change <= family.bound * (1 + 1e-12))
    assert float(many.change.min()) > 1e-3
    unseen = jax.vmap(lambda p: apply(p, x[:, 5:]))(few.params)
    assert np.abs(np.asarray(unseen) - np.asarray(apply(w, x[:, 5:]))).max() > 1e-2


def test_curve_family_is_the_curve():
    points = curve_family(lambda t: {"w": t * jnp.ones(2)}, jnp.linspace(0.0, 1.0, 3))
    assert points["w"].tolist() == [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]


def test_report_against_numpy(x64):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 200, 4)) * 2
    labels = rng.integers(4, size=200)
    report = jax.jit(evaluate_ensemble)(jnp.asarray(logits), jnp.asarray(labels))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean, votes = p.mean(0), logits.argmax(-1)
    right = mean[np.arange(200), labels]
    assert float(report.accuracy) == pytest.approx(np.mean(mean.argmax(-1) == labels))
    assert float(report.nll) == pytest.approx(-np.mean(np.log(right)), rel=1e-12)
    assert float(report.brier) == pytest.approx(
        np.mean(np.sum((mean - np.eye(4)[labels]) ** 2, -1)), rel=1e-12
    )
    confidence, ece = mean.max(-1), 0.0
    for i in range(15):
        inside = (confidence >= i / 15) & (confidence < (i + 1) / 15)
        if inside.any():
            gap = np.mean(confidence[inside]) - np.mean((mean.argmax(-1) == labels)[inside])
            ece += inside.mean() * abs(gap)
    assert float(report.ece) == pytest.approx(ece, rel=1e-12)
    pairs = [np.mean(votes[i] != votes[j]) for i in range(5) for j in range(i)]
    assert float(report.disagreement) == pytest.approx(np.mean(pairs), rel=1e-12)
    np.testing.assert_allclose(report.member_accuracy, (votes == labels).mean(-1), rtol=1e-12)
    alone = jax.jit(evaluate_ensemble)(jnp.asarray(logits[:1]), jnp.asarray(labels))
    assert float(alone.disagreement) == 0.0
    assert float(alone.nll) == pytest.approx(float(report.member_nll[0]), rel=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_sums_over_many_samples_in_half_precision_do_not_stop_growing(dtype):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(2 * rng.normal(size=(3, 20_000, 10)), dtype)
    labels = rng.integers(0, 10, 20_000)
    report = jax.jit(evaluate_ensemble)(logits, jnp.asarray(labels))
    rounded = np.asarray(logits, np.float64)
    p = np.exp(rounded) / np.exp(rounded).sum(-1, keepdims=True)
    mean, votes, onehot = p.mean(0), rounded.argmax(-1), np.eye(10)[labels]
    confidence, hit = mean.max(-1), mean.argmax(-1) == labels
    which = np.minimum((15 * confidence).astype(int), 14)
    gaps = [abs(np.sum((confidence - hit)[which == i])) for i in range(15)]
    pairs = [np.mean(votes[i] != votes[j]) for i in range(3) for j in range(i)]
    expected = {
        "accuracy": np.mean(hit),
        "nll": -np.mean(np.log(mean[np.arange(20_000), labels])),
        "brier": np.mean(np.sum((mean - onehot) ** 2, -1)),
        "ece": sum(gaps) / 20_000,
        "disagreement": np.mean(pairs),
        "member_accuracy": (votes == labels).mean(-1),
        "member_nll": -np.log(p[:, np.arange(20_000), labels]).mean(-1),
    }
    # float32: rounding moves a few confidences over the edge of a bin, and votes are exact.
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(report, name), value, rtol=1e-4, err_msg=name)
        assert getattr(report, name).dtype == jnp.float32


def test_bad_input_is_named():
    logits = jnp.zeros((2, 3, 4))
    with pytest.raises(ValueError, match="`labels` must be 3 integers, got float32"):
        evaluate_ensemble(logits, jnp.zeros(3))
    with pytest.raises(ValueError, match="`logits` must be a floating array"):
        evaluate_ensemble(logits[0], jnp.zeros(3, int))
    with pytest.raises(ValueError, match="`logits`"):
        evaluate_ensemble(logits[:, :0], jnp.zeros(0, int))
    with pytest.raises(ValueError, match="`bins`"):
        evaluate_ensemble(logits, jnp.zeros(3, int), bins=0)
    with pytest.raises(ValueError, match="`members`"):
        orbit_family((), logits, key=jax.random.key(0), members=0)
    with pytest.raises(ValueError, match="`ts`"):
        curve_family(lambda t: t, jnp.zeros(()))
    with pytest.raises(ValueError, match="`curve` must be callable"):
        curve_family(jnp.ones(2), jnp.zeros(2))
    with pytest.raises(ValueError, match="`labels` must be 0 to 3, got 0 to 9"):
        evaluate_ensemble(logits, jnp.array([0, 9, 1]))
    with pytest.raises(ValueError, match="`logits` holds a NaN"):
        evaluate_ensemble(logits * jnp.nan, jnp.zeros(3, int))
    with pytest.raises(ValueError, match=r"`scale` must be a positive number, got -1\.0"):
        orbit_family(
            symjax.rescaling_action(), logits, key=jax.random.key(0), members=1, scale=-1.0
        )

"""The audit of a merge against closed forms and plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import networks
from symjax.merging import merging_report


def test_barriers_are_those_of_a_polynomial_and_of_a_count(x64):
    x = jnp.eye(2)
    a, b = (
        networks.random_weights(jax.random.key(i), (2, 3, 2), dtype=jnp.float64) for i in (0, 1)
    )
    y = networks.linear(a, x)
    loss = networks.squared_loss(networks.linear, x, y)
    # A score that counts: the share of four thresholds below the first weight.
    score = lambda w: jnp.mean((w[0][0, 0] > jnp.array([-1.0, 0.0, 0.5, 1.0])).astype(jnp.float64))
    report = merging_report(
        {"chord": symjax.chord(a, b), "back": symjax.chord(b, a)},
        losses={"loss": loss},
        scores={"score": score},
        samples=64,
    )
    audit = report.metrics["loss"]
    # The same polynomial on a fine grid, in NumPy.
    t = np.linspace(0, 1, 20001)[:, None, None]
    u, v = ((1 - t) * np.asarray(p) + t * np.asarray(q) for p, q in zip(a, b, strict=True))
    values = ((v @ u - np.asarray(y)) ** 2).sum((1, 2))
    line = np.linspace(values[0], values[-1], len(values))
    assert audit.barrier[0] == pytest.approx((values - line).max(), rel=1e-6)
    assert audit.midpoint[0] == pytest.approx(values[10000], rel=1e-12)
    np.testing.assert_allclose(audit.along[0], values[:: 20000 // 64][:65][:65], rtol=2e-2)
    np.testing.assert_allclose(audit.along[1], audit.along[0][::-1], rtol=1e-12)
    distance = np.sqrt(sum(np.sum((np.asarray(p - q)) ** 2) for p, q in zip(a, b, strict=True)))
    np.testing.assert_allclose(report.distance, distance, rtol=1e-12)
    counted = report.metrics["score"]
    assert counted.higher_is_better
    assert counted.barrier.min() >= 0
    assert "score barrier" in str(report)


def test_a_matched_pair_has_no_barrier_and_a_wrong_alignment_is_said():
    apply = lambda w: w[1] @ jnp.maximum(w[0], 0)
    a = (jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[1.0, 3.0]]))
    action = symjax.linear_action(symjax.Permutation(2), [symjax.Leg(0, 0), symjax.Leg(1, 1)])
    b = action(jnp.array([1, 0]), a)
    loss = lambda w: jnp.sum((apply(w) - apply(a)) ** 2)
    found = symjax.match([symjax.Symmetry("units", action, ("0", "1"))], a, b)
    wrong = (b[0], a[1])
    report = merging_report(
        {
            "as given": symjax.chord(a, b),
            "matched": symjax.chord(a, found.params),
            "wrong": symjax.chord(a, wrong),
        },
        losses={"loss": loss},
    )
    assert report.metrics["loss"].barrier[0] > 1
    assert report.metrics["loss"].barrier[1] == 0
    assert report.distance[1] == 0
    assert len(report.notes) == 1
    assert "'wrong' ends in another function" in report.notes[0]
    assert report.notes[0] in str(report)


@pytest.mark.parametrize(
    ("curves", "options", "message"),
    [
        ({}, {"losses": {"loss": jnp.sum}}, "`curves` must name at least one path"),
        ({"a": jnp.ones(2)}, {"losses": {"loss": jnp.sum}}, r"`curves\['a'\]` must be callable"),
        ({"a": lambda t: t}, {}, "must name a metric, got neither"),
        ({"a": lambda t: t}, {"losses": {"l": lambda w: jnp.ones(2)}}, r"`losses\['l'\]`.*\[2\]"),
        ({"a": lambda t: t}, {"scores": {"s": lambda w: 1}}, r"`scores\['s'\]`"),
        ({"a": lambda t: t}, {"losses": {"l": jnp.sum}, "samples": 1}, "`samples`"),
        ({"a": lambda t: t}, {"losses": {"l": jnp.sum}, "scores": {"l": jnp.sum}}, "both have"),
    ],
)
def test_bad_input_is_named(curves, options, message):
    with pytest.raises(ValueError, match=message):
        merging_report(curves, **options)

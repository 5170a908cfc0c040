"""Promises that hold, warnings that come true, and hypotheses that fail by name."""

import jax.numpy as jnp
import numpy as np
import pytest

import symjax
from symjax import Leg, Orthogonal, Translation
from symjax.merging import averaging_forecast

ROTATION = symjax.linear_action(Orthogonal(2), [Leg("w", 0)])


def ring(p):
    """Zero on the unit circle; slope at most 2 on the unit disc."""
    return (jnp.sum(p["w"] ** 2) - 1.0) ** 2


def arc(angle):
    m = jnp.array([[0.0, -angle], [angle, 0.0]])
    return symjax.exponential_curve(ROTATION, {"w": jnp.array([1.0, 0.0])}, m)


def rise(angle):
    return (np.cos(angle / 2) ** 2 - 1) ** 2


def test_promises_are_kept_and_warnings_come_true(x64):
    # |d/dr (r^2 - 1)^2| = 4 r (1 - r^2) <= 8 / (3 sqrt 3) on the disc, which holds the chord.
    slope = 8 / 27**0.5
    for angle in (0.05, 0.3, 1.0, 2.5):
        middle = 1 - np.cos(angle / 2)
        said = averaging_forecast(ring, arc(angle), tolerance=0.02, lipschitz=slope, tube_radius=1)
        # A circle attains Theorem 6.2; the certificate is a little above the truth.
        assert middle <= float(said.deviation) <= 1.02 * middle + 1e-12
        assert rise(angle) <= float(said.value)
        assert float(said.needed) == pytest.approx(0.02 / float(said.deviation))
        if said.promised:
            assert rise(angle) <= 0.02
        if said.warned:
            assert rise(angle) > 0.02
        assert said.failing == ()
    # At 0.05 the promise is given, at 2.5 the warning.
    assert averaging_forecast(ring, arc(0.05), tolerance=0.02, lipschitz=slope).promised
    assert said.warned
    assert str(said).startswith("warning: the average's loss rises by about")


@pytest.mark.slow
def test_each_hypothesis_fails_by_its_name():
    call = {"tolerance": 0.02, "lipschitz": 1.6}
    assert averaging_forecast(ring, arc(1.0), tolerance=0.02).failing == ("lipschitz_given",)
    thin = averaging_forecast(ring, arc(1.0), tube_radius=0.1, **call)
    assert thin.failing == ("tube_covers",)
    assert not bool(thin.promised)
    assert np.isinf(float(thin.value))
    tilted = lambda p: ring(p) + 0.1 * p["w"][1]
    assert averaging_forecast(tilted, arc(1.0), **call).failing == ("loss_constant",)
    # Theorem 6.2 alone: the major arc.
    major = averaging_forecast(ring, arc(5.3), **call)
    assert not bool(major.theorem.length_fits)
    assert "Theorem 6.2 says nothing here: length_fits fails" in str(major)
    assert "no promise" not in str(major)  # the half chord is a bound all the same


@pytest.mark.slow
def test_a_curve_without_a_certificate_is_sampled_and_promises_nothing():
    moved = symjax.exponential_curve(
        symjax.linear_action(Translation(2), [Leg("w", 0)]),
        {"w": jnp.array([1.0, 0.0])},
        jnp.array([0.0, 1.0]),
    )
    flat = lambda p: p["w"][0] ** 2
    said = averaging_forecast(flat, moved, tolerance=0.02, lipschitz=1.6)
    assert said.failing == ("curvature_certified",)
    assert float(said.deviation) == pytest.approx(0, abs=1e-3)


def test_another_model_near_the_curve_is_covered(x64):
    # The average of q, 0.01 from the arc's start, and the arc's end.
    q = jnp.array([1.01, 0.0])
    curve = arc(0.2)
    said = averaging_forecast(ring, curve, tolerance=0.1, lipschitz=2.5, offset=0.01)
    t = jnp.linspace(0, 1, 101)[:, None]
    points = (1 - t) * q[None] + t * curve(1.0)["w"][None]
    worst = float(jnp.max((jnp.sum(points**2, 1) - 1) ** 2))
    assert worst <= float(said.value)
    assert bool(said.promised)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, "`tolerance` must be positive, got 0.0"),
        ({"tolerance": 1.0, "lipschitz": -1.0}, "`lipschitz` must be 0 or more, got -1.0"),
        ({"tolerance": 1.0, "tube_radius": -1.0}, "`tube_radius`"),
        ({"tolerance": 1.0, "offset": -1.0}, "`offset`"),
        ({"tolerance": 1.0, "cells": 0}, "`cells`"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        averaging_forecast(ring, arc(1.0), **options)

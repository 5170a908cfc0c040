"""Figures: what is drawn is what was given, and no two series look alike."""

import numpy as np
import pytest

from symjax import plotting


@pytest.fixture
def axes():
    return plotting.blank()[1][0]


def test_series_differ_in_colour_dash_and_marker():
    for field in ("colour", "dash", "marker"):
        values = [getattr(style, field) for style in plotting.STYLES]
        assert len(set(values)) == len(values)


def test_loss_along_draws_the_mean_and_the_band(axes):
    losses = np.array([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]])
    assert plotting.plot_loss_along(axes, np.linspace(0, 1, 3), losses, label="curve") is axes
    assert axes.lines[0].get_ydata().tolist() == [1.0, 2.0, 3.0]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 0
    assert band[:, 1].max() == 4
    plotting.plot_loss_along(axes, np.linspace(0, 1, 3), losses[0], label="one")
    assert len(axes.collections) == 1


def test_against_bound_leaves_refused_bounds_out(axes):
    plotting.plot_against_bound(
        axes, np.array([1.0, 2.0, 3.0]), np.array([2.0, np.inf, np.nan]), label="a"
    )
    plotting.plot_against_bound(axes, np.array([5.0]), np.array([7.0]), label="b")
    points = [line for line in axes.lines if line.get_gid() != "equality"]
    assert points[0].get_xydata().tolist() == [[1.0, 2.0]]
    (equality,) = [line for line in axes.lines if line.get_gid() == "equality"]
    assert list(equality.get_xdata()) == [1.0, 7.0]


def test_theory_is_a_line_and_measurement_markers(axes):
    x = np.array([1.0, 2.0])
    plotting.plot_theory_and_measured(
        axes, x, x**2, x**2, theory_label="theory", measured_label="measured"
    )
    line, markers = axes.lines
    assert line.get_linestyle() != "None"
    assert markers.get_linestyle() == "None"


def test_distributions_are_shares_with_the_tails_kept(axes):
    values = np.array([0.1, 0.6, 9.0, np.nan])
    plotting.plot_distributions(axes, {"all": values}, np.array([0.0, 0.5, 1.0]))
    assert axes.patches[0].get_data().values.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert axes.get_legend_handles_labels()[1] == ["all (3)"]


def test_surfaces_have_a_number_and_a_name_each():
    axes = plotting.blank(subplot_kw={"projection": "3d"})[1][0]
    x, y = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 4))
    plotting.plot_surfaces(axes, [(x, y, x + y), (x, y, x - y)], ["sum", "difference"])
    assert [text.get_text() for text in axes.texts] == ["1", "2"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "1: sum",
        "2: difference",
    ]

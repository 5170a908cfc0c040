"""The study of minima: its data, its statements, and that they can fail."""

import numpy as np
import pytest

from symjax.studies import minima
from symjax.studies._sampling import measure


@pytest.mark.slow
def test_statements_hold_on_a_small_run_and_fail_on_broken_data():
    config = minima.Config(pairs=40, steps=1500, paths=3)
    measured = measure(minima.study(config))
    result = minima.conclude(config, measured)
    assert all(statement.held for statement in result.statements)
    data = {**measured, **result.data}
    assert set(data) == set(result.units)
    for name, value in (
        ("square_components", np.asarray(2)),
        ("tie_connected_permuted", np.zeros_like(data["tie_connected_permuted"])),
        ("bottleneck_path_permutations", 1 + data["bottleneck_path_permutations"]),
        ("bottleneck_height", 100 * data["bottleneck_height"]),
    ):
        broken = minima._statements(data | {name: value})
        assert sum(not statement.held for statement in broken) == 1, name
    # Where permutations cannot help, they do not.
    np.testing.assert_array_equal(data["width_one_connected_permuted"], data["width_one_connected"])
    assert np.mean(data["square_connected"]) < 0.6
    assert (data["square_excess"] > -1e-12).all()


def test_targets_have_the_singular_values_that_the_study_says():
    for widths, sigma in minima.FAMILIES.values():
        x, y = minima._data(np.random.default_rng(3), widths, sigma)
        np.testing.assert_allclose(x @ x.T, np.eye(widths[0]), atol=1e-14)
        np.testing.assert_allclose(np.linalg.svd(y)[1], sigma, rtol=1e-12)

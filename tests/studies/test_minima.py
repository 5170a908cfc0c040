"""The study of minima: its data, its statements, and that they can fail."""

import numpy as np
import pytest

from symjax.studies import minima


@pytest.mark.slow
def test_statements_hold_on_a_small_run_and_fail_on_broken_data():
    result = minima.run(minima.Config(networks=40, steps=1500, paths=3), lambda *_: None)
    assert all(statement.held for statement in result.statements)
    data = result.data
    for name, value in (
        ("square_components", np.asarray(2)),
        ("tie_connected_permuted", np.zeros_like(data["tie_connected_permuted"])),
        ("bottleneck_height", 100 * data["bottleneck_height"]),
    ):
        broken = minima._statements(data | {name: value})
        assert sum(not statement.held for statement in broken) == 1, name
    # Where permutations cannot help, they do not.
    np.testing.assert_array_equal(data["width_one_connected_permuted"], data["width_one_connected"])
    assert np.mean(data["square_connected"]) < 0.6
    assert (data["square_excess"] > -1e-12).all()


def test_targets_have_the_singular_values_that_the_study_says():
    import jax

    with jax.enable_x64(True):
        for widths, sigma in minima.FAMILIES.values():
            x, y = minima._data(jax.random.key(3), widths, sigma)
            np.testing.assert_allclose(x @ x.T, np.eye(widths[0]), atol=1e-14)
            np.testing.assert_allclose(np.linalg.svd(y)[1], sigma, rtol=1e-12)

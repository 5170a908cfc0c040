"""The notebook on matching and merging: executed, and its numbers held to what it says."""

import runpy
from pathlib import Path

import jax
import matplotlib
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.slow
def test_each_step_lowers_the_barrier():
    matplotlib.use("agg")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        done = runpy.run_path(str(NOTEBOOKS / "matching_and_merging.py"))
    given, permuted, matched, repaired = done["report"].metrics["loss"].barrier
    assert repaired < matched < permuted < 0.3 * given
    assert done["report"].notes == ()
    assert done["matched"].after < done["permuted"].after < done["matched"].before

"""The benchmark for accelerators runs where there is none, and says so."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from .calls import NUMERICAL, calls, difference

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "accelerator.py"


@pytest.fixture
def accelerator(as_a_reader_has_it):
    spec = importlib.util.spec_from_file_location("accelerator", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_say_on_what_they_ran_and_what_was_not_reached(accelerator, capsys):
    accelerator.main(["--small", "--seconds", "0"])
    printed = capsys.readouterr().out
    assert "Device: cpu" in printed
    assert "THERE IS NO ACCELERATOR" in printed
    assert printed.count("not reached") == 2 * len(calls(jax.numpy.asarray)) + 5


# One of each module but one, of those that compile soon; test_export lowers every one.
REPRESENTATIVES = (
    "actions.deep_linear_action",
    "barriers.loss_along",
    "bounds.chord_deviation",
    "canonical.orbit_dimension",
    "curves.exponential_curve",
    "ensembles.evaluate_ensemble",
    "geometry.speed",
    "linalg.logm",
    "merging.repair",
    "networks.two_layer",
    "topology.linear_chart",
    "training.solve_last_layer",
    "transforms.charges",
)


@pytest.mark.slow
def test_at_small_size_the_cpu_agrees_with_itself(accelerator, capsys):
    names = REPRESENTATIVES
    # bands compile for long
    assert {name.split(".")[0] for name in names} == set(NUMERICAL) - {"bands"}
    accelerator.main(["--small", "--only", *names])
    printed = capsys.readouterr().out
    assert "not reached" not in printed
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| ")]
    compared = [row for row in rows if len(row) == 7][1:]
    assert len(compared) == 2 * len(names)
    assert [row for row in compared if row[5].strip()] == []  # what failed
    for _, name, _, worst, nans, _, _ in compared:
        assert (float(worst), int(nans)) == (0.0, 0), name


def test_numbers_that_are_infinite_or_nan_in_both_are_no_difference():
    a, b = np.asarray([1.0, np.inf, -np.inf, np.nan]), np.asarray([1.0, np.inf, -np.inf, np.nan])
    assert difference(a, b) == (0.0, 0, [])
    assert difference(a, -b)[0] == np.inf
    assert difference(np.asarray(np.nan), np.asarray(2.0))[1] == 1
    assert difference(np.asarray([3.0, 5.0]), np.asarray([3.0, 4.0]))[0] == pytest.approx(0.2)

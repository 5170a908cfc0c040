"""The benchmark for accelerators runs where there is none, and says so."""

import importlib.util
from pathlib import Path

import jax
import pytest

from .calls import calls

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
    assert printed.count("not reached") == 2 * len(calls(jax.numpy.asarray)) + 9


@pytest.mark.slow
def test_at_small_size_the_cpu_agrees_with_itself(accelerator, capsys):
    accelerator.main(["--small"])
    printed = capsys.readouterr().out
    assert "not reached" not in printed
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| ")]
    compared = [row for row in rows if len(row) == 7][1:]
    assert len(compared) == 2 * len(calls(jax.numpy.asarray))
    assert [row for row in compared if row[5].strip()] == []  # what failed
    for _, name, _, worst, nans, _, _ in compared:
        assert (float(worst), int(nans)) == (0.0, 0), name

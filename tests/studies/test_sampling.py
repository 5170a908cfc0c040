"""Sampling: each network depends on seed and index alone, whatever computes it beside which."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax.studies import Study
from symjax.studies._sampling import measure, sample

from .devices import HOST, MIXED, SINGLE, digest

ROOT = Path(__file__).resolve().parents[2]


def run_devices(count, *arguments):
    """Start ``tests.studies.devices`` with so many forced devices."""
    flags = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.studies.devices", *map(str, arguments)]
    return subprocess.Popen(command, env=flags, cwd=ROOT, text=True, stdout=subprocess.PIPE)


def outputs(processes):
    """What they print; SIGKILL for all where one takes too long, as a hung one ignores SIGTERM."""
    try:
        return [
            process.communicate(timeout=300)[0].splitlines()[-1].split() for process in processes
        ]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_chunks_change_no_bit_and_the_order_is_the_callers():
    for study in (SINGLE, MIXED, HOST):
        assert len({digest(study, chunk) for chunk in (1, 100, 1000)}) == 1


def test_a_network_is_what_its_program_gives_for_its_key():
    data = measure(SINGLE)
    root = jax.random.key(7)
    with jax.enable_x64(True):
        for i in (0, 17, 299):
            key = jax.random.fold_in(root, i)
            expected = jnp.mean(jnp.sin(jax.random.normal(key, (1000,))))
            # Another program: the sum of 1000 terms in another order.
            np.testing.assert_allclose(data["mean"][i], expected, rtol=0, atol=1e-14)


def test_more_networks_leave_the_first_as_they_were():
    few, many = (Study(n, SINGLE.programs, 7, batch=16, x64=True) for n in (37, 300))
    few, many = measure(few), measure(many)
    for name, values in few.items():
        np.testing.assert_array_equal(values, many[name][:37])


def test_every_program_is_traced_once_however_many_the_chunks():
    chex.clear_trace_counter()
    programs = tuple(chex.assert_max_traces(2)(p) for p in MIXED.programs)
    study = Study(300, programs, 7, batch=4, choose=MIXED.choose, window=32)
    # Once for the shapes of its results and once to compile it.
    assert len(list(sample(study, chunk=32))) == 10


@pytest.mark.parametrize("wrong", ["networks", "batch", "window"])
def test_a_size_below_one_is_named(wrong):
    with pytest.raises(ValueError, match=f"`{wrong}` must be at least 1, got -1"):
        Study(**{"networks": 1, "programs": SINGLE.programs, wrong: -1})


def test_other_wrong_calls_are_named():
    with pytest.raises(ValueError, match="`choose` is needed for 2 programs"):
        Study(1, MIXED.programs)
    with pytest.raises(ValueError, match="below 2\\^31"):
        Study(2**31, SINGLE.programs)
    with pytest.raises(ValueError, match="`chunk` must be at least 1, got 0"):
        list(sample(SINGLE, chunk=0))
    with pytest.raises(ValueError, match="`start` must be a multiple of 16, got 3"):
        list(sample(SINGLE, start=3))


@pytest.mark.slow
def test_one_eight_and_two_by_four_devices_give_the_same_bits():
    (one,) = outputs([run_devices(1)])
    (eight,) = outputs([run_devices(8)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    pair = outputs([run_devices(4, i, address, 2) for i in range(2)])
    assert (one[:2], eight[:2]) == (["1", "1"], ["8", "1"])
    assert pair[0] == pair[1] == ["8", "2", *one[2:]]
    assert eight[2:] == one[2:]
    # Both chunks of a study, and the studies are different.
    assert one[2] == one[3] != one[4] == one[5] != one[6] == one[7]

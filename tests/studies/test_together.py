"""Two processes of one run over loopback: as documented, and each way in which one fails."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from symjax.studies._dataset import Stored

STUDY = '''
import dataclasses, os, time
import numpy as np
from symjax.studies import Result, Statement, Study

@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    """Seed."""
    networks: int = 40
    """Networks."""
    pause: float = 0.0
    """Seconds a call."""

def study(c):
    def measure(i):
        time.sleep(c.pause)
        if os.environ.get("FAIL") and i[0] >= 8:
            raise SystemExit(3)
        return {"a": np.array([np.random.default_rng([c.seed, int(k)]).normal() for k in i])}
    return Study(c.networks, seed=c.seed, on_host=measure, names=("a",))

def conclude(c, data):
    return Result({}, [Statement.of("finite", np.isfinite(data["a"]), data["a"] + 9, "")], draw, [])

def draw(data):
    from matplotlib.figure import Figure
    return Figure(figsize=(1, 1))
'''

# What Python runs as it starts, where the folder is on its path: NumPy of another version.
OLDER = """
import importlib.metadata as m
true = m.version
m.version = lambda name: "1.0" if name == "numpy" else true(name)
"""


def start(folder, *words, each=((), ()), env=({}, {})):
    """Two processes of one run."""
    (folder / "mine.py").write_text(STUDY)
    (folder / "older").mkdir()
    (folder / "older" / "sitecustomize.py").write_text(OLDER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    found = []
    for process in (0, 1):
        command = [
            *(sys.executable, "-m", "symjax", "run", folder / "mine.py", "--chunk", "8"),
            *("--out", folder / "out", "--coordinator", address, "--processes", "2"),
            *("--process", process, *words, *each[process]),
        ]
        paths = [str(folder / "older")] * ("OLDER" in env[process])
        path = {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
        found.append(
            subprocess.Popen(
                list(map(str, command)),
                cwd=folder,
                env=os.environ | {"JAX_PLATFORMS": "cpu"} | env[process] | path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return found


def ends(processes, within):
    """Exit statuses and what was said, once both have ended; a failure where one takes longer."""
    until = time.monotonic() + within
    try:
        said = [p.communicate(timeout=max(1, until - time.monotonic())) for p in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                pipe.close()  # left open, it is told as a fault of whatever test runs later
    return [p.returncode for p in processes], ["".join(words) for words in said]


def committed(folder):
    """Wait until both are at work."""
    until = time.monotonic() + 120
    while not list(folder.glob("out/unfinished/*.npz")):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    status, _ = ends(start(tmp_path), 200)
    assert status == [0, 0]
    expected = [np.random.default_rng([0, i]).normal() for i in range(40)]
    np.testing.assert_array_equal(Stored(tmp_path / "out" / "data.zarr")["a"], expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("each", "env", "said"),
    [
        (
            ((), ("--seed", "1")),
            ({}, {}),
            "seed is 0 in process 0 and 1 in process 1",
        ),
        (((), ("--sed", "1")), ({}, {}), "Perhaps --seed?"),
        (((), ()), ({}, {"FAIL": "1"}), "exit(3)"),
        (((), ()), ({}, {"OLDER": "1"}), "versions.numpy is"),
    ],
)
def test_what_differs_or_fails_in_one_ends_both(tmp_path, each, env, said):
    status, words = ends(start(tmp_path, each=each, env=env), 200)
    assert 0 not in status
    assert all(said in word for word in words), words
    assert all("Traceback" not in word for word in words)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(("number", "within"), [(signal.SIGINT, 10), (signal.SIGKILL, 30)])
def test_an_interrupt_or_a_kill_of_one_ends_both_and_resumes(tmp_path, which, number, within):
    processes = start(tmp_path, "--pause", "0.2", "--networks", "4000")
    committed(tmp_path)
    processes[which].send_signal(number)
    status, _ = ends(processes, within)
    assert 0 not in status
    assert list(tmp_path.glob("out/unfinished/*.npz"))

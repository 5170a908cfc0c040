"""Kill a study at every change that it makes to the disk, and resume it.

    python benchmarks/crashes.py [STUDY ...] [--every N]

The changes are renames, removals, new folders and files opened to be written, below the output
folder. Each is preceded by a kill in a process of its own; the run is then resumed, and has to end
with status 0, whole by its checksums, and with the arrays' bytes of a run without kills. A study of
one's own is among those run by default. Processes are forked from one that has everything imported
and has not started jax yet. Prints one line a study; the exit status says whether any point is bad.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot  # noqa: F401  imported once, before the forks
import zarr  # noqa: F401

from symjax.__main__ import main as symjax
from symjax.studies import figure2, figure4  # noqa: F401
from symjax.studies._verify import verify

OWN = '''
import dataclasses
import numpy as np
from symjax.studies import Result, Statement, Study

@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    """Seed."""

def study(config):
    return Study(20, on_host=lambda i: {"a": np.sqrt(i)}, names=("a",))

def conclude(config, data):
    return Result({}, [Statement.of("finite", data["a"] >= 0, data["a"], "")], draw, [])

def draw(data):
    from matplotlib.figure import Figure
    return Figure(figsize=(1, 1))
'''
SMALL = {
    "own": ["--chunk", "8"],
    "figure2": ["--networks", "6", "--chunk", "1"],
    "components": ["--cases", "20", "--paths", "2", "--chunk", "8"],
    "figure4": ["--networks", "2", "--scales", "4", "--steps", "20"],
    "figure3a": ["--networks", "8", "--largest", "8", "--steps", "5", "--chunk", "4"],
}
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def forked(words, out, kill_at=None):
    """Run the command line in a fork; its status, and how many changes it made to ``out``."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            seen = len(pipe.read())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    count = 0

    def hook(event, arguments):
        nonlocal count
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if not (writes or event in CHANGES) or not str(arguments[0]).startswith(str(out)):
            return
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        os.write(write, b".")

    sys.addaudithook(hook)
    status = 70
    try:
        status = symjax(words)
    finally:
        os._exit(status)


def arrays(out):
    """The bytes of every file of the dataset."""
    root = out / "data.zarr"
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def matrix(name, folder, every):
    """How many points were tried for a study, and those that are bad, with what was wrong."""
    study = name
    if name == "own":
        study = str(folder / "own.py")
        Path(study).write_text(OWN)
    cache = ["--cache", str(folder / "cache")]
    whole, out = folder / f"{name}-whole", folder / f"{name}-cut"
    words = ["run", study, *SMALL[name], *cache, "--out"]
    status, points = forked([*words, str(whole)], whole)
    assert status == 0, f"{name} ends with {status}"
    expected, bad = arrays(whole), []
    # Over an earlier result as well: then there is something to lose, and to take away.
    tried = [(at, over) for over in (False, True) for at in range(0, points + 8, every)]
    for at, over in tried:
        shutil.rmtree(out, ignore_errors=True)
        if over:
            shutil.copytree(whole, out)
        forked([*words, str(out)], out, kill_at=at)
        status, _ = forked([*words, str(out), "--resume"], out)
        if status:
            bad.append((at, over, f"status {status}"))
        elif arrays(out) != expected or verify(out)[1]:
            bad.append((at, over, "other bytes"))
        elif set(os.listdir(out)) != set(os.listdir(whole)):
            bad.append((at, over, f"left {os.listdir(out)}"))
    return len(tried), bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", default=list(SMALL))
    parser.add_argument("--every", type=int, default=1, help="only every N-th point")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.studies:
            tried, bad = matrix(name, Path(folder).resolve(), options.every)
            wrong += len(bad)
            print(f"{name}: {tried} points, {len(bad)} bad {bad[:5]}", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""Stop a study at every change that it makes to the disk, and resume from what is there.

    python benchmarks/crashes.py [STUDY ...] [--every N] [--kill]

The changes are renames, removals, new folders and files opened to be written, below the output
folder. The process is stopped before each (SIGSTOP, all its threads), the folder is copied, and it
goes on: the copy is what a kill at that point leaves. With --kill it is killed there instead, in a
process for every point, which takes several times as long. Each folder is then resumed, and has to
end with status 0, whole by its checksums, and with the arrays' bytes of a run without kills. A
study of one's own is among those run by default. Processes are forked from one that has everything
imported and has not started jax yet. Prints one line a study; the exit status says whether any
point is bad.
"""

import argparse
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
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


def forked(work):
    """What ``work()`` returns, in a fork that prints nothing."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(pickle.dumps(work()))
            pipe.flush()
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(result)


def watched(words, out, at_change):
    """Run the command line in a fork that stops before every change of ``out``.

    ``at_change(i, child)`` is called while it stands still. Returns its status.
    """
    child = os.fork()
    if not child:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)

        def hook(event, arguments):
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
            if (writes or event in CHANGES) and str(arguments[0]).startswith(str(out)):
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

        sys.addaudithook(hook)
        status = 70
        try:
            status = symjax(words)
        finally:
            os._exit(status)
    changes = 0
    while os.WIFSTOPPED(state := os.waitpid(child, os.WUNTRACED)[1]):
        at_change(changes, child)
        changes += 1
        os.kill(child, signal.SIGCONT)
    return os.waitstatus_to_exitcode(state)


def arrays(out):
    """The bytes of every file of the dataset."""
    root = out / "data.zarr"
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def left_behind(words, out, start, folder, every, kill):
    """Folders as a kill leaves them: one before every change, and one when all is done."""
    folders = []

    def begin():
        shutil.rmtree(out, ignore_errors=True)
        if start is not None:
            shutil.copytree(start, out)

    def keep():
        folders.append(folder / str(len(folders)))
        if out.exists():
            shutil.copytree(out, folders[-1])

    def copy(change, child):
        if not kill and change % every == 0:
            keep()

    changes = 0

    def count(change, child):
        nonlocal changes
        changes = change + 1
        copy(change, child)

    begin()
    status = watched(words, out, count)
    assert status == 0, f"{words} ends with {status}"
    for at in range(0, changes, every) if kill else ():
        begin()
        watched(
            words, out, lambda i, child, at=at: os.kill(child, signal.SIGKILL) if i == at else None
        )
        keep()
    return folders


def resumed(words, out, folders, whole):
    """What is wrong with the results of resuming each of the folders; for most, nothing."""
    expected, files = arrays(whole), set(os.listdir(whole))
    for at, left in enumerate(folders):
        shutil.rmtree(out, ignore_errors=True)
        if left.exists():
            shutil.copytree(left, out)
        status = symjax([*words, "--resume"])
        if status:
            yield at, f"status {status}"
        elif arrays(out) != expected or verify(out)[1]:
            yield at, "other bytes"
        elif set(os.listdir(out)) != files:
            yield at, f"left {os.listdir(out)}"


def matrix(name, folder, every, kill):
    """How many points were tried for a study, and those that are bad, with what was wrong."""
    study = name
    if name == "own":
        study = str(folder / "own.py")
        Path(study).write_text(OWN)
    words = ["run", study, *SMALL[name], "--cache", str(folder / "cache"), "--out"]
    whole, out = folder / f"{name}-whole", folder / f"{name}-cut"
    assert forked(lambda: symjax([*words, str(whole)])) == 0, f"{name} fails"
    words = [*words, str(out)]
    tried, bad = 0, []
    # Over an earlier result as well: then there is something to lose, and to take away.
    for start in (None, whole):
        with tempfile.TemporaryDirectory() as copies:
            folders = left_behind(words, out, start, Path(copies), every, kill)
            tried += len(folders)
            bad += forked(lambda found=folders: list(resumed(words, out, found, whole)))
    return tried, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", default=list(SMALL))
    parser.add_argument("--every", type=int, default=1, help="only every N-th point")
    parser.add_argument("--kill", action="store_true", help="kill it there, once for every point")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.studies:
            tried, bad = matrix(name, Path(folder).resolve(), options.every, options.kill)
            wrong += len(bad)
            print(f"{name}: {tried} points, {len(bad)} bad {bad[:5]}", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""What the benchmark scripts share: one core, the best of several runs, a peer process.

Import this before jax: importing it pins the process to one core and one thread.
"""

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from _table import table as table

_ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}


def pin() -> None:
    """Run on one core and one thread from here on."""
    for name, value in _ONE_THREAD.items():
        os.environ.setdefault(name, value)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


pin()

# CPU seconds for which a short call is repeated.
_AT_LEAST = 0.1


def best_of(f: Callable, *args: Any, repeats: int = 5) -> float:
    """CPU seconds of the fastest of several calls, after one not counted (it may compile)."""
    return min(_times(f, args, repeats))


def compile_seconds(f: Callable, *args: Any) -> float:
    """CPU seconds to trace and compile a jax function, nothing cached: the faster of two times."""
    import jax

    def once():
        jax.clear_caches()
        start = time.process_time()
        jax.jit(lambda *a: f(*a)).lower(*args).compile()
        return time.process_time() - start

    return min(once(), once())


def _times(f, args, repeats):
    _wait(f(*args))
    # Short calls are repeated for a while: the fastest of five of them is still noise.
    begin = time.process_time()
    while repeats > 0 or time.process_time() - begin < _AT_LEAST:
        repeats -= 1
        start = time.process_time()
        _wait(f(*args))
        yield time.process_time() - start


def _wait(result):
    if "jax" in sys.modules:
        sys.modules["jax"].block_until_ready(result)


def machine() -> str:
    """The processor and the versions that a table was measured with."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    versions = [f"Python {platform.python_version()}"]
    for name in ("jax", "numpy", "scipy"):
        if importlib.util.find_spec(name):
            versions.append(f"{name} {importlib.import_module(name).__version__}")
    return f"{cpu}, one core, one thread; {', '.join(versions)}"


def run_peer(python: str | None, script: str | Path, args: Iterable[str] = ()) -> Any:
    """The JSON that a peer's script prints as its last line, run by another interpreter.

    None where there is no such interpreter or the peer cannot be imported there: the caller says
    that it skipped the peer.
    """
    if python is None or not Path(python).exists():
        return None
    done = subprocess.run(
        [python, str(script), *args],
        capture_output=True,
        text=True,
        env={**os.environ},
        check=False,
    )
    if done.returncode:
        print(f"peer failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])

"""Every numerical function on an accelerator: is it right there, and how near the roofline?

    python benchmarks/accelerator.py [--small] [--seconds 420]

The first table compares each public function of `tests/calls.py` on the device with the CPU, in
float32 and in float64. The second times curvature, matrix functions and the study of curvature on
both, and compares the device's time with its roofline: the larger of operations over the peak of a
matrix product and bytes over the bandwidth of a copy, both measured here. Operations and bytes are
what XLA says of the compiled program; it counts the body of a loop once, so a share is a lower
bound. Programs compile side by side; what is not done when the time is over is listed as not
reached. Without an accelerator the CPU is compared with itself, and the first line says so.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import symjax
from symjax.linalg import expm, expm_path, logm
from symjax.studies import curvature as curvature_study

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks._table import table  # noqa: E402
from tests.calls import calls, difference  # noqa: E402

DTYPES = ("float32", "float64")


class Machine(NamedTuple):
    """The device, the CPU, and when to stop."""

    device: jax.Device
    cpu: jax.Device
    stop: float

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.stop


@functools.cache
def table_on(device: jax.Device, dtype: str) -> dict[str, Any]:
    """The calls with all their numbers on a device."""
    return calls(lambda x: jax.device_put(np.asarray(x, dtype), device))


def evaluate(device: jax.Device, dtype: str, name: str) -> Any:
    """What a public function gives on a device, compiled as one program, as NumPy arrays."""
    with jax.default_device(device):
        function, args = table_on(device, dtype)[name]
        return jax.device_get(jax.jit(function)(*args))


def compare(machine: Machine, dtype: str, name: str) -> dict[str, Any]:
    """One row: the worst relative difference in units of epsilon, new NaN, and what failed."""
    row = {"function": name, "dtype": dtype, "worst / eps": "", "NaN": "", "failed": ""}
    if machine.over:
        return row | {"failed": "not reached"}
    try:
        found = [evaluate(on, dtype, name) for on in (machine.device, machine.cpu)]
        worst, nans, unlike = difference(*found)
    except Exception as error:
        return row | {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"}
    worst = worst / float(np.finfo(dtype).eps)
    return row | {"worst / eps": worst, "NaN": nans, "failed": ", ".join(unlike)}


def comparison(machine: Machine, names: list[str]) -> list[dict[str, Any]]:
    """All functions in both dtypes, compiled side by side."""
    for on in (machine.device, machine.cpu):
        for dtype in DTYPES:
            table_on(on, dtype)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compare, machine, dtype, name) for name in names for dtype in DTYPES]
        return [job.result() for job in jobs]


def programs(small: bool) -> Iterator[tuple[str, str, Callable, Callable[[str], tuple]]]:
    """What is timed: its name, its dtype, the function, and its arguments."""
    random = np.random.default_rng(0)
    times = np.linspace(0.0, 1.0, 8 if small else 64)

    def curvature(params, m):
        action = symjax.deep_linear_action((m.shape[-1],) * 3)
        one = lambda w, a: symjax.curvature(symjax.exponential_curve(action, w, (a,)), ts(m.dtype))
        return jax.vmap(one)(params, m)

    ts = lambda dtype: jnp.asarray(times, dtype)
    paths = lambda a: expm_path(a, ts(a.dtype))
    for batch, n in ((4, 8),) if small else ((10_000, 8), (1000, 32), (100, 100)):
        a = random.normal(size=(3, batch, n, n)) / n**0.5
        for dtype in DTYPES[:1] if small else DTYPES:
            weights, m = (a[1].astype(dtype), a[2].astype(dtype)), (a[0] / 2).astype(dtype)
            elements = np.asarray(jax.vmap(jax.scipy.linalg.expm)(m))
            size = f"{batch} of {n} x {n}"
            yield f"curvature, {size}, {len(times)} times", dtype, curvature, (weights, m)
            yield f"expm, {size}", dtype, expm, (m,)
            yield f"logm, {size}", dtype, logm, (elements,)
            part = m[: max(1, batch // 16)]
            yield f"expm_path, {len(part)} of {n} x {n}, {len(times)} times", dtype, paths, (part,)
    networks = 2 if small else 2048
    study = curvature_study.study(curvature_study.Config(networks=networks))
    key = jax.random.key(0)
    keys = jax.random.key_data(jax.vmap(lambda i: jax.random.fold_in(key, i))(np.arange(networks)))
    one = lambda data, i: study.programs[0](jax.random.wrap_key_data(data), i)
    yield f"study of curvature, {networks}", "float64", jax.vmap(one), (keys, np.arange(networks))


def timed(device: jax.Device, function: Callable, args: tuple) -> tuple[float, float, float]:
    """Seconds of the fastest of several calls, and the operations and bytes of the program."""
    with jax.default_device(device):
        args = jax.device_put(args, device)
        compiled = jax.jit(function).lower(*args).compile()
        cost = compiled.cost_analysis() or {}
        seconds = min(_clock(compiled, args) for _ in range(4))
    return seconds, cost.get("flops", np.nan), cost.get("bytes accessed", np.nan)


def _clock(compiled, args):
    start = time.perf_counter()
    jax.block_until_ready(compiled(*args))
    return time.perf_counter() - start


def peaks(device: jax.Device, small: bool) -> dict[str, tuple[float, float]]:
    """Operations and bytes a second of the device in each dtype: a matrix product, and a copy."""
    n, found = 256 if small else 8192, {}
    product = lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST)
    for dtype in DTYPES:
        a = np.ones((n, n), dtype)
        multiply, copy = (timed(device, f, (a,))[0] for f in (product, lambda a: a + 1))
        found[dtype] = 2 * n**3 / multiply, 2 * a.nbytes / copy
    return found


def timing(machine: Machine, small: bool) -> Iterator[dict[str, Any]]:
    """One row for each program: the device, the CPU, their ratio, and the share of the roofline."""
    peak = peaks(machine.device, small)
    for dtype, (operations, bandwidth) in peak.items():
        print(f"{dtype}: {operations / 1e12:.3g} Tflop/s, {bandwidth / 1e9:.3g} GB/s")
    print()
    for name, dtype, function, args in programs(small):
        row = {"program": name, "dtype": dtype, "ms": "not reached", "CPU ms": "", "CPU/device": ""}
        if machine.over:
            yield row | {"roofline ms": "", "share": ""}
            continue
        seconds, operations, moved = timed(machine.device, function, args)
        own = timed(machine.cpu, function, args)[0]
        bound = max(operations / peak[dtype][0], moved / peak[dtype][1])
        yield row | {
            "ms": 1e3 * seconds,
            "CPU ms": 1e3 * own,
            "CPU/device": own / seconds,
            "roofline ms": 1e3 * bound,
            "share": bound / seconds,
        }


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="sizes for a test")
    parser.add_argument("--seconds", type=float, default=420.0, help="start nothing after these")
    parser.add_argument("--only", nargs="*", help="the functions to compare, by name")
    options = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    device, cpu = jax.devices()[0], jax.devices("cpu")[0]
    machine = Machine(device, cpu, time.monotonic() + options.seconds)
    print(f"Device: {device.device_kind} ({device.platform}); jax {jax.__version__}.")
    if device.platform == "cpu":
        print("THERE IS NO ACCELERATOR: the CPU is compared with itself.")
    names = options.only or list(table_on(cpu, "float32"))
    start = time.monotonic()
    # The timing first: it is short, and a comparison may use up the time.
    rows = list(timing(machine, options.small))
    print(table(rows), "\n")
    print(table(comparison(machine, names)))
    print(f"\nAll in {time.monotonic() - start:.0f} seconds.")


if __name__ == "__main__":
    main()

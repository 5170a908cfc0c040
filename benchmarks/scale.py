"""What the runner of studies costs, holds and survives.

    python benchmarks/scale.py cost [--networks 100000]   share of compiled code, rate, memory
    python benchmarks/scale.py kill [--kills 20]          SIGKILL at random moments, then resume
    python benchmarks/scale.py devices                    1 and 8 devices, 2 processes of 4

Costs are CPU seconds of the whole process, which other work on the machine disturbs less than the
clock; one device, one chunk of 1024 networks after the other.
"""

from _timing import machine, table  # isort: skip; it pins to one core

import argparse
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax

from symjax.studies import _sampling, curvature
from symjax.studies._runner import How, run_study

ROOT = Path(__file__).resolve().parent.parent


def cost(networks):
    """A run of the curvature study against its compiled program alone."""
    config = curvature.Config(networks=networks)
    marks = []

    def progress(fraction, message):
        marks.append((time.process_time(), time.perf_counter(), fraction * networks))

    programs, compile_one = [], _sampling._compile

    def kept(*arguments):
        programs.append((arguments, compile_one(*arguments)))
        return programs[-1][1]

    _sampling._compile = kept
    with tempfile.TemporaryDirectory() as folder:
        run_study("curvature", config, Path(folder) / "out", How(), progress)
        size = sum(path.stat().st_size for path in Path(folder).rglob("data.zarr/**/*"))
    whole = time.process_time()
    # The first piece holds the compilation; the last mark is the finished result.
    (cpu, wall, first), (end_cpu, end_wall, last) = marks[1], marks[-2]
    compiling, after = cpu - marks[0][0], marks[-1][0] - end_cpu
    each = (end_cpu - cpu) / (last - first)
    alone, flops, moved = bare(*programs[0], min(networks, 8192))
    print(
        table(
            [
                {"what": "networks", "value": networks},
                {"what": "CPU ms a network, the run", "value": 1e3 * each},
                {"what": "CPU ms a network, the compiled program alone", "value": 1e3 * alone},
                {
                    "what": "networks a second of the clock",
                    "value": (last - first) / (end_wall - wall),
                },
                {"what": "share of compiled code while it samples", "value": alone / each},
                {"what": "store, statistics and progress over compiled", "value": each / alone - 1},
                {"what": "CPU s to compile, with the first chunk", "value": compiling},
                {"what": "CPU s for dataset, statements and figure", "value": after},
                {"what": "share of compiled code of all", "value": alone * networks / whole},
                {"what": "peak memory, GiB", "value": peak()},
                {"what": "bytes stored a network", "value": size / networks},
                {"what": "flop a network, XLA's count, loops once", "value": flops},
                {"what": "bytes a network, XLA's count, loops once", "value": moved},
            ]
        )
    )


def bare(arguments, program, networks, chunk=1024):
    """CPU seconds a network of the program itself, and XLA's count of its flop and bytes."""
    study, mesh, rows, _ = arguments
    calls = [
        _sampling._arguments(_sampling._blocks(study, start, start + chunk)[0], study, mesh, rows)
        for start in range(0, networks, chunk)
    ]
    jax.block_until_ready(program(*calls[0]))
    start = time.process_time()
    for call in calls:
        jax.block_until_ready(program(*call))
    seconds = (time.process_time() - start) / (len(calls) * chunk)
    count = program.cost_analysis() or {}
    return (
        seconds,
        count.get("flops", float("nan")) / study.width,
        count.get("bytes accessed", float("nan")) / study.width,
    )


def peak():
    """The most memory this process has held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def kill(kills, networks, seed=0):
    """Run, kill and resume until so many kills; whatever ends is compared with a whole run.

    The study is figure2, whose networks cost least: the store is written to most often.
    """
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        command = [
            *(sys.executable, "-m", "symjax", "run", "figure2", "--networks", str(networks)),
            *("--chunk", "128", "--cache", str(folder / "cache"), "--resume", "--out"),
        ]
        whole = folder / "whole"
        subprocess.run([*command, whole], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        start = time.perf_counter()
        subprocess.run(
            [*command, folder / "timed"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT
        )
        longest = time.perf_counter() - start
        expected = contents(whole / "data.zarr")
        done = finished = 0
        found = []
        while done < kills or not (folder / f"run{finished}" / "manifest.json").exists():
            out = folder / f"run{finished}"
            process = subprocess.Popen([*command, out], stdout=subprocess.DEVNULL, cwd=ROOT)
            try:
                process.wait(draw.uniform(0.2, 1.0) * longest if done < kills else 600)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                done += 1
                found.append(len(list((out / "unfinished").glob("*.npz"))))
                continue
            assert process.returncode == 0, out
            assert contents(out / "data.zarr") == expected, f"{out} differs"
            if done < kills:
                finished += 1
        print(f"{done} kills, at these numbers of committed chunks: {found}")
        print(f"{finished + 1} runs ended, each with the bytes of a run without kills")


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def devices():
    """The same digests of two samples from 1 and 8 forced devices, and 2 processes of 4."""
    rows = [describe("1 device", [start_devices(1)])]
    rows.append(describe("8 devices", [start_devices(8)]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    pair = [start_devices(4, i, address, 2) for i in range(2)]
    rows.append(describe("2 processes of 4", pair))
    print(table(rows))
    alike = len({tuple(row.values())[1:] for row in rows}) == 1
    print("bits agree" if alike else "BITS DIFFER")
    return alike


def start_devices(count, *arguments):
    flags = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.studies.devices", *map(str, arguments)]
    return subprocess.Popen(command, env=flags, cwd=ROOT, text=True, stdout=subprocess.PIPE)


def describe(name, processes):
    """One row: what the first process printed last, once all of them agree."""
    try:
        said = [p.communicate(timeout=600)[0].splitlines()[-1].split()[2:] for p in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(words == said[0] for words in said)
    names = ["one size", "other chunk", "two sizes", "other chunk ", "on the host", "other chunk  "]
    return {"run on": name} | dict(zip(names, (w[:12] for w in said[0]), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["cost", "kill", "devices"])
    parser.add_argument("--networks", type=int)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    print(machine())
    if options.what == "cost":
        cost(options.networks or 100_000)
    elif options.what == "kill":
        kill(options.kills, options.networks or 10_000)
    elif not devices():
        sys.exit(1)


if __name__ == "__main__":
    main()

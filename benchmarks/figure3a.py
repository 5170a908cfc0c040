"""Figure 3(a)'s whole workload, 100 networks of any sizes, against a NumPy and a PyTorch loop.

Every way trains the same networks (float32, full batch, the same rates and steps) and measures the
change of the output under eq. (6); the last column is the largest difference from NumPy's norms,
relative to the output. All run on one core and one thread. Times are CPU seconds, which other work
on the machine disturbs less than the clock.

    python benchmarks/figure3a.py --torch-python PATH
"""

from _timing import machine, run_peer, table  # isort: skip; it pins to one core

import argparse
import dataclasses
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np

from symjax.studies import figure3a
from symjax.studies._moved_networks import (
    RANK_CUT,
    as_network,
    compiled_training,
    draw_weights,
)
from symjax.studies._sampling import measure as measure_networks

CUT = RANK_CUT["float32"]
ONE = np.float32(1)


def sigmoid(z):
    return ONE / (ONE + np.exp(-z))


def numpy_plain(v, u, x, y, g, rate, steps):
    """Gradient steps in V and U with the derivatives written out, then eq. (6) by pinv."""
    for _ in range(steps):
        s = sigmoid(v @ x)
        r = u @ s - y
        r += r
        dv = ((u.T @ r) * s * (ONE - s)) @ x.T
        u = u - rate * (r @ s.T)
        v = v - rate * dv
    return numpy_move(v @ x, u, g)


def numpy_kernel(v, u, x, y, g, rate, steps):
    """The same steps taken by Z = V X with the kernel X^T X, as symjax takes them."""
    z, kernel = v @ x, x.T @ x
    for _ in range(steps):
        s = sigmoid(z)
        r = u @ s - y
        r += r
        dz = ((u.T @ r) * s * (ONE - s)) @ kernel
        u = u - rate * (r @ s.T)
        z = z - rate * dz
    return numpy_move(z, u, g)


def numpy_move(z, u, g):
    output, s = u @ sigmoid(z), sigmoid(g @ z)
    moved = output @ np.linalg.pinv(s, rcond=CUT) @ s
    return np.linalg.norm(output), np.linalg.norm(output - moved)


def draw(config):
    """Weights, data and elements of all networks, and their learning rates."""
    sizes = config.smallest, config.largest, config.dtype
    weights = [draw_weights(config.seed, i, *sizes) for i in range(config.networks)]
    return weights, np.array([as_network(w, config.rate).rate for w in weights])


def run_numpy(way, config):
    start = time.process_time()
    norms = [way(*w, rate, config.steps) for w, rate in zip(*draw(config), strict=True)]
    return time.process_time() - start, np.array(norms)


def run_symjax(config):
    start = time.process_time()
    data = measure_networks(figure3a.study(config))
    return time.process_time() - start, np.stack([data["output"], data["change"]], axis=1)


def run_torch(python, config):
    networks, rates = draw(config)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "networks.npz"
        names = ("v", "u", "x", "y", "g")
        arrays = {
            f"{name}{i}": a
            for i, w in enumerate(networks)
            for name, a in zip(names, w, strict=True)
        }
        np.savez(file, rates=rates, steps=config.steps, cut=CUT, **arrays)
        peer = Path(__file__).parent / "peers" / "figure3a_torch.py"
        found = run_peer(python, peer, [str(file)])
    return None if found is None else (found["seconds"], np.array(found["norms"]))


def measure(config, buckets, torch_python, repeats):
    """CPU seconds and norms for every way; the fastest of the repeats, compiling once."""
    runs, ways = {}, {"NumPy loop": partial(run_numpy, numpy_plain, config)}
    ways["NumPy loop, X^T X"] = partial(run_numpy, numpy_kernel, config)
    for count in (None, *buckets):
        run = partial(run_symjax, dataclasses.replace(config, buckets=count))
        compiled_training.cache_clear()
        jax.clear_caches()
        compiling = run()
        shapes = f"{compiled_training.cache_info().currsize} shapes{'' if count else ' (default)'}"
        runs[f"symjax, {shapes}, compiling"] = [compiling]
        name = f"symjax, {shapes}, compiled"
        # The ways take turns, so that a busy spell of the machine meets all of them.
        for _ in range(repeats):
            for each, way in ({name: run} | ways).items():
                runs.setdefault(each, []).append(way())
    torch = run_torch(torch_python, config)
    if torch is None:
        print("PyTorch skipped: pass --torch-python, an interpreter that has it")
    else:
        runs["PyTorch loop"] = [torch]
    return {name: (min(t for t, _ in found), found[-1][1]) for name, found in runs.items()}


def rows(measured):
    numpy, norms = measured["NumPy loop"]
    torch = measured.get("PyTorch loop", (float("nan"), None))[0]
    apart = lambda own: float(np.max(np.abs(own - norms) / norms[:, :1]))
    return [
        {
            "way": name,
            "CPU seconds": seconds,
            "NumPy over it": numpy / seconds,
            "PyTorch over it": torch / seconds,
            "apart from NumPy": apart(own),
        }
        for name, (seconds, own) in measured.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="interpreter of an environment with PyTorch")
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--buckets", type=int, nargs="*", default=[12, 48])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    config = figure3a.Config(networks=options.networks, steps=options.steps)
    print(machine())
    print(f"{config.networks} networks, {config.steps} steps, float32")
    print(table(rows(measure(config, options.buckets, options.torch_python, options.repeats))))


if __name__ == "__main__":
    main()

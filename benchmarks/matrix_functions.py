"""logm, expm and expm_path against scipy, numpy, vmapped jax and torch, on one core.

python benchmarks/matrix_functions.py [--torch-python PATH]
"""

import argparse
import json
import sys
import time

import _timing as timing

SHAPES = ((1000, 8), (256, 32), (64, 100))


def random_matrices(batch, n):
    import numpy as np

    return np.random.default_rng(n).normal(size=(batch, n, n)) / np.sqrt(n)


def torch_peer():
    import torch

    torch.set_num_threads(1)
    seconds = []
    for batch, n in SHAPES:
        a = torch.tensor(random_matrices(batch, n))
        seconds.append(timing.best_of(torch.linalg.matrix_exp, a))
    print(json.dumps(seconds))


def eig_log(a):
    import numpy as np

    values, basis = np.linalg.eig(a)
    return ((basis * np.log(values.astype(complex))[:, None]) @ np.linalg.inv(basis)).real


def measure(torch_seconds):
    import jax
    import jax.numpy as jnp
    import scipy.linalg

    from symjax.linalg import expm, expm_path, logm

    jax_expm = jax.vmap(jax.scipy.linalg.expm)
    ts = jnp.linspace(0.0, 1.0, 64)
    jax_path = lambda m, ts: jax.vmap(jax_expm)(ts[:, None, None] * m[:, None])
    gradient = lambda f: jax.grad(lambda a: jnp.sum(jnp.sin(f(a))))
    for i, (batch, n) in enumerate(SHAPES):
        a = jnp.asarray(random_matrices(batch, n))
        g, few = scipy.linalg.expm(a), a[: max(1, batch // 64)]
        part = max(1, batch // 20)
        start = time.process_time()
        for matrix in g[:part]:
            scipy.linalg.logm(matrix)
        loop = (time.process_time() - start) * batch / part
        peers = {"scipy loop": loop, "numpy eig": timing.best_of(eig_log, g, repeats=2)}
        yield from rows("logm", (batch, n), logm, (jnp.asarray(g),), peers)
        peers = {"vmapped jax": timing.best_of(jax.jit(jax_expm), a, repeats=3)}
        if torch_seconds:
            peers["torch"] = torch_seconds[i]
        yield from rows("expm", (batch, n), expm, (a,), peers)
        peers = {"vmapped jax": timing.best_of(jax.jit(gradient(jax_expm)), a, repeats=2)}
        yield from rows("grad expm", (batch, n), gradient(expm), (a,), peers)
        peers = {"vmapped jax": timing.best_of(jax.jit(jax_path), few, ts, repeats=2)}
        yield from rows("expm_path, 64 times", few.shape[:2], expm_path, (few, ts), peers)


def rows(name, shape, f, args, peers):
    import jax

    ours, compiling = timing.best_of(jax.jit(f), *args), timing.compile_seconds(f, *args)
    for peer, seconds in peers.items():
        yield {
            "function": name,
            "batch, n": f"{shape[0]}, {shape[1]}",
            "ms": ours * 1e3,
            "peer": peer,
            "peer ms": seconds * 1e3,
            "peer/ours": seconds / ours,
            "compile s": compiling,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-python", help="an interpreter that has torch")
    parser.add_argument("--torch-peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch_peer:
        return torch_peer()
    torch_seconds = timing.run_peer(options.torch_python, __file__, ["--torch-peer"])
    if torch_seconds is None:
        print("torch: skipped, no interpreter that has it (see --torch-python)", file=sys.stderr)
    import jax

    jax.config.update("jax_enable_x64", True)
    print(timing.machine() + "; float64; logm of exp(G / sqrt n), G Gaussian\n")
    print(timing.table(list(measure(torch_seconds))))
    return None


if __name__ == "__main__":
    main()

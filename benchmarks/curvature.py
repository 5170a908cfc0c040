"""Curvature of exponential curves of two-layer linear networks at 64 times, against five peers.

symjax walks a curve by one Taylor series (symjax/geometry/_krylov.py). The peers: nested
jax.jacfwd through jax.scipy.linalg.expm; torch.func, nested; the closed gamma', gamma'' with jax's
expm at every point; the same written by hand in batched PyTorch; a loop of finite differences in
NumPy and SciPy (float64, since float32 has no digits for them).

Networks have widths n = h = m and Gaussian weights; M is Gaussian, divided by its spectral norm, so
|M|_2 = 1. All run on one core and one thread. Times are CPU seconds per network, the best of
several interleaved calls: other work on the machine disturbs them less than the clock. Peers that
are slow run on fewer networks; their cost per network does not fall with more.

    python benchmarks/curvature.py --torch-python PATH
"""

from _timing import machine, run_peer, table  # isort: skip; it pins to one core

import argparse
import math
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import symjax

TIMES = 64
HIGHEST = jax.lax.Precision.HIGHEST
# Networks for symjax, for the compiled peers and for torch.func. At h = 8 chunks of 100 are
# vmapped; larger networks are mapped one by one, which is faster on a CPU.
BATCH = {8: (1000, 200, 20), 32: (100, 10, 2), 100: (10, 2, 1)}
CHUNK = {8: 100}
# CPU seconds for which short calls are repeated.
AT_LEAST = 0.5
FLOORS = {
    "nested jacfwd": (100, 200, 200),
    "torch.func nested": (500, 1000, 1000),
    "closed, jax expm": (12, 28, 30),
    "torch by hand": (20, 30, 25),
    "SciPy differences": (350, 100, 90),
    "nested jacfwd, float64": (60, 110),
}


def networks(count, h, ends=None, dtype=np.float32):
    """Gaussian (V, U, M), V of shape (h, ends) and U of shape (ends, h), with |M|_2 = 1."""
    rng, ends = np.random.default_rng(h), ends or h
    v, u = (rng.standard_normal((count, *s)) / math.sqrt(h) for s in ((h, ends), (ends, h)))
    m = rng.standard_normal((count, h, h))
    m /= np.linalg.norm(m, 2, axis=(1, 2), keepdims=True)
    return tuple(jnp.asarray(x, dtype) for x in (v, u, m))


def symjax_curvature(h, ends=None, times=TIMES):
    action = symjax.deep_linear_action((ends or h, h, ends or h))

    def curvature(v, u, m):
        ts = jnp.linspace(0, 1, times, dtype=v.dtype)
        return symjax.curvature(symjax.exponential_curve(action, (v, u), (m,)), ts)

    return curvature


def from_derivatives(velocity, acceleration):
    """The curvature, from flat gamma' and gamma''."""
    squared = jnp.vdot(velocity, velocity, precision=HIGHEST)
    along = jnp.vdot(velocity, acceleration, precision=HIGHEST) / squared
    return jnp.linalg.norm(acceleration - along * velocity) / squared


def nested(v, u, m):
    def point(t):
        left = jax.scipy.linalg.expm(t * m) @ v
        right = u @ jax.scipy.linalg.expm(-t * m)
        return jnp.concatenate([left.ravel(), right.ravel()])

    def at(t):
        velocity = jax.jacfwd(point)
        return from_derivatives(velocity(t), jax.jacfwd(velocity)(t))

    return jax.vmap(at)(jnp.linspace(0, 1, TIMES, dtype=v.dtype))


def closed(v, u, m):
    def at(t):
        left = m @ (jax.scipy.linalg.expm(t * m) @ v)
        right = -(u @ jax.scipy.linalg.expm(-t * m)) @ m
        flat = lambda a, b: jnp.concatenate([a.ravel(), b.ravel()])
        return from_derivatives(flat(left, right), flat(m @ left, -right @ m))

    return jax.vmap(at)(jnp.linspace(0, 1, TIMES, dtype=v.dtype))


def differences(v, u, m, step=1e-4):
    def point(t):
        left, right = scipy.linalg.expm(t * m) @ v, u @ scipy.linalg.expm(-t * m)
        return np.concatenate([left.ravel(), right.ravel()])

    result = []
    for t in np.linspace(0, 1, TIMES):
        before, here, after = point(t - step), point(t), point(t + step)
        velocity = (after - before) / (2 * step)
        acceleration = (after - 2 * here + before) / step**2
        squared = velocity @ velocity
        rest = acceleration - (velocity @ acceleration / squared) * velocity
        result.append(np.linalg.norm(rest) / squared)
    return np.array(result)


def mapped(one, chunk):
    return jax.jit(lambda v, u, m: jax.lax.map(lambda p: one(*p), (v, u, m), batch_size=chunk))


def looped(one):
    return lambda v, u, m: np.stack([one(*p) for p in zip(v, u, m, strict=True)])


def best(calls, repeats=5):
    """Results, and CPU seconds of the fastest call of each, taken in turn."""
    results = [jax.block_until_ready(f(*args)) for f, args in calls]
    seconds = [math.inf] * len(calls)
    begin = time.process_time()
    # Short calls are repeated for a while: the fastest of five of them is still noise.
    while repeats > 0 or time.process_time() - begin < AT_LEAST:
        repeats -= 1
        for i, (f, args) in enumerate(calls):
            start = time.process_time()
            jax.block_until_ready(f(*args))
            seconds[i] = min(seconds[i], time.process_time() - start)
    return results, seconds


def row(h, peer, seconds, ours, difference, floor):
    ratio = seconds / ours
    verdict = "" if floor is None else "met" if ratio >= floor else "NOT MET"
    return {
        "h": h,
        "peer": peer,
        "peer us": seconds * 1e6,
        "symjax us": ours * 1e6,
        "ratio": ratio,
        "floor": floor or "",
        "": verdict,
        "difference": f"{difference:.0e}",
    }


def against(h, floor_at, torch_python, repeats):
    """Rows of the table for one width, float32."""
    many, some, few = BATCH[h]
    single = networks(many, h)
    part = tuple(x[:some] for x in single)
    double = tuple(np.asarray(x, np.float64) for x in part)
    chunk = CHUNK.get(h)
    ours = mapped(symjax_curvature(h), chunk)
    calls = {
        "symjax": (ours, single),
        # Each peer as it is fastest: in one vmap, or network by network.
        "nested jacfwd": (jax.jit(jax.vmap(nested)), part),
        "nested, mapped": (mapped(nested, None), part),
        "closed, jax expm": (jax.jit(jax.vmap(closed)), part),
        "closed, mapped": (mapped(closed, None), part),
        "SciPy differences": (looped(differences), tuple(x[:few] for x in double)),
    }
    results, seconds = best(list(calls.values()), repeats)
    cost = {k: s / len(c[1][0]) for (k, c), s in zip(calls.items(), seconds, strict=True)}
    found = dict(zip(calls, results, strict=True))
    for peer, way in (("nested jacfwd", "nested, mapped"), ("closed, jax expm", "closed, mapped")):
        cost[peer] = min(cost[peer], cost.pop(way))
    for peer, (s, kappa) in torch_peers(torch_python, single, some, few).items():
        cost[peer], found[peer] = s, kappa
    reference = np.asarray(found["symjax"], np.float64)
    difference = lambda k: np.abs(np.asarray(k) / reference[: len(k)] - 1).max()
    return [
        row(h, p, cost[p], cost["symjax"], difference(found[p]), FLOORS[p][floor_at])
        for p in FLOORS
        if p in cost
    ]


def torch_peers(python, weights, some, few):
    """{name: (CPU seconds per network, curvatures)}, empty where torch is not to be had."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "networks.npz"
        np.savez(path, v=weights[0][:some], u=weights[1][:some], m=weights[2][:some], few=few)
        answer = run_peer(python, Path(__file__).parent / "peers" / "curvature_torch.py", [path])
    if answer is None:
        print("PyTorch peers skipped: no --torch-python.")
        return {}
    return {name: (a["seconds"], np.array(a["curvature"])) for name, a in answer.items()}


def in_double(h, floor_at, repeats):
    with jax.enable_x64(True):
        many, some, _ = BATCH[h]
        full = networks(many // 2, h, dtype=np.float64)
        part = tuple(x[:some] for x in full)
        ours = mapped(symjax_curvature(h), CHUNK.get(h))
        calls = [(ours, full), (jax.jit(jax.vmap(nested)), part), (mapped(nested, None), part)]
        (kappa, kappa_peer, _), seconds = best(calls, repeats)
        peer, name = min(seconds[1:]) / some, "nested jacfwd, float64"
        gap = jnp.abs(kappa_peer / kappa[:some] - 1).max()
        return row(h, name, peer, seconds[0] / len(full[0]), gap, FLOORS[name][floor_at])


def memory(h):
    """Temporary memory, as XLA plans it: both under one vmap, both mapped, and symjax as timed."""
    count = BATCH[h][0]
    weights = networks(count, h)
    plan = lambda f: f.lower(*weights).compile().memory_analysis().temp_size_in_bytes / 1e6
    ours = symjax_curvature(h)
    rows = []
    for way, wrap in (
        (f"one vmap of {count}", lambda f: jax.jit(jax.vmap(f))),
        (f"lax.map, chunks of {CHUNK.get(h, 1)}", lambda f: mapped(f, CHUNK.get(h))),
    ):
        a, b = plan(wrap(nested)), plan(wrap(ours))
        rows.append({"h": h, "way": way, "nested MB": a, "symjax MB": b, "ratio": a / b})
    best_plan = rows[1]["symjax MB"]
    for r in rows:
        r["nested / symjax as timed"] = r["nested MB"] / best_plan
        r[">= 100"] = "met" if r["nested / symjax as timed"] >= 100 else "NOT MET"
    return rows


def growth(what, h, calls, floor, repeats):
    """How much more the second call costs than the first."""
    _, (less, more) = best(calls, repeats)
    verdict = "met" if more / less <= floor else "NOT MET"
    return {"cost of": what, "h": h, "ratio": more / less, "at most": floor, "": verdict}


def more_times(h, repeats):
    # Whole chunks, since a rest would be one more program whose results are copied.
    weights = networks(max(BATCH[h][0] // 5, 1), h)
    calls = [(mapped(symjax_curvature(h, times=t), CHUNK.get(h)), weights) for t in (64, 4096)]
    return growth("4096 times for 64", h, calls, 1.5, repeats)


def unmoved(h, repeats):
    """A further leaf of 1e7 parameters that no leg names."""
    legs = [symjax.Leg("v", 0), symjax.Leg("u", 1, "covector")]
    action = symjax.linear_action(symjax.GeneralLinear(h), legs)
    ts = jnp.linspace(0, 1, TIMES)

    @jax.jit
    def curvature(v, u, m, rest):
        def one(p):
            curve = symjax.exponential_curve(action, {"v": p[0], "u": p[1], "rest": rest}, p[2])
            return symjax.curvature(curve, ts)

        return jax.lax.map(one, (v, u, m), batch_size=CHUNK.get(h))

    weights = networks(BATCH[h][0], h)
    calls = [(curvature, (*weights, jnp.ones(n))) for n in (1, 10_000_000)]
    return growth("1e7 unmoved parameters", h, calls, 1.1, repeats)


def wider(repeats):
    calls = [(mapped(symjax_curvature(64, n), None), networks(8, 64, n)) for n in (64, 1024)]
    return growth("n = m = 1024 for 64", 64, calls, 3.0, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(BATCH), choices=list(BATCH))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    sizes, repeats = [(h, list(BATCH).index(h)) for h in options.sizes], options.repeats
    print(machine())
    print(f"\nCPU microseconds per network, {TIMES} times, float32 unless said")
    rows = [r for h, i in sizes for r in against(h, i, options.torch_python, repeats)]
    print(table(rows), flush=True)
    double = [in_double(h, i, repeats) for h, i in sizes if i < 2]
    print(table(double) if double else "", flush=True)
    print("\nTemporary memory of the compiled program")
    print(table([r for h, _ in sizes for r in memory(h)]), flush=True)
    print("\nWhat costs little")
    rows = [f(h, repeats) for f in (more_times, unmoved) for h, _ in sizes]
    print(table([*rows, wider(repeats)]))


if __name__ == "__main__":
    main()

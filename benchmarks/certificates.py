"""Certificates, lengths and curvatures of random curves against NumPy: how many are wrong.

Curves of scales and of matrices, in leaves of their own and in blocks of one leaf, with weights
that spread over 40 decades, close to straight lines, and stiff, in float32 and float64. The truth
is a dense sampling in float64 (for scales closed forms in which nothing cancels) that shares no
code with the library. A certificate is wrong where it lies below it, a length or a
curvature where it is off by more than the dtype allows. NaN and infinity are counted apart: they
say that nothing is known.

    python benchmarks/certificates.py --curves 20000
"""

from _timing import machine, table  # isort: skip; it pins to one core

import argparse
import collections

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import symjax
from symjax import Leg
from symjax.actions import Block

TIMES = np.linspace(0, 1, 65)
# Quadrature of the truth: 8 nodes in each of 32 cells.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
NODES = ((np.arange(32)[:, None] + (_NODES + 1) / 2) / 32).ravel()
WEIGHTS = np.tile(_WEIGHTS / 64, 32)
BATCH = 250
#: How far weights of one dtype spread, and the fastest rate.
REACH = {np.float32: (20, 20.0), np.float64: (40, 60.0)}


def vector(start, size):
    return Block((start,), (((size, 1),),))


def scales_of(n, flat):
    """(action, (x, y) -> parameters) of x e^{mt}, y e^{-mt}, in one leaf or in two."""
    group = symjax.PositiveScaling(n)
    if not flat:
        legs = [Leg(0), Leg(1, 0, "covector")]
        return symjax.linear_action(group, legs), lambda x, y: (x, y)
    legs = [Leg(0, 0, "vector", 0, vector(0, n)), Leg(0, 0, "covector", 0, vector(n, n))]
    return symjax.linear_action(group, legs), lambda x, y: (jnp.concatenate([x, y]),)


def matrices_of(n, k, flat):
    """The same for matrices M and weights V (n, k), U (k, n)."""
    if not flat:
        return symjax.deep_linear_action((k, n, k)), lambda v, u: (v, u)
    block = lambda start: Block((start, 0), (((n, 1),), ((k, 1),)))
    legs = [Leg(0, 0, "vector", 0, block(0)), Leg(0, 0, "covector", 0, block(n))]
    action = symjax.linear_action(symjax.Product([symjax.GeneralLinear(n)]), legs)
    return action, lambda v, u: (jnp.concatenate([v, u.T]),)


def measure(action, pack, wrap):
    def one(x, y, m):
        curve = symjax.exponential_curve(action, pack(x, y), wrap(m))
        times = jnp.asarray(TIMES, x.dtype)
        c = symjax.certify(curve)
        numbers = c.length, c.max_curvature, c.total_curvature, symjax.length(curve)
        return *numbers, symjax.speed(curve, times), symjax.curvature(curve, times)

    return jax.jit(lambda *batch: jax.lax.map(lambda a: one(*a), batch))


def draw_scales(rng, n, dtype):
    decades, rate = REACH[dtype]
    rate = rate * 10 ** rng.uniform(-3, 0)
    spread = rng.uniform(0, decades)
    ends = lambda: (rng.normal(size=n) * 10 ** rng.uniform(-spread, 0, n)).astype(dtype)
    return ends(), ends(), (rate * rng.uniform(-1, 1, n)).astype(dtype)


def true_scales(times, x, y, m):
    rates = np.concatenate([m, -m]).astype(np.float64)
    first = np.abs(rates * np.concatenate([x, y]).astype(np.float64))
    v = first * np.exp(np.outer(times, rates))
    speed = np.linalg.norm(v, axis=1)
    unit = v / speed[:, None]
    pairs = unit[:, :, None] * unit[:, None] * (rates[:, None] - rates)
    return speed, np.sqrt((pairs**2).sum((1, 2)) / 2) / speed, 0.0


def draw_matrices(rng, n, k, dtype):
    # Close to a straight line in a third: M = a I + b G, one of the two layers alone.
    straight = rng.uniform() < 1 / 3
    size = 10 ** rng.uniform(-2, 0.9)
    m = rng.normal(size=(n, n)) * size / n**0.5
    v, u = rng.normal(size=(n, k)), rng.normal(size=(k, n))
    if straight:
        m = size * np.eye(n) + 10 ** rng.uniform(-8, -1) * m
        u = 0 * u
    scale = 10 ** rng.uniform(-15, 15, 2)
    return tuple(a.astype(dtype) for a in (v * scale[0], u * scale[1], m))


def true_matrices(times, v, u, m):
    """Speed and curvature, and the rounding error of the latter's terms."""
    v, u, m = (a.astype(np.float64) for a in (v, u, m))
    g, h = (scipy.linalg.expm(sign * times[:, None, None] * m) for sign in (1, -1))
    left, right = m @ g @ v, -u @ h @ m
    flat = lambda a, b: np.concatenate([a.reshape(len(a), -1), b.reshape(len(b), -1)], 1)
    first, second = flat(left, right), flat(m @ left, -right @ m)
    speed = np.linalg.norm(first, axis=1)
    unit = first / speed[:, None]
    normal = second
    for _ in range(2):
        normal = normal - (normal * unit).sum(1)[:, None] * unit
    floor = 1e-14 * np.linalg.norm(m, 2) * (1 + np.linalg.norm(m, 2)) / speed
    return speed, np.linalg.norm(normal, axis=1) / speed**2, floor


def judge(found, truth, example, dtype):
    """Names of what is wrong and of what is not said."""
    numbers = tuple(np.asarray(a, np.float64) for a in found)
    length, highest, turning, measured, speeds, curvatures = numbers
    speed, curvature, floor = truth(TIMES, *example)
    inner_speed, inner, inner_floor = truth(NODES, *example)
    true_length = WEIGHTS @ inner_speed
    # What the truth itself may be wrong by, where gamma'' lies along gamma'.
    least = np.maximum(curvature - floor, 0).max()
    least_turning = WEIGHTS @ (inner_speed * np.maximum(inner - inner_floor, 0))
    rate = np.abs(np.diff(np.log(inner_speed))).sum() + np.linalg.norm(example[-1])
    single = dtype == np.float32
    loose = (1e-4 if single else 1e-9) * (1 + rate / 10)
    noise = float(np.finfo(dtype).eps) * 100 * (1 + rate) ** 2 / speed.min()
    verdicts = {
        "certified length": length >= true_length * (1 - 1e-9),
        "certified curvature": highest >= least * (1 - 1e-6),
        "certified turning": turning >= least_turning * (1 - 1e-6),
        "length": abs(measured / true_length - 1) < loose,
        "speed": np.abs(speeds / speed - 1).max() < loose,
        "curvature": np.abs(curvatures - curvature).max() < 100 * loose * curvature.max() + noise,
    }
    for name, number in zip(verdicts, numbers, strict=True):
        if not np.all(np.isfinite(number)):
            yield name, "not said"
        elif not verdicts[name]:
            yield name, "wrong"


def kinds():
    for n, flat in ((1, True), (1, False), (3, True), (3, False), (8, True)):
        action, pack = scales_of(n, flat)
        draw = lambda rng, dtype, n=n: draw_scales(rng, n, dtype)
        yield (
            f"{n} scales, {'one leaf' if flat else 'two'}",
            action,
            pack,
            lambda m: m,
            draw,
            true_scales,
        )
    for n, k, flat in ((2, 2, False), (2, 1, True), (4, 3, False), (4, 3, True)):
        action, pack = matrices_of(n, k, flat)
        draw = lambda rng, dtype, n=n, k=k: draw_matrices(rng, n, k, dtype)
        yield (
            f"GL({n}), {'one leaf' if flat else 'two'}", action, pack, lambda m: (m,), draw,
            true_matrices,
        )  # fmt: skip


def run(curves, seed=0):
    """Rows of the table: how many curves of each kind, and what was wrong with them."""
    cases = [(kind, dtype) for kind in kinds() for dtype in REACH]
    each = -(-curves // len(cases))
    for (name, action, pack, wrap, draw, truth), dtype in cases:
        ours, rng = measure(action, pack, wrap), np.random.default_rng(seed)
        counts = collections.Counter()
        for start in range(0, each, BATCH):
            drawn = [draw(rng, dtype) for _ in range(BATCH)]
            found = ours(*(jnp.asarray(np.stack(a)) for a in zip(*drawn, strict=True)))
            rows = list(zip(*map(np.asarray, found), strict=True))
            for example, row in list(zip(drawn, rows, strict=True))[: each - start]:
                counts.update(judge(row, truth, example, dtype))
        wrong = {k: v for (k, how), v in counts.items() if how == "wrong"}
        silent = {k: v for (k, how), v in counts.items() if how == "not said"}
        yield {
            "curves": name,
            "dtype": np.dtype(dtype).name,
            "number": each,
            "wrong": sum(wrong.values()),
            "what": ", ".join(f"{k} {v}" for k, v in wrong.items()),
            "not said": ", ".join(f"{k} {v}" for k, v in silent.items()),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=20_000)
    options = parser.parse_args()
    print(machine())
    with jax.enable_x64(True):
        rows = list(run(options.curves))
    print(table(rows))
    print(f"{sum(r['wrong'] for r in rows)} wrong of {sum(r['number'] for r in rows)} curves")


if __name__ == "__main__":
    main()

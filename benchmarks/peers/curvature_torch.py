"""The PyTorch peers of benchmarks/curvature.py, run by it in an environment of their own."""

import json
import math
import sys
import time

import numpy as np
import torch
from torch.func import jacfwd, vmap

torch.set_num_threads(1)
TIMES = torch.linspace(0, 1, 64)


def from_derivatives(velocity, acceleration):
    squared = (velocity * velocity).sum(-1, keepdim=True)
    along = (velocity * acceleration).sum(-1, keepdim=True) / squared
    return torch.linalg.norm(acceleration - along * velocity, dim=-1) / squared[..., 0]


def nested(v, u, m):
    def point(t):
        # matrix_exp(-tM): torch.linalg.solve is silently wrong here under nested torch.func (2.13).
        left, right = torch.matrix_exp(t * m) @ v, u @ torch.matrix_exp(-t * m)
        return torch.cat([left.reshape(-1), right.reshape(-1)])

    def at(t):
        velocity = jacfwd(point)
        return from_derivatives(velocity(t), jacfwd(velocity)(t))

    return vmap(at)(TIMES)


def by_hand(v, u, m):
    """All networks and times in one batch, derivatives written out."""
    generators = TIMES[:, None, None] * m[:, None]
    left = m[:, None] @ (torch.matrix_exp(generators) @ v[:, None])
    right = -(u[:, None] @ torch.matrix_exp(-generators)) @ m[:, None]
    flat = lambda a, b: torch.cat([a.flatten(-2), b.flatten(-2)], -1)
    return from_derivatives(flat(left, right), flat(m[:, None] @ left, -right @ m[:, None]))


def measure(f, count, repeats=3):
    result, best = f(), math.inf
    for _ in range(repeats):
        start = time.process_time()
        result = f()
        best = min(best, time.process_time() - start)
    return {"seconds": best / count, "curvature": result.tolist()}


def main(path):
    data = np.load(path)
    v, u, m = (torch.from_numpy(data[name]) for name in "vum")
    few = int(data["few"])
    fastest = lambda *ways: min(ways, key=lambda a: a["seconds"])
    one_by_one = lambda f: (
        lambda: torch.stack([f(*p) for p in zip(v[:few], u[:few], m[:few], strict=True)])
    )
    answer = {
        "torch.func nested": fastest(
            measure(lambda: vmap(nested)(v[:few], u[:few], m[:few]), few),
            measure(one_by_one(nested), few),
        ),
        "torch by hand": measure(lambda: by_hand(v, u, m), len(v)),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])

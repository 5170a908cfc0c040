"""Figure 3(a)'s workload as a PyTorch loop, which benchmarks/figure3a.py runs."""

import json
import sys
import time

import numpy as np
import torch

torch.set_num_threads(1)


def train(v, u, x, y, rate, steps):
    v.requires_grad_()
    u.requires_grad_()
    optimiser = torch.optim.SGD([v, u], lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        ((u @ torch.sigmoid(v @ x) - y) ** 2).sum().backward()
        optimiser.step()
    return v.detach(), u.detach()


def move(v, u, x, g, cut):
    output, s = u @ torch.sigmoid(v @ x), torch.sigmoid(g @ v @ x)
    moved = output @ torch.linalg.pinv(s, rtol=cut) @ s
    return [float(torch.linalg.norm(output)), float(torch.linalg.norm(output - moved))]


def main(path):
    data = np.load(path)
    steps, cut, norms = int(data["steps"]), float(data["cut"]), []
    networks = [
        [torch.from_numpy(data[f"{name}{i}"]) for name in "vuxyg"]
        for i in range(len(data["rates"]))
    ]
    start = time.process_time()
    for (v, u, x, y, g), rate in zip(networks, data["rates"], strict=True):
        v, u = train(v, u, x, y, float(rate), steps)
        norms.append(move(v, u, x, g, cut))
    print(json.dumps({"seconds": time.process_time() - start, "norms": norms}))


if __name__ == "__main__":
    main(sys.argv[1])

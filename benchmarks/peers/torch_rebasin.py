"""Permutation matching by a PyTorch package, on the layers in an npz file.

``python torch_rebasin.py PACKAGE IN.npz OUT.npz`` with PACKAGE rebasin or sinkhorn-rebasin: two
distributions, both imported as ``rebasin``, so each needs an environment of its own. The file
holds a0, b0, a1, ... and weights and biases as a/w0, a/b0, ..., b/w0, ...; prints CPU seconds.
"""

import contextlib
import io
import json
import sys
import time

import numpy as np
import torch

STEPS, RATE = 200, 1.0


def network(file, model):
    """An nn.Sequential of linear layers and ReLU with the stored weights."""
    layers = []
    for i in range(sum(name.startswith(f"{model}/w") for name in file.files)):
        w, b = (torch.from_numpy(file[f"{model}/{kind}{i}"]) for kind in "wb")
        layer = torch.nn.Linear(w.shape[1], w.shape[0])
        with torch.no_grad():
            layer.weight.copy_(w)
            layer.bias.copy_(b)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def by_descent(a, b, x):
    """The package ``rebasin``: weight matching."""
    from rebasin import PermutationCoordinateDescent

    PermutationCoordinateDescent(a, b, x).rebasin()
    return b


def by_sinkhorn(a, b, x):
    """The package ``sinkhorn-rebasin``: Adam on relaxed permutations, the L2 distance as loss."""
    from rebasin import RebasinNet
    from rebasin.loss import DistL2Loss

    distance = lambda m: sum(
        float(((p - q) ** 2).sum()) for p, q in zip(a.parameters(), m.parameters(), strict=True)
    )
    net = RebasinNet(b, input_shape=tuple(x.shape))
    net.identity_init()
    loss, adam = DistL2Loss(a), torch.optim.Adam(net.p.parameters(), lr=RATE)
    best, found = distance(b), b
    for _ in range(STEPS):
        net.train()
        value = loss(net())
        adam.zero_grad()
        value.backward()
        adam.step()
        net.eval()
        moved = net()
        if distance(moved) < best:
            best = distance(moved)
            found = network_copy(moved)
    return found


def network_copy(model):
    """The weights of a model as they are now."""
    import copy

    return copy.deepcopy(model)


def main():
    package, source, target = sys.argv[1:]
    torch.set_num_threads(1)
    file = np.load(source)
    a, b = network(file, "a"), network(file, "b")
    x = torch.zeros(1, a[0].in_features)
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        moved = (by_descent if package == "rebasin" else by_sinkhorn)(a, b, x)
    seconds = time.process_time() - start
    layers = [m for m in moved if isinstance(m, torch.nn.Linear)]
    arrays = {f"w{i}": m.weight.detach().numpy() for i, m in enumerate(layers)}
    arrays |= {f"b{i}": m.bias.detach().numpy() for i, m in enumerate(layers)}
    np.savez(target, **arrays)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()

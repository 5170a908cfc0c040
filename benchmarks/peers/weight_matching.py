"""Weight matching of multilayer perceptrons (Ainsworth et al. 2023, algorithm 1), in NumPy.

Coordinate descent over the permutations of hidden layers in random order: each is the linear
assignment that maximises the inner product of A's weights with B's, given the permutations of its
neighbours, until none changes. Written from the description in the paper.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment


def weight_matching(a, b, *, seed=0):
    """The layers of b, permuted towards a; layers are pairs (weight (out, in), bias)."""
    random = np.random.default_rng(seed)
    widths = [len(bias) for _, bias in b]
    order = [np.arange(n) for n in (b[0][0].shape[1], *widths)]
    changed = True
    while changed:
        changed = False
        for i in random.permutation(len(b) - 1):
            (wa, ba), (wb, bb), (va, _), (vb, _) = a[i], b[i], a[i + 1], b[i + 1]
            gain = wa @ wb[:, order[i]].T + np.outer(ba, bb) + va.T @ vb[order[i + 2]]
            new = linear_sum_assignment(gain, maximize=True)[1]
            rows = np.arange(len(new))
            if gain[rows, new].sum() > gain[rows, order[i + 1]].sum() + 1e-9:
                order[i + 1], changed = new, True
    return [(w[order[i + 1]][:, order[i]], bias[order[i + 1]]) for i, (w, bias) in enumerate(b)]

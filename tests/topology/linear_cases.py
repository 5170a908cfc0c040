"""Random minima of deep linear networks, made without the code under test."""

import numpy as np


def orthogonal(rng, n):
    """A random orthogonal matrix."""
    q, r = np.linalg.qr(rng.normal(size=(n, n)))
    return q * np.sign(np.diagonal(r))


def conditioned(rng, n, condition):
    """A random square matrix of this condition number, with determinant of either sign."""
    singular = np.logspace(-0.5, 0.5, n) ** np.log10(condition)
    return orthogonal(rng, n) @ np.diag(singular if n > 1 else [1.0]) @ orthogonal(rng, n)


def best_factors(widths, x, y, *, plane=None):
    """(left, sigma, right) of a best product Z in reduced coordinates, s and U with X = U s V^T.

    The rank is cut by exact knowledge of the caller's data: singular values below 1e-9 are zero.
    ``plane`` turns the singular vectors of the last, equal singular values.
    """
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    seen = s > 1e-9 * max(s[0], 1e-300)
    u, s, vt = u[:, seen], s[seen], vt[seen]
    left, sigma, right = np.linalg.svd(y @ vt.T, full_matrices=False)
    if plane is not None:
        near = np.abs(sigma - sigma[min(seen.sum(), *widths[1:]) - 1]) < 1e-9
        left[:, near] = left[:, near] @ plane
        right[near] = plane.T @ right[near]
    size = max(np.linalg.norm(y), 1e-300)
    rho = min(int((sigma > 1e-9 * size).sum()), seen.sum(), *widths[1:])
    return (left[:, :rho], sigma[:rho], right[:rho].T), s, u


def random_minimum(rng, widths, x, y, *, condition=1.0, where=0, plane=None):
    """Weights whose product is a best one, with dead parts of any rank in all hidden layers.

    ``where`` says which layer makes the dead parts vanish: the first (0) or the last (-1). Each
    hidden layer has its own change of basis, the second one of condition ``condition``.
    """
    (left, sigma, right), s, u = best_factors(widths, x, y, plane=plane)
    depth = len(widths) - 1
    if depth == 1:
        seen = [(left * sigma) @ right.T]
    else:
        seen = _hidden_chain(rng, (len(s), *widths[1:]), left * sigma, right, where)
    for i in range(depth - 1):
        g = conditioned(rng, widths[i + 1], condition if i == 0 else 2.0)
        seen[i], seen[i + 1] = g @ seen[i], np.linalg.solve(g.T, seen[i + 1].T).T
    blind = np.eye(widths[0]) - u @ u.T
    first = (seen[0] / s) @ u.T + rng.normal(size=(widths[1], widths[0])) @ blind
    return (first, *seen[1:])


def _hidden_chain(rng, widths, last, first, where):
    """Block triangular weights [[1, E], [0, F]] whose dead path ends in a layer without E and F."""
    rho, depth = last.shape[1], len(widths) - 1
    weights = []
    for i in range(depth):
        w = np.zeros((widths[i + 1], widths[i]))
        w[:, rho:] = rng.normal(size=(widths[i + 1], widths[i] - rho)) / widths[i] ** 0.5
        if where == -1:  # dead units are read by none: transposed
            w[:rho, rho:] = 0
            w[rho:, :rho] = rng.normal(size=(widths[i + 1] - rho, rho)) / widths[i] ** 0.5
        w[:rho, :rho] = np.eye(rho)
        weights.append(w)
    weights[0] = weights[0][:, :rho] @ first.T
    weights[-1] = last @ weights[-1][:rho]
    # The first layer feeds no dead unit, or the last one reads none.
    if where == -1:
        weights[-1][:, rho:] = 0
    return weights

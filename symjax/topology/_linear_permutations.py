"""The fewest permutations of hidden units between components of a linear network's minimum."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from .._results import AbstractResult
from ._linear_data import Margins
from ._linear_label import Weights


class LinearPermutations(AbstractResult):
    """Permutations that bring a minimum into the component of another; see `LinearMinimum`.

    ``permutations[i]`` permutes hidden layer i + 1 of ``params``. ``possible`` says whether the
    result lies in the wanted component; where it does not, the layers ``sign_flips`` (of width 1)
    must be negated as well: W_i and W_(i+1).
    """

    params: Weights
    permutations: tuple[Int[np.ndarray, " _"], ...]
    sign_flips: tuple[int, ...]

    @property
    def possible(self) -> bool:
        """Whether permutations alone do it."""
        return not self.sign_flips

    def __iter__(self) -> Iterator[Any]:
        return iter((self.params, self.permutations))


def permute(
    margins: Margins, p: tuple[Weights, Any], q: tuple[Weights, Any], align: bool
) -> LinearPermutations:
    """The permutations, and p moved by them; p and q with their labels."""
    (weights, signs), (target, wanted) = p, q
    differing = [i for i, s, r in zip(margins.layers, signs, wanted, strict=True) if s != r]
    if margins.tied and 2 * len(differing) > margins.b:
        differing = [i for i in margins.layers if i not in differing]
    odd = {i for i in differing if margins.rho >= 2}
    permutations = [np.arange(len(w)) for w in weights[:-1]]
    if align:
        _align(permutations, weights, target, {i: i in odd for i in margins.layers})
    else:
        for i in odd:
            permutations[i - 1][[0, 1]] = [1, 0]
    flips = tuple(i for i in differing if i not in odd)
    return LinearPermutations(_permuted(weights, permutations), tuple(permutations), flips)


def _permuted(weights, permutations):
    """(P_1 W_1, P_2 W_2 P_1^-1, ..., W_l P_(l-1)^-1); a weight that stays is the same object."""
    moved = list(weights)
    for i, order in enumerate(permutations):
        if (order != np.arange(len(order))).any():
            moved[i] = moved[i][order]
            moved[i + 1] = moved[i + 1][:, order]
    return tuple(moved)


def _align(permutations, weights, target, parities):
    """Layer by layer the assignment nearest to the target, swept until nothing changes."""
    from scipy.optimize import linear_sum_assignment  # where it is used

    weights, target = ([np.asarray(w, np.float64) for w in ws] for ws in (weights, target))
    for _ in range(10):
        before = [order.copy() for order in permutations]
        for i, order in enumerate(permutations):
            rest = [*permutations[:i], np.arange(len(order)), *permutations[i + 1 :]]
            moved = _permuted(weights, rest)
            gain = target[i] @ moved[i].T + target[i + 1].T @ moved[i + 1]
            order[:] = linear_sum_assignment(gain, maximize=True)[1]
            if i + 1 in parities and _is_odd(order) != parities[i + 1]:
                _swap_cheapest(order, gain)
        if all((a == b).all() for a, b in zip(before, permutations, strict=True)):
            return


def _swap_cheapest(order, gain):
    """Change the parity by the one swap that loses least."""
    n = len(order)
    if n < 2:
        return
    now = gain[np.arange(n), order]
    loss = now[:, None] + now[None, :] - gain[:, order] - gain[:, order].T
    np.fill_diagonal(loss, np.inf)
    i, j = np.unravel_index(np.argmin(loss), loss.shape)
    order[[i, j]] = order[[j, i]]


def _is_odd(order):
    seen, cycles = set(), 0
    for start in range(len(order)):
        cycles += start not in seen
        while start not in seen:
            seen.add(start)
            start = int(order[start])
    return (len(order) - cycles) % 2 == 1

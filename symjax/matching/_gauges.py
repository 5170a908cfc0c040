"""Scales and signs that one vector of parameters fixes: its entries are made 1, or positive."""

import collections
from collections.abc import Sequence
from typing import Any

from ._places import Place, overlap


def find_gauges(factors: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> dict[int, Place]:
    """The factors of a table that a vector can fix, by number, and where it stands.

    Those of vectors that stand as gains in legs of others: a leg that is conjugated by gains is an
    isometry where these are all 1 or -1. And signs that move the same entries as other signs, for
    as long as there are any: one after the other they would not be found.
    """
    gains = {leaf for f in factors for p in f.places for leaf, gain in p.gains if gain.offset == 0}
    found = {}
    for i, factor in enumerate(factors):
        if factor.kind in ("scale", "sign"):
            for p in factor.places:
                if p.leaf in gains and _is_vector(factor, p, shapes):
                    found[i] = p
    while tangled := _tangled_signs(factors, shapes, found):
        i = min(tangled, key=lambda i: (tangled[i][0], i))
        found[i] = tangled[i][1]
    return found


def _tangled_signs(factors, shapes, found):
    """(entries moved, place) of the signs that overlap with others and have a vector of their own.

    Scales and permutations keep the signs of a vector; what any other kind moves has none.
    """
    signs = [i for i, f in enumerate(factors) if f.kind == "sign" and i not in found]
    keep = ("sign", "scale", "permutation")
    unsure = {leaf for f in factors if f.kind not in keep for leaf in f.leaves}
    on = collections.defaultdict(list)
    for i in signs:
        for p in factors[i].places:
            on[p.leaf].append((i, p))
    tangled = {}
    for i in signs:
        places = factors[i].places
        shared = [any(j != i and overlap(p, q) for j, q in on[p.leaf]) for p in places]
        for p, is_shared in zip(places, shared, strict=True):
            own = not is_shared and p.leaf not in unsure and _is_vector(factors[i], p, shapes)
            if own and any(shared):
                tangled[i] = sum(q.size(shapes) for q in places), p
    return tangled


def _is_vector(factor, place, shapes):
    return place.size(shapes) == factor.n * factor.count

"""Monomials: products of a free function (the shift), of tensors and their reciprocals, summed.

``Monomial(factors)``: each factor is (what, power, names); ``what`` is ("shift", kind) for the free
function or the number of a tensor. A name is a label of the tensor that the monomial belongs to,
("via", table's index, labels) for an index looked up in a table, or ("sum", i).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

Name = Any
FactorKey = tuple[Any, int, tuple[Name, ...]]
#: Where nothing tells summed names apart, not more than so many orders of them are tried.
MOST_ORDERS = 64


def is_summed(name: Name) -> bool:
    """Whether a name is summed inside of the monomial."""
    return isinstance(name, tuple) and name[0] == "sum"


def is_via(name: Name) -> bool:
    """Whether a name is an index that was looked up in a table."""
    return isinstance(name, tuple) and name[0] == "via"


@dataclass(frozen=True)
class Monomial:
    """A product of factors, in canonical order."""

    factors: tuple[FactorKey, ...]

    @property
    def free(self) -> frozenset:
        """The names that are not summed."""
        return frozenset(n for _, _, names in self.factors for n in names if not is_summed(n))

    @property
    def labels(self) -> set:
        """The labels that the monomial depends on, through tables too."""
        return {x for n in self.free for x in (n[2] if is_via(n) else (n,))}

    @property
    def shift(self) -> FactorKey:
        """The factor that is the free function."""
        return next(f for f in self.factors if isinstance(f[0], tuple))

    @property
    def others(self) -> tuple[FactorKey, ...]:
        """The factors that are tensors."""
        return tuple(f for f in self.factors if not isinstance(f[0], tuple))

    def rename(self, name: Callable[[Name], Name]) -> "Monomial":
        """The monomial with other labels."""
        change = lambda n: (
            n if is_summed(n) else (n[0], n[1], tuple(map(name, n[2]))) if is_via(n) else name(n)
        )
        return canonical([(w, p, tuple(map(change, names))) for w, p, names in self.factors])

    def times(self, other: "Monomial") -> "Monomial":
        """The product; summed names of the two are kept apart."""
        apart = lambda n: ("sum", ("right", n[1])) if is_summed(n) else n
        right = [(w, p, tuple(map(apart, names))) for w, p, names in other.factors]
        return canonical([*self.factors, *right])

    def sum_over(self, labels: set) -> "Monomial":
        """The sum over labels that stand in the monomial."""
        change = lambda n: ("sum", ("new", n)) if n in labels else n
        return canonical([(w, p, tuple(map(change, names))) for w, p, names in self.factors])


def canonical(factors: list[FactorKey]) -> Monomial:
    """Sorted, equal factors joined, summed names numbered in order of appearance."""
    joined: dict[tuple, int] = {}
    for what, power, names in factors:
        joined[what, names] = joined.get((what, names), 0) + power
    rows = [(w, p, n) for (w, n), p in joined.items() if p]
    keyed = sorted([(_without_sums(row), row) for row in rows], key=lambda pair: pair[0])
    rows = tuple(row for _, row in keyed)
    if any(a == b for (a, _), (b, _) in pairwise(keyed)):
        rows = _in_order(rows)
    return Monomial(_numbered(rows))


def _without_sums(row):
    """What a factor is, but for which of the summed names it has."""
    what, power, names = row
    return repr(what), power, tuple("sum" if is_summed(n) else repr(n) for n in names)


def _numbered(rows):
    numbers: dict[Name, Name] = {}
    change = lambda n: numbers.setdefault(n, ("sum", len(numbers))) if is_summed(n) else n
    return tuple((w, p, tuple(map(change, names))) for w, p, names in rows)


@lru_cache(maxsize=1 << 14)
def _in_order(rows, first=(), most=MOST_ORDERS):
    """Factors of which some differ in their summed names alone, in an order that these do not set.

    The names are told apart by where they stand, as nodes of a graph by their neighbours; where
    that leaves some alike, one after the other comes first, and the least of the results is taken.
    """
    colours = _colours(rows, first)
    key = lambda row: (_without_sums(row), [colours.get(n, -1) for n in row[2]])
    rows = tuple(sorted(rows, key=key))
    count = Counter(colours.values())
    alike = [x for a, b in pairwise(rows) if key(a) == key(b) for x in (*a[2], *b[2])]
    unclear = [colours[n] for n in alike if is_summed(n) and count[colours[n]] > 1]
    if not unclear:
        return rows
    members = [n for n, colour in colours.items() if colour == min(unclear)]
    tried = members if len(members) <= most else members[:1]
    found = [_in_order(rows, (*first, n), most // len(tried)) for n in tried]
    return min(found, key=_numbered)


def _colours(rows, first):
    """Numbers of the summed names by where they stand; equal where no step tells them apart."""
    names = dict.fromkeys(n for _, _, ns in rows for n in ns if is_summed(n))
    colours = {n: first.index(n) + 1 if n in first else 0 for n in names}
    while True:
        places: dict[Name, list] = {n: [] for n in names}
        for row in rows:
            key = _without_sums(row), tuple(colours.get(n, -1) for n in row[2])
            for p, n in enumerate(row[2]):
                if n in places:
                    places[n].append((key, p))
        told = {n: (colours[n], tuple(sorted(places[n]))) for n in names}
        order = {value: i for i, value in enumerate(sorted(set(told.values())))}
        if len(order) == len(set(colours.values())):
            return {n: order[told[n]] for n in names}
        colours = {n: order[told[n]] for n in names}


ONE = Monomial(())
Polynomial = dict[Monomial, Fraction]


def add_into(total: dict, other: Mapping, factor: Any = 1) -> None:
    """Total += factor * other, in place."""
    for key, value in other.items():
        new = total.get(key, 0) + factor * value
        if new:
            total[key] = new
        else:
            total.pop(key, None)


def fraction(value: float) -> Fraction:
    """The simple fraction that a number of the program is meant to be: 1/n for a mean."""
    near = Fraction(value).limit_denominator(10**7)
    return near if abs(float(near) - value) <= 1e-6 * abs(value) else Fraction(value)

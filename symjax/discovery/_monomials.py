"""Monomials: products of a free function (the shift), of tensors and their reciprocals, summed.

``Monomial(factors)``: each factor is (what, power, names); ``what`` is ("shift", kind) for the free
function or the number of a tensor. A name is a label of the tensor that the monomial belongs to,
("via", table's index, labels) for an index looked up in a table, or ("sum", i).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Name = Any
FactorKey = tuple[Any, int, tuple[Name, ...]]


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
    plain = lambda row: (
        repr(row[0]),
        row[1],
        tuple("sum" if is_summed(n) else repr(n) for n in row[2]),
    )
    rows.sort(key=plain)
    numbers: dict[Name, Name] = {}
    change = lambda n: numbers.setdefault(n, ("sum", len(numbers))) if is_summed(n) else n
    return Monomial(tuple((w, p, tuple(map(change, names))) for w, p, names in rows))


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

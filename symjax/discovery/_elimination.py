"""Exact linear algebra: sparse rows over the rationals, or over the field of two elements."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

Row = dict[Any, Fraction]


class Relations:
    """Linear equations sum_u row[u] u = 0, kept in echelon form. ``modulus`` is 0 or 2."""

    def __init__(self, modulus: int = 0):
        self.modulus = modulus
        self.rows: dict[Any, Row] = {}
        self.fresh: dict[Any, int] = {}  # how many rows there were when a row held no other pivot

    def combine(self, row: Row, other: Mapping, factor: Fraction | int = 1) -> None:
        """Row += factor * other, in place."""
        for u, value in other.items():
            new = row.get(u, 0) + factor * value
            new = new % 2 if self.modulus else new
            if new:
                row[u] = new
            else:
                row.pop(u, None)

    def reduce(self, row: Mapping) -> Row:
        """The row with every pivot eliminated."""
        waiting = {u: c for u, c in row.items() if not self.modulus or c % 2}
        for u in waiting:
            self._refresh(u)
        return self._substitute(waiting)

    def _substitute(self, waiting: Row) -> Row:
        """What is left of a row, used up, whose pivots' rows hold no other pivots."""
        result: Row = {}
        while waiting:
            u, value = waiting.popitem()
            if u in self.rows:
                # A pivot's row is u + rest = 0, so u = -rest.
                for v, c in self.rows[u].items():
                    if v != u:
                        new = waiting.get(v, 0) - value * c
                        new = new % 2 if self.modulus else new
                        if new:
                            waiting[v] = new
                        else:
                            waiting.pop(v, None)
            else:
                self.combine(result, {u: value})
        return result

    def _refresh(self, pivot: Any) -> None:
        """Eliminate the other pivots in a pivot's row, once for all: they may be many deep."""
        path = [pivot]
        while path:
            u = path[-1]
            if u not in self.rows or self.fresh.get(u) == len(self.rows):
                path.pop()
                continue
            others = [v for v in self.rows[u] if v != u and v in self.rows]
            stale = [v for v in others if self.fresh.get(v) != len(self.rows)]
            if stale:
                path += stale
                continue
            if others:
                rest = self._substitute({v: c for v, c in self.rows[u].items() if v != u})
                self.rows[u] = {u: self.rows[u][u], **dict(reversed(rest.items()))}
            self.fresh[u] = len(self.rows)
            path.pop()

    def add(self, row: Mapping) -> bool:
        """Add an equation; False where it followed from those there are."""
        row = self.reduce(row)
        if not row:
            return False
        pivot = next(iter(row))
        scale = row[pivot]
        self.rows[pivot] = {u: (c if self.modulus else c / scale) for u, c in row.items()}
        return True

    def vanish(self, form: Mapping[Any, Row]) -> None:
        """Equations that make every row of a form zero."""
        for row in form.values():
            self.add(row)

    def equate(self, a: Mapping[Any, Row], b: Mapping[Any, Row]) -> None:
        """Equations that make two forms the same, row by row; a row that one lacks is zero."""
        for key in {*a, *b}:
            row = dict(a.get(key, {}))
            self.combine(row, b.get(key, {}), -1)
            self.add(row)

    def solutions(self, kinds: Mapping[Any, Any]) -> dict[Any, list[Row]]:
        """Per kind a basis of the vectors that satisfy every equation with unknowns of it alone.

        ``kinds`` gives the kind of every unknown. An equation may tie unknowns of two kinds: what
        satisfies it only with both is no vector of either, so it is in no basis.
        """
        unknowns: dict[Any, list] = {}
        for u, kind in kinds.items():
            unknowns.setdefault(kind, []).append(u)
        if all(len({kinds[u] for u in row}) == 1 for row in self.rows.values()):
            return {kind: self._basis(own) for kind, own in unknowns.items()}
        return {kind: self._restricted(set(own))._basis(own) for kind, own in unknowns.items()}

    def _restricted(self, unknowns: set) -> "Relations":
        """The equations where all other unknowns are zero."""
        alone = Relations(self.modulus)
        for row in self.rows.values():
            alone.add({u: c for u, c in row.items() if u in unknowns})
        return alone

    def _basis(self, unknowns: list) -> list[Row]:
        """A basis of the vectors that satisfy every equation, one per free unknown."""
        free = [u for u in unknowns if u not in self.rows]
        basis = {u: {u: Fraction(1)} for u in free}
        for u in unknowns:
            if u in self.rows:
                for v, value in self.reduce({u: Fraction(1)}).items():
                    self.combine(basis[v], {u: value})
        return list(basis.values())


def independent(rows: Iterable[Mapping], modulus: int = 0, span: "Relations | None" = None) -> list:
    """The rows that are not combinations of those before them (and of ``span``, which grows)."""
    span = Relations(modulus) if span is None else span
    return [row for row in rows if span.add(row)]


def echelon(rows: Iterable[Mapping], modulus: int = 0) -> list[Row]:
    """A basis of the span in which each row has a pivot that the others lack: few entries."""
    relations = Relations(modulus)
    for row in rows:
        relations.add(row)
    result = []
    for pivot, row in list(relations.rows.items()):
        del relations.rows[pivot]
        reduced = relations.reduce({u: c for u, c in row.items() if u != pivot})
        relations.combine(reduced, {pivot: Fraction(1)})
        relations.rows[pivot] = row
        result.append(reduced)
    return result


def supported(rows: Iterable[Mapping], unknowns: set) -> list[Row]:
    """A basis of what independent rows span of those that have no other entries."""
    outside, result = Relations(), []
    for row in rows:
        row = outside.reduce(row)
        pivot = next((u for u in row if u not in unknowns), None)
        if pivot is None:
            result.append(row)
        else:
            outside.rows[pivot] = {u: c / row[pivot] for u, c in row.items()}
    return result

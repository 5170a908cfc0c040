"""Shifts as symmetries: their tables, and which of them are special cases of others."""

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from ..actions import Block, Factor, ShiftAction, ShiftLeg
from ..groups import Translation
from ._assembly import Assembly, Kind
from ._elimination import Row
from ._identities import resolve_factor
from ._masks import boxes, masked
from ._monomials import Monomial, canonical, is_summed
from ._report import Symmetry


class ShiftTables:
    """Builds the shifts of one graph."""

    def __init__(self, assembly: Assembly):
        self.assembly = assembly

    def lower(self, row: Row, smaller: Kind) -> Row:
        """A shift whose free function is constant along the index sets not in ``smaller``."""
        result: Row = {}
        for (number, monomial), value in row.items():
            what, _, names = monomial.shift
            kept = [n for n, key in zip(names, what[1], strict=True) if key in smaller]
            for name, key in zip(names, what[1], strict=True):
                if key not in smaller and is_summed(name):
                    inside = any(name in other for _, _, other in monomial.others)
                    value = value if inside else value * self.assembly.sizes[key]
            new = canonical([(("shift", smaller), 1, tuple(kept)), *monomial.others])
            result[number, new] = result.get((number, new), Fraction(0)) + value
        return {u: c for u, c in result.items() if c}

    def special(self, solutions: dict[Kind, list[Row]]) -> Callable:
        """The shifts of a kind that are special cases of others.

        Where a shift adds a free function u to a leaf, u may be any product of parameters, such as
        W v for a free function v of another kind.
        """
        pure: dict[int, list] = {}
        for rows in solutions.values():
            for row in rows:
                for number, monomial in row:
                    if not monomial.others:
                        pure.setdefault(number, []).append((monomial, row))

        def baseline(kind: Kind, rows: list[Row]) -> list[Row]:
            del kind
            unknowns = sorted({u for row in rows for u in row if u[1].others}, key=repr)
            return [
                special
                for number, monomial in unknowns
                for plain, row in pure.get(number, ())
                for special in [_substitute(row, plain, monomial)]
                if special is not None
            ]

        return baseline

    def contain(self, numbers: Iterable[int], solutions: dict[Kind, list[Row]]) -> bool:
        """Whether a linear action moves only blocks of leaves that may be shifted at will.

        Its directions are then special cases of those shifts.
        """
        free = {
            number
            for rows in solutions.values()
            for row in rows
            for number, m in row
            if not m.others and len(m.shift[2]) == len(self.assembly.tensors[number].atoms)
        }
        return set(numbers) <= free

    def without_tied(self, solutions: dict[Kind, list[Row]]) -> dict[Kind, list[Row]]:
        """The solutions but for those where a leaf that moves stands as a factor as well.

        A tied leaf can do both; what it adds then depends on how far it has moved.
        """
        leaf = lambda tensor: tensor.leaf.leaf

        def is_tied(row):
            moved = {leaf(self.assembly.tensors[number]) for number, _ in row}
            made = [
                resolve_factor(self.assembly.tensors[w]) for _, m in row for w, _, _ in m.others
            ]
            return any(leaf(x.leaf) in moved for x in made if x is not None)

        kept = {kind: [r for r in rows if not is_tied(r)] for kind, rows in solutions.items()}
        return {kind: rows for kind, rows in kept.items() if rows}

    def symmetry(self, kind: Kind, row: Row, **fields: Any) -> Symmetry:
        """A translation group."""
        sizes = tuple(self.assembly.sizes[key] for key in kind)
        legs = tuple(
            self._leg(number, monomial, value)
            for (number, monomial), value in sorted(row.items(), key=repr)
        )
        action = ShiftAction(Translation(math.prod(sizes)), legs, sizes)
        return Symmetry("shift", action, self.assembly.leaves(legs), **fields)

    def _leg(self, number, monomial, value):
        ids: dict[Any, int] = {}
        name = lambda n: ids.setdefault(n, len(ids))
        vector = tuple(map(name, monomial.shift[2]))
        factors = []
        for what, power, names in monomial.others:
            made = resolve_factor(self.assembly.tensors[what])
            assert made is not None
            leaf, block, axes = self.assembly.place(made.leaf)
            row = self._axis_names(made.leaf, block, axes, [name(n) for n in names], name)
            whole = power * made.power, made.absolute, made.scale, made.offset
            factors.append(Factor(leaf, row, block, *whole))
        tensor = self.assembly.tensors[number]
        leaf, block, axes = self.assembly.place(tensor)
        rank = self._rank(tensor, block)
        out: list[int | None] = [None] * rank
        for p, axis in enumerate(axes):
            out[axis] = ids.get(p)
        return ShiftLeg(leaf, vector, tuple(out), float(value), tuple(factors), block)

    def _rank(self, tensor, block):
        """How many axes a block of a leaf has, or the leaf itself."""
        return (
            len(tensor.atoms) if block is not None else len(self.assembly.shapes[tensor.leaf.leaf])
        )

    def _axis_names(self, tensor, block, axes, names, name):
        """A name for every axis; those of size one are summed under names of their own."""
        rank = self._rank(tensor, block)
        at = dict(zip(axes, names, strict=True))
        return tuple(at[i] if i in at else name(("one", len(at), i)) for i in range(rank))

    def unused(self) -> list[Symmetry]:
        """Free translations of the blocks of leaves that no output depends on."""
        result = []
        for tensor in self.assembly.graph.tensors:
            if tensor.kind == "leaf" and tensor.number not in self.assembly.indices.tensors:
                leaf, block, axes = self.assembly.place(tensor)
                rank = self._rank(tensor, block)
                out: list[int | None] = [None] * rank
                for p, axis in enumerate(axes):
                    out[axis] = p
                result.append(_free(leaf, block, tuple(a.size for a in tensor.atoms), out))
        return [*result, *self._masked()]

    def _masked(self) -> list[Symmetry]:
        """Free translations of the entries that constant masks hide, box by box."""
        result = []
        for tensor, hidden in masked(self.assembly.nodes, self.assembly.graph.outputs):
            assert tensor.leaf is not None
            found = boxes(hidden)
            if found is None:
                self.assembly.graph.miss("entries that a mask hides, in too many boxes", [tensor])
            for starts, sizes in found or ():
                block = _part_of_block(tensor.leaf.axes, starts, sizes)
                leaf = self.assembly.names[tensor.leaf.leaf]
                result.append(_free(leaf, block, sizes, list(range(len(sizes)))))
        return result


def _free(leaf, block, sizes, out):
    """What may be added to (part of) a leaf at will."""
    leg = ShiftLeg(leaf, tuple(range(len(sizes))), tuple(out), 1.0, (), block)
    action = ShiftAction(Translation(math.prod(sizes)), (leg,), sizes)
    return Symmetry("unused", action, (leaf,))


def _part_of_block(axes, starts, sizes):
    """The block of a box of a block, given by where it starts along each index, and its sizes."""
    places, parts, at = [], [], 0
    for offset, slots in axes:
        own = range(at, at + len(slots))
        strides = [stride for _, stride in slots]
        places.append(offset + sum(starts[k] * s for k, s in zip(own, strides, strict=True)))
        parts.append(tuple((sizes[k], s) for k, s in zip(own, strides, strict=True)))
        at += len(slots)
    return Block(tuple(places), tuple(parts))


def _substitute(row: Row, plain: Monomial, value: Monomial) -> Row | None:
    """A shift whose free function is what another monomial adds to the same leaf."""
    names = plain.shift[2]
    if not value.labels <= set(names):
        return None
    result: Row = {}
    for (number, monomial), coefficient in row.items():
        place = dict(zip(names, monomial.shift[2], strict=True))
        rest = Monomial(monomial.others)
        missing = [n for n in names if n not in value.labels and is_summed(place[n])]
        if missing:
            return None
        factors = [
            (w, p, tuple(("sum", ("own", n[1])) if is_summed(n) else place[n] for n in ns))
            for w, p, ns in value.factors
        ]
        new = canonical([*factors, *rest.factors])
        result[number, new] = result.get((number, new), Fraction(0)) + coefficient
    return {u: c for u, c in result.items() if c}

"""From what the channels found to symmetries: groups, legs, and a count without double counting.

Shifts have a file of their own, `_shift_tables`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import Any, TypeVar

from ..actions import Block, Gain, Leg, ShiftLeg, linear_action
from ..groups import (
    AbstractGroup,
    ComplexScaling,
    FixingOnes,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Power,
    SignFlip,
)
from ._elimination import Relations, Row, supported
from ._graph import Atom, Graph, Node, Tensor
from ._indices import Index, Indices
from ._phases import joint_axis
from ._report import Symmetry
from ._rewriting import place_of
from ._spaces import Space, Spaces

Kind = tuple
Made = TypeVar("Made")


@dataclass
class Found:
    """A space with a group: where it acts and on what its element may depend."""

    root: Index
    indices: list[tuple[Index, int, dict]]  # of leaves: (index, dual, exponents)
    fibres: list[Atom]
    atom: Atom
    group: AbstractGroup
    full: bool  # whether all diagonal matrices are in the group
    signs: bool  # whether all diagonal matrices of signs are


@dataclass
class Ledger:
    """Which directions are accounted for, per kind of index sets."""

    modulus: int
    taken: dict[Kind, Relations] = field(default_factory=dict)
    listed: int = 0
    independent: int = 0

    def span(self, kind: Kind) -> Relations:
        """The rows of a kind that are accounted for."""
        return self.taken.setdefault(kind, Relations(self.modulus))


class Assembly:
    """Builds the symmetries of one graph."""

    def __init__(self, nodes: list[Node], graph: Graph, names: Sequence[str], shapes: Sequence):
        self.nodes, self.graph = nodes, graph
        self.names, self.shapes = names, shapes
        self.tensors: dict[int, Tensor] = {t.number: t for t in graph.tensors}
        self.indices = Indices(nodes, graph.outputs, graph.frozen)
        self.sizes: dict[Any, int] = {}
        for tensor in graph.tensors:
            for atom in tensor.atoms:
                self.sizes[atom.find().key] = atom.size

    # -- places -------------------------------------------------------------------------------

    def place(self, tensor: Tensor) -> tuple[str, Block | None, list[int]]:
        """(leaf, block, axis of each position) of a block of a leaf."""
        assert tensor.leaf is not None
        return place_of(tensor.leaf, len(tensor.atoms), self.names, self.shapes)

    def leg(self, tensor: Tensor, positions: Sequence[int], how: Any, gains=()) -> Leg:
        """A leg on some positions of a block of a leaf, the first being the slowest."""
        name, block, axes = self.place(tensor)
        chosen = tuple(axes[p] for p in positions)
        axis = None if not chosen else chosen[0] if len(chosen) == 1 else chosen
        return Leg(name, axis, how, 0, block, tuple(gains))

    def positions(self, tensor: Tensor, atoms: Iterable[Atom]) -> list[int]:
        """The positions of index sets in a tensor."""
        classes = [a.find() for a in tensor.atoms]
        return [classes.index(a) for a in atoms]

    def symmetry(self, name: str, group: AbstractGroup, legs: Sequence[Leg], **fields: Any):
        """A symmetry from its table."""
        return Symmetry(name, linear_action(group, legs), self.leaves(legs), **fields)

    def leaves(self, legs: Sequence[Leg] | Sequence[ShiftLeg]) -> tuple[str, ...]:
        """The names of the leaves of some legs, in the order of the parameters."""
        return tuple(sorted({str(leg.leaf) for leg in legs}, key=self.names.index))

    # -- changes of basis -----------------------------------------------------------------------

    def spaces(self, spaces: Spaces) -> list[Found]:
        """The spaces with a group."""
        members: dict[Index, list] = {}
        for tensor in spaces.tensors.values():
            for p in range(len(tensor.atoms)):
                root, dual, exponents = spaces.find((tensor.number, p))
                members.setdefault(root, []).append(((tensor.number, p), dual, exponents))
        moving = {
            index
            for root, rows in members.items()
            if not spaces.space(root).rigid
            for index, _, _ in rows
        }
        found = []
        for root, rows in members.items():
            space = spaces.space(root)
            leaves = [row for row in rows if self.tensors[row[0][0]].kind == "leaf"]
            if space.rigid or not leaves:
                continue
            group, reference = self._group_of(space, self.indices.atom(root).size)
            if group is None:
                continue
            fibres = self.indices.fibres(
                [row[0] for row in rows], lambda index: index not in moving
            )
            entry = self._found(spaces, root, rows, fibres, group, reference)
            if entry is not None:
                found.append(entry)
        return found

    def _group_of(self, space: Space, n: int):
        metrics = {frozenset(m) for m in space.metrics}
        negated = lambda d: frozenset((k, -v) for k, v in d)
        frames = metrics | {negated(v) for v in space.vectors} | set(space.covectors)
        if len(frames) > 1:
            return None, None
        reference = dict(next(iter(frames))) if frames else {}
        fixed = space.vectors or space.covectors
        base = Orthogonal if metrics else GeneralLinear
        if fixed and n == 1:
            return None, None
        return (FixingOnes(base(n - 1)) if fixed else base(n)), reference

    def _found(self, spaces, root, rows, fibres, group, reference):
        totals = {}
        for index, dual, exponents in rows:
            total = dict(exponents)
            for key, value in reference.items():
                total[key] = total.get(key, 0) + (value if dual else -value)
            totals[index] = {k: v for k, v in total.items() if v}
        for key in {k for total in totals.values() for k in total}:
            # Where a gain has further indices, each place that it conjugates must have them too.
            diagonal = spaces.diagonals[key]
            places = {index for index, total in totals.items() if key in total}
            for p, atom in enumerate(diagonal.tensor.atoms):
                if p != diagonal.position and not self.indices.is_fibre(atom.find(), places):
                    return None
        indices = [
            (index, dual, totals[index])
            for index, dual, _ in rows
            if self.tensors[index[0]].kind == "leaf"
        ]
        count = math.prod(a.size for a in fibres)
        plain = not isinstance(group, FixingOnes)
        full = plain and isinstance(group, GeneralLinear)
        group = Power(group, count) if fibres else group
        return Found(root, indices, fibres, self.indices.atom(root), group, full, plain)

    def basis_symmetry(self, found: Found, spaces: Spaces, **fields: Any) -> Symmetry:
        """The symmetry of a space."""
        legs = []
        for (number, position), dual, exponents in found.indices:
            tensor = self.tensors[number]
            positions = [*self.positions(tensor, found.fibres), position]
            gains = [
                self._gain(spaces.diagonals[key], power, tensor, position)
                for key, power in exponents.items()
            ]
            legs.append(self.leg(tensor, positions, "covector" if dual else "vector", gains))
        base = found.group.group if isinstance(found.group, Power) else found.group
        name = "rotation" if "Orthogonal" in repr(base) else "change of basis"
        return self.symmetry(name, found.group, legs, **fields)

    def _gain(self, diagonal, power, tensor, position):
        name, block, _ = self.place(diagonal.tensor)
        _, _, axes = self.place(tensor)
        classes = [a.find() for a in tensor.atoms]
        along = tuple(
            axes[position if p == diagonal.position else classes.index(a.find())]
            for p, a in enumerate(diagonal.tensor.atoms)
        )
        return Gain(name, block, along, power, diagonal.scale, diagonal.offset)

    # -- scales and signs -----------------------------------------------------------------------

    def ledger(self, modulus: int, found: Sequence[Found]) -> Ledger:
        """A ledger in which the diagonal parts of the changes of basis are accounted for."""
        ledger = Ledger(modulus)
        for entry in found:
            if not (entry.signs if modulus else entry.full):
                continue
            classes = [*entry.fibres, entry.atom]
            ledger.listed += math.prod(a.size for a in classes)
            for r in range(len(classes) + 1):
                for chosen in combinations(classes, r):
                    row: Row = {}
                    span = ledger.span(tuple(sorted((a.key for a in chosen), key=repr)))
                    for (number, position), dual, _ in entry.indices:
                        tensor = self.tensors[number]
                        beside = [a for a in chosen if a is not entry.atom]
                        places = frozenset(
                            self.positions(tensor, beside)
                            + ([position] if entry.atom in chosen else [])
                        )
                        span.combine(row, {(number, places): Fraction(1)}, -1 if dual else 1)
                    span.add(row)
        # Changes of basis on two indices of one leaf have its scale in common.
        ledger.independent = sum(
            len(span.rows) * math.prod(self.sizes[key] - 1 for key in kind)
            for kind, span in ledger.taken.items()
        )
        return ledger

    def account(self, ledger: Ledger, kind: Kind, row: Row) -> None:
        """Enter a scale that is part of another group, with its constant special cases."""
        for r in range(len(kind) + 1):
            for smaller in combinations(kind, r):
                lower = self._lower(row, smaller)
                ledger.span(smaller).add(
                    {u: c % 2 if ledger.modulus else c for u, c in lower.items()}
                )

    def diagonal(
        self,
        solutions: dict[Kind, list[Row]],
        ledger: Ledger,
        make: Callable[[Kind, Row], Made],
        lower: Callable[[Row, Kind], Row] | None = None,
        baseline: Callable[[Kind, list[Row]], list[Row]] | None = None,
    ) -> list[Made]:
        """What is made of solutions that are not accounted for yet, the larger groups first."""
        pending: dict[Kind, list[Row]] = {kind: [] for kind in ledger.taken}
        for kind in solutions:
            for r in range(len(kind) + 1):
                for smaller in combinations(kind, r):
                    pending.setdefault(smaller, [])
        result = []
        for kind in sorted(pending, key=lambda k: (-len(k), repr(k))):
            own, span = solutions.get(kind, []), ledger.span(kind)
            for row in baseline(kind, [*own, *pending[kind]]) if baseline else ():
                span.add(row)
            before = len(span.rows)
            # Functions constant along some of the index sets are accounted for as well.
            for row in pending[kind]:
                span.add(row)
            for row in own:
                if not span.add(row):
                    continue
                ledger.listed += math.prod(self.sizes[key] for key in kind)
                for r in range(len(kind)):
                    for smaller in combinations(kind, r):
                        pending[smaller].append((lower or self._lower)(row, smaller))
                result.append(make(kind, row))
            new = len(span.rows) - before
            ledger.independent += new * math.prod(self.sizes[key] - 1 for key in kind)
        return result

    def _lower(self, row, smaller):
        """A scale that is constant along the index sets that are not in ``smaller``."""
        result: Row = {}
        for (number, subset), value in row.items():
            tensor = self.tensors[number]
            kept = frozenset(p for p in subset if tensor.atoms[p].find().key in smaller)
            result[number, kept] = result.get((number, kept), Fraction(0)) + value
        return result

    def scale_symmetry(self, kind: Kind, row: Row, **fields: Any) -> Symmetry:
        """R+ to a power."""
        common = math.lcm(*(value.denominator for value in row.values()))
        sign = 1 if next(iter(sorted(row.items(), key=repr)))[1] > 0 else -1
        group = PositiveScaling(math.prod(self.sizes[k] for k in kind) if kind else None)
        legs = [
            self.leg(self.tensors[number], self._ordered(number, subset, kind), how)
            for (number, subset), value in sorted(row.items(), key=repr)
            for how in [_power_name(sign * value * common)]
        ]
        return self.symmetry("rescaling", group, legs, **fields)

    def sign_symmetry(self, kind: Kind, row: Row, **fields: Any) -> Symmetry:
        """Sign flips."""
        group = SignFlip(math.prod(self.sizes[k] for k in kind))
        legs = [
            self.leg(self.tensors[number], self._ordered(number, subset, kind), "vector")
            for number, subset in sorted(row, key=repr)
        ]
        return self.symmetry("sign flip", group, legs, **fields)

    def _ordered(self, number, subset, kind):
        tensor = self.tensors[number]
        return sorted(subset, key=lambda p: kind.index(tensor.atoms[p].find().key))

    # -- rotary pairs -------------------------------------------------------------------------

    def complex_scales(
        self, angles: dict[Kind, list[Row]], scales: dict[Kind, list[Row]]
    ) -> list[tuple[Symmetry, Kind, Row]]:
        """Complex scalings, where a pair of blocks may be turned and scaled; with the scale."""

        def make(kind, row):
            touched = {(n, subset) for a, b, subset in row for n in (a, b)}
            rows = [r for r in supported(scales.get(kind, ()), touched) if set(r) == touched]
            scale = next((_normalised(r) for r in rows), None)
            if scale is None or any(abs(x) != 1 for x in [*scale.values(), *row.values()]):
                return None
            legs = [
                self._pair_leg(a, b, subset, kind, value, scale)
                for (a, b, subset), value in sorted(row.items(), key=repr)
            ]
            group = ComplexScaling(math.prod(self.sizes[k] for k in kind))
            return self.symmetry("complex scaling", group, legs), kind, scale

        def lower(row, smaller):
            total: Row = {}
            for (a, b, subset), value in row.items():
                atoms = self.tensors[a].atoms
                key = (a, b, frozenset(p for p in subset if atoms[p].find().key in smaller))
                total[key] = total.get(key, Fraction(0)) + value
            return total

        pairs = self.diagonal(angles, Ledger(0), make, lower)
        return [pair for pair in pairs if pair is not None]

    def _pair_leg(self, a, b, subset, kind, turn, scale):
        first, second = self.tensors[a], self.tensors[b]
        if turn < 0:
            first, second = second, first
        assert first.leaf is not None
        assert second.leaf is not None
        joint = joint_axis(first, second)
        parts, starts, axes, at = [], [], [], 0
        component = 0
        for i, (offset, slots) in enumerate(first.leaf.axes):
            starts.append(offset)
            axes += range(at, at + len(slots))
            at += len(slots)
            if i == joint:
                slots = (*slots, (2, second.leaf.axes[i][0] - offset))
                component, at = at, at + 1
            parts.append(slots)
        chosen = tuple(axes[p] for p in self._ordered(a, subset, kind))
        how = "vector" if scale[a, subset] == 1 else "covector"
        block = Block(tuple(starts), tuple(parts))
        return Leg(self.names[first.leaf.leaf], (*chosen, component), how, 0, block)

    # -- permutations ---------------------------------------------------------------------------

    def permutations(self, found: Sequence[Found]) -> list[Symmetry]:
        """Permutations of index sets, but for those inside a change of basis."""
        inside = {index for entry in found for index, _, _ in entry.indices}
        gains = {
            (key[0], key[1])
            for entry in found
            for _, _, exponents in entry.indices
            for key in exponents
        }
        result = []
        for number, places in self.indices.classes.items():
            leaves = self.indices.leaves(places)
            if number in self.indices.frozen or not leaves:
                continue
            if all(index in inside or index in gains for index in leaves):
                continue
            fibres = self.indices.fibres(places)
            n, count = self.indices.atom(places[0]).size, math.prod(a.size for a in fibres)
            group = Power(Permutation(n), count) if fibres else Permutation(n)
            legs = []
            for index in leaves:
                tensor = self.tensors[index[0]]
                positions = [*self.positions(tensor, fibres), index[1]]
                legs.append(self.leg(tensor, positions, "vector"))
            result.append(self.symmetry("permutation", group, legs))
        return result


def _normalised(row: Row) -> Row:
    """A multiple of a row whose first entry is one or minus one."""
    first = abs(next(iter(row.values())))
    return {u: value / first for u, value in row.items()}


def _power_name(value: Fraction):
    if value == 1:
        return "vector"
    return "covector" if value == -1 else float(value)

"""How an axis of an array is laid out: segments, each a product of index sets with strides.

The entry of an axis at position ``offset + sum stride_k i_k`` belongs to the segment with that
offset, at index (i_1, i_2, ...) of its index sets. So splitting an axis into heads, joining it
again, cutting it into halves or taking every other entry are all statements about offsets and
strides, and no entry is touched.

Where an operation needs a finer layout than there is, it asks for it (`Refinements`), and the
model is read again with the finer one.
"""

import itertools
from dataclasses import dataclass, field

from ._graph import Atom, Key, unite

Slot = tuple[Atom, int]  # an index set and its stride


class NeedsRefinement(Exception):
    """The layout is too coarse here; what is needed has been written down for the next reading."""


class Unsupported(Exception):
    """This use of a primitive is not understood; the message, if any, says why."""


@dataclass(frozen=True)
class Segment:
    """Entries of an axis at offset + sum of stride times index."""

    offset: int
    slots: tuple[Slot, ...] = ()

    @property
    def geometry(self) -> tuple:
        """Where the entries lie, without the identity of the index sets."""
        return (self.offset, tuple((a.size, s) for a, s in self.slots))

    @property
    def size(self) -> int:
        """How many entries there are."""
        total = 1
        for atom, _ in self.slots:
            total *= atom.size
        return total

    @property
    def is_interval(self) -> bool:
        """Whether the entries are offset, offset + 1, ... in the order of the index sets."""
        step = 1
        for atom, stride in reversed(self.slots):
            if stride != step:
                return False
            step *= atom.size
        return True


@dataclass(frozen=True)
class Axis:
    """The segments of an axis. ``free``: nothing varies along it (so any layout would do)."""

    size: int
    segments: tuple[Segment, ...]
    free: bool = False

    @property
    def geometry(self) -> tuple:
        """The geometry of the segments."""
        return tuple(s.geometry for s in self.segments)


@dataclass
class Refinements:
    """Which index sets are to be split or cut, by the place where they come from.

    ``("split", m)``: a product of an outer index set and an inner one of size m.
    ``("cut", points)``: consecutive pieces.
    """

    table: dict[Key, tuple] = field(default_factory=dict)
    changed: bool = False
    closed: bool = False  # no layout is made any finer

    def request(self, atom: Atom, how: tuple) -> None:
        """Write down what is needed of an index set and of all that are the same."""
        if self.closed:
            raise Unsupported("too many pieces")
        for key in atom.find().members:
            if key not in self.table:
                self.table[key] = how
                self.changed = True

    def split(self, atom: Atom, inner: int) -> None:
        """Ask for a product with an inner index set of the given size."""
        if atom.size % inner or inner in (1, atom.size):
            raise Unsupported
        self.request(atom, ("split", inner))

    def cut(self, atom: Atom, points: list[int]) -> None:
        """Ask for pieces that begin at the given points."""
        points = sorted({p for p in points if 0 < p < atom.size})
        if not points:
            raise Unsupported
        self.request(atom, ("cut", tuple(points)))

    def axis(self, key: Key, size: int) -> Axis:
        """A fresh axis, as fine as has been asked for."""
        if size == 1:
            return Axis(1, (Segment(0),), free=True)
        done: list[Segment] = []
        waiting: list[tuple[int, tuple[tuple[Key, int, int], ...]]] = [(0, ((key, size, 1),))]
        while waiting:
            offset, slots = waiting.pop(0)
            at = next((i for i, (k, _, _) in enumerate(slots) if k in self.table), None)
            if at is None:
                done.append(Segment(offset, tuple((Atom(k, m), s) for k, m, s in slots)))
            elif self.table[slots[at][0]][0] == "split":
                waiting.insert(0, (offset, self._split(slots, at)))
            else:
                waiting[:0] = self._cut(offset, slots, at)
        return Axis(size, tuple(done))

    def _split(self, slots, at):
        key, size, stride = slots[at]
        inner = self.table[key][1]
        pair = ((*key, "outer"), size // inner, stride * inner), ((*key, "inner"), inner, stride)
        return (*slots[:at], *pair, *slots[at + 1 :])

    def _cut(self, offset, slots, at):
        key, size, stride = slots[at]
        ends = [0, *self.table[key][1], size]
        pieces = []
        for i, (start, stop) in enumerate(itertools.pairwise(ends)):
            # In each piece the other index sets are new ones: nothing says they are the same.
            other = [((*k, "beside", at, i), m, s) for k, m, s in slots]
            own = [((*key, "piece", i), stop - start, stride)] if stop - start > 1 else []
            pieces.append((offset + start * stride, tuple([*other[:at], *own, *other[at + 1 :]])))
        return pieces


def free_axis(size: int) -> Axis:
    """An axis along which nothing varies."""
    return Axis(
        size, (Segment(0),) if size == 1 else (Segment(0, ((Atom(("free",), size), 1),)),), True
    )


def align(a: Axis, b: Axis, refinements: Refinements) -> Axis:
    """Two axes whose entries correspond one to one: their index sets become the same."""
    if a.size != b.size and 1 not in (a.size, b.size):
        raise Unsupported
    if a.size == 1 or (a.free and b.size != 1):
        return b
    if b.free:
        return a
    if sorted(a.geometry) == sorted(b.geometry):
        there = {s.geometry: s for s in b.segments}
        for segment in a.segments:
            for (x, _), (y, _) in zip(segment.slots, there[segment.geometry].slots, strict=True):
                unite(x, y)
        return a
    refine_together(a.segments, b.segments, refinements)
    raise NeedsRefinement


def refine_together(
    a: tuple[Segment, ...], b: tuple[Segment, ...], refinements: Refinements
) -> None:
    """Ask for what brings two layouts of the same entries nearer to each other.

    Intervals are cut where the other's begin, then products are split as the other's are; only
    where neither helps is an index set cut that has no counterpart.
    """
    for step in (_cut_intervals, _split_factors, _cut_the_rest):
        asked = [step(x, y, refinements) for x, y in ((a, b), (b, a))]
        if any(asked):
            return
    raise Unsupported


def _cut_intervals(segments, pattern, refinements):
    asked = False
    starts = [s.offset for s in pattern if s.is_interval]
    for segment in segments:
        if not (segment.is_interval and segment.slots):
            continue
        inside = [t - segment.offset for t in starts if 0 < t - segment.offset < segment.size]
        atom, stride = segment.slots[0]
        if inside:
            refinements.cut(atom, [p for t in inside for p in (t // stride, -(-t // stride))])
            asked = True
    return asked


def _split_factors(segments, pattern, refinements):
    asked = False
    marks = {x for s in pattern for a, stride in s.slots for x in (stride, stride * a.size)}
    for segment in segments:
        for atom, stride in segment.slots:
            inner = [
                c // stride
                for c in sorted(marks)
                if stride < c < stride * atom.size
                and c % stride == 0
                and stride * atom.size % c == 0
            ]
            if inner:
                refinements.split(atom, inner[0])
                asked = True
                break
    return asked


def _cut_the_rest(segments, pattern, refinements):
    asked = False
    present = {(a.size, stride) for s in pattern for a, stride in s.slots}
    for segment in segments:
        for atom, stride in segment.slots:
            if (atom.size, stride) in present:
                continue
            points = {(s.offset // stride) % atom.size for s in pattern}
            points = [p for x in points for p in (x, x + 1) if 0 < p < atom.size]
            if points:
                refinements.cut(atom, points)
                asked = True
                break
    return asked


def split_segment(
    segment: Segment, inner: int, refinements: Refinements
) -> tuple[Segment, Segment]:
    """A segment of an axis of size n as one of shape (n / inner, inner)."""
    outer_slots, inner_slots = [], []
    for atom, stride in segment.slots:
        if stride % inner == 0:
            outer_slots.append((atom, stride // inner))
        elif stride * atom.size <= inner:
            inner_slots.append((atom, stride))
        else:
            if inner % stride == 0 and (stride * atom.size) % inner == 0:
                refinements.split(atom, inner // stride)
            elif segment.offset % inner:
                _cut_to_multiple(segment, inner, refinements)
            else:
                raise Unsupported
            raise NeedsRefinement
    offset, rest = divmod(segment.offset, inner)
    if rest + sum((a.size - 1) * s for a, s in inner_slots) >= inner:
        _cut_to_multiple(segment, inner, refinements)
        raise NeedsRefinement
    return Segment(offset, tuple(outer_slots)), Segment(rest, tuple(inner_slots))


def _cut_to_multiple(segment, inner, refinements):
    atom, stride = segment.slots[0]
    distance = -segment.offset % inner
    if distance % stride:
        raise Unsupported
    refinements.cut(atom, [distance // stride])


def merge_segments(outer: Segment, inner: Segment, inner_size: int) -> Segment:
    """The segment of an axis that joins two, the second running faster."""
    slots = tuple((atom, stride * inner_size) for atom, stride in outer.slots)
    return Segment(outer.offset * inner_size + inner.offset, slots + inner.slots)


def take_range(
    axis: Axis, start: int, stop: int, step: int, refinements: Refinements
) -> list[tuple[int, Segment]]:
    """The segments of axis[start:stop:step], each with its number among the old ones."""
    if step > 1:
        return _take_strided(axis, start, stop, step, refinements)
    kept, refined = [], False
    for number, segment in enumerate(axis.segments):
        last = segment.offset + sum((a.size - 1) * s for a, s in segment.slots)
        if start <= segment.offset and last < stop:
            kept.append((number, Segment(segment.offset - start, segment.slots)))
        elif not (last < start or segment.offset >= stop):
            _cut_at(segment, [start, stop], refinements)
            refined = True
    if refined:
        raise NeedsRefinement
    return kept


def _cut_at(segment, points, refinements):
    # The index set whose strides the points fall between, the outermost first.
    for atom, stride in segment.slots:
        inside = [p - segment.offset for p in points]
        inside = [q for p in inside for q in (p // stride, -(-p // stride)) if 0 < q < atom.size]
        if inside:
            refinements.cut(atom, inside)
            return
    raise Unsupported


def _take_strided(axis, start, stop, step, refinements):
    length = -(-(stop - start) // step)
    span = length * step
    if axis.size % step or span > axis.size - start + (start % step):
        raise Unsupported
    kept, refined = [], False
    for number, segment in enumerate(axis.segments):
        coarse = [(a, s) for a, s in segment.slots if s % step]
        if coarse:
            atom, stride = coarse[0]
            if stride != 1:
                raise Unsupported
            if atom.size > step:
                refinements.split(atom, step)
            else:
                refinements.cut(atom, list(range(1, atom.size)))
            refined = True
        elif (segment.offset - start) % step == 0:
            slots = tuple((a, s // step) for a, s in segment.slots)
            kept.append((number, Segment((segment.offset - start) // step, slots)))
    if refined:
        raise NeedsRefinement
    whole = Axis(-(-(axis.size - start) // step), tuple(s for _, s in kept))
    if start >= step:
        raise Unsupported
    inner = take_range(whole, 0, length, 1, refinements)
    return [(kept[i][0], segment) for i, segment in inner]

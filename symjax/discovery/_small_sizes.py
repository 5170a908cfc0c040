"""What was read of a model, with every index set at size 2 or 3: blocks of leaves, and actions.

A small index set stands for the whole one with its entries repeated: three entries for 768 are the
parameters of the whole model in which each occurs 256 times, and a sum over them counts each so
often. So what holds for the whole model holds for the small one, whatever its coefficients are.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..actions import Action, Block, LinearAction, ShiftAction, linear_action
from ..groups import (
    AbstractGroup,
    ComplexScaling,
    FixingOnes,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Power,
    Product,
    SignFlip,
    Translation,
)
from ._graph import Atom, Tensor

Slots = list[tuple[int, int]]  # sizes and strides


class Sizes:
    """How many entries of each index set are kept, and which."""

    def __init__(self, most: int):
        self.most = most
        self.kept: dict[int, np.ndarray] = {}
        self.rng = np.random.default_rng(0)

    def entries(self, atom: Atom) -> np.ndarray:
        """The entries that are kept, in order."""
        root = atom.find()
        if id(root) not in self.kept:
            chosen = self.rng.choice(root.size, min(root.size, self.most), replace=False)
            self.kept[id(root)] = np.sort(chosen)
        return self.kept[id(root)]

    def shape(self, tensor: Tensor) -> tuple[int, ...]:
        """The small shape of a tensor."""
        return tuple(len(self.entries(a)) for a in tensor.atoms)

    def weight(self, atom: Atom) -> float:
        """How many entries each one stands for."""
        return atom.size / len(self.entries(atom))


class SmallLeaves:
    """The blocks of all leaves at small sizes: of each leaf a flat array, block after block."""

    def __init__(self, tensors: Sequence[Tensor], names: Sequence[str], shapes, sizes: Sizes):
        self.sizes, self.shapes = sizes, dict(zip(names, shapes, strict=True))
        self.blocks: dict[str, list[Tensor]] = {name: [] for name in names}
        self.start: dict[int, int] = {}
        self.length = dict.fromkeys(names, 0)
        for tensor in tensors:
            if tensor.leaf is not None:
                name = names[tensor.leaf.leaf]
                self.blocks[name].append(tensor)
                self.start[tensor.number] = self.length[name]
                self.length[name] += int(np.prod(sizes.shape(tensor)))

    def read(self, tensor: Tensor, flat: np.ndarray) -> np.ndarray:
        """A block, from the flat array of its leaf."""
        shape, start = self.sizes.shape(tensor), self.start[tensor.number]
        return flat[start : start + int(np.prod(shape))].reshape(shape)

    def find(self, name: str, block: Block | None) -> tuple[Block, list[int]]:
        """(where a block of a leaf, or all of it, lies in the flat array; the sizes it had).

        Raises NotImplementedError where the layout that was read has no such block.
        """
        shape = self.shapes[name]
        rows = (
            [(0, ((n, 1),)) for n in shape]
            if block is None
            else list(zip(block.starts, block.parts, strict=True))
        )
        full = [n for _, part in rows for n, _ in part]
        found: dict[tuple[int, ...], tuple[int, Slots]] = {}
        for tensor in self.blocks[name]:
            places = _inside(tensor, rows)
            if places is None:
                continue
            strides = self._strides(tensor)
            at = tuple(k for kind, k in places if kind == "at")
            slots = [strides[k] if kind == "runs" else (0, 0) for kind, k in places]
            found[at] = self.start[tensor.number], slots
        fixed = [i for i, slot in enumerate(next(iter(found.values()), (0, []))[1]) if not slot[0]]
        count = int(np.prod([full[i] for i in fixed]))
        if not found or len(found) != count or len({tuple(s) for _, s in found.values()}) > 1:
            raise NotImplementedError(f"no block of {name} as an action has it")
        first, slots = found[(0,) * len(fixed)]
        for k, i in enumerate(fixed):
            unit = tuple(int(j == k) for j in range(len(fixed)))
            slots[i] = full[i], (found[unit][0] - first if full[i] > 1 else 0)
        for at, (start, _) in found.items():
            if start != first + sum(slots[i][1] * n for i, n in zip(fixed, at, strict=True)):
                raise NotImplementedError(f"blocks of {name} that lie apart")
        return Block((first,), (tuple(slots),)), full

    def _strides(self, tensor: Tensor) -> Slots:
        shape, step, slots = self.sizes.shape(tensor), 1, []
        for n in reversed(shape):
            slots.insert(0, (n, step))
            step *= n
        return slots

    def action(self, action: Action) -> LinearAction | ShiftAction:
        """An action on the flat arrays.

        Raises NotImplementedError where one of its blocks was not read, or its kind or one of its
        groups is not among those that discovery lists.
        """
        match action:
            case ShiftAction():
                return self._shift(action)
            case LinearAction():
                return self._linear(action)
        raise NotImplementedError(f"no small {type(action).__name__}")

    def _linear(self, action):
        legs, groups = [], {}
        for leg in action.legs:
            block, _ = self.find(str(leg.leaf), leg.block)
            sizes = [block.shape[a] for a in leg.axes]
            group = small_group(action.factors[leg.factor], sizes)
            if groups.setdefault(leg.factor, group) != group:
                raise NotImplementedError(f"legs of several sizes for {action.group}")
            gains = [
                replace(gain, block=self.find(str(gain.leaf), gain.block)[0]) for gain in leg.gains
            ]
            legs.append(replace(leg, block=block, gains=tuple(gains)))
        factors = [groups[i] for i in range(len(action.factors))]
        return linear_action(factors[0] if len(factors) == 1 else Product(factors), legs)

    def _shift(self, action):
        legs, small = [], {}
        for leg in action.legs:
            size: dict[int, tuple[int, int]] = {}  # by name: (small, full)

            def place(name, block, names, size=size):
                found, full = self.find(name, block)
                for n, pair in zip(names, zip(found.shape, full, strict=True), strict=True):
                    if n is not None:
                        size[n] = pair
                return found

            block = place(str(leg.leaf), leg.block, leg.out)
            factors = tuple(
                replace(f, block=place(str(f.leaf), f.block, f.names)) for f in leg.factors
            )
            for axis, n in enumerate(leg.vector):
                if n in size:
                    small.setdefault(axis, size[n][0])
            times = [b / a for n, (a, b) in size.items() if n not in leg.out]
            coefficient = leg.coefficient * float(np.prod(times))
            legs.append(replace(leg, block=block, factors=factors, coefficient=coefficient))
        if len(small) < len(action.sizes):
            raise NotImplementedError("a shift by a sum of its element")
        sizes = tuple(small[axis] for axis in range(len(action.sizes)))
        return ShiftAction(Translation(int(np.prod(sizes))), tuple(legs), sizes)


def _inside(tensor: Tensor, rows: list) -> list[tuple[str, int]] | None:
    """For each slot of a block: ("runs", position of the tensor), or ("at", the one entry that the
    tensor has). None where the tensor is no part of the block.
    """
    assert tensor.leaf is not None
    places, position = [], 0
    for (offset, own), (start, part) in zip(tensor.leaf.axes, rows, strict=True):
        rest, distance = list(own), offset - start
        for n, stride in part:
            if rest and rest[0] == (n, stride):
                rest.pop(0)
                places.append(("runs", position))
                position += 1
            else:
                k = distance // stride if n > 1 else 0
                distance -= k * stride
                if not 0 <= k < n:
                    return None
                places.append(("at", k))
        if rest or distance:
            return None
    return places


def small_group(group: AbstractGroup, sizes: Sequence[int]) -> AbstractGroup:
    """A group of the same kind, which acts on axes of some sizes (the first being the slowest)."""
    *outer, last = sizes or [1]
    match group:
        case Power():
            return Power(small_group(group.group, [last]), int(np.prod(outer)))
        case FixingOnes():
            inner = Orthogonal if isinstance(group.group, Orthogonal) else GeneralLinear
            return FixingOnes(inner(last - 1))
        case PositiveScaling():
            return PositiveScaling(int(np.prod(sizes)) if group.n else None)
        case SignFlip():
            return SignFlip(int(np.prod(sizes)))
        case ComplexScaling():
            return ComplexScaling(int(np.prod(outer)))
        case GeneralLinear() | Orthogonal() | Permutation():
            if not outer:
                return type(group)(last)
    raise NotImplementedError(f"no small {group} on axes of sizes {tuple(sizes)}")


def weights(sizes: Sizes, sides: Any) -> dict[int, float]:
    """By label of a node: how many entries each one stands for."""
    return {
        label: sizes.weight(atom)
        for tensor, labels in sides
        for label, atom in zip(labels, tensor.atoms, strict=True)
    }

"""The graph that every channel reads: tensors with named indices, and a few kinds of node.

Reshapes, transposes, slices and concatenations leave no node: they only say which block of which
tensor stands where (see `_layout`). What is left is written like an einsum: each operand of a node
has one label per index, and labels that the output lacks are summed.

The kinds of node:
- ``linear``: out = sum of coefficient times operand; operands may lack labels (broadcasting).
- ``product``: out = coefficient times the product of two operands, summed over labels not in out.
- ``sum``: out = coefficient times the operand summed over labels not in out.
- ``pointwise``: out = f(operands), entry by entry; ``traits`` say what is known of f.
- ``equal``: out is picked entry by entry among operands (select, max, a loop's carry); the
  operands in ``guides`` decide which and must not change.
- ``reduce``: the largest (or smallest) entry over labels not in out.
- ``mix``: entries move or mix along ``frozen`` labels: reversed, cumulated, sorted, sliced by data.
- ``gather``: rows of a table, named by an operand of integers. Tables that the same integers read
  have one index set of rows.

An operation that is not understood leaves no node either: what it is applied to counts as an
output of the model, so it may not change at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Key = tuple[Any, ...]
#: The names of nodes of the kind ``equal`` that have no output of their own: see `Graph.ties`.
TIES = ("carry", "solution")


class Atom:
    """An index set. Two that an operation ties together are one: see `Graph.unite`."""

    __slots__ = ("key", "members", "parent", "size")

    def __init__(self, key: Key, size: int):
        self.key, self.size = key, size
        self.parent: Atom = self
        self.members = [key]

    def find(self) -> "Atom":
        """The representative of all the index sets that are this one."""
        root = self
        while root.parent is not root:
            root = root.parent
        while self.parent is not root:
            self.parent, self = root, self.parent
        return root

    def __repr__(self):
        return f"<{self.find().key}:{self.size}>"


def unite(a: Atom, b: Atom) -> None:
    """Make two index sets one."""
    a, b = a.find(), b.find()
    assert a.size == b.size
    if a is not b:
        if len(a.members) < len(b.members):
            a, b = b, a
        b.parent = a
        a.members += b.members


@dataclass(eq=False)
class Tensor:
    """An array with one index set per index. ``kind``: leaf, input, constant, carry or node."""

    number: int
    atoms: tuple[Atom, ...]
    kind: str
    has_params: bool = False
    has_data: bool = False
    #: Computed in a narrower dtype than the model's: sums are exact only to its rounding.
    narrow: bool = False
    #: Of a leaf: (number of the leaf, where the block lies). Of a constant: its value.
    leaf: "LeafBlock | None" = None
    value: np.ndarray | np.generic | None = None
    #: Of a constant: its shape and the primitive that it came to.
    origin: str = ""
    node: "Node | None" = None
    #: Of whole numbers that name entries of an index set (which is the largest): that index set.
    names: Atom | None = None
    #: The numbers tell apart entries that may be equal.
    tied: bool = False

    @property
    def identity(self) -> Key:
        """What two tensors share only if they are equal: of a number its value."""
        if self.kind == "constant" and self.value is not None and not self.value.ndim:
            return ("constant", str(self.value.dtype), self.value.tobytes())
        return ("tensor", self.number)

    def __repr__(self):
        return f"{self.kind}{self.number}{list(self.atoms)}"


@dataclass(frozen=True)
class LeafBlock:
    """Which entries of a leaf a tensor holds: per axis of the leaf an offset, sizes and strides."""

    leaf: int
    axes: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


@dataclass(eq=False)
class Node:
    """One operation. Labels are small integers, local to the node."""

    kind: str
    out: Tensor
    out_labels: tuple[int, ...]
    operands: list[tuple[Tensor, tuple[int, ...]]]
    coefficients: tuple[float, ...] = ()
    frozen: frozenset[int] = frozenset()
    guides: frozenset[int] = frozenset()
    traits: Any = None
    name: str = ""
    #: Operands (by number) whose entries name entries of an index set, which the node renumbers
    #: with them, and the frozen labels that it renumbers so. Others take such numbers as they are.
    named: frozenset[int] = frozenset()
    renumbered: frozenset[int] = frozenset()

    @property
    def sides(self) -> list[tuple[Tensor, tuple[int, ...]]]:
        """The operands and the output, each with its labels."""
        return [*self.operands, (self.out, self.out_labels)]

    @property
    def summed(self) -> set[int]:
        """The labels that the output lacks."""
        return {i for _, labels in self.operands for i in labels} - set(self.out_labels)


@dataclass
class Graph:
    """All tensors and nodes of one reading of a model, in order of execution."""

    tensors: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    #: Index sets that have an order beside what the nodes say: the steps of a loop.
    frozen: list[Atom] = field(default_factory=list)
    #: What a loop stacks, step by step.
    stacked: list[Tensor] = field(default_factory=list)
    #: By the name of a primitive that was not understood: what it was applied to.
    unknown: dict[str, list[Tensor]] = field(default_factory=dict)
    #: By the number of a tensor that such a primitive made: its name, and what it was applied to.
    opaque: dict[int, tuple[str, list[Tensor]]] = field(default_factory=dict)
    #: By the number of a tensor of which not all is followed: its name, and what it is made of.
    partly: dict[int, tuple[str, list[Tensor]]] = field(default_factory=dict)
    #: By the number of a tensor that nodes only say something of (what a loop carries, the
    #: solution of equations): these nodes.
    ties: dict[int, list[Node]] = field(default_factory=dict)
    #: Of each loop that is tested: the numbers of what it carries, and what the test gives.
    tests: list[tuple[set[int], list[Tensor]]] = field(default_factory=list)
    #: What is computed, by how: the same twice is one tensor.
    known: dict[Any, Tensor] = field(default_factory=dict)
    #: By an array of whole numbers and the number of rows: the rows that it reads.
    read: dict[tuple[Key, int], Atom] = field(default_factory=dict)

    def tensor(self, atoms: Iterable[Atom], kind: str, **fields: Any) -> Tensor:
        """A new tensor."""
        made = Tensor(len(self.tensors), tuple(atoms), kind, **fields)
        self.tensors.append(made)
        return made

    def add(
        self,
        kind: str,
        out_labels: Iterable[int],
        operands: Iterable[tuple[Tensor, Iterable[int]]],
        new: dict[int, Atom] | None = None,
        **fields: Any,
    ) -> Tensor:
        """Append a node and return its output; equal labels make their index sets one.

        ``new`` gives the index sets of labels that no operand has. Without it what is computed a
        second time is the first tensor: whole numbers that were brought into range twice name the
        same rows. With it, even empty, a node is one of its own: what it makes may be one of
        several pieces of what was computed, which the labels do not tell apart.
        """
        operands = [(t, tuple(labels)) for t, labels in operands]
        out_labels = tuple(out_labels)
        key = None
        if new is None:
            named = tuple((t.identity, labels) for t, labels in operands)
            key = (kind, out_labels, named, tuple(sorted(fields.items())))
            if key in self.known:
                return self.known[key]
        atoms = dict(new or {})
        for tensor, labels in operands:
            for label, atom in zip(labels, tensor.atoms, strict=True):
                if label in atoms:
                    unite(atoms[label], atom)
                else:
                    atoms[label] = atom
        out = self.tensor(
            [atoms[i] for i in out_labels],
            "node",
            has_params=any(t.has_params for t, _ in operands),
            has_data=any(t.has_data for t, _ in operands),
            narrow=any(t.narrow for t, _ in operands)
            or getattr(fields.get("traits"), "narrowing", False),
        )
        out.node = Node(kind, out, out_labels, operands, **fields)
        self.nodes.append(out.node)
        if key is not None:
            self.known[key] = out
        return out

    def same_rows(self, index: Tensor, rows: Atom) -> None:
        """Rows of a table that an array of whole numbers reads: those of other tables it reads.

        What acts on a row of one may have to act on the same row of the other.
        """
        unite(self.read.setdefault((index.identity, rows.size), rows), rows)

    def tie(self, state: Tensor, node: Node | None) -> None:
        """Keep a node that says something of a tensor wherever the tensor is used."""
        assert node is not None
        self.ties.setdefault(state.number, []).append(node)

    def live_nodes(self) -> list[Node]:
        """The nodes that an output depends on, in order."""
        keep, _ = self.reached()
        return [node for node in self.nodes if id(node) in keep]

    def reached(self) -> tuple[set[int], set[int]]:
        """The identities of the nodes that an output depends on, the numbers of the tensors."""
        wanted = {t.number for t in self.outputs}
        waiting, keep = list(self.outputs), set()
        while waiting:
            tensor = waiting.pop()
            reasons = [tensor.node] if tensor.node else []
            reasons += self.ties.get(tensor.number, [])
            for node in reasons:
                keep.add(id(node))
                for operand, _ in node.operands:
                    if operand.number not in wanted:
                        wanted.add(operand.number)
                        waiting.append(operand)
        return keep, wanted

    def miss(self, why: str, tensors: Iterable[Tensor]) -> None:
        """Name what something may have been missed for, with why; what no leaf is in is left."""
        held = [t for t in tensors if t.has_params]
        if held:
            self.unknown.setdefault(why, []).extend(held)

    def settle(self) -> None:
        """Hold fixed what was not understood, where an output depends on it."""
        held: set[int] = set()
        while True:
            _, wanted = self.reached()
            now = [self.opaque[n] for n in sorted(wanted & set(self.opaque))]
            new = [(name, used) for name, used in now if id(used) not in held]
            if not new:
                for number in sorted(wanted & set(self.partly)):
                    self.miss(*self.partly[number])
                return
            for name, used in new:
                if id(used) not in held:
                    held.add(id(used))
                    self.unknown.setdefault(name, []).extend(used)
                    self.outputs += used


def constant_number(tensor: Tensor) -> float | None:
    """The value of a constant scalar that is a real number."""
    if tensor.kind != "constant" or tensor.value is None or tensor.value.ndim:
        return None
    if tensor.value.dtype.kind == "c" and np.imag(tensor.value) == 0:
        return float(np.real(tensor.value))
    return float(tensor.value) if tensor.value.dtype.kind in "fiub" else None


def describe_error(error: Exception) -> str:
    """The type of an error and the first line of its message, for the report."""
    text = (str(error).splitlines() or [""])[0][:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def leaves_of(tensor: Tensor) -> set[int]:
    """The leaves that a tensor is computed from."""
    found, seen, waiting = set(), {tensor.number}, [tensor]
    while waiting:
        here = waiting.pop()
        if here.leaf is not None:
            found.add(here.leaf.leaf)
        for operand, _ in here.node.operands if here.node else ():
            if operand.number not in seen:
                seen.add(operand.number)
                waiting.append(operand)
    return found

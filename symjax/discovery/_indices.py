"""Permutations: which index sets no operation tells apart, and on what else an element may depend.

An index set that no input, output, constant or mixing operation singles out may be permuted, at
every place where it occurs at once. Where every tensor with the index set also has another one
(heads, groups, experts, layers of a scan), each entry of that other index set - a *fibre* - may be
moved by an element of its own.
"""

from collections.abc import Callable

from ._graph import Atom, Node, Tensor

Index = tuple[int, int]


class Indices:
    """Occurrences of index sets in a list of nodes."""

    def __init__(self, nodes: list[Node], outputs: list[Tensor], frozen: list[Atom]):
        self.nodes = nodes
        self.tensors: dict[int, Tensor] = {}
        for tensor in [t for node in nodes for t, _ in node.sides] + outputs:
            self.tensors[tensor.number] = tensor
        data = [t for t in self.tensors.values() if t.kind == "input"]
        fixed = [*frozen, *(a for t in [*outputs, *data] for a in t.atoms)]
        for node in nodes:
            for tensor, labels in node.sides:
                held = node.frozen - node.renumbered
                fixed += [a for a, x in zip(tensor.atoms, labels, strict=True) if x in held]
        fixed = {id(atom.find()) for atom in fixed}
        constants = [t for t in self.tensors.values() if t.kind == "constant" and t.names is None]
        singled = [(t.origin, a.find()) for t in constants for a in t.atoms]
        singled += _taken_as_they_are(nodes, outputs)
        #: What index sets a constant alone singles out, or numbers that name entries, with it.
        self.broken = [(origin, a) for origin, a in singled if id(a) not in fixed]
        self.broken += _taken_in_order(nodes, [t.names for t in self.tensors.values()])
        self.frozen = fixed | {id(atom) for _, atom in self.broken}
        self.classes: dict[int, list[Index]] = {}
        #: Index sets that whole numbers name: one element for all, as the numbers do not say more.
        self.named = {id(t.names.find()) for t in self.tensors.values() if t.names is not None}
        for tensor in self.tensors.values():
            for p, atom in enumerate(tensor.atoms):
                self.classes.setdefault(id(atom.find()), []).append((tensor.number, p))

    def atom(self, index: Index) -> Atom:
        """The index set of an index of a tensor."""
        return self.tensors[index[0]].atoms[index[1]].find()

    def leaves(self, indices: list[Index]) -> list[Index]:
        """Those that are indices of leaves."""
        return [i for i in indices if self.tensors[i[0]].kind == "leaf"]

    def fibres(
        self, places: list[Index], allowed: Callable[[Index], bool] = lambda index: True
    ) -> list[Atom]:
        """The index sets on whose entries an element acting at ``places`` may depend."""
        leaves = self.leaves(places)
        if not leaves or id(self.atom(leaves[0])) in self.named:
            return []
        number, position = leaves[0]
        tensor = self.tensors[number]
        own = tensor.atoms[position].find()
        others = [a.find() for p, a in enumerate(tensor.atoms) if p != position]
        candidates = [a for a in others if others.count(a) == 1 and a is not own]
        chosen = set(places)
        return [a for a in candidates if self.is_fibre(a, chosen, allowed)]

    def is_fibre(
        self,
        fibre: Atom,
        places: set[Index],
        allowed: Callable[[Index], bool] = lambda index: True,
    ) -> bool:
        """Whether the index set runs along with each of some places, node by node the same."""
        for number, position in places:
            if self._beside(number, position, fibre) is None:
                return False
        for node in self.nodes:
            for label in {x for _, labels in node.sides for x in labels}:
                beside = set()
                for tensor, labels in node.sides:
                    for p, own in enumerate(labels):
                        if own == label and (tensor.number, p) in places:
                            at = self._beside(tensor.number, p, fibre)
                            if at is None or not allowed((tensor.number, at)):
                                return False
                            beside.add(labels[at])
                if len(beside) > 1:
                    return False
        return True

    def _beside(self, number, position, fibre):
        """The one other position of a tensor that has the fibre's index set."""
        found = [
            p
            for p, atom in enumerate(self.tensors[number].atoms)
            if p != position and atom.find() is fibre
        ]
        return found[0] if len(found) == 1 else None


def _taken_as_they_are(nodes, outputs):
    """Index sets that whole numbers name, where these are used as the numbers that they are."""
    for tensor in outputs:
        if tensor.names is not None:
            yield "the numbers of its entries, which are an output", tensor.names.find()
    for node in nodes:
        if node.out.names is not None and node.out.tied:
            what = f"the numbers of its entries, which may be equal, that `{node.name}` gives"
            yield what, node.out.names.find()
        for i, (tensor, _) in enumerate(node.operands):
            if tensor.names is not None and i not in node.named:
                what = f"the numbers of its entries, which `{node.name or node.kind}` computes with"
                yield what, tensor.names.find()


def _taken_in_order(nodes, named):
    """Index sets that whole numbers name, where a node takes their entries in their order."""
    named = {id(atom.find()) for atom in named if atom is not None}
    for node in nodes:
        for tensor, labels in node.operands:
            for atom, x in zip(tensor.atoms, labels, strict=True):
                if x in node.frozen - node.renumbered and id(atom.find()) in named:
                    yield (
                        f"`{node.name or node.kind}`, which takes its entries in order",
                        atom.find(),
                    )

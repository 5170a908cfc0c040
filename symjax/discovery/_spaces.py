"""Changes of basis: for every index of every tensor, the group that may mix its entries.

Each index carries a *space*. A sum makes the spaces of its operands one; a contraction makes one
the dual of the other; a nonlinear function leaves no freedom (rigid). A vector contracted with
itself leaves an orthogonal group, a mean or a repeated number fixes the vector of ones. A factor
by a vector of parameters (a gain) conjugates: the index then moves by D g D^-1.

So an index is (root, dual, exponents of the diagonals D), and sets of indices are merged by a
union-find that keeps these relations.
"""

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

from ._graph import TIES, Node, Tensor, constant_number
from ._rules_elementwise import NOTHING, Traits

Index = tuple[int, int]  # the number of a tensor and a position
Exponents = Counter  # of diagonals: (number of a tensor, position) -> whole number


@dataclass(eq=False)
class Space:
    """What is known of a class of indices, in the frame of its root."""

    rigid: bool = False
    metrics: set = field(default_factory=set)
    #: Diagonals d such that g fixes the vector d, or g^T does.
    vectors: set = field(default_factory=set)
    covectors: set = field(default_factory=set)


@dataclass(frozen=True)
class Diagonal:
    """A vector of parameters, ``scale * leaf + offset`` to a power, as a factor."""

    tensor: Tensor
    position: int
    scale: float
    offset: float


class Spaces:
    """The spaces of all indices of a list of nodes."""

    def __init__(self, nodes: list[Node], outputs: list[Tensor]):
        self.parents: dict[Index, tuple[Index, int, Exponents]] = {}
        self.diagonals: dict[tuple, Diagonal] = {}
        self.spaces: dict[Index, Space] = {}
        self.tensors: dict[int, Tensor] = {}
        self._rigid: list[Index] = []
        self._fixed: list[tuple[Index, bool]] = []
        self._metrics: list[tuple[Index, Exponents]] = []
        self._clashes: list[Index] = []
        for node in nodes:
            for tensor, _ in node.sides:
                self._see(tensor)
            getattr(self, "_" + node.kind)(node)
            for tensor, labels in node.sides:
                self.rigid(tensor, [i for i, x in enumerate(labels) if x in node.frozen])
        for tensor in outputs:
            self._see(tensor)
            self.rigid(tensor)
        self._collect()

    def _see(self, tensor):
        if tensor.number not in self.tensors:
            self.tensors[tensor.number] = tensor
            if tensor.kind in ("input", "constant"):
                self.rigid(tensor)

    # -- union-find with relations --------------------------------------------------------------

    def find(self, index: Index) -> tuple[Index, int, Exponents]:
        """(root, dual, exponents): the index moves by D^e g D^-e, or D^e g^-T D^-e if dual."""
        path = [index]
        while (parent := self.parents.get(path[-1])) is not None:
            path.append(parent[0])
        result = (path.pop(), 0, Counter())
        for here in reversed(path):  # each then has the root as its parent
            _, flip, exponents = self.parents[here]
            total = _plus(exponents, result[2], -1 if flip else 1)
            result = (result[0], flip ^ result[1], total)
            self.parents[here] = result
        return result

    def unite(self, a: Index, b: Index, dual: int = 0, exponents: Exponents | None = None) -> None:
        """Index b moves as index a (or as its dual), conjugated by ``exponents``."""
        # b = D^x a or, if dual, b = D^x a*.
        root_a, flip_a, ex_a = self.find(a)
        ex_a = Counter({k: -v for k, v in ex_a.items()}) if dual else ex_a
        flip_a ^= dual
        ex_a = _plus(ex_a, exponents or Counter(), 1)
        root_b, flip_b, ex_b = self.find(b)
        if root_a == root_b:
            self._cycle(root_a, (flip_a, ex_a), (flip_b, ex_b))
            return
        # D^eb rho_fb(root_b) = D^ea rho_fa(root_a).
        flip = flip_a ^ flip_b
        difference = _plus(ex_a, ex_b, -1)
        if flip_b:
            difference = Counter({k: -v for k, v in difference.items()})
        self.parents[root_b] = (root_a, flip, difference)

    def _cycle(self, root, first, second):
        (flip1, ex1), (flip2, ex2) = first, second
        if flip1 == flip2:
            if _plus(ex1, ex2, -1):
                self._clashes.append(root)
            return
        difference = _plus(ex1, ex2, -1) if flip2 else _plus(ex2, ex1, -1)
        self._metrics.append((root, difference))

    def rigid(self, tensor: Tensor, positions=None) -> None:
        """Nothing may mix the entries along some indices of a tensor (default: all)."""
        positions = range(len(tensor.atoms)) if positions is None else positions
        self._rigid += [(tensor.number, p) for p in positions]

    def _fix(self, index: Index, covector: bool) -> None:
        self._fixed.append((index, covector))

    def _collect(self):
        for index in list(self.parents):
            self.find(index)
        space = lambda root: self.spaces.setdefault(root, Space())
        for index in (*self._rigid, *self._clashes):
            space(self.find(index)[0]).rigid = True
        for index, difference in self._metrics:
            # Relative to a root that may since have got a root of its own.
            root, flip, exponents = self.find(index)
            sign = 1 if not flip else -1
            # y' D^d y is kept, with y = D^e z or D^e z*.
            total = _plus(difference, exponents, 2)
            total = Counter({k: sign * v for k, v in total.items()})
            if any(v % 2 for v in total.values()):
                space(root).rigid = True
            else:
                half = Counter({k: v // 2 for k, v in total.items() if v})
                space(root).metrics.add(_frozen(half))
        for index, covector in self._fixed:
            root, flip, exponents = self.find(index)
            # D^e g D^-e 1 = 1: g fixes D^-e 1.  1' D^e g D^-e = 1': g' fixes D^e 1.
            value = exponents if covector else Counter({k: -v for k, v in exponents.items()})
            kind = covector ^ bool(flip)
            (space(root).covectors if kind else space(root).vectors).add(_frozen(value))

    def space(self, root: Index) -> Space:
        """What is known of a root."""
        return self.spaces.setdefault(root, Space())

    # -- nodes ----------------------------------------------------------------------------------

    def _positions(self, node):
        """Label -> the indices of the operands with it, then of the output (or None)."""
        table = {}
        for tensor, labels in node.operands:
            for p, label in enumerate(labels):
                table.setdefault(label, []).append((tensor.number, p))
        outs = {label: (node.out.number, p) for p, label in enumerate(node.out_labels)}
        return table, outs

    def _linear(self, node):
        table, outs = self._positions(node)
        for label, out in outs.items():
            for index in table[label]:
                self.unite(index, out)
            if len(table[label]) < len(node.operands):
                self._fix(out, covector=False)

    def _sum(self, node):
        table, outs = self._positions(node)
        for label, indices in table.items():
            if label in outs:
                self.unite(indices[0], outs[label])
            else:
                self._fix(indices[0], covector=True)

    def _product(self, node):
        table, outs = self._positions(node)
        for label, indices in table.items():
            out = outs.get(label)
            if len(indices) == 1 and out:
                self.unite(indices[0], out)
            elif len(indices) == 1:
                self._fix(indices[0], covector=True)
            elif out is None:
                self.unite(indices[0], indices[1], dual=1)
            else:
                self._elementwise(node, label, indices, out)

    def _elementwise(self, node, label, indices, out):
        for a, b in ((0, 1), (1, 0)):
            tensor, labels = node.operands[b]
            found = resolve_diagonal(tensor, labels.index(label))
            inside = set(labels) <= set(node.out_labels)
            if found and inside and node.operands[a][0] is not tensor:
                diagonal, exponent = found
                key = (diagonal.tensor.number, diagonal.position, diagonal.scale, diagonal.offset)
                self.diagonals[key] = diagonal
                self._rigid.append(indices[b])
                self.unite(indices[a], out, 0, Counter({key: exponent}))
                return
        self._rigid += [*indices, out]

    def _everything(self, node):
        for tensor, _ in node.sides:
            self.rigid(tensor)

    _pointwise = _reduce = _everything

    def _equal(self, node):
        if node.traits == "order":
            self._everything(node)
            return
        out = [] if node.name in TIES else [(node.out, node.out_labels)]
        operands = [x for i, x in enumerate(node.operands) if i not in node.guides]
        operands = [x for x in operands if constant_number(x[0]) != 0]
        guided = {x for i in node.guides for x in node.operands[i][1]}
        for i in node.guides:
            self.rigid(node.operands[i][0])
        self._together([*operands, *out], guided)

    def _mix(self, node):
        if node.traits is not None:
            self._everything(node)
            return
        operands = [x for i, x in enumerate(node.operands) if i not in node.guides]
        guided = {x for i in node.guides for x in node.operands[i][1]}
        for i in node.guides:
            self.rigid(node.operands[i][0])
        self._together([*operands, (node.out, node.out_labels)], set(node.frozen) | guided)

    def _gather(self, node):
        self.rigid(node.operands[0][0])
        guided = set(node.operands[0][1]) | set(node.frozen)
        self._together([*node.operands[1:], (node.out, node.out_labels)], guided)

    def _together(self, sides, guided):
        """The indices of a label are one; those that a side lacks or a guide has are rigid."""
        table = {}
        for tensor, labels in sides:
            for p, label in enumerate(labels):
                table.setdefault(label, []).append((tensor.number, p))
        for label, indices in table.items():
            for index in indices[1:]:
                self.unite(indices[0], index)
            if label in guided or len(indices) < len(sides):
                self._rigid.append(indices[0])


def _plus(a: Exponents, b: Exponents, factor: int) -> Exponents:
    total = Counter(a)
    for key, value in b.items():
        total[key] += factor * value
    return Counter({k: v for k, v in total.items() if v})


def _frozen(exponents: Exponents) -> frozenset:
    return frozenset((k, v) for k, v in exponents.items() if v)


def resolve_diagonal(tensor: Tensor, position: int) -> tuple[Diagonal, int] | None:
    """The leaf that a factor is made of: itself, a leaf plus a constant, or one over these."""
    if tensor.kind == "leaf":
        return Diagonal(tensor, position, 1.0, 0.0), 1
    node = tensor.node
    if node is None:
        return None
    label = node.out_labels[position]
    if node.kind == "product" and not node.summed and not node.frozen:
        # A number per sample beside the vector: it commutes with everything along the label.
        mine = [(t, labels) for t, labels in node.operands if label in labels]
        if len(mine) == 1:
            return resolve_diagonal(mine[0][0], mine[0][1].index(label))
    if tensor.has_data:
        return None
    if node.kind == "linear":
        return _resolve_affine(node, label)
    if node.kind == "pointwise" and (node.traits or NOTHING) == Traits(Fraction(-1), 1):
        inner, labels = node.operands[0]
        found = resolve_diagonal(inner, labels.index(label))
        return found and (found[0], -found[1])
    return None


def _resolve_affine(node, label):
    rows = list(zip(node.operands, node.coefficients, strict=True))
    moving = [row for row in rows if constant_number(row[0][0]) is None]
    if len(moving) != 1 or label not in moving[0][0][1]:
        return None
    (inner, labels), coefficient = moving[0]
    found = resolve_diagonal(inner, labels.index(label))
    if not found or found[1] != 1:
        return None
    offset = sum(c * (constant_number(t) or 0.0) for (t, _), c in rows if t is not inner)
    d = found[0]
    scaled = Diagonal(d.tensor, d.position, coefficient * d.scale, coefficient * d.offset + offset)
    return scaled, 1

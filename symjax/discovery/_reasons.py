"""Why not? What keeps a model from having symmetries that its architecture would have."""

from collections.abc import Iterable

from ._assembly import Assembly
from ._graph import Graph, Tensor, leaves_of
from ._report import TEST, TIED


def reasons(assembly: Assembly) -> dict[str, tuple[str, ...]]:
    """By what breaks a symmetry: the leaves that would have it."""
    names = assembly.names
    found = _broken(assembly)
    for reason, leaves in ((TIED, _tied(assembly)), (TEST, _tested(assembly.graph))):
        if leaves:
            found[reason] = tuple(sorted(names[i] for i in leaves))
    return found


def _broken(assembly: Assembly) -> dict[str, tuple[str, ...]]:
    """The constants that alone keep index sets from being permuted, and the leaves along these.

    Where nothing else has an index set than constants and the leaves that they are contracted with,
    they are what a model is fed with, as an input is, and no permutation is lost.
    """
    indices, leaves = assembly.indices, {}
    for origin, atom in indices.broken:
        places = indices.classes[id(atom)]
        if any(_is_computed(indices.tensors[number]) for number, _ in places):
            names = {assembly.place(indices.tensors[n])[0] for n, _ in indices.leaves(places)}
            leaves.setdefault(origin, set()).update(names)
    return {name: tuple(sorted(found)) for name, found in leaves.items() if found}


def _is_computed(tensor: Tensor) -> bool:
    """Whether a tensor depends on parameters and is more than a multiple or a cast of a leaf."""
    while tensor.node is not None and tensor.node.kind in ("linear", "pointwise"):
        moving = [t for t, _ in tensor.node.operands if t.has_params]
        if len(moving) != 1 or len(tensor.node.operands) != 1:
            break
        (tensor,) = moving
    return tensor.has_params and tensor.kind != "leaf"


def _tied(assembly: Assembly) -> set[int]:
    """Leaves that are a table, and a matrix that is multiplied with."""
    table, matrix = set(), set()
    for node in assembly.nodes:
        for i, (tensor, labels) in enumerate(node.operands):
            if tensor.leaf is None or i in node.guides:
                continue
            if node.kind == "gather":
                table.add(tensor.leaf.leaf)
            elif node.kind == "product" and node.summed & set(labels):
                matrix.add(tensor.leaf.leaf)
    return table & matrix


def _tested(graph: Graph) -> set[int]:
    """The leaves that the tests of loops depend on."""
    _, wanted = graph.reached()
    tests = [t for state, flags in graph.tests if state & wanted for t in flags]
    return _behind(graph, tests)


def _behind(graph: Graph, tensors: Iterable[Tensor]) -> set[int]:
    """The leaves that tensors are computed from, by way of loops too."""
    found, seen, waiting = set(), set(), list(tensors)
    while waiting:
        here = waiting.pop()
        if here.number in seen:
            continue
        seen.add(here.number)
        found |= leaves_of(here)
        for node in [*graph.ties.get(here.number, ()), *([here.node] if here.node else [])]:
            waiting += [t for t, _ in node.operands]
    return found

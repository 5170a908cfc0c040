"""Entries of leaves that constant masks hide: multiplied by 0, or never picked by a `where`."""

from collections.abc import Iterator, Sequence

import numpy as np

from ._graph import Node, Tensor

#: What a mask hides is listed in boxes; a leaf with more of them than this is left as it is, and
#: named.
MOST_BOXES = 64
Box = tuple[tuple[int, ...], tuple[int, ...]]  # where it starts, and its sizes


def masked(nodes: Sequence[Node], outputs: Sequence[Tensor]) -> Iterator[tuple[Tensor, np.ndarray]]:
    """The blocks of leaves of which some entries are never read, with where these are."""
    seen: dict[int, np.ndarray | None] = {t.number: None for t in outputs}
    blocks: dict[int, Tensor] = {}
    for node in nodes:
        for i, (tensor, _) in enumerate(node.operands):
            if tensor.leaf is None:
                continue
            blocks[tensor.number] = tensor
            read = _read(node, i)
            known = seen.get(tensor.number, np.False_)
            seen[tensor.number] = None if read is None or known is None else known | read
    for number, tensor in blocks.items():
        read = seen[number]
        if read is not None and not np.all(read):
            shape = tuple(a.size for a in tensor.atoms)
            yield tensor, ~np.broadcast_to(read, shape)


def _read(node: Node, position: int) -> np.ndarray | None:
    """Which entries of an operand a node reads; None for all."""
    _, labels = node.operands[position]
    if len(set(labels)) < len(labels):
        return None
    if node.kind == "product" and not node.frozen:
        mask, names = node.operands[1 - position]
        return _laid_out(mask, names, labels, lambda value: value != 0)
    picks = node.kind == "equal" and node.name == "select" and node.guides == frozenset({0})
    if picks and position and len(node.operands) > 2:
        mask, names = node.operands[0]
        return _laid_out(mask, names, labels, lambda value: value.astype(int) == position - 1)
    return None


def _laid_out(mask, names, labels, test):
    """A test of a constant, along the labels of an operand; None if it has others."""
    if mask.kind != "constant" or mask.value is None or not set(names) <= set(labels):
        return None
    if len(set(names)) < len(names):
        return None
    order = sorted(range(len(names)), key=lambda i: labels.index(names[i]))
    value = test(np.asarray(mask.value)).transpose(order)
    sizes = iter(value.shape)
    return value.reshape([next(sizes) if x in names else 1 for x in labels])


def boxes(hidden: np.ndarray) -> list[Box] | None:
    """Boxes that cover the entries, each once; None if they are too many.

    Runs along the last index that are the same in consecutive rows are one box.
    """
    if not hidden.ndim:
        return [((), ())] if hidden else []
    pieces: list[Box] = []
    if hidden.ndim == 1:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden.astype(int), [0]])))
        pieces = [((int(a),), (int(b - a),)) for a, b in edges.reshape(-1, 2)]
    else:
        start = 0
        for i in range(1, len(hidden) + 1):
            if i == len(hidden) or not np.array_equal(hidden[i], hidden[start]):
                inner = boxes(hidden[start])
                if inner is None:
                    return None
                pieces += [((start, *at), (i - start, *sizes)) for at, sizes in inner]
                start = i
    return pieces if len(pieces) <= MOST_BOXES else None

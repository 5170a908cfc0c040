"""Rules of scatters: what whole numbers name is written or added to.

Axes that are taken whole are carried along, as in lookups, which read what is written here.
"""

import numpy as np

from . import _terms as terms
from ._layout import Unsupported, align
from ._reader import rule
from ._rules_elementwise import Traits, equal_entries
from ._rules_linear import REDUCTIONS, contract
from ._rules_lookup import pointers
from ._values import (
    Value,
    aligned,
    block_at,
    broadcast,
    cells,
    concatenate,
    rearrange,
    rename,
    reshape,
    take,
)

#: What becomes of an entry and of what is written to it, by the last word of the primitive.
LARGEST = {"max": -np.inf, "min": np.inf}


@rule("scatter", *(f"scatter{dash}{how}" for dash in "-_" for how in ("add", "mul", "max", "min")))
def _scatter(reader, equation, x, index, update):
    """x.at[i].set, add, mul, max or min."""
    d = equation.params["dimension_numbers"]
    how = equation.primitive.name.replace("_", "-").split("-")[-1]
    if how == "scatter" and not d.scatter_dims_to_operand_dims:
        if update.shape != x.shape:
            raise Unsupported
        return update  # x.at[...].set(update)
    x, update = reader.lift(x), reader.lift(update)
    known = _at_a_known_number(reader, d, how, x, index, update)
    if known is None:
        known = _by_names(reader, d, how, x, index, update)
    if known is not None:
        return known
    if how == "mul":
        raise Unsupported
    spread = _spread(reader, equation, x, index, update, how)
    if how == "add":
        make = lambda row: terms.linear(reader.graph, row, [1, 1])
    elif how == "scatter":
        make = lambda row: terms.apply(reader.graph, "equal", row, name="update")
    else:

        def make(row):
            row = [t for t in row if terms.number(t) != LARGEST[how]]
            if len(row) == 1:
                return row[0]
            return terms.apply(reader.graph, "equal", row, traits="order", name=how)

    return reader.elementwise([x, spread], make, x.dtype)


def _at_a_known_number(reader, d, how, x, index, update):
    """One row that is known is written to; None where it is anything else."""
    if isinstance(index, Value) or len(d.scatter_dims_to_operand_dims) != 1:
        return None
    (axis,) = d.scatter_dims_to_operand_dims
    start, size = np.asarray(index).reshape(-1), x.axes[axis].size
    whole = d.inserted_window_dims == (axis,) and not d.operand_batching_dims
    start = int(start[0]) if len(start) == 1 else -1
    if not (whole and 0 <= start < size) or how in LARGEST:
        return None
    shape = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    update = reshape(update, shape, reader.refinements)
    old = take(x, axis, start, start + 1, 1, reader.refinements)
    if how == "add":
        make = lambda row: terms.linear(reader.graph, row, [1, 1])
        update = reader.elementwise([old, update], make, x.dtype)
    elif how == "mul":
        make = lambda row: terms.product(reader.graph, *row)
        update = reader.elementwise([old, update], make, x.dtype)
    parts = [take(x, axis, 0, start, 1, reader.refinements)] if start else []
    parts.append(update)
    if start + 1 < size:
        parts.append(take(x, axis, start + 1, size, 1, reader.refinements))
    fresh = lambda i, n: reader.refinements.axis((*reader.path, "part", i), n)
    return concatenate(parts, axis, fresh, reader.refinements)


def _by_names(reader, d, how, x, index, update):
    """What is written where `top_k` or `argmax` point: marked by ones, and summed.

    None where it is anything else: numbers along one axis, and along others one after the other.
    """
    empty = all(terms.is_zero(t) for t in x.blocks.values())
    pointed = tuple(map(int, d.scatter_dims_to_operand_dims))
    if not (how == "add" or (how == "scatter" and empty)) or (
        set(pointed) - set(d.inserted_window_dims)
    ):
        return None
    at = pointers(reader, index, pointed, {}, lambda a: True).lifted(reader)
    batch = [u for u in range(len(update.axes)) if u not in d.update_window_dims]
    pairs = zip(d.operand_batching_dims, d.scatter_indices_batching_dims, strict=True)
    kept = {int(a): int(k) for a, k in pairs}
    kept |= {a: k for a, v in at.items() if (k := _counted(v, x.shape[a])) is not None}
    axis = [a for a in at if a not in kept]
    if len(axis) != 1 or len(set(kept.values())) < len(kept):
        return None
    (axis,) = axis
    names = [t.names for t, _ in at[axis].blocks.values()]
    if len(names) != 1 or names[0] is None or names[0].size != x.shape[axis]:
        return None
    summed = [k for k in range(len(batch)) if k not in kept.values()]
    if how == "scatter" and summed and not _distinct(at[axis], summed):
        return None
    count = len(batch)
    wide = broadcast(at[axis], (*at[axis].shape, x.shape[axis]), range(count))
    every = np.broadcast_to(np.arange(x.shape[axis]), wide.shape)
    marks = equal_entries(reader, wide, every)
    order = sorted(kept.values())
    places = tuple(summed), tuple(batch[k] for k in summed)
    together = tuple(order), tuple(batch[k] for k in order)
    found = contract(reader, marks, update, places, together, x.dtype)
    window = iter(range(len(order) + 1, len(found.axes)))
    place = {a: order.index(k) for a, k in kept.items()} | {axis: len(order)}
    source = [place[a] if a in place else next(window) for a in range(len(x.axes))]
    found = rearrange(found, source, {})
    if empty:
        return found
    make = lambda row: terms.linear(reader.graph, row, [1, 1])
    return reader.elementwise([x, found], make, x.dtype)


def _counted(value, size):
    """The axis along which an array counts 0, 1, ... to a size; None where it does not."""
    if len(value.blocks) != 1:
        return None
    ((tensor, places),) = value.blocks.values()
    if tensor.kind != "constant" or tensor.names is not None or tensor.value is None:
        return None
    if not np.array_equal(tensor.value, np.arange(size)):
        return None
    return places[0][0] if value.shape[places[0][0]] == size else None


def _distinct(value, axes):
    """Whether numbers along some axes differ from each other: those of one `top_k`."""
    ((tensor, places),) = value.blocks.values()
    node = tensor.node
    if node is None or node.name != "top_k" or len(axes) != 1:
        return False
    own = [x for x, p in zip(node.out_labels, places, strict=True) if p[0] == axes[0]]
    return len(own) == 1 and own[0] in node.frozen


def _spread(reader, equation, x, index, update, how) -> Value:
    """What is written, at the places of the array that it is written to."""
    d = equation.params["dimension_numbers"]
    gone = {*d.inserted_window_dims, *d.operand_batching_dims}
    places = iter(map(int, d.update_window_dims))
    window = {a: next(places) for a in range(len(x.axes)) if a not in gone}
    batch = [u for u in range(len(update.axes)) if u not in d.update_window_dims]
    pairs = zip(d.operand_batching_dims, d.scatter_indices_batching_dims, strict=True)
    shared = {int(a): batch[int(k)] for a, k in pairs}
    # Axes of the array along which what is written stands as it is: theirs and the update's.
    same = {a: u for a, u in window.items() if update.shape[u] == x.shape[a]} | shared
    pointed = tuple(map(int, d.scatter_dims_to_operand_dims))
    at = pointers(reader, index, pointed, {}, lambda a: True)
    starts = list(at.lifted(reader).values())
    batch_axes = aligned(starts, reader.refinements)
    axes, full = [], list(update.axes)
    for a, axis in enumerate(x.axes):
        if a in same:
            u = same[a]
            axis = align(axis, full[u], reader.refinements)
            if u in batch:
                axis = align(axis, batch_axes[batch.index(u)], reader.refinements)
            full[u] = axis
        elif axis.free:
            axis = reader.refinements.axis((*reader.path, "at", a), axis.size)
        axes.append(axis)
    back = {u: a for a, u in same.items()}
    loose = [u for u in range(len(full)) if u not in back]
    blocks = {}
    for cell in cells(axes):
        operands, frozen = [], []
        for number, source in enumerate(cells([full[u] for u in loose])):
            chosen = dict(zip(loose, source, strict=True))
            place = tuple(chosen[u] if u in chosen else cell[back[u]] for u in range(len(full)))
            name = lambda p, n=number: (back[p[0]], p[1]) if p[0] in back else ("from", n, *p)
            operands.append(rename(block_at(update, full, place), name))
        guides = _guides(starts, batch_axes, batch, back, cell)
        atoms = {
            (a, k): atom
            for a, axis in enumerate(axes)
            if a not in same
            for k, (atom, _) in enumerate(axis.segments[cell[a]].slots)
        }
        rows = [*operands, *guides]
        frozen = dict.fromkeys(p for _, ps in rows for p in ps if p[0] in ("from", "guide"))
        names = dict.fromkeys(p for _, ps in rows for p in ps if p not in frozen)
        blocks[cell] = terms.apply(
            reader.graph,
            "mix",
            rows,
            (*names, *atoms),
            atoms,
            [*frozen, *atoms],
            coefficients=() if how == "add" else (1.0,),
            guides=frozenset(range(len(operands), len(rows))),
            traits=Traits(REDUCTIONS["reduce_max"].degree) if how in LARGEST else None,
            name="scatter",
        )
    return Value(tuple(axes), blocks, x.dtype)


def _guides(starts, batch_axes, batch, back, cell):
    """The numbers, with the names of a cell along the axes that they share with what is written."""
    guides = []
    for j, value in enumerate(starts):
        shared = {k: back[u] for k, u in enumerate(batch) if u in back}
        sources = [
            (cell[shared[k]],) if k in shared else range(len(axis.segments))
            for k, axis in enumerate(batch_axes)
        ]
        for number, source in enumerate(np.ndindex(*[len(s) for s in sources])):
            place = tuple(s[i] for s, i in zip(sources, source, strict=True))
            name = lambda p, n=number, j=j, shared=shared: (
                (shared[p[0]], p[1]) if p[0] in shared else ("guide", j, n, *p)
            )
            guides.append(rename(block_at(value, batch_axes, place), name))
    return guides

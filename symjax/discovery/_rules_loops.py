"""Rules of loops and branches: each body is read once.

What a loop carries is tied from one step to the next. The slices of stacked arrays keep the index
of the step as an index of their own (a place of the kind ``("loop", number)``), so a stack of
layers is one layer whose tensors have a further index: a fibre.
"""

import itertools

from . import _terms as terms
from ._graph import Atom
from ._layout import Axis, Segment, Unsupported
from ._reader import Reader, rule
from ._rules_shape import mix
from ._values import Value, aligned, block_at, cells, concatenate, rename, squeeze, take


def counts_of_scan(equation):
    """How many operands of a scan are constants, and how many it carries.

    By shapes, since how the parameters say it differs between versions of JAX: a slice has one axis
    less than its stack, and so has a step's output, while what is carried keeps its shape.
    """
    body = equation.params["jaxpr"].jaxpr
    count = lambda outer, inner: sum(
        x.aval.ndim == y.aval.ndim for x, y in zip(outer, inner, strict=True)
    )
    carries = count(equation.outvars, body.outvars)
    return count(equation.invars, body.invars) - carries, carries


@rule("scan")
def _scan(reader: Reader, equation, *operands):
    """A scan, read once; or once for each run of steps between those that are told apart."""
    p = equation.params
    values = [reader.lift(v) for v in operands]
    consts, carries = counts_of_scan(equation)
    fixed, start = values[:consts], values[consts : consts + carries]
    stacks = values[consts + carries :]
    ends = _told_apart(stacks, p["length"])
    runs = list(itertools.pairwise(ends))
    parts, path = {}, reader.path
    for first, last in reversed(runs) if p["reverse"] else runs:
        if len(runs) > 1:
            reader.path = (*path, "from", first)
        rows = [take(x, 0, first, last, 1, reader.refinements) for x in stacks]
        start, parts[first] = _run(reader, p["jaxpr"], last - first, fixed, start, rows)
    reader.path = path
    fresh = lambda i, n: reader.refinements.axis((*path, "run", i), n)
    columns = zip(*(parts[first] for first, _ in runs), strict=True)
    join = lambda rows: concatenate(rows, 0, fresh, reader.refinements)
    stacked = [rows[0] if len(rows) == 1 else join(rows) for rows in columns]
    return [*start, *stacked]


def _told_apart(stacks, length):
    """Where runs of steps begin and end, for what comes after or before tells the steps apart."""
    pieces = [s for x in stacks if not x.axes[0].free for s in x.axes[0].segments]
    if not all(s.is_interval for s in pieces):
        return [0, length]
    return sorted({0, length, *(s.offset for s in pieces)})


def _run(reader, body, length, fixed, start, stacks):
    """(what is carried out of some steps, what each of them gives)."""
    reader.depth += 1
    loop = ("loop", reader.depth, *reader.path)
    before = len(reader.graph.frozen)
    slices = [_slice(reader, x, loop, i) for i, x in enumerate(stacks)]
    after = len(reader.graph.frozen)
    carried = [_carry(reader, v, i) for i, v in enumerate(start)] if length > 1 else start
    path = reader.path
    outputs = reader.read(body.jaxpr, body.consts, [*fixed, *carried, *slices])
    reader.path = path
    outputs = [reader.lift(v) for v in outputs]
    final, ys = outputs[: len(start)], outputs[len(start) :]
    added = _added(reader.graph, carried, final, ys) if length > 1 else None
    if added is not None:
        # A loop that only adds up is a sum, in which the steps have no order.
        del reader.graph.frozen[before:after]
        carried = [
            _summed(reader, first, Value(state.axes, {}, first.dtype), rest, loop, length)
            for first, state, rest in zip(start, carried, added, strict=True)
        ]
    elif length > 1:
        for state, first, last in zip(carried, start, final, strict=True):
            _tie(reader, state, [first, last])
    reader.depth -= 1
    stacked = [_stack(reader, y, loop, length, i) for i, y in enumerate(ys)]
    return (carried if length > 1 else final), stacked


def _added(graph, carried, final, ys):
    """What each step adds to each of what a loop carries; None where it does more than add."""
    if not carried:
        return None
    rests = []
    for state, last in zip(carried, final, strict=True):
        rest = _rest(state, last)
        if rest is None:
            return None
        rests.append(rest)
    states = {t.number for v in carried for t, _ in v.blocks.values()}
    made = [t for rest in rests for row in rest.values() for (t, _), _ in row]
    made += [t for y in ys for t, _ in y.blocks.values()]
    return None if _depends(graph, made, states) else rests


def _rest(state, last):
    """By cell the (term, coefficient) that are added to a state; None where it is no sum."""
    if [a.geometry for a in state.axes] != [a.geometry for a in last.axes]:
        return None
    result = {}
    for cell, (tensor, places) in state.blocks.items():
        new, names = last.blocks.get(cell, (None, ()))
        if new is tensor and names == places:
            result[cell] = []
            continue
        node = new.node if new is not None else None
        if node is None or node.kind != "linear":
            return None
        named = dict(zip(node.out_labels, names, strict=True))
        rows = [
            ((t, tuple(named[x] for x in labels)), c)
            for (t, labels), c in zip(node.operands, node.coefficients, strict=True)
        ]
        if [(p, c) for (t, p), c in rows if t is tensor] != [(places, 1.0)]:
            return None
        result[cell] = [row for row in rows if row[0][0] is not tensor]
    return result


def _depends(graph, tensors, numbers):
    """Whether any of some tensors is computed from those with some numbers."""
    seen, waiting = set(), list(tensors)
    while waiting:
        here = waiting.pop()
        if here.number in numbers:
            return True
        if here.number not in seen:
            seen.add(here.number)
            nodes = [*graph.ties.get(here.number, ()), *([here.node] if here.node else [])]
            waiting += [t for node in nodes for t, _ in node.operands]
            waiting += graph.opaque.get(here.number, ("", []))[1]
    return False


def _summed(reader, start, like, rest, loop, length):
    """What a loop starts from, and all that its steps add."""
    blocks = {}
    for cell, rows in rest.items():
        parts = []
        for (tensor, places), c in rows:
            steps = [p for p in places if p[: len(loop)] == loop]
            count = length
            for p in steps:
                count //= tensor.atoms[places.index(p)].size
            parts.append(terms.total(reader.graph, (tensor, places), steps, c * count))
        blocks[cell] = terms.linear(reader.graph, parts, [1] * len(parts))
    added = Value(like.axes, blocks, start.dtype)
    make = lambda row: terms.linear(reader.graph, row, [1, 1])
    return reader.elementwise([start, added], make, start.dtype)


def _slice(reader, x, loop, number):
    """The slice of a stack, its first index being the step of the loop."""
    axis: Axis = x.axes[0]
    if axis.free:
        return squeeze(take(x, 0, 0, 1, 1, reader.refinements), [0])
    if len(axis.segments) > 1:
        x = mix(reader, x, {0: axis.size}, (*reader.path, "steps", number), x.dtype, 1.0)
        axis = x.axes[0]
        if len(axis.segments) > 1:
            raise Unsupported
    segment = next(iter(axis.segments))
    reader.graph.frozen += [atom for atom, _ in segment.slots]  # layers have an order
    name = lambda p: (*loop, p[1]) if p[0] == 0 else (p[0] - 1, p[1])
    blocks = {cell[1:]: rename(term, name) for cell, term in x.blocks.items()}
    return Value(x.axes[1:], blocks, x.dtype)


def _carry(reader, value, number):
    """What a loop carries: of a layout of its own, tied to its values later."""
    has_params = True  # it may depend on the parameters from the second step on
    axes = reader.fresh_axes((*reader.path, "carry", number), value.shape)
    blocks = {}
    for cell in cells(axes):
        places: list[tuple] = []
        atoms = []
        for a, (axis, i) in enumerate(zip(axes, cell, strict=True)):
            for k, (atom, _) in enumerate(axis.segments[i].slots):
                places.append((a, k))
                atoms.append(atom)
        tensor = reader.graph.tensor(atoms, "carry", has_params=has_params, has_data=True)
        outer = {
            p: t.atoms[q]
            for t, ps in value.blocks.values()
            for q, p in enumerate(ps)
            if p[0] == "loop"
        }
        if outer:
            tensor.atoms = (*tensor.atoms, *outer.values())
            places += list(outer)
        blocks[cell] = tensor, tuple(places)
    return Value(axes, blocks, value.dtype)


def _tie(reader, state, values):
    """A carry moves as what it starts from and as what each step makes of it."""
    axes = aligned([state, *values], reader.refinements)
    for cell in cells(axes):
        row = [block_at(v, axes, cell) for v in (state, *values)]
        tied, _ = terms.apply(reader.graph, "equal", row, (), name="carry")
        reader.graph.tie(row[0][0], tied.node)


def _stack(reader, y, loop, length, number):
    """The outputs of every step, one after the other."""
    own: dict[int, Atom] | None = None
    for tensor, places in y.blocks.values():
        for atom, place in zip(tensor.atoms, places, strict=True):
            if tuple(place[: len(loop)]) == loop:
                own = own or {}
                own[place[-1]] = atom
    if length == 1:
        axis = Axis(1, (Segment(0),), free=True)
    elif own is None:
        axis = reader.refinements.axis((*reader.path, "stack", number), length)
    else:
        sizes = [own[k] for k in sorted(own)]
        slots, stride = [], 1
        for atom in reversed(sizes):
            slots.insert(0, (atom, stride))
            stride *= atom.size
        if stride != length:
            raise Unsupported
        axis = Axis(length, (Segment(0, tuple(slots)),))

    def name(p):
        return (0, p[-1]) if p[: len(loop)] == loop else p

    blocks = {}
    for cell, (tensor, places) in y.blocks.items():
        reader.graph.stacked.append(tensor)
        moved = [p if p[0] == "loop" else (p[0] + 1, p[1]) for p in places]
        term = tensor, tuple(map(name, moved))
        missing = {
            (0, k): atom
            for k, (atom, _) in enumerate(axis.segments[0].slots)
            if (0, k) not in term[1]
        }
        if missing and (tensor.has_data or tensor.has_params):
            # It differs from step to step although no index says so.
            kept = (*term[1], *missing)
            new: dict[tuple, Atom] = dict(missing)
            term = terms.apply(
                reader.graph, "mix", [term], kept, new, list(missing), coefficients=(1.0,)
            )
        blocks[(0, *cell)] = term
    return Value((axis, *y.axes), blocks, y.dtype)


@rule("while")
def _while(reader, equation, *operands):
    p = equation.params
    values = [reader.lift(v) for v in operands]
    n_cond, n_body = p["cond_nconsts"], p["body_nconsts"]
    outer, fixed, start = (
        values[:n_cond],
        values[n_cond : n_cond + n_body],
        values[n_cond + n_body :],
    )
    carried = [_carry(reader, v, i) for i, v in enumerate(start)]
    path = reader.path
    reader.path = (*path, "test")
    test = p["cond_jaxpr"]
    flags = reader.read(test.jaxpr, test.consts, [*outer, *carried])
    reader.path = (*path, "body")
    body = p["body_jaxpr"]
    final = reader.read(body.jaxpr, body.consts, [*fixed, *carried])
    reader.path = path
    for state, first, last in zip(carried, start, final, strict=True):
        _tie(reader, state, [first, reader.lift(last)])
    # Whether to go on must not change.
    tests = [t for f in flags for t, _ in reader.lift(f).blocks.values()]
    reader.graph.outputs += tests
    states = {t.number for v in carried for t, _ in v.blocks.values()}
    reader.graph.tests.append((states, tests))
    return carried


@rule("cond")
def _cond(reader, equation, which, *operands):
    path = reader.path
    results = []
    for i, branch in enumerate(equation.params["branches"]):
        reader.path = (*path, "branch", i)
        results.append(reader.read(branch.jaxpr, branch.consts, operands))
    reader.path = path
    picked = []
    for rows in zip(*results, strict=True):
        values = [reader.lift(v) for v in rows]

        def make(row):
            if all(case == row[1] for case in row[2:]):
                return row[1]
            return terms.apply(reader.graph, "equal", row, guides=frozenset({0}), name="select")

        picked.append(reader.elementwise([which, *values], make, values[0].dtype))
    return picked

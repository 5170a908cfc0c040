"""Functions of one number that the rules do not see through: what they are, by evaluating them.

A composite is what the model computes from one tensor entry by entry, with nothing but numbers
beside it: tanh written with exponentials, a clip at -1 and 1. Where the rules of its primitives
leave open whether it is homogeneous, odd, even or affine, it is evaluated in float64. A property
counts as found where no point contradicts it beyond rounding: of either sign, over sixty powers of
ten, and beside every number that the composite holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

from ._evaluation import EPS, evaluate, function_of
from ._graph import Graph, Node, Tensor, constant_number
from ._rules_elementwise import Traits
from ._scales import Scales

#: Rounding is bounded to first order: a residual may be this many times the bound.
SLACK = 4.0
#: A value speaks for a property where its rounding is this small beside it.
CLEAR = 1e-6
#: Where functions are used: nearly all values there must be clear, and finite.
INNER, OUTER = 1e-2, 50.0
#: Of composites with more numbers than this, the neighbourhood of the first is looked at.
MOST_NUMBERS = 12


@dataclass(frozen=True)
class Composite:
    """What is computed from ``source``: ``nodes`` without indices, the last being the result."""

    source: Tensor
    out: Tensor
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        """Its operations, for the report."""
        names = [n.name for n in self.nodes if n.name] or ["product"]
        return "/".join(dict.fromkeys(names))


# -- in the graph -----------------------------------------------------------------------------


def probe(graph: Graph) -> dict[str, list[Tensor]]:
    """Write one node for each composite that is more than its rules say; their names and sources.

    The graph is changed in place.
    """
    found: dict[str, list[Tensor]] = {}
    known: dict[str, Probed | None] = {}
    for composite in composites(graph):
        key = _text(composite)
        if key not in known:
            known[key] = classify(composite)
        new = known[key]
        if new is None:
            continue
        found.setdefault(f"{new.what} {composite.name}", []).append(composite.source)
        old = composite.out.node
        assert old is not None
        made = _node(graph, old, composite.source, new)
        graph.nodes[graph.nodes.index(old)] = made
        composite.out.node = made
    return found


def _node(graph: Graph, old: Node, source: Tensor, new: "Probed") -> Node:
    """A node for the result of a composite, from its source."""
    operands = [(source, old.out_labels)]
    if new.traits is not None:
        return Node("pointwise", old.out, old.out_labels, operands, traits=new.traits)
    if new.offset:
        operands.append((graph.tensor((), "constant", value=np.asarray(new.offset)), ()))
    coefficients = (new.slope, 1.0)[: len(operands)]
    return Node("linear", old.out, old.out_labels, operands, coefficients)


def composites(graph: Graph) -> Iterator[Composite]:
    """The largest composites among the nodes that an output depends on."""
    nodes = graph.live_nodes()
    above: dict[int, Tensor] = {}  # the last tensor that all paths to one come through
    depth: dict[int, int] = {}
    inside: dict[int, Tensor] = {}
    for node in nodes:
        moving = _operands(node)
        if not moving:
            continue
        last = _meeting(moving, above, depth)
        if last is None:
            continue
        first = inside.get(last.number, last)
        if first.has_params:
            above[node.out.number] = last
            depth[node.out.number] = depth.get(last.number, 0) + 1
            inside[node.out.number] = first
    made = {node.out.number: node for node in nodes}
    leaving = {
        t.number
        for node in nodes
        for t, _ in node.operands
        if t.number in inside and inside[t.number] is not inside.get(node.out.number)
    }
    for number in sorted(leaving):
        yield _composite(made, inside[number], made[number].out)


def _meeting(
    tensors: Sequence[Tensor], above: dict[int, Tensor], depth: dict[int, int]
) -> Tensor | None:
    """The last tensor that all paths to any of some come through."""
    a, *others = tensors
    for b in others:
        while a is not b:
            if depth.get(a.number, 0) < depth.get(b.number, 0):
                a, b = b, a
            if a.number not in above:
                return None
            a = above[a.number]
    return a


def _operands(node: Node) -> list[Tensor]:
    """The operands that vary, of a node that acts entry by entry; else none."""
    moving = [(t, labels) for t, labels in node.operands if constant_number(t) is None]
    known = {
        "linear": True,
        "product": not node.frozen,
        "equal": node.name in ("select", "max", "min", "clamp"),
        "pointwise": node.name != "positive" and function_of(node) is not None,
    }
    if not known.get(node.kind) or any(labels != node.out_labels for _, labels in moving):
        return []
    return [t for t, _ in moving]


def _composite(made, source, out):
    """A composite with its nodes stripped of their indices, in order."""
    keep, waiting = {}, [out]
    while waiting:
        tensor = waiting.pop()
        if tensor is not source and tensor.number in made and tensor.number not in keep:
            keep[tensor.number] = made[tensor.number]
            waiting += [t for t, _ in made[tensor.number].operands]
    bare = [
        Node(
            n.kind,
            n.out,
            (),
            [(t, ()) for t, _ in n.operands],
            coefficients=n.coefficients,
            guides=n.guides,
            traits=n.traits,
            name=n.name,
        )
        for n in made.values()
        if n.out.number in keep
    ]
    return Composite(source, out, tuple(bare))


def _text(composite):
    """Composites with the same text are the same function."""
    numbers = {composite.source.number: 0}
    rows = []
    for node in composite.nodes:
        operands = [numbers.get(t.number, (constant_number(t),)) for t, _ in node.operands]
        numbers[node.out.number] = len(numbers)
        rows.append((node.kind, node.name, node.traits, node.coefficients, node.guides, operands))
    return repr(rows)


# -- what a composite is ----------------------------------------------------------------------


@dataclass(frozen=True)
class Probed:
    """What was found: ``traits``, or a ``slope`` and an ``offset`` where they are None."""

    what: str
    traits: Traits | None
    slope: float = 0.0
    offset: float = 0.0


def classify(composite: Composite) -> Probed | None:
    """What a composite is beyond what its rules say; None where they say as much."""
    if all(node.kind == "linear" for node in composite.nodes):
        return None
    degree, sign = (by_rules(composite, modulus) for modulus in (0, 2))
    parity = None if sign is None else int(sign)
    points = _points(composite)
    row = evaluate(composite.nodes, composite.source, points)
    line = _line(points, *row)
    if line is not None:
        return Probed("affine", None, *line)
    found = []
    if degree is None:
        degree = _degree(points, *row)
        found += [] if degree is None else [f"degree {degree}"]
    if parity is None:
        parity = _parity(points, *row)
        found += [] if parity is None else [("even", "odd")[parity]]
    if not found:
        return None
    return Probed(" ".join(found), Traits(degree, parity, probed=True))


def by_rules(composite: Composite, modulus: int) -> Fraction | None:
    """The degree (or the parity) that the rules of the primitives give; None if they give none."""
    unknown = composite.source.number, frozenset()
    scales = Scales([], [], modulus, loose=False)
    scales.forms[composite.source.number] = {frozenset(): {unknown: Fraction(1)}}
    for node in composite.nodes:
        scales.read(node)
    if unknown in scales.relations.rows:
        return None
    row = scales.form(composite.out).get(frozenset(), {})
    return row.get(unknown, Fraction(0))


def _points(composite):
    """Zero, then x and -x in turns: many sizes, and the neighbourhood of the numbers inside."""
    rng = np.random.default_rng(0)  # so that no grid has the period of a function
    numbers = [c for n in composite.nodes for c in n.coefficients]
    numbers += [constant_number(t) for n in composite.nodes for t, _ in n.operands]
    inside = np.array([abs(x) for x in dict.fromkeys(numbers) if x and np.isfinite(x)])
    inside = inside[:MOST_NUMBERS]
    pairs = np.array([(a, b) for a, b in combinations(inside, 2)]).reshape(-1, 2).T
    with np.errstate(all="ignore"):
        ratios = np.divide.outer(inside, inside).reshape(-1)
        base = [inside, 1 / inside, ratios, pairs[0] + pairs[1], (pairs[0] + pairs[1]) / 2]
        base += [np.abs(pairs[0] - pairs[1]), pairs[0] * pairs[1], inside**2, np.sqrt(inside)]
        base += [np.abs(np.log(inside)), np.exp(inside)]
    special = np.concatenate(base)
    special = special[(special > 1e-40) & (special < 1e40)]
    near = np.multiply.outer(special, [1, 1 - 1e-6, 1 + 1e-6, 0.99, 1.01, 0.7, 1.5]).reshape(-1)
    wide = 10.0 ** rng.uniform(-30, 30, 1200)
    used = 10.0 ** rng.uniform(-3, 3, 800)
    half = np.concatenate([[1.0, 2.0], near, wide, used, rng.uniform(0, 20, 400)])
    return np.concatenate([[0.0], np.stack([half, -half], 1).reshape(-1)])


def _clear(points, size, error):
    """Whether nearly all values where functions are used are known to many digits."""
    used = (np.abs(points) >= INNER) & (np.abs(points) <= OUTER)
    return np.mean(error[used] <= CLEAR * size[used]) >= 0.9


def _line(x, y, e):
    """(slope, offset) of an affine function."""
    offset = 0.0 if abs(y[0]) <= SLACK * e[0] else float(y[0])
    slope = float(y[1] - y[2]) / 2
    known = np.all(np.isfinite(y)) and np.isfinite(e[0])
    if not known or not abs(slope) > 1e3 * SLACK * (e[1] + e[2]):
        return None
    parts = np.abs(slope * x), abs(offset)
    allowed = e + e[0] + (e[1] + e[2]) * np.abs(x) + 4 * EPS * (parts[0] + parts[1])
    fits = np.all(np.abs(y - (slope * x + offset)) <= SLACK * allowed)
    return (slope, offset) if fits and _clear(x, parts[0] + parts[1], e) else None


def _degree(x, y, e):
    """The degree k of a function with f(c z) = c^k f(z) for all c > 0."""
    ends = y[[1, 2]]  # at 1 and -1
    defined = np.isfinite(ends)
    if not np.any(ends[defined]):
        return None
    if np.any(e[[1, 2]][defined] > CLEAR * np.max(np.abs(ends[defined]))):
        return None  # a kink where all the rest is compared with: nothing would contradict
    side = int(np.argmax(np.where(defined, np.abs(ends), 0.0)))
    with np.errstate(all="ignore"):
        slope = np.log2(np.abs(y[3 + side] / ends[side]))  # at 2 or -2
    if not np.isfinite(slope):
        return None
    degree = Fraction(float(slope)).limit_denominator(60)
    power = float(degree)
    if abs(power - slope) > 1e-6 or (degree > 0 and not abs(y[0]) <= SLACK * e[0]):
        return None
    for k in (0, 1):
        part = slice(1 + k, None, 2)
        r, value, error = np.abs(x[part]), y[part], e[part]
        if not defined[k]:
            if np.any(np.isfinite(value)):
                return None
            continue
        with np.errstate(all="ignore"):
            scale = r**power
            expected = ends[k] * scale
            allowed = error + e[1 + k] * scale + 4 * EPS * np.abs(expected)
            allowed += 4 * EPS * np.abs(power * np.log(r) * expected)
        inside = (scale > 1e-290) & (scale < 1e290)
        fits = np.isfinite(value) & (np.abs(value - expected) <= SLACK * allowed)
        if not np.all(fits[inside]) or not _clear(r, np.abs(value), error):
            return None
    return degree


def _parity(x, y, e):
    """1 for an odd function, 0 for an even one."""
    r, (right, left), error = x[1::2], (y[1::2], y[2::2]), e[1::2] + e[2::2]
    there = np.isfinite(right)
    if np.any(there != np.isfinite(left)) or not np.all(there[r <= OUTER]):
        return None
    if not _clear(r, np.abs(right) + np.abs(left), error):
        return None
    fits = lambda sign: np.all(np.abs(right + sign * left)[there] <= SLACK * error[there])
    if fits(-1):
        return 0
    return 1 if fits(1) and abs(y[0]) <= SLACK * e[0] else None

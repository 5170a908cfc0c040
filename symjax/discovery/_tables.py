"""From a graph to the table of its symmetries: every channel is asked, and each may fail alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ._assembly import Assembly
from ._graph import Graph, Tensor, describe_error, leaves_of
from ._phases import Phases
from ._probing import probe
from ._reasons import reasons
from ._report import CAST, EPSILON, Symmetries, Symmetry
from ._scales import Scales
from ._shift_tables import ShiftTables
from ._shifts import Shifts
from ._spaces import Spaces


class Attempts:
    """Runs the channels: an error inside of one costs what it would have listed, and is named."""

    def __init__(self):
        self.failed: list[str] = []

    def __call__(self, name: str, channel: Callable[..., Any], default: Any) -> Any:
        """What a channel gives, or ``default``."""
        try:
            return channel()
        except Exception as error:
            self.failed.append(f"{name} ({describe_error(error)})")
            return default


def tabulate(graph: Graph, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> Symmetries:
    """The table of a graph, with what is found by evaluating functions of one number."""
    attempt = Attempts()
    proved = _assemble(graph, names, shapes, attempt)
    probed = attempt("probing", lambda: probe(graph), {})
    again = Attempts()
    found = _assemble(graph, names, shapes, again) if probed else proved
    attempt.failed += [name for name in again.failed if name not in attempt.failed]
    if probed and not again.failed and found.dimension >= proved.dimension:
        proved = _with_probed(proved, found, probed, names)
    failed = dict.fromkeys(attempt.failed, tuple(names))
    return replace(proved, unknown=proved.unknown | failed)


def _assemble(graph: Graph, names, shapes, attempt: Attempts) -> Symmetries:
    nodes = graph.live_nodes()
    assembly = Assembly(nodes, graph, names, shapes)
    items: list[Symmetry] = []
    found, made = attempt("changes of basis", lambda: _bases(assembly), ([], []))
    items += made
    angles = attempt("angles", lambda: Phases(nodes, graph.outputs).solutions(), {})
    scales = lambda: _scales(assembly, found, angles)
    made, turned, ledger, overlap = attempt("scales", scales, ([], [], None, 0))
    items += made
    if ledger is not None:
        items += attempt("scales up to epsilon", lambda: _loose_scales(assembly, ledger), [])
    items += attempt("signs", lambda: _signs(assembly, found, turned), [])
    made, shared, given_up = attempt("shifts", lambda: _shifts(assembly, found), ([], 0, {}))
    items += made
    items += attempt("unused leaves", lambda: ShiftTables(assembly).unused(), [])
    items += attempt("permutations", lambda: assembly.permutations(found), [])
    unknown = {
        name: tuple(sorted({names[i] for t in tensors for i in leaves_of(t)}))
        for name, tensors in graph.unknown.items()
    }
    unknown |= {why: tuple(sorted(names[i] for i in held)) for why, held in given_up.items()}
    why = attempt("reasons", lambda: reasons(assembly), {})
    sizes = {name: math.prod(shape) for name, shape in zip(names, shapes, strict=True)}
    return Symmetries(tuple(items), unknown, overlap + shared, sizes, why)


def _bases(assembly: Assembly):
    """(spaces with a group, their symmetries)."""
    spaces = Spaces(assembly.nodes, assembly.graph.outputs)
    found = assembly.spaces(spaces)
    return found, [assembly.basis_symmetry(entry, spaces) for entry in found]


def _scales(assembly: Assembly, found, angles):
    """(symmetries, those of pairs that turn, what is accounted for, directions counted twice)."""
    exact = Scales(assembly.nodes, assembly.graph.outputs, 0, loose=False).solutions()
    turned = assembly.complex_scales(angles, exact)
    items, overlap = [symmetry for symmetry, _, _ in turned], 0
    ledger = assembly.ledger(0, found)
    for symmetry, kind, row in turned:
        # Pairs that turn by one angle: their scales are in a change of basis as well.
        if not ledger.span(kind).reduce(row):
            overlap += symmetry.group.dimension // 2
        assembly.account(ledger, kind, row)
    items += assembly.diagonal(exact, ledger, assembly.scale_symmetry)
    return items, turned, ledger, overlap + ledger.listed - ledger.independent


def _loose_scales(assembly: Assembly, ledger):
    """What more there is where the epsilons of norms are left out, and where casts keep all."""
    some = any(getattr(node.traits, "narrowing", False) for node in assembly.nodes)
    items = []
    for casts, up_to in ((False, EPSILON), (True, CAST))[: 1 + some]:
        loose = Scales(assembly.nodes, assembly.graph.outputs, 0, loose=True, casts=casts)
        make = lambda kind, row, up_to=up_to: assembly.scale_symmetry(
            kind, row, exact=False, up_to=up_to
        )
        items += assembly.diagonal(loose.solutions(), ledger, make)
    return items


def _signs(assembly: Assembly, found, turned):
    ledger = assembly.ledger(2, found)
    for _, kind, row in turned:
        assembly.account(ledger, kind, row)
    signs = Scales(assembly.nodes, assembly.graph.outputs, 2, loose=False).solutions()
    return assembly.diagonal(signs, ledger, assembly.sign_symmetry)


def _shifts(assembly: Assembly, found):
    """(symmetries, directions counted twice, what was too long to follow)."""
    graph, tables = assembly.graph, ShiftTables(assembly)
    ledger = assembly.ledger(0, ())
    channel = Shifts(assembly.nodes, graph.outputs, graph.stacked)
    shifts = tables.without_tied(channel.solutions())
    special = tables.special(shifts)
    items = assembly.diagonal(shifts, ledger, tables.symmetry, tables.lower, special)
    overlap = ledger.listed - ledger.independent
    for entry in found:
        if tables.contain([index[0] for index, _, _ in entry.indices], shifts):
            overlap += entry.group.dimension
    return items, overlap, channel.given_up


def _with_probed(
    proved: Symmetries, found: Symmetries, probed: dict[str, list[Tensor]], names: Sequence[str]
) -> Symmetries:
    """What is found with the help of probed functions; what was proved without them is so named."""
    behind = {
        name: {names[i] for t in sources for i in leaves_of(t)} for name, sources in probed.items()
    }
    items = []
    for s in found:
        if s not in proved.items:
            reasons = tuple(name for name, leaves in behind.items() if leaves & set(s.leaves))
            s = replace(s, probed=reasons or tuple(probed))
        items.append(s)
    return replace(found, items=tuple(items))

"""What a loop carries may shift unseen: by anything that is constant along an index.

A layer norm does not see what is added alike to all features. So what one step of a scan over
layers adds alike to the stream, whatever it is, no later step sees, if each reads the stream behind
such norms. This is proved by induction over the steps: let the state be shifted by a function of
its other indices, of which nothing is known. If that is seen nowhere in the step, each step may add
more of its kind.
"""

from collections.abc import Iterable, Sequence

from ._elimination import Relations
from ._graph import Node, Tensor
from ._monomials import Monomial, canonical


def is_unseen(monomial: Monomial) -> bool:
    """Whether a monomial is, or has as its free function, an unseen shift."""
    kind = monomial.shift[0][1]
    return bool(kind) and kind[0] == "unseen"


class Unseen:
    """For each carry the indices along which its shift may be constant and so unseen."""

    def __init__(self, nodes: Iterable[Node]):
        states = [node.operands[0][0] for node in nodes if node.name == "carry"]
        self.along = {t.number: {p for p, a in enumerate(t.atoms) if a.size > 1} for t in states}

    def among(self, tensor: Tensor, monomials: Sequence[Monomial]) -> list[Monomial]:
        """The shifts of a carry: the unseen ones, and of those given what these do not cover."""
        positions = range(len(tensor.atoms))
        kept = [m for m in monomials if not self._covers(tensor, m.labels)]
        for p in sorted(self.along.get(tensor.number, ())):
            what = ("shift", ("unseen", tensor.number, p))
            kept.append(canonical([(what, 1, tuple(q for q in positions if q != p))]))
        return kept

    def _covers(self, tensor, positions):
        return any(p not in positions for p in self.along.get(tensor.number, ()))

    def rest(self, state: Tensor, labels: Sequence[int], form: dict) -> dict:
        """What a step adds to a carry beside what is unseen."""
        seen = lambda m: {p for p, label in enumerate(labels) if label in m.labels}
        return {m: row for m, row in form.items() if not self._covers(state, seen(m))}

    def refute(self, relations: Relations) -> bool:
        """Drop what some equation of a walk constrains; whether there was any."""
        used = {u[1] for row in relations.rows.values() for u in row}
        seen = {m.shift[0][1][1:] for m in used if is_unseen(m)}
        for number, p in seen:
            self.along[number].discard(p)
        return bool(seen)

    def forget(self) -> None:
        """Drop everything."""
        self.along = {}

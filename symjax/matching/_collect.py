"""What the axis of a symmetry holds: values of a program along which one model is another moved.

The program tells by itself. One factor moves the parameters, the program is evaluated before and
after, and every value between is compared: where it is moved along an axis as the factor moves a
vector (or a covector), that axis is where the factor's units are. Values that depend on the data
are then compared in two models, by their second moments over batches, which are never stored.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jaxtyping import Array, PyTree

from .._checks import is_floating
from ..discovery import Symmetry
from ..discovery._interpreter import CALLS, inner_program
from ..groups import FixingOnes, Power
from ._places import reflect_ones
from ._relative import model_dtype
from ._solvers import FLOOR, assign
from ._state import State, push
from ._table import Factor, Table

SOLVED = ("permutation", "sign", "orthogonal", "linear")
"""Kinds of factors that activations decide; scales, phases and translations are the weights'."""

CLOSE = 1e-3
"""Values that agree to this part of their size are one: float32 through a deep network."""


@dataclass(frozen=True)
class Holding:
    """The axes of a value along which a factor moves it, and whether as a covector."""

    value: int
    axes: tuple[int, ...]
    covector: bool


class Program:
    """A program whose every value between is an output: those that depend on the data.

    ``readers`` has, for each equation that makes real numbers, the values that it reads and makes.
    """

    def __init__(self, apply: Callable[..., Any], params: PyTree, inputs: Sequence[Any]):
        self.closed = jax.make_jaxpr(apply)(params, *inputs)
        self.readers: list[tuple[set[int], set[int]]] = []
        self.values = jax.jit(self.of)

    def of(self, params: PyTree, inputs: Sequence[Any]) -> list[Array]:
        """Every value between, in the order of the program."""
        self.readers, found = [], []
        leaves = [(x, False, None) for x in jax.tree.leaves(params)]
        leaves += [(x, True, None) for x in jax.tree.leaves(tuple(inputs))]
        self._run(self.closed.jaxpr, self.closed.consts, leaves, found)
        return found

    def _run(self, jaxpr, consts, arguments, found):
        """The outputs as (value, whether it depends on the data, its number among those found)."""
        known: dict[Any, Any] = dict(zip(jaxpr.invars, arguments, strict=True))
        known |= {v: (x, False, None) for v, x in zip(jaxpr.constvars, consts, strict=True)}
        look = lambda v: (v.val, False, None) if isinstance(v, Literal) else known[v]
        for equation in jaxpr.eqns:
            operands = [look(v) for v in equation.invars]
            if equation.primitive.name in CALLS:
                inner = inner_program(equation)
                body, own = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
                results = self._run(body, own, operands, found)
            else:
                results = self._computed(equation, operands, found)
            known |= dict(zip(equation.outvars, results, strict=True))
        return [look(v) for v in jaxpr.outvars]

    def _computed(self, equation, operands, found):
        depends = any(d for _, d, _ in operands)
        functions, options = equation.primitive.get_bind_params(equation.params)
        made = equation.primitive.bind(*functions, *(x for x, *_ in operands), **options)
        results, new = [], set()
        for x in made if equation.primitive.multiple_results else [made]:
            number = None
            if depends and is_floating(x):
                number = len(found)
                new.add(number)
                found.append(x)
            results.append((x, depends, number))
        if new:
            self.readers.append(({n for *_, n in operands if n is not None}, new))
        return results


class Activations:
    """Which values hold the axes of which factors, found at one model on one batch."""

    def __init__(
        self,
        apply: Callable[..., Any],
        table: Table,
        symmetries: Sequence[Symmetry],
        params: PyTree,
        batches: Sequence[Sequence[Any]],
    ):
        self.table, self.batches = table, batches
        self.program = Program(apply, params, batches[0])
        before = [np.asarray(x, np.float64) for x in self.program.values(params, batches[0])]
        self.changed: list[set[int]] = []
        self.holding: list[list[Holding]] = []
        for i, factor in enumerate(table.factors):
            if factor.kind == "shift":
                self.changed.append(set())
                self.holding.append([])
                continue
            g, moved = _one_moved(symmetries, table, i, params)
            after = [np.asarray(x, np.float64) for x in self.program.values(moved, batches[0])]
            rows = list(enumerate(zip(before, after, strict=True)))
            changed = {v for v, (x, y) in rows if not _near(x, y)}
            own = [_held(factor, g, v, x, y) for v, (x, y) in rows if v in changed]
            self.changed.append(changed)
            self.holding.append(self._read_away([h for h in own if h is not None]))
        self._moments = jax.jit(self._sums, static_argnums=2)

    def _read_away(self, held: list[Holding]) -> list[Holding]:
        """Those of a factor's values that are read by what no longer has its axis.

        That is what the rest of the network sees of the units: a value after the nonlinearity, not
        the ones on the way to it.
        """
        numbers = {h.value for h in held}
        away = {v for reads, makes in self.program.readers for v in reads if not makes & numbers}
        return [h for h in held if h.value in away] or held

    def clean(self, i: int, waiting: Iterable[int]) -> list[Holding]:
        """The values of a factor that nothing else moves that is not yet known.

        Scales do not count along the same axis: rows are normalised. Nor do signs, if the factor
        permutes: then sizes of correlations are compared.
        """
        found = []
        for held in self.holding[i]:
            others = [j for j in waiting if j != i and held.value in self.changed[j]]
            others += [
                j
                for j, f in enumerate(self.table.factors)
                if f.kind in ("scale", "complex") and held.value in self.changed[j]
            ]
            if all(self._harmless(i, j, held) for j in others):
                found.append(held)
        return found

    def _harmless(self, i, j, held):
        kinds = self.table.factors[i].kind, self.table.factors[j].kind
        along = any(h.value == held.value and h.axes == held.axes for h in self.holding[j])
        allowed = ("scale", "sign") if kinds[0] == "permutation" else ("scale",)
        return along and kinds[0] in ("permutation", "sign") and kinds[1] in allowed

    def matched(
        self,
        a: PyTree,
        state: State,
        device: Callable[[State], PyTree],
        kinds: Iterable[str] = SOLVED,
        isometric: bool = False,
    ) -> tuple[State, list[int], list[int]]:
        """(the state matched to A, the factors that were solved for, those that could not be).

        Factor after factor, each once all that also moves its values is known. ``isometric`` takes
        rotations for matrices of GL as well.
        """
        waiting = [i for i, f in enumerate(self.table.factors) if f.kind in kinds and f.n > 1]
        waiting += [i for i, f in enumerate(self.table.factors) if f.kind == "sign" and f.n == 1]
        solved = []
        while ready := {i: held for i in waiting if (held := self.clean(i, waiting))}:
            moments = self.moments(a, device(state), ready)
            for i, held in ready.items():
                signed = any(self.table.factors[j].kind == "sign" for j in waiting)
                h = _solved(self.table.factors[i], held, moments[i], isometric, signed)
                if h is None:
                    continue
                state = push(self.table, state, i, h)
                solved.append(i)
            waiting = [i for i in waiting if i not in ready]
        left = [i for i, f in enumerate(self.table.factors) if f.kind in kinds and i not in solved]
        return state, solved, left

    def moments(self, a: PyTree, b: PyTree, ready: dict[int, list[Holding]]):
        """Sums over all batches of products of what A and B hold, for every factor."""
        chosen = tuple((i, tuple(held)) for i, held in ready.items())
        total: Any = None
        for batch in self.batches:
            new = self._moments(a, b, chosen, batch)
            new = jax.tree.map(lambda x: np.asarray(x, np.float64), new)
            total = new if total is None else jax.tree.map(np.add, total, new)
        return total

    def _sums(self, a, b, chosen, batch):
        of_a, of_b = self.program.of(a, batch), self.program.of(b, batch)
        found = {}
        for i, held in chosen:
            rows = []
            for one in held:
                x, y = (_rows(self.table.factors[i], one.axes, z[one.value]) for z in (of_a, of_b))
                product = lambda p, q: jnp.matmul(p, q.mT, precision=jax.lax.Precision.HIGHEST)
                number = jnp.asarray(float(x.shape[-1]), x.dtype)
                sums = product(x, y), product(x, x), product(y, y), x.sum(-1), y.sum(-1)
                rows.append((*sums, number))
            found[i] = rows
        return found


def _one_moved(symmetries, table, i, params):
    """(an element of one factor, parameters moved by it alone)."""
    factor = table.factors[i]
    group: Any = symmetries[factor.symmetry].group
    key = jax.random.key(i)
    dtype = model_dtype(params)
    g: Any = factor.group.random(key, scale=0.3, dtype=dtype)
    if factor.kind == "permutation":  # a random one may leave a small axis as it is
        g = factor.group.compose(jnp.roll(factor.group.identity(), 1, -1), g)
        g = jnp.where((g == factor.group.identity()).all(), jnp.roll(g, 1, -1), g)
    if factor.kind == "sign":
        g = -factor.group.identity(dtype)
        g = g.at[..., ::2].set(1) if factor.n > 1 else g
    entries = list(group.entries(group.identity(dtype)))
    entries[factor.number] = g
    return g, symmetries[factor.symmetry].action(group.element(tuple(entries)), params)


def _near(x, y):
    size = max(np.abs(x).max(initial=0), np.abs(y).max(initial=0), 1e-30)
    return x.shape == y.shape and np.abs(x - y).max(initial=0) <= CLOSE * size


def _held(factor: Factor, g: Any, value: int, x: np.ndarray, y: np.ndarray) -> Holding | None:
    """Where a factor moved a value along, if it did."""
    shape = factor.group.axis_size
    if shape is None:
        return None
    count = factor.count
    g = jax.tree.map(lambda e: e.astype(jnp.float32) if is_floating(e) else e, g)
    axes = [(k,) for k, n in enumerate(x.shape) if n == shape]
    if count > 1:
        pairs = itertools.permutations(range(x.ndim), 2)
        axes += [p for p in pairs if (x.shape[p[0]], x.shape[p[1]]) == (count, shape // count)]
    for axis in axes:
        front = [np.moveaxis(z, axis, range(len(axis))) for z in (x, y)]
        before, after = (z.reshape(shape, -1) for z in front)
        for representation in ("vector", "covector"):
            moved = factor.group.act(g, jnp.asarray(before, jnp.float32), representation)
            if _near(np.asarray(moved, np.float64), after):
                return Holding(value, axis, representation == "covector")
    return None


def _rows(factor, axes, z):
    """A value as (fibres, n, samples)."""
    front = jnp.moveaxis(z, axes, range(len(axes)))
    size = factor.group.axis_size
    return front.reshape(factor.count, size // factor.count, -1)


def _solved(factor, held, moments, isometric, signed):
    """The element of one factor that brings what B holds nearest to what A holds."""
    cross: Any = 0.0
    grams: Any = 0.0
    for one, (ab, aa, bb, sum_a, sum_b, number) in zip(held, moments, strict=True):
        if factor.kind in ("permutation", "sign"):
            ab = ab - sum_a[..., :, None] * sum_b[..., None, :] / number
            sizes = []
            for gram, total in ((aa, sum_a), (bb, sum_b)):
                square = np.diagonal(gram, axis1=-2, axis2=-1) - total**2 / number
                sizes.append(np.sqrt(np.maximum(square, 0)))
            floor = [1e-6 * max(s.max(initial=0), 1e-30) for s in sizes]
            scale = [np.where(s > f, s, np.inf) for s, f in zip(sizes, floor, strict=True)]
            ab = ab / scale[0][..., :, None] / scale[1][..., None, :]
            cross = cross + (np.abs(ab) if signed and factor.kind == "permutation" else ab)
            continue
        if isinstance(_inner(factor.group), FixingOnes):
            ab, bb = (_mirrored(m) for m in (ab, bb))
        if one.covector and factor.kind == "linear" and not isometric:
            continue
        trace = lambda m: np.trace(m, axis1=-2, axis2=-1)[..., None, None]
        weight = 1 / np.maximum(np.sqrt(trace(aa) * trace(bb)), 1e-30)
        cross, grams = cross + weight * ab, grams + weight * bb
    if np.ndim(cross) == 0:
        return None
    if factor.kind == "permutation":
        return assign(cross)
    if factor.kind == "sign":
        signs = np.diagonal(cross, axis1=-2, axis2=-1)
        return np.where(signs < 0, -1.0, 1.0)
    if factor.kind == "orthogonal" or isometric:
        left, _, right = np.linalg.svd(cross)
        return left @ right
    values = np.linalg.eigvalsh(grams)
    if (values[..., 0] < FLOOR * values[..., -1]).any():
        return None  # some direction is never active: nothing says where it goes
    h = cross @ np.linalg.inv(grams)
    return h if np.linalg.cond(h).max() < FLOOR**-0.5 else None


def _inner(group):
    return group.group if isinstance(group, Power) else group


def _mirrored(m):
    return reflect_ones(reflect_ones(m).mT).mT[:, 1:, 1:]

"""What discovery lists is evaluated before it is returned: a row that changes an output is dropped.

The model itself is evaluated in float64, by the interpreter, at generic parameters and at ones near
to those that were given. All rows are applied at once; only where an output changes they are tried
one by one. What counts as a change is measured: a thousand times what rounding can do.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import is_concrete, is_floating
from .._generic import generic_params
from ._graph_check import Reading, arguments, small_rows
from ._interpreter import OVERHEAD, Interpreter, equations, host, operations
from ._mover import MOST_COMPONENTS, Draw, Leaves, move
from ._report import Symmetries, Symmetry

#: Operations that the check may take for each equation of the program: it stays below twice the
#: time of reading, which is about 2 ms for an equation, where NumPy does 1e9 operations a second.
ALLOWED = 4e6
#: Programs with fewer equations are as if they had these many: what reading takes in any case.
FEWEST = 10
#: Evaluations of the model beside those after a move: at two places, and again if one must look.
EVALUATIONS = 4
#: With so many elements of each group at least: with either determinant.
FEWEST_DRAWS = 2
#: Outputs may change by so many eps of their size.
SLACK = 4e4
#: Beside that, by so many times what a relative change of the parameters by 4,000 eps does.
NOISE = 4e3, 100.0
#: They are made so often; entries that they change by more than this share are not looked at.
SHAKES, UNCLEAR = 8, 1e-6
#: Of tangent vectors: with more numbers than this they are not drawn.
MOST_NUMBERS = 1e7
#: Places at which they are drawn, and at which a graph is evaluated.
PLACES = 3


@dataclass(frozen=True)
class Place:
    """Parameters and arrays of inputs at which a model is evaluated."""

    leaves: Leaves
    data: list[Any]


def checked(
    found: Symmetries,
    jaxpr: Any,
    leaves: dict[str, Any],
    data: Sequence[Any],
    read: Reading | None = None,
) -> Symmetries:
    """What is left of the symmetries of a program of (leaves, data), with what that rests on.

    Exact ones are evaluated by the model, or where it is too large by the graph that was ``read``;
    those up to epsilon by the graph without the epsilons.
    """
    allowed = ALLOWED * max(FEWEST, sum(1 for _ in equations(jaxpr.jaxpr)))
    if not found.exact:
        false, said = [], "there is nothing exact to check"
    else:
        draws = _draws(found.exact)
        if _work(found.exact, jaxpr, leaves, draws) > allowed:
            draws = FEWEST_DRAWS
        work = _work(found.exact, jaxpr, leaves, draws)
        why = f"the model takes about {work:.0e} operations, more than {allowed:.0e}"
        if work > allowed and read is not None:
            false, said = _attempt(lambda: _by_graph(found.exact, read, allowed, loose=False), why)
        elif work > allowed:
            false, said = [], f"not at all: {why}"
        else:
            false, said = _attempt(lambda: _by_model(found.exact, jaxpr, leaves, data, draws))
    if found.approximate and read is not None:
        loose, also = _attempt(lambda: _by_graph(found.approximate, read, allowed, loose=True))
        false = [*false, *loose]
        if also.startswith("not at all"):
            said += f"; what is approximate {also}"
    return without(found, false, leaves, said)


def _attempt(evaluate, why=""):
    """(false rows, how that was found): the check is no reason not to return what was proved."""
    try:
        return evaluate()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        return [], f"not at all: {why}{'; ' if why else ''}{reason}"


def _draws(rows):
    """How many elements meet each component of groups that have few."""
    counts = [s.group.number_of_components for s in rows]
    return max([FEWEST_DRAWS, *(int(n) for n in counts if n <= MOST_COMPONENTS)])


def _by_model(rows, jaxpr, leaves, data, draws):
    model = Interpreter(jaxpr)
    false = _refuted(rows, model, _places(model, leaves, data), draws)
    if model.eps > np.finfo(np.float64).eps:
        return false, f"by the model, up to an eps of {model.eps:.0e}"
    return false, "by the model, in float64"


def _by_graph(rows, read, allowed, *, loose):
    draws = max(PLACES, _draws(rows))
    model = read.small(allowed / (PLACES + draws), loose=loose)
    small, left = small_rows(rows, model.leaves, read.bases)
    places = []
    for seed, positive in enumerate((False, False, True)):
        place = Place(*arguments(model, seed, positive=positive))
        before = model([*place.leaves.values(), *place.data])
        if any(np.any(np.isfinite(x)) for x in before if x.size):
            places.append((place, before))
    if not places:
        raise ArithmeticError("no output of its graph is finite at random parameters")
    refuted = _refuted([s for _, s in small], model, places, draws)
    false = [row for row, s in small if any(s is f for f in refuted)]
    said = "by the graph that was read, with every index set at size 2 or 3"
    if left:
        rows = "1 row whose block was" if len(left) == 1 else f"{len(left)} rows whose blocks were"
        said += f"; but for {rows} not read as such"
    return false, said


def without(
    found: Symmetries, false: Sequence[Symmetry], leaves: dict[str, Any], said: str
) -> Symmetries:
    """The symmetries but for the false ones; the dimension is less by what only those moved."""
    if not false:
        return replace(found, checked=said)
    kept = lambda items: [s for s in items if not any(s is f for f in false)]
    left = replace(found, items=tuple(kept(found.items)), false=tuple(false), checked=said)
    if sum(found.sizes.values()) * sum(s.dimension for s in found.exact) > MOST_NUMBERS:
        return left  # what groups share is then not counted again: the dimension may be too small
    fields = tangents(found.exact, leaves, PLACES)
    rest = [t for s, t in zip(found.exact, fields, strict=True) if kept([s])]
    lost = _rank(fields) - _rank(rest)
    dimension = found.dimension - lost
    return replace(left, overlap=sum(s.dimension for s in left.exact) - dimension)


def _work(exact, jaxpr, leaves, draws):
    """About how many operations the check takes."""
    moves = 0.0
    for s in exact:
        for leg in getattr(s.action, "base", s.action).legs:
            size = float(np.prod(leaves[str(leg.leaf)].shape))
            n = getattr(s.group, "n", None) or 1
            moves += OVERHEAD + (20 + (n if s.dimension > n else 0)) * size
    return (EVALUATIONS + draws) * operations(jaxpr.jaxpr) + draws * moves


# -- places -----------------------------------------------------------------------------------


def _places(model, leaves, data):
    """Two places at which the outputs are finite: a random one, and one near to what was given."""
    rng = np.random.default_rng(0)
    ids = _fewest_rows(model.closed.jaxpr)
    free = lambda: Place(*_drawn(leaves, data, rng, ids, near=False))
    near = lambda: Place(*_drawn(leaves, data, rng, ids, near=True))
    given = lambda: Place(near().leaves, _as_given(data, rng, ids))
    places = []
    for choices in ((free, near, given), (near, given)):
        for choice in choices:
            place = choice()
            before = model([*place.leaves.values(), *place.data])
            if all(np.all(np.isfinite(x)) for x in before if x.dtype.kind in "fc"):
                break
        if any(np.any(np.isfinite(x)) for x in before if x.size):
            places.append((place, before))
    if not places:
        raise ArithmeticError("no output is finite at random parameters")
    return places


def _drawn(leaves, data, rng, ids, near):
    wide = {name: _wide(x) for name, x in leaves.items()}
    if near:
        drawn = {name: generic_params(x, rng) for name, x in wide.items()}
        return drawn, [_input(x, rng, ids, near) for x in data]
    drawn = {name: np.asarray(0.7 * rng.standard_normal(x.shape)) for name, x in wide.items()}
    return drawn, [_input(x, rng, ids, near) for x in data]


def _wide(x):
    if is_concrete(x) and not isinstance(x, jax.ShapeDtypeStruct):
        return host(x)
    return jax.ShapeDtypeStruct(x.shape, np.float64)


def _input(x, rng, ids, near):
    """An input at random: of the kind, the range and, near to what was given, the sign it has."""
    abstract = isinstance(x, jax.ShapeDtypeStruct) or not is_concrete(x)
    if jnp.issubdtype(x.dtype, jnp.inexact):
        if near and not abstract and is_floating(x):
            return generic_params(host(x), rng)
        noise = rng.standard_normal(x.shape)
        real = is_floating(x)
        return noise if real else noise + 1j * rng.standard_normal(x.shape)
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return jax.random.split(jax.random.key(0), x.shape) if abstract else x
    if abstract:
        return rng.integers(0, 2 if x.dtype == np.bool_ else ids, x.shape).astype(x.dtype)
    values = np.asarray(x)
    if x.dtype == np.bool_ or not values.size:
        return values
    low, high = int(values.min()), int(values.max())
    return rng.integers(low, high + 1, x.shape, np.int64).astype(x.dtype)


def _as_given(data, rng, ids):
    fixed = lambda x: is_concrete(x) and not isinstance(x, jax.ShapeDtypeStruct)
    return [host(x) if fixed(x) else _input(x, rng, ids, near=True) for x in data]


def _fewest_rows(jaxpr):
    """How many rows the smallest table has: whole numbers below that name rows of every table."""
    sizes = [
        equation.invars[0].aval.shape[a]
        for equation, _ in equations(jaxpr)
        if equation.primitive.name == "gather"
        for a in equation.params["dimension_numbers"].start_index_map
    ]
    return max(1, min(sizes, default=2))


# -- rows -------------------------------------------------------------------------------------


def _refuted(rows, model, places, draws):
    """The rows that change an output, by so many elements of each."""

    def holds(chosen: Iterable[Symmetry]) -> bool:
        actions = [s.action for s in chosen]
        at = lambda number: places[number % len(places)]
        return all(unchanged(model, actions, *at(number), number=number) for number in range(draws))

    if holds(rows):
        return []
    return [s for s in rows if not holds([s])]


def unchanged(
    model: Any, actions: Sequence[Any], place: Place, before: list[np.ndarray], number: int
) -> bool:
    """Whether a random element of every action together leaves the outputs as they are.

    Odd numbers ask for negative determinants, and each for another component where there are few.
    """
    rng = np.random.default_rng(1 + number)
    draw = Draw(rng, reflected=bool(number % 2), component=number)
    moved = move(actions, place.leaves, draw)
    evaluate = lambda leaves: model([*leaves.values(), *place.data])
    after = evaluate(moved)
    changes, sizes = _differences(before, after), [_size(x) for x in before]
    if all(np.all(c <= SLACK * model.eps * n) for c, n in zip(changes, sizes, strict=True)):
        return True
    step, times = NOISE
    noise = [np.zeros_like(c) for c in changes]
    for leaves, outputs in ((place.leaves, before), (moved, after)) * SHAKES:
        shaken = {
            name: x * (1 + step * model.eps * rng.choice([-1.0, 1.0], x.shape))
            for name, x in leaves.items()
        }
        seen = _differences(outputs, evaluate(shaken))
        noise = [np.maximum(a, b) for a, b in zip(noise, seen, strict=True)]
    for c, n, e in zip(changes, sizes, noise, strict=True):
        # What rounding decides (0 / 0 where a sample is constant) says nothing.
        clear = e <= UNCLEAR * n
        allowed = SLACK * model.eps * n + times * np.max(e[clear], initial=0.0)
        if np.any(c[clear] > allowed):
            return False
    return True


def _differences(before, after):
    """The change of each output, entry by entry; infinite where a number becomes none."""
    result = []
    for a, b in zip(before, after, strict=True):
        a, b = (x.astype(np.float64) if x.dtype.kind in "iub" else x for x in (a, b))
        known = np.isfinite(a)
        change = np.abs(np.where(known, b, 0.0) - np.where(known, a, 0.0))
        result.append(np.where(np.isnan(change), np.inf, change))
    return result


def _size(x):
    x = np.abs(x.astype(np.float64) if x.dtype.kind in "iub" else x)
    return float(np.max(np.where(np.isfinite(x), x, 0.0), initial=0.0))


# -- the count of what is left ----------------------------------------------------------------


def tangents(exact: Sequence[Symmetry], leaves: dict[str, Any], number: int) -> list[np.ndarray]:
    """For each symmetry as many random vector fields, at some places, as it has dimensions.

    At one place alone a wide linear layer hides part of its group.
    """
    rng = np.random.default_rng(0)
    names = sorted({name for s in exact for name in s.leaves})
    draw = lambda: {name: rng.standard_normal(x.shape) for name, x in leaves.items()}
    places, step = [draw() for _ in range(number)], 1e-6
    width = number * sum(places[0][name].size for name in names)
    result = []
    for s in exact:
        rows = [np.zeros((0, width))]
        for seed in rng.integers(0, 2**31, s.dimension):
            row = []
            for place in places:
                new = move([s.action], place, Draw(np.random.default_rng(seed), step))
                row += [((new[n] - place[n]) / step).ravel() for n in names]
            whole = np.concatenate(row)
            rows.append(whole[None] / max(np.linalg.norm(whole), 1e-300))
        result.append(np.concatenate(rows))
    return result


def _rank(parts):
    rows = np.concatenate(parts) if parts else np.zeros((0, 0))
    # The vectors are differences: right to about the step.
    return int(np.linalg.matrix_rank(rows, tol=1e-4)) if rows.size else 0

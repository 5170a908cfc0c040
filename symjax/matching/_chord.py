"""What learned matching minimises on the chord, and how high the chord rises on held-out data."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval
from jaxtyping import Array, PyTree

from .._checks import describe, is_floating, path_name, require

Objective: TypeAlias = Callable[[PyTree, Any], Any]
"""(params, batch) -> a loss, or outputs to be distilled, or the pair (loss, outputs)."""

Divergence: TypeAlias = Literal["softmax", "squares"] | Callable[..., Array]

EXACT = 1000
"""An end whose outputs change by more than this many eps is no longer the same function."""

TIMES = 11
"""Points of the chord at which it is judged."""


class Ends(NamedTuple):
    """What the two ends make of one batch: losses and outputs, None where there are none."""

    losses: tuple[Any, Any] | None
    outputs: tuple[Any, Any] | None


@dataclass(frozen=True)
class Chord:
    """The objective with its measure of outputs; ``plain`` takes the loss as it is."""

    objective: Objective
    divergence: Divergence
    plain: bool = False

    def parts(self, params: PyTree, batch: Any) -> tuple[Any, Any]:
        """(loss, outputs) of a model on a batch, None for what the objective does not give."""
        found = self.objective(params, batch)
        if isinstance(found, tuple):
            return found
        return (found, None) if found.ndim == 0 else (None, found)

    def ends(self, a: PyTree, b: PyTree, batch: Any) -> Ends:
        """What the ends make of a batch."""
        (loss_a, out_a), (loss_b, out_b) = self.parts(a, batch), self.parts(b, batch)
        losses = None if loss_a is None else (loss_a, loss_b)
        return Ends(losses, None if out_a is None else (out_a, out_b))

    def at(self, t: Array, a: PyTree, b: PyTree, batch: Any, ends: Ends) -> tuple[Array, Array]:
        """(loss above the line between the ends, divergence from their outputs) at one t."""
        loss, outputs = self.parts(between(a, b, t), batch)
        kind = next(x.dtype for x in (loss, outputs) if x is not None)
        excess = apart = jnp.zeros((), kind)
        if ends.losses is not None:
            s = t.astype(loss.dtype)
            excess = loss - (1 - s) * ends.losses[0] - s * ends.losses[1]
        if ends.outputs is not None:
            at_a, at_b = ends.outputs
            apart = self.apart(outputs, at_a, at_b, t.astype(kind)).astype(kind)
        return excess, apart

    def apart(self, outputs: Array, at_a: Array, at_b: Array, t: Array) -> Array:
        """How far outputs are from those between the outputs of the ends."""
        if callable(self.divergence):
            return self.divergence(outputs, at_a, at_b, t)
        if self.divergence == "squares":
            return jnp.mean((outputs - (1 - t) * at_a - t * at_b) ** 2)
        # KL of the mixture of the ends' predictions from that on the chord.
        mixed = (1 - t) * jax.nn.softmax(at_a) + t * jax.nn.softmax(at_b)
        entropy = jax.scipy.special.xlogy(mixed, mixed)
        return jnp.mean(jnp.sum(entropy - mixed * jax.nn.log_softmax(outputs), -1))

    def value(self, excess: Array, apart: Array) -> Array:
        """What is minimised at one point of the chord."""
        return excess if self.plain else jax.nn.relu(excess) + apart


def between(a: PyTree, b: PyTree, t: Array) -> PyTree:
    """The point a + t (b - a) of the chord; leaves that hold no real numbers are those of a."""
    one = lambda x, y: x + t.astype(x.dtype) * (y - x) if is_floating(x) else x
    return jax.tree.map(one, a, b)


class Curve(NamedTuple):
    """The chord on many batches: mean excess over the line, mean divergence, at ``ts``."""

    ts: np.ndarray
    excess: np.ndarray
    apart: np.ndarray
    losses: tuple[float, ...] | None

    @property
    def barrier(self) -> float:
        """The largest excess of the loss over the line; of the divergence where there is none."""
        heights = self.apart if self.losses is None else self.excess
        top = float(np.max(heights))
        return max(top, 0.0) if np.isfinite(heights).all() else float("inf")

    @property
    def height(self) -> float:
        """The mean of what is minimised."""
        found = float(np.mean(np.maximum(self.excess, 0) + self.apart))
        return found if np.isfinite(found) else float("inf")


def checked_batches(batches: Iterable[Any], name: str = "batches") -> list[Any]:
    """Batches as a list; ValueError unless all have one structure and one shape."""
    require(
        isinstance(batches, Iterable) and not isinstance(batches, str | bytes | dict),
        f"`{name}` must be an iterable of batches, got {type(batches).__name__}.",
    )
    found = list(batches)
    require(len(found) > 0, f"`{name}` is empty; expected batches of data.")
    found = [jax.tree.map(jnp.asarray, batch) for batch in found]
    first = _shapes(found[0])
    for i, batch in enumerate(found[1:], 1):
        require(
            _shapes(batch) == first,
            f"`{name}[{i}]` is {_shapes(batch)}; expected batches of one structure and shape, "
            f"{first} as `{name}[0]`. Leave out a last batch that is shorter.",
        )
    return found


def _shapes(batch):
    flat = jax.tree_util.tree_flatten_with_path(batch)[0]
    return ", ".join(f"{path_name(path)} {describe(x)}".strip() for path, x in flat)


def split_batches(batches: Iterable[Any], held_out: Iterable[Any] | None):
    """The batches to learn on and those to judge by: the last quarter where none are named."""
    found = checked_batches(batches)
    if held_out is not None:
        held = checked_batches(held_out, "held_out")
        require(
            _shapes(held[0]) == _shapes(found[0]),
            f"`held_out[0]` is {_shapes(held[0])}; expected {_shapes(found[0])} as `batches[0]`.",
        )
        return found, held
    require(
        len(found) >= 2,
        "`batches` holds one batch; expected two or more, of which the last quarter is held out, "
        "or `held_out` beside it.",
    )
    kept = len(found) - max(1, len(found) // 4)
    return found[:kept], found[kept:]


def require_objective(
    chord: Chord, name_a: str, params: PyTree, batch: Any, moved: Sequence[int]
) -> None:
    """ValueError for an objective that fails, returns no real numbers, or sees no moved leaf."""
    require(
        callable(chord.divergence) or chord.divergence in ("softmax", "squares"),
        f"`divergence` must be 'softmax', 'squares' or a function, got {chord.divergence!r}.",
    )
    try:
        program, shape = jax.make_jaxpr(chord.objective, return_shape=True)(params, batch)
    except Exception as error:
        raise ValueError(
            f"`objective` fails on `{name_a}` and `batches[0]` ({_shapes(batch)}): "
            f"{type(error).__name__}: {error}"
        ) from error
    found = shape if isinstance(shape, tuple) else (shape,)
    known = [x for x in found if x is not None]
    good = len(found) <= 2 and len(known) > 0 and all(map(is_floating, known))
    if isinstance(shape, tuple):
        good = good and len(found) == 2 and (found[0] is None or found[0].shape == ())
    require(
        good,
        "`objective` must return one real number (a loss), an array of outputs, or the pair (loss, "
        f"outputs) with None for no loss, got {shape}.",
    )
    outputs = [x for x in known if x.shape]
    require(
        not outputs or chord.divergence != "softmax" or outputs[0].shape[-1] > 1,
        "`objective` returns outputs with one entry along the last axis, of which a softmax is "
        "constant: give `divergence='squares'`.",
    )
    _, used = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    count = len(jax.tree.leaves(params))
    require(
        any(used[:count]),
        "`objective` does not depend on the parameters: nothing can be learned from it.",
    )
    require(
        any(used[i] for i in moved),
        "`objective` does not depend on any leaf that the symmetries move.",
    )


class Judge:
    """The chord on a list of batches, compiled once."""

    def __init__(self, chord: Chord):
        self.chord = chord
        self._ends = jax.jit(chord.ends)
        self._curve = jax.jit(self._one)

    def _one(self, ts, a, b, batch, ends):
        return jax.lax.map(lambda t: self.chord.at(t, a, b, batch, ends), ts)

    def ends(self, a: PyTree, b: PyTree, batches: Sequence[Any]) -> list[Ends]:
        """What the ends make of every batch."""
        return [self._ends(a, b, batch) for batch in batches]

    def curve(
        self, a: PyTree, b: PyTree, batches: Sequence[Any], ends: Sequence[Ends], samples: int
    ) -> Curve:
        """The chord from a to b on all batches."""
        ts = np.linspace(0, 1, samples)
        dtype = jnp.result_type(float)
        rows = [
            self._curve(jnp.asarray(ts, dtype), a, b, batch, end)
            for batch, end in zip(batches, ends, strict=True)
        ]
        excess, apart = (np.mean([np.asarray(r[i], float) for r in rows], 0) for i in (0, 1))
        losses = None
        if ends[0].losses is not None:
            rows = [e.losses for e in ends if e.losses is not None]
            losses = tuple(float(np.mean([float(r[i]) for r in rows])) for i in (0, 1))
        return Curve(ts, excess, apart, losses)


def exactness(params: PyTree) -> float:
    """How much of itself a function may change that is to stay: 1000 eps, a tenth at most."""
    eps = max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(params) if is_floating(x))
    return min(EXACT * eps, 0.1)


def end_change(ends: Sequence[Ends], new: Sequence[Ends]) -> tuple[float, float]:
    """How much the outputs (or losses) of both ends changed, relative to their size."""
    found = []
    for i in (0, 1):
        gap = size = 0.0
        for before, after in zip(ends, new, strict=True):
            pair = [e.outputs or e.losses or () for e in (before, after)]
            x, y = (np.asarray(p[i], np.float64) for p in pair)
            gap, size = gap + float(np.sum((x - y) ** 2)), size + float(np.sum(x**2))
        found.append(float(np.sqrt(gap / size)) if size > 0 else float(np.sqrt(gap)))
    return found[0], found[1]

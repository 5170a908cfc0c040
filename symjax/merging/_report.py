"""The audit of a merge: loss and accuracy on the way from one model to the other."""

import dataclasses
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._checks import describe, is_floating, require
from .._orbits import norm
from .._results import html_table, printed
from ..barriers import barrier, loss_along
from ..curves import Curve

Metric = Callable[[PyTree], Float[Array, ""]]

ROUNDING = 1e-3
"""Relative: ends of one function differ by less than this, and by another function by more."""


@dataclasses.dataclass(frozen=True)
class MetricAudit:
    """One metric on every path (host-only).

    Attributes:
        along: its values at `MergingReport.times`, a row per path.
        midpoint: its value at the average of the ends, t = 1/2.
        barrier: how much worse than the line between its end values it becomes, at most.
        higher_is_better: whether it is a score; then worse is lower.
    """

    along: Float[np.ndarray, "paths times"]
    midpoint: Float[np.ndarray, " paths"]
    barrier: Float[np.ndarray, " paths"]
    higher_is_better: bool

    __repr__ = printed


@dataclasses.dataclass(frozen=True)
class MergingReport:
    """What `merging_report` measured; print it (host-only).

    Attributes:
        paths: the names of the paths.
        distance: between the ends of each path, over all floating leaves.
        times: the positions of the values on a path, from 0 to 1.
        metrics: the audit of each metric, by its name.
    """

    paths: tuple[str, ...]
    distance: Float[np.ndarray, " paths"]
    times: Float[np.ndarray, " times"]
    metrics: dict[str, MetricAudit]

    @property
    def notes(self) -> tuple[str, ...]:
        """Paths whose end is not the function that the first path ends in, by a metric's value."""
        found = []
        for name, audit in self.metrics.items():
            ends = audit.along[:, -1]
            scale = ROUNDING * max(np.abs(audit.along[0]).max(), 1e-30)
            for path, end in zip(self.paths, ends, strict=True):
                if not abs(end - ends[0]) <= scale:
                    found.append(
                        f"'{path}' ends in another function than '{self.paths[0]}': {name} "
                        f"{end:.4g}, not {ends[0]:.4g}."
                    )
        return tuple(found)

    def _table(self):
        heads = ["path", "distance"]
        columns = [list(self.paths), [f"{d:.4g}" for d in self.distance]]
        for name, audit in self.metrics.items():
            for what, values in (
                ("at A", audit.along[:, 0]),
                ("at B", audit.along[:, -1]),
                ("midpoint", audit.midpoint),
                ("barrier", audit.barrier),
            ):
                heads.append(f"{name} {what}")
                columns.append([f"{v:.4f}" for v in values])
        return heads, list(zip(*columns, strict=True))

    def __str__(self) -> str:
        heads, rows = self._table()
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        line = lambda row: "  ".join(
            [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        )
        lines = list(map(line, rows))
        return "\n".join([line(heads), "-" * len(lines[0]), *lines, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self._table(), self.notes)


def merging_report(
    curves: Mapping[str, Curve],
    *,
    losses: Mapping[str, Metric] | None = None,
    scores: Mapping[str, Metric] | None = None,
    samples: int = 32,
) -> MergingReport:
    """What averaging costs along each of several paths between two models, as a table (host-only).

    ``curves`` names paths t -> parameters on [0, 1]: `symjax.chord` of the models as they are and
    as `symjax.match` brought them together, a curve of `repair`ed averages, a trained curve.
    ``losses`` are metrics that should be low and ``scores`` (accuracy) such that should be high,
    each a function of the parameters on the user's data. The barrier of a score is how far it falls
    below the line between its ends. ``samples`` as in `symjax.barriers.barrier`, which is used.
    Chords share one compilation.

    Raises ValueError for no curves, no metrics, a name that is used twice, or a metric that is not
    a real scalar.

    Example:
        >>> import symjax
        >>> a, b = (jnp.ones(1), jnp.ones(1)), (jnp.full(1, 4.0), jnp.full(1, 0.25))
        >>> loss = lambda w: jnp.sum((w[0] * w[1] - 1) ** 2)
        >>> report = merging_report({"as given": symjax.chord(a, b)}, losses={"loss": loss})
        >>> print(report)
        path      distance  loss at A  loss at B  loss midpoint  loss barrier
        ---------------------------------------------------------------------
        as given     3.092     0.0000     0.0000         0.3164        0.3164
    """
    losses, scores = dict(losses or {}), dict(scores or {})
    require(len(curves) > 0, "`curves` must name at least one path, got none.")
    for name, curve in curves.items():
        require(callable(curve), f"`curves[{name!r}]` must be callable, got {describe(curve)}.")
    require(len(losses) + len(scores) > 0, "`losses` or `scores` must name a metric, got neither.")
    twice = sorted(set(losses) & set(scores))
    require(not twice, f"`losses` and `scores` both have {twice}; a name is for one metric.")
    require(
        isinstance(samples, int) and samples >= 2,
        f"`samples` must be an integer of at least 2, got {samples!r}.",
    )
    start = next(iter(curves.values()))
    for kind, group in (("losses", losses), ("scores", scores)):
        for name, metric in group.items():
            value = eqx.filter_eval_shape(lambda t, f=metric: f(start(t)), jnp.zeros(()))
            require(
                is_floating(value) and value.shape == (),
                f"`{kind}[{name!r}]` must return one real number, got {describe(value)}.",
            )
    signs = {name: 1.0 for name in losses} | {name: -1.0 for name in scores}

    # A curve is an argument, so that chords of models alike share one program.
    @eqx.filter_jit
    def measure(curve):
        ts = jnp.linspace(0.0, 1.0, samples + 1)
        half = jnp.asarray(0.5, ts.dtype)
        found = {
            name: (
                loss_along(metric, curve, ts),
                metric(curve(half)),
                barrier(lambda p, f=metric, s=signs[name]: s * f(p), curve, samples=samples),
            )
            for name, metric in (losses | scores).items()
        }
        ends = [jax.tree.leaves(curve(jnp.asarray(t, ts.dtype))) for t in (0.0, 1.0)]
        moved = [x - y for x, y in zip(*ends, strict=True) if is_floating(x)]
        return found, norm(moved)

    rows = (jax.device_get(measure(curve)) for curve in curves.values())
    measured, distances = zip(*rows, strict=True)
    metrics = {}
    for name, sign in signs.items():
        along, midpoint, height = (np.stack([m[name][i] for m in measured]) for i in range(3))
        metrics[name] = MetricAudit(along, midpoint, height, sign < 0)
    times = np.linspace(0.0, 1.0, samples + 1)
    return MergingReport(tuple(curves), np.stack(distances), times, metrics)

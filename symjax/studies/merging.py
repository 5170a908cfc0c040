"""What each group of symmetries buys when two networks of different seeds are averaged."""

import dataclasses
import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from .. import plotting
from .._checks import require
from ..actions import LinearAction, linear_action
from ..curves import chord
from ..discovery import Symmetry, find_symmetries
from ..groups import (
    ComplexScaling,
    GeneralLinear,
    Orthogonal,
    Permutation,
    PositiveScaling,
    Power,
    SignFlip,
)
from ..matching import match, refine
from ..merging import ROUNDING, MergingReport, merging_report
from ._merging_models import Family, cross_entropy, families, trainer
from ._result import Data, Progress, Result, Statement

REQUIRES = ("sklearn",)
GROUPS = (
    "as given",
    "permutations",
    "+ signs, scales",
    "+ O(n), GL(n)",
    "all, mended",
    "all, refined",
)
ALL, MENDED, REFINED = 3, 4, 5
"""Their places in the list: the match by all symmetries, and what is done with it."""
FAMILIES = ("MLP", "conv net", "transformer", "LoRA factors")
SAMPLES = 16
IMAGES = 256
"""Training images that the loss is refined on."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the merging study."""

    seed: int = 0
    """Seed of all randomness."""
    pairs: int = 2
    """Pairs of networks of each kind."""
    steps: int = 400
    """Training steps of a perceptron; transformers and LoRA factors take 1.5 times as many."""
    restarts: int = 1
    """Random starts of each match, beside the two that are not random."""
    refining: int = 60
    """Gradient steps along the continuous symmetries, on the loss between the two networks."""

    def __post_init__(self):
        require(self.pairs >= 1, f"`pairs` must be at least 1, got {self.pairs}.")
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}.")
        require(self.restarts >= 0, f"`restarts` must be at least 0, got {self.restarts}.")
        require(self.refining >= 1, f"`refining` must be at least 1, got {self.refining}.")


def run(config: Config, progress: Progress) -> Result:
    """Train pairs, match them by more and more symmetries, and walk along each chord."""
    data: Data = {"times": np.linspace(0, 1, SAMPLES + 1)}
    root = jax.random.key(config.seed)
    progress(0.0, "training")
    for i, family in enumerate(families(jax.random.fold_in(root, 0), config.steps)):
        progress(i / len(FAMILIES), family.name)
        keys = jax.random.split(jax.random.fold_in(root, 1 + i), 2 * config.pairs)
        train = trainer(family, config.steps)
        networks = [train(k) for k in keys]
        report = _measure(family, networks, config)
        data |= {f"{_slug(family.name)}_{n}": v for n, v in _arrays(report, config).items()}
    progress(1.0, "done")
    return Result(data, _statements(data), draw, _notes(data), _units())


def _slug(family: str) -> str:
    return family.lower().replace(" ", "_")


def _of(data: Data, family: str, name: str) -> np.ndarray:
    return data[f"{_slug(family)}_{name}"]


def ladder(symmetries: Sequence[Symmetry]) -> list[list[Symmetry]]:
    """The symmetries by group, one kind after the other: each list holds the one before.

    A change of basis or a rotation of a whole space stands in the earlier lists with what it has of
    their kind: permutations of the coordinates, and their signs or scales.
    """
    kind = lambda s: type(s.group.group if isinstance(s.group, Power) else s.group)
    matrices = [s for s in symmetries if kind(s) in (GeneralLinear, Orthogonal)]
    permutations = [s for s in symmetries if kind(s) is Permutation]
    diagonal = [s for s in symmetries if kind(s) in (PositiveScaling, SignFlip, ComplexScaling)]
    first = permutations + [_subgroup(s, Permutation) for s in matrices]
    second = first + diagonal + [_subgroup(s, SignFlip) for s in matrices]
    second += [_subgroup(s, PositiveScaling) for s in matrices if kind(s) is GeneralLinear]
    return [first, second, list(symmetries)]


def _subgroup(symmetry: Symmetry, kind: type) -> Symmetry:
    """The permutations, signs or scales of the coordinates that matrices move."""
    group, action = symmetry.group, symmetry.action
    assert isinstance(action, LinearAction)
    inner = group.group if isinstance(group, Power) else group
    small = kind(getattr(inner, "n"))  # noqa: B009
    small = Power(small, group.count) if isinstance(group, Power) else small
    return Symmetry(f"{symmetry.name}, {kind.__name__}", linear_action(small, action.legs), ())


class Mended(eqx.Module):
    """The chord of two models with every average on it mended."""

    a: PyTree
    b: PyTree
    family: Family = eqx.field(static=True)

    def __call__(self, t):
        """The mended average at t."""
        assert self.family.mend is not None
        return self.family.mend(chord(self.a, self.b)(t), self.a, self.b, t)


def _measure(family: Family, networks: list[PyTree], config: Config) -> MergingReport:
    """The chords of every pair, one per rung of the ladder; the last one mended, and refined."""
    found = find_symmetries(family.apply, networks[0], family.train[0][:4])
    rungs, curves = ladder([s for s in found.exact if family.keeps(s)]), {}
    x, labels = (z[:IMAGES] for z in family.train)

    @eqx.filter_jit
    def refined(symmetries, a, b, element):
        loss = lambda p: cross_entropy(family.apply(p, x), labels)
        return refine(symmetries, loss, a, b, element=element, steps=config.refining, samples=3)

    for pair, (a, b) in enumerate(zip(networks[::2], networks[1::2], strict=True)):
        key = jax.random.fold_in(jax.random.key(config.seed), pair)
        curves[f"{pair} {GROUPS[0]}"] = chord(a, b)
        aligned, element, used = b, None, []
        for name, rung in zip(GROUPS[1:], rungs, strict=False):
            if set(map(id, rung)) != set(map(id, used)):  # otherwise the same symmetries as before
                matched = match(rung, a, b, restarts=config.restarts, key=key)
                aligned, element, used = family.finish(matched.params), matched.element, rung
            curves[f"{pair} {name}"] = chord(a, aligned)
        if family.mend is not None:
            curves[f"{pair} {GROUPS[MENDED]}"] = Mended(a, aligned, family)
        better = refined(used, a, b, element)
        curves[f"{pair} {GROUPS[REFINED]}"] = chord(a, family.finish(better.params))
    return merging_report(
        curves,
        losses={"loss": family.loss},
        scores={"accuracy": family.accuracy},
        samples=SAMPLES,
    )


def _arrays(report: MergingReport, config: Config) -> Data:
    """The report as arrays (pair, group, ...), NaN where nothing mends the average."""

    def table(values):
        rows = dict(zip(report.paths, values, strict=True))
        blank = np.full_like(values[0], np.nan)
        return np.stack(
            [
                np.stack([rows.get(f"{pair} {group}", blank) for group in GROUPS])
                for pair in range(config.pairs)
            ]
        )

    arrays = {"distance": table(report.distance)}
    for name, audit in report.metrics.items():
        arrays[f"{name}_along"] = table(audit.along)
        arrays[f"{name}_barrier"] = table(audit.barrier)
    return arrays


def _statements(data: Data) -> list[Statement]:
    along = np.concatenate([_of(data, f, "loss_along") for f in FAMILIES])
    scale = np.maximum(along[:, :1].max(axis=(1, 2)), 1e-30)
    change = (np.abs(along[:, [1, 2, ALL, REFINED], -1] - along[:, :1, -1]) / scale[:, None]).max(
        axis=1
    )
    distance = np.concatenate([_of(data, f, "distance") for f in FAMILIES])
    nearer = distance[:, 1] / distance[:, ALL] - 1
    barrier = np.concatenate([_of(data, f, "loss_barrier") for f in FAMILIES])
    lower = 1 - barrier[:, ALL] / barrier[:, 0]
    better = 1 - barrier[:, REFINED] / barrier[:, ALL]
    return [
        Statement.of(
            "Matching keeps the function",
            change < ROUNDING,
            ROUNDING - change,
            "the training loss of the moved network is that of the network, float32. Margin: "
            f"{ROUNDING} minus the largest change, relative to the largest loss on the chord.",
        ),
        Statement.of(
            "All symmetries, nearer than permutations",
            nearer >= -1e-6,
            nearer,
            "distance of the pair matched by permutations over that by all symmetries, minus 1.",
        ),
        Statement.of(
            "All symmetries, lower barrier",
            lower > 0,
            lower,
            "loss barrier of the chord: 1 minus matched by all symmetries / as given.",
        ),
        Statement.of(
            "Refined, lower barrier than matched",
            better > 0,
            better,
            "loss barrier of the chord: 1 minus refined / matched by all symmetries.",
        ),
    ]


def _notes(data: Data) -> list[str]:
    notes = [
        "Loss: mean cross-entropy on the training images; accuracy: on the test images. Barrier: "
        "how much worse than the line between the ends the chord becomes. Mended: REPAIR (MLP), "
        "running statistics of the training images (conv net). Refined: gradient steps along the "
        "continuous symmetries on the loss between the two."
    ]
    for family in FAMILIES:
        loss, accuracy, distance = (
            _of(data, family, name).mean(axis=0)
            for name in ("loss_barrier", "accuracy_barrier", "distance")
        )
        ends = _of(data, family, "accuracy_along")[:, 0]
        words = [
            f"{group}: {loss[i]:.3f}, {100 * accuracy[i]:.1f}, {distance[i]:.1f}"
            for i, group in enumerate(GROUPS)
            if np.isfinite(loss[i])
        ]
        notes.append(
            f"{family} (test accuracy {ends[:, [0, -1]].mean():.3f}), mean barrier of the loss "
            f"(nats), of the accuracy (percentage points), distance: {'; '.join(words)}."
        )
    return notes


def _units() -> dict[str, str]:
    units = {"times": "(time,) position on the chord"}
    groups = f"groups of symmetries are {', '.join(GROUPS)}"
    for family in FAMILIES:
        slug = _slug(family)
        units[f"{slug}_distance"] = f"(pair, group) distance of the two parameters; {groups}"
        units[f"{slug}_loss_along"] = "(pair, group, time) mean cross-entropy, training, nats"
        units[f"{slug}_accuracy_along"] = "(pair, group, time) share of test images right"
        units[f"{slug}_loss_barrier"] = "(pair, group) rise above the line of the ends, nats"
        units[f"{slug}_accuracy_barrier"] = "(pair, group) fall below the line of the ends, share"
    return units


def draw(data: Data):
    """Loss and accuracy on the chord, one line per group that the match may use."""
    figure, axes = plotting.blank(2, len(FAMILIES), width=3.6, height=3.2, sharex=True)
    panels = axes.reshape(2, -1)
    line = functools.partial(plotting.plot_loss_along, times=data["times"])
    for column, family in enumerate(FAMILIES):
        for row, name in enumerate(("loss", "accuracy")):
            along = _of(data, family, f"{name}_along")
            for i, group in enumerate(GROUPS):
                if np.isfinite(along[:, i]).all():
                    line(
                        panels[row, column],
                        losses=along[:, i],
                        label=group,
                        style=plotting.STYLES[(1, 4, 3, 0, 2, 5)[i]],
                    )
        panels[0, column].set_title(family)
        panels[0, column].set_xlabel("")
        panels[1, column].set_xlabel("position on the chord, $t$")
    panels[0, 0].set_ylabel("training loss (cross-entropy, nats)")
    panels[1, 0].set_ylabel("test accuracy")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(GROUPS),
        title="second network matched to the first by ...  (line: mean over pairs, band: range)\n"
        "mended: REPAIR or batch statistics anew; refined: gradient steps along the symmetries on "
        "the training loss between the two",
    )
    return figure

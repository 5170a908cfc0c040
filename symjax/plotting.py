"""Figures from stored numbers: each function takes arrays and axes, draws, and returns the axes.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; lines also differ in
dash and marker, so a grey print stays readable. Matplotlib is an extra, imported on first use:
the extra `plots` (matplotlib). Nothing here touches pyplot or a global setting.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

Axes = Any
"""A matplotlib Axes; the name is not imported, because matplotlib is an extra."""

OKABE_ITO = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "black": "#000000",
}


class Style(NamedTuple):
    """How one series is drawn: apart in colour, dash and marker at once."""

    colour: str
    dash: str | tuple[int, tuple[int, ...]]
    marker: str


STYLES = (
    Style(OKABE_ITO["blue"], "-", "o"),
    Style(OKABE_ITO["vermillion"], "--", "s"),
    Style(OKABE_ITO["green"], "-.", "^"),
    Style(OKABE_ITO["purple"], ":", "D"),
    Style(OKABE_ITO["orange"], (0, (5, 1, 1, 1, 1, 1)), "v"),
    Style(OKABE_ITO["black"], (0, (1, 1)), "x"),
)
CURVE, CHORD = STYLES[0], STYLES[1]
"""The curve of a symmetry and the straight line are drawn alike in every figure."""


def blank(
    rows: int = 1, columns: int = 1, *, width: float = 4.6, height: float = 3.6, **options: Any
) -> tuple[Any, np.ndarray]:
    """A figure of rows x columns panels (inches each) and its flat array of axes.

    Example:
        >>> figure, axes = blank(1, 2)
        >>> axes.shape
        (2,)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False, **options))
    for panel in axes:
        if panel.name != "3d":
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(color="0.9", linewidth=0.6)
            panel.set_axisbelow(True)
    return figure, axes


def plot_loss_along(
    axes: Axes,
    times: Float[np.ndarray, " t"],
    losses: Float[np.ndarray, "*runs t"],
    *,
    label: str,
    style: Style = CURVE,
) -> Axes:
    """The mean over runs of a loss along paths, with a band from its least to its largest value.

    ``times`` run over [0, 1]; one run may be given as a vector.
    """
    runs = np.atleast_2d(losses)
    axes.plot(
        times,
        runs.mean(axis=0),
        color=style.colour,
        linestyle=style.dash,
        marker=style.marker,
        markevery=max(1, len(times) // 8),
        markersize=4,
        label=label,
    )
    if len(runs) > 1:
        axes.fill_between(
            times, runs.min(axis=0), runs.max(axis=0), color=style.colour, alpha=0.18, linewidth=0
        )
    axes.set_xlabel("position on the path, $t$")
    return axes


def plot_theory_and_measured(
    axes: Axes,
    x: Float[np.ndarray, " n"],
    theory: Float[np.ndarray, " n"],
    measured: Float[np.ndarray, " n"],
    *,
    theory_label: str,
    measured_label: str,
    style: Style = CURVE,
) -> Axes:
    """A closed form as a line with measured values as markers on it."""
    axes.plot(x, theory, color=style.colour, linestyle=style.dash, label=theory_label, zorder=2)
    axes.plot(
        x,
        measured,
        color=style.colour,
        linestyle="none",
        marker=style.marker,
        markerfacecolor="white",
        markersize=5,
        label=measured_label,
        zorder=3,
    )
    return axes


def plot_against_bound(
    axes: Axes,
    measured: Float[np.ndarray, " n"],
    bound: Float[np.ndarray, " n"],
    *,
    label: str,
    style: Style = CURVE,
) -> Axes:
    """Bound against measured value, one marker each, above the line where they are equal.

    Values that are not finite (a bound that was refused) are left out. Call it again on the same
    axes for another series.
    """
    measured, bound = np.asarray(measured), np.asarray(bound)
    kept = np.isfinite(measured) & np.isfinite(bound)
    axes.plot(
        measured[kept],
        bound[kept],
        color=style.colour,
        linestyle="none",
        marker=style.marker,
        markersize=4,
        markerfacecolor="none",
        alpha=0.8,
        label=label,
    )
    for line in [line for line in axes.lines if line.get_gid() == "equality"]:
        line.remove()
    values = np.concatenate([line.get_xydata().ravel() for line in axes.lines])
    ends = [values.min(), values.max()]
    axes.plot(ends, ends, color="0.35", linewidth=1, label="equality", gid="equality", zorder=1)
    return axes


def plot_distributions(
    axes: Axes,
    groups: Mapping[str, Float[np.ndarray, " _"]],
    edges: Float[np.ndarray, " bins"],
    *,
    styles: Sequence[Style] = STYLES,
) -> Axes:
    """The share of each group's finite values per bin, as one step line per group."""
    for (label, values), style in zip(groups.items(), styles, strict=False):
        values = np.asarray(values)
        values = values[np.isfinite(values)]
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        axes.stairs(
            counts / max(1, len(values)),
            edges,
            color=style.colour,
            linestyle=style.dash,
            linewidth=1.6,
            label=f"{label} ({len(values)})",
        )
    axes.set_ylabel("share of networks per bin")
    return axes


def plot_surfaces(
    axes: Axes,
    sheets: Sequence[Sequence[np.ndarray]],
    labels: Sequence[str],
    *,
    styles: Sequence[Style] = STYLES,
) -> Axes:
    """Sheets of a surface in space, each a connected component with its colour, number and name."""
    from matplotlib.patches import Patch

    handles = []
    for i, ((x, y, z), label, style) in enumerate(zip(sheets, labels, styles, strict=False), 1):
        axes.plot_surface(
            x,
            y,
            z,
            color=style.colour,
            alpha=0.85,
            linewidth=0.2,
            edgecolor=(1, 1, 1, 0.5),
            rcount=30,
            ccount=30,
        )
        # The lowest point of a sheet: nothing lies in front of its number there.
        row, column = np.unravel_index(np.argmin(z), z.shape)
        axes.text(
            x[row, column],
            y[row, column],
            z[row, column],
            str(i),
            fontsize=9,
            fontweight="bold",
            ha="center",
            va="center",
            zorder=10,
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": style.colour},
        )
        handles.append(Patch(color=style.colour, label=f"{i}: {label}"))
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2)
    return axes

"""Pages to look at from all sides: what is three-dimensional in a study, drawn with Plotly.

A page is one HTML file with all that it needs, the script of Plotly included (5 MB); it opens
without a network. Plotly is an extra and is imported on first use. A study that has such a page has
``look(data) -> list of Panel``, from stored arrays alone.
"""

import html
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import plotting
from ..plotting import Style
from ._result import Data

DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 0 12px; max-width: 1500px; }}
h1 {{ font-size: 1.4em; }}
h2 {{ font-size: 1.1em; margin-bottom: 0; }}
.panels {{ display: grid; gap: 0 24px; --least: max(540px, calc(100% / {count} - 24px)); }}
.panels {{ grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--least)), 1fr)); }}
.panel {{ min-width: 0; }}
.figure {{ height: min(620px, 115vw); }}
</style>
<script>{script}</script>
</head>
<body>
<h1>{title}</h1>
<p>Drag to turn, scroll or pinch to come nearer, click a name in a legend to hide what it names.</p>
<div class="panels">
{panels}
</div>
</body>
</html>
"""
PANEL = """<div class="panel">
<h2>{title}</h2>
<p>{text}</p>
<div class="figure">{figure}</div>
</div>"""


class Panel(NamedTuple):
    """A Plotly figure with its title and what a reader must know."""

    title: str
    text: str
    figure: Any


def page(title: str, panels: Sequence[Panel]) -> str:
    """The HTML of all panels, which stand side by side where the window is wide."""
    from plotly.io import to_html
    from plotly.offline import get_plotlyjs

    config = {"displaylogo": False, "responsive": True}
    drawn = [
        PANEL.format(
            title=html.escape(panel.title),
            text=html.escape(panel.text),
            figure=to_html(panel.figure, config, include_plotlyjs=False, full_html=False),
        )
        for panel in panels
    ]
    return PAGE.format(
        title=html.escape(title),
        script=get_plotlyjs(),
        panels="\n".join(drawn),
        count=len(drawn),
    )


def scene(
    traces: Sequence[Any],
    x: str,
    y: str,
    z: str,
    *,
    eye: tuple[float, float, float],
    logarithmic: bool = False,
) -> Any:
    """A figure in space with named axes, seen from ``eye``; ``logarithmic`` is of z."""
    from plotly.graph_objects import Figure

    plain_axis = {"backgroundcolor": "white", "gridcolor": "#cccccc", "showspikes": False}
    figure = Figure(list(traces))
    figure.update_layout(
        template="none",
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"orientation": "h", "yanchor": "top", "y": 0, "x": 0},
        scene={
            "xaxis": {"title": {"text": x}, **plain_axis},
            "yaxis": {"title": {"text": y}, **plain_axis},
            "zaxis": {
                "title": {"text": z},
                "type": "log" if logarithmic else "linear",
                "exponentformat": "power",
                **plain_axis,
            },
            "aspectmode": "cube",
            "camera": {
                "eye": dict(zip("xyz", eye, strict=True)),
                "center": {"x": 0, "y": 0, "z": -0.1},
            },
        },
    )
    return figure


def sheet(x: np.ndarray, y: np.ndarray, z: np.ndarray, *, name: str, colour: str) -> Any:
    """A surface of one colour."""
    from plotly.graph_objects import Surface

    grid = {"show": True, "color": "rgba(255, 255, 255, 0.6)"}
    return Surface(
        x=x,
        y=y,
        z=z,
        name=name,
        showlegend=True,
        showscale=False,
        colorscale=[[0, colour], [1, colour]],
        opacity=0.6,
        contours={"x": grid, "y": grid},
        hovertemplate="(%{x:.3g}, %{y:.3g}, %{z:.3g})",
    )


def line(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    *,
    name: str,
    style: Style,
    said: Sequence[str] | None = None,
) -> Any:
    """A line in space with its two ends marked; ``said`` is shown at the points of it."""
    from plotly.graph_objects import Scatter3d

    size = np.zeros(len(x))
    size[[0, -1]] = 6
    dash = DASHES.get(style.dash, "longdash") if isinstance(style.dash, str) else "longdash"
    return Scatter3d(
        x=x,
        y=y,
        z=z,
        name=name,
        mode="lines+markers",
        line={"color": style.colour, "width": 9, "dash": dash},
        marker={"color": "white", "size": size, "line": {"color": "black", "width": 1}},
        text=said,
        hovertemplate="%{text}" if said else None,
    )


def landscape(
    data: Data, name: str, title: str, text: str, *, loss: str, logarithmic: bool
) -> Panel:
    """The arrays of `symjax.studies._plane.plane` called ``name``: a surface, and ways over it."""
    from plotly.graph_objects import Surface

    get = lambda key: data[f"{name}_{key}"]
    times = np.linspace(0, 1, len(get("curve_x")))
    x, y, off = get("curve_x"), get("curve_y"), get("curve_off")
    heights = get("curve_loss")
    along = times * x[-1]
    # Grey, so that lines of every colour stand out: the higher, the darker.
    ground = Surface(
        x=get("x"),
        y=get("y"),
        z=get("loss"),
        surfacecolor=np.log10(get("loss")) if logarithmic else get("loss"),
        name="loss in the plane",
        showlegend=True,
        showscale=False,
        colorscale=[[0, "#f4f4f4"], [1, "#7a7a7a"]],
        opacity=0.7,
        hovertemplate="(%{x:.3g}, %{y:.3g})<br>loss %{z:.4g}",
    )
    on_curve = [
        f"t = {t:.2f}<br>loss {v:.4g}<br>{d:.3g} from the plane"
        for t, v, d in zip(times, heights, off, strict=True)
    ]
    on_chord = [
        f"t = {t:.2f}<br>loss {v:.4g}" for t, v in zip(times, get("chord_loss"), strict=True)
    ]
    below = [f"t = {t:.2f}<br>loss {v:.4g}" for t, v in zip(times, get("curve_below"), strict=True)]
    traces = [
        ground,
        line(x, y, heights, name="curve, at its own loss", style=plotting.CURVE, said=on_curve),
        line(x, y, get("curve_below"), name="the plane below the curve", said=below,
             style=Style(plotting.OKABE_ITO["sky"], ":", "x")),
        line(along, 0 * along, get("chord_loss"), name="straight line", style=plotting.CHORD,
             said=on_chord),
    ]  # fmt: skip
    axes = ("along the straight line", "towards the middle of the curve", loss)
    return Panel(title, text, scene(traces, *axes, eye=(0.6, -1.3, 1.6), logarithmic=logarithmic))


def plain(text: str) -> str:
    """A label of matplotlib's without its markup: subscripts and signs as characters."""
    text = re.sub(r"\\[ ,;]", " ", text.replace("$", ""))
    return re.sub(r"_(\d)", lambda match: chr(0x2080 + int(match[1])), text)

"""Figure 2: two minima of a two-layer net, the curve and the straight line between them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from .. import plotting
from .._checks import require
from ..actions import rescaling_action
from ..barriers import barrier, loss_along, rescaling
from ..curves import chord, connecting_curve
from ..networks import linear, random_weights, squared_loss
from ..topology import linear_minimum, opposite_pair, rescaled_pair
from ._result import Data, Result, Statement
from ._sampling import Study

TIMES = 65
SCALES = (2.0, 4.0, 6.0)
"""The m of the three chords drawn; the minima are (w1, w2) and (m w1, w2 / m)."""
TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of figure2."""

    seed: int = 0
    """Seed of all randomness."""
    networks: int = 100
    """Random networks; a barrier between 1e-3 and 1e6 is asked of each."""
    width: int = 4
    """Input, hidden and output width of the random networks; the drawn one has width 1."""

    def __post_init__(self):
        require(self.networks >= 2, f"`networks` must be at least 2, got {self.networks}.")
        require(self.width >= 1, f"`width` must be at least 1, got {self.width}.")


def study(config: Config) -> Study:
    """The barrier asked of network i is the i-th of a logarithmic range."""
    asked = np.logspace(-3.0, 6.0, config.networks)

    def one(key, index):
        height = jnp.asarray(asked)[jnp.minimum(index, config.networks - 1)]
        return {"asked": height, **_asked(key, height, config.width)}

    return Study(config.networks, (one,), config.seed, batch=32, x64=True)


def conclude(config: Config, data: Data) -> Result:
    """What the networks show, and one network of width 1 to draw."""
    with jax.enable_x64(True):
        more = _drawn()
        scales = jnp.geomspace(1.01, 0.999 * data["m"].max(), 200)
        more["theory_m"] = np.asarray(scales)
        more["theory_relative"] = np.asarray(rescaling(1.0, scales, 1.0).value)
    return Result(more, _statements({**data, **more}), draw, [], _units())


def _drawn() -> dict[str, np.ndarray]:
    """The losses along three chords and curves from (1, 1), x = y = 1."""
    one = jnp.ones((1, 1))
    loss = squared_loss(linear, one, one)
    action = rescaling_action(1)
    ts = jnp.linspace(0.0, 1.0, TIMES)

    def walk(m, start):
        end = action(m, start)
        straight = loss_along(loss, chord(start, end), ts)
        return straight, loss_along(loss, connecting_curve(action, start, m), ts)

    across = opposite_pair((one, one), one, one)
    minimum = linear_minimum((1, 1, 1), one, one)
    scales = jnp.array(SCALES)
    straight, curved = jax.jit(jax.vmap(walk, (0, None)))(scales, (one, one))
    theory = rescaling(1.0, scales, 1.0)
    return {
        "times": np.asarray(ts),
        "scales": np.asarray(scales),
        "chord_loss": np.asarray(straight),
        "curve_loss": np.asarray(curved),
        "theory_place": np.asarray(theory.alpha),
        "theory_barrier": np.asarray(theory.value),
        "across_loss": np.asarray(loss_along(loss, across.chord, ts)),
        "across_least": np.asarray(minimum.barrier(across.p, across.q).value),
    }


def _asked(key, height, width):
    """A random minimum, the smallest m that gives the barrier asked for, and what comes out."""
    for_x, for_w = jax.random.split(key)
    x = jax.random.normal(for_x, (width, width), jnp.float64)
    w = random_weights(for_w, (width, width, width), dtype=jnp.float64)
    y = linear(w, x)
    loss = squared_loss(linear, x, y)
    pair = rescaled_pair(linear, w, x, y, degree=1.0, barrier=height)
    size = jnp.linalg.norm(y)
    return {
        "m": pair.scale,
        "target_norm": size,
        "measured": barrier(loss, pair.chord),
        "on_curve": jnp.max(loss_along(loss, pair.curve, jnp.linspace(0.0, 1.0, 9))) / size**2,
    }


def _statements(data: Data) -> list[Statement]:
    error = np.abs(data["measured"] / data["asked"] - 1)
    flat = data["on_curve"]
    least, on_line = float(data["across_least"]), float(data["across_loss"].max())
    return [
        Statement.of(
            "Lemma 5.1, drawn",
            abs(least - on_line) < TOLERANCE,
            TOLERANCE - abs(least - on_line),
            "the reflected minimum (-w1, -w2) lies in another component: any path to it rises to "
            f"sigma_min(Y)^2 = {least:g}, and the straight line to {on_line:g}.",
        ),
        Statement.of(
            "Prop. 5.3",
            error < TOLERANCE,
            TOLERANCE - error,
            "barriers from 1e-3 to 1e6 asked of random two-layer linear nets: the largest loss on "
            "the straight line to (m W1, W2 / m), m the smallest that the closed form gives. "
            f"Margin: {TOLERANCE} minus the largest relative error.",
        ),
        Statement.of(
            "Eq. (5), rescaling",
            flat < TOLERANCE,
            TOLERANCE - flat,
            "the two minima are joined by a curve on which the loss, over |Y|^2, stays zero: "
            f"margin {TOLERANCE} minus the largest loss.",
        ),
    ]


def _units() -> dict[str, str]:
    return {
        "times": "(time,) position on the path",
        "scales": "(pair,) m of the second minimum (m w1, w2 / m)",
        "chord_loss": "(pair, time) squared error",
        "curve_loss": "(pair, time) squared error",
        "theory_place": "(pair,) position of the largest loss on the chord, closed form",
        "theory_barrier": "(pair,) largest loss on the chord, closed form",
        "across_loss": "(time,) squared error on the line to (-w1, -w2), another component",
        "across_least": "() least height of any path to that component",
        "asked": "(network,) squared error",
        "measured": "(network,) largest loss on the chord, squared error",
        "target_norm": "(network,) |Y|",
        "theory_m": "(point,) scale m of the closed form",
        "theory_relative": "(point,) largest loss on the chord / |Y|^2, closed form",
        "m": "(network,) scale that reaches the barrier asked for",
        "on_curve": "(network,) largest loss on the curve / |Y|^2",
    }


def draw(data: Data):
    """The plane of weights, the loss on the way, and the barriers reached."""
    figure, (plane, way, reached) = plotting.blank(1, 3, width=4.4, height=3.9)
    _draw_plane(plane, data["scales"])
    for i, (scale, style) in enumerate(zip(data["scales"], plotting.STYLES[1:], strict=False)):
        plotting.plot_loss_along(
            way, data["times"], data["chord_loss"][i], label=f"line, $m = {scale:g}$", style=style
        )
        way.plot(
            data["theory_place"][i],
            data["theory_barrier"][i],
            marker="*",
            markersize=13,
            color=style.colour,
            markeredgecolor="black",
            linestyle="none",
            label="largest, closed form" if i == len(data["scales"]) - 1 else None,
            zorder=4,
        )
    plotting.plot_loss_along(
        way,
        data["times"],
        data["across_loss"],
        label="line to $(-w_1, -w_2)$",
        style=plotting.STYLES[4],
    )
    plotting.plot_loss_along(
        way, data["times"], data["curve_loss"].max(axis=0), label="curve, every $m$"
    )
    way.set(ylabel="loss $|y - w_2 w_1 x|^2$", title="Loss on the way")
    way.set_ylim(top=1.7)
    way.legend(fontsize=8, loc="upper center", ncols=2)
    reached.plot(
        data["theory_m"],
        data["theory_relative"],
        color=plotting.CHORD.colour,
        linestyle=plotting.CHORD.dash,
        label="closed form $((m - 1)^2 / 4m)^2$",
    )
    reached.plot(
        data["m"],
        data["measured"] / data["target_norm"] ** 2,
        color=plotting.CHORD.colour,
        marker=plotting.CHORD.marker,
        markerfacecolor="white",
        markersize=4,
        linestyle="none",
        label=f"measured, {len(data['m'])} networks",
    )
    reached.set(xscale="log", yscale="log", title="Barrier without bound")
    reached.set(xlabel="scale $m$ between the minima", ylabel="largest loss on the line / $|Y|^2$")
    reached.legend(fontsize=8)
    return figure


def _draw_plane(axes, scales):
    """The loss as grey levels, both components of the minimum, and the ways from one point."""
    w1, w2 = np.meshgrid(np.linspace(-4.6, 4.6, 300), np.linspace(-1.8, 1.8, 200))
    loss = (1 - w2 * w1) ** 2
    # Light greys only, so that the paths stand out; steps are fine where the loss is small.
    levels = np.array([0, 0.05, 0.1, 0.2, 0.5, 1, 2, 4])
    greys = [str(grey) for grey in np.linspace(1, 0.5, len(levels))]
    shades = axes.contourf(w1, w2, loss, levels=levels, colors=greys, extend="max")
    axes.figure.colorbar(shades, ax=axes, label="loss", ticks=levels, spacing="uniform")
    m = scales[1]
    minimum = np.geomspace(1 / 1.8, 4.6, 100)
    curve, line, across = plotting.CURVE, plotting.CHORD, plotting.STYLES[4]
    first, second = plotting.OKABE_ITO["green"], plotting.OKABE_ITO["purple"]
    axes.plot(minimum, 1 / minimum, color=first, linewidth=1.5, label="minimum: component 1")
    axes.plot(-minimum, -1 / minimum, color=second, linewidth=1.5, linestyle="-.",
              label="minimum: component 2")  # fmt: skip
    between = np.geomspace(1, m, 50)
    axes.plot(between, 1 / between, color=curve.colour, linewidth=3, label="curve")
    for end, style, label in (
        ((m, 1 / m), line, "straight line"),
        ((-1, -1), across, "line to component 2"),
    ):
        axes.plot(
            [1, end[0]],
            [1, end[1]],
            color=style.colour,
            linestyle=style.dash,
            linewidth=2,
            label=label,
        )
    axes.plot([1, m, -1], [1, 1 / m, -1], "o", color="black", markerfacecolor="white", markersize=7)
    axes.annotate("$(w_1, w_2)$", (1, 1), (1.1, 1.12))
    axes.annotate("$(m w_1, w_2/m)$", (m, 1 / m), (m - 1.9, 1 / m - 0.3))
    axes.annotate("$(-w_1, -w_2)$", (-1, -1), (-3.2, -1.25))
    axes.set(xlabel="$w_1$", ylabel="$w_2$", title=f"Three minima, $m = {m:g}$")
    axes.set(xlim=(-4.6, 4.6), ylim=(-1.8, 1.8))
    axes.grid(False)
    axes.legend(fontsize=7, loc="upper left")

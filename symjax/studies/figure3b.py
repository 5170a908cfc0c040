"""Figure 3(b): the loss on curves of eq. (5) with the map of eq. (6), and on their chords."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import plotting
from .._checks import require
from ..actions import data_action, neuron_rescaling_action
from ..barriers import loss_along
from ..curves import chord, connecting_curve, exponential_curve
from ..linalg._precision import mm
from ..networks import random_weights, squared_loss, two_layer
from ..training import minimise, solve_last_layer
from ._look import Panel, landscape
from ._plane import plane, units as plane_units
from ._result import Data, Result, Statement
from ._sampling import Study

INPUTS, HIDDEN, OUTPUTS, TIMES = 16, 32, 64, 41
TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of figure3b and figure3c."""

    seed: int = 0
    """Seed of all randomness."""
    scale: float = 0.3
    """Size of log g: its entries have standard deviation scale / sqrt(32)."""
    curves: int = 5
    """Random group elements; losses are averaged over them."""
    samples: int = 64
    """Samples in the second panel; more than the 32 hidden units, or nothing happens."""
    steps: int = 3000
    """Largest number of steps of gradient descent with momentum."""

    def __post_init__(self):
        require(self.scale > 0, f"`scale` must be positive, got {self.scale}.")
        require(self.curves >= 1, f"`curves` must be at least 1, got {self.curves}.")
        require(self.samples > HIDDEN, f"`samples` must be above {HIDDEN}, got {self.samples}.")
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}.")


class Paths(NamedTuple):
    """Norms of the residual along paths, and how far the map is from a group action."""

    curve: jax.Array
    chord: jax.Array
    rescaling: jax.Array
    start_gap: jax.Array
    identity_defect: jax.Array
    composition_defect: jax.Array


def leaky_relu(z):
    """The activation of the figure."""
    return jax.nn.leaky_relu(z, 0.01)


PANELS = ("printed", "larger")


def study(config: Config) -> Study:
    """One item: train at the printed sizes and at a larger batch, then walk curves and chords."""

    def one(key, index):
        found = {}
        for i, (panel, samples) in enumerate(zip(PANELS, (8, config.samples), strict=True)):
            for_problem, for_curves = jax.random.split(jax.random.fold_in(key, i))
            x, y, w, (trained, excess) = _minimum(for_problem, samples, config.steps)
            keys = jax.random.split(for_curves, config.curves)
            paths = jax.vmap(lambda k, w=w, x=x, y=y: _walk(k, config.scale, w, x, y))(keys)
            found |= {f"{panel}_{name}": values for name, values in paths._asdict().items()}
            if panel == "larger":
                squared = squared_loss(two_layer(leaky_relu), x, y)
                residual = lambda w, squared=squared: jnp.sqrt(squared(w))
                _, _, curve, exact = _ways(keys[0], config.scale, w, x)
                found |= plane("curve_plane", residual, curve)
                found |= plane("rescaling_plane", residual, exact)
            found |= {
                f"{panel}_target_norm": jnp.linalg.norm(y),
                f"{panel}_samples": jnp.asarray(samples),
                f"{panel}_steps": trained.steps,
                f"{panel}_gradient": trained.relative_gradient_norm,
                f"{panel}_excess": excess,
            }
        return found

    return Study(1, (one,), config.seed, x64=True)


def conclude(config: Config, data: Data) -> Result:
    """What the curves show."""
    times = {"times": np.linspace(0, 1, TIMES)}
    return Result(times, _statements(_only(data)), draw, _notes(_only(data), config), _units())


def _only(data: Data) -> dict[str, np.ndarray]:
    """The arrays of the one item."""
    return {name: values if name == "times" else values[0] for name, values in data.items()}


def _minimum(key, samples, steps):
    """Data, a minimum of |U sigma(V X) - Y|^2 found by gradient descent, and where that stopped."""
    for_x, for_y, for_w = jax.random.split(key, 3)
    x = jax.random.normal(for_x, (INPUTS, samples), jnp.float64)
    y = jax.random.normal(for_y, (OUTPUTS, samples), jnp.float64)
    start = random_weights(for_w, (INPUTS, HIDDEN, OUTPUTS), dtype=jnp.float64)
    found = _train(start, x, y, steps)
    v, u = found.params
    # The last layer is a least-squares problem: solving it leaves only the first to descent.
    best = solve_last_layer(u, leaky_relu(mm(v, x)), y)
    return x, y, (v, best.weights), (found, best.excess)


def _train(start, x, y, steps):
    loss = squared_loss(two_layer(leaky_relu), x, y)
    # The curvature of the loss grows with that of the data.
    rate = 0.04 / jnp.linalg.norm(x, 2) ** 2
    optimiser = optax.sgd(lambda _: rate, momentum=0.9)
    return minimise(loss, start, optimiser=optimiser, steps=steps, tolerance=1e-10)


def _ways(key, scale, w, x):
    """The map (6), two random elements, the curve of the first one, and a curve of rescalings."""
    for_m, for_h, for_c = jax.random.split(key, 3)
    action = data_action(leaky_relu, x)
    rescale = neuron_rescaling_action(HIDDEN)
    m, n = (scale * jax.random.normal(k, (HIDDEN, HIDDEN)) / HIDDEN**0.5 for k in (for_m, for_h))
    # g = exp(m) has m for its logarithm, so that this is the curve of eq. (5) from w by g.
    curve = exponential_curve(action, w, m)
    exact = connecting_curve(rescale, w, jnp.exp(scale * jax.random.normal(for_c, (HIDDEN,))))
    return action, (action.group.exp(m), action.group.exp(n)), curve, exact


def _walk(key, scale, w, x, y):
    """A random group element, its curve and its chord."""
    action, (g, h), curve, exact = _ways(key, scale, w, x)
    straight = chord(curve(0.0), curve(1.0))
    squared = squared_loss(two_layer(leaky_relu), x, y)
    norm = lambda path: jnp.sqrt(loss_along(squared, path, jnp.linspace(0.0, 1.0, TIMES)))
    gap = lambda a, b: optax.tree.norm(jax.tree.map(jnp.subtract, a, b))
    size = optax.tree.norm(w)
    both = action.group.compose(g, h)
    return Paths(
        curve=norm(curve),
        chord=norm(straight),
        rescaling=norm(exact),
        start_gap=gap(curve(0.0), w),
        identity_defect=gap(action(jnp.eye(HIDDEN), w), w) / size,
        composition_defect=gap(action(g, action(h, w)), action(both, w)) / size,
    )


def _statements(data: Data) -> list[Statement]:
    drift = lambda p, path: (
        np.abs(data[f"{p}_{path}"] - data[f"{p}_{path}"][:, :1]).max(axis=1)
        / data[f"{p}_target_norm"]
    )
    exact = np.concatenate([drift(p, "rescaling") for p in PANELS])
    constant = drift("printed", "curve")
    slack = (data["larger_chord"] - data["larger_curve"])[:, 1:-1].min(axis=1)
    slack = slack / data["larger_target_norm"]
    defects = np.minimum(data["printed_identity_defect"], data["larger_composition_defect"])
    return [
        _below("Eq. (5), rescaling", exact, "change of |W2 s(W1 X) - Y| along curves of the "
               "rescaling of hidden units, a symmetry of the network"),
        _below("Eq. (6), 8 samples", constant, "with the printed sizes there are fewer samples "
               "than hidden units and the norm of the residual does not change along the curve"),
        Statement.of(
            "Eq. (6), curve below chord",
            slack >= 0,
            slack,
            "with more samples than hidden units: the residual on the chord minus that on the "
            "curve at the worst time, in units of |Y|.",
        ),
        Statement.of(
            "Eq. (6) is not a group action",
            defects > 1e-6,
            defects,
            "with 8 samples the identity moves the parameters, with more samples than hidden units "
            "g.(h.w) and (gh).w differ; margin: the smaller defect, relative to |w|.",
        ),
    ]  # fmt: skip


def _below(name: str, errors: np.ndarray, detail: str) -> Statement:
    """A statement that errors stay below the tolerance."""
    detail = f"{detail}; margin: {TOLERANCE} minus the largest change, in units of |Y|."
    return Statement.of(name, errors < TOLERANCE, TOLERANCE - errors, detail)


def _notes(data: Data, config: Config) -> list[str]:
    notes = []
    for panel in PANELS:
        names = ("steps", "gradient", "excess", "target_norm")
        steps, gradient, excess, size = (float(data[f"{panel}_{name}"]) for name in names)
        notes.append(
            f"{panel}: training stopped after {steps:.0f} of {config.steps} steps at relative "
            f"gradient norm {gradient:.1e}; the last layer was then solved exactly, which took "
            f"{excess:.1e} off the loss; the residual is "
            f"{float(data[f'{panel}_rescaling'][0, 0]):.3g}, |Y| = {size:.3g}."
        )
    gaps = data["printed_start_gap"].max(), data["larger_start_gap"].max()
    notes.append(
        f"With 8 samples the curve starts at distance {gaps[0]:.2g} from the minimum, with "
        f"{config.samples} at distance {gaps[1]:.1e}: the identity of eq. (6) does not fix the "
        "parameters where samples are fewer than hidden units."
    )
    return notes


def _units() -> dict[str, str]:
    units = {"times": "(time,) position on the path"}
    for panel, what in (("printed", "8 samples"), ("larger", "more samples than hidden units")):
        for path in ("curve", "chord", "rescaling"):
            units[f"{panel}_{path}"] = f"(network, curve, time) |W2 s(W1 X) - Y|, {what}"
        units[f"{panel}_start_gap"] = "(network, curve) |gamma(0) - w|"
        units[f"{panel}_identity_defect"] = "(network, curve) |e.w - w| / |w|"
        units[f"{panel}_composition_defect"] = "(network, curve) |g.(h.w) - (gh).w| / |w|"
        units[f"{panel}_target_norm"] = "(network,) |Y|"
        units[f"{panel}_steps"] = "(network,) steps of training"
        units[f"{panel}_gradient"] = "(network,) relative norm of the gradient where it ended"
        units[f"{panel}_excess"] = "(network,) loss that solving the last layer then took away"
        units[f"{panel}_samples"] = "(network,) number of samples"
    for path in ("curve", "rescaling"):
        units |= plane_units(f"{path}_plane", "|W2 s(W1 X) - Y|, larger batch")
    return units


def draw(data: Data):
    """The printed sizes, where the curve is flat, and the larger batch, where it is not."""
    figure, axes = plotting.blank(1, 2, width=4.8, height=4.0)
    data = _only(data)
    times = data["times"]
    paths = {
        "chord": ("straight line", plotting.CHORD),
        "curve": (r"$\gamma$ of eq. (5) with the map (6)", plotting.CURVE),
        "rescaling": (r"$\gamma$ of a symmetry (rescaling)", plotting.STYLES[2]),
    }
    for panel, name in zip(axes, PANELS, strict=True):
        for path, (label, style) in paths.items():
            plotting.plot_loss_along(panel, times, data[f"{name}_{path}"], label=label, style=style)
        samples = int(data[f"{name}_samples"])
        panel.set_title(f"{name} batch: {samples} samples, {HIDDEN} hidden units")
        panel.set_ylabel(r"residual $\|W_2\,\sigma(W_1 X) - Y\|$")
        panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        title=f"mean and range over {len(data['larger_curve'])} random group elements",
    )
    return figure


def look(data: Data) -> list[Panel]:
    """The residual in the plane of a minimum, its image and the middle of their curve."""
    data = _only(data)
    both = (
        "Larger batch, first of the random group elements. The plane goes through the minimum, its "
        "image and the middle of the curve between them; distances are between parameters."
    )
    titles = {
        "rescaling": ("Rescaling, a symmetry", "Its curve keeps the residual all along."),
        "curve": ("The map of eq. (6)", "No symmetry here: the residual rises on its curve too."),
    }
    return [
        landscape(data, f"{name}_plane", title, f"{said} {both}", loss="residual |W₂σ(W₁X) − Y|",
                  logarithmic=False)
        for name, (title, said) in titles.items()
    ]  # fmt: skip

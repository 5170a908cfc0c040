"""Real data: a network trained on scikit-learn's digits, moved along its symmetry curves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import plotting
from .._checks import require
from ..actions import Leg, linear_action
from ..barriers import loss_along
from ..curves import chord, connecting_curve
from ..groups import PositiveScaling, Product
from ..linalg._precision import mm
from ..training import minimise
from ._look import Panel, landscape
from ._plane import plane, units as plane_units
from ._result import Data, Result, Statement
from ._sampling import Study

REQUIRES = ("sklearn",)
WIDTHS, TIMES = (64, 64, 32, 10), 33
TOLERANCE = 1e-4
"""Of the loss on a curve, relative: float32 rounding of logits of size 20, over a loss of 0.01."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of the digits study."""

    seed: int = 0
    """Seed of all randomness."""
    curves: int = 10
    """Random elements of the symmetry group, each with its curve and its chord."""
    scale: float = 1.0
    """Standard deviation of the logarithms of the scales of the hidden units."""
    steps: int = 300
    """Full-batch Adam steps."""

    def __post_init__(self):
        require(self.curves >= 1, f"`curves` must be at least 1, got {self.curves}.")
        require(self.scale > 0, f"`scale` must be positive, got {self.scale}.")
        require(self.steps >= 1, f"`steps` must be at least 1, got {self.steps}.")


def logits(params, x):
    """A ReLU network with biases; the columns of x are images."""
    z = x
    for layer in ("first", "second"):
        z = jax.nn.relu(mm(params[layer]["weight"], z) + params[layer]["bias"][:, None])
    return mm(params["last"]["weight"], z) + params["last"]["bias"][:, None]


def symmetry():
    """One positive scale per hidden unit: its row and its bias times c, its column divided by c."""
    legs = []
    for factor, (layer, reader) in enumerate((("first", "second"), ("second", "last"))):
        legs += [
            Leg(f"{layer}/weight", 0, "vector", factor),
            Leg(f"{layer}/bias", 0, "vector", factor),
            Leg(f"{reader}/weight", 1, "covector", factor),
        ]
    return linear_action(Product([PositiveScaling(h) for h in WIDTHS[1:-1]]), legs)


def study(config: Config) -> Study:
    """One item: train, then measure loss and test accuracy along curves and chords."""

    def one(key, index):
        for_split, for_start, for_curves = jax.random.split(key, 3)
        train, test = _images(for_split)
        found = _train(for_start, *train, config.steps)
        keys = jax.random.split(for_curves, config.curves)
        measured = _walk(keys, config.scale, found, train, test)
        return measured | {
            "steps": found.steps,
            "trained_loss": found.loss,
            "trained_gradient": found.relative_gradient_norm,
        }

    return Study(1, (one,), config.seed)


def conclude(config: Config, data: Data) -> Result:
    """What the curves show."""
    times = {"times": np.linspace(0, 1, TIMES)}
    return Result(times, _statements(_only(data)), draw, _notes(_only(data), config), _units())


def _only(data: Data) -> dict[str, np.ndarray]:
    """The arrays of the one item."""
    return {name: values if name == "times" else values[0] for name, values in data.items()}


def _images(key):
    """Three quarters of the digits for training, the rest for testing: (x, labels) each."""
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    order = jax.random.permutation(key, len(targets))
    x = jnp.asarray(images.T / 16, jnp.float32)[:, order]
    labels = jnp.asarray(targets, jnp.int32)[order]
    cut = 3 * len(targets) // 4
    return (x[:, :cut], labels[:cut]), (x[:, cut:], labels[cut:])


def _cross_entropy(params, x, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x).T, labels).mean()


def _accuracy(params, x, labels):
    return jnp.mean((jnp.argmax(logits(params, x), axis=0) == labels).astype(jnp.float32))


def _train(key, x, labels, steps):
    names = ("first", "second", "last")
    keys = jax.random.split(key, len(names))
    start = {
        name: {
            "weight": jax.random.normal(k, (rows, columns)) * (2 / columns) ** 0.5,
            "bias": jnp.zeros(rows),
        }
        for name, k, columns, rows in zip(names, keys, WIDTHS[:-1], WIDTHS[1:], strict=True)
    }

    loss = lambda p: _cross_entropy(p, x, labels)
    return minimise(loss, start, optimiser=optax.adam(5e-3), steps=steps, tolerance=1e-5)


def _walk(keys, scale, found, train, test):
    """Loss and accuracy along the curve and the chord to a random point of the orbit."""
    action = symmetry()
    ts = jnp.linspace(0.0, 1.0, TIMES)
    curve_of = lambda key: connecting_curve(
        action, found.params, action.group.random(key, scale=scale)
    )

    def one(key):
        curve = curve_of(key)
        straight = chord(found.params, curve(1.0))
        measured = {}
        for name, path in (("curve", curve), ("chord", straight)):
            measured[f"{name}_loss"] = loss_along(lambda p: _cross_entropy(p, *train), path, ts)
            measured[f"{name}_accuracy"] = loss_along(lambda p: _accuracy(p, *test), path, ts)
        moved = jax.tree.map(jnp.subtract, curve(1.0), found.params)
        measured["moved"] = optax.tree.norm(moved) / optax.tree.norm(found.params)
        return measured

    first = plane("plane", lambda p: _cross_entropy(p, *train), curve_of(keys[0]))
    return jax.lax.map(one, keys) | first


def _statements(data: Data) -> list[Statement]:
    loss, accuracy = data["curve_loss"], data["curve_accuracy"]
    change = np.abs(loss / loss[:, :1] - 1).max(axis=1)
    same = (accuracy == accuracy[:, :1]).all(axis=1)
    higher = data["chord_loss"].max(axis=1) - loss[:, 0]
    return [
        Statement.of(
            "Eq. (5), digits",
            change < TOLERANCE,
            TOLERANCE - change,
            "training loss of a ReLU network on real images along curves of its rescaling "
            f"symmetry, float32. Margin: {TOLERANCE} minus the largest relative change.",
        ),
        Statement.of(
            "Eq. (5), digits, test accuracy",
            same,
            None,
            "the test accuracy is the same number at every point of the curve: "
            f"{accuracy[0, 0]:.4f}.",
        ),
        Statement.of(
            "Straight line is worse, digits",
            higher > 0,
            higher,
            "largest training loss on the chord minus the loss at its ends.",
        ),
    ]


def _notes(data: Data, config: Config) -> list[str]:
    lowest = data["chord_accuracy"].min(axis=1)
    return [
        f"Adam took {int(data['steps'])} of {config.steps} full-batch steps; training loss "
        f"{data['trained_loss']:.4f}, relative gradient norm "
        f"{data['trained_gradient']:.1e}.",
        f"The moved networks are {data['moved'].min():.2g} to {data['moved'].max():.2g} times the "
        "norm of the parameters away; test accuracy on the straight lines falls to between "
        f"{lowest.min():.3f} and {lowest.max():.3f}.",
    ]


def _units() -> dict[str, str]:
    units = {
        "times": "(time,) position on the path",
        "steps": "(network,) steps of training",
        "trained_loss": "(network,) mean cross-entropy where it ended, nats",
        "trained_gradient": "(network,) relative norm of the gradient there",
        "moved": "(network, curve) distance between the ends / norm of the parameters",
    }
    for path in ("curve", "chord"):
        units[f"{path}_loss"] = (
            "(network, curve, time) mean cross-entropy on the training images, nats"
        )
        units[f"{path}_accuracy"] = (
            "(network, curve, time) share of test images classified correctly"
        )
    return units | plane_units("plane", "mean cross-entropy on the training images, nats")


def draw(data: Data):
    """Training loss and test accuracy along the way."""
    data = _only(data)
    figure, axes = plotting.blank(1, 2, width=4.8, height=4.0)
    for panel, what in zip(axes, ("loss", "accuracy"), strict=True):
        for path, label, style in (
            ("chord", "straight line", plotting.CHORD),
            ("curve", r"$\gamma$, curve of the symmetry", plotting.CURVE),
        ):
            plotting.plot_loss_along(
                panel, data["times"], data[f"{path}_{what}"], label=label, style=style
            )
    axes[0].set(ylabel="training loss (cross-entropy, nats)", title="Training loss")
    axes[1].set(ylabel="test accuracy", title="Test accuracy")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        title=f"mean and range over {len(data['moved'])} random rescalings of the hidden units",
    )
    return figure


def look(data: Data) -> list[Panel]:
    """The loss in the plane of the trained network, its image and the middle of their curve."""
    text = (
        "Training loss in the plane through a trained network, its rescaled copy and the middle of "
        "the curve of the symmetry between them; distances are between parameters. The curve "
        "leaves the plane between these three points, where its own loss is not that of the plane."
    )
    title = "A network trained on digits, and the first of the rescaled copies"
    axis = "training loss (nats)"
    return [landscape(_only(data), "plane", title, text, loss=axis, logarithmic=True)]

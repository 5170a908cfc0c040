"""The loss in the plane through the two ends of a curve and its middle, and the curve above it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._orbits import dot, norm, scaled
from ..curves import Curve

ROWS, TIMES = 41, 65


def plane(
    name: str,
    loss: Callable[[PyTree], Float[Array, ""]],
    curve: Curve,
) -> dict[str, Array]:
    """Arrays ``NAME_x``, ``NAME_y`` and ``NAME_loss`` of the grid, and of the curve over it.

    x runs along the chord, y across it towards the curve's middle; both are distances between
    parameters, from the start. The curve lies in the plane at its ends and middle only, so there is
    its own loss, that of the point below it, and how far it is from the plane.
    """
    start, middle, end = (curve(jnp.asarray(t)) for t in (0.0, 0.5, 1.0))
    minus = lambda p, q: jax.tree.map(jnp.subtract, p, q)
    plus = lambda p, q: jax.tree.map(jnp.add, p, q)

    along, up = minus(end, start), minus(middle, start)
    length = norm(along)
    along = scaled(along, 1 / length)
    up = minus(up, scaled(along, dot(along, up)))
    height = norm(up)
    up = scaled(up, 1 / height)
    at = lambda x, y: plus(start, plus(scaled(along, x), scaled(up, y)))

    def over(t):
        away = minus(curve(t), start)
        x, y = dot(along, away), dot(up, away)
        off = norm(minus(away, plus(scaled(along, x), scaled(up, y))))
        return {
            "curve_x": x,
            "curve_y": y,
            "curve_off": off,
            "curve_loss": loss(curve(t)),
            "curve_below": loss(at(x, y)),
            "chord_loss": loss(at(t * length, jnp.zeros_like(length))),
        }

    xs = jnp.linspace(-0.2, 1.2, ROWS, dtype=length.dtype) * length
    ys = jnp.linspace(-0.6, 1.5, ROWS, dtype=length.dtype) * height
    grid = jax.lax.map(lambda y: jax.lax.map(lambda x: loss(at(x, y)), xs), ys)
    found = {"x": xs, "y": ys, "loss": grid}
    found |= jax.lax.map(over, jnp.linspace(0.0, 1.0, TIMES, dtype=length.dtype))
    return {f"{name}_{key}": value for key, value in found.items()}


def units(name: str, meaning: str) -> dict[str, str]:
    """Axes and meaning of the arrays of `plane`; ``meaning`` says what the loss is."""
    known = {
        "x": "(network, column) distance along the chord",
        "y": "(network, row) distance across the chord, towards the curve's middle",
        "loss": f"(network, row, column) {meaning}, in the plane of the ends and the middle",
        "curve_x": "(network, place) the curve's distance along the chord",
        "curve_y": "(network, place) the curve's distance across the chord",
        "curve_off": "(network, place) distance of the curve from the plane",
        "curve_loss": f"(network, place) {meaning}, on the curve",
        "curve_below": f"(network, place) {meaning}, below the curve in the plane",
        "chord_loss": f"(network, place) {meaning}, on the chord",
    }
    return {f"{name}_{key}": text for key, text in known.items()}

"""Two-layer sigmoid networks of any sizes: drawn, trained, moved by eq. (6) and measured.

A network is |U sigmoid(V X) - Y|^2 with sizes m, h, n, k of its own. It may be padded: with zeros,
but V X with a number so low that its sigmoid and the derivative of it are exactly zero. The
padding then adds zeros to every sum, and no step of the training moves it.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from scipy.special import expit

from ..linalg import expm
from ..linalg._precision import mm
from ._buckets import fit_to

Element = Literal["gaussian", "exponential"]
"""g with independent entries N(0, 1/h), or the exponential of such a matrix."""

PADDING_OF_Z = -1e4

# Singular values of sigmoid(g V X) below this fraction of the largest count as zero.
RANK_CUT = {"float32": 1e-5, "float64": 1e-13}


class Shape(NamedTuple):
    """The sizes that are padded: outputs, hidden units and samples."""

    m: int
    h: int
    k: int


class Network(NamedTuple):
    """What training needs of one network: V and X enter through V X and X^T X alone.

    The fields are z = V X (h, k), u (m, h), y (m, k), kernel = X^T X (k, k) and the learning rate.
    """

    z: Any
    u: Any
    y: Any
    kernel: Any
    rate: Any


class Outcome(NamedTuple):
    """What is measured on one network: F = U sigmoid(V X) is its output, F' that of its image."""

    output: Any
    moved_output: Any
    change: Any
    rank: Any
    loss_before: Any
    loss_after: Any


def draw_sizes(
    seed: int, index: int, low: int, high: int
) -> tuple[np.random.Generator, np.ndarray]:
    """Sizes (m, h, n, k), uniform in low..high, of network ``index``; and its generator, used once.

    They depend on the seed and on the index alone.
    """
    generator = np.random.default_rng([seed, index])
    return generator, generator.integers(low, high + 1, 4)


def draw_weights(
    seed: int, index: int, low: int, high: int, dtype: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """V, U, X, Y and the Gaussian matrix of g at their true shapes; X and Y are standard normal."""
    generator, (m, h, n, k) = draw_sizes(seed, index, low, high)

    def normal(rows, columns, scale=1.0):
        return (scale * generator.standard_normal((rows, columns))).astype(dtype)

    # V and U keep the mean square of what they read, and g that of V.
    return (
        normal(h, n, n**-0.5),
        normal(m, h, h**-0.5),
        normal(n, k),
        normal(m, k),
        normal(h, h, h**-0.5),
    )


def as_network(weights: tuple[np.ndarray, ...], relative_rate: float) -> Network:
    """The network of drawn weights, at its true shape."""
    v, u, x, y, _ = weights
    rate = relative_rate / lipschitz_estimate(*u.shape, *x.shape)
    return Network(v @ x, u, y, x.T @ x, np.asarray(rate, v.dtype))


def lipschitz_estimate(m: int, h: int, n: int, k: int) -> float:
    """Estimate of the Lipschitz constant of the gradient of |U sigmoid(V X) - Y|^2 at the start.

    The Gauss-Newton part is at most 2 (|S|_2^2 + |U|_2^2 |X|_2^2 / 16), as sigmoid' <= 1/4.
    S = sigmoid(V X) has entries near 1/2 with variance 0.04, and a Gaussian matrix of a by b
    entries of deviation s has a spectral norm near s (sqrt a + sqrt b).
    """
    features = 0.29 * h * k
    weight = (1 + (m / h) ** 0.5) ** 2
    data = (n**0.5 + k**0.5) ** 2
    return float(2 * (features + weight * data / 16))


def arithmetic(shapes: np.ndarray) -> np.ndarray:
    """Multiplications and additions of a step at (m, h, k): four products, and the sigmoid."""
    m, h, k = np.moveaxis(np.asarray(shapes), -1, 0)
    return h * k * (6 * m + 2 * k + 30)


def train(network: Network, steps: Any) -> Network:
    """The network after full-batch gradient steps in V and U.

    A gradient step of the loss in V changes Z = V X by -rate (dloss/dZ) X^T X, and nothing else
    of V or X is ever seen: training Z with the kernel X^T X takes the same steps, without the
    size n and with one product less.
    """

    # Plain gradient steps rather than `training.minimise`, as there is no tolerance to watch, and
    # derivatives by hand: each padded shape traces and compiles this anew.
    def descend(_, weights):
        z, u = weights
        s = jax.nn.sigmoid(z)
        residual = 2 * network.rate * (mm(u, s) - network.y)
        dz = mm(u.T, residual) * s * (1 - s)
        return z - mm(dz, network.kernel), u - mm(residual, s.T)

    z, u = jax.lax.fori_loop(0, steps, descend, (network.z, network.u))
    return network._replace(z=z, u=u)


@functools.cache
def compiled_training(shape: Shape, dtype: str) -> jax.stages.Compiled:
    """`train` of (network, steps) for one padded shape.

    It takes one network: a loop over several inside it takes twice as long to compile and is no
    faster on a CPU.
    """
    network = Network(*(jax.ShapeDtypeStruct(s, dtype) for s in _shapes(*shape)))
    with jax.enable_x64(dtype == "float64"):
        return jax.jit(train).lower(network, jax.ShapeDtypeStruct((), "int32")).compile()


def move(before: Network, after: Network, g: np.ndarray, cut: float) -> Outcome:
    """Apply eq. (6) with ``g`` to a trained network and measure, on the host at its true shape.

    The new output U' sigma(V' X) is F sigma(g V X)^+ sigma(g V X): F projected on the rows of
    sigma(g V X). The right singular vectors give that without the pseudoinverse, which would
    multiply rounding errors by the condition number.
    """
    output = after.u @ expit(after.z)
    _, values, rows = np.linalg.svd(expit(g @ after.z), full_matrices=False)
    rows = rows[values > cut * values[0]]
    moved = (output @ rows.T) @ rows
    return Outcome(
        output=np.linalg.norm(output),
        moved_output=np.linalg.norm(moved),
        change=np.linalg.norm(output - moved),
        rank=len(rows),
        loss_before=_loss(before),
        loss_after=_loss(after),
    )


@functools.cache
def compiled_expm(size: int, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """The exponential of matrices up to one size, which they are padded to."""
    with jax.enable_x64(dtype == "float64"):
        program = jax.jit(expm).lower(jax.ShapeDtypeStruct((size, size), dtype)).compile()
    return lambda a: fit_to(np.asarray(program(fit_to(a, (size, size)))), a.shape)


def _loss(network):
    return np.sum((network.u @ expit(network.z) - network.y) ** 2)


def pad_network(network: Network, shape: Shape) -> Network:
    """The network up to the sizes (m, h, k), or down to them where it was padded beyond."""
    fill = Network(PADDING_OF_Z, 0.0, 0.0, 0.0, 0.0)
    return Network(*map(fit_to, network, _shapes(*shape), fill))


def _shapes(m: int, h: int, k: int) -> Network:
    """The shape of every field of a network."""
    return Network((h, k), (m, h), (m, k), (k, k), ())

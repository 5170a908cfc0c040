"""Two-layer sigmoid networks of any sizes: drawn, trained, moved by eq. (6) and measured.

A network is |U sigmoid(V X) - Y|^2 with sizes m, h, n, k of its own. It may be padded with zeros:
a mask keeps the padded hidden units and samples at zero, where the sigmoid would make them 1/2.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..linalg import expm
from ..linalg._precision import mm
from ._buckets import pad_to

Element = Literal["gaussian", "exponential"]
"""g with independent entries N(0, 1/h), or the exponential of such a matrix."""

# Singular values of sigmoid(g V X) below this fraction of the largest count as zero. It is fixed,
# since the usual choice, the larger side times epsilon, would depend on the padding.
RANK_CUT = {"float32": 1e-5, "float64": 1e-13}


class Network(NamedTuple):
    """What training and eq. (6) need of one network, V and X entering through V X and X^T X alone.

    The fields are z = V X (h, k), u (m, h), y (m, k), kernel = X^T X (k, k), the Gaussian matrix
    of g (h, h), the masks of hidden units (h,) and samples (k,), and the learning rate.
    """

    z: Any
    u: Any
    y: Any
    kernel: Any
    g: Any
    hidden: Any
    samples: Any
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
    v, u, x, y, g = weights
    rate = relative_rate / lipschitz_estimate(*u.shape, *x.shape)
    hidden, samples = np.ones(len(v), v.dtype), np.ones(x.shape[1], v.dtype)
    return Network(v @ x, u, y, x.T @ x, g, hidden, samples, np.asarray(rate, v.dtype))


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


def train_and_move(network: Network, steps: Any, element: Element, cut: float) -> Outcome:
    """Train by full-batch gradient steps, apply eq. (6), measure. Padding adds zeros to every sum.

    A gradient step of the loss in V changes Z = V X by -rate (dloss/dZ) X^T X, and nothing else
    of V or X is ever seen: training Z with the kernel X^T X takes the same steps, without the
    size n and with one product less.
    """
    z, u, y, kernel, g, hidden, samples, rate = network
    mask = hidden[:, None] * samples[None, :]

    def features(z):
        return jax.nn.sigmoid(z) * mask

    def loss(z, u):
        return jnp.sum((mm(u, features(z)) - y) ** 2)

    # Plain gradient steps rather than `training.minimise`: there is no tolerance to watch, and
    # evaluating the gradient outside of the loop as well takes half as long again to compile.
    def descend(_, weights):
        dz, du = jax.grad(loss, argnums=(0, 1))(*weights)
        return weights[0] - rate * mm(dz, kernel), weights[1] - rate * du

    loss_before = loss(z, u)
    z, u = jax.lax.fori_loop(0, steps, descend, (z, u))
    output = mm(u, features(z))
    g = expm(g) if element == "exponential" else g
    moved, rank = _project_rows(output, features(mm(g, z)), cut)
    return Outcome(
        output=_norm(output),
        moved_output=_norm(moved),
        change=_norm(output - moved),
        rank=rank,
        loss_before=loss_before,
        loss_after=jnp.sum((output - y) ** 2),
    )


def pad_network(network: Network, shape: tuple[int, int, int]) -> Network:
    """The network with zeros up to the sizes (m, h, k)."""
    return Network(*map(pad_to, network, _shapes(*shape)))


@functools.cache
def compiled(shape: tuple[int, int, int], element: Element, dtype: str) -> jax.stages.Compiled:
    """The program (network, steps) -> outcome for one padded shape.

    It takes one network at a time: a loop over networks inside the program takes twice as long to
    compile and is no faster on a CPU.
    """
    network = Network(*(jax.ShapeDtypeStruct(s, dtype) for s in _shapes(*shape)))
    program = functools.partial(train_and_move, element=element, cut=RANK_CUT[dtype])
    return jax.jit(program).lower(network, jax.ShapeDtypeStruct((), "int32")).compile()


def _shapes(m: int, h: int, k: int) -> Network:
    """The shape of every field of a network."""
    return Network((h, k), (m, h), (m, k), (k, k), (h, h), (h,), (k,), ())


def _project_rows(a, s, cut):
    """``a`` projected on the rows of ``s``, that is a s^+ s, and the rank of ``s``.

    The right singular vectors give it without the pseudoinverse, which would multiply rounding
    errors by the condition number.
    """
    _, values, rows = jnp.linalg.svd(s, full_matrices=False)
    kept = values > cut * values[0]
    rows = rows * kept[:, None].astype(rows.dtype)
    return mm(mm(a, rows.T), rows), jnp.sum(kept)


def _norm(a):
    return jnp.sqrt(jnp.sum(a**2))

"""The paper's networks as pure functions of a tuple of weights; the columns of x are samples."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ._checks import checked_widths, describe, is_floating, require, require_key
from .linalg._precision import computing_dtype, mm

Weights = tuple[Float[Array, "_ _"], ...]
Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]
Network = Callable[[Weights, Float[Array, "n k"]], Float[Array, "m k"]]


def linear(params: Weights, x: Float[Array, "n k"]) -> Float[Array, "m k"]:
    """The deep linear network W_l ... W_1 x.

    ``params`` is the tuple (W_1, ..., W_l) with W_i of shape (d_i, d_{i-1}), and x has d_0 rows.

    Raises ValueError where the shapes do not chain from x to the last weight.

    Example:
        >>> from symjax import networks
        >>> networks.linear((2 * jnp.eye(2), jnp.ones((1, 2))), jnp.ones((2, 1))).tolist()
        [[4.0]]
    """
    return homogeneous(lambda z: z)(params, x)


def two_layer(sigma: Activation) -> Network:
    """The network U sigma(V x) as a function of ((V, U), x), for any entrywise activation.

    V has shape (h, n), U has shape (m, h) and x has shape (n, k).

    Raises ValueError where ``params`` is not a pair, or the shapes do not chain.

    Example:
        >>> from symjax import networks
        >>> apply = networks.two_layer(jax.nn.relu)
        >>> v, u = jnp.array([[1.0], [-1.0]]), jnp.ones((1, 2))
        >>> apply((v, u), jnp.array([[3.0, -2.0]])).tolist()
        [[3.0, 2.0]]
    """
    apply = homogeneous(sigma)

    def two_layer_apply(params: Weights, x: Float[Array, "n k"]) -> Float[Array, "m k"]:
        require(len(params) == 2, f"`params` must be the pair (V, U), got {len(params)} leaves.")
        return apply(params, x)

    return two_layer_apply


def homogeneous(sigma: Activation) -> Network:
    """The network W_l sigma(W_{l-1} ... sigma(W_1 x)) as a function of ((W_1, ..., W_l), x).

    The activation acts after every weight but the last. The name is for its use: where
    sigma(c z) = c^k sigma(z) for c > 0 (ReLU, leaky ReLU, powers) each layer has a rescaling
    symmetry. Half-precision numbers are computed in float32 and cast back.

    Raises ValueError where the shapes do not chain from x to the last weight.

    Example:
        >>> from symjax import networks
        >>> cube = networks.homogeneous(lambda z: z**3)
        >>> float(cube((jnp.full((1, 1), 2.0), jnp.ones((1, 1))), jnp.ones((1, 1)))[0, 0])
        8.0
    """

    def homogeneous_apply(params: Weights, x: Float[Array, "n k"]) -> Float[Array, "m k"]:
        _require_chain(params, x)
        dtype = computing_dtype(x.dtype)
        z = x.astype(dtype)
        for w in params[:-1]:
            z = sigma(mm(w.astype(dtype), z))
        return mm(params[-1].astype(dtype), z).astype(x.dtype)

    return homogeneous_apply


def random_weights(
    key: Key[Array, ""],
    widths: Sequence[int],
    *,
    scale: float = 1.0,
    dtype: jnp.dtype | type = float,
) -> Weights:
    """Weights (W_1, ..., W_l) with independent normal entries.

    ``widths`` is (d_0, ..., d_l). W_i has shape (d_i, d_{i-1}) and standard deviation
    scale / sqrt(d_{i-1}), so with scale 1 a linear layer keeps the mean square of its input. They
    are float32, or float64 where x64 is enabled, unless ``dtype`` says otherwise.

    Raises ValueError for fewer than two widths, a width below 1, or a dtype that is not floating.

    Example:
        >>> from symjax import networks
        >>> [w.shape for w in networks.random_weights(jax.random.key(0), (5, 3, 2))]
        [(3, 5), (2, 3)]
    """
    widths = checked_widths(widths)
    require(
        jnp.issubdtype(jnp.dtype(dtype), jnp.floating),
        f"`dtype` must be a floating-point type, got {jnp.dtype(dtype)}.",
    )
    require_key(key)
    keys = jax.random.split(key, len(widths) - 1)
    return tuple(
        jax.random.normal(k, (rows, columns), dtype) * (scale / columns**0.5)
        for k, columns, rows in zip(keys, widths[:-1], widths[1:], strict=True)
    )


def squared_loss(
    apply: Network, x: Float[Array, "n k"], y: Float[Array, "m k"]
) -> Callable[[Weights], Float[Array, ""]]:
    """The loss params -> |apply(params, x) - y|^2, the sum of squares over all samples.

    Raises ValueError when called, where the output and y differ in shape.

    Example:
        >>> from symjax import networks
        >>> loss = networks.squared_loss(networks.linear, jnp.eye(2), jnp.zeros((2, 2)))
        >>> float(loss((jnp.eye(2), jnp.eye(2))))
        2.0
    """

    def loss(params: Weights) -> Float[Array, ""]:
        output = apply(params, x)
        require(
            output.shape == y.shape,
            f"`y` must have the shape of the network's output, {output.shape}, got {y.shape}.",
        )
        dtype = computing_dtype(output.dtype)
        return jnp.sum((output.astype(dtype) - y.astype(dtype)) ** 2).astype(output.dtype)

    return loss


def _require_chain(params: Weights, x: Float[Array, "n k"]) -> None:
    """ValueError unless the weights and x are matrices of one dtype whose shapes chain."""
    require(len(params) >= 1, "`params` must hold at least one weight, got an empty tuple.")
    require(
        is_floating(x) and x.ndim == 2,
        f"`x` must be a real matrix with one sample per column, got {describe(x)}.",
    )
    rows = x.shape[0]
    for i, w in enumerate(params):
        fits = is_floating(w) and w.ndim == 2 and w.shape[1] == rows and w.dtype == x.dtype
        require(
            fits,
            f"`params[{i}]` must be a {x.dtype} matrix with {rows} columns, got {describe(w)}.",
        )
        rows = w.shape[0]

"""The derivative of the exponential in a direction, as a linear map that JAX can transpose.

L(a, e) = d/ds exp(a + s e) at s = 0. The number of squarings depends on the values, and a loop of
unknown length can't be transposed; but the map can, by mathematics: the transpose of L(a, .) is
L(a^T, .). So L is a primitive with its own rules. Its derivative in a is the second derivative of
the exponential, which is L again, at [[a, e], [0, a]]: every higher derivative follows.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from ._arguments import each_matrix
from ._taylor import exponential

_frechet = Primitive("symjax_expm_frechet")


def expm_frechet(a: Float[Array, "... n n"], e: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    """L(a, e), linear in e; ``a`` and ``e`` have one shape and one dtype."""
    return _frechet.bind(a, e)


def solve_frechet(
    log: Float[Array, "... n n"],
    a: Float[Array, "... n n"],
    e: Float[Array, "... n n"],
    along: Callable[..., Any],
) -> Float[Array, "... n n"]:
    """The x with L(log, x) = e, L the derivative of exp: the derivative of a logarithm of a.

    ``along(log, a, e)`` computes it. JAX is told what equation it solves, and so knows its
    transpose and its own derivatives, whatever ``along`` does inside.
    """
    known, known_log = jax.lax.stop_gradient((a, log))
    return jax.lax.custom_linear_solve(
        lambda x: expm_frechet(log, x),
        e,
        lambda _, e: along(known_log, known, e),
        lambda _, e: along(known_log.mT, known.mT, e),
    )


def _numbers(a, e):
    return each_matrix(_one, a, e)


def _one(a, e):
    return jax.jvp(exponential, (a,), (e,))[1]


def _second(a, e, f):
    """d/ds L(a + s f, e) at s = 0, linear in f and in e."""
    n = a.shape[-1]
    # A direction of any size: e is brought to that of one, so that it costs no squarings.
    size = jax.lax.stop_gradient(jnp.abs(e).sum((-2, -1), keepdims=True))
    size = jnp.where(size > 0, size, jnp.ones_like(size))
    zero = jnp.zeros_like(a)
    point = jnp.block([[a, e / size], [zero, a]])
    direction = jnp.block([[f, zero], [zero, f]])
    return size * expm_frechet(point, direction)[..., :n, n:]


def _batched(operands, axes):
    size = next(x.shape[d] for x, d in zip(operands, axes, strict=True) if d is not None)
    front = [
        jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(operands, axes, strict=True)
    ]
    return expm_frechet(*front), 0


def _transposed(cotangent, a, e):
    if isinstance(cotangent, ad.Zero):
        return None, ad.Zero(e.aval)
    return None, expm_frechet(a.mT, cotangent)


_frechet.def_impl(_numbers)
_frechet.def_abstract_eval(lambda a, e: e)
mlir.register_lowering(_frechet, mlir.lower_fun(_numbers, multiple_results=False))
ad.defjvp(_frechet, lambda f, a, e: _second(a, e, f), lambda f, a, e: expm_frechet(a, f))
ad.primitive_transposes[_frechet] = _transposed
batching.primitive_batchers[_frechet] = _batched

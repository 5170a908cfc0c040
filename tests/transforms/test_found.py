"""Every model whose symmetries are found gets all this: an attention layer, shifts included."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import symjax
from symjax import canonical, transforms

from ..helpers import eps
from .models import flat

SHAPES = {"q": (4, 2, 2), "k": (4, 2, 2), "v": (4, 2, 2), "o": (2, 2, 4)}
SHAPES |= {"bk": (2, 2), "bv": (2, 2), "bo": (4,)}


def attention(p, x):
    q, k, v = (jnp.einsum("td,dnh->tnh", x, p[name]) for name in "qkv")
    k, v = k + p["bk"][None], v + p["bv"][None]
    weights = jax.nn.softmax(jnp.einsum("tnh,snh->nts", q, k), -1)
    return jnp.einsum("nts,snh,nhd->td", weights, v, p["o"]) + p["bo"][None]


@pytest.mark.slow
def test_found_symmetries_of_an_attention_layer(x64):
    keys = jax.random.split(jax.random.key(0), len(SHAPES) + 1)
    params = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, SHAPES.items(), strict=False)}
    x = jax.random.normal(keys[-1], (5, 4))
    loss = lambda p: jnp.sum(attention(p, x) ** 2)
    found = symjax.find_symmetries(attention, params, x)
    gradient = jax.grad(loss)(params)

    quotient = transforms.quotient_gradient(found)
    update = jax.jit(quotient.update)
    # The gradient of an invariant loss has no component along the orbit; most directions do.
    assert float(update(gradient, quotient.init(params), params)[1].along) < 1e-6
    assert float(update(params, quotient.init(params), params)[1].along) > 0.1

    jump = transforms.teleport(found, every=1)
    still = jax.tree.map(jnp.zeros_like, params)
    moved, state = jax.jit(lambda p: jump.update(still, jump.init(p), p, value_fn=loss))(params)
    moved = optax.apply_updates(params, moved)
    assert float(loss(moved)) == pytest.approx(float(loss(params)), rel=1e3 * eps(float))
    assert float(state.after) > 1.5 * float(state.before)

    size = jax.jit(lambda p: canonical.orbit_dimension(found, p))(params)
    assert (int(size.orbit), int(size.stabiliser)) == (found.dimension, 0) == (24, 0)
    short = jax.jit(lambda p: canonical.minimum_norm(found, p))(params)
    assert bool(short.converged)
    assert float(short.norm) < np.linalg.norm(flat(params))
    assert float(loss(short.params)) == pytest.approx(float(loss(params)), rel=1e-12)

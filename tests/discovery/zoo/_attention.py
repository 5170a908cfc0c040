"""One attention layer on a given sequence: heads, biases, rotary positions, grouped queries."""

import math

import jax
import jax.numpy as jnp

from ._case import Case, model
from ._norms import rms_norm, rotations

T = 4


def interleaved(x, frequencies):
    """Rotary positions on pairs (0, 1), (2, 3), ... of the last axis; x is (T, width)."""
    angle = jnp.arange(x.shape[0], dtype=x.dtype)[:, None] * jnp.asarray(frequencies, x.dtype)[None]
    pairs = x.reshape(x.shape[0], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([a * c - b * s, a * s + b * c], -1).reshape(x.shape)


def rotate_half(x, frequencies):
    """Rotary positions on pairs (i, i + width/2)."""
    angle = jnp.arange(x.shape[0], dtype=x.dtype)[:, None] * jnp.asarray(frequencies, x.dtype)[None]
    a, b = jnp.split(x, 2, axis=-1)
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * c - b * s, a * s + b * c], -1)


def partly_rotated(x, frequencies):
    """Rotary positions on the first half of the width only."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([interleaved(a, frequencies), b], -1)


def softmax_causal(scores):
    mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    return jax.nn.softmax(jnp.where(jnp.broadcast_to(mask, scores.shape), scores, -1e30))


def attend(p, x, position=None, norm=None, weights=jax.nn.softmax):
    """Leaves q (kv, group, width, d), k and v (kv, width, d), o (d, kv, group, width)."""

    def head(name):
        y = jnp.einsum("...wd,td->...tw", p[name], x)
        return y + p[f"b{name}"][..., None, :] if f"b{name}" in p else y

    q, k, v = head("q"), head("k"), head("v")
    over = lambda f, y: jax.vmap(f)(y.reshape(-1, *y.shape[-2:])).reshape(y.shape)
    if norm:
        gains = [p[g] if g in p else None for g in ("nq", "nk")]
        q, k = (
            over(jax.vmap(lambda r, g=g: rms_norm(r, g)), y)
            for y, g in ((q, gains[0]), (k, gains[1]))
        )
    if position:
        q, k = over(position, q), over(position, k)
    scores = jnp.einsum("kgtw,ksw->kgts", q, k) / math.sqrt(q.shape[-1])
    y = jnp.einsum("kgts,ksw,dkgw->td", weights(scores), v, p["o"])
    return y + p["bo"][None] if "bo" in p else y


def shapes(kv=2, group=1, width=2, d=5, bias=False):
    found = {"q": (kv, group, width, d), "k": (kv, width, d), "v": (kv, width, d)}
    found |= {"o": (d, kv, group, width)}
    if bias:
        found |= {"bq": (kv, group, width), "bk": (kv, width), "bv": (kv, width), "bo": (d,)}
    return found


def layer(extra={}, *, position=None, norm=None, weights=jax.nn.softmax, **sizes):  # noqa: B006
    apply = lambda p, x: attend(p, x, position, norm, weights)
    found = shapes(**sizes)
    return model(apply, (T, found["o"][0]), **found, **extra)


def fused(p, x):
    """One matrix for q, k and v of both heads, split and reshaped."""
    q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
    heads = lambda y: y.reshape(T, 2, 2).transpose(1, 0, 2)
    q, k, v = heads(q), heads(k), heads(v)
    a = jax.nn.softmax(q @ k.transpose(0, 2, 1) / math.sqrt(2.0))
    return (a @ v).transpose(1, 0, 2).reshape(T, 4) @ p["o"]


def attention_pooling(p, x):
    """Three learnt queries over keys and values."""
    a = jax.nn.softmax(p["queries"] @ (x @ p["k"]).T)
    return a @ (x @ p["v"]) @ p["o"]


ROPE = lambda f: lambda x: interleaved(x, f)
HALF = lambda f: lambda x: rotate_half(x, f)

CASES = (
    Case("attention", layer(), 2 * (4 + 4), permutations=(2,), signs=0),
    Case("attention_bias", layer(bias=True), 2 * (4 + 2 + 4 + 2), permutations=(2,), signs=0),
    Case("attention_causal", layer(weights=softmax_causal), 16, permutations=(2,), signs=0),
    Case("attention_fused_qkv", model(fused, (T, 5), qkv=(5, 12), o=(4, 5)), 16, permutations=(2,)),
    Case("attention_grouped", layer(group=2, d=8), 2 * (4 + 4), permutations=(2, 2, 2), signs=0),
    Case("attention_grouped_bias", layer(group=2, d=8, bias=True), 2 * (4 + 2 + 4 + 2)),
    Case("attention_linear", layer(kv=1, weights=lambda s: s), 4 + 4 + 1),
    Case("rotary_interleaved", layer(width=4, d=8, position=ROPE((1.0, 0.3))), 2 * (4 + 16)),
    Case("rotary_half", layer(width=4, d=8, position=HALF((1.0, 0.3))), 2 * (4 + 16)),
    Case(
        "rotary_half_bias",
        layer(kv=1, width=4, d=5, bias=True, position=HALF((1.0, 0.3))),
        4 + 16 + 4,
    ),
    # two equal frequencies: GL(2, C)
    Case("rotary_equal_frequencies", layer(kv=1, width=4, position=ROPE((0.7, 0.7))), 8 + 16),
    # unrotated coordinates: GL(2) beside one rotated pair, and a key bias shift on them
    Case(
        "rotary_partial", layer(kv=1, width=4, position=lambda x: partly_rotated(x, (0.7,))), 6 + 16
    ),
    Case(
        "rotary_zero_frequency_bias",
        layer(kv=1, width=4, bias=True, position=HALF((1.0, 0.0))),
        (2 + 4 + 2) + (16 + 4),
    ),
    Case(
        "rotary_grouped", layer(kv=1, group=2, d=6, position=ROPE((1.0,))), 2 + 4, permutations=(2,)
    ),
    Case("qk_norm", layer(kv=1, width=4, norm=True), rotations(4) + 2 + 16),
    Case(
        "qk_norm_gains",
        layer({"nq": (4,), "nk": (4,)}, width=4, d=8, norm=True),
        2 * 2 + 4 + 2 * 16,
    ),
    Case(
        "qk_norm_gains_rotary",
        layer({"nq": (4,), "nk": (4,)}, width=4, d=8, norm=True, position=HALF((1.0, 0.3))),
        2 * 2 + 2 + 2 * 16,
    ),
    Case(
        "attention_pooling",
        model(attention_pooling, (T, 5), k=(5, 3), queries=(3, 3), v=(5, 2), o=(2, 2)),
        9 + 4,
    ),
)

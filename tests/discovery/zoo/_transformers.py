"""Whole transformers: where the norm stands, rotary or learnt positions, tied embeddings, scan."""

import functools

import jax
import jax.numpy as jnp

from ._attention import T, attend, interleaved, rotate_half, shapes
from ._case import Case, model, normal
from ._norms import layer_norm, rms_norm, rotations

D, VOCABULARY = 4, 9


def block_shapes(norms=2, position="rotary"):
    """A block of two query heads on one key/value head of width 2, and SwiGLU of width 3."""
    found = shapes(kv=1, group=2, width=2, d=D)
    found |= {f"n{i}": (D,) for i in range(1, norms + 1)}
    return found | {"gate": (3, D), "up": (3, D), "down": (D, 3)}


def llama_block(p, s, rotary=interleaved, eps=0.0, after=False):
    norm = lambda name, y: jax.vmap(lambda row: rms_norm(row, p[name], eps))(y)
    y = attend(p, norm("n1", s), lambda y: rotary(y, (1.0,)))
    s = s + (norm("n3", y) if after else y)
    z = norm("n2", s)
    y = (jax.nn.silu(z @ p["gate"].T) * (z @ p["up"].T)) @ p["down"].T
    return s + (norm("n4", y) if after else y)


def tokens(size, length=T):
    return (jnp.arange(length) * (size - 1) // (length - 1)).astype(jnp.int32)


def llama(layers, tied=False, scan=False, remat=False, after=False, **options):
    """Token embedding, pre-norm blocks, a final norm and log-probabilities."""

    def apply(p, ids):
        block = functools.partial(llama_block, after=after, **options)
        block = jax.checkpoint(block) if remat else block
        s = p["e"][ids]
        if scan:
            s = jax.lax.scan(lambda s, layer: (block(layer, s), None), s, p["layers"])[0]
        else:
            for i in range(layers):
                s = block(p[f"layer{i}"], s)
        s = jax.vmap(lambda row: rms_norm(row, p["nf"], options.get("eps", 0.0)))(s)
        return jax.nn.log_softmax(s @ (p["e"] if tied else p["u"]).T)

    def build(key):
        ends = {"e": (VOCABULARY, D), "nf": (D,)} | ({} if tied else {"u": (VOCABULARY, D)})
        params = normal(key, **ends)
        keys = [jax.random.fold_in(key, i) for i in range(layers)]
        blocks = [normal(k, **block_shapes(4 if after else 2)) for k in keys]
        if scan:
            params["layers"] = jax.tree.map(lambda *x: jnp.stack(x), *blocks)
        else:
            params |= {f"layer{i}": b for i, b in enumerate(blocks)}
        return apply, params, (tokens(VOCABULARY),)

    return build


def llama_dimension(layers, tied=False):
    in_layers = layers * (2 * D + 2 + 4 + 3)  # norm gains, rotary QK, VO, gated units
    return 1 + in_layers + (0 if tied else rotations(D) + D + D)


def gpt2(p, ids, tied=False, eps=0.0):
    """Learnt positions, pre-LN, biases everywhere, GELU; one block of two heads of width 2."""
    norm = lambda i, s: jax.vmap(lambda row: layer_norm(row, p[f"g{i}"], p[f"c{i}"], eps))(s)
    s = p["e"][ids] + p["p"]
    s = s + attend(p, norm(1, s))
    hidden = jax.nn.gelu(norm(2, s) @ p["w1"].T + p["b1"][None], approximate=False)
    s = s + hidden @ p["w2"].T + p["b2"][None]
    logits = norm(3, s) @ (p["e"] if tied else p["u"]).T
    return jax.nn.log_softmax(logits + p["bu"][None])


def gpt2_case(tied=False, eps=0.0):
    def build(key):
        leaves = shapes(d=D, bias=True) | {"e": (7, D), "p": (3, D), "bu": (7,)}
        leaves |= {"w1": (5, D), "b1": (5,), "w2": (D, 5), "b2": (D,)}
        leaves |= {f"{n}{i}": (D,) for n in "gc" for i in (1, 2, 3)}
        leaves |= {} if tied else {"u": (7, D)}
        return functools.partial(gpt2, tied=tied, eps=eps), normal(key, **leaves), (tokens(7, 3),)

    return build


def post_norm(blocks, norm, names):
    """s = norm(s + B tanh(A s)) for each block, and a linear readout."""

    def apply(p, x):
        s = p["e"] @ x
        for i in range(blocks):
            s = s + p[f"b{i}"] @ jnp.tanh(p[f"a{i}"] @ s)
            s = norm(s, *(p[f"{n}{i}"] for n in names))
        return p["out"] @ s

    leaves = {"e": (4, 4), "out": (5, 4)}
    for i in range(blocks):
        leaves |= {f"a{i}": (3, 4), f"b{i}": (4, 3)} | {f"{n}{i}": (4,) for n in names}
    return model(apply, (4,), **leaves)


def untied_embedding_head(p, ids):
    """No norm on the stream: tanh units read and write it."""
    s = p["e"][ids] + p["p"]
    s = s + jnp.tanh(s @ p["a"].T) @ p["b"].T
    return jax.nn.log_softmax(s @ p["u"].T + p["c"][None])


LAYERS = {"g": (D,), "c": (D,), "a": (3, D), "h": (3,), "b": (D, 3), "d": (D,)}


def norm_block(p, s):
    """A tanh layer behind a layer norm, beside the stream."""
    z = jax.vmap(lambda row: layer_norm(row, p["g"], p["c"]))(s)
    return s + jnp.tanh(z @ p["a"].T + p["h"][None]) @ p["b"].T + p["d"][None]


def scanned(loop, end):
    """Two layers by a scan over stacked leaves, read by ``end(p, what the loop gives)``."""

    def apply(p, x):
        return end(p, loop(x @ p["e"].T, {name: p[name] for name in LAYERS}))

    leaves = {name: (2, *shape) for name, shape in LAYERS.items()}
    return model(apply, (T, D), e=(D, D), out=(5, D), **leaves)


def stream(s, layers):
    """The stream after the last layer."""
    return jax.lax.scan(lambda s, p: (norm_block(p, s), None), s, layers)[0]


def both_streams(s, layers):
    """The stream after the last layer and before it."""
    return jax.lax.scan(lambda c, p: ((norm_block(p, c[0]), c[0]), None), (s, s), layers)[0]


def all_streams(s, layers):
    """The stream, and what it was in each layer with that layer's bias."""
    return jax.lax.scan(lambda s, p: (norm_block(p, s), s + p["d"][None]), s, layers)


def read_normed(p, s):
    return jax.vmap(layer_norm)(s) @ p["out"].T


CASES = (
    Case("layer_norm_scan", scanned(stream, read_normed), 43, permutations=(3, 3)),
    # The stream is read without a norm: what is added alike to all features shows.
    Case("layer_norm_scan_read", scanned(stream, lambda p, s: s @ p["out"].T), 26, equality=False),
    Case(
        "layer_norm_scan_last_step",
        scanned(both_streams, lambda p, s: (s[0] - s[1]) @ p["out"].T),
        26,
        equality=False,
    ),
    Case(
        "layer_norm_scan_stacked",
        scanned(all_streams, lambda p, s: (s[1][1] - s[1][0]) @ p["out"].T),
        0,
        equality=False,
    ),
    Case("llama", llama(1), 32, permutations=(2, 3)),
    Case("llama_two_layers", llama(2), 49, permutations=(2, 3, 2, 3)),
    Case("llama_scan", llama(2, scan=True), 49),
    Case("llama_remat", llama(1, remat=True), 32),
    Case("llama_rotate_half", llama(1, rotary=rotate_half), 32),
    Case("llama_eps", llama(1, eps=1e-5), 31, approximate=32),
    Case("llama_tied", llama(1, tied=True), llama_dimension(1, tied=True)),
    # the gain after a branch fixes the coordinates of the stream; each branch has a free scale
    Case("llama_norm_on_both_sides", llama(1, after=True), 32 - rotations(D) + 2),
    Case("gpt2", gpt2_case(), 104),
    Case("gpt2_eps", gpt2_case(eps=1e-5), 103, approximate=104),
    Case("gpt2_tied", gpt2_case(tied=True), 81),
    Case("post_rms_norm_one_block", post_norm(1, rms_norm, "g"), 1 + 4 + 6),
    Case("post_rms_norm", post_norm(2, rms_norm, "g"), 2 + 4, forbidden=("Orthogonal",)),
    Case("post_layer_norm", post_norm(2, layer_norm, "gc"), 22),
    # GL(4) of the stream, e += 1 u^T with p -= 1 u^T, log-softmax
    Case(
        "stream_without_norm",
        lambda key: (
            untied_embedding_head,
            normal(key, e=(7, 4), p=(3, 4), a=(5, 4), b=(4, 5), u=(7, 4), c=(7,)),
            (tokens(7, 3),),
        ),
        16 + 4 + 4 + 1,
        permutations=(5,),
        signs=5,
    ),
)

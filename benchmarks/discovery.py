"""How long `find_symmetries` takes on a transformer of GPT-2 small's shape.

    python benchmarks/discovery.py

12 heads of width 64, 768 wide, 50,257 tokens, 1,024 positions; abstract parameters. CPU seconds of
one core, tracing included, of the first call of a process that has read a small model before. What
is listed is then evaluated: "check" is the time of that alone, at 1/16 of the width, with 16 tokens
and 97 words, where the model takes few enough operations for it.
"""

from _timing import machine, table  # isort: skip; it pins to one core

import functools
import math
import time

import jax
import jax.numpy as jnp

import symjax

WIDTH, HEADS, VOCABULARY, LENGTH = 768, 12, 50257, 1024


def norm(s, gain, bias):
    mean = s.mean(-1, keepdims=True)
    variance = ((s - mean) ** 2).mean(-1, keepdims=True)
    return (s - mean) * jax.lax.rsqrt(variance + 1e-5) * gain + bias


def block(p, s):
    """Attention and a GELU layer, each after a norm and beside the stream."""
    t, d = s.shape
    qkv = norm(s, p["gain1"], p["shift1"]) @ p["qkv"] + p["qkv_bias"]
    heads = lambda y: y.reshape(t, HEADS, d // HEADS).transpose(1, 0, 2)
    q, k, v = map(heads, jnp.split(qkv, 3, axis=-1))
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(d // HEADS)
    scores = jnp.where(jnp.tril(jnp.ones((t, t), bool))[None], scores, -1e30)
    y = (jax.nn.softmax(scores) @ v).transpose(1, 0, 2).reshape(t, d)
    s = s + y @ p["out"] + p["out_bias"]
    y = jax.nn.gelu(norm(s, p["gain2"], p["shift2"]) @ p["up"] + p["up_bias"])
    return s + y @ p["down"] + p["down_bias"]


def gpt2(p, ids, *, scan):
    """Logits by the tied embedding."""
    s = p["tokens"][ids] + p["positions"]
    if scan:
        s = jax.lax.scan(lambda s, layer: (block(layer, s), None), s, p["layers"])[0]
    else:
        for layer in p["layers"]:
            s = block(layer, s)
    return norm(s, p["gain"], p["shift"]) @ p["tokens"].T


def shapes(layers, scan):
    """The parameters, as shapes."""
    vectors = dict.fromkeys(
        ["gain1", "shift1", "gain2", "shift2", "out_bias", "down_bias"], (WIDTH,)
    )
    one = {
        "qkv": (WIDTH, 3 * WIDTH),
        "qkv_bias": (3 * WIDTH,),
        "out": (WIDTH, WIDTH),
        "up": (WIDTH, 4 * WIDTH),
        "up_bias": (4 * WIDTH,),
        "down": (4 * WIDTH, WIDTH),
        **vectors,
    }
    array = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    stack = {name: array((layers, *shape)) for name, shape in one.items()}
    rows = [{name: array(shape) for name, shape in one.items()} for _ in range(layers)]
    ends = {"tokens": (VOCABULARY, WIDTH), "positions": (LENGTH, WIDTH)}
    ends |= dict.fromkeys(["gain", "shift"], (WIDTH,))
    return {n: array(s) for n, s in ends.items()} | {"layers": stack if scan else rows}


def seconds(layers, scan, check=False, small=False):
    """(CPU seconds, what was found)."""
    apply, params, length = functools.partial(gpt2, scan=scan), shapes(layers, scan), LENGTH
    if small:
        sizes, length = {VOCABULARY: 97, LENGTH: 16, WIDTH: WIDTH // 16}, 16
        sizes |= {3 * WIDTH: 3 * WIDTH // 16, 4 * WIDTH: WIDTH // 4}
        shrink = lambda x: jax.ShapeDtypeStruct([sizes.get(n, n) for n in x.shape], x.dtype)
        params = jax.tree.map(shrink, params)
    ids = jax.ShapeDtypeStruct((length,), jnp.int32)
    start = time.process_time()
    found = symjax.find_symmetries(apply, params, ids, check=check)
    return time.process_time() - start, found


def check_seconds(layers, scan):
    """CPU seconds of the check alone, and of the reading, of the small model."""
    read, _ = seconds(layers, scan, small=True)
    both, found = seconds(layers, scan, check=True, small=True)
    return both - read, read, found.checked


def main():
    check_seconds(1, scan=False)
    rows = []
    for layers in (1, 12, 24):
        for scan in (False, True):
            time_, found = seconds(layers, scan)
            check, read, said = check_seconds(layers, scan)
            rows.append(
                {
                    "layers": layers,
                    "as": "scan" if scan else "unrolled",
                    "CPU s": time_,
                    "small: CPU s": read,
                    "small: check": check,
                    "by the model": str(said.startswith("by the model")),
                    "symmetries": len(found),
                    "dimension": found.dimension,
                    "up to epsilon": found.approximate_dimension,
                }
            )
    print(machine())
    print(table(rows))


if __name__ == "__main__":
    main()

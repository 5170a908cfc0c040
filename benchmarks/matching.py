"""Matching: planted elements, and two trained networks beside the packages people use.

``python benchmarks/matching.py [--draws N] [--torch-python PATH] [--sinkhorn-python PATH]``

First table: a model is moved by a random element of all its symmetries (those that hold up to a
norm's epsilon too), and matched with the original. Second table: two networks trained on the digits
from two seeds, permuted together by symjax and by peers: distance, barrier of the loss on the
chord, CPU seconds. The PyPI packages rebasin and sinkhorn-rebasin are both imported as ``rebasin``
and need torch: each has a Python of its own, without which it is skipped, with a word.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

import _timing
import jax
import jax.numpy as jnp
import numpy as np
import optax
from peers.weight_matching import weight_matching

import symjax
from symjax import matching

ENOUGH = 1e-4
WIDTHS = (64, 512, 512, 10)


# Three models: apply, a function of a generator that draws parameters, and inputs.


def perceptron(widths=(16, 32, 32, 10)):
    depth = len(widths) - 1

    def apply(p, x):
        for i in range(depth):
            x = p[f"w{i}"] @ x + p[f"b{i}"]
            x = jax.nn.relu(x) if i < depth - 1 else x
        return x

    def draw(random):
        layers = enumerate(itertools.pairwise(widths))
        params = {}
        for i, (n, m) in layers:
            params[f"w{i}"] = random.normal(size=(m, n)) * (2 / n) ** 0.5
            params[f"b{i}"] = 0.3 * random.normal(size=m)
        return params

    return apply, draw, (jnp.ones(widths[0]),)


def residual(channels=16, blocks=2, classes=10):
    """Blocks of two 3 x 3 convolutions with batch norm, and a linear readout."""
    convolve = lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME")

    def norm(x, gain, shift):
        axes = (0, 2, 3)
        centred = x - x.mean(axes, keepdims=True)
        scale = jax.lax.rsqrt((centred**2).mean(axes, keepdims=True) + 1e-5)
        return centred * scale * gain[None, :, None, None] + shift[None, :, None, None]

    def apply(p, x):
        s = jax.nn.relu(norm(convolve(x, p["stem"]), p["g"], p["s"]))
        for i in range(blocks):
            q = p[f"block{i}"]
            y = jax.nn.relu(norm(convolve(s, q["w1"]), q["g1"], q["s1"]))
            s = jax.nn.relu(s + norm(convolve(y, q["w2"]), q["g2"], q["s2"]))
        return s.mean((2, 3)) @ p["out"].T + p["bias"][None]

    def draw(random):
        normal = lambda *shape, scale=1.0: scale * random.normal(size=shape)
        c, gain = channels, lambda: 1 + normal(channels, scale=0.2)
        kernel = lambda n: normal(c, n, 3, 3, scale=(2 / 9 / n) ** 0.5)
        params = {"stem": kernel(3), "g": gain(), "s": normal(c, scale=0.2)}
        for i in range(blocks):
            block = {"w1": kernel(c), "g1": gain(), "s1": normal(c, scale=0.2)}
            block |= {"w2": kernel(c), "g2": gain(), "s2": normal(c, scale=0.2)}
            params[f"block{i}"] = block
        ends = {"out": normal(classes, c, scale=c**-0.5), "bias": normal(classes, scale=0.2)}
        return params | ends

    return apply, draw, (jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6, 6))),)


def transformer(d=16, heads=2, hidden=32, blocks=2, vocabulary=20, length=6):
    """Pre-LN blocks with causal attention, biases everywhere, learnt positions, GELU."""

    def norm(x, gain, shift):
        centred = x - x.mean(-1, keepdims=True)
        scale = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return centred * scale * gain[None] + shift[None]

    def attend(q, z):
        split = lambda y: y.reshape(length, heads, d // heads).transpose(1, 0, 2)
        query, key, value = (split(z @ q["w" + n].T + q["b" + n][None]) for n in "qkv")
        scores = query @ key.transpose(0, 2, 1) * (heads / d) ** 0.5
        seen = jnp.tril(jnp.ones((length, length), bool))[None]
        mixed = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)) @ value
        return mixed.transpose(1, 0, 2).reshape(length, d) @ q["wo"].T + q["bo"][None]

    def apply(p, tokens):
        s = p["e"][tokens] + p["p"]
        for i in range(blocks):
            q = p[f"block{i}"]
            s = s + attend(q, norm(s, q["g1"], q["c1"]))
            z = norm(s, q["g2"], q["c2"]) @ q["w1"].T + q["b1"][None]
            s = s + jax.nn.gelu(z, approximate=False) @ q["w2"].T + q["b2"][None]
        return norm(s, p["g"], p["c"]) @ p["u"].T + p["bu"][None]

    def draw(random):
        matrix = lambda m, n: random.normal(size=(m, n)) / n**0.5
        bias, gain = lambda n: 0.3 * random.normal(size=n), lambda: 1 + 0.2 * random.normal(size=d)
        params = {"e": random.normal(size=(vocabulary, d)), "u": matrix(vocabulary, d)}
        params |= {"p": 0.5 * random.normal(size=(length, d)), "bu": bias(vocabulary)}
        params |= {"g": gain(), "c": bias(d)}
        for i in range(blocks):
            block = {"w" + n: matrix(d, d) for n in "qkvo"} | {"b" + n: bias(d) for n in "qkvo"}
            block |= {"w1": matrix(hidden, d), "b1": bias(hidden)}
            block |= {"w2": matrix(d, hidden), "b2": bias(d)}
            block |= {"g1": gain(), "c1": bias(d), "g2": gain(), "c2": bias(d)}
            params[f"block{i}"] = block
        return params

    return apply, draw, (jnp.arange(length) % vocabulary,)


MODELS = {
    "MLP, 2 x 32": perceptron,
    "residual convolutions, 2 x 16": residual,
    "transformer, 2 x 16": transformer,
}


def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def distance(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(np.sum((np.asarray(x, float) - np.asarray(y)) ** 2)) for x, y in pairs) ** 0.5


def size(a):
    return distance(a, jax.tree.map(np.zeros_like, a))


def planted(name, draws, *, scale=0.5, first=0):
    """A row: how many of the draws were recovered, each a new model and a new element."""
    apply, draw, inputs = MODELS[name]()
    errors, seconds, symmetries = [], [], None
    for i in range(first, first + draws):
        a = single(draw(np.random.default_rng(i)))
        if symmetries is None:
            symmetries = symjax.find_symmetries(apply, a, *single_inputs(inputs)).items
        keys = jax.random.split(jax.random.key(1000 + i), len(symmetries))
        rows = zip(symmetries, keys, strict=True)
        element = tuple(s.group.random(k, scale=scale) for s, k in rows)
        b = matching.apply_element(symmetries, element, a)
        start = time.process_time()
        found = symjax.match(symmetries, a, b)
        seconds.append(time.process_time() - start)
        again = matching.apply_element(symmetries, found.element, b)
        errors.append(max(distance(found.params, a), distance(again, a)) / size(a))
    return {
        "model": name,
        "symmetries": len(symmetries or ()),
        "draws": draws,
        "recovered": sum(e < ENOUGH for e in errors),
        "median error": float(np.median(errors)),
        "worst error": max(errors),
        "CPU seconds": float(np.median(seconds)),
    }


def single_inputs(inputs):
    return tuple(x.astype(jnp.float32) if x.dtype.kind == "f" else x for x in inputs)


# Two networks on the digits.


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return jnp.asarray(x / 16, jnp.float32), jnp.asarray(y, jnp.int32)


def logits(layers, x):
    for w, b in layers[:-1]:
        x = jax.nn.relu(x @ w.T + b[None])
    return x @ layers[-1][0].T + layers[-1][1][None]


def loss(layers, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits(layers, x), y).mean()


def trained(seed, x, y, *, steps=600, batch=128):
    random = np.random.default_rng(seed)
    layers = [
        (random.normal(size=(m, n)) * (2 / n) ** 0.5, np.zeros(m))
        for n, m in itertools.pairwise(WIDTHS)
    ]
    adam = optax.adam(1e-3)

    def step(carry, rows):
        params, state = carry
        gradient = jax.grad(loss)(params, x[rows], y[rows])
        updates, state = adam.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    layers = single(layers)
    rows = jnp.asarray(random.integers(0, len(x), (steps, batch)))
    return jax.jit(lambda c: jax.lax.scan(step, c, rows)[0][0])((layers, adam.init(layers)))


def barrier(a, b, x, y):
    """The most that the loss on the chord exceeds the line between its ends."""
    mixed = lambda t: jax.tree.map(lambda p, q: (1 - t) * p + t * q, a, b)
    ts = jnp.linspace(0, 1, 33)
    values = jax.jit(lambda: jax.lax.map(lambda t: loss(mixed(t), x, y), ts))()
    return float(jnp.max(values - (1 - ts) * values[0] - ts * values[-1]))


def hidden(scales):
    """The permutations of the hidden units, by their legs, and their scales if asked for."""
    found = []
    for i, n in enumerate(WIDTHS[1:-1]):
        places = [(2 * i, 0, "vector"), (2 * i + 1, 0, "vector"), (2 * i + 2, 1, "covector")]
        for group in [symjax.Permutation(n)] + [symjax.PositiveScaling(n)] * scales:
            legs = [symjax.Leg(leaf, axis, how) for leaf, axis, how in places]
            found.append(symjax.Symmetry(f"layer {i}", symjax.linear_action(group, legs), ()))
    return found


def in_torch(python, package, a, b):
    """What a package makes of b, and its CPU seconds; None where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        models = (("a", a), ("b", b))
        np.savez(
            source,
            **{f"{n}/w{i}": w for n, layers in models for i, (w, _) in enumerate(layers)},
            **{f"{n}/b{i}": c for n, layers in models for i, (_, c) in enumerate(layers)},
        )
        script = Path(__file__).parent / "peers" / "torch_rebasin.py"
        done = _timing.run_peer(python, script, (package, str(source), str(target)))
        if done is None:
            return None
        with np.load(target) as file:
            return [(file[f"w{i}"], file[f"b{i}"]) for i in range(len(b))], done["seconds"]


def timed(f):
    start = time.process_time()
    moved = f()
    return moved, time.process_time() - start


def side_by_side(pair, torch_python, sinkhorn_python):
    """A row for each way of matching, on one pair of seeds."""
    x, y = digits()
    a, b = trained(2 * pair, x, y), trained(2 * pair + 1, x, y)
    host = lambda layers: [(np.asarray(w, float), np.asarray(c, float)) for w, c in layers]
    permuted = lambda **o: symjax.match(hidden(False), a, b, **o).params

    def refined(steps=100):
        """Matched with scales, and then the scales by the training loss along the chord."""
        symmetries = hidden(True)
        element = symjax.match(symmetries, a, b).element
        along = lambda a, b, g: matching.refine(
            symmetries, lambda p: loss(p, x, y), a, b, element=g, steps=steps
        )
        return jax.jit(along)(a, b, element).params

    ways = {
        "as trained": lambda: (b, 0.0),
        "symjax, permutations": lambda: timed(permuted),
        "symjax, permutations, no restarts": lambda: timed(lambda: permuted(restarts=0)),
        "symjax, with scales": lambda: timed(lambda: symjax.match(hidden(True), a, b).params),
        "symjax, with scales, refined": lambda: timed(refined),
        "weight matching, NumPy": lambda: timed(lambda: weight_matching(host(a), host(b))),
        "rebasin": lambda: in_torch(torch_python, "rebasin", a, b),
        "sinkhorn-rebasin": lambda: in_torch(sinkhorn_python, "sinkhorn-rebasin", a, b),
    }
    rows = []
    for name, way in ways.items():
        if (done := way()) is None:
            print(f"{name}: skipped, no Python that has it", file=sys.stderr)
            continue
        moved, seconds = single(done[0]), done[1]
        rows.append(
            {
                "pair": pair,
                "way": name,
                "distance": distance(a, moved),
                "barrier": barrier(a, moved, x, y),
                "CPU seconds": seconds,
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--torch-python", help="a Python with torch and rebasin")
    parser.add_argument("--sinkhorn-python", help="a Python with torch and sinkhorn-rebasin")
    args = parser.parse_args()
    print(_timing.machine())
    if args.draws:
        print(f"\nRecovered: to {ENOUGH} relative, the parameters and the element applied again.\n")
        print(_timing.table([planted(name, args.draws) for name in MODELS]))
    if args.pairs:
        print(f"\nTwo ReLU networks {WIDTHS} on the digits, training loss on 33 points.\n")
        rows = [
            row
            for pair in range(args.pairs)
            for row in side_by_side(pair, args.torch_python, args.sinkhorn_python)
        ]
        print(_timing.table(rows))


if __name__ == "__main__":
    main()

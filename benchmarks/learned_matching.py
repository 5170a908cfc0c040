"""Learned matching between networks trained apart, beside every control.

``python benchmarks/learned_matching.py [MODEL ...] [--pairs N] [--steps N]``

Models: mlp64, mlp256, mlp512, conv, vit (scikit-learn's digits), gpt (characters of the reference
that CPython ships). Each is trained from 2 N seeds; the two networks of a pair are matched on data
that both were trained on, other rows choose among the checks, and the table is made on a third set
that nothing has seen: the barrier in nats at 21 points of the chord, and in percent of that of the
networks as given. What learned matching has to beat stands in the same table.

- temperature: the logits of the average are divided by the best number on the data learned on;
- REPAIR: statistics of hidden units mended (`merging.repair`; batch norm's computed anew);
- weights, activations: `match` by permutations alone;
- scales from identity, from random permutations: `learn` with the continuous symmetries alone;
- free gains: the average as given with a gain and a bias per hidden unit trained on the labels;
- constant: the shares of the labels; ensemble: the mean of both predictions, at the midpoint.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import _timing
import jax
import jax.numpy as jnp
import numpy as np
import optax

import symjax
from symjax import matching
from symjax.studies import _merging_models as models


@dataclass
class Case:
    """A kind of network with its three sets of data."""

    apply: Callable[..., Any]
    init: Callable[[Any], Any]
    learned_on: tuple[Any, Any]
    choosing: tuple[Any, Any]
    test: tuple[Any, Any]
    units: dict[str, str]
    """The weights with hidden units along their first axis, and their biases."""
    train_steps: int = 1200
    rate: float = 3e-3
    finish: Callable[[Any], Any] = lambda p: p
    mend: Callable[..., Any] | None = None
    keeps: Callable[[Any], bool] = lambda s: True
    train_apply: Callable[..., Any] | None = None
    batch: int = 160


def digits(model):
    """A case on the digits: 1,280 rows to learn on, 160 to choose, 357 to test."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = jnp.asarray(x[order] / 16, jnp.float32), jnp.asarray(y[order], jnp.int32)
    parts = [(x[a:b], y[a:b]) for a, b in ((0, 1280), (1280, 1440), (1440, len(y)))]
    seen = parts[0][0]
    if model.startswith("mlp"):
        hidden = lambda p: models.mlp_hidden(p, seen)
        mend = lambda average, a, b, t: symjax.merging.repair(
            hidden, average, a, b, models.MLP_UNITS, alpha=t
        )
        units = {"layer0/weight": "layer0/bias", "layer1/weight": "layer1/bias"}
        return Case(models.mlp, models.mlp_start(int(model[3:])), *parts, units, mend=mend)
    if model == "conv":
        family = models.families(jax.random.key(0), 1)[1]
        return Case(
            lambda p, z: models.conv(p, z)[0],
            models.conv_start((16, 16)),
            *parts,
            {"conv0/gain": "conv0/bias", "conv1/gain": "conv1/bias"},
            rate=1e-2,
            finish=lambda p: models.with_statistics(p, seen),
            mend=lambda average, a, b, t: models.with_statistics(average, seen),
            keeps=family.keeps,
            train_apply=lambda p, z: models.conv(p, z, training=True)[0],
        )
    start = models.transformer_start(32, 2, 64)
    return Case(models.transformer, start, *parts, {"up": "up_bias"}, train_steps=1800)


def text():
    """A case on characters: windows of 32 of the reference of Python that CPython ships."""
    from pydoc_data.topics import topics

    whole = "\n".join(topics[name] for name in sorted(topics))
    kept = sorted(set(whole), key=lambda c: (-whole.count(c), c))[:64]
    numbers = {c: i for i, c in enumerate(kept)}
    ids = np.array([numbers.get(c, 0) for c in whole], np.int32)
    starts = np.random.default_rng(0).permutation(len(ids) // 33 - 1) * 33
    rows = jnp.asarray(np.stack([ids[i : i + 33] for i in starts[:2880]]))
    rows = [rows[a:b] for a, b in ((0, 2400), (2400, 2560), (2560, 2880))]
    parts = [(r[:, :-1], r[:, 1:]) for r in rows]
    units = {"up0": "up_bias0", "up1": "up_bias1"}
    return Case(gpt, gpt_start, *parts, units, train_steps=2000, batch=40)


def gpt_start(key, d=32, heads=4, hidden=128, vocabulary=64, length=32):
    draw = lambda k, *shape, fan: jax.random.normal(k, shape) / fan**0.5
    keys = iter(jax.random.split(key, 20))
    p = {
        "embed": draw(next(keys), vocabulary, d, fan=1) * 0.3,
        "position": draw(next(keys), length, d, fan=1) * 0.3,
        "read": draw(next(keys), vocabulary, d, fan=d),
    }
    e = d // heads
    for i in range(2):
        for name in ("query", "key", "value"):
            p[f"{name}{i}"] = draw(next(keys), heads, e, d, fan=d)
        p[f"output{i}"] = draw(next(keys), d, heads, e, fan=4 * d)
        p[f"up{i}"], p[f"up_bias{i}"] = draw(next(keys), hidden, d, fan=d / 2), jnp.zeros(hidden)
        p[f"down{i}"] = draw(next(keys), d, hidden, fan=4 * hidden)
    return p


def gpt(p, tokens):
    """Next-character logits: two pre-norm blocks, root mean square, causal attention, GELU."""
    norm = lambda z: z * jax.lax.rsqrt(jnp.mean(z * z, -1, keepdims=True) + 1e-6)
    z = p["embed"][tokens] + p["position"]
    mask = jnp.tril(jnp.ones((z.shape[1], z.shape[1]), bool))
    for i in range(2):
        q, k, v = (
            jnp.einsum("btd,hed->bhte", norm(z), p[f"{n}{i}"]) for n in ("query", "key", "value")
        )
        scores = jnp.einsum("bhte,bhse->bhts", q, k) / q.shape[-1] ** 0.5
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9), -1)
        mixed = jnp.einsum("bhts,bhse->bhte", weights, v)
        z = z + jnp.einsum("bhte,dhe->btd", mixed, p[f"output{i}"])
        units = jax.nn.gelu(jnp.einsum("btd,fd->btf", norm(z), p[f"up{i}"]) + p[f"up_bias{i}"])
        z = z + jnp.einsum("btf,df->btd", units, p[f"down{i}"])
    return jnp.einsum("btd,vd->btv", norm(z), p["read"])


def trained(case, key):
    """A network trained from one seed: AdamW, cosine schedule, minibatches of 64."""
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(case.rate, case.train_steps), weight_decay=1e-2
    )
    apply, (x, y) = case.train_apply or case.apply, case.learned_on
    loss = lambda p, i: models.cross_entropy(apply(p, x[i]), y[i])

    def step(carry, k):
        p, state = carry
        slope = jax.grad(loss)(p, jax.random.randint(k, (64,), 0, len(y)))
        updates, state = optimiser.update(slope, state, p)
        return (optax.apply_updates(p, updates), state), None

    @jax.jit
    def run(key):
        p = case.init(key)
        keys = jax.random.split(jax.random.fold_in(key, 1), case.train_steps)
        return case.finish(jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])

    return run(key)


class Table:
    """The barriers of one pair, in the order of the rows."""

    def __init__(self, case, a, b):
        self.case, self.ends, self.rows, self.seconds = case, (a, b), {}, {}
        point = lambda p, q, t: jax.tree.map(lambda u, v: u + t * (v - u), p, q)
        loss = lambda p, data, scale: models.cross_entropy(scale * case.apply(p, data[0]), data[1])
        self.plain = jax.jit(lambda p, q, t, data, scale: loss(point(p, q, t), data, scale))
        self.mended = self.plain
        if case.mend:
            mended = lambda p, q, t: case.mend(point(p, q, t), p, q, t)
            self.mended = jax.jit(lambda p, q, t, data, scale: loss(mended(p, q, t), data, scale))
        self.ts = np.linspace(0, 1, 21, dtype=np.float32)
        self.line = None
        self.line = self.curve(self.plain, a, b)[[0, -1]]

    def curve(self, at, p, q, scales=None):
        scales = np.ones(21, np.float32) if scales is None else scales
        return np.array(
            [at(p, q, t, self.case.test, s) for t, s in zip(self.ts, scales, strict=True)], float
        )

    def barrier(self, curve):
        return float(np.max(curve - (1 - self.ts) * self.line[0] - self.ts * self.line[1]))

    def add(self, name, p, q, cold=True, mend=True, seconds=None):
        """The barrier of a pair, with the best temperature, and with REPAIR."""
        self.rows[name] = self.barrier(self.curve(self.plain, p, q))
        self.seconds[name] = seconds
        grid = np.array([0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.5], np.float32)
        ways = [("", self.plain)] + [(" + REPAIR", self.mended)] * bool(mend and self.case.mend)
        for word, at in ways if cold else ():
            if word:
                self.rows[name + word] = self.barrier(self.curve(at, p, q))
            seen = [[at(p, q, t, self.case.learned_on, s) for s in grid] for t in self.ts]
            best = grid[np.argmin(np.array(seen, float), 1)]
            best[[0, -1]] = 1.0
            self.rows[name + word + " + temperature"] = self.barrier(self.curve(at, p, q, best))


def free_gains(case, a, b):
    """The midpoint with a gain and a bias per hidden unit trained on the labels, 600 steps."""
    average = jax.tree.map(lambda u, v: (u + v) / 2, a, b)
    flat, structure = jax.tree_util.tree_flatten_with_path(average)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
    leaves = dict(zip(names, (x for _, x in flat), strict=True))

    def point(free):
        new = dict(leaves)
        for weight, bias in case.units.items():
            gain, shift = free[weight]
            rows = leaves[weight]
            new[weight] = rows * gain.reshape(-1, *[1] * (rows.ndim - 1))
            new[bias] = leaves[bias] * gain + shift
        return jax.tree.unflatten(structure, [new[n] for n in names])

    (x, y), optimiser = case.learned_on, optax.adam(optax.cosine_decay_schedule(0.02, 600))
    loss = lambda free, i: models.cross_entropy(case.apply(point(free), x[i]), y[i])

    def step(carry, k):
        free, state = carry
        slope = jax.grad(loss)(free, jax.random.randint(k, (case.batch,), 0, len(y)))
        updates, state = optimiser.update(slope, state, free)
        return (optax.apply_updates(free, updates), state), None

    free = {w: (jnp.ones(len(leaves[w])), jnp.zeros(len(leaves[w]))) for w in case.units}
    keys = jax.random.split(jax.random.key(0), 600)
    return point(jax.jit(lambda f: jax.lax.scan(step, (f, optimiser.init(f)), keys)[0][0])(free))


def compare(case, seed, steps):
    """All rows of one pair."""
    a, b = (trained(case, jax.random.key(2 * seed + i)) for i in (0, 1))
    x, y = case.learned_on
    found = symjax.find_symmetries(case.apply, a, x[:4])
    symmetries = [s for s in found.exact if case.keeps(s)]
    discrete = [s for s in symmetries if s.group.dimension == 0]
    continuous = [s for s in symmetries if s.group.dimension > 0]
    n = case.batch
    cut = lambda z, w: [(z[i : i + n], w[i : i + n]) for i in range(0, len(w), n)]

    def objective(p, batch):
        logits = case.apply(p, batch[0])
        return models.cross_entropy(logits, batch[1]), logits

    def learned(symmetries, b):
        start = time.process_time()
        result = matching.learn(
            objective,
            symmetries,
            a,
            b,
            cut(x, y),
            held_out=cut(*case.choosing),
            key=jax.random.key(seed),
            steps=steps,
        )
        assert max(result.end_errors) <= 1000 * np.finfo(np.float32).eps
        return result, time.process_time() - start

    table = Table(case, a, b)
    table.add("as given", a, b)
    weights = symjax.match(discrete, a, b, restarts=1)
    table.add("weights", a, weights.params, cold=False)
    try:
        batches = [z for z, _ in cut(x, y)]
        by = dict(apply=case.apply, inputs=batches, by="activations", restarts=0)
        table.add("activations", a, symjax.match(discrete, a, b, **by).params)
    except ValueError as error:
        print("activations:", error)
    if continuous:
        result, seconds = learned(continuous, b)
        table.add("continuous from identity", *pair(result), cold=False, seconds=seconds)
        keys = jax.random.split(jax.random.key(seed), len(discrete))
        draw = tuple(s.group.random(k) for s, k in zip(discrete, keys, strict=True))
        result, seconds = learned(continuous, matching.apply_element(discrete, draw, b))
        table.add("continuous from random", *pair(result), cold=False, seconds=seconds)
    result, seconds = learned(symmetries, b)
    table.add("learned", *pair(result), mend=False, seconds=seconds)
    table.notes = f"start {result.start}, ends {max(result.end_errors):.1e}"
    beside(table, case, a, b)
    return table


def pair(result):
    return result.params_a, result.params_b


def beside(table, case, a, b):
    """What is no chord: excess at the midpoint over the mean of the two ends."""
    (x, y), middle = case.test, np.mean(table.line)
    trained_gains = free_gains(case, a, b)
    table.rows["free gains"] = float(models.cross_entropy(case.apply(trained_gains, x), y)) - middle
    shares = np.bincount(np.asarray(case.learned_on[1]).ravel()) + 1e-3
    constant = -np.mean(np.log(shares / shares.sum())[np.asarray(y).ravel()])
    table.rows["constant"] = float(constant - middle)
    mixed = sum(jax.nn.softmax(case.apply(p, x)) for p in (a, b)) / 2
    picked = jnp.take_along_axis(mixed, y[..., None], -1)
    table.rows["ensemble"] = float(-jnp.mean(jnp.log(picked)) - middle)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["mlp64", "conv", "vit", "gpt"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    print(_timing.machine() if hasattr(_timing, "machine") else "")
    for model in options.models:
        case = text() if model == "gpt" else digits(model)
        tables = [compare(case, seed, options.steps) for seed in range(options.pairs)]
        rows = []
        for name in tables[0].rows:
            values = np.array([t.rows.get(name, np.nan) for t in tables])
            share = 100 * values / np.array([t.rows["as given"] for t in tables])
            times = [t.seconds.get(name) for t in tables if t.seconds.get(name)]
            rows.append(
                {
                    "way": name,
                    "nats": float(values.mean()),
                    "% of as given": float(share.mean()),
                    "each": " ".join(f"{s:.1f}" for s in share),
                    "CPU s": float(np.mean(times)) if times else "",
                }
            )
        print(f"\n{model}, {options.pairs} pairs, {options.steps} steps; {tables[0].notes}")
        print(_timing.table(rows), flush=True)


if __name__ == "__main__":
    main()

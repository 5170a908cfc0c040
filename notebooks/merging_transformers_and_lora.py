# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Merging transformers and LoRA factors
#
# Permutations of hidden units are what merging tools know. A transformer has more: every head may
# change the basis of its keys and of its values (GL), and the whole residual stream may be rotated
# (O(n)). The two factors of a LoRA update share a basis of their own (GL). Here two networks of
# different seeds are averaged, with one more kind of symmetry at a time to match them by, so that
# you see what each one buys.
#
# Needs `pip install '.[studies]'`. `python -m symjax run merging --out DIR` does it for more pairs,
# and for perceptrons and convolutional nets too.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from sklearn.datasets import load_digits

import symjax
from symjax import GeneralLinear, Orthogonal, Permutation, matching, merging

pixels, targets = load_digits(return_X_y=True)
order = jax.random.permutation(jax.random.key(0), len(targets))
x, labels = jnp.asarray(pixels / 16, jnp.float32)[order], jnp.asarray(targets)[order]
TRAIN = 1347  # images for training, the other 450 are for testing


def cross_entropy(logits, wanted):
    return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean()


def trained(apply, params, images, key, steps, rate):
    """AdamW on batches of 128."""
    optimiser = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-2)

    def step(carry, k):
        params, state = carry
        chosen = jax.random.randint(k, (128,), 0, TRAIN)
        loss = lambda p: cross_entropy(apply(p, images[chosen]), labels[chosen])
        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimiser.init(params))
    return jax.lax.scan(step, start, jax.random.split(key, steps))[0][0]


def normals(key, shapes):
    """Random weights; the last axis of each is what it reads."""
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.normal(k, shape) / shape[-1] ** 0.5
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


# %% [markdown]
# ## A ladder of symmetries
#
# The symmetries are read off the program of the network. They are used kind by kind, and last the
# match by all of them is refined: gradient steps along the continuous symmetries, on the loss of
# the networks between the two. None of this trains anything, and no end of a path changes its
# function.

# %%
KINDS = {
    Permutation: "permutations",
    GeneralLinear: "+ changes of basis",
    Orthogonal: "+ rotations",
}


def kind_of(symmetry):
    return type(getattr(symmetry.group, "group", symmetry.group))


def audit(apply, images, a, b):
    """Loss and accuracy on the straight line from a to b, matched by more and more symmetries."""
    symmetries = symjax.find_symmetries(apply, a, images[:4])
    print(symmetries, end="\n\n")

    def loss(params, count=TRAIN):
        return cross_entropy(apply(params, images[:count]), labels[:count])

    def accuracy(params):
        return (apply(params, images[TRAIN:]).argmax(-1) == labels[TRAIN:]).mean()

    paths, used = {"as given": symjax.chord(a, b)}, []
    for kind, name in KINDS.items():
        more = [s for s in symmetries.exact if kind_of(s) is kind]
        if more:
            used += more
            matched = symjax.match(used, a, b, restarts=1)
            paths[name] = symjax.chord(a, matched.params)

    @eqx.filter_jit
    def refine(element):
        few = lambda params: loss(params, 256)
        return matching.refine(used, few, a, b, element=element, steps=50, samples=3)

    paths["+ refined"] = symjax.chord(a, refine(matched.element).params)
    return merging.merging_report(
        paths, losses={"loss": loss}, scores={"accuracy": accuracy}, samples=16
    )


# %% [markdown]
# ## Two transformers
#
# The eight rows of an image are eight tokens. One block: attention with two heads and a layer of
# 64 GELU units, both added to a stream of width 32.

# %%
WIDTH, HEADS, SIZE, UNITS = 32, 2, 16, 64


def transformer(p, z):
    norm = lambda z: z * jax.lax.rsqrt(jnp.mean(z * z, -1, keepdims=True) + 1e-6)
    z = jnp.einsum("btc,dc->btd", z.reshape(-1, 8, 8), p["embed"]) + p["position"]
    q, k, v = (jnp.einsum("btd,hed->bhte", norm(z), p[n]) for n in ("query", "key", "value"))
    weights = jax.nn.softmax(jnp.einsum("bhte,bhse->bhts", q, k) * SIZE**-0.5, -1)
    mixed = jnp.einsum("bhts,bhse->bhte", weights, v)
    z = z + jnp.einsum("bhte,dhe->btd", mixed, p["output"])
    units = jax.nn.gelu(jnp.einsum("btd,fd->btf", norm(z), p["up"]))
    z = z + jnp.einsum("btf,df->btd", units, p["down"])
    return norm(z).mean(1) @ p["read"].T + p["bias"]


@jax.jit
def train_transformer(key):
    head = (HEADS, SIZE, WIDTH)
    shapes = {"embed": (WIDTH, 8), "position": (8, WIDTH), "query": head, "key": head}
    shapes |= {"value": head, "output": (WIDTH, HEADS, SIZE), "up": (UNITS, WIDTH)}
    shapes |= {"down": (WIDTH, UNITS), "read": (10, WIDTH)}
    params = normals(key, shapes) | {"bias": jnp.zeros(10)}
    return trained(transformer, params, x, key, steps=500, rate=3e-3)


a, b = (train_transformer(jax.random.key(seed)) for seed in (1, 2))
transformers = audit(transformer, x, a, b)
print(transformers)

# %% [markdown]
# Permutations do nothing here: the units of the two networks read and write streams that are turned
# against each other. Rotating the stream takes off half of the barrier or more (0.46 to 0.73 of it
# in five pairs of seeds), and only refined does the average become a network: a tenth is left at
# most (0.04 to 0.10).
#
# ## Two LoRA updates of one network
#
# A perceptron that knows the digits learns to read them turned by 90 degrees, twice: its weights
# stay, and factors $B A$ of rank 8 are trained and added to them. The base is one and the same, so
# its units need no match; but $B A = (B g^{-1}) (g A)$, and each run ends in a basis of its own.

# %%
SIZES = {"layer0": (128, 64), "layer1": (128, 128)}
turned = jnp.rot90(x.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)


def perceptron(base, z, factors=None):
    for name in SIZES:
        own = z @ base[name].T
        if factors is not None:
            own = own + (z @ factors[name]["down"].T) @ factors[name]["up"].T
        z = jax.nn.relu(own)
    return z @ base["read"].T


def adapted(factors, z):
    return perceptron(base, z, factors)


@jax.jit
def adapt(key):
    start = {
        name: {"down": jax.random.normal(k, (8, m)) / 8, "up": jnp.zeros((n, 8))}
        for k, (name, (n, m)) in zip(jax.random.split(key), SIZES.items(), strict=True)
    }
    return trained(adapted, start, turned, key, steps=500, rate=1e-2)


@jax.jit
def train_base(key):
    params = normals(key, SIZES | {"read": (10, 128)})
    return trained(perceptron, params, x, key, steps=400, rate=3e-3)


base = train_base(jax.random.key(3))
p, q = (adapt(jax.random.key(seed)) for seed in (4, 5))
updates = audit(adapted, turned, p, q)
print(updates)

# %%
figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
STYLES = {
    "as given": ("#D55E00", "s--"),
    "permutations": ("#E69F00", "v:"),
    "+ changes of basis": ("#CC79A7", "D-."),
    "+ rotations": ("#0072B2", "o-"),
    "+ refined": ("#000000", "x-"),
}
for column, (title, report) in enumerate(
    {"transformers": transformers, "LoRA factors": updates}.items()
):
    for row, result in enumerate(report.metrics.values()):
        panel = axes[row, column]
        for path, values in zip(report.paths, result.along, strict=True):
            colour, style = STYLES[path]
            panel.plot(report.times, values, style, color=colour, markevery=2, label=path)
        panel.set_ylabel(("training loss (nats)", "test accuracy (share)")[row])
        panel.set_xlabel("position on the chord, $t$")
    axes[0, column].set_title(title)
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
plt.show()

# %% [markdown]
# What buys most is the symmetry that mixes most coordinates: rotations of the stream, changes of
# the basis of the factors. Refining then lowers what is left of the barrier several times, although
# the two are further apart after it: the nearest network is not the one that averages best.

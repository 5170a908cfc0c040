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
# # Matching and merging two networks
#
# Two perceptrons are trained on scikit-learn's digits from different seeds. Their average is no
# good, because each has its own order and its own scales of hidden units. The symmetries say how to
# bring one into the coordinates of the other; then the average works.
#
# Needs `pip install '.[studies]'`. Transformers and LoRA factors have a notebook of their own;
# `python -m symjax run merging --out DIR` does the same for these and for convolutional nets.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from sklearn.datasets import load_digits

import symjax
from symjax import Leg, merging

pixels, targets = load_digits(return_X_y=True)
order = jax.random.permutation(jax.random.key(0), len(targets))
x, labels = jnp.asarray(pixels / 16, jnp.float32)[order], jnp.asarray(targets)[order]
train, test = slice(0, 1347), slice(1347, None)


# %%
def hidden(params):
    """What every linear layer computes on the training images."""
    return layers(params, x[train])


def layers(params, z):
    found = {}
    for name, layer in params.items():
        found[name] = z @ layer["weight"].T + layer["bias"]
        z = jax.nn.relu(found[name])
    return found


def apply(params, z):
    return layers(params, z)["layer2"]


def cross_entropy(params, chosen):
    logits = apply(params, x[chosen])
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen]).mean()


def loss(params):
    return cross_entropy(params, train)


def accuracy(params):
    return (apply(params, x[test]).argmax(-1) == labels[test]).mean()


@jax.jit
def trained(key):
    widths, names = (64, 128, 128, 10), ("layer0", "layer1", "layer2")
    keys = jax.random.split(key, 4)
    params = {
        name: {"weight": jax.random.normal(k, (n, m)) * (2 / m) ** 0.5, "bias": jnp.zeros(n)}
        for name, k, m, n in zip(names, keys, widths[:-1], widths[1:], strict=False)
    }
    optimiser = optax.adamw(optax.cosine_decay_schedule(3e-3, 400), weight_decay=1e-2)

    def step(carry, k):
        params, state = carry
        gradient = jax.grad(cross_entropy)(params, jax.random.randint(k, (128,), 0, 1347))
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimiser.init(params))
    return jax.lax.scan(step, start, jax.random.split(keys[-1], 400))[0][0]


a, b = trained(jax.random.key(1)), trained(jax.random.key(2))

# %% [markdown]
# ## Match
#
# The symmetries are read off the program: permutations and positive scales of the hidden units.

# %%
symmetries = symjax.find_symmetries(apply, a, x[:4])
print(symmetries)

permutations = [s for s in symmetries if isinstance(s.group, symjax.Permutation)]
permuted = symjax.match(permutations, a, b)
matched = symjax.match(symmetries, a, b)
print(
    f"distance {matched.before:.1f}; by permutations {permuted.after:.1f}; "
    f"by all symmetries {matched.after:.1f}"
)

# %% [markdown]
# ## Merge, and mend
#
# Hidden units of an average vary less than those of its parents; REPAIR gives each of them back the
# mean and the spread that its parents have. The legs say which leaves write a unit.

# %%
units = {n: [Leg(f"{n}/weight", 0), Leg(f"{n}/bias", 0)] for n in ("layer0", "layer1")}
aligned = symjax.chord(a, matched.params)


def repaired(t):
    return merging.repair(hidden, aligned(t), a, matched.params, units, alpha=t)


# %% [markdown]
# ## Audit
#
# Along each chord: how much worse than the line between its ends do loss and accuracy become?

# %%
report = merging.merging_report(
    {
        "as given": symjax.chord(a, b),
        "permutations": symjax.chord(a, permuted.params),
        "all symmetries": aligned,
        "and REPAIR": repaired,
    },
    losses={"loss": loss},
    scores={"accuracy": accuracy},
    samples=16,
)
print(report)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
colours = ("#D55E00", "#E69F00", "#0072B2", "#009E73")
for panel, (name, audit) in zip(axes, report.metrics.items(), strict=True):
    rows = zip(report.paths, audit.along, colours, ("s--", "v:", "o-", "^-."), strict=True)
    for path, values, colour, style in rows:
        panel.plot(report.times, values, style, color=colour, markevery=2, label=path)
    panel.set(xlabel="position on the chord, $t$", ylabel=name)
axes[0].set(yscale="log", ylabel="training loss (cross-entropy, nats)")
axes[1].set_ylabel("test accuracy (share of images)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# ## Know it in advance
#
# A network moved along a symmetry computes the same; will its average with the original? The chord
# is close to the curve where that is not too curved (Theorem 6.2), and so the loss rises little.

# %%
scales = next(s for s in symmetries if isinstance(s.group, symjax.PositiveScaling))
direction = jax.random.normal(jax.random.key(3), (128,))
for size in (0.02, 2.0):
    curve = symjax.exponential_curve(scales.action, a, size * direction)
    print(f"size {size}:")
    print(merging.averaging_forecast(loss, curve, tolerance=0.01, lipschitz=2.0))

# %% [markdown]
# The constant 2 is a guess, and a promise holds only as far as it is one of the loss near the
# curve. A warning rests on the leading term of the rise.

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
# # The symmetries of your model
#
# Three models of three kinds: an Equinox module, a Flax NNX module and a plain function. Which
# symmetries has each of them, are they right, and are these all? Nothing in the library knows an
# architecture; it reads the program that the model is.
#
# Needs `pip install '.[studies,flax]'`.

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import symjax
from symjax import Leg, plotting

jax.config.update("jax_enable_x64", True)  # ranks, below, want float64
key = jax.random.key(0)

# %% [markdown]
# ## An Equinox module
#
# A perceptron with one hidden layer of twelve ReLU units. The adapters make the pair
# `(apply, params)` of a model; parameters keep their names.

# %%
mlp = eqx.nn.MLP(6, 4, 12, 1, activation=jax.nn.relu, key=key, dtype=jnp.float64)
models = {
    "MLP (Equinox)": (
        *symjax.from_equinox(mlp, lambda model, x: jax.vmap(model)(x)),
        jax.random.normal(key, (4, 6)),
    )
}
print(symjax.find_symmetries(*models["MLP (Equinox)"]))

# %% [markdown]
# A row is a group: its name, dimension, number of components, whether it holds exactly, and the
# leaves that it moves. Here each unit has a positive scale, and the units can be put in any order.
#
# ## A Flax NNX module
#
# Two convolutions with a norm of each channel between them.


# %%
class Net(nnx.Module):
    def __init__(self, rngs):
        options = {"rngs": rngs, "param_dtype": jnp.float64}
        self.first = nnx.Conv(2, 4, (3,), **options)
        self.norm = nnx.GroupNorm(4, num_groups=4, **options)
        self.second = nnx.Conv(4, 5, (3,), **options)
        self.out = nnx.Linear(5, 3, **options)

    def __call__(self, x):
        x = nnx.tanh(self.norm(self.first(x)))
        x = nnx.relu(self.second(x))
        return self.out(x.mean(axis=-2))


models["conv net (Flax)"] = (*symjax.from_nnx(Net(nnx.Rngs(0))), jax.random.normal(key, (2, 8, 2)))
print(symjax.find_symmetries(*models["conv net (Flax)"]))

# %% [markdown]
# The norm takes the mean of a channel away (a shift of the first bias) and divides by its spread,
# so that the scale before it does not matter, up to the epsilon that the norm adds: that row is
# approximate, and is counted apart. tanh is odd, hence the signs.
#
# ## A plain function
#
# Attention with biases, a residual stream, an RMS norm, a gated layer and log-probabilities.


# %%
def transformer(p, x):
    q, k, v = (x @ p[name] + p[f"{name} bias"] for name in "qkv")
    x = x + jax.nn.softmax(q @ k.T / jnp.sqrt(3.0)) @ v @ p["o"]
    x = x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * p["gain"]
    x = (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]
    return jax.nn.log_softmax(x @ p["head"])


shapes = {name: (5, 3) for name in "qkv"} | {f"{name} bias": (3,) for name in "qkv"}
shapes |= {"o": (3, 5), "gain": (5,), "gate": (5, 6), "up": (5, 6), "down": (6, 4), "head": (4, 6)}
keys = jax.random.split(key, len(shapes))
params = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
models["transformer (function)"] = (transformer, params, jax.random.normal(key, (4, 5)))
found = {name: symjax.find_symmetries(*model) for name, model in models.items()}
print(found["transformer (function)"])

# %% [markdown]
# Queries and keys share a basis, values and the output matrix another one; a shift of the key bias
# is invisible to the softmax, a common shift of the logits to the log-probabilities; the gated
# layer has a factor for each unit, which may be negative (`rescaling` with `sign flip`).
#
# ## Are they right?
#
# `verify_all` moves the model by random elements of each group and measures how much the outputs
# change, in units of the dtype's eps. An approximate symmetry is seen to be one.

# %%
checks = {
    name: symjax.verify_all(found[name], *model, key=jax.random.key(1))
    for name, model in models.items()
}
for name, results in checks.items():
    for symmetry, check in zip(found[name], results, strict=True):
        assert check.holds
        assert check.outputs_unchanged == symmetry.exact
print(checks["conv net (Flax)"][1])

figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for i, (name, style) in enumerate(zip(models, plotting.STYLES, strict=False)):
    changes = [check.output_change for check in checks[name]]
    exact = np.array([symmetry.exact for symmetry in found[name]])
    spread = i + np.linspace(-0.25, 0.25, len(changes))
    heights = np.maximum(changes, 0.05)  # some are exactly 0
    axes.plot(
        spread[exact], heights[exact], style.marker, color=style.colour, label=f"{name}, exact"
    )
    if not exact.all():
        axes.plot(
            spread[~exact],
            heights[~exact],
            "*",
            color="black",
            markersize=11,
            label=f"{name}, up to epsilon",
        )
axes.axhline(checks[name][0].tolerance, color="black", linestyle="--", label="tolerance of verify")
axes.set(
    yscale="log",
    xticks=range(len(models)),
    xticklabels=list(models),
    xlim=(-0.6, 2.6),
    xlabel="model, one marker for each symmetry",
    ylabel="largest change of an output\n(units of eps; least shown 0.05)",
)
figure.legend(loc="outside lower center", ncols=2, fontsize=8)
plt.show()

# %% [markdown]
# A symmetry written by hand, and a wrong one first: the squares of ReLU units have $c^{-2}$, not
# $c^{-1}$.

# %%
squared = lambda p, x: jax.nn.relu(x @ p["in"]) ** 2 @ p["out"]
weights = {"in": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
for power in (-1, -2):
    legs = [Leg("in", 1, representation=1), Leg("out", 0, representation=power)]
    mine = symjax.linear_action(symjax.PositiveScaling(4), legs)
    print(symjax.verify(mine, squared, weights, jnp.ones(3), key=key))

# %% [markdown]
# ## Are these all?
#
# `redundancy` counts, knowing nothing of symmetries, how many directions of the parameters no
# output sees: parameters minus the rank of the Jacobian. `completeness` compares the two.

# %%
reports = {name: symjax.completeness(found[name], *model) for name, model in models.items()}
deep = eqx.nn.MLP(5, 3, 6, 3, activation=jax.nn.relu, key=key, dtype=jnp.float64)
apply, params = symjax.from_equinox(deep, lambda model, x: jax.vmap(model)(x))
x = jax.random.normal(key, (4, 5))
models["deep ReLU MLP"] = (apply, params, x)
found["deep ReLU MLP"] = symjax.find_symmetries(apply, params, x)
reports["deep ReLU MLP"] = symjax.completeness(found["deep ReLU MLP"], apply, params, x)
for name, report in reports.items():
    print(f"{name}: {report.redundancy}")
print(reports["deep ReLU MLP"])

# %% [markdown]
# For the first three the two counts agree: every direction is explained. For a deep ReLU network
# there are more directions than symmetries. That is no gap in the search: where units are off, or
# on for all inputs that reach them, the network is locally simpler, and parameters move freely that
# are not free elsewhere. A symmetry holds for every value of the parameters; such a direction does
# not. The count is marked as uncertain: of a unit that is off for all inputs tried, others may see
# something.

# %%
kinds = ["change of basis", "rescaling", "rotation", "shift"]
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
bottom = np.zeros(len(models))
hatches = ("", "//", "..", "xx")
for kind, style, hatch in zip(kinds, plotting.STYLES, hatches, strict=False):
    heights = np.array(
        [sum(s.dimension for s in f.exact if s.name == kind) for f in found.values()]
    )
    if heights.any():
        axes.bar(
            list(models),
            heights,
            bottom=bottom,
            width=0.55,
            color=style.colour,
            hatch=hatch,
            edgecolor="white",
            label=f"found: {kind}",
        )
    bottom += heights
measured = [int(reports[name].redundancy) for name in models]
axes.plot(
    list(models),
    measured,
    "D",
    color="black",
    markerfacecolor="white",
    markersize=9,
    label="measured: parameters minus rank",
)
axes.set(ylabel="directions that no output sees", xlabel="model", ylim=(0, 1.35 * max(measured)))
axes.tick_params(axis="x", labelsize=9)
axes.legend(ncols=2)
plt.show()

# %% [markdown]
# ## What the report does not know
#
# A primitive without a rule is named, the leaves that it reads are held fixed, and the rest is
# right. What is listed is proved; what is not listed may be missing, and `completeness` says so.

# %%
pivots = lambda w: jnp.diagonal(jax.lax.linalg.lu(w)[0])
pivoted = lambda p, x: pivots(p["w"]) * (x @ p["a"] @ p["b"])
weights = {"w": jnp.eye(3), "a": jnp.ones((3, 2)), "b": jnp.ones((2, 3))}
unsure = symjax.find_symmetries(pivoted, weights, jnp.ones(3))
print(unsure)
print(symjax.completeness(unsure, pivoted, weights, jnp.ones(3)))

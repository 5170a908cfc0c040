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
# # Components of the minimum
#
# Can one minimum be reached from another without climbing? Not if they lie in different components
# of the set of minima. For linear networks `symjax.topology` knows all of it: how many components
# there are, which one a network is in, a path inside a component, and how high the lowest pass
# between two components is.
#
# Needs `pip install '.[studies]'`.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import symjax
from symjax import bands, barriers, networks, plotting, topology, training

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## Two components
#
# $w_2 w_1 x = y$ with $x = y = 1$: one hidden unit, and two hyperbolas of minima. The sign of $w_1$
# names the component. Any way from one to the other crosses $w_1 = 0$, where the loss is 1: the
# origin is the lowest pass.

# %%
one = np.ones((1, 1))
smallest = topology.linear_minimum((1, 1, 1), one, one)
p, q, r = ((one * w, one / w) for w in (0.4, 2.5, -1.2))
print(f"{smallest.count} components: {smallest.reason}")
print("labels of p, q, r:", *(smallest.label(point) for point in (p, q, r)))
print("p to q:", smallest.connected(p, q), " q to r:", smallest.connected(q, r))
print("height of the pass from q to r:", smallest.barrier(q, r).value)

figure, axes = plt.subplots(figsize=(5.4, 4.8), layout="constrained")
span = np.linspace(-3, 3, 241)
levels = [0.1, 1.0, 4.0, 16.0, 50.0]
contours = axes.contour(
    span, span, (np.outer(span, span) - 1) ** 2, levels, colors="0.6", linewidths=0.8
)
axes.clabel(contours, fmt="%g", fontsize=7)
branch = np.geomspace(1 / 3, 3, 100)
components = zip((1, -1), ("+", "-"), (plotting.STYLES[0], plotting.STYLES[2]), strict=True)
for sign, name, style in components:
    axes.plot(
        sign * branch,
        sign / branch,
        style.dash,
        color=style.colour,
        linewidth=2.5,
        label=f"minimum, component {name}",
    )
way = np.array([q, r]).squeeze()
axes.plot(*way.T, plotting.CHORD.dash, color=plotting.CHORD.colour, label="straight line, q to r")
axes.plot(0, 0, "kx", markersize=8, label="lowest pass, loss 1")
for name, point in zip("pqr", (p, q, r), strict=True):
    axes.plot(*np.ravel(point), "ko", markersize=5)
    axes.annotate(name, np.ravel(point), xytext=(6, 5), textcoords="offset points")
axes.set(
    xlabel="$w_1$",
    ylabel="$w_2$",
    aspect="equal",
    title="loss $(w_2 w_1 - 1)^2$ (grey: its levels)",
)
axes.legend(loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# ## How many?
#
# A hidden layer counts if it is as wide as the rank of the map that the data ask for: then its
# orientation, the sign of $\det W_i \cdots W_1$, cannot change along the minimum. With $b$ such
# layers there are $2^b$ components (Corollary 4.2 for all widths). A wider layer has room to turn
# round. Beside the formula: how many different vectors of signs 300 random minima have.

# %%
target = np.array([[2.0, 0.3], [0.1, 1.0]])
key = jax.random.key(0)


def random_minima(key, widths, count):
    """Random layers, the last of which solves the problem."""

    def one(key):
        *layers, _ = networks.random_weights(key, widths, dtype=jnp.float64)
        before = networks.linear(tuple(layers), jnp.eye(2))
        return (*layers, jnp.asarray(target) @ jnp.linalg.pinv(before))

    return jax.vmap(one)(jax.random.split(key, count))


families = {"all hidden layers 2 wide": 2, "the first one 3 wide": 3}
layers = np.arange(2, 7)
predicted = {name: [] for name in families}
met = {name: [] for name in families}
for name, first in families.items():
    for count in layers:
        widths = (2, first, *(2,) * (count - 1))
        minimum = topology.linear_minimum(widths, np.eye(2), target)
        labels = jax.jit(jax.vmap(minimum.label))(random_minima(key, widths, 300))
        assert bool(labels.decided.all())
        predicted[name].append(minimum.count)
        met[name].append(len(np.unique(labels.signs, axis=0)))
print("predicted", predicted, "\nmet      ", met)

figure, axes = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
for name, style in zip(families, plotting.STYLES, strict=False):
    plotting.plot_theory_and_measured(
        axes,
        layers,
        predicted[name],
        met[name],
        style=style,
        theory_label=f"{name}: $2^b$",
        measured_label=f"{name}: met",
    )
axes.set_yscale("log", base=2)
axes.set(xlabel="layers", ylabel="components of the minimum", xticks=layers)
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Ways
#
# Three layers, two wide: four components. Inside one there is an explicit path of loss zero.
# Between two, the lowest pass has the height of the smallest singular value squared (Theorem
# M of `docs/theory.md`). A nudged elastic band looks for a low path and knows nothing of this. Its
# images alone seem to be below the pass, which cannot be: between them the band climbs over it, as
# every way must.

# %%
widths = (2, 2, 2, 2)
minimum = topology.linear_minimum(widths, np.eye(2), target)
loss = networks.squared_loss(networks.linear, jnp.eye(2), jnp.asarray(target))
points = random_minima(key, widths, 32)
labels = jax.vmap(minimum.label)(points).signs
choose = lambda i: tuple(w[i] for w in points)
a = choose(0)
same = next(choose(i) for i in range(1, 32) if (labels[i] == labels[0]).all())
other = next(choose(i) for i in range(1, 32) if (labels[i] != labels[0]).any())

path = minimum.path(a, same)
height = minimum.barrier(a, other).value
search = jax.jit(
    lambda a, b: bands.nudged_elastic_band(
        loss, a, b, optimiser=optax.adam(0.01), steps=2000, images=21
    )
)
band = search(a, other)
sigma = np.linalg.svd(target, compute_uv=False)
print(f"largest loss on the path inside: {float(path.error):.1e} (relative error of the product)")
print(f"pass: {height:.4f}, smallest singular value squared: {sigma[-1] ** 2:.4f}")
print(f"nudged elastic band: {band.height:.4f}; its images alone say {band.at_images.max():.4f}")

# %% [markdown]
# A permutation of hidden units brings the other network into the same component (Proposition 5.2,
# with the permutations on the right sides), and then there is a path.

# %%
permuted, permutations = minimum.permutations(other, a)
print("permutations of the two hidden layers:", [list(map(int, order)) for order in permutations])
joined = minimum.path(permuted, a)

t = np.linspace(0, 1, 661)  # 30 in each segment of the band
ways = {
    "straight line, same component": (symjax.chord(a, same), plotting.CHORD),
    "straight line, other component": (symjax.chord(a, other), plotting.STYLES[4]),
    "elastic band, other component": (band.curve, plotting.STYLES[3]),
    "path, same component": (path, plotting.CURVE),
    "path from the permuted network": (joined, plotting.STYLES[2]),
}
figure, axes = plt.subplots(figsize=(6.2, 4.8), layout="constrained")
highest = {}
for name, (way, style) in ways.items():
    values = jax.jit(lambda t, way=way: barriers.loss_along(loss, way, t))(t)
    highest[name] = float(values.max())
    plotting.plot_loss_along(axes, t, values, label=name, style=style)
axes.axhline(height, color="black", linewidth=1, label="lowest pass (Theorem M)")
axes.set_yscale("symlog", linthresh=2)
axes.set(
    ylabel="loss $|Y - W_3 W_2 W_1 X|^2$\n(scale logarithmic above 2)",
    yticks=[0, 1, 2, 10, 100],
    yticklabels=["0", "1", "2", "10", "100"],
    ylim=(-0.2, 150),
)
figure.legend(loc="outside lower center", ncols=2, fontsize=8)
plt.show()

# %% [markdown]
# ## Where does training end?
#
# Training from random weights: the four components are equally likely by symmetry. Each trained
# network is only nearly a minimum. Its label is certain all the same where its loss is below the
# pass: it can roll down into one component only.


# %%
@jax.jit
@jax.vmap
def trainer(key):
    start = networks.random_weights(key, widths, dtype=jnp.float64)
    return training.minimise(loss, start, optimiser=optax.adam(0.02), steps=1000, tolerance=1e-9)


trained = trainer(jax.random.split(jax.random.key(1), 400))
found = jax.jit(jax.vmap(minimum.label))(trained.params)
certain = np.asarray(found.decided)
names = ["+ +", "+ -", "- +", "- -"]
spelled = [" ".join("+-"[int(s < 0)] for s in signs) for signs in found.signs[certain]]
shares = np.array([spelled.count(name) for name in names]) / certain.sum()
error = np.sqrt(0.25 * 0.75 / certain.sum())
print(
    f"{certain.sum()} of {certain.size} labels are certain; largest loss {trained.loss.max():.1e}"
)

figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
axes.bar(
    names,
    shares,
    yerr=2 * error,
    capsize=5,
    color=plotting.OKABE_ITO["sky"],
    edgecolor="black",
    label="measured, two standard errors",
)
axes.axhline(0.25, color="black", linestyle="--", label="equally likely")
axes.set(
    xlabel="component: signs of the two determinants",
    ylabel="share of trained networks",
    ylim=(0, 0.42),
)
axes.legend(ncols=2, fontsize=8, loc="upper center")
plt.show()

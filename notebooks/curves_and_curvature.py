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
# # Curves and curvature
#
# A symmetry moves a network along a curve on which it computes the same. How fast, how long and how
# curved is that curve, and why does it matter? Because averaging two networks leaves the curve: a
# nearly straight curve stays close to its chord, and then the average still works.
#
# Needs `pip install '.[studies]'`.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import symjax
from symjax import barriers, bounds, networks, plotting

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## A curve that fits on paper
#
# $w_2 w_1 = 1$ is the minimum of the smallest network there is. Its symmetry $(m w_1, w_2 / m)$
# draws a hyperbola. The circle that fits a curve best at a point has radius one over the curvature
# there.

# %%
one = jnp.ones((1, 1))
start = (jnp.exp(-1.2) * one, jnp.exp(1.2) * one)
hyperbola = symjax.exponential_curve(symjax.rescaling_action(), start, jnp.array(2.6))
kappa, at = symjax.max_curvature(hyperbola)
print(f"sharpest at t = {at:.4f}, curvature {kappa:.6f}; by hand 1.2 / 2.6 and 1 / sqrt(2)")

times = jnp.linspace(0.0, 1.0, 201)
points = np.array([[w.item() for w in hyperbola(t)] for t in times])
sharpest = np.array([w.item() for w in hyperbola(at)])
centre = sharpest + np.array([1.0, 1.0]) / np.sqrt(2) / kappa  # its normal is the diagonal

figure, axes = plt.subplots(figsize=(5, 4.6), layout="constrained")
curve_style, chord_style = plotting.CURVE, plotting.CHORD
axes.plot(*points.T, color=curve_style.colour, label="curve of the symmetry: loss 0")
axes.plot(
    *points[[0, -1]].T, chord_style.dash, color=chord_style.colour, label="chord: loss above 0"
)
circle = plt.Circle(
    centre, 1 / kappa, fill=False, linestyle=":", label="circle of radius $1/\\kappa$"
)
axes.add_patch(circle)
axes.plot(*sharpest, "ko", label=f"sharpest point, $\\kappa$ = {kappa:.3f}")
axes.set(xlabel="$w_1$", ylabel="$w_2$", aspect="equal", xlim=(0, 4.3), ylim=(0, 4.6))
axes.legend(loc="upper right", fontsize=8)
plt.show()

# %% [markdown]
# ## A network
#
# Two layers and twelve ReLU units; each unit has a scale. A generator says how fast each of them
# grows. The curve is $W_1$'s rows times $e^{m_i t}$, $W_2$'s columns times $e^{-m_i t}$, so its
# derivatives can be written down, and are compared with what the library returns.

# %%
key = jax.random.key(0)
for_weights, for_inputs, for_generator = jax.random.split(key, 3)
weights = networks.random_weights(for_weights, (5, 12, 3), dtype=jnp.float64)
action = symjax.neuron_rescaling_action(12)
generator = 2 * jax.random.normal(for_generator, (12,))
start = action(jnp.exp(-generator / 2), weights)  # half the way back
curve = symjax.exponential_curve(action, start, generator)

t = np.linspace(0, 1, 33)
rows, columns = (np.linalg.norm(w, axis=i) for w, i in zip(start, (1, 0), strict=True))
sizes = np.exp(np.outer(t, generator)) * rows, np.exp(-np.outer(t, generator)) * columns
velocity = np.hstack([generator * sizes[0], -generator * sizes[1]])
acceleration = np.hstack([generator**2 * s for s in sizes])
along = (velocity * acceleration).sum(1) / (velocity**2).sum(1)
across = acceleration - along[:, None] * velocity
by_hand = np.linalg.norm(across, axis=1) / (velocity**2).sum(1)

measured = symjax.curvature(curve, jnp.asarray(t))
difference = np.abs(measured - by_hand).max()
print(f"largest difference from the closed form: {difference:.1e}")

# %% [markdown]
# ## Sampled or certified
#
# `max_curvature` samples and refines: the curve really has the value that it returns, and could
# have a higher peak somewhere. `certify` returns bounds that hold between the samples too. More
# cells make them tighter.

# %%
highest, where = symjax.max_curvature(curve)
certified = {cells: symjax.certify(curve, cells=cells) for cells in (8, 16, 64)}
print(f"length {symjax.length(curve):.4f}, at most {certified[64].length:.4f}")
print(
    f"total curvature {symjax.total_curvature(curve):.4f}, "
    f"at most {certified[64].total_curvature:.4f}"
)

figure, axes = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
plotting.plot_theory_and_measured(
    axes, t, by_hand, measured, theory_label="closed form", measured_label="symjax.curvature"
)
axes.plot(where, highest, "k*", markersize=11, label="max_curvature")
for (cells, sure), style in zip(certified.items(), plotting.STYLES[1:], strict=False):
    label = f"certify, {cells} cells"
    axes.axhline(sure.max_curvature, linestyle=style.dash, color=style.colour, label=label)
axes.set(
    xlabel="time on the curve, $t$", ylabel="curvature $\\kappa$ (1 / distance)", ylim=(0, None)
)
figure.legend(loc="outside lower center", ncols=2, fontsize=8)
plt.show()

# %% [markdown]
# ## How far is the chord?
#
# Theorem 6.2: with $\kappa d \le 2$ and a length below that of the major arc, the curve rises above
# its chord by at most $h = \frac1\kappa - \sqrt{\frac1{\kappa^2} - \frac{d^2}{4}}$, so no point of
# the chord is farther than that from the curve. Measured on 200 random curves of different sizes;
# where a hypothesis fails there is no bound.

# %%
samples = jnp.linspace(0.0, 1.0, 65)


def flat(point):
    return jnp.concatenate([w.ravel() for w in point])


def measure(key):
    """The largest height of the curve above its chord, and its bound."""
    for_size, for_direction = jax.random.split(key)
    size = jnp.exp(jax.random.uniform(for_size, (), minval=jnp.log(0.03), maxval=jnp.log(3.0)))
    m = size * jax.random.normal(for_direction, (12,))
    curve = symjax.exponential_curve(action, weights, m)
    chord = symjax.chord(curve(0.0), curve(1.0))
    sure = symjax.certify(curve, cells=64)
    bound = bounds.chord_deviation(sure.max_curvature, symjax.length(chord), sure.length)
    points = jax.vmap(lambda t: flat(curve(t)))(samples) - flat(weights)
    end = points[-1] / jnp.linalg.norm(points[-1])
    heights = jnp.linalg.norm(points - jnp.outer(points @ end, end), axis=1)
    return {
        "size": jnp.sqrt(jnp.mean(m**2)),
        "height": heights.max(),
        "bound": bound.value,
        "barrier": barriers.barrier(loss, chord),
    }


x = jax.random.normal(for_inputs, (5, 50), jnp.float64)
apply = networks.two_layer(jax.nn.relu)
y = apply(weights, x)
loss = lambda w: jnp.mean((apply(w, x) - y) ** 2) / jnp.mean(y**2)
found = jax.lax.map(jax.jit(measure), jax.random.split(key, 200))
held = np.isfinite(found["bound"])
print(f"the bound says something on {held.sum()} of {held.size} curves")
print(f"least bound / height: {np.min(found['bound'] / found['height']):.3f}")

figure, axes = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
plotting.plot_against_bound(axes, found["height"], found["bound"], label="one curve each")
axes.set(
    xscale="log",
    yscale="log",
    xlabel="largest height of the curve above its chord",
    ylabel="bound of Theorem 6.2",
)
axes.legend()
plt.show()

# %% [markdown]
# The chord is a distance of order size squared from the curve, and the loss is second order in the
# distance. So the loss that the average of the two networks pays grows as the fourth power of the
# size of the move: half the move, a sixteenth of the cost.

# %%
order = np.argsort(found["size"])
size, barrier = (np.asarray(found[name])[order] for name in ("size", "barrier"))
small = size < 0.3
slope = np.polyfit(np.log(size[small]), np.log(barrier[small]), 1)[0]
level = np.exp(np.mean(np.log(barrier[small] / size[small] ** 4)))
print(f"power of the size: {slope:.2f}")

figure, axes = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
axes.plot(
    size,
    barrier,
    "o",
    color=curve_style.colour,
    markersize=4,
    markerfacecolor="none",
    label="barrier on the chord",
)
axes.plot(size, level * size**4, "-", color="0.35", label="fourth power of the size")
axes.set(
    xscale="log",
    yscale="log",
    xlabel="size of the move (rms of the log scales)",
    ylabel="highest loss on the chord\n(share of the targets' mean square)",
)
axes.legend()
plt.show()

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
# # The paper in ten minutes
#
# *Understanding Mode Connectivity via Parameter Space Symmetry* (Zhao, Dehmamy, Walters and Yu,
# ICML 2025), statement by statement in its own order, each on a network so small that the answer
# can be seen. Each line that a cell prints has what the theory says beside what is measured. Where
# the text as printed is not true, the corrected form is used and the cell says what changed; proofs
# and all errata are in `docs/theory.md`.
#
# Needs `pip install '.[studies]'`.

# %%
import itertools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import symjax
from symjax import barriers, bounds, linalg, networks, plotting, topology

jax.config.update("jax_enable_x64", True)

rows = []


def compare(statement, what, measured, relation, theory):
    """Print a measured number beside what it must be, and keep both for the end."""
    rows.append((statement, float(measured), relation, float(theory)))
    print(f"{statement:<11}{what:<58}{float(measured):9.3g} {relation:>2} {float(theory):.4g}")


def highest(loss, path):
    """The largest loss at 65 points of a path."""
    return barriers.loss_along(loss, path, jnp.linspace(0.0, 1.0, 65)).max()


# %% [markdown]
# ## Section 3: symmetries and connected components
#
# A linear network $W_2 W_1 X$ computes the same when its hidden units change their basis,
# $g \cdot (W_1, W_2) = (g W_1, W_2 g^{-1})$, eq. (1). $\mathrm{GL}_2$ has two components, told
# apart by the sign of the determinant. An orbit is a continuous image of the group and has no more
# (Corollary 3.6), nor has a minimum that is one orbit (Corollary 3.7).

# %%
x, y = jnp.eye(2), jnp.array([[2.0, 0.3], [0.1, 1.0]])
first = jnp.array([[1.0, 0.5], [0.0, 2.0]])
w = (first, y @ jnp.linalg.inv(first))  # a minimum of |Y - W2 W1 X|^2
loss = networks.squared_loss(networks.linear, x, y)
action = symjax.deep_linear_action((2, 2, 2))
minimum = topology.linear_minimum((2, 2, 2), x, y)

p = action((jnp.array([[1.0, 3.0], [0.0, -2.0]]),), w)  # det < 0
q = action((jnp.array([[-4.0, 1.0], [1.0, 1.0]]),), w)  # det < 0
compare("Eq. (1)", "loss after a change of basis", loss(p), "=", 0)
orbit, group = topology.orbit_components(w), action.group
compare("Cor. 3.6", "components of an orbit", orbit.count, "<=", topology.orbit_bound(group))
compare("Cor. 3.7", "components of the minimum", minimum.count, "<=", topology.minimum_bound(group))

# %% [markdown]
# Inside a component a path leads from each point to each other (Theorem 3.1), here an explicit one.
# A set that is cut into orbits has at most as many components as they have together (Proposition
# 3.8), often fewer: $\{w_2 w_1 = 0\}$ is a cross, four half lines and the origin. But connected
# orbits need not make a connected set (Proposition A.8): $\{w_2 w_1 = 1\}$ is two of them, of the
# positive scales.

# %%
compare("Thm. 3.1", "highest loss on the path", highest(loss, minimum.path(p, q)), "=", 0)
one = np.ones((1, 1))
cross = topology.linear_minimum((1, 1, 1), one, 0 * one)
together = topology.minimum_bound(1, 1, 1, 1, 1)
compare("Prop. 3.8", "components of a cross of five connected orbits", cross.count, "<=", together)
scales = symjax.PositiveScaling(1)
branches = topology.linear_minimum((1, 1, 1), one, one)
together = topology.minimum_bound(scales, scales)
compare("Prop. A.8", "components of two connected orbits", branches.count, "=", together)

# %% [markdown]
# ## Section 4: how many components a minimum has
#
# Square invertible layers: the minimum looks like $\mathrm{GL}_h^{l-1}$ (Proposition 4.1; the
# product in (10) needs its inverses in the order $1, \dots, l-1$). A homeomorphism keeps what is
# connected (Corollary 3.2) and how many components there are (Corollary 3.3), so these are
# $2^{l-1}$ (Corollary 4.2). Multiplying two layers is a continuous map onto the minimum of a
# shorter network, which has no more of them (Proposition 3.4). The grid counts in its own way: it
# merges points between which no sign can change.

# %%
second = jnp.diag(jnp.array([1.0, -2.0]))
chart = topology.linear_chart((first, second), x, y)
compare("Prop. 4.1", "loss at a point of the chart, three layers", loss(chart), "=", 0)
image = lambda t: topology.linear_chart((first + t * jnp.eye(2), second), x, y)  # det stays > 0
compare("Cor. 3.2", "highest loss on the image of a path", highest(loss, image), "=", 0)
counts = {n: topology.linear_minimum((1,) * (n + 1), one, one).count for n in (2, 3, 4)}
for layers in counts:
    signs = [{(i,): 1.0} for i in range(layers - 1)]  # of all hidden layers' weights
    grid = topology.count_by_grid(signs, layers - 1).count
    compare(
        "Cor. 4.2", f"components with {layers} layers, by the grid", grid, "=", 2 ** (layers - 1)
    )
compare("Cor. 3.3", "components of the minimum and of GL(1)^3", counts[4], "=", 2**3)
compare("Prop. 3.4", "components with three layers, and with four", counts[3], "<=", counts[4])

# %% [markdown]
# A skip connection joins components: $w_3 (w_2 w_1 + 1) x = y$ has three, not four (Proposition
# 4.3; its proof inverts the wrong map in (12)).

# %%
residual = topology.residual_minimum(1, ((1,),), one, one)
grid = topology.count_by_grid({(): 1.0, (0, 1): 1.0}, 2, magnitudes=np.logspace(-2, 2, 24))
compare("Prop. 4.3", "components with a skip, by the grid", grid.count, "=", residual.count)

# %% [markdown]
# ## Section 5: permutations, and straight lines
#
# Two minima in different components cannot be joined; after a reflection of one they can (Lemma
# 5.1), and a permutation of hidden units will do (Proposition 5.2). As printed the permutations
# stand on the wrong sides, $(W_1 P, P^{-1} W_2)$, and that is no minimum any more; the right form
# is $(P W_1, W_2 P^{-1})$.

# %%
print("w and p in one component:", minimum.connected(w, p))
pair = topology.reflected_pair(w, p, x, y)
compare("Lemma 5.1", "highest loss from the reflected w", highest(loss, pair.curve), "=", 0)
permuted, (order,) = minimum.permutations(w, p)
way = minimum.path(permuted, p)
compare("Prop. 5.2", "highest loss from the permuted w", highest(loss, way), "=", 0)
swap = jnp.eye(2)[np.asarray(order)]
compare("Prop. 5.2", "loss of w permuted as printed", loss((w[0] @ swap, swap.T @ w[1])), ">=", 0.1)

# %% [markdown]
# A copy rescaled by $m$, $(m W_1, m^{-k} W_2)$ where $\sigma(cz) = c^k \sigma(z)$, computes the
# same; the line to it is as bad as one likes (Proposition 5.3). The loss on it is a closed form. As
# printed the exponent of the $m$ that is constructed has the wrong sign, and $\sigma(cz) =
# c^k\sigma(z)$ is asked for negative $c$ too, which ReLU fails.

# %%
key = jax.random.key(0)
v, u = networks.random_weights(key, (3, 4, 2), dtype=jnp.float64)
inputs = jax.random.normal(jax.random.fold_in(key, 1), (3, 8), jnp.float64)
scales = jnp.geomspace(1.1, 10.0, 16)

figure, axes = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
settings = ((1, jax.nn.relu, "ReLU"), (2, lambda z: jax.nn.relu(z) ** 2, "squared ReLU"))
for (k, sigma, name), style in zip(settings, plotting.STYLES, strict=False):
    apply = networks.two_layer(sigma)
    target = apply((v, u), inputs)
    error = networks.squared_loss(apply, inputs, target)
    size = jnp.linalg.norm(target)

    def barrier(m, k=k, error=error):
        copy = symjax.rescaling_action(k)(m, (v, u))
        return barriers.barrier(error, symjax.chord((v, u), copy))

    measured = jax.lax.map(barrier, scales)
    theory = barriers.rescaling(float(k), scales, size).value
    worst = jnp.abs(measured / theory - 1).max()
    compare("Prop. 5.3", f"{name}: relative error of the closed form", worst, "=", 0)
    plotting.plot_theory_and_measured(
        axes,
        scales,
        theory / size**2,
        measured / size**2,
        style=style,
        theory_label=f"{name}, closed form",
        measured_label=f"{name}, measured",
    )
axes.set(
    xscale="log",
    yscale="log",
    xlabel="scale $m$ of the copy",
    ylabel="highest loss on the line\n(in units of $|Y|^2$)",
)
axes.legend()
plt.show()

# %% [markdown]
# Permuting the copy's units first does not help: from some $m$ on the middle of the line is above
# $b$ for every permutation (Proposition 5.4; printed without primes, and then $P = I$ gives 0).

# %%
z = v @ inputs
held = barriers.permuted_witness(u, z, jax.nn.relu, barrier=1.0)
middles = []
for chosen in itertools.permutations(range(4)):
    order = jnp.array(chosen)
    output = (u + u[:, order] / held.m) @ jax.nn.relu(z + held.m * z[order]) / 4
    middles.append(jnp.sum((output - u @ jax.nn.relu(z)) ** 2))
compare("Prop. 5.4", "loss half-way for the best of 24 permutations", min(middles), ">=", 1)

# %% [markdown]
# Nor is the line near the minimum elsewhere: its middle is far from all factorisations (Proposition
# 5.5; the printed argument is no proof, the bound here is). With every norm kept below $c$ the loss
# on a line to the orbit stays below a $b(c)$ (Proposition 5.6), which is the exact supremum.

# %%
ones = jnp.ones((1, 1))
middle = (4 + 1 / 4) / 2
factors = np.geomspace(1e-2, 1e2, 100001)
distance = np.hypot(factors - middle, 1 / factors - middle).min()
least = barriers.factorisation_distance(ones, ones, beta=4.0)
compare("Prop. 5.5", "distance of the middle from w1 w2 = 1", distance, ">=", least.value)
below = bounds.orbit_loss(1.0, w_prev_norm=1.0, w_last_norm=1.0, max_norm=4.0, y_norm=1.0)
allowed = jax.random.uniform(key, (1000,), minval=below.m_low, maxval=below.m_high)
worst = barriers.rescaling(1.0, allowed, 1.0).value.max()
compare("Prop. 5.6", "highest loss on 1000 lines with norms below 4", worst, "<=", below.value)

# %% [markdown]
# ## Section 6: curves instead of lines
#
# $\gamma(t) = \exp(tM) \cdot w$ keeps the loss, eq. (4). Eq. (5), $\exp(t \log g) \cdot w$, needs
# a real logarithm, which nearly no large random $g$ has. In two exponentials, of its polar
# factors, every $g$ of positive determinant can be reached.

# %%
m = action.group.random_algebra(key, scale=1.0, dtype=jnp.float64)
curve = symjax.exponential_curve(action, w, m)
compare("Eq. (4)", "highest loss on the curve", highest(loss, curve), "=", 0)
gs = jax.random.normal(key, (1000, 8, 8), jnp.float64)
share = linalg.has_principal_log(gs).mean()
compare("Eq. (5)", "share of 8 x 8 matrices with a real logarithm", share, "<=", 0.25)
turned = (jnp.diag(jnp.array([-1.0, -2.0])),)  # no real logarithm, determinant 2
two_factors = symjax.connecting_curve(action, w, turned)
gap = max(jnp.abs(a - b).max() for a, b in zip(two_factors(1.0), action(turned, w), strict=True))
compare("Eq. (5)", "how far the curve ends from g.w, two exponentials", gap, "=", 0)
compare("Eq. (5)", "highest loss on that curve", highest(loss, two_factors), "=", 0)

# %% [markdown]
# For networks without a symmetry the paper has a map that looks at the data, eq. (6). It is called
# an action and is none: with fewer samples than hidden units even the identity moves the
# parameters. The output changes by at most its own norm (Proposition 6.1, for orthogonal
# projections), and more exactly by Pythagoras.

# %%
few = inputs[:, :3]
data_action = symjax.data_action(jax.nn.sigmoid, few)
_, moved = data_action(jnp.eye(4), (v, u))
compare("Eq. (6)", "how far the identity moves U", jnp.linalg.norm(moved - u), ">=", 0.1)
element = jax.random.normal(jax.random.fold_in(key, 2), (4, 4), jnp.float64)
change = bounds.output_change(u, v, element, inputs, jax.nn.sigmoid)
compare("Prop. 6.1", "change of the output, at most its norm", change.change, "<=", change.value)
both = change.new_norm**2 + change.change**2
compare("Prop. 6.1", "|F'|^2 + |F - F'|^2, and |F|^2", both, "=", change.value**2)

# %% [markdown]
# Curvature is $|\gamma'' - \mu \gamma'| / |\gamma'|^2$ (section 6.2). On the hyperbola
# $w_2 w_1 = 1$ it is $2 (w_1^2 + w_2^2)^{-3/2}$.

# %%
hyperbola = symjax.exponential_curve(symjax.rescaling_action(), (ones, ones), jnp.array(1.5))
kappa, t = symjax.curvature(hyperbola, 0.4), 0.4 * 1.5
compare("Sec. 6.2", "curvature of the hyperbola", kappa, "=", 2 * (2 * jnp.cosh(2 * t)) ** -1.5)

# %% [markdown]
# A curve that is not too curved stays near its chord (Theorem 6.2). As printed this is false: on
# the major arc of a circle the middle of the chord is farther away than the bound says. It is true
# for $\kappa d \le 2$ and a length below that of the major arc; otherwise the bound here is
# infinite.

# %%
angles = np.linspace(0.05, 1.9, 75) * np.pi
chords = 2 * np.sin(angles / 2)  # of arcs of radius 1, so that kappa = 1
at = np.linspace(-0.5, 0.5, 2001) * angles[:, None]
distances = np.hypot(np.cos(at) - np.cos(angles / 2)[:, None], np.sin(at)).min(axis=1)
printed = 1 - np.sqrt(1 - (chords / 2) ** 2)
right = bounds.chord_deviation(1.0, chords, angles)
worst = (printed - distances).min()
compare("Thm. 6.2", "printed bound minus distance, major arcs", worst, "=", 1 - np.sqrt(2))
worst = jnp.min(right.value - distances)
compare("Thm. 6.2", "corrected bound minus distance, all arcs", worst, ">=", 0)

figure, axes = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
plotting.plot_theory_and_measured(
    axes,
    angles / np.pi,
    np.where(right.holds, right.value, np.nan),
    np.where(np.arange(len(angles)) % 4, np.nan, distances),
    theory_label="corrected bound",
    measured_label="measured: middle of the chord to the arc",
)
wrong = plotting.STYLES[1]
axes.plot(
    angles / np.pi,
    printed,
    linestyle=wrong.dash,
    color=wrong.colour,
    label="bound as printed",
    zorder=1,
)
axes.axvspan(1, 1.9, color="0.92", zorder=0, label="hypothesis fails: major arc")
axes.set(xlabel="angle of the arc, in units of $\\pi$", ylabel="distance (radius 1)")
figure.legend(loc="outside lower center", ncols=2, fontsize=8)
plt.show()

# %% [markdown]
# So the loss on the chord is bounded, by a Lipschitz constant near the curve (eq. (9); as printed
# on the whole space, where a polynomial has none). For $(w_2 w_1 - 1)^2$ within $h$ of a curve of
# norm at most $R$ the gradient is at most $2 (R h + h^2/2)(R + h)$.

# %%
short = symjax.exponential_curve(symjax.rescaling_action(), (ones, ones), jnp.array(0.5))
sure = symjax.certify(short, cells=64)
line = symjax.chord(short(0.0), short(1.0))
near = bounds.chord_deviation(sure.max_curvature, symjax.length(line), sure.length)
h, radius = near.value, jnp.sqrt(2 * jnp.cosh(1.0))
constant = 2 * (radius * h + h**2 / 2) * (radius + h)
square = networks.squared_loss(networks.linear, ones, ones)
bound = bounds.chord_loss(constant, near, tube_radius=h)
compare("Eq. (9)", "highest loss on the chord", highest(square, line), "<=", bound.value)

# %% [markdown]
# ## All of it at once
#
# Up to rounding in float64.

# %%
relations = {
    "=": lambda a, b: abs(a - b) < 1e-9 * max(1, abs(b)),
    "<=": lambda a, b: a < b + 1e-9,
    ">=": lambda a, b: a > b - 1e-9,
}
held = [relations[relation](a, b) for _, a, relation, b in rows]
statements = {statement for statement, *_ in rows}
print(f"{len(statements)} statements, {len(rows)} comparisons, {sum(held)} of them hold")

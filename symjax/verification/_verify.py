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
from .._jaxprs import programs_of
from ..discovery import Acting, resolve
from ..groups import GeneralLinear

DRAWS = 4


@dataclass(frozen=True)
class Verification:
    """What random elements of a group did to a model (host-only).

    ``output_change`` is the largest change of an output, and ``composition``, ``inverse`` and
    ``identity`` the largest residuals of (gh).w = g.(h.w), g^-1.(g.w) = w and e.w = w, all in
    units of the dtype's eps at the scale of the output or leaf; for outputs the eps is that of the
    coarsest dtype that the model computes in, where that is coarser. The residuals are None where
    the map is not a group action. ``tolerance`` is in the same units. The rest are hypotheses:
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
        def measure(params, inputs, elements):
            one = lambda each: _one_draw(fitting, apply, each[1], inputs, each[0])
            found = jax.lax.map(one, (elements, params))
            return jax.tree.map(lambda x: x.any(0) if x.dtype == bool else x.max(0), found)

        points, keys = _points(params, rng, randomise), jax.random.split(key, DRAWS)
        elements = [
            _elements(_group(a, params), keys, i, scale, _dtype(params))
            for i, a in enumerate(fitting)
        ]
        found = measure(points, inputs, elements)
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


def _one_draw(actions, apply, params, inputs, elements):
    """One row of numbers for each action, at one point; the model is compiled once for all."""
    before, structure = jax.tree.flatten(params)
    tried = [_axioms(*each, before, structure) for each in zip(actions, elements, strict=True)]
    outputs = lambda leaves: [
        x
        for x in jax.tree.leaves(apply(structure.unflatten(leaves), *inputs))
        if hasattr(x, "dtype")
    ]
    expected = outputs(before)
    coarsest = _computed_in(outputs, before)
    require(bool(expected), "`apply` must return an array.")
    touched = sorted({place for moved, _ in tried for place in moved})
    stacked = [jnp.stack([moved.get(i, before[i]) for moved, _ in tried]) for i in touched]
    # The numbers are there for actions that move nothing: a map needs something to run over.
    after = jax.lax.map(
        lambda new: outputs(_leaves(before, dict(zip(touched, new[1], strict=True)))),
        (jnp.arange(len(tried)), stacked),
    )
    for i, (moved, row) in enumerate(tried):
        mine = jax.tree.map(lambda x, i=i: x[i], after)
        row["output_change"] = _difference(mine, expected, coarsest)
        row["not_finite"] = ~(_finite(mine) & _finite(moved))
    return [row for _, row in tried]


@functools.partial(jax.jit, static_argnames=("group", "dtype"))
def _elements(group, keys, number, scale, dtype):
    """For each key two random elements, their product, an inverse and the identity.

    ``number`` is the action's. Compiled once for all actions, and all models, of a group. The first
    element of a finite group is not the identity, which one of Z2 is half the time.
    """
    count = 2 if group.dimension else 8

    def of(key):
        keys = jax.random.split(jax.random.fold_in(key, number), count)
        drawn = jax.vmap(lambda k: group.random(k, scale=scale, dtype=dtype))(keys)
        one = group.identity(dtype=dtype)
        moves = jnp.zeros(count, bool)
        if count > 2:
            for x, e in zip(*map(jax.tree.leaves, (drawn, one)), strict=True):
                moves = moves | (x != e[None]).reshape(count, -1).any(1)
        pick = lambda i: jax.tree.map(lambda x: x[i], drawn)
        g, h = pick(jnp.argmax(moves)), pick(1)
        found = {"g": g, "h": h, "product": group.compose(h, g), "inverse": group.inverse(g)}
        return found | {"one": one, "outside": ~jnp.all(group.contains(g))}

    return jax.vmap(of)(keys)


def _axioms(action, elements, before, structure):
    """The leaves that an element moves, by place, and what is broken of an action's axioms.

    An action is traced twice, for elements side by side: on ``before``, and on what g made of it.
    """

    def moved(names, leaves):
        """The leaves that elements move, stacked; the others are returned as they came."""

        def of(element):
            after = structure.flatten_up_to(action(element, structure.unflatten(leaves)))
            return {i: x for i, (x, y) in enumerate(zip(after, leaves, strict=True)) if x is not y}

        return jax.vmap(of)(jax.tree.map(lambda *xs: jnp.stack(xs), *[elements[n] for n in names]))

    def residual(a, b):
        pairs = [(a.get(i, before[i]), b.get(i, before[i])) for i in a | b]
        return _difference([x for x, _ in pairs], [y for _, y in pairs])

    at = lambda stacked, i: {place: x[i] for place, x in stacked.items()}
    first = moved(("g", "product", "one") if action.is_group_action else ("g",), before)
    new = at(first, 0)
    row = {"outside": elements["outside"], "moved": residual(new, {}) > 1}
    if action.is_group_action:
        second = moved(("h", "inverse"), _leaves(before, new))
        row["composition"] = residual(at(first, 1), at(second, 0))
        row["inverse"] = residual(at(second, 1), {})
        row["identity"] = residual(at(first, 2), {})
    return new, row


def _leaves(leaves, new):
    return [new.get(i, x) for i, x in enumerate(leaves)]


def _computed_in(function, *arguments):
    """The eps of the coarsest dtype that a model computes in; what it casts its outputs to is none.

    A model that casts to float32 inside rounds to that, whatever it gives its outputs in. Dtypes
    coarser than that do not count: so many of their eps would be as large as the outputs.
    """
    coarsest, waiting = 0.0, [jax.make_jaxpr(function)(*arguments).jaxpr]
    while waiting:
        program = waiting.pop()
        for equation in program.eqns:
            waiting += programs_of(equation)
            if equation.primitive.name != "convert_element_type":
                dtypes = [v.aval.dtype for v in equation.outvars if hasattr(v.aval, "dtype")]
                eps = [float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.floating)]
                coarsest = max([coarsest, *(e for e in eps if e <= jnp.finfo(jnp.float32).eps)])
    return coarsest


def _difference(a, b, least=0.0):
    """The largest difference of two trees, leaf by leaf in units of eps at the leaf's scale.

    An eps is that of the leaf, or ``least`` where that is larger. Whole numbers must be equal: a
    difference of theirs is infinite. NaN stays NaN.
    """
    parts = [jnp.zeros(())]
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if not is_floating(y):
            same = jnp.array_equal(x, y) if hasattr(y, "dtype") else True
            parts.append(jnp.where(same, 0.0, jnp.inf))
        elif y.size:
            scale = jnp.max(jnp.abs(y))
            unit = max(float(jnp.finfo(y.dtype).eps), least) * jnp.where(scale > 0, scale, 1)
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

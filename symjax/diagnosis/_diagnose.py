"""Is B the same function as A; by which element; and if not, which leaves are wrong?"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from .._checks import describe, is_concrete, is_floating, path_name, require, require_callable
from .._generic import generator
from .._results import printed
from ..discovery import Acting, resolve
from ..matching._elements import Element
from ..matching._match import public_element
from ..matching._state import with_shifts
from ..matching._straight import straightened
from ..matching._table import host_leaves, make_table
from ._explain import Problem, explain
from ._gains import folded_and_left, not_folded
from ._outputs import Outputs, constant, relative, shaken, stored_eps
from ._reasons import is_unexplained, reasons as reasons_of
from ._words import element_words

MULTIPLE = 32.0
"""Outputs agree where they differ by at most this multiple of what rounding was seen to do."""

LEAST, EPS = 1e-5, 8.0
"""A leaf is explained to the larger of LEAST (which the search reaches) and EPS of its eps."""

FEW = 2
"""With more wrong leaves than this, one cause behind them (the gains of norms) is looked for."""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Whether B is the same function as A, and why not (host-only); print it.

    Attributes:
        same: True or False; None where it could not be told, see ``reasons``. True is said of the
            inputs that were tried, unless ``element`` explains B: that holds for all inputs.
        change: |f(B) - f(A)| / |f(A)| over all outputs on all inputs.
        element: what takes A to B, for `symjax.matching.apply_element`; None if nothing does.
        residuals: for each leaf how far the best element is from B: the largest difference of an
            entry, in units of the entry and the leaf's root mean square.
        culprits: the leaves that no element explains, unless ``same`` holds all the same. Where
            two sets are as few, both are named.
        reasons: plain sentences: what is wrong with the culprits, or why it could not be told.
        words: the best element in words.
        nearest: the element that leaves the fewest leaves unexplained: applied to A it gives what
            B should be.
        rounding: the change that rounding the parameters explains, measured.
        inputs: the number of inputs that were tried, given and random.
    """

    same: bool | None
    change: float
    element: Element | None
    residuals: dict[str, float]
    culprits: tuple[str, ...]
    reasons: tuple[str, ...]
    words: tuple[str, ...]
    nearest: Element
    rounding: float
    inputs: int

    def __str__(self) -> str:
        verdict = {
            True: "the same function",
            False: "not the same function",
            None: "could not tell",
        }
        lines = [
            f"{verdict[self.same]}: outputs differ by {self.change:.2g} (relative, {self.inputs} "
            f"inputs); rounding explains {self.rounding:.2g}"
        ]
        if self.words:
            lines += [("element from A to B:" if self.element is not None else "nearest element:")]
            lines += [f"  {line}" for line in self.words]
        elif self.element is not None:
            lines += ["element from A to B: the identity"]
        if self.culprits:
            lines += [f"wrong: {', '.join(self.culprits)}"]
        return "\n".join([*lines, *self.reasons])

    __repr__ = printed


def diagnose(
    symmetries: Acting,
    apply: Callable[..., PyTree],
    params_a: PyTree,
    params_b: PyTree,
    *inputs: Any,
    key: Key[Array, ""],
    approximate: bool = False,
) -> Diagnosis:
    """Whether B is the same function as A, by which element, and if not which leaves are wrong.

    For a checkpoint that was transformed (norms folded, a stream rotated, heads permuted, models
    averaged) and should compute what it did. Outputs ``apply(params, *inputs)`` are compared on the
    inputs given and on random ones like them (integers between the least and greatest given), in
    float64 where the program allows it. How large a difference rounding explains is measured, by
    perturbing both models in the last digit that they are stored with; agreeing means to 32 times
    that.

    The element that takes A to B is searched for as by `symjax.match`, of the exact symmetries, and
    with ``approximate`` of the others as well; what is said of outputs is measured. Where there is
    none, leaves are weighted by how well they are explained, until the fewest are left that no
    element explains; the gains of norms are tried as a cause. The answer is None where it
    cannot be told: outputs that are NaN or do not depend on the inputs, or leaves that differ in
    entries which the inputs never read.

    Raises ValueError for parameters of different structure or shapes, or under jit.

    Example:
        >>> import symjax
        >>> apply = lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"]
        >>> a = {"up": jnp.array([[1.0, 2.0]]), "down": jnp.array([[3.0], [-1.0]])}
        >>> x = jnp.array([[1.0]])
        >>> found = symjax.find_symmetries(apply, a, x)
        >>> b = {"up": a["up"][:, ::-1], "down": a["down"]}
        >>> wrong = symjax.diagnose(found, apply, a, b, x, key=jax.random.key(0))
        >>> wrong.same, wrong.element is None
        (False, True)
        >>> b = {"up": a["up"][:, ::-1], "down": a["down"][::-1]}
        >>> print(symjax.diagnose(found, apply, a, b, x, key=jax.random.key(0)).words[0])
        down, up: 0 and 1 of 2 exchanged
    """
    require_callable("apply", apply)
    params_b = _like(params_a, params_b)
    rng = generator(key)
    names = [path_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params_a)[0]]
    rows_a, rows_b = (jax.tree.leaves(p) for p in (params_a, params_b))
    eps = [max(stored_eps(x), stored_eps(y)) for x, y in zip(rows_a, rows_b, strict=True)]
    outputs = Outputs(apply, inputs, rng, params_a)
    symmetries = resolve(symmetries, approximate)
    broken = _not_finite(names, rows_a, rows_b)
    if broken:
        return _could_not_tell(outputs, params_a, params_b, names, broken, symmetries)
    tolerance = {i: max(LEAST, EPS * e) for i, e in enumerate(eps) if is_floating(rows_a[i])}
    straight = straightened(symmetries, params_a)
    symmetries = straight.symmetries
    table = make_table(symmetries, params_a)
    a, b = (straight.forth(host_leaves(p)) for p in (params_a, params_b))
    problem = Problem(table, a, b, tolerance)
    found = explain(problem, rng)
    verdict = _Verdict(problem, outputs, params_a, params_b, eps, names, rng)
    found, culprits, said = _blamed(problem, found, names, apply, params_a, inputs, outputs, rng)
    for i, (x, y) in enumerate(zip(rows_a, rows_b, strict=True)):
        if i not in tolerance and not np.array_equal(np.asarray(x), np.asarray(y)):
            culprits = (*culprits, names[i])
            said = [*said, f"'{names[i]}' ({describe(x)}) is moved by no symmetry and differs."]
    best = found[0]
    same, why = verdict.told(best, culprits)
    found_none = bool(culprits)
    if same:
        # Leaves differ by no element that is known, and yet nothing is wrong with them.
        said = [f"No element that is known explains {', '.join(culprits)}."] if culprits else []
        culprits = ()
    state = with_shifts(table, problem.a, best.state)
    close = 4 * max([1e-5, *eps])
    nearest = public_element(table, symmetries, state, params_a)
    return Diagnosis(
        same,
        verdict.change,
        None if found_none else nearest,
        {names[i]: r for i, r in best.residuals.items()},
        culprits,
        (*said, *why),
        element_words(table, state.element, names, close),
        nearest,
        verdict.rounding,
        len(outputs.inputs),
    )


def _blamed(problem, found, names, apply, params_a, inputs, outputs, rng):
    """The explanations, the leaves that they do not explain, and a sentence for each."""
    wrong = found[0].wrong
    told = [(one, reasons_of(problem, one, names)) for one in found]
    plain = min(sum(map(is_unexplained, lines)) for _, lines in told)
    told = [row for row in told if sum(map(is_unexplained, row[1])) == plain]
    found = [one for one, _ in told]
    said = list(dict.fromkeys(line for _, lines in told for line in lines))
    culprits = tuple(dict.fromkeys(names[i] for one in found for i in sorted(one.wrong)))
    if len(wrong) <= FEW:
        return found, culprits, said
    fails = []
    if one := not_folded(problem, names, apply, params_a, inputs, outputs, rng):
        fails.append(one)
    if pair := folded_and_left(problem, names, rng):
        fails.append(pair[0])
    fails = [fail for fail in fails if len(fail.wrong) < len(wrong)]
    if not fails:
        return found, culprits, said
    best = min(fails, key=lambda fail: len(fail.wrong))
    rest = [
        f"'{name}' is explained by no element." for name in best.wrong if name not in best.gains
    ]
    return found, best.wrong, [best.reason, *rest]


class _Verdict:
    """Whether the outputs agree, and what that rests on."""

    def __init__(self, problem, outputs, params_a, params_b, eps, names, rng):
        self.problem, self.outputs, self.params_b, self.names, self.rng = (
            problem,
            outputs,
            params_b,
            names,
            rng,
        )
        self.rows = outputs.rows(params_a)
        other = outputs.rows(params_b)
        self.change = relative(self.rows, other)
        own = max(relative(self.rows, outputs.rows(shaken(params_a, eps, rng))) for _ in range(2))
        its = max(relative(other, outputs.rows(shaken(params_b, eps, rng))) for _ in range(2))
        self.rounding = float(np.hypot(own, its))

    def told(self, one, culprits):
        """True, False or None, with the reasons for a None and what a True rests on."""
        if not np.isfinite(self.change):
            return None, ["The outputs are NaN or infinite, so they cannot be compared."]
        agree = self.change <= MULTIPLE * self.rounding
        if not culprits:
            if agree:
                return True, []
            return self._explained(one)
        if not agree:
            return False, []
        if constant(self.rows):
            return None, ["The outputs of A are the same for every input: they show nothing."]
        return self._unexplained(one)

    def _explained(self, one):
        worst = max(one.residuals.values(), default=0.0)
        return None, [
            f"An element explains every leaf to {worst:.1g}, but the outputs differ by "
            f"{self.change / (self.rounding or 1e-300):.2g} times what rounding explains: they "
            "may differ by less than is resolved, or B was computed in a coarser format."
        ]

    def _unexplained(self, one):
        """Outputs that agree though no element explains the leaves: are these leaves even read?"""
        if not self.outputs.wide and self.rounding == 0:
            return None, ["Rounding could not be measured."]
        for i in sorted(one.wrong):
            x, y = one.state.leaves[i], self.problem.b[i]
            size = np.sqrt(np.mean(y**2)) or 1.0
            differs = abs(x - y) > self.problem.tolerance[i] * (abs(y) + size)
            try:
                unseen = self.outputs.unseen(self.params_b, i, self.rng) & differs
            except TypeError:
                return None, [
                    "The outputs agree, but which parameters they depend on is not known."
                ]
            if unseen.any():
                return None, [
                    f"The outputs agree, but {int(unseen.sum())} entries of '{self.names[i]}' "
                    "differ on which no output depends for these inputs: give some that use them."
                ]
        return True, [
            f"The outputs agree on {len(self.outputs.inputs)} inputs, and this rests on them: no "
            "element of the symmetries that are known takes A to B."
        ]


def _like(params_a, params_b):
    """B in the structure and dtypes of A; ValueError naming a leaf where it does not fit."""
    require(
        is_concrete(params_a, params_b),
        "`diagnose` runs on the host: call it outside jit, on concrete parameters.",
    )
    rows = [
        {path_name(path): x for path, x in jax.tree_util.tree_flatten_with_path(p)[0]}
        for p in (params_a, params_b)
    ]
    for name in rows[0].keys() ^ rows[1].keys():
        held = "params_a" if name in rows[0] else "params_b"
        raise ValueError(f"`params_a` and `params_b` differ: leaf '{name}' is in `{held}` alone.")
    for name, x in rows[0].items():
        y = rows[1][name]
        require(
            jnp.shape(x) == jnp.shape(y) and is_floating(x) == is_floating(y),
            f"`params_a` and `params_b` differ at leaf '{name}': {describe(x)} and {describe(y)}.",
        )
    return jax.tree.unflatten(jax.tree.structure(params_a), list(rows[1].values()))


def _not_finite(names, *models):
    bad = lambda x: is_floating(x) and not np.isfinite(np.asarray(x).astype(np.float64)).all()
    return tuple(
        name for name, *leaves in zip(names, *models, strict=True) if any(map(bad, leaves))
    )


def _could_not_tell(outputs, params_a, params_b, names, broken, symmetries):
    listed = ", ".join(f"'{name}'" for name in broken)
    change = relative(outputs.rows(params_a), outputs.rows(params_b))
    return Diagnosis(
        None,
        change,
        None,
        dict.fromkeys(broken, float("nan")),
        broken,
        (f"NaN or infinite numbers in {listed}.",),
        (),
        tuple(s.group.identity() for s in symmetries),
        float("nan"),
        len(outputs.inputs),
    )

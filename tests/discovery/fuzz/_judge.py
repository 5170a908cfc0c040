"""What discovery says of a program beside what is true of it, in NumPy and float64."""

import traceback
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

import symjax
from symjax.discovery._check import Place, tangents, unchanged
from symjax.discovery._interpreter import Interpreter, host

#: A singular value below this share of the largest is none.
RANK = 1e-9


@dataclass
class Verdict:
    """``false``: rows that change an output. ``wrong``: a dimension that cannot be.

    ``dimension`` is how many directions the found rows give at random parameters, ``true`` how many
    leave every output as it is, by the Jacobian.
    """

    crash: str = ""
    false: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    dimension: int = 0
    true: int = 0


def judge(program) -> Verdict:
    """Read a program, apply every exact row, and count directions."""
    verdict = Verdict()
    flat, structure = jax.tree.flatten((program.params, *program.inputs))
    closed = jax.make_jaxpr(
        lambda *flat: jax.tree.leaves(program.apply(*jax.tree.unflatten(structure, flat)))
    )(*flat)
    traced = jaxpr_as_fun(closed)
    apply = lambda *args: traced(*jax.tree.leaves(args))
    try:
        found = symjax.find_symmetries(apply, program.params, *program.inputs, check=False)
    except Exception:
        verdict.crash = traceback.format_exc()
        return verdict
    model = Interpreter(closed)
    data = [host(x) for x in program.inputs]
    places = [Place({n: host(x) for n, x in program.params.items()}, data)]
    rng = np.random.default_rng(1)
    others = {n: np.asarray(0.8 * rng.standard_normal(x.shape)) for n, x in program.params.items()}
    places.append(Place(others, data))
    for number, place in enumerate(places):
        before = model([*place.leaves.values(), *data])
        for s in found.exact:
            if not unchanged(model, [s.action], place, before, number):
                verdict.false.append(f"{s.name} {s.group} of {s.leaves}")
    leaves = list(program.params.values())
    jacobian = Interpreter(
        jax.make_jaxpr(_jacobian(closed, program.params))(leaves, program.inputs)
    )
    verdict.true = min(_invisible(jacobian, place) for place in places)
    at_one, at_three = (_rank(tangents(found.exact, program.params, k)) for k in (1, 3))
    # More places see no less; the rank may, where a field is far larger at one of them.
    at_three = max(at_one, at_three)
    verdict.dimension = at_one
    if not at_one <= found.dimension <= at_three:
        verdict.wrong.append(f"dimension {found.dimension}, rows give {at_one} to {at_three}")
    if at_one > verdict.true and not verdict.false:
        verdict.wrong.append(f"rows give {at_one} directions, {verdict.true} leave the outputs")
    return verdict


def _rank(parts):
    rows = np.concatenate(parts) if parts else np.zeros((0, 0))
    return int(np.linalg.matrix_rank(rows, tol=1e-4)) if rows.size else 0


def _jacobian(closed, params):
    """The program of all columns of the Jacobian, by forward differentiation."""
    run = jaxpr_as_fun(closed)
    sizes = [x.size for x in params.values()]

    def columns(leaves, data):
        def one(tangent):
            parts = jnp.split(tangent, np.cumsum(sizes)[:-1])
            steps = [t.reshape(x.shape) for t, x in zip(parts, leaves, strict=True)]
            outputs = lambda leaves: run(*leaves, *data)
            rates = jax.jvp(outputs, (leaves,), (steps,))[1]
            return jnp.concatenate([r.reshape(-1) for r in rates])

        return jax.vmap(one)(jnp.eye(sum(sizes)))

    return columns


def _invisible(jacobian, place):
    """How many directions of the parameters no output sees."""
    (rows,) = jacobian([*place.leaves.values(), *place.data])
    rows = np.nan_to_num(rows)
    sizes = np.linalg.svd(rows, compute_uv=False)
    return len(rows) - int(np.sum(sizes > RANK * max(float(sizes[0]), 1e-300)))

"""How symjax refuses bad input: one place for the checks that every public function shares."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PyTree


def require(condition: bool | np.bool_, message: str) -> None:
    """Raise ValueError(message) unless a statically known condition holds."""
    if not condition:
        raise ValueError(message)


def is_concrete(*trees: PyTree) -> bool:
    """Whether every array in the trees has a value now, that is, none is being traced."""
    leaves = jax.tree.leaves(trees)
    return not any(isinstance(leaf, Tracer) for leaf in leaves)


def require_concrete(
    condition: Callable[[], Bool[Array, "..."]], message: Callable[[], str], *values: PyTree
) -> None:
    """Raise ValueError where the values are concrete and the condition is false somewhere.

    Under a trace nothing happens: there a bad value gives NaN or a false flag, as each function
    documents. Both arguments are thunks, so that a traced call does no work at all.
    """
    if is_concrete(*values) and not _holds_now(condition):
        raise ValueError(message())


def _holds_now(condition):
    # Inside a trace even an operation on a known array would be staged; here it is computed.
    with jax.ensure_compile_time_eval():
        return bool(jnp.all(condition()))


def nan_unless(good: Bool[Array, "..."], value: Float[Array, "..."]) -> Float[Array, "..."]:
    """``value`` where ``good`` (broadcast against it), else NaN: how "there is none" is said.

    This and `nans` are the only doors through which a NaN comes in. A NaN made as an array of its
    own (``jnp.full_like(x, jnp.nan)``, ``jnp.asarray(jnp.nan, x.dtype)``) is computed outside jit,
    and jax_debug_nans then stops at a good input; here it is a constant of the compiled selection.
    """
    return jnp.where(good, value, jnp.nan)


def nans(shape: tuple[int, ...], dtype: Any) -> Float[Array, "..."]:
    """An array of NaN: what is not known yet. Copied from the host, see `nan_unless` for why."""
    return jnp.asarray(np.full(shape, np.nan, dtype))


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a leaf, such as ``layers/0/weight``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def require_finite(name: str, tree: PyTree) -> None:
    """Raise ValueError naming the first concrete leaf of ``tree`` with a NaN or infinity."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if not (is_floating(leaf) and is_concrete(leaf)) or isinstance(leaf, jax.ShapeDtypeStruct):
            continue
        if not _holds_now(lambda leaf=leaf: jnp.isfinite(leaf)):
            where = f" at leaf '{path_name(path)}'" if path else ""
            raise ValueError(
                f"`{name}` holds a NaN or an infinity{where}; expected finite numbers."
            )


def require_same_tree(name_a: str, a: PyTree, name_b: str, b: PyTree) -> None:
    """Raise ValueError unless two trees agree in structure, shapes and dtypes; names a leaf.

    Leaves are compared by their names first: models of two widths may differ in the static data of
    their containers, and the leaf with its two shapes says more than these.
    """
    rows_a, rows_b = _named_leaves(a), _named_leaves(b)
    for name, x in rows_a.items():
        if name in rows_b and x != rows_b[name]:
            raise ValueError(
                f"`{name_a}` and `{name_b}` differ at leaf '{name}': {x} and {rows_b[name]}."
                + _cast_hint(a, b)
            )
    for name, rows, other_name, other in (
        (name_a, rows_a, name_b, rows_b),
        (name_b, rows_b, name_a, rows_a),
    ):
        for leaf in rows:
            if leaf not in other:
                raise ValueError(
                    f"`{name_a}` and `{name_b}` must have the same tree structure: leaf '{leaf}' "
                    f"({rows[leaf]}) is in `{name}` and not in `{other_name}`."
                )
    if jax.tree.structure(a) != jax.tree.structure(b):
        raise ValueError(
            f"`{name_a}` and `{name_b}` must have the same tree structure. Their leaves agree; "
            f"their containers or static data do not: {_shortened(jax.tree.structure(a))} and "
            f"{_shortened(jax.tree.structure(b))}."
        )


def _cast_hint(a, b):
    """What to do where two trees differ in their dtypes alone, and nothing else."""
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (a, b)]
    if shapes[0] != shapes[1]:
        return ""
    return (
        " Their shapes agree: cast one model to the dtypes of the other, such as "
        "jax.tree.map(lambda x, y: y.astype(x.dtype), a, b), so that it is seen where digits are "
        "lost."
    )


def _named_leaves(tree):
    """A description of every leaf, by its name."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_name(path): describe(leaf) for path, leaf in leaves}


def _shortened(structure):
    text = str(structure)
    return text if len(text) <= 120 else f"{text[:117]}..."


def require_key(key: Any, name: str = "key") -> None:
    """Raise ValueError unless an argument is one key of JAX: typed, or a row of unsigned numbers.

    Named as the argument, because what JAX says of a plain number names its own insides.
    """
    typed = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = hasattr(key, "dtype") and key.dtype == jnp.uint32 and jnp.shape(key) in ((2,), (4,))
    seed = key if isinstance(key, int) and not isinstance(key, bool) else 0
    require(
        raw or (typed and jnp.shape(key) == ()),
        f"`{name}` must be one key, such as jax.random.key({seed}), got {describe(key)}.",
    )


def first_line(error: Exception) -> str:
    """What an error of another package says first; the rest is often pages."""
    return str(error).strip().partition("\n")[0]


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is an array (or abstract array) of real or complex floating-point numbers."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is an array (or abstract array) of real floating-point numbers."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def require_callable(name: str, value: Any) -> None:
    """Raise ValueError unless an argument can be called."""
    require(callable(value), f"`{name}` must be a function, got a {type(value).__name__}.")


def require_floating_leaves(params: PyTree, complex_too: bool = False) -> None:
    """Raise ValueError unless ``params`` holds floating arrays and no bare Python number.

    ``complex_too``: arrays of complex numbers will do.
    """
    kind = jnp.inexact if complex_too else jnp.floating
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    for path, leaf in leaves:
        require(
            not isinstance(leaf, float | complex),
            f"`params` leaf '{path_name(path)}' is the Python number {leaf!r}: make it an array, "
            "such as jnp.asarray of it.",
        )
    got = ", ".join(sorted({describe(x) for _, x in leaves})[:4]) or "no leaf"
    require(
        any(hasattr(x, "dtype") and jnp.issubdtype(x.dtype, kind) for _, x in leaves),
        f"`params` must hold at least one floating array, got {got}.",
    )


def require_matrices(first: str, named: dict[str, Any]) -> None:
    """Raise ValueError unless all are matrices of one floating dtype, that of the one named."""
    dtype = getattr(named[first], "dtype", None)
    for name, a in named.items():
        of = f"of the dtype of `{first}`, {dtype}" if name != first else "of floating-point numbers"
        require(
            is_floating(a) and a.ndim == 2 and a.dtype == dtype,
            f"`{name}` must be a matrix {of}, got {describe(a)}.",
        )


def require_real_number(name: str, value: Any) -> None:
    """Raise ValueError unless a function returned one real number; ``value`` may be abstract."""
    require(
        is_floating(value) and value.shape == (),
        f"`{name}` must return one real number, got {describe(value)}.",
    )


def describe(leaf: Any) -> str:
    """A short description of a leaf for an error message, such as ``float32[3,4]``."""
    if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return f"{type(leaf).__name__} {leaf!r}"


def scalar_time(t: Array | float) -> Float[Array, ""]:
    """The time at which a curve is asked for, as an array; ValueError unless it is one number."""
    t = jnp.asarray(t)
    require(t.ndim == 0, f"`t` must be a scalar, got shape {t.shape}; vmap over times.")
    return t


def require_unit_time(t: Float[Array, ""]) -> None:
    """Raise ValueError for a concrete time outside [0, 1]."""
    require_concrete(
        lambda: (t >= 0) & (t <= 1),
        lambda: f"`t` must lie in [0, 1], where this curve is defined, got {t}.",
        t,
    )


def require_positive(name: str, value: Any) -> None:
    """ValueError unless an option is a positive number, as far as its value is known.

    One that is traced, as `optax.inject_hyperparams` hands it over, must be one real number.
    """
    number = isinstance(value, int | float) or (_is_scalar(value) and not value.dtype == bool)
    require(
        number and (not is_concrete(value) or bool(0 < value < float("inf"))),
        f"`{name}` must be a positive number, got {value!r}.",
    )


def require_count(name: str, value: Any, *, traced: bool = False) -> None:
    """ValueError unless an option is a positive integer; ``traced`` ones as far as they are known.

    A count that gives an array its shape must be static.
    """
    if traced and _is_scalar(value) and jnp.issubdtype(value.dtype, jnp.integer):
        fits = not is_concrete(value) or bool(value >= 1)
    else:
        fits = _is_count(value)
    require(fits, f"`{name}` must be a positive integer, got {value!r}.")


def _is_scalar(value):
    """Whether a value is an array of one real number, which may be traced."""
    real = hasattr(value, "dtype") and not jnp.issubdtype(value.dtype, jnp.complexfloating)
    return real and jnp.shape(value) == ()


def _is_count(value):
    return isinstance(value, int | np.integer) and bool(value >= 1)


def checked_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """The widths (d_0, ..., d_l) of a network; ValueError unless they are positive integers."""
    require(
        len(widths) >= 2 and all(map(_is_count, widths)),
        f"`widths` must be at least two positive integers (d_0, ..., d_l), got {tuple(widths)}.",
    )
    return tuple(map(int, widths))


def action_of(symmetry: Any) -> Any:
    """The action of a symmetry; an action is its own."""
    action = getattr(symmetry, "action", symmetry)
    require(
        hasattr(action, "group") and callable(action),
        f"`action` must be an action or a Symmetry, got {type(symmetry).__name__}.",
    )
    return action

"""What JAX's primitives compute, in NumPy: ``rule(params, *operands)`` gives the output or outputs.

This says what a program means, and shares nothing with the rules that read it. Nothing is compiled.
Floating arrays are float64 whatever the program says, so casts between them do nothing.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ._evaluation import functions

RULES: dict[str, Callable[..., Any]] = {}


def primitive(*names: str) -> Callable[[Callable], Callable]:
    """Register what primitives of these names compute."""

    def register(function):
        for name in names:
            RULES[name] = function
        return function

    return register


def widened(dtype: Any) -> np.dtype:
    """The dtype to compute in: float64 and complex128 for floating ones, any other as it is."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.dtype(np.complex128)
    return np.dtype(np.float64 if jnp.issubdtype(dtype, jnp.floating) else dtype)


# -- entry by entry ---------------------------------------------------------------------------


def _elementwise():
    named: dict[str, Callable[..., Any]] = {
        **{name: f for name, f in functions().items() if name not in ("round", "not", "and")},
        **{"add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply},
        **{"neg": np.negative, "square": np.square, "conj": np.conj, "pow": np.power},
        **{"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor},
        **{"not": np.invert, "real": np.real, "imag": np.imag},
        "complex": lambda a, b: a + 1j * b,
        "div": _divide,
        "shift_left": np.left_shift,
    }
    for name, function in named.items():
        RULES[name] = lambda p, *values, f=function: f(*values)


def _divide(a, b):
    if np.issubdtype(np.result_type(a), np.integer):
        return np.trunc(np.true_divide(a, b))
    return a / b


_elementwise()


@primitive("integer_pow")
def _integer_pow(p, x):
    return np.power(x, p["y"]) if p["y"] >= 0 else 1 / np.power(x, -p["y"])


@primitive("round")
def _round(p, x):
    if int(p["rounding_method"]) == 1:
        return np.rint(x)
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


@primitive("shift_right_logical")
def _shift_right(p, x, y):
    return (x.view(f"u{x.dtype.itemsize}") >> y.view(f"u{x.dtype.itemsize}")).view(x.dtype)


@primitive("clamp")
def _clamp(p, low, x, high):
    return np.minimum(np.maximum(x, low), high)


@primitive("select_n")
def _select(p, which, *cases):
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return np.select([which == i for i in range(len(cases))], cases)


@primitive("convert_element_type")
def _convert(p, x):
    new = p["new_dtype"]
    if new == np.bool_:
        return x != 0
    real_part = np.iscomplexobj(x) and not jnp.issubdtype(new, jnp.complexfloating)
    return (x.real if real_part else x).astype(widened(new))


@primitive(
    *["reduce_precision", "stop_gradient", "copy", "copy_p", "sharding_constraint", "pvary"],
    *["optimization_barrier", "device_put"],
)
def _identity(p, *values):
    return list(values)


# -- shapes -----------------------------------------------------------------------------------


@primitive("iota")
def _iota(p):
    shape, a = p["shape"], p["dimension"]
    row = np.arange(shape[a]).reshape([n if i == a else 1 for i, n in enumerate(shape)])
    return np.broadcast_to(row, shape).astype(widened(p["dtype"]))


@primitive("broadcast_in_dim")
def _broadcast(p, x):
    shape = [1] * len(p["shape"])
    for n, a in zip(x.shape, p["broadcast_dimensions"], strict=True):
        shape[a] = n
    return np.broadcast_to(x.reshape(shape), p["shape"])


@primitive("reshape")
def _reshape(p, x):
    x = x if p["dimensions"] is None else x.transpose(p["dimensions"])
    return x.reshape(p["new_sizes"])


@primitive("expand_dims", "squeeze")
def _squeeze(p, x):
    return np.squeeze(x, tuple(p["dimensions"]))


@primitive("transpose")
def _transpose(p, x):
    return x.transpose(p["permutation"])


@primitive("rev")
def _rev(p, x):
    return np.flip(x, p["dimensions"])


@primitive("concatenate")
def _concatenate(p, *values):
    return np.concatenate(values, p["dimension"])


@primitive("split")
def _split(p, x):
    return np.split(x, np.cumsum(p["sizes"])[:-1], p["axis"])


@primitive("slice")
def _slice(p, x):
    steps = p["strides"] or (1,) * x.ndim
    rows = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    return x[tuple(slice(*row) for row in rows)]


@primitive("dynamic_slice")
def _dynamic_slice(p, x, *starts):
    sizes = p["slice_sizes"]
    first = [int(np.clip(s, 0, n - m)) for s, n, m in zip(starts, x.shape, sizes, strict=True)]
    return x[tuple(slice(s, s + m) for s, m in zip(first, sizes, strict=True))]


@primitive("dynamic_update_slice")
def _dynamic_update_slice(p, x, update, *starts):
    x = np.array(x)
    rows = zip(starts, x.shape, update.shape, strict=True)
    first = [int(np.clip(s, 0, n - m)) for s, n, m in rows]
    x[tuple(slice(s, s + m) for s, m in zip(first, update.shape, strict=True))] = update
    return x


@primitive("pad")
def _pad(p, x, filling):
    for a, (low, high, interior) in enumerate(p["padding_config"]):
        x = np.moveaxis(x, a, 0)
        apart = np.full(((len(x) - 1) * (interior + 1) + 1, *x.shape[1:]), filling, x.dtype)
        apart = apart if len(x) else x
        apart[:: interior + 1] = x
        edges = [np.full((max(n, 0), *x.shape[1:]), filling, x.dtype) for n in (low, high)]
        inner = apart[max(-low, 0) : len(apart) - max(-high, 0)]
        x = np.moveaxis(np.concatenate([edges[0], inner, edges[1]]), 0, a)
    return x


# -- sums and other reductions ----------------------------------------------------------------


def _reductions():
    named: dict[str, Any] = {
        **{"reduce_sum": np.sum, "reduce_prod": np.prod, "reduce_max": np.max},
        **{"reduce_min": np.min, "reduce_and": np.all, "reduce_or": np.any},
    }
    for name, function in named.items():
        RULES[name] = lambda p, x, f=function: f(x, axis=tuple(p["axes"]))
    for name, last in {"argmax": np.argmax, "argmin": np.argmin}.items():
        RULES[name] = lambda p, x, f=last: f(x, axis=p["axes"][0])
    running: dict[str, Any] = {
        **{"cumsum": np.add, "cumprod": np.multiply, "cummax": np.maximum},
        **{"cummin": np.minimum, "cumlogsumexp": np.logaddexp},
    }
    for name, function in running.items():
        RULES[name] = lambda p, x, f=function: _running(p, x, f)


def _running(p, x, function):
    a = p["axis"]
    x = np.flip(x, a) if p["reverse"] else x
    x = function.accumulate(x, a)
    return np.flip(x, a) if p["reverse"] else x


_reductions()


@primitive("psum")
def _psum(p, *values):
    return [np.sum(x, axis=tuple(p["axes"])) for x in values]  # the axes are numbers under vmap


@primitive("dot_general")
def _dot_general(p, x, y):
    (cx, cy), (bx, by) = p["dimension_numbers"]
    fx = [a for a in range(x.ndim) if a not in (*cx, *bx)]
    fy = [a for a in range(y.ndim) if a not in (*cy, *by)]
    size = lambda v, axes: math.prod(v.shape[a] for a in axes)
    batch = tuple(x.shape[a] for a in bx)
    left = x.transpose(*bx, *fx, *cx).reshape(*batch, size(x, fx), size(x, cx))
    right = y.transpose(*by, *cy, *fy).reshape(*batch, size(y, cy), size(y, fy))
    rest = [x.shape[a] for a in fx] + [y.shape[a] for a in fy]
    return np.matmul(left, right).reshape(*batch, *rest)


@primitive("sort")
def _sort(p, *values):
    a = p["dimension"]
    keys = [np.moveaxis(v, a, -1) for v in values[: p["num_keys"]]]
    order = np.moveaxis(np.lexsort(keys[::-1]), -1, a)
    return [np.take_along_axis(v, order, a) for v in values]


@primitive("top_k")
def _top_k(p, x):
    a = p.get("axis", -1)
    order = np.take(np.argsort(-x, axis=a, kind="stable"), range(p["k"]), axis=a)
    return [np.take_along_axis(x, order, a), order]


def _windows(x, window, strides, padding, base, dilation, filling):
    """All windows of an array, as as many further axes."""
    config = [(low, high, n - 1) for (low, high), n in zip(padding, base, strict=True)]
    x = _pad({"padding_config": config}, x, filling)
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    seen = sliding_window_view(x, reach)
    return seen[tuple(slice(None, None, n) for n in (*strides, *dilation))]


def _window_reductions():
    named: dict[str, tuple[Any, float]] = {
        "reduce_window_sum": (np.sum, 0.0),
        "reduce_window_max": (np.max, -np.inf),
        "reduce_window_min": (np.min, np.inf),
    }
    for name, (function, start) in named.items():

        def compute(p, x, f=function, start=start):
            how = (p["window_dimensions"], p["window_strides"], p["padding"])
            seen = _windows(x, *how, p["base_dilation"], p["window_dilation"], start)
            return f(seen, axis=tuple(range(x.ndim, 2 * x.ndim)))

        RULES[name] = compute


_window_reductions()


@primitive("conv_general_dilated")
def _convolution(p, x, w):
    d, groups = p["dimension_numbers"], p["feature_group_count"]
    if p["batch_group_count"] != 1:
        raise NotImplementedError
    x, w = x.transpose(d.lhs_spec), w.transpose(d.rhs_spec)
    space = x.ndim - 2
    one, none = (1, 1), ((0, 0), (0, 0))
    seen = _windows(
        x,
        (*one, *w.shape[2:]),
        (*one, *p["window_strides"]),
        (*none, *p["padding"]),
        (*one, *p["lhs_dilation"]),
        (*one, *p["rhs_dilation"]),
        0.0,
    )
    # (batch, channels, *space, 1, 1, *window) -> (batch, groups, each, *space, *window)
    batch, channels, *rest = seen.shape
    seen = seen.reshape(batch, groups, channels // groups, *rest[:space], *w.shape[2:])
    w = w.reshape(groups, len(w) // groups, *w.shape[1:])
    outer, window = list(range(10, 10 + space)), list(range(20, 20 + space))
    out = np.einsum(seen, [0, 1, 2, *outer, *window], w, [1, 3, 2, *window], [0, 1, 3, *outer])
    out = out.reshape(batch, -1, *out.shape[3:])
    return out.transpose(np.argsort(d.out_spec))


# -- rows named by numbers --------------------------------------------------------------------


def _places(shape, index, window, batch_axes, window_axes, pointed, shared):
    """Index arrays into an array of a shape, one per axis, and where they are inside of it.

    ``window`` is the size of what is taken along each axis, ``window_axes`` the axes of the result
    where the axes that are kept run, ``pointed`` the axes that the columns of ``index`` point
    along, ``shared`` pairs (axis, axis of the index) that run together.
    """
    rank = len(batch_axes) + sum(a is not None for a in window_axes)
    batch = index.shape[:-1]

    def spread(array, axes):
        full = [1] * rank
        for n, a in zip(array.shape, axes, strict=True):
            full[a] = n
        return array.reshape(full)

    rows, inside = [], np.ones([1] * rank, bool)
    for a, size in enumerate(shape):
        row = np.zeros([1] * rank, np.int64)
        if a in pointed:
            start = spread(index[..., pointed.index(a)].astype(np.int64), batch_axes)
            inside = inside & (start >= 0) & (start <= size - window[a])
            row = row + np.clip(start, 0, size - window[a])
        for axis, b in shared:
            if axis == a:
                row = row + spread(np.arange(batch[b]), [batch_axes[b]])
        if window_axes[a] is not None:
            row = row + spread(np.arange(window[a]), [window_axes[a]])
        rows.append(row)
    return tuple(rows), inside


def _fills(p):
    return p["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP


@primitive("gather")
def _gather(p, x, index):
    d, window = p["dimension_numbers"], p["slice_sizes"]
    gone = (*d.collapsed_slice_dims, *d.operand_batching_dims)
    offset = iter(d.offset_dims)
    window_axes = [None if a in gone else next(offset) for a in range(x.ndim)]
    rank = index.ndim - 1 + len(d.offset_dims)
    batch_axes = [a for a in range(rank) if a not in d.offset_dims]
    shared = list(zip(d.operand_batching_dims, d.start_indices_batching_dims, strict=True))
    pointed = list(d.start_index_map)
    rows, inside = _places(x.shape, index, window, batch_axes, window_axes, pointed, shared)
    taken = x[np.broadcast_arrays(*rows)] if rows else x
    if not _fills(p) or np.all(inside):
        return taken
    filling = p["fill_value"]
    if filling is None:
        filling = np.nan if x.dtype.kind in "fc" else np.zeros((), x.dtype)
    return np.where(inside, taken, filling)


_UPDATES: dict[str, Any] = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def _scatter(p, x, index, update, kind=None):
    d = p["dimension_numbers"]
    gone = (*d.inserted_window_dims, *d.operand_batching_dims)
    places = iter(d.update_window_dims)
    window_axes = [None if a in gone else next(places) for a in range(x.ndim)]
    window = [1 if a is None else update.shape[a] for a in window_axes]
    batch_axes = [a for a in range(update.ndim) if a not in d.update_window_dims]
    shared = list(zip(d.operand_batching_dims, d.scatter_indices_batching_dims, strict=True))
    pointed = list(d.scatter_dims_to_operand_dims)
    rows, inside = _places(x.shape, index, window, batch_axes, window_axes, pointed, shared)
    clips = p["mode"] == jax.lax.GatherScatterMode.CLIP
    keep = np.broadcast_to(np.True_ if clips else inside, update.shape)
    at = tuple(np.broadcast_to(row, update.shape)[keep] for row in rows)
    x = np.array(x)
    if kind is None:
        x[at] = update[keep]
    else:
        kind.at(x, at, update[keep])
    return x


RULES["scatter"] = _scatter
for _name, _dash in itertools.product(_UPDATES, "-_"):
    RULES[f"scatter{_dash}{_name}"] = lambda p, x, i, u, k=_UPDATES[_name]: _scatter(p, x, i, u, k)

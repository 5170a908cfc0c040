"""Random programs of the shapes that people write, small enough to take their Jacobian.

A program is a stream of features (batch, time, width) that random layers change. Leaves are made as
they are asked for, and now and then one is used again, as it is or transposed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BATCH, TIME, ROWS = 40, 3, 3
KINDS_OF_IDS = ("int8", "int32", "uint8", "uint16", "uint32")
#: Programs with more parameters are drawn again.
MOST_PARAMETERS = 64

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "leaky": jax.nn.leaky_relu,
    "squared relu": lambda z: jnp.square(jax.nn.relu(z)),
    "abs": jnp.abs,
    "sin": jnp.sin,
    "square": jnp.square,
    "softplus": jax.nn.softplus,
    "hard tanh": jax.nn.hard_tanh,
    "cube": lambda z: z**3,
    "silu": jax.nn.silu,
    "sign by where": lambda z: jnp.where(z > 0, z, 0.3 * z),
    "none": lambda z: z,
}

Layer = Callable[[dict, Any, dict], Any]


@dataclass
class Program:
    """A function of parameters and inputs, with their values, and what it is made of."""

    apply: Callable[..., Any]
    params: dict[str, jax.Array]
    inputs: tuple[jax.Array, jax.Array]
    text: str


@dataclass
class Maker:
    """Draws layers and the leaves that they need."""

    rng: np.random.Generator
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def leaf(self, *shape: int) -> Callable[[dict], Any]:
        """A leaf of a shape: a new one, or one that is there, perhaps transposed."""
        same = [n for n, s in self.shapes.items() if s == shape]
        turned = [n for n, s in self.shapes.items() if len(shape) == 2 and s == shape[::-1]]
        if same and self.rng.random() < 0.15:
            name = str(self.rng.choice(same))
            self.words.append(f"tied {name}")
            return lambda p: p[name]
        if turned and self.rng.random() < 0.15:
            name = str(self.rng.choice(turned))
            self.words.append(f"tied {name}.T")
            return lambda p: p[name].T
        name = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[len(self.shapes)]
        self.shapes[name] = shape
        return lambda p: p[name]

    def activation(self) -> Callable[[Any], Any]:
        name = str(self.rng.choice(list(ACTIVATIONS)))
        self.words.append(name)
        return ACTIVATIONS[name]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def width(self) -> int:
        return int(self.rng.integers(2, 4))

    def layer(self, width: int, depth: int = 0) -> tuple[Layer, int]:
        """A random layer on features of a width, and the width of what it makes."""
        deep = (_residual, _split, _cond, _checkpoint) if depth < 2 else ()
        makers = (*LAYERS, *deep)
        make = makers[self.rng.integers(len(makers))]
        self.words.append(make.__name__[1:])
        return make(self, width, depth)


def program(seed: int, ids: str = "int32") -> Program:
    """The random program of a seed, with whole numbers of a dtype as its second input."""
    rng = np.random.default_rng((seed, KINDS_OF_IDS.index(ids)))
    while True:
        maker = Maker(rng)
        apply = _whole(maker)
        size = sum(int(np.prod(s)) for s in maker.shapes.values())
        if 0 < size <= MOST_PARAMETERS:
            break
    params = {n: jnp.asarray(0.8 * rng.standard_normal(s)) for n, s in maker.shapes.items()}
    x = jnp.asarray(rng.standard_normal((BATCH, TIME, 2)))
    rows = rng.integers(0, ROWS, (BATCH, TIME))
    rows[np.ptp(rows, 1) == 0, 1] += 1  # no sample is constant: a norm would divide 0 by 0
    rows %= ROWS
    names = jnp.asarray(rows, ids)
    return Program(apply, params, (x, names), ", ".join(maker.words))


def _whole(maker):
    if maker.chance(0.4):
        width = maker.width()
        table = maker.leaf(ROWS, width)
        maker.words.append("lookup")
        begin = lambda p, x, ids: table(p)[ids]
    else:
        width = 2
        begin = lambda p, x, ids: x
    layers = []
    for _ in range(maker.rng.integers(1, 5)):
        layer, width = maker.layer(width)
        layers.append(layer)
    finish = _end(maker, width)

    def apply(p, x, ids):
        env = {"x": x, "ids": ids}
        h = begin(p, x, ids)
        for layer in layers:
            h = layer(p, h, env)
        return finish(p, h)

    return apply


def _end(maker, width):
    kind = maker.rng.integers(5)
    maker.words.append(("features", "linear", "pooled", "largest", "two outputs")[kind])
    if kind == 0:
        return lambda p, h: h
    w = maker.leaf(width, maker.width())
    if kind == 1:
        return lambda p, h: h @ w(p)
    if kind == 2:
        return lambda p, h: h.mean(1) @ w(p)
    if kind == 3:
        return lambda p, h: h.max(1) @ w(p)
    return lambda p, h: {"a": h @ w(p), "b": h.sum((1, 2))}


# -- layers -----------------------------------------------------------------------------------


def _linear(m, width, depth):
    out = m.width()
    w, act = m.leaf(width, out), m.activation()
    if m.chance(0.5):
        b = m.leaf(out)
        return lambda p, h, e: act(h @ w(p) + b(p)), out
    return lambda p, h, e: act(h @ w(p)), out


def _activation(m, width, depth):
    act = m.activation()
    return lambda p, h, e: act(h), width


def _gated(m, width, depth):
    out = m.width()
    a, b, act = m.leaf(width, out), m.leaf(width, out), m.activation()
    return lambda p, h, e: act(h @ a(p)) * (h @ b(p)), out


def _gain(m, width, depth):
    g = m.leaf(width)
    kind = m.rng.integers(5)
    seen = (
        lambda g: g,
        lambda g: 1 + g,
        lambda g: jnp.exp(g),
        lambda g: g * g,
        lambda g: g / jnp.sqrt(jnp.sum(g * g)),
    )[kind]
    return lambda p, h, e: h * seen(g(p)), width


def _shift(m, width, depth):
    b = m.leaf(width) if m.chance(0.7) else m.leaf()
    return lambda p, h, e: h + b(p), width


def _norm(m, width, depth):
    centred, epsilon = m.chance(0.5), 1e-5 if m.chance(0.3) else 0.0
    axis = -1 if m.chance(0.7) else 1
    epsilon = epsilon if axis == -1 else 1e-5  # three equal ids have no variance
    gain = m.leaf(width) if m.chance(0.6) else None
    bias = m.leaf(width) if m.chance(0.4) else None

    def layer(p, h, e):
        h = h - h.mean(axis, keepdims=True) if centred else h
        h = h * lax.rsqrt((h * h).mean(axis, keepdims=True) + epsilon)
        h = h if gain is None else h * gain(p)
        return h if bias is None else h + bias(p)

    return layer, width


def _softmax(m, width, depth):
    axis = int(m.rng.integers(1, 3))
    return lambda p, h, e: jax.nn.softmax(h, axis), width


def _attention(m, width, depth):
    heads, each = (2, 1) if m.chance(0.5) else (1, 2)
    qkv, out = m.leaf(width, 3 * heads * each), m.leaf(heads * each, width)
    bias = m.leaf(3 * heads * each) if m.chance(0.3) else None
    causal = m.chance(0.5)
    mask = np.tril(np.ones((TIME, TIME), bool))

    def layer(p, h, e):
        y = h @ qkv(p)
        y = y if bias is None else y + bias(p)
        split = lambda y: y.reshape(BATCH, TIME, heads, each).transpose(0, 2, 1, 3)
        q, k, v = map(split, jnp.split(y, 3, -1))
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k)
        scores = jnp.where(mask, scores, -jnp.inf) if causal else scores
        y = jnp.einsum("bhqk,bhkd->bqhd", jax.nn.softmax(scores), v)
        return y.reshape(BATCH, TIME, -1) @ out(p)

    return layer, width


def _convolution(m, width, depth):
    out, act = m.width(), m.activation()
    w = m.leaf(2, width, out)
    padding = "SAME" if m.chance(0.5) else "VALID"

    def layer(p, h, e):
        y = lax.conv_general_dilated(
            h, w(p), (1,), padding, dimension_numbers=("NWC", "WIO", "NWC")
        )
        y = act(y)
        return y if padding == "SAME" else jnp.concatenate([y, y[:, :1]], 1)

    return layer, out


def _recurrence(m, width, depth):
    state, act, back = m.width(), m.activation(), m.chance(0.3)
    a, b = m.leaf(width, state), m.leaf(state, state)

    def layer(p, h, e):
        def step(s, x):
            s = jnp.tanh(act(x @ a(p)) + s @ b(p))
            return s, s

        s = jnp.zeros((BATCH, state), h.dtype)
        return lax.scan(step, s, h.swapaxes(0, 1), reverse=back)[1].swapaxes(0, 1)

    return layer, state


def _gated_recurrence(m, width, depth):
    decay, act = m.leaf(width), m.activation()

    def layer(p, h, e):
        def step(s, x):
            s = s * jax.nn.sigmoid(decay(p)) + act(x)
            return s, s

        s = jnp.zeros((BATCH, width), h.dtype)
        return lax.scan(step, s, h.swapaxes(0, 1))[1].swapaxes(0, 1)

    return layer, width


def _stack(m, width, depth):
    """A scan over two stacked layers beside a stream."""
    act, inner = m.activation(), 2
    a, b = m.leaf(2, width, inner), m.leaf(2, inner, width)

    def layer(p, h, e):
        step = lambda s, w: (s + act(s @ w[0]) @ w[1], None)
        return lax.scan(step, h, (a(p), b(p)))[0]

    return layer, width


def _ensemble(m, width, depth):
    act, inner = m.activation(), 2
    a, b = m.leaf(2, width, inner), m.leaf(2, inner, width)
    mean = m.chance(0.5)

    def layer(p, h, e):
        member = lambda a, b: act(h @ a) @ b
        y = jax.vmap(member)(a(p), b(p))
        return y.mean(0) if mean else y[0] * y[1]

    return layer, width


def _inner_gradient(m, width, depth):
    w, act = m.leaf(width, m.width()), m.activation()
    energy = lambda p, h: jnp.sum(act(h @ w(p)))
    return lambda p, h, e: h - 0.3 * jax.grad(energy, 1)(p, h), width


def _table(m, width, depth):
    """A table looked up by the ids, as a factor or a term; sometimes two of them."""
    table, two = m.leaf(ROWS, width), m.chance(0.3)
    other = m.leaf(ROWS, width) if two else None
    times = m.chance(0.6)

    def layer(p, h, e):
        row = table(p)[e["ids"]]
        row = row * other(p)[e["ids"]] if other is not None else row
        return h * row if times else h + row

    return layer, width


def _only_tables(m, width, depth):
    """The product or quotient of two lookups alone."""
    a, b, act = m.leaf(ROWS, width), m.leaf(ROWS, width), m.activation()
    other = m.chance(0.3)

    def layer(p, h, e):
        ids = e["ids"]
        return act(a(p)[ids]) * b(p)[ids[:, ::-1] if other else ids]

    return layer, width


def _scalars(m, width, depth):
    """A number for each id."""
    t = m.leaf(ROWS)
    times = m.chance(0.6)

    def layer(p, h, e):
        row = t(p)[e["ids"]][..., None]
        return h * row if times else h + row

    return layer, width


def _positions(m, width, depth):
    t, times = m.leaf(TIME, width), m.chance(0.4)
    return lambda p, h, e: h * t(p) if times else h + t(p), width


def _mask(m, width, depth):
    mask = m.rng.random(width if m.chance(0.5) else (TIME, 1)) < 0.6
    other = float(m.rng.choice([0.0, 1.0]))
    return lambda p, h, e: jnp.where(mask, h, other), width


def _masked_weight(m, width, depth):
    out = m.width()
    w, act = m.leaf(width, out), m.activation()
    mask = m.rng.random((width, out)) < 0.7
    return lambda p, h, e: act(h @ jnp.where(mask, w(p), 0.0)), out


def _choice(m, width, depth):
    """Where one feature is positive, one layer, elsewhere another."""
    a, b = m.leaf(width, width), m.leaf(width, width)
    return lambda p, h, e: jnp.where(e["x"][..., :1] > 0, h @ a(p), h @ b(p)), width


def _low_rank(m, width, depth):
    w, a, b, act = m.leaf(width, width), m.leaf(width, 1), m.leaf(1, width), m.activation()
    return lambda p, h, e: act(h @ (w(p) + a(p) @ b(p))), width


def _weight_norm(m, width, depth):
    out = m.width()
    w, act = m.leaf(width, out), m.activation()
    return lambda p, h, e: act(h @ (w(p) / jnp.sqrt(jnp.sum(w(p) ** 2, 0)))), out


def _cast(m, width, depth):
    kind = (jnp.bfloat16, jnp.float32)[m.rng.integers(2)]
    w = m.leaf(width, width)
    return lambda p, h, e: (h.astype(kind) @ w(p).astype(kind)).astype(h.dtype), width


def _order(m, width, depth):
    kind = m.rng.integers(4)
    return (
        lambda p, h, e: h[:, ::-1],
        lambda p, h, e: jnp.cumsum(h, 1),
        lambda p, h, e: jnp.concatenate([h[:, 1:], h[:, :1]], 1),
        lambda p, h, e: lax.stop_gradient(h),
    )[kind], width


def _mix(m, width, depth):
    """A linear map along time."""
    w = m.leaf(TIME, TIME)
    return lambda p, h, e: jnp.einsum("btd,ts->bsd", h, w(p)), width


def _outer(m, width, depth):
    """Features as a product of two, joined by a reshape."""
    a, b = m.leaf(width, 2), m.leaf(width, 2)

    def layer(p, h, e):
        y = jnp.einsum("bti,btj->btij", h @ a(p), h @ b(p))
        return y.reshape(BATCH, TIME, 4)

    return layer, 4


def _residual(m, width, depth):
    inner, out = m.layer(width, depth + 1)
    if out == width:
        return lambda p, h, e: h + inner(p, h, e), width
    w = m.leaf(out, width)
    return lambda p, h, e: h + inner(p, h, e) @ w(p), width


def _split(m, width, depth):
    """Two parts of the features, each changed by a layer, joined again."""
    first, a = m.layer(1, depth + 1)
    second, b = m.layer(width - 1, depth + 1)

    def layer(p, h, e):
        return jnp.concatenate([first(p, h[..., :1], e), second(p, h[..., 1:], e)], -1)

    return (layer, a + b) if width > 1 else m.layer(width, depth + 1)


def _cond(m, width, depth):
    first, a = m.layer(width, depth + 1)
    second, b = m.layer(width, depth + 1)
    if a != b:
        return first, a

    def layer(p, h, e):
        on = e["x"].sum() > 0
        return lax.cond(on, lambda: first(p, h, e), lambda: second(p, h, e))

    return layer, a


def _checkpoint(m, width, depth):
    inner, out = m.layer(width, depth + 1)
    return lambda p, h, e: jax.checkpoint(lambda p, h: inner(p, h, e))(p, h), out


LAYERS = (
    *(_linear, _linear, _linear, _activation, _gated, _gain, _shift, _norm, _softmax, _attention),
    *(_convolution, _recurrence, _gated_recurrence, _stack, _ensemble, _inner_gradient, _table),
    *(_table, _only_tables, _scalars, _positions, _mask, _masked_weight, _choice, _low_rank),
    *(_weight_norm, _cast, _order, _mix, _outer),
)

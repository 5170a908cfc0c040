"""The networks of the merging study, on scikit-learn's digits: four kinds, and how they train."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..actions import Leg
from ..discovery import Symmetry
from ..groups import Permutation, SignFlip
from ..linalg._precision import mm
from ..merging import repair

BATCH = 128
Params = Any
Images = tuple[jax.Array, jax.Array]
"""Images as rows of 64 pixels in [0, 1], and their labels."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of network, the data it is for, and what mends an average of two."""

    name: str
    apply: Callable[[Params, jax.Array], jax.Array]
    initialise: Callable[[jax.Array], Params]
    train_apply: Callable[[Params, jax.Array], jax.Array]
    train: Images
    test: Images
    finish: Callable[[Params], Params] = lambda params: params
    """What follows training and matching: the running statistics of the training images."""
    mend: Callable[[Params, Params, Params, jax.Array], Params] | None = None
    """(average, A, aligned B, t) -> the mended average."""
    keeps: Callable[[Symmetry], bool] = lambda symmetry: True
    """Whether a symmetry of the trained network is one when its statistics are computed anew."""
    rate: float = 3e-3
    decay: float = 1e-2
    length: float = 1.0
    """Steps of training, times those of the configuration."""

    def loss(self, params: Params) -> jax.Array:
        """Mean cross-entropy on the training images, in nats."""
        return cross_entropy(self.apply(params, self.train[0]), self.train[1])

    def accuracy(self, params: Params) -> jax.Array:
        """The share of the test images that are classified correctly."""
        hits = jnp.argmax(self.apply(params, self.test[0]), -1) == self.test[1]
        return jnp.mean(hits.astype(jnp.float32))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def digits(key: jax.Array) -> tuple[Images, Images]:
    """Three quarters of the digits for training, the rest for testing."""
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    order = jax.random.permutation(key, len(targets))
    x = jnp.asarray(images / 16, jnp.float32)[order]
    labels = jnp.asarray(targets, jnp.int32)[order]
    cut = 3 * len(targets) // 4
    return (x[:cut], labels[:cut]), (x[cut:], labels[cut:])


def trainer(family: Family, steps: int) -> Callable[[jax.Array], Params]:
    """A jitted function from a key to a trained network: AdamW, cosine schedule, minibatches."""
    steps = max(1, round(steps * family.length))
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(family.rate, steps), weight_decay=family.decay
    )
    x, labels = family.train

    def loss(params, chosen):
        return cross_entropy(family.train_apply(params, x[chosen]), labels[chosen])

    def step(carry, k):
        params, state = carry
        chosen = jax.random.randint(k, (BATCH,), 0, len(labels))
        slope = jax.grad(loss)(params, chosen)
        with jax.numpy_dtype_promotion("standard"):  # as Optax needs it
            updates, state = optimiser.update(slope, state, params)
            return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train(key):
        for_start, for_batches = jax.random.split(key)
        params = family.initialise(for_start)
        keys = jax.random.split(for_batches, steps)
        params, _ = jax.lax.scan(step, (params, optimiser.init(params)), keys)[0]
        return family.finish(params)

    return train


def _normal(key: jax.Array, *shape: int, fan: float) -> jax.Array:
    return jax.random.normal(key, shape) / fan**0.5


# The multilayer perceptron, (64, width, width, 10), ReLU.


def mlp_start(width: int) -> Callable[[jax.Array], Params]:
    """He initialisation."""
    widths = (64, width, width, 10)

    def start(key):
        rows = zip(jax.random.split(key, 3), widths[:-1], widths[1:], strict=True)
        return {
            f"layer{i}": {"weight": _normal(k, b, a, fan=a / 2), "bias": jnp.zeros(b)}
            for i, (k, a, b) in enumerate(rows)
        }

    return start


def mlp_hidden(params: Params, x: jax.Array) -> dict[str, jax.Array]:
    """What every linear layer computes."""
    found, z = {}, x
    for name, layer in params.items():
        found[name] = mm(z, layer["weight"].T) + layer["bias"][None]
        z = jax.nn.relu(found[name])
    return found


def mlp(params: Params, x: jax.Array) -> jax.Array:
    """The logits of the multilayer perceptron."""
    return mlp_hidden(params, x)["layer2"]


MLP_UNITS: Mapping[str, Sequence[Leg]] = {
    name: (Leg(f"{name}/weight", 0), Leg(f"{name}/bias", 0)) for name in ("layer0", "layer1")
}


# The convolutional net: two 3x3 convolutions with batch norm, ReLU and pooling.


def conv_start(channels: tuple[int, int]) -> Callable[[jax.Array], Params]:
    """He initialisation; running statistics are leaves like any other."""

    def norm(n):
        return {
            "gain": jnp.ones(n),
            "bias": jnp.zeros(n),
            "mean": jnp.zeros(n),
            "variance": jnp.ones(n),
        }

    def start(key):
        keys, (c, d) = jax.random.split(key, 3), channels
        return {
            "conv0": {"weight": _normal(keys[0], c, 1, 3, 3, fan=9 / 2)} | norm(c),
            "conv1": {"weight": _normal(keys[1], d, c, 3, 3, fan=9 * c / 2)} | norm(d),
            "out": {"weight": _normal(keys[2], 10, d, fan=d), "bias": jnp.zeros(10)},
        }

    return start


def conv(params: Params, x: jax.Array, *, training: bool = False) -> tuple[jax.Array, Params]:
    """The logits; when training, also the batch's statistics, by which it then normalises."""
    z, statistics = x.reshape(-1, 1, 8, 8), {}
    channel = lambda v: v[None, :, None, None]
    for name in ("conv0", "conv1"):
        layer = params[name]
        z = jax.lax.conv_general_dilated(z, layer["weight"], (1, 1), "SAME")
        used = layer
        if training:
            used = {"mean": z.mean((0, 2, 3)), "variance": z.var((0, 2, 3))}
            statistics[name] = used
        z = (z - channel(used["mean"])) * jax.lax.rsqrt(channel(used["variance"]) + 1e-5)
        z = jax.nn.relu(z * channel(layer["gain"]) + channel(layer["bias"]))
        if name == "conv0":
            z = jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return mm(z.mean((2, 3)), params["out"]["weight"].T) + params["out"]["bias"][None], statistics


def with_statistics(params: Params, x: jax.Array) -> Params:
    """The network with its running statistics reset to those of these images."""
    _, statistics = conv(params, x, training=True)
    return params | {name: params[name] | new for name, new in statistics.items()}


# The transformer: the eight rows of an image are its tokens; one block, two heads.


def transformer_start(width: int, heads: int, hidden: int) -> Callable[[jax.Array], Params]:
    """Normal initialisation of variance 1 / (2 fan-in) where something is added to the stream."""
    d, h, e, f = width, heads, width // heads, hidden

    def start(key):
        k = jax.random.split(key, 9)
        return {
            "embed": _normal(k[0], d, 8, fan=8),
            "position": _normal(k[1], 8, d, fan=9),
            "query": _normal(k[2], h, e, d, fan=d),
            "key": _normal(k[3], h, e, d, fan=d),
            "value": _normal(k[4], h, e, d, fan=d),
            "output": _normal(k[5], d, h, e, fan=2 * d),
            "up": _normal(k[6], f, d, fan=d / 2),
            "up_bias": jnp.zeros(f),
            "down": _normal(k[7], d, f, fan=2 * f),
            "read": _normal(k[8], 10, d, fan=d),
            "read_bias": jnp.zeros(10),
        }

    return start


def transformer(params: Params, x: jax.Array) -> jax.Array:
    """The logits: pre-norm by the root mean square, attention, GELU, the mean over the tokens."""
    p = params
    product = lambda spec, *arrays: jnp.einsum(spec, *arrays, precision=jax.lax.Precision.HIGHEST)
    norm = lambda z: z * jax.lax.rsqrt(jnp.mean(z * z, -1, keepdims=True) + 1e-6)
    z = product("btc,dc->btd", x.reshape(-1, 8, 8), p["embed"]) + p["position"][None]
    q, k, v = (product("btd,hed->bhte", norm(z), p[name]) for name in ("query", "key", "value"))
    scores = product("bhte,bhse->bhts", q, k) * (q.shape[-1] ** -0.5)
    mixed = product("bhts,bhse->bhte", jax.nn.softmax(scores, -1), v)
    z = z + product("bhte,dhe->btd", mixed, p["output"])
    units = jax.nn.gelu(product("btd,fd->btf", norm(z), p["up"]) + p["up_bias"][None, None])
    z = z + product("btf,df->btd", units, p["down"])
    return mm(norm(z).mean(1), p["read"].T) + p["read_bias"][None]


# LoRA factors on a perceptron that was trained on the digits, for digits turned by 90 degrees.


def lora_start(base: Params, rank: int) -> Callable[[jax.Array], Params]:
    """Down factors at random, up factors 0: the function of the base."""

    def start(key):
        names = ("layer0", "layer1")
        return {
            name: {
                "down": _normal(k, rank, base[name]["weight"].shape[1], fan=64),
                "up": jnp.zeros((base[name]["weight"].shape[0], rank)),
            }
            for name, k in zip(names, jax.random.split(key, 2), strict=True)
        }

    return start


def lora(base: Params) -> Callable[[Params, jax.Array], jax.Array]:
    """The logits as a function of the factors alone."""

    def apply(params, x):
        z = x
        for name, factors in params.items():
            own = mm(z, base[name]["weight"].T) + base[name]["bias"][None]
            z = jax.nn.relu(own + mm(mm(z, factors["down"].T), factors["up"].T))
        return mm(z, base["layer2"]["weight"].T) + base["layer2"]["bias"][None]

    return apply


def turned(images: Images) -> Images:
    """Every image turned by 90 degrees."""
    x, labels = images
    return jnp.rot90(x.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64), labels


def families(key: jax.Array, steps: int) -> list[Family]:
    """The four kinds, with the data split by ``key``; trains the perceptron that LoRA adapts."""
    for_data, for_base = jax.random.split(key)
    train, test = digits(for_data)

    def repaired(average, a, b, t):
        hidden = lambda p: mlp_hidden(p, train[0])
        return repair(hidden, average, a, b, MLP_UNITS, alpha=t)

    perceptron = Family("MLP", mlp, mlp_start(128), mlp, train, test, mend=repaired)
    convolutional = Family(
        "conv net",
        lambda p, x: conv(p, x)[0],
        conv_start((16, 32)),
        lambda p, x: conv(p, x, training=True)[0],
        train,
        test,
        finish=lambda p: with_statistics(p, train[0]),
        mend=lambda average, a, b, t: with_statistics(average, train[0]),
        # A scale or a shift of the running statistics is undone when they are computed anew.
        keeps=lambda s: (
            isinstance(s.group, Permutation | SignFlip)
            or not any(x.endswith(("mean", "variance")) for x in s.leaves)
        ),
        rate=1e-2,
        length=0.6,
    )
    start = transformer_start(32, 2, 64)
    attention = Family("transformer", transformer, start, transformer, train, test, length=1.5)
    base = trainer(perceptron, steps)(for_base)
    adapted = lora(base)
    factors = Family(
        "LoRA factors",
        adapted,
        lora_start(base, 8),
        adapted,
        turned(train),
        turned(test),
        rate=1e-2,
        decay=0.0,
        length=1.5,
    )
    return [perceptron, convolutional, attention, factors]

"""LoRA adapters in peft's layout: their products are averaged, never their factors."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._checks import describe, is_floating, require
from .._results import printed

PARTS = re.compile(r"^(?P<module>.*?)\.?lora_(?P<kind>embedding_A|embedding_B|A|B)(?P<rest>\..*)?$")
"""The name of a factor: its module, which factor, and what follows (``.weight``, ``.bias``)."""

UNDEFINED = {
    "use_dora": "DoRA normalises the columns of the weight, so that its changes do not add",
    "kasa_config": "KaSA truncates the base weight by the rank, which would change",
    "use_qalora": "QALoRA pools the inputs",
    "alora_invocation_tokens": "aLoRA acts on some tokens alone",
    "arrow_config": "Arrow routes tokens between adapters",
    "bdlora_config": "block-diagonal factors cannot be concatenated",
    "velora_config": "VeLoRA changes what is stored for the gradient",
    "monteclora_config": "MonteCLoRA draws its factors",
}
"""What makes an adapter something other than scale times a product, and why it has no average."""


class Adapter(NamedTuple):
    """A LoRA adapter as peft stores it: its flat dict and its configuration."""

    state: dict[str, Array]
    config: dict[str, Any]
    __repr__ = printed


def average_adapters(
    adapters: Sequence[Any], weights: Sequence[float] | None = None, *, rank: int | None = None
) -> Adapter:
    """The adapter whose change of the weights is the weighted mean of several (host-only).

    An adapter changes a weight by scale B A. B and A stand for this product alone: for any
    invertible g, B g^-1 and g A are the same adapter, so averages of factors are averages of
    nothing. Here the products are averaged, exactly: factors are put side by side, each with its
    share of the weight and scale, at the sum of the ranks. Modules that an adapter lacks count as
    no change there. With ``rank`` every product is cut to its nearest of that rank, by an SVD of
    the small factors.

    Each of ``adapters`` is a pair (state, config) as peft writes them (``adapter_model`` and
    ``adapter_config``), or the folder with both. The configuration tells the scale of every module:
    ``lora_alpha / r``, with ``use_rslora`` ``lora_alpha / sqrt(r)``, with ``alpha_pattern`` and
    ``rank_pattern``. ``weights`` sum to any number; without, all count alike. The result has scale
    1 in every module, ``use_rslora`` False. Biases of ``lora_B`` are averaged with their scales.
    One adapter of weight 1 comes back as it is.

    Raises ValueError for shapes, base models or targets that do not go together, a factor without
    its partner, a config without rank or scale, and for variants whose changes do not add: DoRA,
    KaSA, QALoRA, aLoRA, Arrow.

    Example:
        >>> import jax.numpy as jnp
        >>> a = {"q.lora_A.weight": jnp.ones((2, 3)), "q.lora_B.weight": jnp.ones((4, 2))}
        >>> b = {name: -x for name, x in a.items()}  # the same product, by other factors
        >>> config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": True}
        >>> state, _ = average_adapters([(a, config), (b, config)])
        >>> (state["q.lora_B.weight"] @ state["q.lora_A.weight"])[0, 0].item()  # 4 / sqrt(2) * 2
        5.656854152679443
    """
    require(len(adapters) > 0, "`adapters` must hold at least one adapter, got none.")
    read = [_read(one, f"adapters[{i}]") for i, one in enumerate(adapters)]
    weights = [1 / len(read)] * len(read) if weights is None else list(map(float, weights))
    require(
        len(weights) == len(read) and bool(np.isfinite(weights).all()),
        f"`weights` must be a finite number for each of {len(read)} adapters, got {weights}.",
    )
    require(
        rank is None or (isinstance(rank, int) and rank > 0),
        f"`rank` must be a positive integer or None, got {rank!r}.",
    )
    kept = [(one, w) for one, w in zip(read, weights, strict=True) if w]
    if len(kept) == 1 and kept[0][1] == 1 and rank is None:
        return Adapter(dict(kept[0][0].state), dict(kept[0][0].config))
    for i, one in enumerate(read):
        _require_additive(one.config, f"adapters[{i}]")
    modules = _modules(read)
    state = {}
    ranks = {}
    for module, factors in modules.items():
        new = _averaged(module, factors, weights, rank)
        state |= new.state
        ranks[module] = new.rank
    return Adapter(state, _config(read, ranks))


@dataclasses.dataclass(frozen=True)
class _Factors:
    """One adapter's part in a module: a (r, ...), b (..., r), as stored, and the scale."""

    names: dict[str, str]
    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray | None
    scale: float
    dtype: Any

    @property
    def embedding(self):
        return "embedding" in next(iter(self.names))


@dataclasses.dataclass(frozen=True)
class _New:
    state: dict[str, Array]
    rank: int


def _read(one, place):
    """An adapter as (state, config), from a pair or from peft's folder."""
    if isinstance(one, str | Path):
        folder = Path(one)
        file = folder / "adapter_config.json"
        require(file.is_file(), f"`{place}` must be a folder with adapter_config.json, got {one}.")
        from ..checkpoints import load

        config = json.loads(file.read_text(encoding="utf-8"))
        state: dict[str, Any] = dict(load(folder / "adapter_model.safetensors"))
        return Adapter(state, config)
    require(
        isinstance(one, tuple | list)
        and len(one) == 2
        and all(isinstance(x, Mapping) for x in one),
        f"`{place}` must be (state, config), two dicts, or a folder, got {type(one).__name__}.",
    )
    state, config = one
    kind = str(config.get("peft_type", "LORA")).rpartition(".")[2].upper()
    require(kind == "LORA", f"`{place}` is of the type {kind}; only LORA adapters are averaged.")
    return Adapter(dict(state), dict(config))


def _require_additive(config, place):
    for name, why in UNDEFINED.items():
        require(
            not config.get(name),
            f"`{place}` has {name}: {why}; it has no average as an adapter. Merge it into the "
            "weights and average these.",
        )
    require(
        config.get("bias", "none") in ("none", None),
        f"`{place}` trains biases of the base model (bias={config.get('bias')!r}): average them "
        "with the weights of the model.",
    )


def _modules(read):
    """For every module, each adapter's factors there, None where it has none."""
    parts = [_parts(one, f"adapters[{i}]") for i, one in enumerate(read)]
    names = dict.fromkeys(name for one in parts for name in one)
    return {name: [one.get(name) for one in parts] for name in names}


def _parts(one, place):
    found: dict[str, dict[str, tuple[str, Any]]] = {}
    for name, x in one.state.items():
        match = PARTS.match(name)
        if match is None or not is_floating(x):
            raise ValueError(f"`{place}` holds {name!r} ({describe(x)}), which is no LoRA factor.")
        rest = (match["rest"] or "").removeprefix(".").split(".")
        kind = match["kind"] + (" bias" if rest[-1] == "bias" else "")
        found.setdefault(match["module"], {})[kind] = (name, x)
    return {module: _factors(module, rows, one.config, place) for module, rows in found.items()}


def _factors(module, rows, config, place):
    kind = "embedding_" if any(k.startswith("embedding") for k in rows) else ""
    for k in ("A", "B"):
        require(
            kind + k in rows,
            f"`{place}` lacks lora_{kind}{k} in module {module!r}; got {list(rows)}.",
        )
    a, b = (np.asarray(rows[kind + k][1]).astype(np.float64) for k in ("A", "B"))
    # An embedding stores A as (r, number) and B as (size, r), as a linear layer stores its own.
    r = a.shape[0]
    require(
        a.ndim >= 2 and b.ndim == a.ndim and b.shape[1] == r,
        f"`{place}`: factors of {module!r} do not fit: A {a.shape} and B {b.shape}.",
    )
    bias = rows.get(f"{kind}B bias")
    return _Factors(
        {key: name for key, (name, _) in rows.items()},
        a,
        b,
        None if bias is None else np.asarray(bias[1]).astype(np.float64),
        _scale(module, r, config, place),
        rows[f"{kind}A"][1].dtype,
    )


def _scale(module, r, config, place):
    """The number that an adapter multiplies its product with in a module."""
    stated = _by_pattern(module, config.get("rank_pattern"), config.get("r"))
    require(
        stated is None or stated == r,
        f"`{place}`: module {module!r} has rank {r}, its config says {stated}.",
    )
    alpha = _by_pattern(module, config.get("alpha_pattern"), config.get("lora_alpha"))
    require(alpha is not None, f"`{place}`: its config has no lora_alpha.")
    return float(alpha) / (r**0.5 if config.get("use_rslora") else r)


def _by_pattern(module, patterns, default):
    """The value for a module: of the first pattern that ends its name, as peft reads them."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _averaged(module, factors, weights, rank):
    """Factors side by side, each with its share; the first names are kept."""
    rows = [(f, w * f.scale) for f, w in zip(factors, weights, strict=True) if f is not None]
    first = rows[0][0]
    for f, _ in rows:
        require(
            f.a.shape[1:] == first.a.shape[1:]
            and (f.b.shape[0], *f.b.shape[2:]) == (first.b.shape[0], *first.b.shape[2:]),
            f"`adapters` have factors of different shapes in module {module!r}: A {f.a.shape} and "
            f"B {f.b.shape}, A {first.a.shape} and B {first.b.shape}.",
        )
    shares = [(f, s) for f, s in rows if s] or [(first, 0.0)]
    # Half of a share on each side keeps both factors of one size.
    a = np.concatenate([abs(s) ** 0.5 * f.a for f, s in shares], axis=0)
    b = np.concatenate([np.sign(s) * abs(s) ** 0.5 * f.b for f, s in shares], axis=1)
    if rank is not None:
        a, b = _cut(a, b, rank)
    kind = "embedding_" if first.embedding else ""
    state = {
        first.names[f"{kind}A"]: jnp.asarray(a.astype(first.dtype)),
        first.names[f"{kind}B"]: jnp.asarray(b.astype(first.dtype)),
    }
    biases = [(f, s) for f, s in rows if f.bias is not None]
    if biases:
        name = biases[0][0].names[f"{kind}B bias"]
        total = np.sum([s * f.bias for f, s in biases], axis=0)
        state[name] = jnp.asarray(total.astype(first.dtype))
    return _New(state, a.shape[0])


def _cut(a, b, rank):
    """The nearest product of a rank: the SVD of a product of two small triangles."""
    flat_a, flat_b = a.reshape(len(a), -1), np.moveaxis(b, 1, -1).reshape(-1, b.shape[1])
    qa, ra = np.linalg.qr(flat_a.T)
    qb, rb = np.linalg.qr(flat_b)
    u, s, vt = np.linalg.svd(rb @ ra.T)
    k = min(rank, len(s))
    new_a = (np.sqrt(s[:k])[:, None] * vt[:k]) @ qa.T
    new_b = qb @ (u[:, :k] * np.sqrt(s[:k]))
    if k < rank:
        new_a = np.concatenate([new_a, np.zeros((rank - k, new_a.shape[1]))])
        new_b = np.concatenate([new_b, np.zeros((len(new_b), rank - k))], axis=1)
    shape = (b.shape[0], *b.shape[2:], rank)
    return new_a.reshape(rank, *a.shape[1:]), np.moveaxis(new_b.reshape(shape), -1, 1)


def _config(read, ranks):
    """The configuration of the average: scale 1 in every module, whatever its rank."""
    config = dict(read[0].config)
    for i, one in enumerate(read):
        for name in ("base_model_name_or_path", "fan_in_fan_out", "task_type"):
            require(
                one.config.get(name) == config.get(name),
                f"`adapters` differ in {name}: {config.get(name)!r} and, of adapters[{i}], "
                f"{one.config.get(name)!r}.",
            )
    most = max(ranks.values(), key=list(ranks.values()).count)
    other = {re.escape(_target(m)): r for m, r in ranks.items() if r != most}
    config |= {"r": most, "lora_alpha": most, "use_rslora": False}
    config |= {"rank_pattern": other, "alpha_pattern": dict(other)}
    config["lora_bias"] = any(one.config.get("lora_bias") for one in read)
    targets = [one.config.get("target_modules") for one in read]
    if all(isinstance(t, list | tuple | set) for t in targets):
        config["target_modules"] = sorted({name for t in targets for name in t})
    else:
        require(
            all(t == targets[0] for t in targets),
            f"`adapters` differ in target_modules: {targets}.",
        )
    return config


def _target(module):
    return module.removeprefix("base_model.model.")

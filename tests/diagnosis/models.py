"""Small models under the names that checkpoints have: flat dicts, plain functions."""

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, VOCABULARY, HIDDEN, LENGTH = 8, 11, 12, 5


def _numbers(shapes, key, dtype=np.float32):
    """Generic parameters: gains away from 1, variances positive, no bias at 0."""
    rng = np.random.default_rng(key)
    params = {}
    for name, shape in shapes.items():
        x = rng.normal(size=shape)
        if name.endswith("norm.weight") or name.endswith("var"):
            x = np.exp(0.4 * x)
        elif len(shape) > 1:
            x = x / np.sqrt(np.prod(shape[1:]))
        else:
            x = 0.3 * x
        params[name] = jnp.asarray(x, dtype)
    return params


def _rms(x, gain):
    return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * gain


def _rotary(x):
    """Rotary positions on (heads, length, size), halves as in Hugging Face's code."""
    size = x.shape[-1]
    angles = jnp.arange(x.shape[1])[:, None] * 10.0 ** (-jnp.arange(size // 2) / (size // 2))
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = x[..., : size // 2], x[..., size // 2 :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def _attend(params, x, at, heads, groups, rotary=True):
    """Attention of one sequence (length, width), query heads shared by groups of keys."""
    size = params[f"{at}.q_proj.weight"].shape[0] // heads

    def project(kind, count):
        y = x @ params[f"{at}.{kind}_proj.weight"].T
        if f"{at}.{kind}_proj.bias" in params:
            y = y + params[f"{at}.{kind}_proj.bias"]
        return y.reshape(-1, count, size).transpose(1, 0, 2)

    q, k, v = project("q", heads), project("k", groups), project("v", groups)
    if rotary:
        q, k = _rotary(q), _rotary(k)
    k, v = (jnp.repeat(y, heads // groups, axis=0) for y in (k, v))
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(size)
    seen = jnp.tril(jnp.ones((len(x), len(x)), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e9), -1)
    y = (weights @ v).transpose(1, 0, 2).reshape(len(x), -1)
    y = y @ params[f"{at}.o_proj.weight"].T
    return y + params[f"{at}.o_proj.bias"] if f"{at}.o_proj.bias" in params else y


def llama(key=0, dtype=np.float32, layers=2, tied=False, post=False, bias=False, rotary=True):
    """RMSNorm, grouped queries, gated units; post-norms, biases or a tied table as asked."""
    heads, groups, size = 4, 2, 4
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for i in range(layers):
        at = f"model.layers.{i}"
        shapes |= {
            f"{at}.input_layernorm.weight": (WIDTH,),
            f"{at}.self_attn.q_proj.weight": (heads * size, WIDTH),
            f"{at}.self_attn.k_proj.weight": (groups * size, WIDTH),
            f"{at}.self_attn.v_proj.weight": (groups * size, WIDTH),
            f"{at}.self_attn.o_proj.weight": (WIDTH, heads * size),
            f"{at}.mlp_layernorm.weight": (WIDTH,),
            f"{at}.mlp.gate_proj.weight": (HIDDEN, WIDTH),
            f"{at}.mlp.up_proj.weight": (HIDDEN, WIDTH),
            f"{at}.mlp.down_proj.weight": (WIDTH, HIDDEN),
        }
        if post:
            shapes |= {f"{at}.post_attention_layernorm.weight": (WIDTH,)}
            shapes |= {f"{at}.post_mlp_layernorm.weight": (WIDTH,)}
        if bias:
            shapes |= {f"{at}.self_attn.v_proj.bias": (groups * size,)}
            shapes |= {f"{at}.self_attn.o_proj.bias": (WIDTH,)}
    shapes["model.norm.weight"] = (WIDTH,)
    if not tied:
        shapes["lm_head.weight"] = (VOCABULARY, WIDTH)
    params = _numbers(shapes, key, dtype)

    def apply(params, tokens):
        x = params["model.embed_tokens.weight"][tokens]
        for i in range(layers):
            at = f"model.layers.{i}"
            y = jax.vmap(
                lambda y, at=at: _attend(params, y, f"{at}.self_attn", heads, groups, rotary)
            )(_rms(x, params[f"{at}.input_layernorm.weight"]))
            x = x + (_rms(y, params[f"{at}.post_attention_layernorm.weight"]) if post else y)
            y = _rms(x, params[f"{at}.mlp_layernorm.weight"])
            y = jax.nn.silu(y @ params[f"{at}.mlp.gate_proj.weight"].T) * (
                y @ params[f"{at}.mlp.up_proj.weight"].T
            )
            y = y @ params[f"{at}.mlp.down_proj.weight"].T
            x = x + (_rms(y, params[f"{at}.post_mlp_layernorm.weight"]) if post else y)
        x = _rms(x, params["model.norm.weight"])
        return x @ params["model.embed_tokens.weight" if tied else "lm_head.weight"].T

    tokens = np.arange(2 * LENGTH).reshape(2, LENGTH) % VOCABULARY
    return apply, params, (jnp.asarray(tokens, jnp.int32),)


def gpt(key=0, dtype=np.float32):
    """LayerNorm with biases, one layer of full attention, gelu units, learned positions."""
    shapes = {"wte.weight": (VOCABULARY, WIDTH), "wpe.weight": (LENGTH, WIDTH)}
    for kind in "qkv":
        shapes |= {f"attn.{kind}_proj.weight": (WIDTH, WIDTH), f"attn.{kind}_proj.bias": (WIDTH,)}
    shapes |= {"attn.o_proj.weight": (WIDTH, WIDTH), "attn.o_proj.bias": (WIDTH,)}
    for name in ("ln_1", "ln_2", "ln_f"):
        shapes |= {f"{name}.norm.weight": (WIDTH,), f"{name}.norm.bias": (WIDTH,)}
    shapes |= {"mlp.fc.weight": (HIDDEN, WIDTH), "mlp.fc.bias": (HIDDEN,)}
    shapes |= {"mlp.proj.weight": (WIDTH, HIDDEN), "mlp.proj.bias": (WIDTH,)}
    shapes |= {"lm_head.weight": (VOCABULARY, WIDTH)}
    params = _numbers(shapes, key, dtype)

    def norm(params, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5)
        return x * params[f"{name}.norm.weight"] + params[f"{name}.norm.bias"]

    def apply(params, tokens):
        x = params["wte.weight"][tokens] + params["wpe.weight"]
        y = norm(params, x, "ln_1")
        x = x + jax.vmap(lambda y: _attend(params, y, "attn", 2, 2, rotary=False))(y)
        y = norm(params, x, "ln_2") @ params["mlp.fc.weight"].T + params["mlp.fc.bias"]
        x = x + jax.nn.gelu(y) @ params["mlp.proj.weight"].T + params["mlp.proj.bias"]
        return norm(params, x, "ln_f") @ params["lm_head.weight"].T

    tokens = np.arange(2 * LENGTH).reshape(2, LENGTH) % VOCABULARY
    return apply, params, (jnp.asarray(tokens, jnp.int32),)


def mlp(key=0, dtype=np.float32):
    """Two hidden layers of relu units with biases."""
    sizes = (4, 9, 7, 3)
    shapes = {}
    for i in range(3):
        shapes |= {f"fc{i}.weight": (sizes[i + 1], sizes[i]), f"fc{i}.bias": (sizes[i + 1],)}
    params = _numbers(shapes, key, dtype)

    def apply(params, x):
        for i in range(3):
            x = x @ params[f"fc{i}.weight"].T + params[f"fc{i}.bias"]
            x = jax.nn.relu(x) if i < 2 else x
        return x

    return apply, params, (jnp.asarray(np.random.default_rng(1).normal(size=(8, 4)), dtype),)


def convolutional(key=0, dtype=np.float32):
    """Two convolutions with BatchNorm (statistics among the parameters), relu, a linear head."""
    shapes = {"conv1.weight": (6, 2, 3, 3), "conv2.weight": (5, 6, 3, 3), "fc.weight": (3, 5)}
    for i, n in ((1, 6), (2, 5)):
        shapes |= {f"bn{i}.{kind}": (n,) for kind in ("weight", "bias", "running_mean")}
        shapes |= {f"bn{i}.running_var": (n,)}
    params = _numbers(shapes, key, dtype)

    def apply(params, x):
        for i in (1, 2):
            x = jax.lax.conv_general_dilated(x, params[f"conv{i}.weight"], (1, 1), "SAME")
            at = lambda kind, i=i: params[f"bn{i}.{kind}"][:, None, None]
            x = (x - at("running_mean")) / jnp.sqrt(at("running_var") + 1e-5)
            x = jax.nn.relu(x * at("weight") + at("bias"))
        return x.mean((2, 3)) @ params["fc.weight"].T

    x = np.random.default_rng(1).normal(size=(2, 2, 5, 5))
    return apply, params, (jnp.asarray(x, dtype),)


def adapted(key=0, dtype=np.float32, rank=4):
    """A linear layer with a low-rank adapter, relu, and another layer."""
    shapes = {"base.weight": (9, 6), "lora_A.weight": (rank, 6), "lora_B.weight": (9, rank)}
    params = _numbers(shapes | {"head.weight": (3, 9)}, key, dtype)

    def apply(params, x):
        y = x @ params["base.weight"].T
        y = y + x @ params["lora_A.weight"].T @ params["lora_B.weight"].T
        return jax.nn.relu(y) @ params["head.weight"].T

    return apply, params, (jnp.asarray(np.random.default_rng(1).normal(size=(8, 6)), dtype),)

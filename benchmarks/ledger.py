"""Redundant directions of models at their real sizes, from shapes alone: no weight is read or made.

    python benchmarks/ledger.py [gpt2 llama-3-8b ...]

prints a row of `docs/ledger.md` for each model: parameters, the directions that the table of
`find_symmetries` has by their origin, CPU seconds from the module to the table, and the most memory
held beyond what the imports hold. It needs the extra `world`. Each model runs in a process of its
own, which is ended after `SECONDS` of CPU time, imports included.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SECONDS = 140


def gpt2(width, layers, heads):
    return "GPT2", "LMHeadModel", {"n_embd": width, "n_layer": layers, "n_head": heads}, 1024


def llama(name, **options):
    return name, "ForCausalLM", options, 64


def whisper(width, layers, heads):
    sides = {f"{side}_layers": layers for side in ("encoder", "decoder")}
    sides |= {f"{side}_attention_heads": heads for side in ("encoder", "decoder")}
    sides |= {f"{side}_ffn_dim": 4 * width for side in ("encoder", "decoder")}
    return "Whisper", "ForConditionalGeneration", {"d_model": width, **sides}, 448


#: Configuration class, head, what differs from its defaults, and how many tokens are read: as many
#: as there are learned positions, which would be unused otherwise.
MODELS = {
    "gpt2": gpt2(768, 12, 12),
    "gpt2-medium": gpt2(1024, 24, 16),
    "gpt2-large": gpt2(1280, 36, 20),
    "gpt2-xl": gpt2(1600, 48, 25),
    "bert-base": ("Bert", "ForMaskedLM", {"pad_token_id": None}, 512),
    "llama-3-8b": llama(
        "Llama", vocab_size=128256, hidden_size=4096, intermediate_size=14336,
        num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        tie_word_embeddings=False,
    ),
    "qwen2-7b": llama(
        "Qwen2", vocab_size=152064, hidden_size=3584, intermediate_size=18944,
        num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        tie_word_embeddings=False,
    ),
    "gemma-2b": llama(
        "Gemma", vocab_size=256000, hidden_size=2048, intermediate_size=16384,
        num_hidden_layers=18, num_attention_heads=8, num_key_value_heads=1, head_dim=256,
    ),
    "mixtral-8x7b": llama(
        "Mixtral", vocab_size=32000, hidden_size=4096, intermediate_size=14336,
        num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        num_local_experts=8, num_experts_per_tok=2, tie_word_embeddings=False,
    ),
    "deepseek-v2-lite": llama(
        "DeepseekV2", vocab_size=102400, hidden_size=2048, intermediate_size=10944,
        moe_intermediate_size=1408, num_hidden_layers=27, num_attention_heads=16,
        num_key_value_heads=16, kv_lora_rank=512, q_lora_rank=None, qk_nope_head_dim=128,
        qk_rope_head_dim=64, v_head_dim=128, n_routed_experts=64, n_shared_experts=2,
        num_experts_per_tok=6, first_k_dense_replace=1, topk_method="greedy",
        tie_word_embeddings=False,
    ),
    "mamba-130m": llama(
        "Mamba", vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16,
        time_step_rank=48,
    ),
    "vit-large": (
        "ViT", "ForImageClassification",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
         "intermediate_size": 4096, "num_labels": 1000}, 0,
    ),
    "whisper-small": whisper(768, 12, 12),
    "whisper-large": whisper(1280, 32, 20),
}  # fmt: skip
#: What no package at hand has.
MISSING = {"stable-diffusion-unet": "needs the package diffusers"}


def measure(name):
    """One row, from the module on the meta device to the table."""
    import jax
    import jax.numpy as jnp
    import torch
    import transformers

    import symjax

    family, head, options, length = MODELS[name]
    start, before = time.process_time(), _peak()
    config = getattr(transformers, f"{family}Config")(**options)
    config._attn_implementation = "eager"
    config.use_cache = False
    with torch.device("meta"):
        module = getattr(transformers, f"{family}{head}")(config).eval()
        call, inputs = _inputs(family, config, length)
        apply, params = symjax.from_torch(module, call)
    arrays = [jax.ShapeDtypeStruct(shape, getattr(jnp, dtype)) for shape, dtype in inputs]
    found = symjax.find_symmetries(apply, params, *arrays)
    seconds, held = time.process_time() - start, _peak() - before
    origins = Counter()
    for s in found.exact:
        origins[s.name] += s.dimension
    listed = ", ".join(f"{n} {d:,}" for n, d in origins.most_common() if d)
    total = sum(found.sizes.values())
    left = "; ".join([*found.unknown, *(f"refuted: {s.name}" for s in found.false)])
    cells = [name, f"{total:,}", f"{found.dimension:,}", listed]
    cells += [f"{found.approximate_dimension:,}", f"{seconds:.0f}", f"{held / 2**30:.1f}", left]
    print("| " + " | ".join(cells) + " |", flush=True)


def _inputs(family, config, length):
    if family == "ViT":
        return (lambda m, x: m(x).logits), [((1, 3, 224, 224), "float32")]
    if family == "Whisper":
        heard = lambda m, x, y: m(input_features=x, decoder_input_ids=y, use_cache=False).logits
        return heard, [((1, config.num_mel_bins, 3000), "float32"), ((1, length), "int32")]
    if family == "Bert":
        return (lambda m, x: m(x).logits), [((1, length), "int32")]
    return (lambda m, x: m(input_ids=x, use_cache=False).logits), [((1, length), "int32")]


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=[*MODELS, *MISSING])
    parser.add_argument("--here", action="store_true", help="in this process, without limits")
    options = parser.parse_args()
    if options.here:
        for name in options.models:
            measure(name)
        return
    print("| model | parameters | redundant | by origin | up to epsilon | CPU s | GiB | left |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.models:
        if name in MISSING:
            print(f"| {name} | | | | | | | {MISSING[name]} |", flush=True)
            continue
        limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        command = [sys.executable, __file__, "--here", name]
        ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
        if ended.returncode:
            last = f"no table within {SECONDS} CPU s"
            if ended.returncode > 0:
                last = (ended.stderr.strip().splitlines() or ["failed"])[-1][:100]
            print(f"| {name} | | | | | | | {last} |", flush=True)
        else:
            print(ended.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()

"""Small models of architectures that others wrote, built through their frameworks' public API.

`TABLE` has a row for each: how it is made, its inputs, and how many redundant directions it has.
That number is the count of parameters minus the rank of the Jacobian of the outputs, in float64, at
generic parameters, over many inputs, taken by torch alone.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from torch import nn

VOCABULARY, LENGTH, WIDTH = 11, 5, 8
EPSILON = 1e-3  # of every norm: what holds up to it alone is then plainly not exact


class Row(NamedTuple):
    """A model, its inputs, and what is known of it."""

    make: Callable[[], nn.Module]
    inputs: tuple[Any, ...]
    true: int
    missing: str = ""  # why fewer are found, where fewer are
    found: int | None = None  # then at least so many
    call: Callable[..., Any] = lambda m, *x: m(*x)


def tokens(vocabulary=VOCABULARY, seed=0):
    return np.random.default_rng(seed).integers(0, vocabulary, (2, LENGTH)).astype(np.int32)


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def generic(module):
    """Every parameter, statistic and epsilon away from its special initial value."""
    with torch.no_grad():
        for part in module.modules():
            for name in ("eps", "variance_epsilon"):
                if isinstance(getattr(part, name, None), float):
                    setattr(part, name, EPSILON)
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 1.5)
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def build(name):
    """The module of a row, at parameters that are the same in every run."""
    torch.manual_seed(0)
    return generic(TABLE[name].make())


def hugging(name, head, **options):
    """A maker of a Hugging Face model from its configuration class's name."""

    def make():
        config = getattr(transformers, f"{name}Config")(**options)
        config._attn_implementation = "eager"
        return getattr(transformers, f"{name}{head}")(config)

    return make


SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = SHAPE | {
    "vocab_size": VOCABULARY,
    "intermediate_size": 12,
    "max_position_embeddings": LENGTH,
}
ENCODER = TEXT | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "use_cache": False}
DECODER = TEXT | SPECIAL | {"tie_word_embeddings": False}
GROUPED = DECODER | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
WIDER = {"vocab_size": 40}  # where attention and MLP stand side by side, the MLP sees tokens alone
OLD = {"vocab_size": VOCABULARY, "n_positions": LENGTH, "n_embd": WIDTH, "n_layer": 1, "n_head": 2}
PATCHES = SHAPE | {"intermediate_size": 12, "image_size": 6, "patch_size": 3, "num_channels": 1}
TWO_SIDED = {
    "d_model": WIDTH,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 12,
    "vocab_size": VOCABULARY,
    "pad_token_id": 1,
    "use_cache": False,
}

logits = lambda m, x: m(x).logits
uncached = lambda m, x: m(input_ids=x, use_cache=False).logits
masked = lambda m, x: m(input_ids=x, attention_mask=torch.ones_like(x)).logits
state = lambda m, x: m(x).last_hidden_state
answered = lambda m, x, y: m(input_ids=x, decoder_input_ids=y, use_cache=False).logits
heard = lambda m, x, y: m(input_features=x, decoder_input_ids=y, use_cache=False).logits
compared = lambda m, x, y: m(input_ids=x, pixel_values=y).logits_per_image

IDS, MANY, BOTH = (tokens(),), (tokens(40),), (tokens(), tokens(seed=1))
ROTARY = "rotary pairs with biases have phases, of which only the sizes are found"
HYPERPLANE = "a LayerNorm's output lies on a hyperplane, which its readers need not see"
MEAN = "mean shifts that convolutions write"
BATCH = "a BatchNorm with constant statistics: its scale needs its shift to follow"


def text_models():
    causal, base = "ForCausalLM", hugging
    return {
        "gpt2": Row(base("GPT2", "LMHeadModel", **OLD, n_inner=12), IDS, 175, call=uncached),
        "bloom": Row(
            base("Bloom", causal, hidden_size=WIDTH, n_layer=1, n_head=2, vocab_size=VOCABULARY),
            IDS, 211, call=uncached,
        ),
        "llama": Row(base("Llama", causal, **GROUPED), IDS, 104, call=logits),
        "mistral": Row(
            base("Mistral", causal, **GROUPED, sliding_window=3), IDS, 104, call=logits
        ),
        "phi3": Row(base("Phi3", causal, **DECODER, num_key_value_heads=2), IDS, 104, call=logits),
        "mixtral": Row(
            base(
                "Mixtral", causal, **DECODER | {"intermediate_size": 6},
                num_key_value_heads=1, num_local_experts=3, num_experts_per_tok=2,
                experts_implementation="eager",
            ),
            IDS, 98, call=logits,
        ),
        "mamba": Row(
            base(
                "Mamba", causal, vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1,
                state_size=4, conv_kernel=3, time_step_rank=2, tie_word_embeddings=False,
            ),
            IDS, 69, call=uncached,
        ),
        "qwen2": Row(
            base("Qwen2", causal, **DECODER, num_key_value_heads=1), IDS, 84, ROTARY, 82, logits
        ),
        "phi": Row(
            base("Phi", causal, **DECODER | WIDER, partial_rotary_factor=0.5),
            MANY, 254, ROTARY, 252, logits,
        ),
        "gemma": Row(
            base("Gemma", causal, **GROUPED | {"tie_word_embeddings": True}),
            IDS, 68, "scales act on 1 + the gain", 52, logits,
        ),
        "gpt_neox": Row(
            base(
                "GPTNeoX", causal, **TEXT | WIDER | {"num_attention_heads": 1},
                rotary_pct=0.5, use_cache=False,
            ),
            MANY, 269, f"{HYPERPLANE}; {ROTARY}", 260, logits,
        ),
        "gptj": Row(
            base(
                "GPTJ", causal, **OLD | WIDER, n_inner=12, rotary_dim=2, use_cache=False,
                tie_word_embeddings=False,
            ),
            MANY, 222, HYPERPLANE, 206, logits,
        ),
        "falcon": Row(
            base(
                "Falcon", causal, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
                ffn_hidden_size=12, vocab_size=40, use_cache=False,
            ),
            MANY, 56, f"one key for all heads has too many pieces; {HYPERPLANE}", 40, logits,
        ),
        "opt": Row(
            base(
                "OPT", causal, **SHAPE, vocab_size=VOCABULARY, ffn_dim=12, use_cache=False,
                max_position_embeddings=LENGTH, word_embed_proj_dim=WIDTH,
            ),
            IDS, 203, call=logits,
        ),
        "bert": Row(
            base("Bert", "ForMaskedLM", **ENCODER, pad_token_id=None),
            IDS, 208, HYPERPLANE, 207, logits,
        ),
        "roberta": Row(
            base(
                "Roberta", "ForMaskedLM", **ENCODER | {"max_position_embeddings": LENGTH + 2},
                pad_token_id=1, type_vocab_size=1,
            ),
            IDS, 210, HYPERPLANE, 208, masked,
        ),
        "distilbert": Row(
            base(
                "DistilBert", "ForMaskedLM", vocab_size=VOCABULARY, dim=WIDTH, n_layers=1,
                n_heads=2, hidden_dim=12, max_position_embeddings=LENGTH, pad_token_id=None,
            ),
            IDS, 192, HYPERPLANE, 191, logits,
        ),
        "t5": Row(
            base(
                "T5", "ForConditionalGeneration", vocab_size=VOCABULARY, d_model=WIDTH, d_kv=4,
                d_ff=12, num_layers=1, num_heads=2, relative_attention_num_buckets=8,
            ),
            BOTH, 280, call=answered,
        ),
        "bart": Row(
            base(
                "Bart", "ForConditionalGeneration", **TWO_SIDED, max_position_embeddings=LENGTH
            ),
            BOTH, 487, call=answered,
        ),
    }  # fmt: skip


def other_models():
    whisper = TWO_SIDED | {"num_mel_bins": 4, "max_source_positions": LENGTH}
    ends = {"bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 3}
    spoken = TEXT | {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    seen = PATCHES | {"num_hidden_layers": 2}
    joined = "a CLS token joined to patches: shifts across the two blocks"
    convolution = nn.Sequential
    return {
        "whisper": Row(
            hugging(
                "Whisper", "ForConditionalGeneration", **whisper, **ends,
                max_target_positions=LENGTH,
            ),
            (normal(2, 4, 2 * LENGTH), tokens()), 466, call=heard,
        ),
        "lstm": Row(
            lambda: nn.LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True),
            (normal(2, 4, 3),), 80, call=lambda m, x: m(x)[0],
        ),
        "vit": Row(
            hugging("ViT", "ForImageClassification", **seen, num_labels=3),
            (normal(2, 1, 6, 6),), 410, joined, 361, logits,
        ),
        "clip": Row(
            hugging("CLIP", "Model", projection_dim=6, text_config=spoken, vision_config=seen),
            (tokens(), normal(2, 1, 6, 6)), 627, joined, 561, compared,
        ),
        "swin": Row(
            hugging(
                "Swin", "Model", image_size=8, patch_size=2, num_channels=1, embed_dim=4,
                depths=[1, 1], num_heads=[2, 2], window_size=2, mlp_ratio=2.0,
            ),
            (normal(2, 1, 8, 8),), 298, MEAN, 278, state,
        ),
        "resnet": Row(
            hugging(
                "ResNet", "ForImageClassification", num_channels=1, embedding_size=4,
                hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic", num_labels=3,
            ),
            (3 * normal(2, 1, 20, 20),), 56, BATCH, 26, logits,
        ),
        "convnext": Row(
            hugging(
                "ConvNext", "ForImageClassification", num_channels=1, patch_size=2, num_stages=2,
                hidden_sizes=[4, 6], depths=[1, 1], num_labels=3, layer_scale_init_value=0.5,
            ),
            (normal(2, 1, 28, 28),), 166, MEAN, 96, logits,
        ),
        "encoder layer": Row(
            lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu"),
            (normal(2, 5, 8),), 122, "a packed bias", 106,
        ),
        "convolutions": Row(
            lambda: convolution(
                nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(6, 5, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(5, 4),
            ),
            (3 * normal(2, 2, 8, 8),), 18, BATCH, 6,
        ),
    }  # fmt: skip


TABLE = text_models() | other_models()

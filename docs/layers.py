"""The table of symmetries by layer type: discovery itself makes it, from models of the tests' zoo.

`python docs/layers.py` prints it; the site is built with it. The tests move every one of these
models by every symmetry found, and compare the dimension with the rank of the Jacobian.
"""

import sys
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import symjax
from tests.discovery import test_find
from tests.discovery.zoo import case

SECTIONS = {
    "Dense layers": {
        "linear, two layers with a bias": "linear",
        "ReLU": "relu",
        "leaky ReLU": "leaky",
        "squared ReLU": "relu_squared",
        "tanh": "tanh",
        "sine": "sin",
        "sigmoid": "sigmoid",
        "GELU": "gelu",
        "SiLU": "silu",
        "softplus": "softplus",
        "SwiGLU": "swiglu",
        "ReGLU": "reglu",
        "maxout": "maxout",
        "PReLU": "prelu",
        "ReLU, with a skip by concatenation": "skip_by_concatenation",
        "a residual stream that linear layers read and write": "residual_linear_readers",
    },
    "Norms": {
        "batch norm (statistics of the batch), epsilon 0": "batch_norm_leaky",
        "batch norm with an epsilon": "batch_norm_leaky_eps",
        "layer norm on a stream, epsilon 0": "layer_norm",
        "layer norm with an epsilon": "layer_norm_eps",
        "RMS norm on a stream": "rms_norm",
        "group norm": "group_norm",
        "weight norm": "weight_norm",
    },
    "Attention": {
        "two heads of size 2": "attention",
        "with biases": "attention_bias",
        "grouped queries": "attention_grouped",
        "rotary embeddings": "rotary_half",
        "queries and keys normalised": "qk_norm",
        "linear attention": "attention_linear",
    },
    "Transformers": {
        "LLaMA block (RMS norm, rotary, SwiGLU)": "llama",
        "LLaMA block, embedding tied": "llama_tied",
        "GPT-2 block (layer norm, biases)": "gpt2",
    },
    "Recurrent": {
        "tanh RNN": "rnn",
        "LSTM": "lstm",
        "GRU": "gru",
        "linear state space": "state_space",
        "diagonal state space": "state_space_diagonal",
    },
    "Convolutions": {
        "linear": "conv_linear",
        "ReLU with strides": "conv_relu_strided",
        "ReLU and max pooling": "conv_relu_max_pool",
        "average pooling": "conv_average_pool",
        "depthwise separable": "conv_separable",
        "grouped": "conv_grouped",
        "residual block with batch norm": "conv_residual_block",
    },
    "Other": {
        "mixture of experts": "mixture_of_experts",
        "deep sets": "deep_sets",
        "graph network": "graph",
        "canonical polyadic tensor": "canonical_polyadic",
    },
}


def rows():
    """For each layer its section, label, groups and dimensions, as discovery finds them."""
    for section, members in SECTIONS.items():
        for label, name in members.items():
            apply, params, inputs = case(name).build(jax.random.key(0))
            found = symjax.find_symmetries(apply, params, *inputs)
            groups: dict[str, int] = {}
            for s in found:
                holds = "" if s.exact else " (approximate)"
                said = f"{s.name} {s.group.notation}{holds}"
                groups[said] = groups.get(said, 0) + 1
            told = "; ".join(f"{n} times {g}" if n > 1 else g for g, n in groups.items())
            yield section, label, name, told or "none", found.dimension


def table() -> str:
    """The tables, one for each section, in Markdown."""
    lines, last = [], None
    with jax.enable_x64(True):
        for section, label, name, groups, dimension in rows():
            if section != last:
                lines += ["", f"## {section}", "", "| layer | found | dimension | model |"]
                lines += ["|---|---|---|---|"]
                last = section
            lines.append(f"| {label} | {groups} | {dimension} | `{name}` |")
    return "\n".join(lines)


def short_table() -> str:
    """Where less is found than there is, with the reasons that the tests give, in Markdown."""
    text = Path(test_find.__file__).read_text().partition("\nSHORT = {")[2].partition("\n}")[0]
    lines, reason = ["| model | found | there is | why |", "|---|---|---|---|"], ""
    for line in text.strip().splitlines():
        is_reason = line.strip().startswith("#")
        name, _, value = line.strip(" ,").partition(": ")
        if is_reason:
            reason = line.strip(" #.")
        else:
            name = name.strip('"')
            lines.append(f"| `{name}` | {value} | {case(name).dimension} | {reason} |")
    assert len(lines) == len(test_find.SHORT) + 2
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

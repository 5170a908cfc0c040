"""A folder of Hugging Face as a source: its architecture by transformers, its weights by symjax."""

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import first_line, require
from ..adapters import from_torch
from ..checkpoints import load
from ..checkpoints._door import has_weights
from ..checkpoints._files import package
from ..checkpoints._names import paired
from ._source import Source

EXTRA = "huggingface"
BATCH, LENGTH, AUDIO = 2, 16, 3000


def of_folder(folder: Path, *, shapes: bool = False) -> Source:
    """The model of a folder with a config.json; ``shapes`` leaves its weights aside."""
    require((folder / "config.json").is_file(), f"SOURCE has no config.json: {folder}.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch, transformers = package("torch", EXTRA), package("transformers", EXTRA)
    config = _config(transformers, folder)
    arrays = None if shapes or not has_weights(folder) else load(folder)
    module = _module(torch, transformers, config, shapes=arrays is None)
    apply, params = from_torch(module, _call(config), state_as_parameters=True)
    tied = _tied(module, params)
    stored = _stored(config, params, tied, arrays)
    source = Source(apply, params, _inputs(module, config), stored, tied)
    if arrays is None:
        return source
    return Source(apply, source.read(folder), source.inputs, stored, tied)


def _config(transformers, folder):
    try:
        return transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise ValueError(
            f"SOURCE has a config.json that transformers {transformers.__version__} cannot read "
            f"({folder}): {first_line(error)}"
        ) from error


def _module(torch, transformers, config, shapes):
    """The model of a configuration in float32: without values, or with some that do not matter."""
    names = config.architectures or [None]
    kind = getattr(transformers, str(names[0]), None)
    config._attn_implementation = "eager"
    if hasattr(config, "use_cache"):
        config.use_cache = False
    where = torch.device("meta") if shapes else contextlib.nullcontext()
    try:
        with where, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind is not None:
                return kind(config).float().eval()
            return transformers.AutoModel.from_config(config, dtype=torch.float32).eval()
    except Exception as error:
        raise ValueError(
            f"SOURCE is of the architecture {names[0] or config.model_type}, which transformers "
            f"{transformers.__version__} cannot build: {first_line(error)}"
        ) from error


def _call(config):
    """How the model is run: what it is for, and not its hidden states."""

    def call(module, *inputs):
        words = dict(zip(_input_names(module, config), inputs, strict=True))
        output = module(**words)
        if "logits" in output:
            return output["logits"]
        kept = ("last_hidden_state", "pooler_output")
        return {k: output[k] for k in kept if k in output} or output

    return call


def _input_names(module, config):
    main = [module.main_input_name]
    return main + ["decoder_input_ids"] * bool(getattr(config, "is_encoder_decoder", False))


def _inputs(module, config):
    """Random inputs of the kind that the model takes."""
    draw = np.random.default_rng(0)
    text = config.get_text_config()

    def one(name):
        if name.endswith("input_ids"):
            most = getattr(text, "max_position_embeddings", None) or LENGTH
            size = (BATCH, min(LENGTH, int(most)))
            return jnp.asarray(draw.integers(0, text.vocab_size, size), jnp.int32)
        if name == "pixel_values":
            size = config.image_size if hasattr(config, "image_size") else 224
            sides = (size, size) if isinstance(size, int) else tuple(size)
            shape = (BATCH, getattr(config, "num_channels", 3), *sides)
        elif name == "input_features":
            shape = (BATCH, config.num_mel_bins, 2 * config.max_source_positions)
        elif name == "input_values":
            shape = (BATCH, AUDIO)
        else:
            raise ValueError(
                f"SOURCE takes {name!r}, for which symjax makes no inputs: write FILE.py:NAME with "
                "symjax.from_torch."
            )
        return jnp.asarray(draw.standard_normal(shape), jnp.float32)

    return tuple(map(one, _input_names(module, config)))


def _tied(module, params):
    """Other names of parameters that the module has under several."""
    first: dict[int, str] = {}
    tied = {}
    for name, x in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]:
        own = first.setdefault(id(x), name)
        if own != name and own in params:
            tied[name] = own
    return tied


def _stored(config, params, tied, arrays) -> dict[str, Any]:
    """What a checkpoint of the model holds: the dtypes of its own file, or of its configuration."""
    if arrays is None:
        words = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
        return {k: jax.ShapeDtypeStruct(x.shape, jnp.dtype(words)) for k, x in params.items()}
    names = {name: [name] for name in params}
    for other, name in tied.items():
        names[name].append(other)
    found = paired(names, arrays, "SOURCE")
    dtype = lambda name: arrays[found[name][0]].dtype
    return {k: jax.ShapeDtypeStruct(x.shape, dtype(k)) for k, x in params.items()}
